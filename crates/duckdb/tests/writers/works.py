"""What writers do, transaction by transaction, and what must then be true of a copy.

A work belongs to one stream of transactions numbered from 1. `step` makes the changes of transaction `n` and returns two
numbers about the content it leaves behind; they are recorded in the ledger by the same transaction. `check` looks whether
a database is what transactions 1 to `n` make of it, and yields what is wrong.
"""


def content(con, table, columns):
    """Count and hash of a table; the hash tells which values are in one row, and which rows there are."""
    return con.execute(f"SELECT count(*), coalesce(sum(hash({columns})::HUGEINT), 0) FROM {table}").fetchone()


class Work:
    """One stream of transactions; `s` is its number."""

    s = 0

    def recorded(self):
        """The table whose content the ledger records, and its columns."""
        return None

    def setup(self, con):
        """Makes the tables, outside of any transaction."""

    def step(self, con, n, rng):
        """The changes of transaction `n`."""
        raise NotImplementedError

    def sums(self, con):
        """What the ledger records."""
        recorded = self.recorded()
        return content(con, *recorded) if recorded else (0, 0)

    def check(self, con, n):
        """What is wrong after `n` transactions."""
        return ()


class Bank(Work):
    """Transfers between accounts, which several streams may share; the log tells every balance."""

    ACCOUNTS = 1000

    def setup(self, con):
        con.execute("CREATE TABLE IF NOT EXISTS account (id BIGINT PRIMARY KEY, balance BIGINT)")
        con.execute("CREATE TABLE IF NOT EXISTS log (s INT, n BIGINT, source BIGINT, target BIGINT, amount BIGINT)")
        if self.s == 0:
            con.execute(f"INSERT INTO account SELECT range, 1000 FROM range({self.ACCOUNTS})")

    def step(self, con, n, rng):
        source, target = rng.sample(range(self.ACCOUNTS), 2)
        amount = rng.randrange(100)
        con.execute("UPDATE account SET balance = balance - ? WHERE id = ?", [amount, source])
        con.execute("UPDATE account SET balance = balance + ? WHERE id = ?", [amount, target])
        con.execute("INSERT INTO log VALUES (?, ?, ?, ?, ?)", [self.s, n, source, target, amount])

    def check(self, con, n):
        total = con.execute("SELECT sum(balance) FROM account").fetchone()[0]
        if total != 1000 * self.ACCOUNTS:
            yield f"bank: the balances sum up to {total}"
        sql = "SELECT count(*), min(n), max(n), count(DISTINCT n) FROM log WHERE s = ?"
        log = con.execute(sql, [self.s]).fetchone()
        if log != ((n, 1, n, n) if n else (0, None, None, 0)):
            yield f"bank: the log of stream {self.s} has {log}, not {n} entries"
        wrong = con.execute(
            """SELECT count(*) FROM account a LEFT JOIN (SELECT id, sum(change) AS change FROM (
                   SELECT source AS id, -amount AS change FROM log UNION ALL SELECT target, amount FROM log
               ) GROUP BY id) c ON a.id = c.id WHERE a.balance <> 1000 + coalesce(c.change, 0)"""
        ).fetchone()[0]
        if wrong:
            yield f"bank: {wrong} balances are not what the log says"


class Update(Work):
    """Updates of rows in a table with a primary key."""

    def __init__(self, rows=40_000, touched=300):
        self.rows, self.touched = rows, touched

    def recorded(self):
        return f"item{self.s}", "id, a, t"

    def setup(self, con):
        con.execute(f"CREATE TABLE item{self.s} (id BIGINT PRIMARY KEY, a BIGINT, t VARCHAR)")
        con.execute(f"INSERT INTO item{self.s} SELECT range, range * 7, 't' || range FROM range({self.rows})")

    def step(self, con, n, rng):
        first = rng.randrange(self.rows - self.touched)
        con.execute(
            f"UPDATE item{self.s} SET a = a + ?, t = 'n' || ?::VARCHAR || '-' || id::VARCHAR WHERE id BETWEEN ? AND ?",
            [n, n, first, first + self.touched],
        )

    def check(self, con, n):
        for id in range(0, self.rows, self.rows // 20):
            if con.execute(f"SELECT count(*) FROM item{self.s} WHERE id = {id}").fetchone()[0] != 1:
                yield f"update: the index of item{self.s} does not find {id}"


class Permute(Work):
    """Exchanges values of a column that is stored as it is: the checksums of its blocks stay the same."""

    def __init__(self, rows=200_000, pairs=6):
        self.rows, self.pairs = rows, pairs

    def setup(self, con):
        con.execute(f"CREATE TABLE perm{self.s} AS SELECT range AS id, range * 1000003 AS a FROM range({self.rows})")

    def step(self, con, n, rng):
        for _ in range(self.pairs):
            x = rng.randrange(self.rows - 1000)
            y = x + 1 + rng.randrange(900)
            a = dict(con.execute(f"SELECT id, a FROM perm{self.s} WHERE id IN (?, ?)", [x, y]).fetchall())
            con.execute(
                f"UPDATE perm{self.s} SET a = CASE id WHEN ? THEN ?::BIGINT ELSE ?::BIGINT END WHERE id IN (?, ?)",
                [x, a[y], a[x], x, y],
            )

    def sums(self, con):
        return con.execute(f"SELECT sum(a), sum(id::HUGEINT * a) FROM perm{self.s}").fetchone()


class Bulk(Work):
    """Loads that DuckDB writes to the file before they are committed, and deletions of older loads."""

    def __init__(self, rows=200_000, kept=3, wide=False):
        self.rows, self.kept, self.wide = rows, kept, wide

    def setup(self, con):
        con.execute(f"CREATE TABLE load{self.s} (n BIGINT, k BIGINT, v UBIGINT, w VARCHAR)")

    def step(self, con, n, rng):
        w = "'w' || (k % 1000)" if self.wide else "'w'"
        con.execute(
            f"INSERT INTO load{self.s} SELECT {n}, range AS k, hash(range + {n}), {w} FROM range({self.rows})"
        )
        con.execute(f"DELETE FROM load{self.s} WHERE n <= {n - self.kept}")

    def check(self, con, n):
        loads = con.execute(
            f"SELECT n, count(*), count(DISTINCT k), sum(k), count(*) FILTER (v <> hash(k + n)) FROM load{self.s} "
            "GROUP BY n ORDER BY n"
        ).fetchall()
        each = (self.rows, self.rows, self.rows * (self.rows - 1) // 2, 0)
        wanted = [(i, *each) for i in range(max(1, n - self.kept + 1), n + 1)]
        if loads != wanted:
            yield f"bulk: after {n} loads there is {loads}"


class Ddl(Work):
    """Creates, alters and drops tables with content, four transactions for each table."""

    def __init__(self, rows=15_000, kept=4):
        self.rows, self.kept = rows, kept

    def step(self, con, n, rng):
        made = n - n % 4
        table = f"ddl{self.s}_{made}"
        if made == 0:
            con.execute(f"CREATE TABLE ddl{self.s}_first_{n} (i BIGINT)")
        elif n % 4 == 0:
            con.execute(
                f"CREATE TABLE {table} AS "
                f"SELECT range AS k, hash(range + {n}) AS v, 'w' || range AS w FROM range({self.rows})"
            )
            if made > 4 * self.kept:
                con.execute(f"DROP TABLE ddl{self.s}_{made - 4 * self.kept}")
        elif n % 4 == 1:
            con.execute(f"ALTER TABLE {table} ADD COLUMN extra BIGINT DEFAULT 5")
        elif n % 4 == 2:
            con.execute(f"UPDATE {table} SET extra = k WHERE k % 3 = 0")
        else:
            con.execute(f"ALTER TABLE {table} DROP COLUMN w")

    def check(self, con, n):
        names = {name for (name,) in con.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
        names = {name for name in names if name.startswith(f"ddl{self.s}_")}
        made = [i for i in range(4, n + 1, 4) if i > (n - n % 4) - 4 * self.kept]
        wanted = {f"ddl{self.s}_{i}" for i in made} | {f"ddl{self.s}_first_{i}" for i in range(1, min(n, 3) + 1)}
        if names != wanted:
            yield f"ddl: after {n} transactions the tables {sorted(names)} are there, not {sorted(wanted)}"
        for i in made:
            table = f"ddl{self.s}_{i}"
            if table not in names:
                continue
            sql = "SELECT column_name FROM duckdb_columns() WHERE table_name = ? ORDER BY column_index"
            columns = [column for (column,) in con.execute(sql, [table]).fetchall()]
            state = min(n - i, 3)
            expected = ["k", "v", "w"][: 2 if state == 3 else 3] + (["extra"] if state else [])
            if columns != expected:
                yield f"ddl: {table} has the columns {columns}, not {expected}"
                continue
            right = [f"v = hash(k + {i})"]
            right += ["w = 'w' || k"] if "w" in columns else []
            right += [["extra = 5"], ["extra = CASE WHEN k % 3 = 0 THEN k ELSE 5 END"]][state > 1] if state else []
            sql = f"SELECT count(*), count(*) FILTER ({' AND '.join(right)}), sum(k) FROM {table}"
            rows = con.execute(sql).fetchone()
            if rows != (self.rows, self.rows, self.rows * (self.rows - 1) // 2):
                yield f"ddl: {table} has {rows} after {n} transactions"


class Documents(Work):
    """Long strings, lists and structs that come and go."""

    KEPT = 40

    def recorded(self):
        return f"doc{self.s}", "id, body, tags, detail"

    def setup(self, con):
        con.execute(
            f"CREATE TABLE doc{self.s} "
            "(id BIGINT PRIMARY KEY, body VARCHAR, tags VARCHAR[], detail STRUCT(a BIGINT, b BLOB))"
        )

    def step(self, con, n, rng):
        con.execute(
            f"""INSERT INTO doc{self.s} SELECT ? * 10 + range, repeat(md5((range + ?)::VARCHAR), ?),
                ['tag' || x FOR x IN range(?)], {{'a': range, 'b': repeat('x', ?)::BLOB}} FROM range(3)""",
            [n, n, rng.choice([1, 100, 1000, 4000]), rng.randrange(60), rng.choice([0, 5000, 90_000])],
        )
        con.execute(f"DELETE FROM doc{self.s} WHERE id < ? OR id % 10 = 2", [(n - self.KEPT // 3) * 10])


class Small(Work):
    """Single inserted rows, now and then a few deleted ones: never in the way of anybody's checkpoint."""

    def setup(self, con):
        con.execute(f"CREATE TABLE small{self.s} (n BIGINT, t VARCHAR)")

    def step(self, con, n, rng):
        con.execute(f"INSERT INTO small{self.s} VALUES (?, 't' || ?::VARCHAR)", [n, n])

    def check(self, con, n):
        sql = f"SELECT count(*), coalesce(sum(n), 0), count(*) FILTER (t <> 't' || n) FROM small{self.s}"
        rows = con.execute(sql).fetchone()
        if rows != (n, n * (n + 1) // 2, 0):
            yield f"small: {rows} after {n} transactions"
