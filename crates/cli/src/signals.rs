//! Ctrl-C and SIGTERM: the first asks the operation to stop, the second ends the program.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use copal::CancelToken;
use tokio::sync::watch;

use crate::output::Output;
use crate::prompt;

/// The exit code of an interrupted command.
const INTERRUPTED: i32 = 130;

/// Whether signals do nothing, since they are meant for the command that runs, or what is done now must not be stopped.
static HELD: AtomicBool = AtomicBool::new(false);

/// From now on, signals stop nothing.
pub(crate) fn hold() {
    HELD.store(true, Ordering::SeqCst);
}

/// Whether there was a signal.
pub(crate) type Interrupted = watch::Receiver<bool>;

/// Listens from now on; the receiver turns true at the first signal, of which the user is told by `output`.
pub(crate) fn listen(cancel: CancelToken, output: Option<Arc<Output>>) -> Interrupted {
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        let Some(mut signals) = Signals::new() else { return };
        loop {
            signals.next().await;
            if HELD.load(Ordering::SeqCst) {
                continue;
            }
            // While a passphrase is asked for nothing has begun, and the terminal does not echo.
            if prompt::restore_terminal() || cancel.is_cancelled() {
                std::process::exit(INTERRUPTED);
            }
            cancel.cancel();
            if let Some(output) = &output {
                output.notice("Interrupted: stopping at a safe place; once more to stop at once");
            }
            let _ = sender.send(true);
        }
    });
    receiver
}

/// Waits for the first signal.
pub(crate) async fn wait(interrupted: &mut Interrupted) {
    if interrupted.wait_for(|interrupted| *interrupted).await.is_err() {
        // No signals can be received: then none ever comes.
        std::future::pending::<()>().await;
    }
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> Option<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let (interrupt, terminate) = (signal(SignalKind::interrupt()).ok()?, signal(SignalKind::terminate()).ok()?);
        Some(Self { interrupt, terminate })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> Option<Self> {
        Some(Self)
    }

    async fn next(&mut self) {
        let _ = tokio::signal::ctrl_c().await;
    }
}
