//! Whose place a restore writes to, for those who ask for leave to replace what is there.

use std::sync::Arc;

use copal_core::Source;
use tokio::sync::OwnedSemaphorePermit;

use super::parse;
use crate::Result;
use crate::usecases::find::Found;
use crate::usecases::{Copal, RestoreOptions, on_own_thread};

/// The place that a restore writes to.
#[derive(Clone, PartialEq, Eq)]
pub struct RestorePlace {
    /// The database that is there by the configuration; the one that is restored if that knows none.
    pub database: String,
    /// The target as a URL or path, with its secrets.
    pub target: String,
}

impl std::fmt::Debug for RestorePlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RestorePlace").field("database", &self.database).finish_non_exhaustive()
    }
}

impl Copal {
    /// Tells whose place a restore writes to. The permit is held as long as the look takes, also if nobody waits for it any more.
    pub async fn restore_place(
        &self,
        database: &str,
        options: &RestoreOptions,
        permit: Option<Arc<OwnedSemaphorePermit>>,
    ) -> Result<RestorePlace> {
        let target = match options.to.as_deref() {
            Some(to) => parse(to)?,
            None => {
                let repository = self.repository().await?;
                let Found { database, .. } = self.found(repository, database).await?;
                let point = self.point(repository, &database, &options.backup).await?;
                self.source_of(&point.manifest)?
            }
        };
        let (copal, restored) = (self.clone(), database.to_owned());
        on_own_thread(move || {
            let _held = permit;
            RestorePlace { database: copal.at_place_of(&target, &restored), target: target.reveal() }
        })
        .await
    }

    /// The database whose place a target is; the one that is restored if the configuration knows none. Links are followed.
    pub(super) fn at_place_of(&self, target: &Source, restored: &str) -> String {
        self.configured_at(target, restored).unwrap_or_else(|| restored.to_owned())
    }
}
