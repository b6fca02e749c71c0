"""tools/run_tests.py counts right, runs cargo's test programs as cargo would, and leaves nothing running."""

import contextlib
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from unittest import mock

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))

import run_tests  # noqa: E402

TOOL = os.path.join(os.path.dirname(HERE), "run_tests.py")
PATIENCE = 60

MANIFEST = """
[package]
name = "a-package"
version = "1.2.3"
edition = "2021"
[lib]
name = "its_library"
[features]
extra = []
[workspace]
"""
LIBRARY = """
//! ```
//! assert_eq!(its_library::two(), 2);
//! ```
pub fn two() -> u32 { 2 }
#[test]
fn is_two() { assert_eq!(two(), 2) }
"""
SOUND = """
use std::env::{current_dir, var, var_os};
#[test]
fn is_at_home() {
    assert_eq!(current_dir().unwrap(), std::path::Path::new(env!("CARGO_MANIFEST_DIR")));
    for name in ["CARGO_MANIFEST_DIR", "CARGO_PKG_VERSION"] {
        assert_eq!(var(name).unwrap(), if name == "CARGO_PKG_VERSION" { "1.2.3" } else { env!("CARGO_MANIFEST_DIR") });
    }
    assert_eq!(var("FROM_THE_CONFIGURATION").unwrap(), "yes");
    assert!(var_os("CARGO").is_some() && var_os("LD_LIBRARY_PATH").is_some());
    assert!(cfg!(feature = "extra"));
}
#[test]
#[ignore]
fn is_left_out() {}
"""
FAILS = """
#[test]
fn is_wrong() { assert_eq!(its_library::two(), 3) }
#[test]
fn is_right() {}
"""
ABORTS = """
#[test]
fn is_the_end() { std::process::abort() }
"""
HANGS = """
#[test]
fn has_no_end() {
    let Ok(file) = std::env::var("HANGS") else { return };
    let child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
    std::fs::write(format!("{file}.new"), format!("{} {}", std::process::id(), child.id())).unwrap();
    std::fs::rename(format!("{file}.new"), file).unwrap();
    std::thread::sleep(std::time::Duration::from_secs(600));
}
"""


def is_alive(pid):
    """Whether a process runs; one that only waits to be collected does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def wait_until(condition):
    late = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < late, "in vain"
        time.sleep(0.02)


def counted(text):
    suite = run_tests.Suite()
    for line in text.splitlines(keepends=True):
        suite.read(line)
    return suite.counts


class Counting(unittest.TestCase):
    def test_what_suites_say_last(self):
        for text, counts in (
                ("test result: ok. 12 passed; 0 failed; 3 ignored; 0 measured; 0 filtered out; finished in 0.1s\n", [12, 0, 3]),
                ("test result: FAILED. 1 passed; 2 failed; 0 ignored\ntest result: ok. 5 passed; 0 failed; 1 ignored\n", [6, 2, 1]),
                ("Ran 7 tests in 0.1s\n\nOK\n", [7, 0, 0]),
                ("Ran 1 test in 0.1s\n\nOK (skipped=1)\n", [0, 0, 1]),
                ("Ran 7 tests in 0.1s\n\nFAILED (failures=1, errors=2, skipped=1)\n", [3, 3, 1]),
                ("OK\nFAILED (failures=1)\n", [0, 0, 0])):
            self.assertEqual(counted(text), counts, text)

    def test_pytest(self):
        for line, counts in (
                ("12 passed, 1 skipped in 3.2s", [12, 0, 1]),
                ("============ 12 passed, 1 skipped in 75.20s (0:01:15) ============", [12, 0, 1]),
                ("=== 1 failed, 2 passed, 3 skipped, 4 deselected, 5 xfailed, 6 xpassed, 7 warnings, 8 errors in 0.12s ===", [8, 9, 8]),
                ("1 error in 0.50s", [0, 1, 0]),
                ("4 deselected in 0.01s", [0, 0, 0]),
                ("\x1b[32m\x1b[1m3 passed\x1b[0m\x1b[32m in 0.01s\x1b[0m", [3, 0, 0]),
                ("no tests ran in 0.01s", [0, 0, 0]),
                ("collected 12 items", [0, 0, 0]),
                ("I saw 3 passed in 0.1s", [0, 0, 0])):
            self.assertEqual(counted(line + "\n"), counts, line)

    def test_node(self):
        for text, counts in (
                ("ℹ tests 7\nℹ suites 0\nℹ pass 3\nℹ fail 1\nℹ cancelled 1\nℹ skipped 1\nℹ todo 1\nℹ duration_ms 12.5\n", [3, 2, 2]),
                ("1..2\n# tests 2\n# suites 0\n# pass 2\n# fail 0\n# cancelled 0\n# skipped 0\n# todo 0\n# duration_ms 12.5\n", [2, 0, 0]),
                ("\x1b[34mℹ pass 3\x1b[39m\n", [3, 0, 0]),
                ("# pass 3 of 4\n    # pass 3\npass 3\n", [0, 0, 0])):
            self.assertEqual(counted(text), counts, text)

    def test_what_node_prints(self):
        node = shutil.which("node")
        if not node:
            self.skipTest("there is no node")
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "some.test.mjs")
            with open(path, "w") as file:
                file.write("import { test } from 'node:test';\ntest('good', () => {});\ntest('left out', { skip: true }, () => {});\n"
                           "test('bad', () => { throw new Error('bad'); });\n")
            for reporter in ("spec", "tap"):
                # A runner inside a runner would speak to that one.
                environment = {name: value for name, value in os.environ.items() if name != "NODE_TEST_CONTEXT"}
                done = subprocess.run([node, "--test", f"--test-reporter={reporter}", path], env=environment, capture_output=True, text=True)
                self.assertEqual(counted(done.stdout), [1, 1, 1], done.stdout)

    def test_a_suite_that_fails_without_a_failed_test_is_a_failure(self):
        for command, summary, told in (
                ("exit 0", "tests: 0 passed, 0 failed, 0 skipped", ""),
                ("echo 2 passed in 0.1s; exit 3", "tests: 2 passed, 1 failed, 0 skipped", "exit code 3"),
                ("echo 2 passed, 1 failed in 0.1s; exit 1", "tests: 2 passed, 1 failed, 0 skipped", "exit code 1"),
                ("echo 2 passed in 0.1s; kill -9 $$", "tests: 2 passed, 1 failed, 0 skipped", "killed by SIGKILL"),
                ("echo 2 passed, 1 failed in 0.1s", "tests: 2 passed, 1 failed, 0 skipped", "tests failed")):
            done = subprocess.run([sys.executable, TOOL, "sh", "-c", command], capture_output=True, text=True)
            self.assertEqual(done.returncode, 1, done)
            self.assertEqual(done.stdout.splitlines()[-1], summary)
            self.assertIn(told, done.stdout)

    def test_suites_are_added_up(self):
        pytest, other = ["sh", "-c", "echo 2 passed, 1 skipped in 0.1s"], ["sh", "-c", "echo Ran 3 tests in 1s; echo OK"]
        done = subprocess.run([sys.executable, TOOL, *pytest, "--", *other], capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stdout.splitlines()[-1]), (0, "tests: 5 passed, 0 failed, 1 skipped"))


class Cargo(unittest.TestCase):
    """A package with test programs that pass, fail, crash and hang."""

    @classmethod
    def setUpClass(cls):
        scratch = tempfile.TemporaryDirectory()
        cls.addClassCleanup(scratch.cleanup)
        cls.folder = scratch.name
        files = {"Cargo.toml": MANIFEST, "src/lib.rs": LIBRARY, ".cargo/config.toml": "[env]\nFROM_THE_CONFIGURATION = 'yes'\n",
                 "tests/sound.rs": SOUND, "tests/fails.rs": FAILS, "tests/aborts.rs": ABORTS, "tests/hangs.rs": HANGS}
        for path, text in files.items():
            path = os.path.join(cls.folder, path)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w") as file:
                file.write(text)
        # Everything in its folder, as without any of these.
        kept = {name: value for name, value in os.environ.items() if name not in ("CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR", "HANGS")}
        cls.environment = {**kept, "CARGO_TERM_COLOR": "never"}
        cls.command = [sys.executable, TOOL, "--jobs", "2", "cargo", "test", "--offline", "--no-fail-fast", "--all-features"]

    def test_all_programs_run_as_cargo_runs_them(self):
        done = subprocess.run(self.command, cwd=self.folder, env=self.environment, capture_output=True, text=True)
        # Passed: the library, its documentation, `sound`, one of `fails`, and `hangs`, which does not now.
        self.assertEqual(done.stdout.splitlines()[-1], "tests: 5 passed, 2 failed, 1 skipped", done.stdout)
        self.assertEqual(done.returncode, 1)
        for program in ("its_library", "sound", "fails", "aborts", "hangs"):
            self.assertIn(f"==== a-package {program} begins\n", done.stdout)
            self.assertRegex(done.stdout, rf"==== a-package {program} \(\d+\.\d s")
        self.assertIn("failed: a-package fails: exit code 101\n", done.stdout)
        self.assertIn("failed: a-package aborts: killed by SIGABRT\n", done.stdout)
        self.assertEqual(done.stdout.count("\nfailed: "), 2)
        # A block is in one piece.
        self.assertRegex(done.stdout, r"==== a-package fails \([^\n]*\n\nrunning 2 tests\n(?s:(?!====).)*test result: FAILED")

    def test_what_does_not_compile_fails(self):
        with tempfile.TemporaryDirectory() as folder:
            os.makedirs(os.path.join(folder, "src"))
            for path, text in (("Cargo.toml", MANIFEST), ("src/lib.rs", "#[test] fn broken( {}")):
                with open(os.path.join(folder, path), "w") as file:
                    file.write(text)
            done = subprocess.run(self.command, cwd=folder, env=self.environment, capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stdout.splitlines()[-1]), (1, "tests: 0 passed, 1 failed, 0 skipped"), done.stdout)

    def test_an_interrupt_ends_all(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            hanging = os.path.join(self.folder, f"hanging-{number.value}")
            tool = subprocess.Popen(self.command, cwd=self.folder, env={**self.environment, "HANGS": hanging},
                                    stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            with tool:
                # Building it takes as long as it takes.
                while not os.path.exists(hanging) and tool.poll() is None:
                    time.sleep(0.05)
                with open(hanging) as file:
                    pids = file.read().split()
                tool.send_signal(number)
                output = tool.stdout.read()
            self.assertEqual(tool.returncode, 1)
            self.assertRegex(output, r"(?m)^==== a-package hangs has not ended$")
            self.assertRegex(output.splitlines()[-1], r"^tests: \d+ passed, \d+ failed, \d+ skipped$")
            for pid in pids:
                self.assertFalse(is_alive(pid), output)


class Programs(unittest.TestCase):
    """Shell scripts in the place of test programs."""

    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.folder = scratch.name

    def note(self, name, script):
        program = os.path.join(self.folder, f"{name}-0123456789abcdef")
        with open(program, "w") as file:
            file.write(f"#!/bin/sh\n{script}\n")
        os.chmod(program, 0o700)
        return {"command": [program], "folder": self.folder, "environment": {**os.environ, "CARGO_PKG_NAME": "p"}}

    def run_some(self, notes, jobs):
        totals, output = run_tests.Totals(), io.StringIO()
        with contextlib.redirect_stdout(output):
            run_tests.run_some_at_a_time(notes, jobs, totals)
        return totals, output.getvalue()

    def test_longest_first_and_so_many_at_a_time(self):
        # The two that come first wait for each other, so that they surely run at the same time.
        waits = {"a": "true", "b": "true", "c": "while [ ! -e d ]; do sleep 0.02; done", "d": "while [ ! -e c ]; do sleep 0.02; done"}
        notes = [self.note(name, f"echo +{name} >>log; >{name}; {wait}; echo -{name} >>log; echo 1 passed in 0.3s")
                 for name, wait in waits.items()]
        with mock.patch.object(run_tests, "LONGEST", ("p d", "p gone", "p c")):
            totals, output = self.run_some(notes, 2)
        self.assertEqual((totals.counts, totals.failed), ([4, 0, 0], []))
        self.assertEqual(re.findall(r"==== p (\w) begins", output), ["d", "c", "a", "b"])
        with open(os.path.join(self.folder, "log")) as file:
            log = file.read().split()
        running = [sum(1 if step[0] == "+" else -1 for step in log[:end + 1]) for end in range(len(log))]
        self.assertEqual(max(running), 2, log)

    def test_one_that_takes_too_long_is_ended_with_what_it_started(self):
        slow = self.note("slow", "sleep 600 &\necho $$ $! >pids.new; mv pids.new pids; echo so far; wait")
        stubborn = self.note("stubborn", "trap '' TERM; echo $$ >stubborn.new; mv stubborn.new stubborn; sleep 600; sleep 600")
        with mock.patch.object(run_tests, "LIMIT", 5), mock.patch.object(run_tests, "GRACE", 1):
            totals, output = self.run_some([slow, stubborn, self.note("fast", "echo 1 passed in 0.1s")], 3)
        self.assertEqual(totals.counts, [1, 2, 0])
        self.assertEqual(sorted(totals.failed), ["p slow: ended after 5 s", "p stubborn: ended after 5 s"])
        self.assertIn("so far\n", output)
        pids = []
        for path in ("pids", "stubborn"):
            with open(os.path.join(self.folder, path)) as file:
                pids += file.read().split()
        wait_until(lambda: not any(map(is_alive, pids)))

    def test_the_longest_ones_are_there(self):
        crates = os.path.join(os.path.dirname(os.path.dirname(HERE)), "crates")
        programs = set()
        for crate in os.listdir(crates):
            with open(os.path.join(crates, crate, "Cargo.toml")) as file:
                package = re.search(r'(?m)^name = "(.*)"$', file.read())[1]
            tests = os.path.join(crates, crate, "tests")
            entries = os.listdir(tests) if os.path.isdir(tests) else []
            names = [entry.removesuffix(".rs") for entry in entries
                     if entry.endswith(".rs") or os.path.isfile(os.path.join(tests, entry, "main.rs"))]
            programs.update(f"{package} {name}" for name in [*names, package.replace("-", "_")])
        with open(os.path.join(os.path.dirname(crates), "Makefile")) as file:
            makefile = file.read()
        python = re.search(r"(?m)^PYTHON := (.*)$", makefile)[1]
        suites = re.search(r"tools/run_tests\.py (.*)", makefile)[1].replace("$(PYTHON)", python).split(" -- ")
        self.assertEqual(set(run_tests.LONGEST) - programs - set(suites), set())
        self.assertEqual(len(set(run_tests.LONGEST)), len(run_tests.LONGEST))

    def test_what_is_left_running_is_not_waited_for(self):
        totals, output = self.run_some([self.note("leaves", "sleep 600 & echo pid $!; echo 1 passed in 0.1s")], 1)
        self.addCleanup(os.kill, int(re.search(r"pid (\d+)", output)[1]), signal.SIGKILL)
        self.assertEqual(totals.counts, [1, 0, 0])


if __name__ == "__main__":
    unittest.main()
