//! Every storage call of every operation fails once, in every way; afterwards nothing is lost and nothing needs a hand.
//!
//! After each failure the repository is opened anew, with the local state of the failed operation and with none: all
//! backups that are listed verify and restore, those from before are among them, another backup works, and the next prune
//! leaves exactly what manifests need.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;

use copal_core::{BackupId, Context};
use copal_repository::{
    BackupFacts, BackupSink, CommittedBackup, Database, Manifest, Repository, RepositoryError, RepositoryErrorKind,
    WriteOptions,
};
use copal_storage::fault::{Action, Fault, FaultStorage};
use copal_storage::{MemoryStorage, Method, ObjectPath, RetryPolicy, Retrying, Storage, StorageErrorKind};
use futures::StreamExt;

use crate::common;
use crate::common::streams::{push_stream, read_stream};
use crate::common::{HastyClock, RecoveryKey, copy_folder, database, file_bytes, hasty, keep_last};

const PAGE: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Init,
    FirstBackup,
    SecondBackup,
    PinnedBackup,
    Prune,
    Pin,
    Unpin,
    Verify,
}

const OPERATIONS: [Operation; 8] = [
    Operation::Init,
    Operation::FirstBackup,
    Operation::SecondBackup,
    Operation::PinnedBackup,
    Operation::Prune,
    Operation::Pin,
    Operation::Unpin,
    Operation::Verify,
];

const ACTIONS: [Action; 7] = [
    Action::Fail(StorageErrorKind::Transient),
    Action::Fail(StorageErrorKind::PermissionDenied),
    Action::Fail(StorageErrorKind::NoSpace),
    Action::LoseAnswer,
    Action::Truncate(5),
    Action::Kill,
    Action::KillAfter,
];

fn contents(i: u64) -> Vec<u8> {
    let mut bytes = file_bytes(7, PAGE * 30 + 17);
    for page in 0..i as usize * 3 {
        bytes[page * PAGE] ^= i as u8;
    }
    bytes
}

/// Backs up the bytes twice: as pages, and as a stream.
async fn backup(
    repository: &Repository,
    database: &Database,
    bytes: &[u8],
    pin: bool,
) -> Result<CommittedBackup, RepositoryError> {
    let options = WriteOptions { workers: Some(2), ..WriteOptions::default() };
    let facts = BackupFacts { pin, ..BackupFacts::default() };
    let bytes = bytes.to_vec();
    let push = Box::new(move |sink: &mut BackupSink| {
        common::push(sink, &bytes, PAGE)?;
        push_stream(sink, "dump", &bytes, 10_000)
    });
    common::backup_pushed(repository, database, &options, facts, push, &Context::silent()).await
}

/// What both bring back.
async fn restore(repository: &Repository, database: &Database, manifest: Manifest) -> Result<Vec<u8>, RepositoryError> {
    let streamed = read_stream(repository, database, &manifest, "dump").await?;
    let bytes = common::restore(repository, database, manifest).await?;
    assert!(streamed == bytes, "the stream restores other bytes than the pages");
    Ok(bytes)
}

/// What there is before the operation: nothing, a repository, or three backups of which the first is pinned.
struct Fixture {
    memory: MemoryStorage,
    state: tempfile::TempDir,
    key: RecoveryKey,
    backups: Vec<(BackupId, Vec<u8>)>,
}

impl Fixture {
    async fn before(operation: Operation) -> Self {
        let key = RecoveryKey::generate();
        let (memory, state) = (MemoryStorage::new(), tempfile::tempdir().unwrap());
        let mut backups = Vec::new();
        if operation != Operation::Init {
            let storage = Arc::new(memory.clone());
            let recipients = [key.recipient.clone()];
            let repository = Repository::create(storage, None, &recipients, hasty(state.path())).await.unwrap();
            if operation != Operation::FirstBackup {
                let database = database(&repository, "a").await;
                for i in 0..3 {
                    let bytes = contents(i);
                    let made = backup(&repository, &database, &bytes, false).await.unwrap();
                    backups.push((made.manifest.header.backup, bytes));
                }
                repository.set_pinned(&database, &backups[0].0, true, &Context::silent()).await.unwrap();
            }
        }
        Self { memory, state, key, backups }
    }

    async fn open(&self, storage: Arc<dyn Storage>, state: &Path) -> Result<Repository, RepositoryError> {
        Repository::open(storage, Some(&self.key.unlock()), hasty(state)).await
    }

    async fn run(&self, operation: Operation, storage: Arc<dyn Storage>, state: &Path) -> Result<(), RepositoryError> {
        if operation == Operation::Init {
            let recipients = [self.key.recipient.clone()];
            return Repository::create(storage, None, &recipients, hasty(state)).await.map(|_| ());
        }
        let repository = self.open(storage, state).await?;
        let name = "a".parse().unwrap();
        let database = match repository.database(&name).await? {
            Some(found) => found,
            None => repository.create_database(&name, &common::record("a")).await?,
        };
        let context = Context::silent();
        match operation {
            Operation::Init => Ok(()),
            Operation::FirstBackup | Operation::SecondBackup => {
                backup(&repository, &database, &contents(5), false).await.map(|_| ())
            }
            Operation::PinnedBackup => backup(&repository, &database, &contents(5), true).await.map(|_| ()),
            Operation::Prune => repository.prune(&database, &keep_last(1), &context).await.map(|_| ()),
            Operation::Pin => repository.set_pinned(&database, &self.backups[1].0, true, &context).await,
            Operation::Unpin => repository.set_pinned(&database, &self.backups[0].0, false, &context).await,
            Operation::Verify => {
                let manifest = repository.manifest(&database, &self.backups[1].0).await?;
                repository.verify(&database, manifest, &context).await.map(|_| ())
            }
        }
    }

    /// The calls of the operation when nothing fails.
    async fn calls(&self, operation: Operation) -> Vec<copal_storage::Call> {
        let storage = FaultStorage::new(Arc::new(self.memory.fork()));
        let state = self.copy_of_state();
        self.run(operation, Arc::new(storage.clone()), state.path()).await.unwrap();
        storage.calls()
    }

    fn copy_of_state(&self) -> tempfile::TempDir {
        let state = tempfile::tempdir().unwrap();
        copy_folder(self.state.path(), state.path());
        state
    }
}

struct Case<'a> {
    fixture: &'a Fixture,
    operation: Operation,
    action: Action,
    nth: u64,
    retrying: bool,
    failures: Vec<String>,
    outcome: String,
}

impl Case<'_> {
    fn check(&mut self, what: &str, is_right: bool, found: &dyn Debug) {
        if !is_right {
            let Self { operation, action, nth, retrying, outcome, .. } = self;
            self.failures
                .push(format!("{operation:?} {action:?} at {nth} (retrying {retrying}, {outcome}): {what}: {found:?}"));
        }
    }

    /// Gives whether the operation failed, and what was wrong.
    async fn run(mut self) -> (bool, Vec<String>) {
        let memory = self.fixture.memory.fork();
        let state = self.fixture.copy_of_state();
        let faulty = FaultStorage::new(Arc::new(memory.clone()));
        faulty.plan(Fault::at(self.nth, self.action));
        let quick = RetryPolicy { first_pause: std::time::Duration::from_micros(10), ..RetryPolicy::default() };
        let storage: Arc<dyn Storage> = match self.retrying {
            true => Arc::new(Retrying::with_clock(Arc::new(faulty.clone()), quick, HastyClock::shared())),
            false => Arc::new(faulty.clone()),
        };
        let done = self.fixture.run(self.operation, storage, state.path()).await;
        self.outcome = done.as_ref().map_or_else(|e| e.to_string(), |()| "done".into());
        if self.retrying {
            self.check("a single transient failure is got over", done.is_ok(), &done);
        }
        let is_killed = matches!(self.action, Action::Kill | Action::KillAfter);
        if !is_killed {
            // Give-backs of leases in the background have happened.
            faulty.reset();
        }
        for with_state in [true, false] {
            let memory = memory.fork();
            let state = if with_state {
                let copy = tempfile::tempdir().unwrap();
                copy_folder(state.path(), copy.path());
                copy
            } else {
                tempfile::tempdir().unwrap()
            };
            if let Err(error) = self.afterwards(&memory, state.path(), done.is_ok()).await {
                self.check(&format!("afterwards (old state {with_state})"), false, &error);
            }
        }
        (done.is_err(), self.failures)
    }

    async fn afterwards(&mut self, memory: &MemoryStorage, state: &Path, done: bool) -> Result<(), RepositoryError> {
        let context = Context::silent();
        let fixture = self.fixture;
        let repository = match fixture.open(Arc::new(memory.clone()), state).await {
            Err(e) if self.operation == Operation::Init && !done && e.kind() == RepositoryErrorKind::NotFound => {
                let recipients = [fixture.key.recipient.clone()];
                Repository::create(Arc::new(memory.clone()), None, &recipients, hasty(state)).await?;
                fixture.open(Arc::new(memory.clone()), state).await?
            }
            other => other?,
        };
        let keys = repository.wraps().await?.len();
        self.check("one key is left of an init", keys == 1 || !done && keys > 0, &keys);
        let database = database(&repository, "a").await;
        let listing = repository.listing(&database).await?;
        self.check("nothing looks damaged", listing.damaged.is_empty(), &listing.damaged);
        let listed: Vec<BackupId> = listing.backups.iter().map(|b| b.id.clone()).collect();
        for (i, (id, _)) in fixture.backups.iter().enumerate() {
            let may_be_gone = self.operation == Operation::Prune && i == 1;
            self.check("an older backup is gone", listed.contains(id) || may_be_gone, &i);
        }
        let is_new = |id: &BackupId| !fixture.backups.iter().any(|(old, _)| old == id);
        let new = listed.iter().filter(|id| is_new(id)).count();
        let makes_one =
            matches!(self.operation, Operation::FirstBackup | Operation::SecondBackup | Operation::PinnedBackup);
        self.check(
            "what was done is there",
            new == usize::from(done && makes_one) || (!done && makes_one && new == 1),
            &new,
        );
        let pinned = listing.backups.iter().filter(|b| b.pinned && is_new(&b.id)).count();
        self.check(
            "the pin is there with the backup",
            self.operation != Operation::PinnedBackup || pinned == new,
            &pinned,
        );
        for id in &listed {
            let manifest = repository.manifest(&database, id).await?;
            let expected =
                fixture.backups.iter().find(|(old, _)| old == id).map_or_else(|| contents(5), |(_, b)| b.clone());
            let restored = restore(&repository, &database, manifest.clone()).await?;
            self.check("a backup restores other bytes", restored == expected, id);
            let damaged = repository.verify(&database, manifest, &context).await?;
            self.check("a backup is damaged", damaged.is_empty(), &damaged);
        }
        let bytes = contents(6);
        let made = backup(&repository, &database, &bytes, false).await?;
        self.check("the next backup meets no damage", made.damaged.is_empty(), &made.damaged);
        let restored = restore(&repository, &database, made.manifest).await?;
        self.check("the next backup restores other bytes", restored == bytes, &());
        repository.prune(&database, &keep_last(100), &context).await?;
        self.expect_no_garbage(memory, &repository, &database).await?;
        repository.prune(&database, &keep_last(1), &context).await?;
        self.expect_no_garbage(memory, &repository, &database).await
    }

    async fn expect_no_garbage(
        &mut self,
        memory: &MemoryStorage,
        repository: &Repository,
        database: &copal_repository::Database,
    ) -> Result<(), RepositoryError> {
        let catalog = repository.catalog(&database.name).await?;
        let mut needed = BTreeSet::new();
        for id in catalog.backups.keys() {
            let header = repository.manifest(database, id).await?.header;
            needed.extend(header.packs.into_iter().map(|(pack, _)| format!("databases/a/packs/{pack}")));
        }
        let under = |folder: &str| -> BTreeSet<String> {
            let names = memory.contents().into_iter().filter(|(_, bytes)| !bytes.is_empty());
            names.map(|(path, _)| path.to_string()).filter(|p| p.starts_with(folder)).collect()
        };
        let packs = under("databases/a/packs/");
        self.check("packs are left that nobody needs, or are missing", packs == needed, &(packs, needed));
        self.check("a plan is left", under("databases/a/plans/").is_empty(), &());
        let stray = under("databases/a/marks/").into_iter().filter(|mark| {
            let id = ObjectPath::parse(mark).unwrap().file_name().split('.').next().unwrap().parse().unwrap();
            !catalog.backups.contains_key(&id)
        });
        let stray: Vec<_> = stray.collect();
        self.check("marks are left of backups that are gone", stray.is_empty(), &stray);
        Ok(())
    }
}

/// A store that writes half an object under its name breaks its contract; but packs are looked at before they count.
fn is_possible(action: Action, call: &copal_storage::Call) -> bool {
    let is_pack = call.path_text().contains("/packs/");
    !matches!(action, Action::Truncate(_)) || is_pack || !call.method.is_write()
}

async fn every_call(actions: &[Action], retrying: bool) {
    let mut failures = Vec::new();
    for operation in OPERATIONS {
        let fixture = Fixture::before(operation).await;
        let calls = fixture.calls(operation).await;
        assert!(calls.iter().any(|c| c.method == Method::Create || c.method == Method::Delete), "{operation:?}");
        let mut cases = Vec::new();
        for action in actions {
            for (i, call) in calls.iter().enumerate() {
                if is_possible(*action, call) {
                    cases.push(Case {
                        fixture: &fixture,
                        operation,
                        action: *action,
                        nth: i as u64 + 1,
                        retrying,
                        failures: Vec::new(),
                        outcome: String::new(),
                    });
                }
            }
        }
        let count = cases.len();
        let found: Vec<(bool, Vec<String>)> =
            futures::stream::iter(cases).map(Case::run).buffer_unordered(16).collect().await;
        let failed = found.iter().filter(|(failed, _)| *failed).count();
        assert!(retrying || failed * 2 > count, "{operation:?}: only {failed} of {count} faults made it fail");
        failures.extend(found.into_iter().flat_map(|(_, failures)| failures));
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_call_fails_nothing_is_lost_and_the_next_prune_tidies_up() {
    every_call(&ACTIONS, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_lost_answer_or_transient_failure_is_got_over() {
    every_call(&[Action::LoseAnswer, Action::Fail(StorageErrorKind::Transient)], true).await;
}
