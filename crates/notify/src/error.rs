//! What can go wrong in sending, without a word of what must stay secret.

use std::fmt;
use std::time::Duration;

/// Result of this crate's calls.
pub type Result<T> = std::result::Result<T, NotifyError>;

/// The class of a [`NotifyError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NotifyErrorKind {
    /// The configuration of the channel cannot be used.
    Configuration,
    /// No connection, or it was lost.
    Unreachable,
    /// No answer within the time limit.
    TimedOut,
    /// The other side is busy or broken: 429, 408, 5xx, SMTP 4yz, a command that failed.
    Unavailable,
    /// The other side refused: another status, a redirection, SMTP 5yz.
    Refused,
}

/// A notice was not delivered.
#[derive(Clone)]
pub struct NotifyError {
    /// The class.
    pub kind: NotifyErrorKind,
    /// The channel: `webhook`, `slack` and so on.
    pub channel: &'static str,
    /// Scheme and host, or the command's program; empty where there is none.
    pub place: String,
    /// The status of HTTP, SMTP or the command's exit.
    pub status: Option<u16>,
    /// What happened, without secrets.
    pub message: String,
    /// How long the other side asked to wait.
    pub retry_after: Option<Duration>,
}

impl NotifyError {
    pub(crate) fn new(kind: NotifyErrorKind, channel: &'static str, message: impl Into<String>) -> Self {
        Self { kind, channel, place: String::new(), status: None, message: message.into(), retry_after: None }
    }

    pub(crate) fn configuration(channel: &'static str, message: impl Into<String>) -> Self {
        Self::new(NotifyErrorKind::Configuration, channel, message)
    }

    pub(crate) fn at(mut self, place: impl Into<String>) -> Self {
        self.place = place.into();
        self
    }

    pub(crate) fn status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// The class.
    pub fn kind(&self) -> NotifyErrorKind {
        self.kind
    }

    /// Whether the same notice may be delivered when it is sent again.
    pub fn is_retryable(&self) -> bool {
        !matches!(self.kind, NotifyErrorKind::Configuration | NotifyErrorKind::Refused)
    }
}

impl fmt::Display for NotifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.channel)?;
        if !self.place.is_empty() {
            write!(f, " ({})", self.place)?;
        }
        write!(f, ": {}", self.message)
    }
}

impl fmt::Debug for NotifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NotifyError({:?}, {self})", self.kind)
    }
}

impl std::error::Error for NotifyError {}
