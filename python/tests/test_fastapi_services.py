"""Services that back themselves up while they are written to: each backup is restored and has to hold what it
promised."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import postgres_server
import pytest
from conftest import wait_for
from services import Load, Service, assert_one_each_time, example

import copal

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")


def some_backups(service: Service, name: str, count: int) -> None:
    """Waits for so many, and that nothing has failed."""
    wait_for(lambda: len(service.backups(name)) >= count, f"{count} backups")
    status = service.status()
    assert status["protected"], status
    (job,) = status["jobs"]
    assert (job["consecutive_failures"], job["problems"]) == (0, []), status


def test_sqlite_under_load(tmp_path: Path, repository: str) -> None:
    folder = example("python-sqlite-fastapi", tmp_path)
    database = folder / "ledger.db"
    environment = {"DATABASE": str(database), "BACKUPS": repository, "BACKUP_SCHEDULE": "every 2s"}
    with Service(folder, **environment).ready() as service:
        load = Load(f"{service.url}/entries", lambda number: {"text": f"entry {number}", "cents": number})
        some_backups(service, "ledger", 3)
        load.stop()
        assert not load.failures
    made = copal.list_backups("ledger", repository=repository)
    assert len(made) >= 3
    assert_one_each_time(made, 2)
    for backup in made[-3:]:
        copy = tmp_path / f"{backup.id}.db"
        copal.restore("ledger", backup=backup.id, to=copy, repository=repository)
        connection = sqlite3.connect(copy)
        (rows, total), (balance,) = (
            connection.execute(sql).fetchone()
            for sql in ("SELECT count(*), coalesce(sum(cents), 0) FROM entries", "SELECT cents FROM balance")
        )
        connection.close()
        assert total == balance
        assert load.before(backup.time.timestamp()) <= rows <= load.sent


def test_duckdb_under_load(tmp_path: Path, repository: str) -> None:
    duckdb = pytest.importorskip("duckdb")
    folder = example("python-duckdb-weekly", tmp_path)
    environment = {"DATABASE": str(folder / "m.duckdb"), "BACKUPS": repository, "BACKUP_SCHEDULE": "every 2s"}
    with Service(folder, **environment).ready() as service:
        load = Load(f"{service.url}/measurements", lambda number: {"sensor": f"s{number % 3}", "value": number})
        some_backups(service, "measurements", 3)
        load.stop()
        assert not load.failures
    made = copal.list_backups("measurements", repository=repository)
    assert_one_each_time(made, 2)
    for backup in made[-3:]:
        copy = tmp_path / f"{backup.id}.duckdb"
        copal.restore("measurements", backup=backup.id, to=copy, repository=repository)
        with duckdb.connect(str(copy)) as connection:
            rows = connection.execute(
                "SELECT sensor, sum(value), count(*) FROM measurements GROUP BY sensor"
            ).fetchall()
            sums = connection.execute("SELECT sensor, value, count FROM sums").fetchall()
        assert sorted(rows) == sorted(sums)
        assert load.before(backup.time.timestamp()) <= sum(count for _, _, count in rows) <= load.sent


def test_postgres_under_load_with_migrations_and_the_restore_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = postgres_server.shared()
    server.sql("postgres", "CREATE DATABASE shop")
    folder = example("python-fastapi-postgres", tmp_path)
    text = (folder / "copal.toml").read_text()
    (folder / "copal.toml").write_text(text.replace('"0 3 * * *"', '"every 2s"'))
    monkeypatch.setenv("DATABASE_URL", server.url("shop", "postgresql+psycopg"))
    monkeypatch.setenv("BACKUPS", str(tmp_path / "backups"))
    monkeypatch.setenv("COPAL_PASSPHRASE", "a passphrase")

    def command(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-B", "backups.py", *arguments], cwd=folder, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    command("init")
    with Service(folder).ready() as service:
        load = Load(f"{service.url}/orders", lambda number: {"customer": f"c{number % 3}", "cents": number})
        some_backups(service, "shop", 2)
        load.stop()
        assert not load.failures
    made = copal.list_backups("shop", config=folder / "copal.toml")
    assert_one_each_time(made, 2)
    assert command("list").splitlines()[-1].startswith(made[-1].id)
    command("restore", "--at", made[-1].time.isoformat(), "--to", server.url("copy"))
    (sums,) = server.sql("copy", "SELECT count(*), sum(cents), (SELECT sum(cents) FROM customers) FROM orders")
    rows, ordered, bought = (int(value or 0) for value in sums)
    assert ordered == bought
    assert load.before(made[-1].time.timestamp()) <= rows <= load.sent
    assert server.sql("copy", "SELECT version_num FROM alembic_version") == [["0001"]]


def test_two_workers_make_one_backup_each_time_and_take_turns_with_new_ones(tmp_path: Path, repository: str) -> None:
    folder = example("python-sqlite-fastapi", tmp_path)
    environment = {"DATABASE": str(folder / "ledger.db"), "BACKUPS": repository, "BACKUP_SCHEDULE": "every 2s"}
    with sqlite3.connect(folder / "ledger.db") as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    with Service(folder, "--workers", "2", **environment).ready() as service:
        wait_for(lambda: len(service.backups("ledger")) >= 3, "backups")
        # The supervisor replaces its workers one after the other.
        os.kill(service.process.pid, signal.SIGHUP)
        wait_for(lambda: service.log.read_text().count("Application startup complete") >= 4, "new workers")
        have = len(service.ready().backups("ledger"))
        wait_for(lambda: len(service.backups("ledger")) >= have + 2, "backups of the new workers")
    made = copal.list_backups("ledger", repository=repository)
    assert_one_each_time(made, 2)


def test_reloading_goes_on(tmp_path: Path, repository: str) -> None:
    folder = example("python-sqlite-fastapi", tmp_path)
    environment = {"DATABASE": str(folder / "ledger.db"), "BACKUPS": repository, "BACKUP_SCHEDULE": "every 2s"}
    with sqlite3.connect(folder / "ledger.db") as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    with Service(folder, "--reload", **environment).ready() as service:
        for reloads in (1, 2):
            with open(folder / "main.py", "a") as file:
                file.write(f"# {reloads}\n")
            wait_for(lambda: service.log.read_text().count("Application startup complete") > reloads, "a reload")
            have = len(service.ready().backups("ledger"))
            wait_for(lambda: len(service.backups("ledger")) > have, "a backup after the reload")
    made = copal.list_backups("ledger", repository=repository)
    assert_one_each_time(made, 2)


def test_a_service_with_a_wrong_configuration_does_not_start_and_says_why(tmp_path: Path) -> None:
    folder = example("python-sqlite-fastapi", tmp_path)
    with Service(folder, BACKUP_SCHEDULE="0 3 * *") as service:
        assert service.process.wait(120) != 0
        assert "0 3 * *" in service.log.read_text() or "five fields" in service.log.read_text()
