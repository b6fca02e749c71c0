//! Tables, archives and views as programs use them. One program, since each would compile the same code anew.

// Everything here is a test or serves one; a panic is how a test fails.
#![allow(clippy::unwrap_used, unreachable_pub)]

mod archives;
mod common;
mod hostile;
mod model;
mod types;
mod views;
