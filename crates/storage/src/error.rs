//! What can go wrong in a storage, sorted by what the caller can do about it.

use std::ops::Range;

use crate::ObjectPath;

/// Result of a storage call.
pub type Result<T> = std::result::Result<T, StorageError>;

/// The class of a storage error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StorageErrorKind {
    /// The object is not there; or the whole folder or bucket (see [`StorageError::is_storage_gone`]).
    NotFound,
    /// `create` met an object of that name.
    AlreadyExists,
    /// `replace` met another version than the expected one.
    Conflict,
    /// The object is shorter than a requested range.
    Truncated,
    /// Wrong or missing keys, or no right to do this.
    PermissionDenied,
    /// The disk or the quota is full.
    NoSpace,
    /// Timeout, 5xx, connection lost: may succeed when tried again; the call may or may not have acted.
    Transient,
    /// The URL or an option cannot be used.
    Configuration,
    /// The store does not honour what Copal needs (conditional writes).
    Unsupported,
    /// Anything else.
    Other,
}

/// An error of a storage call, with the object it was about.
#[derive(Debug, thiserror::Error)]
#[error("{message}{}", path.as_ref().map(|p| format!(" ({p})")).unwrap_or_default())]
pub struct StorageError {
    /// The class, which decides about retries and exit codes.
    pub kind: StorageErrorKind,
    /// The object, where the call was about one.
    pub path: Option<ObjectPath>,
    /// What happened, without secrets.
    pub message: String,
    /// What the user can do, where that is known.
    pub hint: Option<String>,
    /// The error underneath.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl StorageError {
    /// A new error of `kind` about no particular object.
    pub fn new(kind: StorageErrorKind, message: impl Into<String>) -> Self {
        Self { kind, path: None, message: message.into(), hint: None, source: None }
    }

    /// The class.
    pub fn kind(&self) -> StorageErrorKind {
        self.kind
    }

    /// Whether the same call may succeed when tried again.
    pub fn is_retryable(&self) -> bool {
        self.kind == StorageErrorKind::Transient
    }

    /// Whether not just one object but the whole folder or bucket is missing.
    pub fn is_storage_gone(&self) -> bool {
        self.kind == StorageErrorKind::NotFound && self.path.is_none()
    }

    /// The whole folder or bucket is missing.
    pub(crate) fn storage_gone(message: impl Into<String>) -> Self {
        Self::new(StorageErrorKind::NotFound, message)
    }

    /// An object of `size` bytes ends before `range` does.
    pub(crate) fn truncated(range: &Range<u64>, size: u64) -> Self {
        let message = format!("the object has only {size} bytes where {} to {} are needed", range.start, range.end);
        Self::new(StorageErrorKind::Truncated, message)
    }

    /// Names the object.
    pub fn at(mut self, path: &ObjectPath) -> Self {
        self.path = Some(path.clone());
        self
    }

    /// Adds advice for the user.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the error underneath.
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}
