//! What a manager, its task and those who tell of changes share.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use copal_core::{CancelToken, Context, Silent, Source};
use jiff::Timestamp;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::builder::Terms;
use super::pace::Pace;
use super::saver::{Saved, Saver, Want, busy_waits, full_text};
use super::status::{ManagerFailure, ManagerStatus};
use crate::{Copal, CopalError, ErrorKind, Result};

/// What a manager, its task and those who tell of changes share.
pub(super) struct Shared {
    pub(super) copal: Copal,
    pub(super) database: String,
    /// The same without its password: for messages.
    pub(super) shown: String,
    terms: Terms,
    /// Held while something is saved: one thing at a time.
    pub(super) saver: tokio::sync::Mutex<Saver>,
    status: Mutex<ManagerStatus>,
    pace: Mutex<Pace>,
    /// Something changed that no save has begun with.
    changed: AtomicBool,
    /// Whether anybody ever told of a change.
    is_told: AtomicBool,
    /// Wakes the task: something changed, or its next run is another.
    pub(super) wake: Notify,
    /// How often somebody asked for the end of the work, or dropped the manager.
    stops: watch::Sender<u64>,
    /// Held while the work ends: one end after the other. Whether a last save is owed, since it failed.
    last: tokio::sync::Mutex<bool>,
    /// Ends what is being saved; for a manager that is dropped.
    cancel: CancelToken,
}

impl Shared {
    pub(super) fn new(copal: Copal, database: String, terms: Terms) -> Self {
        let pace = Pace { interval: terms.interval, min_interval: terms.min_interval, begun: None, failed: false };
        Self {
            copal,
            shown: Source::shown(&database),
            database,
            terms,
            saver: tokio::sync::Mutex::default(),
            status: Mutex::default(),
            pace: Mutex::new(pace),
            changed: AtomicBool::new(false),
            is_told: AtomicBool::new(false),
            wake: Notify::new(),
            stops: watch::Sender::new(0),
            last: tokio::sync::Mutex::default(),
            cancel: CancelToken::default(),
        }
    }

    /// The work begins: the first save is due at once, whatever was saved before.
    pub(super) fn begin(&self) {
        lock(&self.pace).begun = None;
        lock(&self.status).started = true;
    }

    /// The work shall end; whoever waits for a callback now waits no longer, since that may be who wants it.
    pub(super) fn end(&self) {
        lock(&self.status).started = false;
        self.stops.send_modify(|stops| *stops = stops.wrapping_add(1));
    }

    /// Waits for a task that was told to end, and makes the last save; also again, if it failed before.
    pub(super) async fn finish(self: &Arc<Self>, task: Option<JoinHandle<()>>) -> Result<()> {
        let mut is_owed = self.last.lock().await;
        if let Some(task) = task {
            // A panic in it has been reported where it was caught.
            let _ = task.await;
            *is_owed = true;
        }
        if !*is_owed && !self.changed.load(Ordering::SeqCst) {
            return Ok(());
        }
        let saved = self.save(Want::Changes).await;
        *is_owed = saved.is_err();
        saved.map(drop)
    }

    /// Ends the task and what is being saved.
    pub(super) fn abandon(&self) {
        self.end();
        self.cancel.cancel();
    }

    pub(super) fn change(&self) {
        self.is_told.store(true, Ordering::Relaxed);
        // Only the first of many has to wake anybody.
        if !self.changed.swap(true, Ordering::SeqCst) {
            self.wake.notify_one();
        }
    }

    pub(super) fn due(&self) -> Instant {
        lock(&self.pace).due(self.changed.load(Ordering::SeqCst), Instant::now())
    }

    pub(super) fn status(&self) -> ManagerStatus {
        let mut status = lock(&self.status).clone();
        status.changed = self.changed.load(Ordering::SeqCst);
        if status.started {
            let wait = self.due().saturating_duration_since(Instant::now());
            status.next_run = Timestamp::now().checked_add(wait).ok();
        }
        status
    }

    /// Saves, keeps the books and tells. A panic on the way is a failure like others.
    pub(super) async fn save(self: &Arc<Self>, want: Want) -> Result<Saved> {
        let shared = Arc::clone(self);
        let result = tokio::spawn(async move { shared.save_with_patience(want).await }).await;
        let result = result.unwrap_or_else(|e| {
            let error = CopalError::new(ErrorKind::Failed, "the backup stopped unexpectedly").because(e);
            Err(self.book_failure(error))
        });
        self.wake.notify_one();
        match result {
            Ok(saved) => Ok(self.tell_success(saved).await),
            Err(error) => Err(self.tell_failure(error).await),
        }
    }

    /// Saves; while somebody else works on the database, again and again for a while.
    async fn save_with_patience(&self, want: Want) -> Result<Saved> {
        let mut saver = self.saver.lock().await;
        if want == Want::Changes && self.is_settled(&saver).await {
            return Ok(Saved::Unchanged);
        }
        let began = Instant::now();
        lock(&self.pace).begun = Some(began);
        lock(&self.status).running = true;
        // What is told from now on may not be in what is saved.
        self.changed.store(false, Ordering::SeqCst);
        let context = Context { cancel: self.cancel.clone(), progress: Arc::new(Silent) };
        let mut waits = busy_waits();
        let result = loop {
            // What is mounted now may be another repository, or none.
            let result = match self.copal.current().await {
                Ok(copal) => saver.save(&copal, (&self.database, &self.shown), &self.terms, want, &context).await,
                Err(error) => Err(error),
            };
            let is_busy = result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Busy);
            let has_patience = began.elapsed() < self.terms.busy_wait && !self.cancel.is_cancelled();
            match waits.next() {
                Some(wait) if is_busy && has_patience => tokio::time::sleep(wait).await,
                _ => break result,
            }
        };
        match result {
            Ok(saved) => {
                self.book_success(&saved, &saver);
                Ok(saved)
            }
            Err(error) => Err(self.book_failure(error)),
        }
    }

    /// Whether a last save would find nothing new.
    async fn is_settled(&self, saver: &Saver) -> bool {
        if self.changed.load(Ordering::SeqCst) || lock(&self.pace).failed {
            return false;
        }
        let context = Context { cancel: self.cancel.clone(), progress: Arc::new(Silent) };
        match self.copal.has_journal(&self.database) {
            // What cannot be told now is told by the save that follows.
            true => match self.copal.current().await {
                Ok(copal) => saver.is_unchanged(&copal, &self.database, &context).await.unwrap_or(false),
                Err(_) => false,
            },
            false => lock(&self.pace).begun.is_some() && self.is_told.load(Ordering::Relaxed),
        }
    }

    fn book_success(&self, saved: &Saved, saver: &Saver) {
        lock(&self.pace).failed = false;
        let mut status = lock(&self.status);
        status.running = false;
        status.last_success = Some(Timestamp::now());
        status.consecutive_failures = 0;
        status.deltas_since_full = saver.deltas;
        status.prune_failure.clone_from(&saver.prune_failure);
        match saved {
            Saved::Full(outcome) => status.last_hold = outcome.held,
            Saved::Delta(outcome) => status.last_hold = outcome.held,
            Saved::Unchanged => {}
        }
    }

    fn book_failure(&self, error: CopalError) -> CopalError {
        // What was told is still not saved.
        self.changed.store(true, Ordering::SeqCst);
        let mut pace = lock(&self.pace);
        pace.failed = true;
        pace.begun.get_or_insert_with(Instant::now);
        drop(pace);
        let mut status = lock(&self.status);
        status.running = false;
        status.consecutive_failures = status.consecutive_failures.saturating_add(1);
        let (kind, message) = (error.kind(), full_text(&error));
        status.last_failure = Some(ManagerFailure { time: Timestamp::now(), kind, message });
        error
    }

    async fn tell_success(&self, saved: Saved) -> Saved {
        let Some(tell) = self.terms.on_success.clone().filter(|_| saved != Saved::Unchanged) else { return saved };
        let told = saved.clone();
        self.call(move || tell(&told)).await;
        saved
    }

    async fn tell_failure(&self, error: CopalError) -> CopalError {
        // Whoever drops the manager wants no more, and that is no failure.
        if error.kind() == ErrorKind::Interrupted && self.cancel.is_cancelled() {
            return error;
        }
        let failures = lock(&self.status).consecutive_failures;
        tracing::warn!(database = self.shown, %error, failures, "a backup failed");
        let Some(tell) = self.terms.on_failure.clone() else { return error };
        let (kind, text) = (error.kind(), error.to_string());
        let error = Arc::new(error);
        let told = Arc::clone(&error);
        self.call(move || tell(&told, failures)).await;
        // Still with the callback only if that has not come back.
        Arc::into_inner(error).unwrap_or_else(|| CopalError::new(kind, text))
    }

    /// Calls the program's own code on a thread where it may block. Whoever stops the manager from there is not waited for.
    async fn call(&self, tell: impl FnOnce() + Send + 'static) {
        let mut stops = self.stops.subscribe();
        let call = tokio::task::spawn_blocking(move || {
            let told = std::panic::catch_unwind(AssertUnwindSafe(tell));
            if told.is_err() {
                tracing::error!("a callback of a backup manager panicked");
            }
        });
        tokio::select! {
            _ = call => {}
            _ = stops.changed() => {}
        }
    }
}

/// Tells a manager of changes; clones are cheap, and it may outlive the manager.
#[derive(Clone, Debug)]
pub struct ChangeNotifier(Weak<Shared>);

impl ChangeNotifier {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self(Arc::downgrade(shared))
    }

    /// As [`BackupManager::notify_change`](super::BackupManager::notify_change).
    pub fn notify_change(&self) {
        if let Some(shared) = self.0.upgrade() {
            shared.change();
        }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
