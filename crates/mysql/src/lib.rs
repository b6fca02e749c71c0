//! MySQL and MariaDB: snapshots of databases (schemas), and rewinds to them.
//!
//! A snapshot is a schema `copal_snap_…` with the tables, and a table in it that says what it is and has the texts of all that
//! is no table. Copies are made by the server itself, in one view of it (`copy.rs`). A rewind makes another copy, and one
//! RENAME TABLE puts that in the place of what is there.
//!
//! # What a kill can leave
//!
//! Every change is made under a lock of the server that is gone with its holder's connection, so what the next call for the
//! database finds under the lock is nobody's any more; it ends statements that a killed process left running.
//!
//! | state | the next call |
//! |---|---|
//! | a snapshot without its row in `copal_snapshot`; a spare copy without its row, or whose snapshot is gone | drops it: it was being made or removed |
//! | a working schema without a plan in `copal_rewind` | drops it: the database was not touched |
//! | a working schema with a plan, and nothing in the aside schema: triggers and views of the database may be gone already | undoes: puts these back, drops the working schema (a spare copy stays one). What was written since then is kept |
//! | the same, but tables in the aside schema: a server without atomic RENAME TABLE died | goes on: renames the rest, then as below |
//! | an aside schema with the plan, which the renaming itself has put there: the tables are the snapshot's, and perhaps not yet all views, routines, triggers and events | makes these, then drops the aside schema |
//! | an aside schema without a plan, and no working schema with one | drops it: it was being dropped |

mod address;
mod catalogue;
mod check;
mod copy;
mod definition;
mod engine;
mod failure;
mod holders;
mod inventory;
mod names;
mod objects;
mod privileges;
mod quote;
mod rewind;
mod session;
mod settle;
mod snapshots;
mod step;
mod stored;
#[cfg(any(test, feature = "testkit"))]
pub mod testing;
#[cfg(test)]
mod tests;

pub use engine::MysqlEngine;
