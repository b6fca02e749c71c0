//! A storage in memory, for tests: faithful to the contract, with a clock that tests can set.
//!
//! Every call acts in one step, so it is what the interleavings of [`crate::stepped`] are explored on.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{ObjectInfo, ObjectPath, Result, Storage, StorageError, StorageErrorKind, Version};

/// A storage in memory; clones share their objects.
#[derive(Clone, Debug, Default)]
pub struct MemoryStorage {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<ObjectPath, Object>,
    writes: u64,
    now: Option<jiff::Timestamp>,
}

#[derive(Clone, Debug)]
struct Object {
    bytes: Bytes,
    write: u64,
    modified: jiff::Timestamp,
}

impl MemoryStorage {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// The one of that name in this process, empty at first: `memory:name`.
    #[cfg(any(test, feature = "testkit"))]
    pub fn named(name: &str) -> Self {
        static NAMED: Mutex<BTreeMap<String, MemoryStorage>> = Mutex::new(BTreeMap::new());
        let mut named = NAMED.lock().unwrap_or_else(PoisonError::into_inner);
        named.entry(name.to_owned()).or_default().clone()
    }

    /// Sets the time that objects written from now on get; `None` is the real one.
    pub fn set_time(&self, now: Option<jiff::Timestamp>) {
        self.state().now = now;
    }

    /// Puts an object there unconditionally, as damage or a test's preparation.
    pub fn put(&self, path: &ObjectPath, bytes: impl Into<Bytes>) {
        self.state().write(path, bytes.into());
    }

    /// All objects, sorted, to compare states.
    pub fn contents(&self) -> BTreeMap<ObjectPath, Bytes> {
        self.state().objects.iter().map(|(path, object)| (path.clone(), object.bytes.clone())).collect()
    }

    /// Another storage with the same objects, which from here go their own way.
    pub fn fork(&self) -> Self {
        let state = self.state();
        let copy = State { objects: state.objects.clone(), writes: state.writes, now: state.now };
        Self { state: Arc::new(Mutex::new(copy)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn object(&self, path: &ObjectPath) -> Result<Object> {
        let found = self.state().objects.get(path).cloned();
        found.ok_or_else(|| StorageError::new(StorageErrorKind::NotFound, "no such object").at(path))
    }
}

impl State {
    fn write(&mut self, path: &ObjectPath, bytes: Bytes) -> Version {
        self.writes += 1;
        let modified = self.now.unwrap_or_else(jiff::Timestamp::now);
        self.objects.insert(path.clone(), Object { bytes, write: self.writes, modified });
        Version::from_tag(self.writes.to_string())
    }
}

impl Object {
    fn info(&self, path: &ObjectPath) -> ObjectInfo {
        ObjectInfo { path: path.clone(), size: self.bytes.len() as u64, modified: self.modified }
    }
}

#[async_trait]
impl Storage for MemoryStorage {
    fn url(&self) -> &str {
        "memory:"
    }

    async fn get(&self, path: &ObjectPath) -> Result<Bytes> {
        Ok(self.object(path)?.bytes)
    }

    async fn get_range(&self, path: &ObjectPath, range: Range<u64>) -> Result<Bytes> {
        let bytes = self.object(path)?.bytes;
        crate::storage::range_length(&range)?;
        if range.end > bytes.len() as u64 {
            return Err(StorageError::truncated(&range, bytes.len() as u64).at(path));
        }
        Ok(bytes.slice(range.start as usize..range.end as usize))
    }

    async fn head(&self, path: &ObjectPath) -> Result<ObjectInfo> {
        Ok(self.object(path)?.info(path))
    }

    async fn get_versioned(&self, path: &ObjectPath) -> Result<(Bytes, Version)> {
        let object = self.object(path)?;
        Ok((object.bytes, Version::from_tag(object.write.to_string())))
    }

    async fn create(&self, path: &ObjectPath, bytes: Bytes) -> Result<Version> {
        let mut state = self.state();
        if state.objects.contains_key(path) {
            return Err(StorageError::new(StorageErrorKind::AlreadyExists, "the object already exists").at(path));
        }
        Ok(state.write(path, bytes))
    }

    async fn replace(&self, path: &ObjectPath, bytes: Bytes, expected: &Version) -> Result<Version> {
        let mut state = self.state();
        let unchanged = state.objects.get(path).is_some_and(|o| o.write.to_string() == expected.tag());
        if !unchanged {
            let message = "the object was changed or removed meanwhile";
            return Err(StorageError::new(StorageErrorKind::Conflict, message).at(path));
        }
        Ok(state.write(path, bytes))
    }

    async fn list(&self, folder: &ObjectPath) -> Result<Vec<ObjectInfo>> {
        let below = format!("{folder}/");
        let state = self.state();
        let found = state.objects.iter().filter(|(path, _)| path.as_str().starts_with(&below));
        Ok(found.map(|(path, object)| object.info(path)).collect())
    }

    async fn list_folders(&self, folder: Option<&ObjectPath>) -> Result<Vec<String>> {
        let below = folder.map(|f| format!("{f}/")).unwrap_or_default();
        let state = self.state();
        let inside = state.objects.keys().filter_map(|path| path.as_str().strip_prefix(&below));
        let names: BTreeSet<&str> = inside.filter_map(|rest| Some(rest.split_once('/')?.0)).collect();
        Ok(names.into_iter().map(str::to_owned).collect())
    }

    async fn delete(&self, path: &ObjectPath) -> Result<()> {
        self.state().objects.remove(path);
        Ok(())
    }

    async fn sweep_staging(&self, _folder: &ObjectPath, _older_than: Duration) -> Result<u64> {
        Ok(0)
    }
}
