//! Opening a database whose record is lost, for reading: its manifests say which id they are sealed for.

use std::collections::BTreeMap;

use copal_core::{BackupId, DatabaseId, DatabaseRecord, FolderName, ManifestHeader};

use crate::catalog::Database;
use crate::document::Document;
use crate::error::{RepositoryError, Result, is_absent};
use crate::layout;
use crate::repository::Repository;

impl Repository {
    /// Opens a database for listing, verifying and restoring although its record is damaged, missing or another
    /// database's: with the id that most of its manifests authenticate for. `None` if none does. Nothing is written;
    /// whoever calls this reports the damage of the record, which [`Repository::database`] or a listing has named.
    pub async fn salvage_database(&self, name: &FolderName) -> Result<Option<Database>> {
        let catalog = self.catalog(name).await?;
        let mut found: BTreeMap<DatabaseId, (usize, DatabaseRecord)> = BTreeMap::new();
        for id in catalog.backups.keys() {
            match self.record_of_manifest(name, id).await {
                Ok((database, record)) => {
                    let entry = found.entry(database).or_insert((0, record.clone()));
                    *entry = (entry.0 + 1, record);
                }
                Err(error) if error.is_damage() => {}
                Err(error) => return Err(error),
            }
        }
        let most = found.into_iter().max_by_key(|(_, (count, _))| *count);
        Ok(most.map(|(id, (_, record))| Database { name: name.clone(), id, record }))
    }

    async fn record_of_manifest(&self, name: &FolderName, id: &BackupId) -> Result<(DatabaseId, DatabaseRecord)> {
        let path = layout::backup(name, id);
        let bytes = match self.storage.get(&path).await {
            Ok(bytes) => bytes,
            Err(e) if is_absent(&e) => return Err(RepositoryError::damage(&path, "is missing")),
            Err(e) => return Err(e.into()),
        };
        let header = Document::<ManifestHeader>::parse(&path, bytes)?.header;
        let unknown =
            DatabaseRecord { name: name.to_string(), source: String::new(), engine: String::new(), created: id.time() };
        let database = Database { name: name.clone(), id: header.database, record: unknown };
        // The whole check, as for any manifest: the id is worth nothing unless the seal is good.
        let body = self.manifest(&database, id).await?.body;
        let record = DatabaseRecord { name: body.name, source: body.source, engine: body.engine, ..database.record };
        Ok((database.id, record))
    }
}
