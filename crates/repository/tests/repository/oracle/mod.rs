//! A repository and what ought to be in it: plain copies of every backup, and `copal_core::decide` for what goes.

mod journal;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use copal_core::{BackupId, CancelToken, Candidate, Context, Event, Keep, PageFileSpec, Progress, Sink, decide};
use copal_repository::{
    BackupFacts, BackupSink, Database, PruneRules, Repository, RepositoryError, RepositoryErrorKind, RepositoryOptions,
    StateFolder, WriteOptions,
};
use copal_storage::fault::{Action, Fault, FaultStorage};
use copal_storage::{Clock, MemoryStorage, ObjectPath, Storage};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::common::{RecoveryKey, copy_folder, database, file_bytes, restore};

/// What happens to a database.
#[derive(Clone, Debug)]
pub enum Change {
    Scattered(u16),
    Cluster { at: u16, pages: u16 },
    Grow(u16),
    Shrink(u16),
    OddTail(u16),
    PageSize(usize),
    Everything,
}

/// What happens to the process.
#[derive(Clone, Copy, Debug)]
pub enum Fate {
    Lives,
    /// Before its nth storage call.
    KilledAt(u16),
    /// Before the answer to its nth storage call.
    KilledAfter(u16),
}

#[derive(Clone, Debug)]
pub struct Rules {
    pub last: Option<u32>,
    pub within_hours: Option<u32>,
    pub daily: Option<u32>,
    pub weekly: Option<u32>,
    pub trust_clock: bool,
}

#[derive(Clone, Debug)]
pub enum Step {
    Change(Change),
    Backup { fate: Fate, pin: bool, backwards: bool },
    CancelledBackup { event: u8 },
    Append { fate: Fate, bytes: u16 },
    Prune { rules: Rules, fate: Fate },
    Pin { which: u8, pinned: bool },
    Verify { which: u8 },
    ForgetState,
    KeepState,
    BringStateBack,
    Wait { hours: u16 },
}

/// Time of day in the test's hand; waiting for a dead holder takes no time.
#[derive(Clone, Debug)]
struct ModelClock(Arc<Mutex<(Timestamp, Duration)>>);

#[async_trait::async_trait]
impl Clock for ModelClock {
    fn wall(&self) -> Timestamp {
        self.0.lock().unwrap().0
    }

    fn monotonic(&self) -> Duration {
        self.0.lock().unwrap().1
    }

    fn boot(&self) -> Duration {
        Duration::from_secs(1000)
    }

    async fn sleep(&self, duration: Duration) {
        if duration > Duration::from_secs(10) {
            std::future::pending::<()>().await;
        }
        self.0.lock().unwrap().1 += duration;
        tokio::task::yield_now().await;
    }
}

/// One database as it ought to be.
struct Model {
    database: Database,
    bytes: Vec<u8>,
    page_size: usize,
    backups: BTreeMap<BackupId, Vec<u8>>,
    /// The segments after each backup, also of those that are gone.
    journals: BTreeMap<BackupId, Vec<journal::Saved>>,
    pinned: BTreeSet<BackupId>,
    verified: BTreeSet<BackupId>,
    /// Backups that a plan which is not finished names.
    leaving: BTreeSet<BackupId>,
    newest: Option<BackupId>,
}

pub struct World {
    memory: MemoryStorage,
    faults: FaultStorage,
    key: Option<RecoveryKey>,
    clock: ModelClock,
    state: tempfile::TempDir,
    kept_state: Option<tempfile::TempDir>,
    repository: Repository,
    models: Vec<Model>,
    seed: u64,
}

/// Cancels its context at the nth event.
struct CancelsAt(Mutex<u8>, CancelToken);

impl Progress for CancelsAt {
    fn event(&self, _event: Event) {
        let mut left = self.0.lock().unwrap();
        if *left == 0 {
            self.1.cancel();
        }
        *left = left.saturating_sub(1);
    }
}

impl World {
    pub async fn new(encrypted: bool) -> Self {
        let memory = MemoryStorage::new();
        let faults = FaultStorage::new(Arc::new(memory.clone()));
        let key = encrypted.then(RecoveryKey::generate);
        let start: Timestamp = "2026-11-20T12:00:00Z".parse().unwrap();
        memory.set_time(Some(start));
        let clock = ModelClock(Arc::new(Mutex::new((start, Duration::from_secs(1000)))));
        let state = tempfile::tempdir().unwrap();
        let options = options(StateFolder::at(state.path()), &clock);
        let recipients: Vec<String> = key.iter().map(|k| k.recipient.clone()).collect();
        let repository = Repository::create(Arc::new(faults.clone()), None, &recipients, options).await.unwrap();
        let mut models = Vec::new();
        for (name, pages) in [("large", 300), ("small", 3)] {
            models.push(Model {
                database: database(&repository, name).await,
                bytes: file_bytes(pages, pages as usize * 512),
                page_size: 512,
                backups: BTreeMap::new(),
                journals: BTreeMap::new(),
                pinned: BTreeSet::new(),
                verified: BTreeSet::new(),
                leaving: BTreeSet::new(),
                newest: None,
            });
        }
        Self { memory, faults, key, clock, state, kept_state: None, repository, models, seed: 0 }
    }

    /// Opens the repository as a new process would.
    async fn open(&self, storage: Arc<dyn Storage>, state: StateFolder) -> Repository {
        let unlock = self.key.as_ref().map(RecoveryKey::unlock);
        Repository::open(storage, unlock.as_ref(), options(state, &self.clock)).await.unwrap()
    }

    async fn restart(&mut self) {
        self.faults.reset();
        self.repository = self.open(Arc::new(self.faults.clone()), StateFolder::at(self.state.path())).await;
    }

    fn fault(&self, fate: Fate) {
        match fate {
            Fate::Lives => {}
            Fate::KilledAt(nth) => self.faults.plan(Fault::at(nth.into(), Action::Kill)),
            Fate::KilledAfter(nth) => self.faults.plan(Fault::at(nth.into(), Action::KillAfter)),
        }
    }

    pub async fn take(&mut self, which: usize, step: &Step) {
        self.seed += 1;
        match step {
            Step::Change(change) => self.change(which, change),
            Step::Backup { fate, pin, backwards } => {
                self.fault(*fate);
                self.backup(which, *pin, *backwards, &Context::silent()).await;
            }
            Step::CancelledBackup { event } => {
                let cancel = CancelToken::default();
                let progress = Arc::new(CancelsAt(Mutex::new(*event), cancel.clone()));
                self.backup(which, false, false, &Context { cancel, progress }).await;
            }
            Step::Append { fate, bytes } => self.append(which, *bytes, *fate).await,
            Step::Prune { rules, fate } => self.prune(which, rules, *fate).await,
            Step::Pin { which: of, pinned } => self.pin(which, *of, *pinned).await,
            Step::Verify { which: of } => self.verify(which, *of).await,
            Step::ForgetState => {
                self.state = tempfile::tempdir().unwrap();
                self.restart().await;
            }
            Step::KeepState => {
                let kept = tempfile::tempdir().unwrap();
                copy_folder(self.state.path(), kept.path());
                self.kept_state = Some(kept);
            }
            Step::BringStateBack => {
                if let Some(kept) = &self.kept_state {
                    self.state = tempfile::tempdir().unwrap();
                    copy_folder(kept.path(), self.state.path());
                    self.restart().await;
                }
            }
            Step::Wait { hours } => {
                let mut clock = self.clock.0.lock().unwrap();
                clock.0 += SignedDuration::from_hours((*hours).into());
                self.memory.set_time(Some(clock.0));
            }
        }
    }

    fn change(&mut self, which: usize, change: &Change) {
        let seed = self.seed;
        let model = &mut self.models[which];
        let size = model.page_size;
        let pages = model.bytes.len() / size;
        let rewrite = |model: &mut Model, page: usize| {
            let page = page.min(pages.saturating_sub(1)) * size;
            if let Some(bytes) = model.bytes.get_mut(page..page + size) {
                bytes.copy_from_slice(&file_bytes(seed << 20 | page as u64, size));
            }
        };
        match change {
            Change::Scattered(count) => {
                let places = file_bytes(seed, usize::from(*count) * 8);
                for place in places.chunks(8) {
                    let place = u64::from_le_bytes(place.try_into().unwrap());
                    rewrite(model, (place % pages.max(1) as u64) as usize);
                }
            }
            Change::Cluster { at, pages: count } => {
                let first = usize::from(*at) % pages.max(1);
                (first..first + usize::from(*count)).for_each(|page| rewrite(model, page));
            }
            Change::Grow(count) => model.bytes.extend(file_bytes(seed, usize::from(*count) * size)),
            Change::Shrink(to) => model.bytes.truncate(usize::from(*to) % pages.max(1) * size),
            Change::OddTail(bytes) => model.bytes.extend(file_bytes(seed, (*bytes).into())),
            Change::PageSize(size) => model.page_size = *size,
            Change::Everything => model.bytes = file_bytes(seed, model.bytes.len()),
        }
    }

    async fn backup(&mut self, which: usize, pin: bool, backwards: bool, context: &Context) {
        let open_before = self.open_plans(which);
        let model = &self.models[which];
        let (bytes, page_size) = (model.bytes.clone(), model.page_size);
        let options = WriteOptions { workers: Some(2), ..WriteOptions::default() };
        let mut id = None;
        let result: Result<(), RepositoryError> = async {
            let (session, mut sink) = self.repository.begin_backup(&model.database, &options, context).await?;
            id = Some(session.id().clone());
            let pushing = tokio::task::spawn_blocking(move || (push(&mut sink, &bytes, page_size, backwards), sink));
            let (pushed, sink) = pushing.await.unwrap();
            if let Err(error) = pushed {
                session.abandon(Some(sink)).await;
                return Err(*error.downcast::<RepositoryError>().unwrap());
            }
            let facts = BackupFacts { pin, captured_at: self.clock.wall(), ..BackupFacts::default() };
            let committed = session.commit(sink, facts, context).await?;
            assert!(committed.damaged.is_empty(), "{:?}", committed.damaged);
            Ok(())
        }
        .await;
        let may_fail = self.faults.is_killed() || context.cancel.is_cancelled();
        assert!(result.is_ok() || may_fail, "{result:?}");
        if !context.cancel.is_cancelled() {
            self.restart().await;
        }
        // Who was killed may have committed, and only then does the backup exist.
        let is_there = match &id {
            Some(id) => self.object(which, "backups", id.as_str()).is_some_and(|bytes| !bytes.is_empty()),
            None => false,
        };
        assert!(is_there || result.is_err());
        let model = &mut self.models[which];
        if let Some(id) = id.clone() {
            // The session began, so the plans were finished.
            let gone = std::mem::take(&mut model.leaving);
            model.backups.retain(|id, _| !gone.contains(id));
            assert!(model.newest.as_ref().is_none_or(|newest| *newest < id));
            // One that was given up leaves no trace, so that ids of the same second may follow in any order.
            if is_there {
                model.newest = Some(id);
            }
        }
        if let Some(id) = id.filter(|_| is_there) {
            model.backups.insert(id.clone(), model.bytes.clone());
            if pin {
                model.pinned.insert(id);
            }
        }
        if result.is_err() {
            self.settle(which, &open_before, BTreeSet::new());
        }
    }

    /// After an operation that failed or was killed: the plans that were open may be finished, and its own, which drops
    /// these, may not have been made, or stand open, or be finished.
    fn settle(&mut self, which: usize, open_before: &BTreeSet<String>, dropped: BTreeSet<BackupId>) {
        let open = self.open_plans(which);
        if open.iter().any(|plan| open_before.contains(plan)) {
            return;
        }
        let there = self.there(which);
        let model = &mut self.models[which];
        let finished = std::mem::replace(&mut model.leaving, dropped);
        assert!(finished.is_disjoint(&there));
        model.backups.retain(|id, _| !finished.contains(id));
        if open.is_empty() {
            let dropped = std::mem::take(&mut model.leaving);
            // A plan is carried out as a whole or, if it was never made, not at all.
            assert!(dropped.is_disjoint(&there) || dropped.is_subset(&there), "{dropped:?} {there:?}");
            model.backups.retain(|id, _| !dropped.contains(id) || there.contains(id));
        }
    }

    async fn prune(&mut self, which: usize, rules: &Rules, fate: Fate) {
        let keep = Keep {
            last: rules.last,
            within: rules.within_hours.map(|hours| SignedDuration::from_hours(hours.into())),
            daily: rules.daily,
            weekly: rules.weekly,
            ..Keep::default()
        };
        let model = &mut self.models[which];
        let candidates: Vec<Candidate> = model
            .backups
            .keys()
            .filter(|id| !model.leaving.contains(*id))
            .map(|id| Candidate {
                id: id.clone(),
                time: id.time(),
                pinned: model.pinned.contains(id),
                verified: model.verified.contains(id),
            })
            .collect();
        let expected = decide(&candidates, &keep, &TimeZone::UTC, rules.trust_clock);
        let rules = PruneRules { keep, zone: TimeZone::UTC, trust_clock: rules.trust_clock };
        let foreseen = self.repository.plan_prune(&model.database, &rules).await;
        let open_before = self.open_plans(which);
        self.fault(fate);
        let result = self.repository.prune(&self.models[which].database, &rules, &Context::silent()).await;
        let was_killed = self.faults.is_killed();
        self.restart().await;
        let model = &mut self.models[which];
        match (expected, result) {
            (Ok(expected), result) => {
                assert_eq!(foreseen.unwrap().decisions, expected);
                let dropped = expected.iter().filter(|d| d.reasons.is_empty()).map(|d| d.id.clone());
                match result {
                    Ok(pruned) => {
                        assert_eq!(pruned.decisions, expected);
                        model.leaving.extend(dropped);
                        let gone = std::mem::take(&mut model.leaving);
                        model.backups.retain(|id, _| !gone.contains(id));
                        assert!(self.open_plans(which).is_empty());
                        self.check_packs(which).await;
                    }
                    Err(error) => {
                        assert!(was_killed, "{error:?}");
                        self.settle(which, &open_before, dropped.collect());
                    }
                }
            }
            (Err(_), Ok(pruned)) => panic!("pruned with a doubtful clock: {pruned:?}"),
            (Err(_), Err(error)) => {
                assert!(was_killed || error.kind() == RepositoryErrorKind::Usage, "{error:?}");
                self.settle(which, &open_before, BTreeSet::new());
            }
        }
    }

    async fn pin(&mut self, which: usize, of: u8, pinned: bool) {
        let model = &mut self.models[which];
        let Some(id) = model.backups.keys().nth(usize::from(of) % model.backups.len().max(1)).cloned() else { return };
        let result = self.repository.set_pinned(&model.database, &id, pinned, &Context::silent()).await;
        let gone = std::mem::take(&mut model.leaving);
        model.backups.retain(|id, _| !gone.contains(id));
        if gone.contains(&id) {
            assert_eq!(result.unwrap_err().kind(), RepositoryErrorKind::Pruned);
            return;
        }
        result.unwrap();
        if pinned {
            model.pinned.insert(id)
        } else {
            model.pinned.remove(&id)
        };
    }

    async fn verify(&mut self, which: usize, of: u8) {
        let model = &mut self.models[which];
        let staying = model.backups.keys().filter(|id| !model.leaving.contains(*id));
        let staying: Vec<BackupId> = staying.cloned().collect();
        let Some(id) = staying.get(usize::from(of) % staying.len().max(1)) else { return };
        let manifest = self.repository.manifest(&model.database, id).await.unwrap();
        let damaged = self.repository.verify(&model.database, manifest, &Context::silent()).await.unwrap();
        assert!(damaged.is_empty(), "{damaged:?}");
        model.verified.insert(id.clone());
    }

    fn object(&self, which: usize, folder: &str, name: &str) -> Option<bytes::Bytes> {
        let path = format!("databases/{}/{folder}/{name}", self.models[which].database.name);
        self.memory.contents().get(&ObjectPath::parse(&path).unwrap()).cloned()
    }

    /// Names and contents of a folder of a database.
    fn folder(&self, which: usize, folder: &str) -> BTreeMap<String, bytes::Bytes> {
        let prefix = format!("databases/{}/{folder}/", self.models[which].database.name);
        let objects = self.memory.contents().into_iter();
        objects.filter_map(|(path, bytes)| Some((path.as_str().strip_prefix(&prefix)?.to_owned(), bytes))).collect()
    }

    fn there(&self, which: usize) -> BTreeSet<BackupId> {
        let manifests = self.folder(which, "backups").into_iter().filter(|(_, bytes)| !bytes.is_empty());
        manifests.map(|(name, _)| name.parse().unwrap()).collect()
    }

    fn open_plans(&self, which: usize) -> BTreeSet<String> {
        let plans = self.folder(which, "plans").into_iter();
        plans.filter(|(_, bytes)| !bytes.is_empty()).map(|(name, _)| name).collect()
    }

    /// After a prune that succeeded there is what is needed and nothing else.
    async fn check_packs(&self, which: usize) {
        let model = &self.models[which];
        let mut needed = BTreeSet::new();
        for id in model.backups.keys() {
            let manifest = self.repository.manifest(&model.database, id).await.unwrap();
            needed.extend(manifest.header.packs.iter().map(|(pack, _)| pack.to_string()));
            let journal = self.repository.journal(&model.database, &manifest).await.unwrap();
            let of_segments = journal.segments.iter().flat_map(|segment| &segment.header.packs);
            needed.extend(of_segments.map(|(pack, _)| pack.to_string()));
        }
        self.check_segments(which);
        let packs: BTreeSet<String> = self.folder(which, "packs").into_keys().collect();
        assert_eq!(packs, needed);
    }

    /// The listing is what the oracle says, and one backup restores.
    pub async fn check(&mut self, dice: usize) {
        for which in 0..self.models.len() {
            let model = &self.models[which];
            let listing = self.repository.listing(&model.database).await.unwrap();
            assert!(listing.damaged.is_empty(), "{:?}", listing.damaged);
            let expected: Vec<_> = model
                .backups
                .iter()
                .filter(|(id, _)| !model.leaving.contains(*id))
                .map(|(id, bytes)| (id, model.pinned.contains(id), model.verified.contains(id), bytes.len() as u64))
                .collect();
            let listed = listing.backups.iter().filter(|s| !model.leaving.contains(&s.id));
            let listed: Vec<_> = listed.map(|s| (&s.id, s.pinned, s.verified, s.logical_bytes)).collect();
            assert_eq!(listed, expected);
            let staying = expected.len();
            if staying > 0 {
                let id = expected[dice % staying].0;
                self.check_content(&self.repository, which, id).await;
            }
            self.check_journals(which, dice).await;
        }
    }

    async fn check_content(&self, repository: &Repository, which: usize, id: &BackupId) {
        let model = &self.models[which];
        let manifest = repository.manifest(&model.database, id).await.unwrap();
        let found = restore(repository, &model.database, manifest).await.unwrap();
        assert!(found == model.backups[id], "{id} restores to something else");
    }

    /// From an empty machine everything is as the oracle says, and a prune without rules leaves it so.
    pub async fn check_all(&mut self) {
        self.state = tempfile::tempdir().unwrap();
        self.restart().await;
        let none = Rules { last: None, within_hours: None, daily: None, weekly: None, trust_clock: false };
        for which in 0..self.models.len() {
            self.prune(which, &none, Fate::Lives).await;
        }
        self.check(0).await;
        let fresh = self.open(Arc::new(self.memory.clone()), StateFolder::none()).await;
        for which in 0..self.models.len() {
            for id in self.models[which].backups.keys() {
                self.check_content(&fresh, which, id).await;
                self.check_journal(&fresh, which, id, None).await;
            }
        }
    }
}

fn options(state: StateFolder, clock: &ModelClock) -> RepositoryOptions {
    RepositoryOptions { state, lease_ttl: Duration::from_secs(60), clock: Arc::new(clock.clone()) }
}

/// Pushes a file; backwards, an attempt that is withdrawn comes first and the runs come last to first.
fn push(sink: &mut BackupSink, bytes: &[u8], page_size: usize, backwards: bool) -> Result<(), copal_core::AnyError> {
    let spec = PageFileSpec { name: "main.db".into(), page_size: page_size as u32, head_length: 0 };
    let mut runs: Vec<(u64, &[u8])> = (0..).step_by(70).zip(bytes.chunks(page_size * 70)).collect();
    if backwards {
        let file = sink.begin(&spec)?;
        sink.pages(file, 0, &vec![7; page_size * 3])?;
        sink.withdraw(file)?;
        runs.reverse();
    }
    let file = sink.begin(&spec)?;
    for (first, run) in runs {
        sink.pages(file, first, run)?;
    }
    sink.finish(file, bytes.len() as u64, &[])
}
