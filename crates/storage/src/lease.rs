//! The lease object: who may change one database's part of the repository, built on conditional writes.
//!
//! Owns the object's content and the steps on it: observe, acquire, renew, release. Every write replaces exactly
//! the version that was observed, so of two takers one fails. It never deletes. It holds no policy: whoever takes over
//! a lease that stands still first makes the old operation's commit impossible (the repository does that with a
//! tombstone at [`Lease::commit`]), then calls [`acquire`] with the stale observation.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{ObjectPath, Result, Storage, StorageError, StorageErrorKind, Version};

mod holder;
mod renewal;
mod wait;

#[cfg(test)]
mod tests;

pub use holder::Holder;
pub use renewal::Renewal;
pub use wait::{Waited, wait_unchanged};

const FORMAT: u32 = 1;

/// Whether a lease is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LeaseState {
    /// An operation is going on, or was when its process died.
    Held,
    /// The last operation gave it back.
    Free,
}

/// The content of a lease object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    format: u32,
    /// Whether it is taken.
    pub state: LeaseState,
    /// What the holder does: kind and id, for messages.
    pub operation: String,
    /// The object whose creation would commit that operation.
    pub commit: String,
    /// The process that holds it.
    pub holder: Holder,
    /// Goes up by one with every write.
    pub sequence: u64,
    /// Random with every write, so that no two contents are equal.
    nonce: String,
}

impl Lease {
    /// The content for taking a lease.
    pub fn held(operation: impl Into<String>, commit: &ObjectPath, holder: Holder) -> Self {
        Self {
            format: FORMAT,
            state: LeaseState::Held,
            operation: operation.into(),
            commit: commit.to_string(),
            holder,
            sequence: 0,
            nonce: String::new(),
        }
    }

    /// The object whose creation would commit the operation, if it has a valid name.
    pub fn commit_path(&self) -> Option<ObjectPath> {
        ObjectPath::parse(&self.commit).ok()
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok().filter(|lease: &Self| lease.format == FORMAT)
    }

    fn write(&self) -> Result<Bytes> {
        let text = serde_json::to_vec(self)
            .map_err(|e| StorageError::new(StorageErrorKind::Other, "cannot write the lease").because(e))?;
        Ok(text.into())
    }
}

/// What was found in the place of a lease at one moment.
#[derive(Clone, Debug)]
pub struct Observation {
    /// The content; `None` if there is no object, or one that cannot be read as a lease.
    pub lease: Option<Lease>,
    /// The version of the object; `None` if there is none.
    pub version: Option<Version>,
}

impl Observation {
    /// Whether nobody holds it: there is no object, or the last holder gave it back.
    ///
    /// Content that cannot be read (damage, a later version of Copal) counts as held by somebody unknown.
    pub fn is_free(&self) -> bool {
        match (&self.lease, &self.version) {
            (_, None) => true,
            (Some(lease), Some(_)) => lease.state == LeaseState::Free,
            (None, Some(_)) => false,
        }
    }

    /// Whether there is an object with content that is no lease.
    pub fn is_unreadable(&self) -> bool {
        self.lease.is_none() && self.version.is_some()
    }

    /// The lease, if it is held by somebody whose content can be read.
    pub fn holder(&self) -> Option<&Lease> {
        self.lease.as_ref().filter(|lease| lease.state == LeaseState::Held)
    }

    /// Whether nothing was written between the two observations.
    pub fn is_same_as(&self, other: &Observation) -> bool {
        self.version == other.version
    }
}

/// Looks at a lease.
pub async fn observe(storage: &dyn Storage, path: &ObjectPath) -> Result<Observation> {
    match storage.get_versioned(path).await {
        Ok((bytes, version)) => Ok(Observation { lease: Lease::parse(&bytes), version: Some(version) }),
        Err(e) if e.kind() == StorageErrorKind::NotFound && !e.is_storage_gone() => {
            Ok(Observation { lease: None, version: None })
        }
        Err(e) => Err(e),
    }
}

/// Takes a lease in exactly the state `observed`, whether free or given up on. Errors: `Conflict` if it changed since.
pub async fn acquire(
    storage: &Arc<dyn Storage>,
    path: &ObjectPath,
    observed: &Observation,
    mut lease: Lease,
) -> Result<HeldLease> {
    lease.sequence = observed.lease.as_ref().map_or(0, |l| l.sequence);
    let version = observed.version.clone();
    let mut held = HeldLease { storage: Arc::clone(storage), path: path.clone(), lease, version, unclear: Vec::new() };
    held.write(LeaseState::Held).await?;
    Ok(held)
}

/// A lease that this process has taken; renew it, and release it at the end.
#[derive(Debug)]
pub struct HeldLease {
    storage: Arc<dyn Storage>,
    path: ObjectPath,
    lease: Lease,
    version: Option<Version>,
    /// Nonces of writes that got no clear answer since the last one that did.
    unclear: Vec<String>,
}

impl HeldLease {
    /// Its content as last written.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Where it lies.
    pub fn path(&self) -> &ObjectPath {
        &self.path
    }

    /// Writes it anew, so that others see it move. Errors: `Conflict` if somebody else took it: it is lost.
    pub async fn renew(&mut self) -> Result<()> {
        self.write(LeaseState::Held).await
    }

    /// Gives it back; the object stays. Errors: `Conflict` if it was lost before.
    pub async fn release(mut self) -> Result<()> {
        self.write(LeaseState::Free).await
    }

    /// Writes the next content in the place of the last one.
    async fn write(&mut self, state: LeaseState) -> Result<()> {
        match self.write_once(state).await {
            Err(e) if e.kind() == StorageErrorKind::Conflict && self.adopt_own_write().await? => {
                self.write_once(state).await
            }
            other => other,
        }
    }

    async fn write_once(&mut self, state: LeaseState) -> Result<()> {
        let mut next = self.lease.clone();
        next.state = state;
        next.sequence = next.sequence.saturating_add(1);
        next.nonce = format!("{:032x}", rand::random::<u128>());
        let bytes = next.write()?;
        // Before the call: the future may be dropped while it is under way.
        self.unclear.push(next.nonce.clone());
        let written = match &self.version {
            Some(version) => self.storage.replace(&self.path, bytes, version).await,
            None => self.storage.create(&self.path, bytes).await,
        };
        match written {
            Ok(version) => {
                self.version = Some(version);
                self.lease = next;
                self.unclear.clear();
                Ok(())
            }
            Err(e) if e.kind() == StorageErrorKind::AlreadyExists => {
                let message = "somebody else took the lease at the same moment";
                Err(StorageError::new(StorageErrorKind::Conflict, message).at(&self.path).because(e))
            }
            Err(e) => Err(e),
        }
    }

    /// After a conflict: whether it is only with an earlier write of ours whose answer was lost; then goes on from it.
    async fn adopt_own_write(&mut self) -> Result<bool> {
        if self.unclear.len() < 2 {
            return Ok(false); // Only the write that has just met the conflict.
        }
        let observed = observe(&*self.storage, &self.path).await?;
        match observed.lease {
            Some(lease) if self.unclear.contains(&lease.nonce) => {
                self.version = observed.version;
                self.lease = lease;
                self.unclear.clear();
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}
