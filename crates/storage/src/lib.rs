//! Where Copal keeps its objects: a durable local folder or an object store, behind one small trait.
//!
//! Owns durability (an answered write survives a power cut), conditional writes, retries of transient
//! errors, leases and fault injection. Knows nothing of backups: objects are names and bytes.

mod call;
mod clock;
mod commit;
mod config;
mod error;
pub mod fault;
mod io_error;
pub mod lease;
mod local;
pub mod local_file;
mod memory;
mod open;
mod path;
mod probe;
mod remote;
mod retry;
pub mod stepped;
mod storage;
#[cfg(feature = "testkit")]
pub mod testkit;
mod url;

pub use call::{Call, Method};
pub use clock::{Clock, SystemClock};
pub use commit::{Committed, commit};
pub use config::{S3Options, Secret, StorageOptions};
pub use error::{Result, StorageError, StorageErrorKind};
pub use local::LocalStorage;
pub use memory::MemoryStorage;
pub use open::{create, open};
pub use path::{InvalidPath, ObjectPath};
pub use probe::prove_conditional_writes;
pub use remote::ObjectStorage;
pub use retry::{RetryPolicy, Retrying};
pub use storage::{ObjectInfo, Storage, Version};
pub use url::StorageUrl;
