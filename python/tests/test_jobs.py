"""When jobs run: the rules, by a clock that is set here."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Iterator, List

import pytest
from fakes import FakeClock, FakeWork, until

import copal
from copal.jobs import Event, Job, Scheduler
from copal.jobs.work import Newest

NOON = datetime(2026, 11, 21, 12, 0, 30, tzinfo=timezone.utc)


class Rig:
    """Schedulers in one process that are told apart as processes are, with one repository."""

    def __init__(self) -> None:
        self.clock = FakeClock(NOON)
        self.made: List[Newest] = []
        self.schedulers: List[Scheduler] = []

    def scheduler(self, schedule: "str | None" = "every 1h", **job: Any) -> "tuple[Scheduler, FakeWork, List[Event]]":
        """One that is started, what it does, and what it tells."""
        events: List[Event] = []
        made = Scheduler(
            [Job("app.db", schedule, name="app", timezone="UTC", **job)], clock=self.clock, on_event=events.append
        )
        work = FakeWork(self.clock, self.made)
        made._works = {"app": work}  # type: ignore[dict-item]
        self.schedulers.append(made)
        return made.start(), work, events

    def have(self, time: datetime) -> None:
        """A backup that somebody made."""
        self.made.append(Newest(f"{time:%Y%m%d-%H%M%S}Z-{len(self.made):04}", time))

    def settle(self) -> None:
        """Lets the threads see what there is to see."""
        for scheduler in self.schedulers:
            worker = scheduler._worker(scheduler.jobs[0])
            until(lambda: not scheduler.running or not worker._wake.is_set())
        threading.Event().wait(0.1)


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    made = Rig()
    yield made
    for scheduler in made.schedulers:
        scheduler.stop(grace=0)


def kinds(events: List[Event]) -> List[str]:
    return [event.kind for event in events]


def test_a_database_without_any_backup_gets_one_at_once(rig: Rig) -> None:
    scheduler, _, events = rig.scheduler(keep={"last": 3})
    until(lambda: "succeeded" in kinds(events))
    assert len(rig.made) == 1
    assert rig.made[0].time == NOON
    status = scheduler.status().jobs[0]
    assert (status.protected, status.problems, status.last_backup) == (True, (), rig.made[0].id)
    assert status.next_run == datetime(2026, 11, 21, 13, 0, tzinfo=timezone.utc)


def test_what_is_due_runs_once_and_is_pruned(rig: Rig) -> None:
    rig.have(NOON)
    _, work, events = rig.scheduler(keep={"last": 3})
    rig.settle()
    assert not events
    rig.clock.advance(minutes=59, seconds=29)
    rig.settle()
    assert not events
    rig.clock.advance(seconds=1)
    until(lambda: kinds(events) == ["started", "succeeded"])
    assert (len(rig.made), work.pruned) == (2, 1)
    rig.clock.advance(hours=1)
    until(lambda: len(rig.made) == 3)


def test_what_was_missed_is_one_run(rig: Rig) -> None:
    rig.have(NOON - timedelta(days=3))
    _, _, events = rig.scheduler()
    until(lambda: "succeeded" in kinds(events))
    rig.settle()
    assert len(rig.made) == 2


def test_without_catching_up_nothing_is_made_up_for(rig: Rig) -> None:
    rig.have(NOON - timedelta(days=3))
    scheduler, _, events = rig.scheduler(catch_up=False)
    until(lambda: kinds(events) == ["missed"])
    assert len(rig.made) == 1
    assert not scheduler.status().protected
    rig.clock.advance(hours=1)
    until(lambda: len(rig.made) == 2)


def test_of_three_schedulers_one_makes_each_backup(rig: Rig) -> None:
    three = [rig.scheduler() for _ in range(3)]
    until(lambda: sum(kinds(events).count("succeeded") for _, _, events in three) == 1)
    for count in range(2, 5):
        rig.clock.advance(hours=1)
        until(lambda: len(rig.made) == count)
        until(lambda: all(s.status().jobs[0].next_run > rig.clock.now() for s, _, _ in three))
    assert len(rig.made) == 4
    assert all(scheduler.status().jobs[0].last_backup == rig.made[-1].id for scheduler, _, _ in three)


def test_a_passing_failure_is_retried_by_one_of_three(rig: Rig) -> None:
    rig.have(NOON)
    three = [rig.scheduler() for _ in range(3)]
    rig.settle()
    for _, work, _ in three:
        work.errors = [copal.UnavailableError("the store is away")] * 20
    rig.clock.advance(minutes=59, seconds=30)

    def failures() -> int:
        return sum(kinds(events).count("failed") for _, _, events in three)

    until(lambda: failures() == 1)
    until(lambda: all(s.status().jobs[0].next_run > rig.clock.now() for s, _, _ in three))
    status = three[0][0].status().jobs[0]
    assert (status.consecutive_failures, status.protected) == (1, True)
    assert status.last_failure is not None
    assert (status.last_failure.kind, status.last_failure.message) == ("unavailable", "the store is away")
    for seconds, count in ((30, 2), (60, 3), (120, 4)):
        rig.clock.advance(seconds=seconds)
        until(lambda: failures() == count)
        until(lambda: all(s.status().jobs[0].next_run > rig.clock.now() for s, _, _ in three))
    assert three[2][0].status().jobs[0].consecutive_failures == 4
    for _, work, _ in three:
        work.errors = []
    rig.clock.advance(seconds=240)
    until(lambda: len(rig.made) == 2)
    until(lambda: three[1][0].status().jobs[0].consecutive_failures == 0)


def test_what_somebody_has_to_mend_waits_for_the_next_occurrence(rig: Rig) -> None:
    rig.have(NOON)
    scheduler, work, events = rig.scheduler()
    rig.settle()
    work.errors = [copal.PassphraseError("wrong passphrase")]
    rig.clock.advance(hours=1)
    until(lambda: "failed" in kinds(events))
    until(lambda: scheduler.status().jobs[0].next_run == datetime(2026, 11, 21, 14, 0, tzinfo=timezone.utc))
    rig.clock.advance(minutes=30)
    rig.settle()
    assert kinds(events) == ["started", "failed"]
    assert scheduler.status().protected
    rig.clock.advance(minutes=31)
    until(lambda: len(rig.made) == 2)


def test_retries_end(rig: Rig) -> None:
    rig.have(NOON)
    scheduler, work, events = rig.scheduler("@daily", retries=2)
    rig.settle()
    work.errors = [copal.UnavailableError("away")] * 5
    rig.clock.advance(hours=12)
    for count, seconds in ((1, 30), (2, 60), (3, 0)):
        until(lambda: kinds(events).count("failed") == count)
        until(lambda: scheduler.status().jobs[0].next_run > rig.clock.now())
        rig.clock.advance(seconds=seconds)
    assert scheduler.status().jobs[0].next_run == datetime(2026, 11, 23, tzinfo=timezone.utc)


def test_who_is_busy_is_asked_again_and_has_not_failed(rig: Rig) -> None:
    rig.have(NOON)
    scheduler, work, events = rig.scheduler()
    rig.settle()
    work.errors = [copal.BusyError("somebody else")]
    rig.clock.advance(hours=1)
    until(lambda: "busy" in kinds(events))
    # Somebody else has made it in the meantime.
    rig.have(rig.clock.now())
    rig.clock.advance(seconds=5)
    until(lambda: "elsewhere" in kinds(events))
    status = scheduler.status().jobs[0]
    assert (len(rig.made), status.consecutive_failures, status.last_failure) == (2, 0, None)


def test_a_clock_set_back_stops_nothing_and_repeats_nothing(rig: Rig) -> None:
    rig.have(NOON)
    _, _, events = rig.scheduler("@daily")
    rig.settle()
    rig.clock.advance(hours=12)
    until(lambda: len(rig.made) == 2)
    # An hour back: midnight comes again, and was dealt with.
    rig.clock.set(NOON + timedelta(hours=11))
    rig.settle()
    rig.clock.advance(hours=2)
    rig.settle()
    assert len(rig.made) == 2
    rig.clock.advance(hours=24)
    until(lambda: len(rig.made) == 3)
    # A month back: the schedule goes on by the new time.
    rig.clock.set(rig.clock.now() - timedelta(days=30))
    rig.settle()
    rig.clock.advance(hours=24)
    until(lambda: len(rig.made) == 4)
    rig.clock.advance(hours=24)
    until(lambda: len(rig.made) == 5)
    assert kinds(events).count("started") == 4


def test_a_clock_that_jumps_forward_is_one_run(rig: Rig) -> None:
    rig.have(NOON)
    _, _, events = rig.scheduler()
    rig.settle()
    rig.clock.set(NOON + timedelta(days=40))
    until(lambda: kinds(events) == ["started", "succeeded"])
    rig.settle()
    assert len(rig.made) == 2


def test_a_repository_that_is_away_at_the_start_is_told_and_asked_again(rig: Rig) -> None:
    scheduler = Scheduler([Job("app.db", "@daily", name="app", timezone="UTC")], clock=rig.clock)
    work = FakeWork(rig.clock, rig.made)
    work.unreadable = copal.UnavailableError("no connection")
    rig.have(NOON)
    scheduler._works = {"app": work}  # type: ignore[dict-item]
    rig.schedulers.append(scheduler.start())
    until(lambda: scheduler.status().jobs[0].consecutive_failures == 1)
    status = scheduler.status()
    assert not status.protected
    assert any("no connection" in problem for problem in status.jobs[0].problems)
    work.unreadable = None
    rig.clock.advance(seconds=30)
    until(lambda: scheduler.status().protected)


def test_run_now_follows_what_is_under_way(rig: Rig) -> None:
    rig.have(NOON)
    scheduler, work, events = rig.scheduler()
    rig.settle()
    work.gate = threading.Event()
    first = scheduler.run_now()
    assert work.begun.wait(60)
    assert scheduler.status().jobs[0].running == "backup"
    second = scheduler.run_now("app")
    work.gate.set()
    assert first.result(60) != second.result(60)
    assert kinds(events) == ["started", "succeeded"] * 2
    work.gate, work.begun = threading.Event(), threading.Event()
    third = scheduler.run_now()
    assert work.begun.wait(60)
    unwanted = scheduler.run_now()
    assert unwanted.cancel()
    work.gate.set()
    assert third.result(60)
    rig.settle()
    assert len(rig.made) == 4
    work.errors = [copal.PermissionDeniedError("no")]
    with pytest.raises(copal.PermissionDeniedError):
        scheduler.run_now("app").result(60)
    assert scheduler.status().jobs[0].consecutive_failures == 1
    with pytest.raises(copal.NotFoundError, match="there is no job 'other'"):
        scheduler.run_now("other")


def test_stop_waits_or_cancels(rig: Rig) -> None:
    scheduler, work, events = rig.scheduler()
    until(lambda: "succeeded" in kinds(events))
    work.gate, work.begun = threading.Event(), threading.Event()
    asked = scheduler.run_now()
    assert work.begun.wait(60)
    waiting = scheduler.run_now()
    stopping = threading.Thread(target=scheduler.stop, kwargs={"grace": 60})
    stopping.start()
    stopping.join(0.2)
    assert stopping.is_alive()
    work.gate.set()
    stopping.join(60)
    assert asked.result(0)
    with pytest.raises(copal.CancelledError):
        waiting.result(60)
    with pytest.raises(copal.UsageError, match="does not run"):
        scheduler.run_now()

    # Once more, and this time nobody waits.
    work.gate, work.begun = threading.Event(), threading.Event()
    asked = scheduler.start().run_now()
    assert work.begun.wait(60)
    scheduler.stop(grace=0)
    with pytest.raises(copal.CancelledError):
        asked.result(60)
    assert not scheduler.running


def test_callbacks_that_raise_or_stop_the_scheduler_harm_nobody(rig: Rig) -> None:
    def raises(event: Event) -> None:
        if event.kind == "succeeded":
            scheduler.stop(grace=0)
        raise RuntimeError("a mistake of the program")

    scheduler = Scheduler([Job("app.db", "@daily", name="app")], clock=rig.clock, on_event=raises)
    scheduler._works = {"app": FakeWork(rig.clock, rig.made)}  # type: ignore[dict-item]
    scheduler.start()
    until(lambda: not scheduler.running)
    assert len(rig.made) == 1


def test_drills_have_a_schedule_of_their_own(rig: Rig) -> None:
    rig.have(NOON)
    scheduler, work, events = rig.scheduler(None, drill="@daily")
    rig.settle()
    assert not work.drilled
    rig.clock.advance(hours=12)
    until(lambda: len(work.drilled) == 1)
    until(lambda: scheduler.status().jobs[0].last_drill is not None)
    # Another process has it from here that it was done.
    scheduler.stop()
    other, work, _ = rig.scheduler(None, drill="@daily")
    rig.settle()
    assert not work.drilled
    rig.clock.advance(days=3)
    until(lambda: len(work.drilled) == 1)
    work.errors = [copal.CopalError("rows are missing", kind="drill-failed")]
    rig.clock.advance(days=1)
    until(lambda: any("rows are missing" in problem for problem in other.status().jobs[0].problems))
    assert kinds(events).count("succeeded") == 1


@pytest.mark.parametrize(
    ("job", "says"),
    [
        (lambda: Job("app.db", "0 25 * * *"), "25"),
        (lambda: Job("app.db", "@nightly"), "@nightly"),
        (lambda: Job("app.db", "@daily", timezone="Europe/Atlantis"), "Europe/Atlantis"),
        (lambda: Job("app.db", None), "neither a schedule nor a drill"),
        (lambda: Job("app.db", "@daily", retries=-1), "retries is -1"),
        (lambda: Scheduler([]), "there are no jobs"),
        (lambda: Scheduler([Job("a/app.db", "@daily"), Job("b/app.db", "@daily")]), "two jobs are called 'app'"),
        (lambda: Scheduler([Job("app.db", "@daily")], concurrency=0), "concurrency is 0"),
        (lambda: Scheduler([Job(42, "@daily")]), "builtins.int is nothing"),
        (lambda: Scheduler([Job("app.db", "@daily", keep={"last": -1})]), "last is -1"),
        (lambda: Scheduler([Job("app.db", "@daily", keep={"lsat": 1})]), "no rule 'lsat'"),
        (lambda: Job("app.db", "@daily", keep={"within": "5 parsecs"}), "5 parsecs"),
    ],
)
def test_mistakes_are_told_at_once(job: Any, says: str) -> None:
    with pytest.raises(copal.UsageError, match=says):
        job()


def test_a_configuration_is_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "copal.toml"
    text = '[repository]\nurl = "backups"\n[databases.shop]\nurl = "sqlite:shop.db"\n'
    path.write_text(text + 'schedule = "@dayly"\n')
    with pytest.raises(copal.ConfigurationError, match="@dayly"):
        Scheduler(config=path)
    path.write_text(text)
    with pytest.raises(copal.ConfigurationError, match=r"no database in .*copal.toml has a schedule"):
        Scheduler(config=path)
    path.write_text(text + 'schedule = "@daily"\ndrill = "@weekly"\nretries = 3\ncatch_up = false\ntimezone = "UTC"\n')
    (job,) = Scheduler(config=path).jobs
    assert (job.title, job.schedule, job.drill, job.retries, job.catch_up) == ("shop", "@daily", "@weekly", 3, False)
    with pytest.raises(copal.ConfigurationError):
        Scheduler(config=tmp_path / "missing.toml")


def test_settings_are_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COPAL_PASSPHRASE_FILE", str(tmp_path / "missing"))
    with pytest.raises(copal.CopalError, match="missing"):
        Scheduler([Job("app.db", "@daily")], repository=tmp_path / "repository")
    with pytest.raises(TypeError, match="pasphrase"):
        Scheduler([Job("app.db", "@daily")], pasphrase="…")
    monkeypatch.delenv("COPAL_PASSPHRASE_FILE")
    import sqlite3

    with pytest.raises(copal.UsageError, match="needs a name"):
        Scheduler([Job(sqlite3.connect(":memory:"), "@daily")])


def test_processes_on_several_machines_do_not_start_in_one_moment(rig: Rig) -> None:
    rig.have(NOON)
    scheduler = Scheduler([Job("app.db", "every 1m", name="app")], clock=rig.clock)
    work = FakeWork(rig.clock, rig.made)
    work.is_far = True
    scheduler._works = {"app": work}  # type: ignore[dict-item]
    rig.schedulers.append(scheduler)
    worker = scheduler._worker(scheduler.jobs[0])
    worker._share = 0.5
    assert worker._backup is not None
    worker._backup.plan(NOON, NOON)
    assert worker._backup.due == NOON + timedelta(seconds=30)
    assert worker._backup.start_at(0.5) == NOON + timedelta(seconds=33)
    assert scheduler.status().jobs[0].next_run == worker._backup.due


def test_jobs_have_short_names() -> None:
    names = {
        "app.db": "app",
        "/srv/data/shop.sqlite3": "shop",
        "sqlite:////srv/data/shop.db": "shop",
        "postgresql+psycopg://me:secret@db.example.org:5432/my%20shop?sslmode=require": "my shop",
        "postgres://db.example.org": "db.example",
        "duckdb:x.duckdb": "x",
    }
    for source, name in names.items():
        job = Job(source, "@daily")
        assert job.title == name
        assert "secret" not in repr(job)
