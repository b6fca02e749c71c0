//! Runs and notifications as a daemon does them. One program, since each would compile all that is asynchronous in it anew.

// Everything here is a test or serves one; a panic is how a test fails.
#![allow(clippy::unwrap_used)]

mod home;
mod notifications;
mod runner;
