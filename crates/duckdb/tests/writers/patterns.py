"""The patterns after which a writer works: which streams, which settings, how checkpoints come about."""

import time
from dataclasses import dataclass, field

from works import Bank, Bulk, Ddl, Documents, Permute, Small, Update


@dataclass
class Pattern:
    """How a writer uses a database."""

    # Makes the works, one for each connection that writes.
    works: callable
    # When a commit makes a checkpoint by itself.
    autocheckpoint: str = "16MB"
    # Each stream makes a checkpoint after so many commits of its own; 0 for never.
    checkpoint_every: int = 0
    # Stores columns as they are.
    uncompressed: bool = False
    # Part of the transactions that are rolled back first.
    rollback: float = 0.05
    # Bytes in a block; 0 for what DuckDB takes.
    block_size: int = 0
    # Rows of a table that never changes.
    ballast: int = 400_000
    # Closes and opens the database after so many commits.
    reopen_every: int = 0
    # Stops writing after so many commits, and goes on holding the file.
    idle_after: int = 0
    # What threads beside the streams do, each with a connection of its own.
    beside: list = field(default_factory=list)
    # Seconds between commits.
    pause: float = 0.0


def checkpoints(con, rng):
    """Checkpoints one after the other."""
    con.execute("CHECKPOINT")
    time.sleep(rng.random() * 0.02)


def forced_checkpoints(con, rng):
    """Checkpoints of an empty log, several in a row."""
    for _ in range(rng.randrange(1, 5)):
        con.execute("FORCE CHECKPOINT")
    time.sleep(rng.random() * 0.03)


def held_selects(con, rng):
    """A query whose rows are not fetched, and the blocks that it pins, across checkpoints."""
    sql = "SELECT table_name FROM duckdb_tables() WHERE table_name NOT IN ('ledger', 'ballast')"
    con.execute(f"SELECT * FROM {rng.choice(con.execute(sql).fetchall())[0]}")
    con.fetchmany(5)
    time.sleep(0.02 + rng.random() * 0.4)
    con.fetchall()


PATTERNS = {
    "bank": Pattern(lambda: [Bank()], autocheckpoint="1MB"),
    "update": Pattern(lambda: [Update()], autocheckpoint="4MB"),
    "bulk_wal": Pattern(lambda: [Bulk()], autocheckpoint="1GB", checkpoint_every=6, rollback=0.2),
    "bulk_skip": Pattern(lambda: [Bulk()], autocheckpoint="1MB", rollback=0.2),
    "ddl": Pattern(lambda: [Ddl()], autocheckpoint="1MB", rollback=0.2),
    "rollbacks": Pattern(lambda: [Bulk(), Update()], autocheckpoint="8MB", rollback=0.6),
    "threads": Pattern(lambda: [Bank() for _ in range(4)], autocheckpoint="1MB"),
    "checkpoint_each": Pattern(lambda: [Bank()], checkpoint_every=1, ballast=50_000),
    "auto_1mb": Pattern(lambda: [Update(touched=3000)], autocheckpoint="1MB"),
    "permute": Pattern(lambda: [Permute()], autocheckpoint="1GB", checkpoint_every=3, uncompressed=True),
    "held": Pattern(
        lambda: [Permute(rows=130_000), Bulk(rows=130_000), Small()],
        autocheckpoint="1GB",
        checkpoint_every=4,
        pause=0.1,
        uncompressed=True,
        beside=[held_selects, held_selects],
    ),
    "concurrent": Pattern(
        lambda: [Update(rows=250_000, touched=9000), Small()],
        autocheckpoint="2MB",
        uncompressed=True,
        beside=[checkpoints],
    ),
    "empty_log": Pattern(lambda: [Bulk(rows=130_000)], autocheckpoint="1KB", beside=[forced_checkpoints], pause=0.03),
    "small_blocks": Pattern(
        lambda: [Update(rows=20_000), Bulk(rows=130_000, kept=2)],
        autocheckpoint="2MB",
        block_size=16384,
        ballast=100_000,
    ),
    "documents": Pattern(lambda: [Documents()], autocheckpoint="4MB", uncompressed=True, pause=0.03),
    "documents_packed": Pattern(lambda: [Documents()], autocheckpoint="4MB", checkpoint_every=20, pause=0.03),
    "idle": Pattern(lambda: [Update()], idle_after=5),
    "reopen": Pattern(lambda: [Update()], reopen_every=5),
    "mixed": Pattern(
        lambda: [Update(), Bulk(), Ddl(), Small()],
        autocheckpoint="4MB",
        rollback=0.2,
        beside=[checkpoints, held_selects],
    ),
    # Not for captures of a running writer: what is left of these when they are killed is.
    "killed": Pattern(
        lambda: [Update(rows=400_000, touched=20_000), Small(), Small()],
        autocheckpoint="1GB",
        uncompressed=True,
        ballast=800_000,
        beside=[checkpoints],
    ),
}


def works_of(name):
    """The pattern's works, numbered."""
    works = PATTERNS[name].works()
    for s, work in enumerate(works):
        work.s = s
    return works
