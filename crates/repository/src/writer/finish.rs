//! The end of a file: its digest, its leaves and branches, and how much of each pack it uses.

use std::collections::HashMap;

use copal_core::{FileEntry, FrameRef, PageFileSpec};

use super::assembler::{Packing, scratch_failed};
use super::{FileMap, FinishedFile, LocalRef};
use crate::error::{RepositoryError, RepositoryErrorKind, Result};
use crate::frame::Kind;
use crate::page_map::{
    Branch, FANOUT, FileDigest, Leaf, LeafEntry, Record, Records, encode_branch, encode_leaf, page_count,
};

/// What is known when a file ends.
pub(super) struct FinishRequest {
    pub(super) spec: PageFileSpec,
    pub(super) length: u64,
    pub(super) head: Vec<u8>,
    pub(super) base: Option<FileMap>,
}

/// Writes the page map of a complete file.
pub(super) fn finish(request: FinishRequest, mut records: Records, packing: &mut Packing) -> Result<FinishedFile> {
    let FinishRequest { spec, length, head, mut base } = request;
    let usage = |message: String| RepositoryError::new(RepositoryErrorKind::Usage, message);
    let pages = page_count(length, head.len(), spec.page_size)
        .ok_or_else(|| usage(format!("{} is shorter than its head", spec.name)))?;
    let mut digest = FileDigest::new(length, spec.page_size, &head);
    let mut leaves = Vec::new();
    for first in (0..pages).step_by(FANOUT) {
        let count = usize::try_from(pages - first).unwrap_or(FANOUT).min(FANOUT);
        let entries: Option<Vec<Record>> = records.leaf(first, count).map_err(scratch_failed)?.into_iter().collect();
        let entries = entries
            .filter(|e| e.len() == count)
            .ok_or_else(|| usage(format!("{} was finished although some of its pages were never given", spec.name)))?;
        for record in &entries {
            digest.page(&record.digest);
            if let Some(pack) = packing.setup.packs.get_mut(record.pack) {
                pack.r#use.used_bytes += u64::from(spec.page_size);
            }
        }
        let shared = shared_leaf(&mut base, first, &entries, &packing.setup.leave)?;
        let place = match shared {
            Some(place) => place,
            None => {
                let leaf = to_leaf(first, &entries, packing)?;
                packing.push_content(Kind::Leaf, &encode_leaf(&leaf))
            }
        };
        if let Some(pack) = packing.setup.packs.get_mut(place.pack) {
            pack.r#use.used_bytes += leaf_bytes(count);
        }
        leaves.push(place);
    }
    let branches = write_branches(&leaves, base.as_ref(), packing)?;
    let refs: Option<Vec<FrameRef>> = branches.iter().map(|b| b.to_ref(&packing.setup.packs)).collect();
    let entry = FileEntry::Pages {
        name: spec.name.clone(),
        length,
        page_size: spec.page_size,
        head,
        digest: digest.finish(),
        branches: refs.ok_or_else(|| usage("a pack got lost".into()))?,
    };
    let map = FileMap {
        name: spec.name,
        page_size: spec.page_size,
        head_length: spec.head_length,
        pages,
        records,
        leaves,
        branches,
    };
    Ok(FinishedFile { entry, map: Some(map) })
}

/// About what a leaf adds to the use of its pack; exact enough for telling little used packs.
fn leaf_bytes(entries: usize) -> u64 {
    entries as u64 * 22
}

/// The base's leaf, if it says the same and may be shared.
fn shared_leaf(base: &mut Option<FileMap>, first: u64, entries: &[Record], leave: &[bool]) -> Result<Option<LocalRef>> {
    let Some(map) = base else { return Ok(None) };
    let number = usize::try_from(first / FANOUT as u64).unwrap_or(usize::MAX);
    let Some(place) = map.leaves.get(number).copied() else { return Ok(None) };
    let base_count = usize::try_from(map.pages.saturating_sub(first)).unwrap_or(FANOUT).min(FANOUT);
    if base_count != entries.len() || leave.get(place.pack as usize).copied().unwrap_or(true) {
        return Ok(None);
    }
    let same = map.records.leaf(first, base_count).map_err(scratch_failed)?;
    let is_same = same.len() == entries.len() && same.iter().zip(entries).all(|(a, b)| a.as_ref() == Some(b));
    Ok(is_same.then_some(place))
}

fn to_leaf(first_page: u64, records: &[Record], packing: &Packing) -> Result<Leaf> {
    let mut frames: Vec<FrameRef> = Vec::new();
    let mut index: HashMap<(u32, u32), u32> = HashMap::new();
    let mut entries = Vec::with_capacity(records.len());
    for r in records {
        let frame = match index.get(&(r.pack, r.frame)) {
            Some(frame) => *frame,
            None => {
                let place = LocalRef { pack: r.pack, frame: r.frame, offset: r.offset, length: r.length };
                let place = place.to_ref(&packing.setup.packs);
                frames.push(place.ok_or_else(|| RepositoryError::new(RepositoryErrorKind::Usage, "a pack got lost"))?);
                let frame = u32::try_from(frames.len() - 1).unwrap_or(u32::MAX);
                index.insert((r.pack, r.frame), frame);
                frame
            }
        };
        entries.push(LeafEntry { frame, slot: r.slot, digest: r.digest });
    }
    Ok(Leaf { first_page, frames, entries })
}

/// Writes the branches, or shares the base's where all their leaves are the base's.
fn write_branches(leaves: &[LocalRef], base: Option<&FileMap>, packing: &mut Packing) -> Result<Vec<LocalRef>> {
    let mut branches = Vec::new();
    for (number, group) in leaves.chunks(FANOUT).enumerate() {
        let shared = base.and_then(|map| {
            let theirs = map.leaves.chunks(FANOUT).nth(number)?;
            let place = *map.branches.get(number)?;
            let may_share = !packing.setup.leave.get(place.pack as usize).copied().unwrap_or(true);
            (theirs == group && may_share).then_some(place)
        });
        let place = match shared {
            Some(place) => place,
            None => {
                let refs: Option<Vec<FrameRef>> = group.iter().map(|l| l.to_ref(&packing.setup.packs)).collect();
                let leaves = refs.ok_or_else(|| RepositoryError::new(RepositoryErrorKind::Usage, "a pack got lost"))?;
                let branch = Branch { first_leaf: (number * FANOUT) as u64, leaves };
                packing.push_content(Kind::Branch, &encode_branch(&branch))
            }
        };
        if let Some(pack) = packing.setup.packs.get_mut(place.pack) {
            pack.r#use.used_bytes += group.len() as u64 * 14;
        }
        branches.push(place);
    }
    Ok(branches)
}
