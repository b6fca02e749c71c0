//! The hammer: processes write to a database while it is captured in a loop, and every capture is restored and checked.
//!
//! Writers move money between accounts, which keeps the sum, and number their log entries without gaps. A capture
//! that is not exactly one committed state breaks one of the two, or the integrity check.

use std::path::Path;
use std::time::{Duration, Instant};

use copal_core::{Context, Engine, Source};
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use crate::Reader;
use crate::SqliteEngine;
use crate::testing::{MemoryBackup, Running, Scratch, child};

const CHILD: &str = "capture::hammer_tests::writer";
const ACCOUNTS: u64 = 500;
const TOTAL: i64 = 500_000;
const WRITERS: u64 = 3;
/// For each way to read, in WAL mode; together more than 200.
const ROUNDS: u32 = 90;
const ROLLBACK_ROUNDS: u32 = 25;
/// Rounds in which the writers must have got on; on a machine that does other things they do not in each.
const AT_WORK: i64 = 10;

/// Not a test by itself: a process that writes until it is killed.
#[test]
fn writer() {
    let Ok(path) = std::env::var("COPAL_TEST_HAMMER") else { return };
    let mut seed: u64 = std::env::var("COPAL_TEST_SEED").unwrap().parse().unwrap();
    let mut random = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let mut connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
    connection.busy_timeout(Duration::from_secs(30)).unwrap();
    connection
        .execute_batch("PRAGMA synchronous = OFF; PRAGMA wal_autocheckpoint = 50; PRAGMA cache_size = 20")
        .unwrap();
    loop {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
        for _ in 0..=random(5) {
            let (from, to, amount) = (random(ACCOUNTS), random(ACCOUNTS), random(100));
            let script = format!(
                "UPDATE accounts SET balance = balance - {amount} WHERE id = {from};
                 UPDATE accounts SET balance = balance + {amount} WHERE id = {to};
                 INSERT INTO log SELECT coalesce(max(id), 0) + 1, {from}, {to}, zeroblob({}) FROM log;",
                random(3000),
            );
            transaction.execute_batch(&script).unwrap();
        }
        // Grows and shrinks, so that pages come, go and are used again.
        if random(20) == 0 {
            transaction.execute_batch("DELETE FROM log WHERE id < (SELECT max(id) FROM log) - 100").unwrap();
        }
        transaction.commit().unwrap();
        match random(60) {
            0 => connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap(),
            1 => connection.execute_batch("PRAGMA wal_checkpoint(RESTART)").unwrap(),
            2 => connection.execute_batch("PRAGMA incremental_vacuum(50)").unwrap(),
            _ => {}
        }
    }
}

/// A database, and processes that write to it.
pub(crate) struct Hammered {
    pub(crate) scratch: Scratch,
    _writers: Vec<Running>,
}

impl Hammered {
    /// Makes the database in a new folder within another one, and waits until the writers write.
    pub(crate) fn start(folder: &Path, mode: &str) -> Self {
        let scratch = Scratch::within(folder, "app.db", &format!(
            "PRAGMA page_size = 1024; PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = {mode};
             CREATE TABLE accounts (id INTEGER PRIMARY KEY, balance INTEGER); CREATE INDEX by_balance ON accounts (balance);
             CREATE TABLE log (id INTEGER PRIMARY KEY, source INT, target INT, filler BLOB);
             WITH RECURSIVE n (i) AS (VALUES (0) UNION ALL SELECT i + 1 FROM n WHERE i < {ACCOUNTS} - 1)
             INSERT INTO accounts SELECT i, {TOTAL} / {ACCOUNTS} FROM n;",
        ));
        let writers = (0..WRITERS)
            .map(|seed| {
                let path = scratch.path.to_str().unwrap().to_owned();
                let arguments = [("COPAL_TEST_HAMMER", path.as_str()), ("COPAL_TEST_SEED", &seed.to_string())];
                Running(child(CHILD, &arguments).spawn().unwrap())
            })
            .collect();
        let deadline = Instant::now() + Duration::from_secs(20);
        let newest =
            || scratch.connect().query_row("SELECT coalesce(max(id), 0) FROM log", [], |r| r.get::<_, i64>(0)).unwrap();
        while newest() < 20 {
            assert!(Instant::now() < deadline, "the writers write");
            std::thread::sleep(Duration::from_millis(10));
        }
        Self { scratch, _writers: writers }
    }
}

/// Looks whether a file that nobody writes to is one committed state; returns the newest number in the log, and how many
/// there are.
pub(crate) fn assert_one_state(path: &Path, what: &str) -> (i64, i64) {
    let connection = crate::database::open_immutable(path).unwrap();
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    let check: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok", "{what}");
    assert_eq!(number("SELECT sum(balance) FROM accounts"), TOTAL, "{what}");
    assert_eq!(number("SELECT max(id) - min(id) + 1 - count(*) FROM log"), 0, "{what}: a gap in the log");
    (number("SELECT max(id) FROM log"), number("SELECT count(*) FROM log"))
}

fn hammer(mode: &str, reader: Reader, rounds: u32) -> i64 {
    let hammered = Hammered::start(&std::env::temp_dir(), mode);
    let scratch = &hammered.scratch;
    let engine = SqliteEngine { wait: Duration::from_secs(20), reader };
    let (mut last, mut moved) = (0, 0);
    for round in 0..rounds {
        let mut sink = MemoryBackup::default();
        let capture = engine.capture(&Source::path(&scratch.path), &mut sink, &Context::silent()).unwrap();
        let restored = Scratch::new("");
        std::fs::write(&restored.path, &sink.bytes).unwrap();
        let (now, rows) = assert_one_state(&restored.path, &format!("round {round}"));
        assert!(now >= last, "round {round}: back in time");
        moved += i64::from(now > last);
        last = now;
        let counted = capture.inventory.tables.iter().find(|t| t.name == "log").and_then(|t| t.rows);
        assert_eq!(counted, u64::try_from(rows).ok(), "round {round}: another view");
    }
    moved
}

#[test]
fn hammered_in_wal_mode_raw() {
    let moved = hammer("wal", Reader::Raw, ROUNDS);
    assert!(moved >= AT_WORK, "the writers were at work: {moved}");
}

#[test]
fn hammered_in_wal_mode_dbpage() {
    let moved = hammer("wal", Reader::DbPage, ROUNDS);
    assert!(moved >= AT_WORK, "the writers were at work: {moved}");
}

#[test]
fn hammered_in_rollback_mode() {
    for reader in [Reader::Raw, Reader::DbPage] {
        hammer("delete", reader, ROLLBACK_ROUNDS);
    }
}
