"""When one kind of run of one job is due, and what came of the last: no thread, no clock, no repository.

A backup is due when an occurrence of the schedule lies between the newest backup and now. That is the whole rule for
catching up, for runs that took too long and for several processes: whoever looks at the repository comes to the same
answer. A drill goes by the time of the last one, which the processes tell each other.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Optional

from .._values import format_time, parse_time
from .timing import (
    FIRST_BUSY,
    FIRST_RETRY,
    FIRST_SPREAD,
    LONGEST_BUSY,
    LONGEST_RETRY,
    LONGEST_SPREAD,
    MISSED_AFTER,
    Timetable,
    delay,
)
from .turn import Record

#: What a database without any backup is due for: whoever makes one settles it.
EVER = datetime(1970, 1, 1, tzinfo=timezone.utc)


class Lane:
    """One kind of run of one job."""

    def __init__(self, timetable: Timetable, *, catch_up: bool, retries: int, now: datetime) -> None:
        self._timetable, self._catch_up, self._retries = timetable, catch_up, retries
        self._opened = now
        #: The occurrence to run for; in the past if that is due. ``None``: never again.
        self.due = timetable.after(now)
        #: Not before this, after a failure.
        self.retry_at: Optional[datetime] = None
        self._attempt = 0
        self._busy = 0

    @property
    def wake_at(self) -> Optional[datetime]:
        """When there is something to do."""
        return self.retry_at or self.due

    @property
    def next_run(self) -> Optional[datetime]:
        """The same for people."""
        wake_at = self.wake_at
        return None if wake_at is None else max(wake_at, self._opened)

    def start_at(self, share: float) -> Optional[datetime]:
        """The same, later by this share of a tenth of the time between two occurrences, a minute at most.

        Processes on several machines that start in the same moment would not see each other's backup.
        """
        due = self.due
        if self.retry_at is not None or due is None:
            return self.retry_at
        # Who has nothing yet waits less.
        following = due + 10 * FIRST_SPREAD if due == EVER else self._timetable.after(due)
        room = LONGEST_SPREAD if following is None else min((following - due) / 10, LONGEST_SPREAD)
        return max(due, self._opened) + room * share

    def plan(self, done: Optional[datetime], now: datetime) -> None:
        """All occurrences up to ``done`` are dealt with; ``None``: there was no run ever, which counts as missed."""
        self.retry_at, self._attempt, self._busy = None, 0, 0
        if done is None:
            self.due = EVER if self._catch_up else self._timetable.after(self._opened)
        else:
            self.due = self._timetable.resume(now, done)

    def skip_missed(self, now: datetime) -> Optional[datetime]:
        """Without catching up: passes over an occurrence that was missed, and answers which."""
        due = self.due
        if self._catch_up or due is None or self.retry_at is not None or now - due <= MISSED_AFTER:
            return None
        self.plan(now, now)
        return due

    def settled_by(self, made: datetime) -> bool:
        """Whether a run that began then deals with what is due."""
        return self.due is not None and made >= self.due

    def failed(self, now: datetime, passing: bool) -> bool:
        """The run failed; answers whether it is tried again before the next occurrence."""
        self._attempt += 1
        following = self._timetable.after(now)
        retry = now + delay(self._attempt, FIRST_RETRY, LONGEST_RETRY)
        if passing and self._attempt <= self._retries and (following is None or retry < following):
            self.retry_at = retry
            return True
        self.plan(now, now)
        return False

    def busy(self, now: datetime) -> None:
        """Somebody else works on the database: looks again soon."""
        self._busy += 1
        self.retry_at = now + delay(self._busy, FIRST_BUSY, LONGEST_BUSY)

    def set_back(self, by: timedelta, now: datetime) -> None:
        """The clock was set back by this: waits keep their length, and no occurrence waits for the old time."""
        self._opened = min(self._opened, now)
        if self.retry_at is not None:
            self.retry_at -= by
        elif self.due is not None and self.due > now:
            # What was dealt with lies before the occurrence, by the clock as it was.
            self.due = self._timetable.resume(now, now + by)

    def heed(self, record: Record, now: datetime) -> bool:
        """Another process has tried meanwhile, and failed: goes by what it has planned. Answers whether there is
        such."""
        due = self.due
        if due is None or record.failed_due is None or record.failed_at is None:
            return False
        if parse_time(record.failed_at) < self._opened or parse_time(record.failed_due) < due:
            return False
        if record.retry_at is None:
            self.plan(now, now)
            return True
        retry = parse_time(record.retry_at)
        if retry <= now or record.attempt <= self._attempt:
            return False
        self.retry_at, self._attempt = retry, record.attempt
        return True

    def record(self, old: Record, now: datetime, due: datetime, kind: str, message: str) -> Record:
        """What to tell others after :meth:`failed`."""
        return Record(
            failed_due=format_time(due),
            failed_at=format_time(now),
            kind=kind,
            message=message,
            attempt=self._attempt,
            retry_at=None if self.retry_at is None else format_time(self.retry_at),
            failures=old.failures + 1,
            done_at=old.done_at,
            since=old.since,
        )

    def stale(self, newest: datetime, now: datetime) -> bool:
        """Whether there should be a newer one than this by now."""
        expected = self._timetable.after(newest)
        return expected is not None and now > expected + self._timetable.patience(expected)
