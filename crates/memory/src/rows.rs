//! The rows of one table: sorted by key, shared with views, copied in small pieces by whoever changes them.
//!
//! A list of leaves, each with up to [`LEAF_ROWS`] rows. Cloning it costs one reference; a change to what is shared copies the
//! list of leaves and one leaf, so no writer waits longer than that takes, however many rows there are.

use std::borrow::Borrow;
use std::sync::Arc;

/// The most rows in a leaf.
pub(crate) const LEAF_ROWS: usize = 512;

type Leaf<K, V> = Vec<(K, V)>;

/// Rows by key; clones share them.
#[derive(Debug)]
pub(crate) struct Rows<K, V> {
    /// None of the leaves is empty; every key is less than all that follow.
    leaves: Arc<Vec<Arc<Leaf<K, V>>>>,
    len: usize,
}

impl<K, V> Clone for Rows<K, V> {
    fn clone(&self) -> Self {
        Self { leaves: Arc::clone(&self.leaves), len: self.len }
    }
}

impl<K, V> Default for Rows<K, V> {
    fn default() -> Self {
        Self { leaves: Arc::default(), len: 0 }
    }
}

impl<K, V> Rows<K, V> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// How many leaves there are.
    pub(crate) fn leaves(&self) -> usize {
        self.leaves.len()
    }

    /// The rows of one leaf.
    pub(crate) fn leaf(&self, leaf: usize) -> &[(K, V)] {
        self.leaves.get(leaf).map_or(&[], |leaf| leaf)
    }

    /// All rows in the order of their keys.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.leaves.iter().flat_map(|leaf| leaf.iter()).map(|(key, row)| (key, row))
    }
}

impl<K: Ord + Clone, V: Clone> Rows<K, V> {
    /// The leaf in which a key is or would be.
    fn leaf_of<Q: Ord + ?Sized>(&self, key: &Q) -> usize
    where
        K: Borrow<Q>,
    {
        self.leaves
            .partition_point(|leaf| leaf.first().is_some_and(|(first, _)| first.borrow() <= key))
            .saturating_sub(1)
    }

    pub(crate) fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&(K, V)>
    where
        K: Borrow<Q>,
    {
        let leaf = self.leaf(self.leaf_of(key));
        let at = leaf.binary_search_by(|(other, _)| other.borrow().cmp(key)).ok()?;
        leaf.get(at)
    }

    /// Puts a row in its place and returns the one that was there.
    pub(crate) fn insert(&mut self, key: K, row: V) -> Option<V> {
        let at = self.leaf_of(&key);
        let leaves = Arc::make_mut(&mut self.leaves);
        let count = leaves.len();
        let Some(shared) = leaves.get_mut(at) else {
            leaves.push(Arc::new(vec![(key, row)]));
            self.len += 1;
            return None;
        };
        let leaf = Arc::make_mut(shared);
        match leaf.binary_search_by(|(other, _)| other.cmp(&key)) {
            Ok(there) => leaf.get_mut(there).map(|(_, old)| std::mem::replace(old, row)),
            Err(there) => {
                self.len += 1;
                if leaf.len() < LEAF_ROWS {
                    leaf.insert(there, (key, row));
                    return None;
                }
                // Keys that come in order fill their leaves; others leave halves with room.
                let is_last = at + 1 == count && there == leaf.len();
                let middle = if is_last { leaf.len() } else { leaf.len() / 2 };
                let mut upper = Vec::with_capacity(LEAF_ROWS);
                upper.extend(leaf.drain(middle..));
                match there.checked_sub(middle).filter(|there| is_last || *there > 0) {
                    Some(there) => upper.insert(there, (key, row)),
                    None => leaf.insert(there, (key, row)),
                }
                leaves.insert(at + 1, Arc::new(upper));
                None
            }
        }
    }

    /// Takes a row out.
    pub(crate) fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<(K, V)>
    where
        K: Borrow<Q>,
    {
        let at = self.leaf_of(key);
        let there = self.leaf(at).binary_search_by(|(other, _)| other.borrow().cmp(key)).ok()?;
        let leaves = Arc::make_mut(&mut self.leaves);
        let entry = Arc::make_mut(leaves.get_mut(at)?).remove(there);
        self.len -= 1;
        let left = leaves.get(at).map_or(0, |leaf| leaf.len());
        if left == 0 {
            leaves.remove(at);
        } else if left < LEAF_ROWS / 8 && leaves.get(at + 1).is_some_and(|next| next.len() + left <= LEAF_ROWS / 2) {
            let next = leaves.remove(at + 1);
            if let Some(leaf) = leaves.get_mut(at) {
                Arc::make_mut(leaf).extend(Arc::unwrap_or_clone(next));
            }
        }
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rows_in_order_fill_their_leaves() {
        let mut rows = Rows::default();
        for n in 0..10 * LEAF_ROWS {
            rows.insert(n, n);
        }
        assert_eq!(rows.leaves(), 10);
        let shared = rows.clone();
        rows.insert(3, 0);
        rows.remove(&700);
        assert_eq!((shared.get(&3), rows.get(&3)), (Some(&(3, 3)), Some(&(3, 0))));
        assert_eq!((shared.get(&700), rows.get(&700)), (Some(&(700, 700)), None));
        assert_eq!((shared.len(), rows.len()), (10 * LEAF_ROWS, 10 * LEAF_ROWS - 1));
        let copied = (0..10).filter(|at| !Arc::ptr_eq(&shared.leaves[*at], &rows.leaves[*at])).count();
        assert_eq!(copied, 2);
        for n in 0..10 * LEAF_ROWS {
            rows.remove(&n);
        }
        assert_eq!((rows.len(), rows.leaves()), (0, 0));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn rows_are_a_map(changes in prop::collection::vec((any::<bool>(), 0_u16..2_000), 0..6_000), step in 1_usize..900) {
            let mut rows = Rows::default();
            let mut model = BTreeMap::new();
            let mut held = Vec::new();
            for (number, (removed, key)) in changes.into_iter().enumerate() {
                // Three of four are inserted, so that leaves fill and split.
                if removed && number % 2 == 0 {
                    prop_assert_eq!(rows.remove(&key), model.remove_entry(&key));
                } else {
                    prop_assert_eq!(rows.insert(key, number), model.insert(key, number));
                }
                if number % step == 0 {
                    held.push((rows.clone(), model.clone()));
                }
            }
            held.push((rows, model));
            for (rows, model) in held {
                prop_assert_eq!(rows.len(), model.len());
                prop_assert!(rows.iter().eq(model.iter()));
                prop_assert!((0..rows.leaves()).all(|leaf| (1..=LEAF_ROWS).contains(&rows.leaf(leaf).len())));
                prop_assert!((0..2_000).all(|key| rows.get(&key).map(|(_, row)| row) == model.get(&key)));
            }
        }
    }
}
