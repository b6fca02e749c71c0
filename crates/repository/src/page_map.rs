//! Page maps: which slot of which frame holds every page of a file; docs/format.md, "Page files" and "Streams".
//!
//! `stream_leaf` is their counterpart for the chunks of streams, under the same branches. `codec` is the stored form (leaves and branches), `records` the local form: a scratch file of fixed-size records
//! that takes pages in any order with bounded memory, and is kept as a cache for the next backup.

mod codec;
mod records;
mod stream_leaf;

pub(crate) use codec::{Branch, Leaf, LeafEntry, decode_branch, decode_leaf, encode_branch, encode_leaf};
pub(crate) use records::{Record, Records};
pub(crate) use stream_leaf::{Chunk, StreamLeaf, decode_stream_leaf, encode_stream_leaf};

/// Entries of a full leaf, and leaves of a full branch.
pub(crate) const FANOUT: usize = 4096;
/// Bytes of a page digest.
pub(crate) const DIGEST_BYTES: usize = 16;

/// The digest of one page.
pub(crate) type PageDigest = [u8; DIGEST_BYTES];

/// Computes the digest of one page.
pub(crate) fn page_digest(page: &[u8]) -> PageDigest {
    let mut digest = [0; DIGEST_BYTES];
    for (to, from) in digest.iter_mut().zip(blake3::hash(page).as_bytes()) {
        *to = *from;
    }
    digest
}

/// Computes the digest of a page file, page by page.
pub(crate) struct FileDigest(blake3::Hasher);

impl FileDigest {
    pub(crate) fn new(length: u64, page_size: u32, head: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&length.to_le_bytes());
        hasher.update(&page_size.to_le_bytes());
        hasher.update(&u32::try_from(head.len()).unwrap_or(u32::MAX).to_le_bytes());
        hasher.update(head);
        Self(hasher)
    }

    pub(crate) fn page(&mut self, digest: &PageDigest) {
        self.0.update(digest);
    }

    pub(crate) fn finish(self) -> [u8; 32] {
        *self.0.finalize().as_bytes()
    }
}

/// The number of pages of a file, `None` if the head does not fit in.
pub(crate) fn page_count(length: u64, head: usize, page_size: u32) -> Option<u64> {
    Some(length.checked_sub(head as u64)?.div_ceil(u64::from(page_size).max(1)))
}

/// The length in bytes of one page of a file with `length` bytes.
pub(crate) fn page_length(length: u64, head: usize, page_size: u32, page: u64) -> usize {
    let begin = (head as u64).saturating_add(page.saturating_mul(u64::from(page_size)));
    usize::try_from(length.saturating_sub(begin).min(u64::from(page_size))).unwrap_or(0)
}
