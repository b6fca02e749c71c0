//! One use case under way: what it tells, how it is cancelled, how it ended.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use copal::{CancelToken, Context, CopalError, ErrorKind, Event, Progress, Result};
use pyo3::prelude::*;
use serde::Serialize;

use crate::failure::{self, Failure};
use crate::host::Host;

/// Progress is told no more often than this.
const INTERVAL: Duration = Duration::from_millis(100);

/// What the threads that work and the thread that waits have in common.
pub(crate) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    cancel: CancelToken,
}

#[derive(Default)]
struct State {
    phase: Phase,
    /// There is progress that was not told.
    is_news: bool,
    told: Option<Instant>,
    /// Notes and warnings.
    texts: VecDeque<(&'static str, String)>,
    /// The answer, or the error, as JSON.
    outcome: Option<std::result::Result<String, String>>,
    has_ended: bool,
    /// The interpreter ends: nobody may go back to it.
    is_abandoned: bool,
}

#[derive(Default, Serialize)]
struct Phase {
    phase: String,
    done_bytes: u64,
    total_bytes: Option<u64>,
}

/// What `next` answers.
type News = Option<std::result::Result<(&'static str, String), String>>;

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, outcome: Result<String>) {
        let mut state = self.lock();
        state.outcome = Some(outcome.map_err(|error| failure::describe(&error)));
        state.has_ended = true;
        self.changed.notify_all();
    }

    /// Cancels the work; whoever waits for it, waits for ever.
    pub(crate) fn abandon(&self) {
        self.cancel.cancel();
        self.lock().is_abandoned = true;
        self.changed.notify_all();
    }

    /// Waits until the work has ended, or until `deadline`.
    pub(crate) fn wait_for_end(&self, deadline: Instant) {
        let mut state = self.lock();
        while !state.has_ended {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for something to tell, at most so long.
    fn wait(&self, limit: Duration) -> News {
        let deadline = Instant::now() + limit;
        let mut state = self.lock();
        loop {
            if state.is_abandoned {
                drop(state);
                loop {
                    std::thread::park();
                }
            }
            if let Some((kind, text)) = state.texts.pop_front() {
                return Some(Ok((kind, text)));
            }
            let now = Instant::now();
            let due = state.told.map_or(now, |told| told + INTERVAL);
            if state.is_news && (now >= due || state.has_ended) {
                state.is_news = false;
                state.told = Some(now);
                // Texts and numbers can always be written.
                return Some(Ok(("progress", serde_json::to_string(&state.phase).unwrap_or_default())));
            }
            if let Some(outcome) = state.outcome.take() {
                return Some(outcome.map(|answer| ("answer", answer)));
            }
            let until = if state.is_news { deadline.min(due) } else { deadline };
            if now >= deadline || state.has_ended {
                return None;
            }
            let left = until.saturating_duration_since(now).max(Duration::from_millis(1));
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Progress for Shared {
    fn event(&self, event: Event) {
        let mut state = self.lock();
        match event {
            // Announced by two layers, it is still one phase.
            Event::Phase { name, .. } if state.phase.phase == name => return,
            Event::Phase { name, bytes } => {
                state.phase = Phase { phase: name, done_bytes: 0, total_bytes: bytes };
                state.is_news = true;
            }
            Event::Advance(bytes) => {
                state.phase.done_bytes = state.phase.done_bytes.saturating_add(bytes);
                if state.is_news {
                    return;
                }
                state.is_news = true;
            }
            Event::Note(text) => state.texts.push_back(("note", text)),
            Event::Warning(text) => state.texts.push_back(("warning", text)),
        }
        self.changed.notify_all();
    }
}

/// A use case under way. Call `next` until it has answered or raised, also after `cancel`.
#[pyclass(frozen, module = "copal._copal")]
pub(crate) struct Work {
    shared: Arc<Shared>,
    process: u32,
}

impl Work {
    /// Begins work on the threads of this process.
    pub(crate) fn begin<F>(work: impl FnOnce(Context) -> F) -> Result<Self>
    where
        F: Future<Output = Result<String>> + Send + 'static,
    {
        let host = Host::get()?;
        let shared =
            Arc::new(Shared { state: Mutex::default(), changed: Condvar::new(), cancel: CancelToken::default() });
        host.remember(Arc::downgrade(&shared));
        let task = host.runtime.spawn(work(Context { cancel: shared.cancel.clone(), progress: shared.clone() }));
        let ending = shared.clone();
        host.runtime.spawn(async move {
            let stopped = |e| CopalError::new(ErrorKind::Failed, "the work stopped unexpectedly").because(e);
            ending.end(task.await.map_err(stopped).and_then(|outcome| outcome));
        });
        Ok(Self { shared, process: host.process })
    }
}

#[pymethods]
impl Work {
    /// Waits at most so many seconds for what happens next: `("progress", JSON)`, `("note", text)`, `("warning", text)`,
    /// `("answer", JSON)`, which is the last, or `None` if there was nothing. Raises `Failure` if the work failed.
    fn next(&self, py: Python<'_>, seconds: f64) -> PyResult<Option<(&'static str, String)>> {
        if self.process != std::process::id() {
            let error =
                CopalError::new(ErrorKind::Failed, "this was begun by the process from which this one was forked");
            return Err(failure::raise(&error));
        }
        let limit = Duration::try_from_secs_f64(seconds).unwrap_or_default().min(Duration::from_secs(3_600));
        py.detach(|| self.shared.wait(limit)).transpose().map_err(Failure::new_err)
    }

    /// Asks the work to stop soon, at a safe place.
    fn cancel(&self) {
        self.shared.cancel.cancel();
    }
}
