//! Reading the command line, and answering mistakes in it in the house's form, as text or as JSON.

use std::ffi::OsString;
use std::io::Write;

use clap::error::ErrorKind as ClapKind;
use clap::{CommandFactory, Parser};
use copal::{CopalError, ErrorKind};

use crate::arguments::Cli;
use crate::output::{Output, OutputOptions};

/// Parses the arguments; `Err` carries the exit code after everything has been said.
pub(crate) fn parse(arguments: &[OsString]) -> Result<Cli, u8> {
    if arguments.len() <= 1 {
        let _ = write!(std::io::stdout(), "{}", Cli::command().render_help().ansi_if_terminal());
        return Err(0);
    }
    let json = wants_json(arguments);
    match Cli::try_parse_from(arguments) {
        Ok(cli) if cli.options.json && !cli.command.has_json() => {
            let error = CopalError::new(ErrorKind::Usage, format!("`copal {}` has no --json", cli.command.name()));
            Err(refuse(json, &error, cli.command.name()))
        }
        Ok(cli) => Ok(cli),
        Err(error) if matches!(error.kind(), ClapKind::DisplayHelp | ClapKind::DisplayVersion) => {
            let _ = error.print();
            Err(0)
        }
        Err(error) => {
            let command = command_name(arguments);
            Err(refuse(json, &translate(&error, command), command))
        }
    }
}

fn refuse(json: bool, error: &CopalError, command: &str) -> u8 {
    let output = Output::new(command, OutputOptions { json, ..OutputOptions::default() });
    output.failure(None, error);
    output.finish()
}

fn wants_json(arguments: &[OsString]) -> bool {
    arguments.iter().skip(1).take_while(|argument| *argument != "--").any(|argument| argument == "--json")
}

fn command_name(arguments: &[OsString]) -> &str {
    let words = arguments.iter().skip(1).filter_map(|argument| argument.to_str());
    let command = Cli::command();
    let mut names = words.filter(|word| command.get_subcommands().any(|known| known.get_name() == *word));
    names.next().unwrap_or("copal")
}

/// clap's message, its advice and the usage line as one of our errors.
fn translate(error: &clap::Error, command: &str) -> CopalError {
    let text = error.render().to_string();
    let mut message: Vec<&str> = Vec::new();
    let (mut hints, mut usage): (Vec<String>, Option<&str>) = (Vec::new(), None);
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(tip) = line.strip_prefix("tip: ") {
            hints.push(tip.to_owned());
        } else if let Some(line) = line.strip_prefix("Usage: ") {
            usage = Some(line);
        } else if usage.is_none() && !line.starts_with("For more information") {
            message.push(line.strip_prefix("error: ").unwrap_or(line));
        }
    }
    if error.kind() == ClapKind::DisplayHelpOnMissingArgumentOrSubcommand {
        message = vec!["a command is missing"];
    }
    if hints.is_empty() {
        hints.extend(usage.map(|usage| format!("usage: {usage}")));
    }
    let error = CopalError::new(ErrorKind::Usage, message.join(" "));
    if hints.is_empty() {
        let command = if command == "copal" { command.to_owned() } else { format!("copal {command}") };
        hints.push(format!("see {command} --help"));
    }
    error.with_hint(hints.join("; "))
}

/// Help texts come with their own styling, which only terminals want.
trait AnsiIfTerminal {
    fn ansi_if_terminal(self) -> String;
}

impl AnsiIfTerminal for clap::builder::StyledStr {
    fn ansi_if_terminal(self) -> String {
        if crate::output::Style::of_stdout().is_enabled() { self.ansi().to_string() } else { self.to_string() }
    }
}
