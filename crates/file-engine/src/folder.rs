//! Where the snapshots of a database lie, and how their files are called.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use copal_core::{Context, EngineError, EngineErrorKind, EngineResult, SnapshotId, Source};
use copal_storage::local_file::{FileTarget, FolderLock, fsync_folder};

use crate::{io_failed, storage_failed};

/// How long another call for the same database is waited for.
pub(crate) const WAIT: Duration = Duration::from_secs(5);
/// Bytes of a database's name that its snapshots' names have, where they share a folder with others.
const STEM_BYTES: usize = 100;
/// A longer extension is not kept.
const EXTENSION_BYTES: usize = 32;
/// What a file is called whose database has no extension, or one that would be in the way.
const DEFAULT_EXTENSION: &str = "db";
/// Links that are followed to a file that is gone.
const LINKS: usize = 40;

/// The folder with one database's snapshots.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    /// The database; it may be gone.
    pub(crate) database: FileTarget,
    /// What leads to it: the name that was given, or the real one where that leads nowhere.
    pub(crate) source: Source,
    /// The folder itself, which need not be there yet.
    pub(crate) path: PathBuf,
    /// Whether snapshots of other databases, and other files, may lie there, too.
    is_shared: bool,
    prefix: String,
    extension: String,
}

impl Folder {
    /// The folder of the database that `source` names: beside it, or the one that was chosen.
    pub(crate) fn find(source: &Source, chosen: Option<&Path>) -> EngineResult<Self> {
        let given = source.file_path();
        let (database, source) = match FileTarget::resolve(&given) {
            Ok(found) => (found, source.clone()),
            Err(error) => match gone_behind(&given) {
                Some(real) => (FileTarget::resolve(&real).map_err(storage_failed)?, Source::path(&real)),
                None => return Err(storage_failed(error)),
            },
        };
        let name = Path::new(&database.name);
        let stem = name.file_stem().unwrap_or_default().to_string_lossy();
        let extension = name.extension().unwrap_or_default().to_string_lossy();
        let is_usable = (1..=EXTENSION_BYTES).contains(&extension.len())
            && !extension.eq_ignore_ascii_case("json")
            && !extension.contains('?');
        let extension = if is_usable { extension.into_owned() } else { DEFAULT_EXTENSION.to_owned() };
        let (path, prefix) = match chosen {
            Some(chosen) => (chosen.to_owned(), format!("{}-", beginning(&plain(&stem), STEM_BYTES))),
            None => (database.folder.join(".copal").join("snapshots").join(plain(&database.name)), String::new()),
        };
        Ok(Self { is_shared: chosen.is_some(), path, prefix, extension, source, database })
    }

    /// The database's file as the system knows it now.
    pub(crate) fn metadata(&self) -> EngineResult<Option<Metadata>> {
        self.database.metadata().map_err(storage_failed)
    }

    /// Makes the folder, and one that git passes over around it.
    pub(crate) fn make(&self) -> EngineResult<()> {
        if self.path.is_dir() {
            return Ok(());
        }
        if let (false, Some(snapshots)) = (self.is_shared, self.path.parent()) {
            let around = self.database.folder.join(".copal");
            // The inner folder comes last, so whoever is killed in between leaves this to the next one.
            if !snapshots.is_dir() {
                self.make_one(&around)?;
                let ignore = around.join(".gitignore");
                if !ignore.exists() {
                    std::fs::write(&ignore, "*\n").map_err(|e| io_failed("write", &ignore, e))?;
                    self.give_to_owner(&ignore);
                }
                self.make_one(snapshots)?;
            }
            return self.make_one(&self.path);
        }
        std::fs::create_dir_all(&self.path).map_err(|e| io_failed("make", &self.path, e))?;
        self.path.parent().map_or(Ok(()), |around| fsync_folder(around).map_err(storage_failed))
    }

    fn make_one(&self, path: &Path) -> EngineResult<()> {
        match std::fs::create_dir(path) {
            Ok(()) => self.give_to_owner(path),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => return Ok(()),
            Err(e) => return Err(io_failed("make", path, e)),
        }
        path.parent().map_or(Ok(()), |around| fsync_folder(around).map_err(storage_failed))
    }

    /// What root makes for somebody's database is that somebody's, if that can be.
    fn give_to_owner(&self, path: &Path) {
        if let Ok(owner) = std::fs::metadata(&self.database.folder) {
            let _ = std::os::unix::fs::chown(path, Some(owner.uid()), Some(owner.gid()));
        }
    }

    /// Keeps other calls out of the folder until it is dropped.
    pub(crate) fn lock(&self, context: &Context) -> EngineResult<FolderLock> {
        let taken = FolderLock::take(&self.path, WAIT, || !context.cancel.is_cancelled());
        context.cancel.check()?;
        taken.ok_or_else(|| {
            let message = format!("another process works with the snapshots of {}", self.database.path.display());
            EngineError::new(EngineErrorKind::Busy, message).hint("try again when it is done")
        })
    }

    /// What the names of a snapshot's files begin with.
    pub(crate) fn stem(&self, id: &SnapshotId, label: Option<&str>) -> String {
        let label = label.map(|label| format!("-{label}")).unwrap_or_default();
        format!("{}{id}{label}", self.prefix)
    }

    /// The id in such a name.
    pub(crate) fn id_in(&self, stem: &str) -> Option<SnapshotId> {
        let (id, rest) = stem.strip_prefix(&self.prefix)?.split_at_checked(21)?;
        let is_sound = rest.is_empty() || rest.strip_prefix('-').is_some_and(is_label);
        if is_sound { id.parse().ok() } else { None }
    }

    /// The main file of the snapshot with this beginning.
    pub(crate) fn main(&self, stem: &str) -> PathBuf {
        self.path.join(format!("{stem}.{}", self.extension))
    }

    /// The description of the snapshot with this beginning.
    pub(crate) fn description(&self, stem: &str) -> PathBuf {
        self.path.join(format!("{stem}.json"))
    }

    /// How a description names this database.
    pub(crate) fn database_name(&self) -> String {
        self.database.path.to_string_lossy().into_owned()
    }

    /// Whether a description that names `database` is of this one. Beside the database its own name must do: the folder
    /// around both may have been moved.
    pub(crate) fn is_of(&self, database: &str) -> bool {
        match self.is_shared {
            true => database == self.database_name(),
            false => Path::new(database).file_name().and_then(|name| name.to_str()) == Some(&self.database.name),
        }
    }
}

/// Whether a label may stand in a file's name.
pub(crate) fn is_label(label: &str) -> bool {
    (1..=64).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

/// DuckDB puts a suffix before the first `?` of a path.
fn plain(name: &str) -> String {
    name.replace('?', "%3F")
}

fn beginning(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

/// Where a link leads whose file is gone.
fn gone_behind(link: &Path) -> Option<PathBuf> {
    let mut path = link.to_owned();
    for _ in 0..LINKS {
        match std::fs::read_link(&path) {
            Ok(next) => path = path.parent()?.join(next),
            Err(_) if path == link => return None,
            Err(_) => return Some(path),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str, chosen: Option<&Path>) -> (tempfile::TempDir, Folder) {
        let dir = tempfile::tempdir().unwrap();
        let source = Source::path(&dir.path().join(name));
        let folder = Folder::find(&source, chosen).unwrap();
        (dir, folder)
    }

    #[test]
    fn names_of_files() {
        let id: SnapshotId = "20261120-153000Z-7f3a".parse().unwrap();
        let chosen = Path::new("/x");
        let long = "ä".repeat(100);
        for (name, chosen, label, file) in [
            ("a 'b\".db", None, None, "20261120-153000Z-7f3a.db".to_owned()),
            ("ü.sqlite3", Some(chosen), Some("pre-migrate"), "ü-20261120-153000Z-7f3a-pre-migrate.sqlite3".to_owned()),
            ("app.json", None, None, "20261120-153000Z-7f3a.db".to_owned()),
            ("noextension", Some(chosen), None, "noextension-20261120-153000Z-7f3a.db".to_owned()),
            ("a?b.d?b", Some(chosen), None, "a%3Fb-20261120-153000Z-7f3a.db".to_owned()),
            (&long, Some(chosen), None, format!("{}-20261120-153000Z-7f3a.db", "ä".repeat(50))),
        ] {
            let (_dir, folder) = folder(name, chosen);
            let stem = folder.stem(&id, label);
            assert_eq!(folder.main(&stem).file_name().unwrap().to_str(), Some(&*file), "{name}");
            assert_eq!(folder.id_in(&stem), Some(id.clone()));
        }
    }

    #[test]
    fn strange_names_have_no_id() {
        let (_dir, folder) = folder("app.db", None);
        let strange =
            ["", "20261120-153000Z-7f3", "20261120-153000Z-7f3ax", "20261120-153000Z-7f3a-", "x-20261120-153000Z-7f3a"];
        for stem in strange.into_iter().chain([
            "20261120-153000Z-7f3a-a b",
            "20261120-153000Z-7f3a-../x",
            "ä",
            "20261120-153000Z-7f3ä",
        ]) {
            assert_eq!(folder.id_in(stem), None, "{stem}");
        }
    }

    #[test]
    fn a_link_whose_file_is_gone_still_leads_to_its_snapshots() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap().join("real.db");
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        std::os::unix::fs::symlink("real.db", &one).unwrap();
        std::os::unix::fs::symlink(&one, &two).unwrap();
        assert_eq!(Folder::find(&Source::path(&two), None).unwrap().database.path, real);
        std::fs::write(&real, b"").unwrap();
        assert_eq!(Folder::find(&Source::path(&two), None).unwrap().database.path, real);
    }
}
