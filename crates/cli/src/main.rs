//! The `copal` command: parses, calls the library, shows what came of it, and maps errors to exit codes.
//!
//! Owns everything a person or a script sees. Knows nothing of engines, storages or the repository's inside.

mod arguments;
mod choice;
mod client;
mod commands;
mod databases;
mod heap;
mod log;
mod moment;
mod output;
mod progress;
mod prompt;
mod reference;
mod run;
mod session;
mod signals;
mod usage;

fn main() -> std::process::ExitCode {
    run::main()
}
