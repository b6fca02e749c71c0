//! The API as a whole, over a real runner and a real repository.

mod access;
mod home;
mod requests;
mod restores;
mod runs;
mod streams;

use home::{Answer, Home, encoded};
