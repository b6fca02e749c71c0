//! Actors on one repository whose every storage call and every sleep waits for the test: a schedule, step by step.
//!
//! The actors' tasks share one thread with the test, but writers also work in threads of their own; so the test goes
//! on only when each living actor has a call registered, sleeps or has ended. After every step it looks at the storage.

mod append;
pub mod clock;
mod history;
mod judge;
pub mod random;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use copal_core::{BackupId, Context, Follows, Keep};
use copal_repository::{
    BackupFacts, Database, Mark, PruneRules, Pruned, Repository, RepositoryError, RepositoryOptions, StateFolder,
    WriteOptions,
};
use copal_storage::stepped::{Grant, PendingCall, Scheduler};
use copal_storage::{Clock, MemoryStorage, RetryPolicy, Retrying, Storage, StorageErrorKind};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use tokio::task::{Id, JoinHandle};

use crate::common::{file_bytes, push};
use clock::{LonelyClock, VirtualClock};
use history::History;

pub const TTL: Duration = Duration::from_secs(60);
pub const PAGE: usize = 512;
const PAGES: usize = 12;

/// The time at which schedules begin.
pub fn noon() -> Timestamp {
    "2026-11-20T12:00:00Z".parse().unwrap()
}

/// What an actor does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// A backup that changes one page, or all of them.
    Backup { whole: bool, pin: bool },
    /// A segment behind the newest state.
    Append,
    /// Keeps the last so many.
    Prune { last: u32 },
    /// Pins the nth of the backups that were there at first.
    Pin(usize),
    /// Likewise.
    Unpin(usize),
}

pub const SMALL: Op = Op::Backup { whole: false, pin: false };
pub const WHOLE: Op = Op::Backup { whole: true, pin: false };
pub const PINNED: Op = Op::Backup { whole: true, pin: true };
pub const PRUNE: Op = Op::Prune { last: 1 };

/// How the time of the others goes by while one actor waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// Everybody's clock goes on, also that of a process that stands still.
    Together,
    /// Only the waiter's: the others are machines that are suspended, clocks and all.
    Own,
}

/// What came of an operation.
#[derive(Debug)]
pub enum Done {
    Backup(BackupId),
    Appended(BackupId),
    Pruned(Pruned),
    Marked,
}

/// Bytes of every backup and of every segment that was ever begun.
pub type Contents = Arc<Mutex<BTreeMap<BackupId, Vec<u8>>>>;

/// The newest state of which somebody was told that it is saved.
pub type Told = Arc<Mutex<Follows>>;

/// A repository with three backups, made once and forked for every schedule.
#[derive(Clone)]
pub struct Start {
    memory: MemoryStorage,
    database: Database,
    contents: BTreeMap<BackupId, Vec<u8>>,
    pub ids: Vec<BackupId>,
    end: Follows,
}

impl Start {
    pub async fn new() -> Self {
        Self::with_segments([0, 0, 0]).await
    }

    /// With so many segments after each of the backups.
    pub async fn with_segments(counts: [usize; 3]) -> Self {
        let memory = MemoryStorage::new();
        memory.set_time(Some(noon()));
        let clock = LonelyClock::new(noon() - Duration::from_secs(3 * 24 * 3600));
        let options = options(Arc::new(clock.clone()));
        let repository = Repository::create(Arc::new(memory.clone()), None, &[], options).await.unwrap();
        let database = crate::common::database(&repository, "db").await;
        let mut bytes = file_bytes(1, PAGE * PAGES);
        let mut contents = BTreeMap::new();
        let mut ids = Vec::new();
        // The second one's packs are needed by itself only, the first one's by all three.
        let mut end = None;
        for (change, segments) in (0..).zip(counts) {
            let ours = file_bytes(change, PAGE * 3);
            bytes[..ours.len()].copy_from_slice(&ours);
            clock.advance(Duration::from_secs(24 * 3600 - 60));
            let made = crate::common::backup(&repository, &database, &bytes, PAGE).await.unwrap();
            contents.insert(made.manifest.header.backup.clone(), bytes.clone());
            end = Some(made.end());
            for number in 0..segments {
                let bytes = file_bytes(50 + change * 10 + number as u64, 300);
                let (follows, context) = (end.take().unwrap(), Context::silent());
                let (facts, push) =
                    (append::facts(clock.wall()), crate::common::streams::streams(&[("delta", &bytes)]));
                let appended =
                    crate::common::journal::append_pushed(&repository, &database, &follows, facts, push, &context);
                let appended = appended.await.unwrap();
                contents.insert(appended.segment.id().clone(), bytes);
                end = Some(appended.end);
            }
            ids.push(made.manifest.header.backup);
        }
        Self { memory, database, contents, ids, end: end.unwrap() }
    }
}

fn options(clock: Arc<dyn Clock>) -> RepositoryOptions {
    RepositoryOptions { state: StateFolder::none(), lease_ttl: TTL, clock }
}

pub fn rules(last: u32) -> PruneRules {
    let keep = Keep { last: Some(last), ..Keep::default() };
    PruneRules { keep, zone: TimeZone::UTC, trust_clock: false }
}

type Outcome = Arc<Mutex<Option<Result<Done, RepositoryError>>>>;

/// Somebody who does one operation.
pub struct Actor {
    pub op: Op,
    pub clock: VirtualClock,
    name: String,
    task: JoinHandle<()>,
    main: Id,
    outcome: Outcome,
    is_killed: bool,
}

impl Actor {
    fn is_main(&self, call: &PendingCall) -> bool {
        call.actor == self.name && (call.task == Some(self.main) || !call.call.path_text().starts_with("leases/"))
    }

    pub fn is_done(&self) -> bool {
        self.is_killed || self.task.is_finished()
    }
}

/// The actors, their storage and what was seen of it.
pub struct World {
    pub start: Start,
    pub memory: MemoryStorage,
    pub actors: Vec<Actor>,
    pub contents: Contents,
    pub told: Told,
    pub time: Time,
    /// Whether an actor's lease is renewed before its operation goes on, or as late as can be.
    pub renewal_first: bool,
    /// Whether the actors try again after transient errors, on their own clock.
    pub retries: bool,
    /// Whether the test made calls fail, so that operations may fail with storage errors.
    pub has_faults: bool,
    /// Whether somebody set a clock, so that operations may find themselves too old.
    pub has_jumps: bool,
    pub scheduler: Scheduler,
    history: History,
    story: Vec<String>,
}

/// What a step was.
#[derive(Debug)]
pub enum Step {
    Acted(Box<PendingCall>),
    Slept,
    Done,
}

/// Steps taken by all tests of the process; the watchdog wants to see it move.
static STEPS: AtomicU64 = AtomicU64::new(0);

/// Ends the process if no step is taken for a long real time, because a schedule is stuck.
fn watch() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        std::thread::spawn(|| {
            let mut seen = 0;
            loop {
                std::thread::sleep(Duration::from_secs(60));
                let now = STEPS.load(Ordering::Relaxed);
                if now == seen {
                    eprintln!("a schedule is stuck");
                    std::process::abort();
                }
                seen = now;
            }
        });
    });
}

impl World {
    pub fn new(start: &Start) -> Self {
        watch();
        let memory = start.memory.fork();
        Self {
            history: History::new(&memory),
            start: start.clone(),
            memory,
            actors: Vec::new(),
            contents: Arc::new(Mutex::new(start.contents.clone())),
            told: Arc::new(Mutex::new(start.end.clone())),
            time: Time::Together,
            renewal_first: false,
            retries: false,
            has_faults: false,
            has_jumps: false,
            scheduler: Scheduler::new(),
            story: Vec::new(),
        }
    }

    /// Adds an actor that is about to make its first call.
    pub async fn add(&mut self, op: Op) -> usize {
        let number = self.actors.len();
        let name = format!("{number} {op:?}");
        let clock = VirtualClock::new(noon(), &self.scheduler);
        let mut storage: Arc<dyn Storage> =
            Arc::new(self.scheduler.storage(name.clone(), Arc::new(self.memory.clone())));
        if self.retries {
            storage = Arc::new(Retrying::with_clock(storage, RetryPolicy::default(), Arc::new(clock.for_retries())));
        }
        let open = Repository::open(storage, None, options(Arc::new(clock.clone())));
        tokio::pin!(open);
        let repository = loop {
            tokio::select! {
                opened = &mut open => break opened.unwrap(),
                () = self.scheduler.wait_change() => {
                    for call in self.scheduler.pending().iter().filter(|call| call.actor == name) {
                        self.scheduler.grant(call.id);
                    }
                }
            }
        };
        let outcome = Outcome::default();
        let (told, scheduler) = (Arc::clone(&outcome), self.scheduler.clone());
        let (database, ids) = (self.start.database.clone(), self.start.ids.clone());
        let (contents, newest) = (Arc::clone(&self.contents), Arc::clone(&self.told));
        let task = tokio::spawn(async move {
            let result = act(op, number, &repository, &database, &ids, &contents, &newest).await;
            *told.lock().unwrap() = Some(result);
            scheduler.note_change();
        });
        let main = task.id();
        self.actors.push(Actor { op, clock, name, task, main, outcome, is_killed: false });
        self.settle().await;
        number
    }

    /// Takes all steps of an actor, or so many of them; gives how many there were.
    pub async fn run(&mut self, actor: usize, most: usize) -> usize {
        for taken in 0..most {
            assert!(taken < 2000, "{}", self.told("an operation goes on for ever"));
            if matches!(self.step(actor, Grant::Act).await, Step::Done) {
                return taken;
            }
        }
        most
    }

    pub async fn run_to_end(&mut self, actor: usize) -> usize {
        self.run(actor, usize::MAX).await
    }

    /// Lets an actor take one step.
    pub async fn step(&mut self, actor: usize, grant: Grant) -> Step {
        STEPS.fetch_add(1, Ordering::Relaxed);
        if self.actors[actor].is_done() {
            return Step::Done;
        }
        self.actors[actor].clock.wake();
        self.settle().await;
        let this = &self.actors[actor];
        let pending: Vec<PendingCall> =
            self.scheduler.pending().into_iter().filter(|call| call.actor == this.name).collect();
        let renewal = pending.iter().find(|call| !this.is_main(call));
        let main = pending.iter().find(|call| this.is_main(call));
        let next = if self.renewal_first { renewal.or(main) } else { main.or(renewal) };
        if let Some(call) = next {
            self.story.push(format!("{} {:?} {} {grant:?}", this.name, call.call.method, call.call.path_text()));
            let faulty = grant != Grant::Act;
            self.has_faults |= faulty;
            assert!(self.scheduler.grant_as(call.id, grant));
            let call = Box::new(call.clone());
            self.settle().await;
            self.look();
            return Step::Acted(call);
        }
        let main = this.main;
        let Some(left) = this.clock.sleeps(main) else {
            assert!(this.is_done(), "{}", self.told("an actor neither calls nor sleeps"));
            return Step::Done;
        };
        self.story.push(format!("{} sleeps {left:?}", this.name));
        self.pass(actor, left);
        self.actors[actor].clock.wake();
        self.settle().await;
        Step::Slept
    }

    /// Fails the next calls of an actor, at most so many, while they are about this object.
    pub async fn fail_on(&mut self, actor: usize, path: &str, most: usize) {
        for _ in 0..most {
            let name = &self.actors[actor].name;
            let pending = self.scheduler.pending();
            if !pending.iter().any(|call| call.actor == *name && call.call.path_text() == path) {
                return;
            }
            self.step(actor, Grant::Fail(StorageErrorKind::Transient)).await;
        }
    }

    /// Time goes by for an actor, and for the others as the world has it.
    pub fn pass(&mut self, actor: usize, by: Duration) {
        for (number, other) in self.actors.iter().enumerate() {
            if number == actor || self.time == Time::Together {
                other.clock.advance(by);
            }
        }
    }

    /// Somebody sets an actor's time of day.
    pub fn jump(&mut self, actor: usize, by: SignedDuration) {
        self.story.push(format!("{}: the clock jumps by {by}", self.actors[actor].name));
        self.has_jumps = true;
        self.actors[actor].clock.jump(by);
    }

    /// The process of an actor is killed.
    pub async fn kill(&mut self, actor: usize) {
        if self.actors[actor].is_done() {
            return;
        }
        self.has_faults = true;
        self.story.push(format!("{} is killed", self.actors[actor].name));
        self.actors[actor].is_killed = true;
        self.actors[actor].task.abort();
        self.actors[actor].clock.end();
        self.settle().await;
    }

    /// Lets all late writes act.
    pub async fn land(&mut self) {
        for id in self.scheduler.late() {
            let landed = self.scheduler.land(id).await.map(|answer| answer.is_ok());
            self.story.push(format!("the late write {id} acts: {landed:?}"));
            self.look();
        }
    }

    /// Waits until every living actor waits for the test.
    async fn settle(&mut self) {
        let mut patience = 30;
        loop {
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            let pending = self.scheduler.pending();
            let mut renews_only = false;
            let mut dies = false;
            let mut all_wait = true;
            for actor in &self.actors {
                let mut calls = pending.iter().filter(|call| call.actor == actor.name).peekable();
                if actor.is_killed {
                    // Threads that have not noticed yet.
                    dies |= calls.peek().is_some() || !actor.task.is_finished();
                    for call in calls {
                        self.scheduler.grant_as(call.id, Grant::Fail(StorageErrorKind::Other));
                    }
                    continue;
                }
                let has_call = calls.peek().is_some();
                let waits = actor.task.is_finished()
                    || calls.any(|call| actor.is_main(call))
                    || actor.clock.sleeps(actor.main).is_some();
                renews_only |= !waits && has_call;
                all_wait &= waits || (has_call && patience == 0);
            }
            if dies {
                continue;
            }
            if all_wait {
                return;
            }
            if renews_only && patience > 0 {
                // Either its threads compute, or its operation waits for the renewal to end.
                patience -= 1;
                std::thread::sleep(Duration::from_micros(200));
                continue;
            }
            self.scheduler.wait_change().await;
        }
    }

    fn look(&mut self) {
        if let Err(problem) = self.history.look(&self.memory) {
            panic!("{}", self.told(&problem));
        }
    }

    /// A problem and how it came to it.
    pub fn told(&self, problem: &str) -> String {
        let mut text = format!("{problem}\n{:?}, renewal first {}\n", self.time, self.renewal_first);
        for line in &self.story {
            text.push_str(line);
            text.push('\n');
        }
        for actor in &self.actors {
            text.push_str(&format!("{}: {:?}\n", actor.name, actor.outcome.lock().unwrap()));
        }
        text
    }

    /// Whether the last holder of the lease gave it back.
    pub fn is_free(&self) -> bool {
        let path = copal_storage::ObjectPath::parse("leases/db").unwrap();
        let lease: serde_json::Value = serde_json::from_slice(&self.memory.contents()[&path]).unwrap();
        lease["state"] == "free"
    }

    /// What came of an actor; `None` if it was killed.
    pub fn succeeded(&self, actor: usize) -> Option<bool> {
        self.actors[actor].outcome.lock().unwrap().as_ref().map(Result::is_ok)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for actor in &self.actors {
            actor.task.abort();
            actor.clock.end();
        }
        self.scheduler.end();
    }
}

async fn act(
    op: Op,
    number: usize,
    repository: &Repository,
    database: &Database,
    ids: &[BackupId],
    contents: &Contents,
    newest: &Told,
) -> Result<Done, RepositoryError> {
    let context = Context::silent();
    match op {
        Op::Append => append::append(number, repository, database, contents, newest).await.map(Done::Appended),
        Op::Backup { whole, pin } => {
            let mut bytes = contents.lock().unwrap()[&ids[2]].clone();
            let changed = if whole { PAGES } else { 1 };
            bytes[..changed * PAGE].copy_from_slice(&file_bytes(100 + number as u64, changed * PAGE));
            let options = WriteOptions { workers: Some(1), uploads: 1, ..WriteOptions::default() };
            let (session, mut sink) = repository.begin_backup(database, &options, &context).await?;
            let id = session.id().clone();
            contents.lock().unwrap().insert(id.clone(), bytes.clone());
            let pushing = tokio::task::spawn_blocking(move || (push(&mut sink, &bytes, PAGE), sink));
            let (pushed, sink) = pushing.await.unwrap();
            if let Err(error) = pushed {
                session.abandon(Some(sink)).await;
                return Err(*error.downcast::<RepositoryError>().unwrap());
            }
            let made = session.commit(sink, BackupFacts { pin, ..BackupFacts::default() }, &context).await?;
            *newest.lock().unwrap() = made.end();
            Ok(Done::Backup(id))
        }
        Op::Prune { last } => Ok(Done::Pruned(repository.prune(database, &rules(last), &context).await?)),
        Op::Pin(which) => repository.set_pinned(database, &ids[which], true, &context).await.map(|()| Done::Marked),
        Op::Unpin(which) => repository.set_pinned(database, &ids[which], false, &context).await.map(|()| Done::Marked),
    }
}

/// The path of a mark, as the format names it.
fn mark(id: &BackupId, mark: Mark) -> String {
    let suffix = if mark == Mark::Pinned { "pinned" } else { "verified" };
    format!("databases/db/marks/{id}.{suffix}")
}
