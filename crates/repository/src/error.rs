//! What can go wrong in a repository, carrying what it was about.

use copal_core::{BackupId, Cancelled, DatabaseId, FolderName};
use copal_storage::{ObjectPath, StorageError, StorageErrorKind};

/// Result of a repository call.
pub type Result<T> = std::result::Result<T, RepositoryError>;

/// The class of a repository error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RepositoryErrorKind {
    /// There is no repository, database or backup of that name.
    NotFound,
    /// There is one already.
    Exists,
    /// No passphrase or identity was given, or none that fits.
    Passphrase,
    /// An object is missing, truncated or changed.
    Damage,
    /// Somebody without the key changed what the key protects.
    Tampering,
    /// A document of another database or backup stands in this one's place.
    Replay,
    /// The repository is older than what this machine has seen.
    Rollback,
    /// The state that a segment is to go on from is not the end of the newest backup's journal: only a backup helps.
    Gap,
    /// Another operation holds the database's lease, or cancelled this one.
    Busy,
    /// The backup was pruned while it was read.
    Pruned,
    /// Cancelled from outside.
    Cancelled,
    /// Written by a newer version, or something this one cannot do.
    Unsupported,
    /// Wrong use by the caller.
    Usage,
    /// The storage failed; the source says how.
    Storage(StorageErrorKind),
    /// A local file (cache, scratch) failed.
    Local,
}

/// An error of a repository call.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct RepositoryError {
    /// The class.
    pub kind: RepositoryErrorKind,
    /// What happened, in one line.
    pub message: String,
    /// What the user can do, where that is known.
    pub hint: Option<String>,
    /// The database, where the error is about one.
    pub database: Option<FolderName>,
    /// The backup, likewise.
    pub backup: Option<BackupId>,
    /// The object, likewise.
    pub object: Option<ObjectPath>,
    /// The error underneath.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl RepositoryError {
    /// A new error.
    pub fn new(kind: RepositoryErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None, database: None, backup: None, object: None, source: None }
    }

    /// Damage of one object.
    pub fn damage(object: &ObjectPath, problem: impl std::fmt::Display) -> Self {
        let mut error = Self::new(RepositoryErrorKind::Damage, format!("{object}: {problem}"));
        error.object = Some(object.clone());
        error
    }

    /// A failure of a local file.
    pub fn local(what: impl Into<String>, source: std::io::Error) -> Self {
        Self::new(RepositoryErrorKind::Local, what).because(source)
    }

    /// The class.
    pub fn kind(&self) -> RepositoryErrorKind {
        self.kind
    }

    /// Whether the same call may succeed a little later.
    pub fn is_retryable(&self) -> bool {
        use RepositoryErrorKind::{Busy, Pruned, Storage};
        matches!(self.kind, Busy | Pruned | Storage(StorageErrorKind::Transient))
    }

    /// Whether content or documents are not what was written.
    pub fn is_damage(&self) -> bool {
        use RepositoryErrorKind::{Damage, Replay, Rollback, Tampering};
        matches!(self.kind, Damage | Tampering | Replay | Rollback)
    }

    /// Adds advice.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the error underneath.
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Names the database and the backup, where they are not named yet.
    pub fn about(mut self, database: &FolderName, backup: Option<&BackupId>) -> Self {
        self.database.get_or_insert_with(|| database.clone());
        if self.backup.is_none() {
            self.backup = backup.cloned();
        }
        self
    }
}

impl From<StorageError> for RepositoryError {
    fn from(error: StorageError) -> Self {
        Self {
            kind: RepositoryErrorKind::Storage(error.kind),
            message: error.message.clone(),
            hint: error.hint.clone(),
            database: None,
            backup: None,
            object: error.path.clone(),
            source: Some(Box::new(error)),
        }
    }
}

impl From<Cancelled> for RepositoryError {
    fn from(cancelled: Cancelled) -> Self {
        Self::new(RepositoryErrorKind::Cancelled, cancelled.to_string())
    }
}

/// A manifest in its own place whose database is not the one of the record: one of the two was exchanged.
#[derive(Debug, thiserror::Error)]
#[error("the manifest belongs to database {manifest}, the database record says {record}")]
pub(crate) struct OtherDatabase {
    pub(crate) manifest: DatabaseId,
    pub(crate) record: DatabaseId,
}

impl RepositoryError {
    /// Whether it may be the database record that was exchanged, rather than the manifest.
    pub(crate) fn is_other_database(&self) -> bool {
        self.source.as_ref().is_some_and(|source| source.is::<OtherDatabase>())
    }
}

/// The record of a database whose manifests are all another database's.
pub(crate) fn exchanged_record(database: &FolderName) -> RepositoryError {
    let object = crate::layout::database(database);
    let message = format!("{object}: is the record of another database, as no backup beside it belongs to this one");
    let mut error = RepositoryError::new(RepositoryErrorKind::Replay, message)
        .hint("bring the record back from another copy of the repository; until then these backups cannot be read");
    error.object = Some(object);
    error.about(database, None)
}

/// Whether an object is not there, as opposed to the whole folder or bucket.
pub(crate) fn is_absent(error: &StorageError) -> bool {
    error.kind() == StorageErrorKind::NotFound && !error.is_storage_gone()
}
