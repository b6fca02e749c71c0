"""Scheduled backups inside a running program.

    from copal.jobs import Job, Scheduler

    with Scheduler([Job("app.db", "0 3 * * *", keep={"within": "5d"})], repository="/srv/backups"):
        serve()

A :class:`Scheduler` makes what is due on threads of its own. It goes by the backups that the repository holds: what was
missed while the program was down is made up for when it starts, and of several processes with the same jobs one makes
each backup.
"""

from __future__ import annotations

from .clock import Clock
from .job import Job
from .scheduler import Scheduler
from .status import Event, Failure, JobStatus, SchedulerStatus

__all__ = ["Clock", "Event", "Failure", "Job", "JobStatus", "Scheduler", "SchedulerStatus"]
