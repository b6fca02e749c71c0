//! `copal show`.

use clap::Args;
use copal::{BackupDetails, BackupSummary, Inventory, JournalSegment, Result};

use super::{facts, marks};
use crate::choice::{self, BackupArgument};
use crate::output::{Align, Sparks, Style, Table, bytes, local_time, plural};
use crate::session::Session;

/// Show everything about one backup, and how the database and its backups grew.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  copal show shop                          the newest backup
  copal show shop 20261120-153000Z-7f3a    this one; the beginning of its id is enough")]
pub(crate) struct Arguments {
    /// A name, URL or path.
    database: String,
    /// The backup's id, the beginning of one, or `latest`.
    #[arg(default_value = "latest", value_parser = choice::argument)]
    backup: BackupArgument,
}

/// Runs the command.
pub(crate) async fn run(arguments: &Arguments, session: &Session) -> Result<()> {
    let copal = session.copal()?;
    let backup = choice::resolve(&copal, &arguments.database, &arguments.backup).await?;
    let details = copal.show(&arguments.database, backup).await?;
    session.output.result(&details);
    if !session.output.is_json() {
        // The backup could be shown; what damage may lie around it is for `copal list` to tell.
        let listed = copal.list(Some(&arguments.database)).await.unwrap_or_default();
        let backups: Vec<_> = listed.into_iter().flat_map(|listing| listing.backups).collect();
        session.output.text(&render(&details, &backups, session.output.style, session.output.is_verbose()));
    }
    Ok(())
}

fn render(details: &BackupDetails, backups: &[BackupSummary], style: Style, is_verbose: bool) -> String {
    let backup = &details.summary;
    let mut sections = vec![facts(
        style,
        &[
            ("Backup", style.bold(backup.id.as_str())),
            ("Database", backup.database.to_string()),
            ("Source", details.source.clone()),
            ("Time", local_time(backup.time)),
            ("Label", backup.label.clone().unwrap_or_default()),
            ("Marks", marks(backup)),
            ("Predecessor", details.predecessor.as_ref().map(ToString::to_string).unwrap_or_default()),
        ],
    )];
    sections.push(facts(
        style,
        &[
            ("Size", bytes(backup.logical_bytes)),
            ("Added", format!("{} to the repository", bytes(backup.added_bytes))),
            ("Restoring reads", format!("{} in {}", bytes(backup.stored_bytes), plural(details.packs, "pack"))),
            (
                "Files",
                details
                    .files
                    .iter()
                    .map(|(name, length)| format!("{name}, {}", bytes(*length)))
                    .collect::<Vec<_>>()
                    .join("\n"),
            ),
        ],
    ));
    if backups.len() > 1 {
        sections.push(growth(backups, style));
    }
    sections.push(facts(
        style,
        &[
            ("Captured", local_time(details.captured_at)),
            ("Engine", format!("{} {}", backup.engine, details.engine_version)),
            ("Host", details.host.clone()),
            ("Copal", details.copal_version.clone()),
            ("Position", details.position.clone().unwrap_or_default()),
        ],
    ));
    if !details.journal.is_empty() {
        sections.push(journal(&details.journal, style, is_verbose));
    }
    let inventory = &details.inventory;
    if !inventory.tables.is_empty() {
        sections.push(tables(inventory, style, is_verbose));
    }
    if !inventory.facts.is_empty() {
        let lines: Vec<_> = inventory.facts.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        sections.push(facts(style, &lines));
    }
    if !details.notes.is_empty() {
        sections.push(facts(style, &[("Notes", details.notes.join("\n"))]));
    }
    sections.join("\n\n")
}

/// How sizes went from the oldest backup to the newest.
fn growth(backups: &[BackupSummary], style: Style) -> String {
    let sparks = Sparks::of_stdout();
    let line = |size: fn(&BackupSummary) -> u64| sparks.line(&backups.iter().map(size).collect::<Vec<_>>());
    let lines = facts(
        style,
        &[
            ("Size", line(|backup| backup.logical_bytes)),
            ("Added", line(|backup| backup.added_bytes)),
            ("Restoring reads", line(|backup| backup.stored_bytes)),
        ],
    );
    format!("{}\n{lines}", style.dim(&format!("{}, oldest to newest", plural(backups.len(), "backup"))))
}

/// How many segments are listed without `-v`: the newest.
const MOST_SEGMENTS: usize = 20;

/// What happened after the backup.
fn journal(segments: &[JournalSegment], style: Style, is_verbose: bool) -> String {
    let mut table = Table::new(&[("SEGMENT", Align::Left), ("TIME", Align::Left), ("ADDED", Align::Right)]);
    let shown = if is_verbose { segments.len() } else { MOST_SEGMENTS };
    let passed_over = segments.len().saturating_sub(shown);
    for segment in segments.iter().skip(passed_over) {
        table.row([segment.id.to_string(), local_time(segment.time), bytes(segment.added_bytes)]);
    }
    let mut text = table.render(style);
    if passed_over > 0 {
        text.push_str(&format!("\n… and {passed_over} before them (-v shows all)"));
    }
    text
}

/// How many tables are listed without `-v`.
const MOST_TABLES: usize = 20;

fn tables(inventory: &Inventory, style: Style, is_verbose: bool) -> String {
    let counts = &inventory.tables;
    let mut table = Table::new(&[("TABLE", Align::Left), ("ROWS", Align::Right)]);
    let shown = if is_verbose { counts.len() } else { MOST_TABLES };
    for count in counts.iter().take(shown) {
        let rows = match (count.rows, inventory.estimates.get(&count.name)) {
            (Some(rows), _) => rows.to_string(),
            (None, Some(estimate)) => format!("about {estimate}"),
            (None, None) => "not counted".to_owned(),
        };
        table.row([count.name.clone(), rows]);
    }
    let mut text = table.render(style);
    if counts.len() > shown {
        text.push_str(&format!("\n… and {} more (-v shows all)", counts.len() - shown));
    }
    text
}
