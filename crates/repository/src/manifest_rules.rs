//! What a manifest must satisfy before anything in it is used: it may come from a hostile hand when nothing is encrypted.

use std::collections::{HashMap, HashSet};

use copal_core::{FileEntry, FrameRef, MAX_HEAD_BYTES, MAX_PAGE_SIZE, MIN_PAGE_SIZE, ManifestBody, ManifestHeader};
use copal_storage::ObjectPath;

use crate::error::{RepositoryError, Result};
use crate::page_map::{FANOUT, page_count};

/// Checks the numbers and names of a manifest against the format.
pub(crate) fn check(path: &ObjectPath, header: &ManifestHeader, body: &ManifestBody) -> Result<()> {
    let broken = |problem: &str| Err(RepositoryError::damage(path, format!("breaks a rule of the format: {problem}")));
    if header.packs.iter().any(|(_, size)| *size > crate::pack::MAX_BYTES) {
        return broken("a pack is too large");
    }
    let packs: HashMap<_, _> = header.packs.iter().map(|(id, size)| (id, *size)).collect();
    if packs.len() != header.packs.len() || body.pack_use.len() != header.packs.len() {
        return broken("the list of packs contradicts itself");
    }
    let mut names = HashSet::new();
    for file in &body.files {
        let name = file.name();
        let good = |part: &str| !part.is_empty() && part != "." && part != "..";
        let is_safe = !name.contains(['\0', '\\', ':']) && name.split('/').all(good);
        if !is_safe || !names.insert(name) {
            return broken("a file has an unsafe or repeated name");
        }
        let FileEntry::Pages { length, page_size, head, branches, .. } = file;
        if !(MIN_PAGE_SIZE..=MAX_PAGE_SIZE).contains(page_size) || head.len() > MAX_HEAD_BYTES as usize {
            return broken("a page size or head is out of range");
        }
        let Some(pages) = page_count(*length, head.len(), *page_size) else {
            return broken("a file is shorter than its head");
        };
        let leaves = pages.div_ceil(FANOUT as u64);
        if leaves.div_ceil(FANOUT as u64) != branches.len() as u64 {
            return broken("a page map has another size than its file");
        }
        let lies_inside =
            |b: &FrameRef| packs.get(&b.pack).is_some_and(|size| u64::from(b.offset) + u64::from(b.length) <= *size);
        if !branches.iter().all(lies_inside) {
            return broken("a page map lies outside of the packs that are listed");
        }
    }
    Ok(())
}
