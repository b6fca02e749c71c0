"""Snapshots, and the safety net around migrations."""

from __future__ import annotations

import asyncio
import os
import sqlite3

import pytest
from test_backups import count, make

import copal

sqlalchemy = pytest.importorskip("sqlalchemy")


def test_snapshots_are_taken_listed_rewound_and_removed() -> None:
    make("a.db", 10)
    make("b.db", 10)
    taken = copal.snap("a.db", "b.db", name="before import", label="import")
    assert taken.name == "before import" and len(taken.databases) == 2 and taken.missing == ()
    assert taken.databases[0].bytes == 8192 and taken.label == "import"
    with pytest.raises(copal.ExistsError):
        copal.snap("a.db", name="before import")
    make("a.db", 10)
    make("b.db", 10)
    assert [one.id for one in copal.list_snapshots("a.db")] == [taken.id]
    rewound = copal.rewind("before import", sources=["a.db", "b.db"])
    assert rewound.id == taken.id and (count("a.db"), count("b.db")) == (10, 10)
    again = copal.snap("a.db", "b.db", name="before import", replace=True)
    assert again.replaced == (taken.id,)
    assert copal.remove_snapshot("before import", "a.db", "b.db").id == again.id
    assert copal.list_snapshots("a.db", "b.db") == []
    with pytest.raises(copal.NotFoundError):
        copal.rewind(sources=["a.db"])


def test_snapshots_of_a_configuration() -> None:
    make("a.db", 10)
    with open("copal.toml", "w") as file:
        file.write('[databases.a]\nurl = "sqlite:a.db"\n')
    for _ in range(3):
        copal.snap(label="nightly")
    client = copal.Copal()
    (looked,) = client.clear_snapshots(keep=1, label="nightly", dry_run=True)
    assert len(looked.removed) == 2 and looked.kept == 1
    client.clear_snapshots(keep=1)
    assert len(client.list_snapshots()) == 1
    assert client.rewind().untouched == ()


def test_a_migration_that_fails_is_put_back() -> None:
    make("app.db", 10)
    with pytest.raises(ZeroDivisionError) as caught:
        with copal.snapshot_before_migration("sqlite:app.db") as net:
            assert net.snapshot is not None and net.snapshot.label == "pre-migrate"
            connection = sqlite3.connect("app.db")
            connection.execute("ALTER TABLE t ADD COLUMN half")
            connection.execute("DELETE FROM t")
            connection.commit()
            connection.close()
            raise ZeroDivisionError
    assert count("app.db") == 10
    assert caught.value.__notes__ == ["copal: the database is as before the block"]  # type: ignore[attr-defined]
    connection = sqlite3.connect("app.db")
    assert len(connection.execute("PRAGMA table_info(t)").fetchall()) == 2
    connection.close()


def test_after_success_the_oldest_snapshots_go() -> None:
    make("app.db", 10)
    other = copal.snap("app.db", name="mine")
    for _ in range(4):
        with copal.snapshot_before_migration("app.db", keep=2) as net:
            make("app.db", 1)
    assert count("app.db") == 14
    names = [one.id for one in copal.list_snapshots("app.db")]
    assert len(names) == 3 and names[0] == other.id and net.snapshot is not None and names[-1] == net.snapshot.id
    assert copal.rewind(sources=["app.db"]).id == net.snapshot.id and count("app.db") == 13


def test_a_database_that_does_not_exist_yet_needs_no_net() -> None:
    with copal.snapshot_before_migration("sqlite:new.db") as net:
        assert net.snapshot is None
        make("new.db", 1)
    assert count("new.db") == 1
    with pytest.raises(ZeroDivisionError):
        with copal.snapshot_before_migration("sqlite:newer.db"):
            raise ZeroDivisionError


def test_connections_that_stay_open_are_told(caplog: pytest.LogCaptureFixture) -> None:
    make("app.db", 10)
    connection = sqlite3.connect("app.db")
    with pytest.raises(ZeroDivisionError) as caught:
        with copal.snapshot_before_migration("app.db") as net:
            connection.execute("DELETE FROM t")
            connection.commit()
            raise ZeroDivisionError
    (note,) = caught.value.__notes__  # type: ignore[attr-defined]
    assert "NOT put back" in note and net.snapshot is not None and net.snapshot.id in note
    assert "NOT put back" in caplog.text
    connection.close()
    copal.rewind(net.snapshot.id, sources=["app.db"])
    assert count("app.db") == 10


def test_a_connection_that_is_closed_in_time() -> None:
    make("app.db", 10)
    connection = sqlite3.connect("app.db")
    with pytest.raises(ZeroDivisionError) as caught:
        with copal.snapshot_before_migration(connection):
            connection.execute("DROP TABLE t")
            connection.close()
            raise ZeroDivisionError
    assert caught.value.__notes__ == ["copal: the database is as before the block"]  # type: ignore[attr-defined]
    assert count("app.db") == 10


def test_an_engine_gives_its_connections_back() -> None:
    engine = sqlalchemy.create_engine("sqlite:///app.db")
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t (n INTEGER)")
    with pytest.raises(ZeroDivisionError):
        with copal.snapshot_before_migration(engine):
            with engine.begin() as connection:
                connection.exec_driver_sql("DROP TABLE t")
            raise ZeroDivisionError
    assert count("app.db") == 0
    with engine.begin() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM t").scalar() == 0
    engine.dispose()


def test_nothing_runs_without_a_net_unless_it_may() -> None:
    os.mkdir("folder")
    ran = []
    with pytest.raises(copal.CopalError):
        with copal.snapshot_before_migration("sqlite:folder"):
            ran.append(1)
    with copal.snapshot_before_migration("sqlite:folder", best_effort=True) as net:
        ran.append(2)
    assert ran == [2] and net.snapshot is None


def test_the_net_of_coroutines() -> None:
    pytest.importorskip("aiosqlite")
    from sqlalchemy.ext.asyncio import create_async_engine

    make("app.db", 10)

    async def main() -> None:
        engine = create_async_engine("sqlite+aiosqlite:///app.db")
        with pytest.raises(ZeroDivisionError):
            async with copal.aio.snapshot_before_migration(engine):
                async with engine.begin() as connection:
                    await connection.exec_driver_sql("DELETE FROM t")
                raise ZeroDivisionError
        async with engine.begin() as connection:
            assert (await connection.exec_driver_sql("SELECT count(*) FROM t")).scalar() == 10
        await engine.dispose()
        # A cancelled migration is put back, too.
        entered = asyncio.Event()

        async def migrate() -> None:
            async with copal.aio.snapshot_before_migration("app.db"):
                make("app.db", 5)
                entered.set()
                await asyncio.sleep(3600)

        task = asyncio.create_task(migrate())
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert count("app.db") == 10
        taken = await copal.aio.snap("app.db", name="mine")
        assert (await copal.aio.rewind("mine", sources=["app.db"])).id == taken.id
        assert taken.id in [one.id for one in await copal.aio.list_snapshots("app.db")]

    asyncio.run(main())
