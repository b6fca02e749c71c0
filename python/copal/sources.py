"""What a program may name a database by, and what the use cases are told of it.

Accepted are names of ``copal.toml``, URLs and paths; SQLAlchemy's ``Engine`` and ``AsyncEngine`` (and what has one:
``Connection``); ``sqlite3.Connection``; DuckDB's connections. None of these libraries is imported here for that: objects are
known by where their class comes from. No file of a database is ever opened here: see :mod:`copal._child`.
"""

from __future__ import annotations

import os
from typing import Any, Callable, Optional, Sequence, Tuple, Union

from .errors import BusyError, CopalError, UnsupportedError, UsageError

#: A name, URL or path; an object of SQLAlchemy, sqlite3 or DuckDB.
Source = Union[str, "os.PathLike[str]", Any]


class Copy:
    """A database that was written to a temporary file, which ``close`` removes."""

    def __init__(self, engine: str, path: str, folder: str) -> None:
        self.engine = engine
        self.path = path
        self._folder = folder

    @property
    def url(self) -> str:
        """Where the copy is."""
        return f"{self.engine}:{self.path}"

    def origin(self, name: str) -> str:
        """What a database in memory stands in the repository for: the same each time, and no place of a file."""
        return f"memory:{self.engine}/{name}"

    def close(self) -> None:
        """Removes the file."""
        import shutil

        shutil.rmtree(self._folder, ignore_errors=True)


class Found:
    """A source as the use cases want it."""

    def __init__(
        self,
        text: Optional[str],
        copy: Optional[Callable[[], Copy]] = None,
        fallback: Optional[Callable[[], Copy]] = None,
        release: Optional[Callable[[], None]] = None,
    ) -> None:
        #: A name, URL or path; ``None`` for a database in memory.
        self.text = text
        #: Writes a database in memory to a file, in the thread of its connection.
        self.copy = copy
        #: Does so with a database whose file could not be read while it is in use; in any thread.
        self.fallback = fallback
        #: Closes connections that stand ready, so that the file can be replaced.
        self.release = release


def find(source: Source) -> Found:
    """Tells what a source is. Call it in the thread that the connection belongs to.

    Raises :class:`copal.UsageError` for what is none, :class:`copal.UnsupportedError` for one that cannot be had.
    """
    if isinstance(source, str):
        return Found(_checked(source))
    if isinstance(source, Copy):
        return Found(None, copy=lambda: source)
    if isinstance(source, os.PathLike):
        path = os.fspath(source)
        # Absolute, so that no colon in it makes it a URL.
        return Found(_checked(os.path.abspath(os.fsdecode(path))))
    if _is_of(source, "sqlite3", "Connection"):
        return _sqlite(source)
    if _is_of(source, "duckdb", "DuckDBPyConnection"):
        return _duckdb(source)
    engine = _engine(source)
    if engine is not None:
        return _sqlalchemy(engine)
    kind = f"{type(source).__module__}.{type(source).__qualname__}"
    raise UsageError(
        f"{kind} is nothing that Copal can back up",
        hint="give a name, URL or path, a SQLAlchemy engine, or a connection of sqlite3 or DuckDB",
    )


def text_of(source: Source) -> str:
    """The name, URL or path of a source that has one. Errors as :func:`find`."""
    found = find(source)
    if found.text is None:
        raise UsageError(
            "a database in memory has no place of its own", hint="call it by the name that it was backed up under"
        )
    return found.text


def texts_of(sources: Sequence[Source]) -> "list[str]":
    """The same of several."""
    return [text_of(source) for source in sources]


async def find_async(source: Source) -> Source:
    """Copies a database in memory behind an ``AsyncEngine``; any other source stays as it is."""
    engine = _engine(source)
    if engine is None or not hasattr(engine, "sync_engine") or not _is_in_memory(engine.url):
        return source
    async with engine.connect() as connection:
        raw = await connection.get_raw_connection()
        driver = raw.driver_connection
        if getattr(driver, "in_transaction", False):
            raise _uncommitted()
        copy, target = _new_copy("sqlite"), None
        try:
            import sqlite3

            # aiosqlite works in a thread of its own.
            target = sqlite3.connect(copy.path, check_same_thread=False)
            await driver.backup(target)
        except BaseException:
            copy.close()
            raise
        finally:
            if target is not None:
                target.close()
    return copy


async def release_async(source: Source) -> None:
    """Closes the connections that an ``AsyncEngine`` holds ready, so that the file can be replaced."""
    engine = _engine(source)
    if engine is not None and hasattr(engine, "sync_engine") and not _is_in_memory(engine.url):
        await engine.dispose()


def _is_of(source: object, package: str, name: str) -> bool:
    def fits(known: type) -> bool:
        root = known.__module__.split(".")[0].lstrip("_")
        return root == package and known.__name__ == name

    return any(fits(known) for known in type(source).__mro__)


def _checked(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        shown = text.encode(errors="replace").decode()
        raise UnsupportedError(
            f"the path {shown} is not valid UTF-8", hint="rename it, or use a link with another name"
        ) from None
    if not text:
        raise UsageError("a source is named by an empty text")
    return text


def _new_copy(engine: str) -> Copy:
    import tempfile

    # For its owner only, as mkdtemp makes it.
    folder = tempfile.mkdtemp(prefix="copal-copy-")
    return Copy(engine, os.path.join(folder, "copy"), folder)


def _uncommitted() -> CopalError:
    return BusyError(
        "the database in memory has changes that are not committed, which no backup may contain",
        hint="commit or roll back on this connection first",
    )


# sqlite3


def _sqlite(connection: Any) -> Found:
    import sqlite3

    # A cursor of its own, whatever the connection makes of rows; texts may come as bytes. The first is "main".
    for number, _, path in sqlite3.Cursor(connection).execute("PRAGMA database_list").fetchall():
        if number == 0 and path:
            return Found(_file("sqlite", path if isinstance(path, str) else bytes(path)))
    return Found(None, copy=lambda: _copy_sqlite(connection))


def _copy_sqlite(connection: Any) -> Copy:
    if connection.in_transaction:
        raise _uncommitted()
    import sqlite3

    copy = _new_copy("sqlite")
    try:
        target = sqlite3.connect(copy.path)
        try:
            connection.backup(target)
        finally:
            target.close()
    except BaseException:
        copy.close()
        raise
    return copy


def _file(scheme: str, path: "str | bytes") -> str:
    return _checked(f"{scheme}:{os.path.abspath(os.fsdecode(path))}")


# DuckDB


def _duckdb(connection: Any) -> Found:
    name, path = _duckdb_place(connection)
    # A cursor is a second connection to the same database; it sees what is committed, and works in any thread.
    cursor = connection.cursor()
    if path is None:
        return Found(None, copy=lambda: _copy_duckdb(cursor, name))
    return Found(_file("duckdb", path), fallback=lambda: _copy_duckdb(cursor, name))


def _duckdb_place(connection: Any) -> Tuple[str, Optional[str]]:
    cursor = connection.cursor()
    try:
        cursor.execute(
            "SELECT database_name, path FROM duckdb_databases() WHERE NOT internal ORDER BY database_oid LIMIT 1"
        )
        row = cursor.fetchone()
    finally:
        cursor.close()
    if row is None:
        raise UnsupportedError("this DuckDB connection has no database")
    return row[0], row[1] or None


def _copy_duckdb(cursor: Any, name: str) -> Copy:
    import secrets

    copy = _new_copy("duckdb")
    # Everybody who uses this database sees the name for that long.
    attached = f"copal_copy_{secrets.token_hex(8)}"
    try:
        place = copy.path.replace("'", "''")
        cursor.execute(f"ATTACH '{place}' AS {attached}")
        try:
            source = name.replace('"', '""')
            cursor.execute(f'COPY FROM DATABASE "{source}" TO {attached}')
            cursor.execute(f"CHECKPOINT {attached}")
        finally:
            cursor.execute(f"DETACH {attached}")
    except BaseException:
        copy.close()
        raise
    return copy


# SQLAlchemy


def _engine(source: object) -> Any:
    """The ``Engine`` or ``AsyncEngine`` that this is, or belongs to."""
    if not any(known.__module__.split(".")[0] == "sqlalchemy" for known in type(source).__mro__):
        return None
    if hasattr(source, "url") and hasattr(source, "dialect"):
        return source
    engine = getattr(source, "engine", None)
    return engine if hasattr(engine, "url") else None


def _is_in_memory(url: Any) -> bool:
    if url.get_backend_name() != "sqlite":
        return False
    database = url.database or ""
    is_uri = database.startswith("file:")
    return database in ("", ":memory:") or (is_uri and (":memory:" in database or url.query.get("mode") == "memory"))


def _sqlalchemy(engine: Any) -> Found:
    url = engine.url
    backend = url.get_backend_name()
    is_async = hasattr(engine, "sync_engine")
    if _is_in_memory(url):
        if is_async:
            raise UsageError(
                "an AsyncEngine with a database in memory can only be asked by its own event loop",
                hint="await copal.aio.backup(engine, name=…)",
            )
        return Found(None, copy=lambda: _copy_pooled(engine))
    # Those of an AsyncEngine can only be closed by its event loop: `release_async`.
    release = None if is_async else engine.dispose
    database = url.database or ""
    if backend == "sqlite":
        path = database[len("file:") :].split("?")[0] if database.startswith("file:") else database
        return Found(_file("sqlite", path), release=release)
    if backend == "duckdb":
        if database in ("", ":memory:"):
            raise UnsupportedError(
                "a DuckDB in memory cannot be had through SQLAlchemy", hint="give the DuckDB connection itself"
            )
        return Found(_file("duckdb", database), release=release)
    return Found(_checked(url.render_as_string(hide_password=False)), release=release)


def _copy_pooled(engine: Any) -> Copy:
    pooled = engine.raw_connection()
    try:
        return _copy_sqlite(getattr(pooled, "driver_connection", None) or pooled.connection)
    finally:
        pooled.close()
