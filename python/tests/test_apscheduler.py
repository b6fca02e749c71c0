"""The job of APScheduler."""

from __future__ import annotations

import pickle
import sqlite3
from datetime import timedelta
from pathlib import Path
from typing import Any, List

import pytest
from conftest import wait_for
from services import example

import copal
from copal.contrib.apscheduler import backup_job

apscheduler = pytest.importorskip("apscheduler")


def test_the_example_makes_backups_from_a_job_store(
    tmp_path: Path, repository: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from apscheduler.triggers.interval import IntervalTrigger

    folder = example("python-apscheduler", tmp_path)
    monkeypatch.setenv("DATABASE", str(tmp_path / "visits.db"))
    monkeypatch.setenv("BACKUPS", repository)
    monkeypatch.syspath_prepend(str(folder))
    import worker

    worker.visit()
    scheduler = worker.scheduler()
    # A job store on a disk pickles the function's name and its arguments.
    job = scheduler.get_job("backup")
    scheduler.start(paused=True)
    job = scheduler.get_job("backup")
    assert pickle.loads(pickle.dumps(job)).func is backup_job
    job.modify(trigger=IntervalTrigger(seconds=1))
    job.reschedule(IntervalTrigger(seconds=1))
    failed: List[Any] = []
    scheduler.add_listener(failed.append, apscheduler.events.EVENT_JOB_ERROR)
    scheduler.resume()
    try:
        wait_for(lambda: _count("visits", repository) >= 2, "backups")
    finally:
        scheduler.shutdown()
    assert not failed
    copal.restore("visits", to=tmp_path / "copy.db", repository=repository)
    connection = sqlite3.connect(tmp_path / "copy.db")
    assert connection.execute("SELECT count(*) FROM visits").fetchone()[0] >= 1
    connection.close()


def test_of_several_processes_one_makes_the_backup(tmp_path: Path, repository: str) -> None:
    database = tmp_path / "app.db"
    connection = sqlite3.connect(database)
    connection.execute("CREATE TABLE t (x)")
    connection.close()
    options: Any = {"repository": repository, "name": "app", "keep": {"last": 1}}
    made = [backup_job(str(database), unless_newer_than=timedelta(hours=1), **options) for _ in range(3)]
    assert made[0] is not None
    assert made[1:] == [None, None]
    newest = backup_job(database, label="by hand", **options)
    (kept,) = copal.list_backups("app", repository=repository)
    assert (kept.id, kept.label) == (newest, "by hand")
    with pytest.raises(copal.NotFoundError):
        backup_job(str(tmp_path / "missing.db"), repository=repository)


def _count(name: str, repository: str) -> int:
    try:
        return len(copal.list_backups(name, repository=repository))
    except copal.NotFoundError:
        return 0
