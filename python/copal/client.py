"""The use cases over one repository, as methods. The environment, ``copal.toml`` and the repository are read at the first call."""

from __future__ import annotations

import atexit
import datetime
import os
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple, TypeVar, cast

from . import _copal, sources
from ._arguments import KeepRules, Path, ProgressCallback, absolute_place, duration_text, released, rules_of, time_text
from ._child import duckdb_program, run_in_child
from ._work import Call, Cancellation, Tell, logger, new_session, run_here, teller
from .errors import BusyError, CorruptError, UnsupportedError, UsageError, from_description
from .results import (
    Backup,
    BackupDetails,
    Database,
    DatabaseStatus,
    Initialized,
    Pruned,
    Restored,
    Verified,
)
from .snapshots import Cleared, Rewound, Snapped, Snapshot
from .sources import Source

if TYPE_CHECKING:
    from .migrations import SafetyNet

__all__ = ["Copal", "Source"]

T = TypeVar("T")

# When the interpreter ends, what still runs (in threads that nobody waits for) stops at a safe place, for so many seconds.
atexit.register(_copal.shutdown, 30.0)


class Copal:
    """Backups, restores and snapshots with one repository.

    What is ``None`` comes from where the command finds it: the repository from ``COPAL_REPOSITORY``, then ``copal.toml``, else the
    local default; the passphrase from ``COPAL_PASSPHRASE``, ``COPAL_PASSPHRASE_FILE``, then ``copal.toml``. May be used from any
    number of threads, and after a fork. For coroutines see :class:`copal.aio.Copal`.

    Every call raises :class:`copal.CopalError` of the kind that says what happened. Ctrl-C cancels a call at a safe place.
    ``progress`` is called at most ten times a second, in the thread that made the call; what it raises cancels the call and is
    raised.
    """

    def __init__(
        self,
        repository: Optional[Path] = None,
        *,
        passphrase: Optional[str] = None,
        identity: Optional[str] = None,
        config: Optional[Path] = None,
        s3: Optional[Mapping[str, Any]] = None,
    ) -> None:
        """
        :param repository: a folder or a URL such as ``s3://bucket/prefix``.
        :param passphrase: what the repository is encrypted with.
        :param identity: the text of an age identity (a recovery key), instead of a passphrase.
        :param config: the path of a ``copal.toml``.
        :param s3: ``endpoint``, ``region``, ``path_style``, ``access_key_id``, ``secret_access_key``, ``session_token``; what is
            not given comes from ``AWS_…``.
        """
        settings: Dict[str, Any] = {
            "repository": None if repository is None else absolute_place(os.fspath(repository)),
            "passphrase": passphrase,
            "identity": identity,
            "config": None if config is None else os.path.abspath(config),
            "s3": None if s3 is None else dict(s3),
        }
        self._settings = {key: value for key, value in settings.items() if value is not None}
        self._session: Optional[_copal.Session] = None

    def __repr__(self) -> str:
        repository = self._settings.get("repository")
        return "copal.Copal()" if repository is None else f"copal.Copal({repository!r})"

    def __getstate__(self) -> Dict[str, Any]:
        given = {**self._settings, **self._settings.get("s3", {})}
        if any(secret in given for secret in ("passphrase", "identity", "secret_access_key", "session_token")):
            raise UsageError(
                "this client was given secrets, which must not be written into a pickle",
                hint="let them come from the environment or copal.toml, or make the client where it is needed",
            )
        return {"_settings": self._settings, "_session": None}

    def __copy__(self) -> "Copal":
        return self

    def __deepcopy__(self, memo: object) -> "Copal":
        return self

    # Repository and backups

    def init(self, *, encrypt: bool = True, recovery_keys: Sequence[str] = ()) -> Initialized:
        """Creates the repository. Encryption needs a passphrase or a recovery key (``age1…``).

        Raises :class:`copal.ExistsError` if there is one, :class:`copal.PassphraseError`.
        """
        arguments = {"encrypt": encrypt, "recovery_keys": list(recovery_keys)}
        return self._here("init", arguments, Initialized.from_json)

    def backup(
        self,
        source: Source,
        *,
        name: Optional[str] = None,
        label: Optional[str] = None,
        pin: bool = False,
        adopt: bool = False,
        from_snapshot: Optional[str] = None,
        progress: Optional[ProgressCallback] = None,
    ) -> Backup:
        """Backs up a database, which may be in use. The backup exists when this returns, and not otherwise.

        :param source: a name of ``copal.toml``, a URL or path, a SQLAlchemy engine, a connection of sqlite3 or DuckDB.
        :param name: what to call the database in the repository; needed for one in memory.
        :param label: a text to know the backup by.
        :param pin: keep it for ever.
        :param adopt: accept that the name stands for another database from now on.
        :param from_snapshot: back up this snapshot (by name or id) instead of the database as it is now.
        """
        found = sources.find(source)
        arguments = {"label": label, "pin": pin, "adopt": adopt, "from_snapshot": from_snapshot}
        tell = teller(progress)

        def read(copied: sources.Copy, cancellation: Cancellation) -> Backup:
            # The copy lies somewhere else each time; what is recorded is the place of the database.
            from_copy = {**arguments, "database": database, "copy": copied.url}
            return Backup.from_json(self._run(known, "backup", from_copy, [copied.url], tell, cancellation))

        if found.copy is not None:
            if name is None:
                raise UsageError("a database in memory needs a name", hint='backup(connection, name="…")')
            copied = found.copy()
            known, database = self._named(copied.origin(name), name)
            return self._do(Call(lambda cancel: read(copied, cancel), copied.close))
        assert found.text is not None
        text = found.text
        known, database = self._named(text, name)

        def perform(cancellation: Cancellation) -> Backup:
            try:
                data = self._run(known, "backup", {**arguments, "database": database}, [text], tell, cancellation)
            except (BusyError, CorruptError, UnsupportedError):
                if found.fallback is None:
                    raise
                logger.warning("the file could not be read while it is in use; it is copied through its connection")
                copied = found.fallback()
                try:
                    return read(copied, cancellation)
                finally:
                    copied.close()
            return Backup.from_json(data)

        return self._do(Call(perform))

    def list_backups(self, source: Optional[Source] = None) -> List[Backup]:
        """The backups of one database, or of all, oldest first. Damage is logged; :meth:`list_databases` tells it."""
        listed = self._prepare(lambda client: client.list_databases(source))

        def perform(cancellation: Cancellation) -> List[Backup]:
            databases = listed.run(cancellation)
            for damaged in (one for database in databases for one in database.damaged):
                logger.error("%s of %s: %s", damaged.object, damaged.database, damaged.problem)
            backups = [backup for database in databases for backup in database.backups]
            return sorted(backups, key=lambda backup: backup.id)

        return self._do(Call(perform))

    def list_databases(self, source: Optional[Source] = None) -> List[Database]:
        """The databases of the repository with their backups, and what is damaged."""
        database = None if source is None else sources.text_of(source)
        return self._here("list", {"database": database}, lambda data: [Database.from_json(one) for one in data])

    def show(self, source: Source, backup: str = "latest") -> BackupDetails:
        """Everything about one backup."""
        arguments = {"database": sources.text_of(source), "backup": backup}
        return self._here("show", arguments, BackupDetails.from_json)

    def restore(
        self,
        source: Source,
        *,
        to: Optional[Source] = None,
        backup: str = "latest",
        at: Optional[datetime.datetime] = None,
        replace: bool = False,
        check: str = "quick",
        dry_run: bool = False,
        as_snapshot: Optional[str] = None,
        keep_old: bool = False,
        tables: Sequence[str] = (),
        schemas: Sequence[str] = (),
        progress: Optional[ProgressCallback] = None,
    ) -> Restored:
        """Restores a backup. What is at the target is replaced only if asked for, in one step, after the new database was checked.

        :param source: which database's backups: a name, URL or path …
        :param to: where to; ``None``: the original place.
        :param backup: ``"latest"``, an id, or the beginning of one.
        :param at: the newest backup that is not later; a time with a zone.
        :param replace: replace the database that is there. Close your own connections first.
        :param check: ``"quick"``, ``"full"`` or ``"none"``.
        :param dry_run: only look whether it could be done.
        :param as_snapshot: make it a snapshot of this name instead.
        :param keep_old: leave the database that is replaced beside the new one (PostgreSQL).
        :param tables: restore only these into the database that is there (PostgreSQL).
        :param schemas: likewise.
        """
        if check not in ("quick", "full", "none"):
            raise UsageError(f'check is "quick", "full" or "none", not {check!r}')
        if at is not None and backup != "latest":
            raise UsageError("either a backup is named or a time")
        database = sources.text_of(source)
        target = None if to is None else sources.text_of(to)
        arguments = {
            "database": database,
            "backup": backup,
            "at": None if at is None else time_text(at),
            "to": target,
            "as_snapshot": as_snapshot,
            "replace": replace,
            "dry_run": dry_run,
            "check": check,
            "keep_old": keep_old,
            "tables": list(tables),
            "schemas": list(schemas),
        }
        involved = [database] if target is None else [database, target]
        return self._anywhere("restore", arguments, involved, Restored.from_json, progress)

    def verify(
        self,
        source: Optional[Source] = None,
        *,
        backup: str = "latest",
        drill: bool = False,
        progress: Optional[ProgressCallback] = None,
    ) -> List[Verified]:
        """Reads backups back, all content of them. Damage is in the answer: see :attr:`copal.Verified.is_good`.

        :param source: one database; ``None``: all of the repository.
        :param backup: ``"latest"``, ``"all"``, an id, or the beginning of one.
        :param drill: restore each to a scratch place and check it there, too.
        """
        database = None if source is None else sources.text_of(source)
        arguments = {"database": database, "backup": backup, "drill": drill}

        def convert(data: Any) -> List[Verified]:
            return [Verified.from_json(one) for one in data]

        if drill:
            return self._anywhere("verify", arguments, [] if database is None else [database], convert, progress)
        return self._here("verify", arguments, convert, progress)

    def prune(
        self,
        source: Source,
        *,
        keep: Optional[KeepRules] = None,
        dry_run: bool = False,
        trust_clock: bool = False,
        progress: Optional[ProgressCallback] = None,
    ) -> Pruned:
        """Drops the backups that no rule wants. Pinned ones, the newest and the newest verified one always stay.

        :param keep: rules that replace those of ``copal.toml``: ``{"last": 10, "within": "5d", "daily": 7}``. Without any, all stay.
        :param dry_run: only say what would be deleted.
        :param trust_clock: apply rules of time although the clock is in doubt.
        """
        arguments = {
            "database": sources.text_of(source),
            "keep": None if keep is None else rules_of(keep),
            "dry_run": dry_run,
            "trust_clock": trust_clock,
        }
        return self._here("prune", arguments, Pruned.from_json, progress)

    def pin(self, source: Source, backup: str = "latest") -> Backup:
        """Keeps a backup for ever, whatever the rules say."""
        return self._pin("pin", source, backup)

    def unpin(self, source: Source, backup: str) -> Backup:
        """Leaves a pinned backup to the rules again."""
        return self._pin("unpin", source, backup)

    def _pin(self, name: str, source: Source, backup: str) -> Backup:
        return self._here(name, {"database": sources.text_of(source), "backup": backup}, Backup.from_json)

    def status(self, *wanted: Source) -> List[DatabaseStatus]:
        """Whether each database of the configuration and the repository (or those that are named) is protected."""
        arguments = {"databases": sources.texts_of(wanted)}
        return self._here("status", arguments, lambda data: [DatabaseStatus.from_json(one) for one in data])

    def members(self, source: Source) -> List[str]:
        """The databases that are meant: those of a whole server (``postgres://host/*``), or the one itself."""
        return self._here("members", {"database": sources.text_of(source)}, list)

    # Snapshots

    def snap(
        self,
        *wanted: Source,
        name: Optional[str] = None,
        label: Optional[str] = None,
        replace: bool = False,
        spare: bool = False,
        progress: Optional[ProgressCallback] = None,
    ) -> Snapped:
        """Takes an instant snapshot beside the databases, of all of them or of none. They may be in use.

        Sessions of a PostgreSQL database are ended for the moment of the copy; connections that an engine of SQLAlchemy holds
        ready are closed before.

        :param wanted: names, URLs or paths …; none: all of ``copal.toml``.
        :param name: what to call it; ``None``: the local time.
        :param label: what it is taken for, ``[A-Za-z0-9._-]{1,64}``.
        :param replace: remove the snapshot that has this name, once the new one is taken.
        :param spare: make a second copy ready, so that the first rewind, too, is but a renaming.
        """
        databases = released(wanted)
        arguments = {"name": name, "databases": databases, "label": label, "replace": replace, "spare": spare}
        return self._anywhere("snap", arguments, databases, Snapped.from_json, progress)

    def rewind(
        self,
        name: Optional[str] = None,
        *,
        sources: Sequence[Source] = (),
        force: bool = False,
        spare: bool = False,
        progress: Optional[ProgressCallback] = None,
    ) -> Rewound:
        """Goes back to a snapshot: everything is prepared first, then put back in one step each. The snapshot stays.

        :param name: its name, its id or the beginning of that; ``None``: the newest.
        :param sources: names, URLs or paths …; none: all of ``copal.toml`` that the snapshot has.
        :param force: replace files although a process has them open, which goes on writing to what is gone.
        :param spare: make a second copy ready afterwards.

        Connections that an engine of SQLAlchemy holds ready are closed.
        """
        databases = released(sources)
        arguments = {"snapshot": name, "databases": databases, "force": force, "spare": spare}
        return self._anywhere("rewind", arguments, databases, Rewound.from_json, progress)

    def list_snapshots(self, *wanted: Source) -> List[Snapshot]:
        """The snapshots of these databases, or of all of ``copal.toml``, oldest first.

        A database that cannot be asked is logged, and its error is raised if none could be asked.
        """
        databases = sources.texts_of(wanted)

        def convert(data: Any) -> List[Snapshot]:
            failures = [(one["database"], from_description(one["error"])) for one in data["failures"]]
            if failures and not data["snapshots"]:
                raise failures[0][1]
            for database, error in failures:
                logger.error("%s: %s", database, error.message)
            return [Snapshot.from_json(one) for one in data["snapshots"]]

        return self._anywhere("snapshots", {"databases": databases}, databases, convert)

    def remove_snapshot(self, name: str, *wanted: Source) -> Snapshot:
        """Removes a snapshot by its name or id, of these databases or of all of ``copal.toml``."""
        databases = sources.texts_of(wanted)
        arguments = {"snapshot": name, "databases": databases}
        return self._anywhere("remove_snapshot", arguments, databases, Snapshot.from_json)

    def clear_snapshots(
        self,
        *wanted: Source,
        keep: Optional[int] = None,
        older_than: "str | datetime.timedelta | None" = None,
        label: Optional[str] = None,
        dry_run: bool = False,
    ) -> List[Cleared]:
        """Clears up what killed processes left of snapshots, and removes old ones if a limit is given.

        :param keep: remove all but the newest so many of each database.
        :param older_than: remove what is older: ``"30d"``, or a ``timedelta``.
        :param label: both limits count only snapshots with this label.
        """
        databases = sources.texts_of(wanted)
        arguments = {
            "databases": databases,
            "keep": keep,
            "older_than": duration_text(older_than),
            "label": label,
            "dry_run": dry_run,
        }

        def convert(data: Any) -> List[Cleared]:
            for one in data:
                if "error" in one:
                    raise from_description(one["error"])
            return [Cleared.from_json(one) for one in data]

        return self._anywhere("gc_snapshots", arguments, databases, convert)

    def snapshot_before_migration(
        self, source: Source, *, keep: int = 5, label: str = "pre-migrate", best_effort: bool = False
    ) -> "SafetyNet":
        """A context manager (also an asynchronous one) that puts the database back if its block raises.

        See :class:`copal.SafetyNet`.
        """
        from .migrations import SafetyNet

        return SafetyNet(self, source, keep=keep, label=label, best_effort=best_effort)

    # How calls are made

    def _do(self, call: Call[T]) -> T:
        """What every method ends with: runs the call that it has prepared here, in the caller's thread."""
        return call.run()

    def _prepare(self, use: "Callable[[Copal], T]") -> Call[T]:
        """The call that a method would run, for another thread or with a way to cancel it.

        ``use`` calls one method, such as ``lambda client: client.show("shop")``, and answers what that answers: the prepared call.
        """
        return cast("Call[T]", use(_Preparing(self)))

    def _open(self, databases: Optional[Mapping[str, str]] = None) -> _copal.Session:
        if databases:
            return new_session({**self._settings, "databases": databases})
        if self._session is None:
            self._session = new_session(self._settings)
        return self._session

    def _named(self, text: str, name: Optional[str]) -> Tuple[Optional[Dict[str, str]], str]:
        """The databases to add to the configuration, and what to call this one."""
        return (None, text) if name is None else ({name: text}, name)

    def _child_settings(self, databases: Optional[Mapping[str, str]] = None) -> Dict[str, Any]:
        settings: Dict[str, Any] = dict(self._settings)
        if databases:
            settings["databases"] = databases
        settings["duckdb_program"] = duckdb_program()
        return settings

    def _run(
        self,
        known: Optional[Mapping[str, str]],
        name: str,
        arguments: Mapping[str, Any],
        involved: Sequence[str],
        tell: Tell,
        cancellation: Cancellation,
    ) -> Any:
        """Runs a use case here if all databases that it has to do with are on servers, else in a child process."""
        session = self._open(known)
        if all(session.is_server(database) for database in involved or session.databases or [""]):
            return run_here(session, name, arguments, tell, cancellation)
        return run_in_child(self._child_settings(known), name, arguments, tell, cancellation)

    def _anywhere(
        self,
        name: str,
        arguments: Mapping[str, Any],
        involved: Sequence[str],
        convert: Callable[[Any], T],
        progress: Optional[ProgressCallback] = None,
    ) -> T:
        tell = teller(progress)
        return self._do(Call(lambda cancel: convert(self._run(None, name, arguments, involved, tell, cancel))))

    def _here(
        self,
        name: str,
        arguments: Mapping[str, Any],
        convert: Callable[[Any], T],
        progress: Optional[ProgressCallback] = None,
    ) -> T:
        tell = teller(progress)
        return self._do(Call(lambda cancel: convert(run_here(self._open(), name, arguments, tell, cancel))))


class _Preparing(Copal):
    """The same client, whose methods answer the call that they have prepared instead of running it."""

    def __init__(self, client: Copal) -> None:
        # Settings and session are one.
        self.__dict__ = client.__dict__

    def _do(self, call: Call[T]) -> T:
        return cast(T, call)
