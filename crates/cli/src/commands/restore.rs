//! `copal restore`.

use std::time::Instant;

use clap::{Args, ValueEnum};
use copal::{BackupChoice, CheckLevel, Objects, RestoreOptions, RestoreOutcome, Result};
use jiff::Timestamp;

use crate::choice::{self, BackupArgument};
use crate::moment;
use crate::output::{bytes, clean, elapsed, local_time};
use crate::session::Session;

/// Bring a backup back.
///
/// What is there is never destroyed: an existing target is refused without --replace, and with it the restored
/// database is complete and checked before it takes the old one's place in one step.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  copal restore shop --to copy.db              the newest backup, to another place
  copal restore shop --replace                 the newest backup, to its original place
  copal restore shop --at yesterday --dry-run  look what would be done
  copal restore shop --backup 20261120-1530 --to copy.db
  copal restore shop --as-snapshot monday      … made a snapshot: copal rewind monday
  copal restore web --table public.orders      one table of a PostgreSQL database
  copal restore web --to file:web.pgdump       the archive, for pg_restore by hand")]
pub(crate) struct Arguments {
    /// A name, URL or path.
    database: String,
    /// The id of a backup, or of a segment of a journal, the beginning of one, or `latest`.
    #[arg(long, value_name = "ID", value_parser = choice::argument, conflicts_with = "at")]
    backup: Option<BackupArgument>,
    /// The newest state that is not later: a time, a date (its end), `yesterday`, `2h ago`.
    #[arg(long, value_name = "TIME", value_parser = moment::argument)]
    at: Option<Timestamp>,
    /// Where to: a path or URL (file:PATH for an archive of PostgreSQL or of a store in memory); the original place if left out.
    #[arg(long, value_name = "TARGET")]
    to: Option<String>,
    /// Make it a snapshot of this name, to which `copal rewind` goes back.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["to", "replace", "tables", "schemas", "dry_run"])]
    as_snapshot: Option<String>,
    /// Replace the database that is there.
    #[arg(long)]
    replace: bool,
    /// Leave the database that is replaced beside the new one (PostgreSQL).
    #[arg(long, requires = "replace")]
    keep_old: bool,
    /// Restore only this table, with its indexes and constraints, into the database that is there (PostgreSQL); repeatable.
    #[arg(long = "table", value_name = "NAME", conflicts_with = "replace")]
    tables: Vec<String>,
    /// Restore only this schema into the database that is there (PostgreSQL); repeatable.
    #[arg(long = "schema", value_name = "NAME", conflicts_with = "replace")]
    schemas: Vec<String>,
    /// Only look whether it could be done.
    #[arg(long)]
    dry_run: bool,
    /// How thoroughly to check the database before it takes its place.
    #[arg(long, value_enum, default_value = "quick")]
    check: Check,
}

/// `--check`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Check {
    /// The engine's quick check.
    Quick,
    /// Everything the engine can check.
    Full,
}

/// Runs the command.
pub(crate) async fn run(arguments: &Arguments, session: &Session) -> Result<()> {
    let copal = session.copal()?;
    let database = &arguments.database;
    let backup = match (&arguments.backup, arguments.at) {
        (Some(argument), _) => choice::resolve(&copal, database, argument).await?,
        (None, Some(at)) => BackupChoice::At(at),
        (None, None) => BackupChoice::Latest,
    };
    let options = RestoreOptions {
        backup,
        to: arguments.to.clone(),
        as_snapshot: arguments.as_snapshot.clone(),
        replace: arguments.replace,
        dry_run: arguments.dry_run,
        check: match arguments.check {
            Check::Quick => CheckLevel::Quick,
            Check::Full => CheckLevel::Full,
        },
        keep_old: arguments.keep_old,
        objects: Objects { tables: arguments.tables.clone(), schemas: arguments.schemas.clone() },
    };
    let began = Instant::now();
    let outcome = session.watch(database, async |context| copal.restore(database, options, context).await).await?;
    session.output.result(&outcome);
    session.output.done(&render(&outcome, began));
    Ok(())
}

fn render(outcome: &RestoreOutcome, began: Instant) -> String {
    let backup = &outcome.backup;
    let what = match &outcome.segment {
        Some(segment) => {
            let number = format!("segment {} of its journal", segment.sequence);
            format!("{} of {} up to {number} ({})", backup.id, backup.database, local_time(segment.time))
        }
        None => format!("{} of {} ({})", backup.id, backup.database, local_time(backup.time)),
    };
    let target = clean(&outcome.target);
    let mut lines = vec![match (outcome.dry_run, outcome.replaced) {
        (true, true) => format!("Would replace {target} by {what}: {}", bytes(backup.logical_bytes)),
        (true, false) => format!("Would restore {what} to {target}: {}", bytes(backup.logical_bytes)),
        (false, replaced) => {
            let replacing = if replaced { ", replacing what was there" } else { "" };
            let (size, time) = (bytes(backup.logical_bytes), elapsed(began.elapsed()));
            format!("Restored {what} to {target}{replacing}: {size} in {time}")
        }
    }];
    if !outcome.checks.is_empty() {
        lines.push(format!("Checked: {}", outcome.checks.join(", ")));
    }
    lines.extend(outcome.notes.iter().map(|note| clean(note)));
    lines.join("\n")
}
