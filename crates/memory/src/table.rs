//! A typed table of a [`MemoryStore`](crate::MemoryStore), as programs use it.

mod changes;
mod codec;
mod entries;
mod erased;
mod state;

use std::borrow::Borrow;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::gate::Gate;
use crate::index::Index;
use crate::memory_store::Shared;
use crate::rows::Rows;
use crate::{MemoryError, MemoryResult, TableDescription};

pub(crate) use codec::{Codec, RawKey, RawRow};
pub(crate) use erased::{AnyTable, Garbage, Loading, LoadingTable};
pub(crate) use state::State;

/// What keys are: anything small that serde knows and that has an order.
pub trait Key: Ord + Clone + Serialize + DeserializeOwned + Send + Sync + 'static {}
impl<T: Ord + Clone + Serialize + DeserializeOwned + Send + Sync + 'static> Key for T {}

/// What rows are: anything that serde knows. A field that a struct gained needs `#[serde(default)]` to read older backups.
pub trait Row: Clone + Serialize + DeserializeOwned + Send + Sync + 'static {}
impl<T: Clone + Serialize + DeserializeOwned + Send + Sync + 'static> Row for T {}

/// A table and all that is known of it.
pub(crate) struct Inner<K, V> {
    pub(crate) name: String,
    pub(crate) codec: Codec<K, V>,
    pub(crate) state: RwLock<State<K, V>>,
}

impl<K: Clone + Ord, V: Clone> Inner<K, V> {
    pub(crate) fn new(name: &str, codec: Codec<K, V>, state: State<K, V>) -> Self {
        Self { name: name.to_owned(), codec, state: RwLock::new(state) }
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, State<K, V>> {
        // Whoever panics in a change has not begun it: rows are made before they are put in.
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, State<K, V>> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A table of rows by a unique key; clones are the same table. All calls may come from any thread, and each is done as a whole.
///
/// Closures given to it must not use the table's store. Calls that change something fail with `Dropped` once the table was dropped.
pub struct Table<K, V> {
    store: Arc<Shared>,
    inner: Arc<Inner<K, V>>,
}

impl<K, V> Clone for Table<K, V> {
    fn clone(&self) -> Self {
        Self { store: Arc::clone(&self.store), inner: Arc::clone(&self.inner) }
    }
}

impl<K, V> fmt::Debug for Table<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("name", &self.inner.name).finish_non_exhaustive()
    }
}

impl<K: Key, V: Row> Table<K, V> {
    pub(crate) fn new(store: Arc<Shared>, inner: Arc<Inner<K, V>>) -> Self {
        Self { store, inner }
    }

    fn gate(&self) -> &Gate {
        &self.store.gate
    }

    /// Does one change; the table must not have been dropped.
    fn change<R>(&self, change: impl FnOnce(&mut State<K, V>) -> MemoryResult<R>) -> MemoryResult<R> {
        let _inside = self.gate().shared();
        let mut state = self.inner.write();
        if state.is_dropped {
            return Err(MemoryError::Dropped(self.inner.name.clone()));
        }
        change(&mut state)
    }

    fn look<R>(&self, look: impl FnOnce(&State<K, V>) -> R) -> R {
        let _inside = self.gate().shared();
        look(&self.inner.read())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Adds a row. Errors: `KeyExists`.
    pub fn insert(&self, key: K, row: V) -> MemoryResult<()> {
        self.change(|state| {
            if state.rows.get(&key).is_some() {
                return Err(MemoryError::KeyExists(self.inner.name.clone()));
            }
            state.put(key, row);
            Ok(())
        })
    }

    /// Puts a row in its place and returns the one that was there.
    pub fn upsert(&self, key: K, row: V) -> MemoryResult<Option<V>> {
        self.change(|state| Ok(state.put(key, row)))
    }

    /// A copy of a row.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.with(key, V::clone)
    }

    /// What `look` makes of a row.
    pub fn with<Q: Ord + ?Sized, R>(&self, key: &Q, look: impl FnOnce(&V) -> R) -> Option<R>
    where
        K: Borrow<Q>,
    {
        self.look(|state| state.rows.get(key).map(|(_, row)| look(row)))
    }

    /// Changes a row in one step and returns what `change` made of it; `None`: there is no such row. If `change` panics, the row is what it was.
    pub fn update<Q: Ord + ?Sized, R>(&self, key: &Q, change: impl FnOnce(&mut V) -> R) -> MemoryResult<Option<R>>
    where
        K: Borrow<Q>,
    {
        self.change(|state| {
            let Some((key, mut row)) = state.rows.get(key).cloned() else { return Ok(None) };
            let answer = change(&mut row);
            state.put(key, row);
            Ok(Some(answer))
        })
    }

    /// Takes a row out.
    pub fn remove<Q: Ord + ?Sized>(&self, key: &Q) -> MemoryResult<Option<V>>
    where
        K: Borrow<Q>,
    {
        self.change(|state| Ok(state.take(key)))
    }

    /// Takes all rows out.
    pub fn clear(&self) -> MemoryResult<()> {
        // What was there is dropped when nobody waits for it any more.
        self.change(|state| Ok(state.clear())).map(drop)
    }

    /// Whether there is a row with this key.
    pub fn contains<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.look(|state| state.rows.get(key).is_some())
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.look(|state| state.rows.len())
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All rows as they are now. Takes no time, whatever the table's size, and holds nobody up.
    pub fn snapshot(&self) -> Snapshot<K, V> {
        Snapshot { rows: self.look(|state| state.rows.clone()) }
    }

    /// What the table is, apart from its rows.
    pub fn description(&self) -> TableDescription {
        self.look(|state| TableDescription::clone(&state.description))
    }

    /// Changes what the table is said to be; its name stays.
    pub fn describe(&self, change: impl FnOnce(&mut TableDescription)) -> MemoryResult<()> {
        self.change(|state| {
            let mut description = TableDescription::clone(&state.description);
            change(&mut description);
            description.name.clone_from(&self.inner.name);
            state.describe(description, self.store.commit());
            Ok(())
        })
    }

    /// Keeps an index by what `of` says of each row: over the rows that are there, those to come, and again after a restore. Another
    /// one of the same name is replaced, and its handles find nothing new any more.
    pub fn with_index<I>(
        &self,
        name: &str,
        of: impl Fn(&V) -> I + Send + Sync + 'static,
    ) -> MemoryResult<Index<I, K, V>>
    where
        I: Ord + Send + Sync + 'static,
    {
        let (handle, index) = Index::new(self.clone(), name, of);
        self.change(|state| {
            state.add_index(name, index);
            let description = state.with_index_names(TableDescription::clone(&state.description));
            state.describe(description, self.store.commit());
            Ok(handle)
        })
    }

    /// The rows of an index' answer, all at one moment.
    pub(crate) fn by_index<A>(&self, look: impl FnOnce(&Rows<K, V>) -> A) -> A {
        self.look(|state| look(&state.rows))
    }
}

/// All rows of a table at one moment, in the order of their keys; clones share them.
pub struct Snapshot<K, V> {
    rows: Rows<K, V>,
}

impl<K, V> Clone for Snapshot<K, V> {
    fn clone(&self) -> Self {
        Self { rows: self.rows.clone() }
    }
}

impl<K, V> fmt::Debug for Snapshot<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Snapshot({} rows)", self.rows.len())
    }
}

impl<K: Key, V: Row> Snapshot<K, V> {
    /// The number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One row.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.rows.get(key).map(|(_, row)| row)
    }

    /// All rows.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.rows.iter()
    }
}
