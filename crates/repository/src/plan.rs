//! Plans: the list of everything that a prune deletes, and working it off; docs/format.md, "Plans and pruning".

use std::collections::BTreeSet;

use bytes::Bytes;
use copal_core::{BackupId, Context, DatabaseId, PackId};
use copal_storage::{ObjectPath, StorageError, StorageErrorKind};
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::catalog::Database;
use crate::document::{self, Document};
use crate::error::{RepositoryError, Result, is_absent};
use crate::frame::Kind;
use crate::layout;
use crate::operation::Operation;
use crate::repository::Repository;

/// Deletions under way at the same time.
const PARALLEL: usize = 16;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PlanHeader {
    pub(crate) format: u32,
    pub(crate) database: DatabaseId,
    pub(crate) plan: BackupId,
}

/// What a prune deletes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) created: Timestamp,
    /// Manifests to be replaced by tombstones, with the BLAKE3 of what they are.
    pub(crate) manifests: Vec<(BackupId, String)>,
    pub(crate) packs: Vec<PackId>,
    /// File names of marks.
    pub(crate) marks: Vec<String>,
    /// Expired tombstones, `backups/<id>`, `journal/<id>` or `plans/<id>`.
    pub(crate) tombstones: Vec<String>,
    /// Segments to be replaced by tombstones, likewise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) segments: Vec<(BackupId, String)>,
}

impl Plan {
    pub(crate) fn is_empty(&self) -> bool {
        let Self { created: _, manifests, packs, marks, tombstones, segments } = self;
        let nothing_goes = packs.is_empty() && marks.is_empty() && tombstones.is_empty();
        manifests.is_empty() && segments.is_empty() && nothing_goes
    }

    pub(crate) fn encode(&self, repository: &Repository, database: &Database, id: &BackupId) -> Result<Bytes> {
        let header = PlanHeader { format: copal_core::FORMAT_VERSION, database: database.id, plan: id.clone() };
        document::encode(Kind::Plan, &header, self, &repository.keys.plan(&database.id, id))
    }
}

/// What plans that could not be finished forbid.
#[derive(Debug, Default)]
pub(crate) struct Blocked {
    /// Backups that count as gone.
    pub(crate) manifests: BTreeSet<BackupId>,
    /// Whether anything in the repository was changed.
    pub(crate) did_something: bool,
    /// Why a plan could not be finished: there is no right to delete.
    pub(crate) refused: Option<RepositoryError>,
    /// Plans that cannot be read, so that nobody can tell what they name, or that name what is not the same any more.
    pub(crate) unreadable: Vec<RepositoryError>,
}

impl Blocked {
    /// For whoever must know what all plans say.
    pub(crate) fn require_readable(mut self) -> Result<Self> {
        match self.unreadable.pop() {
            None => Ok(self),
            Some(error) => Err(error.hint(
                "nothing was done, because nobody can tell what this prune deletes; bring the object back, \
                 or delete it by hand if no copal works on this database anywhere: the next prune finds what it left",
            )),
        }
    }
}

/// The ids of plans that are not finished.
async fn open_plans(repository: &Repository, database: &Database) -> Result<Vec<BackupId>> {
    let listed = repository.storage.list(&layout::plans(&database.name)).await?;
    Ok(listed.iter().filter(|info| info.size > 0).filter_map(|info| info.path.file_name().parse().ok()).collect())
}

/// Finishes every plan of a database; one that cannot be read, or not finished for lack of rights, is reported.
pub(crate) async fn finish_all(
    repository: &Repository,
    database: &Database,
    operation: &Operation,
    context: &Context,
) -> Result<Blocked> {
    let mut blocked = Blocked::default();
    for id in open_plans(repository, database).await? {
        context.note(format!("finishing the prune {id} that was interrupted"));
        let plan = match read(repository, database, &id).await {
            Ok(Some(plan)) => plan,
            Ok(None) => continue,
            Err(error) if error.is_damage() => {
                blocked.unreadable.push(error);
                continue;
            }
            Err(error) => return Err(error),
        };
        match execute(repository, database, &id, &plan, operation).await {
            Ok(()) => blocked.did_something = true,
            Err(error) if is_refusal(&error) => {
                context.note(format!("the prune {id} stays unfinished: deleting is not allowed here"));
                blocked.manifests.extend(plan.manifests.into_iter().map(|(id, _)| id));
                blocked.refused = Some(error);
            }
            // Something that goes is not what was planned: a backup goes on, and who deletes must not.
            Err(error) if error.is_damage() => {
                blocked.manifests.extend(plan.manifests.into_iter().map(|(id, _)| id));
                blocked.unreadable.push(error);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(blocked)
}

/// What unfinished plans say: their backups count as gone for whoever lists.
pub(crate) async fn planned(repository: &Repository, database: &Database) -> Result<Blocked> {
    let mut planned = Blocked::default();
    for id in open_plans(repository, database).await? {
        match read(repository, database, &id).await {
            Ok(plan) => planned.manifests.extend(plan.into_iter().flat_map(|p| p.manifests).map(|(id, _)| id)),
            Err(error) if error.is_damage() => planned.unreadable.push(error),
            Err(error) => return Err(error),
        }
    }
    Ok(planned)
}

fn is_refusal(error: &RepositoryError) -> bool {
    use crate::error::RepositoryErrorKind::Storage;
    error.kind() == Storage(StorageErrorKind::PermissionDenied)
}

/// Reads a plan; `None` if somebody finished it meanwhile.
async fn read(repository: &Repository, database: &Database, id: &BackupId) -> Result<Option<Plan>> {
    let path = layout::plan(&database.name, id);
    let bytes = match repository.storage.get(&path).await {
        Ok(bytes) if bytes.is_empty() => return Ok(None),
        Ok(bytes) => bytes,
        Err(e) if is_absent(&e) => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    let open = || -> Result<Plan> {
        let document = Document::<PlanHeader>::parse(&path, bytes)?;
        if document.header.database != database.id || document.header.plan != *id {
            return Err(RepositoryError::damage(
                &path,
                "is a plan of another database or prune, put in this one's place",
            ));
        }
        document.open(Kind::Plan, &repository.keys.plan(&database.id, id))
    };
    open().map(Some).map_err(|e| e.about(&database.name, None))
}

/// Works off a committed plan: tombstones first, then deletions, then the plan's own tombstone. May be repeated.
pub(crate) async fn execute(
    repository: &Repository,
    database: &Database,
    id: &BackupId,
    plan: &Plan,
    operation: &Operation,
) -> Result<()> {
    let storage = &repository.storage;
    let name = &database.name;
    // Manifests first: whoever misses a segment then finds that its base is gone, too.
    let manifests = plan.manifests.iter().map(|(id, hash)| (layout::backup(name, id), hash));
    for (path, hash) in manifests.chain(plan.segments.iter().map(|(id, hash)| (layout::segment(name, id), hash))) {
        operation.check()?;
        replace_by_tombstone(repository, &path, Some(hash)).await?;
    }
    let mut gone: Vec<ObjectPath> = plan.packs.iter().map(|pack| layout::pack(name, pack)).collect();
    for (folder, file) in
        plan.marks.iter().map(|m| ("marks", m.as_str())).chain(plan.tombstones.iter().filter_map(|t| {
            let (folder, file) = t.split_once('/')?;
            matches!(folder, "backups" | "journal" | "plans").then_some((folder, file))
        }))
    {
        let path = format!("{}/{folder}/{file}", layout::database_folder(name));
        if let Ok(path) = ObjectPath::parse(&path) {
            gone.push(path);
        }
    }
    stream::iter(gone)
        .map(|path| async move {
            operation.check()?;
            storage.delete(&path).await.map_err(RepositoryError::from)
        })
        .buffer_unordered(PARALLEL)
        .try_collect::<()>()
        .await?;
    replace_by_tombstone(repository, &layout::plan(name, id), None).await
}

/// Empties an object on the condition that it is what it should be; gone or empty already is fine.
async fn replace_by_tombstone(repository: &Repository, path: &ObjectPath, hash: Option<&str>) -> Result<()> {
    let found = repository.storage.get_versioned(path).await;
    let (bytes, version) = match found {
        Ok((bytes, _)) if bytes.is_empty() => return Ok(()),
        Ok(found) => found,
        Err(e) if is_absent(&e) => return Ok(()),
        Err(e) => return Err(e.into()),
    };
    if hash.is_some_and(|hash| blake3::hash(&bytes).to_hex().as_str() != hash) {
        return Err(RepositoryError::damage(path, "is not what it was when the prune was planned"));
    }
    let conflict = |e: &StorageError| e.kind() == StorageErrorKind::Conflict;
    match repository.storage.replace(path, Bytes::new(), &version).await {
        Ok(_) => Ok(()),
        // Another holder of the lease finishes the same plan.
        Err(e) if conflict(&e) => match repository.storage.get(path).await {
            Ok(bytes) if !bytes.is_empty() => Err(e.into()),
            Err(e) if !is_absent(&e) => Err(e.into()),
            _ => Ok(()),
        },
        Err(e) => Err(e.into()),
    }
}
