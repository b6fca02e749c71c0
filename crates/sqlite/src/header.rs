//! The 100 bytes with which a SQLite file begins (sqlite.org/fileformat2.html, section 1.3).

/// What every SQLite file begins with.
pub(crate) const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// Length of the header.
pub(crate) const HEADER_BYTES: usize = 100;
/// The byte at which SQLite locks; no page that contains it holds content.
const LOCK_BYTE: u64 = 0x4000_0000;

/// The header's fields that a backup needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Bytes in a page.
    pub(crate) page_size: u32,
    /// The file asks to be opened with a write-ahead log.
    pub(crate) wal: bool,
    /// Counts write transactions (in WAL mode only some of them).
    pub(crate) change_counter: u32,
    /// `SQLITE_VERSION_NUMBER` of the library that wrote last.
    pub(crate) writer: u32,
}

impl Header {
    /// Takes a header apart; `None` if it is not one that SQLite accepts.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; HEADER_BYTES] = bytes.get(..HEADER_BYTES)?.try_into().ok()?;
        let word = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let page_size = match u32::from(u16::from_be_bytes([bytes[16], bytes[17]])) {
            1 => 65_536,
            size => size,
        };
        let sane = bytes.starts_with(MAGIC)
            && page_size.is_power_of_two()
            && (512..=65_536).contains(&page_size)
            && bytes[21..24] == [64, 32, 32];
        sane.then(|| Self { page_size, wal: bytes[19] == 2, change_counter: word(24), writer: word(96) })
    }

    /// The version of the library that wrote last, for people.
    pub(crate) fn writer_version(&self) -> String {
        match self.writer {
            0 => "3".to_owned(),
            n => format!("{}.{}.{}", n / 1_000_000, n / 1_000 % 1_000, n % 1_000),
        }
    }
}

/// The number, from 0, of the page that SQLite never uses because it locks there.
pub(crate) fn lock_page(page_size: u32) -> u64 {
    LOCK_BYTE / u64::from(page_size)
}

/// Whether bytes look as if they were encrypted: nearly all of the entropy that so many bytes can have.
pub(crate) fn looks_random(bytes: &[u8]) -> bool {
    if bytes.len() < 512 {
        return false;
    }
    let mut counts = [0_u32; 256];
    for byte in bytes {
        counts[usize::from(*byte)] += 1;
    }
    let total = bytes.len() as f64;
    let entropy: f64 = counts.iter().filter(|n| **n > 0).map(|n| f64::from(*n) / total).map(|p| -p * p.log2()).sum();
    // Random bytes reach 7.58 bits of 8 at 512 bytes and 7.95 at 4,096; texts and tables stay below 6.5.
    entropy > 7.3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Vec<u8> {
        let mut bytes = vec![0; 100];
        bytes[..16].copy_from_slice(MAGIC);
        bytes[16..24].copy_from_slice(&[0x10, 0, 2, 2, 0, 64, 32, 32]);
        bytes[24..28].copy_from_slice(&7_u32.to_be_bytes());
        bytes[96..100].copy_from_slice(&3_040_001_u32.to_be_bytes());
        bytes
    }

    #[test]
    fn takes_a_header_apart() {
        let parsed = Header::parse(&header()).unwrap();
        assert_eq!((parsed.page_size, parsed.wal, parsed.change_counter), (4096, true, 7));
        assert_eq!(parsed.writer_version(), "3.40.1");
        let mut large = header();
        large[16..18].copy_from_slice(&[0, 1]);
        assert_eq!(Header::parse(&large).unwrap().page_size, 65_536);
    }

    #[test]
    fn refuses_what_sqlite_refuses() {
        assert!(Header::parse(&header()[..99]).is_none());
        for (at, value) in [(0, b'X'), (16, 3), (17, 9), (21, 0)] {
            let mut bytes = header();
            bytes[at] = value;
            assert!(Header::parse(&bytes).is_none(), "byte {at}");
        }
    }

    #[test]
    fn the_lock_page() {
        assert_eq!(lock_page(4096), 262_144);
        assert_eq!(lock_page(65_536), 16_384);
    }

    #[test]
    fn random_bytes_are_told_from_texts() {
        let mut hash = blake3::Hasher::new().finalize_xof();
        let mut random = vec![0; 512];
        hash.fill(&mut random);
        assert!(looks_random(&random));
        assert!(!looks_random(&b"The quick brown fox jumps over the lazy dog. ".repeat(40)));
        assert!(!looks_random(&random[..300]));
    }
}
