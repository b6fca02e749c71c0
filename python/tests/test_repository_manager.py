"""BackupManager with a repository: what is saved, listed, verified, pruned and restored, and what goes wrong."""

from __future__ import annotations

import datetime
import os
import shutil
import threading
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import pytest

from conftest import wait_for

Tables = Dict[str, Dict[Any, Dict[str, Any]]]


def tables() -> Tables:
    return {
        "users": {1: {"name": "Ann", "score": 1.5}, 2: {"name": "Böb", "score": float("inf")}},
        "empty": {},
    }


class Failures:
    """Takes what a manager tells of failed backups."""

    def __init__(self) -> None:
        self.told: List[Tuple[Exception, int]] = []

    def __call__(self, error: Exception, count: int) -> None:
        self.told.append((error, count))


def manager(db: Any, repository: Any, **more: Any) -> Any:
    import copal

    more.setdefault("on_backup_failure", _fail)
    return copal.BackupManager(db, repository=repository, **more)


def _fail(error: Exception, _: int) -> None:
    raise AssertionError from error


def loaded(repository: Any, name: str = "dict", at: "datetime.datetime | None" = None, **more: Any) -> Tables:
    import copal

    found: Tables = copal.load_store(repository, name, at, kind="dict", **more)
    return found


def kinds(one: Any) -> List[str]:
    return [backup.kind for backup in one.list()]


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


def folder(repository: str) -> Path:
    """Where a repository is."""
    return Path(repository.replace("file://", "", 1))


def journal_objects(repository: str, name: str = "dict") -> List[Path]:
    """The segments of a repository, oldest first."""
    return sorted(path for path in (folder(repository) / "databases" / name / "journal").iterdir() if path.is_file())


def test_a_full_and_deltas_are_what_the_tables_were(repository: str) -> None:
    db = tables()
    one = manager(db, repository, incremental=True)
    assert one.list() == [] and one.verify() == []
    one.backup_now()
    states, times = [tables()], [now()]
    db["users"][3] = {"name": "Cid"}
    one.backup_now()
    states.append({name: {key: dict(row) for key, row in rows.items()} for name, rows in db.items()})
    times.append(now())
    del db["users"][1], db["empty"]
    db["users"][2]["score"] = -0.0
    db["new"] = {"k": {"deep": [1, {"x": (2, b"3")}]}}
    one.backup_now()
    times.append(now())
    assert (one.deltas_since_full, one.consecutive_failures) == (2, 0)
    assert one.last_success is not None and one.last_hold_seconds is not None
    one.backup_now()
    assert kinds(one) == ["full", "delta", "delta"], "nothing changed, nothing is saved"
    assert loaded(repository) == db
    assert repr(loaded(repository)["users"][2]["score"]) == "-0.0"
    assert loaded(repository, at=times[0]) == states[0]
    assert loaded(repository, at=times[1]) == states[1]
    assert loaded(repository, at=times[2]) == db
    saved = one.list()
    assert [backup.full for backup in saved] == [saved[0].name] * 3
    assert all(backup.made_by == "copal" and backup.size_bytes > 0 for backup in saved)
    assert loaded(repository, at=saved[1].time) == states[1]
    assert [checked.problem for checked in one.verify()] == [None] * 3
    import copal

    with pytest.raises(copal.NotFoundError):
        loaded(repository, at=now() - datetime.timedelta(days=1))
    with pytest.raises(copal.UsageError, match="no zone"):
        loaded(repository, at=datetime.datetime(2026, 1, 1))


def test_fulls_come_as_they_are_asked_for(repository: str) -> None:
    db = tables()
    one = manager(db, repository, incremental=True, max_deltas_before_full=2)
    for number in range(5):
        db["users"][number] = {"n": number}
        one.backup_now()
    one.backup_full()
    assert kinds(one) == ["full", "delta", "delta", "full", "delta", "full"]
    one.backup_delta()
    db["users"][1] = {"n": "x"}
    one.backup_delta()
    assert one.deltas_since_full == 1
    plain = manager(db, repository)
    plain.backup_now()
    plain.backup_now()
    assert kinds(plain)[-3:] == ["delta", "full", "full"], "without incremental, everything"
    assert loaded(repository) == db


def test_it_is_an_ordinary_database_of_the_repository(repository: str, tmp_path: Path) -> None:
    import copal

    db = tables()
    one = manager(db, repository, incremental=True, name="sessions")
    one.backup_now()
    db["users"][9] = {"when": datetime.date(2026, 1, 2)}
    one.backup_now()
    (listed,) = copal.list_backups(repository=repository)
    assert (listed.database, listed.engine) == ("sessions", "memory")
    (verified,) = copal.verify("sessions", repository=repository, drill=True)
    assert verified.is_good
    copal.restore("sessions", repository=repository, to=f"file:{tmp_path}/archive")
    text = "".join(path.read_text() for path in sorted((tmp_path / "archive").glob("*.jsonl")))
    assert '"Ann"' in text and '{"$date": "2026-01-02"}' in text


def test_restoring_into_the_living_dicts(repository: str) -> None:
    import copal

    db = tables()
    users = db["users"]
    one = manager(db, repository, incremental=True)
    one.backup_now()
    before = now()
    users[1]["name"] = "changed"
    db["more"] = {1: {}}
    one.backup_now()
    with pytest.raises(copal.ExistsError):
        one.restore(at=before)
    backup = one.restore(at=before, replace=True)
    assert backup.kind == "full" and db == tables()
    assert db["users"] is users
    users[5] = {"after": True}
    one.backup_now()
    assert kinds(one) == ["full", "delta", "full"], "what follows a restore is a full"
    assert loaded(repository) == db
    empty: Tables = {}
    assert manager(empty, repository).restore().name == one.list()[-1].name
    assert empty == db


def test_retention(repository: str) -> None:
    db = tables()
    one = manager(db, repository, incremental=True, max_deltas_before_full=1, keep={"last": 2})
    for number in range(6):
        db["users"][number] = {"n": number}
        one.backup_now()
    assert kinds(one) == ["full", "delta", "full", "delta"]
    assert loaded(repository) == db
    with pytest.raises(ValueError):
        manager(db, repository, keep={"newest": 2})


def test_settings_are_looked_at_at_once(repository: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import copal

    db = tables()
    for wrong in ("", "a/b", "memory:x", "x" * 65, " x"):
        with pytest.raises(copal.UsageError):
            manager(db, repository, name=wrong)
    with pytest.raises(copal.UsageError):
        copal.BackupManager(db, tmp_path / "folder", repository=repository)
    with pytest.raises(copal.UsageError):
        copal.BackupManager(db)
    with pytest.raises(copal.UsageError):
        copal.load_store(repository, "dict", kind="list")
    monkeypatch.setenv("COPAL_REPOSITORY", repository)
    copal.BackupManager(db, name="found here").backup_now()
    assert loaded(None, "found here") == db
    copal.BackupManager(db, repository=copal.Copal(repository), name="Of a Copal").backup_now()
    assert loaded(repository, "Of a Copal") == db
    with pytest.raises(copal.NotFoundError):
        loaded(repository, "of a copal")


def test_two_managers_under_one_name(repository: str) -> None:
    first_db, second_db = tables(), {"other": {1: {"x": 1}}}
    first = manager(first_db, repository, incremental=True)
    first.backup_now()
    second = manager(second_db, repository, incremental=True)
    second.backup_now()
    assert loaded(repository) == second_db
    first_db["users"][3] = {"late": True}
    first.backup_now()
    assert kinds(first) == ["full", "full", "full"], "a delta that follows another's state is never written"
    assert first.deltas_since_full == 0
    first_db["users"][4] = {"later": True}
    first.backup_now()
    assert kinds(first)[-1] == "delta" and loaded(repository) == first_db


def test_missing_and_foreign_deltas_are_errors(repository: str) -> None:
    import copal

    db = tables()
    one = manager(db, repository, incremental=True)
    times = []
    for number in range(4):
        db["users"][number] = {"n": number}
        one.backup_now()
        times.append(now())
    first, second, third = journal_objects(repository)
    kept = second.read_bytes()
    second.unlink()
    with pytest.raises(copal.DamageError):
        loaded(repository)
    assert any(checked.problem for checked in one.verify())
    second.write_bytes(third.read_bytes())
    with pytest.raises(copal.DamageError):
        loaded(repository)
    second.write_bytes(kept[:-1])
    with pytest.raises(copal.DamageError):
        loaded(repository)
    second.write_bytes(kept)
    assert loaded(repository) == db and all(checked.problem is None for checked in one.verify())
    other = manager({"users": {1: {"foreign": True}}}, repository, incremental=True, name="other")
    other.backup_now()
    other._source._db["users"][2] = {}
    other.backup_now()
    (foreign,) = journal_objects(repository, "other")
    third.write_bytes(foreign.read_bytes())
    with pytest.raises(copal.DamageError):
        loaded(repository)
    third.unlink()
    first.write_bytes(first.read_bytes()[:40])
    problems = [checked.problem for checked in one.verify()]
    assert problems[0] is None and any(problems)


def test_a_delta_that_is_gone_leads_to_a_full(repository: str) -> None:
    db = tables()
    one = manager(db, repository, incremental=True)
    one.backup_now()
    db["users"][3] = {}
    one.backup_now()
    journal_objects(repository)[-1].unlink()
    db["users"][4] = {}
    one.backup_now()
    assert kinds(one)[-1] == "full" and loaded(repository) == db


def test_an_encrypted_repository_and_its_passphrase(tmp_path: Path) -> None:
    import copal

    repository = copal.init(tmp_path / "encrypted", passphrase="right").repository
    db = tables()
    failures = Failures()
    wrong = manager(db, repository, passphrase="wrong", incremental=True, on_backup_failure=failures)
    wrong.backup_now()
    wrong.backup_now()
    assert [count for _, count in failures.told] == [1, 2] and wrong.consecutive_failures == 2
    assert all(isinstance(error, copal.PassphraseError) for error, _ in failures.told)
    assert "wrong" not in str(failures.told[0][0]).replace("wrong passphrase", "")
    one = manager(db, repository, passphrase="right", incremental=True)
    one.backup_now()
    db["users"][7] = {"secret": "in amber"}
    one.backup_now()
    assert loaded(repository, passphrase="right") == db
    assert not any(b"in amber" in path.read_bytes() for path in folder(repository).rglob("*") if path.is_file())
    with pytest.raises(copal.PassphraseError):
        loaded(repository, passphrase="wrong")


def test_a_repository_that_vanishes_and_comes_back(repository: str) -> None:
    import copal

    failures = Failures()
    db = tables()
    one = manager(db, repository, incremental=True, on_backup_failure=failures)
    one.backup_now()
    here = str(folder(repository))
    os.rename(here, here + ".away")
    for number in (3, 4):
        db["users"][number] = {"n": number}
        one.backup_now()
    assert [count for _, count in failures.told] == [1, 2]
    with pytest.raises(copal.CopalError):
        one.list()
    os.rename(here + ".away", here)
    one.backup_now()
    assert one.consecutive_failures == 0 and loaded(repository) == db
    shutil.rmtree(here)
    with pytest.raises(copal.NotFoundError):
        loaded(repository)
    copal.init(repository, encrypt=False)
    db["users"][5] = {}
    one.backup_now()
    assert kinds(one) == ["full"] and loaded(repository) == db, "a new repository begins with a full"


def test_a_repository_that_never_was(tmp_path: Path) -> None:
    import copal

    failures = Failures()
    one = manager(tables(), tmp_path / "nowhere", on_backup_failure=failures)
    one.backup_now()
    ((error, count),) = failures.told
    assert isinstance(error, copal.NotFoundError) and count == 1
    with pytest.raises(copal.NotFoundError):
        one.list()
    assert not (tmp_path / "nowhere").exists()


def test_notify_change_only_wakes_a_started_manager(repository: str) -> None:
    db = tables()
    one = manager(db, repository, incremental=True, min_backup_interval=0.0)
    began, go_on = threading.Event(), threading.Event()
    savers: List[str] = []
    run = one._destination._run

    def slow(name: str, arguments: Any) -> Any:
        savers.append(threading.current_thread().name)
        began.set()
        assert go_on.wait(60)
        return run(name, arguments)

    one._destination._run = slow
    one.start()
    one.notify_change()
    assert began.wait(60)
    db["users"][3] = {"while": "it was saved"}
    for _ in range(3):
        one.notify_change()
    assert not go_on.is_set()
    go_on.set()
    wait_for(lambda: one.deltas_since_full == 1, "the change that came during a backup")
    assert set(savers) == {"copal-backup"}
    one.stop()
    assert loaded(repository) == db


def test_notify_change_from_many_threads(repository: str) -> None:
    db: Tables = {"users": {}}
    lock = threading.RLock()
    with manager(db, repository, incremental=True, min_backup_interval=0.01, lock=lock) as one:

        def write(number: int) -> None:
            for step in range(20):
                with lock:
                    db["users"][number * 100 + step] = {"n": step}
                one.notify_change()

        threads = [threading.Thread(target=write, args=(number,)) for number in range(32)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
    assert one.consecutive_failures == 0
    assert len(db["users"]) == 640 and loaded(repository) == db


def test_stop_makes_a_last_backup_if_something_changed(repository: str) -> None:
    db = tables()
    with manager(db, repository, incremental=True):
        pass
    assert loaded(repository) == db
    one = manager(db, repository, incremental=True)
    one.start()
    one.backup_now()
    one.stop()
    assert len(kinds(one)) == 2
    one.start()
    db["users"][3] = {}
    one.stop()
    assert kinds(one)[-1] == "delta" and loaded(repository) == db


def test_callbacks_that_raise_and_that_save(tmp_path: Path) -> None:
    import copal

    calls: List[int] = []

    def again(_: Exception, count: int) -> None:
        calls.append(count)
        one.backup_now()
        one.notify_change()
        raise RuntimeError("from the callback")

    one = copal.BackupManager(tables(), repository=str(tmp_path / "none"), on_backup_failure=again)
    one.backup_now()
    assert calls == [1] and one.consecutive_failures == 2


def test_somebody_else_at_work_is_waited_for(repository: str) -> None:
    first, second = tables(), tables()
    managers = [manager(db, repository, incremental=True) for db in (first, second)]

    def write(one: Any, db: Tables) -> None:
        for number in range(8):
            db["users"][number] = {"n": number, "who": id(db)}
            one.backup_now()

    threads = [threading.Thread(target=write, args=pair) for pair in zip(managers, (first, second))]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert [one.consecutive_failures for one in managers] == [0, 0]
    assert loaded(repository) in (first, second)
    assert all(checked.problem is None for checked in managers[0].verify())
