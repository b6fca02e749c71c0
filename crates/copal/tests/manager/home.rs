//! A folder with a repository, and databases beside it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use copal::{Context, Copal, InitOptions, PassphraseSource, RestoreOptions, Secret, Settings};
use rusqlite::Connection;
use tempfile::TempDir;

pub(crate) struct Home {
    pub(crate) folder: TempDir,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn settings(&self) -> Settings {
        settings(self.folder.path())
    }

    /// The use cases over a repository that exists, encrypted or not.
    pub(crate) async fn copal(&self, encrypt: bool) -> Copal {
        let mut settings = self.settings();
        if !encrypt {
            settings.passphrase = PassphraseSource::None;
        }
        let copal = Copal::new(settings);
        copal.init(InitOptions { encrypt, ..InitOptions::default() }).await.unwrap();
        copal
    }

    /// A database of so many rows.
    pub(crate) fn database(&self, name: &str, rows: u64) -> Connection {
        let db = Connection::open(self.path(name)).unwrap();
        db.busy_timeout(Duration::from_secs(30)).unwrap();
        db.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t (id INTEGER PRIMARY KEY, body BLOB)").unwrap();
        insert(&db, rows);
        db
    }

    /// The rows of the newest backup of a database file.
    pub(crate) async fn restored_rows(&self, copal: &Copal, database: &str) -> u64 {
        let to = self.path("restored.db");
        let _ = std::fs::remove_file(&to);
        let options = RestoreOptions { to: Some(to.to_str().unwrap().into()), ..RestoreOptions::default() };
        copal.restore(database, options, &Context::silent()).await.unwrap();
        rows(&Connection::open(&to).unwrap())
    }
}

pub(crate) fn settings(folder: &Path) -> Settings {
    let repository = folder.join("repository");
    Settings {
        state: Some(folder.join("state")),
        passphrase: PassphraseSource::Known(Secret::new("a passphrase")),
        ..Settings::new(repository.to_str().unwrap())
    }
}

pub(crate) fn insert(db: &Connection, rows: u64) {
    db.execute_batch("BEGIN IMMEDIATE").unwrap();
    for _ in 0..rows {
        db.execute("INSERT INTO t (body) VALUES (randomblob(200))", []).unwrap();
    }
    db.execute_batch("COMMIT").unwrap();
}

pub(crate) fn rows(db: &Connection) -> u64 {
    let count: u32 = db.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap();
    u64::from(count)
}

/// Waits until something is so, for as long as a slow machine may need.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(300), "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
