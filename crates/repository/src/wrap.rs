//! Wraps of the repository key: age files for passphrases and recovery keys; docs/format.md, "Keys".

use std::str::FromStr;

use age::secrecy::SecretString;
use copal_core::{RepositoryId, Secret};
use zeroize::Zeroizing;

use crate::error::{RepositoryError, RepositoryErrorKind, Result};
use crate::keys::Keys;

/// log2 of scrypt's N: 64 MiB of memory and about a quarter of a second.
const SCRYPT_LOG_N: u8 = 16;
/// The most that a reader spends on a wrap that somebody else may have written.
const SCRYPT_MAX_LOG_N: u8 = 20;
/// Wraps are small; more is not read.
pub(crate) const MAX_WRAP_BYTES: usize = 64 << 10;

/// What opens a repository.
#[derive(Clone, Debug)]
pub enum Unlock {
    /// A passphrase.
    Passphrase(Secret),
    /// The text of an age identity file with `AGE-SECRET-KEY-1…` lines.
    Identity(Secret),
}

/// What a wrap is encrypted to, as its age header tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrapKind {
    /// A passphrase.
    Passphrase,
    /// An age recipient.
    RecoveryKey,
}

impl WrapKind {
    /// Reads the first stanza of an age header.
    pub(crate) fn of(wrap: &[u8]) -> Option<Self> {
        let rest = wrap.strip_prefix(b"age-encryption.org/v1\n-> ")?;
        if rest.starts_with(b"scrypt ") {
            Some(Self::Passphrase)
        } else if rest.starts_with(b"X25519 ") {
            Some(Self::RecoveryKey)
        } else {
            None
        }
    }
}

fn failed(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> RepositoryError {
    RepositoryError::new(RepositoryErrorKind::Passphrase, "the repository key could not be wrapped").because(error)
}

/// Wraps the key with a passphrase.
pub(crate) fn to_passphrase(keys: &Keys, id: &RepositoryId, passphrase: &Secret) -> Result<Vec<u8>> {
    let text = keys.wrap_text(id).ok_or_else(not_encrypted)?;
    let mut recipient = age::scrypt::Recipient::new(SecretString::from(passphrase.reveal().to_owned()));
    recipient.set_work_factor(SCRYPT_LOG_N);
    age::encrypt(&recipient, text.as_bytes()).map_err(failed)
}

/// Wraps the key to an age recipient, `age1…`.
pub(crate) fn to_recipient(keys: &Keys, id: &RepositoryId, recipient: &str) -> Result<Vec<u8>> {
    let text = keys.wrap_text(id).ok_or_else(not_encrypted)?;
    let recipient = age::x25519::Recipient::from_str(recipient.trim()).map_err(|problem| {
        let message = format!("{:?} is not an age recipient: {problem}", recipient.trim());
        RepositoryError::new(RepositoryErrorKind::Usage, message)
            .hint("a recovery key is a public key that begins with age1, as `age-keygen` prints it")
    })?;
    age::encrypt(&recipient, text.as_bytes()).map_err(failed)
}

fn not_encrypted() -> RepositoryError {
    RepositoryError::new(RepositoryErrorKind::Usage, "the repository is not encrypted, so it has no keys")
}

/// The key inside a wrap; `None` if this is not the wrap's passphrase or identity, or the wrap is another repository's.
pub(crate) fn open(wrap: &[u8], id: &RepositoryId, unlock: &Unlock) -> Option<Keys> {
    let text: Zeroizing<Vec<u8>> = match unlock {
        Unlock::Passphrase(passphrase) => {
            let mut identity = age::scrypt::Identity::new(SecretString::from(passphrase.reveal().to_owned()));
            identity.set_max_work_factor(SCRYPT_MAX_LOG_N);
            Zeroizing::new(age::decrypt(&identity, wrap).ok()?)
        }
        Unlock::Identity(file) => {
            let lines = file.reveal().lines().map(str::trim).filter(|l| l.starts_with("AGE-SECRET-KEY-1"));
            let opened = lines
                .filter_map(|line| age::x25519::Identity::from_str(line).ok())
                .find_map(|identity| age::decrypt(&identity, wrap).ok())?;
            Zeroizing::new(opened)
        }
    };
    Keys::from_wrap_text(&text, id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wraps_open_with_what_they_were_made_for() {
        let (keys, id) = (Keys::random(), RepositoryId::random());
        let mac = |k: &Keys| k.config_mac(&id, "x").unwrap();
        let right = Unlock::Passphrase(Secret::new("right"));
        let wrap = to_passphrase(&keys, &id, &Secret::new("right")).unwrap();
        assert_eq!(WrapKind::of(&wrap), Some(WrapKind::Passphrase));
        assert_eq!(mac(&open(&wrap, &id, &right).unwrap()), mac(&keys));
        assert!(open(&wrap, &id, &Unlock::Passphrase(Secret::new("wrong"))).is_none());
        assert!(open(&wrap, &RepositoryId::random(), &right).is_none());

        let identity = age::x25519::Identity::generate();
        let wrap = to_recipient(&keys, &id, &identity.to_public().to_string()).unwrap();
        assert_eq!(WrapKind::of(&wrap), Some(WrapKind::RecoveryKey));
        use age::secrecy::ExposeSecret;
        let file = format!("# a comment\n{}\n", identity.to_string().expose_secret());
        assert_eq!(mac(&open(&wrap, &id, &Unlock::Identity(Secret::new(file))).unwrap()), mac(&keys));
        assert!(open(&wrap, &id, &right).is_none());
        assert!(to_recipient(&keys, &id, "age1nonsense").is_err());
    }
}
