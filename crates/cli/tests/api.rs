//! The HTTP API of `copal serve` as a process: who it lets in, what it says of secrets, and how it ends.

// Everything here is a test or serves one; a panic is how a test fails.
#![allow(clippy::unwrap_used, clippy::print_stderr, dead_code, unused_macros, unused_imports)]

#[path = "api/addresses.rs"]
mod addresses;
#[path = "api/bodies.rs"]
mod bodies;
#[path = "blackbox/home.rs"]
mod home;
#[path = "api/secrets.rs"]
mod secrets;
#[path = "api/served.rs"]
mod served;
