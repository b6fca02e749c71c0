//! Many databases cost little while nothing is due. Alone in its process, which it measures.

// Everything here is a test; a panic is how a test fails.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use copal::Settings;
use copal::schedule::{Policy, Schedule};
use copal_daemon::{Recorder, Runner, RunnerSettings};
use jiff::Timestamp;

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_databases_wait_cheaply() {
    let folder = tempfile::tempdir().unwrap();
    let daily = Schedule::parse("0 3 * * *").unwrap();
    let policy = Policy { schedule: Some(daily), ..Policy::default() };
    let names = (0..2000).map(|n| format!("d{n}"));
    let policies = names.map(|name| (name, policy.clone())).collect();
    let settings = Settings::new(folder.path().join("repository").to_str().unwrap());
    let began = Instant::now();
    let (recorder, past) = Recorder::start(Some(folder.path()), Timestamp::now());
    let runner = Runner::start(RunnerSettings { settings, policies, limit: 4 }, recorder, past);
    runner.begin();
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    let before = processor_time();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let used = processor_time() - before;
    assert!(used < Duration::from_millis(100), "{used:?}");
    let status = runner.databases();
    assert_eq!(status.len(), 2000);
    assert!(status.iter().all(|database| database.backup.next > Some(Timestamp::now())));
    runner.stop(Duration::ZERO).await;
}

/// What the process has used of the processors, in steps of 10 ms.
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<u64> =
        text.rsplit_once(") ").unwrap().1.split(' ').map(|field| field.parse().unwrap_or_default()).collect();
    Duration::from_millis((fields[11] + fields[12]) * 10)
}
