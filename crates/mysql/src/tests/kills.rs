//! A process that is killed at each step, and the next call.

use copal_core::{Context, RewindOptions, Snapshots as _};

use super::*;
use crate::step::testing::{abort_at, fail_at};

const CHILD: &str = "tests::kills::killed_call";
const MAKE: &str = "CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, x INT); INSERT INTO t (x) VALUES (1), (2); \
    CREATE TABLE u (id INT PRIMARY KEY, t INT, CONSTRAINT fk FOREIGN KEY (t) REFERENCES t (id)); INSERT INTO u VALUES (1, 1); \
    CREATE TRIGGER tr BEFORE INSERT ON t FOR EACH ROW SET NEW.x = 7; CREATE TRIGGER tr2 BEFORE INSERT ON u FOR EACH ROW SET @u = 1; \
    CREATE VIEW v AS SELECT * FROM t; CREATE PROCEDURE p() SELECT 1";
const CHANGE: &str = "UPDATE t SET x = 99; DROP TRIGGER tr; CREATE TRIGGER tr AFTER INSERT ON u FOR EACH ROW SET @a = 1; CREATE TRIGGER a_tr BEFORE INSERT ON u FOR EACH ROW SET @b = 1; \
    CREATE TABLE fresh (x INT); CREATE TABLE tr2 (x INT); \
    DROP VIEW v; DROP PROCEDURE p; CREATE VIEW w AS SELECT 1 AS x";

fn call(what: &str, url: &str) -> EngineResult<()> {
    match what {
        "take" => take(url, 2).map(drop),
        "rewind" => rewind(url, 1).map(drop),
        "spare" => {
            let options = RewindOptions { spare: true, ..RewindOptions::default() };
            engine().prepare(&source(url), &id(1), options, &Context::silent())?.finish(&Context::silent()).map(drop)
        }
        _ => engine().remove(&source(url), &id(1), &Context::silent()),
    }
}

/// Not a test by itself: the process that is killed by the next one.
#[test]
fn killed_call() {
    let Ok(url) = std::env::var("COPAL_TEST_URL") else { return };
    abort_at(Some(std::env::var("COPAL_TEST_STEP").unwrap().parse().unwrap()));
    call(&std::env::var("COPAL_TEST_CALL").unwrap(), &url).unwrap();
}

/// Whether the tables are the snapshot's.
fn is_renamed(server: &Server, database: &str) -> bool {
    let tables = server.sql("", "SELECT concat(table_schema, '.', table_name) FROM information_schema.tables");
    !tables.lines().any(|name| name == format!("{database}.fresh"))
}

/// A state before the call, and what may be there after it was interrupted and put right.
fn interrupted(server: &Server, what: &str, interrupt: impl Fn(&str, u32) -> bool) {
    let database = "d'b".to_owned();
    let url = server.url(&database);
    // Both states are the same in each round, so they are dumped in the first one.
    let (mut dump_of_old, mut dump_of_changed) = (None, None);
    for step in 0.. {
        let what_now = format!("{what} interrupted at step {step}");
        server.sql("", &format!("CREATE DATABASE `{database}`"));
        server.sql(&database, MAKE);
        let old = dump_of_old.get_or_insert_with(|| dump(server, &database));
        let mut first = request(1);
        first.spare = what == "remove" || what == "spare";
        engine().take(&source(&url), &first, &Context::silent()).unwrap();
        server.sql(&database, CHANGE);
        let changed = dump_of_changed.get_or_insert_with(|| dump(server, &database));
        let is_done = interrupt(&url, step);
        let found = listed(&url);
        assert!(what == "remove" || found.contains(&id(1)), "{what_now}: a snapshot vanished");
        let is_renamed = is_renamed(server, &database);
        let expected = if is_renamed { &*old } else { &*changed };
        if !is_renamed {
            // What is written now must not be lost.
            server.sql(&database, "INSERT INTO fresh VALUES (5)");
        }
        // Whatever is listed is there: the next call does not take it away.
        let told = engine().settle(&source(&url), true, &Context::silent()).unwrap();
        let done = engine().settle(&source(&url), false, &Context::silent()).unwrap();
        assert!(told.is_empty() == done.is_empty(), "{what_now}: {told:?} {done:?}");
        assert_eq!(listed(&url), found, "{what_now}");
        assert!(engine().settle(&source(&url), false, &Context::silent()).unwrap().is_empty(), "{what_now}");
        for notes in [&told, &done] {
            let has = |word: &str| notes.iter().any(|note| note.contains(word));
            assert!(!(has("finish") && !is_renamed || has("undid") && is_renamed), "{what_now}: {notes:?}");
        }
        assert!(told.iter().all(|note| note.starts_with("would ")), "{what_now}: {told:?}");
        if !is_renamed {
            assert_eq!(server.sql(&database, "SELECT x FROM fresh; DELETE FROM fresh"), "5", "{what_now}");
        }
        assert_same(expected, &dump(server, &database));
        assert!(is_renamed || !is_done || ["take", "remove"].contains(&what), "{what_now}");
        let spares = ours(server).iter().filter(|name| name.starts_with("copal_spare")).count();
        assert!(spares == 1 || is_renamed || what != "spare", "{what_now}: the spare copy is lost");
        assert_eq!(ours(server).len(), found.len() + spares, "{what_now}: {:?}", ours(server));
        if found.contains(&id(1)) {
            rewind(&url, 1).unwrap();
            assert_same(old, &dump(server, &database));
        }
        for left in found {
            engine().remove(&source(&url), &left, &Context::silent()).unwrap();
        }
        assert!(ours(server).is_empty(), "{what_now}: {:?}", ours(server));
        server.sql("", &format!("DROP DATABASE `{database}`"));
        if is_done {
            assert!(step >= 4, "steps are passed");
            return;
        }
    }
}

/// Lets another process do something, which is killed at a step; whether it was not.
fn kill_at(what: &str, url: &str, step: u32) -> bool {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args([CHILD, "--exact", "--test-threads=1"]);
    child
        .env("COPAL_TEST_URL", url)
        .env("COPAL_TEST_STEP", step.to_string())
        .env("COPAL_TEST_CALL", what)
        .env("RUST_BACKTRACE", "0");
    let output = child.output().unwrap();
    assert!(output.status.success() || output.status.code().is_none(), "{}", String::from_utf8_lossy(&output.stdout));
    output.status.success()
}

fn killed(what: &str) {
    interrupted(&Server::start(), what, |url, step| kill_at(what, url, step));
}

/// Kills rewinds until one has dropped all triggers and views, but renamed nothing; its working schema.
fn killed_before_the_renaming(server: &Server, url: &str) -> String {
    let triggers = "SELECT count(*) FROM information_schema.triggers WHERE trigger_schema = 'd'";
    for step in 0.. {
        assert!(!kill_at("rewind", url, step), "no triggers were dropped");
        if server.sql("", triggers) == "0" {
            break;
        }
        settle(url, &Context::silent()).unwrap();
    }
    ours(server).into_iter().find(|name| name.starts_with("copal_rewind")).unwrap()
}

fn settle(url: &str, context: &Context) -> EngineResult<Vec<String>> {
    engine().settle(&source(url), false, context)
}

/// A database that has changed since its snapshot, its URL, and dumps of both states.
fn changed(server: &Server) -> (String, String, String) {
    server.sql("", "CREATE DATABASE d");
    server.sql("d", MAKE);
    let (url, old) = (server.url("d"), dump(server, "d"));
    take(&url, 1).unwrap();
    server.sql("d", CHANGE);
    (url, old, dump(server, "d"))
}

#[test]
fn a_renaming_that_was_begun_is_finished() {
    let server = Server::start();
    let (url, old, _) = changed(&server);
    let working = killed_before_the_renaming(&server, &url);
    // As a server without atomic renaming leaves it.
    let aside = working.replace("rewind", "aside");
    let tables: Vec<_> = ["t", "u", "fresh", "tr2"].iter().map(|name| format!("d.{name} TO {aside}.{name}")).collect();
    server.sql("", &format!("RENAME TABLE {}, {working}.t TO d.t", tables.join(", ")));
    let notes = settle(&url, &Context::silent()).unwrap();
    assert!(notes.iter().any(|note| note.starts_with("finished a rewind")), "{notes:?}");
    assert_same(&old, &dump(&server, "d"));
    assert_eq!(ours(&server).len(), 1);
}

#[test]
fn an_undoing_is_judged_by_what_is_there() {
    let server = Server::start();
    let (url, _, changed) = changed(&server);
    killed_before_the_renaming(&server, &url);
    // It has to end a session, which is not a failure.
    let mut open = super::load::holder(&server, "BEGIN; SELECT * FROM u;\n");
    let notes = settle(&url, &Context::silent()).unwrap();
    assert!(notes.iter().any(|note| note.starts_with("undid a rewind")), "{notes:?}");
    assert!(notes.iter().any(|note| note.starts_with("ended session")), "{notes:?}");
    assert_same(&changed, &dump(&server, "d"));
    assert_eq!(ours(&server).len(), 1);
    drop(open.stdin.take());
    open.wait().unwrap();
}

#[test]
fn what_cannot_be_undone_is_named_and_kept() {
    let server = Server::start();
    server.sql("", "CREATE DATABASE d; CREATE DATABASE e; CREATE TABLE e.x (id INT)");
    server.sql("d", MAKE);
    let url = server.url("d");
    take(&url, 1).unwrap();
    server.sql("d", "DROP TABLE u; CREATE VIEW u AS SELECT * FROM e.x");
    let views = "SELECT count(*) FROM information_schema.views WHERE table_schema = 'd' AND table_name = 'u'";
    for step in 0.. {
        assert!(!kill_at("rewind", &url, step), "no view was dropped");
        if server.sql("", views) == "0" {
            break;
        }
        settle(&url, &Context::silent()).unwrap();
    }
    server.sql("", "DROP TABLE e.x");
    for _ in 0..2 {
        let error = settle(&url, &Context::silent()).unwrap_err();
        assert!(error.message.contains("view \"u\"") && error.hint.unwrap().contains("copal_rewind_"));
    }
    // The trigger that went with its table is not missed.
    server.sql("d", "CREATE VIEW u AS SELECT 1; DROP TABLE t");
    settle(&url, &Context::silent()).unwrap();
    assert_eq!(server.sql("d", "SELECT * FROM u"), "1");
    assert_eq!(ours(&server).len(), 1);
}

fn failed(server: &Server, what: &str) {
    interrupted(server, what, |url, step| {
        fail_at(Some(step));
        let result = call(what, url);
        fail_at(None);
        result.is_ok()
    });
}

#[test]
fn a_take_that_is_killed() {
    killed("take");
}

#[test]
fn a_rewind_that_is_killed() {
    killed("rewind");
}

#[test]
fn a_rewind_with_a_spare_that_is_killed() {
    killed("spare");
}

#[test]
fn a_removal_that_is_killed() {
    killed("remove");
}

#[test]
fn calls_that_fail() {
    let server = Server::start();
    ["take", "rewind", "spare", "remove"].into_iter().for_each(|what| failed(&server, what));
}

#[test]
fn a_database_that_was_dropped_comes_back() {
    let server = Server::start();
    server.sql("", "CREATE DATABASE d CHARACTER SET latin1");
    server.sql("d", MAKE);
    let (url, old) = (server.url("d"), dump(&server, "d"));
    take(&url, 1).unwrap();
    for step in 0.. {
        server.sql("", "DROP DATABASE d");
        fail_at(Some(step));
        let result = rewind(&url, 1);
        fail_at(None);
        let is_there =
            server.sql("", "SELECT count(*) FROM information_schema.schemata WHERE schema_name = 'd'") == "1";
        assert!(result.is_ok() || !is_there || step >= 8, "there at step {step}");
        rewind(&url, 1).unwrap();
        assert_same(&old, &dump(&server, "d"));
        if result.is_ok() {
            return;
        }
    }
}

#[test]
fn a_failed_rewind_leaves_the_database_as_it_was() {
    let server = Server::start();
    server.sql("", "CREATE DATABASE d");
    server.sql("d", MAKE);
    let url = server.url("d");
    take(&url, 1).unwrap();
    server.sql("d", CHANGE);
    let changed = dump(&server, "d");
    for step in 0.. {
        fail_at(Some(step));
        let result = rewind(&url, 1);
        fail_at(None);
        let now = dump(&server, "d");
        match result {
            Err(error) if error.to_string().contains("told to fail") && !is_renamed(&server, "d") => {
                assert_same(&changed, &now);
                assert_eq!(ours(&server).len(), 1, "nothing is left behind at step {step}: {error}");
            }
            other => {
                assert!(step >= 8, "{other:?} at step {step}");
                return;
            }
        }
    }
}
