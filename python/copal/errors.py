"""What can go wrong, by kind: every error of Copal is a :class:`CopalError`, most are of a class below it."""

from __future__ import annotations

import json
from typing import Any, Mapping, Optional, Sequence, Tuple, Type

__all__ = [
    "BusyError",
    "CancelledError",
    "ConfigurationError",
    "CopalError",
    "CorruptError",
    "DamageError",
    "ExistsError",
    "NoSpaceError",
    "NotFoundError",
    "PassphraseError",
    "PermissionDeniedError",
    "PrunedError",
    "ReplayError",
    "RollbackError",
    "TamperingError",
    "UnavailableError",
    "UnsupportedError",
    "UsageError",
]


class CopalError(Exception):
    """An error of Copal. ``str()`` says what happened, why, and what to do about it, in a few lines."""

    #: The kind of errors of this class, as in the JSON of the command line.
    KIND = "failed"
    #: The exit code that the command line has for this kind.
    EXIT_CODE = 1

    #: What kind of error it is: ``"not-found"``, ``"busy"`` …
    kind: str
    #: What happened, in one line.
    message: str
    #: The errors underneath, nearest first.
    causes: Tuple[str, ...]
    #: What to do about it, where that is known.
    hint: Optional[str]
    #: The exit code that the command line would end with.
    exit_code: int

    def __init__(
        self,
        message: str,
        *,
        causes: Sequence[str] = (),
        hint: Optional[str] = None,
        kind: Optional[str] = None,
        exit_code: Optional[int] = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.causes = tuple(causes)
        self.hint = hint
        self.kind = self.KIND if kind is None else kind
        self.exit_code = self.EXIT_CODE if exit_code is None else exit_code

    def __str__(self) -> str:
        lines = [self.message]
        lines += [f"Caused by: {cause}" for cause in self.causes]
        if self.hint is not None:
            lines.append(f"Hint: {self.hint}")
        return "\n".join(lines)

    def to_dict(self) -> "dict[str, Any]":
        """The error as the command line's JSON has it: kind, message, causes, hint (and exit_code)."""
        return {
            "kind": self.kind,
            "message": self.message,
            "causes": list(self.causes),
            "hint": self.hint,
            "exit_code": self.exit_code,
        }

    @property
    def is_retryable(self) -> bool:
        """Whether the same call may succeed a little later."""
        return self.kind in ("busy", "unavailable", "pruned")


class NotFoundError(CopalError):
    """There is no such database, backup, snapshot or repository."""

    KIND = "not-found"


class ExistsError(CopalError):
    """The target exists, and may not be replaced without being told so."""

    KIND = "exists"


class CorruptError(CopalError):
    """The database itself is damaged or cannot be read."""

    KIND = "corrupt"


class NoSpaceError(CopalError):
    """A disk or a quota is full."""

    KIND = "no-space"


class PermissionDeniedError(CopalError, PermissionError):
    """The operating system, the server or the store refuses."""

    KIND = "permission-denied"


class UnavailableError(CopalError):
    """The server, the store or the network did not answer."""

    KIND = "unavailable"


class UnsupportedError(CopalError):
    """The engine or the store cannot do that."""

    KIND = "unsupported"


class UsageError(CopalError, ValueError):
    """A wrong call."""

    KIND = "usage"
    EXIT_CODE = 2


class ConfigurationError(CopalError):
    """Something is wrong in ``copal.toml`` or the environment."""

    KIND = "configuration"
    EXIT_CODE = 2


class PassphraseError(CopalError):
    """The passphrase or key is missing or wrong."""

    KIND = "passphrase"
    EXIT_CODE = 2


class DamageError(CopalError):
    """Objects of the repository are missing or changed."""

    KIND = "damage"
    EXIT_CODE = 4


class TamperingError(DamageError):
    """Something was changed by somebody without the key."""

    KIND = "tampering"


class ReplayError(DamageError):
    """A manifest stands in the place of another one."""

    KIND = "replay"


class RollbackError(DamageError):
    """The repository is older than what this machine has seen."""

    KIND = "rollback"


class BusyError(CopalError):
    """Somebody else works on this database, or another process holds it: try again later."""

    KIND = "busy"
    EXIT_CODE = 5


class PrunedError(CopalError):
    """The backup was pruned while it was read: try again."""

    KIND = "pruned"
    EXIT_CODE = 5


class CancelledError(CopalError):
    """The work was cancelled from outside. (Tasks of asyncio get ``asyncio.CancelledError`` instead.)"""

    KIND = "interrupted"
    EXIT_CODE = 130


_CLASSES: "dict[str, Type[CopalError]]" = {
    known.KIND: known for known in globals().values() if isinstance(known, type) and issubclass(known, CopalError)
}


def from_description(description: Mapping[str, Any]) -> CopalError:
    """The error of the class that its kind stands for."""
    kind = description["kind"]
    return _CLASSES.get(kind, CopalError)(
        description["message"],
        causes=description.get("causes", ()),
        hint=description.get("hint"),
        kind=kind,
        exit_code=description.get("exit_code"),
    )


def from_json(text: str) -> CopalError:
    """The same from JSON."""
    return from_description(json.loads(text))
