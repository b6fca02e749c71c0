//! The packs that a page map refers to, numbered.

use std::collections::HashMap;

use copal_core::{PackId, PackUse};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A pack as a backup knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PackInfo {
    pub(crate) id: PackId,
    /// Bytes of the object.
    pub(crate) size: u64,
    /// Uncompressed bytes in it, and how many the backup uses.
    pub(crate) r#use: PackUse,
}

/// Packs by number and by id.
#[derive(Clone, Debug, Default)]
pub(crate) struct PackTable {
    packs: Vec<PackInfo>,
    index: HashMap<PackId, u32>,
}

impl PackTable {
    pub(crate) fn from_packs(packs: impl IntoIterator<Item = PackInfo>) -> Self {
        let mut table = Self::default();
        for pack in packs {
            table.push(pack);
        }
        table
    }

    pub(crate) fn push(&mut self, pack: PackInfo) -> u32 {
        let number = u32::try_from(self.packs.len()).unwrap_or(u32::MAX);
        self.index.insert(pack.id.clone(), number);
        self.packs.push(pack);
        number
    }

    pub(crate) fn number(&self, id: &PackId) -> Option<u32> {
        self.index.get(id).copied()
    }

    pub(crate) fn get(&self, number: u32) -> Option<&PackInfo> {
        self.packs.get(number as usize)
    }

    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut PackInfo> {
        self.packs.get_mut(number as usize)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &PackInfo> {
        self.packs.iter()
    }

    /// Forgets which bytes are used, before they are counted anew.
    pub(crate) fn reset_use(&mut self) {
        self.packs.iter_mut().for_each(|p| p.r#use.used_bytes = 0);
    }
}

/// A pack of which a backup uses less than this share is little used, in percent.
const LITTLE_USED_PERCENT: u64 = 30;
/// Packs of which less than this is used are small, in bytes.
const SMALL_BYTES: u64 = 256 << 10;
/// So many small packs are put up with; one more and all of them are stored again together.
const MANY_SMALL: usize = 64;

/// Which packs a new backup should not share pages with, by number: little used ones, those older than `max_age`, and
/// small ones once there are many. Their pages are stored again, so that old objects can go without any compaction.
pub(crate) fn packs_to_leave(table: &PackTable, now: Timestamp, max_age: Option<std::time::Duration>) -> Vec<bool> {
    let is_small = |p: &PackInfo| p.r#use.used_bytes > 0 && p.r#use.used_bytes < SMALL_BYTES;
    let many_small = table.iter().filter(|p| is_small(p)).count() > MANY_SMALL;
    let is_old = |p: &PackInfo| {
        let age = std::time::Duration::try_from(now.duration_since(p.id.backup().time())).unwrap_or_default();
        max_age.is_some_and(|max| age > max)
    };
    let is_little_used = |p: &PackInfo| {
        let PackUse { total_bytes, used_bytes } = p.r#use;
        used_bytes.saturating_mul(100) < total_bytes.saturating_mul(LITTLE_USED_PERCENT)
    };
    table.iter().map(|p| is_little_used(p) || is_old(p) || (many_small && is_small(p))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_used_old_and_many_small_packs_are_left() {
        let backup = "20261120-153000Z-7f3a".parse().unwrap();
        let pack = |total_bytes, used_bytes| PackInfo {
            id: PackId::new(&backup, 0),
            size: 1,
            r#use: PackUse { total_bytes, used_bytes },
        };
        let mib = 1 << 20;
        let table = PackTable::from_packs([pack(16 * mib, 4 * mib), pack(16 * mib, 5 * mib), pack(1000, 1000)]);
        let now = "2026-11-21T00:00:00Z".parse().unwrap();
        assert_eq!(packs_to_leave(&table, now, None), [true, false, false]);
        assert_eq!(packs_to_leave(&table, now, Some(std::time::Duration::from_secs(60))), [true; 3]);
        let many = PackTable::from_packs((0..=MANY_SMALL).map(|_| pack(1000, 1000)));
        assert!(packs_to_leave(&many, now, None).iter().all(|leave| *leave));
    }
}
