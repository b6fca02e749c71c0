"""What the verification of a repository's database found, told for each full and each delta."""

from __future__ import annotations

import datetime
import re
from typing import Any, Dict, List, Mapping, Optional, Sequence

from .protocol import CheckedBackup, SavedBackup

__all__ = ["check"]

_Found = Sequence[Mapping[str, Any]]
#: An object of a journal: a segment, or the journal itself if nobody knows the ids of the segments that are missing.
_JOURNAL = re.compile(r"(?:.*/)?databases/[^/]+/journal(?:/(?P<segment>.*))?", re.DOTALL)


def check(
    saved: Sequence[SavedBackup], listings: Sequence[Mapping[str, Any]], outcomes: Sequence[Mapping[str, Any]]
) -> List[CheckedBackup]:
    """Every backup that is listed, and those that only their damage tells of, oldest first."""
    by_id = {outcome["id"]: outcome for outcome in outcomes}
    listed = [one for listing in listings for one in listing["damaged"]]
    answers: Dict[str, CheckedBackup] = {}
    for full in (one for one in saved if one.kind == "full"):
        outcome = by_id.pop(full.name, {"verified": False, "damaged": []})
        found = [*outcome["damaged"], *(one for one in listed if one.get("backup") == full.name)]
        deltas = [one for one in saved if one.kind == "delta" and one.full == full.name]
        for answer in _chain(full, deltas, outcome["verified"], found):
            answers[answer.backup.name] = answer
    for name, outcome in by_id.items():
        # Its manifest cannot be read.
        problem = _problem(outcome["damaged"]) or "it cannot be read"
        answers[name] = CheckedBackup(_unlisted(name, "full", name), problem)
    return [answers[name] for name in sorted(answers)]


def _chain(full: SavedBackup, deltas: Sequence[SavedBackup], verified: bool, found: _Found) -> List[CheckedBackup]:
    """A full and its deltas, each with its own damage. What follows something damaged cannot be restored either."""
    known = {one.name for one in deltas}
    last = deltas[-1].name if deltas else full.name
    own = {name: [one for one in found if name in one["object"]] for name in known}
    rest = [one for one in found if not any(one in told for told in own.values())]
    lost: Dict[str, List[Mapping[str, Any]]] = {}
    for one in [one for one in rest if _JOURNAL.fullmatch(one["object"])]:
        lost.setdefault(_segment(one) or f"{last}/journal", []).append(one)
        rest.remove(one)
    problem = _problem(rest)
    if problem is None and not verified and not lost and not any(own.values()):
        problem = "it was not read to its end"
    answers = [CheckedBackup(full, problem)]
    before = full.name
    for delta in deltas:
        follows = None if problem is None else f"it follows {before}, which cannot be restored"
        problem = _problem(own[delta.name]) or follows
        answers.append(CheckedBackup(delta, problem))
        before = delta.name
    for name, told in lost.items():
        answers.append(CheckedBackup(_unlisted(name, "delta", full.name), _problem(told) or "it is missing"))
    return answers


def _segment(found: Mapping[str, Any]) -> str:
    """The id of a journal's segment; empty for the journal itself."""
    match = _JOURNAL.fullmatch(found["object"])
    return "" if match is None else (match["segment"] or "").rpartition("/")[2]


def _problem(found: _Found) -> Optional[str]:
    return "; ".join(dict.fromkeys(str(one.get("problem") or one["object"]) for one in found)) or None


def _unlisted(name: str, kind: str, full: str) -> SavedBackup:
    """Of such a backup only the id is known, which begins with its time."""
    try:
        time = datetime.datetime.strptime(name[:16], "%Y%m%d-%H%M%SZ").replace(tzinfo=datetime.timezone.utc)
    except ValueError:
        time = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
    return SavedBackup(name, kind, time, 0, "repository", "copal", full)
