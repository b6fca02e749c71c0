//! The hammer: real DuckDBs of five versions write after patterns while they are captured from outside, and each copy is
//! opened by the same version and compared with what the writer had committed.
//!
//! Owns what must be true of live captures and of captures of databases whose writer was killed. Also shows that the
//! usual recipes fail under it, so that it is known to bite. `COPAL_TEST_ROUNDS` lengthens it (`make soak`).

// Everything here is a test or serves one; a panic is how a test fails.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[path = "hammer/copiers.rs"]
mod copiers;
#[path = "hammer/killed.rs"]
mod killed;
#[path = "hammer/live.rs"]
mod live;
#[path = "hammer/naive.rs"]
mod naive;
#[path = "hammer/places.rs"]
mod places;
#[path = "hammer/report.rs"]
mod report;
#[path = "hammer/session.rs"]
mod session;
#[path = "hammer/sink.rs"]
mod sink;
#[path = "hammer/verify.rs"]
mod verify;
#[path = "hammer/writer.rs"]
mod writer;

/// How often everything is to be done; 1 unless `COPAL_TEST_ROUNDS` says more.
fn rounds() -> u32 {
    std::env::var("COPAL_TEST_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(1)
}

/// How often what takes its time is to be done: once in the short run.
fn rounds_of_long_ones() -> usize {
    if rounds() > 1 { 2 * rounds() as usize } else { 1 }
}
