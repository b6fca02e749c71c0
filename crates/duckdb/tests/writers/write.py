"""Owns a DuckDB database and writes to it after a pattern until it is stopped.

Usage: write.py DATABASE PATTERN ACKS SEED SECONDS

After each commit the transaction's number is stored in ACKS, eight bytes for each stream. Prints `ready` when every stream
has committed. Takes lines: `hold` (no transactions; prints `held` when all streams rest), `go`, `checkpoint` (prints
`done`). Ends when its input ends, or after SECONDS.
"""

import mmap
import os
import random
import sys
import threading
import time

import duckdb

from patterns import PATTERNS, works_of

# What DuckDB throws when transactions meet; they are done again.
MEETINGS = ("conflict", "write-write", "duplicate key", "cannot checkpoint", "cannot delete", "cannot update",
            "another transaction", "current transaction is aborted", "has been altered", "has been dropped",
            "was altered", "outdated", "pending query", "not the most recent", "invalidated due to")
STREAMS = 8


class Writer:
    """A database and those who write to it."""

    def __init__(self, path, name, acks, seed):
        self.path, self.pattern, self.works, self.seed = path, PATTERNS[name], works_of(name), seed
        with open(acks, "wb") as file:
            file.write(bytes(8 * STREAMS))
        with open(acks, "r+b") as file:
            self.acks = memoryview(mmap.mmap(file.fileno(), 8 * STREAMS)).cast("q")
        self.gate = threading.Condition()
        self.is_held, self.resting, self.lock = False, set(), threading.Lock()
        self.root = self.connect()

    def connect(self):
        if self.pattern.block_size and not os.path.exists(self.path):
            maker = duckdb.connect()
            maker.execute(f"ATTACH '{self.path}' AS made (BLOCK_SIZE {self.pattern.block_size})")
            maker.execute("CREATE TABLE made.made (i BIGINT)")
            maker.execute("DETACH made")
            maker.close()
        con = duckdb.connect(self.path, config={"threads": "2"})
        con.execute(f"PRAGMA wal_autocheckpoint='{self.pattern.autocheckpoint}'")
        if self.pattern.uncompressed:
            con.execute("PRAGMA force_compression='uncompressed'")
        return con

    def setup(self):
        con = self.root
        con.execute("CREATE TABLE ledger (s INT, n BIGINT, seen BIGINT, c0 VARCHAR, c1 VARCHAR)")
        con.execute(f"CREATE TABLE ballast AS SELECT range AS id, hash(range) AS h FROM range({self.pattern.ballast})")
        for work in self.works:
            work.setup(con)
        con.execute("CHECKPOINT")

    def rest(self, s):
        """Waits while the writer is told to hold."""
        with self.gate:
            while self.is_held:
                self.resting.add(s)
                self.gate.notify_all()
                self.gate.wait()
            self.resting.discard(s)

    def hold(self):
        with self.gate:
            self.is_held = True
            while len(self.resting) < len(self.works) + len(self.pattern.beside):
                self.gate.wait()

    def go(self):
        with self.gate:
            self.is_held = False
            self.resting.clear()
            self.gate.notify_all()

    def stream(self, work):
        """Commits transaction after transaction."""
        s, rng, con = work.s, random.Random(self.seed * 100 + work.s), self.root.cursor()
        n = 1
        while True:
            self.rest(s)
            if self.pattern.idle_after and n > self.pattern.idle_after:
                time.sleep(0.01)
                continue
            seen = self.acks[(s + 1) % len(self.works)]
            try:
                con.begin()
                work.step(con, n, rng)
                if rng.random() < self.pattern.rollback:
                    con.rollback()
                    continue
                c0, c1 = work.sums(con)
                con.execute("INSERT INTO ledger VALUES (?, ?, ?, ?, ?)", [s, n, seen, str(c0), str(c1)])
                con.commit()
            except duckdb.Error as error:
                con = self.met(con, error)
                continue
            self.acks[s] = n
            try:
                if self.pattern.checkpoint_every and n % self.pattern.checkpoint_every == 0:
                    con.execute("CHECKPOINT")
            except duckdb.Error as error:
                con = self.met(con, error)
            if self.pattern.reopen_every and n % self.pattern.reopen_every == 0:
                con.close()
                self.root.close()
                self.root = self.connect()
                con = self.root.cursor()
            n += 1
            if self.pattern.pause:
                time.sleep(self.pattern.pause * rng.random())

    def beside(self, work, number):
        """Something again and again, in a connection of its own."""
        rng, con = random.Random(self.seed * 100 + 50 + number), self.root.cursor()
        while True:
            self.rest(f"beside {number}")
            try:
                work(con, rng)
            except duckdb.Error as error:
                con = self.met(con, error)
                time.sleep(0.005)

    def met(self, con, error):
        """Goes on after an error that is no surprise."""
        if not any(meeting in str(error).lower() for meeting in MEETINGS):
            raise error
        try:
            con.rollback()
            return con
        except duckdb.Error:
            # Nothing to roll back.
            return con


def guarded(function, *arguments):
    """A thread whose death is the process's."""
    def run():
        try:
            function(*arguments)
        except BaseException as error:  # Whatever it is: the harness is to see it.
            print(f"the writer fails: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(3)
    thread = threading.Thread(target=run, daemon=True)
    thread.start()


def main(path, name, acks, seed, seconds):
    limit = threading.Timer(float(seconds), os._exit, [4])
    limit.daemon = True
    limit.start()
    writer = Writer(path, name, acks, int(seed))
    writer.setup()
    for work in writer.works:
        guarded(writer.stream, work)
    for number, work in enumerate(writer.pattern.beside):
        guarded(writer.beside, work, number)
    while min(writer.acks[: len(writer.works)]) < 2:
        time.sleep(0.002)
    print("ready", flush=True)
    for line in sys.stdin:
        command = line.strip()
        if command == "hold":
            writer.hold()
            print("held", flush=True)
        elif command == "go":
            writer.go()
        elif command == "checkpoint":
            for _ in range(1000):
                try:
                    writer.root.cursor().execute("CHECKPOINT")
                    break
                except duckdb.Error as error:
                    writer.met(writer.root.cursor(), error)
            print("done", flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
