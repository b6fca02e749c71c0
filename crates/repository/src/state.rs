//! What this machine remembers: caches that save time, and memory that finds rollbacks. Losing it costs no correctness.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use copal_core::{BackupId, DatabaseId, Follows, PackId, RepositoryId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

const DAMAGED_PACKS: &str = "damaged-packs.json";
const JOURNAL_END: &str = "journal-end.json";

/// The local state folder; without one nothing is remembered.
#[derive(Clone, Debug, Default)]
pub struct StateFolder(Option<PathBuf>);

/// What is remembered about a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KnownRepository {
    pub(crate) repository: RepositoryId,
    pub(crate) encryption: String,
}

/// The newest backup of a database that this machine has seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KnownNewest {
    pub(crate) backup: BackupId,
    pub(crate) manifest_hash: String,
}

/// The newest segment of a journal that this machine has seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KnownEnd {
    pub(crate) segment: BackupId,
    pub(crate) end: Follows,
}

impl StateFolder {
    /// Remembers in this folder, which is created when needed.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(Some(path.into()))
    }

    /// Remembers nothing.
    pub fn none() -> Self {
        Self(None)
    }

    fn known_path(&self, key: &str) -> Option<PathBuf> {
        let name = blake3::hash(key.as_bytes()).to_hex();
        Some(self.0.as_ref()?.join("known").join(format!("{}.json", name.get(..32)?)))
    }

    /// What is remembered under a repository's URL or id.
    pub(crate) fn known(&self, key: &str) -> Option<KnownRepository> {
        read_json(&self.known_path(key)?)
    }

    /// Remembers a repository under its URL and id.
    pub(crate) fn remember(&self, url: &str, known: &KnownRepository) {
        for key in [url, &known.repository.to_string()] {
            if let Some(path) = self.known_path(key).filter(|_| self.known(key).as_ref() != Some(known)) {
                forgive(write_json(&path, known), &path);
            }
        }
    }

    /// Forgets a repository that is gone, under its URL and id.
    pub fn forget(&self, url: &str, gone: &RepositoryId) {
        for key in [url, &gone.to_string()] {
            // Another one may have taken its place meanwhile.
            let is_it = self.known(key).is_some_and(|known| known.repository == *gone);
            let Some(path) = self.known_path(key).filter(|_| is_it) else { continue };
            forgive(fs::remove_file(&path), &path);
            if let Some(folder) = path.parent() {
                // It stays if it has more in it.
                let _ = fs::remove_dir(folder);
            }
        }
    }

    /// The folder of one database.
    pub(crate) fn database(&self, repository: &RepositoryId, database: &DatabaseId) -> DatabaseState {
        let folder = self.0.as_ref().map(|root| root.join("repositories").join(repository.to_string()));
        DatabaseState(folder.map(|f| f.join(database.to_string())))
    }
}

/// What this machine remembers about one database of one repository.
#[derive(Clone, Debug)]
pub(crate) struct DatabaseState(Option<PathBuf>);

impl DatabaseState {
    /// The path of a file in it, its folder created; `None` if nothing can be remembered.
    pub(crate) fn file(&self, name: &str) -> Option<PathBuf> {
        let folder = self.0.as_ref()?;
        create_private_folder(folder).ok()?;
        Some(folder.join(name))
    }

    /// A scratch file without a name, in the state folder where there is one, else in the temporary folder.
    pub(crate) fn scratch(&self) -> io::Result<fs::File> {
        if let Some(folder) = &self.0
            && let Ok(file) = create_private_folder(folder).and_then(|()| tempfile::tempfile_in(folder))
        {
            return Ok(file);
        }
        tempfile::tempfile()
    }

    pub(crate) fn newest(&self) -> Option<KnownNewest> {
        read_json(&self.0.as_ref()?.join("newest.json"))
    }

    pub(crate) fn remember_newest(&self, newest: &KnownNewest) {
        if let Some(path) = self.file("newest.json") {
            forgive(write_json(&path, newest), &path);
        }
    }

    pub(crate) fn journal_end(&self) -> Option<KnownEnd> {
        self.read(JOURNAL_END)
    }

    pub(crate) fn remember_journal_end(&self, end: &KnownEnd) {
        self.write(JOURNAL_END, end);
    }

    /// Packs that a verification on this machine found damaged; new backups share nothing with them.
    pub(crate) fn damaged_packs(&self) -> HashSet<PackId> {
        self.read(DAMAGED_PACKS).unwrap_or_default()
    }

    pub(crate) fn remember_damaged_packs(&self, packs: impl IntoIterator<Item = PackId>) {
        let mut known = self.damaged_packs();
        let before = known.len();
        known.extend(packs);
        if known.len() > before {
            self.write(DAMAGED_PACKS, &known);
        }
    }

    pub(crate) fn read<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        read_json(&self.0.as_ref()?.join(name))
    }

    pub(crate) fn write<T: Serialize>(&self, name: &str, value: &T) {
        if let Some(path) = self.file(name) {
            forgive(write_json(&path, value), &path);
        }
    }
}

fn create_private_folder(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

fn write_json<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    create_private_folder(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(&serde_json::to_vec(value)?)?;
    file.persist(path).map_err(|e| e.error)?;
    Ok(())
}

/// Caches may fail; that is worth a line in the log, not an error.
fn forgive(result: io::Result<()>, path: &Path) {
    if let Err(error) = result {
        tracing::debug!(%error, path = %path.display(), "the local state could not be written");
    }
}
