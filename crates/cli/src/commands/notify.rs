//! `copal notify`.

use clap::{Args, Subcommand};
use copal::config::{Configuration, nearest};
use copal::{CopalError, ErrorKind, Result};
use copal_notify::Notice;
use jiff::Timestamp;
use serde::Serialize;

use crate::session::Session;

/// Try the notifiers of the configuration.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  copal notify test ops                  send a trial to [notify.ops]")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

/// What to do.
#[derive(Debug, Subcommand)]
enum Action {
    /// Send a trial notification, and say whether it was delivered.
    Test {
        /// The NAME of [notify.NAME].
        #[arg(value_name = "NAME")]
        name: String,
    },
}

#[derive(Serialize)]
struct Delivered<'a> {
    notifier: &'a str,
    channel: &'a str,
    place: String,
    delivered: bool,
}

impl Arguments {
    /// The command's name in JSON.
    pub(crate) fn name(&self) -> &'static str {
        match self.action {
            Action::Test { .. } => "notify test",
        }
    }
}

/// Runs the command.
pub(crate) async fn run(arguments: &Arguments, session: &Session) -> Result<()> {
    let Action::Test { name } = &arguments.action;
    let configuration = session.configuration()?;
    let notifier = configuration.notifiers.get(name).ok_or_else(|| unknown(name, &configuration))?;
    let channel = copal_daemon::channel(name, notifier)?;
    channel.send(&Notice::test(copal::host_name(), Timestamp::now())).await.map_err(|error| {
        let message = format!("{name} was not reached");
        CopalError::new(ErrorKind::Failed, message).because(error)
    })?;
    let place = channel.place();
    session.output.done(&format!("{name} was told by {} ({place}).", channel.name()));
    session.output.result(&Delivered { notifier: name, channel: channel.name(), place, delivered: true });
    Ok(())
}

fn unknown(name: &str, configuration: &Configuration) -> CopalError {
    let names: Vec<_> = configuration.notifiers.keys().map(String::as_str).collect();
    let error = CopalError::new(ErrorKind::NotFound, format!("there is no [notify.{name}] in the configuration"));
    match (nearest(name, names.iter().copied()), names.is_empty()) {
        (Some(near), _) => error.with_hint(format!("did you mean {near:?}?")),
        (None, false) => error.with_hint(format!("configured notifiers: {}", names.join(", "))),
        (None, true) => error.with_hint("add one to copal.toml; docs/configuration.md shows how"),
    }
}
