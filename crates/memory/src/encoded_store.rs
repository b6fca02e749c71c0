//! A store for programs that have their rows as MessagePack already, such as the Python package.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{Entries, Loaded, Loader, MemoryError, MemoryResult, Packed, Position, Store, TableDescription, View};

/// Hands on views that the program made, and keeps what was restored until the program takes it. Clones are the same store.
#[derive(Clone, Default)]
pub struct EncodedStore {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    offered: Option<View>,
    counts: BTreeMap<String, u64>,
    saved: Option<Position>,
    loaded: Option<Loaded>,
}

impl fmt::Debug for EncodedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EncodedStore").field("offered", &self.inner().offered).finish_non_exhaustive()
    }
}

impl EncodedStore {
    /// A store that has offered nothing.
    pub fn new() -> Self {
        Self::default()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Offers a view, in the place of an earlier one. A view of everything goes into the next backup, one that follows a position into the next
    /// segment behind that position. It stays until the next is offered or it is withdrawn.
    pub fn offer(&self, view: View) {
        let mut inner = self.inner();
        inner.counts.clone_from(&view.counts);
        inner.offered = Some(view);
    }

    /// Takes the offered view back.
    pub fn withdraw(&self) -> Option<View> {
        self.inner().offered.take()
    }

    /// The last position that is known to be saved.
    pub fn last_saved(&self) -> Option<Position> {
        self.inner().saved
    }

    /// Takes what was restored last.
    pub fn take_loaded(&self) -> Option<Loaded> {
        self.inner().loaded.take()
    }
}

impl Store for EncodedStore {
    fn view(&self, since: Option<Position>) -> MemoryResult<Option<View>> {
        if let Some(since) = since {
            self.saved(since);
        }
        let offered = self.inner().offered.clone();
        match (since, offered) {
            (_, None) => Err(MemoryError::NotOffered("the store offers no view".to_owned())),
            (None, Some(view)) if view.since.is_some() => {
                Err(MemoryError::NotOffered("the store offers changes, not a view of everything".to_owned()))
            }
            (Some(since), Some(view)) if view.since != Some(since) => Err(MemoryError::Gap(since.to_string())),
            (Some(_), Some(view)) if view.tables.is_empty() && view.dropped.is_empty() && view.metadata.is_none() => {
                Ok(None)
            }
            (_, Some(view)) => Ok(Some(view)),
        }
    }

    fn saved(&self, position: Position) {
        self.inner().saved = Some(position);
    }

    fn count(&self, _: bool) -> MemoryResult<BTreeMap<String, u64>> {
        Ok(self.inner().counts.clone())
    }

    fn load(&self) -> MemoryResult<Box<dyn Loader>> {
        Ok(Box::new(EncodedLoader { store: self.clone(), content: Loaded::default() }))
    }
}

struct EncodedLoader {
    store: EncodedStore,
    content: Loaded,
}

impl Loader for EncodedLoader {
    fn set_metadata(&mut self, metadata: Packed) -> MemoryResult<()> {
        self.content.metadata = metadata;
        Ok(())
    }

    fn create(&mut self, description: TableDescription) -> MemoryResult<()> {
        self.content.create(description);
        Ok(())
    }

    fn describe(&mut self, description: TableDescription) -> MemoryResult<()> {
        let table = self.content.table(&description.name)?;
        table.description = description;
        Ok(())
    }

    fn drop_table(&mut self, table: &str) -> MemoryResult<()> {
        self.content.tables.remove(table);
        Ok(())
    }

    fn upsert(&mut self, table: &str, key: &[u8], row: &[u8]) -> MemoryResult<bool> {
        self.content.upsert(table, key, row)
    }

    fn delete(&mut self, table: &str, key: &[u8]) -> MemoryResult<bool> {
        self.content.delete(table, key)
    }

    fn counts(&self) -> BTreeMap<String, u64> {
        self.content.counts()
    }

    fn commit(self: Box<Self>, replace: bool) -> MemoryResult<bool> {
        let mut inner = self.store.inner();
        let had_rows = inner.counts.values().any(|rows| *rows > 0);
        if had_rows && !replace {
            return Err(MemoryError::NotEmpty);
        }
        // What was offered is a view of what is replaced.
        (inner.offered, inner.counts) = (None, self.content.counts());
        inner.loaded = Some(self.content);
        Ok(had_rows)
    }
}

/// Entries that are encoded already: blocks of keys and rows, or of keys alone.
#[derive(Clone, Default)]
pub struct Blocks {
    blocks: Vec<(u64, Vec<u8>)>,
    count: u64,
}

impl fmt::Debug for Blocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blocks({} entries in {} blocks)", self.count, self.blocks.len())
    }
}

impl Blocks {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a block of so many entries, best of some 100 KiB. That they are so many is found out when they are saved.
    pub fn push(&mut self, entries: u64, bytes: Vec<u8>) {
        if entries > 0 || !bytes.is_empty() {
            self.count += entries;
            self.blocks.push((entries, bytes));
        }
    }
}

impl Entries for Blocks {
    fn count(&self) -> u64 {
        self.count
    }

    fn parts(&self) -> usize {
        self.blocks.len()
    }

    fn write(&self, part: usize, out: &mut Vec<u8>) -> MemoryResult<u64> {
        let Some((entries, bytes)) = self.blocks.get(part) else { return Ok(0) };
        out.extend_from_slice(bytes);
        Ok(*entries)
    }
}
