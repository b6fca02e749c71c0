//! A storage whose every call waits until a scheduler lets it go, to explore interleavings one by one. For tests.
//!
//! Give each actor its own [`SteppedStorage`] on one [`Scheduler`] and one memory storage, run the actors as tasks of
//! a `#[tokio::test(start_paused = true)]`, and alternate [`Scheduler::wait_quiet`] (everybody waits for a grant,
//! sleeps or has ended) with [`Scheduler::grant`]. Which call is granted next is then the whole choice.

use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Notify, oneshot};

use crate::{Call, Method, ObjectInfo, ObjectPath, Result, Storage, StorageError, StorageErrorKind, Version};

#[cfg(test)]
mod tests;

/// A call that waits to be granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingCall {
    /// Names it for [`Scheduler::grant`]; counts up in the order of registration.
    pub id: u64,
    /// Whose call it is.
    pub actor: String,
    /// What it would do.
    pub call: Call,
    /// The task that called, which tells an operation from what runs beside it, like the renewal of its lease.
    pub task: Option<tokio::task::Id>,
}

/// How a pending call goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// It acts and answers.
    Act,
    /// It fails without acting.
    Fail(StorageErrorKind),
    /// It acts and answers with a transient error.
    LoseAnswer,
    /// It answers with a transient error and, if it is a write, acts only at [`Scheduler::land`].
    ActLate,
}

/// Holds the calls of all actors back and lets them go one by one; clones are the same scheduler.
#[derive(Clone, Debug, Default)]
pub struct Scheduler {
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
}

#[derive(Debug, Default)]
struct State {
    next_id: u64,
    waiting: BTreeMap<u64, (PendingCall, oneshot::Sender<Grant>)>,
    granted: Vec<PendingCall>,
    late: BTreeMap<u64, (Arc<dyn Storage>, Write)>,
    has_ended: bool,
}

/// A write that can be done later.
#[derive(Debug)]
enum Write {
    Create(ObjectPath, Bytes),
    Replace(ObjectPath, Bytes, Version),
    Delete(ObjectPath),
}

impl Write {
    async fn land(self, storage: &dyn Storage) -> Result<()> {
        match self {
            Self::Create(path, bytes) => storage.create(&path, bytes).await.map(drop),
            Self::Replace(path, bytes, expected) => storage.replace(&path, bytes, &expected).await.map(drop),
            Self::Delete(path) => storage.delete(&path).await,
        }
    }
}

impl Scheduler {
    /// A scheduler without actors.
    pub fn new() -> Self {
        Self::default()
    }

    /// The storage of one actor.
    pub fn storage(&self, actor: impl Into<String>, inner: Arc<dyn Storage>) -> SteppedStorage {
        SteppedStorage { actor: actor.into(), scheduler: self.clone(), inner }
    }

    /// The calls that wait, in the order of registration.
    pub fn pending(&self) -> Vec<PendingCall> {
        self.state().waiting.values().map(|(call, _)| call.clone()).collect()
    }

    /// The calls granted so far, in order.
    pub fn granted(&self) -> Vec<PendingCall> {
        self.state().granted.clone()
    }

    /// Lets a waiting call act; `false` if it does not wait (any more).
    pub fn grant(&self, id: u64) -> bool {
        self.grant_as(id, Grant::Act)
    }

    /// Lets a waiting call go on in the given way; `false` if it does not wait (any more).
    pub fn grant_as(&self, id: u64, grant: Grant) -> bool {
        let mut state = self.state();
        let Some((call, waiter)) = state.waiting.remove(&id) else { return false };
        state.granted.push(call);
        waiter.send(grant).is_ok()
    }

    /// The writes granted as [`Grant::ActLate`] that have not acted yet, by the ids of their calls.
    pub fn late(&self) -> Vec<u64> {
        self.state().late.keys().copied().collect()
    }

    /// Lets a late write act, and gives the answer that nobody waits for any more; `None` if it is not late.
    pub async fn land(&self, id: u64) -> Option<Result<()>> {
        let (storage, write) = self.state().late.remove(&id)?;
        Some(write.land(&*storage).await)
    }

    /// Lets all calls fail that wait or come later, so that no thread waits for a test that is over.
    pub fn end(&self) {
        let mut state = self.state();
        state.has_ended = true;
        state.waiting.clear();
    }

    /// Waits until a call is registered, or was since the last wait. For actors that work in threads too, which
    /// [`Self::wait_quiet`] knows nothing of.
    pub async fn wait_change(&self) {
        self.changed.notified().await;
    }

    /// Ends a [`Self::wait_change`], for changes of which only the caller knows.
    pub fn note_change(&self) {
        self.changed.notify_one();
    }

    /// Waits until no task can go on by itself: each waits for a grant or sleeps, or has ended.
    ///
    /// Only on a current-thread runtime with paused time, where time moves on (by a millisecond) exactly when all
    /// tasks are idle.
    pub async fn wait_quiet(&self) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a call and waits for its grant.
    async fn admit(&self, actor: &str, call: &Call) -> Result<(u64, Grant)> {
        let (waiter, granted) = oneshot::channel();
        let ended = || StorageError::new(StorageErrorKind::Other, "the scheduler has ended");
        let id = {
            let mut state = self.state();
            if state.has_ended {
                return Err(ended());
            }
            let id = state.next_id;
            state.next_id += 1;
            let task = tokio::task::try_id();
            let pending = PendingCall { id, actor: actor.to_owned(), call: call.clone(), task };
            state.waiting.insert(id, (pending, waiter));
            id
        };
        self.note_change();
        // An actor that is dropped while it waits takes its call with it.
        let _registration = Registration { scheduler: self, id };
        Ok((id, granted.await.map_err(|e| ended().because(e))?))
    }
}

struct Registration<'a> {
    scheduler: &'a Scheduler,
    id: u64,
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        self.scheduler.state().waiting.remove(&self.id);
    }
}

/// The storage of one actor under a scheduler.
#[derive(Clone, Debug)]
pub struct SteppedStorage {
    actor: String,
    scheduler: Scheduler,
    inner: Arc<dyn Storage>,
}

impl SteppedStorage {
    async fn step<T>(&self, call: Call, act: impl Future<Output = Result<T>>) -> Result<T> {
        self.step_writing(call, act, || None).await
    }

    async fn step_writing<T>(
        &self,
        call: Call,
        act: impl Future<Output = Result<T>>,
        write: impl FnOnce() -> Option<Write>,
    ) -> Result<T> {
        let error = |kind| StorageError::new(kind, format!("stepped: {:?} of {}", call.method, self.actor));
        match self.scheduler.admit(&self.actor, &call).await? {
            (_, Grant::Act) => act.await,
            (_, Grant::Fail(kind)) => Err(error(kind)),
            (_, Grant::LoseAnswer) => {
                act.await?;
                Err(error(StorageErrorKind::Transient))
            }
            (id, Grant::ActLate) => {
                if let Some(write) = write() {
                    self.scheduler.state().late.insert(id, (Arc::clone(&self.inner), write));
                }
                Err(error(StorageErrorKind::Transient))
            }
        }
    }
}

#[async_trait]
impl Storage for SteppedStorage {
    fn url(&self) -> &str {
        self.inner.url()
    }

    async fn get(&self, path: &ObjectPath) -> Result<Bytes> {
        self.step(Call::new(Method::Get, Some(path), 0), self.inner.get(path)).await
    }

    async fn get_range(&self, path: &ObjectPath, range: Range<u64>) -> Result<Bytes> {
        let call = Call::new(Method::GetRange, Some(path), range.end.saturating_sub(range.start));
        self.step(call, self.inner.get_range(path, range)).await
    }

    async fn head(&self, path: &ObjectPath) -> Result<ObjectInfo> {
        self.step(Call::new(Method::Head, Some(path), 0), self.inner.head(path)).await
    }

    async fn get_versioned(&self, path: &ObjectPath) -> Result<(Bytes, Version)> {
        self.step(Call::new(Method::GetVersioned, Some(path), 0), self.inner.get_versioned(path)).await
    }

    async fn create(&self, path: &ObjectPath, bytes: Bytes) -> Result<Version> {
        let call = Call::new(Method::Create, Some(path), bytes.len() as u64);
        let late = bytes.clone();
        let write = || Some(Write::Create(path.clone(), late));
        self.step_writing(call, self.inner.create(path, bytes), write).await
    }

    async fn replace(&self, path: &ObjectPath, bytes: Bytes, expected: &Version) -> Result<Version> {
        let call = Call::new(Method::Replace, Some(path), bytes.len() as u64);
        let late = bytes.clone();
        let write = || Some(Write::Replace(path.clone(), late, expected.clone()));
        self.step_writing(call, self.inner.replace(path, bytes, expected), write).await
    }

    async fn list(&self, folder: &ObjectPath) -> Result<Vec<ObjectInfo>> {
        self.step(Call::new(Method::List, Some(folder), 0), self.inner.list(folder)).await
    }

    async fn list_folders(&self, folder: Option<&ObjectPath>) -> Result<Vec<String>> {
        self.step(Call::new(Method::ListFolders, folder, 0), self.inner.list_folders(folder)).await
    }

    async fn delete(&self, path: &ObjectPath) -> Result<()> {
        let call = Call::new(Method::Delete, Some(path), 0);
        self.step_writing(call, self.inner.delete(path), || Some(Write::Delete(path.clone()))).await
    }

    async fn sweep_staging(&self, folder: &ObjectPath, older_than: Duration) -> Result<u64> {
        let call = Call::new(Method::SweepStaging, Some(folder), 0);
        self.step(call, self.inner.sweep_staging(folder, older_than)).await
    }
}
