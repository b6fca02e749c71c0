//! Proving by trying that a storage honours conditional writes, on which all exclusion rests.

use bytes::Bytes;

use crate::{ObjectPath, Result, Storage, StorageError, StorageErrorKind};

/// Tries create-if-absent and conditional replacement on an object in `folder`, and removes it again.
///
/// Errors: `Unsupported` if the storage lets a second writer through; other kinds if it could not be tried. That the
/// object could not be removed is no error, as a repository may be kept with keys that cannot delete.
pub async fn prove_conditional_writes(storage: &dyn Storage, folder: &ObjectPath) -> Result<()> {
    let name = format!("{folder}/probe-{:016x}", rand::random::<u64>());
    let path = ObjectPath::parse(&name)
        .map_err(|e| StorageError::new(StorageErrorKind::Other, "cannot probe in this folder").because(e))?;
    let proof = prove(storage, &path).await;
    if let Err(error) = storage.delete(&path).await {
        tracing::debug!(%error, "the probe object could not be removed");
    }
    proof
}

async fn prove(storage: &dyn Storage, path: &ObjectPath) -> Result<()> {
    let text = |n: u32| Bytes::from(format!("copal probe {n} {:016x}", rand::random::<u64>()));
    let first = storage.create(path, text(1)).await.map_err(unsupported_if_not_implemented)?;
    expect(storage.create(path, text(2)).await, StorageErrorKind::AlreadyExists, "create-if-absent", path)?;
    let third = text(3);
    let second = storage.replace(path, third.clone(), &first).await.map_err(unsupported_if_not_implemented)?;
    expect(storage.replace(path, text(4), &first).await, StorageErrorKind::Conflict, "conditional replacement", path)?;
    let (found, version) = storage.get_versioned(path).await?;
    if found != third || version != second {
        let message = "the storage does not return what was written last";
        return Err(StorageError::new(StorageErrorKind::Unsupported, message).at(path));
    }
    Ok(())
}

/// The second of two exclusive writes must be refused, in the right way.
fn expect<T>(got: Result<T>, wanted: StorageErrorKind, what: &str, path: &ObjectPath) -> Result<()> {
    match got {
        Err(e) if e.kind() == wanted => Ok(()),
        Err(e) => Err(e),
        Ok(_) => {
            let message = format!("the storage ignores {what}: a second writer was let through");
            Err(StorageError::new(StorageErrorKind::Unsupported, message).at(path).hint(HINT))
        }
    }
}

fn unsupported_if_not_implemented(error: StorageError) -> StorageError {
    match error.kind() {
        StorageErrorKind::Unsupported => error.hint(HINT),
        _ => error,
    }
}

const HINT: &str = "two backups at the same time could damage each other there; use a store with conditional writes \
                    (If-None-Match and If-Match), for example a current version of the same server";

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::MemoryStorage;
    use crate::fault::{Action, Fault, FaultStorage};

    #[tokio::test]
    async fn memory_passes_and_is_left_clean() {
        let storage = MemoryStorage::new();
        prove_conditional_writes(&storage, &ObjectPath::parse("leases").unwrap()).await.unwrap();
        assert!(storage.contents().is_empty());
    }

    #[tokio::test]
    async fn keys_that_cannot_delete_pass() {
        let storage = FaultStorage::new(Arc::new(MemoryStorage::new()));
        storage.plan(Fault::from(1, Action::Fail(StorageErrorKind::PermissionDenied)).on(crate::Method::Delete));
        prove_conditional_writes(&storage, &ObjectPath::parse("leases").unwrap()).await.unwrap();
    }

    #[test]
    fn a_second_writer_let_through_is_unsupported() {
        let path = ObjectPath::parse("leases/x").unwrap();
        let error = expect(Ok(()), StorageErrorKind::Conflict, "conditional replacement", &path).unwrap_err();
        assert_eq!(error.kind(), StorageErrorKind::Unsupported);
        assert!(error.to_string().contains("conditional replacement"));
    }
}
