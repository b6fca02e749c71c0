//! `copal serve` as its users meet it: killed, cut off from databases and disks, reloaded and stopped, and what is left then.
//!
//! `COPAL_TEST_ROUNDS` multiplies how often it is killed.

// Everything here is a test or serves one; a panic is how a test fails.
#![allow(clippy::unwrap_used, clippy::print_stderr, dead_code, unused_macros, unused_imports)]

#[path = "daemon/away.rs"]
mod away;
#[path = "endurance/disk.rs"]
mod disk;
#[path = "daemon/full_disk.rs"]
mod full_disk;
#[path = "blackbox/home.rs"]
mod home;
#[path = "daemon/http.rs"]
mod http;
#[path = "daemon/kills.rs"]
mod kills;
#[path = "daemon/on_change.rs"]
mod on_change;
#[path = "daemon/process.rs"]
mod process;
#[path = "daemon/reload.rs"]
mod reload;
#[path = "daemon/rewind.rs"]
mod rewind;
#[path = "daemon/stop.rs"]
mod stop;
#[path = "daemon/systemd.rs"]
mod systemd;
#[path = "endurance/writer.rs"]
mod writer;

/// So many rounds, or a multiple of it.
fn rounds(base: u64) -> u64 {
    base * std::env::var("COPAL_TEST_ROUNDS").ok().and_then(|n| n.parse::<u64>().ok()).unwrap_or(1)
}
