//! What the use cases answer that look before something is done: the plan of a restore, and who works on the repository.

use copal_core::FolderName;
use jiff::Timestamp;
use serde::Serialize;

use super::{BackupSummary, JournalSegment};

/// What a restore would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RestorePlan {
    /// The backup.
    pub backup: BackupSummary,
    /// The last segment of its journal that would be applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segment: Option<JournalSegment>,
    /// Where it would be restored to, without secrets.
    pub target: String,
    /// Whether that is the place that the backup was made of.
    pub is_original: bool,
    /// Whether something is there; none if that could not be found out.
    pub exists: Option<bool>,
    /// Whether something would have to be replaced.
    pub replaces: bool,
    /// The database that would be replaced or made, by its name in the configuration; else the one that is restored.
    pub at_place_of: String,
    /// Size of the restored database.
    pub logical_bytes: u64,
    /// Bytes of all objects that would be read.
    pub read_bytes: u64,
    /// The room at the target; none where that is not this machine's.
    pub space: Option<SpacePlan>,
    /// What makes it impossible.
    pub problems: Vec<String>,
    /// What somebody should know before.
    pub warnings: Vec<String>,
    /// Whether it can be done, with leave to replace if it replaces.
    pub is_possible: bool,
    /// The command that does it, for a POSIX shell.
    pub command: String,
}

/// The room at a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SpacePlan {
    /// Bytes that can still be written there.
    pub available_bytes: u64,
    /// Bytes that are needed there: what is replaced stays until the new database is complete.
    pub needed_bytes: u64,
    /// Whether that is enough.
    pub is_enough: bool,
}

impl SpacePlan {
    /// Compares what is free with what is needed.
    pub(crate) fn new(available_bytes: u64, needed_bytes: u64) -> Self {
        Self { available_bytes, needed_bytes, is_enough: available_bytes >= needed_bytes }
    }
}

/// An operation that has a database of the repository to itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeaseInfo {
    /// The database.
    pub database: FolderName,
    /// What is done, for example `backup`.
    pub operation: String,
    /// The machine that does it.
    pub host: String,
    /// The process there.
    pub pid: u32,
    /// Whether it is this process.
    pub is_own: bool,
    /// When it began, by the id of what it makes.
    pub since: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn space_is_enough_to_the_byte() {
        assert!(SpacePlan::new(0, 0).is_enough);
        assert!(SpacePlan::new(4096, 4096).is_enough);
        assert!(SpacePlan::new(u64::MAX, 4096).is_enough);
        assert!(!SpacePlan::new(4095, 4096).is_enough);
        assert!(!SpacePlan::new(0, u64::MAX).is_enough);
    }
}
