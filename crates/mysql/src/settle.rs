//! What killed processes left: finished, undone or dropped. The table in `lib.rs` says which.

use copal_core::{Context, EngineErrorKind, EngineResult};

use crate::names::{Kind, SNAPSHOT, SPARE};
use crate::quote::{identifier, literal, table};
use crate::rewind::Plan;
use crate::session::Session;
use crate::step::step;
use crate::stored::with_table;

/// Finishes, undoes and drops, or only says so. The caller holds the database's lock.
pub(crate) fn settle(
    session: &mut Session,
    database: &str,
    key: &str,
    dry_run: bool,
    context: &Context,
) -> EngineResult<Vec<String>> {
    let mut notes = Vec::new();
    let (mut left, mut others) = (Vec::new(), Vec::new());
    // What is aside last: a plan in another schema may be about it.
    for kind in [Kind::Working, Kind::Spare, Kind::Aside] {
        for schema in kind.all(session, key)? {
            let plan = match Plan::find(session, &schema) {
                Err(error) if error.kind == EngineErrorKind::Corrupt => {
                    context.warn(format!("{schema} is left alone: {error}"));
                    others.push(Kind::Aside.beside(&schema));
                    continue;
                }
                found => found?,
            };
            match plan {
                // Of a database whose name has the same hash.
                Some(plan) if plan.of != database => others.push(Kind::Aside.beside(&schema)),
                Some(plan) => {
                    end_statements(session, &schema, dry_run)?;
                    let is_begun = plan.is_begun(session)?;
                    let done = match (is_begun, dry_run) {
                        (true, false) => "finished",
                        (true, true) => "would finish",
                        (false, false) => "undid",
                        (false, true) => "would undo",
                    };
                    notes.push(format!("{done} a rewind of the database {database:?} that was interrupted"));
                    if !dry_run {
                        plan.advance(session, &mut notes, context)?;
                    }
                    if !is_begun {
                        left.push((kind, schema));
                    }
                }
                None if others.contains(&schema) => {}
                None => left.push((kind, schema)),
            }
        }
    }
    let mut complete = Vec::new();
    for schema in with_table(session, Kind::Snapshot, key, SNAPSHOT)? {
        // The row makes it complete.
        if session.text(&format!("SELECT 1 FROM {}", table(&schema, SNAPSHOT)))?.is_some() {
            complete.push(schema);
        }
    }
    let spares = with_table(session, Kind::Spare, key, SPARE)?;
    left.extend(Kind::Snapshot.all(session, key)?.into_iter().map(|schema| (Kind::Snapshot, schema)));
    for (kind, schema) in left {
        let is_good = match kind {
            Kind::Snapshot => complete.contains(&schema),
            Kind::Spare => spares.contains(&schema) && complete.contains(&Kind::Snapshot.beside(&schema)),
            Kind::Working | Kind::Aside => false,
        };
        // Finishing a rewind may have dropped it already.
        if is_good || !dry_run && !kind.all(session, key)?.contains(&schema) {
            continue;
        }
        end_statements(session, &schema, dry_run)?;
        if !dry_run {
            session.run(&format!("DROP DATABASE IF EXISTS {}", identifier(&schema)))?;
            step("leftover dropped")?;
        }
        let what = match kind {
            Kind::Snapshot => "a snapshot that was being made or removed",
            Kind::Spare => "a spare copy that was being made or removed",
            Kind::Working => "a copy for a rewind that did not take place",
            Kind::Aside => "what a rewind had put aside",
        };
        let done = if dry_run { "would drop" } else { "dropped" };
        notes.push(format!("{done} {schema}: {what}"));
    }
    Ok(notes)
}

/// Ends what a killed process has left running in a schema: the server finishes a statement though nobody waits for it.
fn end_statements(session: &mut Session, schema: &str, dry_run: bool) -> EngineResult<()> {
    if dry_run {
        return Ok(());
    }
    let found = session.texts(&format!(
        "SELECT id FROM information_schema.processlist WHERE db = {} AND id <> connection_id()",
        literal(schema)
    ))?;
    for id in found {
        let _ = session.try_run(&format!("KILL {id}"))?;
    }
    Ok(())
}
