//! Views of a [`MemoryStore`](crate::MemoryStore): all that is done while the store is held up is to share what is there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Catalog, Mark, Shared};
use crate::table::Garbage;
use crate::{Change, MemoryError, MemoryResult, Position, View};

/// So many views can be followed. Only views that were not saved, or of which nobody said so, need more than one.
const MOST_MARKS: usize = 16;

/// Takes a view.
pub(super) fn take(shared: &Arc<Shared>, since: Option<Position>) -> MemoryResult<Option<View>> {
    let mut garbage = Vec::new();
    let alone = shared.gate.alone();
    let mut catalog = shared.catalog();
    let commit = shared.commit();
    let mut changed: Vec<(String, Change)> = Vec::new();
    let mut dropped = Vec::new();
    if let Some(since) = since {
        catalog.forget(since, &mut garbage);
        let mark = catalog.marks.front().filter(|mark| (catalog.epoch, mark.commit) == (since.epoch, since.commit));
        let mark = mark.ok_or_else(|| MemoryError::Gap(since.to_string()))?;
        for (name, table) in &catalog.tables {
            let is_same = mark.tables.get(name) == Some(&table.id());
            let change = if is_same { table.change_since(since.commit) } else { Some(Change::Whole) };
            changed.extend(change.map(|change| (name.clone(), change)));
        }
        dropped.extend(mark.tables.keys().filter(|name| !catalog.tables.contains_key(*name)).cloned());
    } else {
        changed.extend(catalog.tables.keys().map(|name| (name.clone(), Change::Whole)));
    }
    let is_described = since.is_none_or(|since| catalog.metadata_set >= since.commit);
    if since.is_some() && changed.is_empty() && dropped.is_empty() && !is_described {
        return Ok(None);
    }
    let commit = commit + 1;
    shared.commit.store(commit, Ordering::SeqCst);
    catalog.mark(commit, &mut garbage);
    let tables = changed.iter().filter_map(|(name, change)| {
        Some(catalog.tables.get(name)?.view(*change, since.map_or(0, |since| since.commit)))
    });
    let tables: Vec<_> = tables.collect();
    let counts: BTreeMap<_, _> = catalog.tables.iter().map(|(name, table)| (name.clone(), table.rows())).collect();
    let metadata = is_described.then(|| catalog.metadata.clone());
    let position = Position { epoch: catalog.epoch, commit };
    drop(catalog);
    let held = alone.held();
    drop(alone);
    // From here on nobody is held up.
    let tables = tables.into_iter().map(|finish| finish()).collect();
    drop(garbage);
    Ok(Some(View { position, since, held, metadata, dropped, tables, counts }))
}

/// Forgets what was there before a state that is saved.
pub(super) fn saved(shared: &Shared, position: Position) {
    let mut garbage = Vec::new();
    let alone = shared.gate.alone();
    shared.catalog().forget(position, &mut garbage);
    drop(alone);
    drop(garbage);
}

impl Catalog {
    /// Forgets everything before the view at this position, if there was one.
    fn forget(&mut self, position: Position, garbage: &mut Vec<Garbage>) {
        if self.epoch != position.epoch || !self.marks.iter().any(|mark| mark.commit == position.commit) {
            return;
        }
        while self.marks.front().is_some_and(|mark| mark.commit < position.commit) {
            garbage.extend(self.marks.pop_front().map(|mark| Box::new(mark) as Garbage));
        }
        garbage.extend(self.tables.values().map(|table| table.forget(position.commit)));
    }

    /// A view with this number is taken.
    fn mark(&mut self, commit: u64, garbage: &mut Vec<Garbage>) {
        for table in self.tables.values() {
            table.seal(commit);
        }
        let tables = self.tables.iter().map(|(name, table)| (name.clone(), table.id())).collect();
        self.marks.push_back(Mark { commit, tables });
        if self.marks.len() > MOST_MARKS {
            garbage.extend(self.marks.pop_front().map(|mark| Box::new(mark) as Garbage));
            let oldest = self.marks.front().map_or(commit, |mark| mark.commit);
            garbage.extend(self.tables.values().map(|table| table.forget(oldest)));
        }
    }
}
