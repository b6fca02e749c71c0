//! Dumps of a database whose tables are truncated, rewritten, dropped and created meanwhile, and swaps under connections.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::memory::MemoryBackup;
use common::{backup, engine, restore, source};
use copal_core::{Context, Engine, EngineErrorKind};
use copal_postgres::PostgresEngine;
use copal_postgres::testing::{Load, Server, Work, invariants};

/// Rounds of the short version; `make soak` asks for more.
fn rounds() -> usize {
    std::env::var("COPAL_TEST_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(1)
}

/// Whose tables rest so long between changes has a dump, however slow the machine is.
const LONGEST_REST: Duration = Duration::from_secs(10);

#[test]
fn every_dump_is_one_moment() {
    every_dump_is_whole(Duration::from_millis(400), true);
}

#[test]
fn a_dump_is_whole_or_says_that_it_is_not() {
    every_dump_is_whole(Duration::from_millis(5), false);
}

/// Backups of a database whose tables are rewritten, each after such a rest, compared with what must be true at any moment.
fn every_dump_is_whole(mut rest: Duration, must_succeed: bool) {
    let server = Server::start(15);
    server.create_database("busy");
    let mut load = Load::start_with(&server, "busy", &Work::ALL, rest);
    let mut round = 0;
    while round < 4 * rounds() {
        let lock_wait = Duration::from_secs(if must_succeed { 30 } else { 1 });
        let engine = PostgresEngine { jobs: 1 + round % 2, lock_wait, ..engine() };
        let before = Load::turns(&server, "busy");
        let mut backup = MemoryBackup::default();
        match engine.capture(&source(&server, "busy"), &mut backup, &Context::silent()) {
            Ok(capture) => backup.capture = capture,
            Err(error) => {
                assert!(error.kind == EngineErrorKind::Busy && rest < LONGEST_REST, "{rest:?}: {error:?}");
                if must_succeed {
                    // Here a dump takes longer than the tables rest: the same again with more rest.
                    load.stop(&server);
                    rest *= 2;
                    load = Load::start_with(&server, "busy", &Work::ALL, rest);
                } else {
                    round += 1;
                }
                continue;
            }
        }
        round += 1;
        restore(&engine, &backup, &server, "copy", |request| request.replace = true).unwrap();
        invariants(&server, "copy").unwrap();
        // What was committed before the backup began is in it.
        for (work, turns) in Load::turns(&server, "copy") {
            assert!(turns >= before[&work], "{work}: {turns} turns in the backup, {} before it", before[&work]);
        }
    }
    load.stop(&server);
    invariants(&server, "busy").unwrap();
}

#[test]
fn a_snapshot_alone_would_have_lost_rows() {
    // The recipe in circulation: export a snapshot, then dump in it. A TRUNCATE between the two leaves nothing of a table.
    let server = Server::start(15);
    server.create_database("busy");
    server.psql("busy", "CREATE TABLE a AS SELECT generate_series(1, 1000) AS id");
    let mut exporter = server.command("psql", "busy");
    let script =
        "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT pg_export_snapshot() \\g /dev/stderr\n\\! sleep 3\nCOMMIT;\n";
    exporter.args(["-X", "-q", "-A", "-t"]).stdin(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut exporter = exporter.spawn().unwrap();
    std::io::Write::write_all(exporter.stdin.as_mut().unwrap(), script.as_bytes()).unwrap();
    let mut snapshot = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(exporter.stderr.take().unwrap()), &mut snapshot).unwrap();
    server.psql("busy", "TRUNCATE a");
    let dumped = server.command("pg_dump", "busy").arg(format!("--snapshot={}", snapshot.trim())).output().unwrap();
    assert!(dumped.status.success(), "{dumped:?}");
    let text = String::from_utf8(dumped.stdout).unwrap();
    assert!(!text.contains("\n1000\n"), "PostgreSQL has learned to keep truncated rows: look at the view again");
    drop(exporter.stdin.take());
    exporter.wait().unwrap();
}

#[test]
fn the_target_is_away_for_a_moment_only() {
    let server = Server::start(15);
    server.create_database("shop");
    server.psql("shop", "CREATE TABLE a AS SELECT generate_series(1, 10000) AS id");
    let backup = backup(&engine(), &server, "shop");
    let stop = AtomicBool::new(false);
    let longest = std::thread::scope(|scope| {
        let user = scope.spawn(|| {
            let (mut longest, mut last) = (Duration::ZERO, Instant::now());
            while !stop.load(Ordering::SeqCst) {
                if server.try_psql("shop", "SELECT count(*) FROM a").is_ok_and(|rows| rows == "10000") {
                    longest = longest.max(last.elapsed());
                    last = Instant::now();
                }
            }
            longest.max(last.elapsed())
        });
        // Sessions that stay, as of a pool: they are ended.
        let mut idle: Vec<_> = (0..5)
            .map(|_| {
                let mut command = server.command("psql", "shop");
                command.args(["-X", "-c", "SELECT pg_sleep(60)"]).stdout(std::process::Stdio::null());
                command.stderr(std::process::Stdio::null()).spawn().unwrap()
            })
            .collect();
        std::thread::sleep(Duration::from_millis(300));
        for _ in 0..3 {
            restore(&engine(), &backup, &server, "shop", |request| request.replace = true).unwrap();
        }
        stop.store(true, Ordering::SeqCst);
        for child in &mut idle {
            assert!(!child.wait().unwrap().success());
        }
        user.join().unwrap()
    });
    // bench/run_postgres.py measures it (0.1 s); this is about the five seconds that a rename would wait for sessions.
    assert!(longest < Duration::from_secs(3), "{longest:?}");
    assert!(engine().identify(&source(&server, "shop")).is_ok());
    engine().inventory(&source(&server, "shop"), &Context::silent()).unwrap();
}
