//! What may never happen between two looks at the storage, whoever did it.

use std::collections::{BTreeMap, BTreeSet};

use copal_storage::MemoryStorage;

const BACKUPS: &str = "databases/db/backups/";
const JOURNAL: &str = "databases/db/journal/";
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
        objects.filter(|(path, _)| [BACKUPS, JOURNAL, PLANS].iter().any(|folder| path.starts_with(folder))).collect()
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
            let (newest, id) = (self.newest(&[BACKUPS, JOURNAL]), path.rsplit('/').next());
            if !path.starts_with(PLANS) && newest.is_some() && newest >= id {
                return Err(format!("{path} appeared after {newest:?}"));
            }
            if path.starts_with(JOURNAL) {
                let base = base_of(memory, path).ok_or_else(|| format!("{path} has no base"))?;
                if self.newest(&[BACKUPS]) != Some(&base) || now.get(&format!("{BACKUPS}{base}")) != Some(&true) {
                    return Err(format!("{path} was appended to {base}, which is not the newest backup"));
                }
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

    /// The newest id that ever held something in these folders.
    fn newest(&self, folders: &[&str]) -> Option<&str> {
        let ids = self.existed.iter().filter_map(|path| folders.iter().find_map(|folder| path.strip_prefix(folder)));
        ids.max()
    }

    /// Whether a segment was there once.
    pub(super) fn was_appended(&self, id: &str) -> bool {
        self.existed.contains(&format!("{JOURNAL}{id}"))
    }

    /// Whether a backup was there once.
    pub(super) fn was_there(&self, id: &str) -> bool {
        self.existed.contains(&format!("{BACKUPS}{id}"))
    }
}

/// The backup under a segment, as its clear header says.
fn base_of(memory: &MemoryStorage, path: &str) -> Option<String> {
    let bytes = memory.contents().get(&copal_storage::ObjectPath::parse(path).ok()?)?.clone();
    let length = u32::from_le_bytes(bytes.get(8..12)?.try_into().ok()?) as usize;
    let header: serde_json::Value = serde_json::from_slice(bytes.get(12..12 + length)?).ok()?;
    Some(header["follows"]["base"].as_str()?.to_owned())
}
