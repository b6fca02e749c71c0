"""What the tests share: the package as it was built last, a home of its own for every test, and programs beside it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from pathlib import Path
from typing import Any, Callable, Iterator, List, Optional

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / "python"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target") / "debug"

#: Nothing here takes so many seconds, on any machine.
PATIENCE = 120.0

_package: Optional[str] = None


def wheel_tool() -> Any:
    """tools/wheel.py as a module."""
    spec = importlib.util.spec_from_file_location("wheel_tool", ROOT / "tools" / "wheel.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pytest_configure(config: pytest.Config) -> None:
    """Lays the package out; what cargo built must be younger than what it was built from."""
    global _package
    # Programs started from here inherit what is ignored, as it is in background jobs of a shell.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    library = TARGET / "lib_copal.so"
    hint = "cargo build --workspace --all-features --all-targets"
    if not library.exists():
        pytest.exit(f"{library} is missing: {hint}", returncode=3)
    if library.stat().st_mtime < max(file.stat().st_mtime for file in (PYTHON / "src").glob("**/*.rs")):
        pytest.exit(f"{library} is older than python/src: {hint}", returncode=3)
    _package = tempfile.mkdtemp(prefix="copal-package-")
    wheel_tool().develop(str(TARGET), _package)
    sys.path.insert(0, _package)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [_package, os.environ.get("PYTHONPATH")]))


def pytest_unconfigure(config: pytest.Config) -> None:
    if _package is not None:
        shutil.rmtree(_package, ignore_errors=True)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home and a working folder where nothing of the user is found."""
    folder = tmp_path / "home"
    folder.mkdir()
    for name in list(os.environ):
        if name.startswith(("COPAL_", "XDG_", "AWS_", "PG")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture
def repository(tmp_path: Path) -> str:
    """A repository without encryption, which makes every call faster."""
    import copal

    return copal.init(tmp_path / "repository", encrypt=False).repository


@pytest.fixture(scope="session")
def mypy_cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What mypy has read once: the standard library and the frameworks are large."""
    return str(tmp_path_factory.mktemp("mypy"))


class Program:
    """A Python program beside the test."""

    def __init__(self, code: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def line(self) -> str:
        """Waits for the next line that it prints."""
        assert self.process.stdout is not None
        timer = threading.Timer(PATIENCE, self.process.kill)
        timer.start()
        try:
            return self.process.stdout.readline().rstrip("\n")
        finally:
            timer.cancel()

    def say(self, text: str) -> None:
        """Writes a line to it."""
        assert self.process.stdin is not None
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def interrupt(self) -> None:
        """What Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)

    def end(self) -> "tuple[int, str, str]":
        """Waits for its end: exit code, output and complaints."""
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out, err


@pytest.fixture
def program() -> Iterator[Callable[..., Program]]:
    """Starts programs, and ends those that still run."""
    started: List[Program] = []

    def start(code: str, *arguments: str) -> Program:
        started.append(Program(code, *arguments))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
        one.process.communicate()


@pytest.fixture
def silent_store() -> Iterator[Any]:
    """Settings of a store that takes connections and never answers."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(16)
    endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
    yield {
        "repository": "s3://bucket/prefix",
        "s3": {"endpoint": endpoint, "region": "r", "access_key_id": "a", "secret_access_key": "b"},
    }
    listener.close()


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    """Waits until the condition is true and answers its value."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"{what} did not come about")


def is_at_work(repository: str) -> bool:
    """Whether some operation has the lease of a database in this local repository."""
    for lease in (Path(repository[len("file://") :]) / "leases").glob("*"):
        try:
            if b"held" in lease.read_bytes():
                return True
        except OSError:
            continue
    return False


def children(pid: int) -> List[int]:
    """The processes that a process has started and that still run."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as file:
                    state, parent = file.read().rpartition(")")[2].split()[:2]
            except OSError:
                continue
            if int(parent) == pid and state != "Z":
                found.append(int(name))
    return found
