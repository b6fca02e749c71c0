#!/usr/bin/env python3
"""Measures `copal serve` with 2,000 configured databases: its start, what it costs while nothing is due, a burst of 200 runs
that are due at one moment, and 10,000 requests for all databases.

Every database is a small SQLite file with one backup, and the daemon has seen all of them before it is measured. A run is
late by the time from when it was due, or from when a place became free if that was later, to its start. `ab` asks for the
list with 16 connections that stay open.
"""

import argparse
import datetime
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request

from run import Bench, Table, conclude, note, version

DATABASES, DUE, LIMIT = 2000, 200, 4
REQUESTS, CONNECTIONS = 10_000, 16
IDLE = 60  # seconds


class Daemon:
    """A daemon of its own on a free port; stops when it is closed."""

    def __init__(self, bench):
        self.log = bench.path("serve.log")
        began = time.monotonic()
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen([bench.binary, "serve", "--config", bench.path("copal.toml")], stdout=log,
                                            stderr=log, cwd=bench.work, env=bench.environment)
        self.url = self.wait_for(r"listening on (http://\S+)", began)
        self.status = self.ask("/api/runs")
        self.started = time.monotonic() - began

    def wait_for(self, pattern, began):
        while time.monotonic() - began < 60:
            with open(self.log, encoding="utf-8") as log:
                if match := re.search(pattern, log.read()):
                    return match[1]
            if self.process.poll() is not None:
                break
            time.sleep(0.005)
        self.stop()
        with open(self.log, encoding="utf-8") as log:
            sys.exit(f"the daemon did not start:\n{log.read()[-3000:]}")

    def ask(self, path):
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            return json.load(answer)

    def processor(self):
        """Seconds of processor time so far."""
        with open(f"/proc/{self.process.pid}/stat", encoding="utf-8") as stat:
            fields = stat.read().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self, what):
        """VmRSS or VmHWM in MB."""
        with open(f"/proc/{self.process.pid}/status", encoding="utf-8") as status:
            return int(re.search(rf"{what}:\s+(\d+) kB", status.read())[1]) * 1024 / 1e6

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(90)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def name_of(number):
    return f"db{number:04}"


def write_configuration(bench, due=None, keep=None):
    """All databases daily, far from now; the first of them at `due`. Seven backups of each are kept, or as many as `keep` says of it."""
    far = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=12)
    lines = ['timezone = "UTC"', "[repository]", f'url = "{bench.path("repository")}"', "[daemon]",
             'listen = "127.0.0.1:0"', f"concurrency = {LIMIT}"]
    keep = keep or {}
    for number in range(DATABASES):
        when = due if due and number < DUE else far
        lines += [f"[databases.{name_of(number)}]", f'url = "sqlite:data/{name_of(number)}.db"',
                  f'schedule = "{when.minute} {when.hour} * * *"', f"keep = {{ last = {keep.get(name_of(number), 7)} }}"]
    with open(bench.path("copal.toml"), "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")


def make(bench):
    os.makedirs(bench.path("data"))
    for number in range(DATABASES):
        database = sqlite3.connect(bench.path("data", f"{name_of(number)}.db"))
        database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, body TEXT)")
        database.executemany("INSERT INTO t (body) VALUES (?)", [(f"row {row} of {number}",) for row in range(50)])
        database.commit()
        database.close()
    write_configuration(bench)
    bench.run([bench.binary, "--config", bench.path("copal.toml"), "init", "--encrypt"])
    bench.run([bench.binary, "--config", bench.path("copal.toml"), "backup", "--all", "--quiet"])


def settle(daemon):
    """Until every database was looked at, and the processor rests."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        databases = daemon.ask("/api/databases")["databases"]
        if len(databases) == DATABASES and all(database.get("protected") is not None for database in databases):
            break
        time.sleep(0.2)
    before = -1.0
    while daemon.processor() - before > 0.02 and time.monotonic() < until:
        before = daemon.processor()
        time.sleep(2)


def seconds(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def burst(bench):
    """Lateness of each run of the burst in seconds, the time until the last has begun, and the most at once."""
    now = datetime.datetime.now(datetime.timezone.utc)
    due = (now + datetime.timedelta(seconds=90)).replace(second=0, microsecond=0)
    write_configuration(bench, due)
    daemon = Daemon(bench)
    try:
        time.sleep(max(0.0, due.timestamp() - time.time()))
        until = time.monotonic() + 120
        while time.monotonic() < until:
            runs = [run for run in daemon.ask("/api/runs?limit=1000")["runs"] if run["due"] and seconds(run["due"]) >= due.timestamp()]
            if len(runs) == DUE and all(run["ended"] for run in runs):
                break
            time.sleep(0.5)
    finally:
        daemon.stop()
    if len(runs) != DUE or any(run["ending"] != "success" for run in runs):
        sys.exit(f"{len(runs)} runs of {DUE}: {[run['error'] for run in runs if run['error']][:3]}")
    runs.sort(key=lambda run: (seconds(run["started"]), run["id"]))
    late, most = [], 0
    for index, run in enumerate(runs):
        started = seconds(run["started"])
        ends = sorted(seconds(other["ended"]) for other in runs[:index])
        # The place that it took: the one that has been free for the shortest time that lets the limit be kept.
        free_since = ends[index - LIMIT] if index >= LIMIT else 0.0
        late.append(started - max(seconds(run["due"]), free_since))
        most = max(most, 1 + sum(seconds(other["ended"]) > started for other in runs[:index]))
    return late, seconds(runs[-1]["started"]) - due.timestamp(), most


def requests(daemon):
    """Percentiles in milliseconds, as `ab` tells them, requests a second and bytes of an answer."""
    found = subprocess.run(["ab", "-q", "-k", "-n", str(REQUESTS), "-c", str(CONNECTIONS), f"{daemon.url}/api/databases"],
                           check=True, capture_output=True, text=True).stdout
    percentiles = {int(share): int(ms) for share, ms in re.findall(r"^\s+(\d+)%\s+(\d+)", found, re.M)}
    if "Non-2xx" in found or re.search(r"Failed requests:\s+[1-9]", found):
        sys.exit(f"requests failed:\n{found}")
    rate = float(re.search(r"Requests per second:\s+([\d.]+)", found)[1])
    return percentiles, rate, int(re.search(r"Document Length:\s+(\d+)", found)[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default="target/release", help="folder of the copal to measure")
    parser.add_argument("--work", default="bench/work-daemon", help="folder for everything, removed afterwards")
    parser.add_argument("--output", help="file for the results as Markdown")
    parser.add_argument("--timeout", type=int, default=600, help="seconds that one command may take")
    options = parser.parse_args()
    options.base = None
    if not shutil.which("ab"):
        sys.exit("missing: ab (apache2-utils); install it first")
    bench = Bench(options)
    os.makedirs(bench.work)
    table = Table()
    try:
        note(f"making {DATABASES} databases and their first backups")
        make(bench)
        note("start, and rest")
        daemon = Daemon(bench)
        try:
            settle(daemon)
            before = daemon.processor()
            time.sleep(IDLE)
            idle = 100 * (daemon.processor() - before) / IDLE
            resting = daemon.memory("VmRSS")
            note("requests")
            percentiles, rate, size = requests(daemon)
            peak = daemon.memory("VmHWM")
            loaded = daemon.memory("VmRSS")
        finally:
            daemon.stop()
        note(f"a burst of {DUE} runs")
        late, last, most = burst(bench)
    finally:
        shutil.rmtree(bench.work, ignore_errors=True)
    table.add(f"start until the API answers, {DATABASES:,} databases", "< 1 s", daemon.started, 1.0, f"{daemon.started:.2f} s")
    table.add(f"processor while nothing is due, over {IDLE} s", "< 0.5 % of a core", idle, 0.5, f"{idle:.2f} %")
    table.add("memory while nothing is due", "< 60 MB", resting, 60, f"{resting:.0f} MB",
              f"peak {peak:.0f} MB (opening an encrypted repository takes 80 MiB for a moment), {loaded:.0f} MB after the requests")
    table.add(f"{DUE} runs due at once: the latest start of one that had a place", "<= 1 s", max(late), 1.0,
              f"{max(late):.3f} s", f"the last began {last:.1f} s after all were due")
    table.add("the same: most at once", f"<= {LIMIT}", most, LIMIT, str(most))
    table.add(f"{REQUESTS:,} requests for all databases, {CONNECTIONS} connections: p99", "< 20 ms", percentiles[99], 19.999,
              f"{percentiles[99]} ms", f"p50 {percentiles[50]} ms, {rate:.0f} a second, {size / 1000:.0f} kB each")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    text = (f"{datetime.date.today().isoformat()}, {len(os.sched_getaffinity(0))} cores, {memory:.0f} GiB of memory; "
            f"copal {version([bench.binary, '--version'])}\n\n"
            f"{table.text(('what', 'goal', 'measured', 'reached', 'beside it'))}\n")
    return conclude(table, text, options.output)


if __name__ == "__main__":
    sys.exit(main())
