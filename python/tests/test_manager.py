"""When the manager saves, what it tells, and that nothing stops it: callbacks, threads, forks, exits, bad destinations."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any, Callable, List

import pytest
from dictdb_support import Failures, content, database, environment, raising, run

import copal


def manager(db: Any, folder: Path, **more: Any) -> copal.BackupManager:
    more.setdefault("on_backup_failure", raising)
    more.setdefault("backup_interval", 3600)
    return copal.BackupManager(db, folder, **more)


def until(condition: Callable[[], bool], what: str) -> None:
    give_up = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < give_up, what
        time.sleep(0.01)


def restored(folder: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return content(copal.load_dictdb(folder))


def add(db: Any) -> None:
    db.get_table("users").insert({"name": "added", "age": 1})


def test_attributes_and_arguments_are_those_of_dictdb(tmp_path: Path) -> None:
    db = database()
    one = copal.BackupManager(db, str(tmp_path / "a" / "b"), 60, "JSON", 2.0, raising, True, 4)
    assert (one.db, one.backup_dir, one.backup_interval, one.file_format) == (db, tmp_path / "a" / "b", 60, "json")
    assert (one.min_backup_interval, one.incremental, one.max_deltas_before_full) == (2.0, True, 4)
    assert (one.consecutive_failures, one.deltas_since_full, one.last_success, one.next_run) == (0, 0, None, None)
    for number in range(6):
        add(db)
        assert one.backup_now() is None
        assert one.deltas_since_full == number % 5
    assert one.last_success is not None and one.last_hold_seconds is not None and one.last_hold_seconds > 0


def test_an_unknown_format_fails_the_backup_like_with_dictdb(tmp_path: Path) -> None:
    failures = Failures()
    manager(database(), tmp_path, file_format="xml", on_backup_failure=failures).backup_now()
    assert isinstance(failures[0][0], ValueError)


@pytest.mark.parametrize("wrong", [{"backup_dir": None}, {"db": 7}, {"keep": 3}])
def test_wrong_calls_are_told_at_once(tmp_path: Path, wrong: Any) -> None:
    with pytest.raises(copal.UsageError):
        copal.BackupManager(**{"db": database(), "backup_dir": tmp_path, **wrong})


def test_it_saves_periodically_and_a_last_time(tmp_path: Path) -> None:
    db = database()
    with manager(db, tmp_path, backup_interval=0.05, incremental=True) as one:
        one.start()
        assert one.next_run is not None
        until(lambda: len(one.list()) == 1, "no periodic backup")
        add(db)
        until(lambda: len(one.list()) == 2, "no second one")
        one.backup_interval = 3600
        time.sleep(0.1)
        add(db)
    assert one.next_run is None
    assert restored(tmp_path) == content(db)
    count = len(one.list())
    one.stop()
    assert len(one.list()) == count
    one.start()
    add(db)
    one.stop()
    assert restored(tmp_path) == content(db)


def test_nothing_is_saved_at_the_end_if_nothing_changed(tmp_path: Path) -> None:
    with manager(database(), tmp_path, incremental=True) as one:
        one.backup_now()
    assert len(one.list()) == 1


def test_notify_change_saves_in_the_calling_thread_when_due(tmp_path: Path) -> None:
    db = database()
    one = manager(db, tmp_path, min_backup_interval=3600)
    one.notify_change()
    assert len(one.list()) == 1
    one.notify_change()
    assert len(one.list()) == 1
    one.min_backup_interval = 0
    one.notify_change()
    assert len(one.list()) == 2


def test_a_debounced_change_is_saved_by_the_thread(tmp_path: Path) -> None:
    db = database()
    with manager(db, tmp_path, min_backup_interval=0.2) as one:
        one.notify_change()
        add(db)
        one.notify_change()
        until(lambda: restored(tmp_path) == content(db), "the second change was lost")


def test_a_debounced_change_is_saved_by_stop(tmp_path: Path) -> None:
    db = database()
    one = manager(db, tmp_path, min_backup_interval=3600)
    one.notify_change()
    db.get_table("users").records[1]["age"] = 77  # DictDB does not track this
    one.notify_change()
    one.stop()
    assert restored(tmp_path)["users"]["rows"][1]["age"] == 77


@pytest.mark.parametrize("incremental", [False, True])
def test_thirty_two_threads_notify_at_once(tmp_path: Path, incremental: bool) -> None:
    db = database()
    one = manager(db, tmp_path, min_backup_interval=0, incremental=incremental)
    barrier = threading.Barrier(32)

    def work() -> None:
        barrier.wait()
        for _ in range(5):
            add(db)
            one.notify_change()

    threads = [threading.Thread(target=work) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert restored(tmp_path) == content(db) and one.consecutive_failures == 0
    assert all(checked.problem is None for checked in one.verify())


def test_backups_under_writers_of_several_tables_are_consistent(tmp_path: Path) -> None:
    db = database()
    for name in "ab":
        db.create_table(name)
        db.get_table(name).insert({"id": 1, "v": 0})
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            # The second table follows the first: no view may show it ahead.
            for name in "ab":
                db.get_table(name).update({"v": number, "same": number}, where=db.get_table(name).id == 1)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        one = manager(db, tmp_path, incremental=True, max_deltas_before_full=5)
        for _ in range(30):
            one.backup_now()
            state = copal.load_tables(tmp_path)
            a, b = state["a"][1], state["b"][1]
            assert a["v"] - 1 <= b["v"] <= a["v"] and a.get("same", 0) == a["v"] and b.get("same", 0) == b["v"]
    finally:
        stop.set()
        thread.join()
    one.backup_now()
    assert restored(tmp_path) == content(db)


def test_a_writer_that_reads_another_table_does_not_stand_still(tmp_path: Path) -> None:
    db = database()
    db.create_table("other")
    db.get_table("other").insert({"id": 1, "v": 0})
    users, other = db.get_table("users"), db.get_table("other")
    stop = threading.Event()

    def nested() -> None:
        from dictdb import Condition
        from dictdb.core.condition import PredicateExpr

        while not stop.is_set():
            users.update(
                {"age": 1}, where=Condition(PredicateExpr(lambda row: row["id"] == 1 and len(other.select()) == 1))
            )

    def plain() -> None:
        while not stop.is_set():
            other.update({"v": 1})

    threads = [threading.Thread(target=work) for work in (nested, plain)]
    for thread in threads:
        thread.start()
    try:
        one = manager(db, tmp_path)
        for _ in range(20):
            one.backup_now()
        assert len(one.list()) == 20
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_callbacks_may_raise_and_call_the_manager(tmp_path: Path) -> None:
    db = database()
    folder = tmp_path / "backups"
    seen: List[int] = []

    def callback(error: Exception, failures: int) -> None:
        seen.append(failures)
        one.backup_now()
        one.notify_change()
        one.stop()
        raise RuntimeError("the callback's own")

    one = manager(db, folder, on_backup_failure=callback)
    shutil.rmtree(folder)
    one.backup_now()
    assert seen == [1] and one.consecutive_failures >= 2
    folder.mkdir()
    one.backup_now()
    assert one.consecutive_failures == 0 and restored(folder) == content(db)


def test_the_thread_survives_a_callback_that_ends_it(tmp_path: Path) -> None:
    db = database()
    folder = tmp_path / "backups"
    called = threading.Event()

    def callback(error: Exception, failures: int) -> None:
        called.set()
        raise SystemExit

    with manager(db, folder, backup_interval=0.02, on_backup_failure=callback) as one:
        shutil.rmtree(folder)
        assert called.wait(120)
        folder.mkdir()
        until(lambda: one.consecutive_failures == 0 and len(one.list()) > 0, "it did not go on")


def test_a_folder_that_vanished_loses_no_change(tmp_path: Path) -> None:
    db = database()
    folder = tmp_path / "backups"
    failures = Failures()
    one = manager(db, folder, incremental=True, on_backup_failure=failures)
    one.backup_now()
    add(db)
    folder.rename(tmp_path / "away")
    one.backup_now()
    folder.write_text("a file in the way")
    one.backup_now()
    assert len(failures) == 2 and db.get_table("users").has_changes()
    folder.unlink()
    (tmp_path / "away").rename(folder)
    one.backup_now()
    assert [file.kind for file in one.list()] == ["full", "delta"] and restored(folder) == content(db)


def test_a_full_that_was_deleted_makes_the_next_backup_a_full(tmp_path: Path) -> None:
    db = database()
    one = manager(db, tmp_path, incremental=True)
    one.backup_now()
    (tmp_path / one.list()[0].name).unlink()
    add(db)
    one.backup_now()
    assert [file.kind for file in one.list()] == ["full"] and restored(tmp_path) == content(db)


def test_a_full_disk_leaves_no_file_and_loses_no_change(tmp_path: Path) -> None:
    # A limit of the process's own stands for the disk: a write beyond it fails as on a full one.
    script = """
import resource, signal, sys, copal
from dictdb_support import Failures, content, database
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
db, failures = database(3000), Failures()
one = copal.BackupManager(db, sys.argv[1], incremental=True, on_backup_failure=failures)
one.backup_now()
before = [file.name for file in one.list()]
for limit in (0, 1000, 40_000):
    db.get_table("users").update({"name": f"limit {limit}"})
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    one.backup_delta()
    one.backup_full()
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert [file.name for file in one.list()] == before, one.list()
assert len(failures) == 6 and all(isinstance(error, OSError) for error, _ in failures), failures
one.backup_now()
assert one.consecutive_failures == 0
assert content(copal.load_dictdb(sys.argv[1])) == content(db)
"""
    done = run(script, str(tmp_path))
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_is_on_its_own(tmp_path: Path) -> None:
    script = """
import os, sys, threading, copal, warnings
warnings.simplefilter("ignore")
from dictdb_support import content, database, raising
db = database(3_000)
one = copal.BackupManager(db, sys.argv[1], backup_interval=0.01, incremental=True, on_backup_failure=raising)
one.backup_now()
stop = threading.Event()
def busy():
    while not stop.is_set():
        one.backup_full()
thread = threading.Thread(target=busy)
thread.start()
one.start()
for number in range(10):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            # No table is locked for ever, no lock of the manager is held, and nothing runs.
            assert one.next_run is None
            db.get_table("users").insert({"name": "child", "age": number})
            if number % 2:
                mine = copal.BackupManager(db, sys.argv[1] + "-child", on_backup_failure=raising)
                mine.backup_now()
                assert content(copal.load_dictdb(sys.argv[1] + "-child")) == content(db)
            one.backup_now()
            one.stop()
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
stop.set()
thread.join()
db.get_table("users").insert({"name": "parent", "age": 1})
one.stop()
assert all(checked.problem is None for checked in one.verify())
one.backup_now()
assert content(copal.load_dictdb(sys.argv[1])) == content(db)
"""
    done = run(script, str(tmp_path / "backups"), timeout=400)
    assert done.returncode == 0, done.stderr


def test_the_end_of_the_program_saves_what_changed(tmp_path: Path) -> None:
    script = """
import sys, copal
from dictdb_support import database, raising
db = database(5)
one = copal.BackupManager(db, sys.argv[1], incremental=True, on_backup_failure=raising)
one.start()
one.backup_now()
db.get_table("users").insert({"name": "last words", "age": 1})
if sys.argv[2] == "raise":
    raise RuntimeError
"""
    for how in ("return", "raise"):
        folder = tmp_path / how
        done = run(script, str(folder), how)
        assert (done.returncode == 0) == (how == "return"), done.stderr
        assert restored(folder)["users"]["rows"][6]["name"] == "last words"


def test_a_killed_program_leaves_whole_files_and_a_new_one_goes_on(tmp_path: Path) -> None:
    script = """
import sys, copal
from dictdb_support import database
db = database(2000)
one = copal.BackupManager(db, sys.argv[1], incremental=True, max_deltas_before_full=3)
print("ready", flush=True)
while True:
    db.get_table("users").insert({"name": "more", "age": 1})
    one.backup_now()
"""
    count = 0
    for _ in range(4):
        command = [sys.executable, "-c", script, str(tmp_path)]
        child = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
        before = count
        until(lambda: len(list(tmp_path.glob("dictdb_*"))) > before + 2, "it saved nothing")
        child.kill()
        child.wait()
        child.stdout.close()
        assert len(copal.load_tables(tmp_path)["users"]) > 2000
        count = len(list(tmp_path.glob("dictdb_*")))
    one = manager(database(), tmp_path)
    assert all(checked.problem is None for checked in one.verify())
    one.backup_now()
    assert not list(tmp_path.glob(".copal-staging-*"))


def test_stop_waits_for_a_backup_under_way(tmp_path: Path) -> None:
    db = database(5_000)
    one = manager(db, tmp_path, backup_interval=0.001)
    one.start()
    until(lambda: one.last_hold_seconds is not None, "no backup began")
    one.stop()
    assert all(checked.problem is None for checked in one.verify())
    assert restored(tmp_path) == content(db)


def test_a_lock_given_for_plain_dicts_is_held(tmp_path: Path) -> None:
    held: List[bool] = []

    class Lock:
        def __enter__(self) -> None:
            held.append(True)

        def __exit__(self, *_: object) -> None:
            held.append(False)

    manager({"t": {1: {"v": 1}}}, tmp_path, lock=Lock()).backup_now()
    assert held == [True, False]
