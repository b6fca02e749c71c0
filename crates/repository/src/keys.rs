//! The repository key and what is derived from it; docs/format.md, "Keys".

use copal_core::{BackupId, DatabaseId, PackId, RepositoryId};
use zeroize::Zeroizing;

use crate::seal::Cipher;

/// A 32-byte key that is cleared when dropped.
pub(crate) type Key = Zeroizing<[u8; 32]>;

fn derive(context: &str, parts: &[&[u8]]) -> Key {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    for part in parts {
        hasher.update(part);
    }
    Zeroizing::new(*hasher.finalize().as_bytes())
}

/// The repository key K, or the knowledge that there is none.
#[derive(Clone)]
pub(crate) struct Keys(Option<Key>);

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Keys(***)" } else { "Keys(none)" })
    }
}

impl Keys {
    /// A new random key.
    pub(crate) fn random() -> Self {
        Self(Some(Zeroizing::new(rand::random())))
    }

    /// No encryption.
    pub(crate) fn none() -> Self {
        Self(None)
    }

    pub(crate) fn is_encrypted(&self) -> bool {
        self.0.is_some()
    }

    /// The plaintext of a wrap, if there is a key to wrap.
    pub(crate) fn wrap_text(&self, repository: &RepositoryId) -> Option<Zeroizing<String>> {
        let key = self.0.as_ref()?;
        let hex: Zeroizing<String> = Zeroizing::new(key.iter().map(|b| format!("{b:02x}")).collect());
        Some(Zeroizing::new(format!("copal-repository-key 1\n{repository}\n{}\n", *hex)))
    }

    /// The key in the plaintext of a wrap of this repository.
    pub(crate) fn from_wrap_text(text: &[u8], repository: &RepositoryId) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let rest = text.strip_prefix("copal-repository-key 1\n")?;
        let (id, hex) = rest.strip_suffix('\n')?.split_once('\n')?;
        if id != repository.to_string() || hex.len() != 64 || !hex.is_ascii() {
            return None;
        }
        let mut key = Zeroizing::new([0u8; 32]);
        for (byte, digits) in key.iter_mut().zip(hex.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        }
        Some(Self(Some(key)))
    }

    /// Whether this is the plaintext of a wrap of any repository.
    pub(crate) fn is_wrap_text(text: &[u8]) -> bool {
        let id = text.strip_prefix(b"copal-repository-key 1\n").and_then(|rest| rest.get(..32));
        id.and_then(|id| std::str::from_utf8(id).ok()?.parse::<RepositoryId>().ok())
            .is_some_and(|id| Self::from_wrap_text(text, &id).is_some())
    }

    /// The MAC of `copal.json`.
    pub(crate) fn config_mac(&self, repository: &RepositoryId, encryption: &str) -> Option<blake3::Hash> {
        let key = derive("copal format 1: repository mac", &[self.0.as_ref()?.as_slice()]);
        Some(blake3::keyed_hash(&key, format!("copal.json\n1\n{repository}\n{encryption}\n").as_bytes()))
    }

    fn data_key(&self, database: &DatabaseId, backup: &BackupId) -> Option<Key> {
        let k = self.0.as_ref()?;
        Some(derive(
            "copal format 1: backup data key",
            &[k.as_slice(), database.as_bytes(), backup.as_str().as_bytes()],
        ))
    }

    /// Seals the frames of a pack.
    pub(crate) fn pack(&self, database: &DatabaseId, pack: &PackId) -> Cipher {
        self.data_key(database, &pack.backup()).map_or(Cipher::Plain, |key| {
            Cipher::aes(&derive("copal format 1: pack key", &[key.as_slice(), pack.as_str().as_bytes()]))
        })
    }

    /// Seals a manifest.
    pub(crate) fn manifest(&self, database: &DatabaseId, backup: &BackupId) -> Cipher {
        self.data_key(database, backup)
            .map_or(Cipher::Plain, |key| Cipher::aes(&derive("copal format 1: manifest key", &[key.as_slice()])))
    }

    /// Seals a segment of the journal.
    pub(crate) fn segment(&self, database: &DatabaseId, segment: &BackupId) -> Cipher {
        self.data_key(database, segment)
            .map_or(Cipher::Plain, |key| Cipher::aes(&derive("copal format 1: segment key", &[key.as_slice()])))
    }

    /// Seals a database record.
    pub(crate) fn record(&self, database: &DatabaseId) -> Cipher {
        self.0.as_ref().map_or(Cipher::Plain, |k| {
            Cipher::aes(&derive("copal format 1: database record key", &[k.as_slice(), database.as_bytes()]))
        })
    }

    /// Seals a plan.
    pub(crate) fn plan(&self, database: &DatabaseId, plan: &BackupId) -> Cipher {
        self.0.as_ref().map_or(Cipher::Plain, |k| {
            let parts = [k.as_slice(), database.as_bytes(), plan.as_str().as_bytes()];
            Cipher::aes(&derive("copal format 1: plan key", &parts))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrap_gives_the_key_back_to_its_own_repository_only() {
        let (keys, id) = (Keys::random(), RepositoryId::random());
        let text = keys.wrap_text(&id).unwrap();
        let again = Keys::from_wrap_text(text.as_bytes(), &id).unwrap();
        assert_eq!(again.config_mac(&id, "aes-256-gcm"), keys.config_mac(&id, "aes-256-gcm"));
        assert!(Keys::from_wrap_text(text.as_bytes(), &RepositoryId::random()).is_none());
        assert!(Keys::from_wrap_text(b"copal-repository-key 1\n", &id).is_none());
        assert!(!format!("{keys:?}").contains(&text[60..]));
    }
}
