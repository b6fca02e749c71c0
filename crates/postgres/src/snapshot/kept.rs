//! What is kept on the server: databases that are snapshots or spare copies of them, each with a comment that says so.

use copal_core::{EngineResult, Snapshot};
use serde::{Deserialize, Serialize};

use super::copying::REFLINK;
use crate::properties::Properties;
use crate::quote::literal;
use crate::session::Session;

/// In front of the descriptions; another number is another form, which is left alone.
const SNAPSHOT: &str = "copal snapshot 1 ";
const SPARE: &str = "copal spare 1 ";

/// The comment of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Description {
    /// The database that it is one of.
    pub(super) of: String,
    pub(super) snapshot: Snapshot,
    /// What the database had when it was taken.
    pub(super) properties: Properties,
}

impl Description {
    pub(super) fn comment(&self) -> String {
        format!("{SNAPSHOT}{}", serde_json::to_string(self).unwrap_or_default())
    }
}

/// The comment of a spare copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SpareOf {
    of: String,
    /// The snapshot's database.
    snapshot: String,
}

/// The comment of a spare copy of this snapshot.
pub(super) fn spare_comment(of: &str, snapshot: &str) -> String {
    let spare = SpareOf { of: of.to_owned(), snapshot: snapshot.to_owned() };
    format!("{SPARE}{}", serde_json::to_string(&spare).unwrap_or_default())
}

/// A complete snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeptSnapshot {
    /// The database that it is.
    pub(super) database: String,
    pub(super) description: Description,
    /// Whether it lets somebody in, as it does while it is backed up.
    pub(super) is_open: bool,
    /// Complete spare copies.
    pub(super) spares: Vec<String>,
}

/// What is kept of one database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    /// Oldest first.
    pub(super) snapshots: Vec<KeptSnapshot>,
    /// Spare copies of snapshots that are not there any more.
    pub(super) orphans: Vec<String>,
}

impl Kept {
    /// Looks, with one query.
    pub(super) fn read(server: &mut Session, of: &str) -> EngineResult<Self> {
        #[derive(Deserialize)]
        struct Found {
            name: String,
            comment: String,
            is_open: bool,
        }
        let found: Vec<Found> = server.rows(&format!(
            "SELECT d.datname AS name, s.description AS comment, d.datallowconn AS is_open FROM pg_catalog.pg_database d \
             JOIN pg_catalog.pg_shdescription s ON s.objoid = d.oid AND s.classoid = 'pg_catalog.pg_database'::regclass \
             WHERE starts_with(s.description, {}) OR starts_with(s.description, {})",
            literal(SNAPSHOT),
            literal(SPARE)
        ))?;
        let (mut kept, mut spares) = (Self::default(), Vec::new());
        for Found { name: database, comment, is_open } in found {
            if let Some(text) = comment.strip_prefix(SNAPSHOT).filter(|_| super::is_snapshot(&database)) {
                match serde_json::from_str::<Description>(text) {
                    Ok(description) if description.of == of => {
                        kept.snapshots.push(KeptSnapshot { database, description, is_open, spares: Vec::new() });
                    }
                    Ok(_) => {}
                    Err(error) => tracing::warn!(database, %error, "a snapshot's description cannot be read"),
                }
            } else if let Some(text) = comment.strip_prefix(SPARE).filter(|_| super::is_spare(&database))
                && let Ok(spare) = serde_json::from_str::<SpareOf>(text)
                && spare.of == of
            {
                spares.push((database, spare.snapshot));
            }
        }
        kept.snapshots.sort_by(|a, b| a.description.snapshot.id.cmp(&b.description.snapshot.id));
        for (database, of) in spares {
            match kept.snapshots.iter_mut().find(|snapshot| snapshot.database == of) {
                Some(snapshot) => snapshot.spares.push(database),
                None => kept.orphans.push(database),
            }
        }
        Ok(kept)
    }
}

impl KeptSnapshot {
    /// As it is listed.
    pub(super) fn listed(self) -> Snapshot {
        let mut snapshot = self.description.snapshot;
        let copies = 1 + self.spares.len() as u64;
        // What shares its blocks takes none, until one of the two is changed.
        snapshot.used_bytes = snapshot.bytes.filter(|_| snapshot.method != REFLINK).map(|bytes| bytes * copies);
        snapshot.has_spare = !self.spares.is_empty();
        snapshot
    }
}
