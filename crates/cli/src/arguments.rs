//! The command line as types: the global options and the list of commands. Each command's own arguments stand with it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::commands::{
    backup, changed, completions, doctor, init, key, list, migrate, notify, pin, prune, restore, rewind, serve, show,
    snap, snaps, status, token, verify,
};

const AFTER_HELP: &str = "\
Examples:
  copal backup ./app.db                   back up one SQLite file; no setup needed
  copal list                              what backups are there
  copal restore ./app.db --to copy.db     the newest backup, beside the original
  copal init -d sqlite:app.db             an encrypted repository and a copal.toml
  copal snap -d ./app.db                  put it aside, to go back in a second: copal rewind -d ./app.db

DATABASE is a name from copal.toml, a URL (sqlite:app.db) or a path.
`copal COMMAND --help` tells more about each command.";

const AFTER_LONG_HELP: &str = "\
Environment:
  COPAL_REPOSITORY        the repository, if --repository is not given
  COPAL_CONFIG            the configuration file, if --config is not given
  COPAL_PASSPHRASE        the repository's passphrase, or …
  COPAL_PASSPHRASE_FILE   … a file that holds it
  COPAL_IDENTITY_FILE     a file with an age identity (recovery key) instead of a passphrase
  COPAL_DAEMON            the URL of the daemon, if it is not where the configuration says
  COPAL_TOKEN             the token that the daemon asks for
  NO_COLOR                no colours, if set

Exit codes:
  0    done
  1    failed
  2    wrong usage, configuration or passphrase
  3    done, with warnings
  4    damage, tampering, replay or rollback found
  5    busy, or pruned meanwhile
  130  interrupted";

/// Preserves databases: complete, encrypted, verified backups of live databases, and their way back.
#[derive(Debug, Parser)]
#[command(
    name = "copal",
    version,
    max_term_width = 100,
    after_help = AFTER_HELP,
    after_long_help = format!("{AFTER_HELP}\n\n{AFTER_LONG_HELP}"),
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) options: GlobalOptions,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options that every command takes.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct GlobalOptions {
    /// Where backups live: a folder or s3://bucket/prefix.
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) repository: Option<String>,
    /// The configuration file, instead of the copal.toml that is found.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Print one JSON document on standard output and nothing else there.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print only what was asked for, warnings and errors.
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Tell more: notes, and how long each phase took.
    #[arg(long, short, global = true)]
    pub(crate) verbose: bool,
    /// Show no progress bar.
    #[arg(long, global = true)]
    pub(crate) no_progress: bool,
}

/// What is to be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Init(init::Arguments),
    Backup(backup::Arguments),
    List(list::Arguments),
    Show(show::Arguments),
    Restore(restore::Arguments),
    Verify(verify::Arguments),
    Prune(prune::Arguments),
    Pin(pin::Arguments),
    Unpin(pin::UnpinArguments),
    Snap(snap::Arguments),
    Rewind(rewind::Arguments),
    Snaps(snaps::Arguments),
    Migrate(migrate::Arguments),
    Key(key::Arguments),
    Status(status::Arguments),
    Serve(serve::Arguments),
    Changed(changed::Arguments),
    Notify(notify::Arguments),
    Token(token::Arguments),
    Doctor(doctor::Arguments),
    Completions(completions::Arguments),
    /// Prints docs/cli.md.
    #[command(hide = true)]
    GenerateDocs,
}

impl Command {
    /// Its name in JSON.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Init(_) => "init",
            Self::Backup(_) => "backup",
            Self::List(_) => "list",
            Self::Show(_) => "show",
            Self::Restore(_) => "restore",
            Self::Verify(_) => "verify",
            Self::Prune(_) => "prune",
            Self::Pin(_) => "pin",
            Self::Unpin(_) => "unpin",
            Self::Snap(_) => "snap",
            Self::Rewind(_) => "rewind",
            Self::Snaps(arguments) => arguments.name(),
            Self::Migrate(_) => "migrate",
            Self::Key(arguments) => arguments.name(),
            Self::Status(_) => "status",
            Self::Serve(_) => "serve",
            Self::Changed(_) => "changed",
            Self::Notify(arguments) => arguments.name(),
            Self::Token(arguments) => arguments.name(),
            Self::Doctor(_) => "doctor",
            Self::Completions(_) => "completions",
            Self::GenerateDocs => "generate-docs",
        }
    }

    /// Whether it stops by itself, at a good place, when it is told to; the others are simply dropped.
    pub(crate) fn stops_itself(&self) -> bool {
        matches!(
            self,
            Self::Backup(_)
                | Self::Restore(_)
                | Self::Verify(_)
                | Self::Prune(_)
                | Self::Snap(_)
                | Self::Rewind(_)
                | Self::Snaps(_)
                | Self::Migrate(_)
                | Self::Serve(_)
        )
    }

    /// Whether it has a JSON form.
    pub(crate) fn has_json(&self) -> bool {
        !matches!(self, Self::Migrate(_) | Self::Serve(_) | Self::Completions(_) | Self::GenerateDocs)
    }
}
