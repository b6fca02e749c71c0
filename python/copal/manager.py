"""In-memory tables kept safe in the background: takes the place of ``dictdb.BackupManager`` without another change.

:class:`BackupManager` decides *when* something is saved, by which thread, and tells what happened. *What* is saved is a
:class:`~copal.dictdb.protocol.Source`, *where* a :class:`~copal.dictdb.protocol.Destination`.
"""

from __future__ import annotations

import atexit
import contextlib
import datetime
import logging
import os
import threading
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, ContextManager, Mapping, Optional, Sequence, Set, Union

from ._copal import import_classes
from .dictdb.protocol import CheckedBackup, Destination, NeedsFull, SavedBackup, Source, View
from .errors import UsageError

if TYPE_CHECKING:
    from .client import Copal
    from .results import Keep

__all__ = ["BackupManager"]

_log = logging.getLogger("copal.manager")

#: No wait is longer: systems have limits, and intervals may be changed meanwhile.
_LONGEST_WAIT_SECONDS = 60.0
#: After a failure, a debounced backup is tried again after at least this time.
_RETRY_SECONDS = 1.0

#: ``saving`` is True in a thread that saves or waits for its turn to. A signal handler that runs meanwhile in that thread must wait for
#: no manager: the locks that it would wait for may be those of the thread itself.
_HERE = threading.local()


class BackupManager:
    """Saves a DictDB, or a dict of dicts of rows, to a folder or a repository: periodically, and when told that something changed.

    The first eight parameters and everything named like in ``dictdb.BackupManager`` behave as there; see docs/dictdb.md for
    what is better. Saving never raises: it is logged, counted in :attr:`consecutive_failures` and told to
    ``on_backup_failure(error, consecutive_failures)``.

    ``db``                    a ``dictdb.DictDB``, or ``{table: {key: row}}`` with rows as dicts.
    ``backup_dir``            the folder; made if it is missing.
    ``backup_interval``       seconds between two periodic backups, once started.
    ``file_format``           of full backups: ``"json"`` or ``"pickle"``. Deltas are JSON.
    ``min_backup_interval``   seconds that must lie between two backups asked for by :meth:`notify_change`.
    ``incremental``           save only what changed, with a full after every ``max_deltas_before_full`` deltas.
    ``keep``                  rules of retention, applied after each backup: ``{"last": 10, "within": "5d", "daily": 7}``.
                              They count backups, fulls and deltas alike. Without rules everything stays.
                              In a repository they count fulls; deltas go with theirs.
    ``repository``            save to a repository of Copal's instead: its folder or URL, or a :class:`copal.Copal`. It must exist
                              (:func:`copal.init`). Then ``file_format`` means nothing, every value comes back as it was, and a
                              started manager's :meth:`notify_change` only wakes its thread.
    ``name``                  of the database in the repository, ``"dictdb"`` or ``"dict"`` if not given. Give each of several
                              programs its own. A name without ``repository`` means the repository that the command would find.
    ``passphrase``            of the repository, if it is not found as the command finds it.
    ``lock``                  for plain dicts: held while rows are captured.
    ``durable``               wait for the disk before a backup counts. Without, a crash of the machine can cost the newest.
    """

    def __init__(
        self,
        db: Any,
        backup_dir: "Union[str, os.PathLike[str], None]" = None,
        backup_interval: float = 300,
        file_format: str = "json",
        min_backup_interval: float = 5.0,
        on_backup_failure: Optional[Callable[[Exception, int], None]] = None,
        incremental: bool = False,
        max_deltas_before_full: int = 10,
        *,
        keep: "Union[Keep, Mapping[str, Any], None]" = None,
        repository: "Union[str, os.PathLike[str], Copal, None]" = None,
        name: Optional[str] = None,
        passphrase: Optional[str] = None,
        lock: Optional[ContextManager[Any]] = None,
        durable: bool = True,
    ) -> None:
        import_classes()
        self.db = db
        self.backup_interval = backup_interval
        self.min_backup_interval = min_backup_interval
        self.incremental = incremental
        self.max_deltas_before_full = max_deltas_before_full
        self._on_backup_failure = on_backup_failure
        self._keep = _rules(keep)
        self._destination = self._open_destination(backup_dir, file_format, repository, name, passphrase, durable)
        self._source = _source(db, lock, incremental)
        self._consecutive_failures = 0
        self._deltas_since_full = 0
        self._last_success: Optional[datetime.datetime] = None
        self._last_hold_seconds: Optional[float] = None
        #: Whether rows may have changed since the last backup or restore without a trace.
        self._is_unsure = False
        self._backup_thread: Optional[threading.Thread] = None
        self._reset_locks()
        _MANAGERS.add(self)

    def _open_destination(
        self,
        backup_dir: "Union[str, os.PathLike[str], None]",
        file_format: str,
        repository: "Union[str, os.PathLike[str], Copal, None]",
        name: Optional[str],
        passphrase: Optional[str],
        durable: bool,
    ) -> Destination:
        #: Whether a started manager leaves it to its thread to save what was notified.
        self._leaves_to_thread = False
        if repository is not None or name is not None or passphrase is not None:
            if backup_dir is not None:
                raise UsageError("backups go to a backup_dir or to a repository, not to both")
            self._leaves_to_thread = True
            return self._open_repository(repository, name, passphrase, file_format)
        if backup_dir is None:
            raise UsageError("a backup_dir or a repository is needed")
        from .dictdb.files import FilesDestination

        self.backup_dir = Path(backup_dir)
        return FilesDestination(self.backup_dir, file_format, durable, self.db)

    def _open_repository(
        self,
        repository: "Union[str, os.PathLike[str], Copal, None]",
        name: Optional[str],
        passphrase: Optional[str],
        file_format: str,
    ) -> Destination:
        from .dictdb.repository import RepositoryDestination, settings_of

        # What was registered last is called first: managers stop before the work is cancelled that they wait for.
        atexit.unregister(_stop_all)
        atexit.register(_stop_all)
        if name is None:
            name = "dict" if isinstance(self.db, dict) else "dictdb"
        return RepositoryDestination(settings_of(repository, passphrase), name, file_format)

    def _reset_locks(self) -> None:
        """The state of a manager that no thread uses: at the beginning, and in a forked child."""
        #: Held by whoever saves.
        self._turn = threading.Lock()
        #: Guards what follows, and wakes the thread.
        self._state = threading.Condition(threading.RLock())
        self._stopping = False
        self._running = False
        #: How many changes were notified, and how many of them a finished backup has.
        self._notified = 0
        self._covered = 0
        #: Monotonic times: of the last success, of the next periodic backup, before which no failed one is tried again.
        self._last_saved: Optional[float] = None
        self._next_periodic: Optional[float] = None
        self._retry_after = 0.0
        self._in_callback = threading.local()

    # When it saves ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begins to save periodically, in a thread of its own. Nothing happens if it has begun already."""
        with self._state:
            if self._running:
                return
            self._running = True
            self._stopping = False
            self._next_periodic = time.monotonic() + self.backup_interval
            self._backup_thread = threading.Thread(target=self._run, name="copal-backup", daemon=True)
            _STARTED.add(self)
        _log.info("Starting automatic backup manager.")
        self._backup_thread.start()

    def stop(self) -> None:
        """Ends the thread, waits for a backup under way, and makes a last one unless it is known that nothing changed since.

        Only an :attr:`incremental` manager knows that. Called by a signal handler in the midst of a backup or of another call in the
        same thread, it waits for nothing, and the last backup is made at the end of the program.
        """
        may_not_wait = self._may_not_wait()
        with self._state:
            was_running, self._running = self._running, False
            self._stopping = True
            self._next_periodic = None
            self._state.notify_all()
            thread = self._backup_thread
            if may_not_wait:
                if was_running:
                    self._notified += 1
                return
        if was_running:
            _log.info("Stopping automatic backup manager.")
        if thread is not None and thread is not threading.current_thread() and thread.is_alive():
            thread.join()
        _STARTED.discard(self)
        if self._notified > self._covered or (was_running and self._has_changes()):
            self.backup_now()

    def __enter__(self) -> BackupManager:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def notify_change(self) -> None:
        """Something significant changed: saves now, in this thread, unless a backup was made within ``min_backup_interval``.

        Then a started manager saves as soon as that time has passed, a stopped one with its next backup. A started manager with a
        repository always leaves it to its thread.
        """
        is_nested = self._is_nested()
        with self._state:
            self._notified += 1
            number = self._notified
            if is_nested or (self._leaves_to_thread and self._running):
                self._state.notify_all()
                return
        with self._taking_turn():
            if self._covered >= number:
                return  # a backup that began after this change has been made meanwhile
            last = self._last_saved
            if last is not None and time.monotonic() - last < self.min_backup_interval:
                with self._state:
                    self._state.notify_all()
                return
            failure = self._attempt(self._save_now)
        self._report(failure)

    def backup_now(self) -> None:
        """Saves what changed if :attr:`incremental` (nothing if nothing did), else everything."""
        self._save(self._save_now)

    def backup_full(self) -> None:
        """Saves everything."""
        self._save(self._save_full)

    def backup_delta(self) -> None:
        """Saves what changed since the last backup, if anything did; everything if this manager has not saved a full yet."""
        self._save(self._save_delta)

    @property
    def file_format(self) -> str:
        """The format of the next full backups: ``"json"`` or ``"pickle"``."""
        return self._destination.file_format

    @file_format.setter
    def file_format(self, value: str) -> None:
        self._destination.file_format = value

    # What it tells ----------------------------------------------------------------------------------------------------

    @property
    def consecutive_failures(self) -> int:
        """How many backups have failed since the last one that did not."""
        return self._consecutive_failures

    @property
    def deltas_since_full(self) -> int:
        """How many deltas stand on the last full."""
        return self._deltas_since_full

    @property
    def last_success(self) -> Optional[datetime.datetime]:
        """When a backup was last finished, in UTC; None if none was."""
        return self._last_success

    @property
    def next_run(self) -> Optional[datetime.datetime]:
        """When the thread saves next, in UTC; None if it is not started."""
        with self._state:
            due = self._due()
        if due is None:
            return None
        left = datetime.timedelta(seconds=min(max(0.0, due - time.monotonic()), 3e9))
        return datetime.datetime.now(datetime.timezone.utc) + left

    @property
    def last_hold_seconds(self) -> Optional[float]:
        """How long the last backup kept writers from writing, in seconds."""
        return self._last_hold_seconds

    def list(self) -> Sequence[SavedBackup]:
        """All backups, oldest first, whoever made them."""
        return self._destination.list()

    def verify(self) -> Sequence[CheckedBackup]:
        """Reads all backups; each with what is wrong with it, or None."""
        return self._destination.verify()

    def restore(
        self, at: Optional[datetime.datetime] = None, *, replace: bool = False, allow_pickle: bool = False
    ) -> SavedBackup:
        """Puts the newest state, or the newest not later than ``at``, into :attr:`db`, and answers which backup that was.

        All tables change in one step, and objects that the program holds for them stay valid. ``ExistsError`` if there are rows
        and not ``replace``; other errors as of :func:`copal.load_dictdb`. The next backup is a full.
        """
        from .dictdb import warn_incomplete

        with self._taking_turn():
            backup, state = self._destination.load(at, allow_pickle, warn_incomplete)
            self._source.restore(state, replace)
            self._source.forget()
            self._destination.forget()
            self._is_unsure = True
        return backup

    # How it saves -----------------------------------------------------------------------------------------------------

    def _save(self, save: Callable[[], bool]) -> None:
        if self._may_not_wait():
            # Rows with code of their own or a signal handler asked for it while something was being saved.
            with self._state:
                self._notified += 1
                self._state.notify_all()
            return
        with self._taking_turn():
            failure = self._attempt(save)
        self._report(failure)

    @contextlib.contextmanager
    def _taking_turn(self) -> "Any":
        if self._may_not_wait():
            raise UsageError("a backup or another call of the manager is under way in this thread")
        try:
            _HERE.saving = True
            with self._turn:
                yield
        finally:
            _HERE.saving = False

    def _attempt(self, save: Callable[[], bool]) -> "Optional[tuple[Exception, int]]":
        """Saves, and notes how it went; the failure with the number of failures so far."""
        notified = self._notified
        try:
            saved = save()
        except Exception as error:
            with self._state:
                self._consecutive_failures += 1
                self._retry_after = time.monotonic() + max(_RETRY_SECONDS, self.min_backup_interval)
                failures = self._consecutive_failures
            _log.error("Backup failed (%d consecutive): %s", failures, error)
            return error, failures
        with self._state:
            self._covered = max(self._covered, notified)
            # Where nothing had to be saved, what was saved last is still there.
            self._consecutive_failures = 0
            if saved:
                self._is_unsure = not self.incremental
                self._last_saved = time.monotonic()
                self._last_success = datetime.datetime.now(datetime.timezone.utc)
        if saved and self._keep:
            try:
                self._destination.prune(self._keep)
            except Exception as error:
                _log.warning("Backups that are not kept any more could not be deleted: %s", error)
        return None

    def _save_now(self) -> bool:
        if self.incremental and self._deltas_since_full < self.max_deltas_before_full:
            return self._save_delta()
        return self._save_full()

    def _save_full(self) -> bool:
        self._store(self._source.full(), self._destination.full)
        self._deltas_since_full = 0
        return True

    def _save_delta(self) -> bool:
        try:
            view = self._source.delta()
            if view is None:
                if self._destination.has_last():
                    _log.debug("No changes to backup, skipping delta.")
                    return False
                _log.warning("What was saved last is not there any more: everything is saved again.")
                raise NeedsFull("what was saved last is not there any more")
            self._store(view, self._destination.delta)
        except NeedsFull as reason:
            _log.debug("A full backup is made: %s.", reason)
            return self._save_full()
        self._deltas_since_full += 1
        return True

    def _store(self, view: View, write: Callable[[View], SavedBackup]) -> None:
        self._last_hold_seconds = view.hold_seconds
        try:
            saved = write(view)
        except BaseException:
            try:
                self._source.reject(view)
            except BaseException:
                self._source.forget()
                raise
            raise
        self._source.accept(view)
        _log.info("Backup saved successfully to %s.", saved.name)

    def _report(self, failure: "Optional[tuple[Exception, int]]") -> None:
        """Calls the program back, with no lock held. A failure within the callback does not call it again."""
        if failure is None or self._on_backup_failure is None or getattr(self._in_callback, "now", False):
            return
        self._in_callback.now = True
        try:
            self._on_backup_failure(*failure)
        except Exception:
            _log.exception("Backup failure callback raised.")
        finally:
            self._in_callback.now = False

    def _is_nested(self) -> bool:
        return self._may_not_wait() or getattr(self._in_callback, "now", False)

    def _may_not_wait(self) -> bool:
        """Whether this thread saves, or is a signal handler's within a call that holds the lock of the state.

        Whom it waited for would wait for it. The lock itself is asked: a note of it could be left behind by an interrupt.
        """
        if _is_saving_here():
            return True
        try:
            self._state.notify(0)
        except RuntimeError:  # this thread does not hold it
            return False
        return True

    def _has_changes(self) -> bool:
        """Whether the last backup is needed: something may have changed, or what was saved last is gone."""
        try:
            return self._is_unsure or self._source.has_changes() or not self._destination.has_last()
        except Exception:
            return True

    # The thread -------------------------------------------------------------------------------------------------------

    def _due(self) -> Optional[float]:
        """When the thread has to save next, by the monotonic clock."""
        # A signal handler may stop the manager at any point.
        periodic = self._next_periodic
        if not self._running or periodic is None:
            return None
        if self._notified <= self._covered:
            return periodic
        last = 0.0 if self._last_saved is None else self._last_saved + self.min_backup_interval
        return min(periodic, max(last, self._retry_after))

    def _run(self) -> None:
        me = threading.current_thread()
        while True:
            with self._state:
                while True:
                    due = self._due()
                    if self._stopping or due is None or self._backup_thread is not me:
                        return
                    left = due - time.monotonic()
                    if left <= 0:
                        break
                    self._state.wait(min(left, _LONGEST_WAIT_SECONDS))
            try:
                self.backup_now()
            except BaseException:
                # SystemExit of a callback, say: the data must not be unprotected because of it.
                _log.exception("The backup thread goes on after an error.")
            with self._state:
                if self._next_periodic is not None and self._next_periodic <= time.monotonic():
                    self._next_periodic = time.monotonic() + self.backup_interval

    def _after_fork(self) -> None:
        """The child has no thread, and what its parent saved is the parent's: it starts anew if it is told to."""
        self._reset_locks()
        self._backup_thread = None
        self._deltas_since_full = 0
        self._source.forget()
        self._destination.after_fork()


def _is_saving_here() -> bool:
    return bool(getattr(_HERE, "saving", False))


def _source(db: Any, lock: Optional[ContextManager[Any]], deltas: bool) -> Source:
    if isinstance(db, dict):
        from .dictdb.plain import PlainSource

        return PlainSource(db, lock, deltas)
    if not (isinstance(getattr(db, "tables", None), dict) and hasattr(db, "get_table")):
        raise UsageError(f"a DictDB or a dict of dicts of rows is needed, not a {type(db).__name__}")
    if lock is not None:
        raise UsageError("a DictDB has locks of its own: lock= is for plain dicts")
    from .dictdb.live import DictDbSource

    return DictDbSource(db)


def _rules(keep: "Union[Keep, Mapping[str, Any], None]") -> "Optional[Mapping[str, Any]]":
    if keep is None:
        return None
    from .dictdb.retention import check_rules

    return check_rules(keep)


# Managers live as long as the program wants; started ones until they are stopped.
_MANAGERS: "weakref.WeakSet[BackupManager]" = weakref.WeakSet()
_STARTED: "Set[BackupManager]" = set()


def _stop_all() -> None:
    """At the end of the interpreter, while threads and files still work: what changed last is saved."""
    for manager in list(_STARTED):
        try:
            manager.stop()
        except Exception:
            _log.exception("A backup manager could not be stopped.")


def _before_fork() -> None:
    from .dictdb.locks import VIEW

    VIEW.acquire()


def _after_fork_in_parent() -> None:
    from .dictdb.locks import VIEW

    VIEW.release()


def _after_fork_in_child() -> None:
    _after_fork_in_parent()
    _STARTED.clear()
    for manager in list(_MANAGERS):
        manager._after_fork()


atexit.register(_stop_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
