"""A program that has APScheduler already, with a backup among its jobs."""

import os
import sqlite3
import sys
import time

from apscheduler.events import EVENT_JOB_ERROR, JobExecutionEvent  # type: ignore[import-untyped, unused-ignore]
from apscheduler.schedulers.background import BackgroundScheduler  # type: ignore[import-untyped, unused-ignore]
from apscheduler.triggers.cron import CronTrigger  # type: ignore[import-untyped, unused-ignore]
from copal.contrib.apscheduler import backup_job

DATABASE = os.environ.get("DATABASE", "visits.db")
REPOSITORY = os.environ.get("BACKUPS", "backups")


def visit() -> None:
    """What the program is for."""
    connection = sqlite3.connect(DATABASE)
    with connection:
        connection.execute("CREATE TABLE IF NOT EXISTS visits (at REAL NOT NULL)")
        connection.execute("INSERT INTO visits VALUES (?)", (time.time(),))
    connection.close()


def tell(event: JobExecutionEvent) -> None:
    """Failures are the program's to report."""
    sys.stderr.write(f"{event.job_id} failed: {event.exception}\n")


def scheduler(cron: str = "0 3 * * *") -> BackgroundScheduler:
    """The program's scheduler."""
    made = BackgroundScheduler()
    made.add_listener(tell, EVENT_JOB_ERROR)
    made.add_job(visit, "interval", seconds=1, id="visit")
    made.add_job(
        backup_job,
        CronTrigger.from_crontab(cron),
        id="backup",
        args=[DATABASE],
        kwargs={"repository": REPOSITORY, "name": "visits", "keep": {"within": "5d", "weekly": 4}},
        # What was missed while the program was down is one run.
        coalesce=True,
        misfire_grace_time=None,
    )
    return made


def main() -> None:
    """Runs until somebody stops it."""
    running = scheduler()
    running.start()
    try:
        while True:
            time.sleep(60)
    except KeyboardInterrupt:
        running.shutdown()


if __name__ == "__main__":
    main()
