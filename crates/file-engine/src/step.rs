//! The places at which a call can be interrupted, so that tests can do so at each of them.

/// Marks the place between two steps; with the feature `testkit` it may end the process or fail.
#[cfg(not(feature = "testkit"))]
#[expect(clippy::unnecessary_wraps, reason = "it can fail in tests")]
pub fn step(_name: &str) -> copal_core::EngineResult<()> {
    Ok(())
}

#[cfg(feature = "testkit")]
pub use testing::step;

/// Counts the steps of a thread and interrupts at the one that was asked for.
#[cfg(feature = "testkit")]
pub(crate) mod testing {
    use std::cell::Cell;

    use copal_core::{EngineError, EngineErrorKind, EngineResult};

    thread_local! {
        static PASSED: Cell<u32> = const { Cell::new(0) };
        static FAIL_AT: Cell<Option<u32>> = const { Cell::new(None) };
        static ABORT_AT: Cell<Option<u32>> = const { Cell::new(None) };
    }

    /// From now on, the `n`th step (from 0) of this thread fails.
    pub fn fail_at(n: Option<u32>) {
        PASSED.set(0);
        FAIL_AT.set(n);
    }

    /// From now on, the process ends at the `n`th step (from 0) of this thread, as if it were killed.
    pub fn abort_at(n: Option<u32>) {
        PASSED.set(0);
        ABORT_AT.set(n);
    }

    /// Marks the place between two steps.
    pub fn step(name: &str) -> EngineResult<()> {
        let n = PASSED.get();
        PASSED.set(n + 1);
        if ABORT_AT.get() == Some(n) {
            std::process::abort();
        }
        match FAIL_AT.get() == Some(n) {
            true => Err(EngineError::new(EngineErrorKind::Other, format!("told to fail at step {n}, {name}"))),
            false => Ok(()),
        }
    }
}
