//! The daemon of Copal, as a library: `copal serve` puts it together.
//!
//! [`Runner`] starts what is due and what is asked for, [`Recorder`] keeps the history of runs in the state folder, and events
//! go out to whoever listens: [`Notifications`] tells people, [`Staleness`] looks whether promises are kept. The repository stays the truth about backups: nothing here is needed to restore one.

mod api;
mod events;
mod history;
mod lock;
#[expect(dead_code, reason = "the HTTP API serves it")]
mod metrics;
mod notifier;
mod run;
mod runner;
mod server;
mod staleness;
mod tokens;
mod watch;

pub use history::{
    FILE_NAME as HISTORY_FILE, History, HistoryError, HistoryStatus, Newest, NewestRuns, Opened, Past, Recorder,
    RunFilter,
};
pub use lock::{StateLock, StateLockError};
pub use notifier::{NotificationSettings, Notifications, NotifierSettings, TrialError};
pub use run::{Ending, RunError, RunFacts, RunId, RunRecord};
pub use runner::{DatabaseStatus, LaneStatus, LiveRun, Refused, RunEvent, Runner, RunnerSettings, Stopped, Stopping};
pub use server::{Peer, Server, ServerError, ServerHandle, ServerOptions, TlsError};
pub use staleness::{Promise, Staleness};
pub use tokens::{FILE_NAME as TOKENS_FILE, Role, TokenError, TokenFile, TokenInfo, Tokens, UnknownRole};
pub use watch::FileWatch;
