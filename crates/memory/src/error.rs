//! What can go wrong with stores, their views and their streams.

use copal_core::{AnyError, Cancelled, EngineError, EngineErrorKind};

/// Result of a call in this crate.
pub type MemoryResult<T> = Result<T, MemoryError>;

/// The class of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MemoryErrorKind {
    /// A key, a name or content is there already.
    Exists,
    /// There is no such table or store.
    NotFound,
    /// A row or table does not fit the program's types.
    Mismatch,
    /// The store does not know what happened since that position.
    Gap,
    /// The streams are damaged, or not what they say.
    Damaged,
    /// The streams were written by a newer version.
    Unsupported,
    /// Somebody changed the store's tables meanwhile.
    Busy,
    /// The operation was cancelled.
    Cancelled,
    /// The store itself failed.
    Other,
}

/// An error of a store or of its streams. No message has a key or a row in it: they may be secrets.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// A row is inserted under a key that is there.
    #[error("table {0:?} has a row with this key already")]
    KeyExists(String),
    /// A name is registered already.
    #[error("a store is registered as {0:?} already")]
    NameTaken(String),
    /// Content may not be replaced.
    #[error("the store has rows, and they may not be replaced without being told so")]
    NotEmpty,
    /// The table was dropped; another one of the same name is another table.
    #[error("table {0:?} was dropped")]
    Dropped(String),
    /// The table is in use with other types.
    #[error("table {0:?} is in use with other types of keys and rows")]
    OtherTypes(String),
    /// A key or row cannot be written.
    #[error("row {row} of table {table:?} cannot be written as MessagePack")]
    Encode {
        /// The table.
        table: String,
        /// Which row of its part, from 1.
        row: u64,
        /// Why.
        source: AnyError,
    },
    /// A row was written as MessagePack, and a restore could not read it.
    #[error("a row of table {table:?} could be saved, but not restored")]
    Unreadable {
        /// The table.
        table: String,
        /// Why.
        source: AnyError,
    },
    /// A key or row of a backup is not what the program reads it as.
    #[error("a row of table {table:?} does not fit the type that it is read as")]
    Decode {
        /// The table.
        table: String,
        /// Why.
        source: AnyError,
    },
    /// What happened since a position is not known.
    #[error("what happened since position {0} is no longer known")]
    Gap(String),
    /// A stream is damaged.
    #[error("stream {stream} is damaged: {what}")]
    Damaged {
        /// Its name.
        stream: String,
        /// What is wrong.
        what: String,
    },
    /// A value is not MessagePack as docs/engines/memory.md wants it.
    #[error("this is not a MessagePack value: {0}")]
    Malformed(&'static str),
    /// A store gave other rows than it counted.
    #[error("the store said that table {table:?} has {expected} entries, and gave {found}")]
    Miscounted {
        /// The table.
        table: String,
        /// What it said.
        expected: u64,
        /// What it gave.
        found: u64,
    },
    /// A stream of a later format.
    #[error("stream {stream} has format {version}, and this program knows format 1")]
    Newer {
        /// Its name.
        stream: String,
        /// Its version.
        version: u64,
    },
    /// Tables were created with other types while a restore ran.
    #[error("table {0:?} came to be while the restore ran; nothing was replaced")]
    Changed(String),
    /// Nothing was offered, or something else.
    #[error("{0}")]
    NotOffered(String),
    /// The operation was cancelled.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    /// A store's own error.
    #[error("the store failed")]
    Store(#[source] AnyError),
}

/// What helps if rows do not fit their type.
const UNFIT: &str =
    "a field that came later needs a default (#[serde(default)]); restore to file:FOLDER to see the rows";

/// What helps if what is written cannot be read.
const UNREADABLE: &str =
    "what a type's Serialize writes, its Deserialize must read from MessagePack; of a key no field may be skipped";

impl MemoryError {
    /// The class.
    pub fn kind(&self) -> MemoryErrorKind {
        match self {
            Self::KeyExists(_) | Self::NameTaken(_) | Self::NotEmpty => MemoryErrorKind::Exists,
            Self::Dropped(_) => MemoryErrorKind::NotFound,
            Self::OtherTypes(_) | Self::Encode { .. } | Self::Unreadable { .. } | Self::Decode { .. } => {
                MemoryErrorKind::Mismatch
            }
            Self::Gap(_) => MemoryErrorKind::Gap,
            Self::Damaged { .. } | Self::Malformed(_) => MemoryErrorKind::Damaged,
            Self::Newer { .. } => MemoryErrorKind::Unsupported,
            Self::Changed(_) => MemoryErrorKind::Busy,
            Self::Cancelled(_) => MemoryErrorKind::Cancelled,
            Self::Miscounted { .. } | Self::NotOffered(_) | Self::Store(_) => MemoryErrorKind::Other,
        }
    }

    /// Whether the same call may succeed a little later.
    pub fn is_retryable(&self) -> bool {
        self.kind() == MemoryErrorKind::Busy
    }

    /// The same as an engine's error about `memory:<name>`.
    pub(crate) fn of(self, name: &str) -> EngineError {
        let (kind, hint) = match self.kind() {
            MemoryErrorKind::Exists => (EngineErrorKind::Exists, Some("add --replace to replace what is there")),
            MemoryErrorKind::NotFound => (EngineErrorKind::NotFound, None),
            MemoryErrorKind::Mismatch => {
                let hint = match &self {
                    Self::Decode { .. } => Some(UNFIT),
                    Self::Unreadable { .. } => Some(UNREADABLE),
                    _ => None,
                };
                (EngineErrorKind::Unsupported, hint)
            }
            MemoryErrorKind::Gap => (EngineErrorKind::Gap, Some("make a backup; the journal goes on from there")),
            MemoryErrorKind::Damaged => (EngineErrorKind::Corrupt, None),
            MemoryErrorKind::Unsupported => (EngineErrorKind::Unsupported, Some("update copal")),
            MemoryErrorKind::Busy => (EngineErrorKind::Busy, None),
            MemoryErrorKind::Cancelled => (EngineErrorKind::Cancelled, None),
            MemoryErrorKind::Other => (EngineErrorKind::Other, None),
        };
        let error = EngineError::new(kind, format!("memory:{name}: {self}"));
        let error = match hint {
            Some(hint) => error.hint(hint),
            None => error,
        };
        match self {
            Self::Encode { source, .. }
            | Self::Unreadable { source, .. }
            | Self::Decode { source, .. }
            | Self::Store(source) => error.because(source),
            _ => error,
        }
    }
}
