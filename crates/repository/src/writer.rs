//! Writing the content of a backup: pages come in, changed ones go out as packs, and the page map grows beside them.
//! Streams are cut into chunks (`chunker`), new ones are told from known ones (`stream_frames`, `stream_index`), and go the same way.
//!
//! The engine's thread hands runs of pages to `workers` (hash, compare, compress), which hand frames to the
//! `assembler` (order, seal, pack), which hands packs to `uploads`. Memory is bounded by a fixed number of run buffers, the
//! pack being filled and the packs being uploaded.

mod assembler;
mod base;
mod chunker;
mod finish;
mod stream;
mod stream_frames;
mod stream_index;
mod uploads;
mod workers;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use copal_core::{
    AnyError, BackupId, Context, FileEntry, FileHandle, MAX_HEAD_BYTES, MAX_PAGE_SIZE, MIN_PAGE_SIZE, PackId,
    PageFileSpec, Sink,
};

use crate::abort::Abort;
use crate::buffers::Buffers;
use crate::catalog::Database;
use crate::error::{RepositoryError, RepositoryErrorKind, Result};
use crate::operation::Operation;
use crate::pack_table::{PackTable, packs_to_leave};
use crate::page_map::{page_count, page_length};
use crate::repository::Repository;

pub(crate) use base::{Base, FileMap, LocalRef, save_cache};
use workers::{Job, Run, Workers};

/// Bytes of pages that go into one frame, if the page size divides it.
pub(crate) const FRAME_BYTES: usize = 1 << 20;
/// Run buffers in flight between the engine and the workers.
const RUN_BUFFERS: usize = 8;

/// How content is written.
#[derive(Clone, Debug)]
pub struct WriteOptions {
    /// zstd level; `None`: frames are not compressed.
    pub level: Option<i32>,
    /// Packs uploaded at the same time, 16 MiB of memory each.
    pub uploads: usize,
    /// Threads that hash and compress; `None`: one a core.
    pub workers: Option<usize>,
    /// Packs older than this are not shared with any more.
    pub repack_age: Option<Duration>,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self { level: Some(3), uploads: 3, workers: None, repack_age: None }
    }
}

/// What was written.
pub(crate) struct Written {
    pub(crate) files: Vec<FileEntry>,
    pub(crate) maps: Vec<FileMap>,
    pub(crate) packs: PackTable,
    pub(crate) added_bytes: u64,
}

/// What a finished file is.
pub(crate) struct FinishedFile {
    pub(crate) entry: FileEntry,
    /// `None`: a stream.
    pub(crate) map: Option<FileMap>,
}

enum Message {
    /// A run was hashed, compared and, if all of it changed, compressed.
    Run { seq: u64, file: u32, outcome: workers::RunOutcome },
    /// Gathered pages, or chunks of streams, were compressed.
    Gathered { id: u64, frame: workers::PageFrame },
    /// A page file begins.
    Begin { seq: u64, file: u32, page_size: u32 },
    /// A page file ends.
    Finish { seq: u64, file: u32, request: finish::FinishRequest, reply: Sender<FinishedFile> },
    /// A stream begins.
    BeginStream { seq: u64, file: u32 },
    /// The chunks of a run of a stream were hashed.
    Chunks { seq: u64, file: u32, run: stream_frames::HashedRun },
    /// A stream ends.
    FinishStream { seq: u64, file: u32, name: String, reply: Sender<FileEntry> },
    /// A page file or a stream is forgotten.
    Withdraw { seq: u64, file: u32 },
    /// Nothing more comes.
    Close { seq: u64, reply: Sender<(PackTable, u64)> },
}

struct OpenFile {
    spec: PageFileSpec,
    base: Option<FileMap>,
    pages_per_frame: u64,
    first: u64,
    buffer: Vec<u8>,
    /// The page that was given short, which only the last one may be, and its length.
    short: Option<(u64, usize)>,
}

/// Takes the content of one backup. Errors of the repository come out of every call as soon as they are known.
pub(crate) struct Writer {
    files: HashMap<u32, OpenFile>,
    streams: HashMap<u32, chunker::OpenStream>,
    finished: Vec<FinishedFile>,
    base: Option<Base>,
    leave: Vec<bool>,
    next_file: u32,
    next_seq: u64,
    spare: Receiver<Vec<u8>>,
    workers: Workers,
    messages: Sender<Message>,
    abort: Arc<Abort>,
    operation: Arc<Operation>,
    context: Context,
}

impl Writer {
    #[expect(clippy::too_many_arguments, reason = "one caller, and each is a thing of its own")]
    /// Starts the threads; nothing is shared with the packs in `avoid`. Must be called within a tokio runtime, which uploads.
    pub(crate) fn start(
        repository: &Repository,
        database: &Database,
        backup: &BackupId,
        mut base: Option<Base>,
        avoid: &HashSet<PackId>,
        operation: Arc<Operation>,
        options: &WriteOptions,
        context: &Context,
    ) -> Result<Self> {
        let abort = Arc::new(Abort::default());
        let (messages, inbox) = std::sync::mpsc::channel();
        let frames = Buffers::new(RUN_BUFFERS);
        let (spare_in, spare) = std::sync::mpsc::channel();
        for _ in 0..RUN_BUFFERS {
            let _ = spare_in.send(Vec::new());
        }
        let count = options.workers.or_else(|| std::thread::available_parallelism().ok().map(usize::from));
        let workers =
            Workers::start(count.unwrap_or(2).clamp(1, 64), options.level, messages.clone(), &frames, &abort)?;
        let now = backup.time();
        let mut packs = base.as_ref().map(|b| b.packs.clone()).unwrap_or_default();
        let mut leave = packs_to_leave(&packs, now, options.repack_age);
        for (pack, leave) in packs.iter().zip(&mut leave) {
            *leave |= avoid.contains(&pack.id);
        }
        packs.reset_use();
        let uploads = uploads::Uploads::new(repository, &database.name, options.uploads, &abort);
        let state = repository.database_state(database);
        let index = base.as_mut().map(|b| std::mem::take(&mut b.streams)).unwrap_or_default();
        let streams = stream_frames::Streams::new(index, &leave);
        let setup = assembler::Setup {
            keys: repository.keys.clone(),
            database: database.id,
            backup: backup.clone(),
            level: options.level,
            packs,
            leave: leave.clone(),
            state,
        };
        assembler::start(setup, streams, inbox, workers.jobs(), spare_in, frames, uploads, &abort)?;
        Ok(Self {
            files: HashMap::new(),
            streams: HashMap::new(),
            finished: Vec::new(),
            base,
            leave,
            next_file: 0,
            next_seq: 0,
            spare,
            workers,
            messages,
            abort,
            operation,
            context: context.clone(),
        })
    }

    /// Waits until everything is stored durably.
    pub(crate) fn close(mut self) -> Result<Written> {
        let open = self.files.values().map(|f| &f.spec.name).chain(self.streams.values().map(|s| &s.name));
        if let Some(name) = open.min() {
            let message = format!("the file {name} was begun and not finished");
            return Err(RepositoryError::new(RepositoryErrorKind::Usage, message));
        }
        let (reply, answer) = std::sync::mpsc::channel();
        let seq = self.seq();
        self.send(Message::Close { seq, reply })?;
        let (packs, added_bytes) = self.wait(&answer)?;
        // The answer also comes when the last uploads have failed.
        self.abort.check()?;
        let (mut files, mut maps) = (Vec::new(), Vec::new());
        for file in std::mem::take(&mut self.finished) {
            files.push(file.entry);
            maps.extend(file.map);
        }
        Ok(Written { files, maps, packs, added_bytes })
    }

    fn new_handle(&mut self) -> FileHandle {
        self.next_file += 1;
        FileHandle(self.next_file - 1)
    }

    fn seq(&mut self) -> u64 {
        self.next_seq += 1;
        self.next_seq - 1
    }

    fn check(&self) -> Result<()> {
        self.abort.check()?;
        self.context.cancel.check()?;
        self.operation.check()
    }

    fn send(&self, message: Message) -> Result<()> {
        if self.messages.send(message).is_err() {
            self.abort.check()?;
            return Err(stopped());
        }
        Ok(())
    }

    fn wait<T>(&self, answer: &Receiver<T>) -> Result<T> {
        loop {
            match answer.recv_timeout(Duration::from_millis(50)) {
                Ok(value) => return Ok(value),
                Err(RecvTimeoutError::Timeout) => self.check()?,
                Err(RecvTimeoutError::Disconnected) => {
                    self.abort.check()?;
                    return Err(stopped());
                }
            }
        }
    }

    fn file(&mut self, handle: FileHandle) -> Result<&mut OpenFile> {
        let unknown = || RepositoryError::new(RepositoryErrorKind::Usage, "the engine used a file that is not open");
        self.files.get_mut(&handle.0).ok_or_else(unknown)
    }

    /// Hands the buffered run of a file to the workers.
    fn flush(&mut self, handle: FileHandle) -> Result<()> {
        self.check()?;
        if self.file(handle)?.buffer.is_empty() {
            return Ok(());
        }
        let spare = self.wait(&self.spare)?;
        let seq = self.seq();
        let leave = std::mem::take(&mut self.leave);
        let file = self.file(handle)?;
        let bytes = std::mem::replace(&mut file.buffer, spare);
        file.buffer.clear();
        let (first, page_size) = (file.first, file.spec.page_size);
        let count = bytes.len().div_ceil(page_size as usize);
        let base = match &mut file.base {
            Some(map) => map.shareable(first, count, &leave),
            None => Ok(Vec::new()),
        };
        self.leave = leave;
        let base = base.map_err(|e| RepositoryError::local("the cached page map cannot be read", e))?;
        let amount = bytes.len() as u64;
        self.workers.send(Job::Run(Run { seq, file: handle.0, first, page_size, bytes, base }));
        self.context.advance(amount);
        Ok(())
    }

    fn begin_file(&mut self, spec: &PageFileSpec) -> Result<FileHandle> {
        self.check()?;
        let is_sound = (MIN_PAGE_SIZE..=MAX_PAGE_SIZE).contains(&spec.page_size)
            && spec.head_length <= MAX_HEAD_BYTES
            && !spec.name.is_empty();
        if !is_sound {
            let message = format!("pages of {} bytes cannot be stored", spec.page_size);
            return Err(RepositoryError::new(RepositoryErrorKind::Usage, message));
        }
        let handle = self.new_handle();
        let seq = self.seq();
        self.send(Message::Begin { seq, file: handle.0, page_size: spec.page_size })?;
        let base = self.base.as_mut().and_then(|b| b.take(spec));
        let pages_per_frame = (FRAME_BYTES as u64 / u64::from(spec.page_size)).max(1);
        let open = OpenFile { spec: spec.clone(), base, pages_per_frame, first: 0, buffer: Vec::new(), short: None };
        self.files.insert(handle.0, open);
        Ok(handle)
    }

    fn take_pages(&mut self, handle: FileHandle, first: u64, bytes: &[u8]) -> Result<()> {
        let mut page = first;
        let mut rest = bytes;
        while !rest.is_empty() {
            let file = self.file(handle)?;
            let size = file.spec.page_size as usize;
            let buffered = file.buffer.len().div_ceil(size) as u64;
            let follows = page == file.first + buffered && file.buffer.len().is_multiple_of(size);
            let at_boundary = page.is_multiple_of(file.pages_per_frame);
            if buffered > 0 && (!follows || at_boundary) {
                self.flush(handle)?;
                continue;
            }
            if buffered == 0 {
                file.first = page;
            }
            let room = file.pages_per_frame - page % file.pages_per_frame;
            let amount = rest.len().min(usize::try_from(room).unwrap_or(1).saturating_mul(size));
            let (now, later) = rest.split_at(amount);
            file.buffer.extend_from_slice(now);
            let next = page + now.len().div_ceil(size) as u64;
            if !now.len().is_multiple_of(size) {
                file.short = Some((next - 1, now.len() % size));
            } else if file.short.is_some_and(|(short, _)| (page..next).contains(&short)) {
                file.short = None;
            }
            page = next;
            rest = later;
        }
        Ok(())
    }

    fn finish_file(&mut self, handle: FileHandle, length: u64, head: &[u8]) -> Result<()> {
        self.flush(handle)?;
        let Some(file) = self.files.remove(&handle.0) else { return Err(stopped()) };
        if head.len() != file.spec.head_length as usize {
            return Err(RepositoryError::new(RepositoryErrorKind::Usage, "the head has another length than announced"));
        }
        let size = file.spec.page_size;
        let pages = page_count(length, head.len(), size).unwrap_or(0);
        let last = page_length(length, head.len(), size, pages.saturating_sub(1));
        let expected = (pages > 0 && last < size as usize).then(|| (pages - 1, last));
        if file.short.filter(|(page, _)| *page < pages) != expected {
            let message = format!("the last page of {} was not given with its right length", file.spec.name);
            return Err(RepositoryError::new(RepositoryErrorKind::Usage, message));
        }
        let (reply, answer) = std::sync::mpsc::channel();
        let seq = self.seq();
        let request = finish::FinishRequest { spec: file.spec, length, head: head.to_vec(), base: file.base };
        self.send(Message::Finish { seq, file: handle.0, request, reply })?;
        let finished = self.wait(&answer)?;
        self.finished.push(finished);
        Ok(())
    }

    fn withdraw_file(&mut self, handle: FileHandle) -> Result<()> {
        self.check()?;
        if let Some(file) = self.files.remove(&handle.0) {
            if let (Some(base), Some(map)) = (&mut self.base, file.base) {
                base.give_back(map);
            }
            let seq = self.seq();
            self.send(Message::Withdraw { seq, file: handle.0 })?;
        } else if self.streams.remove(&handle.0).is_some() {
            let seq = self.seq();
            self.send(Message::Withdraw { seq, file: handle.0 })?;
        }
        Ok(())
    }
}

fn stopped() -> RepositoryError {
    RepositoryError::new(RepositoryErrorKind::Local, "the threads that write the backup have stopped")
}

impl Sink for Writer {
    fn begin(&mut self, spec: &PageFileSpec) -> std::result::Result<FileHandle, AnyError> {
        Ok(self.begin_file(spec)?)
    }

    fn pages(&mut self, file: FileHandle, first: u64, bytes: &[u8]) -> std::result::Result<(), AnyError> {
        Ok(self.take_pages(file, first, bytes)?)
    }

    fn finish(&mut self, file: FileHandle, length: u64, head: &[u8]) -> std::result::Result<(), AnyError> {
        Ok(self.finish_file(file, length, head)?)
    }

    fn withdraw(&mut self, file: FileHandle) -> std::result::Result<(), AnyError> {
        Ok(self.withdraw_file(file)?)
    }

    fn begin_stream(&mut self, name: &str) -> std::result::Result<FileHandle, AnyError> {
        Ok(self.open_stream(name)?)
    }

    fn append(&mut self, stream: FileHandle, bytes: &[u8]) -> std::result::Result<(), AnyError> {
        Ok(self.append_bytes(stream, bytes)?)
    }

    fn finish_stream(&mut self, stream: FileHandle) -> std::result::Result<(), AnyError> {
        Ok(self.end_stream(stream)?)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Threads that still work when the writer goes without `close` have nothing left to work for.
        self.abort.set(stopped());
    }
}
