//! Copal's repository: what makes a backup exist, stay whole and come back.
//!
//! docs/format.md is the normative page of everything written here; docs/architecture.md tells how the files of this
//! crate stand to each other. Knows nothing of any engine: content comes in through `copal_core::Sink` and
//! goes out through `copal_core::Content`.

mod abort;
mod backup;
mod buffers;
mod catalog;
mod config;
mod document;
mod error;
mod frame;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod journal;
mod keys;
mod layout;
mod listing;
mod manifest_rules;
mod operation;
mod pack;
mod pack_table;
mod page_map;
mod plan;
mod prune;
mod reader;
mod repository;
mod salvage;
mod seal;
mod session;
mod state;
mod verify;
mod wrap;
mod writer;

pub use backup::{BackupFacts, BackupSession, BackupSink, CommittedBackup};
pub use catalog::{Catalog, Database, Manifest};
pub use config::Encryption;
pub use error::{RepositoryError, RepositoryErrorKind, Result};
pub use journal::{
    CommittedSegment, Journal, JournalListing, MissingSegments, Segment, SegmentFacts, SegmentSession, SegmentSummary,
};
pub use layout::Mark;
pub use listing::{DamagedBackup, Listing, Summary};
pub use prune::{PruneRules, Pruned};
pub use reader::{BackupContent, Damaged};
pub use repository::{Look, Repository, RepositoryOptions, Wrap};
pub use state::StateFolder;
pub use wrap::{Unlock, WrapKind};
pub use writer::WriteOptions;
