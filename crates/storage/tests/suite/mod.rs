//! The conformance suite: what every storage promises, tried on the one it is given.

// Clippy knows only functions with `#[test]` as tests.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use copal_storage::lease::{self, Holder, Lease, Renewal};
use copal_storage::{Committed, ObjectPath, Storage, StorageErrorKind, SystemClock, commit, prove_conditional_writes};

/// What is known of the server behind a storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    /// It keeps every promise.
    Faithful,
    /// s3s-fs: it checks, then writes, so that two concurrent writers can win; and it answers 500 for a folder's name.
    S3sFs,
}

/// Runs everything on an empty storage.
pub(crate) async fn run(storage: Arc<dyn Storage>, server: Server) {
    reads_what_was_written(&*storage).await;
    ranges(&*storage).await;
    missing_objects(&*storage, server).await;
    creates_only_once(&*storage).await;
    replaces_only_the_expected_version(&*storage).await;
    lists(&*storage).await;
    deletes(&*storage).await;
    commits(&*storage).await;
    prove_conditional_writes(&*storage, &path("probe")).await.unwrap();
    assert!(storage.list(&path("probe")).await.unwrap().is_empty());
    leases(&storage).await;
    if server == Server::Faithful {
        one_of_many_creates_wins(&storage).await;
        one_of_many_replaces_wins(&storage).await;
    }
}

pub(crate) fn path(text: &str) -> ObjectPath {
    ObjectPath::parse(text).unwrap()
}

fn kind<T>(result: copal_storage::Result<T>) -> StorageErrorKind {
    match result {
        Ok(_) => panic!("an error was expected"),
        Err(e) => e.kind(),
    }
}

async fn reads_what_was_written(storage: &dyn Storage) {
    for (name, bytes) in [
        ("content/empty", Bytes::new()),
        ("content/small", Bytes::from_static(b"amber")),
        ("content/large", Bytes::from(vec![7; 3 << 20])),
        ("content/a/deep/er_folder-1/Name.x", Bytes::from_static(b"deep")),
    ] {
        let at = path(name);
        let version = storage.create(&at, bytes.clone()).await.unwrap();
        assert_eq!(storage.get(&at).await.unwrap(), bytes);
        let (found, found_version) = storage.get_versioned(&at).await.unwrap();
        assert_eq!((found, found_version), (bytes.clone(), version), "{name}");
        let info = storage.head(&at).await.unwrap();
        assert_eq!((info.path, info.size), (at, bytes.len() as u64));
        let age = jiff::Timestamp::now().duration_since(info.modified).abs();
        assert!(age < jiff::SignedDuration::from_mins(1), "{age:?}");
    }
}

async fn ranges(storage: &dyn Storage) {
    let at = path("ranges/x");
    storage.create(&at, "0123456789".into()).await.unwrap();
    for range in [0..10, 0..1, 9..10, 3..7, 0..0, 5..5, 10..10] {
        let expected = &b"0123456789"[range.start as usize..range.end as usize];
        assert_eq!(&storage.get_range(&at, range.clone()).await.unwrap()[..], expected, "{range:?}");
    }
    for range in [0..11, 9..11, 10..11, 20..30, 11..11, 0..1 << 20] {
        let error = storage.get_range(&at, range.clone()).await.unwrap_err();
        assert_eq!(error.kind(), StorageErrorKind::Truncated, "{range:?} {error:?}");
        assert_eq!(error.path.as_ref(), Some(&at));
    }
    assert_eq!(kind(storage.get_range(&path("ranges/none"), 0..1).await), StorageErrorKind::NotFound);
}

async fn missing_objects(storage: &dyn Storage, server: Server) {
    storage.create(&path("missing/folder/x"), "1".into()).await.unwrap();
    // Not there; inside a folder that is not there; a folder; below an object.
    for name in ["missing/none", "missing/none/none", "missing/folder", "missing/folder/x/y"] {
        if server == Server::S3sFs && name == "missing/folder" {
            continue;
        }
        let at = path(name);
        let error = storage.get(&at).await.unwrap_err();
        assert_eq!((error.kind(), error.path.as_ref()), (StorageErrorKind::NotFound, Some(&at)), "{error:?}");
        assert!(!error.is_storage_gone());
        assert_eq!(kind(storage.head(&at).await), StorageErrorKind::NotFound);
        assert_eq!(kind(storage.get_versioned(&at).await), StorageErrorKind::NotFound);
    }
}

async fn creates_only_once(storage: &dyn Storage) {
    let at = path("create/x");
    storage.create(&at, "first".into()).await.unwrap();
    let error = storage.create(&at, "second".into()).await.unwrap_err();
    assert_eq!((error.kind(), error.path.as_ref()), (StorageErrorKind::AlreadyExists, Some(&at)), "{error:?}");
    assert_eq!(kind(storage.create(&at, "first".into()).await), StorageErrorKind::AlreadyExists);
    assert_eq!(&storage.get(&at).await.unwrap()[..], b"first");
}

async fn replaces_only_the_expected_version(storage: &dyn Storage) {
    let at = path("replace/x");
    let first = storage.create(&at, "1".into()).await.unwrap();
    let second = storage.replace(&at, "2".into(), &first).await.unwrap();
    assert_ne!(first, second);
    let error = storage.replace(&at, "3".into(), &first).await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Conflict, "{error:?}");
    let (bytes, version) = storage.get_versioned(&at).await.unwrap();
    assert_eq!((&bytes[..], &version), (&b"2"[..], &second));
    let third = storage.replace(&at, "4".into(), &version).await.unwrap();
    storage.delete(&at).await.unwrap();
    assert_eq!(kind(storage.replace(&at, "5".into(), &third).await), StorageErrorKind::Conflict);
    assert_eq!(kind(storage.get(&at).await), StorageErrorKind::NotFound);
    assert_eq!(kind(storage.replace(&path("replace/none/x"), "6".into(), &third).await), StorageErrorKind::Conflict);
}

async fn lists(storage: &dyn Storage) {
    for name in ["list/b", "list/a", "list/a.b", "list/a-b", "list/f/x", "list/f/y", "list/f/g/z", "listing/other"] {
        storage.create(&path(name), name.to_owned().into()).await.unwrap();
    }
    let found = storage.list(&path("list")).await.unwrap();
    let names: Vec<&str> = found.iter().map(|info| info.path.as_str()).collect();
    let sorted = ["list/a", "list/a-b", "list/a.b", "list/b", "list/f/g/z", "list/f/x", "list/f/y"];
    assert_eq!(names, sorted);
    assert!(found.iter().all(|info| info.size == info.path.as_str().len() as u64));
    assert!(storage.list(&path("list/none")).await.unwrap().is_empty());
    assert!(storage.list(&path("list/a")).await.unwrap().is_empty(), "an object is no folder");
    assert_eq!(storage.list_folders(Some(&path("list"))).await.unwrap(), ["f"]);
    assert_eq!(storage.list_folders(Some(&path("list/f"))).await.unwrap(), ["g"]);
    assert!(storage.list_folders(Some(&path("list/none"))).await.unwrap().is_empty());
    storage.create(&path("list/gone/x"), "1".into()).await.unwrap();
    storage.delete(&path("list/gone/x")).await.unwrap();
    assert_eq!(storage.list_folders(Some(&path("list"))).await.unwrap(), ["f"], "an empty folder is none");
    let top = storage.list_folders(None).await.unwrap();
    assert!(top.is_sorted() && top.contains(&"list".to_owned()) && top.contains(&"listing".to_owned()), "{top:?}");
}

async fn deletes(storage: &dyn Storage) {
    let at = path("delete/x");
    storage.create(&at, "1".into()).await.unwrap();
    storage.delete(&at).await.unwrap();
    assert_eq!(kind(storage.get(&at).await), StorageErrorKind::NotFound);
    storage.delete(&at).await.unwrap();
    storage.delete(&path("delete/none/x")).await.unwrap();
    storage.create(&at, "2".into()).await.unwrap();
    assert_eq!(&storage.get(&at).await.unwrap()[..], b"2");
    assert_eq!(storage.sweep_staging(&path("delete"), Duration::ZERO).await.unwrap(), 0);
    assert_eq!(&storage.get(&at).await.unwrap()[..], b"2");
}

async fn commits(storage: &dyn Storage) {
    let at = path("commit/x");
    let never = || false;
    assert_eq!(commit(storage, &at, "1".into(), &never).await.unwrap(), Committed::Created);
    assert_eq!(commit(storage, &at, "1".into(), &never).await.unwrap(), Committed::AlreadyThere);
    assert_eq!(kind(commit(storage, &at, "2".into(), &never).await), StorageErrorKind::AlreadyExists);
}

async fn leases(storage: &Arc<dyn Storage>) {
    let at = path("leases/shop");
    let free = lease::observe(&**storage, &at).await.unwrap();
    assert!(free.is_free());
    let content = |name: &str| Lease::held(name, &path("databases/shop/backups/1"), Holder::current());
    let mut held = lease::acquire(storage, &at, &free, content("one")).await.unwrap();
    assert_eq!(kind(lease::acquire(storage, &at, &free, content("two")).await), StorageErrorKind::Conflict);
    held.renew().await.unwrap();
    let seen = lease::observe(&**storage, &at).await.unwrap();
    assert_eq!(seen.holder().unwrap().operation, "one");
    let renewal = Renewal::start(
        held,
        copal_storage::Clock::boot(&SystemClock::new()),
        Duration::from_secs(60),
        Arc::new(SystemClock::new()),
    );
    assert!(!renewal.lost());
    renewal.stop().await.unwrap().release().await.unwrap();
    let freed = lease::observe(&**storage, &at).await.unwrap();
    assert!(freed.is_free() && freed.lease.is_some());
    let held = lease::acquire(storage, &at, &freed, content("two")).await.unwrap();
    assert!(held.lease().sequence > seen.lease.unwrap().sequence);
    held.release().await.unwrap();
}

async fn one_of_many_creates_wins(storage: &Arc<dyn Storage>) {
    for round in 0..20 {
        let at = path(&format!("race/create-{round}"));
        let writers = (0..8).map(|n| {
            let (storage, at) = (Arc::clone(storage), at.clone());
            tokio::spawn(async move { (n, storage.create(&at, format!("writer {n}").into()).await) })
        });
        let mut winners = Vec::new();
        for writer in futures::future::join_all(writers).await {
            match writer.unwrap() {
                (n, Ok(_)) => winners.push(n),
                (_, Err(e)) => assert_eq!(e.kind(), StorageErrorKind::AlreadyExists, "{e:?}"),
            }
        }
        assert_eq!(winners.len(), 1, "{winners:?}");
        assert_eq!(storage.get(&at).await.unwrap(), format!("writer {}", winners[0]));
    }
}

async fn one_of_many_replaces_wins(storage: &Arc<dyn Storage>) {
    let at = path("race/replace");
    let mut version = storage.create(&at, "start".into()).await.unwrap();
    for round in 0..20 {
        let writers = (0..8).map(|n| {
            let (storage, at, version) = (Arc::clone(storage), at.clone(), version.clone());
            tokio::spawn(async move { storage.replace(&at, format!("{round}-{n}").into(), &version).await })
        });
        let mut winners = Vec::new();
        for writer in futures::future::join_all(writers).await {
            match writer.unwrap() {
                Ok(version) => winners.push(version),
                Err(e) => assert_eq!(e.kind(), StorageErrorKind::Conflict, "{e:?}"),
            }
        }
        assert_eq!(winners.len(), 1);
        version = winners.remove(0);
        assert_eq!(storage.get_versioned(&at).await.unwrap().1, version);
    }
}
