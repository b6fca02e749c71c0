use super::*;
use crate::MemoryStorage;

fn path(text: &str) -> ObjectPath {
    ObjectPath::parse(text).unwrap()
}

fn storages() -> (MemoryStorage, FaultStorage) {
    let memory = MemoryStorage::new();
    (memory.clone(), FaultStorage::new(Arc::new(memory)))
}

#[tokio::test]
async fn a_kill_stops_everything_before_it_acts() {
    let (memory, faulty) = storages();
    faulty.plan(Fault::at(2, Action::Kill).on_writes());
    faulty.create(&path("a"), "1".into()).await.unwrap();
    faulty.get(&path("a")).await.unwrap();
    assert!(faulty.create(&path("b"), "1".into()).await.is_err());
    assert!(!faulty.get(&path("a")).await.unwrap_err().is_retryable());
    assert!(faulty.is_killed());
    assert_eq!(memory.contents().len(), 1);
    assert_eq!(faulty.calls().len(), 4);
    faulty.reset();
    faulty.get(&path("a")).await.unwrap();
}

#[tokio::test]
async fn a_kill_after_acting_leaves_the_object() {
    let (memory, faulty) = storages();
    faulty.plan(Fault::at(1, Action::KillAfter).on(Method::Create).under("b"));
    faulty.create(&path("a"), "1".into()).await.unwrap();
    assert!(faulty.create(&path("b/x"), "1".into()).await.is_err());
    assert!(faulty.list(&path("b")).await.is_err());
    assert_eq!(memory.contents().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn delays_cuts_and_lost_answers() {
    let (memory, faulty) = storages();
    memory.put(&path("x"), "123456");
    faulty.plan(Fault::at(1, Action::Delay(Duration::from_secs(5))).on(Method::Get));
    let begin = tokio::time::Instant::now();
    assert_eq!(faulty.get(&path("x")).await.unwrap().len(), 6);
    assert_eq!(begin.elapsed().as_secs(), 5);
    faulty.plan(Fault::from(1, Action::Truncate(2)));
    assert_eq!(&faulty.get(&path("x")).await.unwrap()[..], b"12");
    assert_eq!(&faulty.get_range(&path("x"), 1..5).await.unwrap()[..], b"23");
    assert!(faulty.create(&path("y"), "123".into()).await.unwrap_err().is_retryable());
    assert_eq!(&memory.get(&path("y")).await.unwrap()[..], b"12");
    faulty.reset();
    faulty.plan(Fault::at(1, Action::LoseAnswer));
    assert!(faulty.delete(&path("y")).await.unwrap_err().is_retryable());
    assert_eq!(memory.contents().len(), 1);
}
