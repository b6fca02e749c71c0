//! Schedules inside a program: backups, prunes and drills of several databases at the times of their policies.
//!
//! A [`Scheduler`] runs what the [`Planner`](crate::schedule::Planner) says, by the use cases, and tells what became of it. It keeps no
//! history: what happened before it started it learns from the repository, which several programs with the same schedules share. What the daemon
//! adds (a history of runs, notices, an API) is not here.

mod event;
mod job;
mod run;
mod state;

use std::collections::BTreeMap;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use copal_core::Source;
use jiff::Timestamp;
use tokio::runtime::Handle;
use tokio::sync::{Notify, broadcast, watch};
use tokio::task::{JoinHandle, JoinSet};

pub use event::{RunResult, ScheduledRun, SchedulerEvent};
pub use job::Job;
pub use state::JobStatus;

use crate::schedule::{History, RunKind, RunOutcome};
use crate::{Copal, CopalError, ErrorKind, Result};
use state::{State, lock};

/// The longest sleep, since somebody may set the clock.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// Events kept for somebody who listens slowly.
const EVENTS: usize = 1024;

type OnEvent = Arc<dyn Fn(&SchedulerEvent) + Send + Sync>;

/// Runs backups, prunes and drills when they are due.
///
/// Several programs may have the same schedules, for example the workers of a service: each looks at the newest backup under the
/// database's lease, and only the first makes one. What a program slept through, or was not running for, is made up for by one run.
///
/// ```
/// use std::time::Duration;
///
/// use copal::{Copal, Job, Keep, Scheduler, Settings};
///
/// # #[tokio::main] async fn main() -> copal::Result<()> {
/// let nightly = Job::new("app.db", "0 3 * * *")?.keep(Keep { daily: Some(7), ..Keep::default() }).drill("@weekly")?;
/// let scheduler = Scheduler::builder(Copal::new(Settings::new("/var/backups/app")))
///     .job(nightly)
///     .on_event(|event| println!("{event:?}"))
///     .build();
/// scheduler.start()?;
/// scheduler.stop(Duration::from_secs(30)).await;
/// # Ok(()) }
/// ```
///
/// Dropping the scheduler ends its task and cancels what runs; [`stop`](Self::stop) waits for it.
pub struct Scheduler {
    shared: Arc<Shared>,
    running: Mutex<Option<Running>>,
}

/// A loop at work.
struct Running {
    /// Told to end.
    ended: watch::Sender<bool>,
    task: JoinHandle<()>,
}

struct Shared {
    copal: Copal,
    limit: usize,
    state: Mutex<State>,
    events: broadcast::Sender<SchedulerEvent>,
    /// Who is told; taken when the first start does so.
    on_event: Mutex<Option<OnEvent>>,
    /// Wakes the loop: something was asked for.
    wake: Notify,
    /// Held by the loop: one that is started right behind a stop waits for the end of the one before.
    turn: tokio::sync::Mutex<()>,
}

/// A scheduler to be built.
#[must_use]
pub struct SchedulerBuilder {
    copal: Copal,
    jobs: BTreeMap<String, Job>,
    limit: usize,
    on_event: Option<OnEvent>,
}

impl SchedulerBuilder {
    /// Takes every database of the settings that has a schedule or is drilled. Errors: `Configuration` for a schedule that cannot be read.
    pub fn jobs_of_settings(mut self) -> Result<Self> {
        let copal = self.copal.clone();
        for (name, settings) in &copal.settings().databases {
            if settings.schedule.is_some() || settings.drill.is_some() {
                self = self.job(Job::configured(name, settings)?);
            }
        }
        Ok(self)
    }

    /// Adds a job, in the place of one of the same database.
    pub fn job(mut self, mut job: Job) -> Self {
        if !job.has_zone {
            job.policy.zone = self.copal.settings().timezone.clone();
        }
        self.jobs.insert(job.database.clone(), job);
        self
    }

    /// At most so many runs go on at once; 2 unless set.
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// Is told of everything that happens, in order, on a thread where it may block; a panic in it harms nobody.
    pub fn on_event(mut self, tell: impl Fn(&SchedulerEvent) + Send + Sync + 'static) -> Self {
        self.on_event = Some(Arc::new(tell));
        self
    }

    /// The scheduler, which does nothing until it is started.
    pub fn build(self) -> Scheduler {
        let state = Mutex::new(State::new(self.jobs.into_values().collect(), self.limit));
        let shared = Shared {
            copal: self.copal,
            limit: self.limit,
            state,
            events: broadcast::Sender::new(EVENTS),
            on_event: Mutex::new(self.on_event),
            wake: Notify::new(),
            turn: tokio::sync::Mutex::default(),
        };
        Scheduler { shared: Arc::new(shared), running: Mutex::new(None) }
    }
}

impl Scheduler {
    /// Describes a scheduler over these use cases.
    pub fn builder(copal: Copal) -> SchedulerBuilder {
        SchedulerBuilder { copal, jobs: BTreeMap::new(), limit: 2, on_event: None }
    }

    /// Starts to run what is due; nothing if it does already. Errors: `Usage` outside of a tokio runtime.
    ///
    /// A repository that cannot be reached now is asked again until it can: nothing is due before it is known what was done before.
    pub fn start(&self) -> Result<()> {
        let runtime = Handle::try_current().map_err(|e| {
            CopalError::new(ErrorKind::Usage, "a scheduler is started inside a tokio runtime").because(e)
        })?;
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.as_ref().is_none_or(|running| running.task.is_finished()) {
            if let Some(tell) = self.shared.on_event.lock().unwrap_or_else(PoisonError::into_inner).take() {
                runtime.spawn(tell_all(self.shared.events.subscribe(), tell));
            }
            let ended = watch::Sender::new(false);
            let main = Loop::new(Arc::clone(&self.shared), ended.subscribe());
            *running = Some(Running { ended, task: runtime.spawn(main.run()) });
        }
        Ok(())
    }

    /// Starts nothing more, waits for what runs, tells it to stop after the grace period, and waits until it has.
    ///
    /// Who calls it while another call is at work waits for that too; the work goes on if this future is dropped.
    pub async fn stop(&self, grace: Duration) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(running) = &running {
            running.ended.send_replace(true);
        }
        let stopping = tokio::spawn(finish(Arc::clone(&self.shared), running, grace));
        // A panic in it has been reported where it was caught.
        let _ = stopping.await;
    }

    /// Runs a job as soon as there is a place, whatever its schedule says. Answers whether there is such a job.
    pub fn run_now(&self, database: &str, kind: RunKind) -> bool {
        let is_known = lock(&self.shared.state).planner.request(database, kind, Timestamp::now());
        self.shared.wake.notify_one();
        is_known
    }

    /// Tells that something significant changed: a backup follows. Answers whether there is such a job.
    pub fn notify_change(&self, database: &str) -> bool {
        let is_known = lock(&self.shared.state).planner.changed(database, Timestamp::now());
        self.shared.wake.notify_one();
        is_known
    }

    /// What happens from now on. Whoever listens too slowly misses some of it and is told so.
    pub fn events(&self) -> broadcast::Receiver<SchedulerEvent> {
        self.shared.events.subscribe()
    }

    /// How the jobs stand, in the order of their names.
    pub fn status(&self) -> Vec<JobStatus> {
        lock(&self.shared.state).status()
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        // Its loop ends with it.
        self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        lock(&self.shared.state).cancel_all();
    }
}

/// Waits for a loop that was told to end, or for the one that another call waits for.
async fn finish(shared: Arc<Shared>, running: Option<Running>, grace: Duration) {
    let Some(Running { mut task, .. }) = running else { return drop(shared.turn.lock().await) };
    if tokio::time::timeout(grace, &mut task).await.is_err() {
        lock(&shared.state).cancel_all();
        // A panic in it has been reported where it was caught.
        let _ = task.await;
    }
}

impl fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scheduler").field("jobs", &lock(&self.shared.state).databases().len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for SchedulerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SchedulerBuilder").field("jobs", &self.jobs.len()).finish_non_exhaustive()
    }
}

impl Shared {
    /// What happened before; asks again and again while a repository does not answer.
    async fn histories(&self) -> BTreeMap<String, History> {
        let mut histories = BTreeMap::new();
        let names = lock(&self.state).databases();
        for name in names {
            loop {
                match self.copal.histories(std::slice::from_ref(&name)).await {
                    Ok(known) => histories.extend(known),
                    Err(error) if error.is_retryable() => {
                        tracing::warn!(%error, "the repository cannot be asked what is due; trying again");
                        tokio::time::sleep(LOOK_AGAIN).await;
                        continue;
                    }
                    // Its runs may fail for the same reason, and that is told; the others are no worse for it.
                    Err(error) => {
                        let database = Source::shown(&name);
                        tracing::warn!(%database, %error, "the repository does not say what was done before");
                    }
                }
                break;
            }
        }
        histories
    }
}

/// A run has ended.
struct Finished(ScheduledRun, Result<RunResult>);

struct Loop {
    shared: Arc<Shared>,
    ended: watch::Receiver<bool>,
    tasks: JoinSet<Finished>,
}

impl Loop {
    fn new(shared: Arc<Shared>, ended: watch::Receiver<bool>) -> Self {
        Self { shared, ended, tasks: JoinSet::new() }
    }

    async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let _turn = shared.turn.lock().await;
        if !self.learn().await {
            return;
        }
        loop {
            let sleep = self.tick();
            let finished = tokio::select! {
                biased;
                _ = self.ended.wait_for(|ended| *ended) => break,
                Some(finished) = self.tasks.join_next() => Some(finished),
                () = self.shared.wake.notified() => None,
                () = tokio::time::sleep(sleep) => None,
            };
            if let Some(finished) = finished {
                self.joined(finished);
            }
        }
        while let Some(finished) = self.tasks.join_next().await {
            self.joined(finished);
        }
    }

    /// Learns from the repository what happened before; whether the loop shall go on.
    async fn learn(&mut self) -> bool {
        let (shared, mut ended) = (Arc::clone(&self.shared), self.ended.clone());
        tokio::select! {
            biased;
            _ = ended.wait_for(|ended| *ended) => false,
            histories = shared.histories() => {
                lock(&shared.state).plan(histories, shared.limit, Timestamp::now());
                true
            }
        }
    }

    /// Starts what is due; answers how long nothing else is.
    fn tick(&mut self) -> Duration {
        let now = Timestamp::now();
        let mut state = lock(&self.shared.state);
        let tick = state.planner.tick(now);
        for missed in tick.missed {
            self.tell(SchedulerEvent::Missed(missed));
        }
        for planned in tick.runs {
            let (assignment, cancel) = state.assign(&planned, now);
            let run = ScheduledRun::of(&planned);
            self.tell(SchedulerEvent::Started(run.clone()));
            let work = run::work(self.shared.copal.clone(), assignment, cancel);
            self.tasks.spawn(async move { Finished(run, work.await) });
        }
        let until = tick.wake_at.map(|wake_at| Duration::try_from(wake_at.duration_since(now)).unwrap_or_default());
        until.unwrap_or(LOOK_AGAIN).min(LOOK_AGAIN)
    }

    fn joined(&mut self, finished: std::result::Result<Finished, tokio::task::JoinError>) {
        let Finished(run, result) = match finished {
            Ok(finished) => finished,
            // Panics are caught further in, and nothing aborts these tasks.
            Err(error) => return tracing::error!(%error, "a run was lost"),
        };
        let now = Timestamp::now();
        let mut state = lock(&self.shared.state);
        let (outcome, event) = match result {
            Ok(result) => {
                state.succeeded(&run, &result, now);
                (RunOutcome::Success, SchedulerEvent::Succeeded(run.clone(), result))
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                (RunOutcome::Cancelled, SchedulerEvent::Cancelled(run.clone()))
            }
            Err(error) if error.kind() == ErrorKind::Busy && state.is_repeated(&run) => {
                (RunOutcome::TransientFailure, SchedulerEvent::Postponed(run.clone()))
            }
            Err(error) => {
                let outcome = match error.is_retryable() {
                    true => RunOutcome::TransientFailure,
                    false => RunOutcome::PermanentFailure,
                };
                let failures = state.failed(&run, error.to_string());
                tracing::warn!(database = %Source::shown(&run.database), %error, failures, "a run failed");
                (outcome, SchedulerEvent::Failed(run.clone(), Arc::new(error), failures))
            }
        };
        state.planner.ended(&run.database, outcome, now);
        drop(state);
        self.tell(event);
    }

    fn tell(&self, event: SchedulerEvent) {
        // Nobody may listen.
        let _ = self.shared.events.send(event);
    }
}

/// Calls the program's own code with every event, one after the other, until the scheduler is gone.
async fn tell_all(mut events: broadcast::Receiver<SchedulerEvent>, tell: OnEvent) {
    loop {
        let event = match events.recv().await {
            Ok(event) => event,
            Err(broadcast::error::RecvError::Lagged(lost)) => {
                tracing::warn!(lost, "a callback of a scheduler is too slow to be told everything");
                continue;
            }
            Err(broadcast::error::RecvError::Closed) => return,
        };
        let tell = Arc::clone(&tell);
        let told = tokio::task::spawn_blocking(move || std::panic::catch_unwind(AssertUnwindSafe(|| tell(&event))));
        if !matches!(told.await, Ok(Ok(()))) {
            tracing::error!("a callback of a scheduler panicked");
        }
    }
}
