#!/usr/bin/env python3
"""Measures the page of `copal serve` with 2,000 configured databases and 200,000 recorded backups: how soon the overview is painted,
what it transfers, how long every request takes that the page makes, and what the daemon needs for it.

Every database is a small SQLite file with one backup, one of them with 200; the recorded backups are written into the daemon's history,
which has made its tables itself. Chromium opens the overview eleven times without a cache, and the first time does not count. Rows are
painted two frames after 50 of them are there. Requests go one after the other over one connection, as the page makes them, and each
asks for another database.
"""

import argparse
import datetime
import gzip
import http.client
import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import time
import urllib.parse

from run import Bench, Table, conclude, note, version
from run_daemon import DATABASES, Daemon, make, name_of, settle, write_configuration

HERE = os.path.dirname(os.path.abspath(__file__))
RECORDED, DAYS, FAILED_OF = 200_000, 85, 53
DEEP, DEEP_BACKUPS = name_of(0), 200
ROWS, TIMES, REQUESTS = 50, 10, 300


def record(bench):
    """Writes what 85 days of a daemon would have left in the history; some failed."""
    now = int(time.time() * 1000)
    step = DAYS * 86_400_000 // RECORDED
    rows, newest, success = [], {}, {}
    for number in range(RECORDED):
        name, started = name_of(number % DATABASES), now - (RECORDED - number) * step
        failed = number % FAILED_OF == 0
        size = 8192 + number % 977 * 512
        rows.append((started, name, "backup", "scheduled", 1, started, started, started + 900,
                     "transient-failure" if failed else "success", "unavailable" if failed else None,
                     "the database is away" if failed else None, 300 + number % 700, int(failed), None if failed else backup_id(started, number),
                     *((None,) * 3 if failed else (size, size // 3, size // 2)), 0, "[]", None))
        newest[name] = started
        if not failed:
            success[name] = started
    database = sqlite3.connect(bench.path("state", "copal", "history.sqlite"))
    with database:
        database.executemany("INSERT OR REPLACE INTO runs (id, database, kind, reason, attempt, due, started, ended, ending, error_kind, error,"
                             " duration_ms, consecutive_failures, backup, logical_bytes, added_bytes, stored_bytes, damaged, warnings, target)"
                             f" VALUES ({','.join('?' * 20)})", rows)
        database.executemany("INSERT OR REPLACE INTO lanes (database, kind, newest, newest_success) VALUES (?, 'backup', ?, ?)",
                             [(name, newest[name], success[name]) for name in newest])
    database.close()


def backup_id(milliseconds, number):
    when = datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.timezone.utc)
    return f"{when:%Y%m%d-%H%M%SZ}-{number % 65536:04x}"


def deepen(bench):
    """One database gets many backups, each of something new, and keeps them."""
    write_configuration(bench, keep={DEEP: DEEP_BACKUPS})
    for number in range(DEEP_BACKUPS - 1):
        database = sqlite3.connect(bench.path("data", f"{DEEP}.db"))
        with database:
            database.executemany("INSERT INTO t (body) VALUES (?)", [(f"{number} {row}",) for row in range(20)])
        database.close()
        bench.run([bench.binary, "--config", bench.path("copal.toml"), "backup", DEEP, "--quiet"])


def paint(daemon):
    """What Chromium measures, once for each time."""
    tests = os.path.join(HERE, "..", "web", "tests")
    found = subprocess.run(["node", os.path.join(tests, "paint.mjs"), daemon.url, str(ROWS), str(TIMES)], capture_output=True, text=True)
    if found.returncode:
        sys.exit(f"Chromium did not paint the page:\n{found.stderr[-3000:]}")
    return json.loads(found.stdout)


def requests_of_the_page(ids):
    """What the page asks for, each with the paths that it takes in turn."""
    names = [name_of(number * 7 % DATABASES) for number in range(REQUESTS)]
    kinds = {}
    for sort in ("state", "name", "age", "size", "next", "drill"):
        for order in ("asc", "desc"):
            offsets = [number * ROWS % DATABASES for number in range(REQUESTS)]
            kinds[f"overview by {sort}, {order}"] = [f"/api/overview?sort={sort}&order={order}&limit={ROWS}&offset={offset}" for offset in offsets]
    kinds["overview, searched and filtered"] = [f"/api/overview?search={name[:4]}&state=protected" for name in names]
    for what in ("", "/series", "/backups?limit=50", "/snapshots", "/prune"):
        kinds[f"a database{what}"] = [f"/api/databases/{name}{what}" for name in names]
        kinds[f"the one with {DEEP_BACKUPS} backups{what}"] = [f"/api/databases/{DEEP}{what}"] * REQUESTS
    kinds["its runs"] = [f"/api/runs?database={name}&limit=20" for name in names]
    kinds["runs"] = [f"/api/runs?limit=50&before={ids[number * 7 % len(ids)]}" for number in range(REQUESTS)]
    kinds["runs that failed"] = [f"/api/runs?failed=true&limit=50&before={ids[number * 7 % len(ids)]}" for number in range(REQUESTS)]
    kinds["failed drills, of which there are none"] = ["/api/runs?failed=true&kind=drill&limit=50"] * REQUESTS
    kinds["a run"] = [f"/api/runs/{ids[number % len(ids)]}" for number in range(REQUESTS)]
    kinds["a run's log"] = [f"/api/runs/{ids[number % len(ids)]}/log" for number in range(REQUESTS)]
    for sort in ("size", "name", "verified"):
        kinds[f"repository by {sort}"] = [f"/api/repository?sort={sort}&limit=50&offset={number * 50 % DATABASES}" for number in range(REQUESTS)]
    kinds["notifiers"] = ["/api/notifiers"] * REQUESTS
    kinds["session"] = ["/api/session"] * REQUESTS
    kinds["the page itself"] = ["/"] * REQUESTS
    return kinds


def measure(connection, paths):
    """Milliseconds of each request in order, and the bytes of the largest answer, packed and not."""
    took, largest = [], (0, 0)
    for path in paths:
        began = time.perf_counter()
        connection.request("GET", path, headers={"Accept-Encoding": "gzip"})
        answer = connection.getresponse()
        body = answer.read()
        took.append((time.perf_counter() - began) * 1000)
        if answer.status != 200:
            sys.exit(f"{path}: {answer.status} {body[:500]}")
        plain = gzip.decompress(body) if answer.headers.get("Content-Encoding") == "gzip" else body
        largest = max(largest, (len(body), len(plain)))
    return sorted(took), largest


def percentile(took, share):
    return took[min(len(took) - 1, int(len(took) * share / 100))]


def ids_of_runs(bench):
    database = sqlite3.connect(bench.path("state", "copal", "history.sqlite"))
    ids = [row[0] for row in database.execute("SELECT id FROM runs WHERE id % 97 = 0 ORDER BY id DESC LIMIT 1500")]
    database.close()
    return ids


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default="target/release", help="folder of the copal to measure")
    parser.add_argument("--work", default="bench/work-page", help="folder for everything, removed afterwards")
    parser.add_argument("--output", help="file for the results as Markdown")
    parser.add_argument("--timeout", type=int, default=900, help="seconds that one command may take")
    options = parser.parse_args()
    options.base = None
    if not shutil.which("node"):
        sys.exit("missing: node; tools/prepare.sh installs it")
    bench = Bench(options)
    os.makedirs(bench.work)
    table = Table()
    try:
        note(f"making {DATABASES} databases and their first backups")
        make(bench)
        note(f"{DEEP_BACKUPS} backups of one of them, and {RECORDED} in the history")
        deepen(bench)
        # The daemon makes the tables of the history; what is written into them is what it would have written.
        Daemon(bench).stop()
        record(bench)
        daemon = Daemon(bench)
        try:
            settle(daemon)
            resting = daemon.memory("VmRSS")
            note("the page in Chromium")
            painted = paint(daemon)
            note("requests")
            address = urllib.parse.urlsplit(daemon.url)
            connection = http.client.HTTPConnection(address.hostname, address.port, timeout=60)
            kinds = {what: measure(connection, paths) for what, paths in requests_of_the_page(ids_of_runs(bench)).items()}
            connection.close()
            loaded, peak = daemon.memory("VmRSS"), daemon.memory("VmHWM")
        finally:
            daemon.stop()
    finally:
        shutil.rmtree(bench.work, ignore_errors=True)
    rows = statistics.median(one["rows"] for one in painted)
    firsts = [one["first"] or one["rows"] for one in painted]
    first = statistics.median(firsts)
    files, whole = (max(one[what] for one in painted) / 1000 for what in ("files", "all"))
    table.add(f"first paint of the overview, median of {TIMES}", "<= 300 ms", first, 300, f"{first:.0f} ms",
              f"the slowest {max(firsts):.0f} ms")
    table.add(f"its first {ROWS} rows are painted, median of {TIMES}", "<= 300 ms", rows, 300, f"{rows:.0f} ms",
              f"the slowest {max(one['rows'] for one in painted):.0f} ms")
    table.add("the page's files over the wire", "<= 150 kB", files, 150, f"{files:.0f} kB", f"{whole:.0f} kB with the first answers")
    for what, (took, (packed, plain)) in kinds.items():
        table.add(f"{what}: p99", "<= 100 ms", percentile(took, 99), 100, f"{percentile(took, 99):.1f} ms",
                  f"p50 {percentile(took, 50):.1f} ms; {packed / 1000:.1f} kB, unpacked {plain / 1000:.1f} kB")
    table.add("memory of copal serve, at rest", "<= 60 MB", resting, 60, f"{resting:.0f} MB")
    table.add("the same after the page and all requests", "<= 60 MB", loaded, 60, f"{loaded:.0f} MB",
              f"peak {peak:.0f} MB (opening an encrypted repository takes 80 MiB for a moment)")
    table.add("start until the API answers", "< 1 s", daemon.started, 1.0, f"{daemon.started:.2f} s")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    text = (f"{datetime.date.today().isoformat()}, {len(os.sched_getaffinity(0))} cores, {memory:.0f} GiB of memory; "
            f"copal {version([bench.binary, '--version'])}\n\n"
            f"{table.text(('what', 'goal', 'measured', 'reached', 'beside it'))}\n")
    return conclude(table, text, options.output)


if __name__ == "__main__":
    sys.exit(main())
