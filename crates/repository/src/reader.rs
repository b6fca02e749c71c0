//! Reading the content of a backup back: page maps leaf by leaf, frames once, every page compared with its digest.
//!
//! Restoring and verifying are the same code with another target, so that what was verified is what would be restored.

mod backup;
mod content;
mod frames;
mod kept;
mod stream;
mod stream_walk;
mod walk;

pub use backup::BackupContent;
pub use content::Damaged;
pub(crate) use frames::FrameSource;
pub(crate) use stream_walk::StreamWalk;
pub(crate) use walk::MapWalk;
