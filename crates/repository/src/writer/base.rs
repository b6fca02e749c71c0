//! The backup whose unchanged pages a new one shares: its page maps in local form, from the cache or from the repository.
//!
//! The cache is used only if it belongs to exactly this manifest and is undamaged; without it the maps are read from the repository.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use copal_core::{BackupId, Context, FileEntry, FrameRef, PageFileSpec};
use serde::{Deserialize, Serialize};

use super::stream_index::StreamIndex;
use crate::catalog::{Database, Manifest};
use crate::error::{RepositoryError, Result};
use crate::pack_table::{PackInfo, PackTable};
use crate::page_map::{FANOUT, Record, Records, page_count};
use crate::reader::{FrameSource, MapWalk};
use crate::repository::Repository;
use crate::state::DatabaseState;

const INDEX: &str = "map.json";

/// Where a frame lies, its pack by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct LocalRef {
    pub(crate) pack: u32,
    pub(crate) frame: u32,
    pub(crate) offset: u32,
    pub(crate) length: u32,
}

impl LocalRef {
    pub(crate) fn from_ref(r: &FrameRef, packs: &PackTable) -> Option<Self> {
        Some(Self { pack: packs.number(&r.pack)?, frame: r.frame, offset: r.offset, length: r.length })
    }

    pub(crate) fn to_ref(self, packs: &PackTable) -> Option<FrameRef> {
        let pack = packs.get(self.pack)?.id.clone();
        Some(FrameRef { pack, frame: self.frame, offset: self.offset, length: self.length })
    }
}

/// The page map of one file in local form.
pub(crate) struct FileMap {
    pub(crate) name: String,
    pub(crate) page_size: u32,
    pub(crate) head_length: u32,
    pub(crate) pages: u64,
    pub(crate) records: Records,
    pub(crate) leaves: Vec<LocalRef>,
    pub(crate) branches: Vec<LocalRef>,
}

impl FileMap {
    /// For each of `count` pages the record that may be shared if the page is the same.
    pub(crate) fn shareable(&mut self, first: u64, count: usize, leave: &[bool]) -> io::Result<Vec<Option<Record>>> {
        (first..first + count as u64)
            .map(|page| {
                if page >= self.pages {
                    return Ok(None);
                }
                let record = self.records.get(page)?;
                Ok(record.filter(|r| !leave.get(r.pack as usize).copied().unwrap_or(true)))
            })
            .collect()
    }
}

/// A backup to share with.
pub(crate) struct Base {
    pub(crate) backup: BackupId,
    pub(crate) packs: PackTable,
    pub(super) streams: StreamIndex,
    files: Vec<FileMap>,
}

impl Base {
    /// The maps of this backup.
    pub(crate) async fn load(
        repository: &Repository,
        database: &Database,
        manifest: &Manifest,
        context: &Context,
    ) -> Result<Self> {
        let state = repository.database_state(database);
        let backup = manifest.header.backup.clone();
        if let Some((packs, files)) = load_cache(&state, manifest) {
            let streams = StreamIndex::load(repository, database, manifest, &packs, context).await?;
            return Ok(Self { backup, packs, streams, files });
        }
        let packs = PackTable::from_packs(
            manifest.header.packs.iter().zip(&manifest.body.pack_use).map(|((id, size), r#use)| PackInfo {
                id: id.clone(),
                size: *size,
                r#use: *r#use,
            }),
        );
        let mut files = Vec::new();
        for entry in &manifest.body.files {
            let FileEntry::Pages { length, page_size, head, .. } = entry else { continue };
            if files.is_empty() {
                context.note(format!("reading the page map of backup {backup} from the repository"));
            }
            let (records, leaves, branches) = fetch(repository, database, manifest, entry, &packs, context).await?;
            files.push(FileMap {
                name: entry.name().to_owned(),
                page_size: *page_size,
                head_length: u32::try_from(head.len()).unwrap_or(0),
                pages: page_count(*length, head.len(), *page_size).unwrap_or(0),
                records,
                leaves,
                branches,
            });
        }
        let streams = StreamIndex::load(repository, database, manifest, &packs, context).await?;
        Ok(Self { backup, packs, streams, files })
    }

    /// The map of the file that this specification continues, if there is one.
    pub(crate) fn take(&mut self, spec: &PageFileSpec) -> Option<FileMap> {
        let fits =
            |m: &FileMap| m.name == spec.name && m.page_size == spec.page_size && m.head_length == spec.head_length;
        let at = self.files.iter().position(fits)?;
        Some(self.files.swap_remove(at))
    }

    pub(crate) fn give_back(&mut self, map: FileMap) {
        self.files.push(map);
    }
}

/// Records, leaves and branches of a page file, from the repository.
async fn fetch(
    repository: &Repository,
    database: &Database,
    manifest: &Manifest,
    entry: &FileEntry,
    packs: &PackTable,
    context: &Context,
) -> Result<(Records, Vec<LocalRef>, Vec<LocalRef>)> {
    let local = |e| RepositoryError::local("the page map cannot be written to a scratch file", e);
    let unlisted = || {
        let path = crate::layout::backup(&database.name, &manifest.header.backup);
        RepositoryError::damage(&path, "refers to a pack that it does not list")
    };
    let mut records = Records::over(repository.database_state(database).scratch().map_err(local)?);
    let mut leaves = Vec::new();
    let source = FrameSource::new(repository, database);
    let mut walk = MapWalk::new(&source, &manifest.header.packs, entry);
    while let Some((place, leaf)) = walk.next().await? {
        context.cancel.check()?;
        leaves.push(LocalRef::from_ref(&place, packs).ok_or_else(unlisted)?);
        let frames: Option<Vec<LocalRef>> = leaf.frames.iter().map(|r| LocalRef::from_ref(r, packs)).collect();
        let frames = frames.ok_or_else(unlisted)?;
        for (page, e) in (leaf.first_page..).zip(&leaf.entries) {
            let at = frames.get(e.frame as usize).ok_or_else(unlisted)?;
            let LocalRef { pack, frame, offset, length } = *at;
            let record = Record { pack, frame, offset, length, slot: e.slot, digest: e.digest };
            records.set(page, &record).map_err(local)?;
        }
    }
    let branches: Option<Vec<_>> = entry.branches().iter().map(|r| LocalRef::from_ref(r, packs)).collect();
    Ok((records, leaves, branches.ok_or_else(unlisted)?))
}

#[derive(Serialize, Deserialize)]
struct CachedFile {
    name: String,
    page_size: u32,
    head_length: u32,
    pages: u64,
    leaves: Vec<LocalRef>,
    branches: Vec<LocalRef>,
    records: String,
    records_hash: String,
}

#[derive(Serialize, Deserialize)]
struct CacheIndex {
    backup: BackupId,
    manifest_hash: String,
    /// The packs as the records number them; some may not be used any more.
    packs: Vec<PackInfo>,
    files: Vec<CachedFile>,
}

/// The index with a checksum in front, so that a torn or edited cache is noticed.
#[derive(Serialize, Deserialize)]
struct Checked {
    checksum: String,
    index: String,
}

fn hash_file(file: &mut File) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize().to_hex().to_string()),
            n => hasher.update(buffer.get(..n).unwrap_or_default()),
        };
    }
}

fn load_cache(state: &DatabaseState, manifest: &Manifest) -> Option<(PackTable, Vec<FileMap>)> {
    let checked: Checked = state.read(INDEX)?;
    if blake3::hash(checked.index.as_bytes()).to_hex().to_string() != checked.checksum {
        return None;
    }
    let index: CacheIndex = serde_json::from_str(&checked.index).ok()?;
    if index.backup != manifest.header.backup || index.manifest_hash != manifest.hash {
        return None;
    }
    let mut files = Vec::new();
    for cached in index.files {
        if cached.leaves.len() as u64 != cached.pages.div_ceil(FANOUT as u64) {
            return None;
        }
        let mut file = File::open(state.file(&cached.records)?).ok()?;
        if hash_file(&mut file).ok()? != cached.records_hash {
            return None;
        }
        files.push(FileMap {
            name: cached.name,
            page_size: cached.page_size,
            head_length: cached.head_length,
            pages: cached.pages,
            records: Records::over(file),
            leaves: cached.leaves,
            branches: cached.branches,
        });
    }
    Some((PackTable::from_packs(index.packs), files))
}

/// So many packs that nobody uses any more are carried along; with more the cache is dropped and made anew.
const MANY_UNUSED: usize = 4096;

/// Keeps the maps of a backup that was just committed, in the place of those of earlier ones.
pub(crate) fn save_cache(
    state: &DatabaseState,
    backup: &BackupId,
    manifest_hash: &str,
    packs: &PackTable,
    maps: Vec<FileMap>,
) {
    let save = || -> io::Result<()> {
        if packs.iter().filter(|p| p.r#use.used_bytes == 0).count() > MANY_UNUSED {
            return remove_others(state, &[]);
        }
        let mut files = Vec::new();
        for (i, map) in maps.into_iter().enumerate() {
            let records = format!("{backup}-{i}.records");
            let Some(path) = state.file(&records) else { return Ok(()) };
            let mut scratch = map.records.finish(map.pages)?;
            let records_hash = copy(&mut scratch, &path)?;
            let FileMap { name, page_size, head_length, pages, leaves, branches, .. } = map;
            files.push(CachedFile { name, page_size, head_length, pages, leaves, branches, records, records_hash });
        }
        let keep: Vec<String> = files.iter().map(|f| f.records.clone()).collect();
        let index = CacheIndex {
            backup: backup.clone(),
            manifest_hash: manifest_hash.into(),
            packs: packs.iter().cloned().collect(),
            files,
        };
        let index = serde_json::to_string(&index)?;
        state.write(INDEX, &Checked { checksum: blake3::hash(index.as_bytes()).to_hex().to_string(), index });
        remove_others(state, &keep)
    };
    if let Err(error) = save() {
        tracing::debug!(%error, "the page map could not be cached");
    }
}

/// Copies a scratch file to a name of its own; returns the hash of what was copied.
fn copy(from: &mut File, to: &Path) -> io::Result<String> {
    use std::io::Seek;
    from.rewind()?;
    let folder = to.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        let n = from.read(&mut buffer)?;
        let Some(bytes) = buffer.get(..n).filter(|b| !b.is_empty()) else { break };
        hasher.update(bytes);
        file.write_all(bytes)?;
    }
    file.persist(to).map_err(|e| e.error)?;
    Ok(hasher.finalize().to_hex().to_string())
}

fn remove_others(state: &DatabaseState, keep: &[String]) -> io::Result<()> {
    let Some(folder) = state.file(INDEX).and_then(|p| p.parent().map(Path::to_path_buf)) else { return Ok(()) };
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name();
        let Some(name) = name.to_str().filter(|n| n.ends_with(".records")) else { continue };
        if !keep.iter().any(|k| k == name)
            && let Some(path) = state.file(name)
        {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}
