"""What the calls answer: immutable values with the fields of docs/json.md. Times are aware and in UTC, sizes are bytes."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any, Mapping, Optional, Tuple

from ._values import Json, Value, maybe_time, parse_time

__all__ = [
    "Backup",
    "BackupAge",
    "BackupDetails",
    "DamagedObject",
    "Database",
    "DatabaseStatus",
    "Difference",
    "Drill",
    "Initialized",
    "Keep",
    "KeptBackup",
    "Progress",
    "Pruned",
    "Restored",
    "StatusProblem",
    "Verified",
]

@dataclass(frozen=True)
class Progress(Value):
    """How far a call is."""

    __slots__ = ("phase", "done_bytes", "total_bytes")

    #: What is being done: ``"reading"``, ``"storing"``, ``"restoring"`` …
    phase: str
    #: Bytes of the database that this phase is done with.
    done_bytes: int
    #: How many there are, if that is known.
    total_bytes: Optional[int]

    @property
    def fraction(self) -> Optional[float]:
        """From 0 to 1, if the amount of work is known."""
        if not self.total_bytes:
            return None
        return min(1.0, self.done_bytes / self.total_bytes)


@dataclass(frozen=True)
class Keep(Value):
    """Rules of retention: a backup stays if any of them wants it. Without any rule, all stay."""

    #: The last so many.
    last: Optional[int] = None
    #: All that are at most this much older than the newest: ``"36h"``, ``"5d"``, or a ``timedelta``.
    within: "str | datetime.timedelta | None" = None
    #: The newest of each of the last so many hours that have one.
    hourly: Optional[int] = None
    #: Likewise days.
    daily: Optional[int] = None
    #: Likewise ISO weeks.
    weekly: Optional[int] = None
    #: Likewise months.
    monthly: Optional[int] = None
    #: Likewise years.
    yearly: Optional[int] = None


@dataclass(frozen=True)
class DamagedObject(Value):
    """An object of the repository that is missing or not what it should be."""

    __slots__ = ("database", "backup", "object", "problem")

    database: str
    #: The backup that needs the object.
    backup: Optional[str]
    #: The object's name in the repository.
    object: str
    #: What is wrong with it.
    problem: str

    @classmethod
    def from_json(cls, data: Json) -> DamagedObject:
        return cls(data["database"], data.get("backup"), data["object"], data["problem"])


def _damaged(data: Json) -> Tuple[DamagedObject, ...]:
    return tuple(DamagedObject.from_json(one) for one in data.get("damaged", ()))


@dataclass(frozen=True)
class Backup(Value):
    """One backup in the repository, which restores alone."""

    __slots__ = (
        "database",
        "id",
        "time",
        "engine",
        "label",
        "pinned",
        "verified",
        "logical_bytes",
        "added_bytes",
        "stored_bytes",
        "damaged",
    )

    #: The database's folder name in the repository; calls accept it as a name.
    database: str
    #: ``20261120-153000Z-7f3a``: sorts by time.
    id: str
    time: datetime.datetime
    engine: str
    label: Optional[str]
    #: It is kept for ever.
    pinned: bool
    #: All content of it was read back.
    verified: bool
    #: The size of the database.
    logical_bytes: int
    #: What this backup added to the repository.
    added_bytes: int
    #: What restoring it reads.
    stored_bytes: int
    #: Damage of earlier backups that was met when this one was made; it shares nothing with it.
    damaged: Tuple[DamagedObject, ...]

    @classmethod
    def from_json(cls, data: Json) -> Backup:
        return cls(**_backup(data))


def _backup(data: Json) -> "dict[str, Any]":
    return {
        "database": data["database"],
        "id": data["id"],
        "time": parse_time(data["time"]),
        "engine": data["engine"],
        "label": data.get("label"),
        "pinned": data["pinned"],
        "verified": data["verified"],
        "logical_bytes": data["logical_bytes"],
        "added_bytes": data["added_bytes"],
        "stored_bytes": data["stored_bytes"],
        "damaged": _damaged(data),
    }


@dataclass(frozen=True)
class BackupDetails(Backup):
    """Everything about one backup."""

    __slots__ = (
        "source",
        "host",
        "engine_version",
        "copal_version",
        "captured_at",
        "predecessor",
        "files",
        "packs",
        "inventory",
        "position",
        "notes",
    )

    #: Where the database was.
    source: str
    #: The machine that made the backup.
    host: str
    engine_version: str
    copal_version: str
    #: When the view that it is a copy of was opened.
    captured_at: datetime.datetime
    predecessor: Optional[str]
    #: Name and length in bytes of the database's files.
    files: Tuple[Tuple[str, int], ...]
    #: How many packs restoring needs.
    packs: int
    #: What the database contained: ``facts``, ``tables`` and more, as JSON.
    inventory: Mapping[str, Any]
    #: Where the backup stands in the database's own history.
    position: Optional[str]
    notes: Tuple[str, ...]

    @classmethod
    def from_json(cls, data: Json) -> BackupDetails:
        return cls(
            **_backup(data),
            source=data["source"],
            host=data["host"],
            engine_version=data["engine_version"],
            copal_version=data["copal_version"],
            captured_at=parse_time(data["captured_at"]),
            predecessor=data.get("predecessor"),
            files=tuple((name, length) for name, length in data["files"]),
            packs=data["packs"],
            inventory=data["inventory"],
            position=data.get("position"),
            notes=tuple(data["notes"]),
        )


@dataclass(frozen=True)
class Database(Value):
    """A database of the repository and its backups."""

    __slots__ = ("database", "name", "source", "backups", "damaged")

    #: Its folder name.
    database: str
    #: Its display name.
    name: str
    #: Where it is, or was at its newest backup.
    source: str
    #: Oldest first.
    backups: Tuple[Backup, ...]
    #: What is wrong with its part of the repository.
    damaged: Tuple[DamagedObject, ...]

    @classmethod
    def from_json(cls, data: Json) -> Database:
        backups = tuple(Backup.from_json(one) for one in data["backups"])
        return cls(data["database"], data["name"], data["source"], backups, _damaged(data))


@dataclass(frozen=True)
class Initialized(Value):
    """A repository that was created."""

    __slots__ = ("repository", "id", "encrypted", "keys")

    repository: str
    id: str
    encrypted: bool
    #: The ids of the keys that open it.
    keys: Tuple[str, ...]

    @classmethod
    def from_json(cls, data: Json) -> Initialized:
        return cls(data["repository"], data["id"], data["encrypted"], tuple(data["keys"]))


@dataclass(frozen=True)
class Restored(Backup):
    """What was restored, or would be."""

    __slots__ = ("target", "replaced", "dry_run", "checks", "notes")

    #: Where it was restored to.
    target: str
    #: A database that was there was replaced.
    replaced: bool
    #: Nothing was done, it was only looked whether it could be.
    dry_run: bool
    #: The checks that passed.
    checks: Tuple[str, ...]
    notes: Tuple[str, ...]

    @classmethod
    def from_json(cls, data: Json) -> Restored:
        return cls(
            **_backup(data),
            target=data["target"],
            replaced=data["replaced"],
            dry_run=data["dry_run"],
            checks=tuple(data["checks"]),
            notes=tuple(data["notes"]),
        )


@dataclass(frozen=True)
class Difference(Value):
    """Something that a restored database has otherwise than the one that was backed up."""

    __slots__ = ("what", "expected", "found")

    what: str
    expected: str
    found: str

    @classmethod
    def from_json(cls, data: Json) -> Difference:
        return cls(data["what"], data["expected"], data["found"])


@dataclass(frozen=True)
class Drill(Value):
    """A backup that was really restored to a scratch place and checked there."""

    __slots__ = ("performed", "checks", "problems", "differences")

    #: If not, ``problems`` says why it was impossible.
    performed: bool
    #: The checks that ran.
    checks: Tuple[str, ...]
    #: What is wrong.
    problems: Tuple[str, ...]
    #: What differs from what the database contained.
    differences: Tuple[Difference, ...]

    @property
    def is_good(self) -> bool:
        """Whether it was performed and found nothing."""
        return self.performed and not self.problems and not self.differences

    @classmethod
    def from_json(cls, data: Json) -> Drill:
        differences = tuple(Difference.from_json(one) for one in data["differences"])
        return cls(data["performed"], tuple(data["checks"]), tuple(data["problems"]), differences)


@dataclass(frozen=True)
class Verified(Value):
    """What reading one backup back found."""

    __slots__ = ("database", "id", "time", "verified", "verified_bytes", "drill", "damaged")

    database: str
    id: str
    #: When it was made; ``None`` if its manifest cannot be read.
    time: Optional[datetime.datetime]
    #: Everything was read back and is as it was written.
    verified: bool
    #: Bytes of the database that were read back.
    verified_bytes: int
    #: ``None`` if none was asked for.
    drill: Optional[Drill]
    #: Objects that are missing or changed.
    damaged: Tuple[DamagedObject, ...]

    @property
    def is_good(self) -> bool:
        """Whether nothing is damaged and the drill, if there was one, was performed and found nothing."""
        return self.verified and not self.damaged and (self.drill is None or self.drill.is_good)

    @classmethod
    def from_json(cls, data: Json) -> Verified:
        drill = data.get("drill")
        return cls(
            database=data["database"],
            id=data["id"],
            time=maybe_time(data.get("time")),
            verified=data["verified"],
            verified_bytes=data["verified_bytes"],
            drill=None if drill is None else Drill.from_json(drill),
            damaged=_damaged(data),
        )


@dataclass(frozen=True)
class KeptBackup(Value):
    """A backup that stays, and why."""

    __slots__ = ("id", "reasons")

    id: str
    #: ``"newest"``, ``"pinned"``, ``"last"``, ``"daily"`` …
    reasons: Tuple[str, ...]

    @classmethod
    def from_json(cls, data: Json) -> KeptBackup:
        return cls(data["id"], tuple(data["reasons"]))


@dataclass(frozen=True)
class Pruned(Value):
    """What was dropped of one database, or would be."""

    __slots__ = ("database", "dry_run", "kept", "deleted", "deleted_packs", "freed_bytes")

    database: str
    dry_run: bool
    kept: Tuple[KeptBackup, ...]
    #: The ids of the backups that went.
    deleted: Tuple[str, ...]
    deleted_packs: int
    freed_bytes: int

    @classmethod
    def from_json(cls, data: Json) -> Pruned:
        return cls(
            database=data["database"],
            dry_run=data["dry_run"],
            kept=tuple(KeptBackup.from_json(one) for one in data["kept"]),
            deleted=tuple(data["deleted"]),
            deleted_packs=data["deleted_packs"],
            freed_bytes=data["freed_bytes"],
        )


@dataclass(frozen=True)
class BackupAge(Value):
    """A backup and its age."""

    __slots__ = ("id", "time", "age_seconds")

    id: str
    time: datetime.datetime
    #: How old what it holds is, by this machine's clock.
    age_seconds: int

    @classmethod
    def from_json(cls, data: Json) -> BackupAge:
        return cls(data["id"], parse_time(data["time"]), data["age_seconds"])


@dataclass(frozen=True)
class StatusProblem(Value):
    """One reason why a database is not protected."""

    __slots__ = ("kind", "message")

    #: ``"no-backup"``, ``"stale"``, ``"damage"``, ``"drill-overdue"`` or ``"clock"``.
    kind: str
    message: str

    @classmethod
    def from_json(cls, data: Json) -> StatusProblem:
        return cls(data["kind"], data["message"])


@dataclass(frozen=True)
class DatabaseStatus(Value):
    """Whether one database is protected, and what speaks for it."""

    __slots__ = (
        "database",
        "name",
        "configured",
        "protected",
        "problems",
        "notes",
        "engine",
        "source",
        "host",
        "backups",
        "last_backup",
        "last_verified",
        "schedule",
        "max_age_seconds",
        "stale_after",
        "next_run",
    )

    #: Its folder name in the repository.
    database: str
    #: Its name in the configuration, else the folder name.
    name: str
    configured: bool
    #: Everything is as promised.
    protected: bool
    problems: Tuple[StatusProblem, ...]
    notes: Tuple[str, ...]
    engine: Optional[str]
    source: Optional[str]
    #: The machine that made the newest good backup.
    host: Optional[str]
    #: How many backups there are.
    backups: int
    #: The newest good backup.
    last_backup: Optional[BackupAge]
    #: The newest backup of which all content was read back.
    last_verified: Optional[BackupAge]
    #: The schedule that it is judged by.
    schedule: Optional[str]
    #: The promised age that it is judged by.
    max_age_seconds: Optional[int]
    #: Without another good backup it is stale after this time.
    stale_after: Optional[datetime.datetime]
    next_run: Optional[datetime.datetime]

    @classmethod
    def from_json(cls, data: Json) -> DatabaseStatus:
        def age(key: str) -> Optional[BackupAge]:
            return None if data.get(key) is None else BackupAge.from_json(data[key])

        return cls(
            database=data["database"],
            name=data["name"],
            configured=data["configured"],
            protected=data["protected"],
            problems=tuple(StatusProblem.from_json(one) for one in data["problems"]),
            notes=tuple(data["notes"]),
            engine=data.get("engine"),
            source=data.get("source"),
            host=data.get("host"),
            backups=data["backups"],
            last_backup=age("last_backup"),
            last_verified=age("last_verified"),
            schedule=data.get("schedule"),
            max_age_seconds=data.get("max_age_seconds"),
            stale_after=maybe_time(data.get("stale_after")),
            next_run=maybe_time(data.get("next_run")),
        )
