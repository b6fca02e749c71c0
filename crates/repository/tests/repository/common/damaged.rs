//! A repository to be damaged, and every way to damage each of its objects.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use copal_core::{BackupId, Context};
use copal_repository::Repository;
use copal_storage::fault::{Action, Fault, FaultStorage};
use copal_storage::{MemoryStorage, Method, ObjectPath, Storage};

use super::{RecoveryKey, database, file_bytes, hasty, keep_last};

pub const PAGE: usize = 1024;

/// What an object is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Config,
    Key,
    Readme,
    Lease,
    Record,
    Manifest,
    Segment,
    Pack,
    Pinned,
    Verified,
    Plan,
}

impl Role {
    pub fn of(path: &ObjectPath) -> Self {
        let parts: Vec<&str> = path.as_str().split('/').collect();
        match parts.as_slice() {
            ["copal.json"] => Self::Config,
            ["README.txt"] => Self::Readme,
            ["keys", _] => Self::Key,
            ["leases", _] => Self::Lease,
            ["databases", _, "database"] => Self::Record,
            ["databases", _, "backups", _] => Self::Manifest,
            ["databases", _, "journal", _] => Self::Segment,
            ["databases", _, "packs", _] => Self::Pack,
            ["databases", _, "plans", _] => Self::Plan,
            ["databases", _, "marks", mark] if mark.ends_with(".pinned") => Self::Pinned,
            ["databases", _, "marks", _] => Self::Verified,
            _ => panic!("an object of no known kind: {path}"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    Delete,
    Empty,
    Half,
    OneByteShort,
    /// One bit at so many thousandths of the object.
    Flip(usize),
    SwapWithinDatabase,
    SwapWithOther,
}

pub const DAMAGES: [Damage; 11] = [
    Damage::Delete,
    Damage::Empty,
    Damage::Half,
    Damage::OneByteShort,
    Damage::Flip(0),
    Damage::Flip(60),
    Damage::Flip(300),
    Damage::Flip(500),
    Damage::Flip(1000),
    Damage::SwapWithinDatabase,
    Damage::SwapWithOther,
];

/// A repository with two databases of three backups each; of the first, the first backup is pinned and verified.
pub struct Fixture {
    pub memory: MemoryStorage,
    /// Another repository, for swaps of what there is one of.
    pub other: MemoryStorage,
    pub state: tempfile::TempDir,
    pub key: Option<RecoveryKey>,
    pub bytes: Vec<Vec<u8>>,
    pub backups: Vec<BackupId>,
    /// For each backup everything that its restore needs.
    pub needs: Vec<BTreeSet<ObjectPath>>,
    /// The packs that a prune of the undamaged repository deletes.
    pub prunable: BTreeSet<ObjectPath>,
    /// Whether a prune was killed right after its plan was written.
    pub interrupted: bool,
}

pub fn path(text: impl AsRef<str>) -> ObjectPath {
    ObjectPath::parse(text.as_ref()).unwrap()
}

pub fn storage(memory: &MemoryStorage) -> Arc<dyn Storage> {
    Arc::new(memory.clone())
}

pub fn contents_of(seed: u64) -> Vec<Vec<u8>> {
    let first = file_bytes(seed, PAGE * 40 + 100);
    let mut second = first.clone();
    second[..8 * PAGE].copy_from_slice(&file_bytes(seed + 1, 8 * PAGE));
    let mut third = second.clone();
    third[8 * PAGE..12 * PAGE].copy_from_slice(&file_bytes(seed + 2, 4 * PAGE));
    vec![first, second, third]
}

impl Fixture {
    pub async fn new(encrypted: bool, interrupted: bool) -> Self {
        let (memory, other) = (MemoryStorage::new(), MemoryStorage::new());
        let state = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let key = encrypted.then(RecoveryKey::generate);
        let recipients: Vec<String> = key.iter().map(|k| k.recipient.clone()).collect();
        let create = |m: &MemoryStorage, s: &tempfile::TempDir| {
            Repository::create(storage(m), None, Box::leak(recipients.clone().into_boxed_slice()), hasty(s.path()))
        };
        create(&other, &elsewhere).await.unwrap();
        let repository = create(&memory, &state).await.unwrap();
        let (mut backups, mut needs) = (Vec::new(), Vec::new());
        for (name, seed) in [("b", 100), ("a", 1)] {
            let database = database(&repository, name).await;
            for (i, bytes) in contents_of(seed).iter().enumerate() {
                let made = super::backup(&repository, &database, bytes, PAGE).await.unwrap().manifest;
                if name == "a" {
                    let id = made.header.backup.clone();
                    let mut needed: BTreeSet<_> = made.header.packs.iter().map(|(p, _)| format!("packs/{p}")).collect();
                    needed.insert(format!("backups/{id}"));
                    needs.push(needed.iter().map(|n| path(format!("databases/a/{n}"))).collect());
                    backups.push(id.clone());
                }
                if i == 0 {
                    let id = &made.header.backup;
                    repository.verify(&database, made.clone(), &Context::silent()).await.unwrap();
                    repository.set_pinned(&database, id, true, &Context::silent()).await.unwrap();
                }
            }
            let listing = repository.listing(&database).await.unwrap();
            assert!(listing.damaged.is_empty() && listing.backups.len() == 3);
        }
        assert_eq!(needs.iter().map(BTreeSet::len).collect::<Vec<_>>(), [2, 3, 4], "packs are shared");
        let pruned = memory.fork();
        let unlock = key.as_ref().map(RecoveryKey::unlock);
        let pruner = Repository::open(storage(&pruned), unlock.as_ref(), hasty(elsewhere.path())).await.unwrap();
        let a = database(&pruner, "a").await;
        pruner.prune(&a, &keep_last(1), &Context::silent()).await.unwrap();
        let left = pruned.contents();
        let prunable = memory.contents().into_keys().filter(|p| Role::of(p) == Role::Pack && !left.contains_key(p));
        let prunable = prunable.collect();
        if interrupted {
            for name in ["a", "b"] {
                let faulty = FaultStorage::new(storage(&memory));
                let under = format!("databases/{name}/backups");
                faulty.plan(Fault::at(1, Action::Kill).on(Method::GetVersioned).under(under));
                let repository =
                    Repository::open(Arc::new(faulty), unlock.as_ref(), hasty(elsewhere.path())).await.unwrap();
                let database = database(&repository, name).await;
                repository.prune(&database, &keep_last(1), &Context::silent()).await.unwrap_err();
            }
        }
        let bytes = contents_of(1);
        Self { memory, other, state, key, bytes, backups, needs, prunable, interrupted }
    }

    /// The objects that are damaged, one a time: the repository's own and those of the first database.
    pub fn objects(&self) -> Vec<ObjectPath> {
        let all = self.memory.contents().into_keys();
        let wanted = |p: &ObjectPath| {
            let is_ours = !p.as_str().starts_with("databases/b/") && p.as_str() != "leases/b";
            is_ours && (!self.interrupted || matches!(Role::of(p), Role::Plan | Role::Lease))
        };
        all.filter(wanted).collect()
    }

    /// Another object of the same kind: its bytes, and where the damaged one's bytes go.
    pub fn partner(&self, object: &ObjectPath, damage: Damage) -> Option<(ObjectPath, Bytes)> {
        let all = self.memory.contents();
        let same_kind = |p: &ObjectPath| p != object && Role::of(p) == Role::of(object);
        match (damage, Role::of(object)) {
            (Damage::SwapWithOther, Role::Config | Role::Key) => {
                self.other.contents().into_iter().find(|(p, _)| Role::of(p) == Role::of(object))
            }
            (Damage::SwapWithOther, _) => all
                .into_iter()
                .find(|(p, _)| same_kind(p) && (p.as_str().contains("/b/") || p.as_str().ends_with("/b"))),
            _ => all.into_iter().find(|(p, _)| same_kind(p) && p.as_str().starts_with("databases/a/")),
        }
    }

    /// A copy with that damage; `None` if it cannot be done or changes nothing.
    pub async fn damaged(&self, object: &ObjectPath, damage: Damage) -> Option<MemoryStorage> {
        let partner = self.partner(object, damage);
        damaged_copy(&self.memory, object, damage, partner).await
    }
}

/// A copy of a repository with that damage; `None` if it cannot be done or changes nothing. For a swap, `partner` is where the
/// other bytes lie and what they are.
pub async fn damaged_copy(
    memory: &MemoryStorage,
    object: &ObjectPath,
    damage: Damage,
    partner: Option<(ObjectPath, Bytes)>,
) -> Option<MemoryStorage> {
    let memory = memory.fork();
    let bytes = memory.get(object).await.unwrap();
    let changed = match damage {
        Damage::Delete => {
            memory.delete(object).await.unwrap();
            return Some(memory);
        }
        Damage::Empty => Bytes::new(),
        Damage::Half => bytes.slice(..bytes.len() / 2),
        Damage::OneByteShort => bytes.slice(..bytes.len().saturating_sub(1)),
        Damage::Flip(thousandths) => {
            let mut flipped = bytes.to_vec();
            let at = flip_position(bytes.len(), thousandths);
            *flipped.get_mut(at)? ^= 1;
            flipped.into()
        }
        Damage::SwapWithinDatabase | Damage::SwapWithOther => {
            let (theirs, content) = partner?;
            if memory.contents().contains_key(&theirs) {
                memory.put(&theirs, bytes.clone());
            }
            content
        }
    };
    if changed == bytes {
        return None;
    }
    memory.put(object, changed);
    Some(memory)
}

/// A pack's magic and the lengths between its frames are for whoever has lost the page map; no reader uses them.
pub fn hits_unused_bytes(pack: &[u8], damage: Damage) -> bool {
    let Damage::Flip(thousandths) = damage else { return false };
    let at = flip_position(pack.len(), thousandths);
    let mut frame = 8;
    while let Some(length) = pack.get(frame..frame + 4).filter(|_| at >= frame) {
        if at < frame + 4 {
            return true;
        }
        frame += 4 + u32::from_le_bytes(length.try_into().unwrap()) as usize;
    }
    at < 8
}

pub fn flip_position(length: usize, thousandths: usize) -> usize {
    (length * thousandths / 1000).min(length.saturating_sub(1))
}
