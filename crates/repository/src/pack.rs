//! Packs: many sealed frames in one object; docs/format.md, "Packs".

use copal_core::{DatabaseId, PackId};

use crate::frame::{Decoder, FrameError, Kind};
use crate::keys::Keys;
use crate::seal::Cipher;

const MAGIC: &[u8; 8] = b"COPALPK1";
/// The size at which a writer ends a pack, in bytes.
pub(crate) const TARGET_BYTES: usize = 16 << 20;
/// The largest pack that the format allows, in bytes.
pub(crate) const MAX_BYTES: u64 = 32 << 20;

fn associated(database: &DatabaseId, pack: &PackId, frame: u32) -> Vec<u8> {
    [database.as_bytes().as_slice(), pack.as_str().as_bytes(), &frame.to_le_bytes()].concat()
}

fn nonce(frame: u32) -> [u8; 12] {
    let mut nonce = [0; 12];
    for (to, from) in nonce.iter_mut().zip(u64::from(frame).to_le_bytes()) {
        *to = from;
    }
    nonce
}

/// Where a frame was put in its pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) frame: u32,
    pub(crate) offset: u32,
    pub(crate) length: u32,
}

/// A pack that is being filled.
pub(crate) struct PackBuilder {
    pub(crate) id: PackId,
    database: DatabaseId,
    cipher: Cipher,
    bytes: Vec<u8>,
    frames: u32,
}

impl PackBuilder {
    /// A pack in this buffer, whose content is dropped.
    pub(crate) fn new(id: PackId, database: DatabaseId, keys: &Keys, mut bytes: Vec<u8>) -> Self {
        let cipher = keys.pack(&database, &id);
        bytes.clear();
        bytes.extend_from_slice(MAGIC);
        Self { id, database, cipher, bytes, frames: 0 }
    }

    /// Whether this many more bytes of frame would make it larger than it should be.
    pub(crate) fn is_full_for(&self, frame_bytes: usize) -> bool {
        self.frames > 0 && self.bytes.len() + frame_bytes + 64 > TARGET_BYTES
    }

    /// Seals a frame and appends it.
    pub(crate) fn push(&mut self, frame: &[u8]) -> Placed {
        self.bytes.extend_from_slice(&[0; 4]);
        let start = self.bytes.len();
        self.bytes.extend_from_slice(frame);
        let associated = associated(&self.database, &self.id, self.frames);
        self.cipher.seal(nonce(self.frames), &associated, &mut self.bytes, start);
        // A pack stays below 32 MiB, so offsets and lengths fit.
        let length = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        if let Some(field) = self.bytes.get_mut(start - 4..start) {
            field.copy_from_slice(&length.to_le_bytes());
        }
        let placed = Placed { frame: self.frames, offset: u32::try_from(start).unwrap_or(u32::MAX), length };
        self.frames += 1;
        placed
    }

    /// The finished object.
    pub(crate) fn finish(self) -> (PackId, Vec<u8>) {
        (self.id, self.bytes)
    }
}

/// Opens frames of one pack.
pub(crate) struct PackOpener {
    database: DatabaseId,
    pack: PackId,
    cipher: Cipher,
}

impl PackOpener {
    pub(crate) fn new(database: DatabaseId, pack: PackId, keys: &Keys) -> Self {
        let cipher = keys.pack(&database, &pack);
        Self { database, pack, cipher }
    }

    /// Authenticates and decompresses the frame with this number into `content`.
    pub(crate) fn open_into(
        &self,
        number: u32,
        kind: Kind,
        sealed: &mut [u8],
        decoder: &mut Decoder,
        content: &mut Vec<u8>,
    ) -> Result<(), FrameError> {
        let associated = associated(&self.database, &self.pack, number);
        let frame = self.cipher.open(nonce(number), &associated, sealed)?;
        decoder.decode_into(kind, frame, content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Encoder;

    #[test]
    fn frames_open_only_in_their_own_place() {
        let database = DatabaseId::random();
        let backup = "20261120-153000Z-7f3a".parse().unwrap();
        for keys in [Keys::random(), Keys::none()] {
            let id = PackId::new(&backup, 0);
            let mut builder = PackBuilder::new(id.clone(), database, &keys, Vec::new());
            let mut frame = Vec::new();
            Encoder::new(Some(3)).encode(Kind::Pages, b"content", &mut frame);
            let (a, b) = (builder.push(&frame), builder.push(&frame));
            let (_, bytes) = builder.finish();
            let sealed = |p: Placed| bytes[p.offset as usize..(p.offset + p.length) as usize].to_vec();
            let opener = PackOpener::new(database, id.clone(), &keys);
            let mut decoder = Decoder::new();
            let mut open = |opener: &PackOpener, n: u32, mut sealed: Vec<u8>| {
                let mut content = Vec::new();
                opener.open_into(n, Kind::Pages, &mut sealed, &mut decoder, &mut content).map(|()| content)
            };
            assert_eq!(open(&opener, 0, sealed(a)).unwrap(), b"content");
            assert_eq!(open(&opener, 1, sealed(b)).unwrap(), b"content");
            assert!(open(&opener, 0, sealed(b)).is_err());
            let other = PackOpener::new(database, PackId::new(&backup, 0), &keys);
            assert!(open(&other, 0, sealed(a)).is_err());
            let other = PackOpener::new(DatabaseId::random(), id, &keys);
            assert!(open(&other, 0, sealed(a)).is_err());
        }
    }
}
