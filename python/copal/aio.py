"""The same as coroutines: each call runs in a thread of its own, and the event loop goes on.

A task that is cancelled cancels its call, and ends when that has ended at a safe place. ``progress`` is called in the thread.
Objects are looked at before, in the event loop's own thread; a database in memory is copied there.
"""

from __future__ import annotations

import asyncio
import contextvars
import datetime
import threading
from typing import TYPE_CHECKING, Any, Callable, List, Mapping, Optional, Sequence, TypeVar

from . import client as _client
from ._arguments import KeepRules, Path, ProgressCallback
from ._work import Call, Cancellation
from .results import (
    Backup,
    BackupDetails,
    Database,
    DatabaseStatus,
    Initialized,
    Pruned,
    Restored,
    Verified,
)
from .snapshots import Cleared, Rewound, Snapped, Snapshot
from .sources import Copy, Source, find_async, release_async

if TYPE_CHECKING:
    from .migrations import SafetyNet

__all__ = [
    "Copal",
    "backup",
    "init",
    "list_backups",
    "list_databases",
    "list_snapshots",
    "pin",
    "prune",
    "remove_snapshot",
    "restore",
    "rewind",
    "show",
    "snap",
    "snapshot_before_migration",
    "status",
    "unpin",
    "verify",
]

T = TypeVar("T")
_S3 = Mapping[str, Any]


async def run(call: Call[T]) -> T:
    """Runs a prepared call in a thread; if the task is cancelled, cancels the call and waits until it has ended."""
    loop = asyncio.get_running_loop()
    future: "asyncio.Future[T]" = loop.create_future()
    cancellation = Cancellation()
    context = contextvars.copy_context()

    def end(result: Optional[T], error: Optional[BaseException]) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(result)  # type: ignore[arg-type]
        elif isinstance(error, StopIteration):
            future.set_exception(RuntimeError(f"{error!r} was raised"))
        else:
            future.set_exception(error)

    def perform() -> None:
        result: Optional[T] = None
        failure: Optional[BaseException] = None
        try:
            result = context.run(call.run, cancellation)
        except BaseException as error:
            failure = error
        try:
            loop.call_soon_threadsafe(end, result, failure)
        except RuntimeError:
            # The loop was closed; nobody waits any more.
            pass

    try:
        threading.Thread(target=perform, name="copal-call").start()
    except BaseException:
        call.close()
        raise
    try:
        # Unlike awaiting the future itself, this does not cancel it.
        await asyncio.wait([future])
    except asyncio.CancelledError:
        cancellation.cancel()
        while not future.done():
            try:
                await asyncio.wait([future])
            except asyncio.CancelledError:
                # However often: nobody else waits for the end.
                continue
        # That it failed is no news to somebody who cancelled it.
        future.exception()
        raise
    return future.result()


class Copal:
    """:class:`copal.Copal` with coroutines."""

    def __init__(
        self,
        repository: Optional[Path] = None,
        *,
        passphrase: Optional[str] = None,
        identity: Optional[str] = None,
        config: Optional[Path] = None,
        s3: Optional[_S3] = None,
    ) -> None:
        """See :class:`copal.Copal`."""
        self._client = _client.Copal(
            repository, passphrase=passphrase, identity=identity, config=config, s3=s3
        )

    def __repr__(self) -> str:
        return repr(self._client).replace("copal.Copal", "copal.aio.Copal", 1)

    async def _run(self, use: Callable[[_client.Copal], T]) -> T:
        return await run(self._client._prepare(use))

    async def init(self, *, encrypt: bool = True, recovery_keys: Sequence[str] = ()) -> Initialized:
        """See :meth:`copal.Copal.init`."""
        return await self._run(lambda client: client.init(encrypt=encrypt, recovery_keys=recovery_keys))

    async def backup(
        self,
        source: Source,
        *,
        name: Optional[str] = None,
        label: Optional[str] = None,
        pin: bool = False,
        adopt: bool = False,
        from_snapshot: Optional[str] = None,
        progress: Optional[ProgressCallback] = None,
    ) -> Backup:
        """See :meth:`copal.Copal.backup`."""
        found = await find_async(source)
        try:
            call = self._client._prepare(
                lambda client: client.backup(
                    found, name=name, label=label, pin=pin, adopt=adopt, from_snapshot=from_snapshot, progress=progress
                )
            )
        except BaseException:
            # Nobody else knows of it yet.
            if found is not source and isinstance(found, Copy):
                found.close()
            raise
        return await run(call)

    async def list_backups(self, source: Optional[Source] = None) -> List[Backup]:
        """See :meth:`copal.Copal.list_backups`."""
        return await self._run(lambda client: client.list_backups(source))

    async def list_databases(self, source: Optional[Source] = None) -> List[Database]:
        """See :meth:`copal.Copal.list_databases`."""
        return await self._run(lambda client: client.list_databases(source))

    async def show(self, source: Source, backup: str = "latest") -> BackupDetails:
        """See :meth:`copal.Copal.show`."""
        return await self._run(lambda client: client.show(source, backup))

    async def restore(
        self,
        source: Source,
        *,
        to: Optional[Source] = None,
        backup: str = "latest",
        at: Optional[datetime.datetime] = None,
        replace: bool = False,
        check: str = "quick",
        dry_run: bool = False,
        as_snapshot: Optional[str] = None,
        keep_old: bool = False,
        tables: Sequence[str] = (),
        schemas: Sequence[str] = (),
        progress: Optional[ProgressCallback] = None,
    ) -> Restored:
        """See :meth:`copal.Copal.restore`."""
        return await self._run(
            lambda client: client.restore(
                source,
                to=to,
                backup=backup,
                at=at,
                replace=replace,
                check=check,
                dry_run=dry_run,
                as_snapshot=as_snapshot,
                keep_old=keep_old,
                tables=tables,
                schemas=schemas,
                progress=progress,
            )
        )

    async def verify(
        self,
        source: Optional[Source] = None,
        *,
        backup: str = "latest",
        drill: bool = False,
        progress: Optional[ProgressCallback] = None,
    ) -> List[Verified]:
        """See :meth:`copal.Copal.verify`."""
        return await self._run(lambda client: client.verify(source, backup=backup, drill=drill, progress=progress))

    async def prune(
        self,
        source: Source,
        *,
        keep: Optional[KeepRules] = None,
        dry_run: bool = False,
        trust_clock: bool = False,
        progress: Optional[ProgressCallback] = None,
    ) -> Pruned:
        """See :meth:`copal.Copal.prune`."""
        return await self._run(
            lambda client: client.prune(source, keep=keep, dry_run=dry_run, trust_clock=trust_clock, progress=progress)
        )

    async def pin(self, source: Source, backup: str = "latest") -> Backup:
        """See :meth:`copal.Copal.pin`."""
        return await self._run(lambda client: client.pin(source, backup))

    async def unpin(self, source: Source, backup: str) -> Backup:
        """See :meth:`copal.Copal.unpin`."""
        return await self._run(lambda client: client.unpin(source, backup))

    async def status(self, *wanted: Source) -> List[DatabaseStatus]:
        """See :meth:`copal.Copal.status`."""
        return await self._run(lambda client: client.status(*wanted))

    async def members(self, source: Source) -> List[str]:
        """See :meth:`copal.Copal.members`."""
        return await self._run(lambda client: client.members(source))

    async def snap(
        self,
        *wanted: Source,
        name: Optional[str] = None,
        label: Optional[str] = None,
        replace: bool = False,
        spare: bool = False,
        progress: Optional[ProgressCallback] = None,
    ) -> Snapped:
        """See :meth:`copal.Copal.snap`."""
        for source in wanted:
            await release_async(source)
        return await self._run(
            lambda client: client.snap(*wanted, name=name, label=label, replace=replace, spare=spare, progress=progress)
        )

    async def rewind(
        self,
        name: Optional[str] = None,
        *,
        sources: Sequence[Source] = (),
        force: bool = False,
        spare: bool = False,
        progress: Optional[ProgressCallback] = None,
    ) -> Rewound:
        """See :meth:`copal.Copal.rewind`."""
        for source in sources:
            await release_async(source)
        return await self._run(
            lambda client: client.rewind(name, sources=sources, force=force, spare=spare, progress=progress)
        )

    async def list_snapshots(self, *wanted: Source) -> List[Snapshot]:
        """See :meth:`copal.Copal.list_snapshots`."""
        return await self._run(lambda client: client.list_snapshots(*wanted))

    async def remove_snapshot(self, name: str, *wanted: Source) -> Snapshot:
        """See :meth:`copal.Copal.remove_snapshot`."""
        return await self._run(lambda client: client.remove_snapshot(name, *wanted))

    async def clear_snapshots(
        self,
        *wanted: Source,
        keep: Optional[int] = None,
        older_than: "str | datetime.timedelta | None" = None,
        label: Optional[str] = None,
        dry_run: bool = False,
    ) -> List[Cleared]:
        """See :meth:`copal.Copal.clear_snapshots`."""
        return await self._run(
            lambda client: client.clear_snapshots(
                *wanted, keep=keep, older_than=older_than, label=label, dry_run=dry_run
            )
        )

    def snapshot_before_migration(
        self, source: Source, *, keep: int = 5, label: str = "pre-migrate", best_effort: bool = False
    ) -> "SafetyNet":
        """``async with`` this: see :class:`copal.SafetyNet`."""
        return self._client.snapshot_before_migration(source, keep=keep, label=label, best_effort=best_effort)


async def init(
    repository: Optional[Path] = None,
    *,
    passphrase: Optional[str] = None,
    encrypt: bool = True,
    recovery_keys: Sequence[str] = (),
    config: Optional[Path] = None,
    s3: Optional[_S3] = None,
) -> Initialized:
    """See :meth:`copal.Copal.init`."""
    client = Copal(repository, passphrase=passphrase, config=config, s3=s3)
    return await client.init(encrypt=encrypt, recovery_keys=recovery_keys)


async def backup(
    source: Source,
    *,
    repository: Optional[Path] = None,
    passphrase: Optional[str] = None,
    config: Optional[Path] = None,
    s3: Optional[_S3] = None,
    name: Optional[str] = None,
    label: Optional[str] = None,
    pin: bool = False,
    adopt: bool = False,
    from_snapshot: Optional[str] = None,
    progress: Optional[ProgressCallback] = None,
) -> Backup:
    """See :meth:`copal.Copal.backup`."""
    client = Copal(repository, passphrase=passphrase, config=config, s3=s3)
    return await client.backup(
        source, name=name, label=label, pin=pin, adopt=adopt, from_snapshot=from_snapshot, progress=progress
    )


async def list_backups(
    source: Optional[Source] = None,
    *,
    repository: Optional[Path] = None,
    passphrase: Optional[str] = None,
    config: Optional[Path] = None,
    s3: Optional[_S3] = None,
) -> List[Backup]:
    """See :meth:`copal.Copal.list_backups`."""
    return await Copal(repository, passphrase=passphrase, config=config, s3=s3).list_backups(source)


async def list_databases(
    source: Optional[Source] = None,
    *,
    repository: Optional[Path] = None,
    passphrase: Optional[str] = None,
    config: Optional[Path] = None,
    s3: Optional[_S3] = None,
) -> List[Database]:
    """See :meth:`copal.Copal.list_databases`."""
    return await Copal(repository, passphrase=passphrase, config=config, s3=s3).list_databases(source)


async def show(
    source: Source,
    backup: str = "latest",
    *,
    repository: Optional[Path] = None,
    passphrase: Optional[str] = None,
    config: Optional[Path] = None,
    s3: Optional[_S3] = None,
) -> BackupDetails:
    """See :meth:`copal.Copal.show`."""
    return await Copal(repository, passphrase=passphrase, config=config, s3=s3).show(source, backup)


async def restore(
    source: Source,
    *,
    to: Optional[Source] = None,
    backup: str = "latest",
    at: Optional[datetime.datetime] = None,
    replace: bool = False,
    check: str = "quick",
    dry_run: bool = False,
    as_snapshot: Optional[str] = None,
    keep_old: bool = False,
    tables: Sequence[str] = (),
    schemas: Sequence[str] = (),
    repository: Optional[Path] = None,
    passphrase: Optional[str] = None,
    config: Optional[Path] = None,
    s3: Optional[_S3] = None,
    progress: Optional[ProgressCallback] = None,
) -> Restored:
    """See :meth:`copal.Copal.restore`."""
    client = Copal(repository, passphrase=passphrase, config=config, s3=s3)
    return await client.restore(
        source,
        to=to,
        backup=backup,
        at=at,
        replace=replace,
        check=check,
        dry_run=dry_run,
        as_snapshot=as_snapshot,
        keep_old=keep_old,
        tables=tables,
        schemas=schemas,
        progress=progress,
    )


async def verify(
    source: Optional[Source] = None,
    *,
    backup: str = "latest",
    drill: bool = False,
    repository: Optional[Path] = None,
    passphrase: Optional[str] = None,
    config: Optional[Path] = None,
    s3: Optional[_S3] = None,
    progress: Optional[ProgressCallback] = None,
) -> List[Verified]:
    """See :meth:`copal.Copal.verify`."""
    client = Copal(repository, passphrase=passphrase, config=config, s3=s3)
    return await client.verify(source, backup=backup, drill=drill, progress=progress)


async def prune(
    source: Source,
    *,
    keep: Optional[KeepRules] = None,
    dry_run: bool = False,
    trust_clock: bool = False,
    repository: Optional[Path] = None,
    passphrase: Optional[str] = None,
    config: Optional[Path] = None,
    s3: Optional[_S3] = None,
    progress: Optional[ProgressCallback] = None,
) -> Pruned:
    """See :meth:`copal.Copal.prune`."""
    client = Copal(repository, passphrase=passphrase, config=config, s3=s3)
    return await client.prune(source, keep=keep, dry_run=dry_run, trust_clock=trust_clock, progress=progress)


async def pin(
    source: Source,
    backup: str = "latest",
    *,
    repository: Optional[Path] = None,
    passphrase: Optional[str] = None,
    config: Optional[Path] = None,
    s3: Optional[_S3] = None,
) -> Backup:
    """See :meth:`copal.Copal.pin`."""
    return await Copal(repository, passphrase=passphrase, config=config, s3=s3).pin(source, backup)


async def unpin(
    source: Source,
    backup: str,
    *,
    repository: Optional[Path] = None,
    passphrase: Optional[str] = None,
    config: Optional[Path] = None,
    s3: Optional[_S3] = None,
) -> Backup:
    """See :meth:`copal.Copal.unpin`."""
    return await Copal(repository, passphrase=passphrase, config=config, s3=s3).unpin(source, backup)


async def status(
    *sources: Source,
    repository: Optional[Path] = None,
    passphrase: Optional[str] = None,
    config: Optional[Path] = None,
    s3: Optional[_S3] = None,
) -> List[DatabaseStatus]:
    """See :meth:`copal.Copal.status`."""
    return await Copal(repository, passphrase=passphrase, config=config, s3=s3).status(*sources)


async def snap(
    *sources: Source,
    name: Optional[str] = None,
    label: Optional[str] = None,
    replace: bool = False,
    spare: bool = False,
    config: Optional[Path] = None,
    progress: Optional[ProgressCallback] = None,
) -> Snapped:
    """See :meth:`copal.Copal.snap`."""
    return await Copal(config=config).snap(
        *sources, name=name, label=label, replace=replace, spare=spare, progress=progress
    )


async def rewind(
    name: Optional[str] = None,
    *,
    sources: Sequence[Source] = (),
    force: bool = False,
    spare: bool = False,
    config: Optional[Path] = None,
    progress: Optional[ProgressCallback] = None,
) -> Rewound:
    """See :meth:`copal.Copal.rewind`."""
    return await Copal(config=config).rewind(name, sources=sources, force=force, spare=spare, progress=progress)


async def list_snapshots(*sources: Source, config: Optional[Path] = None) -> List[Snapshot]:
    """See :meth:`copal.Copal.list_snapshots`."""
    return await Copal(config=config).list_snapshots(*sources)


async def remove_snapshot(name: str, *sources: Source, config: Optional[Path] = None) -> Snapshot:
    """See :meth:`copal.Copal.remove_snapshot`."""
    return await Copal(config=config).remove_snapshot(name, *sources)


def snapshot_before_migration(
    source: Source,
    *,
    keep: int = 5,
    label: str = "pre-migrate",
    best_effort: bool = False,
    repository: Optional[Path] = None,
    passphrase: Optional[str] = None,
    config: Optional[Path] = None,
    s3: Optional[_S3] = None,
) -> "SafetyNet":
    """See :meth:`copal.Copal.snapshot_before_migration`."""
    client = Copal(repository, passphrase=passphrase, config=config, s3=s3)
    return client.snapshot_before_migration(source, keep=keep, label=label, best_effort=best_effort)
