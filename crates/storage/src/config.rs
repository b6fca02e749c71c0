//! Options of a storage, as they stand in `[repository.s3]`.

use std::fmt;

use serde::Deserialize;

use crate::RetryPolicy;

/// How a storage is reached.
#[derive(Clone, Debug, Default)]
pub struct StorageOptions {
    /// Options for `s3://`; what is not set comes from the environment (`AWS_*`) or the instance's role.
    pub s3: S3Options,
    /// How transient errors are retried.
    pub retry: RetryPolicy,
}

/// Options for S3-compatible stores. What is not set is taken from `AWS_*`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct S3Options {
    /// The address of the store, `https://…`, or `http://…` for a connection that anybody can read along.
    pub endpoint: Option<String>,
    /// The region.
    pub region: Option<String>,
    /// Whether the bucket stands in the path and not in the host's name; by default with an `endpoint`.
    pub path_style: Option<bool>,
    /// The access key; needs the secret one.
    pub access_key_id: Option<String>,
    /// The secret key.
    pub secret_access_key: Option<Secret>,
    /// The token of temporary keys.
    pub session_token: Option<Secret>,
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Keeps a text from being shown.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for use and not for showing.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_strictly_and_shown_without_secrets() {
        let text = "endpoint = 'http://x:1'\nregion = 'eu'\npath_style = true\naccess_key_id = 'A'\n\
                    secret_access_key = 'hunter2'\nsession_token = 'hunter2'";
        let options: S3Options = toml::from_str(text).unwrap();
        assert_eq!(options.secret_access_key.as_ref().unwrap().expose(), "hunter2");
        assert!(!format!("{options:?}").contains("hunter2"));
        assert!(!format!("{}", Secret::new("hunter2")).contains("hunter2"));
        let error = toml::from_str::<S3Options>("end_point = 'x'").unwrap_err();
        assert!(error.to_string().contains("end_point"));
        assert_eq!(toml::from_str::<S3Options>("").unwrap(), S3Options::default());
    }
}
