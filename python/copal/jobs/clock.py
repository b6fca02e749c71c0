"""The time that a scheduler goes by."""

from __future__ import annotations

import threading
from datetime import datetime, timezone


class Clock:
    """The machine's clock; a test may put another in its place."""

    def now(self) -> datetime:
        """The time of day, in UTC. Somebody may set it, so it may jump."""
        return datetime.now(timezone.utc)

    def wait(self, event: threading.Event, seconds: float) -> None:
        """Waits until the event is set, at most so many seconds."""
        event.wait(seconds)
