//! Content goes in through the sink and comes back byte for byte, whole and changed.

use std::time::Duration;

use copal_core::{Context, PageFileSpec, Sink};
use copal_repository::WriteOptions;
use copal_storage::Method;
use copal_storage::fault::{Action, Fault};

use crate::common;
use crate::common::{Rig, file_bytes};

#[tokio::test(flavor = "multi_thread")]
async fn files_come_back_and_unchanged_pages_are_shared() {
    for encrypted in [true, false] {
        let rig = Rig::new(encrypted).await;
        for (page_size, pages, tail) in
            [(512, 3, 0), (4096, 9000, 0), (4096, 1, 100), (65536, 40, 1), (1000, 5000, 999)]
        {
            let name = format!("db-{page_size}-{pages}");
            let database = rig.database(&name).await;
            let mut bytes = file_bytes(7, page_size * pages + tail);
            let first = rig.backup(&database, &bytes, page_size).await;
            assert_eq!(rig.restore(&database, &first).await, bytes);
            bytes[page_size * (pages / 2)] ^= 1;
            let second = rig.backup(&database, &bytes, page_size).await;
            assert!(second.body.added_bytes < first.body.added_bytes.max(20_000), "{name}");
            assert_eq!(rig.restore(&database, &second).await, bytes);
            let third = rig.backup(&database, &bytes, page_size).await;
            assert_eq!(third.body.added_bytes, 0, "{name}: nothing changed");
            for keep in [pages / 2, 0, pages + 5000] {
                let other = file_bytes(7, page_size * keep);
                let shorter = rig.backup(&database, &other, page_size).await;
                assert_eq!(rig.restore(&database, &shorter).await, other, "{name} {keep}");
            }
            let damaged = rig.repository.verify(&database, first, &Context::silent()).await.unwrap();
            assert!(damaged.is_empty(), "{damaged:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_cache_the_same_is_shared() {
    let rig = Rig::new(true).await;
    let database = rig.database("a").await;
    let mut bytes = file_bytes(1, 4096 * 10_000);
    rig.backup(&database, &bytes, 4096).await;
    rig.forget();
    bytes[0] ^= 1;
    let second = rig.backup(&database, &bytes, 4096).await;
    assert!(second.body.added_bytes < 200_000, "{}", second.body.added_bytes);
    assert_eq!(rig.restore(&database, &second).await, bytes);
}

/// What is read of a database and not stored yet lies in memory, so there must not be more of it the longer it takes.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_storage_holds_the_engine_back() {
    const RUN: usize = 1 << 20;
    const PACK: usize = 16 << 20;
    let (storage, repository, _state) = common::with_faults().await;
    let database = common::database(&repository, "a").await;
    storage.plan(Fault::from(1, Action::Delay(Duration::from_millis(300))).on(Method::Create));
    let options = WriteOptions { level: None, uploads: 1, workers: Some(2), ..WriteOptions::default() };
    let (session, mut sink) = repository.begin_backup(&database, &options, &Context::silent()).await.unwrap();
    let before = storage.count(Method::Create);
    let calls = storage.clone();
    let (ahead, sink) = tokio::task::spawn_blocking(move || {
        let spec = PageFileSpec { name: "main.db".into(), page_size: 4096, head_length: 0 };
        let file = sink.begin(&spec).unwrap();
        let mut ahead = 0;
        for number in 0..128 {
            sink.pages(file, (number * RUN / 4096) as u64, &file_bytes(number as u64, RUN)).unwrap();
            let begun = calls.count(Method::Create) - before;
            ahead = ahead.max(((number + 1) * RUN).saturating_sub(begun * PACK));
        }
        (ahead, sink)
    })
    .await
    .unwrap();
    session.abandon(Some(sink)).await;
    // One pack whose upload begins, one that is full and waits, and the runs between the engine and the packs.
    assert!(ahead <= 2 * PACK + 10 * RUN, "{} MiB wait", ahead / RUN);
}
