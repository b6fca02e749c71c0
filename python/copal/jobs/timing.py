"""When something is due: pure, every time comes in from outside."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Optional

from ..schedule import next_run

#: The wait before the first retry; each further one is twice as long.
FIRST_RETRY = timedelta(seconds=30)
#: No wait is longer.
LONGEST_RETRY = timedelta(minutes=30)
#: The same, while another operation has the database.
FIRST_BUSY, LONGEST_BUSY = timedelta(seconds=5), timedelta(seconds=60)
#: Processes on several machines start a run at times that differ by so much; the very first one by less.
FIRST_SPREAD = timedelta(seconds=10)
LONGEST_SPREAD = timedelta(seconds=60)
#: An occurrence that is noticed later than this was missed.
MISSED_AFTER = timedelta(seconds=60)
#: A clock that goes back by less than this only trembles.
TREMBLE = timedelta(seconds=1)


class Timetable:
    """A schedule in a time zone."""

    def __init__(self, schedule: str, zone: Optional[str]) -> None:
        self._schedule, self._zone = schedule, zone
        self.after(datetime(2026, 1, 1, tzinfo=timezone.utc))

    def after(self, moment: datetime) -> Optional[datetime]:
        """The first occurrence later than this; ``None`` if there is none before the end of the calendar."""
        return next_run(self._schedule, moment, self._zone)

    def resume(self, now: datetime, done: datetime) -> Optional[datetime]:
        """The occurrence to wait for when all up to ``done`` are dealt with. It lies before ``now`` if one was missed.

        ``done`` may lie in the future of a clock that was set back. At most one occurrence that the clock reaches again
        is passed over: with more of them in between, waiting for the old time would stop the schedule for whole
        periods.
        """
        if done <= now:
            return self.after(done)
        first = self.after(now)
        if first is None or first > done:
            return first
        second = self.after(first)
        return second if second is not None and second > done else first

    def patience(self, occurrence: datetime) -> timedelta:
        """How late the run of an occurrence may be before the database counts as unprotected.

        As long as occurrences are apart, but no less than ten minutes and no more than an hour: as `copal status` has
        it.
        """
        following = self.after(occurrence)
        apart = following - occurrence if following is not None else timedelta(hours=1)
        return min(max(apart, timedelta(minutes=10)), timedelta(hours=1))


def delay(attempt: int, first: timedelta, longest: timedelta) -> timedelta:
    """The wait before the retry with this number, from 1."""
    doubled: int = 2 ** min(attempt - 1, 20)
    return min(first * doubled, longest)
