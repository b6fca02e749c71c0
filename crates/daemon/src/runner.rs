//! Starts runs when they are due or asked for, and follows them to their end.
//!
//! A loop owns the planner: it wakes when something is due, when something happens, and every 30 seconds, since somebody may
//! set the clock. Invariants, whatever becomes of a run: a database never has two, and no more than the limit go on at once. A
//! run is never dropped, only told to stop, so it leaves nothing behind. What the history cannot keep is known here all the
//! same, as long as the daemon lives.
//!
//! Jobs, which only somebody asks for, are runs beside the planner's: none waits for another run, and what they may meet in a
//! backup or a prune of the same database the repository and the engines themselves keep apart.

mod job;
mod live;
mod state;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use copal::schedule::{Missed, Planner, Policy, Run, RunKind};
use copal::{Copal, Settings};
use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

pub use job::Job;
pub use live::{LiveRun, Stopping};
pub(crate) use state::DatabaseBrief;

use crate::history::{Past, Recorder};
use crate::log::RunLog;
use crate::run::{Ending, RunId, RunRecord, TaskKind, to_millisecond};
use live::Live;
use state::{Running, State, lock};
use work::{Assignment, Task, Worked};

/// The longest sleep.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// How long runs that were told to stop are waited for when the daemon stops.
const CANCEL_WAIT: Duration = Duration::from_secs(30);
/// Events kept for somebody who listens slowly.
const EVENTS: usize = 4096;
const COMMANDS: usize = 256;
/// Jobs at once, beside the limit for regular runs.
const JOBS: usize = 4;

/// What the runner goes by.
#[derive(Clone, Debug)]
pub struct RunnerSettings {
    /// For the use cases.
    pub settings: Settings,
    /// When each database is backed up and drilled.
    pub policies: BTreeMap<String, Policy>,
    /// The most runs at once.
    pub limit: usize,
}

/// Something happened.
#[derive(Clone, Debug, PartialEq)]
pub enum RunEvent {
    /// A run starts.
    Started(RunRecord),
    /// A run ended, after so many failures in a row.
    Ended(RunRecord, u32),
    /// Occurrences that nobody was awake for and that are not made up for.
    Missed(Missed),
    /// There is no backup as young as promised, whoever should have made it.
    Stale {
        /// The database.
        database: String,
        /// When its newest backup was made; none if there is none.
        newest: Option<Timestamp>,
        /// What is wrong, one line.
        why: String,
    },
    /// The repository's backups of a database are damaged.
    Damaged {
        /// The database.
        database: String,
        /// What is wrong.
        problem: String,
    },
    /// A database that was stale or damaged is protected again, whoever made its backup.
    Protected {
        /// The database.
        database: String,
    },
    /// Another configuration is in force.
    Reloaded,
}

/// Why a command was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No such database is configured.
    #[error("no such database is configured")]
    UnknownDatabase,
    /// No such run is under way.
    #[error("no such run is under way")]
    UnknownRun,
    /// A database that a run is working on cannot be replaced or pruned.
    #[error("a run of this database is under way")]
    Busy,
    /// There are as many jobs under way as may be.
    #[error("{JOBS} verifications, restores and other requested runs are under way already")]
    TooMany,
    /// The daemon stops.
    #[error("the daemon is stopping")]
    Stopping,
}

/// What became of the runs that were under way when the daemon stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stopped {
    /// Ended by themselves, well or not.
    pub finished: usize,
    /// Cancelled.
    pub cancelled: usize,
    /// Did not stop when told to, and go on until the process ends.
    pub left: Vec<RunId>,
}

/// How one database does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DatabaseStatus {
    /// Its name.
    pub name: String,
    /// The run under way.
    pub running: Option<RunId>,
    /// Its newest backup runs; one that is under way is not among them.
    pub backup: LaneStatus,
    /// Its newest drills.
    pub drill: LaneStatus,
}

/// How the runs of one kind do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LaneStatus {
    /// The newest run.
    pub newest: Option<RunRecord>,
    /// The newest successful run.
    pub newest_success: Option<RunRecord>,
    /// Failures in a row.
    pub consecutive_failures: u32,
    /// When the next regular run is due.
    pub next: Option<Timestamp>,
}

enum Command {
    Request(String, RunKind, oneshot::Sender<Result<(), Refused>>),
    Changed(String, oneshot::Sender<Result<(), Refused>>),
    Job(String, Job, oneshot::Sender<Result<RunId, Refused>>),
    Cancel(RunId, oneshot::Sender<Result<(), Refused>>),
    Ping(oneshot::Sender<()>),
    Reload(Box<RunnerSettings>, oneshot::Sender<Result<(), Refused>>),
    Stop(Duration, oneshot::Sender<Stopped>),
}

/// Commands to the loop and looks at its state. Clones are for the same loop, which stops when the last of them is dropped.
#[derive(Clone, Debug)]
pub struct Runner {
    commands: mpsc::Sender<Command>,
    events: broadcast::Sender<RunEvent>,
    begin: watch::Sender<bool>,
    state: Arc<Mutex<State>>,
    recorder: Recorder,
}

impl Runner {
    /// Makes the loop on the runtime of the caller; schedules go on where `past` ended, from [`Runner::begin`] on.
    pub fn start(settings: RunnerSettings, recorder: Recorder, past: Past) -> Self {
        let (commands, inbox) = mpsc::channel(COMMANDS);
        let events = broadcast::Sender::new(EVENTS);
        let mut state = State {
            planner: Planner::new(settings.limit),
            newest: past.newest,
            running: BTreeMap::new(),
            last_id: past.last_id.map_or(0, |id| id.0),
            names: Vec::new(),
            changed: BTreeMap::new(),
            generation: 0,
        };
        let copal = state.configure(settings, Timestamp::now());
        for (database, since) in past.changed {
            // The time of the report, so that the minimum interval counts from the run before it.
            let since = since.min(Timestamp::now());
            if state.planner.changed(&database, since) {
                state.changed.insert(database, since);
            }
        }
        let state = Arc::new(Mutex::new(state));
        let (begin, begun) = watch::channel(false);
        let main = Loop {
            state: Arc::clone(&state),
            events: events.clone(),
            begun,
            recorder: recorder.clone(),
            copal,
            tasks: JoinSet::new(),
        };
        let runner = Self { commands, events, begin, state, recorder };
        tokio::spawn(main.run(inbox));
        runner
    }

    /// Starts what is due, from now on: whoever wants to hear of all of it has subscribed before.
    pub fn begin(&self) {
        self.begin.send_replace(true);
    }

    /// Starts a run as soon as there is a place for it; during another run of the database, after that.
    pub async fn request(&self, database: &str, kind: RunKind) -> Result<(), Refused> {
        self.ask(|reply| Command::Request(database.to_owned(), kind, reply)).await?
    }

    /// The database has changed: a backup follows, by its policy. The history knows it when this returns, so it survives a kill.
    pub async fn changed(&self, database: &str) -> Result<(), Refused> {
        self.ask(|reply| Command::Changed(database.to_owned(), reply)).await??;
        self.recorder.flush().await;
        Ok(())
    }

    /// Starts a job at once. The database need not be configured, as long as the repository knows it.
    pub async fn job(&self, database: &str, job: Job) -> Result<RunId, Refused> {
        self.ask(|reply| Command::Job(database.to_owned(), job, reply)).await?
    }

    /// Tells a run to stop; that it has is an event.
    pub async fn cancel(&self, run: RunId) -> Result<(), Refused> {
        self.ask(|reply| Command::Cancel(run, reply)).await?
    }

    /// Puts another configuration in force; runs under way go on by the old one.
    pub async fn reload(&self, settings: RunnerSettings) -> Result<(), Refused> {
        self.ask(|reply| Command::Reload(Box::new(settings), reply)).await?
    }

    /// Starts nothing any more and waits for the runs under way; what has not ended after the grace period is cancelled.
    pub async fn stop(&self, grace: Duration) -> Stopped {
        self.ask(|reply| Command::Stop(grace, reply)).await.unwrap_or_default()
    }

    /// What happens from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<RunEvent> {
        self.events.subscribe()
    }

    /// The runs under way.
    pub fn live(&self) -> Vec<LiveRun> {
        lock(&self.state).running.values().map(|running| running.live.now()).collect()
    }

    /// Follows a run under way; ends with it.
    pub fn watch(&self, run: RunId) -> Option<watch::Receiver<LiveRun>> {
        lock(&self.state).running.get(&run).map(|running| running.live.watch())
    }

    /// What a run under way said so far.
    pub(crate) fn log(&self, run: RunId) -> Option<RunLog> {
        lock(&self.state).running.get(&run).map(|running| running.live.log())
    }

    /// How all configured databases do, in the fewest words, by name.
    pub(crate) fn briefs(&self) -> Vec<DatabaseBrief> {
        let state = lock(&self.state);
        state.names.iter().map(|name| state.brief(name)).collect()
    }

    /// The names of databases that runs of any kind are under way for.
    pub(crate) fn busy(&self) -> BTreeSet<String> {
        lock(&self.state).running.values().map(|running| running.record.database.clone()).collect()
    }

    /// How all configured databases do, by name.
    pub fn databases(&self) -> Vec<DatabaseStatus> {
        let state = lock(&self.state);
        state.names.iter().map(|name| state.database(name)).collect()
    }

    /// How one database does; `None` if it is not configured.
    pub fn database(&self, name: &str) -> Option<DatabaseStatus> {
        let state = lock(&self.state);
        state.names.binary_search_by(|known| known.as_str().cmp(name)).is_ok().then(|| state.database(name))
    }

    /// The newest successful run of this kind.
    pub(crate) fn newest_success(&self, database: &str, kind: TaskKind) -> Option<RunRecord> {
        lock(&self.state).lane(database, kind).and_then(|newest| newest.success.clone())
    }

    /// When the next regular run of a database is due.
    pub fn next_regular(&self, name: &str, kind: RunKind) -> Option<Timestamp> {
        lock(&self.state).planner.next_regular(name, kind)
    }

    /// Whether the loop answers within this time.
    pub async fn is_alive(&self, within: Duration) -> bool {
        matches!(tokio::time::timeout(within, self.ask(Command::Ping)).await, Ok(Ok(())))
    }

    /// A number that changes whenever [`Runner::databases`] may.
    pub(crate) fn generation(&self) -> u64 {
        lock(&self.state).generation
    }

    /// Tells all who listen.
    pub(crate) fn tell(&self, event: RunEvent) {
        // Nobody may listen.
        let _ = self.events.send(event);
    }

    /// The history of runs.
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Refused> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| Refused::Stopping)?;
        answer.await.map_err(|_| Refused::Stopping)
    }
}

/// A run has ended.
struct Finished(RunId, Worked);

struct Loop {
    state: Arc<Mutex<State>>,
    events: broadcast::Sender<RunEvent>,
    begun: watch::Receiver<bool>,
    recorder: Recorder,
    copal: Copal,
    tasks: JoinSet<Finished>,
}

impl Loop {
    async fn run(mut self, mut inbox: mpsc::Receiver<Command>) {
        let (grace, reply) = loop {
            let has_begun = *self.begun.borrow();
            let sleep = if has_begun { self.tick() } else { LOOK_AGAIN };
            tokio::select! {
                Ok(()) = self.begun.changed(), if !has_begun => {}
                Some(finished) = self.tasks.join_next() => self.joined(finished),
                command = inbox.recv() => match command {
                    Some(Command::Stop(grace, reply)) => break (grace, Some(reply)),
                    Some(command) => self.obey(command),
                    None => break (Duration::ZERO, None),
                },
                () = tokio::time::sleep(sleep) => {}
            }
        };
        // Whoever asks from now on is told that the daemon stops.
        drop(inbox);
        let stopped = self.stop(grace).await;
        self.recorder.flush().await;
        if let Some(reply) = reply {
            // Nobody may wait for it any more.
            let _ = reply.send(stopped);
        }
    }

    /// Starts what is due; answers how long nothing else is.
    fn tick(&mut self) -> Duration {
        let now = Timestamp::now();
        let tick = lock(&self.state).planner.tick(now);
        for missed in tick.missed {
            tracing::warn!(database = %missed.database, since = %missed.since, "a run was missed");
            self.tell(RunEvent::Missed(missed));
        }
        for run in tick.runs {
            self.start_planned(run, now);
        }
        let until = tick.wake_at.map(|wake_at| Duration::try_from(wake_at.duration_since(now)).unwrap_or_default());
        until.unwrap_or(LOOK_AGAIN).min(LOOK_AGAIN)
    }

    fn start_planned(&mut self, run: Run, now: Timestamp) {
        let Run { database, kind, reason, due, attempt, time_limit, then_prune } = run;
        let mut record = RunRecord::start(self.next_id(now), &database, kind.into(), now);
        (record.reason, record.due, record.attempt) = (reason, to_millisecond(due), attempt);
        let task = match kind {
            RunKind::Backup => Task::Backup { then_prune },
            RunKind::Drill => Task::Drill,
        };
        self.start(record, task, time_limit, true);
    }

    fn start_job(&mut self, database: &str, job: Job, now: Timestamp) -> Result<RunId, Refused> {
        let state = lock(&self.state);
        // A run of a whole server works on all its databases.
        let with_server = |name| [Some(name), self.copal.server_of(name).map(|(server, _)| server)];
        let taken: Vec<&str> =
            [Some(database), job.over()].into_iter().flatten().flat_map(with_server).flatten().collect();
        let is_of_it = |running: &Running| {
            let over = running.over.as_deref();
            taken.contains(&running.record.database.as_str()) || over.is_some_and(|over| taken.contains(&over))
        };
        if job.is_alone() && state.running.values().any(is_of_it) {
            return Err(Refused::Busy);
        }
        if state.running.values().filter(|running| !running.is_planned).count() >= JOBS {
            return Err(Refused::TooMany);
        }
        drop(state);
        let record = RunRecord::start(self.next_id(now), database, job.kind(), now);
        let id = record.id;
        self.start(record, Task::Job(job), None, false);
        Ok(id)
    }

    fn next_id(&self, now: Timestamp) -> RunId {
        let mut state = lock(&self.state);
        state.last_id = now.as_millisecond().max(state.last_id.saturating_add(1));
        RunId(state.last_id)
    }

    fn start(&mut self, mut record: RunRecord, task: Task, time_limit: Option<Duration>, is_planned: bool) {
        let mut state = lock(&self.state);
        let id = record.id;
        record.consecutive_failures = state.failures(&record.database, record.kind);
        let live = Arc::new(Live::new(&record));
        let over = match &task {
            Task::Job(job) => job.over().map(str::to_owned),
            Task::Backup { .. } | Task::Drill => None,
        };
        let began = Instant::now();
        let running = Running { record: record.clone(), over, is_planned, live: Arc::clone(&live), began };
        state.running.insert(id, running);
        state.generation += 1;
        drop(state);
        let RunRecord { database, kind, reason, .. } = &record;
        tracing::info!(run = %id, database, ?kind, ?reason, "a run starts");
        let assignment = Assignment { database: database.clone(), task, time_limit };
        self.recorder.record(record.clone());
        self.tell(RunEvent::Started(record));
        let work = work::work(self.copal.clone(), assignment, live);
        self.tasks.spawn(async move { Finished(id, work.await) });
    }

    fn joined(&mut self, finished: Result<Finished, tokio::task::JoinError>) {
        match finished {
            Ok(Finished(id, worked)) => self.finish(id, worked),
            // Panics are caught further in, and nothing aborts these tasks.
            Err(error) => tracing::error!(%error, "a run was lost"),
        }
    }

    fn finish(&mut self, id: RunId, worked: Worked) {
        let now = Timestamp::now();
        let mut state = lock(&self.state);
        let Some(Running { mut record, is_planned, began, live, .. }) = state.running.remove(&id) else { return };
        // Before anybody sees that it is no longer under way, so that its log is always in one place or the other.
        self.recorder.record_log(id, &live.log());
        state.generation += 1;
        let Worked { ending, error, facts } = worked;
        let before = record.consecutive_failures;
        record.consecutive_failures = match ending {
            Ending::Success => 0,
            Ending::TransientFailure | Ending::PermanentFailure => before.saturating_add(1),
            Ending::Cancelled | Ending::Interrupted => before,
        };
        record.ended = Some(to_millisecond(now));
        record.duration_ms = u64::try_from(began.elapsed().as_millis()).ok();
        (record.ending, record.error, record.facts) = (Some(ending), error, facts);
        let lane = state.newest.entry((record.database.clone(), record.kind)).or_default();
        lane.run = Some(record.clone());
        if ending == Ending::Success {
            lane.success = Some(record.clone());
        }
        if ending == Ending::Success && record.kind == TaskKind::Backup {
            // A change that was reported since it began is not in it.
            let is_in_it = state.changed.get(&record.database).is_some_and(|reported| *reported <= record.started);
            if is_in_it {
                state.changed.remove(&record.database);
                self.recorder.record_changed(&record.database, None);
            }
        }
        if is_planned {
            state.planner.ended(&record.database, ending.outcome(), now);
        }
        drop(state);
        let error = record.error.as_ref().map(|error| error.message.as_str()).unwrap_or_default();
        if ending.is_failure() {
            tracing::warn!(run = %id, database = %record.database, error, "a run failed");
        } else {
            tracing::info!(run = %id, database = %record.database, ?ending, "a run ended");
        }
        self.recorder.record(record.clone());
        self.tell(RunEvent::Ended(record, before));
    }

    fn obey(&mut self, command: Command) {
        let now = Timestamp::now();
        let known = |is_known, error| if is_known { Ok(()) } else { Err(error) };
        if let Command::Job(database, job, reply) = command {
            // Whoever asked may be gone; the run goes on.
            let _ = reply.send(self.start_job(&database, job, now));
            return;
        }
        let mut state = lock(&self.state);
        // Whoever asked may be gone.
        let _ = match command {
            Command::Request(database, kind, reply) => {
                reply.send(known(state.planner.request(&database, kind, now), Refused::UnknownDatabase))
            }
            Command::Changed(database, reply) => {
                let is_known = state.planner.changed(&database, now);
                if is_known {
                    state.changed.insert(database.clone(), to_millisecond(now));
                    self.recorder.record_changed(&database, Some(now));
                }
                reply.send(known(is_known, Refused::UnknownDatabase))
            }
            Command::Cancel(run, reply) => {
                let running = state.running.get(&run);
                running.iter().for_each(|running| running.live.stop(Stopping::Cancelled));
                reply.send(known(running.is_some(), Refused::UnknownRun))
            }
            Command::Reload(settings, reply) => {
                self.copal = state.configure(*settings, now);
                drop(state);
                self.tell(RunEvent::Reloaded);
                reply.send(Ok(()))
            }
            Command::Ping(reply) => reply.send(()).or(Ok(())),
            Command::Job(..) | Command::Stop(..) => Ok(()),
        };
    }

    /// Waits for the runs, tells them to stop after the grace period, and gives up on those that do not.
    async fn stop(&mut self, grace: Duration) -> Stopped {
        let mut stopped = Stopped::default();
        let first = self.drain(Instant::now().checked_add(grace)).await;
        for running in lock(&self.state).running.values() {
            running.live.stop(Stopping::Shutdown);
        }
        let second = self.drain(Some(Instant::now() + CANCEL_WAIT)).await;
        for ending in first.into_iter().chain(second) {
            match ending {
                Ending::Cancelled => stopped.cancelled += 1,
                _ => stopped.finished += 1,
            }
        }
        stopped.left = lock(&self.state).running.keys().copied().collect();
        // They would be dropped with the set, in the middle of something.
        self.tasks.detach_all();
        stopped
    }

    /// Follows runs to their end until then.
    async fn drain(&mut self, until: Option<Instant>) -> Vec<Ending> {
        let mut endings = Vec::new();
        loop {
            let next = match until {
                Some(until) => tokio::time::timeout_at(until, self.tasks.join_next()).await,
                None => Ok(self.tasks.join_next().await),
            };
            let Ok(Some(finished)) = next else { return endings };
            endings.extend(finished.as_ref().ok().map(|Finished(_, worked)| worked.ending));
            self.joined(finished);
        }
    }

    fn tell(&self, event: RunEvent) {
        // Nobody may listen.
        let _ = self.events.send(event);
    }
}
