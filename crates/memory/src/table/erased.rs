//! Tables whose types the store does not know.

use std::any::Any;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::changes::Changes;
use super::entries::{AllRows, SomeRows};
use super::{Codec, Inner, State};
use crate::index::{AnyIndex, Built};
use crate::rows::Rows;
use crate::{Change, MemoryError, MemoryResult, TableDescription, TableView};

/// What is dropped when nobody is held up by it.
pub(crate) type Garbage = Box<dyn Any + Send>;

/// The rest of taking a view, for which nobody is held up.
pub(crate) type Deferred = Box<dyn FnOnce() -> TableView + Send>;

/// A table of a store.
pub(crate) trait AnyTable: Send + Sync {
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;

    /// Which table it is, for as long as views can follow each other.
    fn id(&self) -> u64;

    fn rows(&self) -> u64;

    /// What became of it since the view of this number, at which it was the same table; `None`: nothing.
    fn change_since(&self, commit: u64) -> Option<Change>;

    /// A view of this number is taken.
    fn seal(&self, commit: u64);

    /// The state of the view of this number is saved.
    fn forget(&self, commit: u64) -> Garbage;

    /// All rows, or, unless it is whole, those that changed since the view of this number; behind `seal`.
    fn view(&self, change: Change, since: u64) -> Deferred;

    /// It is a table of the store no more.
    fn drop_out(&self) -> Garbage;

    /// Takes what may later replace its content.
    fn loading(&self) -> Box<dyn LoadingTable>;

    /// Whether `replace` can take this.
    fn fits(&self, loading: &dyn LoadingTable) -> bool;

    /// Makes the indexes of what is to replace its content, unless they are made; behind `fits`. The program's own functions are called here.
    fn prepare(&self, loading: &mut dyn LoadingTable);

    /// Replaces its content by what fits and is prepared. Nothing in it can fail.
    fn replace(&self, description: TableDescription, loading: Box<dyn LoadingTable>) -> Garbage;

    /// Takes all rows out.
    fn empty(&self) -> Garbage;

    /// Writes every row and reads it again.
    fn check(&self) -> MemoryResult<u64>;
}

/// The rows of a table that is being loaded.
pub(crate) trait LoadingTable: Send {
    fn as_any(&self) -> &dyn Any;
    fn as_any_mut(&mut self) -> &mut dyn Any;
    fn into_any(self: Box<Self>) -> Box<dyn Any + Send>;
    fn upsert(&mut self, key: &[u8], row: &[u8]) -> MemoryResult<bool>;
    fn delete(&mut self, key: &[u8]) -> MemoryResult<bool>;
    fn rows(&self) -> u64;
    /// Makes a table of it.
    fn into_table(self: Box<Self>, description: TableDescription) -> Arc<dyn AnyTable>;
}

impl<K, V> AnyTable for Inner<K, V>
where
    K: Ord + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }

    fn id(&self) -> u64 {
        self.read().id
    }

    fn rows(&self) -> u64 {
        self.read().rows.len() as u64
    }

    fn change_since(&self, commit: u64) -> Option<Change> {
        let state = self.read();
        if state.described >= commit {
            return Some(Change::Described);
        }
        state.changes.as_ref().is_some_and(|changes| changes.is_any_since(commit)).then_some(Change::Kept)
    }

    fn seal(&self, commit: u64) {
        self.write().changes.get_or_insert_default().seal(commit);
    }

    fn forget(&self, commit: u64) -> Garbage {
        Box::new(self.write().changes.as_mut().map(|changes| changes.forget(commit)))
    }

    fn view(&self, change: Change, since: u64) -> Deferred {
        let state = self.read();
        let (table, codec, rows) = (self.name.clone(), self.codec, state.rows.clone());
        let description = Arc::clone(&state.description);
        if change == Change::Whole {
            return Box::new(move || {
                let deletes = SomeRows { table: table.clone(), codec, rows: None, keys: Vec::new() };
                let upserts = AllRows { table, codec, rows };
                TableView { description, change, upserts: Arc::new(upserts), deletes: Arc::new(deletes) }
            });
        }
        let changed = state.changes.as_ref().map(|changes: &Changes<K>| changes.since(since)).unwrap_or_default();
        Box::new(move || {
            let keys = match <[Arc<BTreeSet<K>>; 1]>::try_from(changed) {
                Ok([one]) => one.iter().cloned().collect::<Vec<K>>(),
                Err(several) => {
                    let all: BTreeSet<&K> = several.iter().flat_map(|keys| keys.iter()).collect();
                    all.into_iter().cloned().collect()
                }
            };
            let (there, gone): (Vec<K>, Vec<K>) = keys.into_iter().partition(|key| rows.get(key).is_some());
            let deletes = SomeRows { table: table.clone(), codec, rows: None, keys: gone };
            let upserts = SomeRows { table, codec, rows: Some(rows), keys: there };
            TableView { description, change, upserts: Arc::new(upserts), deletes: Arc::new(deletes) }
        })
    }

    fn drop_out(&self) -> Garbage {
        let mut state = self.write();
        state.is_dropped = true;
        state.clear()
    }

    fn loading(&self) -> Box<dyn LoadingTable> {
        Box::new(Loading::new(&self.name, self.codec))
    }

    fn fits(&self, loading: &dyn LoadingTable) -> bool {
        loading.as_any().is::<Loading<K, V>>()
    }

    fn prepare(&self, loading: &mut dyn LoadingTable) {
        let Some(loading) = loading.as_any_mut().downcast_mut::<Loading<K, V>>() else { return };
        let indexes = self.read().indexes.clone();
        let made = loading.indexes.iter().map(|(index, _)| index);
        if indexes.len() != loading.indexes.len() || !made.zip(&indexes).all(|(made, index)| Arc::ptr_eq(made, index)) {
            let rows = &loading.rows;
            let built = indexes.into_iter().map(|index| {
                let built = index.build(rows);
                (index, built)
            });
            loading.indexes = built.collect();
        }
    }

    fn replace(&self, description: TableDescription, loading: Box<dyn LoadingTable>) -> Garbage {
        match loading.into_any().downcast::<Loading<K, V>>() {
            Ok(loading) => {
                let mut state = self.write();
                state.description = Arc::new(state.with_index_names(description));
                state.replace(loading.rows, loading.indexes.into_iter().map(|(_, built)| built).collect())
            }
            Err(other) => other,
        }
    }

    fn empty(&self) -> Garbage {
        self.write().clear()
    }

    fn check(&self) -> MemoryResult<u64> {
        let rows = self.read().rows.clone();
        let (mut key_bytes, mut row_bytes) = (Vec::new(), Vec::new());
        for (number, (key, row)) in (1..).zip(rows.iter()) {
            key_bytes.clear();
            row_bytes.clear();
            let written =
                (self.codec.put_key)(key, &mut key_bytes).and_then(|()| (self.codec.put_row)(row, &mut row_bytes));
            written.map_err(|source| MemoryError::Encode { table: self.name.clone(), row: number, source })?;
            let read = (self.codec.take_key)(&key_bytes).and_then(|read| match read == *key {
                true => (self.codec.take_row)(&row_bytes),
                false => Err("its key comes back as another one".into()),
            });
            read.map_err(|source| MemoryError::Decode { table: self.name.clone(), source })?;
        }
        Ok(rows.len() as u64)
    }
}

/// Rows on their way in.
pub(crate) struct Loading<K, V> {
    table: String,
    codec: Codec<K, V>,
    rows: Rows<K, V>,
    /// The indexes of the table that is to have these rows, made of them.
    indexes: Vec<(Arc<dyn AnyIndex<K, V>>, Built)>,
}

impl<K, V> Loading<K, V>
where
    K: Ord + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(crate) fn new(table: &str, codec: Codec<K, V>) -> Self {
        Self { table: table.to_owned(), codec, rows: Rows::default(), indexes: Vec::new() }
    }

    fn key(&self, key: &[u8]) -> MemoryResult<K> {
        (self.codec.take_key)(key).map_err(|source| self.unfit(source))
    }

    fn unfit(&self, source: copal_core::AnyError) -> MemoryError {
        MemoryError::Decode { table: self.table.clone(), source }
    }

    /// The rows.
    pub(crate) fn into_rows(self) -> Rows<K, V> {
        self.rows
    }
}

impl<K, V> LoadingTable for Loading<K, V>
where
    K: Ord + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any + Send> {
        self
    }

    fn upsert(&mut self, key: &[u8], row: &[u8]) -> MemoryResult<bool> {
        let key = self.key(key)?;
        let row = (self.codec.take_row)(row).map_err(|source| self.unfit(source))?;
        Ok(self.rows.insert(key, row).is_none())
    }

    fn delete(&mut self, key: &[u8]) -> MemoryResult<bool> {
        let key = self.key(key)?;
        Ok(self.rows.remove(&key).is_some())
    }

    fn rows(&self) -> u64 {
        self.rows.len() as u64
    }

    fn into_table(self: Box<Self>, description: TableDescription) -> Arc<dyn AnyTable> {
        let (table, codec) = (self.table.clone(), self.codec);
        Arc::new(Inner::new(&table, codec, State::new(description, self.into_rows())))
    }
}
