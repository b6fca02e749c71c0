//! The daemon as a whole: its parts started in order, reloaded together, and stopped so that nothing is left behind.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use copal::{CopalError, ErrorKind};
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::api::{self, Api};
use crate::assembly::Loaded;
use crate::history::Recorder;
use crate::lock::{StateLock, StateLockError};
use crate::notifier::Notifications;
use crate::protection::{Protection, ProtectionSettings};
use crate::run::RunError;
use crate::runner::{Runner, Stopped};
use crate::server::{Server, ServerError, ServerHandle, ServerOptions};
use crate::setup::Handover;
use crate::stamp::FileStamp;
use crate::tokens::Tokens;
use crate::watch::FileWatch;

/// How often it is looked whether the configuration file has changed.
const LOOK_AT_FILE: Duration = Duration::from_secs(2);
/// How often watched databases are looked at.
const LOOK_AT_DATABASES: Duration = Duration::from_secs(5);
/// How long notices are sent when the daemon stops.
const LAST_NOTICES: Duration = Duration::from_secs(5);

/// Reads the configuration again.
pub type Load = Box<dyn Fn() -> copal::Result<Loaded> + Send + Sync>;

/// The running daemon.
#[derive(Debug)]
pub struct Daemon {
    address: SocketAddr,
    scheme: &'static str,
    runner: Runner,
    notifications: Notifications,
    reloads: mpsc::Sender<oneshot::Sender<copal::Result<()>>>,
    stop_server: oneshot::Sender<()>,
    server: JoinHandle<()>,
    grace: Arc<Mutex<Duration>>,
    _lock: Option<StateLock>,
}

impl Daemon {
    /// Starts everything. When this returns, schedules are kept and the API answers.
    ///
    /// Errors: another daemon works with the state folder, the address cannot be listened on, or the configuration has
    /// something that cannot be used (a channel, a certificate, the file of tokens).
    pub async fn start(loaded: Loaded, load: Load, host: &str) -> copal::Result<Self> {
        let lock = take_lock(loaded.settings.state.as_deref())?;
        Self::start_with(loaded, load, host, lock, None).await
    }

    /// The same after a set-up, with its state folder, and on its socket if the configuration says the same address.
    pub async fn start_after(set_up: Handover, loaded: Loaded, load: Load, host: &str) -> copal::Result<Self> {
        let Handover { address, listener, lock } = set_up;
        let listener = (address == loaded.configuration.daemon.listen).then_some(listener);
        Self::start_with(loaded, load, host, lock, listener).await
    }

    async fn start_with(
        loaded: Loaded,
        load: Load,
        host: &str,
        lock: Option<StateLock>,
        listener: Option<TcpListener>,
    ) -> copal::Result<Self> {
        let notification_settings = loaded.notifications(host)?;
        let runner_settings = loaded.runner()?;
        let tokens = load_tokens(&loaded)?;
        let options = ServerOptions {
            listen: loaded.configuration.daemon.listen,
            tls: loaded.configuration.daemon.tls.clone(),
            has_tokens: !tokens.is_empty(),
        };
        let bound = match listener {
            Some(listener) => Server::take_over(listener, options),
            None => Server::bind(options).await,
        };
        let server = bound.map_err(not_served)?;
        let unknown = |error| CopalError::new(ErrorKind::Failed, "the HTTP API has no address").because(error);
        let (address, server_handle) = (server.local_addr().map_err(unknown)?, server.handle());
        let scheme = if loaded.configuration.daemon.tls.is_some() { "https" } else { "http" };

        let folder = loaded.settings.state.clone();
        let opening = tokio::task::spawn_blocking(move || Recorder::start(folder.as_deref(), Timestamp::now()));
        let opened = opening.await;
        let (recorder, mut past) = opened.map_err(|error| stopped_unexpectedly(&error))?;
        for run in &past.interrupted {
            tracing::warn!(run = %run.id, database = run.database, "this run was cut off when the daemon ended before");
        }
        let told = std::mem::take(&mut past.told);
        let runner = Runner::start(runner_settings, recorder, past);
        let notifications = Notifications::start(notification_settings, &runner, told);
        let protection = Protection::start(ProtectionSettings::new(loaded.settings.clone()), runner.clone());
        let watch = FileWatch::start(loaded.watched(), runner.clone(), LOOK_AT_DATABASES);
        runner.begin();

        let grace = Arc::new(Mutex::new(loaded.configuration.daemon.grace));
        let api = Api::new(runner.clone(), protection.clone(), notifications.clone(), tokens.clone(), &loaded);
        let (stop_server, stopping) = oneshot::channel::<()>();
        let app = api::router(api.clone());
        let server = tokio::spawn(async move {
            server.serve(app, async { drop(stopping.await) }).await;
        });
        let (reloads, asked) = mpsc::channel(4);
        let reloader = Reloader {
            stamps: stamps(&loaded),
            runner: runner.clone(),
            notifications: notifications.clone(),
            protection,
            watch,
            tokens,
            server: server_handle,
            grace: Arc::clone(&grace),
            host: host.to_owned(),
            api,
            loaded,
        };
        tokio::spawn(reloader.run(load, asked));
        Ok(Self { address, scheme, runner, notifications, reloads, stop_server, server, grace, _lock: lock })
    }

    /// Where the API listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How: `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        self.scheme
    }

    /// Reads the configuration again and puts it in force; an error leaves the old one in force.
    pub async fn reload(&self) -> copal::Result<()> {
        let (reply, answer) = oneshot::channel();
        let stopping = || CopalError::new(ErrorKind::Failed, "the daemon is stopping");
        self.reloads.send(reply).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())?
    }

    /// Whether the heart of the daemon still beats.
    pub async fn is_alive(&self) -> bool {
        self.runner.is_alive(Duration::from_secs(5)).await
    }

    /// Starts nothing any more, waits for what is under way for the configured grace period, then cancels it.
    pub async fn stop(self) -> Stopped {
        let grace = *self.grace.lock().unwrap_or_else(PoisonError::into_inner);
        let stopped = self.runner.stop(grace).await;
        self.notifications.stop(LAST_NOTICES).await;
        // An error says that the server has ended already.
        let _ = self.stop_server.send(());
        if let Err(error) = self.server.await {
            tracing::error!(%error, "the HTTP API stopped unexpectedly");
        }
        stopped
    }
}

/// The API has no address to be at.
pub(crate) fn not_served(error: ServerError) -> CopalError {
    CopalError::new(ErrorKind::Configuration, "the HTTP API cannot be served").because(error)
}

fn stopped_unexpectedly(error: &tokio::task::JoinError) -> CopalError {
    CopalError::new(ErrorKind::Failed, format!("the work stopped unexpectedly: {error}"))
}

/// The state folder, for one daemon only.
pub(crate) fn take_lock(state: Option<&Path>) -> copal::Result<Option<StateLock>> {
    let Some(state) = state else {
        tracing::warn!("there is no state folder, so the history of runs is not kept: set HOME or XDG_STATE_HOME");
        return Ok(None);
    };
    match StateLock::take(state) {
        Ok(lock) => Ok(Some(lock)),
        Err(error @ StateLockError::Held(_)) => Err(CopalError::new(ErrorKind::Busy, error.to_string())
            .with_hint("stop the other one, or give this one another state folder with XDG_STATE_HOME")),
        Err(error) => {
            tracing::warn!(%error, "two daemons with this state folder would not know of each other");
            Ok(None)
        }
    }
}

fn load_tokens(loaded: &Loaded) -> copal::Result<Tokens> {
    let file = loaded.tokens_file().unwrap_or_default();
    Tokens::load(file).map_err(|error| CopalError::new(ErrorKind::Configuration, error.to_string()))
}

/// Looks at the configuration's file, and puts a new one in force as a whole or not at all.
struct Reloader {
    loaded: Loaded,
    stamps: Vec<Option<FileStamp>>,
    runner: Runner,
    notifications: Notifications,
    protection: Protection,
    watch: FileWatch,
    tokens: Tokens,
    server: ServerHandle,
    grace: Arc<Mutex<Duration>>,
    api: Api,
    host: String,
}

impl Reloader {
    async fn run(mut self, load: Load, mut asked: mpsc::Receiver<oneshot::Sender<copal::Result<()>>>) {
        loop {
            tokio::select! {
                reply = asked.recv() => {
                    let Some(reply) = reply else { return };
                    self.stamps = stamps(&self.loaded);
                    let result = self.reload(&load).await;
                    // Whoever asked may be gone.
                    let _ = reply.send(result);
                }
                () = tokio::time::sleep(LOOK_AT_FILE) => {
                    let stamps = stamps(&self.loaded);
                    if stamps != self.stamps {
                        self.stamps = stamps;
                        // Reported already.
                        let _ = self.reload(&load).await;
                    }
                }
            }
        }
    }

    async fn reload(&mut self, load: &Load) -> copal::Result<()> {
        let result = self.try_reload(load).await;
        let error = result.as_ref().err().map(|error| RunError::of(error).message);
        match &error {
            None => {
                let databases = self.loaded.configuration.databases.len();
                tracing::info!(databases, "another configuration is in force");
            }
            Some(error) => tracing::error!(error, "the new configuration cannot be used; the old one stays in force"),
        }
        self.api.configured(&self.loaded, error);
        result
    }

    /// Everything that can fail comes first.
    async fn try_reload(&mut self, load: &Load) -> copal::Result<()> {
        let loaded = load()?;
        let notifications = loaded.notifications(&self.host)?;
        let runner = loaded.runner()?;
        if let Err(error) = self.tokens.reload() {
            return Err(CopalError::new(ErrorKind::Configuration, error.to_string()));
        }
        self.server.reload_tls();
        for (what, is_other) in [
            ("listen", loaded.configuration.daemon.listen != self.loaded.configuration.daemon.listen),
            ("tls", loaded.configuration.daemon.tls != self.loaded.configuration.daemon.tls),
            ("tokens_file", loaded.tokens_file() != self.loaded.tokens_file()),
            ("log", loaded.configuration.daemon.log != self.loaded.configuration.daemon.log),
        ] {
            if is_other {
                tracing::warn!("another \"{what}\" under [daemon] holds from the next start on");
            }
        }
        let refused = |error: crate::runner::Refused| CopalError::new(ErrorKind::Failed, error.to_string());
        self.notifications.reload(notifications).await;
        self.watch.reload(loaded.watched());
        *self.grace.lock().unwrap_or_else(PoisonError::into_inner) = loaded.configuration.daemon.grace;
        self.runner.reload(runner).await.map_err(refused)?;
        self.protection.reload(ProtectionSettings::new(loaded.settings.clone())).await;
        self.loaded = loaded;
        Ok(())
    }
}

/// Of the configuration's file, of the `.env` beside it, and of the API's certificate, which is renewed now and then.
fn stamps(loaded: &Loaded) -> Vec<Option<FileStamp>> {
    let Some(path) = &loaded.configuration.path else { return Vec::new() };
    let mut files: Vec<PathBuf> = vec![path.clone(), path.with_file_name(".env")];
    files.extend(loaded.configuration.daemon.tls.iter().flat_map(|tls| [tls.certificate.clone(), tls.key.clone()]));
    files.iter().map(|file| FileStamp::of(file)).collect()
}
