//! Waiting until a lease has stood still for its time to live, by the waiter's own monotonic clock.

use std::time::Duration;

use super::{Observation, observe};
use crate::{Clock, ObjectPath, Result, Storage};

/// How a wait ended.
#[derive(Clone, Debug)]
pub enum Waited {
    /// Nothing was written for the whole time; the observation is still good for acquiring.
    Unchanged(Observation),
    /// Somebody wrote it; this is the new state.
    Changed(Observation),
}

/// Looks at a lease every `ttl / 8` until it changes or has been unchanged since `observed` for `ttl`.
///
/// Time counts from this call, so an observation made earlier only makes the wait longer. Transient errors of
/// looking are passed over, except at the end.
pub async fn wait_unchanged(
    storage: &dyn Storage,
    path: &ObjectPath,
    observed: &Observation,
    ttl: Duration,
    clock: &dyn Clock,
) -> Result<Waited> {
    let begin = clock.monotonic();
    loop {
        let left = ttl.saturating_sub(clock.monotonic().saturating_sub(begin));
        clock.sleep(left.min(ttl / 8)).await;
        let is_over = clock.monotonic().saturating_sub(begin) >= ttl;
        match observe(storage, path).await {
            Ok(now) if !now.is_same_as(observed) => return Ok(Waited::Changed(now)),
            Ok(now) if is_over => return Ok(Waited::Unchanged(now)),
            Err(e) if is_over || !e.is_retryable() => return Err(e),
            _ => {}
        }
    }
}
