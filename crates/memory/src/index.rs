//! Secondary indexes: kept with the rows, not saved, made again from the rows when they are loaded.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use crate::Table;
use crate::rows::Rows;
use crate::table::{Garbage, Key, Row};

type Keys<I, K> = RwLock<BTreeMap<I, BTreeSet<K>>>;

/// Finds rows by something else than their key; clones are the same index.
pub struct Index<I, K, V> {
    table: Table<K, V>,
    name: Arc<str>,
    keys: Arc<Keys<I, K>>,
}

impl<I, K, V> Clone for Index<I, K, V> {
    fn clone(&self) -> Self {
        Self { table: self.table.clone(), name: Arc::clone(&self.name), keys: Arc::clone(&self.keys) }
    }
}

impl<I, K, V> fmt::Debug for Index<I, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index").field("table", &self.table).field("name", &self.name).finish_non_exhaustive()
    }
}

impl<I: Ord + Send + Sync + 'static, K: Key, V: Row> Index<I, K, V> {
    pub(crate) fn new(
        table: Table<K, V>,
        name: &str,
        of: impl Fn(&V) -> I + Send + Sync + 'static,
    ) -> (Self, Arc<dyn AnyIndex<K, V>>) {
        let (keys, name) = (Arc::<Keys<I, K>>::default(), Arc::<str>::from(name));
        let kept = Kept { name: Arc::clone(&name), of, keys: Arc::clone(&keys) };
        (Self { table, name, keys }, Arc::new(kept))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The rows for which the index says this, in the order of their keys.
    pub fn get(&self, value: &I) -> Vec<(K, V)> {
        self.table.by_index(|rows| {
            let index = self.keys.read().unwrap_or_else(PoisonError::into_inner);
            index.get(value).into_iter().flatten().filter_map(|key| rows.get(key).cloned()).collect()
        })
    }

    /// The number of these rows.
    pub fn count(&self, value: &I) -> usize {
        self.table.by_index(|_| {
            let index = self.keys.read().unwrap_or_else(PoisonError::into_inner);
            index.get(value).map_or(0, BTreeSet::len)
        })
    }
}

/// An index as its table sees it. Called with the table's lock, so always in step with its rows.
pub(crate) trait AnyIndex<K, V>: Send + Sync {
    fn name(&self) -> &str;
    fn put(&self, key: &K, old: Option<&V>, new: &V);
    fn remove(&self, key: &K, old: &V);
    /// Makes the index of these rows beside what is there.
    fn build(&self, rows: &Rows<K, V>) -> Built;
}

/// Puts an index that is ready in its place, which cannot fail, and returns what was there.
pub(crate) type Built = Box<dyn FnOnce() -> Garbage + Send>;

struct Kept<I, K, F> {
    name: Arc<str>,
    of: F,
    keys: Arc<Keys<I, K>>,
}

fn take_out<I: Ord, K: Ord>(index: &mut BTreeMap<I, BTreeSet<K>>, value: &I, key: &K) {
    if let Some(keys) = index.get_mut(value) {
        keys.remove(key);
        if keys.is_empty() {
            index.remove(value);
        }
    }
}

impl<I, K, V, F> AnyIndex<K, V> for Kept<I, K, F>
where
    I: Ord + Send + Sync + 'static,
    K: Ord + Clone + Send + Sync + 'static,
    F: Fn(&V) -> I + Send + Sync,
{
    fn name(&self) -> &str {
        &self.name
    }

    fn put(&self, key: &K, old: Option<&V>, new: &V) {
        // The program's own function first: if it panics, the index is what it was.
        let (old, new) = (old.map(&self.of), (self.of)(new));
        if old.as_ref() == Some(&new) {
            return;
        }
        let mut index = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = old {
            take_out(&mut index, &old, key);
        }
        index.entry(new).or_default().insert(key.clone());
    }

    fn remove(&self, key: &K, old: &V) {
        let old = (self.of)(old);
        take_out(&mut self.keys.write().unwrap_or_else(PoisonError::into_inner), &old, key);
    }

    fn build(&self, rows: &Rows<K, V>) -> Built {
        let mut made = BTreeMap::<I, BTreeSet<K>>::new();
        for (key, row) in rows.iter() {
            made.entry((self.of)(row)).or_default().insert(key.clone());
        }
        let keys = Arc::clone(&self.keys);
        Box::new(move || {
            let mut index = keys.write().unwrap_or_else(PoisonError::into_inner);
            Box::new(std::mem::replace(&mut *index, made))
        })
    }
}
