//! The file that holds the hashes of the tokens: read strictly, replaced whole.
//!
//! ```toml
//! [tokens.grafana]
//! role = "viewer"
//! hash = "sha256:…"
//! created = "2026-11-20T15:30:00Z"
//! ```

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use copal::Secret;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Hash, Role, TokenError, TokenInfo, hash, hex, random};
use crate::lock::create_private;

const PREFIX: &str = "copal_";
const ALGORITHM: &str = "sha256:";
const HEAD: &str =
    "# The tokens of Copal's HTTP API, as `copal token` writes them: hashes only, the tokens stand nowhere.\n\n";

/// A file of tokens. Changes take turns by a lock on a file beside it and replace it in one step.
#[derive(Clone, Debug)]
pub struct TokenFile {
    path: PathBuf,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    tokens: BTreeMap<String, Entry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    role: Role,
    hash: String,
    created: Timestamp,
}

impl Entry {
    fn info(&self, name: &str) -> TokenInfo {
        TokenInfo { name: name.to_owned(), role: self.role, created: self.created }
    }
}

impl TokenFile {
    /// A file, which need not be there.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file beside it by which changes take turns.
    pub(crate) fn lock_of(path: &Path) -> PathBuf {
        beside(path, ".lock")
    }

    /// The tokens, sorted by name.
    pub fn list(&self) -> Result<Vec<TokenInfo>, TokenError> {
        Ok(self.read()?.tokens.iter().map(|(name, entry)| entry.info(name)).collect())
    }

    /// Makes a token and answers it; it can never be shown again. The folder is created if it is not there.
    ///
    /// Errors: the name is none or taken; the file cannot be read, is wrong, or cannot be written.
    pub fn add(&self, name: &str, role: Role, now: Timestamp) -> Result<Secret, TokenError> {
        if !is_name(name) {
            return Err(TokenError::Name(name.to_owned()));
        }
        let _turn = self.turn()?;
        let mut document = self.read()?;
        if document.tokens.contains_key(name) {
            return Err(TokenError::Exists { name: name.to_owned(), path: self.path.clone() });
        }
        let token = new_token()?;
        let hash = format!("{ALGORITHM}{}", hex(&hash(token.reveal())));
        document.tokens.insert(name.to_owned(), Entry { role, hash, created: now });
        self.write(&document)?;
        Ok(token)
    }

    /// Removes a token and answers what it was.
    pub fn remove(&self, name: &str) -> Result<TokenInfo, TokenError> {
        let unknown = || TokenError::Unknown { name: name.to_owned(), path: self.path.clone() };
        // Where nothing is, not even a lock file should come to be.
        self.read()?.tokens.get(name).ok_or_else(unknown)?;
        let _turn = self.turn()?;
        let mut document = self.read()?;
        let entry = document.tokens.remove(name).ok_or_else(unknown)?;
        self.write(&document)?;
        Ok(entry.info(name))
    }

    /// The tokens by their hashes.
    pub(super) fn hashes(&self) -> Result<HashMap<Hash, TokenInfo>, TokenError> {
        let mut hashes = HashMap::new();
        for (name, entry) in &self.read()?.tokens {
            let hash = parse_hash(&entry.hash).ok_or_else(|| self.wrong(bad_hash(name)))?;
            hashes.insert(hash, entry.info(name));
        }
        Ok(hashes)
    }

    /// Reads and checks everything.
    fn read(&self) -> Result<Document, TokenError> {
        let text = match std::fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Document::default()),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(self.wrong("it is no text".into())),
            Err(error) => return Err(TokenError::Unreadable(self.path.clone(), error)),
        };
        let document: Document = toml::from_str(&text).map_err(|error| self.wrong(place(&text, &error)))?;
        let mut names: HashMap<Hash, &str> = HashMap::new();
        for (name, entry) in &document.tokens {
            if !is_name(name) {
                return Err(self.wrong(format!("{name:?} is no name for a token")));
            }
            let hash = parse_hash(&entry.hash).ok_or_else(|| self.wrong(bad_hash(name)))?;
            if let Some(other) = names.insert(hash, name) {
                // Which role would it have?
                return Err(self.wrong(format!("{other:?} and {name:?} are the same token")));
            }
        }
        Ok(document)
    }

    fn wrong(&self, problem: String) -> TokenError {
        TokenError::Wrong { path: self.path.clone(), problem }
    }

    fn unwritable(&self, error: io::Error) -> TokenError {
        TokenError::Unwritable(self.path.clone(), error)
    }

    /// Waits until nobody else changes the file; ours until the answer is dropped.
    fn turn(&self) -> Result<File, TokenError> {
        let take = || {
            let lock = Self::lock_of(&self.path);
            if let Some(folder) = lock.parent() {
                create_private(folder)?;
            }
            let file = private(OpenOptions::new().write(true).create(true).truncate(false)).open(lock)?;
            file.lock()?;
            Ok(file)
        };
        take().map_err(|error| self.unwritable(error))
    }

    /// Replaces the file, durably; only while it is our turn.
    fn write(&self, document: &Document) -> Result<(), TokenError> {
        let text = toml::to_string(document).map_err(|error| self.unwritable(io::Error::other(error)))?;
        self.replace(&format!("{HEAD}{text}")).map_err(|error| self.unwritable(error))
    }

    fn replace(&self, text: &str) -> io::Result<()> {
        // Where the path is a link, the file behind it is meant.
        let target = match std::fs::canonicalize(&self.path) {
            Ok(target) => target,
            Err(error) if error.kind() == io::ErrorKind::NotFound => std::path::absolute(&self.path)?,
            Err(error) => return Err(error),
        };
        let new = beside(&target, ".new");
        // Left by somebody who was killed while it was their turn.
        match std::fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let written = write_new(&new, &target, text).and_then(|()| std::fs::rename(&new, &target));
        if written.is_err() {
            // The error that is reported is the one before.
            let _ = std::fs::remove_file(&new);
        }
        written?;
        sync_folder(&target)
    }
}

fn write_new(new: &Path, target: &Path, text: &str) -> io::Result<()> {
    let mut file = private(OpenOptions::new().write(true).create_new(true)).open(new)?;
    keep_owner(&file, target);
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(unix)]
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600)
}

#[cfg(not(unix))]
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options
}

/// Gives a new file the owner of the one that it replaces, else of the folder: a token that root adds is for the daemon, which
/// runs as somebody else. Who is not root cannot do so and has no need to.
#[cfg(unix)]
fn keep_owner(file: &File, target: &Path) {
    use std::os::unix::fs::{MetadataExt, fchown};
    let folder = || std::fs::metadata(target.parent()?).ok();
    let (Some(before), Ok(now)) = (std::fs::metadata(target).ok().or_else(folder), file.metadata()) else { return };
    if (before.uid(), before.gid()) == (now.uid(), now.gid()) {
        return;
    }
    if let Err(error) = fchown(file, Some(before.uid()), Some(before.gid())) {
        tracing::debug!(%error, "the token file has another owner than before");
    }
}

#[cfg(not(unix))]
fn keep_owner(_file: &File, _target: &Path) {}

#[cfg(unix)]
fn sync_folder(target: &Path) -> io::Result<()> {
    target.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(not(unix))]
fn sync_folder(_target: &Path) -> io::Result<()> {
    Ok(())
}

fn new_token() -> Result<Secret, TokenError> {
    Ok(Secret::new(format!("{PREFIX}{}", random()?.reveal())))
}

fn parse_hash(text: &str) -> Option<Hash> {
    let digits = text.strip_prefix(ALGORITHM)?;
    let is_lower_hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    if digits.len() != 64 || !digits.bytes().all(is_lower_hex) {
        return None;
    }
    let mut hash = [0; 32];
    for (n, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(2 * n..2 * n + 2)?, 16).ok()?;
    }
    Some(hash)
}

fn bad_hash(name: &str) -> String {
    format!("the hash of {name:?} is not \"{ALGORITHM}\" and 64 digits of hexadecimal")
}

fn is_name(name: &str) -> bool {
    let is_good = |c: u8| c.is_ascii_alphanumeric() || b"._-".contains(&c);
    (1..=64).contains(&name.len()) && name.bytes().all(is_good)
}

/// What TOML finds wrong, and in which line; one line of text.
fn place(text: &str, error: &toml::de::Error) -> String {
    let message = error.message().lines().next().unwrap_or_default();
    match error.span().and_then(|span| text.get(..span.start)) {
        Some(before) => format!("line {}: {message}", before.matches('\n').count() + 1),
        None => message.to_owned(),
    }
}
