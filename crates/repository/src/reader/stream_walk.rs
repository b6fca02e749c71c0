//! Walking over the chunks of a stream, leaf by leaf, with bounded memory.

use std::collections::VecDeque;

use bytes::Bytes;
use copal_core::{FileEntry, FrameRef, PackId};

use super::frames::{FrameSource, ListedPacks, Scratch, Span, spans};
use crate::error::Result;
use crate::frame::Kind;
use crate::page_map::{FANOUT, PageDigest, StreamLeaf, decode_branch, decode_stream_leaf, page_digest};

/// A node of the list of chunks: where it lies, and the digest of its content.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) place: FrameRef,
    pub(crate) digest: PageDigest,
}

/// A walk; gives every leaf with its node. Whatever a leaf says has been compared with the manifest; that the lengths of
/// all chunks make the stream's is known when the walk ends without an error.
pub(crate) struct StreamWalk<'a> {
    source: &'a FrameSource,
    listed: ListedPacks<'a>,
    branches: VecDeque<&'a FrameRef>,
    read_branches: Vec<Node>,
    left: u64,
    next_leaf: u64,
    next_chunk: u64,
    waiting: VecDeque<Span>,
    waiting_refs: Vec<FrameRef>,
    /// A span that was fetched, and which of its members comes next.
    fetched: Option<(Span, Bytes, usize)>,
    last: Option<FrameRef>,
    scratch: Scratch,
}

impl<'a> StreamWalk<'a> {
    pub(crate) fn new(source: &'a FrameSource, packs: &'a [(PackId, u64)], entry: &'a FileEntry) -> Self {
        Self {
            source,
            listed: ListedPacks::of(packs, "a stream"),
            branches: entry.branches().iter().collect(),
            read_branches: Vec::new(),
            left: entry.length(),
            next_leaf: 0,
            next_chunk: 0,
            waiting: VecDeque::new(),
            waiting_refs: Vec::new(),
            fetched: None,
            last: None,
            scratch: Scratch::new(),
        }
    }

    /// The branches that were read so far.
    pub(crate) fn branches(&self) -> &[Node] {
        &self.read_branches
    }

    /// The next leaf; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<(Node, StreamLeaf)>> {
        loop {
            if let Some((span, bytes, at)) = self.fetched.take() {
                // One leaf at a time: those of a repetitive stream are small as they are stored and large as they are read.
                if let Some(place) = span.members.get(at).and_then(|m| self.waiting_refs.get(*m)).cloned() {
                    let found = self.read_leaf(place, &span, &bytes)?;
                    self.fetched = Some((span, bytes, at + 1));
                    return Ok(Some(found));
                }
            } else if let Some(span) = self.waiting.pop_front() {
                let bytes = self.source.fetch(&span).await?;
                self.fetched = Some((span, bytes, 0));
            } else if let Some(branch) = self.branches.pop_front() {
                self.read_branch(branch).await?;
            } else if let Some(last) = self.last.as_ref().filter(|_| self.left > 0) {
                return Err(self.source.damage(&last.pack, "the last chunks of a stream are missing"));
            } else {
                return Ok(None);
            }
        }
    }

    async fn read_branch(&mut self, place: &FrameRef) -> Result<()> {
        let content = self.source.read(place, Kind::Branch, &mut self.scratch).await?;
        let branch = decode_branch(&content).map_err(|e| self.source.damage(&place.pack, e))?;
        let is_full = self.branches.is_empty() || branch.leaves.len() == FANOUT;
        if branch.first_leaf != self.next_leaf || !is_full {
            return Err(self.source.damage(&place.pack, "a branch of a stream stands in another one's place"));
        }
        self.listed.require(self.source, &branch.leaves, &place.pack)?;
        self.next_leaf += branch.leaves.len() as u64;
        self.read_branches.push(Node { place: place.clone(), digest: page_digest(&content) });
        self.waiting = spans(&branch.leaves).into();
        self.waiting_refs = branch.leaves;
        Ok(())
    }

    fn read_leaf(&mut self, place: FrameRef, span: &Span, bytes: &[u8]) -> Result<(Node, StreamLeaf)> {
        let content = self.source.open(&place, Kind::StreamLeaf, span, bytes, &mut self.scratch)?;
        let leaf = decode_stream_leaf(&content).map_err(|e| self.source.damage(&place.pack, e))?;
        let total: u64 = leaf.chunks.iter().map(|c| u64::from(c.length)).sum();
        if leaf.first_chunk != self.next_chunk {
            return Err(self.source.damage(&place.pack, "a leaf of a stream stands in another one's place"));
        }
        if total > self.left {
            return Err(self.source.damage(&place.pack, "the chunks of a stream are longer than the stream"));
        }
        self.listed.require(self.source, &leaf.frames, &place.pack)?;
        self.left -= total;
        self.next_chunk += leaf.chunks.len() as u64;
        self.last = Some(place.clone());
        Ok((Node { place, digest: page_digest(&content) }, leaf))
    }
}
