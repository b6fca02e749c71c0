//! Colours, where a terminal wants them, and texts from elsewhere made harmless for it.

use std::io::IsTerminal;

/// Puts colours around texts, or leaves them alone.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Style {
    enabled: bool,
}

impl Style {
    /// Colours for standard output, if it is a terminal that has them and nobody set `NO_COLOR`.
    pub(crate) fn of_stdout() -> Self {
        Self { enabled: std::io::stdout().is_terminal() && is_welcome() }
    }

    /// The same for standard error.
    pub(crate) fn of_stderr() -> Self {
        Self { enabled: std::io::stderr().is_terminal() && is_welcome() }
    }

    /// Whether there are colours.
    pub(crate) fn is_enabled(self) -> bool {
        self.enabled
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.enabled { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    pub(crate) fn red(self, text: &str) -> String {
        self.wrap("1;31", text)
    }

    pub(crate) fn yellow(self, text: &str) -> String {
        self.wrap("33", text)
    }

    pub(crate) fn green(self, text: &str) -> String {
        self.wrap("32", text)
    }
}

fn is_welcome() -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    !is_set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// A text without control characters: labels, names and messages come from files and servers.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c }).collect()
}
