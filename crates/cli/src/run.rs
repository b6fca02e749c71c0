//! From the command line to the exit code.

use std::process::ExitCode;
use std::sync::Arc;

use copal::config::Environment;
use copal::{CancelToken, CopalError, ErrorKind};

use crate::arguments::{Cli, Command};
use crate::commands;
use crate::output::{Output, OutputOptions};
use crate::session::Session;
use crate::signals::Interrupted;
use crate::{heap, reference, signals, usage};

/// The whole program.
pub(crate) fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    match usage::parse(&arguments) {
        Ok(cli) => ExitCode::from(run(cli)),
        Err(code) => ExitCode::from(code),
    }
}

fn run(cli: Cli) -> u8 {
    let Cli { options, command } = cli;
    let output = Arc::new(Output::new(
        command.name(),
        OutputOptions {
            json: options.json,
            quiet: options.quiet,
            verbose: options.verbose,
            bars: !options.no_progress,
        },
    ));
    match &command {
        Command::GenerateDocs => output.text(reference::render().trim_end()),
        Command::Completions(arguments) => commands::completions::run(arguments, &output),
        _ => {
            let session = Session::new(options, Environment::of_process(), output.clone());
            if let Err(error) = run_async(&session, &command) {
                output.failure(None, &error);
            }
        }
    }
    output.finish()
}

fn run_async(session: &Session, command: &Command) -> copal::Result<()> {
    if matches!(command, Command::Serve(_)) {
        heap::share();
    }
    let workers = std::thread::available_parallelism().map_or(2, |n| n.get().max(2));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build();
    let runtime = runtime.map_err(|error| {
        CopalError::new(ErrorKind::Failed, "the threads of the program cannot be started").because(error)
    })?;
    let cancel = session.cancel.clone();
    let result = runtime.block_on(async {
        // The daemon says it in its log.
        let output = (!matches!(command, Command::Serve(_))).then(|| session.output.clone());
        let mut interrupted = signals::listen(cancel, output);
        tokio::select! {
            result = dispatch(session, command, interrupted.clone()) => result,
            () = signals::wait(&mut interrupted), if !command.stops_itself() => Err(interrupted_error()),
        }
    });
    // What still runs on a blocking thread was either finished or dropped on purpose.
    runtime.shutdown_background();
    result
}

async fn dispatch(session: &Session, command: &Command, interrupted: Interrupted) -> copal::Result<()> {
    match command {
        Command::Init(arguments) => commands::init::run(arguments, session).await,
        Command::Backup(arguments) => commands::backup::run(arguments, session).await,
        Command::List(arguments) => commands::list::run(arguments, session).await,
        Command::Show(arguments) => commands::show::run(arguments, session).await,
        Command::Restore(arguments) => commands::restore::run(arguments, session).await,
        Command::Verify(arguments) => commands::verify::run(arguments, session).await,
        Command::Prune(arguments) => commands::prune::run(arguments, session).await,
        Command::Pin(arguments) => commands::pin::run(&arguments.which, true, session).await,
        Command::Unpin(arguments) => commands::pin::run(&arguments.which, false, session).await,
        Command::Snap(arguments) => commands::snap::run(arguments, session).await,
        Command::Rewind(arguments) => commands::rewind::run(arguments, session).await,
        Command::Snaps(arguments) => commands::snaps::run(arguments, session).await,
        Command::Migrate(arguments) => commands::migrate::run(arguments, session).await,
        Command::Key(arguments) => commands::key::run(arguments, session).await,
        Command::Status(arguments) => commands::status::run(arguments, session).await,
        Command::Serve(arguments) => commands::serve::run(arguments, session, interrupted).await,
        Command::Changed(arguments) => commands::changed::run(arguments, session).await,
        Command::Notify(arguments) => commands::notify::run(arguments, session).await,
        Command::Token(arguments) => commands::token::run(arguments, session).await,
        Command::Doctor(arguments) => commands::doctor::run(arguments, session).await,
        Command::Completions(_) | Command::GenerateDocs => Ok(()),
    }
}

/// The error of a command that was dropped.
pub(crate) fn interrupted_error() -> CopalError {
    CopalError::new(ErrorKind::Interrupted, "interrupted")
}

/// `Err(interrupted)` once the user asked for it.
pub(crate) fn check(cancel: &CancelToken) -> copal::Result<()> {
    cancel.check().map_err(|_| interrupted_error())
}
