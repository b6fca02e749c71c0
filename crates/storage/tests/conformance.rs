//! The conformance suite on the storages that need no server.

use std::sync::Arc;

use copal_storage::fault::FaultStorage;
use copal_storage::{LocalStorage, MemoryStorage, ObjectStorage, RetryPolicy, Retrying, Storage};

mod suite;

use suite::{Server, run};

#[tokio::test(flavor = "multi_thread")]
async fn local_folder() {
    let dir = tempfile::tempdir().unwrap();
    run(Arc::new(LocalStorage::create(dir.path().join("repository")).unwrap()), Server::Faithful).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory() {
    run(Arc::new(MemoryStorage::new()), Server::Faithful).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn object_store_in_memory() {
    for prefix in ["", "a/prefix"] {
        let store = Arc::new(object_store::memory::InMemory::new());
        run(Arc::new(ObjectStorage::new(store, prefix, "memory:").unwrap()), Server::Faithful).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrappers_change_nothing() {
    let faulty = FaultStorage::new(Arc::new(MemoryStorage::new()));
    let retrying: Arc<dyn Storage> = Arc::new(Retrying::new(Arc::new(faulty.clone()), RetryPolicy::default()));
    run(retrying, Server::Faithful).await;
    assert!(faulty.calls().len() > 100);
}
