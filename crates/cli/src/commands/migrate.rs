//! `copal migrate`.

mod child;

use std::ffi::OsString;
use std::sync::Arc;

use clap::Args;
use copal::{CancelToken, Context, Copal, CopalError, ErrorKind, GcOptions, Result, RewindRequest, SnapOptions};

use super::snap::{Which, databases, notes};
use crate::output::clean;
use crate::progress::Reporter;
use crate::session::Session;
use crate::{run, signals};

/// The label of the snapshots that are taken here.
const LABEL: &str = "pre-migrate";

/// Run a migration with a safety net: snapshot, command, and back again if it fails.
///
/// The databases are put aside first. If the command then fails, or is interrupted, they are put back as they were, with data
/// and schema; its exit code is the exit code of this one. If it succeeds, the snapshot stays and the oldest beyond
/// --keep go. If Copal itself is killed meanwhile, `copal rewind` does what it would have done.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  copal migrate -- alembic upgrade head
  copal migrate -d sqlite:app.db -- ./manage.py migrate
  copal migrate -d shop --best-effort -- npm run migrate    run it even if no snapshot can be taken")]
pub(crate) struct Arguments {
    #[command(flatten)]
    which: Which,
    /// How many of these snapshots to keep of each database; 0 keeps all.
    #[arg(long, value_name = "N", default_value_t = 5)]
    keep: u32,
    /// Run the command even if no snapshot can be taken; then nothing is put back.
    #[arg(long)]
    best_effort: bool,
    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Runs the command.
pub(crate) async fn run(arguments: &Arguments, session: &Session) -> Result<()> {
    let net = match take(arguments, session).await {
        Ok(net) => net,
        Err(error) if arguments.best_effort && error.kind() != ErrorKind::Interrupted => {
            session.output.warning(&format!("no snapshot could be taken, so nothing can be put back: {error}"));
            None
        }
        Err(error) => return Err(error),
    };
    // From here on nothing is cancelled: an interruption is meant for the command.
    signals::hold();
    run::check(&session.cancel)?;
    let (program, rest) = match arguments.command.split_first() {
        Some((program, rest)) => (program, rest),
        None => return Err(CopalError::new(ErrorKind::Usage, "a command is missing")),
    };
    let code = match child::run(program, rest).await {
        Ok(code) => code,
        Err(error) => {
            // As shells say it. Nothing has run, so there is nothing to put back.
            let is_missing = error.kind() == std::io::ErrorKind::NotFound;
            let message = format!("{} cannot be started", clean(&program.to_string_lossy()));
            session.output.found(&CopalError::new(ErrorKind::Failed, message).because(error));
            session.output.exit_with(if is_missing { 127 } else { 126 });
            return Ok(());
        }
    };
    session.output.exit_with(code);
    let reporter = Arc::new(Reporter::new("migrate", session.output.clone()));
    let context = Context { cancel: CancelToken::default(), progress: reporter.clone() };
    match (net, code) {
        (None, _) => {}
        (Some(net), 0) => net.prune(arguments.keep, session, &context).await,
        (Some(net), _) => net.put_back(code, session, &context).await,
    }
    reporter.finish();
    Ok(())
}

/// A snapshot, and how to go back to it.
struct Net {
    copal: Copal,
    id: String,
    name: String,
    databases: Vec<String>,
}

/// Takes the snapshot; `None` if no database exists yet.
async fn take(arguments: &Arguments, session: &Session) -> Result<Option<Net>> {
    let copal = session.copal()?;
    let absent = copal.absent(&arguments.which.databases).await?;
    let mut named = arguments.which.databases.clone();
    if named.is_empty() && !absent.is_empty() {
        named = copal.settings().databases.keys().cloned().collect();
    }
    let had_some = !named.is_empty();
    named.retain(|database| !absent.contains(database));
    for database in &absent {
        session.output.notice(&format!("{} does not exist yet, so there is nothing to put aside", clean(database)));
    }
    if had_some && named.is_empty() {
        return Ok(None);
    }
    let options = SnapOptions {
        databases: named,
        label: Some(LABEL.to_owned()),
        folder: std::env::current_dir().ok(),
        ..SnapOptions::default()
    };
    let outcome = session.watch("migrate", async |context| copal.snap(options, context).await).await?;
    let snapshot = &outcome.snapshot;
    // On standard error: standard output is the command's.
    session.output.notice(&format!("took the snapshot {} of {}", clean(&snapshot.name), databases(snapshot)));
    notes(&outcome.notes).for_each(|note| session.output.notice(&note));
    Ok(Some(Net {
        id: snapshot.id.to_string(),
        name: snapshot.name.clone(),
        databases: snapshot.databases.iter().map(|part| part.database.clone()).collect(),
        copal,
    }))
}

impl Net {
    async fn put_back(self, code: u8, session: &Session, context: &Context) {
        let output = &session.output;
        output.notice(&format!("the command ended with exit code {code}: putting back {}", self.shown()));
        let request = RewindRequest {
            snapshot: Some(self.id.clone()),
            databases: self.databases.clone(),
            ..RewindRequest::default()
        };
        match self.copal.rewind(request, context).await {
            Ok(outcome) => {
                notes(&outcome.notes).for_each(|note| output.notice(&note));
                output.notice(&format!("{} as before the command", self.shown()));
            }
            Err(error) => {
                let message = format!("{} NOT put back: {error}", self.shown());
                let by_hand = format!("put back by hand with: copal rewind {}{}", self.id, self.options());
                let hint = error.hint().map_or_else(|| by_hand.clone(), |hint| format!("{hint}; then {by_hand}"));
                output.found(&CopalError::new(error.kind(), message).with_hint(hint).because(error));
            }
        }
    }

    async fn prune(self, keep: u32, session: &Session, context: &Context) {
        let output = &session.output;
        output.notice(&format!("the snapshot {} stays; to go back: copal rewind {}", clean(&self.name), self.id));
        if keep == 0 {
            return;
        }
        let options = GcOptions {
            databases: self.databases.clone(),
            keep: Some(keep),
            label: Some(LABEL.to_owned()),
            ..GcOptions::default()
        };
        // The migration is done: what could not be cleared up is worth a warning and no more.
        let outcomes = match self.copal.gc_snapshots(&options, context).await {
            Ok(outcomes) => outcomes,
            Err(error) => return output.warning(&format!("old snapshots were not removed: {error}")),
        };
        for (database, outcome) in outcomes {
            if let Err(error) = outcome {
                output.warning(&format!("old snapshots of {} were not removed: {error}", clean(&database)));
            }
        }
    }

    fn shown(&self) -> String {
        self.databases.iter().map(|name| clean(name)).collect::<Vec<_>>().join(", ")
    }

    fn options(&self) -> String {
        self.databases.iter().map(|name| format!(" -d {}", clean(name))).collect()
    }
}
