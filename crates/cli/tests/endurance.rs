//! The program under fire: databases that are written to, kills at random times, disks that are full or read-only.
//!
//! `COPAL_TEST_ROUNDS` multiplies how long each of them goes on (`make soak`).

// Everything here is a test or serves one; a panic is how a test fails.
#![allow(clippy::unwrap_used, clippy::print_stderr, dead_code, unused_macros, unused_imports)]

#[path = "endurance/disk.rs"]
mod disk;
#[path = "endurance/disks.rs"]
mod disks;
#[path = "endurance/hammer.rs"]
mod hammer;
#[path = "blackbox/home.rs"]
mod home;
#[path = "endurance/kills.rs"]
mod kills;
#[path = "endurance/writer.rs"]
mod writer;

/// So many rounds, or a multiple of it.
fn rounds(base: u64) -> u64 {
    base * std::env::var("COPAL_TEST_ROUNDS").ok().and_then(|n| n.parse::<u64>().ok()).unwrap_or(1)
}
