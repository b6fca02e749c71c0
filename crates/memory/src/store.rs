//! The trait by which a store takes part in backups.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::{MemoryError, MemoryResult, Packed, TableDescription, View};

/// A store of tables of rows with a key.
///
/// All calls may come from any thread. Tables are told by name; keys and rows are MessagePack values, and two keys are equal
/// if their bytes are. docs/engines/memory.md says what else a value must be.
pub trait Store: Send + Sync {
    /// Takes one consistent view, quickly: of everything, or of what changed since a position that an earlier view had.
    ///
    /// `Ok(None)`: nothing changed since then. Errors: `Gap` if that is not known any more. To ask for what changed since a position
    /// means that this state is saved, as if `saved` had been called. What a view tells, later ones tell again until then.
    fn view(&self, since: Option<Position>) -> MemoryResult<Option<View>>;

    /// Tells that the state at a position is saved, so nobody will ask what changed before. Unknown positions mean nothing.
    fn saved(&self, position: Position);

    /// The rows of all tables; if `is_deep`, every row is also written and read again as what it is.
    fn count(&self, is_deep: bool) -> MemoryResult<BTreeMap<String, u64>>;

    /// Begins to load other content, which the store does not show until it is committed. Dropping it forgets it.
    fn load(&self) -> MemoryResult<Box<dyn Loader>>;
}

/// Takes the content that is to replace a store's. Calls come in a valid order: only what exists is described, changed or dropped.
pub trait Loader: Send {
    /// Sets what the store keeps beside its tables.
    fn set_metadata(&mut self, metadata: Packed) -> MemoryResult<()>;

    /// Makes a new, empty table, in the place of one of the same name.
    fn create(&mut self, description: TableDescription) -> MemoryResult<()>;

    /// Describes a table anew; its rows stay.
    fn describe(&mut self, description: TableDescription) -> MemoryResult<()>;

    /// Drops a table.
    fn drop_table(&mut self, table: &str) -> MemoryResult<()>;

    /// Puts a row in its place; whether there was none with this key.
    fn upsert(&mut self, table: &str, key: &[u8], row: &[u8]) -> MemoryResult<bool>;

    /// Removes a row; whether it was there.
    fn delete(&mut self, table: &str, key: &[u8]) -> MemoryResult<bool>;

    /// The tables that were loaded and their rows.
    fn counts(&self) -> BTreeMap<String, u64>;

    /// Replaces all of the store's content in one step, and returns whether it had rows. Errors: `NotEmpty` if it has and they may not be
    /// replaced; then, and after any other error, the store is what it was.
    fn commit(self: Box<Self>, replace: bool) -> MemoryResult<bool>;
}

/// A state of a store: which life of which store, and a number in it. Written `<16 hexadecimal digits>:<number>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Random for each store object, and again after each load.
    pub epoch: u64,
    /// The number of the view.
    pub commit: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}:{}", self.epoch, self.commit)
    }
}

impl FromStr for Position {
    type Err = MemoryError;

    fn from_str(text: &str) -> Result<Self, MemoryError> {
        let parsed = text.split_once(':').and_then(|(epoch, commit)| {
            Some(Self { epoch: u64::from_str_radix(epoch, 16).ok()?, commit: commit.parse().ok()? })
        });
        // Not a position of ours: nothing is known since then.
        parsed.filter(|position| position.to_string() == text).ok_or_else(|| MemoryError::Gap(text.to_owned()))
    }
}
