"""A PostgreSQL that is written to, through URLs and engines, in this process."""

from __future__ import annotations

import asyncio
import os
import pathlib
import threading
from typing import Any, Iterator, List

import postgres_server
import pytest
from conftest import children
from postgres_server import PASSWORD

import copal

sqlalchemy = pytest.importorskip("sqlalchemy")
pytest.importorskip("psycopg")
pytest.importorskip("asyncpg")


@pytest.fixture
def shop(tmp_path: pathlib.Path) -> Iterator[Any]:
    """An engine of a database with accounts, whose sum is known."""
    server = postgres_server.shared()
    name = f"shop {os.path.basename(tmp_path)}"
    server.sql("postgres", f'CREATE DATABASE "{name}"')
    address = ("127.0.0.1", server.port, name)
    engine = sqlalchemy.create_engine(
        sqlalchemy.URL.create("postgresql+psycopg", postgres_server.GUARDED, PASSWORD, *address)
    )
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE account (id serial PRIMARY KEY, balance integer)")
        connection.exec_driver_sql("INSERT INTO account (balance) SELECT 100 FROM generate_series(1, 2000)")
    yield engine
    engine.dispose()


def balance(engine: Any) -> Any:
    with engine.begin() as connection:
        return tuple(connection.exec_driver_sql("SELECT count(*), sum(balance) FROM account").one())


def test_backups_under_writers(shop: Any, repository: str) -> None:
    stop = threading.Event()
    failures: List[BaseException] = []

    def write() -> None:
        try:
            turn = 0
            while not stop.is_set():
                turn += 1
                with shop.begin() as connection:
                    for change, id in ((-1, turn % 2000 + 1), (1, turn * 7 % 2000 + 1)):
                        connection.exec_driver_sql(f"UPDATE account SET balance = balance + {change} WHERE id = {id}")
        except BaseException as error:
            failures.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        before = children(os.getpid())
        first = copal.backup(shop, repository=repository, name="shop")
        assert first.engine == "postgres" and first.database == "shop"
        # A server's locks are its own: nothing was run beside.
        assert children(os.getpid()) == before
        second = copal.backup(shop.url.render_as_string(hide_password=False), repository=repository, name="shop")
        assert second.database == first.database
    finally:
        stop.set()
        writer.join()
    assert not failures
    target = shop.url.set(database=shop.url.database + " copy")
    restored = copal.restore("shop", to=target.render_as_string(hide_password=False), repository=repository)
    assert PASSWORD not in repr(restored) and "s%40cret" not in repr(restored)
    copy = sqlalchemy.create_engine(target)
    assert balance(copy) == (2000, 200_000)
    copy.dispose()


def test_an_async_engine(shop: Any, repository: str) -> None:
    from sqlalchemy.ext.asyncio import create_async_engine

    async def main() -> None:
        engine = create_async_engine(shop.url.set(drivername="postgresql+asyncpg"))
        backup = await copal.aio.backup(engine, repository=repository)
        assert await copal.aio.list_backups(engine, repository=repository) == [backup]
        assert copal.list_backups(shop, repository=repository) == [backup]
        await engine.dispose()

    asyncio.run(main())


def test_wrong_passwords_and_missing_databases(shop: Any, repository: str) -> None:
    wrong = shop.url.set(password="hush").render_as_string(hide_password=False)
    with pytest.raises(copal.PermissionDeniedError) as caught:
        copal.backup(wrong, repository=repository)
    assert "hush" not in str(caught.value) and isinstance(caught.value, PermissionError)
    missing = shop.url.set(database="nothing").render_as_string(hide_password=False)
    with pytest.raises(copal.NotFoundError):
        copal.backup(missing, repository=repository)
    with pytest.raises(copal.CopalError) as failed:
        copal.backup("postgres://postgres:hush@127.0.0.1:1/shop", repository=repository)
    assert "127.0.0.1:1" in failed.value.message and "hush" not in str(failed.value)


def test_a_migration_that_fails_is_put_back(shop: Any) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        with copal.snapshot_before_migration(shop) as net:
            with shop.begin() as connection:
                connection.exec_driver_sql("DROP TABLE account")
            raise ZeroDivisionError
    assert caught.value.__notes__ == ["copal: the database is as before the block"], net  # type: ignore[attr-defined]
    assert balance(shop) == (2000, 200_000)
    with copal.snapshot_before_migration(shop, keep=1) as net:
        with shop.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE account ADD COLUMN note text")
    assert net.snapshot is not None and [one.id for one in copal.list_snapshots(shop)] == [net.snapshot.id]
    copal.remove_snapshot(net.snapshot.id, shop)


def test_the_databases_of_a_whole_server(shop: Any, repository: str) -> None:
    client = copal.Copal(repository)
    whole = shop.url.set(database="*").render_as_string(hide_password=False)
    members = client.members(whole)
    (mine,) = [one for one in members if one.endswith(shop.url.database.replace(" ", "%20"))]
    assert client.backup(mine).engine == "postgres"
    with pytest.raises(copal.CopalError) as caught:
        client.backup(whole)
    assert PASSWORD not in str(caught.value) and "whole server" in caught.value.message
