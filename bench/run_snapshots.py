#!/usr/bin/env python3
"""Measures snapshots beside Stellar and DSLR, CREATE DATABASE … TEMPLATE, cp and mysqldump.

Peers and Copal alternate in every round; figures are medians. Before each measurement nothing is left to write, and memory
was touched that a virtual machine's host may have taken back. For PostgreSQL, a CHECKPOINT at the end counts for Copal and
peers alike, since WAL_LOG, the strategy that the peers get, leaves the files to the next one; the time until the command
returns is shown as well. Copies of files are synced for both. After every rewind the content is compared.

The peers come from PyPI, each into a virtual environment of its own in the work folder. Clones need an XFS, which only
root can mount; without root that part says so and is not measured.
"""

import argparse
import contextlib
import datetime
import json
import os
import shutil
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import time
from urllib.parse import quote

from generate import parse_size
from run import HERE, MB, Bench, Table, conclude, limit, note, same_rows, version
from run_postgres import SUMS, Server, newest, usable

PEERS = {"stellar": ["stellar", "SQLAlchemy<1.4", "SQLAlchemy-Utils<0.38", "psycopg2-binary"],
         "dslr": ["dslr", "psycopg2-binary"]}
CHANGE = ("UPDATE orders SET amount = -amount WHERE id <= 20000; DELETE FROM pgbench_accounts WHERE aid <= 20000; "
          "DROP TABLE pgbench_history;")
WARM = 3_500_000_000  # bytes of memory: a copy and what is written to the log for it
MANY = 500
PATIENCE = 120  # seconds for making so many snapshots of one kind
PARTS = ("postgres", "reflink", "sqlite", "many", "mariadb")
SHOP = """
CREATE TABLE customers (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(80), email VARCHAR(80), note TEXT, KEY (email));
INSERT INTO customers SELECT seq, md5(seq), concat(md5(seq + 1), '@example.com'), repeat(md5(seq + 2), 6)
    FROM seq_1_to_{customers};
CREATE TABLE orders (id INT PRIMARY KEY AUTO_INCREMENT, customer INT, amount DECIMAL(10, 2), created DATETIME, note TEXT,
    KEY (customer), FOREIGN KEY (customer) REFERENCES customers (id));
INSERT INTO orders SELECT seq, 1 + seq % {customers}, seq % 1000 / 7, '2020-01-01' + INTERVAL seq SECOND,
    concat(md5(seq), md5(seq + 3), md5(seq + 5)) FROM seq_1_to_{orders};
CREATE VIEW large AS SELECT * FROM orders WHERE amount > 100;
"""


class Found(dict):
    """Lists of figures by name."""

    def add(self, name, value):
        note(f"  {name}: {value:.3f}" if isinstance(value, float) else f"  {name}: {value}")
        self.setdefault(name, []).append(value)

    def median(self, name):
        return statistics.median(self[name])


class Place(Server):
    """A PostgreSQL that also listens on 127.0.0.1, as Stellar and DSLR need it, and tells how long statements take."""

    def __init__(self, bench, programs):
        super().__init__(bench, programs)
        self.restart_with(listen_addresses="127.0.0.1", port=free_port(), log_min_duration_statement=0)

    def restart_with(self, **settings):
        command = list(self.process.args)
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        self.port = settings["port"]
        self.environment["PGPORT"] = str(self.port)
        with open(self.bench.path("postgres.log"), "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/",
                                            start_new_session=True, **self.account)
        until = time.monotonic() + 60
        while not usable(self.address(), "postgres", "SELECT 1"):
            if self.process.poll() is not None or time.monotonic() > until:
                self.stop()
                sys.exit(f"PostgreSQL does not start again; see {self.bench.path('postgres.log')}")
            time.sleep(0.05)

    def tcp(self, database):
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def bytes(self):
        return int(self.ask("postgres", "SELECT sum(pg_database_size(oid)) FROM pg_database"))

    def measured(self, found, name, command, frozen=False):
        """Runs a command with nothing left to write before it, and a CHECKPOINT after it; `frozen` stops meanwhile what
        the command has left running behind, to whose credit this is."""
        self.settle()
        os.sync()
        warm(self.bench.options)
        run = self.bench.run(["setsid", "sh", "-c", 'echo $$ >session; exec "$0" "$@"', *command])
        with open(self.bench.path("session"), encoding="ascii") as file:
            session = int(file.read())
        if frozen:
            send(session, signal.SIGSTOP)
        began = time.monotonic()
        self.settle()
        synced = time.monotonic() - began
        if frozen:
            send(session, signal.SIGCONT)
        found.add(name, run.wall)
        found.add(f"{name}, synced", run.wall + synced)
        began = time.monotonic()
        while frozen and running(session):
            time.sleep(0.01)
        if frozen:
            found.add(f"{name}, second copy", run.wall + time.monotonic() - began)
        return run


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def send(session, which):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(session, which)


def warm(options):
    """Touches memory and gives it back: a virtual machine's host may have taken what was free, and whoever gets it first
    would pay for that with the time of a copy."""
    if not options.cold:
        size = str(round(WARM * options.share))
        subprocess.run([sys.executable, "-c", "import sys; bytearray(b'1') * int(sys.argv[1])", size], check=True)


def running(session):
    """Whether a process of this session lives."""
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                fields = file.read().rsplit(") ", 1)[1].split()
            if int(fields[3]) == session and fields[0] not in "ZX":
                return True
    return False


def install_peers(bench):
    for name, packages in PEERS.items():
        if not os.access(bench.path(name, "bin", name), os.X_OK):
            note(f"installing {name}")
            subprocess.run([sys.executable, "-m", "venv", bench.path(name)], check=True)
            subprocess.run([bench.path(name, "bin", "pip"), "install", "-q", "--disable-pip-version-check", *packages],
                           check=True)


def snapshots(bench, url):
    run = bench.run([bench.binary, "snaps", "--json", "-d", url])
    return run, json.loads(run.out)["results"]


def postgres(bench, found):
    """Beside Stellar and DSLR on the disk of the work folder; the database's size."""
    server = Place(bench, bench.options.programs)
    try:
        note("PostgreSQL: making the database")
        size = server.make("source", bench.options.share)
        server.ask("postgres", "CREATE DATABASE stellar_data")
        with open(bench.path("stellar.yaml"), "w", encoding="utf-8") as file:
            file.write(f"project_name: bench\ntracked_databases: [source]\nurl: {server.tcp('postgres')}\n"
                       f"stellar_url: {server.tcp('stellar_data')}\n")
        sums = server.ask("source", SUMS)
        for number in range(bench.options.rounds):
            note(f"PostgreSQL: round {number + 1} of {bench.options.rounds}")
            # Stellar
            stellar, before = bench.path("stellar", "bin", "stellar"), server.bytes()
            server.measured(found, "stellar snapshot", [stellar, "snapshot", "one"], frozen=True)
            found.add("stellar disk", server.bytes() - before)
            server.ask("source", CHANGE)
            server.measured(found, "stellar restore", [stellar, "restore", "one"], frozen=True)
            same(server, sums, "Stellar")
            bench.run([stellar, "remove", "one"])
            # DSLR
            dslr, before = [bench.path("dslr", "bin", "dslr"), "--url", server.tcp("source")], server.bytes()
            server.measured(found, "dslr snapshot", [*dslr, "snapshot", "one"])
            found.add("dslr disk", server.bytes() - before)
            server.ask("source", CHANGE)
            server.measured(found, "dslr restore", [*dslr, "restore", "one"])
            same(server, sums, "DSLR")
            bench.run([*dslr, "delete", "one"])
            copal_round(bench, server, found, sums)
            # The statement alone
            for strategy in ("wal_log", "file_copy"):
                statement = f"CREATE DATABASE peer TEMPLATE source STRATEGY {strategy}"
                psql = [f"{bench.options.programs}/psql", "-Xqd", server.tcp("postgres"), "-c", statement]
                server.measured(found, f"template {strategy}", psql)
                server.drop("peer")
        return size
    finally:
        server.stop()
        bench.remove("postgres")


def copal_round(bench, server, found, sums):
    """Snap, rewind without a spare copy, snap with one, rewind with it."""
    url, before = server.url("source"), server.bytes()
    server.measured(found, "snap", [bench.binary, "snap", "one", "-d", url])
    found.add("disk", server.bytes() - before)
    rewind(bench, server, found, "rewind", sums)
    bench.run([bench.binary, "snaps", "remove", "one", "-d", url])
    began, before = time.monotonic(), server.bytes()
    server.measured(found, "snap --spare", [bench.binary, "snap", "one", "-d", url, "--spare"])
    wait_for_spare(bench, url)
    found.add("snap --spare, second copy", time.monotonic() - began)
    found.add("spare disk", server.bytes() - before)
    rewind(bench, server, found, "rewind with a spare", sums, spare=True)
    bench.run([bench.binary, "snaps", "remove", "one", "-d", url])


def rewind(bench, server, found, name, sums, spare=False):
    """A rewind, once the spare copy is ready or without any; the server makes it, and drops databases, behind."""
    url = server.url("source")
    if spare:
        wait_for_spare(bench, url)
    if has_spare(bench, url) != spare:
        sys.exit("there is a spare copy that nobody wanted")
    server.ask("source", CHANGE)
    server.measured(found, name, [bench.binary, "rewind", "one", "-d", url])
    same(server, sums, "Copal")


def wait_for_spare(bench, url):
    until = time.monotonic() + bench.options.timeout
    while not has_spare(bench, url):
        if time.monotonic() > until:
            sys.exit("there never was a spare copy")
        time.sleep(0.05)


def has_spare(bench, url):
    return snapshots(bench, url)[1][0]["databases"][0]["spare"]


def same(server, sums, who):
    if server.ask("source", SUMS) != sums:
        sys.exit(f"{who} did not put back what was there")


@contextlib.contextmanager
def xfs(bench, gigabytes):
    """A Bench that works in a fresh XFS that clones, which is gone afterwards."""
    image, mount = bench.path("xfs.img"), bench.path("xfs")
    bench.remove("xfs.img")
    os.makedirs(mount, exist_ok=True)
    subprocess.run(["truncate", "-s", f"{gigabytes}G", image], check=True)
    try:
        subprocess.run(["mkfs.xfs", "-q", "-m", "reflink=1", image], check=True)
        subprocess.run(["mount", "-o", "loop", image, mount], check=True)
        try:
            inner = Bench(argparse.Namespace(**{**vars(bench.options), "work": mount}))
            inner.environment["PATH"] = bench.environment["PATH"]
            yield inner
        finally:
            # Somebody may still look at it.
            for _ in range(20):
                if subprocess.run(["umount", mount]).returncode == 0:
                    break
                time.sleep(0.5)
    finally:
        if not os.path.ismount(mount):
            bench.remove("xfs", "xfs.img")


def used(folder):
    """Bytes taken on the folder's file system."""
    os.sync()
    found = os.statvfs(folder)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


def reflink(bench, found):
    """PostgreSQL 18 on the XFS of this Bench; the database's size."""
    bench.environment["PATH"] = f"{bench.options.programs18}:{os.environ['PATH']}"
    server = Place(bench, bench.options.programs18)
    try:
        note("PostgreSQL 18 on XFS: making the database")
        size = server.make("source", bench.options.share)
        sums, url = server.ask("source", SUMS), server.url("source")
        for number in range(bench.options.rounds):
            note(f"PostgreSQL 18 on XFS: round {number + 1} of {bench.options.rounds}")
            server.settle()
            before = used(bench.work)
            server.measured(found, "clone snap", [bench.binary, "snap", "one", "-d", url])
            found.add("clone space", used(bench.work) - before)
            # The first rewind clones the snapshot and then leaves a spare copy, which the second takes.
            rewind(bench, server, found, "clone rewind", sums)
            rewind(bench, server, found, "clone rewind with a spare", sums, spare=True)
            bench.run([bench.binary, "snaps", "remove", "one", "-d", url])
        if "many" in bench.options.parts:
            note(f"PostgreSQL 18 on XFS: making {MANY} snapshots")
            server.ask("postgres", "CREATE DATABASE tiny")
            # Only so that they are made sooner.
            server.ask("postgres", "ALTER SYSTEM SET fsync = off")
            server.ask("postgres", "SELECT pg_reload_conf()")
            many(bench, found, "postgres", server.url("tiny"))
        return size
    finally:
        server.stop()


def sqlite_clones(bench, found, base):
    """Snap and rewind on the XFS of this Bench."""
    bench.fresh_live(base)
    for number in range(bench.options.rounds):
        note(f"SQLite on XFS: round {number + 1} of {bench.options.rounds}")
        before = used(bench.work)
        found.add("sqlite clone snap", bench.run([bench.binary, "snap", "one", "-d", bench.live]).wall)
        found.add("sqlite clone space", used(bench.work) - before)
        connection = sqlite3.connect(bench.live)
        connection.execute("DELETE FROM orders WHERE id <= 5000")
        connection.commit()
        connection.close()
        found.add("sqlite clone rewind", bench.run([bench.binary, "rewind", "one", "-d", bench.live]).wall)
        if not same_rows(base, bench.live):
            sys.exit("what Copal put back is not what was there")
        bench.run([bench.binary, "snaps", "remove", "one", "-d", bench.live])


def sqlite_under_writes(bench, found, base):
    """Snap beside cp of the same file, while a writer commits 200 times a second."""
    bench.fresh_live(base)
    folder, copy, log = bench.path(".copal"), bench.path("copy.db"), bench.path("latencies")
    for number in range(bench.options.rounds + 2):
        note(f"SQLite under writes: round {number + 1} of {bench.options.rounds + 2}")
        turns = {"cp": lambda: bench.run(["cp", bench.live, copy], sync=copy),
                 "snap": lambda: bench.run([bench.binary, "-v", "snap", "one", "-d", bench.live], sync=folder)}
        # Whoever comes first finds other dirty pages.
        for name in sorted(turns, reverse=number % 2 == 0):
            writer = subprocess.Popen([sys.executable, f"{HERE}/run.py", "--writer", bench.live, log])
            try:
                time.sleep(1)
                warm(bench.options)
                found.add(f"sqlite {name}", turns[name]().wall)
            finally:
                writer.send_signal(signal.SIGTERM)
                writer.wait(30)
            if name == "snap":
                if number == 0:
                    check_snapshot(folder)
                bench.run([bench.binary, "snaps", "remove", "one", "-d", bench.live])
            bench.remove("copy.db")
    bench.remove(".copal", "live.db", "live.db-wal", "live.db-shm")


def check_snapshot(folder):
    """The snapshot is a sound database and has the writer's rows without a gap."""
    files = [os.path.join(base, name) for base, _, names in os.walk(folder) for name in names]
    largest = max(files, key=os.path.getsize)
    connection = sqlite3.connect(f"file:{quote(largest)}?mode=ro", uri=True)
    sound = connection.execute("PRAGMA quick_check").fetchone()[0]
    rows = connection.execute("SELECT count(*), max(id) FROM bench_writer").fetchone()
    connection.close()
    if sound != "ok" or rows[0] != rows[1]:
        sys.exit(f"the snapshot is not sound: {sound}, {rows}")


def many(bench, found, kind, url):
    """Takes so many snapshots, as far as there is time, and lists them."""
    began = time.monotonic()
    for number in range(MANY):
        done = subprocess.run([bench.binary, "-q", "snap", f"number {number}", "-d", url], cwd=bench.work,
                              env=bench.environment, capture_output=True, text=True)
        # No two of a database are of one second, so that they get ahead of the clock, which is a warning.
        if done.returncode not in (0, 3):
            sys.exit(f"snapshot {number}: {done.stderr}")
        if time.monotonic() - began > PATIENCE:
            break
    runs = [bench.run([bench.binary, "snaps", "-d", url]) for _ in range(5)]
    count = len(snapshots(bench, url)[1])
    if count != number + 1:
        sys.exit(f"{count} snapshots of {number + 1} are listed")
    found.add(f"many {kind}", statistics.median(run.wall for run in runs))
    found.add(f"many {kind} count", count)


def many_files(bench, found):
    note(f"SQLite: making {MANY} snapshots")
    bench.remove("many")
    os.makedirs(bench.path("many"))
    path = bench.path("many", "small.db")
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, body TEXT)")
    connection.executemany("INSERT INTO t (body) VALUES (?)", [(f"row {row}",) for row in range(200)])
    connection.commit()
    connection.close()
    many(bench, found, "sqlite", path)
    bench.remove("many")


def mariadb(bench, found):
    """Snap and rewind of a schema beside mysqldump; its size."""
    folder = bench.path("mariadb")
    bench.remove("mariadb")
    os.makedirs(folder)
    owner = []
    if os.geteuid() == 0:
        shutil.chown(folder, "mysql", "mysql")
        owner = ["--user=mysql"]
    at = f"{folder}/socket"
    subprocess.run(["mariadb-install-db", "--no-defaults", *owner, f"--datadir={folder}/data",
                    "--auth-root-authentication-method=normal", "--skip-test-db"], check=True, stdout=subprocess.DEVNULL)
    with open(bench.path("mariadb.log"), "wb") as log:
        server = subprocess.Popen(
            ["mariadbd", "--no-defaults", *owner, f"--datadir={folder}/data", f"--socket={at}", f"--pid-file={folder}/pid",
             "--skip-networking", "--innodb-buffer-pool-size=1G", "--innodb-log-file-size=1G"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    client = ["mariadb", "--no-defaults", "--user=root", f"--socket={at}", "--batch", "--skip-column-names"]

    def ask(sql, database=""):
        return subprocess.run([*client, database] if database else client, input=sql, check=True, stdout=subprocess.PIPE,
                              text=True).stdout.strip()

    try:
        until = time.monotonic() + 60
        while subprocess.run([*client, "-e", "SELECT 1"], capture_output=True).returncode:
            if server.poll() is not None or time.monotonic() > until:
                sys.exit(f"MariaDB does not start; see {bench.path('mariadb.log')}")
            time.sleep(0.1)
        note("MariaDB: making the database")
        rows = round(900_000 * bench.options.share)
        ask("CREATE DATABASE shop")
        ask(SHOP.format(customers=rows, orders=rows), "shop")
        ask("ANALYZE TABLE customers, orders", "shop")
        size = int(ask("SELECT sum(data_length + index_length) FROM information_schema.tables WHERE table_schema = 'shop'"))
        sums, url = ask("CHECKSUM TABLE customers, orders", "shop"), f"mysql://root@/shop?socket={quote(at, safe='')}"
        dump = f"mariadb-dump --no-defaults --user=root --socket='{at}' --routines --triggers --events --single-transaction"
        into = f"mariadb --no-defaults --user=root --socket='{at}'"
        for number in range(bench.options.rounds):
            note(f"MariaDB: round {number + 1} of {bench.options.rounds}")
            ask("CREATE DATABASE peer")
            found.add("mysqldump", bench.run(["sh", "-ec", f"{dump} shop | {into} peer"]).wall)
            ask("DROP DATABASE peer")
            found.add("mariadb snap", bench.run([bench.binary, "-v", "snap", "one", "-d", url]).wall)
            ask("UPDATE orders SET amount = 0 WHERE id < 1000; DROP VIEW large;", "shop")
            found.add("mariadb rewind", bench.run([bench.binary, "rewind", "one", "-d", url]).wall)
            if ask("CHECKSUM TABLE customers, orders", "shop") != sums or not ask("SHOW TABLES LIKE 'large'", "shop"):
                sys.exit("what Copal put back into MariaDB is not what was there")
            bench.run([bench.binary, "snaps", "remove", "one", "-d", url])
        return size
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)
        bench.remove("mariadb")


def report(found, sizes):
    table = Table()

    def against(name, peer):
        value, other = found.median(name), found.median(peer)
        return value / other, f"{value:.2f} s = {value / other:.2f} x"

    def seconds(name):
        return found.median(name), f"{found.median(name):.3f} s"

    def row(name, what, goal, figures):
        """The row of what was measured; else why not."""
        if name in found:
            table.add(what, goal, *figures())
        else:
            table.skip(what, goal, "left out")

    row("snap", "snap", "<= 0.85 x Stellar", lambda: (
        *limit(against("snap, synced", "stellar snapshot, synced"), 0.85),
        f"Stellar {found.median('stellar snapshot, synced'):.2f} s, its second copy ready after "
        f"{found.median('stellar snapshot, second copy'):.2f} s"))
    row("snap", "the same", "<= 0.5 x DSLR", lambda: (
        *limit(against("snap, synced", "dslr snapshot, synced"), 0.5), f"DSLR {found.median('dslr snapshot, synced'):.2f} s"))
    row("snap", "disk taken", "half of Stellar's", lambda: (
        found.median("disk") / found.median("stellar disk"), 0.505,
        f"{found.median('disk') / MB:.0f} MB = {found.median('disk') / found.median('stellar disk'):.2f} x",
        f"Stellar {found.median('stellar disk') / MB:.0f} MB, DSLR {found.median('dslr disk') / MB:.0f} MB"))
    row("snap", "rewind with a spare copy", "<= 0.25 s", lambda: (
        *limit(seconds("rewind with a spare"), 0.25), f"Stellar {found.median('stellar restore'):.2f} s"))
    row("snap", "rewind without", "<= 0.6 x DSLR", lambda: (
        *limit(against("rewind, synced", "dslr restore, synced"), 0.6), f"DSLR {found.median('dslr restore, synced'):.2f} s"))
    row("clone snap", "PostgreSQL 18, XFS: snap", "<= 1.5 s", lambda: limit(seconds("clone snap"), 1.5))
    row("clone snap", "PostgreSQL 18, XFS: rewind", "<= 0.5 s", lambda: (
        *limit(seconds("clone rewind"), 0.5),
        f"{found.median('clone rewind with a spare'):.3f} s the next time, with the spare copy"))
    row("clone snap", "PostgreSQL 18, XFS: space used", "none (<= 1 %)", lambda: (
        found.median("clone space") / sizes["reflink"], 0.01, f"{found.median('clone space') / MB:.1f} MB"))
    row("sqlite clone snap", "SQLite, XFS: snap", "<= 50 ms", lambda: (
        *limit(seconds("sqlite clone snap"), 0.05), f"{found.median('sqlite clone space') / MB:.1f} MB of space"))
    row("sqlite clone snap", "SQLite, XFS: rewind", "<= 50 ms", lambda: limit(seconds("sqlite clone rewind"), 0.05))
    row("sqlite snap", "SQLite, ext4, under writes: snap", "<= 1.2 x `cp`", lambda: (
        *limit(against("sqlite snap", "sqlite cp"), 1.2), f"cp {found.median('sqlite cp'):.2f} s"))
    for kind, what in (("sqlite", "SQLite"), ("postgres", "PostgreSQL 18, XFS")):
        name, told = f"many {kind}", f"`snaps` with {MANY} snapshots, {what}"
        if name in found and found.median(f"{name} count") < MANY:
            table.skip(told, "<= 200 ms", f"{found.median(name):.3f} s with {found.median(f'{name} count'):.0f}")
        else:
            row(name, told, "<= 200 ms", lambda name=name: limit(seconds(name), 0.2))
    lines = ["| command | s | with CHECKPOINT | second copy ready |", "| --- | ---: | ---: | ---: |"]
    commands = {"stellar snapshot": "`stellar snapshot`", "dslr snapshot": "`dslr snapshot`", "snap": "`copal snap`",
                "snap --spare": "`copal snap --spare`", "stellar restore": "`stellar restore`",
                "dslr restore": "`dslr restore`", "rewind": "`copal rewind`, no spare copy",
                "rewind with a spare": "`copal rewind`, a spare copy",
                "template wal_log": "CREATE DATABASE … TEMPLATE, WAL_LOG",
                "template file_copy": "the same, FILE_COPY", "clone snap": "`copal snap`, PostgreSQL 18, XFS",
                "clone rewind": "`copal rewind`, PostgreSQL 18, XFS",
                "clone rewind with a spare": "the same, a spare copy", "sqlite cp": "`cp`, SQLite under writes",
                "sqlite snap": "`copal snap`, SQLite under writes", "mysqldump": "`mysqldump \\| mysql`",
                "mariadb snap": "`copal snap`, MariaDB", "mariadb rewind": "`copal rewind`, MariaDB"}
    for name, shown in commands.items():
        if name in found:
            more = (f"{found.median(key):.2f}" if (key := f"{name}, {what}") in found else ""
                    for what in ("synced", "second copy"))
            lines.append(f"| {shown} | {found.median(name):.2f} | " + " | ".join(more) + " |")
    shown = {"postgres": "PostgreSQL", "reflink": "PostgreSQL 18", "sqlite": "SQLite", "mariadb": "MariaDB"}
    told = ", ".join(f"{shown[name]} {size / MB:.0f} MB" for name, size in sizes.items())
    return table, f"{table.text(('what', 'goal', 'measured', 'reached', 'peers'))}\n\nDatabases: {told}.\n\n" + "\n".join(lines)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default=os.path.join(HERE, "..", "target", "release"), help="folder of the binaries")
    parser.add_argument("--work", default=os.path.join(HERE, "work"), help="on the disk to measure; needs 20 GB")
    parser.add_argument("--programs", default=newest(), help="folder of PostgreSQL's programs, pgbench included")
    parser.add_argument("--programs18", default=os.path.join(HERE, "..", ".venv", "postgres", "18", "bin"),
                        help="the same of version 18 or later, for clones")
    parser.add_argument("--base", help="a file that generate.py made, instead of a new one")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="a twentieth of the size, to try this program")
    parser.add_argument("--cold", action="store_true", help="leave memory as it is before each measurement")
    parser.add_argument("--timeout", type=int, default=900, help="seconds that one command may take")
    parser.add_argument("--keep", action="store_true", help="the work folder, with the peers and PostgreSQL's log")
    parser.add_argument("--output", help="a Markdown file to write")
    options = parser.parse_args()
    options.share = 0.05 if options.small else 1.0
    return options


def main():
    options = arguments()
    if not options.programs:
        sys.exit("no PostgreSQL with pgbench; run tools/prepare.sh, or give --programs")
    options.programs18 = os.path.abspath(options.programs18)
    bench = Bench(options)
    bench.environment["PATH"] = f"{options.programs}:{bench.environment['PATH']}"
    os.makedirs(bench.work, exist_ok=True)
    # So that servers and mounts go in this case, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    found, sizes, parts, began = Found(), {}, options.parts, time.monotonic()
    try:
        if "postgres" in parts:
            install_peers(bench)
            sizes["postgres"] = postgres(bench, found)
            note(f"{time.monotonic() - began:.0f} s so far")
        if "sqlite" in parts:
            base = bench.prepare_base("base.db", parse_size("50MiB" if options.small else "1GiB"))
            sizes["sqlite"] = os.path.getsize(base)
            sqlite_under_writes(bench, found, base)
            note(f"{time.monotonic() - began:.0f} s so far")
        if {"reflink", "sqlite"} & set(parts) and (os.geteuid() or not shutil.which("mkfs.xfs")):
            note("SKIPPED: everything on XFS, which takes root and mkfs.xfs")
        elif {"reflink", "sqlite"} & set(parts):
            with xfs(bench, 4 if options.small else 14) as inner:
                if "sqlite" in parts:
                    sqlite_clones(inner, found, base)
                    inner.remove("live.db", ".copal")
                if "reflink" in parts:
                    sizes["reflink"] = reflink(inner, found)
            note(f"{time.monotonic() - began:.0f} s so far")
        if "many" in parts:
            many_files(bench, found)
        if "mariadb" in parts and shutil.which("mariadbd"):
            sizes["mariadb"] = mariadb(bench, found)
        elif "mariadb" in parts:
            note("SKIPPED: MariaDB, which is not installed")
        table, text = report(found, sizes)
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
        peers = "".join(f", {name} {version([bench.path(name, 'bin', 'pip'), 'show', name])}" for name in PEERS) if "postgres" in parts else ""
        text = (f"{datetime.date.today().isoformat()}, {len(os.sched_getaffinity(0))} cores, {memory:.0f} GiB of memory; "
                f"copal {version([bench.binary, '--version'])}, "
                f"PostgreSQL {version([f'{options.programs}/postgres', '--version'])}{peers}; "
                f"{options.rounds} rounds, {time.monotonic() - began:.0f} s\n\n{text}\n")
        return conclude(table, text, options.output)
    finally:
        if not options.keep and not os.path.ismount(bench.path("xfs")):
            shutil.rmtree(bench.work, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
