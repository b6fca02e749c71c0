//! `BackupManager` and `Scheduler` over real databases and repositories: live writers, destinations that fail, programs that are killed.
//!
//! `COPAL_TEST_ROUNDS` multiplies how often programs are killed.

// Everything here is a test or serves one; a panic is how a test fails.
#![allow(clippy::unwrap_used)]

#[path = "manager/failures.rs"]
mod failures;
#[path = "manager/home.rs"]
mod home;
#[path = "manager/journal_points.rs"]
mod journal_points;
#[path = "manager/killed.rs"]
mod killed;
#[path = "manager/live.rs"]
mod live;
#[path = "manager/points.rs"]
mod points;
#[path = "manager/scheduler.rs"]
mod scheduler;
#[path = "manager/stores.rs"]
mod stores;

/// So many rounds, or a multiple of it.
fn rounds(base: u64) -> u64 {
    base * std::env::var("COPAL_TEST_ROUNDS").ok().and_then(|n| n.parse::<u64>().ok()).unwrap_or(1)
}
