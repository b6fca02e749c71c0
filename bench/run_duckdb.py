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
RATES = (50, 200)  # transactions a second of a service at work


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

    for rate in RATES:
        repository, key = bench.fresh_copal()
        owner.ask("load", rate)
        time.sleep(2)
        state = owner.ask("count")
        run = bench.copal(repository, "backup", live)
        after = owner.ask("count")
        owner.ask("rest")
        found[at(rate)].append(run.without(key))
        seconds = after["clock"] - state["clock"]
        found[f"committed, {rate}"].append((after["count"] - state["count"]) / seconds)
        found[f"cores, {rate}"].append((after["cpu"] - state["cpu"]) / seconds)

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


def throughput(bench, owner, live, spells):
    """What a writer that never rests loses beside a backup, beside `cp` and beside nothing: shares of what it commits in the
    seconds before and after, medians."""

    def pace(work):
        before = owner.ask("count")
        work()
        after = owner.ask("count")
        return (after["count"] - before["count"]) / (after["clock"] - before["clock"])

    shares = {"copal": [], "cp": [], "nothing": []}
    owner.ask("load", 0)
    time.sleep(2)
    for _ in range(spells):
        for name, taken in shares.items():
            repository = bench.fresh_copal()[0]
            bench.remove("out.duckdb")
            os.sync()
            time.sleep(1)
            work = {"copal": lambda: bench.copal(repository, "backup", live),
                    "cp": lambda: bench.run(["cp", live, bench.path("out.duckdb")], sync=bench.path("out.duckdb")),
                    "nothing": lambda: time.sleep(3)}[name]
            before, beside, after = pace(lambda: time.sleep(3)), pace(work), pace(lambda: time.sleep(3))
            taken.append(2 * beside / (before + after))
    bench.remove("out.duckdb")
    owner.ask("rest")
    return {name: statistics.median(taken) for name, taken in shares.items()}


def at(rate):
    return f"first, {rate} transactions a second"


def wall(runs):
    return statistics.median(run.wall for run in runs)


def report(found, shares, size):
    table = Table()
    rest, copy = wall(found["first, at rest"]), statistics.median(found["COPY FROM DATABASE"])
    table.add("first backup of a database in use", ">= 10 x faster than COPY FROM DATABASE", copy / rest, 10,
              f"{rest:.2f} s = {copy / rest:.1f} x faster",
              f"COPY FROM DATABASE {copy:.1f} s, EXPORT DATABASE {statistics.median(found['EXPORT DATABASE']):.1f} s, "
              f"cp {wall(found['cp']):.2f} s", at_least=True)
    for rate in RATES:
        under_load = wall(found[at(rate)])
        cores = statistics.median(found[f"cores, {rate}"])
        table.add(f"the same beside {rate} transactions a second", "<= 1.3 x at rest", under_load / rest, 1.3,
                  f"{under_load:.2f} s = {under_load / rest:.2f} x", f"the writer itself takes {cores:.2f} cores")
        committed = statistics.median(found[f"committed, {rate}"])
        table.add(f"throughput of that writer of {rate}", "<= 5 % less", 1 - committed / rate, 0.05, f"{committed:.1f} a second")
    second = wall(found["second, 1 % of blocks changed"])
    table.add("second backup, 1 % of blocks changed", "<= 0.4 x first",
              *limit((second / rest, f"{second:.2f} s = {second / rest:.2f} x"), 0.4))
    added, changed = statistics.median(found["added"]), statistics.median(found["changed"])
    table.add("the same: added", "<= the changed blocks", added / changed, 1.0,
              f"{added / MB:.1f} MB for {changed / MB:.1f} MB of changed blocks")
    loss = {name: (1 - share) * 100 for name, share in shares.items()}
    table.add("throughput of a writer that never rests", "<= 5 % less", 1 - shares["copal"], 0.05, f"{loss['copal']:.0f} % less",
              f"beside cp {loss['cp']:.0f} % less, beside nothing {loss['nothing']:.0f} %")
    for name in ("first, at rest", *map(at, RATES), "second, 1 % of blocks changed", "restore"):
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
    parser.add_argument("--spells", type=int, default=5, help="backups beside which throughput is measured")
    parser.add_argument("--timeout", type=int, default=1800, help="seconds that one command may take")
    options = parser.parse_args()
    bench = Bench(options)
    os.makedirs(bench.work, exist_ok=True)
    live = bench.path("live.duckdb")
    bench.remove("live.duckdb", "live.duckdb.wal")
    owner = Owner(options.python, options.duckdb, live)
    names = ["first, at rest", *map(at, RATES), "second, 1 % of blocks changed", "restore", "cp",
             "COPY FROM DATABASE", "EXPORT DATABASE", "stored", "changed", "added"]
    names += [f"{what}, {rate}" for rate in RATES for what in ("committed", "cores")]
    found = {name: [] for name in names}
    try:
        note(f"making {options.megabytes} MB with DuckDB {owner.version}")
        size = owner.ask("make", options.megabytes)["bytes"]
        for number in range(options.rounds):
            note(f"round {number + 1} of {options.rounds}")
            one_round(bench, owner, live, found, options)
        note("throughput")
        shares = throughput(bench, owner, live, options.spells)
        table, text = report(found, shares, size)
        print(f"DuckDB {owner.version}; {options.rounds} rounds\n\n{text}\n")
        print(f"{len(table.rows) - table.missed} goals reached, {table.missed} missed")
        return 1 if table.missed else 0
    finally:
        owner.close()
        shutil.rmtree(bench.work, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
