//! What a database takes in the repository.

use copal_core::FolderName;
use copal_repository::Repository;
use copal_storage::ObjectPath;

use super::Copal;
use crate::{CopalError, ErrorKind, Result};

impl Copal {
    /// The bytes of all packs, manifests and segments of a database; of a server that is configured as a whole, of all its databases.
    /// Cheap: one listing a database, nothing is read. Zero for a configured database without backups.
    ///
    /// Errors: `NotFound` for a name that nobody knows, and without a repository.
    pub async fn stored_bytes(&self, database: &str) -> Result<u64> {
        let repository = self.repository().await?;
        let name = self.named(database);
        if !self.settings.databases.contains_key(name) {
            return bytes_in(repository, &self.found(repository, database).await?.database.name).await;
        }
        let folder = FolderName::nearest(name, 64);
        let mut bytes = bytes_in(repository, &folder).await?;
        if self.is_whole_server(name) {
            let start = format!("{folder}.");
            let stored = repository.database_names().await?;
            for member in stored.iter().filter(|stored| stored.as_str().starts_with(&start)) {
                bytes = bytes.saturating_add(bytes_in(repository, member).await?);
            }
        }
        Ok(bytes)
    }
}

async fn bytes_in(repository: &Repository, folder: &FolderName) -> Result<u64> {
    let path = |text: String| {
        let invalid = |e| CopalError::new(ErrorKind::Failed, format!("{text} cannot be listed")).because(e);
        ObjectPath::parse(&text).map_err(invalid)
    };
    let objects = repository.storage().list(&path(format!("databases/{folder}"))?).await?;
    let counted = ["packs", "backups", "journal"].map(|kind| format!("databases/{folder}/{kind}/"));
    let is_counted = |path: &ObjectPath| counted.iter().any(|start| path.as_str().starts_with(start));
    Ok(objects.iter().filter(|object| is_counted(&object.path)).map(|object| object.size).sum())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::{BackupOptions, Context, Copal, DatabaseSettings, ErrorKind, InitOptions, Settings};

    fn bytes_below(folder: &Path) -> u64 {
        let size = |entry: std::fs::DirEntry| match entry.metadata().unwrap() {
            data if data.is_dir() => bytes_below(&entry.path()),
            data => data.len(),
        };
        std::fs::read_dir(folder).unwrap().map(|entry| size(entry.unwrap())).sum()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn packs_and_manifests_count() {
        let home = tempfile::tempdir().unwrap();
        let (repository, file) = (home.path().join("repository"), home.path().join("shop.db"));
        let db = rusqlite::Connection::open(&file).unwrap();
        db.execute_batch("CREATE TABLE t (body BLOB); INSERT INTO t VALUES (randomblob(300000))").unwrap();
        let database = || DatabaseSettings { url: file.to_str().unwrap().into(), ..DatabaseSettings::default() };
        let mut settings = Settings::new(repository.to_str().unwrap());
        settings.databases = [("Shop".to_owned(), database()), ("empty".to_owned(), database())].into();
        let copal = Copal::new(settings);
        assert_eq!(copal.stored_bytes("Shop").await.unwrap_err().kind(), ErrorKind::NotFound);

        copal.init(InitOptions::default()).await.unwrap();
        assert_eq!(copal.stored_bytes("Shop").await.unwrap(), 0);
        for _ in 0..2 {
            copal.backup("Shop", BackupOptions::default(), &Context::silent()).await.unwrap();
            db.execute_batch("INSERT INTO t VALUES (randomblob(50000))").unwrap();
        }
        let folder = repository.join("databases/shop");
        let expected = bytes_below(&folder.join("packs")) + bytes_below(&folder.join("backups"));
        assert!(expected > 350_000);
        assert_eq!(copal.stored_bytes("Shop").await.unwrap(), expected);
        assert_eq!(copal.stored_bytes("shop").await.unwrap(), expected);
        assert_eq!(copal.stored_bytes("empty").await.unwrap(), 0);
        assert_eq!(copal.stored_bytes("nobody").await.unwrap_err().kind(), ErrorKind::NotFound);
    }
}
