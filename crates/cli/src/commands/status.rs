//! `copal status`.

use std::collections::BTreeMap;

use clap::Args;
use copal::config::Configuration;
use copal::{BackupAge, Copal, DatabaseStatus, Result};
use jiff::Timestamp;
use reqwest::Method;
use serde::{Deserialize, Serialize};

use crate::client::Client;
use crate::output::{Align, Style, Table, local_time, plural};
use crate::session::Session;

/// Tell whether everything is protected, and if not, why.
///
/// Looks at every database of the configuration and of the repository: is there a good backup as young as promised, was
/// it verified when a drill was due. Without a configuration the repository alone is enough, so one place can watch the
/// backups of many hosts. If a daemon runs with the same configuration (or COPAL_DAEMON names one), its next runs and the
/// failures in a row are shown too. Ends with exit code 3 if something is not protected.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  copal status                                   everything
  copal status shop                              one database
  copal status --repository s3://backups/prod    whatever hosts write there
  copal status --json | jq -r '.results[] | select(.protected | not).name'")]
pub(crate) struct Arguments {
    /// Names, URLs or paths; every database if left out.
    #[arg(value_name = "DATABASE")]
    databases: Vec<String>,
}

/// What a line begins with.
const PROTECTED: &str = "protected";
const NOT_PROTECTED: &str = "not protected";

/// Runs the command.
pub(crate) async fn run(arguments: &Arguments, session: &Session) -> Result<()> {
    let configuration = session.configuration()?;
    let copal = Copal::new(session.settings(&configuration)?);
    let statuses = copal.status(&arguments.databases).await?;
    let output = &session.output;
    let mut runs = ask_daemon(session, &configuration).await;
    let statuses: Vec<_> =
        statuses.into_iter().map(|status| Shown { daemon: runs.remove(&status.name), status }).collect();
    statuses.iter().for_each(|status| output.result(status));
    if statuses.is_empty() {
        output.warning("nothing is protected: no database is configured, and the repository has none");
        return Ok(());
    }
    output.text(&render(&statuses, output.style));
    let open: Vec<_> = statuses.iter().map(|shown| &shown.status).filter(|status| !status.protected).collect();
    if !open.is_empty() {
        let names: Vec<_> = open.iter().map(|status| status.name.as_str()).collect();
        let (count, all) = (open.len(), statuses.len());
        let verb = if count == 1 { "is" } else { "are" };
        output.warning(&format!("{count} of {all} {verb} not protected: {}", names.join(", ")));
    }
    Ok(())
}

/// A database as the repository and the daemon know it.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    status: DatabaseStatus,
    /// None without a daemon that knows it.
    daemon: Option<Runs>,
}

/// What the daemon knows of a database's runs.
#[derive(Deserialize, Serialize)]
struct Runs {
    running: Option<i64>,
    consecutive_failures: u32,
    next_run: Option<Timestamp>,
    next_drill: Option<Timestamp>,
    last_run: Option<LastRun>,
    last_drill: Option<LastRun>,
}

#[derive(Deserialize, Serialize)]
struct LastRun {
    started: Timestamp,
    ending: Option<String>,
    error: Option<String>,
}

impl Runs {
    fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        if self.running.is_some() {
            remarks.push("a run is under way".to_owned());
        }
        let error = |run: &Option<LastRun>| run.as_ref().and_then(|run| run.error.clone());
        if let Some(error) = error(&self.last_run).filter(|_| self.consecutive_failures > 0) {
            remarks.push(format!("{} in a row: {error}", plural(self.consecutive_failures as usize, "failure")));
        }
        remarks.extend(error(&self.last_drill).map(|error| format!("the last drill failed: {error}")));
        remarks
    }
}

/// The runs of every database by the daemon of this configuration; none if there is none. What troubles the daemon itself is
/// said at once.
async fn ask_daemon(session: &Session, configuration: &Configuration) -> BTreeMap<String, Runs> {
    let is_named = session.environment.get("COPAL_DAEMON").is_some();
    if configuration.databases.is_empty() && !is_named {
        return BTreeMap::new();
    }
    let output = &session.output;
    match try_ask_daemon(session, configuration, is_named).await {
        Ok((runs, troubles)) => {
            troubles.iter().for_each(|trouble| output.notice(trouble));
            return runs;
        }
        Err(error) if is_named => output.warning(&format!("the daemon does not tell how its runs do: {error}")),
        Err(error) if output.is_verbose() => output.notice(&format!("without a daemon: {error}")),
        Err(_) => {}
    }
    BTreeMap::new()
}

async fn try_ask_daemon(
    session: &Session,
    configuration: &Configuration,
    is_named: bool,
) -> Result<(BTreeMap<String, Runs>, Vec<String>)> {
    #[derive(Deserialize)]
    struct Daemon {
        configuration: Option<String>,
        configuration_error: Option<String>,
        history: History,
    }
    #[derive(Deserialize)]
    struct History {
        error: Option<String>,
    }
    #[derive(Deserialize)]
    struct Notifiers {
        notifiers: BTreeMap<String, Notifier>,
    }
    #[derive(Deserialize)]
    struct Notifier {
        last_error: Option<String>,
    }
    #[derive(Deserialize)]
    struct Named {
        name: String,
        #[serde(flatten)]
        runs: Runs,
    }
    #[derive(Deserialize)]
    struct All {
        databases: Vec<Named>,
    }
    let client = Client::new(session, configuration)?;
    let daemon: Daemon = client.ask(Method::GET, &["api", "status"]).await?;
    // Another daemon may have databases of the same names.
    let ours = configuration.path.as_ref().and_then(|path| std::path::absolute(path).ok());
    if !is_named && daemon.configuration.map(Into::into) != ours {
        return Ok(Default::default());
    }
    let all: All = client.ask(Method::GET, &["api", "databases"]).await?;
    let Notifiers { notifiers } = client.ask(Method::GET, &["api", "notifiers"]).await?;
    let failing = notifiers.into_iter().filter_map(|(name, notifier)| {
        Some(format!("the notifier {name} cannot be reached: {}", notifier.last_error?))
    });
    let refused = daemon.configuration_error.map(|error| format!("the daemon goes by an older configuration: {error}"));
    let troubles = failing.chain(refused).chain(daemon.history.error).collect();
    Ok((all.databases.into_iter().map(|named| (named.name, named.runs)).collect(), troubles))
}

fn render(statuses: &[Shown], style: Style) -> String {
    let mut table = Table::new(&[
        ("STATE", Align::Left),
        ("DATABASE", Align::Left),
        ("LAST GOOD BACKUP", Align::Left),
        ("AGE", Align::Right),
        ("VERIFIED", Align::Right),
        ("NEXT RUN", Align::Left),
        ("HOST", Align::Left),
        ("REMARKS", Align::Left),
    ]);
    for Shown { status, daemon } in statuses {
        let problems = status.problems.iter().map(|problem| problem.message.clone());
        let runs = daemon.iter().flat_map(Runs::remarks);
        let remarks: Vec<_> = problems.chain(status.notes.iter().cloned()).chain(runs).collect();
        let next = daemon.as_ref().map_or(status.next_run, |runs| runs.next_run);
        let last = status.last_backup.as_ref();
        table.row([
            if status.protected { PROTECTED } else { NOT_PROTECTED }.to_owned(),
            status.name.clone(),
            last.map(|backup| backup.id.to_string()).unwrap_or_default(),
            last.map(BackupAge::age_text).unwrap_or_default(),
            status.last_verified.as_ref().map(BackupAge::age_text).unwrap_or_default(),
            next.map(local_time).unwrap_or_default(),
            status.host.clone().unwrap_or_default(),
            remarks.join("; "),
        ]);
    }
    table.render(style).lines().map(|line| coloured(line, style)).collect::<Vec<_>>().join("\n")
}

/// A line of the table, its state in colour.
fn coloured(line: &str, style: Style) -> String {
    match (line.strip_prefix(NOT_PROTECTED), line.strip_prefix(PROTECTED)) {
        (Some(rest), _) => format!("{}{rest}", style.red(NOT_PROTECTED)),
        (None, Some(rest)) => format!("{}{rest}", style.green(PROTECTED)),
        (None, None) => line.to_owned(),
    }
}
