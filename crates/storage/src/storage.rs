//! The contract of a storage.

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{ObjectPath, Result};

/// What a listing tells about one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its name.
    pub path: ObjectPath,
    /// Its size in bytes.
    pub size: u64,
    /// When it was last written, by the clock of the store.
    pub modified: jiff::Timestamp,
}

/// The state of one object, for conditional replacement. Opaque; equal if and only if the object was not written since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version(pub(crate) String);

/// A place for objects. All writes are durable when they answer; every method may be called concurrently.
#[async_trait]
pub trait Storage: std::fmt::Debug + Send + Sync + 'static {
    /// The place as a URL without secrets, for messages.
    fn url(&self) -> &str;

    /// The whole object. Errors: `NotFound`.
    async fn get(&self, path: &ObjectPath) -> Result<Bytes>;

    /// Exactly the bytes of `range`. Errors: `NotFound`, `Truncated` if the object ends before the range does.
    async fn get_range(&self, path: &ObjectPath, range: Range<u64>) -> Result<Bytes>;

    /// Size and time of an object. Errors: `NotFound`.
    async fn head(&self, path: &ObjectPath) -> Result<ObjectInfo>;

    /// The whole object with its version. Errors: `NotFound`.
    async fn get_versioned(&self, path: &ObjectPath) -> Result<(Bytes, Version)>;

    /// Writes an object that must not exist yet. Errors: `AlreadyExists`; after `Transient` it may or may not be there.
    async fn create(&self, path: &ObjectPath, bytes: Bytes) -> Result<Version>;

    /// Replaces an object whose version is still `expected`. Errors: `Conflict` (also if it is gone).
    async fn replace(&self, path: &ObjectPath, bytes: Bytes, expected: &Version) -> Result<Version>;

    /// All objects below a folder, recursively, sorted by name. A folder that is not there is empty.
    async fn list(&self, folder: &ObjectPath) -> Result<Vec<ObjectInfo>>;

    /// The names of the folders directly in a folder (`None`: the top), sorted.
    async fn list_folders(&self, folder: Option<&ObjectPath>) -> Result<Vec<String>>;

    /// Deletes an object; one that is not there is no error.
    async fn delete(&self, path: &ObjectPath) -> Result<()>;

    /// Removes what killed writers left behind (staging files older than `older_than`); returns how many.
    async fn sweep_staging(&self, folder: &ObjectPath, older_than: std::time::Duration) -> Result<u64>;
}
