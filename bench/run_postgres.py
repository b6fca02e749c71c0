#!/usr/bin/env python3
"""Measures backups and restores of a PostgreSQL database beside pg_dump and pg_restore.

A server of its own holds the databases: pgbench's tables and as many bytes again of orders with text. It syncs what it
writes, and gets memory as a server of that size would. Peers and Copal alternate in every round; figures are medians,
less key derivation. A peer's time includes the syncing of the files that it wrote; before each restore the server has
nothing left to write. A process's peak memory is the highest of Copal and the programs that it runs.
"""

import argparse
import datetime
import os
import pwd
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

from run import HERE, MB, MIB, Bench, Table, bytes_below, conclude, limit, note, version

SCALE = 70  # of pgbench: 7 million accounts
ORDERS = 2_000_000
INTERVAL = 0.005  # between a client's attempts to use the database
WORDS = ("amber bark cedar drop earth fossil grain harvest insect juniper kernel light mantle needle ochre pine quartz "
         "resin sand trunk umber valley wood xylem yellow zircon ancient brittle clear dense early fluid").split()
FILL = """
CREATE TABLE orders (id bigint, customer text, email text, street text, note text, amount numeric(10, 2),
    created timestamptz);
INSERT INTO orders
SELECT i, initcap(w[1 + h % 32]) || ' ' || initcap(w[1 + h / 32 % 32]), w[1 + h % 32] || h % 100000 || '@example.com',
       1 + h % 200 || ' ' || initcap(w[1 + h / 1024 % 32]) || ' Street',
       concat_ws(' ', w[1 + h / 7 % 32], w[1 + h / 11 % 32], w[1 + h / 13 % 32], h, w[1 + h / 17 % 32],
                 w[1 + h / 19 % 32], w[1 + h / 23 % 32], w[1 + h / 29 % 32], md5(i::text)),
       (h % 1000000) / 100.0, timestamptz '2020-01-01' + i * interval '77 seconds'
FROM (SELECT i, hashint8(i)::bigint & 2147483647 AS h, '{WORDS}'::text[] AS w FROM generate_series(1, COUNT) i) AS s;
ALTER TABLE orders ADD PRIMARY KEY (id);
CREATE INDEX ON orders (email);
"""
SUMS = ("SELECT (SELECT count(*)::text || ' ' || sum(hashtextextended(t::text, 0)) FROM orders t) || ' ' || "
        "(SELECT count(*)::text || ' ' || sum(hashtextextended(t::text, 0)) FROM pgbench_accounts t)")


class Server:
    """A PostgreSQL with a folder of its own and a socket; any client on this machine may be anybody."""

    def __init__(self, bench, programs):
        self.bench, self.programs = bench, programs
        self.data, self.port = bench.path("postgres"), 5432
        # The path of a socket must be short.
        self.socket = tempfile.mkdtemp(prefix="copal-bench-")
        self.account = {}
        bench.remove("postgres")
        os.mkdir(self.data, 0o700)
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            self.account = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
            for folder in (self.data, self.socket):
                os.chown(folder, user.pw_uid, user.pw_gid)
            os.chmod(self.socket, 0o755)
        subprocess.run([f"{programs}/initdb", "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8",
                        "-D", self.data], check=True, stdout=subprocess.DEVNULL, cwd="/", **self.account)
        settings = {"listen_addresses": "", "unix_socket_directories": self.socket, "port": self.port,
                    "shared_buffers": "1GB", "maintenance_work_mem": "256MB", "max_wal_size": "8GB",
                    "checkpoint_timeout": "30min"}
        command = [f"{programs}/postgres", "-D", self.data]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        with open(bench.path("postgres.log"), "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/",
                                            start_new_session=True, **self.account)
        self.environment = {"PGHOST": self.socket, "PGPORT": str(self.port), "PGUSER": "postgres",
                            "PGDATABASE": "postgres"}
        until = time.monotonic() + 60
        while not usable(self.address(), "postgres", "SELECT 1"):
            if self.process.poll() is not None or time.monotonic() > until:
                self.stop()
                sys.exit(f"PostgreSQL does not start; see {bench.path('postgres.log')}")
            time.sleep(0.05)

    def address(self):
        return f"{self.socket}/.s.PGSQL.{self.port}"

    def url(self, database):
        return f"postgres://postgres@/{database}?host={urllib.parse.quote(self.socket, safe='')}&port={self.port}"

    def run(self, script, sync=None):
        """What this takes in a shell in which PostgreSQL's programs reach the server."""
        return self.bench.run(["sh", "-ec", script], sync=sync, environment=self.environment)

    def ask(self, database, sql):
        done = subprocess.run([f"{self.programs}/psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-d", database], input=sql,
                              check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, **self.environment})
        return done.stdout.strip()

    def drop(self, *databases):
        for database in databases:
            self.ask("postgres", f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')

    def make(self, database, factor):
        """A database of this share of the usual rows; its size."""
        self.ask("postgres", f'CREATE DATABASE "{database}"')
        self.run(f"pgbench -i -q -s {max(1, round(SCALE * factor))} {database}")
        self.ask(database, FILL.replace("WORDS", ",".join(WORDS)).replace("COUNT", str(max(1, round(ORDERS * factor)))))
        self.ask(database, "VACUUM ANALYZE")
        self.settle()
        return int(self.ask(database, "SELECT pg_database_size(current_database())"))

    def settle(self):
        """Nothing is left to write."""
        self.ask("postgres", "CHECKPOINT")

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)  # the fast way
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.send_signal(signal.SIGQUIT)
                self.process.wait(60)
        shutil.rmtree(self.socket, ignore_errors=True)


def usable(address, database, sql):
    """Whether a new session can be had and answers, as a client without any retries sees it."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(30)
            connection.connect(address)
            start = struct.pack("!i", 196608) + f"user\0postgres\0database\0{database}\0\0".encode()
            connection.sendall(struct.pack("!i", len(start) + 4) + start)
            query = sql.encode() + b"\0"
            if not answered(connection):
                return False
            connection.sendall(b"Q" + struct.pack("!i", len(query) + 4) + query)
            good = answered(connection)
            connection.sendall(b"X" + struct.pack("!i", 4))
            return good
    except OSError:
        return False


def answered(connection):
    """Whether messages come until the server is ready for the next query, and none of them is an error."""
    good, buffer = True, b""
    while True:
        while len(buffer) >= 5 and len(buffer) > struct.unpack("!i", buffer[1:5])[0]:
            kind, length = buffer[:1], struct.unpack("!i", buffer[1:5])[0]
            buffer = buffer[length + 1:]
            good = good and kind != b"E"
            if kind == b"Z":
                return good
        got = connection.recv(65536)
        if not got:
            return False
        buffer += got


class Client(threading.Thread):
    """Connects and selects over and over; knows the longest time without success, and how often it failed."""

    def __init__(self, server, database):
        super().__init__(daemon=True)
        self.target = (server.address(), database, "SELECT count(*) FROM pgbench_tellers")
        self.over, self.longest, self.successes, self.failures = threading.Event(), 0.0, 0, 0

    def run(self):
        # From the last success to the end of the next: what a user waits at most.
        last = time.monotonic()
        while not self.over.wait(INTERVAL):
            if usable(*self.target):
                self.successes += 1
                self.longest = max(self.longest, time.monotonic() - last)
                last = time.monotonic()
            else:
                self.failures += 1
        self.longest = max(self.longest, time.monotonic() - last)

    def stop(self):
        self.over.set()
        self.join()
        if self.successes < 2:
            sys.exit("the client never got through")
        return self.longest


def one_round(bench, server, found):
    out = bench.path("out")
    bench.remove("out")
    found["pg_dump -Z0, zstd"].append(server.run(f"pg_dump -Fc -Z0 source | zstd -q -3 -T2 -o '{out}'", sync=out))
    found["zstd stored"].append(os.path.getsize(out))
    bench.remove("out")
    repository, key = bench.fresh_copal()
    before = bytes_below(repository)
    found["backup"].append(bench.copal(repository, "backup", server.url("source")).without(key))
    first = bytes_below(repository)
    found["stored"].append(first - before)
    found["pg_dump, gzip"].append(server.run(f"pg_dump -Fc -f '{out}' source && gzip '{out}'", sync=f"{out}.gz"))
    bench.remove("out.gz")
    found["pg_dump -Z0 alone"].append(server.run("pg_dump -Fc -Z0 source >/dev/null"))
    found["backup, unchanged"].append(bench.copal(repository, "backup", server.url("source")).without(key))
    found["added"].append(bytes_below(repository) - first)

    server.run(f"pg_dump -Fc -Z0 -f '{out}' source", sync=out)
    server.settle()
    found["pg_restore -j2"].append(server.run(f"createdb -T template0 peer && pg_restore -j2 -d peer '{out}'"))
    bench.remove("out")
    server.drop("peer")
    server.settle()
    restored = bench.copal(repository, "-v", "restore", server.url("source"), "--to", server.url("restored"))
    found["checking"].append(restored.phase("checking"))
    found["restore"].append(restored.without(key))
    if server.ask("restored", SUMS) != server.ask("source", SUMS):
        sys.exit("what was restored is not what was backed up")
    server.settle()
    replace(bench, server, repository, "source", "restored", found["gap"], found["restore --replace"], key)
    server.drop("restored")
    if server.ask("postgres", "SELECT count(*) FROM pg_database WHERE NOT datistemplate") != "3":
        sys.exit("databases were left: " + server.ask("postgres", "SELECT string_agg(datname, ', ') FROM pg_database"))

    repository, key = bench.fresh_copal()
    bench.copal(repository, "backup", server.url("small"))
    server.ask("postgres", "CREATE DATABASE restored TEMPLATE small")
    server.settle()
    replace(bench, server, repository, "small", "restored", found["gap, small"], [], key)
    server.drop("restored")


def replace(bench, server, repository, source, target, gaps, runs, key):
    """Restores over a database that is in use."""
    identity = f"SELECT oid FROM pg_database WHERE datname = '{target}'"
    before, client = server.ask("postgres", identity), Client(server, target)
    client.start()
    try:
        time.sleep(0.2)
        runs.append(bench.copal(repository, "restore", server.url(source), "--to", server.url(target), "--replace")
                    .without(key))
        time.sleep(0.2)
    finally:
        gaps.append(client.stop())
    if server.ask("postgres", identity) == before:
        sys.exit("the database was not replaced")


def memory_of_more(bench, server, factor):
    """Runs with so many times the rows: a backup, an unchanged one and a restore."""
    note(f"making a database with {factor:g} x the rows")
    server.drop("source", "small")
    size = server.make("more", factor)
    repository, _ = bench.fresh_copal()
    runs = {"backup": bench.copal(repository, "backup", server.url("more")),
            "backup, unchanged": bench.copal(repository, "backup", server.url("more")),
            "restore": bench.copal(repository, "restore", server.url("more"), "--to", server.url("restored"))}
    server.drop("more", "restored")
    return size, runs


def report(found, size, small, more, options):
    def wall(name):
        return statistics.median(run.wall for run in found[name])

    def against(name, peer):
        return wall(name) / wall(peer), f"{wall(name):.2f} s = {wall(name) / wall(peer):.2f} x"

    table = Table()
    table.add("backup, encrypted, local", "<= 1.15 x `pg_dump -Fc -Z0 \\| zstd -3 -T2`",
              *limit(against("backup", "pg_dump -Z0, zstd"), 1.15), f"{wall('pg_dump -Z0, zstd'):.2f} s")
    faster = wall("pg_dump, gzip") / wall("backup")
    table.add("the same", ">= 2.5 x faster than `pg_dump -Fc` then gzip", faster, 2.5, f"{faster:.2f} x faster",
              f"{wall('pg_dump, gzip'):.2f} s", at_least=True)
    added, stored = statistics.median(found["added"]), statistics.median(found["stored"])
    table.add("again, unchanged: added", "<= 1 % of the first", added / stored, 0.01,
              f"{added / MB:.2f} MB = {added / stored * 100:.2f} %")
    table.add("the same, wall", "<= 1.1 x `pg_dump -Fc -Z0 >/dev/null`",
              *limit(against("backup, unchanged", "pg_dump -Z0 alone"), 1.1), f"{wall('pg_dump -Z0 alone'):.2f} s")
    table.add("restore into a fresh database", "<= 1.1 x `pg_restore -j2`",
              *limit(against("restore", "pg_restore -j2"), 1.1), f"{wall('pg_restore -j2'):.2f} s")
    for name, bytes_ in (("gap", size), ("gap, small", small)):
        gap = max(found[name])
        table.add(f"`restore --replace`: longest time without the database ({bytes_ / MB:.0f} MB)", "<= 1 s", gap, 1,
                  f"{gap:.3f} s (median {statistics.median(found[name]):.3f} s)")
    for name in ("backup", "backup, unchanged", "restore"):
        rss = max(run.rss for run in found[name]) * MIB / MB
        table.add(f"peak memory, {name}", "<= 150 MB", rss, 150, f"{rss:.0f} MB")
        if more:
            larger = more[1][name].rss * MIB / MB
            table.add(f"the same at {options.rows:g} x the rows", "<= 1.2 x", larger / rss, 1.2,
                      f"{larger:.0f} MB = {larger / rss:.2f} x")
        else:
            table.skip("the same at 10 x the rows", "<= 1.2 x", "needs --rows 10")
    lines = [table.text(("what", "goal", "measured", "reached", "peers")), "",
             f"Database: {size} bytes" + (f", and one of {more[0]} bytes" if more else "")
             + f". Stored by the first backup: {stored / MB:.1f} MB (zstd: "
             f"{statistics.median(found['zstd stored']) / MB:.1f} MB). Of a restore, Copal's own check takes "
             f"{statistics.median(found['checking']):.2f} s.", "",
             "| command | wall s | CPU s of the client's side | peak MB |", "| --- | ---: | ---: | ---: |"]
    for name, runs in found.items():
        if hasattr(runs[0], "cpu"):
            cpu, rss = statistics.median(run.cpu for run in runs), max(run.rss for run in runs) * MIB / MB
            lines.append(f"| {name} | {wall(name):.2f} | {cpu:.2f} | {rss:.0f} |")
    return table, "\n".join(lines)


def newest(programs="/usr/lib/postgresql"):
    """The folder of the newest packaged PostgreSQL's programs, which include pgbench."""
    majors = [name for name in os.listdir(programs) if os.access(f"{programs}/{name}/bin/pgbench", os.X_OK)] \
        if os.path.isdir(programs) else []
    return f"{programs}/{max(majors, key=float)}/bin" if majors else None


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default=os.path.join(HERE, "..", "target", "release"), help="folder of the binaries")
    parser.add_argument("--work", default=os.path.join(HERE, "work"), help="on the disk to measure; needs 10 GB")
    parser.add_argument("--programs", default=newest(), help="folder of PostgreSQL's programs, pgbench included")
    parser.add_argument("--size", type=float, default=1, help="share of the usual rows; 1 is 1.5 GB")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=float, default=0, metavar="FACTOR",
                        help="peak memory with so many times the rows, too (10: 45 GB of disk)")
    parser.add_argument("--timeout", type=int, default=3600, help="seconds that one command may take")
    parser.add_argument("--output", help="a Markdown file to write")
    return parser.parse_args()


def main():
    options = arguments()
    if not options.programs:
        sys.exit("no PostgreSQL with pgbench; run tools/prepare.sh, or give --programs")
    for program in ("zstd", "gzip"):
        if not shutil.which(program):
            sys.exit(f"missing: {program}; install it first")
    bench = Bench(options)
    bench.environment["PATH"] = f"{options.programs}:{bench.environment['PATH']}"
    os.makedirs(bench.work, exist_ok=True)
    server, more = Server(bench, options.programs), None
    found = {name: [] for name in (
        "pg_dump -Z0, zstd", "backup", "pg_dump, gzip", "pg_dump -Z0 alone", "backup, unchanged", "pg_restore -j2",
        "restore", "restore --replace", "zstd stored", "stored", "added", "checking", "gap", "gap, small")}
    try:
        note("making the databases")
        size, small = server.make("source", options.size), server.make("small", options.size / 10)
        for number in range(options.rounds):
            note(f"round {number + 1} of {options.rounds}")
            one_round(bench, server, found)
        if options.rows:
            more = memory_of_more(bench, server, options.rows * options.size)
        table, text = report(found, size, small, more, options)
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
        text = (f"{datetime.date.today().isoformat()}, {len(os.sched_getaffinity(0))} cores, {memory:.0f} GiB of memory; "
                f"copal {version([bench.binary, '--version'])}, "
                f"PostgreSQL {version([f'{options.programs}/postgres', '--version'])}, "
                f"zstd {version(['zstd', '--version'])}; {options.rounds} rounds\n\n{text}\n")
        return conclude(table, text, options.output)
    finally:
        server.stop()
        shutil.rmtree(bench.work, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
