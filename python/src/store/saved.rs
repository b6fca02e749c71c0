//! Which rows the state has that was saved last, by hashes of their keys.
//!
//! A segment says how many rows every table has after it, and a restore refuses one that does not fit. Changes that a source did not
//! notice (of `table.records` directly, say) would make such a segment, so they are found here, and a full is made instead. Two keys with
//! one hash only lead to a full that was not needed.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashSet};
use std::hash::BuildHasher;
use std::sync::LazyLock;

/// The hash of a key's bytes, in this process.
pub(super) fn hash(key: &[u8]) -> u64 {
    static HASHES: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    HASHES.hash_one(key)
}

/// What a view does to the rows of one table.
pub(super) struct Change {
    pub(super) table: String,
    /// The view has all rows.
    pub(super) is_whole: bool,
    pub(super) upserted: HashSet<u64>,
    pub(super) deleted: Vec<u64>,
}

/// What a view does to the rows of all tables, and how many there are then.
pub(super) struct Changes {
    pub(super) is_full: bool,
    pub(super) dropped: Vec<String>,
    pub(super) tables: Vec<Change>,
    pub(super) counts: BTreeMap<String, u64>,
}

/// The keys of all rows that are saved.
#[derive(Default)]
pub(super) struct Saved {
    tables: BTreeMap<String, HashSet<u64>>,
}

impl Saved {
    /// Whether the changes lead to as many rows as they say.
    pub(super) fn fits(&self, changes: &Changes) -> bool {
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        if !changes.is_full {
            counts.extend(self.tables.iter().map(|(name, keys)| (name.as_str(), keys.len() as u64)));
        }
        for name in &changes.dropped {
            counts.remove(name.as_str());
        }
        for change in &changes.tables {
            let rows = match self.tables.get(&change.table) {
                _ if change.is_whole => change.upserted.len(),
                None => return false,
                Some(keys) => {
                    let added = change.upserted.iter().filter(|key| !keys.contains(key)).count();
                    let deleted = change.deleted.iter().filter(|key| keys.contains(key)).count();
                    (keys.len() + added).saturating_sub(deleted)
                }
            };
            counts.insert(&change.table, rows as u64);
        }
        counts.into_iter().eq(changes.counts.iter().map(|(name, rows)| (name.as_str(), *rows)))
    }

    /// The changes are saved.
    pub(super) fn apply(&mut self, changes: Changes) {
        if changes.is_full {
            self.tables.clear();
        }
        for name in &changes.dropped {
            self.tables.remove(name);
        }
        for change in changes.tables {
            if change.is_whole {
                self.tables.insert(change.table, change.upserted);
                continue;
            }
            let keys = self.tables.entry(change.table).or_default();
            for key in &change.deleted {
                keys.remove(key);
            }
            keys.extend(change.upserted);
        }
    }
}
