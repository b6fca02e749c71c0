use object_store::memory::InMemory;
use object_store::throttle::{ThrottleConfig, ThrottledStore};

use super::*;

fn path(text: &str) -> ObjectPath {
    ObjectPath::parse(text).unwrap()
}

#[tokio::test]
async fn names_lie_below_the_prefix_and_foreign_ones_are_not_listed() {
    let store = Arc::new(InMemory::new());
    let storage = ObjectStorage::new(store.clone(), "some/prefix", "memory:").unwrap();
    storage.create(&path("d/x"), "1".into()).await.unwrap();
    for foreign in ["some/prefix/d/with space", "some/prefixed/d/x", "some/d/x"] {
        store.put(&Path::parse(foreign).unwrap(), "?".into()).await.unwrap();
    }
    assert_eq!(store.head(&Path::from("some/prefix/d/x")).await.unwrap().size, 1);
    assert_eq!(storage.list(&path("d")).await.unwrap().len(), 1);
    assert_eq!(storage.list_folders(None).await.unwrap(), ["d"]);
    assert!(ObjectStorage::new(store, "a//b", "memory:").is_err());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_answer_is_given_up_on() {
    let slow =
        ThrottleConfig { wait_get_per_call: PATIENCE * 100, wait_put_per_call: PATIENCE * 100, ..Default::default() };
    let store = Arc::new(ThrottledStore::new(InMemory::new(), slow));
    let storage = ObjectStorage::new(store, "", "memory:").unwrap();
    for error in [storage.get(&path("x")).await.unwrap_err(), storage.create(&path("x"), "1".into()).await.unwrap_err()]
    {
        assert!(error.is_retryable(), "{error:?}");
        assert!(error.to_string().contains("did not answer within 60 s"), "{error}");
    }
}
