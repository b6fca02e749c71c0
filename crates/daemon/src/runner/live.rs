//! A run that is under way: how far it is, and how it is made to stop.

use std::sync::{Mutex, PoisonError};

use copal::schedule::RunReason;
use copal::{CancelToken, Event, Progress};
use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::watch;
use utoipa::ToSchema;

use crate::log::{LogLevel, RunLog};
use crate::run::{RunId, RunRecord, TaskKind};

/// Why a run shall stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Stopping {
    /// Somebody asked for it.
    Cancelled,
    /// It took too long.
    TimeLimit,
    /// The daemon stops.
    Shutdown,
}

/// A run under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct LiveRun {
    /// Its number.
    pub id: RunId,
    /// The database.
    pub database: String,
    /// What it does.
    pub kind: TaskKind,
    /// Why it started.
    #[schema(value_type = String, example = "scheduled")]
    pub reason: RunReason,
    /// Counts from 1 through the retries.
    pub attempt: u32,
    /// When it should have started.
    pub due: Timestamp,
    /// When it did.
    pub started: Timestamp,
    /// What it does just now, for example `reading`; empty at first.
    pub phase: String,
    /// Bytes of the phase's work that are done.
    pub done: u64,
    /// Bytes of the phase's work, where that is known.
    pub total: Option<u64>,
    /// Why it shall stop, once it has been told to.
    pub stopping: Option<Stopping>,
}

/// Both ends meet here: the run tells its progress, others tell it to stop.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) cancel: CancelToken,
    sender: watch::Sender<LiveRun>,
    stopping: Mutex<Option<Stopping>>,
    log: Mutex<RunLog>,
}

impl Live {
    pub(super) fn new(record: &RunRecord) -> Self {
        let live = LiveRun {
            id: record.id,
            database: record.database.clone(),
            kind: record.kind,
            reason: record.reason,
            attempt: record.attempt,
            due: record.due,
            started: record.started,
            phase: String::new(),
            done: 0,
            total: None,
            stopping: None,
        };
        Self {
            cancel: CancelToken::default(),
            sender: watch::Sender::new(live),
            stopping: Mutex::new(None),
            log: Mutex::default(),
        }
    }

    /// Tells the run to stop; the first reason counts.
    pub(super) fn stop(&self, reason: Stopping) {
        let first = *self.stopping.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
        self.cancel.cancel();
        self.sender.send_modify(|live| live.stopping = Some(first));
    }

    pub(super) fn stopping(&self) -> Option<Stopping> {
        *self.stopping.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line to its log.
    pub(super) fn say(&self, level: LogLevel, text: &str) {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).add(Timestamp::now(), level, text);
    }

    /// What it said so far.
    pub(super) fn log(&self) -> RunLog {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn now(&self) -> LiveRun {
        self.sender.borrow().clone()
    }

    pub(super) fn watch(&self) -> watch::Receiver<LiveRun> {
        self.sender.subscribe()
    }
}

impl Progress for Live {
    fn event(&self, event: Event) {
        match event {
            Event::Phase { name, bytes } => {
                self.say(LogLevel::Phase, &name);
                self.sender.send_modify(|live| (live.phase, live.done, live.total) = (name, 0, bytes));
            }
            Event::Advance(bytes) => self.sender.send_modify(|live| live.done = live.done.saturating_add(bytes)),
            Event::Note(text) => {
                self.say(LogLevel::Note, &text);
                tracing::debug!(run = %self.sender.borrow().id, "{text}");
            }
            Event::Warning(text) => {
                self.say(LogLevel::Warning, &text);
                tracing::warn!(run = %self.sender.borrow().id, "{text}");
            }
        }
    }
}
