//! The engine's errors for those of the local file layer.

use std::path::Path;

use copal_core::{EngineError, EngineErrorKind};
use copal_storage::{StorageError, StorageErrorKind};

/// The engine's error for one of the local file layer.
pub fn storage_failed(error: StorageError) -> EngineError {
    let kind = match error.kind() {
        StorageErrorKind::NotFound => EngineErrorKind::NotFound,
        StorageErrorKind::AlreadyExists => EngineErrorKind::Exists,
        StorageErrorKind::PermissionDenied => EngineErrorKind::PermissionDenied,
        StorageErrorKind::NoSpace => EngineErrorKind::NoSpace,
        StorageErrorKind::Configuration | StorageErrorKind::Unsupported => EngineErrorKind::Unsupported,
        _ => EngineErrorKind::Other,
    };
    let mut mapped = EngineError::new(kind, error.message.clone());
    mapped.hint = error.hint.clone();
    match error.source {
        Some(source) => mapped.because(source),
        None => mapped,
    }
}

/// The engine's error for one of the operating system's about a path.
pub fn io_failed(doing: &str, path: &Path, error: std::io::Error) -> EngineError {
    storage_failed(copal_storage::local_file::io_failed(doing, path, error))
}
