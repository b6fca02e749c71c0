//! Walking over the page map of a file, leaf by leaf, with bounded memory.

use std::collections::VecDeque;

use copal_core::{FileEntry, FrameRef, PackId};

use super::frames::{FrameSource, ListedPacks, Scratch, spans};
use crate::error::Result;
use crate::frame::Kind;
use crate::page_map::{FANOUT, Leaf, decode_branch, decode_leaf, page_count};

/// A walk; gives every leaf with the place where it lies. Whatever a leaf says has been compared with the manifest.
pub(crate) struct MapWalk<'a> {
    source: &'a FrameSource,
    listed: ListedPacks<'a>,
    branches: VecDeque<&'a FrameRef>,
    pages: u64,
    next_branch: u64,
    next_leaf: u64,
    waiting: VecDeque<super::frames::Span>,
    waiting_refs: Vec<FrameRef>,
    ready: VecDeque<(FrameRef, Leaf)>,
    scratch: Scratch,
}

impl<'a> MapWalk<'a> {
    pub(crate) fn new(source: &'a FrameSource, packs: &'a [(PackId, u64)], entry: &'a FileEntry) -> Self {
        // Streams have another walk; to this one they have no pages.
        let pages = match entry {
            FileEntry::Pages { length, page_size, head, .. } => page_count(*length, head.len(), *page_size),
            FileEntry::Stream { .. } => None,
        };
        Self {
            source,
            listed: ListedPacks::of(packs, "a page map"),
            branches: entry.branches().iter().collect(),
            pages: pages.unwrap_or(0),
            next_branch: 0,
            next_leaf: 0,
            waiting: VecDeque::new(),
            waiting_refs: Vec::new(),
            ready: VecDeque::new(),
            scratch: Scratch::new(),
        }
    }

    /// The next leaf; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<(FrameRef, Leaf)>> {
        loop {
            if let Some(found) = self.ready.pop_front() {
                return Ok(Some(found));
            }
            if let Some(span) = self.waiting.pop_front() {
                self.read_leaves(&span).await?;
            } else if let Some(branch) = self.branches.pop_front() {
                self.read_branch(branch).await?;
            } else {
                return Ok(None);
            }
        }
    }

    async fn read_branch(&mut self, place: &FrameRef) -> Result<()> {
        let content = self.source.read(place, Kind::Branch, &mut self.scratch).await?;
        let branch = decode_branch(&content).map_err(|e| self.source.damage(&place.pack, e))?;
        let leaves = self.pages.div_ceil(FANOUT as u64);
        let first = self.next_branch * FANOUT as u64;
        let expected = leaves.saturating_sub(first).min(FANOUT as u64);
        if branch.first_leaf != first || branch.leaves.len() as u64 != expected {
            return Err(self.source.damage(&place.pack, "a branch of a page map stands in another one's place"));
        }
        self.listed.require(self.source, &branch.leaves, &place.pack)?;
        self.next_branch += 1;
        self.waiting = spans(&branch.leaves).into();
        self.waiting_refs = branch.leaves;
        Ok(())
    }

    async fn read_leaves(&mut self, span: &super::frames::Span) -> Result<()> {
        let bytes = self.source.fetch(span).await?;
        for member in &span.members {
            let Some(place) = self.waiting_refs.get(*member).cloned() else { continue };
            let content = self.source.open(&place, Kind::Leaf, span, &bytes, &mut self.scratch)?;
            let leaf = decode_leaf(&content).map_err(|e| self.source.damage(&place.pack, e))?;
            let first = self.next_leaf * FANOUT as u64;
            let expected = self.pages.saturating_sub(first).min(FANOUT as u64);
            if leaf.first_page != first || leaf.entries.len() as u64 != expected {
                return Err(self.source.damage(&place.pack, "a leaf of a page map stands in another one's place"));
            }
            self.listed.require(self.source, &leaf.frames, &place.pack)?;
            self.next_leaf += 1;
            self.ready.push_back((place, leaf));
        }
        Ok(())
    }
}
