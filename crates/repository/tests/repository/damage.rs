//! The damage matrix: every object of a repository, deleted, cut, flipped and swapped, against everything that reads it.
//!
//! The expectations are rules over the whole matrix rather than cases. Above all: a restore gives the exact bytes or
//! an error that names the object, and what does not need the damaged object restores. Where damage may go unnoticed, because
//! nothing depends on it or because it looks like what Copal does itself, a method of `Case` says where and why.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use copal_core::{BackupId, Context};
use copal_repository::{Repository, RepositoryError, RepositoryErrorKind as Kind};
use copal_storage::{MemoryStorage, ObjectPath};
use futures::StreamExt;

use crate::common;
use crate::common::damaged::*;
use crate::common::{RecoveryKey, copy_folder, database, hasty, keep_last};

/// Everything about one case, and what went wrong with it.
struct Case<'a> {
    fixture: &'a Fixture,
    object: ObjectPath,
    damage: Damage,
    warm: bool,
    failures: Vec<String>,
}

impl Case<'_> {
    fn role(&self) -> Role {
        Role::of(&self.object)
    }

    fn is_newest_manifest(&self) -> bool {
        self.object == self.manifest(2)
    }

    fn manifest(&self, i: usize) -> ObjectPath {
        path(format!("databases/a/backups/{}", self.fixture.backups[i]))
    }

    /// The objects whose bytes are wrong now: a swap within the database hurts two.
    fn hurt(&self) -> BTreeSet<ObjectPath> {
        let mut hurt = BTreeSet::from([self.object.clone()]);
        if self.damage == Damage::SwapWithinDatabase {
            hurt.extend(self.fixture.partner(&self.object, self.damage).map(|(theirs, _)| theirs));
        }
        hurt
    }

    fn hits_unused_bytes(&self) -> bool {
        hits_unused_bytes(&self.fixture.memory.contents()[&self.object], self.damage)
    }

    /// Whether the listing cannot know that this manifest is damaged.
    fn listing_may_miss_it(&self) -> bool {
        match self.damage {
            // By format an empty manifest is a tombstone and a missing one was never there; for one in the middle the
            // chain knows better, for the newest this machine's memory.
            Damage::Empty => !(self.is_newest_manifest() && self.warm),
            Damage::Delete => self.is_newest_manifest() && !self.warm,
            // Summaries are remembered with the manifest's size; only reading again would tell.
            Damage::Flip(_) => self.warm,
            Damage::SwapWithinDatabase | Damage::SwapWithOther => self.warm && self.keeps_its_size(),
            _ => false,
        }
    }

    /// A listing of packs shows sizes; what is wrong inside of a pack is found by whoever reads it.
    fn keeps_its_size(&self) -> bool {
        match self.damage {
            Damage::Flip(_) => true,
            Damage::SwapWithinDatabase | Damage::SwapWithOther => {
                let length = |p: &ObjectPath| self.fixture.memory.contents().get(p).map(Bytes::len);
                self.fixture.partner(&self.object, self.damage).is_some_and(|(p, _)| length(&p) == length(&self.object))
            }
            _ => false,
        }
    }

    /// A deleted or emptied manifest is a deleted backup to everybody who has not seen it.
    fn is_no_backup_any_more(&self) -> bool {
        let looks_deleted = matches!(self.damage, Damage::Delete | Damage::Empty);
        self.role() == Role::Manifest && looks_deleted && !self.warm
    }

    fn check(&mut self, what: &str, is_right: bool, found: &dyn std::fmt::Debug) {
        if !is_right {
            let Self { object, damage, warm, fixture, .. } = self;
            let (encrypted, interrupted) = (fixture.key.is_some(), fixture.interrupted);
            self.failures.push(format!(
                "{object} {damage:?} (encrypted {encrypted}, warm {warm}, interrupted {interrupted}): {what}: {found:?}"
            ));
        }
    }

    fn names_what_is_hurt(&self, error: &RepositoryError) -> bool {
        error.is_damage() && error.object.as_ref().is_some_and(|o| self.hurt().contains(o))
    }

    async fn run(mut self) -> Vec<String> {
        let fixture = self.fixture;
        let Some(memory) = fixture.damaged(&self.object, self.damage).await else { return Vec::new() };
        let state = tempfile::tempdir().unwrap();
        if self.warm {
            copy_folder(fixture.state.path(), state.path());
        }
        let before_verify = tempfile::tempdir().unwrap();
        let unlock = fixture.key.as_ref().map(RecoveryKey::unlock);
        let opened = Repository::open(storage(&memory), unlock.as_ref(), hasty(state.path())).await;
        copy_folder(state.path(), before_verify.path());
        let repository = match opened {
            Ok(repository) => repository,
            Err(error) => {
                self.expect_not_opened(&error);
                return self.failures;
            }
        };
        if self.role() == Role::Key || (self.role() == Role::Config && fixture.key.is_some()) {
            self.check("opened", false, &());
        }
        let database = match repository.database(&path_name("a")).await {
            Ok(Some(database)) => database,
            Ok(None) => {
                self.check("the database is not found", false, &());
                return self.failures;
            }
            Err(error) => {
                self.check("the record is damaged", self.role() == Role::Record, &error);
                self.check("record: names it", self.names_what_is_hurt(&error), &error);
                self.salvage(&repository).await;
                return self.failures;
            }
        };
        self.listing(&repository, &database).await;
        self.next_backup(&memory, before_verify.path(), false).await;
        self.prune(&memory, state.path()).await;
        let mut sound = Vec::new();
        for i in 0..3 {
            sound.push(self.read_back(&repository, &database, i).await);
        }
        self.next_backup(&memory, state.path(), true).await;
        self.failures
    }

    fn expect_not_opened(&mut self, error: &RepositoryError) {
        let is_right = match self.role() {
            Role::Config => self.names_what_is_hurt(error) || error.kind() == Kind::Unsupported,
            // A key that decrypts to nothing cannot be told from one that is not ours.
            Role::Key => self.names_what_is_hurt(error) || error.kind() == Kind::Passphrase,
            _ => false,
        };
        // Which of the two was exchanged nobody can tell, and a folder without keys is named as a whole.
        let named_otherwise = match self.damage {
            Damage::SwapWithOther => error.kind() == Kind::Tampering,
            Damage::Delete => error.object == Some(path("keys")),
            _ => false,
        };
        let is_right = is_right || self.role() == Role::Key && named_otherwise;
        self.check("open", is_right, error);
    }

    /// Without its record a database still restores.
    async fn salvage(&mut self, repository: &Repository) {
        let Some(database) = repository.salvage_database(&path_name("a")).await.unwrap() else {
            return self.check("salvage finds nothing", false, &());
        };
        let listing = repository.listing(&database).await.unwrap();
        self.check("salvage: lists all", listing.backups.len() == 3 && listing.damaged.is_empty(), &listing.damaged);
        for (id, bytes) in self.fixture.backups.iter().zip(&self.fixture.bytes) {
            let manifest = repository.manifest(&database, id).await.unwrap();
            let restored = common::restore(repository, &database, manifest).await;
            self.check("salvage restores", restored.as_ref().is_ok_and(|found| found == bytes), &restored.err());
        }
    }

    async fn listing(&mut self, repository: &Repository, database: &copal_repository::Database) {
        let listing = match repository.listing(database).await {
            Ok(listing) => listing,
            Err(error) => return self.check("listing", false, &error),
        };
        let named: BTreeSet<ObjectPath> = listing.damaged.iter().map(|d| d.object.clone()).collect();
        let listed: BTreeSet<BackupId> = listing.backups.iter().map(|b| b.id.clone()).collect();
        if self.role() == Role::Record {
            self.check("listing: names the record", named.contains(&self.object), &named);
            return self.salvage(repository).await;
        }
        for i in 0..3 {
            let object = self.manifest(i);
            let is_hurt = self.hurt().contains(&object);
            let is_listed = listed.contains(&self.fixture.backups[i]);
            if !is_hurt {
                self.check("listing: has what is unharmed", is_listed && !named.contains(&object), &named);
            } else if !self.listing_may_miss_it() {
                self.check("listing: names the manifest", named.contains(&object) && !is_listed, &named);
            }
        }
        let others: Vec<_> = named.iter().filter(|n| !self.hurt().contains(*n)).collect();
        self.check("listing: names nothing else", others.is_empty(), &others);
    }

    /// Verifies and restores one backup; gives whether it is whole.
    async fn read_back(&mut self, repository: &Repository, database: &copal_repository::Database, i: usize) -> bool {
        let id = self.fixture.backups[i].clone();
        let hurt = self.hurt();
        let is_hurt = hurt.iter().any(|o| self.fixture.needs[i].contains(o)) || self.role() == Role::Record;
        let manifest = match repository.manifest(database, &id).await {
            Ok(manifest) => manifest,
            Err(error) => {
                let gone = match self.damage {
                    Damage::Delete => error.kind() == Kind::NotFound,
                    Damage::Empty => error.kind() == Kind::Pruned,
                    _ => self.names_what_is_hurt(&error) || self.role() == Role::Record && error.is_damage(),
                };
                self.check("manifest", is_hurt && gone, &error);
                return false;
            }
        };
        let restored = common::restore(repository, database, manifest.clone()).await;
        let damaged = repository.verify(database, manifest, &Context::silent()).await.unwrap();
        // Its own packs a backup uses to the last byte; of older ones it may not need what is damaged.
        let must_fail = hurt.iter().any(|o| {
            self.fixture.needs[i].contains(o) && (Role::of(o) != Role::Pack || o.as_str().contains(id.as_str()))
        }) && !(self.role() == Role::Pack && self.hits_unused_bytes());
        match &restored {
            Ok(bytes) => {
                self.check("restored other bytes", *bytes == self.fixture.bytes[i], &i);
                self.check("restored in spite of damage", !must_fail, &i);
                self.check("verify finds what restoring does not", damaged.is_empty(), &damaged);
            }
            Err(error) => {
                self.check("an unharmed backup does not restore", is_hurt, error);
                self.check("restoring names the object", self.names_what_is_hurt(error), error);
                let named = damaged.iter().all(|d| hurt.contains(&d.object));
                self.check("verify names the object", named && !damaged.is_empty(), &damaged);
                let marks = repository.catalog(&database.name).await.unwrap().verified;
                self.check("a damaged backup counts as verified", !marks.contains(&id), &marks);
            }
        }
        restored.is_ok()
    }

    /// The next backup, on a copy: it is sound, or nothing may be written at all.
    async fn next_backup(&mut self, memory: &MemoryStorage, state: &std::path::Path, verified: bool) {
        let what = if verified { "backup after verify" } else { "backup" };
        let memory = memory.fork();
        let own_state = tempfile::tempdir().unwrap();
        copy_folder(state, own_state.path());
        let unlock = self.fixture.key.as_ref().map(RecoveryKey::unlock);
        let repository = Repository::open(storage(&memory), unlock.as_ref(), hasty(own_state.path())).await.unwrap();
        let database = database(&repository, "a").await;
        let mut bytes = self.fixture.bytes[2].clone();
        bytes[20 * PAGE] ^= 1;
        let made = match common::backup(&repository, &database, &bytes, PAGE).await {
            Ok(made) => made,
            Err(error) => {
                // Without knowing whose lease it was, nobody can make that operation's commit impossible.
                let may_refuse = matches!(self.role(), Role::Lease | Role::Record);
                self.check(what, may_refuse && self.names_what_is_hurt(&error), &error);
                return;
            }
        };
        self.check("backup with another database's record", self.role() != Role::Record, &());
        let newest_needs = &self.fixture.needs[2];
        let is_unaware = !verified && self.role() == Role::Pack && self.keeps_its_size();
        let named: Vec<_> = made.damaged.iter().map(|d| d.object.clone()).collect();
        let is_hurt = self.hurt().iter().any(|o| newest_needs.contains(o));
        // Known damage is avoided; what only reading shows is not told again.
        let cannot_know = self.role() == Role::Pack && self.keeps_its_size() || self.is_no_backup_any_more();
        if is_hurt && !cannot_know {
            self.check("backup: names the object", named.iter().any(|n| self.hurt().contains(n)), &named);
        }
        let restored = common::restore(&repository, &database, made.manifest.clone()).await;
        match restored {
            Ok(found) => self.check("the next backup restores other bytes", found == bytes, &()),
            Err(error) => {
                self.check(&format!("{what} shares damage"), is_unaware, &error);
                self.check("the next backup names the object", self.names_what_is_hurt(&error), &error);
                return;
            }
        }
        let damaged = repository.verify(&database, made.manifest, &Context::silent()).await.unwrap();
        self.check(&format!("{what} is damaged"), damaged.is_empty(), &damaged);
    }

    /// A prune, on a copy: it deletes no more than that of the undamaged repository, and nothing that still restores.
    async fn prune(&mut self, memory: &MemoryStorage, state: &std::path::Path) {
        let memory = memory.fork();
        let before = memory.contents();
        let own_state = tempfile::tempdir().unwrap();
        copy_folder(state, own_state.path());
        let unlock = self.fixture.key.as_ref().map(RecoveryKey::unlock);
        let repository = Repository::open(storage(&memory), unlock.as_ref(), hasty(own_state.path())).await.unwrap();
        let database = database(&repository, "a").await;
        let whole = |after: &BTreeMap<ObjectPath, Bytes>, i: usize| {
            self.fixture.needs[i].iter().all(|o| before.contains_key(o) && after.get(o) == before.get(o))
        };
        let pruned = repository.prune(&database, &keep_last(1), &Context::silent()).await;
        let after = memory.contents();
        let gone: BTreeSet<&ObjectPath> = before
            .keys()
            .filter(|p| matches!(Role::of(p), Role::Pack | Role::Manifest))
            .filter(|p| after.get(*p) != before.get(*p))
            .collect();
        match pruned {
            Err(error) => {
                let may_refuse = matches!(self.role(), Role::Manifest | Role::Plan | Role::Lease | Role::Record);
                let names = self.names_what_is_hurt(&error) || self.role() == Role::Record && error.is_damage();
                let is_right = may_refuse && names;
                let is_right = is_right && gone.is_empty();
                self.check("prune", is_right, &(error, gone));
            }
            Ok(_) => {
                let expected = |p: &&ObjectPath| {
                    let is_second = **p == self.manifest(1);
                    // Its mark is lost.
                    let was_unpinned = self.role() == Role::Pinned && **p == self.manifest(0);
                    let is_garbage = self.is_no_backup_any_more() && p.as_str().contains(self.object.file_name());
                    is_second || was_unpinned || is_garbage || self.fixture.prunable.contains(*p)
                };
                let extra: Vec<_> = gone.iter().copied().filter(|p| !expected(p)).collect();
                self.check("prune deletes more", extra.is_empty(), &extra);
                let kept: Vec<bool> = (0..3).map(|i| whole(&after, i)).collect();
                // What stays in the place of the newest, if its packs are known to be missing or cut.
                let lists_newest_broken = self.role() == Role::Pack
                    && !self.keeps_its_size()
                    && self.hurt().iter().any(|o| self.fixture.needs[2].contains(o))
                    && self.hurt().is_disjoint(&self.fixture.needs[1]);
                let must_stay = [self.role() != Role::Pinned, lists_newest_broken, true];
                for i in 0..3 {
                    let was_whole = self.fixture.needs[i].is_disjoint(&self.hurt());
                    let is_right = kept[i] || !must_stay[i] || !was_whole;
                    self.check("prune hurts what it keeps", is_right, &(i, &gone));
                }
            }
        }
    }
}

fn path_name(name: &str) -> copal_core::FolderName {
    name.parse().unwrap()
}

async fn matrix(encrypted: bool, interrupted: bool) {
    let fixture = Fixture::new(encrypted, interrupted).await;
    let objects = fixture.objects();
    let roles: BTreeSet<Role> = objects.iter().map(Role::of).collect();
    if interrupted {
        assert!(roles.contains(&Role::Plan) && roles.contains(&Role::Lease));
    } else {
        assert_eq!(roles.len(), if encrypted { 9 } else { 8 }, "{roles:?}");
    }
    let mut cases = Vec::new();
    for object in &objects {
        for damage in DAMAGES {
            for warm in [true, false] {
                cases.push(Case { fixture: &fixture, object: object.clone(), damage, warm, failures: Vec::new() });
            }
        }
    }
    let failures: Vec<Vec<String>> = futures::stream::iter(cases).map(Case::run).buffer_unordered(4).collect().await;
    let failures = failures.concat();
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_of_an_encrypted_repository_is_found_and_harms_nothing_else() {
    matrix(true, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_of_a_plain_repository_is_found_and_harms_nothing_else() {
    matrix(false, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_while_a_prune_is_unfinished_is_found_and_harms_nothing_else() {
    matrix(true, true).await;
    matrix(false, true).await;
}
