//! The journal's part of the engine contract: what happened to a database after a state that is saved, in order.
//!
//! docs/format.md, "Journal", says how it is kept. A segment is captured like a backup, into a sink, and read like one: a
//! `Content` gives those that follow the backup by `Content::segments`.

use crate::{Capture, Context, EngineResult, Sink, Source};

/// An engine that can tell what happened since a position.
pub trait Journal: Send + Sync {
    /// Pushes everything that happened since `since`, the position of the last saved state, into `sink` as streams. The capture
    /// names the position that is reached and what the database contains there. `None`: nothing happened, and nothing was pushed.
    /// Errors: `Gap` if that is no longer known, so that only a full backup helps.
    ///
    /// What was told stays known until the capture after the next position, so a segment that could not be saved is captured
    /// again with what happened meanwhile.
    fn capture_since(
        &self,
        source: &Source,
        since: &str,
        sink: &mut dyn Sink,
        context: &Context,
    ) -> EngineResult<Option<Capture>>;
}
