//! Renewing a held lease in the background and knowing when it may be lost.
//!
//! Its invariant errs to one side: [`Renewal::lost`] says so as soon as another process *may* have waited the time to
//! live out, measured from the beginning of the last successful write on the clock that goes on while the machine sleeps.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::HeldLease;
use crate::{Clock, Result, StorageError, StorageErrorKind};

/// A task that renews a lease every quarter of its time to live; dropping it stops that without releasing the lease.
#[derive(Debug)]
pub struct Renewal {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    task: Option<JoinHandle<HeldLease>>,
}

#[derive(Debug)]
struct Shared {
    clock: Arc<dyn Clock>,
    ttl: Duration,
    /// Somebody else holds the lease now.
    taken: AtomicBool,
    /// The boot time at which the last successful write began.
    written: Mutex<Duration>,
}

impl Renewal {
    /// Starts renewing a lease; `since` is what [`Clock::boot`] showed before the call that acquired it.
    pub fn start(held: HeldLease, since: Duration, ttl: Duration, clock: Arc<dyn Clock>) -> Self {
        let written = Mutex::new(since);
        let shared = Arc::new(Shared { clock, ttl, taken: AtomicBool::new(false), written });
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(renew(held, Arc::clone(&shared), stopped));
        Self { shared, stop, task: Some(task) }
    }

    /// Whether another process has taken the lease or may have, because it was not renewed for its time to live.
    pub fn lost(&self) -> bool {
        self.shared.lost()
    }

    /// Stops renewing, letting a write under way end, and returns the lease for its release.
    pub async fn stop(mut self) -> Result<HeldLease> {
        let _ = self.stop.send(true);
        match self.task.take() {
            Some(task) => task.await.map_err(|e| {
                StorageError::new(StorageErrorKind::Other, "the renewal of the lease was aborted").because(e)
            }),
            None => Err(StorageError::new(StorageErrorKind::Other, "the renewal of the lease has ended")),
        }
    }
}

impl Drop for Renewal {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Shared {
    fn lost(&self) -> bool {
        self.taken.load(Ordering::SeqCst) || {
            let written = *self.written.lock().unwrap_or_else(PoisonError::into_inner);
            self.clock.boot().saturating_sub(written) >= self.ttl
        }
    }
}

async fn renew(mut held: HeldLease, shared: Arc<Shared>, mut stopped: watch::Receiver<bool>) -> HeldLease {
    let mut pause = shared.ttl / 4;
    loop {
        tokio::select! {
            () = shared.clock.sleep(pause) => {}
            _ = stopped.changed() => return held,
        }
        let begin = shared.clock.boot();
        match held.renew().await {
            Ok(()) => {
                *shared.written.lock().unwrap_or_else(PoisonError::into_inner) = begin;
                pause = shared.ttl / 4;
            }
            Err(error) if error.kind() == StorageErrorKind::Conflict => {
                tracing::warn!(%error, "the lease was taken by somebody else");
                shared.taken.store(true, Ordering::SeqCst);
                return held;
            }
            Err(error) => {
                tracing::warn!(%error, "the lease could not be renewed, trying again soon");
                pause = shared.ttl / 16;
            }
        }
    }
}
