//! `copal.json`: what a repository is; docs/format.md, "copal.json".

use copal_core::{FORMAT_VERSION, RepositoryId};
use serde::{Deserialize, Serialize};

use crate::error::{RepositoryError, RepositoryErrorKind, Result};
use crate::keys::Keys;
use crate::layout;

/// How frames are sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Encryption {
    /// AES-256-GCM under keys derived from the repository key.
    #[serde(rename = "aes-256-gcm")]
    Aes256Gcm,
    /// Not at all; frames carry a BLAKE3.
    #[serde(rename = "none")]
    None,
}

impl Encryption {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Aes256Gcm => "aes-256-gcm",
            Self::None => "none",
        }
    }
}

/// The content of `copal.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Config {
    pub(crate) format: u32,
    pub(crate) repository: RepositoryId,
    pub(crate) encryption: Encryption,
    pub(crate) created: jiff::Timestamp,
    pub(crate) mac: Option<String>,
}

impl Config {
    pub(crate) fn new(repository: RepositoryId, encryption: Encryption, created: jiff::Timestamp, keys: &Keys) -> Self {
        let mac = keys.config_mac(&repository, encryption.as_str()).map(|mac| mac.to_hex().to_string());
        Self { format: FORMAT_VERSION, repository, encryption, created, mac }
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct FormatOnly {
            format: u32,
        }
        let damage = |_| RepositoryError::damage(&layout::config(), "is not what Copal wrote: changed or cut off");
        let format: FormatOnly = serde_json::from_slice(bytes).map_err(damage)?;
        if format.format > FORMAT_VERSION {
            let message =
                format!("the repository has format {}, this program reads up to {FORMAT_VERSION}", format.format);
            return Err(RepositoryError::new(RepositoryErrorKind::Unsupported, message).hint("update copal"));
        }
        if format.format < FORMAT_VERSION {
            return Err(RepositoryError::damage(&layout::config(), "has a format that never was"));
        }
        serde_json::from_slice(bytes).map_err(damage)
    }

    /// Checks the MAC with the key that a wrap gave.
    pub(crate) fn authenticate(&self, keys: &Keys) -> Result<()> {
        let expected = keys.config_mac(&self.repository, self.encryption.as_str());
        let found = self.mac.as_ref().and_then(|hex| blake3::Hash::from_hex(hex).ok());
        // `blake3::Hash` compares in constant time.
        if expected == found { Ok(()) } else { Err(tampered("its MAC does not fit the repository key")) }
    }
}

/// `copal.json` was changed by somebody without the key.
pub(crate) fn tampered(how: &str) -> RepositoryError {
    let message = format!("copal.json was tampered with: {how}");
    let mut error = RepositoryError::new(RepositoryErrorKind::Tampering, message)
        .hint("do not trust this repository; compare it with another copy and find out who could write to it");
    error.object = Some(layout::config());
    error
}
