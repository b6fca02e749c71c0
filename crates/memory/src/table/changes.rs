//! Which keys of a table changed since which view.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// Keys that changed, in pieces that end at views.
pub(crate) struct Changes<K> {
    /// Since the last view.
    now: BTreeSet<K>,
    /// Up to the view of that number, since the one before.
    sealed: VecDeque<(u64, Arc<BTreeSet<K>>)>,
    sealed_len: usize,
}

impl<K> Default for Changes<K> {
    fn default() -> Self {
        Self { now: BTreeSet::new(), sealed: VecDeque::new(), sealed_len: 0 }
    }
}

impl<K: Ord + Clone> Changes<K> {
    /// Keys that are remembered.
    pub(crate) fn len(&self) -> usize {
        self.now.len() + self.sealed_len
    }

    pub(crate) fn note(&mut self, key: &K) {
        if !self.now.contains(key) {
            self.now.insert(key.clone());
        }
    }

    /// A view of this number is taken.
    pub(crate) fn seal(&mut self, commit: u64) {
        if !self.now.is_empty() {
            self.sealed_len += self.now.len();
            self.sealed.push_back((commit, Arc::new(std::mem::take(&mut self.now))));
        }
    }

    /// Gives away what lies up to the view of this number.
    pub(crate) fn forget(&mut self, commit: u64) -> Vec<Arc<BTreeSet<K>>> {
        let kept = self.sealed.partition_point(|(sealed, _)| *sealed <= commit);
        let gone: Vec<_> = self.sealed.drain(..kept).map(|(_, keys)| keys).collect();
        self.sealed_len -= gone.iter().map(|keys| keys.len()).sum::<usize>();
        gone
    }

    /// Whether something changed since the view of this number.
    pub(crate) fn is_any_since(&self, commit: u64) -> bool {
        !self.now.is_empty() || self.sealed.back().is_some_and(|(sealed, _)| *sealed > commit)
    }

    /// The pieces since the view of this number, up to the last view.
    pub(crate) fn since(&self, commit: u64) -> Vec<Arc<BTreeSet<K>>> {
        self.sealed.iter().filter(|(sealed, _)| *sealed > commit).map(|(_, keys)| Arc::clone(keys)).collect()
    }
}
