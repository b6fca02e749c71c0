//! The first error of work that runs on several threads.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::error::{RepositoryError, RepositoryErrorKind, Result};

/// Set once; everybody who works on the same thing looks at it.
#[derive(Debug, Default)]
pub(crate) struct Abort {
    is_set: AtomicBool,
    error: Mutex<Option<RepositoryError>>,
}

impl Abort {
    /// Stops the work with this error, if it is the first.
    pub(crate) fn set(&self, error: RepositoryError) {
        let mut slot = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.is_set.swap(true, Ordering::SeqCst) {
            *slot = Some(error);
        }
    }

    pub(crate) fn is_set(&self) -> bool {
        self.is_set.load(Ordering::SeqCst)
    }

    /// The first error, or word of it to whoever comes second.
    pub(crate) fn check(&self) -> Result<()> {
        if !self.is_set() {
            return Ok(());
        }
        let mut slot = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        Err(slot.take().unwrap_or_else(|| {
            RepositoryError::new(RepositoryErrorKind::Cancelled, "the work was stopped after an earlier error")
        }))
    }
}
