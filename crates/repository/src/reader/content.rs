//! The content that one manifest or segment lists, as engines and `verify` read it.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use copal_core::{AnyError, BackupId, Content, Context, FileEntry, FrameRef, PackId, WriteAt};
use copal_storage::ObjectPath;
use tokio::runtime::Handle;

use super::frames::{FrameSource, Scratch, Span, spans};
use super::kept::{Kept, KeptFrames, content_of};
use super::walk::MapWalk;
use crate::abort::Abort;
use crate::catalog::Database;
use crate::error::{RepositoryError, RepositoryErrorKind, Result};
use crate::frame::Kind;
use crate::page_map::{FileDigest, Leaf, PageDigest, page_digest, page_length};
use crate::repository::Repository;

/// An object that is missing or not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Damaged {
    /// Its name.
    pub object: ObjectPath,
    /// What is wrong with it.
    pub problem: String,
}

impl Damaged {
    /// What an error says, if it names an object.
    pub(crate) fn of(error: &RepositoryError) -> Option<Self> {
        let object = error.object.clone()?;
        let problem = problem_with(&object, error);
        Some(Self { object, problem })
    }
}

/// What an error says about an object, without its name.
fn problem_with(object: &ObjectPath, error: &RepositoryError) -> String {
    let prefix = format!("{object}: ");
    error.message.strip_prefix(&prefix).unwrap_or(&error.message).to_owned()
}

/// A document that lists packs and files: a manifest, or a segment of the journal.
#[derive(Debug)]
pub(super) struct Owner {
    pub(super) object: ObjectPath,
    /// For messages: which backup, or which segment.
    pub(super) what: String,
    /// The backup, or the one under the segment.
    pub(super) backup: BackupId,
    pub(super) packs: Vec<(PackId, u64)>,
    pub(super) files: Vec<FileEntry>,
}

/// Content that is open for reading. Its methods block and must be called outside of async code, within a runtime.
#[derive(Clone)]
pub(super) struct PackedContent {
    repository: Repository,
    pub(super) database: Database,
    pub(super) owner: Arc<Owner>,
    pub(super) source: FrameSource,
    pub(super) runtime: Handle,
    pub(super) workers: usize,
}

/// A page wanted from a frame.
#[derive(Clone, Copy)]
struct Wanted {
    page: u64,
    slot: u16,
    digest: PageDigest,
}

/// One frame and the pages wanted from it.
struct Piece {
    place: FrameRef,
    wanted: Vec<Wanted>,
    kept: Option<Kept>,
}

/// Frames to be fetched with one request.
struct Task {
    span: Span,
    pieces: Vec<Piece>,
}

/// Who gets the pages and the errors.
struct Sinks<'a> {
    out: &'a dyn WriteAt,
    /// Held while writing: the kernel takes one writer of a file at a time anyway, and lets the others spin.
    turn: Mutex<()>,
    shape: Shape,
    abort: &'a Abort,
    /// Where damage is collected instead of ending the work.
    damage: Option<&'a Mutex<BTreeMap<ObjectPath, String>>>,
    context: &'a Context,
}

#[derive(Clone, Copy)]
struct Shape {
    length: u64,
    head: usize,
    page_size: u32,
}

impl PackedContent {
    /// Opens what this document lists. Must be called within a tokio runtime.
    pub(super) fn new(repository: &Repository, database: &Database, owner: Owner) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, NonZeroUsize::get);
        Self {
            repository: repository.clone(),
            database: database.clone(),
            owner: Arc::new(owner),
            source: FrameSource::new(repository, database),
            runtime: Handle::current(),
            workers: (cores * 2).clamp(4, 8),
        }
    }

    /// Reads all files and compares everything; gives what is damaged, each object once.
    pub(super) fn verify(&self, context: &Context) -> Result<Vec<Damaged>> {
        let found = Mutex::new(BTreeMap::new());
        for file in self.files() {
            match self.read(file, &Nowhere, Some(&found), context) {
                Ok(()) => {}
                Err(error) => match (error.is_damage(), &error.object) {
                    (true, Some(object)) => note_damage(&found, object, &error),
                    _ => return Err(error),
                },
            }
        }
        let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        if !found.is_empty() {
            self.require_existence()?;
        }
        Ok(found.into_iter().map(|(object, problem)| Damaged { object, problem }).collect())
    }

    fn entry(&self, name: &str) -> Result<&FileEntry> {
        self.files().iter().find(|f| f.name() == name).ok_or_else(|| {
            let message = format!("{} has no file {name:?}", self.owner.what);
            RepositoryError::new(RepositoryErrorKind::NotFound, message)
        })
    }

    /// Somebody may have pruned the backup while it was read; then what is missing is no damage.
    fn require_existence(&self) -> Result<()> {
        let id = &self.owner.backup;
        match self.runtime.block_on(self.repository.manifest(&self.database, id)) {
            Ok(_) => Ok(()),
            Err(e) if matches!(e.kind(), RepositoryErrorKind::NotFound | RepositoryErrorKind::Pruned) => {
                let message = format!("backup {id} of {} was pruned meanwhile", self.database.name);
                Err(RepositoryError::new(RepositoryErrorKind::Pruned, message).about(&self.database.name, Some(id)))
            }
            Err(e) => Err(e),
        }
    }

    fn read(
        &self,
        entry: &FileEntry,
        out: &dyn WriteAt,
        damage: Option<&Mutex<BTreeMap<ObjectPath, String>>>,
        context: &Context,
    ) -> Result<()> {
        let FileEntry::Pages { length, page_size, head, digest, .. } = entry else {
            return self.read_stream(entry, &mut |offset, bytes| out.write_at(offset, bytes), damage, context);
        };
        let shape = Shape { length: *length, head: head.len(), page_size: *page_size };
        out.write_at(0, head).map_err(target_failed)?;
        let abort = Abort::default();
        let sinks = Sinks { out, turn: Mutex::new(()), shape, abort: &abort, damage, context };
        let (tasks, queue) = sync_channel::<Task>(self.workers);
        let queue = Mutex::new(queue);
        let walked = std::thread::scope(|scope| {
            for _ in 0..self.workers {
                scope.spawn(|| self.work(&queue, &sinks));
            }
            let digest = FileDigest::new(*length, *page_size, head);
            let walked = self.hand_out(entry, digest, tasks, &sinks);
            if let Err(error) = &walked {
                // The workers must not go on for a reader that has given up.
                abort.set(RepositoryError::new(RepositoryErrorKind::Cancelled, error.to_string()));
            }
            walked
        });
        let computed = match walked {
            Ok(computed) => computed,
            Err(error) => return Err(self.explain(error)),
        };
        if let Err(error) = abort.check() {
            return Err(self.explain(error));
        }
        if computed != *digest {
            let problem = format!("its digest of {} does not fit the page map", entry.name());
            return Err(RepositoryError::damage(&self.owner.object, problem));
        }
        Ok(())
    }

    pub(super) fn explain(&self, error: RepositoryError) -> RepositoryError {
        let error = error.about(&self.database.name, Some(&self.owner.backup));
        if error.is_damage()
            && let Err(pruned) = self.require_existence()
        {
            return pruned;
        }
        error
    }

    /// Walks over the page map and hands out what is to be fetched; gives the file's digest.
    fn hand_out(
        &self,
        entry: &FileEntry,
        mut digest: FileDigest,
        tasks: SyncSender<Task>,
        sinks: &Sinks<'_>,
    ) -> Result<[u8; 32]> {
        let mut walk = MapWalk::new(&self.source, &self.owner.packs, entry);
        let mut kept = KeptFrames::default();
        while let Some((_, leaf)) = self.runtime.block_on(walk.next())? {
            leaf.entries.iter().for_each(|e| digest.page(&e.digest));
            let mut pieces = self.pieces(&leaf, sinks.shape, &mut kept);
            pieces.sort_by(|a, b| {
                let first = |p: &Piece| p.wanted.first().map(|w| w.page);
                first(a).cmp(&first(b))
            });
            for span in spans(pieces.iter().map(|p| &p.place)) {
                let rest = pieces.split_off(span.members.len());
                let members = std::mem::replace(&mut pieces, rest);
                sinks.context.cancel.check()?;
                if sinks.abort.is_set() || tasks.send(Task { span, pieces: members }).is_err() {
                    sinks.abort.check()?;
                    return Err(RepositoryError::new(RepositoryErrorKind::Cancelled, "the readers have stopped"));
                }
            }
        }
        Ok(digest.finish())
    }

    /// Groups the pages of a leaf by frame.
    fn pieces(&self, leaf: &Leaf, shape: Shape, kept: &mut KeptFrames) -> Vec<Piece> {
        let mut by_frame: Vec<Vec<Wanted>> = vec![Vec::new(); leaf.frames.len()];
        for (page, e) in (leaf.first_page..).zip(&leaf.entries) {
            if let Some(wanted) = by_frame.get_mut(e.frame as usize) {
                wanted.push(Wanted { page, slot: e.slot, digest: e.digest });
            }
        }
        let full = (super::super::writer::FRAME_BYTES / shape.page_size as usize).max(1);
        let pieces = leaf.frames.iter().zip(by_frame).filter(|(_, wanted)| !wanted.is_empty());
        pieces
            .map(|(place, wanted)| {
                // A frame of which this leaf wants little was gathered from several leaves: others will want it, too.
                let kept = (wanted.len() * 2 < full).then(|| kept.get(place));
                Piece { place: place.clone(), wanted, kept }
            })
            .collect()
    }

    fn work(&self, queue: &Mutex<Receiver<Task>>, sinks: &Sinks<'_>) {
        let (mut scratch, mut buffer) = (Scratch::new(), Vec::new());
        loop {
            let task = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(task) = task else { return };
            if sinks.abort.is_set() {
                continue; // Drain the queue, so that whoever fills it does not wait for ever.
            }
            if let Err(error) = self.work_on(&task, sinks, &mut scratch, &mut buffer) {
                match (sinks.damage, error.is_damage(), &error.object) {
                    (Some(found), true, Some(object)) => note_damage(found, object, &error),
                    _ => sinks.abort.set(error),
                }
            }
        }
    }

    fn work_on(&self, task: &Task, sinks: &Sinks<'_>, scratch: &mut Scratch, buffer: &mut Vec<u8>) -> Result<()> {
        let mut fetched: Option<bytes::Bytes> = None;
        for piece in &task.pieces {
            let mut open_into = |content: &mut Vec<u8>| -> Result<()> {
                let bytes = match &fetched {
                    Some(bytes) => bytes,
                    None => fetched.insert(self.runtime.block_on(self.source.fetch(&task.span))?),
                };
                self.source.open_into(&piece.place, Kind::Pages, &task.span, bytes, scratch, content)
            };
            let Some(kept) = &piece.kept else {
                open_into(buffer)?;
                self.deliver(piece, buffer, sinks)?;
                continue;
            };
            let content = content_of(kept, open_into)?;
            self.deliver(piece, &content, sinks)?;
        }
        Ok(())
    }

    /// Compares the pages with their digests and writes them, neighbours together.
    fn deliver(&self, piece: &Piece, content: &[u8], sinks: &Sinks<'_>) -> Result<()> {
        let Shape { length, head, page_size } = sinks.shape;
        let size = page_size as usize;
        let wrong = |problem: &str| self.source.damage(&piece.place.pack, problem);
        // Slots and pages that both follow each other make one write.
        let mut run: Option<(u64, usize, usize)> = None;
        let mut total = 0u64;
        let flush = |run: Option<(u64, usize, usize)>| -> Result<()> {
            let Some((offset, begin, end)) = run else { return Ok(()) };
            let bytes = content.get(begin..end).unwrap_or_default();
            let _turn = sinks.turn.lock().unwrap_or_else(PoisonError::into_inner);
            sinks.out.write_at(offset, bytes).map_err(target_failed)
        };
        for wanted in &piece.wanted {
            let begin = usize::from(wanted.slot) * size;
            let amount = page_length(length, head, page_size, wanted.page);
            let page =
                content.get(begin..begin + amount).ok_or_else(|| wrong("a frame has fewer pages than expected"))?;
            if page_digest(page) != wanted.digest {
                return Err(wrong("a page is not what its page map says"));
            }
            total += amount as u64;
            let offset = head as u64 + wanted.page * u64::from(page_size);
            run = match run {
                Some((from, first, end)) if end == begin && offset == from + (end - first) as u64 => {
                    Some((from, first, begin + amount))
                }
                other => {
                    flush(other)?;
                    Some((offset, begin, begin + amount))
                }
            };
        }
        flush(run)?;
        sinks.context.advance(total);
        Ok(())
    }
}

impl Content for PackedContent {
    fn files(&self) -> &[FileEntry] {
        &self.owner.files
    }

    fn write_file(&self, name: &str, out: &dyn WriteAt, context: &Context) -> std::result::Result<(), AnyError> {
        Ok(self.read(self.entry(name)?, out, None, context)?)
    }

    fn write_stream(
        &self,
        name: &str,
        out: &mut dyn std::io::Write,
        context: &Context,
    ) -> std::result::Result<(), AnyError> {
        let entry = self.entry(name)?;
        if !entry.is_stream() {
            let message = format!("{name} of {} is not a stream", self.owner.what);
            return Err(RepositoryError::new(RepositoryErrorKind::Usage, message).into());
        }
        Ok(self.read_stream(entry, &mut |_, bytes| out.write_all(bytes), None, context)?)
    }
}

/// Where pages go that are only to be compared.
struct Nowhere;

impl WriteAt for Nowhere {
    fn write_at(&self, _offset: u64, _bytes: &[u8]) -> std::io::Result<()> {
        Ok(())
    }
}

fn target_failed(error: std::io::Error) -> RepositoryError {
    RepositoryError::local("the restored file cannot be written", error)
}

pub(super) fn note_damage(found: &Mutex<BTreeMap<ObjectPath, String>>, object: &ObjectPath, error: &RepositoryError) {
    let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
    found.entry(object.clone()).or_insert_with(|| problem_with(object, error));
}
