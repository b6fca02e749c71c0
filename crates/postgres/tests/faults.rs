//! Whatever fails: no backup, or the original as it was, a clear reason, and a next attempt that works.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use common::memory::MemoryBackup;
use common::{backup, databases, engine, restore, source};
use copal_core::{CancelToken, Context, Engine, EngineError, EngineErrorKind, RestoreRequest, Source};
use copal_postgres::PostgresEngine;
use copal_postgres::testing::{PASSWORD, Server, Stop};

fn text(error: &EngineError) -> String {
    let cause = error.source.as_ref().map(ToString::to_string).unwrap_or_default();
    format!("{error}: {cause} ({})", error.hint.as_deref().unwrap_or_default())
}

fn refused(engine: &PostgresEngine, source: &Source) -> EngineError {
    engine.capture(source, &mut MemoryBackup::default(), &Context::silent()).unwrap_err()
}

/// Rows of a table, where it matters what is there.
const FEW: u32 = 10_000;
/// Rows of a table that takes so long to dump and to restore that something can happen meanwhile.
const MANY: u32 = 300_000;

/// A shop with two tables of so many rows.
fn shop(server: &Server, rows: u32) {
    server.create_database("shop");
    server.psql(
        "shop",
        &format!(
            "CREATE TABLE a AS SELECT id, md5(id::text) || repeat('x', 200) AS text FROM generate_series(1, {rows}) AS id; \
             CREATE INDEX ON a (text); CREATE TABLE b AS SELECT * FROM a; CREATE INDEX ON b (text)"
        ),
    );
}

fn assert_serves(server: &Server, rows: u32) {
    assert_eq!(server.psql("shop", "SELECT count(*) FROM a"), rows.to_string());
    assert!(!databases(server).contains("copal_"), "{}", databases(server));
}

#[test]
fn wrong_addresses_are_told_apart() {
    let server = Server::start(15);
    server.create_database("shop");
    let parse = |text: &str| Source::parse(text).unwrap();
    let cases = [
        (server.url_as("postgres", Some("wrong"), "shop"), EngineErrorKind::PermissionDenied, "password"),
        (server.url("nowhere"), EngineErrorKind::NotFound, "nowhere"),
        ("postgres://u@no-such-host.invalid/x".to_owned(), EngineErrorKind::NotFound, "host"),
        ("postgres://u@127.0.0.1:1/x".to_owned(), EngineErrorKind::NotFound, "is the server running"),
    ];
    for (url, kind, word) in cases {
        let error = refused(&engine(), &parse(&url));
        assert_eq!(error.kind, kind, "{url}: {}", text(&error));
        assert!(text(&error).contains(word), "{}", text(&error));
        assert!(!text(&error).contains(PASSWORD) && !text(&error).contains("wrong@"), "{}", text(&error));
    }
    // A password file is libpq's affair, and works.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pass");
    let line = format!("*:*:*:postgres:{}\n", PASSWORD.replace('\\', "\\\\").replace(':', "\\:"));
    std::fs::write(&file, line).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let url = format!("postgres://postgres@127.0.0.1:{}/shop?passfile={}", server.port(), file.display());
    engine().identify(&parse(&url)).unwrap();
    engine().identify(&parse(&server.socket_url("shop"))).unwrap();
}

#[test]
fn what_may_not_be_read_is_no_backup() {
    let server = Server::start(15);
    server.create_database("shop");
    server.psql(
        "shop",
        "CREATE ROLE saver LOGIN PASSWORD 'x'; CREATE TABLE a (id int); CREATE TABLE \"odd One\" (id serial); \
         GRANT SELECT ON a TO saver",
    );
    let saver = Source::parse(&server.url_as("saver", Some("x"), "shop")).unwrap();
    let error = refused(&engine(), &saver);
    assert_eq!(error.kind, EngineErrorKind::PermissionDenied);
    assert!(
        text(&error).contains("public.\"odd One\"") && text(&error).contains("pg_read_all_data"),
        "{}",
        text(&error)
    );
    server.psql("shop", "GRANT pg_read_all_data TO saver; GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO saver");
    let mut whole = MemoryBackup::default();
    let capture = engine().capture(&saver, &mut whole, &Context::silent()).unwrap();
    assert!(capture.inventory.counters.contains_key("sequence public.\"odd One_id_seq\""), "{capture:?}");
    server.psql("shop", "ALTER TABLE a ENABLE ROW LEVEL SECURITY");
    let error = refused(&engine(), &saver);
    assert!(text(&error).contains("row security") && text(&error).contains("BYPASSRLS"), "{}", text(&error));
}

#[test]
fn a_lock_is_waited_for_and_told() {
    let server = Server::start(15);
    server.create_database("shop");
    server.psql("shop", "CREATE TABLE a (id int)");
    let mut command = server.command("psql", "shop");
    command.args(["-X", "-q", "-c", "BEGIN", "-c", "LOCK TABLE a", "-c", "SELECT pg_sleep(60)"]);
    let mut holder = command.stdout(std::process::Stdio::null()).spawn().unwrap();
    let is_held =
        "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted AND relation = 'a'::regclass";
    while server.psql("shop", is_held) != "1" {
        std::thread::sleep(Duration::from_millis(20));
    }
    let begun = Instant::now();
    let error =
        refused(&PostgresEngine { lock_wait: Duration::from_millis(500), ..engine() }, &source(&server, "shop"));
    assert_eq!(error.kind, EngineErrorKind::Busy, "{}", text(&error));
    assert!(text(&error).contains("lock_wait"), "{}", text(&error));
    assert!(begun.elapsed() < Duration::from_secs(20));
    // Nobody has to wait for it who has changed his mind.
    let token = CancelToken::default();
    let context = Context { cancel: token.clone(), ..Context::silent() };
    let begun = Instant::now();
    let error = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let engine = PostgresEngine { lock_wait: Duration::from_secs(60), ..engine() };
            engine.capture(&source(&server, "shop"), &mut MemoryBackup::default(), &context).unwrap_err()
        });
        while server.psql("shop", "SELECT count(*) FROM pg_locks WHERE NOT granted") == "0" {
            std::thread::sleep(Duration::from_millis(20));
        }
        token.cancel();
        waiting.join().unwrap()
    });
    assert_eq!(error.kind, EngineErrorKind::Cancelled, "{}", text(&error));
    assert!(begun.elapsed() < Duration::from_secs(20));
    holder.kill().unwrap();
    holder.wait().unwrap();
}

#[test]
fn a_server_that_stops_is_no_backup() {
    let mut server = Server::start(15);
    shop(&server, MANY);
    let url = source(&server, "shop");
    let dumping = std::thread::spawn(move || refused(&engine(), &url));
    while server.psql("postgres", "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY public.%'") == "0" {
        std::thread::sleep(Duration::from_millis(2));
    }
    server.stop(Stop::Immediate);
    let error = dumping.join().unwrap();
    assert!(!text(&error).is_empty());
    server.restart();
    backup(&engine(), &server, "shop");
}

#[test]
fn a_missing_role_or_extension_is_named() {
    let server = Server::start(15);
    shop(&server, FEW);
    server.psql("shop", "CREATE ROLE \"the Seller\"; ALTER TABLE a OWNER TO \"the Seller\"; CREATE EXTENSION hstore");
    let backup = backup(&engine(), &server, "shop");
    let other = Server::start(16);
    other.create_database("shop");
    other.psql("shop", &format!("CREATE TABLE a AS SELECT generate_series(1, {FEW})"));
    let engine = common::engine_for(&other);
    for (missing, remedy) in [("hstore", ""), ("the Seller", "CREATE ROLE \"the Seller\"")] {
        let error = restore(&engine, &backup, &other, "shop", |request| request.replace = true).unwrap_err();
        assert!(text(&error).contains(missing), "{}", text(&error));
        assert_serves(&other, FEW);
        if !remedy.is_empty() {
            other.psql("postgres", remedy);
        }
    }
    restore(&engine_of(&server), &backup, &server, "shop", |request| request.replace = true).unwrap();
    assert_serves(&server, FEW);
}

fn engine_of(server: &Server) -> PostgresEngine {
    common::engine_for(server)
}

/// Processes of this name that work for a server: other tests have theirs.
fn programs_at(server: &Server, name: &str) -> Vec<u32> {
    let port = format!("port='{}'", server.port());
    let is_it = |pid: u32| {
        let read = |what: &str| std::fs::read_to_string(format!("/proc/{pid}/{what}")).unwrap_or_default();
        read("comm").trim() == name && read("cmdline").contains(&port)
    };
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).filter(|pid| is_it(*pid)).collect()
}

/// What happens to a restore while it works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Its `pg_restore` is killed, again and again: a killed one is tried once more.
    Killed,
    /// Its sessions are ended by somebody.
    Disconnected,
    /// The user interrupts it.
    Cancelled,
}

#[test]
fn a_killed_disconnected_or_cancelled_restore_leaves_the_original() {
    let server = Server::start(15);
    shop(&server, MANY);
    let engine = engine();
    let backup = backup(&engine, &server, "shop");
    let at_work = "SELECT count(*) FROM pg_stat_activity WHERE datname ~ '^copal_restore_' AND state = 'active'";
    let end_all = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname ~ '^copal_restore_'";
    for fault in [Fault::Killed, Fault::Disconnected, Fault::Cancelled] {
        let token = CancelToken::default();
        let context = Context { cancel: token.clone(), ..Context::silent() };
        let error = std::thread::scope(|scope| {
            let restoring = scope.spawn(|| {
                let mut request = RestoreRequest::new(source(&server, "shop"));
                request.replace = true;
                engine.restore(&backup, &request, &context).unwrap_err()
            });
            while server.psql("postgres", at_work) == "0" {
                std::thread::sleep(Duration::from_millis(2));
            }
            while !restoring.is_finished() {
                match fault {
                    Fault::Killed => {
                        for pid in programs_at(&server, "pg_restore") {
                            let _ = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status();
                        }
                    }
                    Fault::Disconnected => drop(server.try_psql("postgres", end_all)),
                    Fault::Cancelled => token.cancel(),
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            restoring.join().unwrap()
        });
        assert!(fault != Fault::Cancelled || error.kind == EngineErrorKind::Cancelled, "{}", text(&error));
        assert_serves(&server, MANY);
    }
    restore(&engine, &backup, &server, "shop", |request| request.replace = true).unwrap();
    assert_serves(&server, MANY);
}

#[test]
fn a_full_disk_in_the_server_leaves_the_original() {
    let server = Server::start(15);
    shop(&server, FEW);
    if server.small_tablespace("small", 24).is_none() {
        // Without the right to mount there is no small disk.
        return;
    }
    // It has room for this once, not twice.
    server.psql(
        "shop",
        "CREATE TABLE c TABLESPACE small AS SELECT id, repeat('x', 200) AS text FROM generate_series(1, 60000) AS id",
    );
    let backup = backup(&engine(), &server, "shop");
    let error = restore(&engine(), &backup, &server, "shop", |request| request.replace = true).unwrap_err();
    assert_eq!(error.kind, EngineErrorKind::NoSpace, "{}", text(&error));
    assert_serves(&server, FEW);
    server.psql("shop", "DROP TABLE c");
    restore(&engine(), &backup, &server, "shop", |request| request.replace = true).unwrap();
    assert_serves(&server, FEW);
}

#[test]
fn what_keeps_the_swap_is_told_and_nothing_is_changed() {
    let server = Server::start(15);
    shop(&server, FEW);
    let backup = backup(&engine(), &server, "shop");
    server.psql("shop", "BEGIN; CREATE TABLE c (id int); PREPARE TRANSACTION 'open'");
    let error = restore(&engine(), &backup, &server, "shop", |request| request.replace = true).unwrap_err();
    assert_eq!(error.kind, EngineErrorKind::Busy, "{}", text(&error));
    assert!(text(&error).contains("prepared"), "{}", text(&error));
    assert_serves(&server, FEW);
    server.psql("shop", "ROLLBACK PREPARED 'open'");
    restore(&engine(), &backup, &server, "shop", |request| request.replace = true).unwrap();
}

#[test]
fn what_a_killed_restore_left_is_dropped_by_the_next() {
    let server = Server::start(15);
    server.create_database("shop");
    let backup = backup(&engine(), &server, "shop");
    server.create_database("copal_restore_0123456789ab");
    server.psql("postgres", "COMMENT ON DATABASE copal_restore_0123456789ab IS 'copal: being restored; dropped by the next restore if its maker is gone'");
    // Killed before it could say what it is, and in a drill.
    server.create_database("copal_restore_0123456789ac");
    server.create_database("copal_drill_0123456789ad");
    server.create_database("copal_restore_somebody");
    server.create_database("copal_restore_0123456789ae");
    server.psql("postgres", "COMMENT ON DATABASE copal_restore_0123456789ae IS 'mine'");
    // A drill that is alive, between its restore and its look.
    let alive = engine().scratch(&source(&server, "shop"), std::path::Path::new("/")).unwrap();
    let restored = engine().restore(&backup, &RestoreRequest::new(alive.source.clone()), &Context::silent()).unwrap();
    restore(&engine(), &backup, &server, "other", |_| {}).unwrap();
    for name in ["0123456789ab", "0123456789ac", "0123456789ad"] {
        assert!(restored.notes.iter().any(|note| note.contains(name)), "{name}: {restored:?}");
    }
    engine().inventory(&alive.source, &Context::silent()).unwrap();
    (alive.discard)().unwrap();
    assert_eq!(databases(&server), "copal_restore_0123456789ae,copal_restore_somebody,other,postgres,shop");
}

#[test]
fn all_databases_of_a_server_are_found() {
    let server = Server::start(15);
    for name in ["a", "It's \"odd\"/ü", "-d"] {
        server.create_database(name);
    }
    let source = Source::parse(&server.url("*")).unwrap();
    let members = engine().members(&source).unwrap().unwrap();
    let names: Vec<_> = members.iter().map(|member| member.name.as_str()).collect();
    assert_eq!(names.len(), 4, "{names:?}");
    for member in &members {
        assert_eq!(engine().identify(&member.source).unwrap().short_name, member.name);
    }
    assert!(engine().members(&Source::parse(&server.url("a")).unwrap()).unwrap().is_none());
}

#[test]
fn drills_leave_nothing() {
    let server = Server::start(15);
    shop(&server, FEW);
    let backup = backup(&engine(), &server, "shop");
    let scratch = engine().scratch(&source(&server, "shop"), std::path::Path::new("/")).unwrap();
    let mut request = RestoreRequest::new(scratch.source.clone());
    request.expected = Some(backup.capture.inventory.clone());
    engine().restore(&backup, &request, &Context::silent()).unwrap();
    let found = engine().inventory(&scratch.source, &Context::silent()).unwrap();
    assert!(backup.capture.inventory.compare(&found).is_empty());
    (scratch.discard)().unwrap();
    assert_serves(&server, FEW);
}
