//! `copal pin` and `copal unpin`.

use clap::Args;
use copal::Result;

use crate::choice::{self, BackupArgument};
use crate::session::Session;

/// Keep a backup for ever, whatever the rules say.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  copal pin shop latest
  copal pin shop 20261120-153000Z-7f3a")]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) which: Which,
}

/// Leave a pinned backup to the rules again.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  copal unpin shop 20261120-153000Z-7f3a")]
pub(crate) struct UnpinArguments {
    #[command(flatten)]
    pub(crate) which: Which,
}

/// One backup.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// A name, URL or path.
    database: String,
    /// The backup's id, the beginning of one, or `latest`.
    #[arg(value_parser = choice::argument)]
    backup: BackupArgument,
}

/// Runs either command.
pub(crate) async fn run(which: &Which, pinned: bool, session: &Session) -> Result<()> {
    let copal = session.copal()?;
    let backup = choice::resolve(&copal, &which.database, &which.backup).await?;
    let summary = copal.set_pinned(&which.database, backup, pinned).await?;
    session.output.result(&summary);
    let state = if pinned { "is kept for ever" } else { "is left to the rules" };
    session.output.done(&format!("{} of {} {state}", summary.id, summary.database));
    Ok(())
}
