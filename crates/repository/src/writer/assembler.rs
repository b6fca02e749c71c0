//! One thread that puts everything in order: it decides in which frame of which pack every page lies.
//!
//! Workers finish in any order; results are taken in the order in which the engine gave the pages, so that a page given twice
//! ends up as it was given last, and the same input makes the same packs.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use copal_core::{BackupId, DatabaseId, FileEntry, PackId, PackUse};

use super::finish::{self, FinishRequest};
use super::stream_frames::{NewFrame, Streams};
use super::uploads::Uploads;
use super::workers::{Gather, Job, PageFrame, PanicGuard, RunOutcome, yield_to_others};
use super::{FinishedFile, LocalRef, Message};
use crate::abort::Abort;
use crate::buffers::Buffers;
use crate::error::{RepositoryError, RepositoryErrorKind, Result};
use crate::frame::{Encoder, Kind};
use crate::keys::Keys;
use crate::pack::PackBuilder;
use crate::pack_table::{PackInfo, PackTable};
use crate::page_map::{PageDigest, Record, Records};
use crate::state::DatabaseState;

/// What an assembler works with.
pub(super) struct Setup {
    pub(super) keys: Keys,
    pub(super) database: DatabaseId,
    pub(super) backup: BackupId,
    pub(super) level: Option<i32>,
    pub(super) packs: PackTable,
    pub(super) leave: Vec<bool>,
    pub(super) state: DatabaseState,
}

#[expect(clippy::too_many_arguments, reason = "one caller, and each is a thing of its own")]
/// Starts the thread.
pub(super) fn start(
    setup: Setup,
    streams: Streams,
    inbox: Receiver<Message>,
    jobs: Sender<Job>,
    spare: Sender<Vec<u8>>,
    frames: Buffers,
    uploads: Uploads,
    abort: &Arc<Abort>,
) -> Result<()> {
    let abort = Arc::clone(abort);
    let guard = PanicGuard(Arc::clone(&abort));
    let encoder = Encoder::new(setup.level);
    let mut assembler = Assembler {
        packing: Packing { setup, encoder, current: None, next_pack: 0, uploads, added_bytes: 0 },
        files: HashMap::new(),
        streams,
        early: BTreeMap::new(),
        next_seq: 0,
        queue: VecDeque::new(),
        gathered: HashMap::new(),
        next_gather: 0,
        jobs,
        spare,
        frames,
    };
    std::thread::Builder::new()
        .name("copal-assemble".into())
        .spawn(move || {
            let _guard = guard;
            yield_to_others();
            if let Err(error) = assembler.run(&inbox, &abort) {
                abort.set(error);
            }
        })
        .map_err(|e| RepositoryError::local("no thread could be started", e))?;
    Ok(())
}

/// The pack being filled, and all packs so far.
pub(super) struct Packing {
    pub(super) setup: Setup,
    encoder: Encoder,
    current: Option<(u32, PackBuilder)>,
    next_pack: u32,
    uploads: Uploads,
    added_bytes: u64,
}

impl Packing {
    /// Appends a frame with `raw_bytes` of content to the packs.
    fn push(&mut self, frame: &[u8], raw_bytes: u64) -> LocalRef {
        if self.current.as_ref().is_some_and(|(_, pack)| pack.is_full_for(frame.len())) {
            self.end_pack();
        }
        let Setup { keys, database, backup, packs, .. } = &mut self.setup;
        let buffers = self.uploads.packs();
        let next = &mut self.next_pack;
        let (number, pack) = self.current.get_or_insert_with(|| {
            let id = PackId::new(backup, *next);
            *next += 1;
            let number = packs.push(PackInfo { id: id.clone(), size: 0, r#use: PackUse::default() });
            (number, PackBuilder::new(id, *database, keys, buffers.take()))
        });
        let placed = pack.push(frame);
        if let Some(info) = packs.get_mut(*number) {
            info.r#use.total_bytes += raw_bytes;
        }
        LocalRef { pack: *number, frame: placed.frame, offset: placed.offset, length: placed.length }
    }

    /// Compresses content of the page map and appends it.
    pub(super) fn push_content(&mut self, kind: Kind, content: &[u8]) -> LocalRef {
        let mut frame = Vec::new();
        self.encoder.encode(kind, content, &mut frame);
        self.push(&frame, content.len() as u64)
    }

    fn end_pack(&mut self) {
        let Some((number, pack)) = self.current.take() else { return };
        let (id, bytes) = pack.finish();
        self.added_bytes += bytes.len() as u64;
        if let Some(info) = self.setup.packs.get_mut(number) {
            info.size = bytes.len() as u64;
        }
        self.uploads.submit(&id, bytes);
    }
}

struct Growing {
    page_size: u32,
    records: Records,
    gather: Vec<u8>,
    gather_pages: Vec<(u64, PageDigest)>,
}

/// Something whose turn has not come, or whose frame is not compressed yet.
enum Slot {
    Frame(u32, PageFrame),
    Gathering(u32, u64),
    Shared(u32, Vec<(u64, Record)>),
    /// A frame of streams: its number there and the job that compresses it.
    StreamFrame(u32, u64),
    Finish(u32, Box<FinishRequest>, Sender<FinishedFile>),
    FinishStream(u32, String, Sender<FileEntry>),
    Withdraw(u32),
    Close(Sender<(PackTable, u64)>),
}

struct Assembler {
    packing: Packing,
    files: HashMap<u32, Growing>,
    streams: Streams,
    early: BTreeMap<u64, Message>,
    next_seq: u64,
    queue: VecDeque<Slot>,
    gathered: HashMap<u64, PageFrame>,
    next_gather: u64,
    jobs: Sender<Job>,
    spare: Sender<Vec<u8>>,
    frames: Buffers,
}

impl Assembler {
    fn run(&mut self, inbox: &Receiver<Message>, abort: &Abort) -> Result<()> {
        loop {
            let message = match inbox.recv_timeout(Duration::from_millis(50)) {
                Ok(message) => message,
                Err(RecvTimeoutError::Timeout) if abort.is_set() => return Ok(()),
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            };
            if abort.is_set() {
                return Ok(());
            }
            let seq = match &message {
                Message::Gathered { .. } => None,
                Message::Run { seq, .. }
                | Message::Begin { seq, .. }
                | Message::Finish { seq, .. }
                | Message::BeginStream { seq, .. }
                | Message::Chunks { seq, .. }
                | Message::FinishStream { seq, .. }
                | Message::Withdraw { seq, .. }
                | Message::Close { seq, .. } => Some(*seq),
            };
            match (seq, message) {
                (Some(seq), message) => {
                    self.early.insert(seq, message);
                    while let Some(message) = self.early.remove(&self.next_seq) {
                        self.next_seq += 1;
                        self.take(message)?;
                    }
                }
                (None, Message::Gathered { id, frame }) => {
                    self.gathered.insert(id, frame);
                }
                (None, _) => {}
            }
            if self.work_off()? {
                return Ok(());
            }
        }
    }

    /// Takes a message in its turn.
    fn take(&mut self, message: Message) -> Result<()> {
        match message {
            Message::Begin { file, page_size, .. } => {
                let records = Records::over(self.scratch()?);
                let growing = Growing { page_size, records, gather: Vec::new(), gather_pages: Vec::new() };
                self.files.insert(file, growing);
            }
            Message::Run { file, outcome: RunOutcome::Changed(frame), .. } => {
                self.queue.push_back(Slot::Frame(file, frame));
            }
            Message::Run { file, outcome: RunOutcome::Mixed { first, page_size, bytes, digests, shared }, .. } => {
                self.take_mixed(file, first, page_size, &bytes, &digests, &shared);
                let _ = self.spare.send(bytes);
            }
            Message::Finish { file, request, reply, .. } => {
                self.flush_gather(file);
                self.queue.push_back(Slot::Finish(file, Box::new(request), reply));
            }
            Message::BeginStream { file, .. } => {
                let scratch = self.scratch()?;
                self.streams.begin(file, scratch);
            }
            Message::Chunks { file, run, .. } => {
                let (frames, spare) = self.streams.take(file, run)?;
                frames.into_iter().for_each(|frame| self.compress(frame));
                if let Some(run) = spare {
                    let _ = self.spare.send(run);
                }
            }
            Message::FinishStream { file, name, reply, .. } => {
                if let Some(frame) = self.streams.flush() {
                    self.compress(frame);
                }
                self.queue.push_back(Slot::FinishStream(file, name, reply));
            }
            Message::Withdraw { file, .. } => self.queue.push_back(Slot::Withdraw(file)),
            Message::Close { reply, .. } => self.queue.push_back(Slot::Close(reply)),
            Message::Gathered { .. } => {}
        }
        Ok(())
    }

    fn scratch(&self) -> Result<std::fs::File> {
        let made = self.packing.setup.state.scratch();
        made.map_err(|e| RepositoryError::local("no scratch file could be made for the page map", e))
    }

    /// Sends a frame of streams to be compressed.
    fn compress(&mut self, frame: NewFrame) {
        let id = self.next_gather;
        self.next_gather += 1;
        self.queue.push_back(Slot::StreamFrame(frame.number, id));
        let _ = self.jobs.send(Job::Pack(id, frame));
    }

    fn take_mixed(
        &mut self,
        file: u32,
        first: u64,
        page_size: u32,
        bytes: &[u8],
        digests: &[PageDigest],
        shared: &[Option<Record>],
    ) {
        let mut keep = Vec::new();
        let pages = bytes.chunks(page_size as usize).zip(digests).zip(shared);
        for (page, ((content, digest), record)) in (first..).zip(pages) {
            if let Some(record) = record {
                keep.push((page, *record));
                continue;
            }
            let Some(growing) = self.files.get_mut(&file) else { return };
            growing.gather.extend_from_slice(content);
            growing.gather_pages.push((page, *digest));
            if growing.gather.len() + page_size as usize > super::FRAME_BYTES.max(page_size as usize) {
                self.flush_gather(file);
            }
        }
        self.queue.push_back(Slot::Shared(file, keep));
    }

    /// Sends the gathered changed pages of a file to be compressed.
    fn flush_gather(&mut self, file: u32) {
        let Some(growing) = self.files.get_mut(&file).filter(|g| !g.gather_pages.is_empty()) else { return };
        let id = self.next_gather;
        self.next_gather += 1;
        let pages = std::mem::take(&mut growing.gather_pages);
        let bytes = std::mem::take(&mut growing.gather);
        let _ = self.jobs.send(Job::Gather(Gather { id, pages, bytes }));
        self.queue.push_back(Slot::Gathering(file, id));
    }

    /// Does what can be done at the front of the queue; true when all is done.
    fn work_off(&mut self) -> Result<bool> {
        while let Some(slot) = self.queue.pop_front() {
            match slot {
                Slot::Frame(file, frame) => self.place(file, frame)?,
                Slot::Gathering(file, id) => match self.gathered.remove(&id) {
                    Some(frame) => self.place(file, frame)?,
                    None => {
                        self.queue.push_front(Slot::Gathering(file, id));
                        return Ok(false);
                    }
                },
                Slot::StreamFrame(number, id) => {
                    let Some(frame) = self.gathered.remove(&id) else {
                        self.queue.push_front(Slot::StreamFrame(number, id));
                        return Ok(false);
                    };
                    let place = self.packing.push(&frame.bytes, frame.raw_bytes);
                    self.streams.place_frame(number, place);
                    self.give_back(frame);
                }
                Slot::FinishStream(file, name, reply) => {
                    let _ = reply.send(self.streams.finish(file, name, &mut self.packing)?);
                }
                Slot::Shared(file, records) => {
                    if let Some(growing) = self.files.get_mut(&file) {
                        for (page, record) in records {
                            growing.records.set(page, &record).map_err(scratch_failed)?;
                        }
                    }
                }
                Slot::Finish(file, request, reply) => {
                    let Some(growing) = self.files.remove(&file) else {
                        return Err(RepositoryError::new(RepositoryErrorKind::Usage, "a file was finished twice"));
                    };
                    let _ = reply.send(finish::finish(*request, growing.records, &mut self.packing)?);
                }
                Slot::Withdraw(file) => {
                    self.files.remove(&file);
                    self.streams.withdraw(file);
                }
                Slot::Close(reply) => {
                    self.packing.end_pack();
                    self.packing.uploads.finish();
                    let _ = reply.send((std::mem::take(&mut self.packing.setup.packs), self.packing.added_bytes));
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn place(&mut self, file: u32, frame: PageFrame) -> Result<()> {
        // Pages of a withdrawn file need no place.
        if let Some(growing) = self.files.get_mut(&file) {
            debug_assert!(frame.pages.len() * growing.page_size as usize == frame.raw_bytes as usize);
            let LocalRef { pack, frame: number, offset, length } = self.packing.push(&frame.bytes, frame.raw_bytes);
            for (slot, (page, digest)) in frame.pages.iter().enumerate() {
                let slot = u16::try_from(slot).unwrap_or(u16::MAX);
                let record = Record { pack, frame: number, offset, length, slot, digest: *digest };
                growing.records.set(*page, &record).map_err(scratch_failed)?;
            }
        }
        self.give_back(frame);
        Ok(())
    }

    /// Gives the buffers of a frame back that lies in its pack.
    fn give_back(&self, frame: PageFrame) {
        self.frames.give(frame.bytes);
        if let Some(run) = frame.run {
            let _ = self.spare.send(run);
        }
    }
}

pub(super) fn scratch_failed(error: std::io::Error) -> RepositoryError {
    RepositoryError::local("the page map cannot be kept in its scratch file", error)
        .hint("free some space where the local state or the temporary folder lies")
}
