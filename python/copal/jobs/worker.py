"""The thread of one job: waits until something is due, and does it.

Invariants: a job has one run at a time in all processes of this machine (:mod:`.turn`), and before a scheduled backup
it looks whether somebody else has made it. A run that fails, a callback that raises and a repository that is away never
end the thread.
"""

from __future__ import annotations

import logging
import random
import threading
from concurrent.futures import Future
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Callable, List, Optional

from .._work import Cancellation
from ..errors import BusyError, CancelledError, CopalError
from .._values import format_time, parse_time
from .clock import Clock
from .job import Job
from .lane import Lane
from .status import Event, Failure, JobStatus
from .timing import TREMBLE, Timetable
from .turn import Record, Turn
from .work import PASSING, Newest, Work

if TYPE_CHECKING:
    from ..results import Backup

log = logging.getLogger("copal.jobs")

#: The longest sleep: somebody may set the clock.
LOOK_AGAIN = 30.0
#: How often it is looked whether another process has given its turn back, in seconds.
POLL = 0.25


class Switches:
    """What all threads of a scheduler share."""

    def __init__(self, clock: Clock, concurrency: int, on_event: Optional[Callable[[Event], None]]) -> None:
        self.clock, self.on_event = clock, on_event
        self.places = threading.Semaphore(concurrency)
        #: No run starts any more.
        self.stopping = threading.Event()
        #: Runs under way end now.
        self.cancel = Cancellation()


class Worker:
    """The thread of one job."""

    def __init__(self, job: Job, work: Work, switches: Switches) -> None:
        self.job, self._work, self._switches = job, work, switches
        now = switches.clock.now()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._requests: List["Future[str]"] = []
        self._running: Optional[str] = None
        self._share = random.random() if work.is_far else 0.0
        self._seen = now
        self._newest: Optional[Newest] = None
        #: When the repository last said so; ``None``: never.
        self._looked_at: Optional[datetime] = None
        self._look_failed: Optional[Failure] = None
        #: Who asks for the status meanwhile waits, and asks no second time.
        self._look_lock = threading.Lock()
        self._backup_turn = Turn(work.place, job.title, "backup")
        self._drill_turn = Turn(work.place, job.title, "drill")
        self._backup = self._lane(job.schedule, now)
        self._drill = self._lane(job.drill, now)
        self.thread = threading.Thread(target=self._main, name=f"copal-{job.title}", daemon=True)

    def _lane(self, schedule: Optional[str], now: datetime) -> Optional[Lane]:
        if schedule is None:
            return None
        job = self.job
        return Lane(Timetable(schedule, job.timezone), catch_up=job.catch_up, retries=job.retries, now=now)

    def request(self) -> "Future[str]":
        """Asks for a backup as soon as possible; its id, or why there is none."""
        future: "Future[str]" = Future()
        with self._lock:
            if self._switches.stopping.is_set():
                raise CancelledError("the scheduler is stopping")
            self._requests.append(future)
        self._wake.set()
        return future

    def wake(self) -> None:
        """Makes the thread look at the switches."""
        self._wake.set()

    def forget(self) -> None:
        """In a fork: what the parent holds is not ours."""
        self._backup_turn.forget()
        self._drill_turn.forget()

    def look(self, older_than: timedelta) -> None:
        """Asks the repository for the newest backup, if that was last done, or tried, longer ago."""
        with self._look_lock:
            asked = self._looked_at if self._look_failed is None else self._look_failed.time
            if asked is None or not timedelta(0) <= self._switches.clock.now() - asked < older_than:
                try:
                    self._look()
                except Exception:
                    log.debug("%s: the repository could not be asked", self.job.title, exc_info=True)

    def backups(self) -> "List[Backup]":
        """The database's backups, oldest first."""
        return self._work.backups()

    def status(self) -> JobStatus:
        """How the job does."""
        now = self._switches.clock.now()
        record, drills = self._backup_turn.read(), self._drill_turn.read()
        newest, look_failed, backup, drill = self._newest, self._look_failed, self._backup, self._drill
        problems = []
        stale = newest is not None and backup is not None and backup.stale(newest.time, now)
        failure = _failure(record)
        if look_failed is not None and (failure is None or failure.message != look_failed.message):
            problems.append(f"the repository could not be asked: {look_failed.message}")
        if newest is None:
            if look_failed is None:
                problems.append("there is no backup yet" if self._looked_at else "the repository was not looked at yet")
        elif stale:
            problems.append(f"the newest backup is of {format_time(newest.time)}, and another was due since")
        for what, failed, count in (("backup", failure, record.failures), ("drill", _failure(drills), drills.failures)):
            if failed is not None:
                times = f" {count} times in a row" if count > 1 else ""
                problems.append(f"the {what} failed{times}: {failed.message}")
        return JobStatus(
            name=self.job.title,
            schedule=self.job.schedule,
            drill=self.job.drill,
            protected=newest is not None and not stale,
            problems=tuple(problems),
            running=self._running,
            last_backup=None if newest is None else newest.id,
            last_success=None if newest is None else newest.time,
            last_drill=None if drills.done_at is None else parse_time(drills.done_at),
            last_failure=failure or _failure(drills),
            consecutive_failures=max(record.failures, drills.failures),
            next_run=None if backup is None else backup.next_run,
            next_drill=None if drill is None else drill.next_run,
        )

    def _main(self) -> None:
        switches = self._switches
        self._open()
        while not switches.stopping.is_set():
            self._wake.clear()
            try:
                pause = self._step()
            except Exception:
                # A mistake of ours, or no memory: the schedule must go on all the same.
                log.exception("%s: the scheduler met an error", self.job.title)
                pause = LOOK_AGAIN
            if pause > 0 and not switches.stopping.is_set():
                switches.clock.wait(self._wake, pause)
        with self._lock:
            requests, self._requests = self._requests, []
        for request in requests:
            if request.set_running_or_notify_cancel():
                request.set_exception(CancelledError("the scheduler was stopped"))

    def _open(self) -> None:
        now = self._seen
        if self._backup is not None:
            try:
                newest = self._look()
            except Exception:
                # The first run will say so, at once.
                self._backup.plan(None, now)
            else:
                self._backup.plan(None if newest is None else newest.time, now)
        elif self._drill is not None:
            self.look(timedelta(0))
        if self._drill is not None:
            record = self._drill_turn.read()
            since = record.done_at or record.since
            if since is None:
                self._drill_turn.write(replace(record, since=format_time(now)))
            self._drill.plan(now if since is None else parse_time(since), now)

    def _step(self) -> float:
        """Does one thing that is due, and answers how long to wait for the next, in seconds."""
        now = self._switches.clock.now()
        back = self._seen - now
        self._seen = now
        for lane in (self._backup, self._drill):
            if lane is None:
                continue
            if back >= TREMBLE:
                lane.set_back(back, now)
            missed = lane.skip_missed(now)
            if missed is not None:
                self._tell("missed", "backup" if lane is self._backup else "drill", now)
        if self._requests:
            self._in_turn(self._backup_turn, self._requested)
            return 0.0
        pause = LOOK_AGAIN
        for lane, turn, run in (
            (self._backup, self._backup_turn, self._back_up),
            (self._drill, self._drill_turn, self._do_drill),
        ):
            start_at = None if lane is None else lane.start_at(self._share)
            if start_at is not None and start_at <= now:
                self._in_turn(turn, run)
                return 0.0
            if start_at is not None:
                pause = min(pause, (start_at - now).total_seconds())
        return pause

    def _in_turn(self, turn: Turn, act: Callable[[], None]) -> None:
        """Acts when it is this process's turn and there is a place; neither is held while the other is waited for."""
        switches = self._switches
        while not switches.stopping.is_set():
            try:
                taken = turn.take()
            except OSError:
                log.warning(
                    "%s: without lock files several processes may make the same backup", self.job.title, exc_info=True
                )
                taken = True
            try:
                if taken and switches.places.acquire(blocking=False):
                    try:
                        act()
                    finally:
                        switches.places.release()
                        self._running = None
                    return
            finally:
                if taken:
                    turn.give_back()
            self._wake.clear()
            if not switches.stopping.is_set():
                # Real time, whatever the clock: it is the other process that takes its time.
                self._wake.wait(POLL)

    def _look(self) -> Optional[Newest]:
        try:
            newest = self._work.newest()
        except Exception as error:
            self._look_failed = Failure(self._switches.clock.now(), _kind(error), _text(error))
            raise
        self._newest, self._looked_at, self._look_failed = newest, self._switches.clock.now(), None
        return newest

    def _back_up(self) -> None:
        """The scheduled backup, unless somebody else has made it."""
        lane, clock = self._backup, self._switches.clock
        if lane is None or lane.due is None:
            return
        due, known = lane.due, self._newest
        try:
            newest = self._look()
            now = clock.now()
            if newest is not None:
                # A backup of the future says that a clock is wrong; then any new one will do.
                future = newest.time > now + TREMBLE
                if lane.settled_by(newest.time) and (not future or known is None or newest.id != known.id):
                    lane.plan(max(newest.time, due), now)
                    self._tell("elsewhere", "backup", now, backup=newest.id)
                    return
            if lane.heed(self._backup_turn.read(), now):
                return
            made = self._make(patient=False)
        except Exception as error:
            self._failed(lane, self._backup_turn, "backup", due, error)
            return
        lane.plan(max(made.time, due), clock.now())
        self._succeeded(made)

    def _requested(self) -> None:
        """The backup that somebody has asked for."""
        with self._lock:
            requests, self._requests = self._requests, []
        # Who asked may have changed his mind.
        requests = [request for request in requests if request.set_running_or_notify_cancel()]
        if not requests:
            return
        try:
            made = self._make(patient=True)
        except Exception as error:
            self._failed(None, self._backup_turn, "backup", self._switches.clock.now(), error)
            for request in requests:
                request.set_exception(error)
            return
        if self._backup is not None:
            self._backup.plan(made.time, self._switches.clock.now())
        self._succeeded(made)
        for request in requests:
            request.set_result(made.id)

    def _make(self, patient: bool) -> Newest:
        self._running = "backup"
        self._tell("started", "backup", self._switches.clock.now())
        made = self._work.backup(self._switches.cancel, patient)
        self._newest, self._looked_at, self._look_failed = made, self._switches.clock.now(), None
        return made

    def _succeeded(self, made: Newest) -> None:
        self._backup_turn.write(Record())
        if self.job.keep is not None and not self._switches.cancel.is_cancelled:
            try:
                self._work.prune(self._switches.cancel)
            except Exception as error:
                # The backup exists, and the next one prunes again.
                log.warning("%s: the prune after the backup failed: %s", self.job.title, _text(error))
                self._tell("warning", "backup", self._switches.clock.now(), backup=made.id, error=error)
        log.info("%s: backup %s", self.job.title, made.id)
        self._tell("succeeded", "backup", self._switches.clock.now(), backup=made.id)

    def _do_drill(self) -> None:
        lane, clock, turn = self._drill, self._switches.clock, self._drill_turn
        if lane is None or lane.due is None:
            return
        due, record = lane.due, turn.read()
        if record.done_at is not None and lane.settled_by(parse_time(record.done_at)):
            lane.plan(max(parse_time(record.done_at), due), clock.now())
            return
        if lane.heed(record, clock.now()):
            return
        self._running = "drill"
        began = clock.now()
        self._tell("started", "drill", began)
        try:
            self._work.drill(self._switches.cancel)
        except Exception as error:
            self._failed(lane, turn, "drill", due, error)
            return
        lane.plan(max(began, due), clock.now())
        turn.write(Record(done_at=format_time(max(began, due)), since=record.since))
        self._tell("succeeded", "drill", clock.now())

    def _failed(self, lane: Optional[Lane], turn: Turn, run: str, due: datetime, error: Exception) -> None:
        now = self._switches.clock.now()
        if self._switches.cancel.is_cancelled or isinstance(error, CancelledError):
            self._tell("cancelled", run, now)
            if lane is not None and not self._switches.stopping.is_set():
                lane.failed(now, passing=True)
            return
        if isinstance(error, BusyError) and lane is not None:
            lane.busy(now)
            self._tell("busy", run, now, error=error)
            return
        kind, message, old = _kind(error), _text(error), turn.read()
        if lane is not None:
            lane.failed(now, passing=kind in PASSING)
            record = lane.record(old, now, due, kind, message)
        else:
            record = replace(old, failed_at=format_time(now), kind=kind, message=message, failures=old.failures + 1)
        turn.write(record)
        log.error("%s: the %s failed: %s", self.job.title, run, message)
        self._tell("failed", run, now, error=error, failures=record.failures)

    def _tell(
        self,
        kind: str,
        run: str,
        now: datetime,
        *,
        backup: Optional[str] = None,
        error: Optional[Exception] = None,
        failures: int = 0,
    ) -> None:
        if self._switches.on_event is None:
            return
        try:
            self._switches.on_event(Event(kind, self.job.title, run, now, backup, error, failures))
        except Exception:
            log.exception("%s: on_event raised", self.job.title)


def _failure(record: Record) -> Optional[Failure]:
    if record.failures == 0 or record.failed_at is None:
        return None
    return Failure(parse_time(record.failed_at), record.kind or "failed", record.message or "")


def _kind(error: Exception) -> str:
    return error.kind if isinstance(error, CopalError) else "failed"


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__
