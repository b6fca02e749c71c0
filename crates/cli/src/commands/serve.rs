//! `copal serve`.

mod first_start;

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use copal::config::{Configuration, Environment, Overrides};
use copal::{Copal, CopalError, ErrorKind, PassphraseSource, Result};
use copal_daemon::{Daemon, Load, Loaded};
use sd_notify::NotifyState;

use crate::arguments::GlobalOptions;
use crate::session::Session;
use crate::signals::{self, Interrupted};
use crate::{log, prompt};

/// Run the daemon: schedules, drills, notifications, metrics and the HTTP API.
///
/// Runs in the foreground until it is told to stop (Ctrl-C or SIGTERM); then backups under way have a grace period to
/// finish, and are cancelled without a trace after it. The configuration is read again when its file changes and on
/// SIGHUP; one that cannot be used is reported, and the old one stays in force. Log lines go to standard error. Where
/// there is no configuration, a terminal is told the address of a page that finds databases and writes one.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  copal serve                                    what copal.toml says; without one, a page that writes it
  copal serve --config /etc/copal/copal.toml     as a service; see contrib/systemd
  copal serve --listen 127.0.0.1:9000            another address for the HTTP API

The HTTP API listens on 127.0.0.1:8467 unless [daemon] says otherwise: /api/docs shows it, /metrics is for Prometheus.
docs/daemon.md tells more.")]
pub(crate) struct Arguments {
    /// The address of the HTTP API, instead of the configured one.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Help to write a first configuration, also where this is no terminal.
    #[arg(long)]
    setup: bool,
}

/// How long the repository is waited for before the schedules start without it.
const FIRST_LOOK: Duration = Duration::from_secs(3);

/// Runs the command.
pub(crate) async fn run(arguments: &Arguments, session: &Session, mut interrupted: Interrupted) -> Result<()> {
    let first = session.configuration()?;
    let to_write = match has_work(&first) || session.options.repository.is_some() {
        true => None,
        false => Some(first_start::file(&first, session, arguments.setup).ok_or_else(|| nothing_configured(&first))?),
    };
    log::start(first.daemon.log, session.options.verbose)?;
    // Whoever says early that the file has changed must not end the daemon by it.
    let mut hangups = Hangups::new();
    let mut options = session.options.clone();
    // What was found is what is read again, even if a file appears elsewhere.
    options.config = options.config.or_else(|| std::path::absolute(first.path.as_ref()?).ok());
    let passphrase = if prompt::is_possible() { prompt::source() } else { PassphraseSource::None };
    let mut loader = Loader { options, environment: session.environment.clone(), listen: arguments.listen, passphrase };
    let (loaded, set_up) = match to_write {
        None => (loader.resolve(first)?, None),
        Some(file) => match first_start::run(file, &mut loader, session, &mut hangups, &mut interrupted).await? {
            Some((loaded, set_up)) => (loaded, Some(set_up)),
            None => return Ok(()),
        },
    };
    open_repository(&loaded).await?;
    let load: Load = Box::new(move || loader.load());
    let daemon = match set_up {
        None => Daemon::start(loaded, load, &copal::host_name()).await?,
        Some(set_up) => Daemon::start_after(set_up, loaded, load, &copal::host_name()).await?,
    };
    tracing::info!("listening on {}://{}", daemon.scheme(), daemon.address());
    tell_systemd(&[NotifyState::Ready]);
    watch(&daemon, hangups, interrupted).await;
    tell_systemd(&[NotifyState::Stopping]);
    tracing::info!("stopping: runs under way may finish within the grace period");
    let stopped = daemon.stop().await;
    tracing::info!(finished = stopped.finished, cancelled = stopped.cancelled, "stopped");
    if !stopped.left.is_empty() {
        let left = stopped.left.len();
        return Err(CopalError::new(ErrorKind::Failed, format!("{left} runs did not stop when they were told to"))
            .with_hint("nothing half is left: a backup without a manifest does not exist"));
    }
    Ok(())
}

/// Whether there is anything to make backups of, or to watch.
fn has_work(configuration: &Configuration) -> bool {
    !configuration.databases.is_empty() || configuration.repository.url.is_some()
}

fn nothing_configured(configuration: &Configuration) -> CopalError {
    match configuration.path {
        Some(_) => nothing_to_protect(),
        // Only where there is no file the page may write one.
        None => nothing_to_protect()
            .with_hint("write a copal.toml with: copal init -d sqlite:app.db; or in a browser: copal serve --setup"),
    }
}

fn nothing_to_protect() -> CopalError {
    CopalError::new(ErrorKind::Configuration, "there is nothing to protect: no database is configured")
        .with_hint("name one in copal.toml; copal init -d sqlite:app.db writes that file")
}

/// Reads the configuration, at first and again.
#[derive(Clone)]
struct Loader {
    options: GlobalOptions,
    environment: Environment,
    listen: Option<SocketAddr>,
    passphrase: PassphraseSource,
}

impl Loader {
    fn load(&self) -> Result<Loaded> {
        self.resolve(Configuration::load(self.options.config.as_deref(), &self.environment)?)
    }

    fn resolve(&self, mut configuration: Configuration) -> Result<Loaded> {
        let overrides = Overrides { repository: self.options.repository.clone() };
        let resolved = configuration.resolve(&overrides, &self.environment)?;
        for notice in &resolved.notices {
            tracing::warn!("{notice}");
        }
        let mut settings = resolved.settings;
        if matches!(settings.passphrase, PassphraseSource::None) && settings.identity.is_none() {
            settings.passphrase = self.passphrase.clone();
        }
        // The page and the log shall name it wherever they are read.
        configuration.path = configuration.path.map(|path| std::path::absolute(&path).unwrap_or(path));
        configuration.daemon.listen = self.listen.unwrap_or(configuration.daemon.listen);
        Ok(Loaded { configuration, settings })
    }
}

/// Looks whether the repository opens: a wrong passphrase is refused now and not told by night. One that is away is waited for
/// by the runs themselves.
async fn open_repository(loaded: &Loaded) -> Result<()> {
    let copal = Copal::new(loaded.settings.clone());
    // Whoever types a passphrase takes their time.
    let patience = if prompt::is_possible() { Duration::MAX } else { FIRST_LOOK };
    let opened = tokio::time::timeout(patience, copal.check_repository()).await;
    match opened {
        Ok(Ok(())) => {}
        Ok(Err(error)) if matches!(error.kind().exit_code(), 2 | 4) => return Err(error),
        Ok(Err(error)) if error.kind() == ErrorKind::NotFound && loaded.settings.repository_is_default => {
            tracing::info!("the first backup creates the repository {}", loaded.settings.repository);
        }
        Ok(Err(error)) => {
            let hint = error.hint().unwrap_or_default();
            tracing::warn!(%error, hint, "the repository cannot be used now; it is tried again with each run");
        }
        Err(_) => tracing::warn!("the repository does not answer; it is tried again with each run"),
    }
    Ok(())
}

/// Until the user wants to stop: reloads on SIGHUP, and keeps systemd's watchdog quiet as long as the daemon is alive.
async fn watch(daemon: &Daemon, mut hangups: Hangups, mut interrupted: Interrupted) {
    let watchdog = sd_notify::watchdog_enabled().map(|limit| limit / 3);
    let mut beat = tokio::time::interval(watchdog.unwrap_or(Duration::from_secs(3600)));
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = signals::wait(&mut interrupted) => return,
            () = hangups.next() => {
                let mut states = vec![NotifyState::Reloading];
                states.extend(NotifyState::monotonic_usec_now());
                tell_systemd(&states);
                // It is logged; the old configuration stays in force.
                let _ = daemon.reload().await;
                tell_systemd(&[NotifyState::Ready]);
            }
            _ = beat.tick(), if watchdog.is_some() => {
                if daemon.is_alive().await {
                    tell_systemd(&[NotifyState::Watchdog]);
                } else {
                    tracing::error!("the daemon does not answer itself; the watchdog will end it");
                }
            }
        }
    }
}

/// Without systemd, nothing happens.
fn tell_systemd(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd cannot be told how the daemon does");
    }
}

#[cfg(unix)]
struct Hangups(Option<tokio::signal::unix::Signal>);

#[cfg(unix)]
impl Hangups {
    fn new() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        Self(signal(SignalKind::hangup()).ok())
    }

    async fn next(&mut self) {
        match &mut self.0 {
            Some(signal) => drop(signal.recv().await),
            None => std::future::pending().await,
        }
    }
}

#[cfg(not(unix))]
struct Hangups;

#[cfg(not(unix))]
impl Hangups {
    fn new() -> Self {
        Self
    }

    async fn next(&mut self) {
        std::future::pending().await
    }
}
