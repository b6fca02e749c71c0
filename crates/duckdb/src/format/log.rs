//! The write-ahead log: a version entry, then framed entries; each commit ends in one that says "flush".
//!
//! A log is only ever appended to, so a prefix that ends in a flush is what was committed then. (A commit that fails is
//! cut off again; what was committed before it stays.)

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::checksum::Checksum;

const VERSION_ENTRY: u64 = 98;
const CHECKPOINT: u64 = 99;
const FLUSH: u64 = 100;
const ROW_GROUP_DATA: u64 = 29;

/// Logs whose entries carry checksums.
const FRAMED: u64 = 2;
const END_OF_OBJECT: u16 = 0xffff;
/// The version entry of an encrypted log, too, is shorter than this.
const MAX_VERSION_ENTRY: usize = 256;
const BUFFER: usize = 64 * 1024;

/// Why a log could not be followed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogProblem {
    /// Reading failed.
    #[error("reading failed: {0}")]
    Io(#[from] io::Error),
    /// An entry that is all there has a wrong checksum or is none: DuckDB would refuse to open the database.
    #[error("the entry at byte {0} is damaged")]
    Damaged(u64),
    /// Encrypted, or of a version not known here.
    #[error("its version is {0}")]
    Unknown(u64),
}

/// How far a log was followed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogState {
    /// End of the last complete entry, in bytes from the beginning.
    pub(crate) end: u64,
    /// End of the last flush in front of any checkpoint's marker: what is committed by this log.
    pub(crate) committed: u64,
    /// Flushes up to there.
    pub(crate) transactions: u64,
    /// Blocks that were written before their commit are referred to, up to `committed`.
    pub(crate) has_row_groups: bool,
    /// The log ends in the marker of a checkpoint: one runs, or was interrupted.
    pub(crate) ends_in_marker: bool,
    /// Row groups since the last flush.
    pending_row_groups: bool,
    /// A marker since the last flush.
    pending_marker: bool,
    /// Where the last complete entry begins, with its size and checksum.
    last: Option<(u64, (u64, u64))>,
}

impl LogState {
    /// Follows the log to its end; what is not complete yet is left for the next time.
    pub(crate) fn advance(&mut self, file: &File) -> Result<(), LogProblem> {
        let length = file.metadata()?.len();
        // A failed commit is cut off, and the next one written in its place: then everything is read again.
        let is_same = match self.last {
            Some((at, last)) => length >= self.end && frame(file, at, length)? == Some(last),
            None => length >= self.end,
        };
        if !is_same {
            *self = Self::default();
        }
        self.follow(file, length)
    }

    /// The state of a log that ends after `length` bytes.
    pub(crate) fn of_prefix(file: &File, length: u64) -> Result<Self, LogProblem> {
        let mut state = Self::default();
        state.follow(file, length.min(file.metadata()?.len()))?;
        Ok(state)
    }

    /// Whether both tell the same about what is committed.
    pub(crate) fn is_same_prefix(&self, other: &Self) -> bool {
        let facts = |state: &Self| (state.committed, state.transactions, state.has_row_groups);
        facts(self) == facts(other)
    }

    fn follow(&mut self, file: &File, length: u64) -> Result<(), LogProblem> {
        let mut buffer = Vec::new();
        if self.end == 0 {
            let Some(end) = version_entry(file, length)? else { return Ok(()) };
            self.end = end;
        }
        while let Some((size, sum)) = frame(file, self.end, length)? {
            let start = self.end + 16;
            if start.checked_add(size).is_none_or(|end| end > length) {
                break;
            }
            let kind = entry(file, start, size, sum, &mut buffer)?.ok_or(LogProblem::Damaged(self.end))?;
            self.last = Some((self.end, (size, sum)));
            self.end = start + size;
            match kind {
                CHECKPOINT => self.pending_marker = true,
                ROW_GROUP_DATA => self.pending_row_groups = true,
                FLUSH if self.pending_marker => {
                    self.pending_marker = false;
                    self.ends_in_marker = true;
                    continue;
                }
                FLUSH => {
                    self.committed = self.end;
                    self.transactions += 1;
                    self.has_row_groups |= std::mem::take(&mut self.pending_row_groups);
                }
                _ => {}
            }
            self.ends_in_marker = self.pending_marker;
        }
        Ok(())
    }
}

/// The end of the version entry, if it is complete.
fn version_entry(file: &File, length: u64) -> Result<Option<u64>, LogProblem> {
    let mut bytes = vec![0; MAX_VERSION_ENTRY.min(usize::try_from(length).unwrap_or(usize::MAX))];
    file.read_exact_at(&mut bytes, 0)?;
    let mut rest = bytes.as_slice();
    let mut version = 1;
    let mut is_first = true;
    // Fields: 100 the type, 101 the version, 102 the database's identifier (a list), 103 the checkpoint's number.
    while let Some((field, after)) = rest.split_first_chunk::<2>() {
        rest = after;
        let field = u16::from_le_bytes(*field);
        if is_first && field != 100 {
            return Err(LogProblem::Damaged(0));
        }
        if field == END_OF_OBJECT {
            return match version {
                FRAMED => Ok(Some((bytes.len() - rest.len()) as u64)),
                other => Err(LogProblem::Unknown(other)),
            };
        }
        let Some(value) = varint(&mut rest) else { break };
        match field {
            100 if value != VERSION_ENTRY => return Err(LogProblem::Unknown(1)),
            101 => version = value,
            102 => {
                for _ in 0..value.min(MAX_VERSION_ENTRY as u64) {
                    varint(&mut rest);
                }
            }
            100 | 103 => {}
            _ => return Err(LogProblem::Unknown(version)),
        }
        is_first = false;
    }
    if bytes.len() < MAX_VERSION_ENTRY { Ok(None) } else { Err(LogProblem::Damaged(0)) }
}

/// The size and checksum in front of an entry, if both are there.
fn frame(file: &File, at: u64, length: u64) -> io::Result<Option<(u64, u64)>> {
    if length < at.saturating_add(16) {
        return Ok(None);
    }
    let mut bytes = [0; 16];
    file.read_exact_at(&mut bytes, at)?;
    let ([size, sum], _) = bytes.as_chunks::<8>() else { return Ok(None) };
    Ok(Some((u64::from_le_bytes(*size), u64::from_le_bytes(*sum))))
}

/// The type of an entry, or none if its checksum is wrong.
fn entry(file: &File, start: u64, size: u64, sum: u64, buffer: &mut Vec<u8>) -> io::Result<Option<u64>> {
    let mut found = Checksum::default();
    let mut kind = None;
    let mut at = 0;
    while at < size {
        let amount = usize::try_from(size - at).unwrap_or(BUFFER).min(BUFFER);
        buffer.resize(amount, 0);
        file.read_exact_at(buffer, start + at)?;
        if at == 0 {
            kind = entry_kind(buffer);
        }
        found.update(buffer);
        at += amount as u64;
    }
    Ok(kind.filter(|_| found.finish() == sum))
}

fn entry_kind(payload: &[u8]) -> Option<u64> {
    let (field, mut rest) = payload.split_first_chunk::<2>()?;
    if u16::from_le_bytes(*field) == 100 { varint(&mut rest) } else { None }
}

/// An unsigned LEB128 number.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
