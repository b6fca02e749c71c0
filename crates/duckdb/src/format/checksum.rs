//! DuckDB's 64-bit checksum (`common/checksum.cpp`): it finds torn blocks. Equal checksums do not mean equal blocks:
//! exchanging two 8-byte values keeps it.

const WORD_FACTOR: u64 = 0xbf58_476d_1ce4_e5b9;
const START: u64 = 5381;

/// The checksum of `bytes`.
pub(crate) fn checksum(bytes: &[u8]) -> u64 {
    let mut sum = Checksum::default();
    sum.update(bytes);
    sum.finish()
}

/// Whether a block's first 8 bytes are the checksum of the others.
pub(crate) fn is_sound(block: &[u8]) -> bool {
    match block.split_first_chunk::<8>() {
        Some((stored, content)) => u64::from_le_bytes(*stored) == checksum(content),
        None => false,
    }
}

/// A checksum taken piece by piece.
#[derive(Clone, Debug, Default)]
pub(crate) struct Checksum {
    words: u64,
    rest: [u8; 8],
    rest_length: usize,
}

impl Checksum {
    /// Takes the next bytes.
    pub(crate) fn update(&mut self, mut bytes: &[u8]) {
        if self.rest_length > 0 {
            let (head, tail) = bytes.split_at(bytes.len().min(8 - self.rest_length));
            for (to, from) in self.rest.iter_mut().skip(self.rest_length).zip(head) {
                *to = *from;
            }
            self.rest_length += head.len();
            bytes = tail;
            if self.rest_length < 8 {
                return;
            }
            self.words ^= u64::from_le_bytes(self.rest).wrapping_mul(WORD_FACTOR);
            self.rest_length = 0;
        }
        let (words, rest) = bytes.as_chunks::<8>();
        // The factor is the same for all words, but XOR does not distribute over it: one multiplication each.
        self.words ^= words.iter().fold(0, |sum, word| sum ^ u64::from_le_bytes(*word).wrapping_mul(WORD_FACTOR));
        for (to, from) in self.rest.iter_mut().zip(rest) {
            *to = *from;
        }
        self.rest_length = rest.len();
    }

    /// The checksum of everything taken.
    pub(crate) fn finish(&self) -> u64 {
        let rest = self.rest.get(..self.rest_length).unwrap_or_default();
        let sum = self.words ^ START;
        if rest.is_empty() { sum } else { sum ^ of_rest(rest) }
    }
}

/// The last 1 to 7 bytes have a hash of their own.
fn of_rest(rest: &[u8]) -> u64 {
    const M: u64 = 0xc6a4_a793_5bd1_e995;
    const SEED: u64 = 0xe17a_1465;
    const R: u32 = 47;
    let mut hash = SEED ^ (rest.len() as u64).wrapping_mul(M);
    for (i, byte) in rest.iter().enumerate() {
        hash ^= u64::from(*byte) << (8 * i);
    }
    hash = hash.wrapping_mul(M);
    hash ^= hash >> R;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> R)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_make_no_difference() {
        let bytes: Vec<u8> = (0..1000u32).map(|n| (n * 7 % 251) as u8).collect();
        for length in [0, 1, 7, 8, 9, 63, 1000] {
            let whole = checksum(&bytes[..length]);
            for step in [1, 3, 8, 13] {
                let mut sum = Checksum::default();
                bytes[..length].chunks(step).for_each(|piece| sum.update(piece));
                assert_eq!(sum.finish(), whole, "{length} bytes by {step}");
            }
        }
    }

    #[test]
    fn log_entries_of_duckdb_have_it() {
        // The WAL_FLUSH entry, as every version writes it.
        assert_eq!(checksum(&[0x64, 0x00, 0x64, 0xff, 0xff]), 0x5e3d_ed2f_727d_fee7);
    }
}
