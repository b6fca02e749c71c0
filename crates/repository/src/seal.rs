//! Sealing: AES-256-GCM, or without encryption a BLAKE3 over the same associated data; docs/format.md, "Frames".

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

const PLAIN_TAG: usize = 32;

/// Seals and opens with one key.
pub(crate) enum Cipher {
    Aes(Box<LessSafeKey>),
    Plain,
}

/// The bytes are not what was sealed with this key and associated data.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("does not authenticate")]
pub(crate) struct NotAuthentic;

impl Cipher {
    /// AES-256-GCM with this key.
    pub(crate) fn aes(key: &[u8; 32]) -> Self {
        match UnboundKey::new(&AES_256_GCM, key) {
            Ok(unbound) => Self::Aes(Box::new(LessSafeKey::new(unbound))),
            // A 32-byte key is the only thing `new` asks for.
            Err(_) => unreachable!("AES-256 takes 32 bytes"),
        }
    }

    /// Replaces the frame in `buffer` from `start` on by its sealed form.
    pub(crate) fn seal(&self, nonce: [u8; NONCE_LEN], associated: &[u8], buffer: &mut Vec<u8>, start: usize) {
        match self {
            Self::Aes(key) => {
                let Some(frame) = buffer.get_mut(start..) else { return };
                let nonce = Nonce::assume_unique_for_key(nonce);
                match key.seal_in_place_separate_tag(nonce, Aad::from(associated), frame) {
                    Ok(tag) => buffer.extend_from_slice(tag.as_ref()),
                    // Only more than 64 GiB in one frame could fail.
                    Err(_) => unreachable!("a frame is smaller than AES-GCM's limit"),
                }
            }
            Self::Plain => {
                let tag = plain_tag(associated, buffer.get(start..).unwrap_or_default());
                buffer.extend_from_slice(&tag);
            }
        }
    }

    /// The frame inside `sealed`, opened in place.
    pub(crate) fn open<'a>(
        &self,
        nonce: [u8; NONCE_LEN],
        associated: &[u8],
        sealed: &'a mut [u8],
    ) -> Result<&'a [u8], NotAuthentic> {
        match self {
            Self::Aes(key) => key
                .open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(associated), sealed)
                .map(|frame| &*frame)
                .map_err(|_| NotAuthentic),
            Self::Plain => {
                let split = sealed.len().checked_sub(PLAIN_TAG).ok_or(NotAuthentic)?;
                let (frame, tag) = sealed.split_at(split);
                if plain_tag(associated, frame) == tag { Ok(frame) } else { Err(NotAuthentic) }
            }
        }
    }
}

fn plain_tag(associated: &[u8], frame: &[u8]) -> [u8; PLAIN_TAG] {
    *blake3::Hasher::new().update(associated).update(frame).finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_only_unchanged() {
        for cipher in [Cipher::aes(&[7; 32]), Cipher::Plain] {
            let mut buffer = b"before".to_vec();
            buffer.extend_from_slice(b"content");
            cipher.seal([1; 12], b"where", &mut buffer, 6);
            let sealed = buffer.split_off(6);
            assert_eq!(buffer, b"before");
            assert_eq!(cipher.open([1; 12], b"where", &mut sealed.clone()).unwrap(), b"content");
            assert_eq!(cipher.open([1; 12], b"elsewhere", &mut sealed.clone()), Err(NotAuthentic));
            for i in 0..sealed.len() {
                let mut flipped = sealed.clone();
                flipped[i] ^= 1;
                assert!(cipher.open([1; 12], b"where", &mut flipped).is_err());
                assert!(cipher.open([1; 12], b"where", &mut sealed[..i].to_vec()).is_err());
            }
        }
    }
}
