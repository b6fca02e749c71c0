//! What engines whose databases are files have in common: snapshots that are plain files beside the database, and the small
//! things that their restores share.
//!
//! Knows no engine: what is special about one is behind [`FileEngine`]. Its invariant: a snapshot is there if and only if its
//! main file and a sound description of it are both there under their names. `snapshots` says what a kill can leave.

mod content;
mod delegate;
mod description;
pub mod descriptor;
mod engine;
mod error;
mod folder;
#[cfg(feature = "testkit")]
mod reflinks;
mod rewind;
mod settle;
mod snapshots;
mod staging;
mod step;

pub use engine::{Described, FileEngine};
pub use error::{io_failed, storage_failed};
pub use snapshots::FileSnapshots;
pub use step::step;

/// What the tests of engines need.
#[cfg(feature = "testkit")]
pub mod testing {
    pub use crate::reflinks::Reflinks;
    pub use crate::step::testing::{abort_at, fail_at};
}
