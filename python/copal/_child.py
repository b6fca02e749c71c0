"""Calls that open a database's own file run in a child process; this is both sides of it.

Locks of files belong to a process: if a program has a SQLite or DuckDB file open and anything in the same process opens and
closes it once more, the program's locks are gone, and a second process can write into the middle of a transaction.

The child gets the request on its standard input, secrets included, and answers by lines of JSON ``[kind, text]`` on its standard
output: kind is ``progress``, ``note``, ``warning``, and at last ``answer`` or ``failure``. When its input ends, whether the call
was cancelled or the parent is gone, it stops at a safe place.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    # Isolated mode has neither the working folder nor site-packages on the path, so nothing can shadow a module.
    sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import json
import signal
import threading
from typing import IO, TYPE_CHECKING, Any, Mapping, Optional

if TYPE_CHECKING:
    from subprocess import Popen

    from ._work import Cancellation, Tell

#: How long a child that has lost its parent may take to stop, in seconds.
_GRACE = 60.0

_python: Optional[str] = None


def set_python(path: "str | os.PathLike[str]") -> None:
    """Names the Python (3.9 or later, of the same machine type) that child processes run with.

    Needed only where ``sys.executable`` is no Python: in frozen programs and embedded interpreters.
    """
    global _python
    _python = os.fspath(path)


def duckdb_program() -> Optional[str]:
    """This Python, if it has the module ``duckdb`` to check restored databases with, and no other one was named."""
    from importlib.util import find_spec

    return python() if _python is None and find_spec("duckdb") is not None else None


def python() -> str:
    """The Python for child processes. Raises :class:`copal.UnsupportedError` if none is known."""
    if _python is not None:
        return _python
    executable = sys.executable or ""
    is_python = os.path.basename(executable).lower().startswith(("python", "pypy"))
    if is_python and not getattr(sys, "frozen", False):
        return executable
    installed = os.path.join(sys.prefix, "bin", f"python{sys.version_info[0]}.{sys.version_info[1]}")
    if not getattr(sys, "frozen", False) and os.access(installed, os.X_OK):
        return installed
    from .errors import UnsupportedError

    raise UnsupportedError(
        "a file of a database is read by a child process, and this program's own executable is no Python",
        hint='name one: copal.set_python("/path/to/python")',
    )


def run_in_child(
    settings: Mapping[str, Any],
    name: str,
    arguments: Mapping[str, Any],
    tell: "Tell",
    cancellation: "Cancellation",
) -> Any:
    """Runs a use case in a child process and waits for it; the answer is decoded JSON.

    Whatever is raised meanwhile (Ctrl-C, or by ``tell``) cancels it and is raised once it has ended. A second Ctrl-C kills it.
    """
    import subprocess
    import tempfile

    cancellation.check()
    request = json.dumps({"settings": settings, "name": name, "arguments": arguments})
    with tempfile.TemporaryFile() as complaints:
        try:
            # A session of its own: Ctrl-C on the terminal is for the parent, which then decides.
            process = subprocess.Popen(
                [python(), "-I", "-S", os.path.abspath(__file__)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                start_new_session=True,
            )
        except OSError as error:
            raise _unusable(f"{python()} cannot be started", str(error)) from error

        def stop() -> None:
            _close(process.stdin)

        try:
            try:
                _send(process, request)
                cancellation.attach(stop)
                return _listen(process, tell)
            except BaseException:
                stop()
                _drain(process)
                raise
        except BaseException:
            process.kill()
            raise
        finally:
            cancellation.detach(stop)
            stop()
            code = process.wait()
            if process.stdout is not None:
                process.stdout.close()
            if code not in (0, -signal.SIGKILL):
                complaints.seek(0)
                _note(complaints.read()[-4000:].decode(errors="replace").strip())


def _send(process: "Popen[bytes]", request: str) -> None:
    assert process.stdin is not None
    try:
        process.stdin.write(request.encode() + b"\n")
        process.stdin.flush()
    except BrokenPipeError:
        # It has ended; why will be seen when it is listened to.
        pass


def _listen(process: "Popen[bytes]", tell: "Tell") -> Any:
    from .errors import from_json

    assert process.stdout is not None
    for line in process.stdout:
        kind, text = json.loads(line)
        if kind == "answer":
            return json.loads(text)
        if kind == "failure":
            raise from_json(text)
        tell(kind, text)
    code = process.wait()
    ended = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    raise _unusable(f"the child process for this call {ended} without an answer")


def _unusable(message: str, *causes: str) -> Exception:
    from .errors import CopalError

    hint = f'it runs {python()}; name another Python with copal.set_python("/path/to/python")'
    return CopalError(message, causes=causes, hint=hint)


def _note(complaints: str) -> None:
    if complaints:
        from ._work import logger

        logger.error("the child process of a call says: %s", complaints)


def _drain(process: "Popen[bytes]") -> None:
    """Waits for the end; what it still says concerns nobody."""
    assert process.stdout is not None
    while process.stdout.read(65536):
        pass
    process.wait()


def _close(stream: Optional[IO[bytes]]) -> None:
    try:
        if stream is not None:
            stream.close()
    except (OSError, ValueError):
        pass


def _serve() -> None:
    """The child's side."""
    # What libraries print must not get between the lines.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from copal import _copal

    parent = os.getppid()
    requests = sys.stdin.buffer
    line = requests.readline()
    if not line.endswith(b"\n"):
        return
    request = json.loads(line)

    def answer(kind: str, text: str) -> None:
        try:
            answers.write(json.dumps([kind, text]).encode() + b"\n")
            answers.flush()
        except BrokenPipeError:
            # The parent is gone; the end of the input says so, too.
            pass

    try:
        session = _copal.Session(json.dumps(request["settings"]))
        work = session.start(request["name"], json.dumps(request["arguments"]))
        signal.signal(signal.SIGTERM, lambda number, frame: work.cancel())

        def watch() -> None:
            requests.read()
            work.cancel()
            if not _ended.wait(_GRACE) and os.getppid() != parent:
                os._exit(130)

        threading.Thread(target=watch, daemon=True).start()
        for notice in session.notices:
            answer("warning", notice)
        while True:
            news = work.next(1.0)
            if news is not None:
                answer(*news)
                if news[0] == "answer":
                    return
    except _copal.Failure as failure:
        answer("failure", failure.args[0])
    finally:
        _ended.set()


_ended = threading.Event()

if __name__ == "__main__":
    _serve()
    # At once: nothing may wait for the thread that reads the input.
    os._exit(0)
