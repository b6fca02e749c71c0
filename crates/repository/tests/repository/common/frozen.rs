//! Repositories that lie in folders for ever, each plain and encrypted.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use copal_core::Secret;
use copal_repository::{Database, Repository, Unlock};
use copal_storage::{MemoryStorage, ObjectPath};
use serde_json::{Value, json};

pub const KINDS: [&str; 2] = ["plain", "encrypted"];
const PASSPHRASE: &str = "frozen fixture";

/// A frozen repository, opened in memory, and what `expected.json` says of its backups.
pub struct Frozen {
    pub repository: Repository,
    pub database: Database,
    pub backups: serde_json::Map<String, Value>,
    _state: tempfile::TempDir,
}

impl Frozen {
    /// Opens the one of this kind under `tests/fixtures/<name>`.
    pub async fn open(name: &str, kind: &str) -> Self {
        let folder: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../../tests/fixtures", name, kind].iter().collect();
        let mut expected: Value =
            serde_json::from_slice(&std::fs::read(folder.join("expected.json")).unwrap()).unwrap();
        let (memory, state) = (MemoryStorage::new(), tempfile::tempdir().unwrap());
        put_folder(&memory, &folder.join("repository"));
        let unlock = expected["passphrase"].as_str().map(|p| Unlock::Passphrase(Secret::new(p)));
        let options = super::options(&state);
        let repository = Repository::open(Arc::new(memory), unlock.as_ref(), options).await.unwrap();
        let database = repository.database(&"app".parse().unwrap()).await.unwrap().unwrap();
        let Value::Object(backups) = expected["backups"].take() else { panic!("no backups in {name}") };
        Self { repository, database, backups, _state: state }
    }
}

/// A repository that is to be frozen: made empty, filled by a test, written with what to expect of it.
pub struct Freezing {
    pub repository: Repository,
    pub database: Database,
    memory: MemoryStorage,
    kind: &'static str,
    _state: tempfile::TempDir,
}

impl Freezing {
    pub async fn create(kind: &'static str) -> Self {
        let (memory, state) = (MemoryStorage::new(), tempfile::tempdir().unwrap());
        let passphrase = (kind == "encrypted").then(|| Secret::new(PASSPHRASE));
        let (storage, options) = (Arc::new(memory.clone()), super::options(&state));
        let repository = Repository::create(storage, passphrase.as_ref(), &[], options).await.unwrap();
        let database = super::database(&repository, "app").await;
        Self { repository, database, memory, kind, _state: state }
    }

    /// Writes it, without its leases, to the folder of its kind.
    pub fn write(self, target: &Path, backups: &impl serde::Serialize) {
        let mut facts = json!({ "database": "app", "backups": backups });
        if self.kind == "encrypted" {
            facts["passphrase"] = PASSPHRASE.into();
        }
        let folder = target.join(self.kind);
        for (path, bytes) in self.memory.contents() {
            if !path.as_str().starts_with("leases/") {
                let file = folder.join("repository").join(path.as_str());
                std::fs::create_dir_all(file.parent().unwrap()).unwrap();
                std::fs::write(file, &bytes).unwrap();
            }
        }
        let text = serde_json::to_string_pretty(&facts).unwrap() + "\n";
        std::fs::write(folder.join("expected.json"), text).unwrap();
    }
}

/// Where the fixture is to be written, if that was asked for.
pub fn target() -> Option<PathBuf> {
    std::env::var_os("COPAL_WRITE_FIXTURE").map(PathBuf::from)
}

/// Puts a repository from a folder into memory.
fn put_folder(memory: &MemoryStorage, root: &Path) {
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else {
                let name = entry.strip_prefix(root).unwrap().to_str().unwrap();
                memory.put(&ObjectPath::parse(name).unwrap(), std::fs::read(&entry).unwrap());
            }
        }
    }
}

pub fn digest(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}
