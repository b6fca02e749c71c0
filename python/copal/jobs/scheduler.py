"""Makes the backups of a program's databases while it runs."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from concurrent.futures import Future
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterable, List, Optional, Set, Tuple, Type, Union

from ..client import Copal
from ..errors import NotFoundError, UsageError
from ..schedule import configuration
from .clock import Clock
from .job import Job, check_names, jobs_of
from .status import Event, SchedulerStatus
from .work import Work
from .worker import Switches, Worker

if TYPE_CHECKING:
    from ..results import Backup

log = logging.getLogger("copal.jobs")

#: How long a run that was told to end is waited for, in seconds.
CANCEL_WAIT = 60.0


class Scheduler:
    """Makes backups when they are due, on threads of its own, from :meth:`start` to :meth:`stop`.

    ``jobs`` says what to do; without it, the databases of ``config`` (a path; ``None``: where every command finds
    ``copal.toml``) that have a ``schedule`` or a ``drill``. ``repository``, ``passphrase`` and ``options`` are those of
    :class:`copal.Copal`; what is left out comes from the configuration and the environment.

    ``on_event`` hears of everything that happens, on the job's thread; what it raises is logged. At most
    ``concurrency`` runs go on at once. What is wrong with the jobs or the configuration is raised here and not at
    night. Nothing is done before :meth:`start`. After a fork the child's copy does not run; the parent's goes on.
    """

    def __init__(
        self,
        jobs: Optional[Iterable[Job]] = None,
        *,
        config: "Union[str, os.PathLike[str], None]" = None,
        repository: "Union[str, os.PathLike[str], None]" = None,
        passphrase: Optional[str] = None,
        on_event: Optional[Callable[[Event], None]] = None,
        concurrency: int = 2,
        grace: float = 10.0,
        clock: Optional[Clock] = None,
        **options: Any,
    ) -> None:
        if concurrency < 1:
            raise UsageError(f"concurrency is {concurrency}, and at least 1 is needed")
        if jobs is None:
            found = configuration(config)
            # The same file later on, wherever the program has gone meanwhile.
            config = found.path
            self.jobs: Tuple[Job, ...] = tuple(jobs_of(found))
        else:
            self.jobs = tuple(jobs)
            if not self.jobs:
                raise UsageError("there are no jobs")
        check_names(self.jobs)
        self.copal = Copal(repository, passphrase=passphrase, config=config, **options)
        self._works = {job.title: Work(job, self.copal, _place(repository, config)) for job in self.jobs}
        self._on_event, self._concurrency, self._grace = on_event, concurrency, grace
        self._clock = clock or Clock()
        self._lock = threading.Lock()
        self._switches: Optional[Switches] = None
        self._workers: Dict[str, Worker] = {}
        self._running = False

    def start(self) -> "Scheduler":
        """Starts what is due from now on. Does nothing if it runs already."""
        with self._lock:
            if self._running:
                return self
            self._switches = switches = Switches(self._clock, self._concurrency, self._on_event)
            self._workers = {job.title: Worker(job, self._works[job.title], switches) for job in self.jobs}
            self._running = True
            _started.add(self)
            for worker in self._workers.values():
                worker.thread.start()
        return self

    def stop(self, grace: Optional[float] = None) -> None:
        """Starts nothing any more and waits for what is under way; after ``grace`` seconds that is cancelled, which
        leaves nothing behind. Returns when it has ended. ``None``: the scheduler's own grace."""
        with self._lock:
            if not self._running or self._switches is None:
                return
            switches, workers = self._switches, list(self._workers.values())
            switches.stopping.set()
            for worker in workers:
                worker.wake()
        _join(workers, self._grace if grace is None else grace)
        switches.cancel.cancel()
        for left in _join(workers, CANCEL_WAIT):
            log.error("%s: a run did not end when it was told to", left.job.title)
        with self._lock:
            if self._switches is switches:
                self._running = False
                _started.discard(self)

    def __enter__(self) -> "Scheduler":
        return self.start()

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        """Whether runs start in this process."""
        return self._running

    def run_now(self, name: Optional[str] = None) -> "Future[str]":
        """Starts a backup now, or after the job's run that is under way. The name may be left out if there is one job.

        The future has the id of the backup, or raises what went wrong. Errors: `NotFoundError` for an unknown name,
        `UsageError` if the scheduler does not run in this process.
        """
        worker = self._worker(self._job(name))
        if not self._running:
            raise UsageError("the scheduler does not run in this process", hint="start it first")
        return worker.request()

    def status(self, *, look_after: Optional[float] = None) -> SchedulerStatus:
        """How everything does. With ``look_after`` the repository is asked for the newest backups, if it was not asked
        in so many seconds; that may block. Without it nothing blocks, and what other machines have made since may not
        be known."""
        workers = [self._worker(job) for job in self.jobs]
        if look_after is not None:
            for worker in workers:
                worker.look(timedelta(seconds=look_after))
        jobs = tuple(worker.status() for worker in workers)
        return SchedulerStatus(running=self._running, protected=all(job.protected for job in jobs), jobs=jobs)

    def backups(self, name: Optional[str] = None) -> "Dict[str, List[Backup]]":
        """The backups in the repository of one job or of all, by job and oldest first. Blocks.

        Errors: `NotFoundError` for an unknown name, and those of reading the repository.
        """
        jobs = self.jobs if name is None else (self._job(name),)
        return {job.title: self._worker(job).backups() for job in jobs}

    def _job(self, name: Optional[str]) -> Job:
        known = {job.title: job for job in self.jobs}
        if name is None and len(known) == 1:
            return self.jobs[0]
        if name is None:
            raise UsageError(f"there are several jobs: {', '.join(known)}", hint="name one of them")
        if name not in known:
            raise NotFoundError(f"there is no job {name!r}", hint=f"there are: {', '.join(known)}")
        return known[name]

    def _worker(self, job: Job) -> Worker:
        with self._lock:
            if job.title not in self._workers:
                # Not started: it can be asked all the same.
                switches = self._switches or Switches(self._clock, self._concurrency, self._on_event)
                self._workers[job.title] = Worker(job, self._works[job.title], switches)
            return self._workers[job.title]

    def _after_fork(self) -> None:
        """In the child: its threads are the parent's, and so is what they hold."""
        for worker in self._workers.values():
            worker.forget()
        self._lock = threading.Lock()
        self._switches, self._workers, self._running = None, {}, False


def _place(repository: Any, config: Any) -> str:
    """The repository as all processes with these jobs call it."""
    for given in (repository, config, os.environ.get("COPAL_REPOSITORY"), os.environ.get("COPAL_CONFIG")):
        if given is not None:
            text = os.fspath(given)
            return text if "://" in text else os.path.abspath(text)
    return os.getcwd()


def _join(workers: List[Worker], seconds: float) -> List[Worker]:
    """Waits for threads, and answers which have not ended. Not for the one that asks: a callback may stop its
    scheduler."""
    deadline = time.monotonic() + seconds
    others = [worker for worker in workers if worker.thread is not threading.current_thread()]
    for worker in others:
        if worker.thread.ident is not None:
            worker.thread.join(max(0.0, deadline - time.monotonic()))
    return [worker for worker in others if worker.thread.is_alive()]


#: Those that run, whether or not anybody else remembers them.
_started: Set[Scheduler] = set()


def _after_fork() -> None:
    for scheduler in list(_started):
        scheduler._after_fork()
    _started.clear()


@atexit.register
def _at_exit() -> None:
    """What is under way when the interpreter ends is cancelled, so that it leaves nothing behind."""
    for scheduler in list(_started):
        scheduler.stop(grace=0.0)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
