#!/usr/bin/env python3
"""Changes a share of a SQLite file's pages, chosen at random, by 60 random bytes each, through real UPDATEs.

Rows are picked at random over all tables with a long text; 60 bytes of it are replaced, so no row moves and every
update changes one page. Prints how many pages differ, comparing the file page by page before and after.

    mutate.py --share 0.01 base.db
"""

import argparse
import hashlib
import random
import sqlite3

COLUMNS = {"customers": "profile", "orders": "details", "order_lines": "remark", "log": "message"}
REPLACED = 60


def page_digests(path, size):
    digests = []
    with open(path, "rb") as file:
        while page := file.read(size):
            digests.append(hashlib.blake2b(page, digest_size=12).digest())
    return digests


def mutate(path, share, seed):
    """(changed pages, all pages)."""
    rng = random.Random(seed)
    connection = sqlite3.connect(path, isolation_level=None)
    run = connection.execute
    run("PRAGMA wal_checkpoint(TRUNCATE)")
    size = run("PRAGMA page_size").fetchone()[0]
    before = page_digests(path, size)
    wanted = round(len(before) * share)
    lasts = {table: run(f"SELECT max(id) FROM {table}").fetchone()[0] or 0 for table in COLUMNS}
    # A row's chance is the share of a page that it fills, so that all pages of a table are equally likely.
    widths = {}
    for table, column in COLUMNS.items():
        sample = f"SELECT {column} AS value FROM {table} LIMIT 5000"
        widths[table] = run(f"SELECT avg(length(value) + 40) FROM ({sample})").fetchone()[0] or 0
    tables = [table for table in COLUMNS if lasts[table]]
    weights = [lasts[table] * widths[table] for table in tables]
    run("BEGIN")
    done = 0
    while done < wanted:
        table = rng.choices(tables, weights)[0]
        column, row = COLUMNS[table], 1 + int(rng.random() * lasts[table])
        found = run(f"SELECT CAST({column} AS BLOB) FROM {table} WHERE id = ?", (row,)).fetchone()
        if found is None or len(found[0]) < REPLACED:
            continue
        start = rng.randrange(len(found[0]) - REPLACED + 1)
        value = found[0][:start] + rng.randbytes(REPLACED) + found[0][start + REPLACED:]
        run(f"UPDATE {table} SET {column} = ? WHERE id = ?", (value, row))
        done += 1
    run("COMMIT")
    run("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    after = page_digests(path, size)
    changed = sum(a != b for a, b in zip(before, after)) + abs(len(after) - len(before))
    return changed, len(after)


def main():
    parser = argparse.ArgumentParser(description="Changes a share of a SQLite file's pages.")
    parser.add_argument("--share", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("path")
    options = parser.parse_args()
    changed, pages = mutate(options.path, options.share, options.seed)
    print(f"{changed} of {pages} pages changed ({100 * changed / pages:.2f} %)")


if __name__ == "__main__":
    main()
