//! `[repository]`: where backups live and how they are opened.

use std::path::PathBuf;

use copal_storage::S3Options;

use super::document::Table;
use super::place::Base;
use crate::{CopalError, ErrorKind, Result};

/// The fields of [`S3Options`], which refuses others without naming the nearest.
const S3_KEYS: [&str; 6] = ["endpoint", "region", "path_style", "access_key_id", "secret_access_key", "session_token"];

/// The table `[repository]`.
#[derive(Clone, Debug, Default)]
pub struct RepositoryConfiguration {
    /// The repository's URL or absolute path.
    pub url: Option<String>,
    /// Absolute path of the file with the passphrase.
    pub passphrase_file: Option<PathBuf>,
    /// Absolute path of a file with an age identity (recovery key).
    pub identity_file: Option<PathBuf>,
    /// Whether it is encrypted; `Some(false)` for `encryption = "none"`.
    pub encrypt: Option<bool>,
    /// Access to S3-compatible stores.
    pub s3: S3Options,
}

impl RepositoryConfiguration {
    /// Reads the table out of the top level.
    pub(super) fn read(top: &Table<'_>, base: &Base) -> Result<Self> {
        let Some(table) = top.table("repository")? else { return Ok(Self::default()) };
        table.only(&["url", "passphrase_file", "identity_file", "encryption", "s3"])?;
        let path = |key| Ok::<_, CopalError>(table.text(key)?.map(|text| base.path(text.value.as_ref())));
        let encrypt = match table.text("encryption")? {
            None => None,
            Some(text) if text.value == "none" => Some(false),
            Some(text) if text.value == "aes-256-gcm" => Some(true),
            Some(text) => {
                return Err(table.error(text.offset, "\"encryption\" must be \"none\" or \"aes-256-gcm\""));
            }
        };
        Ok(Self {
            url: table.text("url")?.map(|text| base.repository(&text.value)),
            passphrase_file: path("passphrase_file")?,
            identity_file: path("identity_file")?,
            encrypt,
            s3: read_s3(&table)?,
        })
    }
}

fn read_s3(table: &Table<'_>) -> Result<S3Options> {
    let (Some(s3), Some(value)) = (table.table("s3")?, table.value("s3")?) else { return Ok(S3Options::default()) };
    s3.only(&S3_KEYS)?;
    // The deserialiser's own message could quote a secret; it names the key first, which is all that is needed.
    value.try_into().map_err(|error: toml::de::Error| {
        let message = error.message().split(':').next().unwrap_or_default().to_owned();
        CopalError::new(ErrorKind::Configuration, s3.error(s3.offset, message).to_string())
    })
}
