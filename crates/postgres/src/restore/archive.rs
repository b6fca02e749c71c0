//! The archive of a backup, as `pg_restore` wants it: a seekable file where several connections restore at once, a pipe
//! where there is no room for that.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use copal_core::{AnyError, Content, Context, EngineError, EngineErrorKind, EngineResult, FileEntry};
use copal_storage::local_file::{free_space, require_space};

use super::from_content;
use crate::temporary::TemporaryFolder;
use crate::{ARCHIVE, FOLDER};

/// Room that is left on the disk, in bytes.
const SPARE: u64 = 256 << 20;

/// Where the archive is.
pub(super) enum Archive {
    /// In a file or folder that goes when this is dropped.
    Staged { path: PathBuf, _folder: TemporaryFolder },
    /// In the repository only.
    Piped,
}

impl Archive {
    /// Puts the archive into the temporary folder if there is room, which is announced; a dump of several connections needs it.
    pub(super) fn stage(
        content: &dyn Content,
        temporary: Option<&Path>,
        jobs: usize,
        context: &Context,
    ) -> EngineResult<Self> {
        let parts: Vec<&FileEntry> = content.files().iter().filter(|file| file.name().starts_with(FOLDER)).collect();
        let whole = content.files().iter().find(|file| file.name() == ARCHIVE);
        let bytes: u64 = parts.iter().copied().chain(whole).map(FileEntry::length).sum();
        let place = temporary.map_or_else(std::env::temp_dir, Path::to_path_buf);
        let needed = bytes.saturating_add(SPARE);
        match whole {
            Some(_) if jobs < 2 => return Ok(Self::Piped),
            Some(_) if free_space(&place).is_ok_and(|free| free < needed) => {
                context.note(format!(
                    "not enough room in {} for parallel restoring; using one connection",
                    place.display()
                ));
                return Ok(Self::Piped);
            }
            None if parts.is_empty() => {
                return Err(EngineError::new(EngineErrorKind::Unsupported, "the backup has no PostgreSQL archive"));
            }
            _ => {}
        }
        require_space(&place, needed).map_err(|e| no_room(&place, bytes, e))?;
        context.phase("staging", Some(bytes));
        let failed = |e: std::io::Error| no_room(&place, bytes, e);
        let folder = TemporaryFolder::make(&place, "restore").map_err(failed)?;
        let path = folder.path().join("archive");
        if whole.is_some() {
            write(content, ARCHIVE, &path, bytes, context)?;
        } else {
            std::fs::create_dir(&path).map_err(failed)?;
            for part in parts {
                let name = part.name().strip_prefix(FOLDER).unwrap_or_default();
                // The repository refuses names with `..`; pg_dump's folders are flat.
                if name.is_empty() || name.contains('/') {
                    let message = format!("the backup has an unexpected file {:?}", part.name());
                    return Err(EngineError::new(EngineErrorKind::Corrupt, message));
                }
                write(content, part.name(), &path.join(name), bytes, context)?;
            }
        }
        Ok(Self::Staged { path, _folder: folder })
    }

    /// Lets `command` read the archive: as its last argument, or from a pipe that is filled meanwhile.
    pub(super) fn feed(
        &self,
        mut command: std::process::Command,
        content: &dyn Content,
        context: &Context,
        watch: &mut dyn FnMut(crate::programs::Running) -> EngineResult<()>,
    ) -> EngineResult<()> {
        if let Self::Staged { path, .. } = self {
            command.arg(path).stdin(Stdio::null());
            return watch(crate::programs::Running::start(command)?);
        }
        command.stdin(Stdio::piped());
        let mut running = crate::programs::Running::start(command)?;
        let input = running.input();
        std::thread::scope(|scope| {
            let writer = scope.spawn(move || match input {
                Some(mut input) => content.write_stream(ARCHIVE, &mut input, context).map_err(Wrote::of),
                None => Ok(()),
            });
            let watched = watch(running);
            let wrote = writer.join().unwrap_or(Ok(()));
            match (watched, wrote) {
                // The program ended early: its own reason is the better one.
                (Err(error), Err(Wrote::ClosedPipe)) => Err(error),
                // A pipe that breaks off early is the consequence of what the repository found.
                (_, Err(Wrote::Failed(error))) => Err(from_content(error, context)),
                (watched, _) => watched,
            }
        })
    }
}

enum Wrote {
    ClosedPipe,
    Failed(AnyError),
}

impl Wrote {
    fn of(error: AnyError) -> Self {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&*error);
        while let Some(at) = cause {
            if at.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe) {
                return Self::ClosedPipe;
            }
            cause = at.source();
        }
        Self::Failed(error)
    }
}

fn write(content: &dyn Content, name: &str, path: &Path, bytes: u64, context: &Context) -> EngineResult<()> {
    let mut file = std::io::BufWriter::with_capacity(1 << 20, File::create(path).map_err(|e| no_room(path, bytes, e))?);
    content.write_stream(name, &mut file, context).map_err(|e| from_content(e, context))?;
    file.flush().map_err(|e| no_room(path, bytes, e))
}

fn no_room(place: &Path, bytes: u64, error: impl Into<AnyError>) -> EngineError {
    let message = format!("the archive ({} MiB) could not be put into {}", bytes >> 20, place.display());
    EngineError::new(EngineErrorKind::NoSpace, message)
        .because(error)
        .hint("name a folder with more room: temporary under [postgres] in copal.toml, or TMPDIR")
}
