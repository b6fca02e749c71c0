//! Where Copal keeps its objects: a durable local folder or an object store, behind one small trait.
//!
//! Owns durability (an answered write survives a power cut), conditional writes, retries of transient
//! errors, leases and fault injection. Knows nothing of backups: objects are names and bytes.

mod error;
mod path;
mod storage;

pub use error::{Result, StorageError, StorageErrorKind};
pub use path::{InvalidPath, ObjectPath};
pub use storage::{ObjectInfo, Storage, Version};
