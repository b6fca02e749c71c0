"""Defects that a critical reader found in folders of backups: lost files, clocks, several databases, hostile and vanishing files."""

from __future__ import annotations

import datetime
import hashlib
import os
import time
import uuid
from pathlib import Path
from typing import Any, Callable, List

import pytest
from dictdb_support import Failures, database, raising

import copal
from copal.dictdb.files import FilesDestination
from copal.dictdb.folder import PRUNED_NAME, scan
from copal.dictdb.live import DictDbSource
from copal.dictdb.plainpickle import read_pickle

DAY = 86_400.0


def manager(db: Any, folder: Path, **more: Any) -> copal.BackupManager:
    more.setdefault("on_backup_failure", raising)
    return copal.BackupManager(db, folder, **more)


def value(folder: Path, at: Any = None) -> Any:
    return copal.load_tables(folder, at)["t"][1]["v"]


def save(one: copal.BackupManager, values: Any, full: bool = False) -> None:
    for new in values:
        one.db["t"][1]["v"] = new
        if full:
            one.backup_full()
        else:
            one.backup_now()


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


# What is missing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("victim", [1, 2])
def test_a_delta_missing_before_the_time_asked_for_is_noticed(tmp_path: Path, victim: int) -> None:
    one = manager({"t": {1: {"v": 0}}}, tmp_path, incremental=True)
    save(one, [1, 2, 3])
    save(one, [4], full=True)
    save(one, [5])
    listed = one.list()
    asked = listed[victim].time
    (tmp_path / listed[victim].name).unlink()
    with pytest.raises(copal.DamageError, match=f"follows {listed[victim].name}, which is missing") as error:
        value(tmp_path, asked)
    hint = str(error.value.hint).split("at=")[1]
    assert value(tmp_path, eval(hint, {"datetime": datetime.datetime})) == victim
    assert value(tmp_path) == 5
    problems = [checked.backup.name for checked in one.verify() if checked.problem]
    # A full does not need what it follows: only the missing delta is told.
    assert listed[victim].name in problems if victim == 2 else listed[2].name in problems
    assert listed[3].name not in problems


def test_two_missing_deltas_are_noticed(tmp_path: Path) -> None:
    one = manager({"t": {1: {"v": 0}}}, tmp_path, incremental=True)
    save(one, [1, 2, 3, 4])
    listed = one.list()
    for gone in (1, 2):
        (tmp_path / listed[gone].name).unlink()
    with pytest.raises(copal.DamageError, match="is missing"):
        value(tmp_path, listed[1].time)
    assert value(tmp_path, listed[0].time) == 1


def test_a_missing_full_is_noticed(tmp_path: Path) -> None:
    one = manager({"t": {1: {"v": 0}}}, tmp_path)
    save(one, [1, 2, 3])
    listed = one.list()
    (tmp_path / listed[1].name).unlink()
    with pytest.raises(copal.DamageError, match="is missing"):
        value(tmp_path, listed[1].time)
    assert value(tmp_path, listed[0].time) == 1 and value(tmp_path) == 3
    assert [checked.backup.name for checked in one.verify() if checked.problem] == [listed[1].name]


def test_the_newest_is_missed_with_a_time_too(tmp_path: Path) -> None:
    one = manager({"t": {1: {"v": 0}}}, tmp_path, incremental=True)
    save(one, [1, 2])
    first, last = one.list()
    (tmp_path / last.name).unlink()
    for asked in (None, last.time, now()):
        with pytest.raises(copal.DamageError, match=f"the newest backup {last.name} is missing"):
            value(tmp_path, asked)
    assert value(tmp_path, first.time) == 1
    assert [(checked.backup.name, bool(checked.problem)) for checked in one.verify()] == [
        (first.name, False),
        (last.name, True),
    ]


def test_what_rules_deleted_is_not_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = manager({"t": {1: {"v": 0}}}, tmp_path, incremental=True, max_deltas_before_full=2, keep={"daily": 9})
    # At noon everywhere near: days do not end between backups that belong together.
    start = datetime.datetime.now().replace(hour=12, minute=0, second=0, microsecond=0).timestamp() - 10 * DAY
    clock = [start]
    monkeypatch.setattr(time, "time", lambda: clock[0])
    for day in range(4):
        for hour in range(5):
            clock[0] = start + day * DAY + hour * 60
            save(one, [day * 10 + hour])
    monkeypatch.undo()
    kept = one.list()
    assert len(kept) < 12 and all(checked.problem is None for checked in one.verify())
    for backup, after in zip(kept, kept[1:]):
        between = backup.time + (after.time - backup.time) / 2
        assert value(tmp_path, between) == value(tmp_path, backup.time)
    # Where nobody can know what was deleted, nothing is missed either.
    (tmp_path / PRUNED_NAME).unlink()
    assert all(checked.problem is None for checked in one.verify())
    save(one, [100], full=True)
    assert all(checked.problem is None for checked in one.verify())


# Clocks ---------------------------------------------------------------------------------------------------------------


def test_a_clock_that_leaps_deletes_nothing_and_times_stay_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.time
    one = manager({"t": {1: {"v": 0}}}, tmp_path, keep={"within": "5d", "last": 1})
    save(one, [1, 2, 3])
    before = one.list()[-1].time
    monkeypatch.setattr(time, "time", lambda: real() + 400 * DAY)
    save(one, [4, 5])
    assert len(one.list()) == 5
    monkeypatch.undo()
    began = now()
    save(one, [6])
    between = now()
    time.sleep(0.001)
    save(one, [7])
    listed = one.list()
    assert len(listed) == 7 and began <= listed[5].time <= between <= listed[6].time <= now()
    assert sorted(listed, key=lambda backup: backup.name) == list(listed)
    assert value(tmp_path) == 7 and value(tmp_path, now()) == 7 and value(tmp_path, between) == 6
    assert value(tmp_path, before) == 3
    assert all(checked.problem is None for checked in one.verify())


def test_backups_grow_old_after_a_leap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.time
    one = manager({"t": {1: {"v": 0}}}, tmp_path, keep={"within": "5d"})
    save(one, [1, 2])
    for days, left in ((400, 3), (403, 4), (406, 2)):
        monkeypatch.setattr(time, "time", lambda days=days: real() + days * DAY)
        save(one, [days])
        assert len(one.list()) == left


def test_a_wrong_clock_takes_one_day_of_the_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.time
    one = manager({"t": {1: {"v": 0}}}, tmp_path, keep={"daily": 3})
    for days in (-2, 0, 400, 0):
        monkeypatch.setattr(time, "time", lambda days=days: real() + days * DAY)
        save(one, [days])
    assert [round((backup.time.timestamp() - real()) / DAY) for backup in one.list()] == [-2, 400, 0]


# Several databases ----------------------------------------------------------------------------------------------------


def test_two_databases_of_a_program_do_not_share_a_folder(tmp_path: Path) -> None:
    first, second = database(), database(50)
    one, again, other = (FilesDestination(tmp_path, database=db) for db in (first, first, second))
    one.full(DictDbSource(first).full())
    again.full(DictDbSource(first).full())
    # Who comes last has the folder, since a program may have loaded its database anew …
    other.full(DictDbSource(second).full())
    for refused in (one, again):
        with pytest.raises(copal.UsageError, match="another database of this program"):
            refused.full(DictDbSource(first).full())
    other.full(DictDbSource(second).full())
    assert len(copal.load_tables(tmp_path)["users"]) == 50
    # … as who restores does.
    one.forget()
    one.full(DictDbSource(first).full())
    with pytest.raises(copal.UsageError, match="another database of this program"):
        other.full(DictDbSource(second).full())


def test_a_database_that_is_gone_leaves_its_folder(tmp_path: Path) -> None:
    first, second = database(), database(50)
    one, other = FilesDestination(tmp_path, database=first), FilesDestination(tmp_path, database=second)
    one.full(DictDbSource(first).full())
    other.full(DictDbSource(second).full())
    del other
    one.full(DictDbSource(first).full())


# Hostile pickles ------------------------------------------------------------------------------------------------------


def poisoning(module: str, name: str) -> bytes:
    """Sets attributes of a class: BUILD with a state of slots."""
    state = b"N}(X\x0c\x00\x00\x00__setstate__cbuiltins\ndict\nX\x06\x00\x00\x00tables}X\x03\x00\x00\x00int}u\x86"
    return b"\x80\x02c" + module.encode() + b"\n" + name.encode() + b"\n" + state + b"b."


@pytest.mark.parametrize("known", ["dictdb.storage.database DictDB", "dictdb.core.table Table", "uuid UUID"])
def test_a_pickle_changes_no_class(tmp_path: Path, known: str) -> None:
    db = database()
    db.get_table("users").records[1]["name"] = uuid.UUID(int=5)
    db.save(tmp_path / "good", "pickle")
    before = dict(vars(uuid.UUID))
    with pytest.raises(copal.DamageError):
        read_pickle("evil", poisoning(*known.split()))
    assert dict(vars(uuid.UUID)) == before
    rows = read_pickle("good", (tmp_path / "good").read_bytes())["users"].rows
    assert len(rows) == 5 and rows[1]["name"] == uuid.UUID(int=5)


# Reading while files are deleted --------------------------------------------------------------------------------------


def test_reading_beside_a_prune(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After every scan, what was scanned goes and something newer comes: three times, then the folder rests."""
    one = manager({"t": {1: {"v": 0}}}, tmp_path, incremental=True, max_deltas_before_full=1, keep={"last": 1})
    reads: List[Callable[[], Any]] = [
        lambda: value(tmp_path),
        lambda: value(tmp_path, now() + datetime.timedelta(hours=1)),
        lambda: [checked.problem for checked in one.verify() if checked.problem],
        lambda: len(one.list()) <= 2,
    ]
    expected: List[Any] = [lambda: one.db["t"][1]["v"], lambda: one.db["t"][1]["v"], lambda: [], lambda: True]
    for read, wanted in zip(reads, expected):
        save(one, [1, 2])
        left = [3]

        def moving(directory: Path) -> Any:
            files = scan(directory)
            if left[0] > 0:
                left[0] -= 1
                depth, left[0] = left[0], 0
                save(one, range(depth * 10, depth * 10 + 5))
                left[0] = depth
            return files

        for module in ("loading", "files"):
            monkeypatch.setattr(f"copal.dictdb.{module}.scan", moving)
        answer = read()
        monkeypatch.undo()
        assert answer == wanted()


def test_a_folder_that_never_rests_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = manager({"t": {1: {"v": 0}}}, tmp_path, keep={"last": 1})
    save(one, [1])

    def moving(directory: Path) -> Any:
        files = scan(directory)
        save(one, [one.db["t"][1]["v"] + 1])
        return files

    monkeypatch.setattr("copal.dictdb.loading.scan", moving)
    with pytest.raises(copal.PrunedError):
        value(tmp_path)


def test_a_scan_that_sees_nothing_beside_a_prune_is_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder's listing may hold neither the file that went nor the one that came while it was made."""
    one = manager({"t": {1: {"v": 1}}}, tmp_path, keep={"last": 1})
    for read in (lambda: value(tmp_path), lambda: len(one.list()), lambda: len(one.verify())):
        save(one, [1])
        blind = [2]

        def scanning(directory: Path) -> Any:
            if blind[0] > 0:
                blind[0] -= 1
                left, blind[0] = blind[0], 0
                save(one, [1])
                blind[0] = left
                return []
            return scan(directory)

        for module in ("loading", "files"):
            monkeypatch.setattr(f"copal.dictdb.{module}.scan", scanning)
        assert read() == 1
        monkeypatch.undo()


# Hostile and damaged files --------------------------------------------------------------------------------------------

FULL, DELTA = "dictdb_backup_1700000000_000001.json", "dictdb_delta_1700000001_000001.json"
DEEP = b"[" * 100_000


def sealed(body: bytes, line: bytes) -> bytes:
    data = body + b'\n    "copal": ' + line[:-1] + b', "sha256": "'
    return data + hashlib.sha256(data).hexdigest().encode() + b'"}\n}\n'


DAMAGED = {
    "deep": {FULL: b'{"tables": ' + DEEP},
    "deep line": {FULL: b'{"tables": {},\n    "copal": {"format": 1, "x": ' + DEEP + b'"}\n}\n'},
    "unknown table": {
        FULL: sealed(b'{"tables": {},', b'{"format": 1, "tables": {"x": {"next_key": 1, "indexes": {}}}}')
    },
    "tables as list": {FULL: sealed(b'{"tables": {},', b'{"format": 1, "tables": [1]}')},
    "row": {DELTA: b'{"type":"delta","timestamp":1,"tables":{"t":{"upserts":[5],"deletes":[]}}}'},
    "schema": {FULL: b'{"tables":{"t":{"primary_key":"id","schema":{"id":["x"]},"records":[]}}}'},
    "key": {
        FULL: b'{"tables":{"t":{"primary_key":"id","schema":null,"records":[{"id":1}]}}}',
        DELTA: b'{"type":"delta","timestamp":1,"tables":{"t":{"upserts":[{"id":[1]}],"deletes":[[1]]}}}',
    },
    "rows that are none": {
        FULL: b'{"tables":{"t":{"primary_key":"id","schema":null,"records":[5],"keys":[1]}}}',
    },
    "follows": {
        FULL: sealed(b'{"tables": {},', b'{"format": 1, "tables": {}}'),
        DELTA: sealed(b'{"type": "delta", "tables": {},', b'{"format": 1, "follows": 5, "tables": {}}'),
    },
}


@pytest.mark.parametrize("what", DAMAGED)
@pytest.mark.filterwarnings("ignore::copal.IncompleteBackupWarning")
def test_whatever_stands_in_a_file_is_damage(tmp_path: Path, what: str) -> None:
    for name, data in DAMAGED[what].items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(copal.DamageError):
        copal.load_tables(tmp_path)
    one = manager({}, tmp_path)
    assert len(one.list()) == len(one.verify()) == len(DAMAGED[what])
    assert what not in ("deep", "deep line", "follows") or any(checked.problem for checked in one.verify())


def test_times_that_no_calendar_has_are_of_none_of_our_files(tmp_path: Path) -> None:
    for seconds in (999_999_999_999_999, 253_402_300_800, 253_402_300_799):
        (tmp_path / f"dictdb_backup_{seconds}_000001.json").write_text('{"tables": {}}')
    (tmp_path / ".copal.lock").write_text('{"microseconds": 999999999999999999999}')
    one = manager({"t": {1: {"v": 1}}}, tmp_path, keep={"last": 1, "daily": 1})
    one.backup_now()
    assert len(one.list()) == len(one.verify()) == 1 and value(tmp_path) == 1
    assert len(os.listdir(tmp_path)) >= 5


def test_a_hostile_note_does_no_harm(tmp_path: Path) -> None:
    one = manager({"t": {1: {"v": 1}}}, tmp_path)
    one.backup_now()
    (tmp_path / ".copal.lock").write_bytes(DEEP)
    (tmp_path / PRUNED_NAME).write_bytes(DEEP)
    failures = Failures()
    manager({"t": {1: {"v": 2}}}, tmp_path, on_backup_failure=failures).backup_now()
    assert not failures and value(tmp_path) == 2
