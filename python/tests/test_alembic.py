"""Migrations of Alembic that fail half way are put back."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import List

import postgres_server
import pytest
from services import example

import copal

pytest.importorskip("alembic")
sqlalchemy = pytest.importorskip("sqlalchemy")

from alembic import command  # noqa: E402
from alembic.config import Config  # noqa: E402

BOOKS = ["Middlemarch", "Moby-Dick", "Malone Dies"]


@pytest.fixture
def library(tmp_path: Path) -> Config:
    return Config(str(example("python-alembic", tmp_path) / "alembic.ini"))


def titles(url: str) -> List[str]:
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.pool.NullPool)
    with engine.connect() as connection:
        return [row[0] for row in connection.execute(sqlalchemy.text("SELECT title FROM books ORDER BY id"))]


def fails_and_is_put_back(library: Config, url: str) -> None:
    command.upgrade(library, "0002")
    assert titles(url) == BOOKS
    with pytest.raises(sqlalchemy.exc.SQLAlchemyError, match="boks") as raised:
        command.upgrade(library, "0003")
    assert titles(url) == BOOKS
    notes = getattr(raised.value, "__notes__", [])
    assert any("as before" in note for note in notes)
    with sqlalchemy.create_engine(url, poolclass=sqlalchemy.pool.NullPool).connect() as connection:
        assert connection.execute(sqlalchemy.text("SELECT version_num FROM alembic_version")).scalar() == "0002"
    # Nobody is in the way of the next attempt.
    command.downgrade(library, "0001")
    assert titles(url) == BOOKS


def test_sqlite(library: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path / 'library.db'}"
    monkeypatch.setenv("DATABASE_URL", url)
    fails_and_is_put_back(library, url)


def test_postgres(library: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    server = postgres_server.shared()
    server.sql("postgres", "CREATE DATABASE library")
    url = server.url("library", "postgresql+psycopg")
    monkeypatch.setenv("DATABASE_URL", url)
    fails_and_is_put_back(library, url)
    # One for each command.
    assert len(copal.list_snapshots(url)) == 3


def test_snapshots_only_where_something_changes(
    library: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    database = tmp_path / "library.db"
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{database}")
    command.upgrade(library, "head", sql=True)
    command.current(library)
    assert not database.exists() or not database.stat().st_size
    command.upgrade(library, "0001")
    have = len(copal.list_snapshots(database))
    command.upgrade(library, "0001")
    command.current(library)
    command.upgrade(library, "0002", sql=True)
    assert len(copal.list_snapshots(database)) == have
    command.upgrade(library, "0002")
    assert len(copal.list_snapshots(database)) == have + 1


def test_a_connection_is_refused() -> None:
    from copal.contrib.alembic import safety_snapshot

    engine = sqlalchemy.create_engine("sqlite://")
    with engine.connect() as connection, pytest.raises(copal.UsageError, match="in its own way"):
        safety_snapshot(connection)


def test_an_async_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("aiosqlite")
    folder = example("python-alembic", tmp_path)
    (folder / "migrations" / "env.py").write_text(
        """
import asyncio
from alembic import context
from copal.contrib.alembic import safety_snapshot
from sqlalchemy.ext.asyncio import create_async_engine

def run(connection):
    context.configure(connection=connection, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()

async def main():
    engine = create_async_engine(context.config.get_main_option("sqlalchemy.url"))
    async with safety_snapshot(engine):
        async with engine.connect() as connection:
            await connection.run_sync(run)
    await engine.dispose()

asyncio.run(main())
"""
    )
    library = Config(str(folder / "alembic.ini"))
    url = f"sqlite:///{tmp_path / 'library.db'}"
    library.set_main_option("sqlalchemy.url", url.replace("sqlite:", "sqlite+aiosqlite:"))
    fails_and_is_put_back(library, url)


def test_the_database_is_a_file_that_sqlite_can_open_afterwards(
    library: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = tmp_path / "library.db"
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{database}")
    command.upgrade(library, "0002")
    with pytest.raises(sqlalchemy.exc.SQLAlchemyError):
        command.upgrade(library, "0003")
    connection = sqlite3.connect(database)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
