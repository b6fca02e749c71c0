//! Cutting streams by their content: FastCDC as of 2020, 64 KiB, 256 KiB and 1 MiB.
//!
//! Where is cut depends on the bytes alone, never on how they come in: nothing is cut before the longest chunk lies there.

use fastcdc::v2020::FastCDC;

const MIN_CHUNK: usize = 64 << 10;
const AVERAGE_CHUNK: usize = 256 << 10;
const MAX_CHUNK: usize = 1 << 20;

/// A stream that is being taken: bytes that are not cut yet.
pub(super) struct OpenStream {
    pub(super) name: String,
    buffer: Vec<u8>,
}

impl OpenStream {
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.into(), buffer: Vec::new() }
    }

    /// Takes the front of `bytes`; gives the rest, and whether a run must be cut off before more is taken.
    pub(super) fn take<'a>(&mut self, bytes: &'a [u8]) -> (&'a [u8], bool) {
        let room = (super::FRAME_BYTES + MAX_CHUNK).saturating_sub(self.buffer.len());
        let (now, later) = bytes.split_at(room.min(bytes.len()));
        self.buffer.extend_from_slice(now);
        (later, now.len() == room)
    }

    /// Whether nothing is left to be cut.
    pub(super) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Cuts a run of about 1 MiB off the front, at most 2 MiB, and keeps the rest in `spare`; gives its bytes and the
    /// lengths of its chunks. `is_end`: nothing more comes.
    pub(super) fn cut(&mut self, mut spare: Vec<u8>, is_end: bool) -> (Vec<u8>, Vec<u32>) {
        let mut lengths = Vec::new();
        let mut at = 0;
        let cutter = FastCDC::new(&self.buffer, MIN_CHUNK, AVERAGE_CHUNK, MAX_CHUNK);
        while at < super::FRAME_BYTES && at < self.buffer.len() && (is_end || self.buffer.len() - at >= MAX_CHUNK) {
            let (_, end) = cutter.cut(at, self.buffer.len() - at);
            let end = end.clamp(at + 1, self.buffer.len());
            lengths.push(u32::try_from(end - at).unwrap_or(u32::MAX));
            at = end;
        }
        spare.clear();
        spare.extend_from_slice(self.buffer.get(at..).unwrap_or_default());
        let mut run = std::mem::replace(&mut self.buffer, spare);
        run.truncate(at);
        (run, lengths)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut_all(bytes: &[u8], step: usize) -> Vec<u32> {
        let mut stream = OpenStream::new("s");
        let (mut lengths, mut together) = (Vec::new(), Vec::new());
        let mut cut = |stream: &mut OpenStream, is_end| {
            let (run, chunks) = stream.cut(Vec::new(), is_end);
            assert_eq!(run.len(), chunks.iter().sum::<u32>() as usize);
            together.extend(run);
            lengths.extend(chunks);
        };
        for mut part in bytes.chunks(step) {
            while !part.is_empty() {
                let (rest, is_full) = stream.take(part);
                if is_full {
                    cut(&mut stream, false);
                }
                part = rest;
            }
        }
        while !stream.is_empty() {
            cut(&mut stream, true);
        }
        assert!(together == bytes);
        lengths
    }

    #[test]
    fn cuts_depend_on_the_bytes_alone() {
        let mut bytes = vec![0; 9 << 20];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes[..6_000_001]);
        let lengths = cut_all(&bytes, bytes.len());
        assert!(lengths.iter().all(|n| *n as usize <= MAX_CHUNK) && lengths.len() > 20);
        assert!(lengths[..lengths.len() - 1].iter().all(|n| *n as usize >= MIN_CHUNK));
        for step in [4097, 65_536, 300_000, 3 << 20] {
            assert_eq!(cut_all(&bytes, step), lengths);
        }
        let whole: Vec<u32> =
            FastCDC::new(&bytes, MIN_CHUNK, AVERAGE_CHUNK, MAX_CHUNK).map(|c| c.length as u32).collect();
        assert_eq!(lengths, whole);
    }
}
