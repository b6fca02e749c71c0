//! The damage matrix of a journal: every object that a state needs, deleted, cut, flipped and swapped.
//!
//! A state is a backup or one of the segments after it. Rules over the whole matrix: a state whose objects are whole restores,
//! also in front of damage; any other gives an error that names what is hurt, never other bytes and never an earlier state.

use std::collections::BTreeSet;

use bytes::Bytes;
use copal_core::Context;
use copal_repository::{BackupFacts, Database, Manifest, Repository, RepositoryErrorKind as Kind};
use copal_storage::fault::{Action, Fault, FaultStorage};
use copal_storage::{MemoryStorage, Method, ObjectPath};
use futures::StreamExt;

use crate::common;
use crate::common::damaged::*;
use crate::common::journal::{append, read_segments};
use crate::common::{RecoveryKey, copy_folder, database, file_bytes, hasty, keep_last};

const SEGMENTS: usize = 2;

/// A backup and the segments after it, with what each state needs besides those before it.
struct Chain {
    manifest: Manifest,
    content: Vec<Vec<u8>>,
    needs: Vec<BTreeSet<ObjectPath>>,
    segments: Vec<ObjectPath>,
}

/// Two databases of two backups each with their journals; the second backup knows where the first one's journal ends.
struct Journals {
    memory: MemoryStorage,
    state: tempfile::TempDir,
    key: Option<RecoveryKey>,
    chains: Vec<Chain>,
}

fn in_a(folder: &str, name: impl std::fmt::Display) -> ObjectPath {
    path(format!("databases/a/{folder}/{name}"))
}

impl Journals {
    async fn new(encrypted: bool) -> Self {
        let (memory, state) = (MemoryStorage::new(), tempfile::tempdir().unwrap());
        let key = encrypted.then(RecoveryKey::generate);
        let recipients: Vec<String> = key.iter().map(|k| k.recipient.clone()).collect();
        let repository = Repository::create(storage(&memory), None, &recipients, hasty(state.path())).await.unwrap();
        let mut chains = Vec::new();
        for (name, seed) in [("b", 100), ("a", 1)] {
            let database = database(&repository, name).await;
            let mut follows = None;
            chains.clear();
            for number in 0..2 {
                // Nothing is shared, so that each chain needs its own packs only.
                let mut content = vec![file_bytes(seed + number, PAGE * 10)];
                let facts = BackupFacts { follows: follows.take(), ..BackupFacts::default() };
                let made = common::backup_with(&repository, &database, &content[0], PAGE, facts).await.unwrap();
                let packs = |packs: &[(copal_core::PackId, u64)]| {
                    packs.iter().map(|(pack, _)| in_a("packs", pack)).collect::<BTreeSet<_>>()
                };
                let mut needs = vec![packs(&made.manifest.header.packs)];
                needs[0].insert(in_a("backups", &made.manifest.header.backup));
                let (mut end, mut segments) = (made.end(), Vec::new());
                for segment in 0..SEGMENTS as u64 {
                    content.push(file_bytes(1000 + seed * 10 + number * 3 + segment, 1500));
                    let made = append(&repository, &database, &end, content.last().unwrap()).await.unwrap();
                    segments.push(in_a("journal", made.segment.id()));
                    needs.push(packs(&made.segment.header.packs));
                    needs.last_mut().unwrap().extend(segments.last().cloned());
                    end = made.end;
                }
                follows = Some(end);
                chains.push(Chain { manifest: made.manifest, content, needs, segments });
            }
            assert!(repository.journal_listing(&database).await.unwrap().damaged.is_empty());
            assert!(repository.listing(&database).await.unwrap().damaged.is_empty());
        }
        Self { memory, state, key, chains }
    }

    fn objects(&self) -> Vec<ObjectPath> {
        let is_wanted = |p: &ObjectPath| {
            let is_content = matches!(Role::of(p), Role::Manifest | Role::Segment | Role::Pack);
            is_content && p.as_str().starts_with("databases/a/")
        };
        self.memory.contents().into_keys().filter(is_wanted).collect()
    }

    /// Another object of the same kind, of this database or of the other one.
    fn partner(&self, object: &ObjectPath, damage: Damage) -> Option<(ObjectPath, Bytes)> {
        let folder = match damage {
            Damage::SwapWithinDatabase => "databases/a/",
            Damage::SwapWithOther => "databases/b/",
            _ => return None,
        };
        let is_fitting =
            |p: &ObjectPath| p != object && Role::of(p) == Role::of(object) && p.as_str().starts_with(folder);
        self.memory.contents().into_iter().find(|(p, _)| is_fitting(p))
    }

    async fn open(&self, memory: &MemoryStorage, state: &std::path::Path) -> (Repository, Database) {
        let unlock = self.key.as_ref().map(RecoveryKey::unlock);
        let repository = Repository::open(storage(memory), unlock.as_ref(), hasty(state)).await.unwrap();
        let database = database(&repository, "a").await;
        (repository, database)
    }
}

struct Case<'a> {
    all: &'a Journals,
    object: ObjectPath,
    damage: Damage,
    warm: bool,
    hurt: BTreeSet<ObjectPath>,
    failures: Vec<String>,
}

impl<'a> Case<'a> {
    fn new(all: &'a Journals, object: ObjectPath, damage: Damage, warm: bool) -> Self {
        let mut hurt = BTreeSet::from([object.clone()]);
        if damage == Damage::SwapWithinDatabase {
            hurt.extend(all.partner(&object, damage).map(|(theirs, _)| theirs));
        }
        Self { all, object, damage, warm, hurt, failures: Vec::new() }
    }

    fn check(&mut self, what: &str, is_right: bool, found: &dyn std::fmt::Debug) {
        if !is_right {
            let (object, damage, warm, encrypted) = (&self.object, self.damage, self.warm, self.all.key.is_some());
            self.failures.push(format!("{object} {damage:?} (encrypted {encrypted}, warm {warm}): {what}: {found:?}"));
        }
    }

    fn vanished(&self) -> bool {
        matches!(self.damage, Damage::Delete | Damage::Empty)
    }

    /// What an error may name: what is hurt; for a segment that vanished also the one behind it, which tells of the gap, or
    /// the journal, if a later backup tells.
    fn names(&self) -> BTreeSet<ObjectPath> {
        let mut names = self.hurt.clone();
        if self.vanished() && Role::of(&self.object) == Role::Segment {
            names.insert(path("databases/a/journal"));
            for chain in &self.all.chains {
                let behind = chain.segments.iter().skip_while(|s| **s != self.object).nth(1);
                names.extend(behind.cloned());
            }
        }
        names
    }

    async fn run(mut self) -> Vec<String> {
        let partner = self.all.partner(&self.object, self.damage);
        let memory = damaged_copy(&self.all.memory, &self.object, self.damage, partner).await;
        let Some(memory) = memory else { return Vec::new() };
        let state = tempfile::tempdir().unwrap();
        if self.warm {
            copy_folder(self.all.state.path(), state.path());
        }
        let (repository, database) = self.all.open(&memory, state.path()).await;
        self.listing(&repository, &database).await;
        self.going_on(&memory, state.path()).await;
        self.prune(&memory, state.path()).await;
        for chain in 0..self.all.chains.len() {
            self.read_back(&repository, &database, chain).await;
        }
        self.failures
    }

    async fn listing(&mut self, repository: &Repository, database: &Database) {
        let listing = match repository.listing(database).await {
            Ok(listing) => listing,
            Err(error) => return self.check("the listing fails", false, &error),
        };
        let journals = repository.journal_listing(database).await.unwrap();
        let names = self.names();
        let mut named = listing.damaged.iter().chain(&journals.damaged).map(|d| &d.object);
        self.check("the listing names what is whole", named.all(|o| names.contains(o)), &journals.damaged);
        // What was read once is remembered with its size.
        let is_seen = !self.warm || matches!(self.damage, Damage::Half | Damage::OneByteShort);
        if Role::of(&self.object) == Role::Segment && !self.vanished() && is_seen {
            let is_named = journals.damaged.iter().any(|d| names.contains(&d.object));
            self.check("the listing misses a segment", is_named, &journals.damaged);
        }
    }

    /// Every state of a chain gives its bytes, or an error that names what is hurt.
    async fn read_back(&mut self, repository: &Repository, database: &Database, chain: usize) {
        let Chain { content, needs, segments, .. } = &self.all.chains[chain];
        let (hurt, names) = (self.hurt.clone(), self.names());
        let harmless = hits_unused_bytes(&self.all.memory.contents()[&self.object], self.damage)
            && Role::of(&self.object) == Role::Pack;
        let is_hurt = |state: usize| needs[..=state].iter().flatten().any(|object| hurt.contains(object));
        let id = &self.all.chains[chain].manifest.header.backup;
        let manifest = match repository.manifest(database, id).await {
            Ok(manifest) => manifest,
            Err(error) => {
                let is_right = error.is_damage() || matches!(error.kind(), Kind::NotFound | Kind::Pruned);
                return self.check("the manifest", is_right && is_hurt(0), &error);
            }
        };
        let restored = common::restore(repository, database, manifest.clone()).await;
        let is_right = restored.as_ref().map_or(is_hurt(0), |bytes| *bytes == content[0] && (!is_hurt(0) || harmless));
        self.check("the backup alone", is_right, &restored.err());
        let (sound, problems) = repository.sound_journal(database, &manifest).await.unwrap();
        let whole = repository.journal(database, &manifest).await;
        let missing = repository.missing_after(database, &sound).await.unwrap();
        self.check("a journal with problems is given", whole.is_ok() == problems.is_empty(), &problems);
        let mut known = problems.iter().filter_map(|e| e.object.clone());
        self.check("names what is whole", known.all(|o| names.contains(&o)), &problems);
        for state in 1..=SEGMENTS {
            let of_documents = hurt.iter().any(|o| segments[..state].contains(o));
            let mut journal = sound.clone();
            journal.segments.truncate(state);
            if journal.segments.len() < state {
                self.check("a state in front of the damage is not given", of_documents, &problems);
                // The last one of all nobody tells of, if this machine does not know it.
                let is_last = chain == 1 && state == SEGMENTS && self.object == segments[SEGMENTS - 1];
                let is_told = whole.is_err() || missing.is_some();
                let is_remembered = repository.journal_listing(database).await.unwrap();
                let is_told = is_told || !is_remembered.damaged.is_empty();
                self.check(
                    "an earlier state is given without a word",
                    is_told || is_last && self.vanished() && !self.warm,
                    &missing,
                );
                continue;
            }
            self.check("a damaged segment is given", !of_documents, &state);
            let read = read_segments(repository, database, &manifest, &journal).await;
            let pack_is_hurt = needs[1..=state].iter().flatten().any(|object| hurt.contains(object));
            match read {
                Ok(read) => {
                    self.check("other bytes", read.concat() == content[1..=state], &state);
                    self.check("restored in spite of damage", !pack_is_hurt || harmless, &state);
                }
                Err(error) => {
                    let is_named = error.is_damage() && error.object.as_ref().is_some_and(|o| names.contains(o));
                    self.check("the error", is_named && pack_is_hurt, &error);
                }
            }
        }
        let damaged = repository.verify(database, manifest, &Context::silent()).await.unwrap();
        let is_untold = chain == 1 && self.vanished() && self.object == segments[SEGMENTS - 1];
        let all_named = damaged.iter().all(|d| names.contains(&d.object));
        let is_found = damaged.is_empty() != is_hurt(SEGMENTS) || harmless || is_untold;
        self.check("verify", all_named && is_found, &damaged);
    }

    /// The next segment or, if that cannot be, the next backup, on a copy.
    async fn going_on(&mut self, memory: &MemoryStorage, state: &std::path::Path) {
        let (memory, own_state) = (memory.fork(), tempfile::tempdir().unwrap());
        copy_folder(state, own_state.path());
        let (repository, database) = self.all.open(&memory, own_state.path()).await;
        let chain = &self.all.chains[1];
        let end = match repository.journal(&database, &chain.manifest).await {
            Ok(journal) if self.damage != Damage::Delete => journal.end(),
            // As who appended last knows it.
            _ => copal_core::Follows { sequence: SEGMENTS as u64, ..chain.manifest.end() },
        };
        match append(&repository, &database, &end, b"more").await {
            Ok(_) => {
                let journal = repository.journal(&database, &chain.manifest).await;
                self.check("what was appended is not in the journal", journal.is_ok(), &journal.err());
            }
            Err(error) => self.check("append", error.kind() == Kind::Gap, &error),
        }
        let bytes = file_bytes(77, PAGE * 4);
        let made = match common::backup(&repository, &database, &bytes, PAGE).await {
            Ok(made) => made,
            Err(error) => return self.check("the next backup", false, &error),
        };
        let restored = common::restore(&repository, &database, made.manifest.clone()).await;
        self.check("the next backup restores", restored.as_ref().is_ok_and(|found| *found == bytes), &restored.err());
        let appended = append(&repository, &database, &made.end(), b"again").await;
        self.check("its journal", appended.is_ok(), &appended.err());
    }

    /// A prune that drops the first backup deletes nothing that the second one's states need, or nothing at all.
    async fn prune(&mut self, memory: &MemoryStorage, state: &std::path::Path) {
        let (memory, own_state) = (memory.fork(), tempfile::tempdir().unwrap());
        copy_folder(state, own_state.path());
        let before = memory.contents();
        let (repository, database) = self.all.open(&memory, own_state.path()).await;
        let pruned = repository.prune(&database, &keep_last(1), &Context::silent()).await;
        let after = memory.contents();
        let role = Role::of(&self.object);
        if let Err(error) = pruned {
            let is_named = error.object.as_ref().is_some_and(|o| self.hurt.contains(o));
            self.check("prune", error.is_damage() && is_named && role != Role::Pack, &error);
            let gone: Vec<_> = self.all.objects().into_iter().filter(|o| before.get(o) != after.get(o)).collect();
            return self.check("a prune that refuses deletes", gone.is_empty(), &gone);
        }
        // A segment goes with its backup, whether it can be read or not.
        let is_dropped = self.all.chains[0].segments.contains(&self.object);
        let unreadable = role != Role::Pack && !self.vanished() && !is_dropped;
        self.check("a prune goes by what it cannot read", !unreadable, &());
        // Without its document nobody knows what a state needed; without the second backup the first one stays.
        let kept = usize::from(!(self.vanished() && self.object == in_a("backups", self.id(1))));
        for (state, needs) in self.all.chains[kept].needs.iter().enumerate() {
            let is_lost = needs.contains(&self.object) && role != Role::Pack;
            let gone: Vec<_> = needs.iter().filter(|o| before.get(*o) != after.get(*o)).collect();
            self.check("prune deletes what is needed", is_lost || gone.is_empty(), &(state, &gone));
        }
    }

    fn id(&self, chain: usize) -> &copal_core::BackupId {
        &self.all.chains[chain].manifest.header.backup
    }
}

async fn matrix(encrypted: bool) {
    let all = Journals::new(encrypted).await;
    let objects = all.objects();
    assert!(objects.iter().filter(|o| Role::of(o) == Role::Segment).count() == 2 * SEGMENTS);
    let mut cases = Vec::new();
    for object in &objects {
        for damage in DAMAGES {
            for warm in [true, false] {
                cases.push(Case::new(&all, object.clone(), damage, warm));
            }
        }
    }
    let failures: Vec<Vec<String>> = futures::stream::iter(cases).map(Case::run).buffer_unordered(4).collect().await;
    let failures = failures.concat();
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_of_an_encrypted_journal_is_found_and_harms_nothing_else() {
    matrix(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_of_a_plain_journal_is_found_and_harms_nothing_else() {
    matrix(false).await;
}

/// What a prune is about to drop is damaged while it stands still: whoever comes next goes on, and nothing more is deleted.
#[tokio::test(flavor = "multi_thread")]
async fn damage_of_what_an_unfinished_prune_drops_stops_no_backup() {
    let all = Journals::new(true).await;
    let faulty = FaultStorage::new(storage(&all.memory));
    faulty.plan(Fault::at(1, Action::Kill).on(Method::GetVersioned).under("databases/a/backups"));
    let (unlock, elsewhere) = (all.key.as_ref().map(RecoveryKey::unlock), tempfile::tempdir().unwrap());
    let shared = std::sync::Arc::new(faulty);
    let repository = Repository::open(shared, unlock.as_ref(), hasty(elsewhere.path())).await.unwrap();
    let a = database(&repository, "a").await;
    repository.prune(&a, &keep_last(1), &Context::silent()).await.unwrap_err();
    let dropped = &all.chains[0];
    for object in dropped.segments.iter().chain([&in_a("backups", &dropped.manifest.header.backup)]) {
        let memory = damaged_copy(&all.memory, object, Damage::Flip(500), None).await.unwrap();
        let state = tempfile::tempdir().unwrap();
        let (repository, database) = all.open(&memory, state.path()).await;
        let kept = repository.journal(&database, &all.chains[1].manifest).await.unwrap();
        append(&repository, &database, &kept.end(), b"more").await.unwrap();
        let bytes = file_bytes(5, PAGE * 3);
        let made = common::backup(&repository, &database, &bytes, PAGE).await.unwrap();
        assert!(made.damaged.iter().any(|d| d.object == *object), "{:?}", made.damaged);
        assert!(common::restore(&repository, &database, made.manifest).await.unwrap() == bytes);
        let before = memory.contents();
        let error = repository.prune(&database, &keep_last(1), &Context::silent()).await.unwrap_err();
        assert!(error.is_damage() && error.object.as_ref() == Some(object), "{error:?}");
        let packs = |all: &std::collections::BTreeMap<ObjectPath, Bytes>| {
            all.keys().filter(|p| Role::of(p) == Role::Pack).cloned().collect::<Vec<_>>()
        };
        assert_eq!(packs(&before), packs(&memory.contents()));
        // As the hint says.
        storage(&memory).delete(object).await.unwrap();
        repository.prune(&database, &keep_last(1), &Context::silent()).await.unwrap();
        assert!(memory.contents().keys().all(|p| !dropped.needs[0].contains(p) || Role::of(p) == Role::Manifest));
    }
}
