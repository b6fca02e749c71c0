"""Reading all files of a folder to find damage, without restoring anything and without loading a pickle."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Dict, List, Optional

from ..errors import DamageError
from .folder import BackupFile, check, follows_of, lost_before, lost_newest
from .protocol import CheckedBackup, SavedBackup

__all__ = ["check_files"]


def check_files(directory: Path, files: List[BackupFile]) -> List[CheckedBackup]:
    """Every file with what is wrong with it: its content, or that what it follows is missing, another or itself damaged.

    Backups that are missing before a full or after everything are told, too.
    """
    digests: Dict[str, Optional[str]] = {}
    checked: List[CheckedBackup] = []
    for file in files:
        problem = None
        line = None
        try:
            data = file.path.read_bytes()
            line = check(file.name, data)
            if line is None:
                problem = _foreign_problem(file, data)
            digests[file.name] = hashlib.sha256(data).hexdigest()
        except (OSError, DamageError) as error:
            if isinstance(error, FileNotFoundError) and not os.path.lexists(file.path):
                continue  # deleted meanwhile: prune takes deltas before what they follow
            problem = str(error)
        if line is not None and file.kind == "delta":
            problem = _chain_problem(line, digests)
        if line is not None and file.kind == "full" and checked:
            lost = lost_before(file, line)
            if lost is not None:
                checked.append(CheckedBackup(lost, f"it is missing, and {file.name} follows it"))
        if problem is not None:
            digests[file.name] = None
        checked.append(CheckedBackup(_saved(file), problem))
    newest = lost_newest(directory, files)
    if newest is not None:
        checked.append(CheckedBackup(newest, "it is missing, and it was the newest"))
    return checked


def _saved(file: BackupFile) -> SavedBackup:
    try:
        return file.saved()
    except OSError:
        return SavedBackup(file.name, file.kind, file.named_time, 0, file.format, "copal")


def _chain_problem(line: Dict[str, Any], digests: Dict[str, Optional[str]]) -> Optional[str]:
    follows = follows_of(line)
    name = str(follows.get("name"))
    if name not in digests:
        return f"it follows {name}, which is missing"
    if digests[name] is None:
        return f"it follows {name}, which is damaged"
    if digests[name] != follows.get("sha256"):
        return f"it follows another {name} than the one that is there"
    return None


def _foreign_problem(file: BackupFile, data: bytes) -> Optional[str]:
    """DictDB's own files have no digest: only what cannot be read is found."""
    if file.format == "pickle":
        whole = data[:1] == b"\x80" and data[-1:] == b"."
        return None if whole else "it is cut off, or no pickle"
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        return f"it is cut off, or no JSON: {error}"
    if not isinstance(document, dict) or not isinstance(document.get("tables"), dict):
        return "it holds no tables"
    return None
