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
    let signals = child::Signals::listen();
    signals::hold();
    run::check(&session.cancel)?;
    let (program, rest) = match arguments.command.split_first() {
        Some((program, rest)) => (program, rest),
        None => return Err(CopalError::new(ErrorKind::Usage, "a command is missing")),
    };
    let reporter = Arc::new(Reporter::new("migrate", session.output.clone()));
    let context = Context { cancel: CancelToken::default(), progress: reporter.clone() };
    let code = match signals.and_then(|signals| Ok((child::start(program, rest)?, signals))) {
        Ok((child, signals)) => child.wait(signals).await,
        Err(error) => {
            // As shells say it. Nothing has run, so there is nothing to put back.
            if let Some(net) = net {
                net.discard(session, &context).await;
            }
            let is_missing = error.kind() == std::io::ErrorKind::NotFound;
            let message = format!("{} cannot be started", clean(&program.to_string_lossy()));
            session.output.found(&CopalError::new(ErrorKind::Failed, message).because(error));
            session.output.exit_with(if is_missing { 127 } else { 126 });
            return Ok(());
        }
    };
    session.output.exit_with(code);
    if let Some(net) = net {
        let is_safe = match code {
            0 => {
                let (name, id) = (clean(&net.name), &net.id);
                session.output.notice(&format!("the snapshot {name} stays; to go back: copal rewind {id}"));
                true
            }
            _ => net.put_back(code, session, &context).await,
        };
        if is_safe && arguments.keep > 0 {
            net.prune(arguments.keep, session, &context).await;
        }
    }
    reporter.finish();
    Ok(())
}

/// A snapshot, and how to go back to it.
struct Net {
    copal: Copal,
    id: String,
    name: String,
    /// As they were named, passwords included, so that they are found again; those of a whole server one by one.
    databases: Vec<String>,
    /// As they may be shown.
    shown: Vec<String>,
}

/// Takes the snapshot; `None` if no database exists yet.
async fn take(arguments: &Arguments, session: &Session) -> Result<Option<Net>> {
    let copal = session.copal()?;
    let absent = copal.absent(&arguments.which.databases).await?;
    let is_all = arguments.which.databases.is_empty();
    let all = || copal.settings().databases.keys().cloned().collect();
    let mut named: Vec<String> = if is_all { all() } else { arguments.which.databases.clone() };
    let had_some = !named.is_empty();
    named.retain(|database| !absent.contains(database));
    let mut members = Vec::new();
    for database in &named {
        // A database that the command makes on the server has no part in this.
        members.extend(copal.members(database).await?);
    }
    for database in &absent {
        session.output.notice(&format!("{} does not exist yet, so there is nothing to put aside", clean(database)));
    }
    if had_some && named.is_empty() {
        return Ok(None);
    }
    let options = SnapOptions {
        databases: members.clone(),
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
        databases: members,
        shown: snapshot.databases.iter().map(|part| clean(&part.database)).collect(),
        copal,
    }))
}

impl Net {
    /// Whether everything is as before the command.
    async fn put_back(&self, code: u8, session: &Session, context: &Context) -> bool {
        let (output, shown) = (&session.output, self.shown.join(", "));
        output.notice(&format!("the command ended with exit code {code}: putting back {shown}"));
        let request = RewindRequest {
            snapshot: Some(self.id.clone()),
            databases: self.databases.clone(),
            ..RewindRequest::default()
        };
        match self.copal.rewind(request, context).await {
            Ok(outcome) => {
                notes(&outcome.notes).for_each(|note| output.notice(&note));
                output.notice(&format!("{shown} as before the command"));
                true
            }
            Err(error) => {
                let options: String = self.shown.iter().map(|name| format!(" -d {}", quoted(name))).collect();
                let by_hand = format!("put back by hand with: copal rewind {}{options}", self.id);
                let hint = error.hint().map_or_else(|| by_hand.clone(), |hint| format!("{hint}; then {by_hand}"));
                let message = format!("{shown} NOT put back: {error}");
                output.found(&CopalError::new(error.kind(), message).with_hint(hint).because(error));
                false
            }
        }
    }

    /// Removes the oldest of such snapshots. What could not be cleared up is worth a warning and no more.
    async fn prune(&self, keep: u32, session: &Session, context: &Context) {
        let options = GcOptions {
            databases: self.databases.clone(),
            keep: Some(keep),
            label: Some(LABEL.to_owned()),
            ..GcOptions::default()
        };
        let warn = |error| session.output.warning(&format!("old snapshots were not removed: {error}"));
        match self.copal.gc_snapshots(&options, context).await {
            Ok(outcomes) => outcomes.into_iter().filter_map(|(_, outcome)| outcome.err()).for_each(warn),
            Err(error) => warn(error),
        }
    }

    /// Removes the snapshot, of which nobody has any use.
    async fn discard(&self, session: &Session, context: &Context) {
        if let Err(error) = self.copal.remove_snapshot(&self.id, &self.databases, context).await {
            session.output.warning(&format!("the snapshot {} was not removed: {error}", clean(&self.name)));
        }
    }
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    let is_plain = word.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-./:@%+=,".contains(&b)) && !word.is_empty();
    if is_plain { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}
