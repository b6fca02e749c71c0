"""A backup as a job of APScheduler 3.

    from copal.contrib.apscheduler import backup_job

    scheduler.add_job(backup_job, "cron", hour=3, args=["app.db"], kwargs={"keep": {"within": "5d"}})

The function is found by its name and its arguments are plain values, so it works with every job store and executor.
Give no secrets, since job stores keep them: the passphrase comes from ``COPAL_PASSPHRASE``, ``COPAL_PASSPHRASE_FILE``
or ``copal.toml``, and the name of a database configured there is as good as its URL.
"""

from __future__ import annotations

import logging
import os
from datetime import datetime, timedelta, timezone
from typing import Any, Mapping, Optional, Union

import copal

from .. import sources
from .._arguments import time_text
from .._work import Cancellation, teller
from ..errors import BusyError
from ..jobs.job import short_name

log = logging.getLogger("copal.contrib.apscheduler")


def backup_job(
    source: "Union[str, os.PathLike[str]]",
    *,
    repository: "Union[str, os.PathLike[str], None]" = None,
    config: "Union[str, os.PathLike[str], None]" = None,
    keep: Optional[Mapping[str, Any]] = None,
    name: Optional[str] = None,
    label: Optional[str] = None,
    prune: bool = False,
    unless_newer_than: Optional[timedelta] = None,
) -> Optional[str]:
    """Makes a backup, removes what ``keep`` does not keep, and answers the backup's id.

    ``prune`` removes by the rules of the configuration instead. ``unless_newer_than`` is for services of several
    processes, on one machine or several, each with a scheduler: without it each makes a backup, with it one does
    (something less than the time between two runs). Then the others wait for its end; for them, and if somebody else
    works on the database for too long, the answer is ``None``. What fails is raised, so APScheduler's listeners hear of it.
    """
    client = copal.Copal(repository, config=config)
    if unless_newer_than is None:
        backup = client.backup(source, name=name, label=label)
    else:
        try:
            made = _unless(client, source, datetime.now(timezone.utc) - unless_newer_than, name, label)
        except BusyError:
            log.info("%s: somebody else makes a backup", name or short_name(source))
            return None
        if made is None:
            return None
        backup = made
    if keep is not None or prune:
        client.prune(backup.database, keep=keep)
    return backup.id


def _unless(
    client: copal.Copal, source: sources.Source, since: datetime, name: Optional[str], label: Optional[str]
) -> Optional[copal.Backup]:
    """Makes a backup unless there is one from then on, which is looked at while nobody else can make one."""
    text = sources.text_of(source)
    known, database = client._named(text, name)
    arguments = {"database": database, "label": label, "unless_since": time_text(since)}
    data = client._run(known, "backup", arguments, [text], teller(None), Cancellation())
    return None if data is None else copal.Backup.from_json(data)
