//! A snapshot that lets its owner and superusers in, while it is backed up.

use copal_core::{Context, EngineError, EngineErrorKind, EngineResult};

use super::locks::{backup_of, lock, operations_on, spare_of, try_lock, unlock};
use super::operation::{BACKED_UP, Operation, Place, allow, wait_for_spare};
use crate::session::Session;

/// How long the lock of a session that was lost is waited for.
const LAST: &str = "SET lock_timeout = '5s'";

/// An open snapshot. Its lock is held as long as this lives, so that nobody removes, closes or copies it; then it is closed.
pub(super) struct Opened {
    pub(super) place: Place,
    server: Session,
    /// The snapshot's database.
    snapshot: String,
}

impl Opened {
    /// Opens it; other operations on the database may begin.
    pub(super) fn open(operation: Operation, snapshot: &str) -> EngineResult<Self> {
        let Operation { place, mut server, .. } = operation;
        if !try_lock(&mut server, &backup_of(snapshot))? {
            return Err(is_backed_up(&place, "wait for its end and try again"));
        }
        unlock(&mut server, &operations_on(&place.name))?;
        // Who connects to what is being copied waits without being told for what.
        wait_for_spare(&mut server, &place, snapshot)?;
        unlock(&mut server, &spare_of(snapshot))?;
        let mut opened = Self { place, server, snapshot: snapshot.to_owned() };
        opened.server.run(&allow(snapshot, true))?;
        Ok(opened)
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let close = allow(&self.snapshot, false);
        if matches!(self.server.try_run(&close), Ok(Ok(()))) {
            return;
        }
        // The session is lost, or its operation cancelled. If this fails too, or another backup has begun, the next call does it.
        let server = self.place.engine.connect_to_server(&self.place.address, &Context::silent());
        let _ = server.and_then(|mut server| {
            server.run(LAST)?;
            lock(&mut server, &backup_of(&self.snapshot), &self.place, BACKED_UP)?;
            server.run(&close)
        });
    }
}

/// The error of who would need the snapshot for itself.
pub(super) fn is_backed_up(place: &Place, hint: &str) -> EngineError {
    EngineError::new(EngineErrorKind::Busy, format!("{}: {BACKED_UP}", place.shown)).hint(hint)
}
