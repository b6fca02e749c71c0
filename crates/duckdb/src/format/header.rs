//! The three headers at the beginning of a file: who wrote it, and which of two states is the current one.

use super::checksum;

/// Length of the three headers together, in front of the first block.
pub(crate) const HEADERS_LENGTH: usize = 3 * HEADER_LENGTH;
/// What stands at byte 8 of every DuckDB file.
pub(crate) const MAGIC: &[u8; 4] = b"DUCK";
/// A block id or pointer that points nowhere.
pub(crate) const NOWHERE: u64 = u64::MAX;

const HEADER_LENGTH: usize = 4096;
/// Main header versions of DuckDB 0.9 to 1.5. Older files DuckDB itself no longer reads.
const VERSIONS: std::ops::RangeInclusive<u64> = 64..=68;
/// The version in the main header from 2.0 on; the database headers say which one it is.
const MOVED_VERSION: u64 = 999;
/// The newest storage version whose files were looked at, that of DuckDB 2.0.
const NEWEST_STORAGE: u64 = 69;
const ENCRYPTED: u64 = 1;
const MIN_BLOCK: u64 = 16 * 1024;
const MAX_BLOCK: u64 = 256 * 1024;
const DEFAULT_BLOCK: u64 = 256 * 1024;

/// The main header, written once for a file (and again when its version is raised).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MainHeader {
    /// The storage version, or 999 if that stands in the database headers.
    pub(crate) version: u64,
    /// The DuckDB that made the file, for example `v1.4.5`; empty if it does not say.
    pub(crate) library: String,
    /// Blocks and database headers are encrypted.
    pub(crate) encrypted: bool,
}

/// One of the two database headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DatabaseHeader {
    /// Counts checkpoints; the header with the higher one is active.
    pub(crate) iteration: u64,
    /// Where the catalog begins.
    pub(crate) meta_block: u64,
    /// Where the free list begins.
    pub(crate) free_list: u64,
    /// Number of blocks, free ones included.
    pub(crate) block_count: u64,
    /// Bytes in a block, its checksum included.
    pub(crate) block_bytes: u32,
    /// The storage version as a number of its own series; 0 before DuckDB 1.2.
    pub(crate) compatibility: u64,
}

/// All headers of one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Headers {
    /// The bytes themselves.
    pub(crate) raw: Box<[u8]>,
    /// The main header.
    pub(crate) main: MainHeader,
    /// The current state.
    pub(crate) active: DatabaseHeader,
}

/// Why headers could not be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeaderProblem {
    /// The file does not begin as DuckDB's do.
    #[error("it does not begin as a DuckDB file does")]
    NotDuckDb,
    /// A checksum is wrong, or a value that cannot be: torn while it was written, or damaged.
    #[error("{0}")]
    Unsound(String),
    /// Encrypted: only the main header can be read.
    #[error("it is encrypted")]
    Encrypted(MainHeader),
    /// Written by a version that is not known here.
    #[error("its storage version is {0}, newer than this copal knows")]
    Unknown(u64),
}

impl Headers {
    /// Takes the first 12,288 bytes of a file apart; all three checksums must be right.
    pub(crate) fn parse(raw: &[u8]) -> Result<Self, HeaderProblem> {
        let unsound = |what: &str| HeaderProblem::Unsound(what.to_owned());
        let (headers, rest) = raw.as_chunks::<HEADER_LENGTH>();
        let [main, first, second, ..] = headers else {
            return Err(match raw.get(8..12) {
                Some(magic) if magic == MAGIC => unsound("it ends within its headers"),
                _ => HeaderProblem::NotDuckDb,
            });
        };
        debug_assert!(rest.is_empty(), "more than the headers was given");
        if main.get(8..12) != Some(MAGIC) {
            return Err(HeaderProblem::NotDuckDb);
        }
        let header = MainHeader::parse(main);
        if header.encrypted {
            return Err(HeaderProblem::Encrypted(header));
        }
        if header.version != MOVED_VERSION && !VERSIONS.contains(&header.version) {
            return Err(HeaderProblem::Unknown(header.version));
        }
        if !checksum::is_sound(main) {
            return Err(unsound("the checksum of its main header is wrong"));
        }
        let [first, second] = [first, second].map(DatabaseHeader::parse);
        let (first, second) = (first?, second?);
        // A tie means the second.
        let active = if first.iteration > second.iteration { first } else { second };
        Ok(Self { raw: Box::from(&raw[..HEADERS_LENGTH]), main: header, active })
    }

    /// Where a block begins in the file.
    pub(crate) fn offset_of(&self, block: u64) -> Option<u64> {
        block.checked_mul(u64::from(self.active.block_bytes))?.checked_add(HEADERS_LENGTH as u64)
    }

    /// The storage version for people, for example `64` or `66 (compatibility 5)`.
    pub(crate) fn storage_version(&self) -> String {
        match (self.main.version, self.active.compatibility) {
            (MOVED_VERSION, storage) => storage.to_string(),
            (version, 0) => version.to_string(),
            (version, compatibility) => format!("{version}, compatibility {compatibility}"),
        }
    }
}

impl MainHeader {
    fn parse(bytes: &[u8; HEADER_LENGTH]) -> Self {
        let library = bytes.get(52..84).unwrap_or_default();
        let end = library.iter().position(|b| !b.is_ascii_graphic()).unwrap_or(library.len());
        Self {
            version: number(bytes, 12),
            library: String::from_utf8_lossy(library.get(..end).unwrap_or_default()).into_owned(),
            encrypted: number(bytes, 20) & ENCRYPTED != 0,
        }
    }
}

impl DatabaseHeader {
    fn parse(bytes: &[u8; HEADER_LENGTH]) -> Result<Self, HeaderProblem> {
        if !checksum::is_sound(bytes) {
            return Err(HeaderProblem::Unsound("the checksum of a database header is wrong".to_owned()));
        }
        let block_bytes = match number(bytes, 40) {
            0 => DEFAULT_BLOCK,
            given => given,
        };
        if !block_bytes.is_power_of_two() || !(MIN_BLOCK..=MAX_BLOCK).contains(&block_bytes) {
            return Err(HeaderProblem::Unsound(format!("its blocks cannot have {block_bytes} bytes")));
        }
        let compatibility = number(bytes, 56);
        if compatibility > NEWEST_STORAGE {
            return Err(HeaderProblem::Unknown(compatibility));
        }
        let block_count = number(bytes, 32);
        if block_count > u64::MAX / MAX_BLOCK / 2 {
            return Err(HeaderProblem::Unsound(format!("it cannot have {block_count} blocks")));
        }
        Ok(Self {
            iteration: number(bytes, 8),
            meta_block: number(bytes, 16),
            free_list: number(bytes, 24),
            block_count,
            block_bytes: u32::try_from(block_bytes).unwrap_or(u32::MAX),
            compatibility,
        })
    }
}

fn number(bytes: &[u8], at: usize) -> u64 {
    let found = bytes.get(at..at + 8).and_then(|b| b.first_chunk::<8>());
    found.map_or(0, |b| u64::from_le_bytes(*b))
}
