"""What calls about snapshots answer, as in :mod:`copal.results`."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any, Optional, Tuple

from ._values import Json, Value, parse_time

__all__ = [
    "Cleared",
    "DatabaseNote",
    "RemovedSnapshot",
    "Rewound",
    "Snapped",
    "Snapshot",
    "SnapshotPart",
]


@dataclass(frozen=True)
class SnapshotPart(Value):
    """One database's part of a snapshot."""

    __slots__ = (
        "database",
        "engine",
        "engine_version",
        "schema_version",
        "bytes",
        "used_bytes",
        "method",
        "spare",
    )

    #: Its name in the configuration, else the path or URL by which it was named.
    database: str
    engine: str
    engine_version: str
    #: What the migration tool calls this state of the schema.
    schema_version: Optional[str]
    #: The size of the database.
    bytes: Optional[int]
    #: What removing it would free; ``None``: it shares its blocks, and nobody can tell.
    used_bytes: Optional[int]
    #: How it was copied.
    method: str
    #: A second copy stands ready for the next rewind.
    spare: bool

    @classmethod
    def from_json(cls, data: Json) -> SnapshotPart:
        return cls(
            database=data["database"],
            engine=data["engine"],
            engine_version=data["engine_version"],
            schema_version=data.get("schema_version"),
            bytes=data.get("bytes"),
            used_bytes=data.get("used_bytes"),
            method=data["method"],
            spare=data["spare"],
        )


@dataclass(frozen=True)
class Snapshot(Value):
    """What was taken of one or more databases under one name at one time, beside them."""

    __slots__ = ("name", "id", "time", "label", "git_branch", "databases", "missing")

    name: str
    id: str
    time: datetime.datetime
    #: What it was taken for.
    label: Optional[str]
    #: The git branch of the working folder when it was taken.
    git_branch: Optional[str]
    databases: Tuple[SnapshotPart, ...]
    #: Databases that were taken together with these, of which no copy was found.
    missing: Tuple[str, ...]

    @classmethod
    def from_json(cls, data: Json) -> Snapshot:
        return cls(**_snapshot(data))


def _snapshot(data: Json) -> "dict[str, Any]":
    return {
        "name": data["name"],
        "id": data["id"],
        "time": parse_time(data["time"]),
        "label": data.get("label"),
        "git_branch": data.get("git_branch"),
        "databases": tuple(SnapshotPart.from_json(one) for one in data["databases"]),
        "missing": tuple(data["missing"]),
    }


@dataclass(frozen=True)
class DatabaseNote(Value):
    """A remark about one database: sessions that were ended, for example."""

    __slots__ = ("database", "note")

    database: str
    note: str

    @classmethod
    def from_json(cls, data: Json) -> DatabaseNote:
        return cls(data["database"], data["note"])


@dataclass(frozen=True)
class Snapped(Snapshot):
    """A snapshot that was taken."""

    __slots__ = ("replaced", "notes")

    #: The ids of snapshots of the same name that were removed afterwards.
    replaced: Tuple[str, ...]
    notes: Tuple[DatabaseNote, ...]

    @classmethod
    def from_json(cls, data: Json) -> Snapped:
        notes = tuple(DatabaseNote.from_json(one) for one in data["notes"])
        return cls(**_snapshot(data), replaced=tuple(data["replaced"]), notes=notes)


@dataclass(frozen=True)
class Rewound(Snapshot):
    """A snapshot to which databases were put back."""

    __slots__ = ("untouched", "notes")

    #: Databases of the configuration of which the snapshot has no copy.
    untouched: Tuple[str, ...]
    notes: Tuple[DatabaseNote, ...]

    @classmethod
    def from_json(cls, data: Json) -> Rewound:
        notes = tuple(DatabaseNote.from_json(one) for one in data["notes"])
        return cls(**_snapshot(data), untouched=tuple(data["untouched"]), notes=notes)


@dataclass(frozen=True)
class RemovedSnapshot(Value):
    """A snapshot that is gone."""

    __slots__ = ("name", "id")

    name: str
    id: str

    @classmethod
    def from_json(cls, data: Json) -> RemovedSnapshot:
        return cls(data["name"], data["id"])


@dataclass(frozen=True)
class Cleared(Value):
    """What was cleared up of the snapshots of one database."""

    __slots__ = ("database", "removed", "kept", "settled", "dry_run")

    database: str
    removed: Tuple[RemovedSnapshot, ...]
    #: How many it still has.
    kept: int
    #: What was finished or undone of interrupted calls.
    settled: Tuple[str, ...]
    dry_run: bool

    @classmethod
    def from_json(cls, data: Json) -> Cleared:
        removed = tuple(RemovedSnapshot.from_json(one) for one in data["removed"])
        return cls(data["database"], removed, data["kept"], tuple(data["settled"]), data["dry_run"])
