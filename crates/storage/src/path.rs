//! The name of an object inside a storage.

use std::fmt;

/// A relative object name: segments of `[A-Za-z0-9._-]` joined by `/`, no `.` or `..`, at most 512 bytes.
///
/// Compared byte by byte; case-insensitive file systems are served by the repository's lower-case names.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectPath(String);

/// A text that is no valid object name.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a valid object name")]
pub struct InvalidPath(pub String);

impl ObjectPath {
    /// Checks a name read from elsewhere (a manifest, a listing).
    pub fn parse(text: &str) -> std::result::Result<Self, InvalidPath> {
        let good_segment = |s: &str| {
            !s.is_empty()
                && s != "."
                && s != ".."
                && s.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        };
        if text.len() <= 512 && text.split('/').all(good_segment) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidPath(text.to_owned()))
        }
    }

    /// The name as text, for example `databases/shop/database`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last segment.
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }
}

impl fmt::Display for ObjectPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ObjectPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}
