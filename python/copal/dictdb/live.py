"""A DictDB as a source of backups.

DictDB notes for each table which keys were inserted, changed and deleted. A view takes these notes over, under the locks of
all tables, and puts fresh ones in their place: what changes while the view is written is noted for the next one. Rows are
changed in place by ``update`` and ``upsert``, so their values are captured while the locks are held; encoding comes after.

Nothing of DictDB is patched. What a program does to ``table.records`` directly is not noted; fulls have it, deltas do not.
"""

from __future__ import annotations

import time
import weakref
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Set, Tuple

from .._copal import capture
from ..errors import ExistsError
from .build import build_tables
from .locks import all_tables
from .protocol import NeedsFull, State, TableView, View

__all__ = ["DictDbSource"]

_INDEXES = {"HashIndex": "hash", "SortedIndex": "sorted"}

#: Up to so many changed rows of a table are written in the order of their keys, which mostly is the order of insertion.
_MOST_SORTED = 50_000

#: All sources of a database share its notes: what one takes over, the others still have to save.
_SOURCES: "weakref.WeakKeyDictionary[Any, weakref.WeakSet[DictDbSource]]" = weakref.WeakKeyDictionary()


@dataclass
class _Known:
    """What the last accepted view said about a table, besides its rows."""

    table: Callable[[], Any]
    primary_key: Any
    schema: Any
    next_key: int
    indexes: Dict[str, str]

    @classmethod
    def of(cls, table: Any) -> _Known:
        schema = None if table.schema is None else dict(table.schema)
        indexes = {field: _INDEXES.get(type(index).__name__, "") for field, index in table.indexes.items()}
        indexes = {field: kind for field, kind in indexes.items() if kind}
        return cls(weakref.ref(table), table.primary_key, schema, table._next_pk, indexes)

    def same_definition(self, other: _Known) -> bool:
        return self.indexes == other.indexes and self.schema == other.schema and self.next_key == other.next_key


@dataclass
class _Taken:
    """What a view says about all tables."""

    tables: Dict[str, _Known]
    #: Which changes it is part of: those from some full on, until the source forgets.
    line: object


#: The keys changed and deleted in a table.
_Changes = Tuple[Any, Set[Any], Set[Any]]


class DictDbSource:
    """Views of a DictDB since the last one that was stored."""

    def __init__(self, db: Any) -> None:
        self._db = db
        #: What the last accepted view said. A view that was under way when the source forgot is of another line, and means nothing.
        self._accepted: Optional[_Taken] = None
        #: Begins as soon as a full was captured: from then on changes count, whoever takes them over. None: a full comes next.
        self._line: Optional[object] = None
        #: What another source of this database took over and this one has not saved, by the table's identity.
        self._pending: Dict[int, _Changes] = {}
        #: What was taken over and is neither accepted nor rejected yet, even if an interrupt came in between.
        self._open: List[_Changes] = []
        _SOURCES.setdefault(db, weakref.WeakSet()).add(self)

    @property
    def _known(self) -> Optional[Dict[str, _Known]]:
        """What the next delta counts from; None if that has to be a full."""
        accepted, line = self._accepted, self._line
        return None if accepted is None or line is None or accepted.line is not line else accepted.tables

    def full(self) -> View:
        """All tables, locked together for as long as it takes to capture their rows."""
        self._give_back()
        with all_tables(self._db) as held:
            taken = time.time()
            captured = capture([(table.records, table.primary_key, None) for _, table in held.tables])
            known = {name: _Known.of(table) for name, table in held.tables}
            counts = {name: len(table.records) for name, table in held.tables}
            taken_over = self._take_over(held.tables, known)
        tables = [_table_view(name, known[name], rows, created=False) for (name, _), rows in zip(held.tables, captured)]
        return View(True, tables, taken, held.seconds, counts=counts, notes=taken_over)

    def delta(self) -> Optional[View]:
        """The changed rows of all tables; the cost grows with the changes and the number of tables, not with their rows."""
        if self._known is None:
            raise NeedsFull("no full backup was made yet")
        self._give_back()
        if not self.has_changes():
            return None
        with all_tables(self._db) as held:
            before = self._known
            if before is None:
                raise NeedsFull("the tables were restored meanwhile")
            taken = time.time()
            known = {name: _Known.of(table) for name, table in held.tables}
            parts: List[Tuple[str, bool, List[Any]]] = []
            wanted: List[Any] = []
            for name, table in held.tables:
                was = before.get(name)
                if was is None or was.table() is not table or was.primary_key != table.primary_key:
                    parts.append((name, True, []))
                    wanted.append((table.records, table.primary_key, None))
                    continue
                dirty, deleted = self._changes(table)
                if dirty or deleted or not was.same_definition(known[name]):
                    gone = [key for key in deleted if key not in table.records]
                    parts.append((name, False, gone))
                    wanted.append((table.records, table.primary_key, _in_order(dirty)))
            captured = capture(wanted)
            counts = {name: len(table.records) for name, table in held.tables}
            taken_over = self._take_over(held.tables, known)
        tables = []
        for (name, created, gone), rows in zip(parts, captured):
            table = _table_view(name, known[name], rows, created)
            table.deletes = gone + rows.missing + _moved(rows, known[name].primary_key)
            tables.append(table)
        dropped = [name for name in before if name not in known]
        return View(False, tables, taken, held.seconds, dropped=dropped, counts=counts, notes=taken_over)

    def accept(self, view: View) -> None:
        self._accepted, self._open = view.notes, []

    def reject(self, view: View) -> None:
        self._give_back()
        if self._known is None:
            self._line = None

    def forget(self) -> None:
        self._line = None

    def has_changes(self) -> bool:
        """Whether DictDB noted a change, or a table was created, dropped or defined otherwise."""
        tables, known = dict(self._db.tables), self._known
        if known is None:
            return bool(tables)
        if len(tables) != len(known) or self._pending:
            return True
        for name, table in tables.items():
            was = known.get(name)
            if was is None or was.table() is not table or table._dirty_pks or table._deleted_pks:
                return True
            if was.primary_key != table.primary_key or not was.same_definition(_Known.of(table)):
                return True
        return False

    def restore(self, state: State, replace: bool) -> None:
        """Fills the database's own tables, so that what the program got by ``get_table`` stays valid."""
        fresh = build_tables(state)
        with all_tables(self._db, write=True) as held:
            if not replace and any(table.records for _, table in held.tables):
                raise ExistsError(
                    "the DictDB holds rows already", hint="restore into an empty one, or say replace=True"
                )
            present = dict(held.tables)
            for name, table in fresh.items():
                old = present.get(name)
                if old is not None:
                    for part in ("primary_key", "records", "schema", "_next_pk", "indexes"):
                        setattr(old, part, getattr(table, part))
                    old._dirty_pks, old._deleted_pks = set(), set()
            self._db.tables = {name: present.get(name, table) for name, table in fresh.items()}
            for source in _SOURCES.get(self._db, ()):
                source.forget()

    def _changes(self, table: Any) -> Tuple[Set[Any], Set[Any]]:
        pending = self._pending.get(id(table))
        if pending is None or pending[0] is not table:
            return table._dirty_pks, table._deleted_pks
        return table._dirty_pks | pending[1], table._deleted_pks | pending[2]

    def _take_over(self, tables: "List[Tuple[str, Any]]", known: Dict[str, _Known]) -> _Taken:
        """Takes the notes of all tables, which must be locked, and leaves a copy to the database's other sources."""
        if self._line is None:
            self._line = object()
        others = [source for source in _SOURCES.get(self._db, ()) if source is not self]
        for _, table in tables:
            dirty, deleted = self._changes(table)
            if dirty or deleted:
                self._open.append((table, dirty, deleted))
                for other in others:
                    other._leave(table, table._dirty_pks, table._deleted_pks)
                # New sets instead of cleared ones: a reader may be walking through the old.
                table._dirty_pks, table._deleted_pks = set(), set()
        self._pending.clear()
        return _Taken(known, self._line)

    def _give_back(self) -> None:
        """Puts what was taken over and not saved into DictDB's notes again, by what is there now."""
        while self._open:
            table, dirty, deleted = self._open[-1]
            with table._lock.write_lock():
                for key in dirty | deleted:
                    if key in table.records:
                        table._dirty_pks.add(key)
                    else:
                        table._deleted_pks.add(key)
            self._open.pop()

    def _leave(self, table: Any, dirty: Set[Any], deleted: Set[Any]) -> None:
        if self._line is None or not (dirty or deleted):
            return
        _, pending_dirty, pending_deleted = self._pending.setdefault(id(table), (table, set(), set()))
        pending_dirty.update(dirty)
        pending_deleted.update(deleted)


def _table_view(name: str, known: _Known, rows: Any, created: bool) -> TableView:
    return TableView(name, known.primary_key, known.schema, known.next_key, known.indexes, rows=rows, created=created)


def _in_order(keys: Set[Any]) -> List[Any]:
    if len(keys) <= _MOST_SORTED:
        try:
            return sorted(keys)
        except TypeError:
            pass
    return list(keys)


def _moved(rows: Any, field: Any) -> List[Any]:
    """Keys whose rows name another key than they stand under, as after an update of the primary key."""
    if rows.keys is None:
        return []
    keys = iter(rows.keys)
    return [key for block in range(rows.blocks) for row, key in zip(rows.dicts(block), keys) if row.get(field) != key]
