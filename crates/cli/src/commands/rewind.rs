//! `copal rewind`.

use std::time::Instant;

use clap::Args;
use copal::{Result, RewindOutcome, RewindRequest};

use super::snap::{Which, databases, notes};
use crate::output::{clean, elapsed, local_time};
use crate::session::Session;

/// Go back to a snapshot.
///
/// What the databases contain now is replaced, in one step each and only after everything is prepared; the snapshot
/// stays. Sessions of a PostgreSQL database are ended and can connect again at once. A SQLite or DuckDB file that a
/// process has open is refused, since that process would go on writing to what is gone.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  copal rewind                          the newest snapshot, all databases that it has
  copal rewind before-import            by its name
  copal rewind before-import -d shop    one database of it
  copal rewind -d ./app.db --force      although a program has the file open")]
pub(crate) struct Arguments {
    /// The snapshot's name, id or the beginning of an id; the newest if left out.
    snapshot: Option<String>,
    #[command(flatten)]
    which: Which,
    /// Replace a file although a process has it open; stop that at once, what it goes on writing is lost or, DuckDB, harms.
    #[arg(long)]
    force: bool,
    /// Make a second copy ready afterwards, so that the next rewind is but a renaming.
    #[arg(long)]
    spare: bool,
}

/// Runs the command.
pub(crate) async fn run(arguments: &Arguments, session: &Session) -> Result<()> {
    let copal = session.copal()?;
    let request = RewindRequest {
        snapshot: arguments.snapshot.clone(),
        databases: arguments.which.databases.clone(),
        force: arguments.force,
        spare: arguments.spare,
    };
    let began = Instant::now();
    let outcome = session.watch("rewind", async |context| copal.rewind(request, context).await).await?;
    session.output.result(&outcome);
    session.output.done(&render(&outcome, began));
    Ok(())
}

fn render(outcome: &RewindOutcome, began: Instant) -> String {
    let snapshot = &outcome.snapshot;
    let mut lines = vec![format!(
        "Went back to {} ({}): {} in {}",
        clean(&snapshot.name),
        local_time(snapshot.time),
        databases(snapshot),
        elapsed(began.elapsed())
    )];
    if !outcome.untouched.is_empty() {
        let names: Vec<_> = outcome.untouched.iter().map(|name| clean(name)).collect();
        lines.push(format!("Not in this snapshot, and left as they are: {}", names.join(", ")));
    }
    lines.extend(notes(&outcome.notes));
    lines.join("\n")
}
