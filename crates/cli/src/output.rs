//! Everything that leaves the program: text or one JSON document on standard output, the rest on standard error.
//!
//! Collects results, warnings and failures on the way and answers the exit code at the end. A closed standard output
//! (`copal list | head`) is no error.

mod document;
mod page;
mod spark;
mod style;
mod table;
mod units;

use std::io::{IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use copal::{CopalError, ErrorKind};
use indicatif::ProgressBar;
use serde::Serialize;
use serde_json::value::RawValue;

pub(crate) use spark::Sparks;
pub(crate) use style::{Style, clean};
pub(crate) use table::{Align, Table};
pub(crate) use units::{age, bytes, elapsed, local_time, plural};

/// How to speak.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OutputOptions {
    pub(crate) json: bool,
    pub(crate) quiet: bool,
    pub(crate) verbose: bool,
    /// Whether progress bars are wanted; only a terminal gets them.
    pub(crate) bars: bool,
}

/// The program's voice.
pub(crate) struct Output {
    command: String,
    options: OutputOptions,
    /// Styling of standard output.
    pub(crate) style: Style,
    error_style: Style,
    bars: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    results: Vec<Box<RawValue>>,
    warnings: Vec<String>,
    errors: Vec<(u8, document::ErrorDocument)>,
    bar: Option<ProgressBar>,
    exit_code: Option<u8>,
    /// Standard output failed, other than by being closed.
    cannot_write: bool,
}

/// Which exit code goes before which.
const ORDER: [u8; 7] = [130, 4, 1, 2, 5, 3, 0];

fn rank(code: u8) -> usize {
    ORDER.iter().position(|known| *known == code).unwrap_or(0)
}

impl Output {
    /// Begins the output of a command.
    pub(crate) fn new(command: &str, options: OutputOptions) -> Self {
        let bars = options.bars && !options.json && !options.quiet && std::io::stderr().is_terminal();
        let (style, error_style) = (Style::of_stdout(), Style::of_stderr());
        Self { command: command.to_owned(), options, style, error_style, bars, state: Mutex::default() }
    }

    /// Whether a JSON document is wanted.
    pub(crate) fn is_json(&self) -> bool {
        self.options.json
    }

    /// Whether more is to be told.
    pub(crate) fn is_verbose(&self) -> bool {
        self.options.verbose
    }

    /// Whether progress bars are shown.
    pub(crate) fn has_bars(&self) -> bool {
        self.bars
    }

    /// The bar that other output has to step around.
    pub(crate) fn set_bar(&self, bar: Option<ProgressBar>) {
        self.lock().bar = bar;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was asked for, as text.
    pub(crate) fn text(&self, text: &str) {
        if !self.options.json {
            self.print(text);
        }
    }

    /// What was done, as text; not with `--quiet`.
    pub(crate) fn done(&self, text: &str) {
        if !self.options.quiet {
            self.text(text);
        }
    }

    /// One entry of `results`.
    pub(crate) fn result(&self, result: &impl Serialize) {
        if self.options.json {
            // Our own types always serialise.
            self.lock().results.extend(serde_json::value::to_raw_value(result));
        }
    }

    /// Something worth knowing that changes nothing.
    pub(crate) fn notice(&self, text: &str) {
        if !self.options.quiet && !self.options.json {
            self.error_line(&format!("{} {}", self.error_style.dim("Note:"), clean(text)));
        }
    }

    /// A line of verbose output, as it is.
    pub(crate) fn detail(&self, text: &str) {
        if self.options.verbose {
            self.error_line(&clean(text));
        }
    }

    /// A warning: the command goes on and ends with code 3, unless something worse happens.
    pub(crate) fn warning(&self, text: &str) {
        let mut state = self.lock();
        if state.warnings.iter().any(|known| known == text) {
            return;
        }
        state.warnings.push(text.to_owned());
        drop(state);
        if !self.options.json {
            self.error_line(&format!("{} {}", self.error_style.yellow("Warning:"), clean(text)));
        }
    }

    /// A failure, of one database if one is named; `results` then says so too.
    pub(crate) fn failure(&self, database: Option<&str>, error: &CopalError) {
        if let Some(database) = database {
            let database = &copal::Source::shown(database);
            self.result(&document::FailedResult { database, error: error.into() });
        }
        self.found(error);
    }

    /// A failure whose place in `results` is taken already.
    pub(crate) fn found(&self, error: &CopalError) {
        self.lock().errors.push((error.kind().exit_code(), error.into()));
        if !self.options.json {
            self.error_line(&page::render(error, self.options.verbose, self.error_style));
        }
    }

    /// The exit code is that of a command that was run, whatever else happens.
    pub(crate) fn exit_with(&self, code: u8) {
        self.lock().exit_code = Some(code);
    }

    /// Ends the output and answers the exit code.
    pub(crate) fn finish(&self) -> u8 {
        let mut state = std::mem::take(&mut *self.lock());
        state.errors.sort_by_key(|(code, _)| rank(*code));
        let worst = state.errors.first().map(|(code, _)| *code);
        let code = worst.unwrap_or(if state.warnings.is_empty() { 0 } else { ErrorKind::WARNINGS });
        let code = state.exit_code.unwrap_or(code);
        if self.options.json {
            let error = state.errors.into_iter().next().map(|(_, error)| error);
            let document = document::Document {
                format: 1,
                command: &self.command,
                ok: error.is_none(),
                exit_code: code,
                warnings: state.warnings,
                error,
                results: state.results,
            };
            self.print(&serde_json::to_string_pretty(&document).unwrap_or_default());
        }
        if self.lock().cannot_write && code == 0 { ErrorKind::Failed.exit_code() } else { code }
    }

    /// Runs something that prints, with the bar out of the way.
    fn aside(&self, print: impl FnOnce()) {
        let bar = self.lock().bar.clone();
        match bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    /// Writes to standard output. Work goes on when nobody reads any more (`copal backup --all | head`).
    fn print(&self, text: &str) {
        let mut result = Ok(());
        self.aside(|| {
            let mut out = std::io::stdout().lock();
            result = writeln!(out, "{text}").and_then(|()| out.flush());
        });
        let Err(error) = result else { return };
        if error.kind() != std::io::ErrorKind::BrokenPipe && !std::mem::replace(&mut self.lock().cannot_write, true) {
            self.error_line(&format!("Error: cannot write to standard output\nCaused by: {error}"));
        }
    }

    fn error_line(&self, text: &str) {
        self.aside(|| {
            // Nobody is left to be told when standard error is closed.
            let _ = writeln!(std::io::stderr().lock(), "{text}");
        });
    }
}

/// The exit code of "done, with warnings", which is no error.
trait Warnings {
    const WARNINGS: u8;
}

impl Warnings for ErrorKind {
    const WARNINGS: u8 = 3;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_endings_the_gravest_is_the_exit_code() {
        let code = |kinds: &[ErrorKind], warns: bool| {
            let output = Output::new("test", OutputOptions { quiet: true, ..OutputOptions::default() });
            if warns {
                output.warning("careful");
            }
            kinds.iter().for_each(|kind| output.failure(Some("x"), &CopalError::new(*kind, "failed")));
            output.finish()
        };
        assert_eq!(code(&[], false), 0);
        assert_eq!(code(&[], true), 3);
        assert_eq!(code(&[ErrorKind::Busy], true), 5);
        assert_eq!(code(&[ErrorKind::Busy, ErrorKind::Usage], false), 2);
        assert_eq!(code(&[ErrorKind::Passphrase, ErrorKind::NotFound], false), 1);
        assert_eq!(code(&[ErrorKind::Failed, ErrorKind::Damage, ErrorKind::Busy], false), 4);
        assert_eq!(code(&[ErrorKind::Damage, ErrorKind::Interrupted], true), 130);
    }
}
