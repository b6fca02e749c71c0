//! `copal migrate`: the command's own streams and exit code, and the database as before when it fails.

use std::io::Read;
use std::process::Stdio;
use std::time::{Duration, Instant};

use copal_mysql::testing::Server as MariaDb;
use copal_postgres::testing::Server as Postgres;
use rustix::process::{Pid, Signal, kill_process};

use crate::home::{Home, Run, assert_page};

fn tracked(rows: u32) -> Home {
    let home = Home::new();
    home.database("app.db", rows);
    home.write("copal.toml", "[databases.app]\nurl = \"sqlite:app.db\"\n");
    home
}

fn migrate(home: &Home, options: &[&str], script: &str) -> Run {
    let mut arguments = vec!["migrate"];
    arguments.extend(options);
    arguments.extend(["--", "sh", "-c", script]);
    home.run(&arguments)
}

fn snapshots(home: &Home) -> usize {
    home.good(&["snaps", "--json"]).json()["results"].as_array().unwrap().len()
}

const HALF: &str =
    "sqlite3 app.db 'ALTER TABLE item ADD COLUMN price; DELETE FROM item WHERE id > 3; CREATE TABLE new (a)'";

#[test]
fn what_fails_half_way_is_put_back() {
    let home = tracked(10);
    let failed = migrate(&home, &[], &format!("echo working; {HALF}; echo broken >&2; exit 7"));
    assert_eq!(failed.code, 7, "{}", failed.page());
    assert_eq!(failed.stdout, "working\n", "standard output is the command's");
    assert_page!("migrate_fails", failed);
    assert_eq!(home.rows("app.db"), 10);
    let schema = "SELECT count(*) FROM pragma_table_info('item')";
    let db = rusqlite::Connection::open(home.path("app.db")).unwrap();
    assert_eq!(db.query_row(schema, [], |row| row.get::<_, i64>(0)).unwrap(), 2);
    assert!(db.prepare("SELECT * FROM new").is_err());
    assert_eq!(snapshots(&home), 1);
}

#[test]
fn what_succeeds_stays_and_the_oldest_snapshots_go() {
    let home = tracked(1);
    home.good(&["snap", "mine"]);
    for _ in 0..3 {
        let done = migrate(&home, &["--keep", "2"], "sqlite3 app.db \"INSERT INTO item (name) VALUES ('x')\"");
        assert_eq!(done.code, 0, "{}", done.page());
    }
    assert_eq!(home.rows("app.db"), 4);
    assert_eq!(snapshots(&home), 3, "two of its own, and one that somebody took");
    migrate(&home, &["--keep", "0"], "true");
    assert_eq!(snapshots(&home), 4);
    home.good(&["rewind", "mine"]);
    assert_eq!(home.rows("app.db"), 1);
}

#[test]
fn exit_codes_are_those_of_the_command() {
    let home = tracked(2);
    for code in [1, 3, 42, 255] {
        assert_eq!(migrate(&home, &[], &format!("exit {code}")).code, code);
    }
    assert_eq!(migrate(&home, &[], "kill -9 $$").code, 137);
    assert_page!("migrate_cannot_start", home.run(&["migrate", "--", "no-such-program"]));
    assert_eq!(home.run(&["migrate"]).code, 2);
    assert_eq!(home.rows("app.db"), 2);
    assert_eq!(snapshots(&home), 5, "failing migrations do not fill the disk");
}

#[test]
fn without_a_snapshot_the_command_runs_only_if_that_was_said() {
    let home = tracked(2);
    // Where snapshots would lie there is a file.
    home.write(".copal", "");
    let refused = migrate(&home, &[], "touch ran");
    assert!(refused.code == 1 && !home.path("ran").exists(), "{}", refused.page());
    let warned = migrate(&home, &["--best-effort"], "touch ran; exit 0");
    assert!(warned.code == 0 && home.path("ran").exists(), "{}", warned.page());
    assert!(warned.stderr.contains("no snapshot could be taken"), "{}", warned.page());
    assert_eq!(migrate(&home, &["--best-effort"], "exit 9").code, 9);
}

#[test]
fn a_database_that_does_not_exist_yet_is_no_hindrance() {
    let home = Home::new();
    home.write("copal.toml", "[databases.app]\nurl = \"sqlite:app.db\"\n");
    let made = migrate(&home, &[], "sqlite3 app.db 'CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT)'");
    assert_eq!(made.code, 0, "{}", made.page());
    assert_page!("migrate_makes_the_database", made);
    assert!(!home.path(".copal").exists());
    assert_eq!(home.rows("app.db"), 0);
}

#[test]
fn an_interruption_is_the_commands_and_then_everything_is_put_back() {
    let home = tracked(10);
    // What it starts is told, too, and has ended when the database goes back.
    let script = format!("{HALF}; touch half; sleep 20; sqlite3 app.db 'DELETE FROM item'");
    for signal in [Signal::INT, Signal::TERM] {
        let _ = std::fs::remove_file(home.path("half"));
        let mut command = home.command(&["migrate", "--", "sh", "-c", &script]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let late = Instant::now() + Duration::from_secs(60);
        while !home.path("half").exists() {
            assert!(Instant::now() < late, "the command did not get so far");
            std::thread::sleep(Duration::from_millis(20));
        }
        kill_process(Pid::from_child(&child), signal).unwrap();
        let status = child.wait().unwrap();
        let mut told = String::new();
        child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
        assert_eq!(status.code(), Some(128 + signal.as_raw()), "{told}");
        assert_eq!(home.rows("app.db"), 10, "{told}");
    }
}

#[test]
fn what_cannot_be_put_back_is_told_with_the_way_to_do_it() {
    let home = tracked(5);
    // The command leaves a program behind that has the file open.
    let script = "sqlite3 app.db 'DELETE FROM item'; sleep 60 <>app.db >/dev/null 2>&1 & echo $! >pid; exit 4";
    let told = migrate(&home, &[], script);
    assert_eq!(told.code, 4, "{}", told.page());
    assert!(told.stderr.contains("NOT put back") && told.stderr.contains("copal rewind 2"), "{}", told.page());
    let pid: i32 = std::fs::read_to_string(home.path("pid")).unwrap().trim().parse().unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    home.good(&["rewind"]);
    assert_eq!(home.rows("app.db"), 5);
}

/// Statements that no transaction could take back, the last of which fails.
const ON_POSTGRES: &str = "ALTER TABLE item ADD price integer; CREATE INDEX CONCURRENTLY later ON item (name);
DELETE FROM item WHERE id = 1; ALTER SYSTEM SET work_mem = '8MB'; ALTER TABLE item RENAME TO goods; SELECT 1 / 0;";
const ON_MARIADB: &str =
    "ALTER TABLE item ADD price integer; DELETE FROM item WHERE id = 1; CREATE TABLE later (a integer);
CREATE VIEW cheap AS SELECT * FROM item; RENAME TABLE item TO goods; SELECT * FROM missing;";

#[test]
fn a_migration_of_postgres_that_fails_half_way_is_put_back() {
    let (server, home) = (Postgres::start(15), Home::new());
    server.create_database("shop");
    server.psql(
        "shop",
        "CREATE TABLE item (id serial PRIMARY KEY, name text); INSERT INTO item (name) VALUES ('a'), ('b')",
    );
    // Each statement by itself, as no transaction holds them.
    let script = home.write("migration.sql", &ON_POSTGRES.replace("; ", ";\n"));
    let script = script.to_str().unwrap();
    let url = server.url("shop");
    // By its URL, of which nothing but the command's own argument tells the password.
    let failed = home.run(&["migrate", "-d", &url, "--", "psql", "-qXv", "ON_ERROR_STOP=1", "-d", &url, "-f", script]);
    assert_eq!(failed.code, 3, "{}", failed.page());
    assert!(failed.stderr.contains("division by zero"), "{}", failed.page());
    let content = server.psql("shop", "SELECT string_agg(item::text, ' ' ORDER BY id) FROM item");
    assert_eq!(content, "(1,a) (2,b)", "{}", failed.page());
    assert_eq!(server.psql("shop", "SELECT count(*) FROM pg_class WHERE relname IN ('goods', 'later')"), "0");
    server.psql("shop", "INSERT INTO item (name) VALUES ('c')");
    assert_eq!(server.psql("shop", "SELECT max(id) FROM item"), "3", "the sequence goes on where it was");
}

#[test]
fn a_migration_of_mariadb_that_fails_half_way_is_put_back() {
    let (server, home) = (MariaDb::start(), Home::new());
    server.sql("", "CREATE DATABASE shop");
    server.sql(
        "shop",
        "CREATE TABLE item (id integer PRIMARY KEY, name varchar(20)); INSERT INTO item VALUES (1, 'a'), (2, 'b')",
    );
    home.write("copal.toml", &format!("[databases.shop]\nurl = \"{}\"\n", server.url("shop")));
    let before = server.sql("shop", "SHOW CREATE TABLE item");
    let client = server.command("shop");
    let mut arguments = vec!["migrate", "--", client.get_program().to_str().unwrap()];
    arguments.extend(client.get_args().map(|argument| argument.to_str().unwrap()));
    arguments.extend(["-e", ON_MARIADB]);
    let failed = home.run(&arguments);
    assert_eq!(failed.code, 1, "{}", failed.page());
    assert!(failed.stderr.contains("missing"), "{}", failed.page());
    assert_eq!(server.sql("shop", "SHOW TABLES"), "item", "{}", failed.page());
    assert_eq!(server.sql("shop", "SHOW CREATE TABLE item"), before);
    assert_eq!(server.sql("shop", "SELECT * FROM item ORDER BY id"), "1\ta\n2\tb");
}
