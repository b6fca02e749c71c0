"""The files: DictDB reads ours, we read DictDB's, none of its defects, and no damage is passed over."""

from __future__ import annotations

import datetime
import json
import pickle
import time
import warnings
from pathlib import Path
from typing import Any, List

import pytest
from dictdb_support import Failures, content, database, dictdb, raising, rows

import copal
from copal.dictdb.folder import scan
from dictdb.storage.persist import apply_delta

FORMATS = ["json", "pickle"]


def manager(db: Any, folder: Path, **more: Any) -> copal.BackupManager:
    more.setdefault("on_backup_failure", raising)
    return copal.BackupManager(db, folder, **more)


def load(folder: Path, at: Any = None) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return copal.load_dictdb(folder, at, allow_pickle=True)


def change(db: Any) -> None:
    users = db.get_table("users")
    users.update({"name": "changed"}, where=users.id == 2)
    users.delete(where=users.id == 3)
    users.insert({"name": "née \ud83d", "age": 5})


def saved(folder: Path, kind: str = "full") -> List[Path]:
    return [file.path for file in scan(folder) if file.kind == kind]


@pytest.mark.parametrize("form", FORMATS)
def test_dictdb_reads_what_we_wrote(tmp_path: Path, form: str) -> None:
    db = database()
    one = manager(db, tmp_path, file_format=form, incremental=True)
    one.backup_now()
    change(db)
    one.backup_now()
    (full,), (delta,) = saved(tmp_path), saved(tmp_path, "delta")
    theirs = dictdb.DictDB.load(full, form)
    apply_delta(theirs, delta)
    assert rows(theirs) == rows(db)
    assert theirs.get_table("users").schema == db.get_table("users").schema


def test_a_full_is_what_dictdb_would_have_written_and_one_line(tmp_path: Path) -> None:
    db = database(3000)
    db.create_table("empty")
    db.save(tmp_path / "theirs.json", "json")
    manager(db, tmp_path / "ours").backup_full()
    ours = saved(tmp_path / "ours")[0].read_text()
    theirs = (tmp_path / "theirs.json").read_text()
    assert ours.startswith(theirs[: -len("\n}\n")] + ',\n    "copal": ')
    assert ours.endswith('"}\n}\n') and ours.count("\n") == theirs.count("\n") + 1


@pytest.mark.parametrize("form", FORMATS)
def test_we_read_what_dictdb_wrote_and_say_what_is_missing(tmp_path: Path, form: str) -> None:
    db = database()
    theirs = dictdb.BackupManager(db, tmp_path, file_format=form, incremental=True)
    theirs.backup_full()
    change(db)
    db.create_table("late")
    db.get_table("late").insert({"x": 1})
    theirs.backup_delta()
    with pytest.warns(copal.IncompleteBackupWarning) as told:
        ours = copal.load_dictdb(tmp_path, allow_pickle=True)
    assert rows(ours) == rows(db)
    texts = " ".join(str(one.message) for one in told)
    assert "indexes" in texts and "'late' is in no full backup before" in texts
    assert all(one.filename == __file__ for one in told)


def test_stale_deltas_are_not_applied(tmp_path: Path) -> None:
    db = database()
    users = db.get_table("users")
    theirs = dictdb.BackupManager(db, tmp_path, incremental=True)
    theirs.backup_full()
    users.update({"name": "old2"}, where=users.id == 1)
    theirs.backup_delta()
    users.update({"name": "new"}, where=users.id == 1)
    theirs.backup_full()
    with pytest.warns(copal.IncompleteBackupWarning):
        assert copal.load_dictdb(tmp_path).get_table("users").records[1]["name"] == "new"


def test_deltas_of_dictdb_without_a_full_are_told(tmp_path: Path) -> None:
    db = database()
    dictdb.BackupManager(db, tmp_path, incremental=True).backup_now()
    with pytest.warns(copal.IncompleteBackupWarning, match="no full backup under"):
        assert rows(copal.load_dictdb(tmp_path)) == rows(db)


@pytest.mark.parametrize("form", FORMATS)
def test_the_first_incremental_backup_is_a_full(tmp_path: Path, form: str) -> None:
    db = database()
    one = manager(db, tmp_path, incremental=True, file_format=form)
    one.backup_now()
    assert [file.kind for file in one.list()] == ["full"] and one.deltas_since_full == 0
    manager(db, tmp_path, incremental=True).backup_delta()
    assert [file.kind for file in one.list()] == ["full", "full"]


@pytest.mark.parametrize("form", FORMATS)
def test_created_dropped_and_replaced_tables_schema_and_indexes_come_back(tmp_path: Path, form: str) -> None:
    db = database()
    db.create_table("gone")
    db.create_table("again")
    db.get_table("again").insert({"old": 1})
    one = manager(db, tmp_path, incremental=True, file_format=form)
    one.backup_now()
    db.create_table("late", "code")
    db.get_table("late").insert({"code": "x", "v": [1, {"y": None}]})
    db.get_table("late").create_index("v2", "sorted")
    db.drop_table("gone")
    db.drop_table("again")
    db.create_table("again")
    db.get_table("again").insert({"id": 7, "new": 2})
    db.get_table("users").create_index("id", "sorted")
    one.backup_now()
    assert one.deltas_since_full == 1
    assert content(load(tmp_path)) == content(db)
    users = load(tmp_path).get_table("users")
    key = users.insert({"name": "after", "age": 89})
    assert key == 6 and [row["id"] for row in users.select(where=users.name == "after")] == [6]


def test_indexes_follow_deltas(tmp_path: Path) -> None:
    db = database()
    one = manager(db, tmp_path, incremental=True)
    one.backup_now()
    change(db)
    one.backup_now()
    users = load(tmp_path).get_table("users")
    assert [row["id"] for row in users.select(where=users.name == "changed")] == [2]
    assert users.select(where=users.name == "user 2") == []
    assert len(users.select(where=users.age >= 5)) == 2


def test_a_full_clears_the_tracking_and_a_failed_one_does_not(tmp_path: Path) -> None:
    db = database()
    failures = Failures()
    one = manager(db, tmp_path, on_backup_failure=failures, incremental=True)
    one.backup_full()
    assert not db.get_table("users").has_changes()
    one.backup_delta()
    assert len(one.list()) == 1
    change(db)
    db.get_table("users").update({"age": 4}, where=db.get_table("users").id == 1)
    db.get_table("users").records[1]["bad"] = {1}
    one.backup_delta()
    one.backup_full()
    assert [type(error) for error, _ in failures] == [TypeError, TypeError] and one.consecutive_failures == 2
    assert db.get_table("users").has_changes()
    assert len(one.list()) == 1 and not [path for path in tmp_path.iterdir() if "staging" in path.name]
    del db.get_table("users").records[1]["bad"]
    one.backup_delta()
    assert one.consecutive_failures == 0 and content(load(tmp_path)) == content(db)


def test_updates_of_the_primary_key_come_back(tmp_path: Path) -> None:
    db = database()
    users = db.get_table("users")
    users.update({"id": 50}, where=users.id == 1)
    one = manager(db, tmp_path, incremental=True)
    one.backup_now()
    assert content(load(tmp_path)) == content(db)
    users.update({"id": 60}, where=users.id == 2)
    one.backup_now()
    assert content(load(tmp_path)) == content(db)


def test_two_managers_of_one_database_both_have_everything(tmp_path: Path) -> None:
    db = database()
    both = [manager(db, tmp_path / name, incremental=True) for name in "ab"]
    for one in both:
        one.backup_now()
    for number in range(4):
        db.get_table("users").insert({"name": "x", "age": number})
        both[number % 2].backup_now()
    for one in both:
        one.backup_now()
    assert content(load(tmp_path / "a")) == content(load(tmp_path / "b")) == content(db)


def test_two_managers_on_one_folder_never_mix_their_chains(tmp_path: Path) -> None:
    db = database()
    a, b = (manager(db, tmp_path, incremental=True) for _ in range(2))
    for one in (a, a, b, b, a, b, b):
        db.get_table("users").insert({"name": "more", "age": 1})
        one.backup_now()
        assert content(load(tmp_path)) == content(db)
    assert [file.kind for file in a.list()] == ["full", "delta", "full", "delta", "full", "full", "delta"]
    assert all(checked.problem is None for checked in a.verify())


def test_every_point_in_time_can_be_had(tmp_path: Path) -> None:
    db = database()
    one = manager(db, tmp_path, incremental=True, max_deltas_before_full=2)
    states = []
    for number in range(7):
        db.get_table("users").insert({"name": f"n{number}", "age": number})
        one.backup_now()
        states.append((one.list()[-1].time, content(db)))
    for when, state in states:
        assert content(load(tmp_path, when)) == state
        assert content(load(tmp_path, when + datetime.timedelta(microseconds=1))) == state
    with pytest.raises(copal.NotFoundError):
        load(tmp_path, states[0][0] - datetime.timedelta(microseconds=1))
    with pytest.raises(copal.UsageError, match="no zone"):
        load(tmp_path, datetime.datetime.now())


def chain(tmp_path: Path) -> List[Path]:
    db = database()
    one = manager(db, tmp_path, incremental=True)
    for _ in range(4):
        db.get_table("users").insert({"name": "n", "age": 1})
        one.backup_now()
    return [file.path for file in scan(tmp_path)]


@pytest.mark.parametrize("victim", range(4))
@pytest.mark.parametrize("damage", ["delete", "cut", "flip", "empty"])
def test_damage_is_an_error_that_names_the_file(tmp_path: Path, victim: int, damage: str) -> None:
    path = chain(tmp_path)[victim]
    data = path.read_bytes()
    if damage == "delete":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        middle = data.index(b"user" if victim == 0 else b'"age": 1') + 2
        path.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(copal.DamageError) as error:
            copal.load_dictdb(tmp_path)
    assert path.name in str(error.value)
    checked = copal.BackupManager(dictdb.DictDB(), tmp_path).verify()
    assert [one.backup.name for one in checked if one.problem] or (damage == "delete" and victim == 3)


def test_an_older_state_is_named_and_can_be_asked_for(tmp_path: Path) -> None:
    db = database()
    one = manager(db, tmp_path)
    one.backup_now()
    before = content(db)
    db.get_table("users").insert({"name": "lost", "age": 1})
    one.backup_now()
    old, new = saved(tmp_path)
    new.write_bytes(new.read_bytes()[:-20])
    with pytest.raises(copal.DamageError) as error:
        load(tmp_path)
    assert new.name in str(error.value) and old.name in str(error.value.hint)
    asked = str(error.value.hint).split("at=")[1]
    assert content(load(tmp_path, eval(asked, {"datetime": datetime.datetime}))) == before


def test_a_delta_of_another_chain_is_an_error(tmp_path: Path) -> None:
    files = chain(tmp_path / "a")
    other = chain(tmp_path / "b")
    other[2].rename(tmp_path / "a" / f"dictdb_delta_{int(time.time()) + 9}_000001.json")
    with pytest.raises(copal.DamageError, match="belongs to another chain|is missing"):
        load(tmp_path / "a")
    assert files


def test_pickles_are_read_only_when_asked_for_and_never_run(tmp_path: Path) -> None:
    db = database()
    manager(db, tmp_path, file_format="pickle").backup_now()
    with pytest.raises(copal.UsageError, match="pickle"):
        copal.load_dictdb(tmp_path)
    assert content(load(tmp_path)) == content(db)

    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    (tmp_path / f"dictdb_backup_{int(time.time()) + 9}_000000.pickle").write_bytes(
        pickle.dumps({"t": {1: {"v": Evil()}}})
    )
    with pytest.raises(copal.DamageError, match="neither of DictDB nor a plain value|cannot be read"):
        load(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_values_that_no_pickle_may_hold_fail_the_backup_not_the_restore(tmp_path: Path) -> None:
    db = database(0)
    db.create_table("t")
    failures = Failures()
    one = manager(db, tmp_path, file_format="pickle", on_backup_failure=failures)
    when = datetime.datetime(2020, 1, 1)
    db.get_table("t").insert({"v": (when, {1, 2}, b"x", frozenset([1.5]))})
    one.backup_now()
    assert not failures and content(load(tmp_path)) == content(db)
    db.get_table("t").insert({"v": Own()})
    one.backup_now()
    assert isinstance(failures[0][0], pickle.PicklingError)


class Own:
    """A class that a restore would not know."""


def test_values_that_only_pickle_keeps_make_a_full_instead_of_a_delta(tmp_path: Path) -> None:
    db = database(0)
    db.create_table("t")
    one = manager(db, tmp_path, file_format="pickle", incremental=True)
    one.backup_now()
    db.get_table("t").insert({"v": 1})
    one.backup_now()
    db.get_table("t").insert({"v": (1, 2)})
    one.backup_now()
    assert [file.kind for file in one.list()] == ["full", "delta", "full"]
    assert content(load(tmp_path)) == content(db)


def test_keys_that_json_cannot_hold_fail_the_backup(tmp_path: Path) -> None:
    db = database(0)
    failures = Failures()
    db.get_table("users").insert({"id": (1, 2), "name": "x", "age": 1}, skip_validation=True)
    manager(db, tmp_path, on_backup_failure=failures).backup_now()
    assert "cannot hold the key (1, 2)" in str(failures[0][0])


def test_plain_dicts(tmp_path: Path) -> None:
    db = {"a": {1: {"v": 1}, "two": {"v": [1]}}, "b": {}}
    one = manager(db, tmp_path, incremental=True)
    one.backup_now()
    one.backup_now()
    assert len(one.list()) == 1
    db["a"][1]["v"] = 2
    del db["a"]["two"]
    del db["b"]
    db["c"] = {None: {"x": 1.5}}
    one.backup_now()
    assert [file.kind for file in one.list()] == ["full", "delta"]
    assert copal.load_tables(tmp_path) == db
    other: Any = {"a": {}}
    held = other["a"]
    manager(other, tmp_path).restore()
    assert other == db and other["a"] is held


def test_restore_fills_the_tables_that_the_program_holds(tmp_path: Path) -> None:
    db = database()
    one = manager(db, tmp_path, incremental=True)
    one.backup_now()
    before = content(db)
    users = db.get_table("users")
    change(db)
    db.create_table("other")
    with pytest.raises(copal.ExistsError):
        one.restore()
    one.restore(replace=True)
    assert content(db) == before and db.get_table("users") is users and not users.has_changes()
    users.insert({"name": "after", "age": 3})
    one.backup_now()
    assert one.list()[-1].kind == "full" and content(load(tmp_path)) == content(db)


def test_retention_keeps_what_newer_deltas_need(tmp_path: Path) -> None:
    db = database()
    one = manager(db, tmp_path, incremental=True, max_deltas_before_full=3, keep={"last": 3})
    for number in range(20):
        db.get_table("users").insert({"name": "n", "age": number})
        one.backup_now()
        kinds = [file.kind for file in one.list()]
        assert kinds[0] == "full" and len(kinds) >= min(number + 1, 3) and len(kinds) <= 6
        assert content(load(tmp_path)) == content(db)
        assert all(checked.problem is None for checked in one.verify())
    with pytest.raises(copal.UsageError):
        manager(db, tmp_path, keep={"lastt": 3})


def test_what_dictdb_ignores_is_json(tmp_path: Path) -> None:
    for path in chain(tmp_path):
        assert json.loads(path.read_text())["copal"]["format"] == 1
