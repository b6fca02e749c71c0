//! The content of a backup as it came: encoded rows in the order in which they were first written.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use crate::{MemoryError, MemoryResult, Packed, TableDescription};

/// Everything that was in a store.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// What it kept beside its tables.
    pub metadata: Packed,
    /// The tables by name.
    pub tables: BTreeMap<String, LoadedTable>,
}

/// A key and its row.
type Pair = (Arc<[u8]>, Box<[u8]>);

/// One table of encoded rows.
#[derive(Clone, Default)]
pub struct LoadedTable {
    /// What it is.
    pub description: TableDescription,
    places: HashMap<Arc<[u8]>, usize>,
    /// Rows that were deleted leave their place empty.
    rows: Vec<Option<Pair>>,
}

impl fmt::Debug for LoadedTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LoadedTable({:?}, {} rows)", self.description.name, self.len())
    }
}

impl LoadedTable {
    /// The number of rows.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// All keys and rows, each one MessagePack value, in the order in which the keys first came.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.rows.iter().flatten().map(|(key, row)| (&**key, &**row))
    }

    fn upsert(&mut self, key: &[u8], row: &[u8]) -> bool {
        if let Some(place) = self.places.get(key) {
            if let Some((_, old)) = self.rows.get_mut(*place).and_then(Option::as_mut) {
                *old = row.into();
            }
            return false;
        }
        let key = Arc::<[u8]>::from(key);
        self.places.insert(Arc::clone(&key), self.rows.len());
        self.rows.push(Some((key, row.into())));
        true
    }

    fn delete(&mut self, key: &[u8]) -> bool {
        let Some(place) = self.places.remove(key) else { return false };
        if let Some(row) = self.rows.get_mut(place) {
            *row = None;
        }
        if self.rows.len() > 1_024 && self.rows.len() > 2 * self.places.len() {
            self.rows.retain(Option::is_some);
            for (place, row) in self.rows.iter().enumerate() {
                if let Some(kept) = row.as_ref().and_then(|(key, _)| self.places.get_mut(key)) {
                    *kept = place;
                }
            }
        }
        true
    }
}

impl Loaded {
    pub(crate) fn create(&mut self, description: TableDescription) {
        let name = description.name.clone();
        self.tables.insert(name, LoadedTable { description, ..LoadedTable::default() });
    }

    pub(crate) fn table(&mut self, name: &str) -> MemoryResult<&mut LoadedTable> {
        self.tables.get_mut(name).ok_or_else(|| MemoryError::Dropped(name.to_owned()))
    }

    pub(crate) fn upsert(&mut self, table: &str, key: &[u8], row: &[u8]) -> MemoryResult<bool> {
        Ok(self.table(table)?.upsert(key, row))
    }

    pub(crate) fn delete(&mut self, table: &str, key: &[u8]) -> MemoryResult<bool> {
        Ok(self.table(table)?.delete(key))
    }

    /// The rows of all tables.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.tables.iter().map(|(name, table)| (name.clone(), table.len() as u64)).collect()
    }
}
