"""A PostgreSQL of the tests' own, in a folder for temporary files; it ends with the tests."""

from __future__ import annotations

import atexit
import functools
import glob
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, Optional

import pytest
from conftest import PATIENCE

#: A superuser who has to say a password, and one that is not the same in a URL.
GUARDED = "guarded"
PASSWORD = "s@cret/ü"

_HBA = f"""
host all {GUARDED} 127.0.0.1/32 scram-sha-256
host all postgres 127.0.0.1/32 trust
"""


def installed() -> Optional[Path]:
    """The folder of the newest server's programs; ``None`` if there is none."""
    folders = [Path(path).parent for path in glob.glob("/usr/lib/postgresql/*/bin/initdb")]
    found = [folder for folder in folders if (folder / "pg_dump").exists()]
    return max(found, key=lambda folder: int(folder.parent.name), default=None)


@functools.lru_cache(maxsize=None)
def shared() -> Server:
    """One for all tests of this process, each of which has databases of its own; skips where there is no PostgreSQL."""
    programs = installed()
    if programs is None:
        pytest.skip("SKIPPED: PostgreSQL is not installed (tools/prepare.sh)")
    pytest.importorskip("psycopg")
    account: Dict[str, Any] = {}
    if os.getuid() == 0:
        # initdb refuses to work as root.
        try:
            pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("SKIPPED: there is no user postgres to run PostgreSQL as")
        account = {"user": "postgres", "group": "postgres", "extra_groups": []}
    server = Server(programs, account)
    atexit.register(server.stop)
    return server


class Server:
    """A running server. It trusts its superuser ``postgres``, and wants the password of ``GUARDED``."""

    def __init__(self, programs: Path, account: Dict[str, Any]) -> None:
        self._programs, self._account = programs, account
        self._folder = Path(tempfile.mkdtemp(prefix="copal-pg-"))
        if account:
            shutil.chown(self._folder, "postgres", "postgres")
        self._data, self._log = self._folder / "data", self._folder / "log"
        initdb = [str(programs / "initdb"), "-D", str(self._data), "-U", "postgres", "-A", "trust", "-N"]
        done = subprocess.run(
            [*initdb, "-E", "UTF8", "--locale=C.UTF-8"],
            cwd="/", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **account,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        (self._data / "pg_hba.conf").write_text(_HBA)
        end = time.monotonic() + PATIENCE
        # The server tries the port; another is chosen if it is taken.
        while not self._start(end):
            if time.monotonic() >= end:
                told = self._log.read_text()
                self.stop()
                raise AssertionError(told)
        self.sql("postgres", f"CREATE ROLE {GUARDED} SUPERUSER LOGIN PASSWORD '{PASSWORD}'")

    def url(self, database: str, scheme: str = "postgresql") -> str:
        """Where a database is, for who is trusted."""
        return f"{scheme}://postgres@127.0.0.1:{self.port}/{database}"

    def sql(self, database: str, statement: str) -> "List[List[str]]":
        """Runs a statement, and answers its rows as texts."""
        done = subprocess.run(
            [str(self._programs / "psql"), "-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", statement, self.url(database)],
            check=True,
            capture_output=True,
            text=True,
        )
        return [line.split("|") for line in done.stdout.splitlines()]

    def stop(self) -> None:
        """Ends it and removes what it has left."""
        # Immediate: nobody needs its files any more.
        self._process.send_signal(3)
        self._process.wait(60)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self, end: float) -> bool:
        """Whether it has started on a port that was free."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        command = [str(self._programs / "postgres"), "-D", str(self._data), "-k", str(self._folder), "-p", str(self.port)]
        command += ["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
        with open(self._log, "ab") as log:
            self._process = subprocess.Popen(command, cwd="/", stdout=log, stderr=log, **self._account)
        while self._process.poll() is None and time.monotonic() < end:
            try:
                if "ready" in (self._data / "postmaster.pid").read_text():
                    return True
            except OSError:
                pass
            time.sleep(0.05)
        return False
