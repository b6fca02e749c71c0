//! A storage that fails, delays, cuts short or dies at chosen calls, and records every call. For tests.
//!
//! Wraps any storage. Without faults it only records, which makes "how many calls does this take" an assertion.

use std::future::Future;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Call, Method, ObjectInfo, ObjectPath, Result, Storage, StorageError, StorageErrorKind, Version};

#[cfg(test)]
mod tests;

/// What happens at a chosen call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Fails without acting.
    Fail(StorageErrorKind),
    /// Acts, then answers with a transient error.
    LoseAnswer,
    /// Waits, then acts.
    Delay(Duration),
    /// A read answers with only so many bytes; a write stores only so many and answers with a transient error.
    Truncate(usize),
    /// This call and all later ones fail without acting, as after `kill -9` before the call.
    Kill,
    /// This call acts, then it and all later ones fail, as after `kill -9` before the answer arrived.
    KillAfter,
}

/// One planned fault: the nth call that matches, counted from 1.
#[derive(Clone, Debug)]
pub struct Fault {
    at: u64,
    repeats: bool,
    method: Option<Method>,
    writes_only: bool,
    prefix: String,
    action: Action,
    seen: u64,
}

impl Fault {
    /// At the nth call, counted from 1 among those that match.
    pub fn at(nth: u64, action: Action) -> Self {
        Self { at: nth, repeats: false, method: None, writes_only: false, prefix: String::new(), action, seen: 0 }
    }

    /// At every call from the nth on.
    pub fn from(nth: u64, action: Action) -> Self {
        Self { repeats: true, ..Self::at(nth, action) }
    }

    /// Counts only this method.
    pub fn on(mut self, method: Method) -> Self {
        self.method = Some(method);
        self
    }

    /// Counts only calls that can change something.
    pub fn on_writes(mut self) -> Self {
        self.writes_only = true;
        self
    }

    /// Counts only objects and folders whose name begins so.
    pub fn under(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    fn meets(&mut self, call: &Call) -> bool {
        let matches = self.method.is_none_or(|m| m == call.method)
            && (!self.writes_only || call.method.is_write())
            && call.path_text().starts_with(&self.prefix);
        self.seen += u64::from(matches);
        matches && (self.seen == self.at || self.repeats && self.seen > self.at)
    }
}

/// A wrapper with a plan of faults; clones share it, so one half can go into the code under test.
#[derive(Clone, Debug)]
pub struct FaultStorage {
    inner: Arc<dyn Storage>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    faults: Vec<Fault>,
    calls: Vec<Call>,
    killed: bool,
}

impl FaultStorage {
    /// Wraps a storage without any faults yet.
    pub fn new(inner: Arc<dyn Storage>) -> Self {
        Self { inner, state: Arc::default() }
    }

    /// Adds a fault; if several meet the same call, the first added acts.
    pub fn plan(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// Drops all faults, the records and the death.
    pub fn reset(&self) {
        *self.state() = State::default();
    }

    /// All calls so far, those that failed included.
    pub fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    /// The calls of one method so far.
    pub fn count(&self, method: Method) -> usize {
        self.state().calls.iter().filter(|c| c.method == method).count()
    }

    /// Whether a kill has happened.
    pub fn is_killed(&self) -> bool {
        self.state().killed
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a call and finds its fault.
    fn meet(&self, call: &Call) -> Result<Option<Action>> {
        let mut state = self.state();
        state.calls.push(call.clone());
        if state.killed {
            return Err(injected(StorageErrorKind::Other, "killed", call));
        }
        // Each of them counts the call, also those that do not act.
        let met: Vec<Action> = state.faults.iter_mut().filter_map(|f| f.meets(call).then_some(f.action)).collect();
        let action = met.first().copied();
        state.killed = matches!(action, Some(Action::Kill | Action::KillAfter));
        Ok(action)
    }

    /// Does a call under the plan. `act` is given the length to cut to, if the call is to be cut.
    async fn around<T, A: Future<Output = Result<T>>>(
        &self,
        call: Call,
        act: impl FnOnce(Option<usize>) -> A,
    ) -> Result<T> {
        match self.meet(&call)? {
            None => act(None).await,
            Some(Action::Fail(kind)) => Err(injected(kind, "failed", &call)),
            Some(Action::Kill) => Err(injected(StorageErrorKind::Other, "killed", &call)),
            Some(Action::Delay(time)) => {
                tokio::time::sleep(time).await;
                act(None).await
            }
            Some(Action::LoseAnswer) => {
                act(None).await?;
                Err(injected(StorageErrorKind::Transient, "answer lost", &call))
            }
            Some(Action::KillAfter) => {
                let _ = act(None).await;
                Err(injected(StorageErrorKind::Other, "killed after acting", &call))
            }
            Some(Action::Truncate(length)) => {
                let done = act(Some(length)).await?;
                if call.method.is_write() {
                    return Err(injected(StorageErrorKind::Transient, "cut short", &call));
                }
                Ok(done)
            }
        }
    }
}

fn injected(kind: StorageErrorKind, what: &str, call: &Call) -> StorageError {
    let error = StorageError::new(kind, format!("injected fault: {:?} {what}", call.method));
    match &call.path {
        Some(path) => error.at(path),
        None => error,
    }
}

fn cut(bytes: Bytes, length: Option<usize>) -> Bytes {
    let length = length.unwrap_or(usize::MAX).min(bytes.len());
    bytes.slice(..length)
}

#[async_trait]
impl Storage for FaultStorage {
    fn url(&self) -> &str {
        self.inner.url()
    }

    async fn get(&self, path: &ObjectPath) -> Result<Bytes> {
        let act = |length| async move { Ok(cut(self.inner.get(path).await?, length)) };
        self.around(Call::new(Method::Get, Some(path), 0), act).await
    }

    async fn get_range(&self, path: &ObjectPath, range: Range<u64>) -> Result<Bytes> {
        let call = Call::new(Method::GetRange, Some(path), range.end.saturating_sub(range.start));
        let act = |length| async move { Ok(cut(self.inner.get_range(path, range).await?, length)) };
        self.around(call, act).await
    }

    async fn head(&self, path: &ObjectPath) -> Result<ObjectInfo> {
        self.around(Call::new(Method::Head, Some(path), 0), |_| self.inner.head(path)).await
    }

    async fn get_versioned(&self, path: &ObjectPath) -> Result<(Bytes, Version)> {
        let act = |length| async move {
            let (bytes, version) = self.inner.get_versioned(path).await?;
            Ok((cut(bytes, length), version))
        };
        self.around(Call::new(Method::GetVersioned, Some(path), 0), act).await
    }

    async fn create(&self, path: &ObjectPath, bytes: Bytes) -> Result<Version> {
        let call = Call::new(Method::Create, Some(path), bytes.len() as u64);
        self.around(call, |length| self.inner.create(path, cut(bytes, length))).await
    }

    async fn replace(&self, path: &ObjectPath, bytes: Bytes, expected: &Version) -> Result<Version> {
        let call = Call::new(Method::Replace, Some(path), bytes.len() as u64);
        self.around(call, |length| self.inner.replace(path, cut(bytes, length), expected)).await
    }

    async fn list(&self, folder: &ObjectPath) -> Result<Vec<ObjectInfo>> {
        self.around(Call::new(Method::List, Some(folder), 0), |_| self.inner.list(folder)).await
    }

    async fn list_folders(&self, folder: Option<&ObjectPath>) -> Result<Vec<String>> {
        self.around(Call::new(Method::ListFolders, folder, 0), |_| self.inner.list_folders(folder)).await
    }

    async fn delete(&self, path: &ObjectPath) -> Result<()> {
        self.around(Call::new(Method::Delete, Some(path), 0), |_| self.inner.delete(path)).await
    }

    async fn sweep_staging(&self, folder: &ObjectPath, older_than: Duration) -> Result<u64> {
        let call = Call::new(Method::SweepStaging, Some(folder), 0);
        self.around(call, |_| self.inner.sweep_staging(folder, older_than)).await
    }
}
