//! The contract of a storage.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{ObjectPath, Result, StorageError, StorageErrorKind};

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

/// The state of one object, for conditional replacement. Opaque; equal if and only if the object was not written since
/// (a store that derives it from the content cannot tell a rewrite with equal content, so content that is replaced
/// carries something that never repeats).
///
/// One that `create` returned may keep the written bytes alive, so it is not for keeping unless it is needed.
#[derive(Clone)]
pub struct Version(Repr);

#[derive(Clone)]
enum Repr {
    /// What the store calls it.
    Tag(String),
    /// Named by its content, hashed only when it is compared: most objects are created and never replaced.
    Content(Bytes),
}

impl Version {
    /// A version by the store's own name for it.
    pub(crate) fn from_tag(tag: String) -> Self {
        Self(Repr::Tag(tag))
    }

    /// A version by content.
    pub(crate) fn of_content(bytes: &Bytes) -> Self {
        Self(Repr::Content(bytes.clone()))
    }

    /// The name by which versions are compared.
    pub(crate) fn tag(&self) -> Cow<'_, str> {
        match &self.0 {
            Repr::Tag(tag) => Cow::Borrowed(tag),
            Repr::Content(bytes) => Cow::Owned(blake3::hash(bytes).to_hex().to_string()),
        }
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.tag() == other.tag()
    }
}

impl Eq for Version {}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Version").field(&self.tag()).finish()
    }
}

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

    /// The names of the folders directly in a folder (`None`: the top) that hold an object, sorted.
    async fn list_folders(&self, folder: Option<&ObjectPath>) -> Result<Vec<String>>;

    /// Deletes an object; one that is not there is no error.
    async fn delete(&self, path: &ObjectPath) -> Result<()>;

    /// Removes what killed writers left behind (staging files older than `older_than`); returns how many.
    async fn sweep_staging(&self, folder: &ObjectPath, older_than: std::time::Duration) -> Result<u64>;

    /// The storage under a wrapper that retries, for callers that must decide about every retry themselves.
    fn without_retries(&self) -> Option<&dyn Storage> {
        None
    }
}

/// The length of a range as an allocation.
pub(crate) fn range_length(range: &Range<u64>) -> Result<usize> {
    let length = range.end.checked_sub(range.start).and_then(|n| usize::try_from(n).ok());
    length.ok_or_else(|| StorageError::new(StorageErrorKind::Other, format!("{range:?} is no range of bytes")))
}
