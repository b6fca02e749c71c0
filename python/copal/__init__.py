"""Copal preserves databases: backups, snapshots and restores of SQLite, DuckDB, PostgreSQL, MySQL and in-memory stores.

>>> import copal
>>> backup = copal.backup("app.db", repository="/srv/backups")          # doctest: +SKIP
>>> copal.restore("app.db", repository="/srv/backups", to="copy.db")    # doctest: +SKIP

Every function is a shortcut to a method of :class:`Copal`; :mod:`copal.aio` has the same as coroutines. What a function is not
told comes from where the command finds it: ``COPAL_REPOSITORY`` and ``copal.toml``, ``COPAL_PASSPHRASE`` and
``COPAL_PASSPHRASE_FILE``, else a local repository. Errors are of :class:`CopalError`. Remarks go to the logger ``copal``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, List

if TYPE_CHECKING:
    from . import aio as aio
    from ._child import set_python as set_python
    from ._copal import __version__ as __version__
    from .client import Copal as Copal
    from .client import Source as Source
    from .dictdb import IncompleteBackupWarning as IncompleteBackupWarning
    from .dictdb import load_dictdb as load_dictdb
    from .dictdb import load_store as load_store
    from .dictdb import load_tables as load_tables
    from .errors import BusyError as BusyError
    from .errors import CancelledError as CancelledError
    from .errors import ConfigurationError as ConfigurationError
    from .errors import CopalError as CopalError
    from .errors import CorruptError as CorruptError
    from .errors import DamageError as DamageError
    from .errors import ExistsError as ExistsError
    from .errors import NoSpaceError as NoSpaceError
    from .errors import NotFoundError as NotFoundError
    from .errors import PassphraseError as PassphraseError
    from .errors import PermissionDeniedError as PermissionDeniedError
    from .errors import PrunedError as PrunedError
    from .errors import ReplayError as ReplayError
    from .errors import RollbackError as RollbackError
    from .errors import TamperingError as TamperingError
    from .errors import UnavailableError as UnavailableError
    from .errors import UnsupportedError as UnsupportedError
    from .errors import UsageError as UsageError
    from .functions import backup as backup
    from .functions import init as init
    from .functions import list_backups as list_backups
    from .functions import list_databases as list_databases
    from .functions import list_snapshots as list_snapshots
    from .functions import pin as pin
    from .functions import prune as prune
    from .functions import remove_snapshot as remove_snapshot
    from .functions import restore as restore
    from .functions import rewind as rewind
    from .functions import show as show
    from .functions import snap as snap
    from .functions import snapshot_before_migration as snapshot_before_migration
    from .functions import status as status
    from .functions import unpin as unpin
    from .functions import verify as verify
    from .manager import BackupManager as BackupManager
    from .migrations import SafetyNet as SafetyNet
    from .results import Backup as Backup
    from .results import BackupAge as BackupAge
    from .results import BackupDetails as BackupDetails
    from .results import DamagedObject as DamagedObject
    from .results import Database as Database
    from .results import DatabaseStatus as DatabaseStatus
    from .results import Difference as Difference
    from .results import Drill as Drill
    from .results import Initialized as Initialized
    from .results import Keep as Keep
    from .results import KeptBackup as KeptBackup
    from .results import Progress as Progress
    from .results import Pruned as Pruned
    from .results import Restored as Restored
    from .results import StatusProblem as StatusProblem
    from .results import Verified as Verified
    from .schedule import Configuration as Configuration
    from .schedule import ConfiguredDatabase as ConfiguredDatabase
    from .schedule import configuration as configuration
    from .schedule import next_run as next_run
    from .snapshots import Cleared as Cleared
    from .snapshots import DatabaseNote as DatabaseNote
    from .snapshots import RemovedSnapshot as RemovedSnapshot
    from .snapshots import Rewound as Rewound
    from .snapshots import Snapped as Snapped
    from .snapshots import Snapshot as Snapshot
    from .snapshots import SnapshotPart as SnapshotPart

# Where each public name is, so that `import copal` loads nothing that is not used.
_MODULES = {
    "_child": "set_python",
    "_copal": "__version__",
    "client": "Copal Source",
    "dictdb": "IncompleteBackupWarning load_dictdb load_store load_tables",
    "errors": (
        "BusyError CancelledError ConfigurationError CopalError CorruptError DamageError ExistsError NoSpaceError "
        "NotFoundError PassphraseError PermissionDeniedError PrunedError ReplayError RollbackError TamperingError "
        "UnavailableError UnsupportedError UsageError"
    ),
    "functions": (
        "backup init list_backups list_databases list_snapshots pin prune remove_snapshot restore rewind show snap "
        "snapshot_before_migration status unpin verify"
    ),
    "manager": "BackupManager",
    "migrations": "SafetyNet",
    "results": (
        "Backup BackupAge BackupDetails DamagedObject Database DatabaseStatus Difference Drill Initialized Keep KeptBackup "
        "Progress Pruned Restored StatusProblem Verified"
    ),
    "schedule": "Configuration ConfiguredDatabase configuration next_run",
    "snapshots": "Cleared DatabaseNote RemovedSnapshot Rewound Snapped Snapshot SnapshotPart",
}
_WHERE = {name: module for module, names in _MODULES.items() for name in names.split()}
_SUBMODULES = ("aio",)

__all__ = sorted([*_WHERE, *_SUBMODULES])


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _SUBMODULES:
        return import_module(f"{__name__}.{name}")
    module = _WHERE.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> List[str]:
    return sorted({*globals(), *__all__})
