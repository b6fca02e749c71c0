#!/usr/bin/env python3
"""Saves a store of 1,000,000 rows in memory into an encrypted local repository, and prints what that takes as a table.

usage: run_memory.py [--bin target/release] [--rows N] [--runs N]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

GOALS = {"full": 1.0, "longest insert": 50.0}


def measure(program: str, rows: int, runs: int) -> dict:
    """What the program reports: seconds, milliseconds and bytes by kind of save."""
    with tempfile.TemporaryDirectory(prefix="copal-bench-") as folder:
        answer = subprocess.run([program, folder, str(rows), str(runs)], check=True, stdout=subprocess.PIPE)
    return json.loads(answer.stdout)


def spread(numbers: list, unit: str, digits: int = 2) -> str:
    """The least and the median of several runs."""
    return f"{min(numbers):.{digits}f} / {statistics.median(numbers):.{digits}f} {unit}"


def table(report: dict) -> str:
    """The report as a table in Markdown."""
    lines = [f"| {report['rows']:,} rows of five fields | least / median | held up, longest insert | added |",
             "|---|---|---|---|"]
    kinds = {"full": "full, empty repository", "full_again": "full, every thousandth row changed", "delta_of_1000": "delta of 1,000 rows"}
    for key, name in kinds.items():
        kind = report[key]
        seconds = spread(kind["seconds"], "s", 3)
        hold = f"{max(kind['held_ms']):.2f} ms, {max(kind['longest_insert_ms']):.2f} ms"
        lines.append(f"| {name} | {seconds} | {hold} | {statistics.median(kind['added_bytes']):,.0f} bytes |")
    lines.append(f"| restore of the full and its journal | {report['restore_seconds']:.3f} s | | |")
    return "\n".join(lines)


def main() -> int:
    """Prints the table; 1 if a goal was missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", default=os.path.join(os.environ.get("CARGO_TARGET_DIR", "target"), "release"))
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    report = measure(os.path.join(arguments.bin, "examples", "memory_speed"), arguments.rows, arguments.runs)
    print(table(report))
    missed = []
    quickest = min(report["full"]["seconds"])
    if quickest > GOALS["full"]:
        missed.append(f"a full takes {quickest:.2f} s, the goal is {GOALS['full']} s")
    longest = min(report["full"]["longest_insert_ms"])
    if longest > GOALS["longest insert"]:
        missed.append(f"an insert waited {longest:.1f} ms, the goal is {GOALS['longest insert']} ms")
    for line in missed:
        print(f"missed: {line}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
