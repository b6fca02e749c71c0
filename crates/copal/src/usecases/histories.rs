//! What the repository knows of runs that happened before: when the newest backups were begun, and the newest verified ones.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::Copal;
use crate::schedule::{History, Past};
use crate::{ErrorKind, Result};

impl Copal {
    /// What is known of runs of these databases, for a planner. Of what has no backups nothing is known.
    pub(crate) async fn histories(&self, databases: &[String]) -> Result<BTreeMap<String, History>> {
        let mut histories = BTreeMap::new();
        for name in databases {
            match self.history(name).await {
                Ok(history) => drop(histories.insert(name.clone(), history)),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(histories)
    }

    async fn history(&self, name: &str) -> Result<History> {
        let repository = self.repository().await?;
        // A whole server is as old as the oldest of its databases.
        let (mut backup, mut drill): (Option<Timestamp>, Option<Timestamp>) = (None, None);
        // Of a server that is away nothing is known, and that keeps no other database waiting.
        let Ok(members) = self.members(name).await else { return Ok(History::default()) };
        for (position, member) in members.iter().enumerate() {
            let database = self.found(repository, member).await?.database;
            let catalog = repository.catalog(&database.name).await?;
            let (newest, verified) = (catalog.newest().cloned(), catalog.verified.last().cloned());
            let captured = match newest {
                Some(id) => match repository.manifest(&database, &id).await {
                    Ok(manifest) => Some(manifest.body.captured_at),
                    Err(error) if error.is_damage() => None,
                    Err(error) => return Err(error.into()),
                },
                None => None,
            };
            let verified = verified.map(|id| id.time());
            (backup, drill) = match position {
                0 => (captured, verified),
                _ => (backup.min(captured), drill.min(verified)),
            };
        }
        let past = |time: Option<Timestamp>| Past { last_start: time, last_success: time };
        Ok(History { backup: past(backup), drill: past(drill) })
    }
}
