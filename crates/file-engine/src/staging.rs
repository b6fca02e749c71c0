//! The folder in which a snapshot is made, inside the one where it will lie; and a sink that writes files there.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use copal_core::{AnyError, EngineResult, FileHandle, PageFileSpec, Sink, SnapshotId};

use crate::io_failed;

/// What separates the id from random digits in a staging folder's name, which begins with a dot.
const MARK: &str = ".copal~";
/// Bytes that are written at once: for larger pieces a kernel looks for large pieces of memory, which costs more than it saves
/// where there are few (measured: two thirds of the time of 1 MiB).
pub(crate) const PIECE: usize = 64 * 1024;

/// A private folder, removed with all that is in it when dropped.
#[derive(Debug)]
pub(crate) struct Staging {
    pub(crate) path: PathBuf,
}

impl Staging {
    /// Makes one for the snapshot `id` in `folder`.
    pub(crate) fn make(folder: &Path, id: &SnapshotId) -> EngineResult<Self> {
        let path = folder.join(format!(".{id}{MARK}{:016x}", rand::random::<u64>()));
        DirBuilder::new().mode(0o700).create(&path).map_err(|e| io_failed("make", &path, e))?;
        Ok(Self { path })
    }

    /// The snapshot whose staging folder has this name.
    pub(crate) fn id_in(name: &str) -> Option<SnapshotId> {
        let (id, random) = name.strip_prefix('.')?.split_once(MARK)?;
        let is_random = random.len() == 16 && random.bytes().all(|b| b.is_ascii_hexdigit());
        if is_random { id.parse().ok() } else { None }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Best effort: what stays behind is removed by the next call.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Writes what an engine captures to plain files.
#[derive(Debug)]
pub(crate) struct FileSink<'a> {
    folder: &'a Path,
    files: Vec<(File, PageFileSpec)>,
    failure: Option<io::Error>,
}

impl<'a> FileSink<'a> {
    pub(crate) fn new(folder: &'a Path) -> Self {
        Self { folder, files: Vec::new(), failure: None }
    }

    /// The first error of writing, if there was one.
    pub(crate) fn into_failure(self) -> Option<io::Error> {
        self.failure
    }

    fn with<T>(
        &mut self,
        file: FileHandle,
        act: impl FnOnce(&File, &PageFileSpec) -> io::Result<T>,
    ) -> Result<T, AnyError> {
        let Some((file, spec)) = self.files.get(file.0 as usize) else { return Err("no such file".into()) };
        act(file, spec).map_err(|error| {
            let told = error.to_string();
            self.failure.get_or_insert(error);
            told.into()
        })
    }
}

impl Sink for FileSink<'_> {
    fn begin(&mut self, spec: &PageFileSpec) -> Result<FileHandle, AnyError> {
        let path = self.folder.join(&spec.name);
        // One that was withdrawn may be begun again.
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(path);
        let handle = FileHandle(u32::try_from(self.files.len())?);
        match opened {
            Ok(file) => self.files.push((file, spec.clone())),
            Err(error) => {
                let told = error.to_string();
                self.failure.get_or_insert(error);
                return Err(told.into());
            }
        }
        Ok(handle)
    }

    fn pages(&mut self, file: FileHandle, first: u64, bytes: &[u8]) -> Result<(), AnyError> {
        self.with(file, |file, spec| {
            let mut at = u64::from(spec.head_length) + first * u64::from(spec.page_size);
            for piece in bytes.chunks(PIECE) {
                file.write_all_at(piece, at)?;
                at += piece.len() as u64;
            }
            Ok(())
        })
    }

    fn finish(&mut self, file: FileHandle, length: u64, head: &[u8]) -> Result<(), AnyError> {
        self.with(file, |file, _| {
            file.write_all_at(head, 0)?;
            file.set_len(length)
        })
    }

    fn withdraw(&mut self, file: FileHandle) -> Result<(), AnyError> {
        let folder = self.folder;
        self.with(file, |_, spec| std::fs::remove_file(folder.join(&spec.name)))
    }
}
