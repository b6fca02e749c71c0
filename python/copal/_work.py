"""One call under way, here or in a child process: waiting for it, telling its progress, cancelling it."""

from __future__ import annotations

import json
import logging
import threading
from typing import Any, Callable, Generic, List, Mapping, Optional, TypeVar

from . import _copal
from .errors import CancelledError, CopalError, from_json
from .results import Progress

T = TypeVar("T")

#: Takes what is told: ``"progress"``, ``"note"`` or ``"warning"``, and a text.
Tell = Callable[[str, str], None]

#: How often the waiting thread looks for signals, in seconds.
_PATIENCE = 0.05

logger = logging.getLogger("copal")


class Cancellation:
    """A way to stop a call from another thread. What is attached is called once, at the first ``cancel``."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._callbacks: List[Callable[[], None]] = []
        self._is_cancelled = False

    @property
    def is_cancelled(self) -> bool:
        """Whether ``cancel`` was called."""
        return self._is_cancelled

    def cancel(self) -> None:
        """Asks the call to stop soon, at a safe place."""
        with self._lock:
            self._is_cancelled = True
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def attach(self, callback: Callable[[], None]) -> None:
        """Calls back when it is cancelled, or at once if it was."""
        with self._lock:
            if not self._is_cancelled:
                self._callbacks.append(callback)
                return
        callback()

    def detach(self, callback: Callable[[], None]) -> None:
        """Does not call back any more."""
        with self._lock:
            if callback in self._callbacks:
                self._callbacks.remove(callback)

    def check(self) -> None:
        """Raises :class:`CancelledError` if it was cancelled."""
        if self._is_cancelled:
            raise CancelledError("interrupted")


class Call(Generic[T]):
    """A call that is prepared in the caller's thread and may run in another one. It runs once."""

    def __init__(
        self, perform: Callable[[Cancellation], T], close: Optional[Callable[[], None]] = None
    ) -> None:
        self._perform = perform
        self._close = close

    def run(self, cancellation: Optional[Cancellation] = None) -> T:
        """Does it, and then drops what was prepared for it."""
        try:
            return self._perform(Cancellation() if cancellation is None else cancellation)
        finally:
            self.close()

    def close(self) -> None:
        """Drops what was prepared, also if it never ran."""
        close, self._close = self._close, None
        if close is not None:
            close()


def teller(progress: Optional[Callable[[Progress], None]]) -> Tell:
    """Passes progress on, and remarks to the logger."""

    def tell(kind: str, text: str) -> None:
        if kind == "warning":
            logger.warning("%s", text)
        elif kind == "note":
            logger.info("%s", text)
        elif kind == "progress" and progress is not None:
            told = json.loads(text)
            progress(Progress(told["phase"], told["done_bytes"], told["total_bytes"]))

    return tell


def new_session(settings: Mapping[str, Any]) -> _copal.Session:
    """A session with these settings; remarks about them go to the logger."""
    try:
        session = _copal.Session(json.dumps(settings))
    except _copal.Failure as failure:
        raise _error(failure) from None
    for notice in session.notices:
        logger.warning("%s", notice)
    return session


def run_here(
    session: _copal.Session,
    name: str,
    arguments: Mapping[str, Any],
    tell: Tell,
    cancellation: Cancellation,
) -> Any:
    """Runs a use case in this process and waits for it; the answer is decoded JSON.

    Whatever is raised meanwhile (Ctrl-C, or by ``tell``) cancels it and is raised once it has ended. A second Ctrl-C does
    not wait for that.
    """
    cancellation.check()
    work = None
    try:
        work = session.start(name, json.dumps(arguments))
        cancellation.attach(work.cancel)
        while True:
            news = work.next(_PATIENCE)
            if news is None:
                continue
            kind, text = news
            if kind == "answer":
                return json.loads(text)
            tell(kind, text)
    except _copal.Failure as failure:
        raise _error(failure) from None
    except BaseException:
        if work is not None:
            work.cancel()
            _wait_until_ended(work)
        raise
    finally:
        if work is not None:
            cancellation.detach(work.cancel)


def _wait_until_ended(work: _copal.Work) -> None:
    try:
        while True:
            news = work.next(_PATIENCE)
            if news is not None and news[0] == "answer":
                return
    except _copal.Failure:
        pass


def _error(failure: _copal.Failure) -> CopalError:
    return from_json(str(failure.args[0]))
