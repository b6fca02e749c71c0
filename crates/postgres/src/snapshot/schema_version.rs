//! What the migration tool of the application calls the state of the schema.

use copal_core::{Context, SCHEMA_VERSION_QUERIES};
use serde::Deserialize;

use super::operation::Place;
use crate::others::Ended;
use crate::quote::{identifier, literal};

/// Asks the database of this name; what cannot be found out is not known. The session for it is counted as ours.
pub(super) fn of(place: &Place, database: &str, ended: &mut Ended, context: &Context) -> Option<String> {
    #[derive(Deserialize)]
    struct Table {
        schema: String,
        name: String,
    }
    #[derive(Deserialize)]
    struct Version {
        version: Option<String>,
    }
    let mut session = place.engine.connect(&place.address.with_database(database), context).ok()?;
    ended.ours.insert(session.pid);
    // A migration that is under way locks its table.
    session.run("SET lock_timeout = '500ms'").ok()?;
    session.run("SET statement_timeout = '2s'").ok()?;
    let names: Vec<String> = SCHEMA_VERSION_QUERIES.iter().map(|(table, _)| literal(table)).collect();
    let found: Vec<Table> = session
        .rows(&format!(
            "SELECT n.nspname AS schema, c.relname AS name FROM pg_catalog.pg_class c \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p') AND c.relname IN ({}) \
             AND n.nspname !~ '^pg_' ORDER BY n.nspname <> 'public', n.nspname",
            names.join(", ")
        ))
        .ok()?;
    let (table, query) = SCHEMA_VERSION_QUERIES
        .iter()
        .find_map(|(name, query)| found.iter().find(|table| table.name == *name).map(|table| (table, query)))?;
    session.run(&format!("SET search_path = {}", identifier(&table.schema))).ok()?;
    let mut answer: Vec<Version> =
        session.rows(&format!("SELECT answer.version::text FROM ({query}) AS answer (version)")).ok()?;
    answer.pop()?.version
}
