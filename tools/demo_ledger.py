"""The database of tools/demo.sh: accounts, transfers among them, a gapless log, and documents that are only there.

Every transfer changes two accounts and adds one line to the log, in one transaction. So a copy is consistent exactly if
its log has no gap and replaying the log over the first balances gives the accounts. Standard library only.
"""

import hashlib
import random
import signal
import sqlite3
import sys
import time

ACCOUNTS = 1000
FIRST_BALANCE = 1000
DOCUMENTS = 104_000
WORDS = "amber resin pine tree forest insect wing million years light gold sea baltic drop bark stone".split()


def connect(path: str) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=30, isolation_level=None)


def make(path: str) -> None:
    """Creates the database."""
    random.seed(7)
    db = connect(path)
    db.execute("PRAGMA journal_mode = WAL")
    db.executescript(
        """
        CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL);
        CREATE TABLE log (n INTEGER PRIMARY KEY, source INTEGER, target INTEGER, amount INTEGER);
        CREATE TABLE document (id INTEGER PRIMARY KEY, body TEXT);
        """
    )
    db.execute("BEGIN")
    db.executemany("INSERT INTO account VALUES (?, ?)", ((i, FIRST_BALANCE) for i in range(ACCOUNTS)))
    body = lambda i: f"{i} {random.getrandbits(8000):x} " + " ".join(random.choices(WORDS, k=300))  # noqa: E731
    db.executemany("INSERT INTO document VALUES (?, ?)", ((i, body(i)) for i in range(DOCUMENTS)))
    db.execute("COMMIT")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    pages, size = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
    print(f"{path}: {pages * size / 2**20:.0f} MiB, {ACCOUNTS} accounts, {DOCUMENTS} documents")


def write(path: str) -> None:
    """Transfers until it is told to stop."""
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
    db = connect(path)
    while not stop:
        db.execute("BEGIN IMMEDIATE")
        for _ in range(5):
            source, target = random.sample(range(ACCOUNTS), 2)
            amount = random.randint(1, 50)
            db.execute("UPDATE account SET balance = balance - ? WHERE id = ?", (amount, source))
            db.execute("UPDATE account SET balance = balance + ? WHERE id = ?", (amount, target))
            db.execute(
                "INSERT INTO log SELECT coalesce(max(n), 0) + 1, ?, ?, ? FROM log", (source, target, amount)
            )
        db.execute("COMMIT")
        time.sleep(0.002)


def progress(path: str, note: str | None = None) -> None:
    """Tells how far the writer is, and notes it in a file."""
    count = connect(path).execute("SELECT max(n) FROM log").fetchone()[0]
    print(f"the log has {count} transfers now")
    if note:
        with open(note, "w", encoding="ascii") as out:
            out.write(str(count))


def transfers(path: str) -> list[tuple[int, int, int, int]]:
    return connect(path).execute("SELECT n, source, target, amount FROM log ORDER BY n").fetchall()


def digest(rows: list[tuple[int, ...]]) -> str:
    return hashlib.sha256("\n".join(map(repr, rows)).encode()).hexdigest()


def remember(path: str, reference: str) -> None:
    """Writes the log and the documents' digest to a plain file."""
    rows = transfers(path)
    documents = digest(connect(path).execute("SELECT * FROM document ORDER BY id").fetchall())
    with open(reference, "w", encoding="ascii") as out:
        out.write(documents + "\n")
        out.writelines(f"{n} {source} {target} {amount}\n" for n, source, target, amount in rows)
    print(f"{len(rows)} transfers remembered")


def damage(path: str) -> None:
    """Overwrites some pages in the middle, and the first leaf pages."""
    with open(path, "r+b") as file:
        size = file.seek(0, 2)
        for offset in [4096, 8192, 12288, *range(size // 2, size // 2 + 40 * 4096, 4096)]:
            file.seek(offset)
            file.write(random.randbytes(4096))
    print("43 pages overwritten")


def check(path: str) -> int:
    """SQLite's own check."""
    try:
        found = [row[0] for row in connect(path).execute("PRAGMA quick_check(3)")]
    except sqlite3.DatabaseError as error:
        found = [str(error)]
    for line in "\n".join(found).splitlines()[:3]:
        print(f"SQLite says: {line[:100]}")
    return 0 if found == ["ok"] else 1


def compare(path: str, reference: str, note: str) -> int:
    """Proves that the database is the one of the reference at some moment after the note was taken."""
    with open(note, encoding="ascii") as file:
        least = int(file.read())
    with open(reference, encoding="ascii") as file:
        documents, *lines = file.read().splitlines()
    known = [tuple(map(int, line.split())) for line in lines]
    rows = transfers(path)
    balances = [FIRST_BALANCE] * ACCOUNTS
    for _, source, target, amount in rows:
        balances[source] -= amount
        balances[target] += amount
    accounts = [row[0] for row in connect(path).execute("SELECT balance FROM account ORDER BY id")]
    found = digest(connect(path).execute("SELECT * FROM document ORDER BY id").fetchall())
    until = len(rows)
    results = [
        (f"the log runs from 1 to {until} without a gap", [row[0] for row in rows] == list(range(1, until + 1))),
        (f"it equals the first {until} of {len(known)} transfers that were committed", rows == known[:until]),
        (f"that is at least the {least} from before the backup began", until >= least),
        ("replaying it gives every account's balance", balances == accounts),
        (f"all documents are the same (SHA-256 {found[:16]}...)", found == documents),
    ]
    for what, is_so in results:
        print(f"{'yes' if is_so else 'NO '}  {what}")
    return 0 if rows and all(is_so for _, is_so in results) else 1


if __name__ == "__main__":
    commands = [make, write, progress, remember, damage, check, compare]
    command = {command.__name__: command for command in commands}[sys.argv[1]]
    sys.exit(command(*sys.argv[2:]))
