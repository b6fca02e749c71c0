#!/usr/bin/env python3
"""Runs the test suites given as commands, passes their output on, and ends with one line that sums them up.

Usage: run_tests.py COMMAND [ARGUMENT ...] [-- COMMAND ...]   Exit code 1 if any suite failed or nothing ran.
"""

import re
import subprocess
import sys

CARGO = re.compile(r"^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored")
UNITTEST = re.compile(r"^Ran (\d+) tests? in ")
UNITTEST_RESULT = re.compile(r"^(OK|FAILED)(?: \((.*)\))?$")


def run(command, totals):
    """Adds what a suite did to `totals` (passed, failed, skipped); true if it succeeded."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    ran = 0
    for line in process.stdout:
        sys.stdout.write(line)
        sys.stdout.flush()
        if match := CARGO.match(line):
            for i in range(3):
                totals[i] += int(match[i + 1])
        elif match := UNITTEST.match(line):
            ran = int(match[1])
        elif ran and (match := UNITTEST_RESULT.match(line)):
            numbers = dict(part.split("=") for part in (match[2] or "").split(", ") if "=" in part)
            failed = int(numbers.get("failures", 0)) + int(numbers.get("errors", 0))
            skipped = int(numbers.get("skipped", 0))
            totals[0] += ran - failed - skipped
            totals[1] += failed
            totals[2] += skipped
    return process.wait() == 0


def main(arguments):
    commands = [[]]
    for argument in arguments:
        if argument == "--":
            commands.append([])
        else:
            commands[-1].append(argument)
    totals = [0, 0, 0]
    good = [run(command, totals) for command in commands if command]
    print(f"\ntests: {totals[0]} passed, {totals[1]} failed, {totals[2]} skipped")
    return 0 if all(good) and totals[0] > 0 and totals[1] == 0 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
