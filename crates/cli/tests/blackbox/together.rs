//! Databases of four kinds on three servers, one snapshot: while applications write, and in spite of `kill -9` at any moment.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use copal_mysql::testing::Server as MariaDb;
use copal_postgres::testing::Server as Postgres;
use rusqlite::Connection;

use crate::home::Home;

/// How long the program lives, in milliseconds: through its beginning, its work and its end.
const LIVES: [u64; 8] = [10, 60, 120, 200, 300, 450, 700, 1000];
const TABLE: &str = "CREATE TABLE item (id integer PRIMARY KEY, name varchar(60))";
const ROWS: &str = "INSERT INTO item (id, name) VALUES (1, 'one'), (2, 'two')";
const CHANGE: &str = "DELETE FROM item WHERE id = 1; INSERT INTO item (id, name) VALUES (3, 'it''s späti'); CREATE TABLE later (a integer)";
const CONTENT: &str = "SELECT id, name FROM item ORDER BY id";

struct Servers {
    shop: Postgres,
    crm: Postgres,
    wiki: MariaDb,
    home: Home,
}

impl Servers {
    fn start() -> Self {
        let servers =
            Self { shop: Postgres::start(15), crm: Postgres::start(18), wiki: MariaDb::start(), home: Home::new() };
        servers.shop.create_database("it's a \"shop\"");
        servers.crm.create_database("crm");
        servers.wiki.sql("", "CREATE DATABASE `wiki ü`");
        servers.run(&format!("{TABLE}; {ROWS}"));
        let url = |url: String| url.replace('\\', "\\\\").replace('"', "\\\"");
        let mut file = String::new();
        for (name, place) in [
            ("shop", url(servers.shop.url("it's a \"shop\""))),
            ("crm", url(servers.crm.url("crm"))),
            ("wiki", url(servers.wiki.url("wiki ü"))),
            ("notes", "sqlite:notes.db".to_owned()),
        ] {
            file.push_str(&format!("[databases.{name}]\nurl = \"{place}\"\n"));
        }
        servers.home.write("copal.toml", &file);
        servers
    }

    /// Runs the same in every database.
    fn run(&self, sql: &str) {
        self.shop.psql("it's a \"shop\"", sql);
        self.crm.psql("crm", sql);
        self.wiki.sql("wiki ü", sql);
        Connection::open(self.home.path("notes.db")).unwrap().execute_batch(sql).unwrap();
    }

    /// What every database contains, each in a line, the same if they are equal.
    fn contents(&self) -> Vec<String> {
        let flat = |text: String| text.replace(['|', '\t'], ";").trim().replace('\n', " ");
        let db = Connection::open(self.home.path("notes.db")).unwrap();
        let mut query = db.prepare(CONTENT).unwrap();
        let rows = query.query_map([], |row| Ok(format!("{};{}", row.get::<_, i64>(0)?, row.get::<_, String>(1)?)));
        let notes: Vec<String> = rows.unwrap().map(|row| row.unwrap()).collect();
        vec![
            flat(self.shop.psql("it's a \"shop\"", CONTENT)),
            flat(self.crm.psql("crm", CONTENT)),
            flat(self.wiki.sql("wiki ü", CONTENT)),
            notes.join(" "),
        ]
    }

    #[track_caller]
    fn assert_all(&self, expected: &str) {
        for content in self.contents() {
            assert_eq!(content, expected);
        }
    }

    /// A program that writes to the three servers in a loop and connects again when it is cut off; answers how often it wrote.
    fn writers(&self, stop: &Arc<AtomicBool>) -> Vec<JoinHandle<u32>> {
        let mut commands: Vec<Box<dyn FnMut() -> Command + Send>> = Vec::new();
        for (server, database) in [(&self.shop, "it's a \"shop\""), (&self.crm, "crm")] {
            let url = server.url(database);
            commands.push(Box::new(move || {
                let mut command = Command::new("psql");
                command.args([
                    "-qXd",
                    &url,
                    "-c",
                    "CREATE TABLE IF NOT EXISTS beat (n serial); INSERT INTO beat DEFAULT VALUES",
                ]);
                command
            }));
        }
        let server = self.wiki.command("wiki ü");
        let (program, arguments) =
            (server.get_program().to_owned(), server.get_args().map(ToOwned::to_owned).collect::<Vec<_>>());
        commands.push(Box::new(move || {
            let mut command = Command::new(&program);
            command
                .args(&arguments)
                .args(["-e", "CREATE TABLE IF NOT EXISTS beat (n serial); INSERT INTO beat VALUES ()"]);
            command
        }));
        let begin = |mut command: Box<dyn FnMut() -> Command + Send>| {
            let stop = Arc::clone(stop);
            std::thread::spawn(move || {
                let mut beats = 0;
                while !stop.load(Ordering::SeqCst) {
                    let done = command().stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
                    beats += u32::from(done.success());
                }
                beats
            })
        };
        commands.into_iter().map(begin).collect()
    }
}

const BEFORE: &str = "1;one 2;two";
const AFTER: &str = "2;two 3;it's späti";

#[test]
fn databases_of_four_kinds_go_back_together() {
    let servers = Servers::start();
    let home = &servers.home;
    home.good(&["snap", "größe \"1\""]);
    servers.run(CHANGE);
    servers.assert_all(AFTER);
    home.good(&["snap", "two"]);
    home.good(&["rewind", "größe \"1\""]);
    servers.assert_all(BEFORE);
    home.good(&["rewind", "two"]);
    servers.assert_all(AFTER);
    let listed = home.good(&["snaps", "--json"]).json();
    assert_eq!(listed["results"].as_array().unwrap().len(), 2);
    assert_eq!(listed["results"][0]["databases"].as_array().unwrap().len(), 4);
    home.good(&["snaps", "rename", "two", "zwei"]);
    home.good(&["snaps", "remove", "größe \"1\""]);
    home.good(&["rewind", "zwei", "-d", "crm"]);
    home.good(&["snaps", "remove", "zwei"]);
    for left in [
        servers.shop.psql("postgres", "SELECT count(*) FROM pg_database WHERE datname LIKE 'copal%'"),
        servers.crm.psql("postgres", "SELECT count(*) FROM pg_database WHERE datname LIKE 'copal%'"),
        servers.wiki.sql("", "SELECT count(*) FROM information_schema.schemata WHERE schema_name LIKE 'copal%'"),
    ] {
        assert_eq!(left.trim(), "0");
    }
}

#[test]
fn if_one_database_fails_there_is_no_snapshot_of_any() {
    let servers = Servers::start();
    let home = &servers.home;
    std::fs::remove_file(home.path("notes.db")).unwrap();
    let failed = home.run(&["snap", "one"]);
    assert!(failed.code == 1 && failed.stderr.contains("notes"), "{}", failed.page());
    let three = home.good(&["snaps", "-d", "shop", "-d", "crm", "-d", "wiki", "--json"]).json();
    assert_eq!(three["results"].as_array().unwrap().len(), 0, "{three}");
}

#[test]
fn applications_are_cut_off_for_a_moment_and_go_on() {
    let servers = Servers::start();
    let home = &servers.home;
    let stop = Arc::new(AtomicBool::new(false));
    let writers = servers.writers(&stop);
    std::thread::sleep(Duration::from_millis(500));
    home.good(&["snap", "busy"]);
    servers.run("UPDATE item SET name = 'changed' WHERE id = 1");
    home.good(&["rewind", "busy"]);
    servers.assert_all(BEFORE);
    home.good(&["snap", "again"]);
    home.good(&["rewind"]);
    std::thread::sleep(Duration::from_millis(500));
    stop.store(true, Ordering::SeqCst);
    for writer in writers {
        assert!(writer.join().unwrap() > 3);
    }
    servers.assert_all(BEFORE);
}

#[test]
fn a_kill_at_any_moment_leaves_databases_and_snapshots() {
    let servers = Servers::start();
    let home = &servers.home;
    home.good(&["snap", "before"]);
    servers.run(CHANGE);
    home.good(&["snap", "after"]);
    let commands: [&[&str]; 5] = [
        &["snap", "--label", "killed"],
        &["rewind", "before"],
        &["rewind", "after"],
        &["snaps", "rename", "before", "before"],
        &["snaps", "gc", "--keep", "1", "--label", "killed"],
    ];
    for (n, life) in LIVES.into_iter().enumerate() {
        for arguments in commands {
            let mut command = home.command(arguments);
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            std::thread::sleep(Duration::from_millis(life));
            // Of a process that has ended this is an error, which is fine.
            let _ = child.kill();
            child.wait().unwrap();
        }
        // Whatever the moment was, the next command finds everything.
        let (name, expected) = if n % 2 == 0 { ("before", BEFORE) } else { ("after", AFTER) };
        home.good(&["rewind", name]);
        servers.assert_all(expected);
    }
    home.good(&["snaps", "gc", "--keep", "1", "--label", "killed"]);
    let listed = home.good(&["snaps", "--json"]).json();
    let complete = |one: &&serde_json::Value| one["databases"].as_array().unwrap().len() == 4;
    assert!(listed["results"].as_array().unwrap().iter().filter(complete).count() >= 2, "{listed}");
}

#[test]
fn if_one_database_cannot_go_back_none_does() {
    let servers = Servers::start();
    let home = &servers.home;
    home.good(&["snap", "before"]);
    servers.run(CHANGE);
    let open = Connection::open(home.path("notes.db")).unwrap();
    open.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refused = home.run(&["rewind", "before"]);
    assert!(refused.code == 5 && refused.stderr.contains("because of notes"), "{}", refused.page());
    let failed = home.run(&["migrate", "--", "sh", "-c", "exit 6"]);
    assert!(failed.code == 6 && failed.stderr.contains("NOT put back"), "{}", failed.page());
    drop(open);
    servers.assert_all(AFTER);
    home.good(&["rewind", "before"]);
    servers.assert_all(BEFORE);
}
