//! What a table has now: rows, indexes, and what changed.

use std::borrow::Borrow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::changes::Changes;
use super::erased::Garbage;
use crate::index::{AnyIndex, Built};
use crate::rows::Rows;
use crate::{Packed, TableDescription};

/// Beside twice its rows, so many changed keys are remembered before the table counts as another one, which costs about the same.
const MOST_CHANGES: usize = 65_536;

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// The content of a table.
pub(crate) struct State<K, V> {
    pub(crate) rows: Rows<K, V>,
    pub(crate) description: Arc<TableDescription>,
    /// The number of the last view when it was described.
    pub(crate) described: u64,
    /// Another one than before when the next view must have all rows, whatever it follows.
    pub(crate) id: u64,
    pub(crate) is_dropped: bool,
    pub(crate) indexes: Vec<Arc<dyn AnyIndex<K, V>>>,
    /// `None` until the first view with this id: before that nobody can ask.
    pub(crate) changes: Option<Changes<K>>,
}

fn next_id() -> u64 {
    NEXT_ID.fetch_add(1, Ordering::Relaxed)
}

impl<K: Ord + Clone + Send + Sync + 'static, V: Clone + Send + Sync + 'static> State<K, V> {
    pub(crate) fn new(description: TableDescription, rows: Rows<K, V>) -> Self {
        let (id, description) = (next_id(), Arc::new(description));
        Self { rows, description, described: 0, id, is_dropped: false, indexes: Vec::new(), changes: None }
    }

    /// Puts a row in its place.
    pub(crate) fn put(&mut self, key: K, row: V) -> Option<V> {
        self.note(&key);
        if self.indexes.is_empty() {
            return self.rows.insert(key, row);
        }
        for index in &self.indexes {
            index.put(&key, self.rows.get(&key).map(|(_, old)| old), &row);
        }
        self.rows.insert(key, row)
    }

    /// Takes a row out.
    pub(crate) fn take<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let (key, row) = self.rows.remove(key)?;
        self.note(&key);
        for index in &self.indexes {
            index.remove(&key, &row);
        }
        Some(row)
    }

    /// No rows, as another table.
    pub(crate) fn clear(&mut self) -> Garbage {
        // Without rows no index asks the program anything.
        let rows = Rows::default();
        let indexes = self.indexes.iter().map(|index| index.build(&rows)).collect();
        self.replace(rows, indexes)
    }

    /// Other rows, as another table, and the indexes that were made of them. Nothing in it can fail.
    pub(crate) fn replace(&mut self, rows: Rows<K, V>, indexes: Vec<Built>) -> Garbage {
        let old = std::mem::replace(&mut self.rows, rows);
        let indexes: Vec<Garbage> = indexes.into_iter().map(|index| index()).collect();
        Box::new((old, indexes, self.renew()))
    }

    pub(crate) fn describe(&mut self, description: TableDescription, commit: u64) {
        if *self.description != description {
            self.description = Arc::new(description);
            self.described = commit;
        }
    }

    /// A description with the names of the indexes that there are, if there are any.
    pub(crate) fn with_index_names(&self, description: TableDescription) -> TableDescription {
        if self.indexes.is_empty() {
            return description;
        }
        let names: Vec<&str> = self.indexes.iter().map(|index| index.name()).collect();
        TableDescription { indexes: Packed::of(&names).unwrap_or_default(), ..description }
    }

    pub(crate) fn add_index(&mut self, name: &str, index: Arc<dyn AnyIndex<K, V>>) {
        index.build(&self.rows)();
        self.indexes.retain(|other| other.name() != name);
        self.indexes.push(index);
    }

    fn renew(&mut self) -> Option<Changes<K>> {
        self.id = next_id();
        self.changes.take()
    }

    fn note(&mut self, key: &K) {
        let Some(changes) = &mut self.changes else { return };
        changes.note(key);
        if changes.len() > MOST_CHANGES + 2 * self.rows.len() {
            let old = self.renew();
            // Not at the cost of who happens to be the one to change too much.
            let _ = std::thread::Builder::new().name("copal-memory-drop".to_owned()).spawn(move || drop(old));
        }
    }
}
