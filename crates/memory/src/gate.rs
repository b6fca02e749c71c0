//! Who may change a store now: everybody beside each other, or one alone.
//!
//! Every call of a table passes shared. A view, a load and `MemoryStore::atomically` pass alone, so a view has everything or
//! nothing of what is done atomically. A thread that is alone in a store passes as often as it likes.

use std::cell::RefCell;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError};
use std::time::{Duration, Instant};

/// How long passing alone is tried before it is queued for.
const TRIES: Duration = Duration::from_millis(20);

thread_local! {
    /// The gates, by address, that this thread has passed alone.
    static ALONE: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// The gate of one store.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    lock: RwLock<()>,
}

/// Passed with others; nothing if the thread is alone in the store anyway.
pub(crate) struct Shared<'a>(#[expect(dead_code, reason = "held for its drop")] Option<RwLockReadGuard<'a, ()>>);

/// Passed alone.
pub(crate) struct Alone<'a> {
    address: usize,
    /// When others began to be kept out.
    since: Instant,
    lock: Option<RwLockWriteGuard<'a, ()>>,
}

impl Gate {
    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    fn is_mine(&self) -> bool {
        ALONE.with_borrow(|alone| alone.contains(&self.address()))
    }

    /// Who queues for the lock keeps others out until it runs again, which may be long on a busy machine. So first it is only tried.
    fn lock(&self) -> (Instant, RwLockWriteGuard<'_, ()>) {
        let started = Instant::now();
        while started.elapsed() < TRIES {
            let now = Instant::now();
            match self.lock.try_write() {
                Ok(lock) => return (now, lock),
                Err(TryLockError::Poisoned(poisoned)) => return (now, poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => std::thread::yield_now(),
            }
        }
        (Instant::now(), self.lock.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Passes with others.
    pub(crate) fn shared(&self) -> Shared<'_> {
        if self.is_mine() {
            return Shared(None);
        }
        Shared(Some(self.lock.read().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Waits until nobody is inside, and keeps others out.
    pub(crate) fn alone(&self) -> Alone<'_> {
        let address = self.address();
        if self.is_mine() {
            return Alone { address, since: Instant::now(), lock: None };
        }
        let (since, lock) = self.lock();
        ALONE.with_borrow_mut(|alone| alone.push(address));
        Alone { address, since, lock: Some(lock) }
    }
}

impl Alone<'_> {
    /// How long others have been kept out.
    pub(crate) fn held(&self) -> Duration {
        self.since.elapsed()
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        if self.lock.take().is_some() {
            ALONE.with_borrow_mut(|alone| alone.retain(|address| *address != self.address));
        }
    }
}
