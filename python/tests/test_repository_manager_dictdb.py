"""DictDB saved to a repository: indexes, schemas and keys, and random work restored at every point."""

from __future__ import annotations

import copy
import datetime
import os
import random
import shutil
from pathlib import Path
from typing import Any, List, Tuple

import pytest
from dictdb_support import Failures, content, dictdb, raising, rows
from test_dictdb_model import Model

import copal


def manager(db: Any, repository: Any, **more: Any) -> copal.BackupManager:
    more.setdefault("on_backup_failure", raising)
    return copal.BackupManager(db, repository=repository, **more)


def kinds(one: copal.BackupManager) -> List[str]:
    return [backup.kind for backup in one.list()]


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


def shop() -> Any:
    db = dictdb.DictDB()
    db.create_table("users", primary_key="uid")
    users = db.get_table("users")
    users.create_index("age", "sorted")
    users.create_index("city", "hash")
    for number in range(20):
        users.insert({"uid": f"u{number}", "age": number, "city": "Ulm" if number % 2 else "Aue"})
    db.create_table("log")
    db.get_table("log").insert({"text": "first"})
    return db


def test_dictdb_with_indexes_schema_and_keys(repository: str) -> None:
    db = shop()
    users, log = db.get_table("users"), db.get_table("log")
    log.schema = {"id": int, "text": str, "at": datetime.datetime}
    one = manager(db, repository, incremental=True)
    one.backup_now()
    before = content(db)
    when = now()
    log.insert({"text": "second", "at": datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)})
    users.update({"city": "Köln"}, where=users.age == 3)
    users.delete(where=users.age > 15)
    db.create_table("later")
    db.get_table("later").insert({"x": 1})
    one.backup_now()
    assert kinds(one) == ["full", "delta"]
    found = copal.load_store(repository, "dictdb")
    assert content(found) == content(db)
    table = found.get_table("users")
    assert [row["uid"] for row in table.select(where=table.city == "Köln")] == ["u3"]
    found.get_table("log").insert({"text": "third", "at": datetime.datetime(2026, 1, 1)})
    assert max(found.get_table("log").records) == 3
    db.drop_table("later")
    one.backup_now()
    assert content(copal.load_store(repository, "dictdb")) == content(db)
    assert content(copal.load_store(repository, "dictdb", at=when)) == before
    backup = one.restore(at=when, replace=True)
    assert backup.kind == "full" and content(db) == before
    assert db.get_table("users") is users, "what the program holds stays valid"
    found = users.select(where=users.city == "Aue")
    assert len(found) == 10
    one.backup_now()
    assert kinds(one)[-1] == "full" and content(copal.load_store(repository, "dictdb")) == before


def test_changes_that_dictdb_does_not_note_are_found(repository: str) -> None:
    db = shop()
    users = db.get_table("users")
    one = manager(db, repository, incremental=True)
    one.backup_now()
    users.records["new"] = {"uid": "new", "age": 1, "city": "Ulm"}
    users.upsert({"uid": "u1", "age": 50})
    one.backup_now()
    assert kinds(one) == ["full", "full"], "a delta without the row would be one that cannot be restored"
    assert rows(copal.load_store(repository, "dictdb")) == rows(db)
    del users.records["new"]
    users.upsert({"uid": "u2", "age": 50})
    one.backup_now()
    users.upsert({"uid": "u3", "age": 50})
    one.backup_now()
    assert kinds(one) == ["full", "full", "full", "delta"]
    assert rows(copal.load_store(repository, "dictdb")) == rows(db)


def test_plain_dicts_are_no_dictdb(repository: str) -> None:
    manager({"t": {1: {}}}, repository, name="plain").backup_now()
    with pytest.raises(copal.UsageError, match="plain dicts"):
        copal.load_store(repository, "plain")
    db = shop()
    manager(db, repository).backup_now()
    assert copal.load_store(repository, "dictdb", kind="dict") == rows(db)


def test_keys_that_moved_keep_their_place(repository: str) -> None:
    db = shop()
    users = db.get_table("users")
    one = manager(db, repository, incremental=True)
    one.backup_now()
    users.update({"uid": "renamed"}, where=users.age == 4)
    assert users.records["u4"]["uid"] == "renamed"
    one.backup_now()
    assert kinds(one) == ["full", "delta"]
    assert content(copal.load_store(repository, "dictdb")) == content(db)


def test_a_schema_that_cannot_be_kept(repository: str) -> None:
    failures = Failures()
    db = shop()
    db.get_table("log").schema = {"id": int, "text": Failures}
    one = manager(db, repository, on_backup_failure=failures)
    one.backup_now()
    ((error, _),) = failures
    assert isinstance(error, TypeError) and "log" in str(error) and "text" in str(error)
    assert one.list() == []


#: How often everything is to be done; 1 unless ``COPAL_TEST_ROUNDS`` says more. Then it is encrypted, too.
ROUNDS = int(os.environ.get("COPAL_TEST_ROUNDS", "1"))
SEEDS = [random.SystemRandom().randrange(1 << 32) for _ in range(4 * ROUNDS)]


@pytest.mark.parametrize("seed", SEEDS)
def test_every_saved_state_comes_back(tmp_path: Path, seed: int) -> None:
    print("seed", seed)
    rnd = random.Random(seed)
    folder = tmp_path / "repository"
    # Whoever opens an encrypted one derives its key for a quarter of a second, and each state that is loaded opens it.
    repository = copal.Copal(folder, passphrase="oracle" if ROUNDS > 1 else None)
    repository.init(encrypt=ROUNDS > 1)
    model, failures = Model(rnd), Failures()

    def open_manager() -> copal.BackupManager:
        return manager(
            model.db, repository, incremental=True, max_deltas_before_full=5, on_backup_failure=failures, keep=None
        )

    one = open_manager()
    points: List[Tuple[Any, Any]] = []
    expected_failures = 0
    for _ in range(40):
        for _ in range(rnd.randrange(12)):
            model.step()
        assert rows(model.db) == model.tables
        doing = rnd.random()
        if doing < 0.1:
            # The repository is away for a moment.
            shutil.move(str(folder), str(tmp_path / "away"))
            rnd.choice([one.backup_full, one.backup_now])()
            shutil.move(str(tmp_path / "away"), str(folder))
            expected_failures = len(failures)
            continue
        if doing < 0.15:
            one = open_manager()
        if doing < 0.25 and points:
            when, state = rnd.choice(points)
            one.restore(when, replace=True)
            assert content(model.db) == state
            model.tables = copy.deepcopy(rows(model.db))
        before = one.last_success
        rnd.choice([one.backup_now, one.backup_now, one.backup_delta, one.backup_full])()
        assert len(failures) == expected_failures, failures
        if one.last_success != before:
            points.append((now(), copy.deepcopy(content(model.db))))
    # The last try may have been one that failed.
    one.backup_now()
    assert content(copal.load_store(repository, "dictdb")) == content(model.db)
    for when, state in points:
        assert content(copal.load_store(repository, "dictdb", when)) == state
    assert len(points) > 3 and all(checked.problem is None for checked in one.verify())
    assert {"full", "delta"} == set(kinds(one))
