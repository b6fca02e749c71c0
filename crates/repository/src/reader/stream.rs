//! The content of a stream, in order: frames are fetched and opened ahead on several threads, and written by the caller's.
//!
//! What is under way is bounded by a fixed number of buffers; a frame of which several parts are wanted is decoded once.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use copal_core::{Context, FileEntry, FrameRef};
use copal_storage::ObjectPath;

use super::content::{PackedContent, note_damage};
use super::frames::{Scratch, Span, spans};
use super::kept::{Kept, KeptFrames, content_of};
use super::stream_walk::StreamWalk;
use crate::error::{RepositoryError, RepositoryErrorKind, Result};
use crate::frame::{Kind, MAX_PACK_CONTENT};
use crate::page_map::{PageDigest, StreamLeaf, page_digest};
use crate::writer::FRAME_BYTES;

/// The most pieces fetched with one request.
const MEMBERS: usize = 4;

/// Takes bytes at an offset; offsets only grow.
type Out<'a> = dyn FnMut(u64, &[u8]) -> std::io::Result<()> + 'a;

/// Damage that is collected instead of ending the work.
type Found<'a> = Option<&'a Mutex<BTreeMap<ObjectPath, String>>>;

/// Where chunks lie in their frame, in bytes, and their digests.
type Parts = Vec<(Range<usize>, PageDigest)>;

/// Chunks that follow each other in the stream and lie in one frame, at most 4 MiB.
struct Piece {
    place: FrameRef,
    chunks: Parts,
    kept: Option<Kept>,
}

/// Pieces to be fetched with one request, each with its number and a buffer.
struct Task {
    span: Span,
    pieces: Vec<(u64, Vec<u8>, Piece)>,
}

/// The content of a frame, of its own or shared.
enum Opened {
    Own(Vec<u8>),
    Kept(Vec<u8>, Arc<Vec<u8>>),
}

/// A piece that was opened and compared, or why it was not; the ranges are those to be written.
type Delivery = (u64, Result<(Opened, Vec<Range<usize>>)>);

impl PackedContent {
    /// Gives all bytes of a stream to `out`, in order. With `damage`, goes on behind what is damaged.
    pub(super) fn read_stream(
        &self,
        entry: &FileEntry,
        out: &mut Out<'_>,
        damage: Found<'_>,
        context: &Context,
    ) -> Result<()> {
        let (tasks, queue) = sync_channel::<Task>(self.workers);
        let queue = Mutex::new(queue);
        let (results, inbox) = channel::<Delivery>();
        let (spare_in, spare) = channel();
        for _ in 0..self.workers + 2 * MEMBERS {
            let _ = spare_in.send(Vec::new());
        }
        let delivered = std::thread::scope(|scope| {
            for _ in 0..self.workers {
                let (queue, results) = (&queue, results.clone());
                scope.spawn(move || self.work_on_stream(queue, &results));
            }
            scope.spawn(move || {
                if let Err((number, error)) = self.hand_out_stream(entry, &tasks, &spare) {
                    let _ = results.send((number, Err(error)));
                }
            });
            // Both ends go with it, and with them the threads.
            deliver(&inbox, spare_in, out, damage, context)
        });
        let (computed, length, is_whole) = delivered.map_err(|e| self.explain(e))?;
        // What was found damaged is named already.
        if is_whole && (computed != *entry.digest() || length != entry.length()) {
            let problem = format!("its digest of {} does not fit the chunks", entry.name());
            return Err(self.explain(RepositoryError::damage(&self.owner.object, problem)));
        }
        Ok(())
    }

    /// Walks over the chunks and hands out what is to be opened; an error comes with the number of the piece it stands for.
    fn hand_out_stream(
        &self,
        entry: &FileEntry,
        tasks: &SyncSender<Task>,
        spare: &Receiver<Vec<u8>>,
    ) -> std::result::Result<(), (u64, RepositoryError)> {
        let mut walk = StreamWalk::new(&self.source, &self.owner.packs, entry);
        let (mut kept, mut number) = (KeptFrames::default(), 0);
        while let Some((_, leaf)) = self.runtime.block_on(walk.next()).map_err(|e| (number, e))? {
            let mut pieces = pieces(&leaf, &mut kept).into_iter();
            let places: Vec<FrameRef> = pieces.as_slice().iter().map(|p| p.place.clone()).collect();
            for mut span in few(spans(&places), &places) {
                let mut members = Vec::new();
                for _ in 0..span.members.len() {
                    // Nobody gives buffers back any more when the stream was given up.
                    let (Ok(buffer), Some(piece)) = (spare.recv(), pieces.next()) else { return Ok(()) };
                    members.push((number, buffer, piece));
                    number += 1;
                }
                span.members.clear();
                if tasks.send(Task { span, pieces: members }).is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn work_on_stream(&self, queue: &Mutex<Receiver<Task>>, results: &Sender<Delivery>) {
        let _guard = Guard(results);
        let mut scratch = Scratch::new();
        loop {
            let task = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(Task { span, pieces }) = task else { return };
            let mut fetched = None;
            for (number, buffer, piece) in pieces {
                let opened = self.open_piece(&piece, buffer, &span, &mut fetched, &mut scratch);
                if results.send((number, opened)).is_err() {
                    break;
                }
            }
        }
    }

    fn open_piece(
        &self,
        piece: &Piece,
        mut buffer: Vec<u8>,
        span: &Span,
        fetched: &mut Option<bytes::Bytes>,
        scratch: &mut Scratch,
    ) -> Result<(Opened, Vec<Range<usize>>)> {
        let mut open_into = |content: &mut Vec<u8>| -> Result<()> {
            let bytes = match &*fetched {
                Some(bytes) => bytes,
                None => &*fetched.insert(self.runtime.block_on(self.source.fetch(span))?),
            };
            self.source.open_into(&piece.place, Kind::Stream, span, bytes, scratch, content)
        };
        let opened = match &piece.kept {
            None => {
                open_into(&mut buffer)?;
                Opened::Own(buffer)
            }
            Some(kept) => Opened::Kept(buffer, content_of(kept, open_into)?),
        };
        let mut ranges: Vec<Range<usize>> = Vec::new();
        for (range, digest) in &piece.chunks {
            let wrong = |problem: &str| self.source.damage(&piece.place.pack, problem);
            let chunk = opened.bytes().get(range.clone()).ok_or_else(|| wrong("a chunk lies outside of its frame"))?;
            if page_digest(chunk) != *digest {
                return Err(wrong("a chunk is not what its stream says"));
            }
            match ranges.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => ranges.push(range.clone()),
            }
        }
        Ok((opened, ranges))
    }
}

/// The number of no piece: a thread died.
const STOPPED: u64 = u64::MAX;

/// Tells when a thread dies unexpectedly, rather than let the others wait for it.
struct Guard<'a>(&'a Sender<Delivery>);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = self.0.send((STOPPED, Err(stopped())));
        }
    }
}

fn stopped() -> RepositoryError {
    RepositoryError::new(RepositoryErrorKind::Local, "the threads that read the backup have stopped")
}

impl Opened {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Kept(_, bytes) => bytes,
        }
    }

    fn into_buffer(self) -> Vec<u8> {
        match self {
            Self::Own(buffer) | Self::Kept(buffer, _) => buffer,
        }
    }
}

/// Groups the chunks of a leaf by frame, in the order of the stream.
fn pieces(leaf: &StreamLeaf, kept: &mut KeptFrames) -> Vec<Piece> {
    let mut groups: Vec<(u32, usize, Parts)> = Vec::new();
    for chunk in &leaf.chunks {
        let start = chunk.start as usize;
        let range = start..start + chunk.length as usize;
        match groups.last_mut() {
            Some((frame, bytes, chunks)) if *frame == chunk.frame && *bytes + range.len() <= MAX_PACK_CONTENT => {
                *bytes += range.len();
                chunks.push((range, chunk.digest));
            }
            _ => groups.push((chunk.frame, range.len(), vec![(range, chunk.digest)])),
        }
    }
    let mut times: HashMap<u32, u32> = HashMap::new();
    groups.iter().for_each(|(frame, ..)| *times.entry(*frame).or_default() += 1);
    let piece = |(frame, bytes, chunks): (u32, usize, Parts)| {
        let place = leaf.frames.get(frame as usize)?.clone();
        // A frame of which little is wanted here was gathered from several places: others will want it, too.
        let is_wanted_again = times.get(&frame).is_some_and(|n| *n > 1) || bytes * 2 < FRAME_BYTES;
        let kept = is_wanted_again.then(|| kept.get(&place));
        Some(Piece { place, chunks, kept })
    };
    groups.into_iter().filter_map(piece).collect()
}

/// Cuts spans to a few members each, so that no request waits for more buffers than there are.
fn few(spans: Vec<Span>, places: &[FrameRef]) -> Vec<Span> {
    let cut = |span: Span| {
        let of = |members: &[usize]| -> Option<Span> {
            let (first, last) = (places.get(*members.first()?)?, places.get(*members.last()?)?);
            let range = u64::from(first.offset)..u64::from(last.offset) + u64::from(last.length);
            Some(Span { pack: first.pack.clone(), range, members: members.to_vec() })
        };
        span.members.chunks(MEMBERS).filter_map(of).collect::<Vec<_>>()
    };
    spans.into_iter().flat_map(cut).collect()
}

/// Writes pieces in their order and gives their buffers back; gives digest and length of all bytes, and whether they are all.
fn deliver(
    inbox: &Receiver<Delivery>,
    spare: Sender<Vec<u8>>,
    out: &mut Out<'_>,
    damage: Found<'_>,
    context: &Context,
) -> Result<([u8; 32], u64, bool)> {
    let mut early = BTreeMap::new();
    let (mut next, mut offset, mut is_whole) = (0, 0u64, true);
    let mut digest = blake3::Hasher::new();
    loop {
        context.cancel.check()?;
        match inbox.recv_timeout(Duration::from_millis(50)) {
            Ok((STOPPED, _)) => return Err(stopped()),
            Ok((number, piece)) => early.insert(number, piece),
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => break,
        };
        while let Some(piece) = early.remove(&next) {
            next += 1;
            let (opened, ranges) = match (piece, damage) {
                (Ok(piece), _) => piece,
                (Err(error), Some(found)) => {
                    let Some(object) = error.object.as_ref().filter(|_| error.is_damage()) else { return Err(error) };
                    note_damage(found, object, &error);
                    is_whole = false;
                    let _ = spare.send(Vec::new());
                    continue;
                }
                (Err(error), None) => return Err(error),
            };
            for range in ranges {
                let bytes = opened.bytes().get(range).unwrap_or_default();
                digest.update(bytes);
                out(offset, bytes).map_err(|e| RepositoryError::local("the restored stream cannot be written", e))?;
                offset += bytes.len() as u64;
                context.advance(bytes.len() as u64);
            }
            let _ = spare.send(opened.into_buffer());
        }
    }
    if !early.is_empty() {
        return Err(stopped());
    }
    Ok((*digest.finalize().as_bytes(), offset, is_whole))
}
