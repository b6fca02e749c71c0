//! The API as a whole, over a real runner and a real repository.

mod access;
mod home;
mod plans;
mod repository;
mod requests;
mod restores;
mod runs;
mod sessions;
mod snapshots;
mod streams;

use home::{Answer, Home, encoded};
