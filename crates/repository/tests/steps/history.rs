//! What may never happen between two looks at the storage, whoever did it.

use std::collections::{BTreeMap, BTreeSet};

use copal_storage::MemoryStorage;

const BACKUPS: &str = "databases/db/backups/";
const PLANS: &str = "databases/db/plans/";

/// The commit objects that were seen.
pub(super) struct History {
    /// Of every id whether it holds something now; the others are tombstones.
    seen: BTreeMap<String, bool>,
    /// Those that ever held something.
    existed: BTreeSet<String>,
}

impl History {
    pub(super) fn new(memory: &MemoryStorage) -> Self {
        let seen = Self::commits(memory);
        let existed = seen.iter().filter(|(_, holds)| **holds).map(|(path, _)| path.clone()).collect();
        Self { seen, existed }
    }

    fn commits(memory: &MemoryStorage) -> BTreeMap<String, bool> {
        let objects = memory.contents().into_iter();
        let objects = objects.map(|(path, bytes)| (path.to_string(), !bytes.is_empty()));
        objects.filter(|(path, _)| path.starts_with(BACKUPS) || path.starts_with(PLANS)).collect()
    }

    /// Compares with the last look.
    pub(super) fn look(&mut self, memory: &MemoryStorage) -> Result<(), String> {
        let now = Self::commits(memory);
        for path in self.seen.keys() {
            if !now.contains_key(path) {
                return Err(format!("{path} vanished, though no tombstone is 30 days old"));
            }
        }
        let lease = || {
            let path = copal_storage::ObjectPath::parse("leases/db").ok()?;
            serde_json::from_slice::<serde_json::Value>(memory.contents().get(&path)?).ok()
        };
        let known: BTreeSet<&String> = self.seen.iter().filter(|(_, held)| **held).map(|(path, _)| path).collect();
        for (path, _) in now.iter().filter(|(path, holds)| **holds && !known.contains(*path)) {
            if self.seen.contains_key(path) {
                return Err(format!("{path} came back after its tombstone"));
            }
            // Tombstones do not count: one may be put late, in the place of a backup that gave up by itself before.
            let newest = self.existed.iter().rfind(|p| p.starts_with(BACKUPS));
            if path.starts_with(BACKUPS) && newest.is_some_and(|newest| newest >= path) {
                return Err(format!("{path} appeared after {newest:?}"));
            }
            let lease = lease().ok_or("there is no lease")?;
            if lease["state"] != "held" || lease["commit"] != path.as_str() {
                return Err(format!("{path} was committed by somebody who does not hold the lease: {lease}"));
            }
            self.existed.insert(path.clone());
        }
        self.seen = now;
        Ok(())
    }

    /// Whether a backup was there once.
    pub(super) fn was_there(&self, id: &str) -> bool {
        self.existed.contains(&format!("{BACKUPS}{id}"))
    }
}
