"""What a run does: the calls that a program would make itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Callable, List, Optional

from .. import sources
from .._work import Cancellation, run_here, teller
from ..client import Copal
from ..errors import BusyError, CancelledError, CopalError, DamageError, NotFoundError, UsageError
from ..results import Backup, Database, Verified
from .job import Job

#: How the remark begins that another operation has the lease of the database.
_SOMEBODY = "somebody else works on "
#: What may pass by itself, so that trying again soon makes sense.
PASSING = frozenset({"busy", "unavailable", "pruned", "not-found", "failed"})


@dataclass(frozen=True)
class Newest:
    """The newest backup of a database; of a whole server, that of the database whose newest is the oldest."""

    id: str
    time: datetime


class Work:
    """The use cases for one job. Every call blocks and may fail with a `CopalError`."""

    def __init__(self, job: Job, copal: Copal, place: str) -> None:
        self._job, self._copal = job, copal
        #: The repository as all processes with this job call it.
        self.place = place
        found = sources.find(job.source)
        if found.text is None and job.name is None:
            raise UsageError("a database in memory needs a name", hint="Job(connection, …, name=…)")
        #: Here, and not on another thread: connections belong to theirs. One of DuckDB is needed where its file cannot
        #: be read.
        self._source: Any = job.source if found.text is None or found.fallback is not None else found.text
        self._text = found.text
        #: A configured database has its name there.
        self._name = None if job.name == job.source else job.name
        # Settings are read here: what is wrong with them is told before the first night.
        url = copal._open().repository
        #: Whether other machines may have the same repository.
        self.is_far = "://" in url and not url.startswith("file://")
        #: What the repository calls the database, once that is known.
        self._database: Optional[str] = None

    def backups(self) -> List[Backup]:
        """The database's backups in the repository, whoever made them, oldest first."""
        made = [backup for member in self._members() for backup in self._backups_of(member)]
        return sorted(made, key=lambda backup: (backup.id, backup.database))

    def newest(self) -> Optional[Newest]:
        """The newest of them."""
        newest = [self._backups_of(member)[-1:] for member in self._members()]
        if not newest or not all(newest):
            return None
        oldest = min((backup for found in newest for backup in found), key=lambda backup: backup.id)
        return Newest(oldest.id, oldest.time)

    def backup(self, cancel: Cancellation, patient: bool) -> Newest:
        """Makes a backup; `CancelledError` if it is told to stop meanwhile.

        If somebody else works on the database, who is patient waits for the end of that, as the command does; else it
        is a `BusyError` at once.
        """
        members = self._members()
        made = _each(members, lambda member: self._backup_of(member, cancel, patient))
        if len(members) == 1:
            self._database = made[0].database
        return Newest(made[0].id, made[0].time)

    def prune(self, cancel: Cancellation) -> None:
        """Removes what the job does not keep."""
        def of(member: Any) -> None:
            known = self._known(member)
            self._copal._prepare(lambda client: client.prune(known, keep=self._job.keep)).run(cancel)

        _each(self._members(), of)

    def drill(self, cancel: Cancellation) -> None:
        """Restores the newest backup to a scratch place and checks it there; what it finds wrong is an error."""
        if self._database is None:
            self.backups()

        def of(member: Any) -> None:
            known = self._known(member)
            for verified in self._copal._prepare(lambda client: client.verify(known, drill=True)).run(cancel):
                _judge(verified)

        _each(self._members(), of)

    def _members(self) -> List[Any]:
        """The databases of a whole server, else the one that it is."""
        if self._text is None or self._name is not None:
            return [self._text]
        return self._copal.members(self._text)

    def _backups_of(self, member: Any) -> List[Backup]:
        known = None if self._text is None or self._name is None else {self._name: self._text}
        wanted = {"database": self._name or member}
        try:
            answer = run_here(self._copal._open(known), "list", wanted, teller(None), Cancellation())
        except NotFoundError:
            # Not one backup yet, or no repository: then the backup will say so.
            return []
        listings = [Database.from_json(one) for one in answer]
        if member == self._text and len(listings) == 1:
            self._database = listings[0].database
        return sorted((backup for listing in listings for backup in listing.backups), key=lambda backup: backup.id)

    def _backup_of(self, member: Any, cancel: Cancellation, patient: bool) -> Backup:
        is_plain = member is not None and (member != self._text or self._source == self._text)
        if patient or not is_plain:
            source = self._source if member == self._text else member
            backup = self._copal._prepare(lambda client: client.backup(source, name=self._name, label=self._job.label))
            return backup.run(cancel)

        def tell(kind: str, text: str) -> None:
            if kind == "note" and text.startswith(_SOMEBODY):
                # What is raised here ends the call, which has not begun anything yet.
                raise BusyError(text.partition(";")[0])
            usual(kind, text)

        usual = teller(None)
        known, database = self._copal._named(member, self._name)
        arguments = {"database": database, "label": self._job.label}
        return Backup.from_json(self._copal._run(known, "backup", arguments, [member], tell, cancel))

    def _known(self, member: Any) -> str:
        """What the repository finds it by."""
        own = self._database or self._name
        return own if own is not None and member == self._text else str(member)


def _each(members: List[Any], act: Callable[[Any], Any]) -> List[Any]:
    """Does it for every one; one that fails keeps no other from it, and the first failure is raised in the end."""
    done, failures = [], []
    for member in members:
        try:
            done.append(act(member))
        except CancelledError:
            raise
        except CopalError as error:
            failures.append(error)
    if failures:
        raise failures[0]
    if not done:
        raise NotFoundError("the server has no databases")
    return done


def _judge(verified: Verified) -> None:
    if verified.damaged:
        damaged = verified.damaged[0]
        raise DamageError(f"backup {verified.id} is damaged: {damaged.object}: {damaged.problem}")
    drill = verified.drill
    if drill is None or not drill.performed or drill.problems or drill.differences:
        found = [] if drill is None else list(drill.problems)
        for other in () if drill is None else drill.differences:
            found.append(f"{other.what}: {other.expected} expected, {other.found} found")
        what = "; ".join(found) or "it was not performed"
        raise CopalError(f"the drill of backup {verified.id} failed: {what}", kind="drill-failed")
