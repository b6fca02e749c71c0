//! The shared wal-index and the frames of a write-ahead log (sqlite.org/walformat.html), as far as a reader needs them.

use crate::handles::{FileError, Handles, WAL_INDEX_WORDS};

const WAL_HEADER_BYTES: u64 = 32;
const FRAME_HEADER_BYTES: u64 = 24;
const HEADER_WORDS: usize = 12;
const BACKFILL_WORD: usize = 24;
const SUPPORTED_VERSION: u32 = 3_007_000;

/// One state of a write-ahead log, as the wal-index describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WalState {
    /// The whole header; two equal ones with no recovery in between mean that nothing was committed in between.
    words: [u32; HEADER_WORDS],
    /// Number of the last frame that is committed.
    pub(crate) last_frame: u32,
    /// Pages of the database after that frame.
    pub(crate) pages: u32,
    page_size: u32,
    salt: [u8; 8],
}

/// What the wal-index says at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WalIndex {
    /// The state.
    pub(crate) state: WalState,
    /// Frames that a checkpoint has copied to the main file.
    pub(crate) backfilled: u32,
}

impl WalIndex {
    /// Reads it; `None` while it is being written to, or not yet valid.
    pub(crate) fn read(handles: Handles<'_>) -> Result<Option<Self>, FileError> {
        Ok(Self::parse(&handles.wal_index()?))
    }

    fn parse(words: &[u32; WAL_INDEX_WORDS]) -> Option<Self> {
        let (first, second) = (words.get(..HEADER_WORDS)?, words.get(HEADER_WORDS..2 * HEADER_WORDS)?);
        let header: [u32; HEADER_WORDS] = first.try_into().ok()?;
        if first != second || header[0] != SUPPORTED_VERSION || checksum(&header[..10]) != [header[10], header[11]] {
            return None;
        }
        // Byte 12 isInit, byte 13 byte order of the checksums in the log, bytes 14-15 page size, all in native order.
        let bytes = header[3].to_ne_bytes();
        let size = u32::from(u16::from_ne_bytes([bytes[2], bytes[3]]));
        let page_size = (size & 0xfe00) + ((size & 1) << 16);
        let mut salt = [0; 8];
        salt[..4].copy_from_slice(&header[8].to_ne_bytes());
        salt[4..].copy_from_slice(&header[9].to_ne_bytes());
        (bytes[0] == 1).then_some(Self {
            state: WalState { words: header, last_frame: header[4], pages: header[5], page_size, salt },
            backfilled: words[BACKFILL_WORD],
        })
    }
}

impl WalState {
    /// The salts and the last frame, as a position.
    pub(crate) fn position(&self) -> String {
        let salt: String = self.salt.iter().map(|b| format!("{b:02x}")).collect();
        format!("{salt}:{}", self.last_frame)
    }

    /// Whether the log in the file is still the one that this state is of.
    pub(crate) fn still_there(&self, handles: Handles<'_>) -> Result<bool, FileError> {
        let mut header = [0; WAL_HEADER_BYTES as usize];
        handles.read_wal(0, &mut header)?;
        Ok(header[16..24] == self.salt)
    }

    /// Reads which frame holds the newest version of each page; `None` if the log does not fit the wal-index.
    pub(crate) fn frames(&self, handles: Handles<'_>) -> Result<Option<Vec<(u32, u32)>>, FileError> {
        let mut header = [0; WAL_HEADER_BYTES as usize];
        handles.read_wal(0, &mut header)?;
        if header[16..24] != self.salt {
            return Ok(None);
        }
        let mut frames = Vec::new();
        let mut header = [0; FRAME_HEADER_BYTES as usize];
        for frame in 1..=self.last_frame {
            let there = handles.read_wal(self.offset(frame), &mut header)?;
            let page = u32::from_be_bytes([header[0], header[1], header[2], header[3]]);
            if there < header.len() || header[8..16] != self.salt || page == 0 {
                return Ok(None);
            }
            frames.push((page, frame));
        }
        // The last frame must be a commit of the size that the wal-index names.
        if self.last_frame > 0 && header[4..8] != self.pages.to_be_bytes() {
            return Ok(None);
        }
        // Of several frames of one page the last one counts; frames beyond the end were cut off by a later commit.
        frames.sort_unstable();
        frames.dedup_by(|later, earlier| {
            let same = later.0 == earlier.0;
            if same {
                earlier.1 = later.1;
            }
            same
        });
        frames.retain(|(page, _)| *page <= self.pages);
        Ok(Some(frames))
    }

    /// Reads the page that a frame holds; returns whether all of it was there.
    pub(crate) fn read_page(&self, handles: Handles<'_>, frame: u32, into: &mut [u8]) -> Result<bool, FileError> {
        Ok(handles.read_wal(self.offset(frame) + FRAME_HEADER_BYTES, into)? == into.len())
    }

    fn offset(&self, frame: u32) -> u64 {
        WAL_HEADER_BYTES + u64::from(frame.saturating_sub(1)) * (u64::from(self.page_size) + FRAME_HEADER_BYTES)
    }
}

/// The checksum of the wal-index header, in native byte order.
fn checksum(words: &[u32]) -> [u32; 2] {
    let mut sum = [0_u32; 2];
    for pair in words.chunks_exact(2) {
        sum[0] = sum[0].wrapping_add(pair[0]).wrapping_add(sum[1]);
        sum[1] = sum[1].wrapping_add(pair[1]).wrapping_add(sum[0]);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words() -> [u32; WAL_INDEX_WORDS] {
        let mut words = [0; WAL_INDEX_WORDS];
        words[0] = SUPPORTED_VERSION;
        let [a, b] = 4096_u16.to_ne_bytes();
        words[3] = u32::from_ne_bytes([1, 0, a, b]);
        words[4] = 9;
        words[5] = 3;
        let sum = checksum(&words[..10]);
        words[10..12].copy_from_slice(&sum);
        words.copy_within(..12, 12);
        words[BACKFILL_WORD] = 4;
        words
    }

    #[test]
    fn a_torn_or_damaged_header_is_not_used() {
        let index = WalIndex::parse(&words()).unwrap();
        assert_eq!((index.state.last_frame, index.state.pages, index.backfilled), (9, 3, 4));
        assert_eq!(index.state.offset(2), 32 + 4096 + 24);
        for at in [0, 3, 4, 10, 12, 20] {
            let mut torn = words();
            torn[at] ^= 1;
            assert!(WalIndex::parse(&torn).is_none(), "word {at}");
        }
    }
}
