//! The first start: while there is no configuration, the page finds databases and writes one, for whoever has the code.
//!
//! Holds the address and the state folder until the daemon takes them over, so nobody finds the door closed in between. Whoever
//! else writes a configuration meanwhile ends the set-up, too. It knows no HTTP; that is [`crate::api`]'s.

mod beginning;
mod code;
mod find;
mod servers;
mod undo;
mod write;

use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use copal::config::{Configuration, Environment, Overrides};
use copal::{Copal, CopalError, ErrorKind, Settings};
use tokio::sync::{Mutex, Notify, oneshot};
use tokio::task::JoinHandle;

use crate::api;
use crate::assembly::Loaded;
use crate::lock::StateLock;
use crate::server::{Server, ServerOptions};
use crate::service::{not_served, take_lock};
use code::Code;
pub(crate) use find::FoundFile;
pub(crate) use servers::FoundServer;
pub(crate) use write::{Refusal, Wish, Written};

/// How often it is looked whether there is a configuration now.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Looks for a configuration; `None` as long as there is no file.
pub type Existing = Box<dyn Fn() -> copal::Result<Option<Loaded>> + Send + Sync>;

/// What a set-up goes by.
pub struct SetUpOptions {
    /// The address, which only this machine can reach.
    pub listen: SocketAddr,
    /// The configuration that is to be written.
    pub file: PathBuf,
    /// The variables that the daemon will go by.
    pub environment: Environment,
    /// Whether there is a configuration meanwhile.
    pub existing: Existing,
}

impl fmt::Debug for SetUpOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SetUpOptions").field("listen", &self.listen).field("file", &self.file).finish_non_exhaustive()
    }
}

/// What a set-up leaves to the daemon after it.
#[derive(Debug)]
pub struct Handover {
    /// Where the page is.
    pub address: SocketAddr,
    pub(crate) listener: TcpListener,
    pub(crate) lock: Option<StateLock>,
}

/// A set-up that waits for somebody.
#[derive(Debug)]
pub struct SetUp {
    ground: Arc<Ground>,
    ends: Handover,
    stop_server: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

/// What the requests of a set-up work on.
pub(crate) struct Ground {
    pub(crate) code: Code,
    pub(crate) file: PathBuf,
    /// What holds without a configuration.
    pub(crate) settings: Settings,
    pub(crate) environment: Environment,
    existing: Existing,
    /// Held by whoever writes: the second is refused.
    writing: Mutex<()>,
    /// Held by whoever writes, and by whoever looks whether something was written.
    turn: Mutex<()>,
    /// Held by whoever searches.
    searching: Mutex<()>,
    look: Notify,
    /// What is wrong with the configuration that there is.
    wrong: StdMutex<Option<String>>,
}

impl fmt::Debug for Ground {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ground").field("file", &self.file).finish_non_exhaustive()
    }
}

impl SetUp {
    /// Begins to serve the page and what it needs, nothing else.
    ///
    /// Errors: other machines could reach the address, it is taken, or another daemon has the state folder.
    pub async fn start(options: SetUpOptions) -> copal::Result<Self> {
        let SetUpOptions { listen, file, environment, existing } = options;
        if !listen.ip().to_canonical().is_loopback() {
            let message =
                format!("without a configuration only this machine is served, and others could reach {listen}");
            return Err(CopalError::new(ErrorKind::Configuration, message).with_hint(
                "leave out --listen for the set-up, or write a configuration first: copal init -d sqlite:app.db",
            ));
        }
        let settings = Configuration::default().resolve(&Overrides::default(), &environment)?.settings;
        let lock = take_lock(settings.state.as_deref())?;
        let options = ServerOptions { listen, tls: None, has_tokens: false };
        let server = Server::bind(options).await.map_err(not_served)?;
        let unusable =
            |error| CopalError::new(ErrorKind::Failed, "the address of the page cannot be kept").because(error);
        let address = server.local_addr().map_err(unusable)?;
        let (server, listener) = server.socket().map_err(unusable)?;
        let ground = Arc::new(Ground {
            code: Code::random()?,
            file,
            settings,
            environment,
            existing,
            writing: Mutex::new(()),
            turn: Mutex::new(()),
            searching: Mutex::new(()),
            look: Notify::new(),
            wrong: StdMutex::new(None),
        });
        let app = api::set_up_router(Arc::clone(&ground));
        let (stop_server, stopping) = oneshot::channel::<()>();
        let server = tokio::spawn(async move {
            server.serve(app, async { drop(stopping.await) }).await;
        });
        Ok(Self { ground, ends: Handover { address, listener, lock }, stop_server, server })
    }

    /// Where the page is.
    pub fn address(&self) -> SocketAddr {
        self.ends.address
    }

    /// The address with the code in it: for the eyes of whoever started this only.
    pub fn url(&self) -> String {
        format!("http://{}/#/start?code={}", self.ends.address, self.ground.code.reveal())
    }

    /// Looks at once whether there is a configuration now.
    pub fn look_again(&self) {
        self.ground.look.notify_one();
    }

    /// Waits until there is a configuration that can be used, whoever wrote it.
    pub async fn done(&self) -> Loaded {
        loop {
            {
                let _turn = self.ground.turn.lock().await;
                if let Some(loaded) = self.ground.look() {
                    return loaded;
                }
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = self.ground.look.notified() => {}
            }
        }
    }

    /// Answers what was asked and stops; connections wait for who takes over.
    pub async fn stop(self) -> Handover {
        // An error says that the server has ended already.
        let _ = self.stop_server.send(());
        if let Err(error) = self.server.await {
            tracing::error!(%error, "the page of the set-up stopped unexpectedly");
        }
        self.ends
    }
}

/// What a search found.
#[derive(Debug)]
pub(crate) struct Findings {
    pub(crate) files: Vec<FoundFile>,
    pub(crate) searched: u64,
    pub(crate) is_complete: bool,
    pub(crate) servers: Vec<FoundServer>,
}

impl Ground {
    /// The use cases, over nothing that is configured.
    pub(crate) fn copal(&self) -> Copal {
        Copal::new(self.settings.clone())
    }

    /// Searches folders, or the home folder, and this machine for servers; one search at a time.
    pub(crate) async fn find(&self, mut named: Vec<String>) -> copal::Result<Findings> {
        let Ok(_searching) = self.searching.try_lock() else {
            return Err(CopalError::new(ErrorKind::Busy, "a search is under way; wait until it has ended"));
        };
        if named.is_empty() {
            named.extend(self.environment.home().map(|home| home.display().to_string()));
        }
        let (copal, closed) = (self.copal(), self.settings.state.iter().cloned().collect());
        let search = tokio::task::spawn_blocking(move || {
            let folders = find::folders(&named)?;
            Ok::<_, CopalError>(find::search(folders, &copal, closed, find::Bounds::default()))
        });
        let copal = self.copal();
        let (search, servers) = tokio::join!(search, servers::find(&copal, &self.environment));
        let stopped = |error| CopalError::new(ErrorKind::Failed, "the search stopped unexpectedly").because(error);
        let find::Search { files, searched, is_complete } = search.map_err(stopped)??;
        Ok(Findings { files, searched, is_complete, servers })
    }

    /// The configuration, if there is one that can be used; what is wrong with another is told once.
    fn look(&self) -> Option<Loaded> {
        let found = (self.existing)();
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        match found {
            Ok(loaded) => {
                *wrong = None;
                loaded
            }
            Err(error) => {
                let message = error.to_string();
                if wrong.as_ref() != Some(&message) {
                    let hint = error.hint().unwrap_or_default();
                    tracing::warn!(%error, hint, "there is a configuration now, but it cannot be used");
                    *wrong = Some(message);
                }
                None
            }
        }
    }

    /// Refuses what would come second.
    fn require_none(&self) -> Result<(), Refusal> {
        let exists = match (self.existing)() {
            Ok(None) => return Ok(()),
            Ok(Some(_)) => CopalError::new(ErrorKind::Exists, "somebody else has written a configuration meanwhile")
                .with_hint("the daemon goes on with it; reload this page"),
            Err(error) => CopalError::new(ErrorKind::Exists, "there is a configuration already, and it cannot be used")
                .with_hint("mend it or remove it")
                .because(error),
        };
        self.look.notify_one();
        Err(Refusal::Exists(exists))
    }
}
