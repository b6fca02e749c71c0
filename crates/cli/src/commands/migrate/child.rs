//! The command that `copal migrate` runs: our standard streams, and signals as if we were not there.

use std::ffi::OsString;
use std::fs::File;
use std::io::Result;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process_group};
use tokio::process::{self, Command};
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

/// How long those that the command has started may take to end after it was told to.
const LAST: Duration = Duration::from_secs(10);

/// Signals that are passed on.
pub(super) struct Signals {
    interrupt: Stream,
    terminate: Stream,
    hang_up: Stream,
}

impl Signals {
    /// From now on none of them ends this process.
    pub(super) fn listen() -> Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }
}

/// The command while it runs.
pub(super) struct Child {
    process: process::Child,
    pid: Option<Pid>,
    /// A terminal sends Ctrl-C and its own end to the command as it sends them to us. Without one, the command and all that it
    /// starts are a group of their own, so that a signal reaches all of them.
    has_terminal: bool,
}

/// Starts the command.
pub(super) fn start(program: &OsString, arguments: &[OsString]) -> Result<Child> {
    let has_terminal = File::open("/dev/tty").is_ok();
    let mut command = Command::new(program);
    command.args(arguments);
    if !has_terminal {
        command.process_group(0);
    }
    let process = command.spawn()?;
    let pid = process.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    Ok(Child { process, pid, has_terminal })
}

impl Child {
    /// Waits for its end; answers its exit code, 128 and the signal if one ended it, 1 if nobody can tell.
    pub(super) async fn wait(mut self, mut signals: Signals) -> u8 {
        let mut is_told = false;
        let code = loop {
            let told = tokio::select! {
                status = self.process.wait() => break status.map_or(1, code),
                _ = signals.terminate.recv() => Signal::TERM,
                _ = signals.interrupt.recv(), if !self.has_terminal => Signal::INT,
                _ = signals.hang_up.recv(), if !self.has_terminal => Signal::HUP,
            };
            is_told = true;
            // It may just have ended.
            let _ = match (self.pid, self.has_terminal) {
                (Some(pid), true) => kill_process(pid, told),
                (Some(pid), false) => kill_process_group(pid, told),
                (None, _) => Ok(()),
            };
        };
        // What it has started may still be writing.
        let late = Instant::now() + LAST;
        while is_told && self.has_group() && Instant::now() < late {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        code
    }

    fn has_group(&self) -> bool {
        !self.has_terminal && self.pid.is_some_and(|pid| test_kill_process_group(pid).is_ok())
    }
}

fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    // What does not fit is a failure still.
    u8::try_from(code).unwrap_or(1)
}
