#!/usr/bin/env python3
"""Measures backups of a DuckDB database that another process holds open, beside COPY FROM DATABASE and EXPORT DATABASE.

One process owns the database all the time; Copal reads it from outside. Peers run inside the owner, which is the only
way they have. Figures are medians of the rounds, less key derivation (a row of its own in bench/run.py's table).
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time

from run import HERE, MB, MIB, Bench, Table, bytes_below, limit, note, sync_below

BLOCK = 262144
HEAD = 12288


class Owner:
    """The process that holds the database."""

    def __init__(self, python, duckdb, path):
        environment = {**os.environ, "PYTHONPATH": duckdb}
        self.child = subprocess.Popen([python, f"{HERE}/duckdb_owner.py", path], stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE, text=True, env=environment)
        self.version = json.loads(self.child.stdout.readline())["duckdb"]

    def ask(self, *words):
        self.child.stdin.write(" ".join(map(str, words)) + "\n")
        self.child.stdin.flush()
        answer = self.child.stdout.readline()
        if not answer:
            sys.exit("the owner has died")
        return json.loads(answer)

    def close(self):
        self.child.stdin.close()
        self.child.wait(120)


def block_digests(path):
    """What each block contains, by its hash."""
    with open(path, "rb") as file:
        file.seek(HEAD)
        return [hash(block) for block in iter(lambda: file.read(BLOCK), b"")]


def one_round(bench, owner, live, found, options):
    repository, key = bench.fresh_copal()
    at_rest = bench.copal(repository, "backup", live).without(key)
    found["first, at rest"].append(at_rest)
    found["stored"].append(bytes_below(repository))
    before, digests = bytes_below(repository), block_digests(live)
    owner.ask("change", 1)
    after = block_digests(live)
    changed = sum(a != b for a, b in zip(digests, after)) + max(0, len(after) - len(digests))
    second = bench.copal(repository, "backup", live).without(key)
    found["second, 1 % of blocks changed"].append(second)
    found["changed"].append(changed * BLOCK)
    found["added"].append(bytes_below(repository) - before)
    bench.remove("restored.duckdb")
    restored = bench.copal(repository, "restore", live, "--to", bench.path("restored.duckdb")).without(key)
    found["restore"].append(restored)
    check = Owner(options.python, options.duckdb, bench.path("restored.duckdb"))
    if check.ask("sums") != owner.ask("sums"):
        sys.exit("what was restored is not what was backed up")
    check.close()
    bench.remove("restored.duckdb", "restored.duckdb.wal")

    repository, key = bench.fresh_copal()
    owner.ask("load", 200)
    time.sleep(2)
    found["first, 200 transactions a second"].append(bench.copal(repository, "backup", live).without(key))
    owner.ask("rest")

    for name, command, target in (("COPY FROM DATABASE", "copy", "copy.duckdb"), ("EXPORT DATABASE", "export", "export")):
        bench.remove(target, f"{target}.wal")
        os.sync()
        began = time.monotonic()
        owner.ask(command, bench.path(target))
        sync_below(bench.path(target))
        found[name].append(time.monotonic() - began)
        bench.remove(target, f"{target}.wal")
    bench.remove("out.duckdb")
    found["cp"].append(bench.run(["cp", live, bench.path("out.duckdb")], sync=bench.path("out.duckdb")))
    bench.remove("out.duckdb")


def throughput(bench, owner, live, seconds):
    """Transactions a second of a writer that never rests: alone, and while one first backup follows the other."""
    counts = {"alone": [0, 0.0], "beside": [0, 0.0]}
    owner.ask("load", 0)
    time.sleep(2)
    for number in range(6):
        kind = ("alone", "beside")[number % 2]
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            # Only the backup itself counts, not making and removing repositories.
            repository = None if kind == "alone" else bench.fresh_copal()[0]
            time.sleep(0 if kind == "alone" else 1)
            count, began = owner.ask("count")["count"], time.monotonic()
            if kind == "alone":
                time.sleep(seconds)
            else:
                bench.copal(repository, "backup", live)
            counts[kind][0] += owner.ask("count")["count"] - count
            counts[kind][1] += time.monotonic() - began
    owner.ask("rest")
    return {kind: count / spent for kind, (count, spent) in counts.items()}


def wall(runs):
    return statistics.median(run.wall for run in runs)


def report(found, rates, size):
    table = Table()
    rest, copy = wall(found["first, at rest"]), statistics.median(found["COPY FROM DATABASE"])
    table.add("first backup of a database in use", ">= 10 x faster than COPY FROM DATABASE", copy / rest, 10,
              f"{rest:.2f} s = {copy / rest:.1f} x faster",
              f"COPY FROM DATABASE {copy:.1f} s, EXPORT DATABASE {statistics.median(found['EXPORT DATABASE']):.1f} s, "
              f"cp {wall(found['cp']):.2f} s", at_least=True)
    under_load = wall(found["first, 200 transactions a second"])
    table.add("the same while 200 transactions a second are committed", "<= 1.3 x at rest",
              *limit((under_load / rest, f"{under_load:.2f} s = {under_load / rest:.2f} x"), 1.3))
    second = wall(found["second, 1 % of blocks changed"])
    table.add("second backup, 1 % of blocks changed", "<= 0.4 x first",
              *limit((second / rest, f"{second:.2f} s = {second / rest:.2f} x"), 0.4))
    added, changed = statistics.median(found["added"]), statistics.median(found["changed"])
    table.add("the same: added", "<= the changed blocks", added / changed, 1.0,
              f"{added / MB:.1f} MB for {changed / MB:.1f} MB of changed blocks")
    loss = 1 - rates["beside"] / rates["alone"]
    table.add("writer's throughput during backups", "<= 5 % less", loss, 0.05,
              f"{rates['beside']:.0f} a second = {loss * 100:.1f} % less", f"alone {rates['alone']:.0f} a second")
    for name in ("first, at rest", "first, 200 transactions a second", "second, 1 % of blocks changed", "restore"):
        rss = max(run.rss for run in found[name]) * MIB / MB
        table.add(f"peak memory, {name}", "<= 150 MB", rss, 150, f"{rss:.0f} MB")
    lines = [table.text(("what", "goal", "measured", "reached", "peers")), "",
             f"Database: {size} bytes. Stored by the first backup: {statistics.median(found['stored']) / MB:.1f} MB. "
             f"Restore: {wall(found['restore']):.2f} s, its check included.", "",
             "| command | wall s | CPU s | peak MB |", "| --- | ---: | ---: | ---: |"]
    for name, runs in found.items():
        if hasattr(runs[0], "cpu"):
            cpu = statistics.median(run.cpu for run in runs)
            lines.append(f"| {name} | {wall(runs):.2f} | {cpu:.2f} | {max(run.rss for run in runs) * MIB / MB:.0f} |")
    return table, "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default=os.path.join(HERE, "..", "target", "release"), help="folder of the binaries")
    parser.add_argument("--work", default=os.path.join(HERE, "work"))
    parser.add_argument("--duckdb", default=os.path.join(HERE, "..", ".venv", "duckdb", "2.0.0"), help="folder of the module")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=15, help="of each of the six spells that measure throughput")
    parser.add_argument("--timeout", type=int, default=1800, help="seconds that one command may take")
    options = parser.parse_args()
    bench = Bench(options)
    os.makedirs(bench.work, exist_ok=True)
    live = bench.path("live.duckdb")
    bench.remove("live.duckdb", "live.duckdb.wal")
    owner = Owner(options.python, options.duckdb, live)
    names = ("first, at rest", "first, 200 transactions a second", "second, 1 % of blocks changed", "restore", "cp",
             "COPY FROM DATABASE", "EXPORT DATABASE", "stored", "changed", "added")
    found = {name: [] for name in names}
    try:
        note(f"making {options.megabytes} MB with DuckDB {owner.version}")
        size = owner.ask("make", options.megabytes)["bytes"]
        for number in range(options.rounds):
            note(f"round {number + 1} of {options.rounds}")
            one_round(bench, owner, live, found, options)
        note("throughput")
        rates = throughput(bench, owner, live, options.seconds)
        table, text = report(found, rates, size)
        print(f"DuckDB {owner.version}; {options.rounds} rounds\n\n{text}\n")
        print(f"{len(table.rows) - table.missed} goals reached, {table.missed} missed")
        return 1 if table.missed else 0
    finally:
        owner.close()
        shutil.rmtree(bench.work, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
