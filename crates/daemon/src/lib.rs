//! The daemon of Copal, as a library: `copal serve` runs it.
//!
//! [`Daemon`] puts it together. [`Runner`] starts what is due and what is asked for, [`Recorder`] keeps the history of runs in
//! the state folder, and events go out to whoever listens: [`Notifications`] tells people, [`Protection`] looks whether promises
//! are kept, the HTTP API shows it all. The repository stays the truth about backups: nothing here is needed to restore one.

mod api;
mod assembly;
mod events;
mod history;
mod lock;
mod log;
mod metrics;
mod notifier;
mod protection;
mod run;
mod runner;
mod server;
mod service;
mod setup;
mod stamp;
mod strips;
mod tokens;
mod watch;

pub use assembly::{Loaded, channel};
pub use history::{
    FILE_NAME as HISTORY_FILE, History, HistoryError, HistoryStatus, Newest, NewestRuns, Opened, Past, Recorder,
    RunFilter,
};
pub use lock::{StateLock, StateLockError};
pub use notifier::{NotificationSettings, Notifications, NotifierSettings, TrialError};
pub use protection::{Protection, ProtectionSettings, Seen};
pub use run::{Ending, RunError, RunFacts, RunId, RunRecord, TaskKind};
pub use runner::{
    DatabaseStatus, Job, LaneStatus, LiveRun, Refused, RunEvent, Runner, RunnerSettings, Stopped, Stopping,
};
pub use server::{Peer, Server, ServerError, ServerHandle, ServerOptions, TlsError};
pub use service::{Daemon, Load};
pub use setup::{Existing, Handover, SetUp, SetUpOptions};
pub use tokens::{FILE_NAME as TOKENS_FILE, Role, TokenError, TokenFile, TokenInfo, Tokens, UnknownRole};
pub use watch::FileWatch;
