"""What was found to lose changes, to stand still or to say too much: several managers, signal handlers, the last backup."""

from __future__ import annotations

import contextlib
import threading
import time
import warnings
from pathlib import Path
from typing import Any, Callable, Dict, Iterator

import pytest
from dictdb_support import content, database, raising, rows, run

import copal


def manager(db: Any, folder: Path, **more: Any) -> copal.BackupManager:
    more.setdefault("on_backup_failure", raising)
    more.setdefault("backup_interval", 3600)
    return copal.BackupManager(db, folder, **more)


def restored(folder: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return content(copal.load_dictdb(folder))


def add(db: Any) -> None:
    db.get_table("users").insert({"name": "added", "age": 1})


def elsewhere(work: Callable[[], Any]) -> None:
    """Runs it in another thread, to the end."""
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


@contextlib.contextmanager
def while_stored(one: copal.BackupManager, kind: str, work: Callable[[], Any]) -> Iterator[None]:
    """Does some work when the manager's next view is stored and not accepted yet."""
    store = getattr(one._destination, kind)

    def stored(view: Any) -> Any:
        saved = store(view)
        work()
        return saved

    setattr(one._destination, kind, stored)
    yield
    setattr(one._destination, kind, store)


def test_changes_during_a_first_full_stay_though_another_manager_takes_them_over(tmp_path: Path) -> None:
    db = database()
    one, other = (manager(db, tmp_path / name, incremental=True) for name in "ab")
    other.backup_now()

    def work() -> None:
        add(db)
        elsewhere(other.backup_now)

    with while_stored(one, "full", work):
        one.backup_now()
    assert restored(tmp_path / "b") == content(db)
    one.backup_now()
    assert one.deltas_since_full == 1
    assert restored(tmp_path / "a") == content(db)


def test_a_first_full_that_failed_leaves_nothing_open(tmp_path: Path) -> None:
    db = database()
    failures: "list[Exception]" = []
    one = manager(db, tmp_path / "a", incremental=True, on_backup_failure=lambda error, _: failures.append(error))
    other = manager(db, tmp_path / "b", incremental=True)

    def fail() -> None:
        raise OSError("the disk is full")

    with while_stored(one, "full", fail):
        one.backup_now()
    assert len(failures) == 1
    add(db)
    other.backup_now()
    assert one._source._pending == {}, "a full comes next: nothing needs to be kept for it"  # type: ignore[attr-defined]
    one.backup_now()
    add(db)
    other.backup_now()
    one.backup_now()
    assert restored(tmp_path / "a") == restored(tmp_path / "b") == content(db)


@pytest.mark.parametrize("kind", ["full", "delta"])
def test_a_restore_while_another_manager_stores_a_view(tmp_path: Path, kind: str) -> None:
    db = database()
    one, other = (manager(db, tmp_path / name, incremental=True) for name in "ab")
    one.backup_now()
    if kind == "delta":
        other.backup_now()
    add(db)
    with while_stored(other, kind, lambda: elsewhere(lambda: one.restore(replace=True))):
        other.backup_now()
    assert restored(tmp_path / "b") != content(db), "it was stored before the restore"
    other.backup_now()
    assert other.deltas_since_full == 0
    assert restored(tmp_path / "b") == content(db)
    add(db)
    other.backup_now()
    assert other.deltas_since_full == 1 and restored(tmp_path / "b") == content(db)


def test_a_restore_just_before_another_manager_takes_a_delta(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db = database()
    one, other = (manager(db, tmp_path / name, incremental=True) for name in "ab")
    one.backup_now()
    add(db)
    other.backup_now()
    add(db)
    has_changes = other._source.has_changes

    def and_restore() -> bool:
        answer = has_changes()
        monkeypatch.undo()
        elsewhere(lambda: one.restore(replace=True))
        return answer

    monkeypatch.setattr(other._source, "has_changes", and_restore)
    other.backup_now()
    assert restored(tmp_path / "b") == content(db)


HANDLER = """
import os, signal, sys, threading
from dictdb_support import content, database
import copal

def saved(folder):
    return content(copal.load_dictdb(folder))

class Row(dict):
    def items(self):
        if threading.current_thread() is threading.main_thread() and waiting:
            waiting.pop()
            signal.raise_signal(signal.SIGUSR1)
        return super().items()

def handler(*_):
    db.tables["users"]._dirty_pks.add(1)
    first.backup_full()
    first.stop()
    second.backup_full()
    second.notify_change()
    third.stop()
    if os.fork() == 0:
        os._exit(0)
    os.wait()
    print("handled", flush=True)

db, waiting = database(), []
users = db.get_table("users")
users.records[1] = Row(users.records[1])
first, second, third = (
    copal.BackupManager(db, os.path.join(sys.argv[1], name), 3600, incremental=True) for name in "abc"
)
third.start()
signal.signal(signal.SIGUSR1, handler)
waiting.append(True)
first.backup_now()
print(len(first.list()), len(second.list()), len(third.list()), flush=True)
second.stop()
assert saved(second.backup_dir) == content(db)
first.backup_now()
assert saved(first.backup_dir) == content(db)
"""


def test_a_signal_handler_that_saves_with_other_managers_waits_for_nothing(tmp_path: Path) -> None:
    done = run(HANDLER, str(tmp_path))
    assert (done.returncode, done.stdout.split("\n")[:2]) == (0, ["handled", "1 0 0"]), done.stderr
    db = database()
    assert restored(tmp_path / "c")["users"]["rows"] == rows(db)["users"], "the end of the program stops it again"


def test_without_deltas_the_last_backup_has_what_nobody_noted(tmp_path: Path) -> None:
    db = database()
    with manager(db, tmp_path) as one:
        one.backup_now()
        db.get_table("users").records[1]["name"] = "changed directly"
    assert restored(tmp_path) == content(db)


@pytest.mark.parametrize("incremental", [False, True])
def test_the_last_backup_has_that_all_rows_were_deleted(tmp_path: Path, incremental: bool) -> None:
    db: Dict[str, Any] = {"users": {1: {"name": "Ada"}}}
    with manager(db, tmp_path, incremental=incremental) as one:
        one.backup_now()
        db["users"].clear()
    assert copal.load_tables(tmp_path) == {"users": {}}
    one.backup_now()
    db["users"][2] = {"name": "Bo"}
    one.backup_now()
    one.start()
    one.restore(replace=True)
    db["users"].clear()
    one.stop()
    assert copal.load_tables(tmp_path) == {"users": {}}


def test_a_manager_that_never_saved_anything_does_not_save_nothing_at_the_end(tmp_path: Path) -> None:
    manager({"users": {1: {"name": "Ada"}}}, tmp_path).backup_now()
    with manager({"users": {}}, tmp_path) as one:
        pass
    assert len(one.list()) == 1


def test_waiting_for_the_lock_of_plain_dicts_holds_nobody_up(tmp_path: Path) -> None:
    class Lock:
        def __enter__(self) -> None:
            time.sleep(2)

        def __exit__(self, *_: object) -> None:
            pass

    one = manager({"t": {1: {"v": 1}}}, tmp_path, lock=Lock())
    one.backup_now()
    assert one.last_hold_seconds is not None and 0 < one.last_hold_seconds < 2
