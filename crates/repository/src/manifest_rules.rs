//! What a manifest or a segment must satisfy before anything in it is used: it may come from a hostile hand when nothing is
//! encrypted.

use std::collections::{HashMap, HashSet};

use copal_core::{
    FileEntry, FrameRef, MAX_HEAD_BYTES, MAX_PAGE_SIZE, MIN_PAGE_SIZE, ManifestBody, ManifestHeader, PackId, PackUse,
    SegmentBody, SegmentHeader,
};
use copal_storage::ObjectPath;

use crate::error::{RepositoryError, Result};
use crate::page_map::{FANOUT, page_count};

/// Numbers of segments are smaller; nobody writes so many.
const MAX_SEQUENCE: u64 = 1 << 40;

/// Checks the numbers and names of a manifest against the format.
pub(crate) fn check(path: &ObjectPath, header: &ManifestHeader, body: &ManifestBody) -> Result<()> {
    check_content(path, &header.packs, &body.pack_use, &body.files)
}

/// The same of a segment, which has a number and streams only.
pub(crate) fn check_segment(path: &ObjectPath, header: &SegmentHeader, body: &SegmentBody) -> Result<()> {
    if header.follows.sequence >= MAX_SEQUENCE {
        return broken(path, "the number of the segment is out of range");
    }
    if header.segment <= header.follows.base {
        return broken(path, "a segment is older than its backup");
    }
    if !body.files.iter().all(FileEntry::is_stream) {
        return broken(path, "a segment has a file that is no stream");
    }
    check_content(path, &header.packs, &body.pack_use, &body.files)
}

fn broken(path: &ObjectPath, problem: &str) -> Result<()> {
    Err(RepositoryError::damage(path, format!("breaks a rule of the format: {problem}")))
}

fn check_content(path: &ObjectPath, packs: &[(PackId, u64)], r#use: &[PackUse], files: &[FileEntry]) -> Result<()> {
    let broken = |problem: &str| broken(path, problem);
    if packs.iter().any(|(_, size)| *size > crate::pack::MAX_BYTES) {
        return broken("a pack is too large");
    }
    let sizes: HashMap<_, _> = packs.iter().map(|(id, size)| (id, *size)).collect();
    if sizes.len() != packs.len() || r#use.len() != packs.len() {
        return broken("the list of packs contradicts itself");
    }
    let mut names = HashSet::new();
    for file in files {
        let name = file.name();
        if !is_safe_name(name) || !names.insert(name) {
            return broken("a file has an unsafe or repeated name");
        }
        let is_sized = match file {
            FileEntry::Pages { length, page_size, head, branches, .. } => {
                if !(MIN_PAGE_SIZE..=MAX_PAGE_SIZE).contains(page_size) || head.len() > MAX_HEAD_BYTES as usize {
                    return broken("a page size or head is out of range");
                }
                let Some(pages) = page_count(*length, head.len(), *page_size) else {
                    return broken("a file is shorter than its head");
                };
                pages.div_ceil(FANOUT as u64).div_ceil(FANOUT as u64) == branches.len() as u64
            }
            // Every chunk has a byte at least, every branch a leaf, and every branch but the last all of its leaves.
            FileEntry::Stream { length, branches, .. } => match branches.len().checked_sub(1) {
                None => *length == 0,
                Some(full) => *length > (full as u64).saturating_mul(FANOUT as u64),
            },
        };
        if !is_sized {
            return broken("a page map or list of chunks has another size than its file");
        }
        let lies_inside =
            |b: &FrameRef| sizes.get(&b.pack).is_some_and(|size| u64::from(b.offset) + u64::from(b.length) <= *size);
        if !file.branches().iter().all(lies_inside) {
            return broken("a page map or list of chunks lies outside of the packs that are listed");
        }
    }
    Ok(())
}

/// Whether a file of this name can be written below a folder and nowhere else.
pub(crate) fn is_safe_name(name: &str) -> bool {
    let good = |part: &str| !part.is_empty() && part != "." && part != "..";
    !name.contains(['\0', '\\', ':']) && name.split('/').all(good)
}
