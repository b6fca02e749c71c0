#!/usr/bin/env python3
"""BackupManager beside DictDB's own: full backups, deltas, and how long an insert in another thread is held up.

Usage: run_dictdb.py [--rows N]... [--runs N] [--folder FOLDER]

Needs a Python with `copal` (a release build) and `dctdb` 1.11. Both managers save the same database, in turn, into the same kind of
folder. DictDB's manager does not wait for the disk, so Copal is measured both ways: `copal` waits until the disk has each backup,
`copal, not durable` does not. `copal, repository` saves to an encrypted repository, and waits for the disk, too. Times are minimum and
median.
"""

import argparse
import gc
import logging
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time

import copal
import dictdb

CHANGED = 1000
MAKERS = {
    "dctdb": lambda db, folder, **more: dictdb.BackupManager(db, folder, **more),
    "copal": lambda db, folder, **more: copal.BackupManager(db, folder, **more),
    "copal, not durable": lambda db, folder, **more: copal.BackupManager(db, folder, durable=False, **more),
    "copal, repository": lambda db, folder, **more: in_repository(db, folder, **more),
}


def in_repository(db, folder, **more):
    """A manager with a new encrypted repository, opened already: that takes as long as a passphrase is meant to."""
    repository = copal.Copal(os.path.join(folder, "repository"), passphrase="measured")
    repository.init()
    manager = copal.BackupManager(db, repository=repository, **more)
    manager.list()
    return manager


def database(rows):
    """A table of five fields a row, filled past DictDB's slow insert."""
    db = dictdb.DictDB()
    db.create_table("customers")
    table = db.get_table("customers")
    for number in range(1, rows + 1):
        table.records[number] = {
            "id": number,
            "name": f"customer {number}",
            "email": f"c{number}@example.org",
            "balance": number * 1.37,
            "active": number % 3 == 0,
        }
    table._next_pk = rows + 1
    return db


def failed(error, _count):
    sys.exit(f"a backup failed: {error!r}")


def full(make, db, folder):
    """Seconds of a full."""
    manager = make(db, folder, on_backup_failure=failed)
    began = time.perf_counter()
    manager.backup_full()
    return time.perf_counter() - began


def delta(make, db, folder, rows, runs):
    """Seconds of deltas of rows changed by their keys, all over the table."""
    table = db.get_table("customers")
    manager = make(db, folder, on_backup_failure=failed, incremental=True, max_deltas_before_full=runs + 1)
    manager.backup_full()
    table.clear_dirty_tracking()
    seconds = []
    for run in range(runs):
        for number in range(CHANGED):
            table.upsert({"id": 1 + number * (rows // CHANGED), "balance": run + number / 7})
        began = time.perf_counter()
        manager.backup_delta()
        seconds.append(time.perf_counter() - began)
    return seconds


def held_up(make, db, folder):
    """The longest time from one insert in another thread to its next, half a millisecond apart, during a full."""
    table = db.get_table("customers")
    manager = make(db, folder, on_backup_failure=failed)
    longest, done, begun = [0.0], threading.Event(), threading.Event()
    added = []

    def insert():
        before = time.perf_counter()
        while not done.is_set():
            added.append(table.insert({"name": "new", "email": "", "balance": 0.5, "active": True}))
            # From one insert to the next: a thread is held up by the interpreter's lock, too.
            now = time.perf_counter()
            longest[0], before = max(longest[0], now - before), now
            begun.set()
            time.sleep(0.0005)

    thread = threading.Thread(target=insert)
    thread.start()
    begun.wait()
    manager.backup_full()
    done.set()
    thread.join()
    for key in added:
        del table.records[key]
    table.clear_dirty_tracking()
    return longest[0]


def measure(what, runs, folder, once):
    """A line of the table: every maker in turn, run by run, so that a busy moment hits all."""
    seconds = {name: [] for name in MAKERS}
    for _ in range(runs):
        for name, make in MAKERS.items():
            target = tempfile.mkdtemp(dir=folder)
            gc.collect()
            answer = once(make, target)
            seconds[name] += answer if isinstance(answer, list) else [answer]
            shutil.rmtree(target)
            os.sync()
    base = statistics.median(seconds["dctdb"])
    for name, values in seconds.items():
        middle = statistics.median(values)
        print(f"{what:38}  {name:20} {min(values) * 1e3:10.1f} {middle * 1e3:10.1f} {base / middle:8.1f} x", flush=True)


def compare(db, rows, runs, folder):
    """Everything that is measured, on one database."""
    measure(f"full JSON, {rows:,} rows", runs, folder, lambda make, to: full(make, db, to))
    changes = max(runs, 5)
    measure(f"delta, {CHANGED:,} of {rows:,} rows", 1, folder, lambda make, to: delta(make, db, to, rows, changes))
    measure(f"an insert held up, {rows:,} rows", runs, folder, lambda make, to: held_up(make, db, to))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, action="append")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--folder", help="where the backups are written; a temporary folder without it")
    options = parser.parse_args()
    dictdb.logger.remove()
    logging.getLogger("dictdb").disabled = True
    folder = tempfile.mkdtemp(dir=options.folder)
    try:
        print(f"Python {sys.version.split()[0]}, {os.cpu_count()} processors, {options.runs} runs, {folder}")
        print(f"{'':60} {'min ms':>10} {'median ms':>10}   faster")
        for rows in options.rows or [100_000, 1_000_000]:
            compare(database(rows), rows, options.runs, folder)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
