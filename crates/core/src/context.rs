//! What a long operation is given from outside: a way to be cancelled and a place to tell its progress.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The operation was cancelled from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("interrupted")]
pub struct Cancelled;

/// A flag that tells an operation to stop; clones share it.
#[derive(Clone, Debug, Default)]
pub struct CancelToken(Arc<AtomicBool>);

impl CancelToken {
    /// Asks every holder of the token to stop soon.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether `cancel` was called.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// Cancels when the answer is dropped: for work that nobody shall go on with when whoever waits for it is gone.
    pub fn cancel_on_drop(&self) -> CancelOnDrop {
        CancelOnDrop(self.clone())
    }

    /// `Err(Cancelled)` once `cancel` was called; call it in every loop.
    pub fn check(&self) -> Result<(), Cancelled> {
        if self.is_cancelled() { Err(Cancelled) } else { Ok(()) }
    }
}

/// Cancels its token when it is dropped.
#[derive(Debug)]
#[must_use = "it cancels at once if it is not kept"]
pub struct CancelOnDrop(CancelToken);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Something worth telling while an operation runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A new phase begins, for example `reading` or `checking`; `bytes` where the amount of work is known.
    Phase {
        /// One word or two in the -ing form, lower case.
        name: String,
        /// The amount of work in bytes of database, if known.
        bytes: Option<u64>,
    },
    /// So many bytes of the phase's work are done since the last such event.
    Advance(u64),
    /// Worth a line in verbose output.
    Note(String),
    /// The operation goes on, but somebody should know; ends up in the result's warnings.
    Warning(String),
}

/// Receives events; called from several threads, and must be quick.
pub trait Progress: Send + Sync {
    /// Takes one event.
    fn event(&self, event: Event);
}

/// Drops every event.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _event: Event) {}
}

/// What every long operation gets.
#[derive(Clone)]
pub struct Context {
    /// Tells the operation to stop.
    pub cancel: CancelToken,
    /// Where the operation tells how far it is.
    pub progress: Arc<dyn Progress>,
}

impl Context {
    /// A context that cannot be cancelled from outside and tells nobody.
    pub fn silent() -> Self {
        Self { cancel: CancelToken::default(), progress: Arc::new(Silent) }
    }

    /// Tells that a phase begins.
    pub fn phase(&self, name: impl Into<String>, bytes: Option<u64>) {
        self.progress.event(Event::Phase { name: name.into(), bytes });
    }

    /// Tells that `bytes` more are done.
    pub fn advance(&self, bytes: u64) {
        self.progress.event(Event::Advance(bytes));
    }

    /// Tells something for verbose output.
    pub fn note(&self, text: impl Into<String>) {
        self.progress.event(Event::Note(text.into()));
    }

    /// Tells a warning.
    pub fn warn(&self, text: impl Into<String>) {
        self.progress.event(Event::Warning(text.into()));
    }
}

impl Default for Context {
    fn default() -> Self {
        Self::silent()
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("cancel", &self.cancel).finish_non_exhaustive()
    }
}
