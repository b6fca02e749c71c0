//! The HTTP API.

// Nothing calls it yet.
#![allow(dead_code)]

mod limits;
