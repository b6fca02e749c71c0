//! `copal snaps`.

use clap::{Args, Subcommand};
use copal::{Copal, ErrorKind, GcOptions, GcOutcome, Result, SnapshotListing, SnapshotSummary, parse_duration};
use jiff::{SignedDuration, Timestamp};

use super::snap::{Which, databases, size};
use crate::output::{Align, Output, Table, age, bytes, clean, plural};
use crate::session::Session;

/// List, remove, rename and clear up snapshots.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  copal snaps                                  what snapshots there are
  copal snaps remove before-import
  copal snaps rename before-import clean
  copal snaps gc --keep 10 --older-than 30d    what goes: beyond the newest ten, or older than 30 days
  copal snaps gc --dry-run                     what killed commands have left"
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    which: Which,
}

/// What to do with snapshots.
#[derive(Debug, Subcommand)]
enum Action {
    /// List them, newest last.
    List {
        #[command(flatten)]
        which: Which,
    },
    /// Remove one, of all databases that have a part of it.
    Remove {
        /// Its name, id or the beginning of an id.
        snapshot: String,
        #[command(flatten)]
        which: Which,
    },
    /// Give one another name.
    #[command(after_help = "\
Example:
  copal snaps rename before-import clean")]
    Rename {
        /// Its name, id or the beginning of an id.
        old: String,
        /// The new name.
        new: String,
        #[command(flatten)]
        which: Which,
    },
    /// Clear up what killed commands have left, and remove snapshots beyond limits.
    ///
    /// Without a limit no snapshot goes, also if its database is gone: it may be the last copy there is.
    Gc(GcArguments),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  copal snaps gc                               what killed commands have left
  copal snaps gc --keep 10 --older-than 30d    also what is beyond the newest ten, or older than 30 days
  copal snaps gc --keep 3 --label pre-migrate  only of those that `copal migrate` took")]
struct GcArguments {
    /// Remove snapshots that are older: 36h, 5d, 2w.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    older_than: Option<SignedDuration>,
    /// Remove all but the newest N of each database.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    keep: Option<u32>,
    /// Count and remove only those with this label.
    #[arg(long, value_name = "WORD")]
    label: Option<String>,
    /// Only say what would go.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    which: Which,
}

impl Arguments {
    /// The command's name in JSON.
    pub(crate) fn name(&self) -> &'static str {
        match self.action {
            None | Some(Action::List { .. }) => "snaps list",
            Some(Action::Remove { .. }) => "snaps remove",
            Some(Action::Rename { .. }) => "snaps rename",
            Some(Action::Gc(_)) => "snaps gc",
        }
    }
}

/// Runs the command.
pub(crate) async fn run(arguments: &Arguments, session: &Session) -> Result<()> {
    let copal = session.copal()?;
    match &arguments.action {
        None => list(&copal, &arguments.which, session).await,
        Some(Action::List { which }) => list(&copal, which, session).await,
        Some(Action::Remove { snapshot, which }) => {
            let removed = session.watch("snaps remove", async |context| {
                copal.remove_snapshot(snapshot, &which.databases, context).await
            });
            let removed = removed.await?;
            session.output.result(&removed);
            session.output.done(&format!("Removed the snapshot {} of {}", clean(&removed.name), databases(&removed)));
            Ok(())
        }
        Some(Action::Rename { old, new, which }) => {
            let renamed = session.watch("snaps rename", async |context| {
                copal.rename_snapshot(old, new, &which.databases, context).await
            });
            let renamed = renamed.await?;
            session.output.result(&renamed);
            session.output.done(&format!("The snapshot of {} is called {} now", databases(&renamed), clean(new)));
            Ok(())
        }
        Some(Action::Gc(arguments)) => gc(&copal, arguments, session).await,
    }
}

async fn list(copal: &Copal, which: &Which, session: &Session) -> Result<()> {
    let output = &session.output;
    let found = session.watch("snaps", async |context| copal.snapshots(&which.databases, context).await).await?;
    let SnapshotListing { snapshots, failures } = found;
    snapshots.iter().for_each(|snapshot| output.result(snapshot));
    if !snapshots.is_empty() {
        output.text(&render(&snapshots, output));
    } else if failures.is_empty() {
        output.done("There is no snapshot yet. Take one: copal snap");
    }
    failures.iter().for_each(|(database, error)| output.failure(Some(database), error));
    Ok(())
}

fn render(snapshots: &[SnapshotSummary], output: &Output) -> String {
    let mut table = Table::new(&[
        ("NAME", Align::Left),
        ("AGE", Align::Right),
        ("SIZE", Align::Right),
        ("USED", Align::Right),
        ("DATABASES", Align::Left),
        ("LABEL", Align::Left),
        ("BRANCH", Align::Left),
        ("SCHEMA", Align::Left),
        ("", Align::Left),
    ]);
    let now = Timestamp::now();
    for snapshot in snapshots {
        let parts = &snapshot.databases;
        let known: Vec<u64> = parts.iter().filter_map(|part| part.used_bytes).collect();
        let used = match known.len() {
            // Blocks that a clone has in common with others belong to nobody.
            0 => "shared".to_owned(),
            n if n < parts.len() => format!("{} + shared", bytes(known.iter().sum())),
            _ => bytes(known.iter().sum()),
        };
        let schemas: Vec<_> = parts.iter().filter_map(|part| part.schema_version.as_deref()).collect();
        let missing = match snapshot.missing.is_empty() {
            true => String::new(),
            false => format!("not found: {}", snapshot.missing.join(", ")),
        };
        table.row([
            snapshot.name.clone(),
            age(snapshot.time, now),
            size(snapshot).map(bytes).unwrap_or_default(),
            used,
            databases(snapshot),
            snapshot.label.clone().unwrap_or_default(),
            snapshot.git_branch.clone().unwrap_or_default(),
            schemas.join(", "),
            missing,
        ]);
    }
    table.render(output.style)
}

async fn gc(copal: &Copal, arguments: &GcArguments, session: &Session) -> Result<()> {
    let options = GcOptions {
        databases: arguments.which.databases.clone(),
        older_than: arguments.older_than,
        keep: arguments.keep,
        label: arguments.label.clone(),
        dry_run: arguments.dry_run,
    };
    let outcomes = session.watch("snaps gc", async |context| copal.gc_snapshots(&options, context).await).await?;
    for (database, outcome) in outcomes {
        match outcome {
            Ok(outcome) => {
                session.output.result(&outcome);
                session.output.done(&gc_lines(&outcome));
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
            Err(error) => session.output.failure(Some(&database), &error),
        }
    }
    Ok(())
}

fn gc_lines(outcome: &GcOutcome) -> String {
    let verb = if outcome.dry_run { "would go" } else { "gone" };
    let (database, count) = (clean(&outcome.database), plural(outcome.removed.len(), "snapshot"));
    let mut lines = vec![format!("{database}: {count} {verb}, {} kept", outcome.kept)];
    lines.extend(outcome.removed.iter().map(|gone| format!("  {}  {} {verb}", gone.id, clean(&gone.name))));
    lines.extend(outcome.settled.iter().map(|settled| format!("  {}", clean(settled))));
    lines.join("\n")
}
