//! `copal completions`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::arguments::Cli;
use crate::output::Output;

/// Print completions for a shell.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  copal completions bash > /etc/bash_completion.d/copal
  copal completions zsh  > ~/.zfunc/_copal
  copal completions fish > ~/.config/fish/completions/copal.fish")]
pub(crate) struct Arguments {
    /// The shell.
    shell: Shell,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments, output: &Output) {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "copal", &mut script);
    output.text(String::from_utf8_lossy(&script).trim_end());
}
