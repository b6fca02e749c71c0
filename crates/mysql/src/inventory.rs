//! What is in a database: tables with their rows.

use copal_core::{Context, EngineResult, Inventory, TableCount};

use crate::catalogue::Schema;
use crate::quote::table;
use crate::session::Session;

/// Counts in one view.
pub(crate) fn now(session: &mut Session, database: &str, context: &Context) -> EngineResult<Inventory> {
    let mut inventory = Inventory::default();
    let Some(schema) = Schema::read(session, database)? else { return Ok(inventory) };
    session.run("START TRANSACTION WITH CONSISTENT SNAPSHOT")?;
    for found in schema.tables.iter().filter(|table| !table.is_sequence) {
        context.cancel.check()?;
        let rows = session.number(&format!("SELECT count(*) FROM {}", table(database, &found.name)))?;
        inventory.tables.push(TableCount { name: found.name.clone(), rows });
    }
    session.run("ROLLBACK")?;
    for kind in ["VIEW", "PROCEDURE", "FUNCTION", "TRIGGER", "EVENT"] {
        let count = schema.of_kind(kind).count();
        inventory.facts.insert(format!("{}s", kind.to_lowercase()), count.to_string());
    }
    let sequences = schema.tables.iter().filter(|table| table.is_sequence).count();
    inventory.facts.insert("sequences".to_owned(), sequences.to_string());
    inventory.facts.insert("charset".to_owned(), format!("{} {}", schema.charset, schema.collation));
    Ok(inventory)
}
