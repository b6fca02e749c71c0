//! How the errors of the layers below become the library's own.

use copal_core::{Cancelled, EngineError, EngineErrorKind};
use copal_repository::{RepositoryError, RepositoryErrorKind};
use copal_storage::{StorageError, StorageErrorKind};

use crate::{CopalError, ErrorKind};

fn storage_kind(kind: StorageErrorKind) -> ErrorKind {
    match kind {
        StorageErrorKind::NotFound => ErrorKind::NotFound,
        StorageErrorKind::AlreadyExists => ErrorKind::Exists,
        StorageErrorKind::Conflict => ErrorKind::Busy,
        StorageErrorKind::Truncated => ErrorKind::Damage,
        StorageErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
        StorageErrorKind::NoSpace => ErrorKind::NoSpace,
        StorageErrorKind::Transient => ErrorKind::Unavailable,
        StorageErrorKind::Configuration => ErrorKind::Configuration,
        StorageErrorKind::Unsupported => ErrorKind::Unsupported,
        StorageErrorKind::Other => ErrorKind::Failed,
    }
}

impl From<StorageError> for CopalError {
    fn from(error: StorageError) -> Self {
        let new = Self::new(storage_kind(error.kind()), error.to_string());
        let new = match &error.hint {
            Some(hint) => new.with_hint(hint.clone()),
            None => new,
        };
        new.because(error)
    }
}

impl From<RepositoryError> for CopalError {
    fn from(error: RepositoryError) -> Self {
        let kind = match error.kind() {
            RepositoryErrorKind::NotFound => ErrorKind::NotFound,
            RepositoryErrorKind::Exists => ErrorKind::Exists,
            RepositoryErrorKind::Passphrase => ErrorKind::Passphrase,
            RepositoryErrorKind::Damage => ErrorKind::Damage,
            RepositoryErrorKind::Tampering => ErrorKind::Tampering,
            RepositoryErrorKind::Replay => ErrorKind::Replay,
            RepositoryErrorKind::Rollback => ErrorKind::Rollback,
            RepositoryErrorKind::Gap => ErrorKind::Gap,
            RepositoryErrorKind::Busy => ErrorKind::Busy,
            RepositoryErrorKind::Pruned => ErrorKind::Pruned,
            RepositoryErrorKind::Cancelled => ErrorKind::Interrupted,
            RepositoryErrorKind::Unsupported => ErrorKind::Unsupported,
            RepositoryErrorKind::Usage => ErrorKind::Usage,
            RepositoryErrorKind::Storage(kind) => storage_kind(kind),
            RepositoryErrorKind::Local if is_full(&error) => ErrorKind::NoSpace,
            RepositoryErrorKind::Local => ErrorKind::Failed,
        };
        let mut message = error.to_string();
        // An object's name says little to whoever has many databases; say whose it is, where the text does not.
        if let (Some(database), true) = (&error.database, error.is_damage()) {
            let whose = match &error.backup {
                Some(backup) => format!("backup {backup} of {database}"),
                None => database.to_string(),
            };
            message = format!("{whose} is damaged: {message}");
        }
        let new = Self::new(kind, message);
        let new = match (&error.hint, kind) {
            (Some(hint), _) => new.with_hint(hint.clone()),
            (None, ErrorKind::Damage) => new.with_hint(
                "see what is unharmed with: copal verify --backup all; a new backup does not share what is damaged",
            ),
            (None, ErrorKind::NoSpace) => new.with_hint("free some space and run the command again"),
            _ => new,
        };
        new.because(error)
    }
}

fn is_full(error: &RepositoryError) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(e) = next {
        if let Some(io) = e.downcast_ref::<std::io::Error>() {
            use std::io::ErrorKind::{QuotaExceeded, StorageFull};
            return matches!(io.kind(), StorageFull | QuotaExceeded);
        }
        next = e.source();
    }
    false
}

impl From<EngineError> for CopalError {
    fn from(mut error: EngineError) -> Self {
        let kind = match error.kind() {
            // The repository's own error says more than the engine, through which it came.
            EngineErrorKind::Repository => match error.source.take().map(|s| s.downcast::<RepositoryError>()) {
                Some(Ok(repository)) => return Self::from(*repository),
                Some(Err(other)) => {
                    error.source = Some(other);
                    ErrorKind::Failed
                }
                None => ErrorKind::Failed,
            },
            EngineErrorKind::NotFound => ErrorKind::NotFound,
            EngineErrorKind::NotThisEngine | EngineErrorKind::Unsupported => ErrorKind::Unsupported,
            EngineErrorKind::Corrupt | EngineErrorKind::Encrypted => ErrorKind::Corrupt,
            EngineErrorKind::Busy => ErrorKind::Busy,
            EngineErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
            EngineErrorKind::Exists => ErrorKind::Exists,
            EngineErrorKind::NoSpace => ErrorKind::NoSpace,
            EngineErrorKind::Gap => ErrorKind::Gap,
            EngineErrorKind::Cancelled => ErrorKind::Interrupted,
            EngineErrorKind::Other => ErrorKind::Failed,
        };
        let new = Self::new(kind, error.to_string());
        let new = match &error.hint {
            Some(hint) => new.with_hint(hint.clone()),
            None => new,
        };
        new.because(error)
    }
}

#[cfg(feature = "memory")]
impl From<copal_memory::MemoryError> for CopalError {
    fn from(error: copal_memory::MemoryError) -> Self {
        use copal_memory::MemoryErrorKind;
        let kind = match error.kind() {
            MemoryErrorKind::Exists => ErrorKind::Exists,
            MemoryErrorKind::NotFound => ErrorKind::NotFound,
            MemoryErrorKind::Mismatch => ErrorKind::Usage,
            MemoryErrorKind::Gap => ErrorKind::Gap,
            MemoryErrorKind::Damaged => ErrorKind::Corrupt,
            MemoryErrorKind::Unsupported => ErrorKind::Unsupported,
            MemoryErrorKind::Busy => ErrorKind::Busy,
            MemoryErrorKind::Cancelled => ErrorKind::Interrupted,
            MemoryErrorKind::Other => ErrorKind::Failed,
        };
        Self::new(kind, error.to_string()).because(error)
    }
}

impl From<Cancelled> for CopalError {
    fn from(cancelled: Cancelled) -> Self {
        Self::new(ErrorKind::Interrupted, cancelled.to_string())
    }
}
