//! Carries blocks from the file to the sink: each once, and again when its content is another.
//!
//! What was given to the sink is remembered by a digest, so that a further round costs reading and hashing only. Changed
//! blocks of such a round are kept back until the next ones have been read, as far as a fixed amount of memory allows:
//! a sink takes its time.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use copal_core::{Context, EngineResult, FileHandle, PageFileSpec, Sink};

use super::observer::{FollowedLog, Observer};
use super::{read_failed, refused_by_sink};
use crate::MAIN_FILE;
use crate::format::checksum;
use crate::format::header::{HEADERS_LENGTH, Headers};
use crate::format::log::LogState;

/// Bytes in a page of a log.
const LOG_PAGE: usize = 64 * 1024;
/// Changed blocks that are kept back, in bytes.
const HELD_BYTES: usize = 16 << 20;
/// How often a block with a wrong checksum is read again.
const MAX_TRIES: u32 = 200;
const PAUSE: Duration = Duration::from_micros(500);
/// A block that is as it was after this long is not being written just now.
const STILL: Duration = Duration::from_millis(20);

/// The first half of a block's BLAKE3 digest; zero for none.
type Digest = [u8; 16];

/// How a block was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// Its checksum is right.
    Sound,
    /// Its checksum is wrong, and stays so: never written, or damaged.
    Unsound,
    /// Its checksum is wrong: to be read again later.
    Torn,
    /// Its checksum is wrong, and its content another each time.
    Moving,
}

/// The main file on its way into a sink.
pub(super) struct Blocks<'a> {
    sink: &'a mut dyn Sink,
    context: &'a Context,
    handle: FileHandle,
    block_bytes: usize,
    given: Vec<Digest>,
    held: Vec<(u64, Vec<u8>)>,
    buffer: Vec<u8>,
    /// Blocks of this round with wrong checksums: what they were, since when, how often read.
    suspects: HashMap<u64, (blake3::Hash, Instant, u32)>,
}

impl<'a> Blocks<'a> {
    /// Begins the main file.
    pub(super) fn begin(sink: &'a mut dyn Sink, block_bytes: u32, context: &'a Context) -> EngineResult<Self> {
        let head_length = u32::try_from(HEADERS_LENGTH).unwrap_or(u32::MAX);
        let spec = PageFileSpec { name: MAIN_FILE.to_owned(), page_size: block_bytes, head_length };
        let handle = sink.begin(&spec).map_err(|e| refused_by_sink(e, context))?;
        let buffer = vec![0; block_bytes as usize];
        Ok(Self {
            sink,
            context,
            handle,
            block_bytes: buffer.len(),
            given: Vec::new(),
            held: Vec::new(),
            buffer,
            suspects: HashMap::new(),
        })
    }

    /// The size with which the file was begun.
    pub(super) fn block_bytes(&self) -> usize {
        self.block_bytes
    }

    /// Another round: what was wrong in the last one counts no more.
    pub(super) fn forget_suspects(&mut self) {
        self.suspects.clear();
    }

    /// Reads a block into the buffer. What lies beyond the end of the file is zero.
    pub(super) fn read(&mut self, main: &File, headers: &Headers, block: u64) -> io::Result<Read> {
        self.fill(main, headers, block)?;
        if checksum::is_sound(&self.buffer) {
            return Ok(Read::Sound);
        }
        let found = blake3::hash(&self.buffer);
        let (first, since, tries) = self.suspects.remove(&block).unwrap_or((found, Instant::now(), 0));
        if first == found && since.elapsed() >= STILL {
            return Ok(Read::Unsound);
        }
        // Another content: counted from now on.
        let since = if first == found { since } else { Instant::now() };
        self.suspects.insert(block, (found, since, tries + 1));
        if tries > 0 {
            // Nothing else is left to read, or little.
            std::thread::sleep(PAUSE);
        }
        Ok(if tries < MAX_TRIES { Read::Torn } else { Read::Moving })
    }

    /// Reads a block without looking at its checksum.
    pub(super) fn fill(&mut self, main: &File, headers: &Headers, block: u64) -> io::Result<()> {
        let filled = Observer::read_block(main, headers, block, &mut self.buffer)?;
        self.buffer.get_mut(filled..).unwrap_or_default().fill(0);
        Ok(())
    }

    /// Gives the block that was read last, unless the sink has it already. `at_once`: nothing waits for the next read.
    pub(super) fn give(&mut self, block: u64, at_once: bool) -> EngineResult<()> {
        let Ok(index) = usize::try_from(block) else { return Ok(()) };
        if self.given.len() <= index {
            self.given.resize(index + 1, Digest::default());
        }
        let digest = *blake3::hash(&self.buffer).as_bytes().first_chunk::<16>().unwrap_or(&[0; 16]);
        let Some(known) = self.given.get_mut(index) else { return Ok(()) };
        if *known == digest {
            return Ok(());
        }
        *known = digest;
        if at_once {
            return self.sink.pages(self.handle, block, &self.buffer).map_err(|e| refused_by_sink(e, self.context));
        }
        self.held.push((block, self.buffer.clone()));
        if self.held.len() * self.block_bytes >= HELD_BYTES { self.release() } else { Ok(()) }
    }

    /// Gives what was kept back.
    pub(super) fn release(&mut self) -> EngineResult<()> {
        self.held.sort_by_key(|(block, _)| *block);
        for (block, bytes) in self.held.drain(..) {
            self.sink.pages(self.handle, block, &bytes).map_err(|e| refused_by_sink(e, self.context))?;
        }
        Ok(())
    }

    /// Ends the main file behind its last block that is needed; blocks that are not are zero, or what they were in an
    /// earlier round.
    pub(super) fn finish(mut self, headers: &Headers, blocks: u64) -> EngineResult<&'a mut dyn Sink> {
        self.release()?;
        self.buffer.fill(0);
        for block in 0..blocks {
            let is_given = usize::try_from(block).ok().and_then(|b| self.given.get(b)).is_some_and(|d| *d != [0; 16]);
            if !is_given {
                let zeros = self.sink.pages(self.handle, block, &self.buffer);
                zeros.map_err(|e| refused_by_sink(e, self.context))?;
            }
        }
        let length = HEADERS_LENGTH as u64 + blocks * self.block_bytes as u64;
        self.sink.finish(self.handle, length, &headers.raw).map_err(|e| refused_by_sink(e, self.context))?;
        Ok(self.sink)
    }

    /// Forgets the main file.
    pub(super) fn withdraw(self) -> EngineResult<&'a mut dyn Sink> {
        self.sink.withdraw(self.handle).map_err(|e| refused_by_sink(e, self.context))?;
        Ok(self.sink)
    }
}

/// Gives the first `length` bytes of a file beside the database as a page file.
pub(super) fn give_prefix(
    sink: &mut dyn Sink,
    suffix: &str,
    file: &File,
    length: u64,
    context: &Context,
) -> EngineResult<()> {
    let refused = |e| refused_by_sink(e, context);
    let page_size = u32::try_from(LOG_PAGE).unwrap_or(u32::MAX);
    let spec = PageFileSpec { name: format!("{MAIN_FILE}{suffix}"), page_size, head_length: 0 };
    let handle = sink.begin(&spec).map_err(refused)?;
    let mut buffer = vec![0; 16 * LOG_PAGE];
    let mut at = 0;
    while at < length {
        context.cancel.check()?;
        let amount = usize::try_from(length - at).unwrap_or(usize::MAX).min(buffer.len());
        let bytes = buffer.get_mut(..amount).unwrap_or_default();
        file.read_exact_at(bytes, at).map_err(|e| read_failed(&format!("{MAIN_FILE}{suffix}"), e))?;
        sink.pages(handle, at / LOG_PAGE as u64, bytes).map_err(refused)?;
        at += amount as u64;
    }
    sink.finish(handle, length, &[]).map_err(refused)
}

/// Whether a followed log still begins with what was committed.
pub(super) fn is_still_there(log: &FollowedLog) -> bool {
    LogState::of_prefix(&log.file, log.state.committed).is_ok_and(|again| again.is_same_prefix(&log.state))
}
