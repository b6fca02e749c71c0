//! Looks at a live database: which header is the current one, what the log says, and what becomes free.
//!
//! Everything that a round has to know happens in `look`: it meets each new header, in order and without a gap, tells the
//! round which blocks it lists, and seals what was read before a settled moment. A thread looks all the time, because
//! reading and storing blocks may pause for longer than two checkpoints take.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use copal_file_engine::descriptor::{self, FileId, id_of};

use super::round::Round;
use crate::format::free_list::{FreeList, FreeListProblem};
use crate::format::header::{HEADERS_LENGTH, HeaderProblem, Headers};
use crate::format::log::{LogProblem, LogState};
use crate::place::Place;

/// While the log is empty a checkpoint leaves no marker. It frees blocks in memory, writes its metadata, syncs, and writes its
/// header: between the first and the last other threads may write to what was freed. The first two follow each other at once,
/// so if metadata is as it was when the header was new, what was read this long ago is sealed.
const HIDDEN_CHECKPOINT: Duration = Duration::from_millis(100);
/// The same while it is not known what metadata was like when the header was new: longer than most syncs take.
const UNSEEN_CHECKPOINT: Duration = Duration::from_secs(1);
/// Metadata is compared no more often than this, and only up to so many blocks.
const COMPARE_PAUSE: Duration = Duration::from_millis(20);
const MOST_COMPARED: usize = 64;
/// A time stamp younger than this may stay the same while the file is written: older kernels advance it every few
/// milliseconds only.
const CLOCK_TICK: Duration = Duration::from_millis(30);
/// How often in a row a header or log entry with a wrong checksum is read again before it counts as damaged.
const TORN_LIMIT: u32 = 100;

/// What cannot be followed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error("the main file: {0}")]
    Header(#[from] HeaderProblem),
    #[error("the log: {0}")]
    Log(#[from] LogProblem),
    #[error("reading failed: {0}")]
    Io(#[from] io::Error),
    #[error("it was replaced, or is opened under another name")]
    Replaced,
}

/// A log that is being followed.
#[derive(Clone, Debug)]
pub(super) struct FollowedLog {
    pub(super) file: Arc<File>,
    pub(super) id: FileId,
    pub(super) state: LogState,
}

/// What `stat` tells about a file; equal if it was not written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    id: FileId,
    length: u64,
    modified: SystemTime,
}

impl Stamp {
    /// The stamp of an open file, and whether it is old enough to be evidence.
    pub(super) fn of(file: &File) -> io::Result<(Self, bool)> {
        let metadata = file.metadata()?;
        let stamp = Self { id: id_of(&metadata), length: metadata.len(), modified: metadata.modified()? };
        Ok((stamp, stamp.is_settled()))
    }

    /// The stamp of the file at a path.
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        let metadata = std::fs::metadata(path)?;
        Ok(Self { id: id_of(&metadata), length: metadata.len(), modified: metadata.modified()? })
    }

    /// Whether the file was last written long enough ago for its stamp to be evidence.
    pub(super) fn is_settled(&self) -> bool {
        // A time in the future was set by somebody; the next write will not set the same.
        let age = SystemTime::now().duration_since(self.modified).unwrap_or_else(|ahead| ahead.duration());
        age > CLOCK_TICK
    }

    /// Whether `later` is the same file, as long or longer.
    pub(super) fn may_have_grown_to(&self, later: &Self) -> bool {
        self.id == later.id && self.length <= later.length
    }

    /// Length in bytes.
    pub(super) fn length(&self) -> u64 {
        self.length
    }
}

/// What a look found.
#[derive(Clone, Debug)]
pub(super) enum Moment {
    /// No checkpoint is under way, and header and log belong together.
    Settled,
    /// A checkpoint runs or was interrupted, or something changed while it was looked at.
    Unsettled,
}

/// Follows a database from outside.
pub(super) struct Observer {
    place: Place,
    pub(super) main: Arc<File>,
    pub(super) main_id: FileId,
    pub(super) log: Option<FollowedLog>,
    /// The newest header with its free list; none while the list cannot be read.
    pub(super) current: Option<(Arc<Headers>, Arc<FreeList>)>,
    /// How often each block was freed; those often freed are read early.
    pub(super) heat: HashMap<u64, u32>,
    /// Headers that were met.
    pub(super) met: u64,
    round: Option<Arc<Round>>,
    /// Metadata blocks as they were when the current header was new, if it was seen to appear.
    newborn: Option<Vec<(u64, blake3::Hash)>>,
    compared: Instant,
    /// The main file's stamp from the beginning of the last look, and whether it is old enough to be evidence.
    pub(super) stamp: (Stamp, bool),
    reads: VecDeque<(Instant, usize)>,
    torn: u32,
    torn_log: u32,
}

impl Observer {
    /// Opens the main file.
    pub(super) fn open(place: &Place) -> Result<Self, Trouble> {
        let (main, main_id) = descriptor::open(&place.path)?;
        let stamp = Stamp::of(&main)?;
        Ok(Self {
            place: place.clone(),
            main,
            main_id,
            log: None,
            current: None,
            heat: HashMap::new(),
            met: 0,
            round: None,
            newborn: None,
            compared: Instant::now(),
            stamp,
            reads: VecDeque::new(),
            torn: 0,
            torn_log: 0,
        })
    }

    /// From the next look on, headers and settled moments are told to `round`.
    pub(super) fn attend(&mut self, round: Option<Arc<Round>>) {
        self.round = round;
        self.reads.clear();
    }

    /// The round that is under way cannot succeed: nobody looks any more.
    pub(super) fn give_up(&mut self) {
        self.lose();
    }

    /// Looks once.
    pub(super) fn look(&mut self) -> Result<Moment, Trouble> {
        // Before anything is looked at: only what had been read by now can be sealed by what follows.
        let read = self.round.as_ref().map_or(0, |round| round.read_so_far());
        self.stamp = Stamp::of(&self.main)?;
        let Some(raw) = self.headers()? else { return Ok(Moment::Unsettled) };
        if !self.meet(&raw)? || !self.follow_log()? {
            return Ok(Moment::Unsettled);
        }
        let mut again = vec![0; HEADERS_LENGTH];
        self.main.read_exact_at(&mut again, 0)?;
        if again != raw || !self.is_same_log()? {
            return Ok(Moment::Unsettled);
        }
        if self.log.as_ref().is_some_and(|log| log.state.ends_in_marker) {
            return Ok(Moment::Unsettled);
        }
        self.seal(read)?;
        Ok(Moment::Settled)
    }

    /// Reads a block.
    pub(super) fn read_block(main: &File, headers: &Headers, block: u64, into: &mut [u8]) -> io::Result<usize> {
        let offset = headers.offset_of(block).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        let mut filled = 0;
        while let Some(rest) = into.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match main.read_at(rest, offset + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(filled)
    }

    /// Whether the path still leads to the file that is open.
    pub(super) fn is_in_place(&self) -> io::Result<bool> {
        Ok(id_of(&std::fs::metadata(&self.place.path)?) == self.main_id)
    }

    /// The headers' bytes, none if one was just being written.
    fn headers(&mut self) -> Result<Option<Vec<u8>>, Trouble> {
        let mut raw = vec![0; HEADERS_LENGTH];
        let filled = read_beginning(&self.main, &mut raw)?;
        raw.truncate(filled);
        if self.current.as_ref().is_some_and(|(headers, _)| *headers.raw == *raw) {
            self.torn = 0;
            return Ok(Some(raw));
        }
        match Headers::parse(&raw) {
            Ok(_) => {
                self.torn = 0;
                Ok(Some(raw))
            }
            Err(HeaderProblem::Unsound(_)) if self.torn < TORN_LIMIT => {
                self.torn += 1;
                Ok(None)
            }
            Err(problem) => Err(problem.into()),
        }
    }

    /// Takes notice of a header; whether its free list is known.
    fn meet(&mut self, raw: &[u8]) -> Result<bool, Trouble> {
        if self.current.as_ref().is_some_and(|(headers, _)| *headers.raw == *raw) {
            return Ok(true);
        }
        let headers = Headers::parse(raw)?;
        self.met += 1;
        let before = self.current.take();
        let list = match self.free_list(&headers)? {
            Some(list) => list,
            None => {
                self.lose();
                return Ok(false);
            }
        };
        let (headers, list) = (Arc::new(headers), Arc::new(list));
        let follows = before.as_ref().is_some_and(|(old, _)| {
            old.main == headers.main
                && old.active.block_bytes == headers.active.block_bytes
                && old.active.iteration.checked_add(1) == Some(headers.active.iteration)
        });
        if let Some((_, old)) = &before {
            for freed in list.free.difference(&old.free) {
                *self.heat.entry(*freed).or_default() += 1;
            }
        }
        match &self.round {
            Some(round) if follows => round.meet(&headers, &list),
            _ => self.lose(),
        }
        self.newborn = if follows { self.metadata(&headers, &list)? } else { None };
        self.current = Some((headers, list));
        Ok(true)
    }

    fn lose(&self) {
        if let Some(round) = &self.round {
            round.lose();
        }
    }

    /// The free list of a header that is still the current one afterwards.
    fn free_list(&self, headers: &Headers) -> Result<Option<FreeList>, Trouble> {
        for _ in 0..5 {
            let list =
                FreeList::read(headers, |block, into| Self::read_block(&self.main, headers, block, into).map(|_| ()));
            let mut again = vec![0; HEADERS_LENGTH];
            self.main.read_exact_at(&mut again, 0)?;
            if again != *headers.raw {
                return Ok(None);
            }
            match list {
                Ok(list) => return Ok(Some(list)),
                Err(FreeListProblem::Io(error)) => return Err(error.into()),
                // Its block may be rewritten for the next checkpoint just now.
                Err(FreeListProblem::Unsound(_)) => std::thread::sleep(Duration::from_millis(2)),
            }
        }
        Ok(None)
    }

    /// Follows the log at its path; false if it changed its identity meanwhile.
    fn follow_log(&mut self) -> Result<bool, Trouble> {
        let path = self.place.log();
        let id = match std::fs::metadata(&path) {
            Ok(metadata) => id_of(&metadata),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.log = None;
                return if self.place.has_other_log() { Err(Trouble::Replaced) } else { Ok(true) };
            }
            Err(e) => return Err(e.into()),
        };
        if self.log.as_ref().is_none_or(|log| log.id != id) {
            let (file, opened) = match descriptor::open(&path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
                other => other?,
            };
            if opened != id {
                return Ok(false);
            }
            self.log = Some(FollowedLog { file, id, state: LogState::default() });
        }
        let Some(log) = &mut self.log else { return Ok(false) };
        match log.state.advance(&log.file) {
            Ok(()) => {
                self.torn_log = 0;
                Ok(true)
            }
            Err(LogProblem::Damaged(_)) if self.torn_log < TORN_LIMIT => {
                self.torn_log += 1;
                Ok(false)
            }
            Err(problem) => Err(problem.into()),
        }
    }

    fn is_same_log(&self) -> io::Result<bool> {
        match std::fs::metadata(self.place.log()) {
            Ok(metadata) => Ok(self.log.as_ref().is_some_and(|log| log.id == id_of(&metadata))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(self.log.is_none()),
            Err(e) => Err(e),
        }
    }

    /// Seals what was read, as far as this settled moment allows.
    fn seal(&mut self, read: usize) -> io::Result<()> {
        let Some(round) = &self.round else { return Ok(()) };
        let now = Instant::now();
        if self.reads.back().is_none_or(|(_, last)| *last < read) {
            self.reads.push_back((now, read));
        }
        // A checkpoint that began while the log was empty keeps others from writing to it, so with something in the log
        // none is under way without a marker.
        let shows_checkpoints = self.log.as_ref().is_some_and(|log| log.state.end > 0);
        if shows_checkpoints || round.is_untouched(&self.main)? {
            round.seal(read);
            return Ok(());
        }
        let age = self.reads.front().map_or(Duration::ZERO, |(at, _)| now.duration_since(*at));
        let needed = if self.newborn.is_some() { HIDDEN_CHECKPOINT } else { UNSEEN_CHECKPOINT };
        if age < needed || self.compared.elapsed() < COMPARE_PAUSE {
            return Ok(());
        }
        if let (Some(newborn), Some((headers, list))) = (&self.newborn, &self.current) {
            self.compared = Instant::now();
            if self.metadata(headers, list)?.as_ref() != Some(newborn) {
                return Ok(());
            }
        }
        while let Some((_, count)) = self.reads.front().filter(|(at, _)| now.duration_since(*at) >= needed) {
            round.seal(*count);
            self.reads.pop_front();
        }
        Ok(())
    }

    /// What the metadata blocks contain; none if there are many of them.
    fn metadata(&self, headers: &Headers, list: &FreeList) -> io::Result<Option<Vec<(u64, blake3::Hash)>>> {
        if list.metadata.len() > MOST_COMPARED {
            return Ok(None);
        }
        let mut buffer = vec![0; headers.active.block_bytes as usize];
        let mut digests = Vec::new();
        for block in list.metadata.iter().copied() {
            let filled = Self::read_block(&self.main, headers, block, &mut buffer)?;
            digests.push((block, blake3::hash(buffer.get(..filled).unwrap_or_default())));
        }
        Ok(Some(digests))
    }
}

fn read_beginning(file: &File, into: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = into.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, filled as u64)? {
            0 => break,
            n => filled += n,
        }
    }
    Ok(filled)
}
