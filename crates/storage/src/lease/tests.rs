use std::sync::Mutex;
use std::time::Duration;

use super::*;
use crate::fault::{Action, Fault, FaultStorage};
use crate::{Clock, MemoryStorage, Method, RetryPolicy, Retrying, SystemClock};

const TTL: Duration = Duration::from_secs(60);

fn path() -> ObjectPath {
    ObjectPath::parse("leases/shop").unwrap()
}

fn content(operation: &str) -> Lease {
    let commit = ObjectPath::parse("databases/shop/backups/20261120-153000Z-7f3a").unwrap();
    Lease::held(operation, &commit, Holder::current())
}

fn storages() -> (MemoryStorage, FaultStorage, Arc<dyn Storage>) {
    let memory = MemoryStorage::new();
    let faulty = FaultStorage::new(Arc::new(memory.clone()));
    let storage = Arc::new(faulty.clone());
    (memory, faulty, storage)
}

async fn take(storage: &Arc<dyn Storage>, operation: &str) -> Result<HeldLease> {
    let observed = observe(&**storage, &path()).await?;
    acquire(storage, &path(), &observed, content(operation)).await
}

#[tokio::test]
async fn the_written_form_is_the_documented_one() {
    let (memory, _, storage) = storages();
    take(&storage, "backup 1").await.unwrap();
    let bytes = memory.get(&path()).await.unwrap();
    let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(json["format"], 1);
    assert_eq!(json["state"], "held");
    assert_eq!(json["operation"], "backup 1");
    assert_eq!(json["commit"], "databases/shop/backups/20261120-153000Z-7f3a");
    assert_eq!(json["sequence"], 1);
    assert_eq!(json["holder"]["pid"], std::process::id());
    assert_eq!(json["nonce"].as_str().unwrap().len(), 32);
}

#[tokio::test]
async fn what_cannot_be_read_counts_as_held() {
    let (memory, _, storage) = storages();
    let later = br#"{"format":2,"state":"free"}"#;
    for garbage in [&b""[..], b"\xff\x00", b"{}", b"null", later] {
        memory.put(&path(), garbage.to_vec());
        let observed = observe(&*storage, &path()).await.unwrap();
        assert!(!observed.is_free() && observed.is_unreadable() && observed.holder().is_none());
        // It can be taken over all the same, once it has stood still.
        acquire(&storage, &path(), &observed, content("x")).await.unwrap();
    }
}

#[tokio::test]
async fn of_two_takers_one_is_told_conflict() {
    let (_, _, storage) = storages();
    for _ in 0..2 {
        // Once on an absent object, once on a freed one.
        let observed = observe(&*storage, &path()).await.unwrap();
        assert!(observed.is_free());
        let one = acquire(&storage, &path(), &observed, content("one")).await.unwrap();
        let error = acquire(&storage, &path(), &observed, content("two")).await.unwrap_err();
        assert_eq!(error.kind(), StorageErrorKind::Conflict);
        one.release().await.unwrap();
    }
}

#[tokio::test]
async fn a_taken_over_holder_can_neither_renew_nor_release() {
    let (_, _, storage) = storages();
    let mut one = take(&storage, "one").await.unwrap();
    let two = take(&storage, "two").await.unwrap();
    assert_eq!(one.renew().await.unwrap_err().kind(), StorageErrorKind::Conflict);
    assert_eq!(one.renew().await.unwrap_err().kind(), StorageErrorKind::Conflict);
    assert_eq!(one.release().await.unwrap_err().kind(), StorageErrorKind::Conflict);
    assert_eq!(observe(&*storage, &path()).await.unwrap().holder().unwrap().operation, "two");
    two.release().await.unwrap();
}

#[tokio::test]
async fn a_renewal_whose_answer_was_lost_is_not_taken_for_a_loss() {
    let (_, faulty, storage) = storages();
    let mut held = take(&storage, "one").await.unwrap();
    faulty.plan(Fault::at(1, Action::LoseAnswer).on(Method::Replace));
    faulty.plan(Fault::at(2, Action::Fail(StorageErrorKind::Transient)).on(Method::Replace));
    assert!(held.renew().await.unwrap_err().is_retryable());
    assert!(held.renew().await.unwrap_err().is_retryable());
    held.renew().await.unwrap();
    held.release().await.unwrap();
    assert!(observe(&*storage, &path()).await.unwrap().is_free());
}

#[tokio::test(start_paused = true)]
async fn every_lost_answer_is_resolved_under_retries() {
    for nth in 1..=6 {
        let (_, faulty, _) = storages();
        let storage: Arc<dyn Storage> = Arc::new(Retrying::new(Arc::new(faulty.clone()), RetryPolicy::default()));
        faulty.plan(Fault::at(nth, Action::LoseAnswer));
        let mut held = take(&storage, "one").await.unwrap();
        held.renew().await.unwrap();
        assert_eq!(take_free(&storage).await.unwrap_err().kind(), StorageErrorKind::Conflict);
        held.release().await.unwrap();
        take_free(&storage).await.unwrap();
    }
}

/// Takes it only if it is free, as the repository does.
async fn take_free(storage: &Arc<dyn Storage>) -> Result<HeldLease> {
    let observed = observe(&**storage, &path()).await?;
    if !observed.is_free() {
        return Err(StorageError::new(StorageErrorKind::Conflict, "busy"));
    }
    acquire(storage, &path(), &observed, content("two")).await
}

#[tokio::test(start_paused = true)]
async fn a_renewed_lease_is_seen_to_move_and_a_dead_one_to_stand_still() {
    let (_, _, storage) = storages();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let held = take(&storage, "one").await.unwrap();
    let renewal = Renewal::start(held, clock.boot(), TTL, Arc::clone(&clock));
    let observed = observe(&*storage, &path()).await.unwrap();
    match wait_unchanged(&*storage, &path(), &observed, TTL, &*clock).await.unwrap() {
        Waited::Changed(now) => assert!(now.holder().is_some()),
        Waited::Unchanged(_) => panic!("it was renewed"),
    }
    drop(renewal);
    tokio::task::yield_now().await;
    let observed = observe(&*storage, &path()).await.unwrap();
    let begin = clock.monotonic();
    match wait_unchanged(&*storage, &path(), &observed, TTL, &*clock).await.unwrap() {
        Waited::Unchanged(now) => drop(acquire(&storage, &path(), &now, content("two")).await.unwrap()),
        Waited::Changed(_) => panic!("nobody renews it"),
    }
    assert!(clock.monotonic() - begin >= TTL);
}

#[tokio::test(start_paused = true)]
async fn waiting_bears_a_storage_that_fails_for_a_while() {
    let (_, faulty, storage) = storages();
    let clock = SystemClock::new();
    take(&storage, "one").await.unwrap();
    let observed = observe(&*storage, &path()).await.unwrap();
    faulty.reset();
    for nth in 1..=4 {
        faulty.plan(Fault::at(nth, Action::Fail(StorageErrorKind::Transient)).on(Method::GetVersioned));
    }
    let waited = wait_unchanged(&*storage, &path(), &observed, TTL, &clock).await.unwrap();
    assert!(matches!(waited, Waited::Unchanged(_)));
}

/// A clock on paused tokio time whose machine can be put to sleep.
#[derive(Debug)]
struct TestClock {
    system: SystemClock,
    slept: Mutex<Duration>,
}

impl TestClock {
    fn new() -> Arc<Self> {
        Arc::new(Self { system: SystemClock::new(), slept: Mutex::default() })
    }
}

#[async_trait::async_trait]
impl Clock for TestClock {
    fn wall(&self) -> jiff::Timestamp {
        self.system.wall()
    }

    fn monotonic(&self) -> Duration {
        self.system.monotonic()
    }

    fn boot(&self) -> Duration {
        self.system.monotonic() + *self.slept.lock().unwrap()
    }

    async fn sleep(&self, duration: Duration) {
        self.system.sleep(duration).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_slept_counts_its_lease_as_lost_until_it_proves_otherwise() {
    let (_, _, storage) = storages();
    let clock = TestClock::new();
    let held = take(&storage, "one").await.unwrap();
    let renewal = Renewal::start(held, clock.boot(), TTL, clock.clone());
    tokio::time::sleep(TTL * 3).await;
    assert!(!renewal.lost());
    *clock.slept.lock().unwrap() += TTL * 10;
    assert!(renewal.lost());
    tokio::time::sleep(TTL / 2).await;
    assert!(!renewal.lost(), "nobody had taken it, as the conditional write showed");
    // Now somebody takes it during the sleep.
    *clock.slept.lock().unwrap() += TTL * 10;
    take(&storage, "two").await.unwrap();
    tokio::time::sleep(TTL / 2).await;
    assert!(renewal.lost());
    tokio::time::sleep(TTL * 2).await;
    assert!(renewal.lost());
    assert_eq!(renewal.stop().await.unwrap().release().await.unwrap_err().kind(), StorageErrorKind::Conflict);
}

#[tokio::test(start_paused = true)]
async fn a_storage_out_of_reach_loses_the_lease_after_its_time() {
    let (_, faulty, storage) = storages();
    let clock = TestClock::new();
    let held = take(&storage, "one").await.unwrap();
    let renewal = Renewal::start(held, clock.boot(), TTL, clock.clone());
    faulty.plan(Fault::from(1, Action::Fail(StorageErrorKind::Transient)).on(Method::Replace));
    tokio::time::sleep(TTL / 2).await;
    assert!(!renewal.lost());
    tokio::time::sleep(TTL).await;
    assert!(renewal.lost());
    faulty.reset();
    tokio::time::sleep(TTL / 2).await;
    assert!(!renewal.lost());
    renewal.stop().await.unwrap().release().await.unwrap();
}
