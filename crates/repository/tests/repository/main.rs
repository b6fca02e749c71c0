//! The repository as its users see it. One program: each would compile all that is asynchronous in it anew.

// Everything here is a test or serves one; a panic is how a test fails.
#![allow(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used, unreachable_pub)]

mod clocks;
mod common;
mod crash;
mod damage;
mod damage_journal;
mod frozen_journal;
mod frozen_streams;
mod hostile;
#[cfg(feature = "fuzzing")]
mod hostile_corpus;
mod hostile_journal;
mod hostile_streams;
mod interleavings;
mod interleavings_journal;
mod interleavings_rights;
mod journal;
mod journal_races;
mod journal_speed;
mod keys;
mod model;
mod oracle;
mod roundtrip;
mod steps;
mod stream_speed;
mod streams;
