//! Whether a database is sound, by what PostgreSQL itself finds when it reads all of it.

use copal_core::{CheckLevel, CheckReport, Context, EngineResult};
use serde::Deserialize;

use crate::relations;
use crate::session::Session;

/// Reads the catalog, at the full level every row of every table, and looks for indexes that were not finished.
pub(crate) fn run(session: &mut Session, level: CheckLevel, context: &Context) -> EngineResult<CheckReport> {
    #[derive(Deserialize)]
    struct Found {
        name: String,
    }
    let mut report = CheckReport { ran: vec!["connect".to_owned(), "indexes".to_owned()], ..CheckReport::default() };
    let invalid: Vec<Found> = session.rows(
        "SELECT i.indexrelid::regclass::text AS name FROM pg_catalog.pg_index i WHERE NOT i.indisvalid \
         AND NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = i.indexrelid AND c.relkind = 'I')",
    )?;
    report.problems.extend(invalid.into_iter().map(|found| format!("the index {} is not valid", found.name)));
    if level == CheckLevel::Full {
        report.ran.push("read every table".to_owned());
        let relations = relations::of(session)?;
        for relation in relations.iter().filter(|relation| matches!(relation.kind, 'r' | 'm') && relation.is_readable) {
            context.cancel.check()?;
            // As text, so that every value is really looked at, long ones included.
            let query = format!("SELECT count(octet_length(t::text)) AS name FROM ONLY {} AS t", relation.name);
            let populated = format!(
                "SELECT c.relispopulated::text AS name FROM pg_catalog.pg_class c WHERE c.oid = {}",
                relation.oid
            );
            if relation.kind == 'm' && session.rows::<Found>(&populated)?.iter().all(|found| found.name != "true") {
                continue;
            }
            let query = format!("SELECT name::text FROM ({query}) AS counted");
            if let Err(refusal) = session.try_rows::<Found>(&query)? {
                report.problems.push(format!("{} cannot be read: {}", relation.name, refusal.message.trim()));
            }
        }
    }
    Ok(report)
}
