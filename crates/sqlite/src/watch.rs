//! Interrupts a running SQL statement when the operation is cancelled.
//!
//! A progress handler would not do: `count(*)` is one instruction of SQLite's machine, however long it takes, and only
//! `sqlite3_interrupt` reaches it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use copal_core::Context;
use rusqlite::Connection;

/// How soon a cancelled statement stops.
const INTERVAL: Duration = Duration::from_millis(50);

/// Runs `work`, interrupting `connection` as soon as `context` is cancelled.
pub(crate) fn interruptible<T>(connection: &Connection, context: &Context, work: impl FnOnce() -> T) -> T {
    let handle = connection.get_interrupt_handle();
    let finished = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            while !finished.load(Ordering::Acquire) {
                if context.cancel.is_cancelled() {
                    // Again and again: an interrupt has no effect between two statements.
                    handle.interrupt();
                }
                std::thread::park_timeout(INTERVAL);
            }
        });
        // Also when `work` panics, so that the scope can end.
        let _finish = Finish { finished: &finished, watcher: watcher.thread().clone() };
        work()
    })
}

struct Finish<'a> {
    finished: &'a AtomicBool,
    watcher: std::thread::Thread,
}

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.finished.store(true, Ordering::Release);
        self.watcher.unpark();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_running_statement_ends_when_cancelled() {
        let connection = Connection::open_in_memory().unwrap();
        let context = Context::silent();
        let sql = "WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n";
        let started = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(200));
                context.cancel.cancel();
            });
            let result =
                interruptible(&connection, &context, || connection.query_row(sql, [], |row| row.get::<_, i64>(0)));
            assert_eq!(result.unwrap_err().sqlite_error_code(), Some(rusqlite::ErrorCode::OperationInterrupted));
        });
        assert!(started.elapsed() < Duration::from_secs(10));
    }
}
