//! The ordered side of streams: which chunks are new, in which frames they go, and the list of chunks at the end.
//!
//! The list lies in a scratch file until the stream ends. Chunks of a withdrawn stream stay where they are, for the stream
//! that is begun instead; what nobody refers to in the end counts as unused in its pack.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, Write};

use copal_core::{FileEntry, FrameRef};

use super::assembler::{Packing, scratch_failed};
use super::stream_index::{ChunkPlace, StreamIndex};
use super::{FRAME_BYTES, LocalRef};
use crate::error::{RepositoryError, RepositoryErrorKind, Result};
use crate::frame::Kind;
use crate::page_map::{
    Branch, Chunk, DIGEST_BYTES, FANOUT, PageDigest, StreamLeaf, encode_branch, encode_stream_leaf, page_digest,
};

const RECORD_BYTES: usize = 12 + DIGEST_BYTES;

/// A run of a stream whose chunks were hashed.
pub(super) struct HashedRun {
    pub(super) bytes: Vec<u8>,
    pub(super) chunks: Vec<(u32, PageDigest)>,
}

/// The content of a new frame, to be compressed.
pub(super) struct NewFrame {
    /// Its number in the index.
    pub(super) number: u32,
    pub(super) content: Vec<u8>,
    /// The buffer of a run that is to be given back when the frame lies in its pack; `None`: the content is that buffer,
    /// or (`is_gathered`) there is none.
    pub(super) run: Option<Vec<u8>>,
    pub(super) is_gathered: bool,
}

struct Growing {
    records: BufWriter<File>,
    chunks: u64,
    length: u64,
    digest: blake3::Hasher,
}

/// All streams of a backup.
pub(super) struct Streams {
    index: StreamIndex,
    open: HashMap<u32, Growing>,
    /// New chunks from between known ones, of all streams, and the number of their frame.
    gather: Vec<u8>,
    gather_frame: Option<u32>,
}

impl Streams {
    pub(super) fn new(mut index: StreamIndex, leave: &[bool]) -> Self {
        index.leave(leave);
        Self { index, open: HashMap::new(), gather: Vec::new(), gather_frame: None }
    }

    pub(super) fn begin(&mut self, file: u32, scratch: File) {
        let digest = blake3::Hasher::new();
        self.open.insert(file, Growing { records: BufWriter::new(scratch), chunks: 0, length: 0, digest });
    }

    pub(super) fn withdraw(&mut self, file: u32) {
        self.open.remove(&file);
    }

    /// Takes the next run of a stream; gives new frames and, if none of them needs it, the run's buffer.
    pub(super) fn take(&mut self, file: u32, run: HashedRun) -> Result<(Vec<NewFrame>, Option<Vec<u8>>)> {
        let HashedRun { bytes, chunks } = run;
        let Some(growing) = self.open.get_mut(&file) else { return Ok((Vec::new(), Some(bytes))) };
        growing.digest.update(&bytes);
        growing.length += bytes.len() as u64;
        growing.chunks += chunks.len() as u64;
        let mut seen = HashSet::new();
        let is_new =
            chunks.iter().all(|(length, digest)| self.index.find(digest, *length).is_none() && seen.insert(digest));
        // A run of new chunks is a frame as it is; what is small or mixed goes together with others.
        if is_new && bytes.len() >= FRAME_BYTES / 2 {
            let frame = self.index.new_frame();
            let mut start = 0;
            for (length, digest) in chunks {
                let place = ChunkPlace { frame, start, length };
                self.index.add(digest, place);
                write_record(&mut growing.records, place, &digest)?;
                start += length;
            }
            return Ok((vec![NewFrame { number: frame, content: bytes, run: None, is_gathered: false }], None));
        }
        let mut frames: Vec<NewFrame> = Vec::new();
        let mut rest = bytes.as_slice();
        for (length, digest) in chunks {
            let (content, later) = rest.split_at_checked(length as usize).unwrap_or((rest, &[]));
            rest = later;
            let place = match self.index.find(&digest, length) {
                Some(place) => place,
                None => {
                    let frame = *self.gather_frame.get_or_insert_with(|| self.index.new_frame());
                    let start = u32::try_from(self.gather.len()).unwrap_or(u32::MAX);
                    self.gather.extend_from_slice(content);
                    let place = ChunkPlace { frame, start, length };
                    self.index.add(digest, place);
                    place
                }
            };
            write_record(&mut growing.records, place, &digest)?;
            if self.gather.len() >= FRAME_BYTES {
                let content = std::mem::take(&mut self.gather);
                let number = self.gather_frame.take().unwrap_or(0);
                frames.push(NewFrame { number, content, run: None, is_gathered: true });
            }
        }
        // The run's buffer waits with the last frame that it filled, so that frames cannot pile up.
        match frames.last_mut() {
            Some(last) => last.run = Some(bytes),
            None => return Ok((frames, Some(bytes))),
        }
        Ok((frames, None))
    }

    /// The frame of the chunks gathered so far, which must lie in a pack before a stream can end.
    pub(super) fn flush(&mut self) -> Option<NewFrame> {
        let number = self.gather_frame.take()?;
        let content = std::mem::take(&mut self.gather);
        Some(NewFrame { number, content, run: None, is_gathered: true })
    }

    /// Says where a frame was put.
    pub(super) fn place_frame(&mut self, number: u32, place: LocalRef) {
        self.index.place_frame(number, place);
    }

    /// Writes the list of chunks of a stream all of whose frames have their places.
    pub(super) fn finish(&mut self, file: u32, name: String, packing: &mut Packing) -> Result<FileEntry> {
        let Some(Growing { records, chunks, length, digest }) = self.open.remove(&file) else {
            return Err(RepositoryError::new(RepositoryErrorKind::Usage, "a stream was finished twice"));
        };
        let mut records = records.into_inner().map_err(|e| scratch_failed(e.into_error()))?;
        records.rewind().map_err(scratch_failed)?;
        let mut records = BufReader::with_capacity(1 << 16, records);
        let mut leaves = Vec::new();
        for first_chunk in (0..chunks).step_by(FANOUT) {
            let count = usize::try_from(chunks - first_chunk).unwrap_or(FANOUT).min(FANOUT);
            let leaf = self.leaf(first_chunk, count, &mut records, packing)?;
            leaves.push(self.node(Kind::StreamLeaf, &encode_stream_leaf(&leaf), packing));
        }
        let mut branches = Vec::new();
        for (number, group) in leaves.chunks(FANOUT).enumerate() {
            let refs: Option<Vec<FrameRef>> = group.iter().map(|l| l.to_ref(&packing.setup.packs)).collect();
            let branch = Branch { first_leaf: (number * FANOUT) as u64, leaves: refs.ok_or_else(lost)? };
            let place = self.node(Kind::Branch, &encode_branch(&branch), packing);
            branches.push(place.to_ref(&packing.setup.packs).ok_or_else(lost)?);
        }
        Ok(FileEntry::Stream { name, length, digest: *digest.finalize().as_bytes(), branches })
    }

    fn leaf(
        &mut self,
        first_chunk: u64,
        count: usize,
        records: &mut impl Read,
        packing: &mut Packing,
    ) -> Result<StreamLeaf> {
        let mut leaf = StreamLeaf { first_chunk, frames: Vec::new(), chunks: Vec::with_capacity(count) };
        let mut numbers: HashMap<LocalRef, u32> = HashMap::new();
        for _ in 0..count {
            let (place, digest) = read_record(records)?;
            let at = self.index.frame(place.frame).ok_or_else(lost)?;
            if self.index.is_first_use(&digest, place)
                && let Some(pack) = packing.setup.packs.get_mut(at.pack)
            {
                pack.r#use.used_bytes += u64::from(place.length);
            }
            let frame = match numbers.get(&at) {
                Some(frame) => *frame,
                None => {
                    leaf.frames.push(at.to_ref(&packing.setup.packs).ok_or_else(lost)?);
                    let frame = u32::try_from(leaf.frames.len() - 1).unwrap_or(u32::MAX);
                    numbers.insert(at, frame);
                    frame
                }
            };
            leaf.chunks.push(Chunk { frame, start: place.start, length: place.length, digest });
        }
        Ok(leaf)
    }

    /// The base's leaf or branch if it says the same, else a new one.
    fn node(&self, kind: Kind, content: &[u8], packing: &mut Packing) -> LocalRef {
        let known = self.index.node(&page_digest(content));
        let place = known.unwrap_or_else(|| packing.push_content(kind, content));
        if let Some(pack) = packing.setup.packs.get_mut(place.pack) {
            pack.r#use.used_bytes += content.len() as u64;
        }
        place
    }
}

fn lost() -> RepositoryError {
    RepositoryError::new(RepositoryErrorKind::Usage, "a pack got lost")
}

fn write_record(records: &mut impl Write, place: ChunkPlace, digest: &PageDigest) -> Result<()> {
    let mut record = Vec::with_capacity(RECORD_BYTES);
    for field in [place.frame, place.start, place.length] {
        record.extend_from_slice(&field.to_le_bytes());
    }
    record.extend_from_slice(digest);
    records.write_all(&record).map_err(scratch_failed)
}

fn read_record(records: &mut impl Read) -> Result<(ChunkPlace, PageDigest)> {
    let mut field = || -> std::io::Result<u32> {
        let mut bytes = [0; 4];
        records.read_exact(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    };
    let mut place = || Ok(ChunkPlace { frame: field()?, start: field()?, length: field()? });
    let place = place().map_err(scratch_failed)?;
    let mut digest = [0; DIGEST_BYTES];
    records.read_exact(&mut digest).map_err(scratch_failed)?;
    Ok((place, digest))
}
