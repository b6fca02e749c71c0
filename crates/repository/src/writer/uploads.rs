//! Puts finished packs into the storage, a bounded number at a time.

use std::sync::Arc;

use bytes::Bytes;
use copal_core::{FolderName, PackId};
use copal_storage::Storage;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::abort::Abort;
use crate::buffers::Buffers;
use crate::layout;
use crate::repository::Repository;

/// The uploads of one backup.
pub(super) struct Uploads {
    runtime: Handle,
    storage: Arc<dyn Storage>,
    database: FolderName,
    places: Arc<Semaphore>,
    tasks: Vec<JoinHandle<()>>,
    packs: Buffers,
    abort: Arc<Abort>,
}

impl Uploads {
    pub(super) fn new(repository: &Repository, database: &FolderName, parallel: usize, abort: &Arc<Abort>) -> Self {
        Self {
            runtime: Handle::current(),
            storage: Arc::clone(&repository.storage),
            database: database.clone(),
            places: Arc::new(Semaphore::new(parallel.clamp(1, 64))),
            tasks: Vec::new(),
            packs: Buffers::new(parallel + 1),
            abort: Arc::clone(abort),
        }
    }

    /// Buffers of packs that are done with.
    pub(super) fn packs(&self) -> &Buffers {
        &self.packs
    }

    /// Starts an upload; blocks while as many as allowed are under way. Not for use inside async code.
    pub(super) fn submit(&mut self, id: &PackId, bytes: Vec<u8>) {
        let Ok(place) = self.runtime.block_on(Arc::clone(&self.places).acquire_owned()) else { return };
        let packs = self.packs.clone();
        let (storage, path, abort) =
            (Arc::clone(&self.storage), layout::pack(&self.database, id), Arc::clone(&self.abort));
        self.tasks.retain(|task| !task.is_finished());
        self.tasks.push(self.runtime.spawn(async move {
            let _place = place;
            if abort.is_set() {
                return;
            }
            let bytes = Bytes::from(bytes);
            match storage.create(&path, bytes.clone()).await {
                // Whose bytes a storage keeps is its own buffer from now on; to take them back would copy them.
                Ok(_) if !bytes.is_unique() => {}
                Ok(_) => packs.give(bytes.into()),
                Err(error) => abort.set(error.into()),
            }
        }));
    }

    /// Waits for all of them; whether all went well, the abort tells.
    pub(super) fn finish(&mut self) {
        for task in self.tasks.drain(..) {
            if self.runtime.block_on(task).is_err() {
                self.abort.set(super::stopped());
            }
        }
    }
}

impl Drop for Uploads {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}
