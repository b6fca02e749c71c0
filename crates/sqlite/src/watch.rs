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
