//! Creating an object and knowing for certain whether it was created.
//!
//! Owns the rule for unclear answers (design: "What it must never break", 1): after a lost or doubtful answer the
//! object is read back and compared: equal means committed, absent means try again, different means failed.

use bytes::Bytes;

use crate::retry::{Attempts, RetryPolicy};
use crate::{ObjectPath, Result, Storage, StorageError, StorageErrorKind, SystemClock, Version};

/// How an object came to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    /// This call created it.
    Created,
    /// It was there before, with exactly these bytes.
    AlreadyThere,
}

/// Creates an object whose existence means something, and tells for certain that it is there.
///
/// `give_up` is asked before every further attempt, also on a storage that retries by itself; once it says so (the
/// operation began too long ago), the object is still read back but not created any more. Errors: `AlreadyExists` if
/// it is there with other bytes; any other error leaves open whether a late answer still creates it.
pub async fn commit(
    storage: &dyn Storage,
    path: &ObjectPath,
    bytes: Bytes,
    give_up: &(dyn Fn() -> bool + Sync),
) -> Result<Committed> {
    let (policy, clock) = (RetryPolicy::default(), SystemClock::new());
    let once = storage.without_retries().unwrap_or(storage);
    let attempts = Attempts::new(&policy, &clock);
    match create_resolved(once, path, &bytes, attempts, give_up).await? {
        Created::Now(_) | Created::Unclear(_) => Ok(Committed::Created),
        Created::Before(error) => match storage.get(path).await {
            Ok(found) if found == bytes => Ok(Committed::AlreadyThere),
            Ok(_) => Err(other_content(path)),
            Err(e) if e.kind() == StorageErrorKind::NotFound => Err(error),
            Err(e) => Err(e),
        },
    }
}

/// How a resolved `create` ended.
#[derive(Debug)]
pub(crate) enum Created {
    /// The store said so.
    Now(Version),
    /// The answer was lost, and the object was then found with the same bytes.
    Unclear(Version),
    /// The very first answer was that it exists.
    Before(StorageError),
}

/// Creates an object, resolving unclear answers by reading back.
pub(crate) async fn create_resolved(
    storage: &dyn Storage,
    path: &ObjectPath,
    bytes: &Bytes,
    mut attempts: Attempts<'_>,
    give_up: &(dyn Fn() -> bool + Sync),
) -> Result<Created> {
    let mut unclear = false;
    loop {
        let error = match storage.create(path, bytes.clone()).await {
            Ok(version) => return Ok(Created::Now(version)),
            Err(error) => error,
        };
        unclear |= error.is_retryable();
        if !unclear {
            return match error.kind() {
                StorageErrorKind::AlreadyExists => Ok(Created::Before(error)),
                _ => Err(error),
            };
        }
        let error = match storage.get_versioned(path).await {
            Ok((found, version)) if found == *bytes => return Ok(Created::Unclear(version)),
            Ok(_) => return Err(other_content(path)),
            Err(e) if e.kind() == StorageErrorKind::NotFound => vanished(error),
            // Not readable now: another attempt is conditional too and tells.
            Err(e) => e,
        };
        if error.is_retryable() && give_up() {
            let message = "no clear answer, and this operation began too long ago to try again";
            return Err(StorageError::new(StorageErrorKind::Other, message).at(path).because(error));
        }
        attempts.pause_after(error).await?;
    }
}

/// An object that "exists" and is not there: removed in between, or a store that is not sure yet. To be tried again.
fn vanished(error: StorageError) -> StorageError {
    if error.kind() != StorageErrorKind::AlreadyExists {
        return error;
    }
    let transient = StorageError::new(StorageErrorKind::Transient, "the object exists but cannot be read");
    transient.because(error)
}

fn other_content(path: &ObjectPath) -> StorageError {
    let message = "the object already exists with other content";
    StorageError::new(StorageErrorKind::AlreadyExists, message).at(path)
}
