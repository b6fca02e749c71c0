//! Leaves and branches as bytes.

use std::collections::HashMap;

use copal_core::{FrameRef, PackId};

use super::{FANOUT, PageDigest};

/// A leaf or branch that does not follow the format.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a page map is malformed: {0}")]
pub(crate) struct CodecError(pub(crate) &'static str);

/// One page of a leaf: the index of its frame in the leaf, its slot and digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LeafEntry {
    pub(crate) frame: u32,
    pub(crate) slot: u16,
    pub(crate) digest: PageDigest,
}

/// A decoded leaf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leaf {
    pub(crate) first_page: u64,
    pub(crate) frames: Vec<FrameRef>,
    pub(crate) entries: Vec<LeafEntry>,
}

/// A decoded branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Branch {
    pub(crate) first_leaf: u64,
    pub(crate) leaves: Vec<FrameRef>,
}

pub(super) fn put_u16(out: &mut Vec<u8>, n: usize) {
    out.extend_from_slice(&u16::try_from(n).unwrap_or(u16::MAX).to_le_bytes());
}

pub(super) fn put_u32(out: &mut Vec<u8>, n: usize) {
    out.extend_from_slice(&u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes());
}

/// Writes the table of packs and returns each pack's index in it.
pub(super) fn put_packs<'a>(out: &mut Vec<u8>, refs: impl Iterator<Item = &'a FrameRef>) -> HashMap<&'a PackId, usize> {
    let mut order: Vec<&PackId> = Vec::new();
    let mut index: HashMap<&PackId, usize> = HashMap::new();
    for r in refs {
        index.entry(&r.pack).or_insert_with(|| {
            order.push(&r.pack);
            order.len() - 1
        });
    }
    put_u16(out, order.len());
    for id in order {
        out.push(u8::try_from(id.as_str().len()).unwrap_or(u8::MAX));
        out.extend_from_slice(id.as_str().as_bytes());
    }
    index
}

pub(super) fn put_refs(out: &mut Vec<u8>, refs: &[FrameRef], packs: &HashMap<&PackId, usize>) {
    for r in refs {
        put_u16(out, packs.get(&r.pack).copied().unwrap_or(0));
        out.extend_from_slice(&r.frame.to_le_bytes());
        out.extend_from_slice(&r.offset.to_le_bytes());
        out.extend_from_slice(&r.length.to_le_bytes());
    }
}

/// The content of a leaf.
pub(crate) fn encode_leaf(leaf: &Leaf) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + leaf.frames.len() * 14 + leaf.entries.len() * 22);
    out.extend_from_slice(&leaf.first_page.to_le_bytes());
    put_u32(&mut out, leaf.entries.len());
    let packs = put_packs(&mut out, leaf.frames.iter());
    put_u32(&mut out, leaf.frames.len());
    put_refs(&mut out, &leaf.frames, &packs);
    leaf.entries.iter().for_each(|e| out.extend_from_slice(&e.frame.to_le_bytes()));
    leaf.entries.iter().for_each(|e| out.extend_from_slice(&e.slot.to_le_bytes()));
    leaf.entries.iter().for_each(|e| out.extend_from_slice(&e.digest));
    out
}

/// The content of a branch.
pub(crate) fn encode_branch(branch: &Branch) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + branch.leaves.len() * 14);
    out.extend_from_slice(&branch.first_leaf.to_le_bytes());
    put_u32(&mut out, branch.leaves.len());
    let packs = put_packs(&mut out, branch.leaves.iter());
    put_refs(&mut out, &branch.leaves, &packs);
    out
}

/// Takes fields off the front of bytes that cannot be trusted.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn bytes(&mut self, n: usize) -> Result<&'a [u8], CodecError> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or(CodecError("cut off"))?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(CodecError("cut off"))?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn u16(&mut self) -> Result<u16, CodecError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, CodecError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, CodecError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(super) fn count(&mut self) -> Result<usize, CodecError> {
        let n = self.u32()? as usize;
        if (1..=FANOUT).contains(&n) { Ok(n) } else { Err(CodecError("number of entries out of range")) }
    }

    pub(super) fn packs(&mut self) -> Result<Vec<PackId>, CodecError> {
        let n = usize::from(self.u16()?);
        if n > FANOUT {
            return Err(CodecError("too many packs"));
        }
        let mut packs = Vec::with_capacity(n);
        for _ in 0..n {
            let [length] = self.array::<1>()?;
            let text = std::str::from_utf8(self.bytes(usize::from(length))?).map_err(|_| CodecError("bad pack id"))?;
            packs.push(text.parse().map_err(|_| CodecError("bad pack id"))?);
        }
        Ok(packs)
    }

    pub(super) fn refs(&mut self, n: usize, packs: &[PackId]) -> Result<Vec<FrameRef>, CodecError> {
        (0..n)
            .map(|_| {
                let pack = packs.get(usize::from(self.u16()?)).ok_or(CodecError("unknown pack"))?.clone();
                let (frame, offset, length) = (self.u32()?, self.u32()?, self.u32()?);
                let end = u64::from(offset) + u64::from(length);
                if offset < 12 || end > crate::pack::MAX_BYTES {
                    return Err(CodecError("a frame lies outside of its pack"));
                }
                Ok(FrameRef { pack, frame, offset, length })
            })
            .collect()
    }

    pub(super) fn end(&self) -> Result<(), CodecError> {
        if self.0.is_empty() { Ok(()) } else { Err(CodecError("bytes behind the end")) }
    }
}

/// Reads the content of a leaf.
pub(crate) fn decode_leaf(bytes: &[u8]) -> Result<Leaf, CodecError> {
    let mut fields = Fields(bytes);
    let first_page = fields.u64()?;
    let n = fields.count()?;
    let packs = fields.packs()?;
    let frame_count = fields.count()?;
    let frames = fields.refs(frame_count, &packs)?;
    let indexes = (0..n)
        .map(|_| match fields.u32()? {
            i if (i as usize) < frame_count => Ok(i),
            _ => Err(CodecError("unknown frame")),
        })
        .collect::<Result<Vec<_>, _>>()?;
    let slots = (0..n).map(|_| fields.u16()).collect::<Result<Vec<_>, _>>()?;
    let digests = (0..n).map(|_| fields.array()).collect::<Result<Vec<PageDigest>, _>>()?;
    fields.end()?;
    let entries = indexes
        .into_iter()
        .zip(slots)
        .zip(digests)
        .map(|((frame, slot), digest)| LeafEntry { frame, slot, digest })
        .collect();
    Ok(Leaf { first_page, frames, entries })
}

/// Reads the content of a branch.
pub(crate) fn decode_branch(bytes: &[u8]) -> Result<Branch, CodecError> {
    let mut fields = Fields(bytes);
    let first_leaf = fields.u64()?;
    let n = fields.count()?;
    let packs = fields.packs()?;
    let leaves = fields.refs(n, &packs)?;
    fields.end()?;
    Ok(Branch { first_leaf, leaves })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame_refs(n: usize) -> Vec<FrameRef> {
        let backup = "20261120-153000Z-7f3a".parse().unwrap();
        let packs: Vec<_> = (0..3).map(|i| PackId::new(&backup, i)).collect();
        (0..n)
            .map(|i| FrameRef { pack: packs[i % 3].clone(), frame: i as u32, offset: 12 + i as u32, length: 40 })
            .collect()
    }

    #[test]
    fn leaves_and_branches_come_back() {
        for n in [1, 2, FANOUT] {
            let entries = (0..n)
                .map(|i| LeafEntry { frame: (i % 3) as u32, slot: i as u16, digest: page_digest_of(i) })
                .collect();
            let leaf = Leaf { first_page: 8192, frames: frame_refs(3), entries };
            let bytes = encode_leaf(&leaf);
            assert_eq!(decode_leaf(&bytes).unwrap(), leaf);
            for cut in 0..bytes.len().min(500) {
                assert!(decode_leaf(&bytes[..cut]).is_err());
            }
            let branch = Branch { first_leaf: 4096, leaves: frame_refs(n) };
            assert_eq!(decode_branch(&encode_branch(&branch)).unwrap(), branch);
        }
    }

    fn page_digest_of(i: usize) -> PageDigest {
        super::super::page_digest(&i.to_le_bytes())
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = decode_leaf(&bytes);
            let _ = decode_branch(&bytes);
        }
    }
}
