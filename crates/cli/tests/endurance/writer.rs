//! Processes that write to a database, and what must be true of every state they commit.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, params};

const ACCOUNTS: i64 = 200;
const TOTAL: i64 = ACCOUNTS * 1000;

/// Makes a bank: accounts whose balances always sum up to the same, and a log of transfers without gaps.
pub(crate) fn create(path: &Path, journal_mode: &str) {
    let db = Connection::open(path).unwrap();
    db.pragma_update(None, "journal_mode", journal_mode).unwrap();
    db.execute_batch(
        "CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL, filler BLOB);
         CREATE TABLE log (n INTEGER PRIMARY KEY, source INTEGER, target INTEGER, amount INTEGER)",
    )
    .unwrap();
    let mut db = db;
    let transaction = db.transaction().unwrap();
    for id in 0..ACCOUNTS {
        transaction.execute("INSERT INTO account VALUES (?1, 1000, randomblob(900))", [id]).unwrap();
    }
    transaction.commit().unwrap();
}

/// The newest entry of the log. Panics if the state breaks an invariant.
pub(crate) fn check(path: &Path) -> i64 {
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
    let ok: String = db.query_row("PRAGMA integrity_check", [], |r| r.get(0)).unwrap();
    assert_eq!(ok, "ok");
    let total: i64 = db.query_row("SELECT sum(balance) FROM account", [], |r| r.get(0)).unwrap();
    assert_eq!(total, TOTAL, "balances in {}", path.display());
    newest(&db)
}

/// The newest entry of the log of a live database.
pub(crate) fn committed(path: &Path) -> i64 {
    let db = Connection::open(path).unwrap();
    db.busy_timeout(Duration::from_secs(20)).unwrap();
    newest(&db)
}

fn newest(db: &Connection) -> i64 {
    let sql = "SELECT count(*), coalesce(max(n), 0) FROM log";
    let (count, newest): (i64, i64) = db.query_row(sql, [], |r| Ok((r.get(0)?, r.get(1)?))).unwrap();
    assert_eq!(count, newest, "the log has a gap");
    newest
}

/// Writers in processes of their own, ended when dropped.
pub(crate) struct Writers(Vec<Child>);

impl Writers {
    pub(crate) fn start(path: &Path, count: u64) -> Self {
        let start = |seed: u64| {
            Command::new(std::env::current_exe().unwrap())
                .args(["--ignored", "--exact", "writer::write_until_killed", "--nocapture"])
                .env("COPAL_TEST_WRITER", path)
                .env("COPAL_TEST_SEED", seed.to_string())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap()
        };
        Self((1..=count).map(start).collect())
    }

    pub(crate) fn are_alive(&mut self) -> bool {
        self.0.iter_mut().all(|child| matches!(child.try_wait(), Ok(None)))
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A small generator of numbers: the same seed gives the same numbers.
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

#[test]
#[ignore = "other tests run it as a process of its own"]
fn write_until_killed() {
    let Some(path) = std::env::var_os("COPAL_TEST_WRITER").map(PathBuf::from) else { return };
    let mut numbers = Numbers(std::env::var("COPAL_TEST_SEED").unwrap().parse().unwrap());
    let mut db = Connection::open(path).unwrap();
    db.busy_timeout(Duration::from_secs(20)).unwrap();
    db.pragma_update(None, "synchronous", "off").unwrap();
    db.pragma_update(None, "wal_autocheckpoint", 50).unwrap();
    // Ends by itself, should the test die without ending it.
    for _ in 0..1_000_000 {
        let Ok(transaction) = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate) else { continue };
        let amount = numbers.below(50) as i64;
        let (source, target) = (numbers.below(ACCOUNTS as u64) as i64, numbers.below(ACCOUNTS as u64) as i64);
        let update = "UPDATE account SET balance = balance + ?2, filler = randomblob(900) WHERE id = ?1";
        let done = transaction.execute(update, params![source, -amount]).is_ok()
            && transaction.execute(update, params![target, amount]).is_ok()
            && transaction
                .execute(
                    "INSERT INTO log SELECT coalesce(max(n), 0) + 1, ?1, ?2, ?3 FROM log",
                    params![source, target, amount],
                )
                .is_ok();
        if done && numbers.below(20) > 0 {
            let _ = transaction.commit();
        }
        std::thread::sleep(Duration::from_micros(numbers.below(1500)));
    }
}
