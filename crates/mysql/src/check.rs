//! Whether a database is sound, by the server's own CHECK TABLE.

use copal_core::{CheckLevel, CheckReport, Context, EngineResult};

use crate::quote::{literal, table};
use crate::session::Session;

/// Checks every table and view; the full level also every page and every link in it.
pub(crate) fn run(
    session: &mut Session,
    database: &str,
    level: CheckLevel,
    context: &Context,
) -> EngineResult<CheckReport> {
    let mut report = CheckReport::default();
    if level == CheckLevel::None {
        return Ok(report);
    }
    let option = if level == CheckLevel::Full { "EXTENDED" } else { "QUICK" };
    report.ran.push(format!("CHECK TABLE … {option}"));
    let tables = session.texts(&format!(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = {} AND table_type <> 'SEQUENCE' ORDER BY 1",
        literal(database)
    ))?;
    for name in tables {
        context.cancel.check()?;
        for row in session.rows(&format!("CHECK TABLE {} {option}", table(database, &name)))? {
            let cells: Vec<_> = row.into_iter().map(Option::unwrap_or_default).collect();
            let [_, _, kind, text] = cells.as_slice() else { continue };
            // `note`, `info` and `status` say that all is well, or that an engine cannot be checked.
            if kind.eq_ignore_ascii_case("error") || kind.eq_ignore_ascii_case("warning") {
                report.problems.push(format!("{name}: {text}"));
            }
        }
    }
    Ok(report)
}
