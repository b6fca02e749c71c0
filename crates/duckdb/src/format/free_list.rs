//! The free list of a state: the blocks that may be written to while that state is the current one.

use std::collections::{BTreeMap, BTreeSet};

use super::checksum;
use super::header::{Headers, NOWHERE};

/// Sub-blocks in a metadata block.
const SUB_BLOCKS: u64 = 64;

/// Why a free list could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FreeListProblem {
    /// Reading failed.
    #[error("reading failed: {0}")]
    Io(#[from] std::io::Error),
    /// Not what a free list can be: rewritten meanwhile, or damaged.
    #[error("{0}")]
    Unsound(&'static str),
}

/// What a state's free list says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FreeList {
    /// Blocks that the state does not use.
    pub(crate) free: BTreeSet<u64>,
    /// Blocks of metadata, which are rewritten in place, sub-block by sub-block.
    pub(crate) metadata: BTreeSet<u64>,
}

impl FreeList {
    /// Reads the free list of the active header; `read` fills a buffer with a block.
    pub(crate) fn read(
        headers: &Headers,
        read: impl FnMut(u64, &mut [u8]) -> std::io::Result<()>,
    ) -> Result<Self, FreeListProblem> {
        let mut list = Self::default();
        if headers.active.free_list == NOWHERE {
            list.metadata.extend(metadata_block(headers.active.meta_block));
            return Ok(list);
        }
        let mut chain = Chain::open(headers, read);
        // A count that cannot be would fill the memory.
        let limit = headers.active.block_count.saturating_add(1 << 16);
        for _ in 0..chain.count(limit)? {
            list.free.insert(chain.number()?);
        }
        for _ in 0..chain.count(limit)? {
            chain.number()?;
            chain.skip(4)?;
        }
        for _ in 0..chain.count(limit)? {
            list.metadata.insert(chain.number()?);
            chain.number()?;
        }
        list.metadata.extend(chain.blocks.keys());
        list.metadata.extend(metadata_block(headers.active.meta_block));
        Ok(list)
    }
}

/// The block that a metadata pointer leads to: its lower 56 bits.
fn metadata_block(pointer: u64) -> Option<u64> {
    (pointer != NOWHERE).then_some(pointer & ((1 << 56) - 1))
}

/// A list of sub-blocks, each beginning with the pointer to the next; values may lie across their borders.
struct Chain<'a, R> {
    headers: &'a Headers,
    read: R,
    blocks: BTreeMap<u64, Vec<u8>>,
    next: u64,
    payload: std::collections::VecDeque<u8>,
    visited: BTreeSet<u64>,
}

impl<'a, R: FnMut(u64, &mut [u8]) -> std::io::Result<()>> Chain<'a, R> {
    fn open(headers: &'a Headers, read: R) -> Self {
        Self {
            headers,
            read,
            blocks: BTreeMap::new(),
            next: headers.active.free_list,
            payload: std::collections::VecDeque::new(),
            visited: BTreeSet::new(),
        }
    }

    fn count(&mut self, limit: u64) -> Result<u64, FreeListProblem> {
        let count = self.number()?;
        if count > limit { Err(FreeListProblem::Unsound("its free list is longer than the file")) } else { Ok(count) }
    }

    fn number(&mut self) -> Result<u64, FreeListProblem> {
        let mut bytes = [0; 8];
        for byte in &mut bytes {
            *byte = self.byte()?;
        }
        Ok(u64::from_le_bytes(bytes))
    }

    fn skip(&mut self, count: usize) -> Result<(), FreeListProblem> {
        (0..count).try_for_each(|_| self.byte().map(|_| ()))
    }

    fn byte(&mut self) -> Result<u8, FreeListProblem> {
        loop {
            if let Some(byte) = self.payload.pop_front() {
                return Ok(byte);
            }
            self.load_next()?;
        }
    }

    fn load_next(&mut self) -> Result<(), FreeListProblem> {
        let block_bytes = self.headers.active.block_bytes as usize;
        let (pointer, sub_block) = (self.next, self.next >> 56);
        let Some(block) = metadata_block(pointer).filter(|_| sub_block < SUB_BLOCKS) else {
            return Err(FreeListProblem::Unsound("its free list ends early"));
        };
        if !self.visited.insert(pointer) {
            return Err(FreeListProblem::Unsound("its free list runs in a circle"));
        }
        if !self.blocks.contains_key(&block) {
            let mut bytes = vec![0; block_bytes];
            (self.read)(block, &mut bytes)?;
            if !checksum::is_sound(&bytes) {
                return Err(FreeListProblem::Unsound("the checksum of a metadata block is wrong"));
            }
            self.blocks.insert(block, bytes);
        }
        // The block's checksum, then 64 sub-blocks of equal, whole words.
        let size = (block_bytes - 8) / SUB_BLOCKS as usize / 8 * 8;
        let start = 8 + usize::try_from(sub_block).unwrap_or(0) * size;
        let bytes = self.blocks.get(&block).and_then(|b| b.get(start..start + size)).unwrap_or_default();
        let Some((next, payload)) = bytes.split_first_chunk::<8>() else {
            return Err(FreeListProblem::Unsound("its free list leads out of its block"));
        };
        self.next = u64::from_le_bytes(*next);
        self.payload.extend(payload);
        Ok(())
    }
}
