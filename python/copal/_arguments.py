"""From what programs say to what the use cases take."""

from __future__ import annotations

import datetime
import os
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Union

from . import sources
from ._values import format_time
from .errors import UsageError
from .results import Keep, Progress
from .sources import Source

Path = Union[str, "os.PathLike[str]"]
ProgressCallback = Callable[[Progress], None]
KeepRules = Union[Keep, Mapping[str, Any]]


def absolute_place(repository: str) -> str:
    """The same place after the program has changed its working folder."""
    is_url = "://" in repository or repository.startswith("file:")
    return repository if is_url or not repository else os.path.abspath(repository)


def released(wanted: Sequence[Source]) -> List[str]:
    """The texts of sources of which engines shall hold no connections ready, since those would end or be in the way."""
    texts = sources.texts_of(wanted)
    for source in wanted:
        release = sources.find(source).release
        if release is not None:
            release()
    return texts


def time_text(time: datetime.datetime) -> str:
    """RFC 3339. Raises :class:`copal.UsageError` for a time without a zone."""
    if time.tzinfo is None:
        raise UsageError(
            "a time without a zone could mean any", hint="datetime(…, tzinfo=timezone.utc), or local.astimezone()"
        )
    return format_time(time)


def duration_text(span: "str | datetime.timedelta | None") -> Optional[str]:
    """A duration as ``copal.toml`` has it."""
    if isinstance(span, datetime.timedelta):
        return f"{int(span.total_seconds())}s"
    return span


def rules_of(keep: KeepRules) -> Dict[str, Any]:
    """Rules of retention as ``copal.toml`` has them."""
    if isinstance(keep, Keep):
        rules = {name: getattr(keep, name) for name in Keep.__dataclass_fields__}
    else:
        rules = dict(keep)
    rules = {name: rule for name, rule in rules.items() if rule is not None}
    if "within" in rules:
        rules["within"] = duration_text(rules["within"])
    return rules
