"""A clock that tests set, and a repository in memory for the rules of the scheduler. What is protected is never faked
elsewhere."""

from __future__ import annotations

import threading
import time
from datetime import datetime, timedelta
from typing import Callable, List, Optional

from copal._work import Cancellation
from copal.errors import CancelledError
from copal.jobs import Clock
from copal.jobs.work import Newest


class FakeClock(Clock):
    """Stands still until it is told otherwise."""

    def __init__(self, now: datetime) -> None:
        self._now, self._passed = now, 0.0
        self._condition = threading.Condition()

    def now(self) -> datetime:
        return self._now

    def wait(self, event: threading.Event, seconds: float) -> None:
        with self._condition:
            until = self._passed + seconds
            while self._passed < until and not event.is_set():
                # Short, since nobody notifies when an event is set.
                self._condition.wait(0.005)

    def advance(self, **span: float) -> None:
        """Time passes."""
        with self._condition:
            by = timedelta(**span)
            self._now += by
            self._passed += by.total_seconds()
            self._condition.notify_all()

    def set(self, now: datetime) -> None:
        """Somebody sets the clock; half a minute later everybody has seen it."""
        with self._condition:
            self._now = now
        self.advance(seconds=30)


class FakeWork:
    """What a job does, with backups that are only noted."""

    place = "nowhere"
    is_far = False

    def __init__(self, clock: Clock, made: "Optional[List[Newest]]" = None) -> None:
        self._clock = clock
        #: Shared by those who have the same repository.
        self.made: List[Newest] = [] if made is None else made
        #: What goes wrong next, for each call of what it is for.
        self.errors: List[Exception] = []
        self.unreadable: Optional[Exception] = None
        self.pruned = 0
        self.drilled: List[datetime] = []
        #: Backups begin and wait for this, if it is there.
        self.gate: Optional[threading.Event] = None
        self.begun = threading.Event()

    def backups(self) -> List[Newest]:
        return list(self.made)

    def newest(self) -> Optional[Newest]:
        if self.unreadable is not None:
            raise self.unreadable
        return self.made[-1] if self.made else None

    def backup(self, cancel: Cancellation, patient: bool) -> Newest:
        began = self._clock.now().replace(microsecond=0)
        self.begun.set()
        while self.gate is not None and not self.gate.wait(0.005):
            if cancel.is_cancelled:
                raise CancelledError("interrupted")
        if self.errors:
            raise self.errors.pop(0)
        if self.made:
            began = max(began, self.made[-1].time + timedelta(seconds=1))
        newest = Newest(f"{began:%Y%m%d-%H%M%S}Z-{len(self.made):04}", began)
        self.made.append(newest)
        return newest

    def prune(self, cancel: Cancellation) -> None:
        self.pruned += 1

    def drill(self, cancel: Cancellation) -> None:
        if self.errors:
            raise self.errors.pop(0)
        self.drilled.append(self._clock.now())


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Waits until something is so; long, since the machine may be slow."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)
