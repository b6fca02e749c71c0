//! `copal changed`.

use clap::Args;
use copal::{Copal, Result};
use reqwest::Method;
use serde::{Deserialize, Serialize};

use crate::client::Client;
use crate::session::Session;

/// Tell the daemon that something significant changed: it backs up soon.
///
/// No two such backups are made within the database's `min_interval`; reports in between are one. Returns when the report is
/// safely kept, so it survives a crash of the daemon; the backup follows.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  copal changed shop                     after an import, for example
  COPAL_TOKEN=… copal changed shop       to a daemon that asks for tokens
  COPAL_DAEMON=https://db1:8467 copal changed shop")]
pub(crate) struct Arguments {
    /// A configured database: its name, URL or path.
    #[arg(value_name = "DATABASE")]
    database: String,
}

/// What the daemon answers.
#[derive(Deserialize, Serialize)]
struct Accepted {
    database: String,
    accepted: bool,
}

/// Runs the command.
pub(crate) async fn run(arguments: &Arguments, session: &Session) -> Result<()> {
    let configuration = session.configuration()?;
    let settings = session.settings(&configuration)?;
    let name = Copal::new(settings).configured_name(&arguments.database).to_owned();
    let client = Client::new(session, &configuration)?;
    let accepted: Accepted = client.ask(Method::POST, &["api", "databases", &name, "changed"]).await?;
    session.output.result(&accepted);
    session.output.done(&format!("The daemon will back up {name} soon."));
    Ok(())
}
