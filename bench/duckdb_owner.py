#!/usr/bin/env python3
"""A program that owns a DuckDB database, for bench/run_duckdb.py: makes it, writes to it, copies it from inside.

Usage: duckdb_owner.py DATABASE. Reads one command a line, answers each with one line of JSON:
    make MEGABYTES     orders with a primary key and an index, and events without, until the file has so many megabytes
    load RATE          from now on so many transactions a second (0: as many as there can be), answered at once
    rest               no more transactions; answers with how many there were, and the slowest in milliseconds
    count              transactions so far, and seconds of time and of processor time
    change PERCENT     rewrites about so many percent of the blocks, then checkpoints
    copy PATH          COPY FROM DATABASE into a new database
    export FOLDER      EXPORT DATABASE as Parquet
    sums               what a restored copy must have, too
Ends when its input does.
"""

import json
import os
import sys
import threading
import time

import duckdb

ROWS = 1_000_000  # a batch while making


class Owner:
    def __init__(self, path):
        self.path = path
        self.connection = duckdb.connect(path)
        self.connection.execute("PRAGMA wal_autocheckpoint='1MB'")
        self.count, self.slowest, self.thread = 0, 0.0, None
        self.stop = threading.Event()

    def make(self, megabytes):
        run = self.connection.execute
        run("CREATE TABLE orders (id INTEGER PRIMARY KEY, amount DECIMAL(12,2), changed BIGINT, customer INTEGER)")
        run("INSERT INTO orders SELECT range, (hash(range) % 1000000) / 100, 0, hash(range + 5) % 500000 FROM range(4000000)")
        run("CREATE INDEX orders_by_customer ON orders (customer)")
        run("CREATE TABLE events (id BIGINT, moment TIMESTAMP, user_id INTEGER, kind VARCHAR, amount DOUBLE, note VARCHAR)")
        first = 0
        while os.path.getsize(self.path) < int(megabytes) * 1_000_000:
            run(f"""INSERT INTO events SELECT range, TIMESTAMP '2020-01-01' + to_seconds((range * 7 + hash(range) % 7)::BIGINT),
                    hash(range) % 200000, ['view', 'click', 'order', 'return'][(1 + hash(range + 1) % 4)::INTEGER],
                    (hash(range + 2) % 10000000) / 100, 'session ' || md5((range // 3)::VARCHAR) || ' from ' ||
                    (hash(range + 3) % 5000) FROM range({first}, {first + ROWS})""")
            run("CHECKPOINT")
            first += ROWS
        return {"rows": first, "bytes": os.path.getsize(self.path)}

    def transact(self, rate):
        connection = self.connection.cursor()
        due = time.monotonic()
        while not self.stop.is_set():
            if rate:
                due = max(due + 1 / rate, time.monotonic() - 0.1)
                time.sleep(max(0.0, due - time.monotonic()))
            began = time.monotonic()
            connection.execute("BEGIN")
            connection.execute("UPDATE orders SET amount = amount + 1, changed = ? WHERE id = ?",
                               [self.count, self.count * 7919 % 100000])
            connection.execute("INSERT INTO events SELECT -?, now()::TIMESTAMP, range, 'load', 1.5, 'n ' || range FROM range(20)",
                               [self.count])
            connection.execute("COMMIT")
            self.slowest = max(self.slowest, time.monotonic() - began)
            self.count += 1

    def load(self, rate):
        self.count, self.slowest = 0, 0.0
        self.stop.clear()
        self.thread = threading.Thread(target=self.transact, args=(int(rate),), daemon=True)
        self.thread.start()
        return {}

    def rest(self):
        self.stop.set()
        if self.thread:
            self.thread.join()
        self.thread = None
        return {"count": self.count, "slowest_ms": self.slowest * 1000}

    def change(self, percent):
        groups = self.connection.execute("SELECT max(id) // 122880 FROM events").fetchone()[0]
        # One column of a row group lies in four blocks; a row group has some thirty.
        blocks = os.path.getsize(self.path) // 262144
        wanted = max(1, round(blocks * float(percent) / 100 / 4))
        step = max(1, groups // wanted)
        for group in list(range(0, groups, step))[:wanted]:
            self.connection.execute(f"UPDATE events SET amount = amount + 0.01 WHERE id BETWEEN {group * 122880} "
                                    f"AND {group * 122880 + 122879}")
        self.connection.execute("CHECKPOINT")
        return {"row_groups": wanted}

    def copy(self, path):
        self.connection.execute(f"ATTACH '{path}' AS target")
        name = self.connection.execute("SELECT current_database()").fetchone()[0]
        began = time.monotonic()
        self.connection.execute(f'COPY FROM DATABASE "{name}" TO target')
        self.connection.execute("DETACH target")
        return {"seconds": time.monotonic() - began}

    def export(self, folder):
        began = time.monotonic()
        self.connection.execute(f"EXPORT DATABASE '{folder}' (FORMAT parquet, COMPRESSION zstd)")
        return {"seconds": time.monotonic() - began}

    def sums(self):
        row = self.connection.execute(
            "SELECT (SELECT count(*) FROM events), (SELECT sum(amount)::DECIMAL(20,2) FROM orders), "
            "(SELECT bit_xor(hash(id, moment, user_id, kind, amount, note)) FROM events)").fetchone()
        return {"sums": [str(value) for value in row]}


def main():
    owner = Owner(sys.argv[1])
    print(json.dumps({"duckdb": duckdb.__version__}), flush=True)
    for line in sys.stdin:
        command, *arguments = line.split()
        if command == "count":
            answer = {"count": owner.count, "clock": time.monotonic(), "cpu": time.process_time()}
        else:
            answer = getattr(owner, command)(*arguments)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
