#!/usr/bin/env python3
"""Runs the test suites given as commands, passes their output on, and ends with one line that sums them up.

Usage: run_tests.py [--jobs N] COMMAND [ARGUMENT ...] [-- COMMAND ...]   Exit code 1 if any suite failed or nothing ran.

`cargo test` with packages and features, but no targets, is taken apart: cargo builds the test programs and says how it would start
each. Those and the other suites are run some at a time, since many mostly wait, the longest first; then come the tests in the
documentation. What a program prints is shown when it ends. One that takes longer than LIMIT is ended, with all that it started.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

CARGO = re.compile(r"^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored")
UNITTEST = re.compile(r"^Ran (\d+) tests? in ")
UNITTEST_RESULT = re.compile(r"^(OK|FAILED)(?: \((.*)\))?$")
PYTEST = re.compile(r"^(?:=+ )?(\d+ [a-z]+(?:, \d+ [a-z]+)*) in \d+\.\d+s(?: \([^)]*\))?(?: =+)?$")
# The summary of node's test runner; what it calls cancelled was to run and did not end well.
NODE = re.compile(r"^(?:#|ℹ) (pass|fail|cancelled|skipped|todo) (\d+)$")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# Where pytest's words belong: passed, failed, skipped. What is deselected or a warning is no test that was to run.
PYTEST_WORDS = {"passed": 0, "xpassed": 0, "failed": 1, "error": 1, "errors": 1, "skipped": 2, "xfailed": 2}

NODE_WORDS = {"pass": 0, "fail": 1, "cancelled": 1, "skipped": 2, "todo": 2}

# Seconds that a test program may take, those that what is ended has for tidying up, and those between two looks.
LIMIT = 25 * 60
GRACE = 10
PAUSE = 0.05

# The suites and test programs that take longest, longest first: none of them should be the last to start. Any order is right.
LONGEST = (
    "python/run_tests.sh",
    "copal-repository repository",
    "web/tests/run.sh",
    "copal-duckdb hammer",
    "copal-duckdb copal_duckdb",
    ".venv/bin/python -m unittest discover -s tools/tests",
    "copal-mysql copal_mysql",
    "copal-cli blackbox",
    "copal-postgres copal_postgres",
    "copal-postgres snapshots",
    "copal-postgres torture_fixture",
    "copal-sqlite copal_sqlite",
    "copal-postgres roundtrip",
    "copal-cli api",
    "copal-cli daemon",
    "copal-cli endurance",
    "copal library",
    "copal-postgres under_load",
    "copal-postgres faults",
    "copal-postgres snapshots_beside",
    "copal-daemon copal_daemon",
)


class Totals:
    """What was counted: numbers of tests that passed, failed and were skipped, and the suites that did not succeed."""

    def __init__(self):
        self.counts = [0, 0, 0]
        self.failed = []

    def add(self, name, suite, reason):
        """Takes over what a suite did. `reason`: why it did not succeed, if so; without a failed test that is one failure."""
        if reason and not suite.counts[1]:
            suite.counts[1] = 1
        self.counts = [total + number for total, number in zip(self.counts, suite.counts)]
        if reason or suite.counts[1]:
            self.failed.append(f"{name}: {reason or 'tests failed'}")

    def __str__(self):
        return "{} passed, {} failed, {} skipped".format(*self.counts)


class Suite:
    """Finds the numbers of tests in what one suite prints."""

    def __init__(self):
        self.counts = [0, 0, 0]
        self.ran = 0

    def read(self, line):
        line = COLOUR.sub("", line.rstrip("\n"))
        if match := CARGO.match(line):
            self.add(*map(int, match.groups()))
        elif match := UNITTEST.match(line):
            self.ran = int(match[1])
        elif self.ran and (match := UNITTEST_RESULT.match(line)):
            numbers = dict(part.split("=") for part in (match[2] or "").split(", ") if "=" in part)
            failed = int(numbers.get("failures", 0)) + int(numbers.get("errors", 0))
            skipped = int(numbers.get("skipped", 0))
            self.add(self.ran - failed - skipped, failed, skipped)
            self.ran = 0
        elif match := PYTEST.match(line):
            for number, word in (part.split() for part in match[1].split(", ")):
                if word in PYTEST_WORDS:
                    self.counts[PYTEST_WORDS[word]] += int(number)
        elif match := NODE.match(line):
            self.counts[NODE_WORDS[match[1]]] += int(match[2])

    def add(self, *counts):
        self.counts = [total + number for total, number in zip(self.counts, counts)]


def say(line):
    print(line, flush=True)


def ending(code):
    """What an exit code says of a suite that did not succeed."""
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def end(process):
    """Ends a process that leads a group, and what it started. Some of that has to tidy up first: it is asked, then killed."""
    for number, patience in ((signal.SIGTERM, GRACE), (signal.SIGKILL, GRACE)):
        late = time.monotonic() + patience
        try:
            os.killpg(process.pid, number)
            while time.monotonic() < late:
                process.poll()
                os.killpg(process.pid, 0)
                time.sleep(PAUSE)
        except ProcessLookupError:
            return


def run(command, totals):
    """Runs a suite and passes on what it prints; true if it succeeded."""
    suite = Suite()
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "errors": "replace"}
    process = subprocess.Popen(command, start_new_session=True, **pipes)
    try:
        for line in process.stdout:
            sys.stdout.write(line)
            sys.stdout.flush()
            suite.read(line)
        code = process.wait()
    except BaseException:
        end(process)
        raise
    totals.add(" ".join(command), suite, ending(code) if code else None)
    return code == 0


class Program:
    """A test program that runs, in the folder and with the environment that cargo would give it."""

    def __init__(self, note):
        self.name = name(note)
        self.reason = None
        # Not a pipe: what the program leaves running may hold its output open, and must not be waited for.
        self.output = tempfile.TemporaryFile("w+", errors="replace")
        files = {"stdin": subprocess.DEVNULL, "stdout": self.output, "stderr": subprocess.STDOUT}
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            note["command"], cwd=note["folder"], env=note["environment"], start_new_session=True, **files)
        self.usage = None

    def is_over(self):
        """Whether it has ended, which it has to after its time."""
        if not self.reason and time.monotonic() - self.began > LIMIT:
            self.reason = f"ended after {LIMIT} s"
            end(self.process)
        if self.process.returncode is None:
            pid, status, usage = os.wait4(self.process.pid, os.WNOHANG)
            if pid:
                self.process.returncode, self.usage = os.waitstatus_to_exitcode(status), usage
        return self.process.returncode is not None

    def report(self, totals):
        """Prints what it printed, and adds what it did."""
        took = f"{time.monotonic() - self.began:.1f} s"
        if self.usage:
            took += f", {self.usage.ru_utime + self.usage.ru_stime:.1f} s of processors"
        code, suite = self.process.returncode, Suite()
        reason = self.reason or (ending(code) if code else None)
        say(f"\n==== {self.name} ({took}{', ' + reason if reason else ''})")
        self.output.seek(0)
        for line in self.output:
            sys.stdout.write(line)
            suite.read(line)
        sys.stdout.flush()
        self.output.close()
        totals.add(self.name, suite, reason)


def name(note):
    """What a suite is called, or a test program: its package, and its file without the hash."""
    if "name" in note:
        return note["name"]
    return f"{note['environment']['CARGO_PKG_NAME']} {os.path.basename(note['command'][0]).rsplit('-', 1)[0]}"


def run_some_at_a_time(notes, jobs, totals):
    """Runs suites and test programs, the longest first."""
    places = {name: place for place, name in enumerate(LONGEST)}
    waiting = sorted(notes, key=lambda note: places.get(name(note), len(places)))
    running = []
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                running.append(Program(waiting.pop(0)))
                say(f"==== {running[-1].name} begins")
            time.sleep(PAUSE)
            for program in [program for program in running if program.is_over()]:
                running.remove(program)
                program.report(totals)
    except BaseException:
        for program in running:
            say(f"==== {program.name} has not ended")
        raise
    finally:
        for program in running:
            end(program.process)


def note(folder, command):
    """Stands in for a test program: notes how cargo starts it. Cargo starts one after the other."""
    how = {"command": command, "folder": os.getcwd(), "environment": dict(os.environ)}
    with open(os.path.join(folder, f"{len(os.listdir(folder)):04}.json"), "w") as file:
        json.dump(how, file)


def programs_of_cargo(command, totals):
    """Builds what `cargo test` would run, and tells how; None if that fails."""
    # The same as it would build itself, examples too; a failure has no tests to tell of.
    if not run([*command, "--no-run"], totals):
        return None
    with tempfile.TemporaryDirectory() as folder:
        runner = [sys.executable, os.path.abspath(__file__), "--note", folder]
        noting = [*command, "--tests", "--config", f"target.'cfg(all())'.runner={json.dumps(runner)}"]
        noted = subprocess.run(noting, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
        if noted.returncode:
            say(noted.stdout)
            totals.add(" ".join(noting), Suite(), ending(noted.returncode))
            return None
        notes = []
        for path in sorted(os.listdir(folder)):
            with open(os.path.join(folder, path)) as file:
                notes.append(json.load(file))
    return notes


def main(arguments):
    if arguments[:1] == ["--note"]:
        return note(arguments[1], arguments[2:])
    jobs = (os.cpu_count() or 1) + 1
    if arguments[:1] == ["--jobs"]:
        jobs, arguments = int(arguments[1]), arguments[2:]
    commands = [[]]
    for argument in arguments:
        if argument == "--":
            commands.append([])
        else:
            commands[-1].append(argument)
    # Ctrl-C is ignored in background jobs of a shell, and whatever is started there inherits that.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    totals = Totals()
    try:
        notes, documented = [], []
        for command in filter(None, commands):
            if command[:2] != ["cargo", "test"]:
                notes.append({"name": " ".join(command), "command": command, "folder": os.getcwd(), "environment": dict(os.environ)})
            elif (programs := programs_of_cargo(command, totals)) is not None:
                notes += programs
                documented.append(command)
        run_some_at_a_time(notes, jobs, totals)
        for command in documented:
            run([*command, "--doc"], totals)
    except KeyboardInterrupt:
        say("\ninterrupted")
        totals.failed.append("interrupted")
    say("")
    for failed in totals.failed:
        say(f"failed: {failed}")
    say(f"tests: {totals}")
    return 0 if totals.counts[0] > 0 and not totals.failed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
