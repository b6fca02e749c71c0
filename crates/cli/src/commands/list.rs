//! `copal list`.

use clap::Args;
use copal::{BackupSummary, Copal, CopalError, DamagedObject, DatabaseListing, ErrorKind, JournalSegment, Result};
use serde::Serialize;

use super::{damage_lines, marks};
use crate::output::{Align, Output, Table, bytes, clean, local_time, plural};
use crate::session::Session;

/// List backups, newest last.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  copal list            every database of the repository
  copal list shop       one of them
  copal list --json | jq -r '.results[].id'")]
pub(crate) struct Arguments {
    /// A name, URL or path; all databases if left out.
    database: Option<String>,
}

/// A backup and its journal.
#[derive(Serialize)]
struct BackupResult<'a> {
    #[serde(flatten)]
    backup: &'a BackupSummary,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    journal: &'a [JournalSegment],
}

/// Something damaged, in its place among the results.
#[derive(Serialize)]
struct DamagedResult<'a> {
    #[serde(flatten)]
    object: &'a DamagedObject,
    error: DamageError<'a>,
}

#[derive(Serialize)]
struct DamageError<'a> {
    kind: &'static str,
    message: &'a str,
    causes: [String; 0],
    hint: Option<String>,
}

/// Runs the command.
pub(crate) async fn run(arguments: &Arguments, session: &Session) -> Result<()> {
    let copal = session.copal()?;
    let listings = match copal.list(arguments.database.as_deref()).await {
        Ok(listings) => listings,
        Err(error) => return Err(explain(error, &copal)),
    };
    let output = &session.output;
    if output.is_json() {
        for listing in &listings {
            for backup in &listing.backups {
                output.result(&BackupResult { backup, journal: journal_of(listing, backup) });
            }
            listing.damaged.iter().for_each(|object| output.result(&damaged_result(object)));
        }
    } else if listings.is_empty() {
        let place = clean(&copal.settings().repository);
        output.done(&format!("No backups in {place} yet. Make one: copal backup DATABASE"));
    } else {
        output.text(&listings.iter().map(|listing| render(listing, output)).collect::<Vec<_>>().join("\n\n"));
    }
    report_damage(&listings, output);
    Ok(())
}

/// A repository that is not there yet is what newcomers see first.
fn explain(error: CopalError, copal: &Copal) -> CopalError {
    if error.kind() == ErrorKind::NotFound && copal.settings().repository_is_default && error.hint().is_none() {
        return error.with_hint("copal backup ./app.db makes one; or name another with --repository");
    }
    error
}

fn journal_of<'a>(listing: &'a DatabaseListing, backup: &BackupSummary) -> &'a [JournalSegment] {
    listing.journal.get(&backup.id).map(Vec::as_slice).unwrap_or_default()
}

fn damaged_result(object: &DamagedObject) -> DamagedResult<'_> {
    let error = DamageError { kind: ErrorKind::Damage.as_str(), message: &object.problem, causes: [], hint: None };
    DamagedResult { object, error }
}

fn render(listing: &DatabaseListing, output: &Output) -> String {
    let style = output.style;
    let name = if listing.name == listing.database.as_str() { String::new() } else { format!("  {}", listing.name) };
    let heading =
        format!("{}{}  {}", style.bold(listing.database.as_str()), clean(&name), style.dim(&clean(&listing.source)));
    let mut table = Table::new(&[
        ("ID", Align::Left),
        ("TIME", Align::Left),
        ("SIZE", Align::Right),
        ("ADDED", Align::Right),
        ("MARKS", Align::Left),
        ("LABEL", Align::Left),
    ])
    .indented(2);
    for backup in &listing.backups {
        table.row([
            backup.id.to_string(),
            local_time(backup.time),
            bytes(backup.logical_bytes),
            bytes(backup.added_bytes),
            marks(backup),
            backup.label.clone().unwrap_or_default(),
        ]);
        if let Some(row) = journal_row(journal_of(listing, backup)) {
            table.row(row);
        }
    }
    let mut lines = vec![heading];
    match listing.backups.is_empty() {
        true => lines.push("  no backups".into()),
        false => lines.push(table.render(style)),
    }
    if !listing.damaged.is_empty() {
        lines.push(damage_lines(&listing.damaged, style));
    }
    lines.join("\n")
}

/// What happened after a backup, in one line; `copal show` tells each segment.
fn journal_row(segments: &[JournalSegment]) -> Option<[String; 6]> {
    let last = segments.last()?;
    let added = segments.iter().map(|segment| segment.added_bytes).sum();
    let what = format!("  + {}", plural(segments.len(), "segment"));
    let none = String::new;
    Some([what, local_time(last.time), none(), bytes(added), none(), none()])
}

fn report_damage(listings: &[DatabaseListing], output: &Output) {
    let damaged: Vec<_> = listings.iter().filter(|listing| !listing.damaged.is_empty()).collect();
    if damaged.is_empty() {
        return;
    }
    let objects = damaged.iter().map(|listing| listing.damaged.len()).sum::<usize>();
    let names: Vec<_> = damaged.iter().map(|listing| listing.database.as_str()).collect();
    let message = format!("{} of {} missing or damaged", plural(objects, "object"), names.join(", "));
    let error = CopalError::new(ErrorKind::Damage, message);
    output.found(&error.with_hint("copal verify --backup all tells which backups are still whole"));
}
