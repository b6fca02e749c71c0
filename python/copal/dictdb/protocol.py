"""What a backup of in-memory tables is made of, and the two protocols that :class:`copal.BackupManager` connects.

A *source* is the live data. It answers with a :class:`View`: rows as they were at one moment, either all or only what
changed since the last view that was *accepted*. A *destination* stores views and gives them back as :data:`State`. Neither
knows the other; neither has threads or schedules. Both are called by one thread at a time.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Mapping, Optional, Sequence

if TYPE_CHECKING:
    from typing import Protocol

    from copal._copal import Rows
else:
    Protocol = object

__all__ = [
    "CheckedBackup",
    "Destination",
    "IncompleteBackupWarning",
    "NeedsFull",
    "SavedBackup",
    "Source",
    "State",
    "TableState",
    "TableView",
    "View",
]


class IncompleteBackupWarning(UserWarning):
    """A backup was restored as far as its files hold it; the message says what they do not hold."""


class NeedsFull(Exception):
    """A destination cannot take a delta now: a full backup has to come first."""


@dataclass
class TableView:
    """One table of a view."""

    name: str
    #: The field that repeats the key; None if rows do not hold their key.
    primary_key: Optional[str]
    schema: Optional[Dict[str, type]]
    #: The number that the next row without a key gets, where the source counts.
    next_key: Optional[int]
    #: Type of index by field.
    indexes: Dict[str, str]
    #: All rows, or in a delta of a known table those inserted or changed.
    rows: Rows
    #: Keys that are gone; only in deltas.
    deletes: List[Any] = field(default_factory=list)
    #: In a delta: the table is new (or was replaced), and ``rows`` are all of it.
    created: bool = False


@dataclass
class View:
    """Tables as they were at one moment."""

    is_full: bool
    tables: List[TableView]
    #: When, in seconds since 1970.
    taken: float
    #: How long writers could not write, in seconds.
    hold_seconds: float
    #: In a delta: tables that are gone.
    dropped: List[str] = field(default_factory=list)
    #: How many rows each table of the source has, those without changes included.
    counts: Optional[Dict[str, int]] = None
    #: Whether the tables are plain dicts rather than DictDB's.
    is_plain: bool = False
    #: The source's own notes about the view.
    notes: Any = None


@dataclass
class TableState:
    """One table as it is restored."""

    primary_key: Optional[str]
    schema: Optional[Dict[str, type]]
    rows: Dict[Any, Dict[str, Any]]
    next_key: Optional[int] = None
    indexes: Dict[str, str] = field(default_factory=dict)


#: All tables by name.
State = Dict[str, TableState]


@dataclass(frozen=True)
class SavedBackup:
    """One stored backup: a full, or a delta that needs all before it up to the nearest full."""

    #: Unique at its destination; with files, the name of the file.
    name: str
    #: ``"full"`` or ``"delta"``.
    kind: str
    #: The moment whose state it holds, in UTC.
    time: datetime.datetime
    size_bytes: int
    #: ``"json"`` or ``"pickle"`` for files, else the destination's own word.
    format: str
    #: ``"copal"``, or ``"dictdb"`` for a file that DictDB's own manager wrote.
    made_by: str
    #: The name of the full that it stands on; its own name for a full; None where it is not recorded.
    full: Optional[str] = None


@dataclass(frozen=True)
class CheckedBackup:
    """What a verification found out about one backup."""

    backup: SavedBackup
    #: What is wrong, in one line; None if nothing is.
    problem: Optional[str]


class Source(Protocol):
    """Live tables. A view that was taken must be answered with ``accept`` or ``reject`` before the next one is taken."""

    def full(self) -> View:
        """Everything, at one moment."""
        ...

    def delta(self) -> Optional[View]:
        """What changed since the last accepted view; None if nothing did. Raises :class:`NeedsFull` if there is none."""
        ...

    def accept(self, view: View) -> None:
        """The view is stored: the next delta counts from it."""
        ...

    def reject(self, view: View) -> None:
        """The view could not be stored: what it holds belongs to the next delta too."""
        ...

    def forget(self) -> None:
        """The next view must be a full."""
        ...

    def has_changes(self) -> bool:
        """Whether something may have changed since the last accepted view."""
        ...

    def restore(self, state: State, replace: bool) -> None:
        """Puts a state in the place of the live rows, in one step. ``ExistsError`` if there are rows and not ``replace``."""
        ...


class Destination(Protocol):
    """Where views are stored. What ``full`` and ``delta`` raise means that nothing was stored under a valid name."""

    #: The program's choice of a format, where there is one.
    file_format: str

    def full(self, view: View) -> SavedBackup:
        """Stores a full."""
        ...

    def delta(self, view: View) -> SavedBackup:
        """Stores a delta to what this destination stored last. Raises :class:`NeedsFull` if that is not there any more,
        if somebody else stored something since, or if a value fits only into a full."""
        ...

    def has_last(self) -> bool:
        """Whether what this destination stored last is still there, or something that was stored after it. True if it stored nothing.

        Cheap: nothing is read that grows with the data. Raises what hinders it from looking: that is no reason for a full.
        """
        ...

    def prune(self, keep: Mapping[str, Any]) -> Sequence[SavedBackup]:
        """Deletes what no rule wants, never the newest backup nor what a kept one needs; answers with what went."""
        ...

    def list(self) -> Sequence[SavedBackup]:
        """All backups, oldest first."""
        ...

    def verify(self) -> Sequence[CheckedBackup]:
        """Reads all backups and checks them and what they follow."""
        ...

    def load(
        self, at: Optional[datetime.datetime], allow_pickle: bool, notice: Callable[[str], None]
    ) -> "tuple[SavedBackup, State]":
        """The newest state, or the newest that is not later than ``at``. What it does not hold goes to ``notice``."""
        ...

    def forget(self) -> None:
        """The next backup starts a chain of its own."""
        ...

    def after_fork(self) -> None:
        """Called in a forked child: closes what belongs to the parent."""
        ...
