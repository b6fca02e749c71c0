"""All tables of a DictDB locked together, for a moment.

DictDB locks each table by itself with a reader-writer lock that has no order between tables and prefers writers. Waiting for
one table while others are held could therefore stand still for ever: a writer's ``where`` may read another table, which we
hold and for which a second writer already waits. So nothing is waited for without a limit: if not all locks can be had within
a short time, all are given back and the next attempt may take longer.

A reader enters while writers wait (but never while one writes): that keeps the lock's invariants, and a busy table cannot
keep a backup out for ever. Waiting writers are woken when the view is done.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any, Callable, Iterator, List, Optional, Tuple

from ..errors import BusyError

__all__ = ["VIEW", "Held", "all_tables"]

#: Held while tables are locked, by all managers of the process; a fork waits for it, so that no child inherits locked tables.
#: A signal handler may fork the very thread that holds it; nothing else enters twice.
VIEW = threading.RLock()

_FIRST_LIMIT_SECONDS = 0.05
_LONGEST_LIMIT_SECONDS = 2.0
_GIVE_UP_SECONDS = 60.0
_PAUSE_SECONDS = 0.0005


class Held:
    """Tables that are locked now, by name, and for how long they have been."""

    def __init__(self, tables: "List[Tuple[str, Any]]", since: float) -> None:
        self.tables = tables
        self._since = since
        self._until: Optional[float] = None

    def release(self) -> None:
        self._until = time.perf_counter()

    @property
    def seconds(self) -> float:
        """How long the locks were held."""
        return (time.perf_counter() if self._until is None else self._until) - self._since


def _enter_read(lock: Any) -> bool:
    with lock._lock:
        if lock._writer:
            return False
        lock._readers += 1
        return True


def _enter_write(lock: Any) -> bool:
    with lock._lock:
        if lock._writer or lock._readers > 0:
            return False
        lock._writer = True
        return True


def _tables(db: Any) -> "List[Tuple[str, Any]]":
    return sorted(db.tables.items(), key=lambda item: str(item[0]))


def _all(
    db: Any, enter: "Callable[[Any], bool]", limit: float, taken: "List[Any]"
) -> "Optional[List[Tuple[str, Any]]]":
    """Locks all tables within the limit; what was locked is in ``taken`` also if that fails."""
    deadline = time.perf_counter() + limit
    tables = _tables(db)
    for _, table in tables:
        if any(table._lock is lock for lock in taken):
            continue
        while not enter(table._lock):
            if time.perf_counter() >= deadline:
                return None
            time.sleep(_PAUSE_SECONDS)
        taken.append(table._lock)
    # Tables are created and dropped without any lock.
    now = list(db.tables.items())
    return now if dict(now) == dict(tables) else None


@contextlib.contextmanager
def all_tables(db: Any, write: bool = False) -> Iterator[Held]:
    """Locks all tables against writers (with ``write`` also against readers). ``BusyError`` if that is impossible for a minute."""
    enter = _enter_write if write else _enter_read
    limit = _FIRST_LIMIT_SECONDS
    give_up = time.monotonic() + _GIVE_UP_SECONDS
    while True:
        taken: "List[Any]" = []
        with VIEW:
            since = time.perf_counter()
            held = None
            try:
                tables = _all(db, enter, limit, taken)
                if tables is not None:
                    held = Held(tables, since)
                    yield held
                    return
            finally:
                for lock in reversed(taken):
                    if write:
                        lock.release_write()
                    else:
                        lock.release_read()
                if held is not None:
                    held.release()
        if time.monotonic() >= give_up:
            raise BusyError(
                "some table of the DictDB was locked by a writer for a minute",
                hint="a thread that never gives back a table's lock keeps the program from writing, too",
            )
        time.sleep(limit / 10)
        limit = min(limit * 2, _LONGEST_LIMIT_SECONDS)
