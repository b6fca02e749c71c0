"""The methods of :class:`copal.Copal` as functions: repository, passphrase, config and s3 go with each call."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any, List, Mapping, Optional, Sequence

from ._arguments import KeepRules, Path, ProgressCallback
from .client import Copal
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
from .snapshots import Rewound, Snapped, Snapshot
from .sources import Source

if TYPE_CHECKING:
    from .migrations import SafetyNet

_S3 = Mapping[str, Any]


def init(
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
    return client.init(encrypt=encrypt, recovery_keys=recovery_keys)


def backup(
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
    return client.backup(
        source, name=name, label=label, pin=pin, adopt=adopt, from_snapshot=from_snapshot, progress=progress
    )


def list_backups(
    source: Optional[Source] = None,
    *,
    repository: Optional[Path] = None,
    passphrase: Optional[str] = None,
    config: Optional[Path] = None,
    s3: Optional[_S3] = None,
) -> List[Backup]:
    """See :meth:`copal.Copal.list_backups`."""
    return Copal(repository, passphrase=passphrase, config=config, s3=s3).list_backups(source)


def list_databases(
    source: Optional[Source] = None,
    *,
    repository: Optional[Path] = None,
    passphrase: Optional[str] = None,
    config: Optional[Path] = None,
    s3: Optional[_S3] = None,
) -> List[Database]:
    """See :meth:`copal.Copal.list_databases`."""
    return Copal(repository, passphrase=passphrase, config=config, s3=s3).list_databases(source)


def show(
    source: Source,
    backup: str = "latest",
    *,
    repository: Optional[Path] = None,
    passphrase: Optional[str] = None,
    config: Optional[Path] = None,
    s3: Optional[_S3] = None,
) -> BackupDetails:
    """See :meth:`copal.Copal.show`."""
    return Copal(repository, passphrase=passphrase, config=config, s3=s3).show(source, backup)


def restore(
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
    return client.restore(
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


def verify(
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
    return client.verify(source, backup=backup, drill=drill, progress=progress)


def prune(
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
    return client.prune(source, keep=keep, dry_run=dry_run, trust_clock=trust_clock, progress=progress)


def pin(
    source: Source,
    backup: str = "latest",
    *,
    repository: Optional[Path] = None,
    passphrase: Optional[str] = None,
    config: Optional[Path] = None,
    s3: Optional[_S3] = None,
) -> Backup:
    """See :meth:`copal.Copal.pin`."""
    return Copal(repository, passphrase=passphrase, config=config, s3=s3).pin(source, backup)


def unpin(
    source: Source,
    backup: str,
    *,
    repository: Optional[Path] = None,
    passphrase: Optional[str] = None,
    config: Optional[Path] = None,
    s3: Optional[_S3] = None,
) -> Backup:
    """See :meth:`copal.Copal.unpin`."""
    return Copal(repository, passphrase=passphrase, config=config, s3=s3).unpin(source, backup)


def status(
    *sources: Source,
    repository: Optional[Path] = None,
    passphrase: Optional[str] = None,
    config: Optional[Path] = None,
    s3: Optional[_S3] = None,
) -> List[DatabaseStatus]:
    """See :meth:`copal.Copal.status`."""
    return Copal(repository, passphrase=passphrase, config=config, s3=s3).status(*sources)


def snap(
    *sources: Source,
    name: Optional[str] = None,
    label: Optional[str] = None,
    replace: bool = False,
    spare: bool = False,
    config: Optional[Path] = None,
    progress: Optional[ProgressCallback] = None,
) -> Snapped:
    """See :meth:`copal.Copal.snap`."""
    return Copal(config=config).snap(
        *sources, name=name, label=label, replace=replace, spare=spare, progress=progress
    )


def rewind(
    name: Optional[str] = None,
    *,
    sources: Sequence[Source] = (),
    force: bool = False,
    spare: bool = False,
    config: Optional[Path] = None,
    progress: Optional[ProgressCallback] = None,
) -> Rewound:
    """See :meth:`copal.Copal.rewind`."""
    return Copal(config=config).rewind(name, sources=sources, force=force, spare=spare, progress=progress)


def list_snapshots(*sources: Source, config: Optional[Path] = None) -> List[Snapshot]:
    """See :meth:`copal.Copal.list_snapshots`."""
    return Copal(config=config).list_snapshots(*sources)


def remove_snapshot(name: str, *sources: Source, config: Optional[Path] = None) -> Snapshot:
    """See :meth:`copal.Copal.remove_snapshot`."""
    return Copal(config=config).remove_snapshot(name, *sources)


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
