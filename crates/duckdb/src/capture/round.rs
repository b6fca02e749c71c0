//! One attempt at a consistent copy: which blocks it needs, in which order they are read, and which are sealed.
//!
//! The copy is the state of one settled moment: the headers, the log's committed prefix, and every block that either
//! refers to. A block that was read later is as good as one read in that moment until a header lists it as free, as
//! metadata or as beyond the end: before that header is written, nothing is written into it. So a block is *sealed* once
//! a settled moment after its reading shows that no such header had come. If one comes first, the round is lost.
//!
//! Blocks are sealed in the order in which they are read. One whose checksum was wrong goes to the end of that order, to be
//! read again there: nothing waits for it.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::observer::{FollowedLog, Observer, Stamp};
use crate::format::free_list::FreeList;
use crate::format::header::Headers;

/// A block that is not needed has no place in the order.
const NOT_NEEDED: u32 = u32::MAX;
/// Missing blocks are counted up to here.
const MANY_ABSENT: usize = 1 << 20;

/// An attempt; shared by the thread that reads and the one that looks.
pub(super) struct Round {
    /// The state's headers.
    pub(super) headers: Arc<Headers>,
    /// What they say is free.
    pub(super) list: Arc<FreeList>,
    /// The log as it was in the round's moment; none if it was empty.
    pub(super) log: Option<FollowedLog>,
    /// The blocks to be read, in order; taken by the thread that reads.
    order: Mutex<Vec<u64>>,
    /// One behind the last block that is needed.
    pub(super) end: u64,
    /// Used blocks that lie beyond the end of the file.
    pub(super) missing: u64,
    /// By block, its place in the order.
    places: Vec<AtomicU32>,
    total: AtomicUsize,
    stamp: Option<Stamp>,
    read: AtomicUsize,
    sealed: Mutex<usize>,
    lost: AtomicBool,
}

impl Round {
    /// Begins a round in the observer's settled moment. `may_map`: time stamps are no evidence.
    pub(super) fn begin(observer: &Observer, may_map: bool) -> io::Result<Option<Self>> {
        let Some((headers, list)) = observer.current.clone() else { return Ok(None) };
        let (stamp, is_evidence) = observer.stamp;
        let log = observer.log.clone().filter(|log| log.state.committed > 0);
        let mut order: Vec<u64> = list.metadata.iter().copied().collect();
        let block_bytes = u64::from(headers.active.block_bytes);
        let blocks_in_file = stamp.length().saturating_sub(headers.raw.len() as u64).div_ceil(block_bytes);
        let refers_ahead = log.as_ref().is_some_and(|log| log.state.has_row_groups);
        let count = match refers_ahead {
            true => headers.active.block_count.max(blocks_in_file),
            false => headers.active.block_count,
        };
        // Blocks that are not there: none of those at the end need ever have been written, if they are free.
        let absent = (blocks_in_file..headers.active.block_count).take(MANY_ABSENT);
        let missing = absent.filter(|block| !list.free.contains(block)).count() as u64;
        let count = count.min(blocks_in_file);
        order.retain(|block| *block < count);
        let length = usize::try_from(count).map_err(io::Error::other)?;
        let places: Vec<AtomicU32> = std::iter::repeat_with(|| AtomicU32::new(NOT_NEEDED)).take(length).collect();
        let mut taken = vec![false; length];
        order.iter().for_each(|block| mark(&mut taken, *block));
        if refers_ahead {
            // Which of the free blocks the log refers to is not known, and they are written to first.
            let ahead = headers.active.block_count.min(count)..count;
            push_all(&mut order, &mut taken, list.free.iter().copied().filter(|b| *b < count).chain(ahead));
        } else {
            list.free.iter().for_each(|block| mark(&mut taken, *block));
        }
        let mut hot: Vec<(u64, u32)> = observer.heat.iter().map(|(block, heat)| (*block, *heat)).collect();
        hot.sort_unstable_by_key(|(block, heat)| (std::cmp::Reverse(*heat), *block));
        push_all(&mut order, &mut taken, hot.into_iter().map(|(block, _)| block).filter(|b| *b < count));
        push_all(&mut order, &mut taken, 0..count);
        for (place, block) in order.iter().enumerate() {
            let place = u32::try_from(place).map_err(io::Error::other)?;
            if let Some(slot) = usize::try_from(*block).ok().and_then(|block| places.get(block)) {
                slot.store(place, Ordering::SeqCst);
            }
        }
        Ok(Some(Self {
            headers,
            list,
            log,
            end: order.iter().max().map_or(0, |last| last + 1),
            total: AtomicUsize::new(order.len()),
            order: Mutex::new(order),
            missing,
            places,
            stamp: Some(stamp).filter(|_| is_evidence && !may_map),
            read: AtomicUsize::new(0),
            sealed: Mutex::new(0),
            lost: AtomicBool::new(false),
        }))
    }

    /// The blocks to be read, in order, handed out once.
    pub(super) fn take_order(&self) -> Vec<u64> {
        std::mem::take(&mut *self.order.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts a block at the end of the order; to be called before its old place is noted as read.
    pub(super) fn put_off(&self, block: u64) {
        let place = self.total.fetch_add(1, Ordering::SeqCst);
        let slot = usize::try_from(block).ok().and_then(|block| self.places.get(block));
        match (slot, u32::try_from(place)) {
            (Some(slot), Ok(place)) if place != NOT_NEEDED => slot.store(place, Ordering::SeqCst),
            _ => self.lose(),
        }
    }

    /// Notes that the first `count` blocks of the order have been read.
    pub(super) fn note_read(&self, count: usize) {
        self.read.store(count, Ordering::SeqCst);
    }

    /// How many blocks of the order have been read.
    pub(super) fn read_so_far(&self) -> usize {
        self.read.load(Ordering::SeqCst)
    }

    /// The first `count` blocks of the order are sealed.
    pub(super) fn seal(&self, count: usize) {
        let mut sealed = self.sealed.lock().unwrap_or_else(PoisonError::into_inner);
        *sealed = (*sealed).max(count);
    }

    /// A block was lost, or a header was missed.
    pub(super) fn lose(&self) {
        self.lost.store(true, Ordering::SeqCst);
    }

    /// Whether the round cannot succeed any more.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::SeqCst)
    }

    /// Whether every block is sealed and none was lost.
    pub(super) fn is_complete(&self) -> bool {
        let sealed = *self.sealed.lock().unwrap_or_else(PoisonError::into_inner);
        !self.is_lost() && sealed == self.total.load(Ordering::SeqCst)
    }

    /// Takes notice of the next header and what it lists.
    pub(super) fn meet(&self, headers: &Headers, list: &FreeList) {
        let sealed = *self.sealed.lock().unwrap_or_else(PoisonError::into_inner);
        let is_open = |block: u64| {
            let place = usize::try_from(block).ok().and_then(|block| self.places.get(block));
            let place = place.map_or(NOT_NEEDED, |place| place.load(Ordering::SeqCst));
            place != NOT_NEEDED && place as usize >= sealed
        };
        let beyond = headers.active.block_count..self.places.len() as u64;
        // Metadata is rewritten in place, so its time ends with the header, whatever the next one lists.
        let mut listed = self.list.metadata.iter().chain(&list.metadata).chain(&list.free).copied().chain(beyond);
        if listed.any(is_open) {
            self.lose();
        }
    }

    /// Whether nothing was written to the main file since the round began.
    pub(super) fn is_untouched(&self, main: &File) -> io::Result<bool> {
        match &self.stamp {
            Some(stamp) => Ok(Stamp::of(main)?.0 == *stamp),
            None => Ok(false),
        }
    }
}

fn mark(taken: &mut [bool], block: u64) {
    if let Some(slot) = usize::try_from(block).ok().and_then(|block| taken.get_mut(block)) {
        *slot = true;
    }
}

/// Appends the blocks that are not taken yet, and takes them.
fn push_all(order: &mut Vec<u64>, taken: &mut [bool], blocks: impl Iterator<Item = u64>) {
    for block in blocks {
        let Some(slot) = usize::try_from(block).ok().and_then(|block| taken.get_mut(block)) else { continue };
        if !std::mem::replace(slot, true) {
            order.push(block);
        }
    }
}
