//! A snapshot's files, as a restore takes them.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use copal_core::{AnyError, Content, Context, EngineResult, FileEntry, WriteAt};

use crate::description::Found;
use crate::folder::Folder;
use crate::staging::PIECE;
use crate::{FileEngine, io_failed};

/// The smallest that a page file may have; nobody asks.
const PAGE: u32 = 4096;

/// Plain files under the names that they have in a backup.
#[derive(Debug)]
pub(crate) struct PlainFiles {
    entries: Vec<FileEntry>,
    paths: Vec<PathBuf>,
}

impl PlainFiles {
    /// The files of a snapshot.
    pub(crate) fn of(found: &Found, folder: &Folder, engine: &impl FileEngine) -> EngineResult<Self> {
        let paths = found.files(folder, engine);
        let suffixes = std::iter::once("").chain(found.description.parts.iter().map(String::as_str));
        let mut entries = Vec::new();
        for (path, suffix) in paths.iter().zip(suffixes) {
            entries.push(FileEntry::Pages {
                name: format!("{}{suffix}", engine.main_file()),
                length: path.metadata().map_err(|e| io_failed("look at", path, e))?.len(),
                page_size: PAGE,
                head: Vec::new(),
                digest: [0; 32],
                branches: Vec::new(),
            });
        }
        Ok(Self { entries, paths })
    }

    /// The length of all.
    pub(crate) fn bytes(&self) -> u64 {
        self.entries.iter().map(FileEntry::length).sum()
    }

    fn path(&self, name: &str) -> Result<&Path, AnyError> {
        let found = self.entries.iter().zip(&self.paths).find(|(entry, _)| entry.name() == name);
        found.map(|(_, path)| path.as_path()).ok_or_else(|| format!("the snapshot has no {name}").into())
    }
}

impl Content for PlainFiles {
    fn files(&self) -> &[FileEntry] {
        &self.entries
    }

    fn write_file(&self, name: &str, out: &dyn WriteAt, context: &Context) -> Result<(), AnyError> {
        let path = self.path(name)?;
        if out.reflink(path)? {
            return Ok(());
        }
        let file = File::open(path)?;
        let mut buffer = vec![0; PIECE];
        let mut at = 0;
        loop {
            context.cancel.check()?;
            let read = file.read_at(&mut buffer, at)?;
            let Some(run) = buffer.get(..read).filter(|run| !run.is_empty()) else { return Ok(()) };
            out.write_at(at, run)?;
            context.advance(read as u64);
            at += read as u64;
        }
    }
}
