//! The history on a thread of its own: nobody waits for its disk.
//!
//! While it cannot be written, the newest runs wait in memory and it is tried again; [`HistoryStatus`] says so.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use copal_notify::Told;
use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::oneshot;
use utoipa::ToSchema;

use super::{EndedRun, History, HistoryError, NewestRuns, Opened, Result, RunFilter};
use crate::log::{KeptLog, RunLog};
use crate::run::{RunId, RunRecord};
use crate::strips::Strips;

const TRY_AGAIN: Duration = Duration::from_secs(10);
const TRIM_EVERY: Duration = Duration::from_secs(3600);
/// Runs that wait for a disk that is full.
const MOST_PENDING: usize = 1000;
const MOST_PENDING_LOGS: usize = 200;
/// Runs that are written together.
const MOST_AT_ONCE: usize = 100;
/// Strips that are read together, before it is looked whether there is something else to do.
const STRIPS_AT_ONCE: usize = 100;

/// How the history does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct HistoryStatus {
    /// What the last attempt to use it failed with; none if it succeeded.
    pub error: Option<String>,
    /// What became of a file that could not be used.
    pub warning: Option<String>,
    /// Runs and other facts that are not written yet.
    pub pending: usize,
    /// Runs that were never written.
    pub lost: u64,
}

/// What was known when the recorder started.
#[derive(Debug, Default)]
pub struct Past {
    /// The newest runs.
    pub newest: NewestRuns,
    /// What each notifier was told.
    pub told: BTreeMap<String, Told>,
    /// Changes that no backup has followed yet.
    pub changed: BTreeMap<String, Timestamp>,
    /// The number of the newest run.
    pub last_id: Option<RunId>,
    /// Runs that were cut off when the daemon was killed.
    pub interrupted: Vec<RunRecord>,
}

enum Message {
    Run(Box<RunRecord>),
    Told(String, Option<Told>),
    Changed(String, Option<Timestamp>),
    Log(RunId, Box<KeptLog>),
    Runs(RunFilter, oneshot::Sender<Result<Vec<RunRecord>>>),
    Ended(String, Timestamp, u32, oneshot::Sender<Result<Vec<EndedRun>>>),
    LogOf(RunId, oneshot::Sender<Result<KeptLog>>),
    Flush(oneshot::Sender<()>),
}

/// Takes what is to be written, at once. Clones share the thread, which ends after the last of them.
#[derive(Clone, Debug)]
pub struct Recorder {
    messages: Sender<Message>,
    status: Arc<Mutex<HistoryStatus>>,
    strips: Strips,
}

impl Recorder {
    /// Opens the history in the folder and starts the thread; blocks. Without a folder, nothing is kept.
    ///
    /// Always succeeds: a history that cannot be opened is tried again, and nothing is known until the next start.
    pub fn start(folder: Option<&Path>, now: Timestamp) -> (Self, Past) {
        let (messages, inbox) = channel();
        let status = Arc::new(Mutex::new(HistoryStatus::default()));
        let strips = Strips::default();
        let mut writer = Writer {
            folder: folder.map(Path::to_owned),
            history: None,
            status: Arc::clone(&status),
            failure: None,
            pending: Pending::default(),
            strips: strips.clone(),
            without_strip: Vec::new(),
            own: RunId(now.as_millisecond()),
        };
        let past = writer.open(now, RunId(i64::MAX)).and_then(|interrupted| writer.past(interrupted));
        let past = past.unwrap_or_else(|error| {
            writer.failed(error);
            Past::default()
        });
        let spawned = std::thread::Builder::new().name("copal-history".into()).spawn(move || writer.run(&inbox));
        if let Err(error) = spawned {
            let mut status = status.lock().unwrap_or_else(PoisonError::into_inner);
            status.error = Some(format!("the history has no thread: {error}"));
        }
        (Self { messages, status, strips }, past)
    }

    /// Keeps what is known of a run; replaces what was known of it before.
    pub fn record(&self, run: RunRecord) {
        self.strips.hear(&run);
        self.send(Message::Run(Box::new(run)));
    }

    /// Keeps what a run said.
    pub(crate) fn record_log(&self, run: RunId, log: &RunLog) {
        if !log.is_empty() {
            self.send(Message::Log(run, Box::new(log.to_kept())));
        }
    }

    /// Keeps what a notifier was told; `None` forgets it.
    pub fn record_told(&self, notifier: &str, told: Option<Told>) {
        self.send(Message::Told(notifier.to_owned(), told));
    }

    /// Keeps that a database has changed, until a backup follows (`None`).
    pub fn record_changed(&self, database: &str, since: Option<Timestamp>) {
        self.send(Message::Changed(database.to_owned(), since));
    }

    /// Runs, newest first.
    pub async fn runs(&self, filter: RunFilter) -> Result<Vec<RunRecord>> {
        self.ask(|reply| Message::Runs(filter, reply)).await
    }

    /// The newest backup runs of a database that are over and started no earlier than `since`, newest first.
    pub(crate) async fn ended(&self, database: &str, since: Timestamp, most: u32) -> Result<Vec<EndedRun>> {
        self.ask(|reply| Message::Ended(database.to_owned(), since, most, reply)).await
    }

    /// What a run said that is over.
    pub(crate) async fn log(&self, run: RunId) -> Result<KeptLog> {
        self.ask(|reply| Message::LogOf(run, reply)).await
    }

    /// How the newest backup runs of every database ended; soon after the start, those of the time before it, too.
    pub(crate) fn strips(&self) -> &Strips {
        &self.strips
    }

    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<Result<T>>) -> Message) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.send(question(reply));
        answer.await.unwrap_or_else(|_| Err(unavailable(PathBuf::new(), "its thread has ended")))
    }

    /// Waits until what was recorded so far is written, or cannot be.
    pub async fn flush(&self) {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Flush(reply));
        // An error says that the thread has ended, and then nothing is left to wait for.
        let _ = answer.await;
    }

    /// How the history does.
    pub fn status(&self) -> HistoryStatus {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn send(&self, message: Message) {
        if self.messages.send(message).is_err() {
            tracing::debug!("the thread of the history has ended");
        }
    }
}

#[derive(Default)]
struct Pending {
    runs: BTreeMap<RunId, RunRecord>,
    logs: BTreeMap<RunId, KeptLog>,
    told: BTreeMap<String, Option<Told>>,
    changed: BTreeMap<String, Option<Timestamp>>,
}

impl Pending {
    fn len(&self) -> usize {
        self.runs.len() + self.logs.len() + self.told.len() + self.changed.len()
    }
}

/// What the thread owns.
struct Writer {
    folder: Option<PathBuf>,
    history: Option<History>,
    status: Arc<Mutex<HistoryStatus>>,
    /// Why there is none.
    failure: Option<HistoryError>,
    pending: Pending,
    strips: Strips,
    /// Databases whose strips are still to be read.
    without_strip: Vec<String>,
    /// Runs from this one on are of this daemon.
    own: RunId,
}

impl Writer {
    fn run(mut self, inbox: &Receiver<Message>) {
        let mut trimmed = Instant::now();
        loop {
            let pause = match (self.without_strip.is_empty(), self.pending.len()) {
                // Whoever asks does not wait for all of them.
                (false, _) => Duration::ZERO,
                (true, 0) => TRIM_EVERY,
                (true, _) => TRY_AGAIN,
            };
            let first = match inbox.recv_timeout(pause) {
                Ok(message) => Some(message),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let mut questions = Vec::new();
            for message in first.into_iter().chain(inbox.try_iter().take(MOST_AT_ONCE)) {
                match message {
                    Message::Run(run) => self.add(*run),
                    Message::Told(notifier, told) => drop(self.pending.told.insert(notifier, told)),
                    Message::Changed(database, since) => drop(self.pending.changed.insert(database, since)),
                    Message::Log(run, log) => self.add_log(run, *log),
                    question => questions.push(question),
                }
            }
            self.write();
            for question in questions {
                self.answer(question);
            }
            self.read_strips();
            if trimmed.elapsed() >= TRIM_EVERY {
                self.trim();
                trimmed = Instant::now();
            }
        }
        self.write();
    }

    /// Answers when all that was recorded before is written; whoever asked may be gone.
    fn answer(&mut self, question: Message) {
        match question {
            Message::Runs(filter, reply) => drop(reply.send(self.look(|history| history.runs(&filter)))),
            Message::Ended(database, since, most, reply) => {
                drop(reply.send(self.look(|history| history.ended(&database, since, most))));
            }
            Message::LogOf(run, reply) => {
                let waiting = self.pending.logs.get(&run).cloned();
                drop(reply.send(waiting.map_or_else(|| self.look(|history| history.log(run)), Ok)));
            }
            Message::Flush(reply) => drop(reply.send(())),
            Message::Run(_) | Message::Log(..) | Message::Told(..) | Message::Changed(..) => {}
        }
    }

    fn add(&mut self, run: RunRecord) {
        self.pending.runs.insert(run.id, run);
        while self.pending.runs.len() > MOST_PENDING {
            self.pending.runs.pop_first();
            self.status().lost += 1;
        }
    }

    fn add_log(&mut self, run: RunId, log: KeptLog) {
        self.pending.logs.insert(run, log);
        while self.pending.logs.len() > MOST_PENDING_LOGS {
            self.pending.logs.pop_first();
        }
    }

    /// Reads some of the strips that are to be read.
    fn read_strips(&mut self) {
        let from = self.without_strip.len().saturating_sub(STRIPS_AT_ONCE);
        for database in self.without_strip.split_off(from) {
            let Some(history) = &mut self.history else { return };
            match history.strip(&database) {
                Ok(strip) => self.strips.add(&database, strip),
                Err(error) => return self.failed(error),
            }
        }
    }

    /// Writes all that is pending; what cannot be written stays.
    fn write(&mut self) {
        if self.folder.is_none() {
            self.pending = Pending::default();
        }
        if self.pending.len() == 0 {
            return;
        }
        match self.try_write() {
            Ok(()) => {
                self.pending = Pending::default();
                let mut status = self.status();
                (status.error, status.pending) = (None, 0);
            }
            Err(error) => self.failed(error),
        }
    }

    fn try_write(&mut self) -> Result<()> {
        if self.history.is_none() {
            self.open(Timestamp::now(), self.own)?;
        }
        let Some(history) = &mut self.history else { return Ok(()) };
        if !self.pending.runs.is_empty() {
            history.save(self.pending.runs.values())?;
        }
        if !self.pending.logs.is_empty() {
            history.save_logs(&self.pending.logs)?;
        }
        for (notifier, told) in &self.pending.told {
            history.save_told(notifier, told.as_ref())?;
        }
        // After the runs: a kill in between costs a backup too many, not one too few.
        for (database, since) in &self.pending.changed {
            history.save_changed(database, *since)?;
        }
        Ok(())
    }

    fn open(&mut self, now: Timestamp, own: RunId) -> Result<Vec<RunRecord>> {
        let Some(folder) = &self.folder else { return Ok(Vec::new()) };
        let Opened { history, warning, interrupted } = History::open_again(folder, now, own)?;
        if warning.is_some() {
            self.status().warning = warning;
        }
        self.history = Some(history);
        Ok(interrupted)
    }

    fn past(&mut self, interrupted: Vec<RunRecord>) -> Result<Past> {
        let Some(history) = &mut self.history else { return Ok(Past::default()) };
        self.without_strip = history.backed_up()?;
        Ok(Past {
            newest: history.newest()?,
            told: history.told()?,
            changed: history.changed()?,
            last_id: history.last_id()?,
            interrupted,
        })
    }

    fn look<T>(&mut self, look: impl FnOnce(&mut History) -> Result<T>) -> Result<T> {
        let Some(history) = &mut self.history else {
            return Err(match &self.failure {
                Some(error) => unavailable(error.path.clone(), &*error.problem),
                None => unavailable(PathBuf::new(), "there is no state folder"),
            });
        };
        look(history)
    }

    fn trim(&mut self) {
        let Some(history) = &mut self.history else { return };
        if let Err(error) = history.trim(Timestamp::now()) {
            self.failed(error);
        }
    }

    fn failed(&mut self, error: HistoryError) {
        // The next attempt opens it again, and sets it aside if it is damaged.
        self.history = None;
        let pending = self.pending.len();
        let text = error.to_string();
        let mut status = self.status();
        // Said once, and not at every attempt.
        if status.error.as_ref() != Some(&text) {
            tracing::warn!("the history of runs cannot be used now: {text}");
        }
        (status.error, status.pending) = (Some(text), pending);
        drop(status);
        self.failure = Some(error);
    }

    fn status(&self) -> std::sync::MutexGuard<'_, HistoryStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unavailable(path: PathBuf, problem: impl Into<String>) -> HistoryError {
    HistoryError { path, problem: problem.into(), is_damage: false }
}
