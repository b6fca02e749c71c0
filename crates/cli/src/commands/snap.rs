//! `copal snap`.

use std::time::Instant;

use clap::Args;
use copal::{DatabaseNote, Result, SnapOptions, SnapOutcome, SnapshotSummary};

use crate::output::{bytes, clean, elapsed, plural};
use crate::session::Session;

/// Take an instant snapshot, to go back to in a second.
///
/// A snapshot lies beside its database, on the same server or disk: it is there at once, and gone with that disk, so it does
/// not replace a backup. Of several databases, all are taken under one name or none is. Databases may be in use;
/// PostgreSQL's sessions are ended for the moment of the copy, and named.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  copal snap                          all databases of copal.toml, named by the time
  copal snap before-import            … under a name
  copal snap -d ./app.db              one database; works without any setup
  copal snap clean -d shop --replace  in the place of the one that has this name")]
pub(crate) struct Arguments {
    /// What to call it; the local time if left out.
    name: Option<String>,
    #[command(flatten)]
    pub(super) which: Which,
    /// What it is taken for: one word, shown by `copal snaps`.
    #[arg(long, value_name = "WORD")]
    label: Option<String>,
    /// Make a second copy ready, so that the first rewind, too, is but a renaming.
    #[arg(long)]
    spare: bool,
    /// Remove the snapshot that has this name, once the new one is taken.
    #[arg(long, requires = "name")]
    replace: bool,
}

/// Which databases a command about snapshots is for.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Which {
    /// A name, URL or path, instead of all databases of copal.toml; repeatable.
    #[arg(short, long = "database", value_name = "DATABASE")]
    pub(super) databases: Vec<String>,
}

/// Runs the command.
pub(crate) async fn run(arguments: &Arguments, session: &Session) -> Result<()> {
    let copal = session.copal()?;
    let options = SnapOptions {
        name: arguments.name.clone(),
        databases: arguments.which.databases.clone(),
        label: arguments.label.clone(),
        spare: arguments.spare,
        replace: arguments.replace,
        folder: std::env::current_dir().ok(),
    };
    let began = Instant::now();
    let outcome = session.watch("snap", async |context| copal.snap(options, context).await).await?;
    session.output.result(&outcome);
    session.output.done(&render(&outcome, began));
    Ok(())
}

fn render(outcome: &SnapOutcome, began: Instant) -> String {
    let snapshot = &outcome.snapshot;
    let size = size(snapshot).map(|size| format!(": {}", bytes(size))).unwrap_or_default();
    let mut lines = vec![format!(
        "Took the snapshot {} of {}{size} in {}",
        clean(&snapshot.name),
        databases(snapshot),
        elapsed(began.elapsed())
    )];
    if !outcome.replaced.is_empty() {
        lines.push(format!("Removed {} of the same name", plural(outcome.replaced.len(), "snapshot")));
    }
    lines.extend(notes(&outcome.notes));
    lines.join("\n")
}

/// The databases that a snapshot has, by name.
pub(super) fn databases(snapshot: &SnapshotSummary) -> String {
    let names: Vec<_> = snapshot.databases.iter().map(|part| clean(&part.database)).collect();
    names.join(", ")
}

/// The size of all its databases together, if it is known of each.
pub(super) fn size(snapshot: &SnapshotSummary) -> Option<u64> {
    snapshot.databases.iter().map(|part| part.bytes).sum()
}

/// One line for each remark.
pub(super) fn notes(notes: &[DatabaseNote]) -> impl Iterator<Item = String> {
    notes.iter().map(|note| format!("{}: {}", clean(&note.database), clean(&note.note)))
}
