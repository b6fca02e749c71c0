"""A dict of tables, each a dict of rows by key, as a source of backups.

Such dicts note no changes. A full view captures all rows at one moment (no thread runs Python code meanwhile; with a lock, under
it). For deltas the source keeps a digest of 128 bits of every row as it was stored, about 150 bytes of memory a row, and compares
all rows with it: a delta costs about half of a full in time, however little changed, but stores only the change.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import time
from typing import Any, ContextManager, Dict, List, MutableMapping, Optional, Tuple

from .._copal import capture, packed_digests
from ..errors import ExistsError, UsageError
from .protocol import NeedsFull, State, TableView, View

__all__ = ["PlainSource"]

_Digests = Dict[str, Dict[Any, bytes]]


class PlainSource:
    """Views of ``{table: {key: row}}``; ``lock`` is held while rows are captured and while they are replaced."""

    def __init__(
        self, db: "MutableMapping[str, Any]", lock: Optional[ContextManager[Any]] = None, deltas: bool = True
    ) -> None:
        if not isinstance(db, dict):
            raise UsageError(f"a dict of tables is needed, not a {type(db).__name__}")
        self._db = db
        self._lock: ContextManager[Any] = contextlib.nullcontext() if lock is None else lock
        self._deltas = deltas
        self._known: Optional[_Digests] = None

    def full(self) -> View:
        taken, held, names, captured = self._capture()
        digests = {name: _digests(rows) for name, rows in zip(names, captured)} if self._deltas else None
        tables = [_table(name, rows) for name, rows in zip(names, captured)]
        return View(True, tables, taken, held, is_plain=True, counts=_counts(names, captured), notes=digests)

    def delta(self) -> Optional[View]:
        before = self._known
        if before is None:
            raise NeedsFull("no full backup was made yet")
        taken, held, names, captured = self._capture()
        now: _Digests = {}
        tables: List[TableView] = []
        for name, rows in zip(names, captured):
            digests = now[name] = _digests(rows)
            was = before.get(name)
            if was is None:
                tables.append(_table(name, rows, created=True))
                continue
            changed = [position for position, (key, digest) in enumerate(digests.items()) if was.get(key) != digest]
            gone = [key for key in was if key not in digests]
            if changed or gone:
                table = _table(name, rows.pick(changed))
                table.deletes = gone
                tables.append(table)
        dropped = [name for name in before if name not in now]
        if not tables and not dropped:
            return None
        counts = _counts(names, captured)
        return View(False, tables, taken, held, dropped=dropped, is_plain=True, counts=counts, notes=now)

    def accept(self, view: View) -> None:
        self._known = view.notes

    def reject(self, view: View) -> None:
        """Nothing to do: the digests are still those of what was stored before."""

    def forget(self) -> None:
        self._known = None

    def has_changes(self) -> bool:
        if self._known is None:
            return any(self._db.values())
        names, captured = self._capture()[2:]
        return {name: _digests(rows) for name, rows in zip(names, captured)} != self._known

    def restore(self, state: State, replace: bool) -> None:
        with self._lock:
            if not replace and any(self._db.values()):
                raise ExistsError("the dict holds rows already", hint="restore into an empty one, or say replace=True")
            present = dict(self._db)
            self._db.clear()
            for name, table in state.items():
                old = present.get(name)
                if isinstance(old, dict):
                    # The program may hold the table itself.
                    old.clear()
                    old.update(table.rows)
                    self._db[name] = old
                else:
                    self._db[name] = table.rows
        self._known = None

    def _capture(self) -> "Tuple[float, float, List[str], List[Any]]":
        with self._lock:
            began = time.perf_counter()
            taken = time.time()
            tables = list(self._db.items())
            for name, rows in tables:
                if type(rows) is not dict:
                    raise TypeError(f"table {name!r} is a {type(rows).__name__}, not a dict of rows")
            captured = capture([(rows, None, None) for _, rows in tables])
        held = time.perf_counter() - began
        return taken, held, [name for name, _ in tables], captured


def _table(name: str, rows: Any, created: bool = False) -> TableView:
    return TableView(name, None, None, None, {}, rows, created=created)


def _counts(names: List[str], captured: List[Any]) -> Dict[str, int]:
    return {name: len(rows) for name, rows in zip(names, captured)}


def _digests(rows: Any) -> Dict[Any, bytes]:
    digests: List[bytes] = []
    for block in range(rows.blocks):
        try:
            digests += packed_digests(rows, block)
        except TypeError:
            # Values that only a pickle keeps. Another digest for an equal row would only store it once more.
            digests += [_pickle_digest(row) for row in rows.dicts(block)]
    return dict(zip(rows.keys, digests))


def _pickle_digest(row: Any) -> bytes:
    try:
        return hashlib.sha256(pickle.dumps(row)).digest()[:16]
    except Exception:
        # Whether it can be stored is for the destination to say; until then it counts as changed.
        return os.urandom(16)
