"""A Copal repository as a destination of backups: fulls as its backups, deltas as segments of their journals.

A delta names by hash the very object that it follows, so a gap, a missing or a foreign delta is an error of the repository itself.
Values are kept as they are (docs/engines/memory.md); what cannot be kept is a ``TypeError`` before anything is written.
"""

from __future__ import annotations

import datetime
import re
import time
from typing import Any, Callable, Dict, List, Mapping, NoReturn, Optional, Sequence, Tuple

# Importing the client also makes sure that what still runs at the end of the interpreter is stopped after its managers are.
from .. import client as _client
from .._copal import PackedView, Store
from .._work import Cancellation, new_session, run_here, teller
from ..errors import BusyError, CopalError, NotFoundError, UnsupportedError, UsageError
from .._values import format_time, parse_time
from .protocol import CheckedBackup, NeedsFull, SavedBackup, State, TableState, View
from .repository_check import check
from .types import schema_names, schema_types

__all__ = ["RepositoryDestination", "load_state"]

#: For so long, somebody else's work on the database is waited for.
_BUSY_SECONDS = 60.0
#: Rows that are made at a time; then other threads have their turn.
_BLOCK_ROWS = 4096
_NAME = re.compile(r"[^\x00-\x1f\x7f/\\?#@:%]{1,64}\Z")


class RepositoryDestination:
    """The database ``name`` of a repository. ``settings`` are those of a :class:`copal.Copal`."""

    def __init__(self, settings: Mapping[str, Any], name: str, file_format: str = "json") -> None:
        if not isinstance(name, str) or _NAME.match(name) is None or name != name.strip():
            raise UsageError(f"{name!r} is no name for a database", hint="1 to 64 letters, digits and -_. are good names")
        self.name = name
        #: Kept for programs that look at it; it is for files.
        self.file_format = file_format
        self._session = new_session(settings)
        self._store = Store(self._session, name)
        self._database = self._store.source
        #: What the next delta goes on from, and what was saved last, as the repository told it.
        self._end: Optional[Dict[str, Any]] = None
        self._last: Optional[Dict[str, Any]] = None
        #: The same as it is listed: the last backup and the full that it stands on.
        self._stored: Optional[SavedBackup] = None
        self._saved_full = False

    def full(self, view: View) -> SavedBackup:
        self._store.offer(_packed(view))
        answer = self._save("save", self._last)
        self._saved_full = True
        self._stored = _full(answer["backup"])
        return self._stored

    def delta(self, view: View) -> SavedBackup:
        if self._end is None:
            raise NeedsFull("no full backup was made yet")
        if not self._store.offer(_packed(view), self._end["position"]):
            raise NeedsFull("rows were changed in a way that was not noted")
        answer = self._save("append", self._end)
        self._saved_full = False
        self._stored = _segment(answer["appended"]["base"], answer["appended"]["segment"])
        return self._stored

    def has_last(self) -> bool:
        stored = self._stored
        if stored is None:
            return True
        try:
            backups = _backups(self._run("list", {"database": self._database}))
        except NotFoundError:
            # Where there is no repository at all, nothing can be saved, and that is what is told.
            self._run("list", {"database": None})
            return False
        names = {backup.name for backup in backups}
        # Ids grow. What somebody else saved later has the same state, and rules may have deleted ours.
        return names >= {stored.name, stored.full} or any(one.name > stored.name for one in backups if one.kind == "full")

    def _save(self, name: str, end: Optional[Mapping[str, Any]]) -> Any:
        """Saves what was offered; the answer."""
        answer = None
        try:
            answer = self._run(name, {"database": self._database, "end": end})
        except CopalError as error:
            if error.kind == "gap":
                raise NeedsFull(error.message) from error
            raise
        finally:
            self._store.withdraw(answer is not None)
        if answer is None:
            raise NeedsFull("the repository was told of no change")
        self._end = self._last = answer["end"]
        return answer

    def prune(self, keep: Mapping[str, Any]) -> Sequence[SavedBackup]:
        """Rules count fulls; deltas go with theirs. So nothing can go after a delta."""
        if not self._saved_full:
            return []
        before = {backup.name: backup for backup in self.list()}
        rules = dict(keep)
        within = rules.get("within")
        if isinstance(within, datetime.timedelta):
            rules["within"] = f"{max(1, int(within.total_seconds()))}s"
        answer = self._run("prune", {"database": self._database, "keep": rules})
        gone = answer["deleted"] + answer.get("deleted_segments", [])
        return [before[name] for name in gone if name in before]

    def list(self) -> "List[SavedBackup]":
        return _backups(self._listings())

    def verify(self) -> "List[CheckedBackup]":
        listings = self._listings()
        if not listings:
            return []
        return check(self.list(), listings, self._run("verify", {"database": self._database, "backup": "all"}))

    def load(
        self, at: Optional[datetime.datetime], allow_pickle: bool, notice: Callable[[str], None]
    ) -> Tuple[SavedBackup, State]:
        arguments: Dict[str, Any] = {"database": self._database, "to": self._database, "replace": True, "check": "none"}
        if at is not None:
            arguments["at"] = _moment(at)
        answer = self._run("restore", arguments)
        segment = answer.get("segment")
        backup = _full(answer) if segment is None else _segment(answer["id"], segment)
        loaded = self._store.take_loaded()
        if loaded is None:
            raise CopalError("nothing was restored")
        return backup, _state(loaded, self.name)

    def forget(self) -> None:
        self._end = None

    def after_fork(self) -> None:
        self._end = self._last = self._stored = None

    def _listings(self) -> "List[Any]":
        try:
            listings: List[Any] = self._run("list", {"database": self._database})
            return listings
        except NotFoundError:
            if self._last is not None:
                raise
            # Nothing was saved yet, if there is a repository at all.
            self._run("list", {"database": None})
            return []

    def _run(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """Runs a use case; if somebody else works on the database, waits until that is done."""
        give_up = time.monotonic() + _BUSY_SECONDS
        pause = 0.1
        while True:
            try:
                return run_here(self._session, name, arguments, teller(None), Cancellation())
            except BusyError:
                if time.monotonic() + pause >= give_up:
                    raise
            time.sleep(pause)
            pause = min(pause * 2, 3.0)


def load_state(settings: Mapping[str, Any], name: str, at: Optional[datetime.datetime]) -> State:
    """The newest state of a database, or the newest not later than ``at``."""

    def nothing(_: str) -> None:
        """Repositories hold everything, so there is nothing to tell."""

    return RepositoryDestination(settings, name).load(at, False, nothing)[1]


def settings_of(repository: Any, passphrase: Optional[str]) -> Mapping[str, Any]:
    """The settings for what a program says: a folder, a URL, a :class:`copal.Copal`, or None for what the command would find."""
    if isinstance(repository, _client.Copal):
        if passphrase is not None:
            raise UsageError("a copal.Copal has its passphrase already")
        return repository._settings
    return _client.Copal(repository, passphrase=passphrase)._settings


def _packed(view: View) -> PackedView:
    """All rows encoded, so that what cannot be kept is found before anything is written."""
    if view.counts is None:
        raise UsageError("the source does not count its rows")
    for name in [*view.counts, *view.dropped]:
        if type(name) is not str:
            raise TypeError(f"the name of table {name!r} is a {type(name).__name__}, not a str")
    metadata = {"made_by": "python", "kind": "dict" if view.is_plain else "dictdb"}
    packed = PackedView(
        view.is_full, view.hold_seconds, list(view.dropped), dict(view.counts), metadata if view.is_full else None
    )
    for table in view.tables:
        schema = None if table.schema is None else schema_names(table.name, table.schema)
        packed.table(table.name, table.created, table.primary_key, schema, table.indexes, table.next_key)
        for block in range(table.rows.blocks):
            packed.rows(table.rows, block)
            table.rows.release(block)
        if table.deletes:
            packed.deletes(table.deletes)
    return packed


def _state(loaded: Any, name: str) -> State:
    state: State = {}
    try:
        for table, count, primary_key, schema, indexes, next_key in loaded.tables():
            rows: Dict[Any, Dict[str, Any]] = {}
            for first in range(0, count, _BLOCK_ROWS):
                loaded.rows(table, first, _BLOCK_ROWS, rows)
            known = schema_types(table, schema)
            state[table] = TableState(primary_key, known, rows, next_key, dict(indexes or {}))
            if len(rows) != count:
                raise ValueError(f"table {table!r} has several rows with equal keys")
    except (ValueError, TypeError, OverflowError) as error:
        message = f"the rows of {name} cannot be read as Python's"
        raise UnsupportedError(message, causes=[str(error)], hint="restore to file:FOLDER to see them") from error
    except LookupError as error:
        message = f"a time zone of {name} is not known here"
        raise UnsupportedError(message, causes=[str(error)], hint="pip install tzdata") from error
    return state


def _moment(at: datetime.datetime) -> str:
    """The time for the repository. Segments are timed by the nanosecond: a microsecond means the whole of it, a second, too."""
    if at.tzinfo is None:
        raise UsageError("the time to restore has no zone", hint="datetime(…, tzinfo=timezone.utc), or .astimezone()")
    text: str = format_time(at)
    return text if at.microsecond == 0 else text[:-1] + "999Z"


def _backups(listings: "Sequence[Mapping[str, Any]]") -> "List[SavedBackup]":
    """All fulls and deltas of what was listed, oldest first."""
    backups = []
    for listing in listings:
        journals = listing.get("journal", {})
        for backup in listing["backups"]:
            backups.append(_full(backup))
            backups += [_segment(backup["id"], segment) for segment in journals.get(backup["id"], [])]
    return backups


def _full(backup: Mapping[str, Any]) -> SavedBackup:
    name = backup["id"]
    return SavedBackup(name, "full", parse_time(backup["time"]), backup["added_bytes"], "repository", "copal", name)


def _segment(base: str, segment: Mapping[str, Any]) -> SavedBackup:
    name, when = segment["id"], parse_time(segment["time"])
    return SavedBackup(name, "delta", when, segment["added_bytes"], "repository", "copal", base)
