"""What a database may be named by: connections and engines, of files and in memory."""

from __future__ import annotations

import asyncio
import pathlib
import sqlite3
import tempfile
from typing import Any

import pytest
from test_backups import count, make

import copal
from copal import sources

sqlalchemy = pytest.importorskip("sqlalchemy")
pytest.importorskip("aiosqlite")
from sqlalchemy.ext.asyncio import create_async_engine  # noqa: E402
from sqlalchemy.pool import StaticPool  # noqa: E402


def left_behind() -> "set[pathlib.Path]":
    return set(pathlib.Path(tempfile.gettempdir()).glob("copal-copy-*"))


@pytest.fixture(autouse=True)
def temporary(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A temporary folder of its own, which has no copy in it afterwards."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield
    assert not left_behind()


def test_a_sqlite_in_memory(repository: str) -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, text)")
    connection.execute("INSERT INTO t (text) VALUES ('x')")
    with pytest.raises(copal.BusyError, match="not committed"):
        copal.backup(connection, name="cache", repository=repository)
    connection.commit()
    with pytest.raises(copal.UsageError, match="needs a name"):
        copal.backup(connection, repository=repository)
    first = copal.backup(connection, name="cache", repository=repository)
    second = copal.backup(connection, name="cache", repository=repository)
    assert first.database == second.database == "cache" and second.added_bytes <= first.added_bytes
    copal.restore("cache", to="copy.db", repository=repository)
    assert count("copy.db") == 1
    with pytest.raises(copal.UsageError, match="no place of its own"):
        copal.restore(connection, repository=repository)


def test_engines_of_sqlalchemy(repository: str) -> None:
    make("app.db", 10)
    engine = sqlalchemy.create_engine("sqlite:///app.db")
    by_path = copal.backup("app.db", repository=repository)
    assert copal.backup(engine, repository=repository).database == by_path.database
    with engine.connect() as connection:
        assert copal.backup(connection, repository=repository).database == by_path.database
    uri = sqlalchemy.create_engine("sqlite:///file:app.db?mode=ro&uri=true")
    assert copal.backup(uri, repository=repository).database == by_path.database
    asynchronous = create_async_engine("sqlite+aiosqlite:///app.db")
    assert copal.backup(asynchronous, repository=repository).database == by_path.database
    copal.restore(engine, to="copy.db", repository=repository)
    assert count("copy.db") == 10


def test_engines_in_memory(repository: str) -> None:
    engine = sqlalchemy.create_engine("sqlite://", poolclass=StaticPool)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t (n INTEGER)")
        connection.exec_driver_sql("INSERT INTO t VALUES (1), (2)")
    copal.backup(engine, name="cache", repository=repository)
    copal.restore("cache", to="copy.db", repository=repository)
    assert count("copy.db") == 2

    async def asynchronous() -> None:
        engine = create_async_engine("sqlite+aiosqlite:///:memory:")
        async with engine.begin() as connection:
            await connection.exec_driver_sql("CREATE TABLE t (n INTEGER)")
            await connection.exec_driver_sql("INSERT INTO t VALUES (1), (2), (3)")
        with pytest.raises(copal.UsageError, match="event loop"):
            copal.backup(engine, name="other", repository=repository)
        await copal.aio.backup(engine, name="other", repository=repository)
        await engine.dispose()

    asyncio.run(asynchronous())
    copal.restore("other", to="other.db", repository=repository)
    assert count("other.db") == 3


def test_urls_of_servers_keep_their_password() -> None:
    engine = sqlalchemy.create_engine("postgresql+psycopg://app:s%40cret@db1:5433/shop?sslmode=require")
    assert sources.text_of(engine) == "postgresql+psycopg://app:s%40cret@db1:5433/shop?sslmode=require"
    asynchronous = create_async_engine("postgresql+asyncpg://app:x@db1/shop")
    assert sources.text_of(asynchronous) == "postgresql+asyncpg://app:x@db1/shop"
    assert copal.Copal("r")._open().is_server(sources.text_of(engine))


def test_servers_and_files_are_told_apart(tmp_path: pathlib.Path) -> None:
    (tmp_path / "copal.toml").write_text(
        '[databases.shop]\nurl = "postgres://db1/shop"\n[databases.all]\nurl = "mysql://db1/*"\n'
        '[databases.file]\nurl = "sqlite:app.db"\n'
    )
    session = copal.Copal("r")._open()
    for server in ("postgres://db1/x", "mysql+aiomysql://h/d", "shop", "all", "all.orders", "mariadb://h/d"):
        assert session.is_server(server), server
    for file in ("file", "app.db", "./x:y", "/a/b", "sqlite:x", "sqlite+aiosqlite:///x", "duckdb:x", "unknown", "file:x"):
        assert not session.is_server(file), file


def test_what_is_no_source(repository: str) -> None:
    for wrong in (None, 42, object(), b"app.db", ["app.db"]):
        with pytest.raises(copal.UsageError):
            copal.backup(wrong, repository=repository)
    with pytest.raises(copal.UnsupportedError, match="UTF-8"):
        copal.backup("bad\udcff.db", repository=repository)


def test_subclasses_are_known(repository: str) -> None:
    class Connection(sqlite3.Connection):
        pass

    make("app.db", 1)
    connection = sqlite3.connect("app.db", factory=Connection)
    assert copal.backup(connection, repository=repository).engine == "sqlite"
    connection.close()
