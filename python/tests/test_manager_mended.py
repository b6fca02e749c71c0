"""What was found to leave data unprotected: backups that vanish while nothing changes, a folder taken without a backup, a signal
handler that waits for itself, deltas called lost that are not."""

from __future__ import annotations

import datetime
import os
import shutil
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest
from conftest import Program

import copal
from copal.dictdb.protocol import SavedBackup
from copal.dictdb.repository_check import check

Start = Callable[..., Program]


def tables() -> Dict[str, Any]:
    return {"users": {1: {"n": 1}}}


class Failures(List[Exception]):
    def __call__(self, error: Exception, _failures: int) -> None:
        self.append(error)


@pytest.fixture(params=["files", "repository"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where backups go."""
    folder = tmp_path / str(request.param)
    if request.param == "repository":
        copal.init(folder, encrypt=False)
    return folder


def manager(db: Any, place: Path, **more: Any) -> copal.BackupManager:
    where = {"repository": place} if place.name == "repository" else {"backup_dir": place}
    return copal.BackupManager(db, **where, backup_interval=3600, **{"incremental": True, **more})  # type: ignore[arg-type]


def empty(place: Path) -> None:
    """All backups are gone, and new ones can be made."""
    shutil.rmtree(place)
    if place.name == "repository":
        copal.init(place, encrypt=False)
    else:
        place.mkdir()


def kinds(one: copal.BackupManager) -> List[str]:
    return [backup.kind for backup in one.list()]


def loaded(place: Path) -> Any:
    if place.name == "repository":
        return copal.load_store(place, "dict", kind="dict")
    return copal.load_tables(place)


@pytest.mark.parametrize("call", ["backup_now", "backup_delta", "notify_change", "stop"])
@pytest.mark.parametrize("last", ["full", "delta"])
def test_what_is_gone_is_saved_again_although_nothing_changed(place: Path, last: str, call: str) -> None:
    db, failures = tables(), Failures()
    one = manager(db, place, min_backup_interval=0, on_backup_failure=failures)
    one.backup_now()
    if last == "delta":
        db["users"][2] = {"n": 2}
        one.backup_now()
    if call == "stop":
        one.start()
    empty(place)
    getattr(one, call)()
    assert not failures and kinds(one) == ["full"] and loaded(place) == db
    one.backup_now()
    assert kinds(one) == ["full"], "once is enough"


def test_a_newest_delta_that_is_gone_is_saved_again(place: Path) -> None:
    db = tables()
    one = manager(db, place)
    one.backup_now()
    db["users"][2] = {"n": 2}
    one.backup_now()
    name = one.list()[-1].name
    (newest,) = [file for file in place.rglob("*") if file.name == name]
    newest.unlink()
    one.backup_now()
    assert "full" in kinds(one)[1:] and loaded(place) == db


def test_what_cannot_be_reached_is_told_and_not_saved_again(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failures = Failures()
    one = manager(tables(), place, on_backup_failure=failures)
    one.backup_now()
    captured: "list[None]" = []
    full = one._source.full
    monkeypatch.setattr(one._source, "full", lambda: captured.append(None) or full())
    place.rename(place.with_name("away"))
    one.backup_now()
    one.start()
    one.stop()
    assert len(failures) == one.consecutive_failures == 2 and not captured
    assert all(isinstance(error, (OSError, copal.CopalError)) for error in failures)
    place.with_name("away").rename(place)
    one.backup_now()
    assert one.consecutive_failures == 0 and not captured and kinds(one) == ["full"]


def test_idle_managers_of_one_database_do_not_save_it_for_each_other(place: Path) -> None:
    db = tables()
    one, other = manager(db, place, keep={"last": 1}), manager(db, place, keep={"last": 1})
    one.backup_now()
    other.backup_now()
    (newest,) = one.list()
    for _ in range(2):
        one.backup_now()
        other.backup_now()
    assert one.list() == [newest], "the other's rules deleted the first, and the second has all that it had"


def test_an_idle_manager_is_told_that_another_database_took_its_folder(tmp_path: Path) -> None:
    failures = Failures()
    one = manager(tables(), tmp_path / "files", on_backup_failure=failures)
    one.backup_now()
    other = manager({"others": {1: {}}}, tmp_path / "files", keep={"last": 1})
    other.backup_now()
    one.backup_now()
    assert [type(error) for error in failures] == [copal.UsageError] and kinds(other) == ["full"]


def test_a_first_backup_that_fails_takes_no_folder(tmp_path: Path) -> None:
    db, failures, others = tables(), Failures(), Failures()
    one = manager(db, tmp_path / "files", on_backup_failure=failures)
    one.backup_now()
    other = manager({"users": {1: {"no": object()}}}, tmp_path / "files", on_backup_failure=others)
    other.backup_now()
    db["users"][2] = {"n": 2}
    one.backup_now()
    assert len(others) == 1 and not failures
    assert loaded(tmp_path / "files") == db
    other.db["users"].clear()
    other.backup_now()
    db["users"][3] = {"n": 3}
    one.backup_now()
    assert len(others) == 1 and [type(error) for error in failures] == [copal.UsageError], "now it has the folder"


# A number that is asked for while the lock of the state is held, in the main thread, sends the signal.
HANDLER = """
    import signal, sys, threading
    import copal

    class Seconds(float):
        def __radd__(self, other):
            if threading.current_thread() is threading.main_thread() and waiting:
                waiting.pop()
                signal.raise_signal(signal.SIGUSR1)
            return float(self) + other

    def handler(*_):
        if call == "restore":
            try:
                manager.restore(replace=True)
            except copal.UsageError:
                pass
        else:
            getattr(manager, call)()
        print("handled", flush=True)

    def fail(error, _):
        print(repr(error), flush=True)

    kind, place, call = sys.argv[1:]
    where = {"repository": place} if kind == "repository" else {"backup_dir": place}
    db, waiting = {"users": {1: {"n": 1}}}, []
    manager = copal.BackupManager(db, backup_interval=3600, min_backup_interval=Seconds(3600), on_backup_failure=fail, **where)
    manager.backup_now()
    manager.start()
    manager.notify_change()
    db["users"][2] = {"n": 2}
    signal.signal(signal.SIGUSR1, handler)
    waiting.append(True)
    manager.next_run
    assert not waiting
    print(len(manager.list()), flush=True)
"""


@pytest.mark.parametrize("call", ["stop", "backup_now", "notify_change", "restore"])
def test_a_signal_handler_within_another_call_waits_for_nothing(place: Path, call: str, program: Start) -> None:
    started = program(HANDLER, place.name, str(place), call)
    assert started.line() == "handled"
    assert started.line().isdigit()
    assert started.end()[0] == 0
    assert loaded(place) == {"users": {1: {"n": 1}, 2: {"n": 2}}}, "the end of the program makes the last backup"


VERIFY = """
    import sys, copal
    for one in copal.BackupManager({}, repository=sys.argv[1], name="dict").verify():
        print(one.backup.kind, one.problem is None)
"""


def test_deltas_before_one_that_is_missing_are_sound(
    repository: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: Start
) -> None:
    db, place = tables(), tmp_path / "repository"
    one = manager(db, place)
    for save in (one.backup_full, one.backup_delta, one.backup_delta, one.backup_full):
        db["users"][1]["n"] += 1
        save()
    os.unlink(sorted(place.glob("databases/*/journal/*"))[-1])
    # A machine that never saw it knows it by what the next full follows.
    monkeypatch.setenv("HOME", str(tmp_path / "other"))
    code, out, err = program(VERIFY, repository).end()
    assert (code, out.split("\n")[:-1]) == (0, ["full True", "delta True", "delta False", "full True"]), err


FULL, DELTA, NEXT = "20260102-030405Z-aaaa", "20260102-030406Z-bbbb", "20260102-030407Z-cccc"


def _saved(name: str, full: str) -> SavedBackup:
    time = datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc)
    return SavedBackup(name, "full" if name == full else "delta", time, 1, "repository", "copal", full)


@pytest.mark.parametrize("database", ["app", "journal"])
@pytest.mark.parametrize("slash", ["", "/"])
def test_the_journal_itself_is_an_answer_behind_its_deltas(database: str, slash: str) -> None:
    found = {"object": f"databases/{database}/journal{slash}", "problem": "segments 2 to 2 are missing"}
    outcomes = [
        {"id": FULL, "verified": False, "damaged": [found]},
        {"id": NEXT, "verified": True, "damaged": []},
    ]
    saved = [_saved(FULL, FULL), _saved(DELTA, FULL), _saved(NEXT, NEXT)]
    answers = check(saved, [{"damaged": []}], outcomes)
    assert [answer.problem for answer in answers] == [None, None, found["problem"], None]
    assert [answer.backup.kind for answer in answers] == ["full", "delta", "delta", "full"]
    assert answers[2].backup.full == FULL and len({answer.backup.name for answer in answers}) == 4


def test_damage_of_a_database_called_journal_is_where_it_is() -> None:
    found = {"object": f"databases/journal/manifests/{FULL}", "problem": "it is damaged"}
    (answer,) = check([_saved(FULL, FULL)], [], [{"id": FULL, "verified": False, "damaged": [found]}])
    assert (answer.backup.kind, answer.backup.name, answer.problem) == ("full", FULL, found["problem"])
