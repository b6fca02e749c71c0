//! What the repository says about every database, and whether promises are kept, whoever makes the backups.
//!
//! The repository is asked at the start, after each run, when a promise would be broken, every ten minutes about what is not
//! protected, and every six hours about everything: asking costs requests, and nobody shall pay for them day and night. Who
//! wants to know the state gets what was seen last.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use copal::{Copal, DatabaseStatus, Settings, StatusProblemKind};
use futures::StreamExt as _;
use jiff::Timestamp;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::Instant;

use crate::run::TaskKind;
use crate::runner::{RunEvent, Runner};

/// Without a promised age, a database may be without any backup for so long before there is an alarm: its first comes by its
/// schedule, and that it fails is told anyway.
const FIRST_BACKUP: Duration = Duration::from_secs(24 * 3600);
const RELOADS: usize = 4;
/// After so many databases, whoever hears of them gets time to: events are kept for the slow, but not without end.
const TOLD_AT_ONCE: usize = 1000;
const BREATH: Duration = Duration::from_millis(50);
/// Databases whose size is asked for at the same time.
const PARALLEL: usize = 16;

/// What is looked after, and how often.
#[derive(Clone, Debug)]
pub struct ProtectionSettings {
    /// For the use cases.
    pub settings: Settings,
    /// How often the repository is asked about databases that are not protected, or after it did not answer.
    pub again: Duration,
    /// How often it is asked about all of them.
    pub all: Duration,
}

impl ProtectionSettings {
    /// Settings with the pauses of a daemon.
    pub fn new(settings: Settings) -> Self {
        Self { settings, again: Duration::from_secs(600), all: Duration::from_secs(6 * 3600) }
    }
}

/// What was seen of one database.
#[derive(Clone, Debug)]
pub struct Seen {
    /// What the repository said.
    pub status: DatabaseStatus,
    /// Bytes of its objects in the repository.
    pub repository_bytes: Option<u64>,
}

/// The watch over promises. Clones are for the same task, which ends with the last of them.
#[derive(Clone, Debug)]
pub struct Protection {
    reloads: mpsc::Sender<ProtectionSettings>,
    state: Arc<Mutex<State>>,
    is_ready: watch::Receiver<bool>,
}

#[derive(Debug, Default)]
struct State {
    seen: BTreeMap<String, Seen>,
    generation: u64,
    error: Option<String>,
}

impl Protection {
    /// Begins to look. What is stale or damaged goes out through the runner each time it is seen.
    pub fn start(settings: ProtectionSettings, runner: Runner) -> Self {
        let (reloads, inbox) = mpsc::channel(RELOADS);
        let (ready, is_ready) = watch::channel(false);
        let state = Arc::default();
        let task = Task {
            copal: Copal::new(settings.settings.clone()),
            settings,
            events: runner.subscribe(),
            runner,
            state: Arc::clone(&state),
            ready,
            since: Instant::now(),
            wanted: BTreeSet::new(),
            all_at: Instant::now(),
            again_at: None,
            troubled: BTreeSet::new(),
            has_judged: false,
        };
        tokio::spawn(task.run(inbox));
        Self { reloads, state, is_ready }
    }

    /// Puts other settings in force.
    pub async fn reload(&self, settings: ProtectionSettings) {
        if self.reloads.send(settings).await.is_err() {
            tracing::debug!("the watch over promises has ended");
        }
    }

    /// Waits until the repository has answered, or did not, for the first time.
    pub async fn ready(&self, patience: Duration) {
        let mut is_ready = self.is_ready.clone();
        // Whoever asks is served with what there is.
        let _ = tokio::time::timeout(patience, is_ready.wait_for(|ready| *ready)).await;
    }

    /// What was seen of all databases, by name.
    pub fn all(&self) -> BTreeMap<String, Seen> {
        self.lock().seen.clone()
    }

    /// Looks at what was seen of all databases, without a copy of it.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&BTreeMap<String, Seen>) -> T) -> T {
        look(&self.lock().seen)
    }

    /// What was seen of one.
    pub fn get(&self, name: &str) -> Option<Seen> {
        self.lock().seen.get(name).cloned()
    }

    /// How many databases are not protected.
    pub fn not_protected(&self) -> usize {
        self.lock().seen.values().filter(|seen| !seen.status.protected).count()
    }

    /// What the repository failed with when it was asked last.
    pub fn error(&self) -> Option<String> {
        self.lock().error.clone()
    }

    /// A number that changes whenever [`Protection::all`] may.
    pub(crate) fn generation(&self) -> u64 {
        self.lock().generation
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Task {
    settings: ProtectionSettings,
    copal: Copal,
    runner: Runner,
    events: broadcast::Receiver<RunEvent>,
    state: Arc<Mutex<State>>,
    ready: watch::Sender<bool>,
    since: Instant,
    /// To be looked at at once.
    wanted: BTreeSet<String>,
    all_at: Instant,
    again_at: Option<Instant>,
    /// Stale or damaged when they were looked at last.
    troubled: BTreeSet<String>,
    has_judged: bool,
}

impl Task {
    async fn run(mut self, mut inbox: mpsc::Receiver<ProtectionSettings>) {
        loop {
            if self.all_at <= Instant::now() {
                self.look_at_all().await;
            }
            if !self.wanted.is_empty() {
                let wanted: Vec<String> = std::mem::take(&mut self.wanted).into_iter().collect();
                self.look_at(&wanted).await;
            }
            let next = self.next();
            tokio::select! {
                event = self.events.recv() => match event {
                    Ok(event) => self.hear(&event),
                    Err(broadcast::error::RecvError::Lagged(_)) => self.all_at = Instant::now(),
                    Err(broadcast::error::RecvError::Closed) => return,
                },
                settings = inbox.recv() => {
                    let Some(settings) = settings else { return };
                    self.copal = Copal::new(settings.settings.clone());
                    (self.settings, self.all_at) = (settings, Instant::now());
                },
                () = tokio::time::sleep_until(next) => self.want_due(),
            }
            // What happened at once is looked at at once.
            while let Ok(event) = self.events.try_recv() {
                self.hear(&event);
            }
        }
    }

    fn hear(&mut self, event: &RunEvent) {
        match event {
            // These change nothing in the repository.
            RunEvent::Ended(run, _)
                if matches!(run.kind, TaskKind::Restore | TaskKind::Snapshot | TaskKind::Rewind) => {}
            RunEvent::Ended(run, _) => drop(self.wanted.insert(run.database.clone())),
            _ => {}
        }
    }

    /// When something is to be looked at without being asked.
    fn next(&self) -> Instant {
        let now = (Instant::now(), Timestamp::now());
        let state = self.lock();
        let stale =
            state.seen.values().filter(|seen| !is_stale(&seen.status)).filter_map(|seen| seen.status.stale_after);
        let stale = stale.min().map(|stale| {
            let wait = Duration::try_from(stale.duration_since(now.1)).unwrap_or_default();
            // A second later it is stale; the clock may be set meanwhile, so it is not slept for long.
            now.0 + (wait + Duration::from_secs(1)).min(self.settings.again)
        });
        [Some(self.all_at), self.again_at, stale].into_iter().flatten().min().unwrap_or(self.all_at)
    }

    /// Wants what has become stale, and what is not protected from time to time.
    fn want_due(&mut self) {
        let now = (Instant::now(), Timestamp::now());
        let is_due = self.again_at.is_some_and(|at| at <= now.0);
        let state = self.lock();
        let due = state.seen.values().filter(|Seen { status, .. }| match status.stale_after {
            Some(after) if after < now.1 && !is_stale(status) => true,
            _ => is_due && !status.protected,
        });
        let names: Vec<_> = due.map(|seen| seen.status.name.clone()).collect();
        drop(state);
        if is_due {
            self.again_at = None;
            if names.is_empty() && self.lock().error.is_some() {
                self.all_at = now.0;
            }
        }
        self.wanted.extend(names);
    }

    async fn look_at_all(&mut self) {
        self.all_at = Instant::now() + self.settings.all;
        let began = Instant::now();
        let Some(found) = self.ask(&[]).await else {
            self.all_at = Instant::now() + self.settings.again;
            self.ready.send_replace(true);
            return;
        };
        tracing::debug!(databases = found.len(), took = ?began.elapsed(), "the repository was looked at");
        self.put(found, |_| true).await;
    }

    async fn look_at(&mut self, names: &[String]) {
        let Some(found) = self.ask(names).await else { return };
        let servers: Vec<_> = names.iter().filter(|name| self.copal.is_whole_server(name)).collect();
        let servers: Vec<_> = servers.into_iter().map(|name| format!("{name}.")).collect();
        let is_meant =
            |key: &str| names.iter().any(|name| name == key) || servers.iter().any(|start| key.starts_with(start));
        self.put(found, is_meant).await;
    }

    async fn put(&mut self, found: Vec<DatabaseStatus>, is_meant: impl Fn(&str) -> bool) {
        self.publish(&found, is_meant);
        self.ready.send_replace(true);
        self.judge(&found).await;
        // What this takes holds up nobody who asks for the state.
        let asked = found.into_iter().map(|status| size(self.copal.clone(), status));
        let sizes: Vec<_> = futures::stream::iter(asked).buffer_unordered(PARALLEL).collect().await;
        let mut state = self.lock();
        for (name, size) in sizes {
            if let Some(seen) = state.seen.get_mut(&name) {
                seen.repository_bytes = size;
            }
        }
        state.generation += 1;
    }

    /// What was found takes the place of what is meant by it; sizes stay until they are asked for again.
    fn publish(&self, found: &[DatabaseStatus], is_meant: impl Fn(&str) -> bool) {
        let mut state = self.lock();
        let seen = found.iter().map(|status| {
            let repository_bytes = state.seen.get(&status.name).and_then(|seen| seen.repository_bytes);
            (status.name.clone(), Seen { status: status.clone(), repository_bytes })
        });
        let seen: Vec<_> = seen.collect();
        state.seen.retain(|key, _| !is_meant(key));
        state.seen.extend(seen);
        state.generation += 1;
    }

    async fn ask(&mut self, names: &[String]) -> Option<Vec<DatabaseStatus>> {
        let asked = async {
            self.copal = self.copal.current().await?;
            self.copal.status(names).await
        };
        let (error, found) = match asked.await {
            Ok(found) => (None, Some(found)),
            Err(error) => {
                tracing::warn!(%error, "the repository cannot be asked what it holds");
                self.again_at = Some(Instant::now() + self.settings.again);
                (Some(crate::run::RunError::of(&error).message), None)
            }
        };
        self.lock().error = error;
        found
    }

    /// Tells what is stale, damaged, or well again.
    async fn judge(&mut self, statuses: &[DatabaseStatus]) {
        if statuses.iter().any(|status| !status.protected) {
            let again = Instant::now() + self.settings.again;
            self.again_at = Some(self.again_at.map_or(again, |at| at.min(again)));
        }
        for (index, status) in statuses.iter().enumerate() {
            if index % TOLD_AT_ONCE == TOLD_AT_ONCE - 1 {
                tokio::time::sleep(BREATH).await;
            }
            let Some(database) = self.configured_name(status) else { continue };
            let stale = is_stale(status) && self.is_alarming(status);
            let damage = status.problems.iter().find(|problem| problem.kind == StatusProblemKind::Damage);
            if stale {
                let newest = status.last_backup.as_ref().map(|backup| backup.time);
                let why = status.problems.iter().map(|problem| problem.message.as_str()).collect::<Vec<_>>().join("; ");
                tracing::warn!(database, ?newest, why, "there is no backup as young as promised");
                self.runner.tell(RunEvent::Stale { database: database.clone(), newest, why });
            }
            if let Some(damage) = damage {
                tracing::warn!(database, problem = damage.message, "backups are damaged");
                self.runner.tell(RunEvent::Damaged { database: database.clone(), problem: damage.message.clone() });
            }
            if stale || damage.is_some() {
                self.troubled.insert(status.name.clone());
            } else if self.troubled.remove(&status.name) || !self.has_judged {
                // After a restart, too: nobody knows what was told before.
                self.runner.tell(RunEvent::Protected { database });
            }
        }
        self.has_judged = true;
    }

    /// The name in the configuration: for a database of a whole server, that server's. Nobody is told of others.
    fn configured_name(&self, status: &DatabaseStatus) -> Option<String> {
        let name = status.name.as_str();
        match self.copal.settings().databases.contains_key(name) {
            true => Some(name.to_owned()),
            false => self.copal.server_of(name).map(|(server, _)| server.to_owned()),
        }
    }

    /// Whether that there is no backup yet is worth an alarm.
    fn is_alarming(&self, status: &DatabaseStatus) -> bool {
        status.last_backup.is_some() || status.max_age_seconds.is_some() || self.since.elapsed() >= FIRST_BACKUP
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a database takes in the repository, by its name.
async fn size(copal: Copal, status: DatabaseStatus) -> (String, Option<u64>) {
    let bytes = match status.backups {
        0 => Some(0),
        _ => copal.stored_bytes(&status.name).await.ok(),
    };
    (status.name, bytes)
}

fn is_stale(status: &DatabaseStatus) -> bool {
    let kinds = [StatusProblemKind::Stale, StatusProblemKind::NoBackup];
    status.problems.iter().any(|problem| kinds.contains(&problem.kind))
}
