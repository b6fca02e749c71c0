//! The one error type of the library: what happened, why, and what to do about it.

use std::error::Error;
use std::fmt;

/// Result of a use case.
pub type Result<T> = std::result::Result<T, CopalError>;

/// The class of an error; its name stands in JSON as `kind`, its exit code is fixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Anything that went wrong without being one of the others.
    Failed,
    /// A database, backup or repository that is not there.
    NotFound,
    /// A target that exists and may not be replaced without `--replace`.
    Exists,
    /// The database itself is damaged or cannot be read.
    Corrupt,
    /// A disk or quota is full.
    NoSpace,
    /// The operating system, the server or the store refuses.
    PermissionDenied,
    /// The store or network did not answer.
    Unavailable,
    /// The engine or the store cannot do that.
    Unsupported,
    /// A wrong call.
    Usage,
    /// A wrong configuration.
    Configuration,
    /// A missing or wrong passphrase or key.
    Passphrase,
    /// Objects of the repository are missing or changed.
    Damage,
    /// `copal.json` or a document was changed by somebody without the key.
    Tampering,
    /// A manifest of another database or backup stands in this one's place.
    Replay,
    /// The repository is older than what this machine has seen.
    Rollback,
    /// Somebody else works on this database, or another process holds it.
    Busy,
    /// The journal does not go on from the state that it should follow: a full backup is needed.
    Gap,
    /// The backup was pruned while it was read.
    Pruned,
    /// Cancelled from outside.
    Interrupted,
}

impl ErrorKind {
    /// The word in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::NotFound => "not-found",
            Self::Exists => "exists",
            Self::Corrupt => "corrupt",
            Self::NoSpace => "no-space",
            Self::PermissionDenied => "permission-denied",
            Self::Unavailable => "unavailable",
            Self::Unsupported => "unsupported",
            Self::Usage => "usage",
            Self::Configuration => "configuration",
            Self::Passphrase => "passphrase",
            Self::Damage => "damage",
            Self::Tampering => "tampering",
            Self::Replay => "replay",
            Self::Rollback => "rollback",
            Self::Busy => "busy",
            Self::Gap => "gap",
            Self::Pruned => "pruned",
            Self::Interrupted => "interrupted",
        }
    }

    /// The exit code of the command.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Usage | Self::Configuration | Self::Passphrase => 2,
            Self::Damage | Self::Tampering | Self::Replay | Self::Rollback => 4,
            Self::Busy | Self::Pruned => 5,
            Self::Interrupted => 130,
            _ => 1,
        }
    }
}

impl serde::Serialize for ErrorKind {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// An error of a use case. `Display` is one line; `source` leads to the causes; `hint` says what to do.
#[derive(Debug)]
pub struct CopalError {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl CopalError {
    /// A new error.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None, source: None }
    }

    /// The class.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What the user can do about it, where that is known.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The texts of the errors underneath, nearest first, those left out that only repeat the one above them.
    pub fn causes(&self) -> Vec<String> {
        let mut causes: Vec<String> = Vec::new();
        let mut above = self.message.clone();
        let mut next = self.source();
        while let Some(error) = next {
            let text = error.to_string();
            if !above.contains(&text) {
                causes.push(text.clone());
                above = text;
            }
            next = error.source();
        }
        causes
    }

    /// Whether the same call may succeed a little later.
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind, ErrorKind::Busy | ErrorKind::Unavailable | ErrorKind::Pruned)
    }

    /// Adds or replaces the advice.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the error underneath.
    pub fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}

impl fmt::Display for CopalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for CopalError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|e| e as &(dyn Error + 'static))
    }
}
