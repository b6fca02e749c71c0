//! Fetching frames, several neighbours with one request, and opening them.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use copal_core::{DatabaseId, FolderName, FrameRef, PackId};
use copal_storage::{Storage, StorageErrorKind};

use crate::catalog::Database;
use crate::error::{RepositoryError, Result, is_absent};
use crate::frame::{Decoder, Kind};
use crate::keys::Keys;
use crate::layout;
use crate::pack::PackOpener;
use crate::repository::Repository;

/// The most bytes fetched with one request.
const MAX_SPAN_BYTES: u64 = 2 << 20;

/// Neighbouring frames of one pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) pack: PackId,
    pub(crate) range: Range<u64>,
    /// Indexes into what the span was made of.
    pub(crate) members: Vec<usize>,
}

/// Groups frames that follow each other in a pack, in the order given.
pub(crate) fn spans<'a>(refs: impl IntoIterator<Item = &'a FrameRef>) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    for (i, r) in refs.into_iter().enumerate() {
        let (begin, end) = (u64::from(r.offset), u64::from(r.offset) + u64::from(r.length));
        match spans.last_mut() {
            // Four bytes of length lie between two frames.
            Some(span)
                if span.pack == r.pack && begin == span.range.end + 4 && end - span.range.start <= MAX_SPAN_BYTES =>
            {
                span.range.end = end;
                span.members.push(i);
            }
            _ => spans.push(Span { pack: r.pack.clone(), range: begin..end, members: vec![i] }),
        }
    }
    spans
}

/// The packs that a manifest or a segment lists, outside of which nothing may lie.
pub(crate) struct ListedPacks<'a> {
    sizes: HashMap<&'a PackId, u64>,
    /// What refers to them, for messages.
    what: &'static str,
}

impl<'a> ListedPacks<'a> {
    pub(crate) fn of(packs: &'a [(PackId, u64)], what: &'static str) -> Self {
        Self { sizes: packs.iter().map(|(id, size)| (id, *size)).collect(), what }
    }

    /// Refuses references, read in the pack `from`, that lead outside.
    pub(crate) fn require(&self, source: &FrameSource, refs: &[FrameRef], from: &PackId) -> Result<()> {
        let ends_inside = |r: &FrameRef| {
            self.sizes.get(&r.pack).is_some_and(|size| u64::from(r.offset) + u64::from(r.length) <= *size)
        };
        if refs.iter().all(ends_inside) {
            return Ok(());
        }
        let problem = format!("{} refers to something outside of the packs that are listed", self.what);
        Err(source.damage(from, problem))
    }
}

/// What opening frames needs again and again; keep one per thread.
pub(crate) struct Scratch {
    decoder: Decoder,
    sealed: Vec<u8>,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        Self { decoder: Decoder::new(), sealed: Vec::new() }
    }
}

/// Where the frames of one database come from.
#[derive(Clone, Debug)]
pub(crate) struct FrameSource {
    storage: Arc<dyn Storage>,
    keys: Keys,
    name: FolderName,
    database: DatabaseId,
}

impl FrameSource {
    pub(crate) fn new(repository: &Repository, database: &Database) -> Self {
        Self {
            storage: Arc::clone(&repository.storage),
            keys: repository.keys.clone(),
            name: database.name.clone(),
            database: database.id,
        }
    }

    /// Fetches the sealed bytes of a span.
    pub(crate) async fn fetch(&self, span: &Span) -> Result<Bytes> {
        let path = layout::pack(&self.name, &span.pack);
        match self.storage.get_range(&path, span.range.clone()).await {
            Ok(bytes) => Ok(bytes),
            Err(e) if is_absent(&e) => Err(RepositoryError::damage(&path, "is missing")),
            Err(e) if e.kind() == StorageErrorKind::Truncated => Err(RepositoryError::damage(&path, "is cut off")),
            Err(e) => Err(e.into()),
        }
    }

    /// Fetches one frame alone and opens it.
    pub(crate) async fn read(&self, place: &FrameRef, kind: Kind, scratch: &mut Scratch) -> Result<Vec<u8>> {
        let begin = u64::from(place.offset);
        let range = begin..begin + u64::from(place.length);
        let span = Span { pack: place.pack.clone(), range, members: vec![0] };
        let bytes = self.fetch(&span).await?;
        self.open(place, kind, &span, &bytes, scratch)
    }

    /// Opens one frame out of the bytes of its span.
    pub(crate) fn open(
        &self,
        r: &FrameRef,
        kind: Kind,
        span: &Span,
        bytes: &[u8],
        scratch: &mut Scratch,
    ) -> Result<Vec<u8>> {
        let mut content = Vec::new();
        self.open_into(r, kind, span, bytes, scratch, &mut content)?;
        Ok(content)
    }

    /// The same in the place of what is in `content`.
    pub(crate) fn open_into(
        &self,
        r: &FrameRef,
        kind: Kind,
        span: &Span,
        bytes: &[u8],
        scratch: &mut Scratch,
        content: &mut Vec<u8>,
    ) -> Result<()> {
        let damage = |problem: String| RepositoryError::damage(&layout::pack(&self.name, &r.pack), problem);
        let begin = usize::try_from(u64::from(r.offset) - span.range.start).unwrap_or(usize::MAX);
        let sealed = bytes.get(begin..begin.saturating_add(r.length as usize));
        scratch.sealed.clear();
        scratch.sealed.extend_from_slice(sealed.ok_or_else(|| damage("is cut off".into()))?);
        PackOpener::new(self.database, r.pack.clone(), &self.keys)
            .open_into(r.frame, kind, &mut scratch.sealed, &mut scratch.decoder, content)
            .map_err(|e| damage(e.to_string()))
    }

    /// An error about a pack's content.
    pub(crate) fn damage(&self, pack: &PackId, problem: impl std::fmt::Display) -> RepositoryError {
        RepositoryError::damage(&layout::pack(&self.name, pack), problem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_fetched_together() {
        let backup = "20261120-153000Z-7f3a".parse().unwrap();
        let (a, b) = (PackId::new(&backup, 0), PackId::new(&backup, 1));
        let r = |pack: &PackId, frame, offset, length| FrameRef { pack: pack.clone(), frame, offset, length };
        let refs = [r(&a, 0, 12, 100), r(&a, 1, 116, 50), r(&a, 3, 300, 9), r(&b, 4, 313, 9), r(&b, 5, 326, 3 << 20)];
        let found = spans(&refs);
        assert_eq!(
            found.iter().map(|s| s.members.clone()).collect::<Vec<_>>(),
            [vec![0, 1], vec![2], vec![3], vec![4]]
        );
        assert_eq!(found[0].range, 12..166);
    }
}
