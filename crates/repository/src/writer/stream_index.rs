//! What streams may share: the chunks of the base's streams and of those written so far, by digest.

use std::collections::HashMap;

use copal_core::Context;

use super::LocalRef;
use crate::catalog::{Database, Manifest};
use crate::error::{RepositoryError, Result};
use crate::pack_table::PackTable;
use crate::page_map::PageDigest;
use crate::reader::{FrameSource, StreamWalk};
use crate::repository::Repository;

/// The most chunks that are known by digest, about 60 MB of memory: 256 GiB of streams. Chunks beyond are stored without
/// being looked for, those of the base and new ones.
const MAX_CHUNKS: usize = 1 << 20;

/// Where a chunk lies: the number of its frame in the index, and its bytes there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChunkPlace {
    pub(super) frame: u32,
    pub(super) start: u32,
    pub(super) length: u32,
}

/// Chunks, frames and nodes by digest or number.
#[derive(Default)]
pub(crate) struct StreamIndex {
    chunks: HashMap<PageDigest, (ChunkPlace, bool)>,
    /// The base's frames and then the new ones; `None`: not in a pack yet. 20 bytes for about 1 MiB of stream.
    frames: Vec<Option<LocalRef>>,
    /// The base's leaves and branches by the digest of their content.
    nodes: HashMap<PageDigest, LocalRef>,
}

impl StreamIndex {
    /// The chunks of all streams of a backup, read from its leaves.
    pub(super) async fn load(
        repository: &Repository,
        database: &Database,
        manifest: &Manifest,
        packs: &PackTable,
        context: &Context,
    ) -> Result<Self> {
        let unlisted = || {
            let path = crate::layout::backup(&database.name, &manifest.header.backup);
            RepositoryError::damage(&path, "refers to a pack that it does not list")
        };
        let mut index = Self::default();
        let source = FrameSource::new(repository, database);
        for entry in manifest.body.files.iter().filter(|f| f.is_stream()) {
            let mut walk = StreamWalk::new(&source, &manifest.header.packs, entry);
            let mut known: HashMap<LocalRef, u32> = HashMap::new();
            while let Some((node, leaf)) = walk.next().await? {
                context.cancel.check()?;
                let place = LocalRef::from_ref(&node.place, packs).ok_or_else(unlisted)?;
                index.nodes.insert(node.digest, place);
                // A frame seldom goes on beyond the next leaf.
                known.retain(|_, number| index.frames.len() - (*number as usize) < 64);
                let mut numbers = Vec::new();
                for frame in &leaf.frames {
                    let place = LocalRef::from_ref(frame, packs).ok_or_else(unlisted)?;
                    numbers.push(*known.entry(place).or_insert_with(|| {
                        index.frames.push(Some(place));
                        number(index.frames.len() - 1)
                    }));
                }
                for chunk in &leaf.chunks {
                    if index.chunks.len() >= MAX_CHUNKS {
                        break;
                    }
                    let frame = *numbers.get(chunk.frame as usize).ok_or_else(unlisted)?;
                    let place = ChunkPlace { frame, start: chunk.start, length: chunk.length };
                    index.chunks.entry(chunk.digest).or_insert((place, false));
                }
                if index.chunks.len() >= MAX_CHUNKS {
                    break;
                }
            }
            for node in walk.branches() {
                let place = LocalRef::from_ref(&node.place, packs).ok_or_else(unlisted)?;
                index.nodes.insert(node.digest, place);
            }
        }
        Ok(index)
    }

    /// Forgets what lies in packs that are to be left, by their numbers.
    pub(super) fn leave(&mut self, leave: &[bool]) {
        let stays = |place: &LocalRef| !leave.get(place.pack as usize).copied().unwrap_or(true);
        let frames = &self.frames;
        self.chunks
            .retain(|_, (place, _)| frames.get(place.frame as usize).is_some_and(|f| f.as_ref().is_some_and(stays)));
        self.nodes.retain(|_, place| stays(place));
    }

    /// The chunk with this digest and length.
    pub(super) fn find(&self, digest: &PageDigest, length: u32) -> Option<ChunkPlace> {
        self.chunks.get(digest).map(|(place, _)| *place).filter(|place| place.length == length)
    }

    /// Remembers a new chunk.
    pub(super) fn add(&mut self, digest: PageDigest, place: ChunkPlace) {
        if self.chunks.len() < MAX_CHUNKS {
            self.chunks.insert(digest, (place, false));
        }
    }

    /// Whether this is the first use of a chunk in this backup, as far as is known.
    pub(super) fn is_first_use(&mut self, digest: &PageDigest, place: ChunkPlace) -> bool {
        match self.chunks.get_mut(digest) {
            Some((known, used)) if *known == place => !std::mem::replace(used, true),
            _ => true,
        }
    }

    /// The number of a new frame, which lies nowhere yet.
    pub(super) fn new_frame(&mut self) -> u32 {
        self.frames.push(None);
        number(self.frames.len() - 1)
    }

    /// Says where a frame was put.
    pub(super) fn place_frame(&mut self, frame: u32, place: LocalRef) {
        if let Some(slot) = self.frames.get_mut(frame as usize) {
            *slot = Some(place);
        }
    }

    /// Where a frame lies.
    pub(super) fn frame(&self, frame: u32) -> Option<LocalRef> {
        self.frames.get(frame as usize).copied().flatten()
    }

    /// The base's leaf or branch with this content.
    pub(super) fn node(&self, digest: &PageDigest) -> Option<LocalRef> {
        self.nodes.get(digest).copied()
    }
}

fn number(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
