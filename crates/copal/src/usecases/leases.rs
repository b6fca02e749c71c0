//! Who works on the repository now.

use copal_core::{BackupId, FolderName};
use copal_storage::lease::{self, Holder, Lease};
use copal_storage::{ObjectInfo, Storage};
use futures::{StreamExt as _, TryStreamExt as _};

use super::Copal;
use super::open::probe_folder;
use crate::{LeaseInfo, Result};

/// Leases that are read at the same time.
const PARALLEL: usize = 32;

impl Copal {
    /// The operations under way, of this process and of others, by database. What the kernel says was killed is not among them.
    pub async fn leases(&self) -> Result<Vec<LeaseInfo>> {
        let repository = self.repository().await?;
        let storage = &**repository.storage();
        // Where leases lie is also where it is tried what the store can do; that has no name of a database.
        let objects = storage.list(&probe_folder()?).await?;
        let here = Holder::current();
        let looks = objects.into_iter().map(|object| look(storage, object, &here));
        let found: Vec<_> = futures::stream::iter(looks).buffered(PARALLEL).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }
}

async fn look(storage: &dyn Storage, object: ObjectInfo, here: &Holder) -> Result<Option<LeaseInfo>> {
    let Ok(database) = object.path.file_name().parse::<FolderName>() else { return Ok(None) };
    let observed = lease::observe(storage, &object.path).await?;
    Ok(observed.holder().filter(|lease| !lease.holder.is_provably_dead()).map(|lease| info(database, lease, here)))
}

fn info(database: FolderName, lease: &Lease, here: &Holder) -> LeaseInfo {
    let commit = lease.commit_path();
    let began = commit.as_ref().and_then(|path| path.file_name().parse::<BackupId>().ok());
    let operation = lease.operation.strip_suffix(&format!(" of {database}")).unwrap_or(&lease.operation).to_owned();
    let Holder { host, pid, .. } = lease.holder.clone();
    LeaseInfo { operation, host, pid, is_own: lease.holder == *here, since: began.map(|id| id.time()), database }
}
