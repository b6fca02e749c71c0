//! The advisory locks of snapshots: each ends with its session at the latest.

use copal_core::EngineResult;
use serde::Deserialize;

use super::operation::Place;
use crate::restore::lock_of;
use crate::session::Session;

/// What an operation on this database locks.
pub(super) fn operations_on(database: &str) -> String {
    format!("copal operations on {database}")
}

/// What is locked while a spare copy of a snapshot is made.
pub(super) fn spare_of(snapshot: &str) -> String {
    format!("copal spare of {snapshot}")
}

/// What is locked while a snapshot is backed up, which may take hours: other operations go on meanwhile.
pub(super) fn backup_of(snapshot: &str) -> String {
    format!("copal backup of {snapshot}")
}

/// Waits for a lock; who else has it is busy with `what`.
pub(super) fn lock(server: &mut Session, name: &str, place: &Place, what: &str) -> EngineResult<()> {
    #[derive(Deserialize)]
    struct Locked {}
    let lock = format!("SELECT pg_catalog.pg_advisory_lock({})", lock_of(name));
    match server.try_rows::<Locked>(&lock)? {
        Ok(_) => Ok(()),
        // lock_not_available
        Err(refusal) if refusal.state == "55P03" => {
            Err(place.busy(what, &refusal, "wait for its end, or raise lock_wait under [postgres]"))
        }
        Err(refusal) => Err(server.refused(&refusal)),
    }
}

/// Takes a lock if it is free; whether it was.
pub(super) fn try_lock(server: &mut Session, name: &str) -> EngineResult<bool> {
    call(server, "pg_try_advisory_lock", name)
}

/// Gives up a lock that this session has.
pub(super) fn unlock(server: &mut Session, name: &str) -> EngineResult<()> {
    call(server, "pg_advisory_unlock", name).map(|_| ())
}

/// Whether another session has a lock.
pub(super) fn is_held(server: &mut Session, name: &str) -> EngineResult<bool> {
    let is_free = try_lock(server, name)?;
    if is_free {
        unlock(server, name)?;
    }
    Ok(!is_free)
}

fn call(server: &mut Session, function: &str, name: &str) -> EngineResult<bool> {
    #[derive(Deserialize)]
    struct Answer {
        answer: bool,
    }
    let answer: Answer = server.row(&format!("SELECT pg_catalog.{function}({}) AS answer", lock_of(name)))?;
    Ok(answer.answer)
}
