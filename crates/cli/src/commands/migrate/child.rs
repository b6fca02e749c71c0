//! The command that `copal migrate` runs: our standard streams, and signals as if we were not there.

use std::ffi::OsString;
use std::io::{IsTerminal, Result};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

/// Runs the command to its end; answers its exit code, 128 and the signal if one ended it.
///
/// A Ctrl-C reaches it from the terminal, as it reaches us; signals that may be sent to us alone are passed on.
pub(super) async fn run(program: &OsString, arguments: &[OsString]) -> Result<u8> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let has_terminal = std::io::stdin().is_terminal() || std::io::stderr().is_terminal();
    let mut child = Command::new(program).args(arguments).spawn()?;
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let pass_on = |which| {
        // It may just have ended.
        let _ = pid.map(|pid| kill_process(pid, which));
    };
    loop {
        tokio::select! {
            status = child.wait() => return status.map(code),
            _ = terminate.recv() => pass_on(Signal::TERM),
            _ = interrupt.recv(), if !has_terminal => pass_on(Signal::INT),
            _ = hang_up.recv() => pass_on(Signal::HUP),
        }
    }
}

fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    // What does not fit is a failure still.
    u8::try_from(code).unwrap_or(1)
}
