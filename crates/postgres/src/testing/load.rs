//! Sessions that do their worst while a database is dumped, and what is true at every moment all the same.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::Server;

/// What a session does over and over. Each turn is one transaction, and keeps what [`invariants`] checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    /// Moves amounts between accounts in two tables, and writes down each transfer.
    Transfer,
    /// TRUNCATE of two tables, and new rows for both.
    Refill,
    /// ALTER TABLE that writes all rows anew.
    Rewrite,
    /// Takes numbers of a sequence for rows.
    Number,
    /// DROP TABLE, and CREATE TABLE of the same name.
    Recreate,
}

impl Work {
    /// All kinds.
    pub const ALL: [Self; 5] = [Self::Transfer, Self::Refill, Self::Rewrite, Self::Number, Self::Recreate];

    fn name(self) -> &'static str {
        match self {
            Self::Transfer => "transfer",
            Self::Refill => "refill",
            Self::Rewrite => "rewrite",
            Self::Number => "number",
            Self::Recreate => "recreate",
        }
    }

    /// The statements of one turn, in PL/pgSQL; `n` is the number of the turn, `x` and `y` are for its use.
    fn turn(self) -> &'static str {
        match self {
            Self::Transfer => {
                "x := 1 + floor(random() * 1000); y := 1 + floor(random() * 1000); amount := floor(random() * 201) - 100;
                 UPDATE load.checking SET balance = balance - amount WHERE id = x;
                 UPDATE load.savings SET balance = balance + amount WHERE id = y;
                 INSERT INTO load.transfers (checking, savings, amount) VALUES (x, y, amount);"
            }
            Self::Refill => {
                "TRUNCATE load.orders, load.positions;
                 INSERT INTO load.orders SELECT i, n FROM generate_series(1, 500) i;
                 INSERT INTO load.positions SELECT i, 1 + i % 500, n FROM generate_series(1, 1000) i;"
            }
            Self::Rewrite => {
                "IF n % 2 = 0 THEN ALTER TABLE load.rewritten ALTER amount TYPE bigint;
                 ELSE ALTER TABLE load.rewritten ALTER amount TYPE numeric; END IF;"
            }
            Self::Number => "INSERT INTO load.numbered SELECT nextval('load.numbers') FROM generate_series(1, 10);",
            Self::Recreate => {
                "DROP TABLE load.came_and_went;
                 CREATE TABLE load.came_and_went AS SELECT i AS id, n AS turn FROM generate_series(1, 300) i;"
            }
        }
    }
}

/// Everything that the sessions work on, whole from the beginning.
const SCHEMA: &str = "
CREATE SCHEMA load;
CREATE TABLE load.checking (id int PRIMARY KEY, balance bigint NOT NULL);
CREATE TABLE load.savings (id int PRIMARY KEY, balance bigint NOT NULL);
CREATE TABLE load.transfers (checking int NOT NULL, savings int NOT NULL, amount bigint NOT NULL);
INSERT INTO load.checking SELECT i, 1000 FROM generate_series(1, 1000) i;
INSERT INTO load.savings SELECT i, 1000 FROM generate_series(1, 1000) i;
CREATE TABLE load.orders (id int PRIMARY KEY, turn bigint NOT NULL);
CREATE TABLE load.positions (id int PRIMARY KEY, of int NOT NULL REFERENCES load.orders, turn bigint NOT NULL);
INSERT INTO load.orders SELECT i, 0 FROM generate_series(1, 500) i;
INSERT INTO load.positions SELECT i, 1 + i % 500, 0 FROM generate_series(1, 1000) i;
CREATE TABLE load.rewritten (id int PRIMARY KEY, amount bigint NOT NULL);
INSERT INTO load.rewritten SELECT i, i FROM generate_series(1, 1000) i;
CREATE SEQUENCE load.numbers;
CREATE TABLE load.numbered (id bigint PRIMARY KEY);
CREATE TABLE load.came_and_went AS SELECT i AS id, 0::bigint AS turn FROM generate_series(1, 300) i;
CREATE TABLE load.turns (work text PRIMARY KEY, done bigint NOT NULL);
";

/// One line for each thing that is not as it must be.
const INVARIANTS: &str = "
SELECT 'the total of all accounts is ' || total FROM
    (SELECT (SELECT sum(balance) FROM load.checking) + (SELECT sum(balance) FROM load.savings) AS total) s
    WHERE total IS DISTINCT FROM 2000000;
SELECT 'checking account ' || a.id || ' does not match the transfers' FROM load.checking a
    LEFT JOIN (SELECT checking, sum(amount) AS amount FROM load.transfers GROUP BY 1) t ON t.checking = a.id
    WHERE a.balance <> 1000 - coalesce(t.amount, 0) LIMIT 3;
SELECT 'savings account ' || a.id || ' does not match the transfers' FROM load.savings a
    LEFT JOIN (SELECT savings, sum(amount) AS amount FROM load.transfers GROUP BY 1) t ON t.savings = a.id
    WHERE a.balance <> 1000 + coalesce(t.amount, 0) LIMIT 3;
SELECT table_name || ' has ' || rows || ' rows' FROM (VALUES
    ('checking', (SELECT count(*) FROM load.checking), 1000), ('savings', (SELECT count(*) FROM load.savings), 1000),
    ('orders', (SELECT count(*) FROM load.orders), 500), ('positions', (SELECT count(*) FROM load.positions), 1000),
    ('rewritten', (SELECT count(*) FROM load.rewritten), 1000),
    ('came_and_went', (SELECT count(*) FROM load.came_and_went), 300)) AS counts (table_name, rows, wanted)
    WHERE rows <> wanted;
SELECT 'orders and positions are of ' || count(*) || ' turns' FROM
    (SELECT turn FROM load.orders UNION SELECT turn FROM load.positions) t HAVING count(*) <> 1;
SELECT 'came_and_went is of ' || count(DISTINCT turn) || ' turns' FROM load.came_and_went HAVING count(DISTINCT turn) <> 1;
SELECT 'the sum of rewritten is ' || sum(amount) FROM load.rewritten HAVING sum(amount) <> 500500;
SELECT 'the sequence stands at ' || last_value || ', before ' || newest FROM load.numbers,
    (SELECT max(id) AS newest FROM load.numbered) m WHERE newest > last_value OR newest IS NOT NULL AND NOT is_called;
SELECT 'there are ' || count(*) || ' numbers up to ' || max(id) FROM load.numbered HAVING count(*) <> max(id);
";

/// Whether everything is true that must be at any moment, in a database on which a [`Load`] works or that was restored
/// from one.
pub fn invariants(server: &Server, database: &str) -> Result<(), String> {
    match server.try_psql(database, INVARIANTS)? {
        violated if violated.is_empty() => Ok(()),
        violated => Err(violated),
    }
}

/// Sessions at work on a database until stopped or dropped.
#[derive(Debug)]
pub struct Load {
    sessions: Vec<Child>,
    /// Ends the sessions on the server: one that calls a procedure does not notice that its psql is gone.
    terminate: Command,
}

impl Load {
    /// Starts a session for each kind of work, once the schema `load` is there, and waits until each has done something.
    pub fn start(server: &Server, database: &str) -> Self {
        Self::start_with(server, database, &Work::ALL, Duration::from_millis(5))
    }

    /// The same with these kinds of work, one session each, that rest about so long between turns. Several loads may work
    /// on one database, such as a fast one that moves money and a slow one that alters tables.
    pub fn start_with(server: &Server, database: &str, works: &[Work], rest: Duration) -> Self {
        Self::prepare(server, database);
        let before = Self::turns(server, database);
        let name = format!("copal load {:016x}", RandomState::new().hash_one(0));
        let all =
            format!("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = '{name}'");
        let mut terminate = server.command("psql", "postgres");
        terminate.args(["-X", "-q", "-c", &all]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut load = Self { sessions: Vec::new(), terminate };
        for work in works {
            let mut command = server.command("psql", database);
            command.args(["-X", "-q", "-c", &format!("CALL load.{}({})", work.name(), rest.as_secs_f64())]);
            command.env("PGAPPNAME", &name);
            load.sessions
                .push(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        }
        let end = Instant::now() + Duration::from_secs(30);
        while works.iter().any(|work| Self::turns(server, database)[work.name()] <= before[work.name()]) {
            assert!(Instant::now() < end, "the load does not get going: {:?}", Self::turns(server, database));
            std::thread::sleep(Duration::from_millis(20));
        }
        load
    }

    /// Makes the schema `load` with what the sessions work on, if it is not there.
    pub fn prepare(server: &Server, database: &str) {
        if server.psql(database, "SELECT to_regnamespace('load') IS NULL") == "f" {
            return;
        }
        let mut sql = format!("BEGIN;{SCHEMA}");
        for work in Work::ALL {
            let (name, turn) = (work.name(), work.turn());
            sql.push_str(&format!(
                "INSERT INTO load.turns VALUES ('{name}', 0);
                 CREATE PROCEDURE load.{name}(rest double precision) LANGUAGE plpgsql AS $$
                 DECLARE n bigint; x int; y int; amount bigint;
                 BEGIN
                     LOOP
                         UPDATE load.turns SET done = done + 1 WHERE work = '{name}' RETURNING done INTO n;
                         {turn}
                         COMMIT;
                         PERFORM pg_sleep(rest * (0.5 + random()));
                         COMMIT;
                     END LOOP;
                 END $$;"
            ));
        }
        sql.push_str("COMMIT;");
        server.psql(database, &sql);
    }

    /// How many turns of each kind were ever done.
    pub fn turns(server: &Server, database: &str) -> BTreeMap<String, u64> {
        let lines = server.psql(database, "SELECT work || ' ' || done FROM load.turns");
        lines
            .lines()
            .map(|line| line.split_once(' ').unwrap())
            .map(|(w, n)| (w.to_owned(), n.parse().unwrap()))
            .collect()
    }

    /// Ends the sessions, in the midst of what they do. Panics if one had ended by itself.
    pub fn stop(mut self, server: &Server) {
        let ended = self.sessions.iter_mut().filter_map(|child| child.try_wait().unwrap()).count();
        self.end();
        assert_eq!(ended, 0, "sessions of the load that failed by themselves:\n{}", server.log());
    }

    fn end(&mut self) {
        if !self.sessions.is_empty() {
            let _ = self.terminate.status();
        }
        for mut child in self.sessions.drain(..) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.end();
    }
}
