"""The safety net around a migration: a snapshot before it, and the way back if it fails."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Optional, Type, Union

from . import sources
from ._work import Call, Cancellation, logger
from .errors import CopalError, UnsupportedError
from .results import Backup, Restored
from .snapshots import Rewound, Snapped
from .sources import Source

if TYPE_CHECKING:
    from .client import Copal

__all__ = ["SafetyNet"]


class SafetyNet:
    """Puts a database back as it was if the block that it surrounds raises; the exception then goes on.

    >>> with copal.snapshot_before_migration("sqlite:app.db"):      # doctest: +SKIP
    ...     command.upgrade(config, "head")

    A snapshot is taken before the block, or a backup where the engine has no snapshots. Of a database that does not exist yet
    nothing is taken. The exception gets a note (on ``__notes__``) that says what was done; if the database could not be put
    back, the note says how to do that by hand. After success the snapshot stays, and the oldest such snapshots beyond ``keep`` go;
    0 keeps all. ``async with`` does the same without blocking the event loop.

    The block opens its connections itself, and has closed those to a file when it ends: a snapshot of PostgreSQL ends all
    sessions of the database for the moment of the copy, and a file that is open is not replaced. Connections that a SQLAlchemy
    engine given as ``source`` holds ready are closed here, before and after.
    """

    #: The snapshot that was taken; ``None`` outside of the block and where there is none.
    snapshot: Optional[Snapped]
    #: The backup that was made instead.
    backup: Optional[Backup]

    def __init__(
        self, client: "Copal", source: Source, *, keep: int = 5, label: str = "pre-migrate", best_effort: bool = False
    ) -> None:
        """
        :param keep: how many of these snapshots to keep; 0 keeps all.
        :param label: what they are known by, ``[A-Za-z0-9._-]{1,64}``.
        :param best_effort: let the block run even if nothing could be taken; then nothing is put back.
        """
        self._client = client
        self._source = source
        self._text = sources.text_of(source)
        # Looked at once: a connection may be closed when the way back is taken.
        self._release = sources.find(source).release
        self._keep = keep
        self._label = label
        self._best_effort = best_effort
        self.snapshot = None
        self.backup = None

    def __enter__(self) -> SafetyNet:
        self._take().run()
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        if error is None:
            self._settle().run()
        else:
            self._put_back(error).run()

    async def __aenter__(self) -> SafetyNet:
        from .aio import run

        await sources.release_async(self._source)
        await run(self._take())
        return self

    async def __aexit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        from .aio import run

        if error is not None and self.snapshot is not None:
            await sources.release_async(self._source)
        await run(self._settle() if error is None else self._put_back(error))

    def _take(self) -> Call[None]:
        self.snapshot = self.backup = None
        self._free()
        snap = self._client._prepare(lambda client: client.snap(self._text, label=self._label))

        def perform(cancellation: Cancellation) -> None:
            try:
                self._try_to_take(snap, cancellation)
            except CopalError as error:
                if not self._best_effort or error.kind == "interrupted":
                    raise
                logger.warning("no snapshot could be taken, so nothing can be put back: %s", error)

        return Call(perform)

    def _free(self) -> None:
        """Closes the connections that an engine holds ready."""
        if self._release is not None:
            self._release()

    def _try_to_take(self, snap: Call[Snapped], cancellation: Cancellation) -> None:
        absent = self._client._prepare(
            lambda client: client._here("absent", {"databases": [self._text]}, list)
        ).run(cancellation)
        if absent:
            logger.info("the database does not exist yet, so there is nothing to put aside")
            return
        try:
            self.snapshot = snap.run(cancellation)
        except UnsupportedError:
            backup = self._client._prepare(lambda client: client.backup(self._text, label=self._label))
            self.backup = backup.run(cancellation)

    def _settle(self) -> Call[None]:
        """After success: the oldest go. What could not be cleared up is worth a warning and no more."""

        def perform(cancellation: Cancellation) -> None:
            if self.snapshot is None or self._keep <= 0:
                return
            try:
                self._client._prepare(
                    lambda client: client.clear_snapshots(self._text, keep=self._keep, label=self._label)
                ).run(cancellation)
            except CopalError as error:
                if error.kind == "interrupted":
                    raise
                logger.warning("old snapshots were not removed: %s", error)

        return Call(perform)

    def _put_back(self, error: BaseException) -> Call[None]:
        taken = self.snapshot or self.backup
        if taken is None:
            return Call(lambda cancellation: None)
        restore: "Union[Call[Rewound], Call[Restored]]"
        if self.snapshot is not None:
            self._free()
            restore = self._client._prepare(lambda client: client.rewind(taken.id, sources=[self._text]))
            by_hand = f"copal.rewind({self.snapshot.id!r}, sources=[…])"
        else:
            restore = self._client._prepare(lambda client: client.restore(self._text, backup=taken.id, replace=True))
            by_hand = f"copal.restore(…, backup={taken.id!r}, replace=True)"

        def perform(cancellation: Cancellation) -> None:
            try:
                # Not to be cancelled: that may be why the block failed.
                restore.run()
            except CopalError as failure:
                logger.error("the database was NOT put back: %s", failure)
                _note(error, f"copal: the database was NOT put back: {failure}\nPut it back by hand: {by_hand}")
            else:
                logger.warning("the migration failed, and the database is as before it")
                _note(error, "copal: the database is as before the block")
                self._settle().run()

        return Call(perform)


def _note(error: BaseException, note: str) -> None:
    """Adds a note, which Python shows from 3.11 on."""
    if sys.version_info >= (3, 11):
        error.add_note(note)
        return
    notes = getattr(error, "__notes__", None)
    try:
        error.__notes__ = [*(notes or ()), note]
    except AttributeError:
        pass
