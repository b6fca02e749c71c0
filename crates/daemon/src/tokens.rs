//! Bearer tokens of the HTTP API: who may do what, and the tokens in force.
//!
//! A token is 256 random bits, and the file holds its SHA-256 only. A slow hash protects passwords, which people choose and
//! others guess; nobody guesses such a token, so a slow hash would only slow down every request. For the same reason a token is
//! found by its hash: how long that takes tells nothing that helps to find one.

mod file;
mod sessions;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use aws_lc_rs::{digest, rand};
use copal::Secret;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::stamp::FileStamp;
pub use file::TokenFile;
pub(crate) use sessions::{OpenSession, Sessions};

/// Its name in the state folder, where no other file is configured.
pub const FILE_NAME: &str = "tokens.toml";

/// Ours have 70 bytes; whoever sends more is not worth hashing it.
const MAX_PRESENTED: usize = 256;
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What the bearer of a token may do; each role may do all that those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Looks.
    Viewer,
    /// Starts and cancels runs, pins, and restores to new places.
    Operator,
    /// Replaces databases by restores.
    Admin,
}

impl Role {
    /// Every role, the humblest first.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// Its word in files, arguments and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// No word for a role.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no role; the roles are viewer, operator and admin")]
pub struct UnknownRole(String);

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or_else(|| UnknownRole(text.to_owned()))
    }
}

/// What is known of a token, without the token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TokenInfo {
    /// Whose or what for it is.
    pub name: String,
    /// What its bearer may do.
    pub role: Role,
    /// When it was made.
    pub created: Timestamp,
}

/// Why the tokens cannot be read or changed. The texts say which file, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error("cannot read the token file {}; the user that runs copal must be able to read it", .0.display())]
    Unreadable(PathBuf, #[source] io::Error),
    /// The file, or what is needed beside it, cannot be written.
    #[error("cannot write the token file {}; the user that runs copal must be able to write to its folder", .0.display())]
    Unwritable(PathBuf, #[source] io::Error),
    /// Its content is not what it should be.
    #[error(
        "the token file {} is wrong: {problem}; mend it, or remove it and make new tokens with `copal token add`",
        path.display()
    )]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Where and what.
        problem: String,
    },
    /// A name that no token can have.
    #[error("{0:?} is no name for a token; a name has 1 to 64 letters, digits, dots, dashes and underscores")]
    Name(String),
    /// The name is taken.
    #[error("there is a token {name:?} in {} already; take another name, or remove that one first", path.display())]
    Exists {
        /// The name.
        name: String,
        /// The file.
        path: PathBuf,
    },
    /// There is no such token.
    #[error("there is no token {name:?} in {}; see which there are with `copal token list`", path.display())]
    Unknown {
        /// The name.
        name: String,
        /// The file.
        path: PathBuf,
    },
    /// The system has no random numbers.
    #[error("this system gives no random numbers")]
    Random,
}

/// The SHA-256 of a token.
type Hash = [u8; 32];

/// Hashes a token.
fn hash(token: &str) -> Hash {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
    hash
}

/// What nobody guesses: 256 random bits, in hexadecimal.
fn random() -> Result<Secret, TokenError> {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).map_err(|_| TokenError::Random)?;
    Ok(Secret::new(hex(&bytes)))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A token that somebody presented, without the token.
#[derive(Clone)]
pub(crate) struct KnownToken {
    pub(crate) info: TokenInfo,
    hash: Hash,
}

impl fmt::Debug for KnownToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.info.fmt(f)
    }
}

/// The tokens in force, shared by all clones.
#[derive(Clone, Debug)]
pub struct Tokens {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    file: TokenFile,
    known: RwLock<HashMap<Hash, TokenInfo>>,
    seen: Mutex<Seen>,
}

/// When and how the file was looked at.
#[derive(Debug)]
struct Seen {
    at: Instant,
    stamp: Option<FileStamp>,
    /// The state of the file that was complained about.
    warned: Option<Option<FileStamp>>,
}

impl Tokens {
    /// Reads the file; one that is not there has no tokens.
    pub fn load(path: impl Into<PathBuf>) -> Result<Self, TokenError> {
        let file = TokenFile::new(path);
        // Looked at before it is read: what changes in between is read again.
        let stamp = FileStamp::of(file.path());
        let known = RwLock::new(file.hashes()?);
        let seen = Mutex::new(Seen { at: Instant::now(), stamp, warned: None });
        Ok(Self { inner: Arc::new(Inner { file, known, seen }) })
    }

    /// Reads the file again. On an error the tokens stay in force that were.
    pub fn reload(&self) -> Result<(), TokenError> {
        let mut seen = self.inner.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = FileStamp::of(self.inner.file.path());
        self.reread()?;
        *seen = Seen { at: Instant::now(), stamp, warned: None };
        Ok(())
    }

    fn reread(&self) -> Result<(), TokenError> {
        let known = self.inner.file.hashes()?;
        *self.inner.known.write().unwrap_or_else(PoisonError::into_inner) = known;
        Ok(())
    }

    /// Reads the file again if it has changed; looks at most once a second, so it may be called for every request. What cannot be
    /// read is logged once and leaves the tokens in force that were.
    pub fn refresh_if_changed(&self) {
        let mut seen = self.inner.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.at.elapsed() < LOOK_EVERY {
            return;
        }
        seen.at = Instant::now();
        let stamp = FileStamp::of(self.inner.file.path());
        if stamp == seen.stamp {
            return;
        }
        match self.reread() {
            Ok(()) => {
                tracing::info!(file = %self.inner.file.path().display(), "the tokens have changed");
                (seen.stamp, seen.warned) = (stamp, None);
            }
            Err(error) => {
                // What failed is tried again, since it may have been the system and not the file.
                if seen.warned.as_ref() != Some(&stamp) {
                    let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                    tracing::warn!(%error, cause, "the tokens stay as they were");
                    seen.warned = Some(stamp);
                }
            }
        }
    }

    /// Whether there is no token at all.
    pub fn is_empty(&self) -> bool {
        self.inner.known.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Finds out whose token this is.
    pub fn find(&self, presented: &str) -> Option<TokenInfo> {
        self.recognise(presented).map(|known| known.info)
    }

    /// Finds out whose token this is, to ask later whether it still holds.
    pub(crate) fn recognise(&self, presented: &str) -> Option<KnownToken> {
        if presented.len() > MAX_PRESENTED {
            return None;
        }
        let hash = hash(presented);
        let known = self.inner.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(&hash).map(|info| KnownToken { info: info.clone(), hash })
    }

    /// Whether a token is still in force, as it was.
    pub(crate) fn holds(&self, token: &KnownToken) -> bool {
        let known = self.inner.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(&token.hash) == Some(&token.info)
    }
}
