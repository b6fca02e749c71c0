//! Content goes in through the sink and comes back byte for byte, whole and changed.

mod common;

use common::{Rig, file_bytes};
use copal_core::Context;

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
