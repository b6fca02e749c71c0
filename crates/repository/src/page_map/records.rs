//! The local form of a page map: one fixed-size record a page in a scratch file, a few windows of it in memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::{DIGEST_BYTES, FANOUT, PageDigest};

const RECORD_BYTES: usize = 36;
const WINDOW_BYTES: usize = RECORD_BYTES * FANOUT;
const WINDOWS: usize = 16;

/// Where one page lies; `pack` is an index into the owner's table of packs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) pack: u32,
    pub(crate) frame: u32,
    pub(crate) offset: u32,
    pub(crate) length: u32,
    pub(crate) slot: u16,
    pub(crate) digest: PageDigest,
}

impl Record {
    fn to_bytes(self) -> [u8; RECORD_BYTES] {
        let mut out = [0; RECORD_BYTES];
        let fields = [self.pack, self.frame, self.offset, self.length];
        for (to, field) in out.chunks_exact_mut(4).zip(fields) {
            to.copy_from_slice(&field.to_le_bytes());
        }
        out[16..18].copy_from_slice(&self.slot.to_le_bytes());
        out[18] = 1;
        out[20..].copy_from_slice(&self.digest);
        out
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; RECORD_BYTES] = bytes.try_into().ok()?;
        if bytes[18] != 1 {
            return None;
        }
        let field = |i: usize| u32::from_le_bytes([bytes[i], bytes[i + 1], bytes[i + 2], bytes[i + 3]]);
        let mut digest = [0; DIGEST_BYTES];
        digest.copy_from_slice(&bytes[20..]);
        let slot = u16::from_le_bytes([bytes[16], bytes[17]]);
        Some(Self { pack: field(0), frame: field(4), offset: field(8), length: field(12), slot, digest })
    }
}

struct Window {
    number: u64,
    bytes: Vec<u8>,
    dirty: bool,
    used: u64,
}

/// Records by page number. Memory: at most 16 windows of 4,096 records.
pub(crate) struct Records {
    file: File,
    windows: Vec<Window>,
    clock: u64,
}

impl Records {
    /// Works on this file: what is in it counts as records.
    pub(crate) fn over(file: File) -> Self {
        Self { file, windows: Vec::new(), clock: 0 }
    }

    /// The record of a page; `None` if it was never set.
    pub(crate) fn get(&mut self, page: u64) -> io::Result<Option<Record>> {
        let (window, at) = self.window(page)?;
        Ok(window.bytes.get(at..at + RECORD_BYTES).and_then(Record::from_bytes))
    }

    /// Sets the record of a page.
    pub(crate) fn set(&mut self, page: u64, record: &Record) -> io::Result<()> {
        let (window, at) = self.window(page)?;
        if let Some(place) = window.bytes.get_mut(at..at + RECORD_BYTES) {
            place.copy_from_slice(&record.to_bytes());
        }
        window.dirty = true;
        Ok(())
    }

    /// The records of `count` pages of one leaf, which begins at a multiple of 4,096.
    pub(crate) fn leaf(&mut self, first: u64, count: usize) -> io::Result<Vec<Option<Record>>> {
        let (window, at) = self.window(first)?;
        let bytes = window.bytes.get(at..).unwrap_or_default();
        Ok(bytes.chunks_exact(RECORD_BYTES).take(count).map(Record::from_bytes).collect())
    }

    /// Writes everything back and gives the file, cut to `pages` records.
    pub(crate) fn finish(mut self, pages: u64) -> io::Result<File> {
        for window in &self.windows {
            if window.dirty {
                self.file.write_all_at(&window.bytes, window.number * WINDOW_BYTES as u64)?;
            }
        }
        self.windows.clear();
        self.file.set_len(pages * RECORD_BYTES as u64)?;
        Ok(self.file)
    }

    fn window(&mut self, page: u64) -> io::Result<(&mut Window, usize)> {
        let number = page / FANOUT as u64;
        let at = usize::try_from(page % FANOUT as u64).unwrap_or(0) * RECORD_BYTES;
        self.clock += 1;
        let found = self.windows.iter().position(|w| w.number == number);
        let index = match found {
            Some(index) => index,
            None => self.load(number)?,
        };
        match self.windows.get_mut(index) {
            Some(window) => {
                window.used = self.clock;
                Ok((window, at))
            }
            None => Err(io::Error::other("no window")),
        }
    }

    fn load(&mut self, number: u64) -> io::Result<usize> {
        let mut bytes = Vec::new();
        if self.windows.len() >= WINDOWS {
            let oldest = self.windows.iter().enumerate().min_by_key(|(_, w)| w.used).map_or(0, |(i, _)| i);
            let window = self.windows.swap_remove(oldest);
            if window.dirty {
                self.file.write_all_at(&window.bytes, window.number * WINDOW_BYTES as u64)?;
            }
            bytes = window.bytes;
        }
        bytes.clear();
        bytes.resize(WINDOW_BYTES, 0);
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|r| !r.is_empty()) {
            match self.file.read_at(rest, number * WINDOW_BYTES as u64 + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        self.windows.push(Window { number, bytes, dirty: false, used: self.clock });
        Ok(self.windows.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_eviction_and_reopening() {
        let record = |i: u64| Record {
            pack: i as u32,
            frame: 1,
            offset: 2,
            length: 3,
            slot: 4,
            digest: super::super::page_digest(&i.to_le_bytes()),
        };
        let pages: Vec<u64> = (0..40u64).map(|i| (i * 7919) % 40 * 5000).collect();
        let mut records = Records::over(tempfile::tempfile().unwrap());
        for p in &pages {
            assert_eq!(records.get(*p).unwrap(), None);
            records.set(*p, &record(*p)).unwrap();
        }
        let mut records = Records::over(records.finish(39 * 5000 + 1).unwrap());
        for p in &pages {
            assert_eq!(records.get(*p).unwrap(), Some(record(*p)));
        }
        assert_eq!(records.get(39 * 5000 + 1).unwrap(), None);
    }
}
