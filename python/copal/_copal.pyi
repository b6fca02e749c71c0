"""The native part: use cases with JSON in both directions. The package's own modules are what programs use."""

from typing import Any, Dict, Iterable, List, Optional, Tuple

__version__: str

class Failure(Exception):
    """An error of the library as JSON: kind, message, causes, hint, exit_code."""

class Session:
    """The use cases over one repository, made of settings as JSON."""

    def __new__(cls, settings: str) -> Session: ...
    @property
    def notices(self) -> List[str]:
        """Remarks about the settings, each one line."""
    @property
    def repository(self) -> str:
        """The repository's URL or path."""
    @property
    def databases(self) -> List[str]:
        """The names of the configured databases, sorted."""
    def is_server(self, database: str) -> bool:
        """Whether a database is known to be on a server, so that no file of it can be opened here."""
    def start(self, name: str, arguments: str) -> Work:
        """Begins a use case with its arguments as JSON."""

class Work:
    """A use case under way. Call ``next`` until it has answered or raised, also after ``cancel``."""

    def next(self, seconds: float) -> Optional[Tuple[str, str]]:
        """Waits at most so many seconds for what happens next."""
    def cancel(self) -> None:
        """Asks the work to stop soon, at a safe place."""

def shutdown(seconds: float) -> None:
    """Cancels all work that was begun and waits until it has ended, at most so many seconds."""

def config(path: Optional[str] = None) -> str:
    """The configuration as JSON: path, timezone, databases."""

def next_run(schedule: str, after: str, timezone: Optional[str] = None) -> Optional[str]:
    """The first time of a schedule that is later than ``after`` (RFC 3339)."""

class Rows:
    """Rows of one table as they were at one moment, in blocks of some thousand."""

    def __len__(self) -> int: ...
    @property
    def blocks(self) -> int:
        """How many blocks there are."""
    @property
    def keys(self) -> Optional[List[Any]]:
        """The key of each row, if not every row holds its own in the field of the primary key."""
    @property
    def missing(self) -> List[Any]:
        """The wanted keys that have no row."""
    @property
    def odd_key(self) -> Optional[Any]:
        """A key that JSON cannot hold, if there is one."""
    def json(self, block: int, separator: bytes, exact: bool = False) -> bytes:
        """The rows of a block as ``json.dumps`` writes each. ``exact``: ``TypeError`` for what would come back otherwise."""
    def digests(self, block: int) -> List[bytes]:
        """128 bits of BLAKE3 over each row's JSON. ``TypeError`` for what JSON does not keep as it is."""
    def dicts(self, block: int) -> List[Dict[str, Any]]:
        """The rows of a block as new dicts."""
    def pick(self, positions: List[int]) -> Rows:
        """Only the rows of these positions, which must ascend."""
    def release(self, block: int) -> None:
        """Lets the rows of a block go."""

def capture(
    tables: List[Tuple[Dict[Any, Dict[str, Any]], Optional[str], Optional[Iterable[Any]]]],
) -> List[Rows]:
    """The rows of ``(records, primary key's field, wanted keys or None for all)`` of each table, all at the same moment."""

def import_classes() -> None:
    """Imports all that rows are read and packed with, before threads that do so are forked."""

def packed_digests(rows: Rows, block: int) -> List[bytes]:
    """128 bits of BLAKE3 over each row's MessagePack. ``TypeError`` for what cannot be kept."""

class PackedView:
    """Tables as the bytes of a backup, or of what changed."""

    def __new__(
        cls,
        is_full: bool,
        held: float,
        dropped: List[str],
        counts: Dict[str, int],
        metadata: Optional[Any] = None,
    ) -> PackedView: ...
    def table(
        self, name: str, created: bool, primary_key: Any, schema: Any, indexes: Any, next_key: Any
    ) -> None:
        """Adds a table; ``created`` if its rows are all that it has."""
    def rows(self, rows: Rows, block: int) -> None:
        """Adds the rows of a block. ``TypeError`` names the table, the key and the field that cannot be kept."""
    def deletes(self, keys: List[Any]) -> None:
        """Adds keys of rows that are gone; those of rows that were added are passed over."""

class LoadedTables:
    """Tables as they came out of a backup. ``ValueError``: they were not saved by this package."""

    @property
    def metadata(self) -> Any:
        """What was kept beside the tables."""
    def tables(self) -> List[Tuple[str, int, Any, Any, Any, Any]]:
        """All tables: name, count of rows, primary key, schema, indexes, next key."""
    def rows(self, table: str, first: int, count: int, target: Dict[Any, Any]) -> None:
        """Adds so many rows, from that number on, to a dict."""

class Store:
    """Tables of a program as a database that a session saves and restores."""

    def __new__(cls, session: Session, name: str) -> Store: ...
    @property
    def source(self) -> str:
        """Its name for use cases: ``memory:NAME``."""
    def offer(self, view: PackedView, since: Optional[str] = None) -> bool:
        """Offers a view to the next backup or, behind the state at ``since``, to the next segment. False, and not offered: the
        changes do not lead to as many rows as they say."""
    def withdraw(self, is_saved: bool) -> None:
        """Forgets what was offered; if it was saved, the next changes follow it."""
    def take_loaded(self) -> Optional[LoadedTables]:
        """Takes what was restored last."""
