//! Other content for a [`MemoryStore`](crate::MemoryStore), decoded beside what is there and then put in its place in one step.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Shared;
use crate::table::{Codec, Inner, Loading, LoadingTable, RawKey, RawRow};
use crate::{Loader, MemoryError, MemoryResult, Packed, TableDescription};

pub(super) struct MemoryLoader {
    store: Arc<Shared>,
    metadata: Packed,
    tables: BTreeMap<String, (TableDescription, Box<dyn LoadingTable>)>,
}

impl MemoryLoader {
    pub(super) fn new(store: Arc<Shared>) -> Self {
        Self { store, metadata: Packed::nil(), tables: BTreeMap::new() }
    }

    fn table(&mut self, name: &str) -> MemoryResult<&mut (TableDescription, Box<dyn LoadingTable>)> {
        self.tables.get_mut(name).ok_or_else(|| MemoryError::Dropped(name.to_owned()))
    }
}

impl Loader for MemoryLoader {
    fn set_metadata(&mut self, metadata: Packed) -> MemoryResult<()> {
        self.metadata = metadata;
        Ok(())
    }

    fn create(&mut self, description: TableDescription) -> MemoryResult<()> {
        let name = description.name.clone();
        let there = {
            let _inside = self.store.gate.shared();
            self.store.catalog().tables.get(&name).cloned()
        };
        let loading = match there {
            Some(table) => table.loading(),
            None => Box::new(Loading::new(&name, Codec::raw())),
        };
        self.tables.insert(name, (description, loading));
        Ok(())
    }

    fn describe(&mut self, description: TableDescription) -> MemoryResult<()> {
        let table = self.table(&description.name)?;
        table.0 = description;
        Ok(())
    }

    fn drop_table(&mut self, table: &str) -> MemoryResult<()> {
        self.tables.remove(table);
        Ok(())
    }

    fn upsert(&mut self, table: &str, key: &[u8], row: &[u8]) -> MemoryResult<bool> {
        self.table(table)?.1.upsert(key, row)
    }

    fn delete(&mut self, table: &str, key: &[u8]) -> MemoryResult<bool> {
        self.table(table)?.1.delete(key)
    }

    fn counts(&self) -> BTreeMap<String, u64> {
        self.tables.iter().map(|(name, (_, table))| (name.clone(), table.rows())).collect()
    }

    fn commit(self: Box<Self>, replace: bool) -> MemoryResult<bool> {
        let Self { store, metadata, mut tables } = *self;
        let mut garbage = Vec::new();
        // Indexes are made beside what is there: while nobody is held up, and before anything is replaced, since the program's functions may panic.
        let there = {
            let _inside = store.gate.shared();
            store.catalog().tables.clone()
        };
        for (name, (_, loading)) in &mut tables {
            if let Some(table) = there.get(name).filter(|table| table.fits(loading.as_ref())) {
                table.prepare(loading.as_mut());
            }
        }
        drop(there);
        let alone = store.gate.alone();
        let mut catalog = store.catalog();
        let had_rows = catalog.tables.values().any(|table| table.rows() > 0);
        if had_rows && !replace {
            return Err(MemoryError::NotEmpty);
        }
        // A table may have been opened since it was decoded.
        let misfit = tables
            .iter()
            .find(|(name, (_, loading))| catalog.tables.get(*name).is_some_and(|table| !table.fits(loading.as_ref())));
        if let Some((name, _)) = misfit {
            return Err(MemoryError::Changed(name.clone()));
        }
        // Again for those whose indexes are others by now.
        for (name, (_, loading)) in &mut tables {
            if let Some(table) = catalog.tables.get(name) {
                table.prepare(loading.as_mut());
            }
        }
        // Nothing below can fail. Of tables that the content does not have, those that the program has opened stay, without rows.
        let is_raw = |name: &String| {
            catalog.tables.get(name).is_some_and(|table| Arc::clone(table).into_any().is::<Inner<RawKey, RawRow>>())
        };
        let others: Vec<String> = catalog.tables.keys().filter(|name| !tables.contains_key(*name)).cloned().collect();
        let (gone, emptied): (Vec<_>, Vec<_>) = others.into_iter().partition(is_raw);
        garbage.extend(emptied.iter().filter_map(|name| catalog.tables.get(name)).map(|table| table.empty()));
        garbage.extend(gone.iter().filter_map(|name| catalog.tables.remove(name)).map(|table| table.drop_out()));
        for (name, (description, loading)) in tables {
            match catalog.tables.get(&name) {
                Some(table) => garbage.push(table.replace(description, loading)),
                None => drop(catalog.tables.insert(name, loading.into_table(description))),
            }
        }
        catalog.metadata = metadata;
        // Nobody's position says anything about this content.
        catalog.epoch = rand::random();
        catalog.marks.clear();
        drop(catalog);
        drop(alone);
        drop(garbage);
        Ok(had_rows)
    }
}
