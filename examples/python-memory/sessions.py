"""Sessions in memory that survive the program: saved every minute and soon after each change, restored when it
starts."""

import os
import secrets
import sys
import threading
import time
from datetime import datetime
from typing import Any, Dict, Optional

import copal

FOLDER = os.environ.get("BACKUPS", "backups")

Tables = Dict[str, Dict[Any, Dict[str, Any]]]


class Sessions:
    """Who is logged in. Plain dicts, one lock, and a manager that keeps them safe."""

    def __init__(self, folder: str = FOLDER, *, interval: float = 60.0, at: Optional[datetime] = None) -> None:
        self._tables: Tables = {"sessions": {}, "users": {}}
        self._lock = threading.RLock()
        self.backups = copal.BackupManager(
            self._tables,
            folder,
            backup_interval=interval,
            min_backup_interval=1.0,
            incremental=True,
            max_deltas_before_full=20,
            on_backup_failure=self._tell,
            keep={"last": 100, "within": "5d"},
            # Held only while what changed is looked at; files are written without it.
            lock=self._lock,
        )
        try:
            self.backups.restore(at)
        except copal.NotFoundError:
            # The very first start.
            pass

    def log_in(self, user: str) -> str:
        """Begins a session, and counts it."""
        token = secrets.token_urlsafe(16)
        with self._lock:
            self._tables["sessions"][token] = {"user": user, "since": time.time()}
            known = self._tables["users"].get(user, {"count": 0})
            self._tables["users"][user] = {"count": known["count"] + 1}
        self.backups.notify_change()
        return token

    def user(self, token: str) -> Optional[str]:
        """Who a session belongs to."""
        with self._lock:
            session = self._tables["sessions"].get(token)
        return None if session is None else str(session["user"])

    def count(self) -> int:
        """How many sessions there are."""
        with self._lock:
            return len(self._tables["sessions"])

    def __enter__(self) -> "Sessions":
        self.backups.start()
        return self

    def __exit__(self, *_: object) -> None:
        # What changed last is saved as well.
        self.backups.stop()

    @staticmethod
    def _tell(error: Exception, failures: int) -> None:
        sys.stderr.write(f"not saved ({failures} times in a row): {error}\n")


def main() -> None:
    """Logs somebody in and says who is there."""
    with Sessions() as sessions:
        sessions.log_in(sys.argv[1] if len(sys.argv) > 1 else "ada")
        sys.stdout.write(f"{sessions.count()} sessions; saved in {FOLDER}/\n")


if __name__ == "__main__":
    main()
