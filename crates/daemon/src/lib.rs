//! The daemon of Copal, as a library: `copal serve` puts it together.
//!
//! [`Runner`] starts what is due and what is asked for, [`Recorder`] keeps the history of runs in the state folder, and events
//! go out to whoever listens. The repository stays the truth about backups: nothing here is needed to restore one.

mod history;
mod run;
mod runner;

pub use history::{
    FILE_NAME as HISTORY_FILE, History, HistoryError, HistoryStatus, Newest, NewestRuns, Opened, Past, Recorder,
    RunFilter,
};
pub use run::{Ending, RunError, RunFacts, RunId, RunRecord};
pub use runner::{DatabaseStatus, LaneStatus, LiveRun, Refused, RunEvent, Runner, RunnerSettings, Stopped, Stopping};
