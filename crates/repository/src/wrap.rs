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

/// What came of trying to open a wrap.
#[derive(Debug)]
pub(crate) enum Opened {
    /// The repository key.
    Keys(Keys),
    /// This is not the wrap's passphrase or identity, as far as one can tell.
    Wrong,
    /// It opens, but what it wraps is another repository's key.
    OtherRepository,
    /// It is not what age wrote.
    Damaged(String),
}

/// Tries to open a wrap of the key of this repository.
pub(crate) fn open(wrap: &[u8], id: &RepositoryId, unlock: &Unlock) -> Opened {
    let text = match unlock {
        Unlock::Passphrase(passphrase) => {
            let mut identity = age::scrypt::Identity::new(SecretString::from(passphrase.reveal().to_owned()));
            identity.set_max_work_factor(SCRYPT_MAX_LOG_N);
            age::decrypt(&identity, wrap)
        }
        Unlock::Identity(file) => {
            let lines = file.reveal().lines().map(str::trim).filter(|l| l.starts_with("AGE-SECRET-KEY-1"));
            let identities = lines.filter_map(|line| age::x25519::Identity::from_str(line).ok());
            let mut tried = Err(age::DecryptError::NoMatchingKeys);
            for identity in identities {
                tried = age::decrypt(&identity, wrap);
                if tried.is_ok() {
                    break;
                }
            }
            tried
        }
    };
    let text: Zeroizing<Vec<u8>> = match text {
        Ok(text) => Zeroizing::new(text),
        Err(
            age::DecryptError::DecryptionFailed
            | age::DecryptError::KeyDecryptionFailed
            | age::DecryptError::NoMatchingKeys,
        ) => return Opened::Wrong,
        Err(error) => return Opened::Damaged(error.to_string()),
    };
    match Keys::from_wrap_text(&text, id) {
        Some(keys) => Opened::Keys(keys),
        None if Keys::is_wrap_text(&text) => Opened::OtherRepository,
        None => Opened::Damaged("it does not hold a repository key".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wraps_open_with_what_they_were_made_for() {
        let (keys, id) = (Keys::random(), RepositoryId::random());
        let mac = |k: &Keys| k.config_mac(&id, "x").unwrap();
        let opened = |outcome| match outcome {
            Opened::Keys(keys) => mac(&keys),
            other => panic!("{other:?}"),
        };
        let right = Unlock::Passphrase(Secret::new("right"));
        let wrap = to_passphrase(&keys, &id, &Secret::new("right")).unwrap();
        assert_eq!(WrapKind::of(&wrap), Some(WrapKind::Passphrase));
        assert_eq!(opened(open(&wrap, &id, &right)), mac(&keys));
        assert!(matches!(open(&wrap, &id, &Unlock::Passphrase(Secret::new("wrong"))), Opened::Wrong));
        assert!(matches!(open(&wrap, &RepositoryId::random(), &right), Opened::OtherRepository));
        assert!(matches!(open(&wrap[..wrap.len() / 4], &id, &right), Opened::Damaged(_)));

        let identity = age::x25519::Identity::generate();
        let wrap = to_recipient(&keys, &id, &identity.to_public().to_string()).unwrap();
        assert_eq!(WrapKind::of(&wrap), Some(WrapKind::RecoveryKey));
        use age::secrecy::ExposeSecret;
        let file = format!("# a comment\n{}\n", identity.to_string().expose_secret());
        assert_eq!(opened(open(&wrap, &id, &Unlock::Identity(Secret::new(file)))), mac(&keys));
        assert!(matches!(open(&wrap, &id, &right), Opened::Wrong));
        assert!(to_recipient(&keys, &id, "age1nonsense").is_err());
    }
}
