//! Documents: a clear JSON header and a sealed JSON body; docs/format.md, "Documents".

use bytes::Bytes;
use copal_core::FORMAT_VERSION;
use copal_storage::ObjectPath;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{RepositoryError, RepositoryErrorKind, Result};
use crate::frame::{Decoder, Encoder, Kind};
use crate::seal::Cipher;

const MAGIC: &[u8; 8] = b"COPALDC1";
const NONCE_BYTES: usize = 12;
const MAX_HEADER_BYTES: usize = 64 << 20;

/// The bytes of a document.
pub(crate) fn encode<H: Serialize, B: Serialize>(kind: Kind, header: &H, body: &B, cipher: &Cipher) -> Result<Bytes> {
    let refuse = |e: serde_json::Error| {
        RepositoryError::new(RepositoryErrorKind::Usage, "a document cannot be written as JSON").because(e)
    };
    let header = serde_json::to_vec(header).map_err(refuse)?;
    let body = serde_json::to_vec(body).map_err(refuse)?;
    if header.len() > MAX_HEADER_BYTES || body.len() > crate::frame::MAX_DOCUMENT_CONTENT {
        return Err(RepositoryError::new(
            RepositoryErrorKind::Unsupported,
            "a document would be larger than the format allows",
        ));
    }
    let mut out = Vec::with_capacity(header.len() + body.len() / 4 + 64);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&u32::try_from(header.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(&header);
    let associated = out.clone();
    let mut nonce = [0u8; NONCE_BYTES];
    if matches!(cipher, Cipher::Aes(_)) {
        nonce = rand::random();
        out.extend_from_slice(&nonce);
    }
    let start = out.len();
    Encoder::new(Some(3)).encode(kind, &body, &mut out);
    cipher.seal(nonce, &associated, &mut out, start);
    Ok(out.into())
}

/// A document taken apart: header parsed, body still sealed.
pub(crate) struct Document<H> {
    pub(crate) header: H,
    object: ObjectPath,
    bytes: Bytes,
    header_end: usize,
}

#[derive(serde::Deserialize)]
struct FormatOnly {
    format: u32,
}

impl<H: DeserializeOwned> Document<H> {
    /// Parses the header. Errors: damage; `Unsupported` for a newer format.
    pub(crate) fn parse(object: &ObjectPath, bytes: Bytes) -> Result<Self> {
        let header = bytes
            .strip_prefix(MAGIC.as_slice())
            .ok_or_else(|| RepositoryError::damage(object, "is not a Copal document: overwritten or cut off"))?;
        let (length, rest) =
            header.split_first_chunk::<4>().ok_or_else(|| RepositoryError::damage(object, "is cut off"))?;
        let length = u32::from_le_bytes(*length) as usize;
        let json = rest
            .get(..length)
            .filter(|_| length <= MAX_HEADER_BYTES)
            .ok_or_else(|| RepositoryError::damage(object, "is cut off"))?;
        let format: FormatOnly =
            serde_json::from_slice(json).map_err(|_| RepositoryError::damage(object, "has an unreadable header"))?;
        if format.format > FORMAT_VERSION {
            let message = format!("{object} has format {}, this program reads up to {FORMAT_VERSION}", format.format);
            return Err(RepositoryError::new(RepositoryErrorKind::Unsupported, message).hint("update copal"));
        }
        let header =
            serde_json::from_slice(json).map_err(|_| RepositoryError::damage(object, "has an unreadable header"))?;
        let header_end = MAGIC.len() + 4 + length;
        Ok(Self { header, object: object.clone(), bytes, header_end })
    }

    /// Authenticates header and body and parses the body.
    pub(crate) fn open<B: DeserializeOwned>(&self, kind: Kind, cipher: &Cipher) -> Result<B> {
        let (associated, rest) = self.bytes.split_at(self.header_end);
        let damage = |problem: String| RepositoryError::damage(&self.object, problem);
        let (nonce, sealed) = match cipher {
            Cipher::Aes(_) => {
                let (nonce, sealed) =
                    rest.split_first_chunk::<NONCE_BYTES>().ok_or_else(|| damage("is cut off".into()))?;
                (*nonce, sealed)
            }
            Cipher::Plain => ([0; NONCE_BYTES], rest),
        };
        let mut sealed = sealed.to_vec();
        let frame = cipher
            .open(nonce, associated, &mut sealed)
            .map_err(|_| damage("does not authenticate: it was changed, cut off or belongs elsewhere".into()))?;
        let json = Decoder::new().decode(kind, frame).map_err(|e| damage(e.to_string()))?;
        serde_json::from_slice(&json).map_err(|e| damage(format!("has an unreadable body: {e}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let object = ObjectPath::parse("databases/a/database").unwrap();
        for cipher in [Cipher::aes(&[1; 32]), Cipher::Plain] {
            let header = serde_json::json!({"format": 1, "x": "y"});
            let bytes = encode(Kind::Record, &header, &"body", &cipher).unwrap();
            let open = |bytes: Vec<u8>| -> Result<String> {
                Document::<serde_json::Value>::parse(&object, bytes.into())?.open(Kind::Record, &cipher)
            };
            assert_eq!(open(bytes.to_vec()).unwrap(), "body");
            for i in 0..bytes.len() {
                let mut flipped = bytes.to_vec();
                flipped[i] ^= 4;
                assert!(open(flipped).is_err(), "byte {i}");
                assert!(open(bytes[..i].to_vec()).is_err(), "cut at {i}");
            }
        }
    }

    #[test]
    fn a_newer_format_asks_for_an_update() {
        let object = ObjectPath::parse("databases/a/database").unwrap();
        let bytes = encode(Kind::Record, &serde_json::json!({"format": 2}), &(), &Cipher::Plain).unwrap();
        let error = Document::<serde_json::Value>::parse(&object, bytes).err().unwrap();
        assert_eq!(error.kind(), RepositoryErrorKind::Unsupported);
    }
}
