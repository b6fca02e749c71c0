//! The HTTP API of `copal serve` as a process: who it lets in, what it says of secrets, and how it ends.

// Everything here is a test or serves one; a panic is how a test fails.
#![allow(clippy::unwrap_used, clippy::print_stderr, dead_code, unused_macros, unused_imports)]

#[path = "api/addresses.rs"]
mod addresses;
#[path = "api/bodies.rs"]
mod bodies;
#[path = "api/first_start.rs"]
mod first_start;
#[path = "blackbox/home.rs"]
mod home;
#[path = "api/overview.rs"]
mod overview;
#[path = "api/page.rs"]
mod page;
#[path = "api/plans.rs"]
mod plans;
#[path = "api/secrets.rs"]
mod secrets;
#[path = "api/served.rs"]
mod served;
#[path = "api/sessions.rs"]
mod sessions;
