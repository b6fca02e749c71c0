use super::*;
use crate::fault::{Action, Fault, FaultStorage};
use crate::{Committed, MemoryStorage, Method, commit};

fn path(text: &str) -> ObjectPath {
    ObjectPath::parse(text).unwrap()
}

fn storages() -> (MemoryStorage, FaultStorage, Retrying) {
    let memory = MemoryStorage::new();
    let faulty = FaultStorage::new(Arc::new(memory.clone()));
    let retrying = Retrying::new(Arc::new(faulty.clone()), RetryPolicy::default());
    (memory, faulty, retrying)
}

const LOST: Action = Action::LoseAnswer;
const FAILED: Action = Action::Fail(StorageErrorKind::Transient);

#[tokio::test(start_paused = true)]
async fn transient_reads_are_tried_again_a_bounded_number_of_times() {
    let (memory, faulty, retrying) = storages();
    memory.put(&path("x"), "1");
    faulty.plan(Fault::at(1, FAILED));
    faulty.plan(Fault::at(2, FAILED));
    assert_eq!(&retrying.get(&path("x")).await.unwrap()[..], b"1");
    assert_eq!(faulty.count(Method::Get), 3);
    faulty.reset();
    faulty.plan(Fault::from(1, FAILED));
    assert!(retrying.get(&path("x")).await.unwrap_err().is_retryable());
    assert_eq!(faulty.count(Method::Get), 8);
}

#[tokio::test(start_paused = true)]
async fn other_errors_are_not_tried_again() {
    let (_, faulty, retrying) = storages();
    for kind in [StorageErrorKind::PermissionDenied, StorageErrorKind::NoSpace, StorageErrorKind::Other] {
        faulty.reset();
        faulty.plan(Fault::from(1, Action::Fail(kind)));
        assert_eq!(retrying.create(&path("x"), "1".into()).await.unwrap_err().kind(), kind);
        assert_eq!(faulty.calls().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_create_whose_answer_is_lost_is_found_and_not_repeated() {
    let (_, faulty, retrying) = storages();
    faulty.plan(Fault::at(1, LOST).on(Method::Create));
    let version = retrying.create(&path("x"), "1".into()).await.unwrap();
    assert_eq!(faulty.count(Method::Create), 1);
    retrying.replace(&path("x"), "2".into(), &version).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_create_that_did_not_act_is_repeated() {
    let (_, faulty, retrying) = storages();
    faulty.plan(Fault::at(1, FAILED).on(Method::Create));
    retrying.create(&path("x"), "1".into()).await.unwrap();
    assert_eq!(faulty.count(Method::Create), 2);
}

#[tokio::test(start_paused = true)]
async fn a_create_is_not_confused_with_anothers() {
    let (memory, faulty, retrying) = storages();
    // At once there; and there after an answer of ours was lost without acting.
    memory.put(&path("x"), "other");
    let error = retrying.create(&path("x"), "1".into()).await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::AlreadyExists);
    faulty.reset();
    faulty.plan(Fault::at(1, FAILED).on(Method::Create));
    let error = retrying.create(&path("x"), "1".into()).await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::AlreadyExists);
    // Equal bytes from before are not ours either, as nothing of ours was unclear.
    let error = retrying.create(&path("x"), "other".into()).await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::AlreadyExists);
    assert_eq!(&memory.get(&path("x")).await.unwrap()[..], b"other");
}

#[tokio::test(start_paused = true)]
async fn a_create_cut_short_is_never_taken_for_done() {
    let (_, faulty, retrying) = storages();
    faulty.plan(Fault::at(1, Action::Truncate(3)).on(Method::Create));
    let error = retrying.create(&path("x"), "123456".into()).await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::AlreadyExists);
    assert!(error.to_string().contains("other content"));
}

#[tokio::test(start_paused = true)]
async fn a_create_is_resolved_even_if_reading_back_fails_for_a_while() {
    let (_, faulty, retrying) = storages();
    faulty.plan(Fault::at(1, LOST).on(Method::Create));
    faulty.plan(Fault::at(1, FAILED).on(Method::GetVersioned));
    faulty.plan(Fault::at(2, FAILED).on(Method::Create));
    retrying.create(&path("x"), "1".into()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn replaces_are_resolved_like_creates() {
    let (memory, faulty, retrying) = storages();
    let first = retrying.create(&path("x"), "1".into()).await.unwrap();
    faulty.plan(Fault::at(1, LOST).on(Method::Replace));
    let second = retrying.replace(&path("x"), "2".into(), &first).await.unwrap();
    assert_eq!(faulty.count(Method::Replace), 1);
    faulty.reset();
    faulty.plan(Fault::at(1, FAILED).on(Method::Replace));
    let third = retrying.replace(&path("x"), "3".into(), &second).await.unwrap();
    assert_eq!(faulty.count(Method::Replace), 2);
    // Somebody else in between; and gone.
    faulty.reset();
    faulty.plan(Fault::from(1, FAILED).on(Method::Replace));
    memory.put(&path("x"), "other");
    let error = retrying.replace(&path("x"), "4".into(), &third).await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Conflict);
    memory.delete(&path("x")).await.unwrap();
    let error = retrying.replace(&path("x"), "4".into(), &third).await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Conflict);
}

#[tokio::test(start_paused = true)]
async fn every_single_fault_in_a_commit_ends_in_the_truth() {
    for kind in [LOST, FAILED] {
        for nth in 1..=4 {
            let (memory, faulty, retrying) = storages();
            faulty.plan(Fault::at(nth, kind));
            faulty.plan(Fault::at(nth + 1, kind));
            assert_eq!(commit(&retrying, &path("x"), "1".into(), &|| false).await.unwrap(), Committed::Created);
            assert_eq!(&memory.get(&path("x")).await.unwrap()[..], b"1");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_began_too_long_ago_is_not_tried_again() {
    let (memory, faulty, retrying) = storages();
    faulty.plan(Fault::at(1, FAILED).on(Method::Create));
    let error = commit(&retrying, &path("x"), "1".into(), &|| true).await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Other, "{error:?}");
    assert_eq!(faulty.count(Method::Create), 1, "the wrapper below must not try again either");
    assert!(memory.contents().is_empty());
    // But one that took place is found.
    faulty.reset();
    faulty.plan(Fault::at(1, LOST).on(Method::Create));
    assert_eq!(commit(&retrying, &path("x"), "1".into(), &|| true).await.unwrap(), Committed::Created);
}

/// A clock whose machine sleeps for a day whenever it pauses.
#[derive(Debug, Default)]
struct Sleeper(std::sync::Mutex<Duration>);

#[async_trait]
impl Clock for Sleeper {
    fn wall(&self) -> jiff::Timestamp {
        jiff::Timestamp::UNIX_EPOCH
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }

    fn boot(&self) -> Duration {
        *self.0.lock().unwrap()
    }

    async fn sleep(&self, _: Duration) {
        *self.0.lock().unwrap() += Duration::from_secs(86_400);
    }
}

#[tokio::test]
async fn a_machine_that_slept_does_not_go_on_where_it_was() {
    let faulty = FaultStorage::new(Arc::new(MemoryStorage::new()));
    let inner: Arc<dyn Storage> = Arc::new(faulty.clone());
    let retrying = Retrying::with_clock(inner, RetryPolicy::default(), Arc::new(Sleeper::default()));
    faulty.plan(Fault::at(1, FAILED).on(Method::Create));
    assert!(retrying.create(&path("x"), "1".into()).await.unwrap_err().is_retryable());
    assert_eq!(faulty.count(Method::Create), 1);
}
