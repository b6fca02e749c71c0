//! Jobs: what runs only when somebody asks for it, and what must not run beside it.

use std::collections::BTreeSet;

use copal::{BackupId, RestoreOptions, RewindRequest, SnapOptions, VerifyOptions};

use crate::run::TaskKind;

/// What runs only when somebody asks for it.
#[derive(Clone, Debug)]
pub enum Job {
    /// Reads backups back.
    Verify(VerifyOptions),
    /// Restores a backup.
    Restore {
        /// Which, and where to.
        options: Box<RestoreOptions>,
        /// The database whose place the target is, if that may be replaced and is another one's.
        over: Option<String>,
    },
    /// Drops the backups that no rule wants, if they are among those that somebody has seen.
    Prune {
        /// What was seen.
        only: BTreeSet<BackupId>,
    },
    /// Takes a snapshot.
    Snapshot(SnapOptions),
    /// Goes back to a snapshot.
    Rewind(RewindRequest),
}

impl Job {
    pub(super) fn kind(&self) -> TaskKind {
        match self {
            Self::Verify(_) => TaskKind::Verify,
            Self::Restore { .. } => TaskKind::Restore,
            Self::Prune { .. } => TaskKind::Prune,
            Self::Snapshot(_) => TaskKind::Snapshot,
            Self::Rewind(_) => TaskKind::Rewind,
        }
    }

    /// Whether no other run of the database may be under way: it puts something in the place of the database, or deletes backups.
    pub(super) fn is_alone(&self) -> bool {
        match self {
            Self::Restore { options, .. } => options.replace,
            Self::Prune { .. } | Self::Rewind(_) => true,
            Self::Verify(_) | Self::Snapshot(_) => false,
        }
    }

    /// Another database that it puts something in the place of.
    pub(super) fn over(&self) -> Option<&str> {
        match self {
            Self::Restore { over, .. } => over.as_deref(),
            _ => None,
        }
    }
}
