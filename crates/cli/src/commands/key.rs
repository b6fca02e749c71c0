//! `copal key`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use copal::config::read_passphrase_file;
use copal::{CopalError, ErrorKind, KeyChange, KeyInfo, Result, Secret};

use crate::output::{Align, Table, local_time};
use crate::prompt;
use crate::session::Session;

/// Manage passphrases and recovery keys.
///
/// The repository's own key never changes; each passphrase and each recovery key wraps it. Adding, changing and removing
/// them stores nothing again. Somebody who knew a removed passphrase and kept a copy of the repository as it was then
/// can still open that copy.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  copal key list
  copal key add --recovery-key age1…      somebody's public key; their identity file opens the repository
  copal key change                        a new passphrase instead of the one used now
  copal key remove 1f3a9c2e")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

/// What to do with the keys.
#[derive(Debug, Subcommand)]
enum Action {
    /// List passphrases and recovery keys.
    List,
    /// Add a passphrase or a recovery key.
    Add {
        /// An age recipient instead of a passphrase.
        #[arg(long, value_name = "AGE_RECIPIENT", conflicts_with = "new_passphrase_file")]
        recovery_key: Option<String>,
        #[command(flatten)]
        new: NewPassphrase,
    },
    /// Put a new passphrase in the place of the one that opens the repository now.
    Change {
        #[command(flatten)]
        new: NewPassphrase,
    },
    /// Remove a passphrase or recovery key; the last one stays.
    Remove {
        /// Its id, as in `copal key list`.
        id: String,
    },
}

/// Where a new passphrase comes from.
#[derive(Debug, Args)]
struct NewPassphrase {
    /// Read the new passphrase from this file instead of the terminal.
    #[arg(long, value_name = "FILE")]
    new_passphrase_file: Option<PathBuf>,
}

impl NewPassphrase {
    fn get(&self) -> Result<Secret> {
        match &self.new_passphrase_file {
            Some(path) => read_passphrase_file(path),
            None if prompt::is_possible() => prompt::choose(),
            None => Err(CopalError::new(ErrorKind::Usage, "there is no terminal to ask for the new passphrase")
                .with_hint("give it in a file: --new-passphrase-file FILE")),
        }
    }
}

impl Arguments {
    /// The command's name in JSON.
    pub(crate) fn name(&self) -> &'static str {
        match self.action {
            Action::List => "key list",
            Action::Add { .. } => "key add",
            Action::Change { .. } => "key change",
            Action::Remove { .. } => "key remove",
        }
    }
}

/// Runs the command.
pub(crate) async fn run(arguments: &Arguments, session: &Session) -> Result<()> {
    let copal = session.copal()?;
    let (keys, done) = match &arguments.action {
        Action::List => (copal.keys().await?, None),
        Action::Add { recovery_key: Some(recipient), .. } => {
            (copal.change_keys(KeyChange::AddRecipient(recipient.clone())).await?, Some("Recovery key added."))
        }
        Action::Add { new, .. } => {
            // A wrong old passphrase should be noticed before a new one is chosen.
            copal.keys().await?;
            (copal.change_keys(KeyChange::AddPassphrase(new.get()?)).await?, Some("Passphrase added."))
        }
        Action::Change { new } => {
            copal.keys().await?;
            (copal.change_keys(KeyChange::ChangePassphrase(new.get()?)).await?, Some("Passphrase changed."))
        }
        Action::Remove { id } => (copal.change_keys(KeyChange::Remove(id.clone())).await?, Some("Key removed.")),
    };
    keys.iter().for_each(|key| session.output.result(key));
    if let Some(done) = done {
        session.output.done(done);
    } else if !session.output.is_json() {
        session.output.text(&render(&keys, session));
    }
    Ok(())
}

fn render(keys: &[KeyInfo], session: &Session) -> String {
    let mut table =
        Table::new(&[("ID", Align::Left), ("KIND", Align::Left), ("ADDED", Align::Left), ("", Align::Left)]);
    for key in keys {
        let in_use = if key.in_use { "opened the repository now" } else { "" };
        table.row([key.id.clone(), key.kind.clone(), local_time(key.created), in_use.to_owned()]);
    }
    table.render(session.output.style)
}
