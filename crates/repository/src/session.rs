//! What a backup and a segment of the journal have in common on their way: the lease, an id, and a last look at the packs.

use std::collections::HashMap;
use std::sync::Arc;

use copal_core::{BackupId, Context, FolderName, PackId};
use copal_storage::ObjectPath;
use futures::future::try_join_all;
use jiff::SignedDuration;

use crate::catalog::{Catalog, Database};
use crate::error::{RepositoryError, Result, is_absent};
use crate::layout;
use crate::operation::Operation;
use crate::repository::Repository;

/// How far a clock may be behind before it is worth a warning.
pub(crate) const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_secs(60);

/// So many packs are asked for one by one; for more, all are listed.
const FEW_PACKS: usize = 4;

/// What is being made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Making {
    Backup,
    Segment,
}

impl Making {
    /// An id that is later than all those of the database. There may be many segments in one second, but a backup has a
    /// second of its own, so that its time says which it is.
    fn id(self, catalog: &Catalog, now: jiff::Timestamp) -> BackupId {
        match (self, catalog.newest_id()) {
            (_, None) => BackupId::new(now),
            (Self::Backup, Some(newest)) => BackupId::new(now.max(newest.time() + SignedDuration::from_secs(1))),
            (Self::Segment, Some(newest)) => BackupId::behind(newest, now),
        }
    }

    fn commit(self, name: &FolderName, id: &BackupId) -> (&'static str, ObjectPath) {
        match self {
            Self::Backup => ("backup", layout::backup(name, id)),
            Self::Segment => ("journal", layout::segment(name, id)),
        }
    }
}

impl Repository {
    /// Takes the lease for something whose id is later than every id that was ever used for this database.
    pub(crate) async fn begin_with_id(
        &self,
        name: &FolderName,
        making: Making,
        context: &Context,
    ) -> Result<(Arc<Operation>, BackupId, Catalog)> {
        let mut catalog = self.catalog(name).await?;
        loop {
            let id = making.id(&catalog, self.options.clock.wall());
            let (what, commit) = making.commit(name, &id);
            let operation = Operation::begin(&self.ground(), name, what, commit, context).await?;
            // Somebody may have finished something between the listing and the lease.
            catalog = match self.catalog(name).await {
                Ok(catalog) => catalog,
                Err(error) => {
                    operation.release().await;
                    return Err(error);
                }
            };
            if catalog.newest_id().is_none_or(|newest| *newest < id) {
                return Ok((Arc::new(operation), id, catalog));
            }
            operation.release().await;
            context.cancel.check()?;
        }
    }

    /// Which of these packs are not there with their sizes, and why not.
    pub(crate) async fn broken_packs(
        &self,
        database: &Database,
        packs: &[(PackId, u64)],
    ) -> Result<HashMap<PackId, String>> {
        let mut sizes: HashMap<ObjectPath, u64> = HashMap::new();
        if packs.len() <= FEW_PACKS {
            let heads = packs.iter().map(|(id, _)| async move {
                match self.storage.head(&layout::pack(&database.name, id)).await {
                    Ok(info) => Ok(Some(info)),
                    Err(e) if is_absent(&e) => Ok(None),
                    Err(e) => Err(RepositoryError::from(e)),
                }
            });
            sizes.extend(try_join_all(heads).await?.into_iter().flatten().map(|info| (info.path, info.size)));
        } else {
            let listed = self.storage.list(&layout::packs(&database.name)).await?;
            sizes.extend(listed.into_iter().map(|info| (info.path, info.size)));
        }
        let problem = |id: &PackId, size: u64| match sizes.get(&layout::pack(&database.name, id)) {
            Some(found) if *found == size => None,
            Some(found) => Some(format!("has {found} bytes instead of {size}")),
            None => Some("is missing".to_owned()),
        };
        Ok(packs.iter().filter_map(|(id, size)| Some((id.clone(), problem(id, *size)?))).collect())
    }

    /// Fails if a pack of something that is about to be committed is not there as it was written.
    pub(crate) async fn require_packs(&self, database: &Database, packs: &[(PackId, u64)]) -> Result<()> {
        let broken = self.broken_packs(database, packs).await?;
        let Some((id, problem)) = broken.iter().next() else { return Ok(()) };
        let path = layout::pack(&database.name, id);
        Err(RepositoryError::damage(&path, format!("{problem}, just after it was written or found"))
            .hint("somebody changes the repository from outside; nothing was saved"))
    }
}

/// Releases the lease of an operation that the writer's threads may hold a moment longer.
pub(crate) async fn release(mut operation: Arc<Operation>) {
    for _ in 0..100 {
        operation = match Arc::try_unwrap(operation) {
            Ok(operation) => return operation.release().await,
            Err(shared) => shared,
        };
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}
