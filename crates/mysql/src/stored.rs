//! What a snapshot says of itself: one row of a table in its own schema.

use copal_core::{EngineError, EngineErrorKind, EngineResult, Snapshot, SnapshotId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::catalogue::Schema;
use crate::names::{Kind, SNAPSHOT, SPARE};
use crate::quote::{literal, table};
use crate::session::Session;

/// Some hundred at once: the statement stays well below what a server takes, and few round trips do for many.
const AT_ONCE: usize = 200;

/// A complete snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stored {
    /// The database's name.
    pub(crate) of: String,
    /// What is told of it.
    pub(crate) snapshot: Snapshot,
    /// The schema that it is in.
    #[serde(skip)]
    pub(crate) schema: String,
}

/// Makes the table, without a row.
pub(crate) fn prepare(session: &mut Session, schema: &str) -> EngineResult<()> {
    session.run(&format!(
        "CREATE TABLE {} (id INT PRIMARY KEY, used_bytes BIGINT UNSIGNED NOT NULL, description LONGTEXT NOT NULL, \
         objects LONGTEXT NOT NULL) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4",
        table(schema, SNAPSHOT)
    ))
}

impl Stored {
    /// Makes the snapshot complete.
    pub(crate) fn write(&self, session: &mut Session, objects: &Schema, used_bytes: u64) -> EngineResult<()> {
        session.run(&format!(
            "INSERT INTO {} VALUES (1, {used_bytes}, {}, {})",
            table(&self.schema, SNAPSHOT),
            literal(&to_json(self)),
            literal(&to_json(objects))
        ))
    }

    /// Replaces the description, in one step.
    pub(crate) fn replace(&self, session: &mut Session) -> EngineResult<()> {
        let place = table(&self.schema, SNAPSHOT);
        session.run(&format!("UPDATE {place} SET description = {}", literal(&to_json(self))))
    }

    /// The objects of the database at that time.
    pub(crate) fn objects(&self, session: &mut Session) -> EngineResult<Schema> {
        let text = session.text(&format!("SELECT objects FROM {}", table(&self.schema, SNAPSHOT)))?;
        from_json(&text.unwrap_or_default(), &self.schema)
    }

    /// The complete snapshots of a database, oldest first.
    pub(crate) fn all(session: &mut Session, database: &str, key: &str) -> EngineResult<Vec<Self>> {
        let spares = with_table(session, Kind::Spare, key, SPARE)?;
        let mut all = Vec::new();
        for schemas in with_table(session, Kind::Snapshot, key, SNAPSHOT)?.chunks(AT_ONCE) {
            let parts = schemas.iter().map(|schema| {
                format!("SELECT {}, used_bytes, description FROM {}", literal(schema), table(schema, SNAPSHOT))
            });
            let query = parts.collect::<Vec<_>>().join(" UNION ALL ");
            let rows = match session.ask(&query)? {
                Ok(rows) => rows,
                // One was removed meanwhile, or has other columns: ask each.
                Err(refusal) if refusal.is_absence() || refusal.is_change() => {
                    let mut rows = Vec::new();
                    for part in query.split(" UNION ALL ") {
                        rows.extend(session.ask(part)?.unwrap_or_default());
                    }
                    rows
                }
                Err(refusal) => return Err(session.refused(&refusal)),
            };
            for row in rows {
                let [Some(schema), Some(used), Some(text)] = row.as_slice() else { continue };
                let mut stored: Self = match from_json(text, schema) {
                    Ok(stored) => stored,
                    Err(error) => {
                        let cause = error.source.as_ref().map(ToString::to_string);
                        tracing::warn!(schema, %error, cause, "a snapshot's description cannot be read");
                        continue;
                    }
                };
                if stored.of == database {
                    stored.schema.clone_from(schema);
                    stored.snapshot.used_bytes = used.parse().ok();
                    stored.snapshot.has_spare = spares.contains(&Kind::Spare.beside(schema));
                    all.push(stored);
                }
            }
        }
        all.sort_by(|a, b| a.snapshot.id.cmp(&b.snapshot.id));
        Ok(all)
    }

    /// One of them.
    pub(crate) fn find(session: &mut Session, database: &str, key: &str, id: &SnapshotId) -> EngineResult<Self> {
        let found = Self::all(session, database, key)?.into_iter().find(|stored| stored.snapshot.id == *id);
        found.ok_or_else(|| {
            let message = format!("the database {database:?} has no snapshot {id}");
            EngineError::new(EngineErrorKind::NotFound, message).hint("copal snaps lists those that there are")
        })
    }
}

/// The schemas of a kind that have this table.
pub(crate) fn with_table(session: &mut Session, kind: Kind, key: &str, name: &str) -> EngineResult<Vec<String>> {
    let mut found = Vec::new();
    for schemas in kind.all(session, key)?.chunks(AT_ONCE) {
        let names: Vec<_> = schemas.iter().map(|schema| literal(schema)).collect();
        found.extend(session.texts(&format!(
            "SELECT table_schema FROM information_schema.tables WHERE table_name = {} AND table_schema IN ({})",
            literal(name),
            names.join(", ")
        ))?);
    }
    Ok(found)
}

/// As it is kept.
pub(crate) fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// What was kept in this schema.
pub(crate) fn from_json<T: DeserializeOwned>(text: &str, schema: &str) -> EngineResult<T> {
    serde_json::from_str(text).map_err(|e| {
        let message = format!("what {schema} says of itself cannot be read");
        EngineError::new(EngineErrorKind::Corrupt, message).hint("a newer Copal may have made it").because(e)
    })
}
