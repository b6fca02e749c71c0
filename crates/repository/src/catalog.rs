//! What is in a repository: databases, their backups, marks and tombstones.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use copal_core::{
    BackupId, DatabaseId, DatabaseRecord, FORMAT_VERSION, FolderName, Follows, ManifestBody, ManifestHeader,
};
use copal_storage::{ObjectInfo, ObjectPath, StorageErrorKind};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::document::{self, Document};
use crate::error::{OtherDatabase, RepositoryError, RepositoryErrorKind, Result, is_absent};
use crate::frame::Kind;
use crate::layout::{self, Mark};
use crate::repository::Repository;
use crate::state::DatabaseState;

/// A database of a repository.
#[derive(Clone, Debug)]
pub struct Database {
    /// Its folder name.
    pub name: FolderName,
    /// Its id, which seals bind.
    pub id: DatabaseId,
    /// Its record.
    pub record: DatabaseRecord,
}

#[derive(Serialize, Deserialize)]
struct RecordHeader {
    format: u32,
    database: DatabaseId,
}

/// A manifest, authenticated.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// The clear header.
    pub header: ManifestHeader,
    /// The sealed body.
    pub body: ManifestBody,
    pub(crate) hash: String,
}

impl Manifest {
    /// The state that its backup saved, for the first segment after it.
    pub fn end(&self) -> Follows {
        Follows { base: self.header.backup.clone(), sequence: 0, hash: self.hash.clone() }
    }
}

/// The objects of one database, as one listing told them.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// Manifests by id, with their sizes.
    pub backups: BTreeMap<BackupId, ObjectInfo>,
    /// Cancelled or pruned backups, with the time of their tombstone by the store's clock.
    pub tombstones: BTreeMap<BackupId, Timestamp>,
    /// Marks that stand beside backups that exist.
    pub pinned: BTreeSet<BackupId>,
    /// Likewise.
    pub verified: BTreeSet<BackupId>,
    /// Segments of all journals by id, with their sizes.
    pub segments: BTreeMap<BackupId, ObjectInfo>,
    pub(crate) segment_tombstones: BTreeMap<BackupId, Timestamp>,
    pub(crate) marks: Vec<(BackupId, Mark)>,
    pub(crate) foreign: Vec<ObjectPath>,
}

impl Catalog {
    /// The newest backup.
    pub fn newest(&self) -> Option<&BackupId> {
        self.backups.keys().next_back()
    }

    /// Whether a backup bears a mark.
    pub fn has(&self, id: &BackupId, mark: Mark) -> bool {
        match mark {
            Mark::Pinned => self.pinned.contains(id),
            Mark::Verified => self.verified.contains(id),
        }
    }

    /// The newest id that was ever used here, segments and cancelled ones included.
    pub(crate) fn newest_id(&self) -> Option<&BackupId> {
        let of_segments = self.segments.keys().next_back().max(self.segment_tombstones.keys().next_back());
        self.newest().max(self.tombstones.keys().next_back()).max(of_segments)
    }

    /// The backup under a segment that cannot be read: the one before it, as nobody appends to another than the newest.
    /// Tombstones do not count, because those of cancelled backups lie in the midst of a journal that goes on.
    pub(crate) fn base_by_order(&self, segment: &BackupId) -> Option<&BackupId> {
        self.backups.range(..segment).next_back().map(|(id, _)| id)
    }

    /// Whether no other backup that exists lies between this one, pruned or not, and a segment.
    pub(crate) fn is_next_below(&self, backup: &BackupId, segment: &BackupId) -> bool {
        backup < segment && self.base_by_order(segment).is_none_or(|base| base <= backup)
    }
}

impl Repository {
    /// The names of all databases, sorted.
    pub async fn database_names(&self) -> Result<Vec<FolderName>> {
        let folders = self.storage.list_folders(Some(&layout::databases())).await?;
        Ok(folders.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Opens a database; `None` if there is none of that name. Errors: damage if it has backups but no record.
    pub async fn database(&self, name: &FolderName) -> Result<Option<Database>> {
        let path = layout::database(name);
        let bytes = match self.storage.get(&path).await {
            Ok(bytes) => bytes,
            Err(e) if is_absent(&e) => {
                if self.storage.list(&layout::backups(name)).await?.is_empty() {
                    return Ok(None);
                }
                return Err(RepositoryError::damage(&path, "is missing").about(name, None));
            }
            Err(e) => return Err(RepositoryError::from(e).about(name, None)),
        };
        let open = || -> Result<Database> {
            let document = Document::<RecordHeader>::parse(&path, bytes)?;
            let id = document.header.database;
            let record = document.open(Kind::Record, &self.keys.record(&id))?;
            Ok(Database { name: name.clone(), id, record })
        };
        open().map(Some).map_err(|e| e.about(name, None))
    }

    /// Creates a database, or opens the one that somebody else created at the same moment.
    pub async fn create_database(&self, name: &FolderName, record: &DatabaseRecord) -> Result<Database> {
        let header = RecordHeader { format: FORMAT_VERSION, database: DatabaseId::random() };
        let bytes = document::encode(Kind::Record, &header, record, &self.keys.record(&header.database))?;
        match self.storage.create(&layout::database(name), bytes).await {
            Ok(_) => Ok(Database { name: name.clone(), id: header.database, record: record.clone() }),
            Err(e) if e.kind() == StorageErrorKind::AlreadyExists => {
                let found = self.database(name).await?;
                found.ok_or_else(|| RepositoryError::damage(&layout::database(name), "appeared and vanished"))
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Lists the objects of a database (not its packs).
    pub async fn catalog(&self, name: &FolderName) -> Result<Catalog> {
        let (backups, marks, journal) = (layout::backups(name), layout::marks(name), layout::journal(name));
        let storage = &self.storage;
        let (backups, marks, segments) =
            futures::try_join!(storage.list(&backups), storage.list(&marks), storage.list(&journal))?;
        let mut catalog = Catalog::default();
        for info in segments {
            let Ok(id) = info.path.file_name().parse::<BackupId>() else { continue };
            if info.path != layout::segment(name, &id) {
                continue;
            }
            if info.size == 0 {
                catalog.segment_tombstones.insert(id, info.modified);
            } else {
                catalog.segments.insert(id, info);
            }
        }
        for info in backups {
            match info.path.file_name().parse::<BackupId>() {
                Ok(id) if info.path == layout::backup(name, &id) && info.size == 0 => {
                    catalog.tombstones.insert(id, info.modified);
                }
                Ok(id) if info.path == layout::backup(name, &id) => {
                    catalog.backups.insert(id, info);
                }
                _ => catalog.foreign.push(info.path),
            }
        }
        for info in marks {
            let Some((id, mark)) = Mark::parse(info.path.file_name()) else { continue };
            if catalog.backups.contains_key(&id) {
                match mark {
                    Mark::Pinned => catalog.pinned.insert(id.clone()),
                    Mark::Verified => catalog.verified.insert(id.clone()),
                };
            }
            catalog.marks.push((id, mark));
        }
        Ok(catalog)
    }

    /// Reads and authenticates a manifest. Errors: `NotFound`, `Pruned`, `Replay`, damage.
    pub async fn manifest(&self, database: &Database, id: &BackupId) -> Result<Manifest> {
        let path = layout::backup(&database.name, id);
        let bytes = match self.storage.get(&path).await {
            Ok(bytes) => bytes,
            Err(e) if is_absent(&e) => {
                let message = format!("{} has no backup {id}", database.name);
                return Err(RepositoryError::new(RepositoryErrorKind::NotFound, message)
                    .hint(format!("see: copal list {}", database.name))
                    .about(&database.name, Some(id)));
            }
            Err(e) => return Err(RepositoryError::from(e).about(&database.name, Some(id))),
        };
        self.open_manifest(database, id, &path, bytes).map_err(|e| e.about(&database.name, Some(id)))
    }

    fn open_manifest(&self, database: &Database, id: &BackupId, path: &ObjectPath, bytes: Bytes) -> Result<Manifest> {
        if bytes.is_empty() {
            let message = format!("backup {id} of {} was pruned or cancelled", database.name);
            return Err(RepositoryError::new(RepositoryErrorKind::Pruned, message));
        }
        let hash = blake3::hash(&bytes).to_hex().to_string();
        let document = Document::<ManifestHeader>::parse(path, bytes)?;
        let header = &document.header;
        if header.database != database.id || header.backup != *id {
            let message = if header.database == database.id {
                format!("{path} is the manifest of backup {}, put in the place of {id}", header.backup)
            } else {
                format!("{path} is a manifest of another database, put in this one's place")
            };
            let mut error = RepositoryError::new(RepositoryErrorKind::Replay, message)
                .hint("somebody moved objects within the repository; what is not named here is unharmed");
            error.object = Some(path.clone());
            if header.backup == *id {
                error = error.because(OtherDatabase { manifest: header.database, record: database.id });
            }
            return Err(error);
        }
        let body = document.open(Kind::Manifest, &self.keys.manifest(&database.id, id))?;
        crate::manifest_rules::check(path, header, &body)?;
        Ok(Manifest { header: document.header, body, hash })
    }

    /// Creates a mark; one that is there already is fine.
    pub async fn set_mark(&self, name: &FolderName, id: &BackupId, mark: Mark) -> Result<()> {
        let content = serde_json::json!({ "time": self.options.clock.wall().to_string() }).to_string();
        match self.storage.create(&layout::mark(name, id, mark), content.into()).await {
            Ok(_) => Ok(()),
            Err(e) if e.kind() == StorageErrorKind::AlreadyExists => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    pub(crate) fn database_state(&self, database: &Database) -> DatabaseState {
        self.options.state.database(self.id(), &database.id)
    }
}
