//! Leaves of streams as bytes: in which frame every chunk lies, and where in it.

use copal_core::FrameRef;

use super::codec::{CodecError, Fields, put_packs, put_refs, put_u32};
use super::{FANOUT, PageDigest};
use crate::frame::MAX_PACK_CONTENT;

/// One chunk of a stream: the index of its frame in the leaf, where it lies in it (bytes), and its digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) frame: u32,
    pub(crate) start: u32,
    pub(crate) length: u32,
    pub(crate) digest: PageDigest,
}

/// A decoded leaf of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StreamLeaf {
    pub(crate) first_chunk: u64,
    pub(crate) frames: Vec<FrameRef>,
    pub(crate) chunks: Vec<Chunk>,
}

/// The content of a leaf.
pub(crate) fn encode_stream_leaf(leaf: &StreamLeaf) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + leaf.frames.len() * 14 + leaf.chunks.len() * 28);
    out.extend_from_slice(&leaf.first_chunk.to_le_bytes());
    put_u32(&mut out, leaf.chunks.len());
    let packs = put_packs(&mut out, leaf.frames.iter());
    put_u32(&mut out, leaf.frames.len());
    put_refs(&mut out, &leaf.frames, &packs);
    for chunk in &leaf.chunks {
        for field in [chunk.frame, chunk.start, chunk.length] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        out.extend_from_slice(&chunk.digest);
    }
    out
}

/// Reads the content of a leaf.
pub(crate) fn decode_stream_leaf(bytes: &[u8]) -> Result<StreamLeaf, CodecError> {
    let mut fields = Fields(bytes);
    let first_chunk = fields.u64()?;
    let n = fields.count()?;
    let packs = fields.packs()?;
    let frame_count = fields.count()?;
    let frames = fields.refs(frame_count, &packs)?;
    let mut chunks = Vec::with_capacity(n.min(FANOUT));
    for _ in 0..n {
        let (frame, start, length) = (fields.u32()?, fields.u32()?, fields.u32()?);
        if frame as usize >= frame_count {
            return Err(CodecError("unknown frame"));
        }
        if length == 0 || u64::from(start) + u64::from(length) > MAX_PACK_CONTENT as u64 {
            return Err(CodecError("a chunk is empty or lies outside of any frame"));
        }
        chunks.push(Chunk { frame, start, length, digest: fields.array()? });
    }
    fields.end()?;
    Ok(StreamLeaf { first_chunk, frames, chunks })
}

#[cfg(test)]
mod tests {
    use copal_core::PackId;
    use proptest::prelude::*;

    use super::*;

    fn leaf(n: u32) -> StreamLeaf {
        let backup = "20261120-153000Z-7f3a".parse().unwrap();
        let frame = |i| FrameRef { pack: PackId::new(&backup, 0), frame: i, offset: 12 + i, length: 40 };
        let chunks = (0..n).map(|i| Chunk { frame: i % 3, start: i, length: 1 + i, digest: [i as u8; 16] });
        StreamLeaf { first_chunk: 7, frames: (0..3).map(frame).collect(), chunks: chunks.collect() }
    }

    #[test]
    fn leaves_come_back() {
        for n in [1, 2, FANOUT as u32] {
            let leaf = leaf(n);
            let bytes = encode_stream_leaf(&leaf);
            assert_eq!(decode_stream_leaf(&bytes).unwrap(), leaf);
            for cut in 0..bytes.len().min(500) {
                assert!(decode_stream_leaf(&bytes[..cut]).is_err());
            }
        }
    }

    #[test]
    fn chunks_that_cannot_be_are_refused() {
        let most = MAX_PACK_CONTENT as u32;
        for (start, length, is_good) in [(0, most, true), (1, most, false), (0, 0, false), (u32::MAX, 1, false)] {
            let mut leaf = leaf(2);
            (leaf.chunks[1].start, leaf.chunks[1].length) = (start, length);
            assert_eq!(decode_stream_leaf(&encode_stream_leaf(&leaf)).is_ok(), is_good, "{start} {length}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = decode_stream_leaf(&bytes);
        }
    }
}
