//! `copal backup`.

use std::path::Path;
use std::time::Instant;

use clap::Args;
use copal::{BackupOptions, BackupOutcome, BackupSummary, Copal, CopalError, ErrorKind, Result};

use super::damage_lines;
use crate::output::{bytes, elapsed, plural};
use crate::session::Session;
use crate::{databases, run};

/// Back up databases, while they are in use.
///
/// Every backup is complete and restorable by itself; what has not changed since the one before is not stored again.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  copal backup ./app.db                    a path; works without any setup
  copal backup shop --label 'before 2.0'   a database of copal.toml
  copal backup --all                       every database of copal.toml
  copal backup shop --from-snapshot clean  a snapshot of it")]
pub(crate) struct Arguments {
    /// Names of copal.toml, URLs (sqlite:app.db, postgres://u@host/db, postgres://u@host/* for all of a server) or paths.
    #[arg(value_name = "DATABASE", required_unless_present = "all")]
    databases: Vec<String>,
    /// Every database of copal.toml.
    #[arg(long, conflicts_with = "databases")]
    all: bool,
    /// A remark, shown by `copal list`.
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,
    /// Keep this backup for ever, whatever the rules say.
    #[arg(long)]
    pin: bool,
    /// Back up this snapshot, by its name or id, instead of the database as it is now.
    #[arg(long, value_name = "NAME", conflicts_with = "all")]
    from_snapshot: Option<String>,
    /// Accept that this name stands for another database from now on.
    #[arg(long)]
    adopt: bool,
}

/// Runs the command.
pub(crate) async fn run(arguments: &Arguments, session: &Session) -> Result<()> {
    let copal = session.copal()?;
    let databases = if arguments.all { databases::configured(&copal)? } else { arguments.databases.clone() };
    let is_first = copal.settings().repository_is_default && !default_exists(&copal);
    let mut meant = Vec::new();
    for database in &databases {
        run::check(&session.cancel)?;
        match copal.members(database).await {
            Ok(members) => meant.extend(members),
            Err(error) => session.output.failure(Some(database), &error),
        }
    }
    for (index, database) in meant.iter().enumerate() {
        run::check(&session.cancel)?;
        let options = BackupOptions {
            label: arguments.label.clone(),
            pin: arguments.pin,
            adopt: arguments.adopt,
            from_snapshot: arguments.from_snapshot.clone(),
        };
        let began = Instant::now();
        let result = session.watch(database, async |context| copal.backup(database, options, context).await).await;
        match result {
            Ok(outcome) => {
                session.output.result(&outcome);
                session.output.done(&sentence(&outcome.backup, began));
                report_damage(&outcome, session);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                session.output.failure(Some(database), &error);
                return Ok(());
            }
            Err(error) => session.output.failure(Some(database), &error),
        }
        if index == 0 && is_first && default_exists(&copal) {
            introduce(&copal, session);
        }
    }
    Ok(())
}

/// Damage of earlier backups; the new one is whole.
fn report_damage(outcome: &BackupOutcome, session: &Session) {
    if outcome.damaged.is_empty() {
        return;
    }
    session.output.done(&damage_lines(&outcome.damaged, session.output.style));
    let (count, name) = (plural(outcome.damaged.len(), "object"), &outcome.backup.database);
    let error = CopalError::new(ErrorKind::Damage, format!("{count} of earlier backups of {name} missing or damaged"));
    let hint = format!("the new backup is whole; see what else is: copal verify {name} --backup all");
    session.output.found(&error.with_hint(hint));
}

fn default_exists(copal: &Copal) -> bool {
    Path::new(&copal.settings().repository).join("copal.json").exists()
}

/// Says once what the automatic repository is.
fn introduce(copal: &Copal, session: &Session) {
    let settings = copal.settings();
    let place = &settings.repository;
    session.output.notice(&if settings.passphrase.is_known() {
        format!("created the encrypted repository {place}; without its passphrase nobody can restore from it")
    } else {
        format!("created the repository {place}, not encrypted; for an encrypted one see copal init --help")
    });
}

fn sentence(backup: &BackupSummary, began: Instant) -> String {
    let BackupSummary { database, id, logical_bytes, added_bytes, .. } = backup;
    let (size, added, time) = (bytes(*logical_bytes), bytes(*added_bytes), elapsed(began.elapsed()));
    format!("Backed up {database} as {id}: {size}, {added} added, in {time}")
}
