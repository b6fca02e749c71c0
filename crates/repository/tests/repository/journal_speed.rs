//! What a small segment costs in a local folder: `cargo test -p copal-repository --test repository -- journal_speed --ignored --nocapture`.

use std::sync::Arc;
use std::time::Instant;

use copal_core::Secret;
use copal_repository::Repository;
use copal_storage::fault::FaultStorage;
use copal_storage::{LocalStorage, Storage};

use crate::common;
use crate::common::journal::append;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures"]
async fn a_segment_of_100_kb() {
    let (folder, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let local: Arc<dyn Storage> = Arc::new(LocalStorage::open(folder.path()).unwrap());
    let counted = FaultStorage::new(local);
    let shared: Arc<dyn Storage> = Arc::new(counted.clone());
    let secret = Secret::new(common::PASSPHRASE);
    let repository = Repository::create(shared, Some(&secret), &[], common::options(&state)).await.unwrap();
    let database = common::database(&repository, "a").await;
    let mut end = common::backup(&repository, &database, &[1; 4096], 1024).await.unwrap().end();
    let mut times = Vec::new();
    for i in 0..100 {
        let bytes = common::file_bytes(i, 100_000);
        counted.reset();
        let started = Instant::now();
        end = append(&repository, &database, &end, &bytes).await.unwrap().end;
        times.push(started.elapsed());
    }
    let calls: Vec<String> = counted.calls().iter().map(|c| format!("{:?} {}", c.method, c.path_text())).collect();
    times.sort();
    println!("median {:?}, slowest {:?}, {} calls:\n{}", times[50], times[99], calls.len(), calls.join("\n"));
}
