"""A snapshot before Alembic's migrations, which is put back if they fail. Two lines in ``env.py``:

    from copal.contrib.alembic import safety_snapshot

    def run_migrations_online() -> None:
        connectable = engine_from_config(...)
        with safety_snapshot(connectable):
            with connectable.connect() as connection:
                ...

It has to stand around ``connect``: some servers copy a database only while nobody is connected to it.
"""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Any, Optional, Tuple, Type

import copal
from alembic import context
from alembic.runtime.migration import MigrationContext

from ..errors import UsageError

log = logging.getLogger("copal.contrib.alembic")


class safety_snapshot:
    """A context, with ``with`` or ``async with``: takes a snapshot (a backup, where the engine has none), and puts the
    database back if its block raises.

    It does nothing where there is nothing to lose: in offline mode (``--sql``), for commands that change nothing
    (``current``, ``check``, ``revision``), and if the database is where it shall go. ``connectable`` is an engine of
    SQLAlchemy or a URL; ``version_table`` and ``version_table_schema`` are what ``context.configure`` is given, and the
    other ``options`` those of `copal.snapshot_before_migration`.
    """

    def __init__(
        self,
        connectable: Any,
        *,
        version_table: str = "alembic_version",
        version_table_schema: Optional[str] = None,
        **options: Any,
    ) -> None:
        if hasattr(connectable, "execute"):
            hint = "give the engine or the URL, and connect inside the block"
            raise UsageError("safety_snapshot was given a connection, which would be in its own way", hint=hint)
        self._connectable, self._options = connectable, options
        self._versions = {"version_table": version_table, "version_table_schema": version_table_schema}
        self._snapshot: Any = None

    def __enter__(self) -> "safety_snapshot":
        engine = self._connectable
        if _migrates() and not (hasattr(engine, "connect") and not _is_async(engine) and self._is_there(engine)):
            self._begin().__enter__()
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], traceback: Optional[TracebackType]
    ) -> None:
        snapshot, self._snapshot = self._snapshot, None
        if snapshot is not None:
            if hasattr(self._connectable, "dispose") and not _is_async(self._connectable):
                self._connectable.dispose()
            snapshot.__exit__(kind, error, traceback)

    async def __aenter__(self) -> "safety_snapshot":
        engine = self._connectable
        if not _is_async(engine):
            return self.__enter__()
        if _migrates():
            async with engine.connect() as connection:
                there = await connection.run_sync(self._heads)
            await engine.dispose()
            if not _is_done(there):
                await self._begin().__aenter__()
        return self

    async def __aexit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], traceback: Optional[TracebackType]
    ) -> None:
        if not _is_async(self._connectable):
            self.__exit__(kind, error, traceback)
            return
        snapshot, self._snapshot = self._snapshot, None
        if snapshot is not None:
            await self._connectable.dispose()
            await snapshot.__aexit__(kind, error, traceback)

    def _begin(self) -> Any:
        self._snapshot = copal.snapshot_before_migration(self._connectable, **self._options)
        return self._snapshot

    def _is_there(self, engine: Any) -> bool:
        """Whether there is nothing to migrate. Leaves no connection open."""
        with engine.connect() as connection:
            there = self._heads(connection)
        engine.dispose()
        return _is_done(there)

    def _heads(self, connection: Any) -> Tuple[str, ...]:
        return tuple(sorted(MigrationContext.configure(connection, opts=self._versions).get_current_heads()))


def _migrates() -> bool:
    """Whether the command that runs ``env.py`` changes the database."""
    if context.is_offline_mode():
        return False
    try:
        context.get_revision_argument()
    except KeyError:
        return False
    return True


def _is_done(there: Tuple[str, ...]) -> bool:
    """Whether the database is where it shall go."""
    revision = context.get_revision_argument()
    target = () if revision is None else (revision,) if isinstance(revision, str) else tuple(sorted(revision))
    # An empty database may be one whose version table has another name: rather a snapshot too many.
    return bool(target) and there == target


def _is_async(engine: Any) -> bool:
    return hasattr(engine, "sync_engine")
