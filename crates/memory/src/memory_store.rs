//! A store of typed tables for programs that have none of their own.

mod load;
mod view;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::gate::Gate;
use crate::rows::Rows;
use crate::table::{AnyTable, Codec, Inner, Key, Loading, LoadingTable, RawKey, RawRow, Row, State};
use crate::{Loader, MemoryError, MemoryResult, Packed, Position, Store, Table, TableDescription, View};

/// Tables of rows in memory; clones are the same store.
///
/// A restore replaces all tables in one step, and handles go on with what was restored. Tables of a backup that nobody has opened yet
/// are kept as they came, are in the next backup again, and get their types when somebody opens them.
#[derive(Clone)]
pub struct MemoryStore {
    shared: Arc<Shared>,
}

/// What all handles of a store share. Whoever wants the catalogue has passed the gate; table locks come last.
pub(crate) struct Shared {
    pub(crate) gate: Gate,
    /// The number of the last view. Changes only while somebody is alone.
    commit: AtomicU64,
    catalog: Mutex<Catalog>,
}

struct Catalog {
    epoch: u64,
    tables: BTreeMap<String, Arc<dyn AnyTable>>,
    metadata: Packed,
    /// The number of the last view when `metadata` was set.
    metadata_set: u64,
    /// Views that others may follow, oldest first.
    marks: VecDeque<Mark>,
}

/// Which tables there were at a view.
struct Mark {
    commit: u64,
    tables: BTreeMap<String, u64>,
}

impl Shared {
    /// The number of the last view; only who has passed the gate may believe it.
    pub(crate) fn commit(&self) -> u64 {
        self.commit.load(Ordering::SeqCst)
    }

    fn catalog(&self) -> MutexGuard<'_, Catalog> {
        self.catalog.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("tables", &self.tables()).finish_non_exhaustive()
    }
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        let catalog = Catalog {
            epoch: rand::random(),
            tables: BTreeMap::new(),
            metadata: Packed::nil(),
            metadata_set: 0,
            marks: VecDeque::new(),
        };
        let (gate, commit) = (Gate::default(), AtomicU64::new(0));
        Self { shared: Arc::new(Shared { gate, commit, catalog: Mutex::new(catalog) }) }
    }

    /// Opens a table; if there is none of this name, it is created. Errors: `OtherTypes`; `Decode` if it came from a backup and its rows do
    /// not fit, and it is kept as it came.
    pub fn table<K: Key, V: Row>(&self, name: &str) -> MemoryResult<Table<K, V>> {
        let mut decoded: Option<(u64, Inner<K, V>)> = None;
        loop {
            let raw = {
                let _inside = self.shared.gate.shared();
                let mut catalog = self.shared.catalog();
                let raw = match catalog.tables.get(name) {
                    None => None,
                    Some(table) => match Arc::clone(table).into_any().downcast::<Inner<K, V>>() {
                        Ok(inner) => return Ok(Table::new(Arc::clone(&self.shared), inner)),
                        Err(other) => {
                            let raw = other.downcast::<Inner<RawKey, RawRow>>();
                            Some(raw.map_err(|_| MemoryError::OtherTypes(name.to_owned()))?)
                        }
                    },
                };
                let inner = match (&raw, decoded.take()) {
                    (None, _) => {
                        let state = State::new(TableDescription::named(name), Rows::default());
                        Some(Inner::new(name, Codec::typed(), state))
                    }
                    // Only a restore gives such a table other content, and another number with it.
                    (Some(raw), Some((id, inner))) if raw.id() == id => Some(inner),
                    (Some(_), _) => None,
                };
                if let Some(inner) = inner.map(Arc::new) {
                    catalog.tables.insert(name.to_owned(), Arc::clone(&inner) as Arc<dyn AnyTable>);
                    return Ok(Table::new(Arc::clone(&self.shared), inner));
                }
                raw
            };
            // A large table takes its time, and nobody is held up by it.
            if let Some(raw) = raw {
                decoded = Some(typed(name, &raw)?);
            }
        }
    }

    /// The names of all tables.
    pub fn tables(&self) -> Vec<String> {
        let _inside = self.shared.gate.shared();
        self.shared.catalog().tables.keys().cloned().collect()
    }

    /// Drops a table; whether there was one. Its handles find no rows any more and refuse changes.
    pub fn drop_table(&self, name: &str) -> bool {
        let dropped = {
            let _inside = self.shared.gate.shared();
            let table = self.shared.catalog().tables.remove(name);
            table.map(|table| table.drop_out())
        };
        // Its rows go when nobody is held up by it.
        dropped.is_some()
    }

    /// Sets what is kept beside the tables.
    pub fn set_metadata<T: Serialize + ?Sized>(&self, metadata: &T) -> MemoryResult<()> {
        let metadata = Packed::of(metadata)?;
        let _inside = self.shared.gate.shared();
        let mut catalog = self.shared.catalog();
        (catalog.metadata, catalog.metadata_set) = (metadata, self.shared.commit());
        Ok(())
    }

    /// What is kept beside the tables.
    pub fn metadata<T: DeserializeOwned>(&self) -> MemoryResult<T> {
        let _inside = self.shared.gate.shared();
        let metadata = self.shared.catalog().metadata.clone();
        metadata.to()
    }

    /// Does several changes, also of several tables, as one: no view and no other thread sees some of them. `work` is alone in the store,
    /// so it should be short, and it must not wait for threads that use the store. Nothing is undone if it panics.
    pub fn atomically<R>(&self, work: impl FnOnce() -> R) -> R {
        let _alone = self.shared.gate.alone();
        work()
    }
}

/// A table that came from a backup, with its types, and the number that the content had.
fn typed<K: Key, V: Row>(name: &str, raw: &Inner<RawKey, RawRow>) -> MemoryResult<(u64, Inner<K, V>)> {
    let (id, rows, description) = {
        let state = raw.read();
        (state.id, state.rows.clone(), TableDescription::clone(&state.description))
    };
    let mut loading = Loading::new(name, Codec::<K, V>::typed());
    for (key, row) in rows.iter() {
        if !loading.upsert(&key.0, &row.0)? {
            let source = "two keys are the same as this type".into();
            return Err(MemoryError::Decode { table: name.to_owned(), source });
        }
    }
    Ok((id, Inner::new(name, Codec::typed(), State::new(description, loading.into_rows()))))
}

impl Store for MemoryStore {
    fn view(&self, since: Option<Position>) -> MemoryResult<Option<View>> {
        view::take(&self.shared, since)
    }

    fn saved(&self, position: Position) {
        view::saved(&self.shared, position);
    }

    fn count(&self, is_deep: bool) -> MemoryResult<BTreeMap<String, u64>> {
        let tables = {
            let _alone = self.shared.gate.alone();
            let catalog = self.shared.catalog();
            let counted = catalog.tables.iter().map(|(name, table)| (name.clone(), table.rows(), Arc::clone(table)));
            counted.collect::<Vec<_>>()
        };
        tables.into_iter().map(|(name, rows, table)| Ok((name, if is_deep { table.check()? } else { rows }))).collect()
    }

    fn load(&self) -> MemoryResult<Box<dyn Loader>> {
        Ok(Box::new(load::MemoryLoader::new(Arc::clone(&self.shared))))
    }
}
