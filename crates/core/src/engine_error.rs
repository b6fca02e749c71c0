//! What can go wrong in an engine, the same for every engine.

use crate::Cancelled;

/// An error of another layer on its way through an engine.
pub type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// Result of an engine call.
pub type EngineResult<T> = Result<T, EngineError>;

/// The class of an engine error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EngineErrorKind {
    /// There is no such database.
    NotFound,
    /// The file or server is something else than this engine's kind of database.
    NotThisEngine,
    /// The database is damaged; it was not backed up, or what was restored is not sound.
    Corrupt,
    /// The database is encrypted and cannot be read.
    Encrypted,
    /// Another process holds the database; waited as long as allowed.
    Busy,
    /// The operating system or the server refuses.
    PermissionDenied,
    /// The target exists and may not be replaced without being told so.
    Exists,
    /// No room on the disk.
    NoSpace,
    /// This engine cannot do that, or not with this version.
    Unsupported,
    /// What happened since the last saved state is no longer known, or a journal does not fit together.
    Gap,
    /// The operation was cancelled.
    Cancelled,
    /// The repository refused or failed; the source says why.
    Repository,
    /// Anything else: the source says what.
    Other,
}

/// An error of an engine: what happened to which database, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct EngineError {
    /// The class.
    pub kind: EngineErrorKind,
    /// What happened, naming the database, without secrets.
    pub message: String,
    /// What the user can do, where that is known.
    pub hint: Option<String>,
    /// The error underneath.
    #[source]
    pub source: Option<AnyError>,
}

impl EngineError {
    /// A new error.
    pub fn new(kind: EngineErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None, source: None }
    }

    /// An error that the sink or the content (that is, the repository) gave.
    pub fn repository(source: AnyError) -> Self {
        Self::new(EngineErrorKind::Repository, "the repository failed").because(source)
    }

    /// The class.
    pub fn kind(&self) -> EngineErrorKind {
        self.kind
    }

    /// Whether the same call may succeed a little later.
    pub fn is_retryable(&self) -> bool {
        self.kind == EngineErrorKind::Busy
    }

    /// Adds advice for the user.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the error underneath.
    pub fn because(mut self, source: impl Into<AnyError>) -> Self {
        self.source = Some(source.into());
        self
    }
}

impl From<Cancelled> for EngineError {
    fn from(cancelled: Cancelled) -> Self {
        Self::new(EngineErrorKind::Cancelled, cancelled.to_string())
    }
}
