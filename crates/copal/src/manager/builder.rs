//! How a manager is described before it exists.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use copal_core::{Keep, Source};

use super::BackupManager;
use super::saver::Saved;
use super::shared::Shared;
use crate::{Copal, CopalError};

pub(super) type OnFailure = Arc<dyn Fn(&CopalError, u32) + Send + Sync>;
pub(super) type OnSuccess = Arc<dyn Fn(&Saved) + Send + Sync>;

/// What a manager goes by.
#[derive(Clone)]
pub(super) struct Terms {
    pub(super) interval: Duration,
    pub(super) min_interval: Duration,
    pub(super) incremental: bool,
    pub(super) max_deltas: u32,
    pub(super) keep: Option<Keep>,
    pub(super) busy_wait: Duration,
    pub(super) on_failure: Option<OnFailure>,
    pub(super) on_success: Option<OnSuccess>,
}

/// A manager to be built; every value has a default.
#[derive(Clone)]
#[must_use]
pub struct BackupManagerBuilder {
    copal: Copal,
    database: String,
    terms: Terms,
}

impl BackupManagerBuilder {
    pub(super) fn new(copal: Copal, database: String) -> Self {
        let terms = Terms {
            interval: Duration::from_secs(300),
            min_interval: Duration::from_secs(5),
            incremental: false,
            max_deltas: 10,
            keep: None,
            busy_wait: Duration::from_secs(30),
            on_failure: None,
            on_success: None,
        };
        Self { copal, database, terms }
    }

    /// From the beginning of one regular backup to that of the next; 5 minutes unless set.
    pub fn backup_interval(mut self, interval: Duration) -> Self {
        self.terms.interval = interval;
        self
    }

    /// A change is saved no earlier than this after the beginning of the backup before; 5 seconds unless set.
    pub fn min_backup_interval(mut self, interval: Duration) -> Self {
        self.terms.min_interval = interval;
        self
    }

    /// Append what happened to the journal, where the engine has one; not unless set.
    pub fn incremental(mut self, incremental: bool) -> Self {
        self.terms.incremental = incremental;
        self
    }

    /// After so many segments of the journal the next backup is a full one; 10 unless set.
    pub fn max_deltas_before_full(mut self, deltas: u32) -> Self {
        self.terms.max_deltas = deltas;
        self
    }

    /// After a full backup, drop those that no rule wants. Unless set nothing is dropped, whatever the configuration says.
    pub fn keep(mut self, keep: Keep) -> Self {
        self.terms.keep = Some(keep);
        self
    }

    /// How long it is tried again while somebody else works on the database, before that is a failure; 30 seconds unless set.
    pub fn busy_wait(mut self, wait: Duration) -> Self {
        self.terms.busy_wait = wait;
        self
    }

    /// Is told of every failure and of how many there are in a row, on a thread where it may block; a panic in it harms nobody.
    pub fn on_backup_failure(mut self, tell: impl Fn(&CopalError, u32) + Send + Sync + 'static) -> Self {
        self.terms.on_failure = Some(Arc::new(tell));
        self
    }

    /// Is told of everything that was saved, likewise; not of a look that found nothing changed.
    pub fn on_backup_success(mut self, tell: impl Fn(&Saved) + Send + Sync + 'static) -> Self {
        self.terms.on_success = Some(Arc::new(tell));
        self
    }

    /// The manager, which does nothing until it is started or asked.
    pub fn build(self) -> BackupManager {
        BackupManager::new(Arc::new(Shared::new(self.copal, self.database, self.terms)))
    }
}

impl fmt::Debug for BackupManagerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackupManagerBuilder").field("database", &Source::shown(&self.database)).finish_non_exhaustive()
    }
}
