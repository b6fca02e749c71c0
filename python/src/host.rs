//! The threads that do the work: one runtime for a process, made when it is first needed and never dropped.

use std::sync::{Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use copal::{CopalError, ErrorKind, Result};
use pyo3::prelude::*;
use tokio::runtime::{Builder, Runtime};

use crate::work::Shared;

/// The runtime of one process and the work that it does.
pub(crate) struct Host {
    /// A process that was forked off has none of these threads, so it makes a host of its own.
    pub(crate) process: u32,
    pub(crate) runtime: Runtime,
    /// What was begun and may still run. Locked under the interpreter's lock only, as `HOST` is: nobody who forks by
    /// `os.fork` leaves one of them locked.
    works: Mutex<Vec<Weak<Shared>>>,
}

/// The host of this process, or of the one that it was forked from. Leaked, since dropping it would wait for threads that a
/// forked process does not have.
static HOST: Mutex<Option<&'static Host>> = Mutex::new(None);

impl Host {
    /// The host of this process.
    pub(crate) fn get() -> Result<&'static Self> {
        let mut host = HOST.lock().unwrap_or_else(PoisonError::into_inner);
        let process = std::process::id();
        if let Some(host) = host.filter(|host| host.process == process) {
            return Ok(host);
        }
        let workers = std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 8));
        let runtime = Builder::new_multi_thread().worker_threads(workers).thread_name("copal").enable_all().build();
        let runtime = runtime.map_err(|error| {
            CopalError::new(ErrorKind::Failed, "the threads of copal cannot be started").because(error)
        })?;
        let new: &'static Self = Box::leak(Box::new(Self { process, runtime, works: Mutex::default() }));
        *host = Some(new);
        Ok(new)
    }

    /// Remembers work that was begun.
    pub(crate) fn remember(&self, work: Weak<Shared>) {
        let mut works = self.works.lock().unwrap_or_else(PoisonError::into_inner);
        works.retain(|work| work.strong_count() > 0);
        works.push(work);
    }
}

/// Ends all work that was begun: cancels it and waits until it has ended, at most so many seconds. Called when the
/// interpreter ends; threads that wait for such work never come back to Python, which would not survive that.
#[pyfunction]
pub(crate) fn shutdown(py: Python<'_>, seconds: f64) {
    let host = *HOST.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(host) = host.filter(|host| host.process == std::process::id()) else { return };
    let works: Vec<_> = {
        let mut works = host.works.lock().unwrap_or_else(PoisonError::into_inner);
        works.drain(..).filter_map(|work| work.upgrade()).collect()
    };
    works.iter().for_each(|work| work.abandon());
    let limit = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    py.detach(|| {
        let deadline = Instant::now() + limit;
        works.iter().for_each(|work| work.wait_for_end(deadline));
    });
}
