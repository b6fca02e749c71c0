#!/usr/bin/env python3
"""Measures Copal beside zstd, restic and cp in one run, and prints a table with the goals.

Each round works on a fresh copy of one generated SQLite file: peers and Copal alternate, all see a warm page
cache, nothing unsynced is left when a measurement begins, and a peer's time includes the syncing of what it
wrote. Key derivation, measured by `copal key list`, is taken off Copal's times and has a row of its own; restic's
stays in its times and is shown. A restore's `phase checking` (from `-v`) is taken off too. Figures are medians.

Two examples are used if they are built:
    many_backups FOLDER COUNT    makes a repository with so many manifests
    s3_server FOLDER             serves the folders below as buckets on the loopback address, prints one JSON line
                                 {"endpoint", "access_key", "secret_key"}, stops when its standard input ends
"""

import argparse
import contextlib
import datetime
import filecmp
import json
import os
import re
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import threading
import time

from generate import parse_size

HERE = os.path.dirname(os.path.abspath(__file__))
MB = 1_000_000
MIB = 1 << 20
WRITES_PER_SECOND = 200
PASSPHRASE = "benchmark passphrase"


class Run:
    """What one command took."""

    def __init__(self, wall, cpu, rss, out, err):
        self.wall, self.cpu, self.rss, self.out, self.err = wall, cpu, rss, out, err

    def without(self, key, checking=0.0):
        """The same without key derivation and an engine's own check."""
        wall, cpu = self.wall - key.wall - checking, self.cpu - key.cpu
        return Run(max(0.0, wall), max(0.0, cpu), self.rss, self.out, self.err)

    def phase(self, name):
        return sum(float(seconds) for seconds in re.findall(rf"^phase {name} ([0-9.]+)$", self.err, re.MULTILINE))


class Bench:
    def __init__(self, options):
        self.options = options
        self.work = os.path.abspath(options.work)
        self.binary = os.path.abspath(os.path.join(options.bin, "copal"))
        self.live = self.path("live.db")
        home = self.path("home")
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("COPAL_", "AWS_", "RESTIC_"))},
            "HOME": home, "XDG_STATE_HOME": self.path("state"), "XDG_DATA_HOME": f"{home}/data",
            "XDG_CONFIG_HOME": f"{home}/config", "XDG_CACHE_HOME": f"{home}/cache", "COPAL_PASSPHRASE": PASSPHRASE,
            "RESTIC_PASSWORD": PASSPHRASE, "RESTIC_CACHE_DIR": f"{home}/restic", "LC_ALL": "C"}

    def path(self, *parts):
        return os.path.join(self.work, *parts)

    def example(self, name):
        path = os.path.abspath(os.path.join(self.options.bin, "examples", name))
        return path if os.access(path, os.X_OK) else None

    def remove(self, *names):
        for path in map(self.path, names):
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path)
            elif os.path.lexists(path):
                os.remove(path)

    def run(self, command, sync=None, environment=None):
        """Runs a command to its end, then syncs what it wrote below `sync`; wall time includes that."""
        os.sync()
        with open(self.path("stdout"), "w+b") as out, open(self.path("stderr"), "w+b") as err:
            began = time.monotonic()
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=self.work,
                                     env={**self.environment, **(environment or {})})
            timer = threading.Timer(self.options.timeout, child.kill)
            timer.start()
            _, status, usage = os.wait4(child.pid, 0)
            timer.cancel()
            child.returncode = os.waitstatus_to_exitcode(status)
            if sync:
                sync_below(sync)
            wall = time.monotonic() - began
            texts = []
            for stream in (out, err):
                stream.seek(0)
                texts.append(stream.read().decode("utf-8", "replace"))
        if child.returncode:
            sys.exit(f"{os.path.basename(command[0])} {command[1]} ended with {child.returncode}:\n{texts[1][-3000:]}")
        return Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, *texts)

    def copal(self, repository, *arguments, environment=None):
        return self.run([self.binary, "--repository", repository, *arguments], environment=environment)

    def restic(self, *arguments, sync=None):
        return self.run(["restic", "-q", "-r", self.path("restic"), *arguments], sync=sync)

    def prepare_base(self, name, size):
        """A generated file of this size and its path; kept if the work folder or --base has it already."""
        if self.options.base and name == "base.db":
            return os.path.abspath(self.options.base)
        path = self.path(name)
        if not os.path.exists(path) or abs(os.path.getsize(path) - size) > size // 100:
            self.remove(name)
            note(f"generating {size / (1 << 30):.2f} GiB")
            subprocess.run([sys.executable, f"{HERE}/generate.py", "--size", str(size), path], check=True,
                           stdout=subprocess.DEVNULL)
        return path

    def fresh_live(self, base):
        self.remove("live.db", "live.db-wal", "live.db-shm")
        shutil.copyfile(base, self.live)

    def fresh_copal(self):
        self.remove("copal", "state")
        repository = self.path("copal")
        self.copal(repository, "init", "--encrypt")
        keys = [self.copal(repository, "key", "list") for _ in range(3)]
        return repository, sorted(keys, key=lambda run: run.wall)[1]

    def one_round(self, base, with_restic=True):
        """One measurement of everything that needs no other programs than the peers."""
        found = {}
        self.fresh_live(base)
        read_once(self.live)
        found["zstd"] = self.run(["zstd", "-q", "-f", "-3", "-T2", self.live, "-o", self.path("out.zst")],
                                 sync=self.path("out.zst"))
        found["zstd stored"] = os.path.getsize(self.path("out.zst"))
        self.remove("out.zst")
        found["cp"] = self.run(["cp", self.live, self.path("out.db")], sync=self.path("out.db"))
        self.remove("out.db")

        repository, key = self.fresh_copal()
        found["key"] = key
        before = bytes_below(repository)
        found["first"] = self.copal(repository, "backup", self.live).without(key)
        after_first = bytes_below(repository)
        found["stored"] = after_first - before
        found["unchanged"] = self.copal(repository, "backup", self.live).without(key)
        after_unchanged = bytes_below(repository)
        found["unchanged added"] = after_unchanged - after_first
        if with_restic:
            self.remove("restic", "home")
            self.restic("init")
            found["restic first"] = self.restic("backup", self.live, sync=self.path("restic"))
            found["restic stored"] = bytes_below(self.path("restic"))
            found["restic key"] = self.restic("list", "keys")

        changed = self.run([sys.executable, f"{HERE}/mutate.py", self.live])
        note(changed.out.strip())
        found["second"] = self.copal(repository, "backup", self.live).without(key)
        found["second added"] = bytes_below(repository) - after_unchanged
        if with_restic:
            found["restic second"] = self.restic("backup", self.live, sync=self.path("restic"))
            found["restic second added"] = bytes_below(self.path("restic")) - found["restic stored"]

        self.remove("restored.db")
        restored = self.copal(repository, "-v", "restore", self.live, "--to", self.path("restored.db"))
        found["checking"] = restored.phase("checking")
        found["restore"] = restored.without(key, found["checking"])
        if not same_rows(self.live, self.path("restored.db")):
            sys.exit("what Copal restored is not what was backed up")
        self.remove("restored.db", "restored.db-wal", "restored.db-shm")
        found["verify"] = self.copal(repository, "verify", self.live, "--backup", "latest").without(key)
        if with_restic:
            self.remove("out")
            target = self.path("out")
            found["restic restore"] = self.restic("restore", "latest", "--target", target, sync=target)
            self.remove("out", "restic")
        self.remove("copal", "state")
        return found

    def writer_latency(self, base):
        """p99 of a writer's commits in ms: alone, beside zstd, beside a first backup, and how many commits each."""
        samples = {"zstd": [], "copal": [], "alone": []}
        for _ in range(self.options.latency_rounds):
            self.fresh_live(base)
            repository, _ = self.fresh_copal()
            loads = {
                "alone": lambda: time.sleep(3),
                # From standard input: zstd refuses a file that grows while it reads.
                "zstd": lambda: self.run(["sh", "-c", 'exec zstd -q -f -3 -T2 -o "$1" <"$0"', self.live,
                                          self.path("out.zst")], sync=self.path("out.zst")),
                "copal": lambda: self.copal(repository, "backup", self.live)}
            for name, load in loads.items():
                log = self.path("latencies")
                self.remove("latencies")
                writer = subprocess.Popen([sys.executable, os.path.abspath(__file__), "--writer", self.live, log])
                try:
                    time.sleep(1)
                    began = time.monotonic()
                    load()
                    ended = time.monotonic()
                finally:
                    writer.send_signal(signal.SIGTERM)
                    writer.wait(30)
                with open(log, encoding="ascii") as file:
                    rows = [tuple(map(float, line.split())) for line in file if line.endswith("\n")]
                samples[name] += [latency * 1000 for at, latency in rows if began <= at <= ended]
            self.remove("copal", "state", "out.zst")
        return {name: (percentile(values, 0.99), len(values)) for name, values in samples.items()}

    def list_times(self, key, repository, environment=None):
        """(cold, cached): without any state folder, and again."""
        cold = []
        for _ in range(3):
            self.remove("state")
            cold.append(self.copal(repository, "list", environment=environment))
        cached = [self.copal(repository, "list", environment=environment) for _ in range(3)]
        return tuple(statistics.median(max(0.0, run.wall - key.wall) for run in runs) for runs in (cold, cached))

    @contextlib.contextmanager
    def s3_server(self, folder):
        """The environment that reaches a server whose buckets are the folders below `folder`, and its process id."""
        server = subprocess.Popen([self.example("s3_server"), folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  text=True)
        try:
            facts = json.loads(server.stdout.readline())
            yield {"AWS_ENDPOINT": facts["endpoint"], "AWS_ENDPOINT_URL": facts["endpoint"], "AWS_ALLOW_HTTP": "true",
                   "AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": facts["access_key"],
                   "AWS_SECRET_ACCESS_KEY": facts["secret_key"]}
        finally:
            server.stdin.close()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()

    def s3_first_backup(self, base, key):
        root = self.path("s3")
        runs = []
        for number in range(self.options.rounds):
            self.remove("s3", "state")
            os.makedirs(f"{root}/backups")
            self.fresh_live(base)
            with self.s3_server(root) as environment:
                url = f"s3://backups/{number}"
                self.copal(url, "init", "--encrypt", environment=environment)
                runs.append(self.copal(url, "backup", self.live, environment=environment).without(key))
        self.remove("s3", "state")
        return runs

    def many(self, key):
        """Cold and cached `list` of 10,000 backups, from a local folder and through S3; None where not measured."""
        if not self.example("many_backups"):
            return None, None
        root = self.path("s3")
        self.remove("s3", "state")
        os.makedirs(f"{root}/backups")
        folder = f"{root}/backups/many"
        note("making 10,000 backups")
        self.run([self.example("many_backups"), folder, "10000"])
        encrypted = os.path.isdir(f"{folder}/keys") and os.listdir(f"{folder}/keys")
        if not encrypted:
            self.environment.pop("COPAL_PASSPHRASE")
        key = key if encrypted else Run(0.0, 0.0, 0.0, "", "")
        local, remote = self.list_times(key, folder), None
        if self.example("s3_server"):
            with self.s3_server(root) as environment:
                remote = self.list_times(key, "s3://backups/many", environment)
        self.environment["COPAL_PASSPHRASE"] = PASSPHRASE
        self.remove("s3", "state")
        return local, remote


def note(text):
    print(text, file=sys.stderr, flush=True)


def files_below(path):
    if os.path.isfile(path):
        yield path
    for base, _, names in os.walk(path):
        yield from (os.path.join(base, name) for name in names)


def bytes_below(path):
    return sum(os.path.getsize(name) for name in files_below(path))


def sync_below(path):
    for name in files_below(path):
        descriptor = os.open(name, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def read_once(path):
    with open(path, "rb", buffering=0) as file:
        while file.read(8 * MIB):
            pass


def same_rows(one, other):
    """Equal bytes; failing that, equal rows: a header may differ where the live file has been checkpointed."""
    if os.path.getsize(one) == os.path.getsize(other) and filecmp.cmp(one, other, shallow=False):
        return True
    connection = sqlite3.connect(one)
    connection.execute("ATTACH ? AS other", (other,))
    tables = [row[0] for row in connection.execute("SELECT name FROM main.sqlite_schema WHERE type = 'table'")]
    try:
        differs = ('SELECT EXISTS (SELECT * FROM main."{0}" EXCEPT SELECT * FROM other."{0}")'
                   ' OR (SELECT count(*) FROM main."{0}") <> (SELECT count(*) FROM other."{0}")')
        return not any(connection.execute(differs.format(table)).fetchone()[0] for table in tables)
    finally:
        connection.close()


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] if values else float("nan")


def write_for_ever(path, log):
    """Small commits at a steady rate, as an application would make them; one line `when latency` each."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    connection = sqlite3.connect(path, isolation_level=None, timeout=60)
    connection.execute("CREATE TABLE IF NOT EXISTS bench_writer (id INTEGER PRIMARY KEY, at REAL, note TEXT)")
    with open(log, "w", encoding="ascii", buffering=1) as file:
        due = time.monotonic()
        while True:
            due = max(due + 1 / WRITES_PER_SECOND, time.monotonic() - 0.1)
            time.sleep(max(0.0, due - time.monotonic()))
            began = time.monotonic()
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO bench_writer (at, note) VALUES (?, ?)", (began, "x" * 100))
            connection.execute("COMMIT")
            file.write(f"{began:.6f} {time.monotonic() - began:.6f}\n")


class Table:
    """Rows of goals; a row that was not measured says why and does not pass."""

    def __init__(self):
        self.rows, self.missed, self.unmeasured = [], 0, 0

    def add(self, what, goal, value, limit, shown, comparison="", at_least=False):
        passed = value >= limit if at_least else value <= limit
        self.missed += not passed
        self.rows.append((what, goal, shown, "yes" if passed else "**no**", comparison))

    def skip(self, what, goal, reason):
        self.unmeasured += 1
        self.rows.append((what, goal, reason, "not measured", ""))

    def text(self, heads):
        lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
        return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in self.rows])


def medians(rounds):
    """The rounds' median of each figure; runs become runs of medians."""
    result = {}
    for name in rounds[0]:
        values = [found[name] for found in rounds]
        if isinstance(values[0], Run):
            result[name] = Run(*(statistics.median(getattr(run, field) for run in values) for field in ("wall", "cpu")),
                               max(run.rss for run in values), "", "")
        else:
            result[name] = statistics.median(values)
    return result


def fill(table, bench, figures, size, large):
    zstd, first, restic = figures["zstd"], figures["first"], figures["restic first"]

    def against(run, other, name):
        return run.wall / other.wall, f"{run.wall:.2f} s = {run.wall / other.wall:.2f} x {name}"

    table.add("first backup, wall", "<= 1.0 x zstd", *limit(against(first, zstd, "zstd"), 1.0),
              f"zstd {zstd.wall:.2f} s, restic {restic.wall:.2f} s ({restic.wall / zstd.wall:.1f} x)")
    ratio = figures["stored"] / figures["zstd stored"]
    table.add("stored", "<= 1.04 x zstd", ratio, 1.04, f"{figures['stored'] / MB:.1f} MB = {ratio:.3f} x",
              f"zstd {figures['zstd stored'] / MB:.1f} MB, restic {figures['restic stored'] / MB:.1f} MB")
    table.add("second backup, 1 % of pages changed: added", "<= 12 MB", figures["second added"] / MB, 12,
              f"{figures['second added'] / MB:.2f} MB", f"restic {figures['restic second added'] / MB:.0f} MB")
    table.add("the same, wall", "<= 0.35 x first", *limit(against(figures["second"], first, "first"), 0.35),
              f"restic {figures['restic second'].wall / restic.wall:.2f} x its first")
    table.add("unchanged second backup: added", "<= 200 kB", figures["unchanged added"] / 1000, 200,
              f"{figures['unchanged added'] / 1000:.1f} kB")
    table.add("the same, wall", "<= 0.25 x first", *limit(against(figures["unchanged"], first, "first"), 0.25))
    table.add("restore, wall, before the engine's own check", "<= 0.35 x restic",
              *limit(against(figures["restore"], figures["restic restore"], "restic"), 0.35),
              f"restic {figures['restic restore'].wall:.2f} s, of which key derivation "
              f"{figures['restic key'].wall:.2f} s; Copal's check {figures['checking']:.2f} s")
    rate = size / MB / max(figures["verify"].wall, 1e-9)
    table.add("verify, all content", ">= 600 MB/s", rate, 600, f"{rate:.0f} MB/s", at_least=True)
    for name in ("first", "second", "unchanged", "restore", "verify"):
        rss = figures[name].rss
        peer = {"first": "restic first", "second": "restic second", "restore": "restic restore"}.get(name)
        table.add(f"peak memory, {name}", "<= 150 MB", rss * MIB / MB, 150, f"{rss * MIB / MB:.0f} MB",
                  f"restic {figures[peer].rss * MIB / MB:.0f} MB" if peer else "")
        if large:
            more = large[name].rss / rss
            table.add(f"the same at {bench.options.large_size / (1 << 30):.0f} GiB", "<= 1.2 x", more, 1.2,
                      f"{large[name].rss * MIB / MB:.0f} MB = {more:.2f} x")
        else:
            table.skip("the same at 8 GiB", "<= 1.2 x", "needs --large")


def limit(pair, most):
    """(value, limit, text) from (value, text)."""
    return pair[0], most, pair[1]


def fill_slow(table, bench, figures, base):
    latency = bench.writer_latency(base)
    ratio = latency["copal"][0] / latency["zstd"][0]
    table.add("writer's p99 latency during a backup", "<= 1.2 x during zstd", ratio, 1.2,
              f"{latency['copal'][0]:.2f} ms = {ratio:.2f} x ({latency['copal'][1]} commits)",
              f"zstd {latency['zstd'][0]:.2f} ms ({latency['zstd'][1]}), alone {latency['alone'][0]:.2f} ms")
    local, remote = bench.many(figures["key"])
    rows = (("cached, local", "<= 0.5 s", 0.5, local and local[1]), ("cold, local", "<= 3 s", 3, local and local[0]),
            ("cold, S3 on loopback", "<= 15 s", 15, remote and remote[0]))
    for what, goal, most, seconds in rows:
        if seconds is None:
            table.skip(f"list of 10,000 backups, {what}", goal, "example not built")
        else:
            table.add(f"list of 10,000 backups, {what}", goal, seconds, most, f"{seconds:.2f} s")
    what, goal = "S3 on loopback: first backup, Copal's own CPU time", "<= 1.3 x local"
    if bench.example("s3_server"):
        cpu = statistics.median(run.cpu for run in bench.s3_first_backup(base, figures["key"]))
        ratio = cpu / figures["first"].cpu
        table.add(what, goal, ratio, 1.3, f"{cpu:.2f} s = {ratio:.2f} x", f"local {figures['first'].cpu:.2f} s")
    else:
        table.skip(what, goal, "example not built")


def raw_table(figures, size):
    lines = ["| command | wall s | CPU s | peak MB |", "| --- | ---: | ---: | ---: |"]
    for name, run in figures.items():
        if isinstance(run, Run):
            shown = {"zstd": "zstd -3 -T2", "cp": "cp", "key": "key derivation (copal key list)",
                     "restic key": "restic list keys"}.get(
                name, name if name.startswith("restic") else f"copal {name}")
            lines.append(f"| {shown} | {run.wall:.2f} | {run.cpu:.2f} | {run.rss * MIB / MB:.0f} |")
    return (f"Database: {size} bytes. Medians; peak memory is the highest of all rounds "
            "(less than 30 MB cannot be told apart).\n\n" + "\n".join(lines))


def conclude(table, text, output):
    """Prints the results, writes them where they are wanted, and counts the goals; the exit code."""
    print(text)
    if output:
        with open(output, "w", encoding="utf-8") as file:
            file.write(text)
    print(f"{len(table.rows) - table.missed - table.unmeasured} goals reached, {table.missed} missed, "
          f"{table.unmeasured} not measured")
    return 1 if table.missed else 0


def version(command):
    text = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout
    found = re.search(r"\d+\.\d+(\.\d+)?", text)
    return found[0] if found else "unknown"


def facts(bench):
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    return (f"{datetime.date.today().isoformat()}, {len(os.sched_getaffinity(0))} cores, {memory:.0f} GiB of memory, "
            f"Linux {os.uname().release.split('-')[0]}; copal {version([bench.binary, '--version'])}, "
            f"zstd {version(['zstd', '--version'])}, restic {version(['restic', 'version'])}, "
            f"SQLite {sqlite3.sqlite_version} (writer); {bench.options.rounds} rounds")


def install_peers():
    missing = [name for name in ("zstd", "restic") if not shutil.which(name)]
    if missing:
        if os.geteuid() or not shutil.which("apt-get"):
            sys.exit(f"missing: {' '.join(missing)}; install them first")
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing], check=True)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default=os.path.join(HERE, "..", "target", "release"), help="folder of the binaries")
    parser.add_argument("--work", default=os.path.join(HERE, "work"))
    parser.add_argument("--base", help="a file that generate.py made, instead of a new one")
    parser.add_argument("--size", type=parse_size, default=parse_size("1GiB"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--latency-rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="without latency, 10,000 backups and S3")
    parser.add_argument("--large", action="store_true", help="peak memory at 8 GiB too (40 GiB of disk)")
    parser.add_argument("--large-size", type=parse_size, default=parse_size("8GiB"))
    parser.add_argument("--timeout", type=int, default=1800, help="seconds that one command may take")
    parser.add_argument("--keep", action="store_true", help="the work folder")
    parser.add_argument("--output", help="a Markdown file to write, e.g. docs/benchmarks.md")
    return parser.parse_args()


def main():
    if sys.argv[1:2] == ["--writer"]:
        return write_for_ever(*sys.argv[2:4])
    options = arguments()
    bench = Bench(options)
    if not os.access(bench.binary, os.X_OK):
        sys.exit("no copal binary; run `make bench`, or give --bin")
    install_peers()
    os.makedirs(bench.work, exist_ok=True)
    try:
        base = bench.prepare_base("base.db", options.size)
        rounds = []
        for number in range(options.rounds):
            note(f"round {number + 1} of {options.rounds}")
            rounds.append(bench.one_round(base))
        figures, size, large = medians(rounds), os.path.getsize(base), None
        if options.large:
            large = medians([bench.one_round(bench.prepare_base("large.db", options.large_size), with_restic=False)])
            bench.remove("large.db")
        table = Table()
        fill(table, bench, figures, size, large)
        if not options.quick:
            fill_slow(table, bench, figures, base)
        text = "\n".join([
            "# Benchmarks", "", "Written by `make bench`.", "", facts(bench), "",
            table.text(("what", "goal", "measured", "reached", "peers")), "", raw_table(figures, size), ""])
        return conclude(table, text, options.output)
    finally:
        if not options.keep:
            shutil.rmtree(bench.work, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
