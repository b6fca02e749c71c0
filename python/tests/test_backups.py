"""Backups, lists, restores, verification and retention of files, through functions and methods."""

from __future__ import annotations

import datetime
import os
import pathlib
import pickle
import shutil
import sqlite3
from typing import List

import pytest

import copal


def make(path: "str | os.PathLike[str]", rows: int = 100) -> None:
    """A database with so many rows."""
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE IF NOT EXISTS t (n INTEGER PRIMARY KEY, text)")
    connection.executemany("INSERT INTO t (text) VALUES (?)", ((f"row {n}",) for n in range(rows)))
    connection.commit()
    connection.close()


def count(path: "str | os.PathLike[str]") -> int:
    connection = sqlite3.connect(path)
    (found,) = connection.execute("SELECT count(*) FROM t").fetchone()
    connection.close()
    return int(found)


def test_a_backup_is_listed_restored_and_verified(repository: str) -> None:
    make("app.db")
    first = copal.backup("app.db", repository=repository, label="first")
    make("app.db")
    second = copal.backup(pathlib.Path("app.db"), repository=repository, pin=True)
    assert first.database == second.database and first.id < second.id
    assert (first.engine, first.label, second.pinned, second.damaged) == ("sqlite", "first", True, ())
    assert first.time.tzinfo is datetime.timezone.utc
    assert first.logical_bytes == 8192 and first.added_bytes > 0

    listed = copal.list_backups("app.db", repository=repository)
    assert [backup.id for backup in listed] == [first.id, second.id]
    assert copal.list_backups(repository=repository) == listed
    (database,) = copal.list_databases(repository=repository)
    assert database.source == f"sqlite:{os.path.realpath('app.db')}" and len(database.backups) == 2

    restored = copal.restore("app.db", to="copy.db", repository=repository, check="full")
    assert restored.id == second.id and not restored.replaced and "integrity_check" in restored.checks
    assert count("copy.db") == 200
    copal.restore("app.db", to=pathlib.Path("old.db"), backup=first.id[:17], repository=repository)
    assert count("old.db") == 100
    looked = copal.restore("app.db", repository=repository, replace=True, dry_run=True, at=first.time)
    assert looked.dry_run and looked.id == first.id and count("app.db") == 200
    copal.restore("app.db", repository=repository, replace=True, backup=first.id)
    assert count("app.db") == 100

    verified = copal.verify("app.db", backup="all", repository=repository)
    assert [one.is_good for one in verified] == [True, True]
    (drilled,) = copal.verify("app.db", drill=True, repository=repository)
    assert drilled.drill is not None and drilled.drill.is_good and drilled.is_good
    details = copal.show("app.db", repository=repository)
    assert details.id == second.id and details.verified and details.inventory["tables"]
    (status,) = copal.status("app.db", repository=repository)
    assert status.protected and status.last_backup is not None and status.last_backup.id == second.id


def test_retention_keeps_what_a_rule_wants(repository: str) -> None:
    client = copal.Copal(repository)
    ids: List[str] = []
    for _ in range(4):
        make("app.db", 1)
        ids.append(client.backup("app.db").id)
    assert client.pin("app.db", ids[0]).pinned
    looked = client.prune("app.db", keep=copal.Keep(last=2), dry_run=True)
    assert looked.deleted == (ids[1],) and looked.dry_run
    kept = {one.id: one.reasons for one in looked.kept}
    assert kept[ids[0]] == ("pinned",) and "last" in kept[ids[3]]
    assert not client.unpin("app.db", ids[0]).pinned
    assert client.prune("app.db", keep={"last": 1, "within": datetime.timedelta(0)}).deleted == tuple(ids[:3])
    assert [backup.id for backup in client.list_backups()] == ids[3:]
    # Without a rule, all stay.
    assert client.prune("app.db").deleted == ()
    for wrong in ({"dialy": 7}, {"last": 0}, {"within": "5 apples"}, {"last": "many"}):
        with pytest.raises(copal.UsageError):
            client.prune("app.db", keep=wrong)


@pytest.mark.parametrize(
    "name", ["it's.db", 'quo"te.db', "größe 数据.db", "a:b.db", "per%20cent.db", "que?stion.db", "-dash.db", "new\nline.db"]
)
def test_odd_names_of_files(repository: str, name: str) -> None:
    make(name, 10)
    backup = copal.backup(pathlib.Path(name), repository=repository, label=name)
    assert backup.label == name
    connection = sqlite3.connect(name)
    assert copal.backup(connection, repository=repository).database == backup.database
    connection.close()
    copal.restore(pathlib.Path(name), to=pathlib.Path("copy " + name), repository=repository)
    assert count("copy " + name) == 10


def test_a_name_for_a_database_that_is_not_configured(repository: str, tmp_path: pathlib.Path) -> None:
    make("app.db", 10)
    backup = copal.backup("app.db", name="shop", repository=repository)
    assert backup.database == "shop"
    assert copal.list_backups("shop", repository=repository) == [backup]
    make("other.db", 10)
    with pytest.raises(copal.UsageError, match="stands for"):
        copal.backup("other.db", name="shop", repository=repository)
    assert copal.backup("other.db", name="shop", adopt=True, repository=repository).database == "shop"
    copal.restore("shop", to="copy.db", repository=repository)
    assert count("copy.db") == 10


def test_what_is_not_told_comes_from_the_configuration(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make("app.db", 10)
    (tmp_path / "secret").write_text("correct horse\n")
    (tmp_path / "secret").chmod(0o600)
    (tmp_path / "copal.toml").write_text(
        '[repository]\nurl = "backups"\npassphrase_file = "secret"\n'
        '[databases.shop]\nurl = "sqlite:app.db"\nkeep = { last = 1 }\n'
    )
    made = copal.init()
    assert made.encrypted and made.repository.endswith("/backups")
    first = copal.backup("shop")
    assert copal.backup("app.db").database == first.database == "shop"
    assert copal.prune("shop").deleted == (first.id,)
    monkeypatch.chdir("/")
    assert len(copal.list_backups("shop", config=tmp_path / "copal.toml")) == 1
    with pytest.raises(copal.ConfigurationError):
        copal.list_backups(config="nowhere.toml")
    # The explicit one goes before.
    with pytest.raises(copal.PassphraseError):
        copal.list_backups(config=tmp_path / "copal.toml", passphrase="wrong")
    assert copal.list_backups(repository=str(tmp_path / "backups"), passphrase="correct horse")


def test_the_default_repository_is_made_when_it_is_needed(home: pathlib.Path) -> None:
    make("app.db", 1)
    with pytest.raises(copal.NotFoundError):
        copal.list_backups()
    copal.backup("app.db")
    assert len(copal.list_backups()) == 1
    assert (home / ".local/share/copal/repository/copal.json").exists()


def test_a_client_stays_with_its_repository(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make("app.db", 1)
    client = copal.Copal("backups")
    assert client.init(encrypt=False).repository == f"file://{tmp_path}/backups"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert client.backup(tmp_path / "app.db") in client.list_backups()
    assert client.list_backups("../app.db") == client.list_backups()
    copied = pickle.loads(pickle.dumps(client))
    assert copied.list_backups() == client.list_backups() == pickle.loads(pickle.dumps(client.list_backups()))
    # Another repository in its place is another repository.
    shutil.rmtree(tmp_path / "backups")
    with pytest.raises(copal.NotFoundError):
        client.list_backups()
    copal.init(tmp_path / "backups", encrypt=False)
    assert client.list_backups() == []


def test_answers_do_not_change(repository: str) -> None:
    make("app.db", 1)
    backup = copal.backup("app.db", repository=repository)
    with pytest.raises(AttributeError):
        backup.label = "other"  # type: ignore[misc]
    with pytest.raises(AttributeError):
        object.__getattribute__(backup, "__dict__")
    from copal import _values, results

    # What a later version adds is no trouble.
    told = {**{"database": "d", "id": "i", "time": "2026-11-20T15:30:00.123456789+01:30", "engine": "e", "pinned": False}}
    told.update({"verified": True, "logical_bytes": 1, "added_bytes": 2, "stored_bytes": 3, "future": [1]})
    made = results.Backup.from_json(told)
    assert made.time == datetime.datetime(2026, 11, 20, 14, 0, 0, 123456, tzinfo=datetime.timezone.utc)
    assert made.label is None and _values.parse_time(_values.format_time(made.time)) == made.time


def test_progress_is_told_in_order(repository: str) -> None:
    make("app.db", 50_000)
    told: List[copal.Progress] = []
    copal.backup("app.db", repository=repository, progress=told.append)
    # Phases that are over in less than a tenth of a second may be left out.
    assert {one.phase for one in told} <= {"reading", "counting", "storing"} and told[0].done_bytes >= 0
    assert all(one.done_bytes <= (one.total_bytes or one.done_bytes) for one in told)
    told.clear()
    copal.restore("app.db", to="copy.db", repository=repository, progress=told.append)
    assert told and {one.phase for one in told} <= {"restoring", "writing", "checking", "replacing"}


def test_wrong_calls_are_told_at_once(repository: str) -> None:
    make("app.db", 1)
    copal.backup("app.db", repository=repository)
    naive = datetime.datetime(2026, 1, 1)
    wrong = [
        lambda: copal.restore("app.db", at=naive, repository=repository),
        lambda: copal.restore("app.db", check="thorough", repository=repository),
        lambda: copal.restore("app.db", at=naive.astimezone(), backup="2026", repository=repository),
        lambda: copal.restore("app.db", backup="newest", repository=repository),
        lambda: copal.verify(backup="20261120-153000Z-7f3a", repository=repository),
        lambda: copal.backup("", repository=repository),
        lambda: copal.backup(42, repository=repository),
        lambda: copal.Copal(repository, s3={"endpiont": "x"}).list_backups(),
    ]
    for call in wrong:
        with pytest.raises(copal.UsageError):
            call()
    with pytest.raises(ValueError):
        copal.backup(42, repository=repository)
