//! The program as its users meet it: a hermetic home, real files, exit codes, and every page as a snapshot.
//!
//! After an intended change: `INSTA_UPDATE=always cargo test -p copal-cli --test blackbox`, then read the difference.

// Everything here is a test or serves one; a panic is how a test fails.
#![allow(clippy::unwrap_used)]

#[path = "blackbox/configuration.rs"]
mod configuration;
#[path = "blackbox/duckdb.rs"]
mod duckdb;
#[path = "blackbox/encryption.rs"]
mod encryption;
#[path = "blackbox/home.rs"]
mod home;
#[path = "blackbox/interruption.rs"]
mod interruption;
#[path = "blackbox/journey.rs"]
mod journey;
#[path = "blackbox/killed.rs"]
mod killed;
#[path = "blackbox/memory.rs"]
mod memory;
#[path = "blackbox/migrate.rs"]
mod migrate;
#[path = "blackbox/mistakes.rs"]
mod mistakes;
#[path = "blackbox/postgres.rs"]
mod postgres;
#[path = "blackbox/s3.rs"]
mod s3;
#[path = "blackbox/snaps.rs"]
mod snaps;
#[path = "blackbox/status.rs"]
mod status;
#[path = "blackbox/together.rs"]
mod together;
#[path = "blackbox/token.rs"]
mod token;
#[path = "blackbox/usage.rs"]
mod usage;
