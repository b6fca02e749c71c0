"""Opens a copy of a writer's database and looks whether it is a state that the writer committed.

Usage: verify.py DATABASE PATTERN BEFORE AFTER [write]

BEFORE and AFTER are the acknowledged transactions of each stream, joined with commas, before the copy began and after it
ended (`-` if nobody knows). With `write` the copy is also written to, checkpointed and opened again. Prints what is wrong
line by line, and has exit code 1 if something is.
"""

import sys

import duckdb

from patterns import PATTERNS, works_of
from works import content


def problems(con, name, before, after):
    """What is wrong with the state."""
    works = works_of(name)
    ledger = {s: (0, None, None, 0, 0) for s in range(len(works))}
    sql = "SELECT s, count(*), min(n), max(n), count(DISTINCT n), max(seen) FROM ledger GROUP BY s"
    ledger.update({row[0]: row[1:] for row in con.execute(sql).fetchall()})
    for work in works:
        s = work.s
        count, first, last, distinct, seen = ledger[s]
        if (first, last, distinct) != ((1, count, count) if count else (None, None, 0)):
            yield f"ledger: stream {s} has {count} entries from {first} to {last}, {distinct} different ones"
        if count < before[s]:
            yield f"LOST: stream {s} ends at {count}, but {before[s]} was acknowledged before the copy began"
        if after is not None and count > after[s] + 1:
            yield f"ledger: stream {s} ends at {count}, but {after[s]} was acknowledged after the copy ended"
        other = ledger[(s + 1) % len(works)][0]
        if seen > other:
            yield f"LOST: stream {s} has seen transaction {seen} of the next stream, which ends at {other}"
        yield from work.check(con, count)
        if count:
            recorded = con.execute("SELECT c0, c1 FROM ledger WHERE s = ? AND n = ?", [s, count]).fetchone()
            sums = tuple(map(str, work.sums(con)))
            if sums != recorded:
                yield f"content: {type(work).__name__} {s} has {sums}, not {recorded}, after {count} transactions"
    if content(con, "ballast", "id, h") != ballast(con, PATTERNS[name].ballast):
        yield "content: the table that never changes has changed"


def ballast(con, rows):
    return con.execute(f"SELECT count(*), sum(hash(range, hash(range))::HUGEINT) FROM range({rows})").fetchone()


def read_all(con):
    """Reads every column of every table."""
    for (table,) in con.execute("SELECT table_name FROM duckdb_tables()").fetchall():
        columns = con.execute("SELECT column_name FROM duckdb_columns() WHERE table_name = ?", [table]).fetchall()
        sums = ", ".join(f'sum(hash("{column}")::HUGEINT)' for (column,) in columns)
        con.execute(f'SELECT {sums} FROM "{table}"').fetchall()


def use(path):
    """Writes to the copy and opens it again."""
    con = duckdb.connect(path)
    con.execute("CREATE TABLE used AS SELECT range AS i, hash(range) AS h FROM range(150000)")
    con.execute("INSERT INTO ledger SELECT 99, 1, 0, 0, 0")
    con.execute("CHECKPOINT")
    con.execute("DELETE FROM used WHERE i < 10")
    con.close()
    con = duckdb.connect(path)
    rows = con.execute("SELECT count(*), count(*) FILTER (h <> hash(i)) FROM used").fetchone()
    if rows != (149_990, 0):
        yield f"use: what was written to the copy reads {rows}"
    con.execute("DELETE FROM ledger WHERE s = 99")
    con.execute("DROP TABLE used")
    con.execute("CHECKPOINT")
    con.close()


def main(path, name, before, after, *options):
    before = [int(n) for n in before.split(",")]
    after = None if after == "-" else [int(n) for n in after.split(",")]
    found = []
    try:
        con = duckdb.connect(path, config={"threads": "2"})
        found += problems(con, name, before, after)
        read_all(con)
        con.close()
        if "write" in options and not found:
            found += use(path)
            con = duckdb.connect(path)
            found += [f"used: {problem}" for problem in problems(con, name, before, after)]
            con.close()
    except duckdb.Error as error:
        found.append(f"UNREADABLE: {type(error).__name__}: {error}")
    for problem in found:
        print(problem.replace("\n", " ")[:400])
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
