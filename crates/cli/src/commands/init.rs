//! `copal init`.

use std::path::PathBuf;

use clap::Args;
use copal::config::{Configuration, FILE_NAME, Starter, StarterRepository};
use copal::{Copal, CopalError, ErrorKind, InitOptions, InitOutcome, PassphraseSource, Result, Settings};
use serde::Serialize;

use crate::output::clean;
use crate::prompt;
use crate::session::Session;

/// Create a repository, and a copal.toml if databases are named.
///
/// The repository is encrypted with a passphrase unless --no-encrypt is given. The passphrase comes from
/// COPAL_PASSPHRASE, COPAL_PASSPHRASE_FILE or passphrase_file in copal.toml; on a terminal it is asked for, and so are the
/// databases where there is no copal.toml yet.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  copal init -d sqlite:app.db                              a local repository and ./copal.toml
  copal init --repository s3://backups/prod -d sqlite:app.db
  copal init --no-repository -d postgres://me@localhost/shop    only copal.toml: enough for snapshots
  copal init --recovery-key age1…                          a second way in, for emergencies")]
pub(crate) struct Arguments {
    /// Encrypt (this is so anyway).
    #[arg(long, conflicts_with = "no_encrypt")]
    encrypt: bool,
    /// Do not encrypt: whoever can read the repository can read the databases.
    #[arg(long)]
    no_encrypt: bool,
    /// An age recipient (age1…) whose identity can open the repository too; may be repeated.
    #[arg(long, value_name = "AGE_RECIPIENT", conflicts_with = "no_encrypt")]
    recovery_key: Vec<String>,
    /// Create no repository, only copal.toml: enough for snapshots.
    #[arg(long, conflicts_with_all = ["encrypt", "no_encrypt", "recovery_key"])]
    no_repository: bool,
    /// A database to write into a new copal.toml; may be repeated. What else its server has is listed.
    #[arg(short, long = "database", value_name = "URL")]
    databases: Vec<String>,
}

/// The outcome and the configuration that was written.
#[derive(Serialize)]
struct InitResult<'a> {
    #[serde(flatten)]
    outcome: Option<&'a InitOutcome>,
    configuration: Option<String>,
}

/// Runs the command.
pub(crate) async fn run(arguments: &Arguments, session: &Session) -> Result<()> {
    let named = session.options.config.clone().or_else(|| session.environment.get("COPAL_CONFIG").map(PathBuf::from));
    let file = named.unwrap_or_else(|| PathBuf::from(FILE_NAME));
    let mut databases = arguments.databases.clone();
    if databases.is_empty() && prompt::is_possible() && !session.output.is_json() && !file.exists() {
        databases = ask(session).await?;
    }
    if arguments.no_repository {
        let starter = Starter::new(&file, &databases)?;
        if databases.is_empty() {
            let error =
                CopalError::new(ErrorKind::Usage, "--no-repository writes copal.toml, and no database is named");
            return Err(error.with_hint("name one with -d URL"));
        }
        starter.write(None)?;
        let result = InitResult { outcome: None, configuration: Some(file.display().to_string()) };
        session.output.result(&result);
        session.output.done(&format!("Wrote {}; next: copal snap", file.display()));
        tell_neighbours(&arguments.databases, session).await?;
        return Ok(());
    }
    let (configuration, starter) = if databases.is_empty() {
        (session.configuration()?, None)
    } else {
        // What cannot be written in the end should be known before a repository is made.
        let starter = Starter::new(&file, &databases)?;
        (Configuration::default(), Some(starter))
    };
    let encrypt = arguments.encrypt || (!arguments.no_encrypt && configuration.repository.encrypt != Some(false));
    let mut settings = session.settings(&configuration)?;
    if encrypt {
        require_passphrase(&mut settings)?;
    }
    let copal = Copal::new(settings);
    let outcome = copal.init(InitOptions { encrypt, recovery_keys: arguments.recovery_key.clone() }).await?;
    let written = match starter {
        Some(starter) => {
            let url = session.options.repository.as_deref().or(session.environment.get("COPAL_REPOSITORY"));
            let passphrase_file = session.environment.get("COPAL_PASSPHRASE_FILE");
            starter.write(Some(StarterRepository { url, encrypt, passphrase_file }))?;
            Some(file.display().to_string())
        }
        None => None,
    };
    session.output.result(&InitResult { outcome: Some(&outcome), configuration: written.clone() });
    session.output.done(&render(&outcome, written.as_deref()));
    tell_neighbours(&arguments.databases, session).await
}

/// Asks for databases until nothing is answered; of a server, tells what it has.
async fn ask(session: &Session) -> Result<Vec<String>> {
    session
        .output
        .notice("which databases? paths or URLs (postgres://user@host/database), one by one; nothing ends the list");
    let mut databases = Vec::new();
    loop {
        let url = prompt::line("Database")?;
        if url.is_empty() {
            return Ok(databases);
        }
        tell_neighbours(std::slice::from_ref(&url), session).await?;
        databases.push(url);
    }
}

/// Lists what the servers of these databases have.
async fn tell_neighbours(databases: &[String], session: &Session) -> Result<()> {
    let copal = Copal::new(session.settings(&Configuration::default())?);
    for database in databases {
        let shown = clean(&copal::Source::shown(database));
        match copal.databases_on_server(database).await {
            Ok(Some(found)) => {
                let found: Vec<_> = found.iter().map(|name| clean(name)).collect();
                session.output.notice(&format!("the server of {shown} has: {}", found.join(", ")));
            }
            Ok(None) => {}
            Err(error) => session.output.notice(&format!("{shown} was not reached: {error}")),
        }
    }
    Ok(())
}

fn require_passphrase(settings: &mut Settings) -> Result<()> {
    match settings.passphrase {
        PassphraseSource::Known(_) => Ok(()),
        _ if prompt::is_possible() => {
            settings.passphrase = PassphraseSource::Known(prompt::choose()?);
            Ok(())
        }
        _ => {
            Err(CopalError::new(ErrorKind::Passphrase, "an encrypted repository needs a passphrase, and none is given")
                .with_hint("set COPAL_PASSPHRASE_FILE or COPAL_PASSPHRASE, or say --no-encrypt"))
        }
    }
}

fn render(outcome: &InitOutcome, written: Option<&str>) -> String {
    let kind = if outcome.encrypted { "encrypted" } else { "unencrypted" };
    let place = outcome.repository.strip_prefix("file://").unwrap_or(&outcome.repository);
    let mut lines = vec![format!("Created the {kind} repository {}", clean(place))];
    if let Some(path) = written {
        lines.push(format!("Wrote {path}; next: copal backup --all"));
    }
    if outcome.encrypted {
        lines.push(
            "Keep the passphrase in a second place, away from this machine: without it (or a recovery key)".into(),
        );
        lines.push("nobody can restore anything, and nothing can replace it.".into());
    }
    lines.join("\n")
}
