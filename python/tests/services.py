"""Services under uvicorn, and threads that write to them."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Callable, Dict, List, Optional, Tuple, Type

import httpx
from conftest import ROOT, wait_for

import copal

EXAMPLES = ROOT / "examples"


def example(name: str, folder: Path) -> Path:
    """A copy of an example that tests may write to."""
    return Path(
        shutil.copytree(EXAMPLES / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "trial", "*.db"))
    )


class Service:
    """An application under uvicorn."""

    def __init__(self, folder: Path, *options: str, **environment: str) -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "uvicorn.log"
        command = [
            sys.executable,
            "-B",
            "-m",
            "uvicorn",
            "main:app",
            "--port",
            str(self.port),
            "--no-access-log",
            *options,
        ]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                command, cwd=folder, env={**os.environ, **environment}, stdout=log, stderr=log, start_new_session=True
            )

    def __enter__(self) -> Service:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], traceback: Optional[TracebackType]
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """As systemd does it: politely, and hard if that does not help."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(90)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
                raise AssertionError(f"it did not stop: {self.log.read_text()}") from None

    def ready(self) -> Service:
        """Waits until it answers."""

        def answers() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            try:
                return httpx.get(f"{self.url}/backups/status", timeout=30).status_code == 200
            except httpx.TransportError:
                return False

        wait_for(answers, "an answer of the service")
        return self

    def status(self) -> Dict[str, Any]:
        """What it says about its only job, or the status of all."""
        answer: Dict[str, Any] = httpx.get(f"{self.url}/backups/status", timeout=60).json()
        return answer

    def backups(self, name: str) -> List[Dict[str, Any]]:
        """The backups that it shows."""
        answer: List[Dict[str, Any]] = httpx.get(f"{self.url}/backups", timeout=60).json()["backups"][name]
        return answer


class Load:
    """Threads that post until they are told to stop, and what was acknowledged when."""

    def __init__(self, url: str, body: Callable[[int], Dict[str, Any]], threads: int = 3) -> None:
        self._url, self._body = url, body
        self._lock = threading.Lock()
        self._end = threading.Event()
        self.sent = 0
        self.acknowledged = 0
        self.history: List[Tuple[float, int]] = []
        self.failures: List[str] = []
        self._threads = [threading.Thread(target=self._post, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def _post(self) -> None:
        with httpx.Client(timeout=60) as client:
            while not self._end.is_set():
                with self._lock:
                    self.sent += 1
                    number = self.sent
                try:
                    answer = client.post(self._url, json=self._body(number))
                except httpx.TransportError as error:
                    self.failures.append(repr(error))
                    time.sleep(0.05)
                    continue
                if answer.status_code != 201:
                    self.failures.append(answer.text)
                    continue
                with self._lock:
                    self.acknowledged += 1
                    self.history.append((time.time(), self.acknowledged))

    def stop(self) -> None:
        """Ends when the last answer is there."""
        self._end.set()
        for thread in self._threads:
            thread.join(120)
            assert not thread.is_alive()

    def before(self, moment: float) -> int:
        """How many were acknowledged before then: a backup that began then has at least these."""
        return max((count for when, count in self.history if when < moment), default=0)


def assert_one_each_time(made: "List[copal.Backup]", seconds: int) -> None:
    """Whether each occurrence of ``every SECONDS`` has one backup at most.

    Ids are at least a second apart as a rule, so that two in one occurrence are seen only if it has two seconds or more.
    """
    assert seconds > 1
    occurrences = [int(backup.time.timestamp()) // seconds for backup in made]
    assert len(set(occurrences)) == len(occurrences), [backup.id for backup in made]
