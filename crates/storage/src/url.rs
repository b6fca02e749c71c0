//! The address of a storage: a path or a URL.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::{Result, StorageError, StorageErrorKind};

/// Where a storage is. Never contains secrets: a URL with a user or password in it is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StorageUrl {
    /// A local folder: a plain path or `file:///path`.
    Local(PathBuf),
    /// `s3://bucket/prefix`
    S3 {
        /// The bucket.
        bucket: String,
        /// The prefix, possibly empty.
        prefix: String,
    },
    /// `gs://bucket/prefix`
    Gcs {
        /// The bucket.
        bucket: String,
        /// The prefix, possibly empty.
        prefix: String,
    },
    /// `az://container/prefix`
    Azure {
        /// The container.
        container: String,
        /// The prefix, possibly empty.
        prefix: String,
    },
    /// `memory:name`, for tests only.
    Memory(String),
}

impl StorageUrl {
    /// Whether it is reached over a network, so that others can read along there.
    pub fn is_remote(&self) -> bool {
        matches!(self, Self::S3 { .. } | Self::Gcs { .. } | Self::Azure { .. })
    }
}

impl FromStr for StorageUrl {
    type Err = StorageError;

    fn from_str(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Err(unusable("an empty text names no repository"));
        }
        if let Some(name) = text.strip_prefix("memory:") {
            return Ok(Self::Memory(name.to_owned()));
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            // One colon after a word is meant as a URL; `C:` or `./a:b` is not.
            let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme);
            return match scheme {
                "file" => text.strip_prefix("file:").map_or_else(|| Err(bad_file()), local),
                "s3" | "gs" | "az" => Err(unusable(format!("write {scheme}://bucket/prefix"))),
                _ => Ok(Self::Local(PathBuf::from(text))),
            };
        };
        match scheme {
            "file" => local(rest.strip_prefix("localhost").unwrap_or(rest)),
            "s3" | "s3a" => bucket(scheme, rest).map(|(bucket, prefix)| Self::S3 { bucket, prefix }),
            "gs" => bucket(scheme, rest).map(|(bucket, prefix)| Self::Gcs { bucket, prefix }),
            "az" => bucket(scheme, rest).map(|(container, prefix)| Self::Azure { container, prefix }),
            _ => Err(unusable(format!("{scheme}:// is no place for a repository"))
                .hint("use a path, file:///path, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix")),
        }
    }
}

impl fmt::Display for StorageUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, bucket, prefix) = match self {
            Self::Local(path) => return write!(f, "{}", path.display()),
            Self::Memory(name) => return write!(f, "memory:{name}"),
            Self::S3 { bucket, prefix } => ("s3", bucket, prefix),
            Self::Gcs { bucket, prefix } => ("gs", bucket, prefix),
            Self::Azure { container, prefix } => ("az", container, prefix),
        };
        let slash = if prefix.is_empty() { "" } else { "/" };
        write!(f, "{scheme}://{bucket}{slash}{prefix}")
    }
}

fn unusable(message: impl Into<String>) -> StorageError {
    StorageError::new(StorageErrorKind::Configuration, message)
}

fn bad_file() -> StorageError {
    unusable("a file URL looks like file:///absolute/path")
}

fn local(path: &str) -> Result<StorageUrl> {
    if !path.starts_with('/') {
        return Err(bad_file());
    }
    let decoded = percent_decode(path).ok_or_else(bad_file)?;
    #[cfg(unix)]
    let path = PathBuf::from(<std::ffi::OsString as std::os::unix::ffi::OsStringExt>::from_vec(decoded));
    #[cfg(not(unix))]
    let path = PathBuf::from(String::from_utf8(decoded).map_err(|_| bad_file())?);
    Ok(StorageUrl::Local(path))
}

/// Splits bucket and prefix. The text is not repeated in errors, as it may hold a password.
fn bucket(scheme: &str, rest: &str) -> Result<(String, String)> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.contains('@') {
        return Err(unusable(format!("a {scheme} URL must not contain keys"))
            .hint("take them out of the URL; they come from the environment or from [repository.s3]"));
    }
    if bucket.is_empty() || !bucket.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_')) {
        return Err(unusable(format!("a {scheme} URL looks like {scheme}://bucket/prefix")));
    }
    if rest.contains(['?', '#']) {
        return Err(unusable(format!("a {scheme} URL has no options after ? or #"))
            .hint("endpoint, region and path style belong into [repository.s3]"));
    }
    let prefix = prefix.trim_end_matches('/');
    let good = |s: &str| !s.is_empty() && s != "." && s != ".." && !s.bytes().any(|b| b.is_ascii_control());
    if !prefix.is_empty() && !prefix.split('/').all(good) {
        return Err(unusable(format!("{prefix:?} cannot be a prefix")));
    }
    Ok((bucket.to_owned(), prefix.to_owned()))
}

fn percent_decode(text: &str) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let (high, low) = (char::from(bytes.next()?), char::from(bytes.next()?));
            let value = high.to_digit(16)? * 16 + low.to_digit(16)?;
            decoded.push(u8::try_from(value).ok().filter(|b| *b != 0)?);
        } else {
            decoded.push(byte);
        }
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<StorageUrl> {
        text.parse()
    }

    #[test]
    fn paths_and_urls() {
        for (text, shown) in [
            ("/var/backups", "/var/backups"),
            ("backups", "backups"),
            ("./a:b", "./a:b"),
            ("file:///my%20dir/x", "/my dir/x"),
            ("file:/x", "/x"),
            ("file://localhost/x", "/x"),
            ("s3://bucket", "s3://bucket"),
            ("s3://bucket/", "s3://bucket"),
            ("s3://bucket/a/b/", "s3://bucket/a/b"),
            ("gs://b/p", "gs://b/p"),
            ("az://c/p", "az://c/p"),
            ("memory:x", "memory:x"),
        ] {
            assert_eq!(parse(text).unwrap().to_string(), shown, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_a_place_is_refused() {
        for text in [
            "",
            "ftp://x/y",
            "s3://",
            "s3:bucket",
            "s3://b//x",
            "s3://b/../x",
            "s3://b/x?region=y",
            "file://host/x",
            "file:x",
        ] {
            assert_eq!(parse(text).unwrap_err().kind(), StorageErrorKind::Configuration, "{text}");
        }
    }

    #[test]
    fn keys_in_a_url_are_refused_and_not_repeated() {
        for text in ["s3://AKIA:hunter2@bucket/x", "s3://hunter2@bucket", "http://u:hunter2@host/x"] {
            let error = parse(text).unwrap_err();
            assert!(!format!("{error:?} {error}").contains("hunter2"));
        }
    }
}
