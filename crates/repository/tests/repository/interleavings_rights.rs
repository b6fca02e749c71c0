//! Processes with and without the right to delete take turns.

use std::sync::Arc;

use copal_core::Context;
use copal_repository::{Repository, RepositoryErrorKind};
use copal_storage::fault::{Action, Fault, FaultStorage};
use copal_storage::{MemoryStorage, Method, StorageErrorKind};

use crate::common::{backup, database, file_bytes, hasty, keep_last, restore};

fn plans(memory: &MemoryStorage) -> usize {
    let contents = memory.contents();
    contents.iter().filter(|(path, bytes)| path.as_str().contains("/plans/") && !bytes.is_empty()).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_delete_leaves_a_plan_alone_and_makes_none() {
    let memory = MemoryStorage::new();
    let faults = FaultStorage::new(Arc::new(memory.clone()));
    let state = tempfile::tempdir().unwrap();
    let repository = Repository::create(Arc::new(faults.clone()), None, &[], hasty(state.path())).await.unwrap();
    let db = database(&repository, "db").await;
    let contents: Vec<Vec<u8>> = (0..5).map(|seed| file_bytes(seed, 10_000)).collect();
    for bytes in &contents[..4] {
        backup(&repository, &db, bytes, 512).await.unwrap();
    }
    let refusal = || Fault::from(1, Action::Fail(StorageErrorKind::PermissionDenied)).on(Method::Delete);
    faults.plan(refusal());
    let error = repository.prune(&db, &keep_last(2), &Context::silent()).await.unwrap_err();
    assert_eq!(error.kind(), RepositoryErrorKind::Storage(StorageErrorKind::PermissionDenied));
    assert_eq!(plans(&memory), 1);
    // Another prune must not decide anew about what is decided, and cannot finish it.
    let error = repository.prune(&db, &keep_last(3), &Context::silent()).await.unwrap_err();
    assert_eq!(error.kind(), RepositoryErrorKind::Storage(StorageErrorKind::PermissionDenied));
    assert_eq!(plans(&memory), 1);
    // A backup needs no such right.
    backup(&repository, &db, &contents[4], 512).await.unwrap();
    assert_eq!(plans(&memory), 1);
    let ids: Vec<_> = repository.catalog(&db.name).await.unwrap().backups.into_keys().collect();
    assert_eq!(repository.set_pinned(&db, &ids[0], true, &Context::silent()).await.map_err(|e| e.kind()), Ok(()));

    faults.reset();
    repository.prune(&db, &keep_last(3), &Context::silent()).await.unwrap();
    assert_eq!(plans(&memory), 0);
    let left: Vec<_> = repository.catalog(&db.name).await.unwrap().backups.into_keys().collect();
    assert_eq!(left.len(), 3);
    for (id, bytes) in left.iter().zip(&contents[2..]) {
        let manifest = repository.manifest(&db, id).await.unwrap();
        assert_eq!(&restore(&repository, &db, manifest).await.unwrap(), bytes);
    }
}
