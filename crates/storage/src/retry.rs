//! Retries of transient errors, with the writes among them resolved by reading back.
//!
//! Its invariant: a conditional write whose answer was lost is never repeated blindly. The object is read: equal
//! bytes mean that the write took place, an unchanged state that it may be tried again, anything else that somebody
//! else was there. Retrying ends after a bounded time by every clock, so that a machine that slept in between does
//! not go on with what it had begun before.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::clock::Moment;
use crate::commit::{Created, create_resolved};
use crate::{Clock, ObjectInfo, ObjectPath, Result, Storage, StorageError, StorageErrorKind, SystemClock, Version};

/// How often and how long to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Calls in all, the first one included.
    pub max_attempts: u32,
    /// No further attempt once this much time has gone by.
    pub max_elapsed: Duration,
    /// The pause before the second attempt; doubled for each one after it.
    pub first_pause: Duration,
    /// The longest pause.
    pub max_pause: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 8,
            max_elapsed: Duration::from_secs(180),
            first_pause: Duration::from_millis(250),
            max_pause: Duration::from_secs(20),
        }
    }
}

impl RetryPolicy {
    /// A policy that tries once.
    pub fn never() -> Self {
        Self { max_attempts: 1, ..Self::default() }
    }
}

/// The attempts of one call.
#[derive(Debug)]
pub(crate) struct Attempts<'a> {
    policy: &'a RetryPolicy,
    clock: &'a dyn Clock,
    begin: Moment,
    made: u32,
}

impl<'a> Attempts<'a> {
    pub(crate) fn new(policy: &'a RetryPolicy, clock: &'a dyn Clock) -> Self {
        Self { policy, clock, begin: Moment::now(clock), made: 0 }
    }

    /// Waits before another attempt after `error`; gives the error back if there is to be none.
    pub(crate) async fn pause_after(&mut self, error: StorageError) -> Result<()> {
        self.made += 1;
        let pause = self.pause();
        let is_last =
            self.made >= self.policy.max_attempts || self.begin.elapsed(self.clock) + pause > self.policy.max_elapsed;
        if !error.is_retryable() || is_last {
            return Err(error);
        }
        tracing::debug!(%error, attempt = self.made, ?pause, "transient storage error, trying again");
        self.clock.sleep(pause).await;
        // The machine may have slept meanwhile.
        if self.begin.elapsed(self.clock) > self.policy.max_elapsed { Err(error) } else { Ok(()) }
    }

    /// Between half and all of the doubled pause, so that many clients do not come back together.
    fn pause(&self) -> Duration {
        let doubled = self.policy.first_pause.saturating_mul(1 << self.made.saturating_sub(1).min(16));
        doubled.min(self.policy.max_pause).mul_f64(rand::random_range(0.5..=1.0))
    }
}

/// A storage that tries transient failures again.
#[derive(Debug)]
pub struct Retrying {
    policy: RetryPolicy,
    clock: Arc<dyn Clock>,
    inner: Arc<dyn Storage>,
}

impl Retrying {
    /// Wraps a storage.
    pub fn new(inner: Arc<dyn Storage>, policy: RetryPolicy) -> Self {
        Self::with_clock(inner, policy, Arc::new(SystemClock::new()))
    }

    /// Wraps a storage, with clocks for tests.
    pub fn with_clock(inner: Arc<dyn Storage>, policy: RetryPolicy, clock: Arc<dyn Clock>) -> Self {
        Self { policy, clock, inner }
    }

    fn attempts(&self) -> Attempts<'_> {
        Attempts::new(&self.policy, &*self.clock)
    }
}

/// Calls until it is no transient error or the attempts are used up.
macro_rules! again {
    ($self:ident, $call:expr) => {{
        let mut attempts = $self.attempts();
        loop {
            match $call.await {
                Ok(done) => return Ok(done),
                Err(error) => attempts.pause_after(error).await?,
            }
        }
    }};
}

#[async_trait]
impl Storage for Retrying {
    fn url(&self) -> &str {
        self.inner.url()
    }

    fn without_retries(&self) -> Option<&dyn Storage> {
        Some(self.inner.without_retries().unwrap_or(&*self.inner))
    }

    async fn get(&self, path: &ObjectPath) -> Result<Bytes> {
        again!(self, self.inner.get(path))
    }

    async fn get_range(&self, path: &ObjectPath, range: Range<u64>) -> Result<Bytes> {
        again!(self, self.inner.get_range(path, range.clone()))
    }

    async fn head(&self, path: &ObjectPath) -> Result<ObjectInfo> {
        again!(self, self.inner.head(path))
    }

    async fn get_versioned(&self, path: &ObjectPath) -> Result<(Bytes, Version)> {
        again!(self, self.inner.get_versioned(path))
    }

    async fn create(&self, path: &ObjectPath, bytes: Bytes) -> Result<Version> {
        match create_resolved(&*self.inner, path, &bytes, self.attempts(), &|| false).await? {
            Created::Now(version) | Created::Unclear(version) => Ok(version),
            Created::Before(error) => Err(error),
        }
    }

    async fn replace(&self, path: &ObjectPath, bytes: Bytes, expected: &Version) -> Result<Version> {
        let mut attempts = self.attempts();
        let mut unclear = false;
        loop {
            let error = match self.inner.replace(path, bytes.clone(), expected).await {
                Ok(version) => return Ok(version),
                Err(error) => error,
            };
            unclear |= error.is_retryable();
            if !unclear {
                return Err(error);
            }
            // Ours, if an earlier attempt took place; unchanged, if none did (yet).
            match self.inner.get_versioned(path).await {
                Ok((found, version)) if found == bytes => return Ok(version),
                Ok((_, version)) if version == *expected => attempts.pause_after(error).await?,
                Ok(_) => return Err(changed(path)),
                Err(e) if e.kind() == StorageErrorKind::NotFound => return Err(changed(path)),
                // Not even readable: the next attempt tells, as it is conditional.
                Err(e) => attempts.pause_after(e).await?,
            }
        }
    }

    async fn list(&self, folder: &ObjectPath) -> Result<Vec<ObjectInfo>> {
        again!(self, self.inner.list(folder))
    }

    async fn list_folders(&self, folder: Option<&ObjectPath>) -> Result<Vec<String>> {
        again!(self, self.inner.list_folders(folder))
    }

    async fn delete(&self, path: &ObjectPath) -> Result<()> {
        again!(self, self.inner.delete(path))
    }

    async fn sweep_staging(&self, folder: &ObjectPath, older_than: Duration) -> Result<u64> {
        again!(self, self.inner.sweep_staging(folder, older_than))
    }
}

fn changed(path: &ObjectPath) -> StorageError {
    StorageError::new(StorageErrorKind::Conflict, "the object was changed or removed meanwhile").at(path)
}

#[cfg(test)]
mod tests;
