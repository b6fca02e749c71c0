//! The memory engine: tables of rows that live in a program, backed up as streams and followed by a journal of changes.
//!
//! A program keeps its rows in a [`MemoryStore`], or lets its own store take part through [`Store`], and registers it with a
//! [`MemoryEngine`] under a name; `memory:NAME` is then a database like any other. What a backup contains is written down in
//! docs/engines/memory.md, which is normative.
//!
//! A store is only ever held up for the moment in which a view of it is taken: views share the rows, and whoever changes a row
//! meanwhile copies the few hundred around it first. A restore decodes and counts everything before it replaces anything.

mod archive;
mod decode;
mod encode;
mod encoded_store;
mod engine;
mod error;
pub mod ext;
mod gate;
mod index;
mod loaded;
mod memory_store;
mod packed;
mod restore;
mod rows;
mod store;
mod table;
mod view;
mod walk;

pub use encoded_store::{Blocks, EncodedStore};
pub use engine::{MemoryEngine, Registration};
pub use error::{MemoryError, MemoryErrorKind, MemoryResult};
pub use index::Index;
pub use loaded::{Loaded, LoadedTable};
pub use memory_store::MemoryStore;
pub use packed::Packed;
pub use store::{Loader, Position, Store};
pub use table::{Key, Row, Snapshot, Table};
pub use view::{Change, Entries, TableDescription, TableView, View};
