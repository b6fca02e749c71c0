//! One consistent view of a store: everything, or what changed since a position.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use copal_core::{Inventory, TableCount};

use crate::packed::{Taker, put_map, put_text};
use crate::{MemoryResult, Packed, Position};

/// What a table is, apart from its rows. Only the name means something to Copal; the rest is kept and given back as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableDescription {
    /// Its name, unique in the store.
    pub name: String,
    /// What the rows call their key, for example a field's name.
    pub primary_key: Packed,
    /// Fields and their types, in the store's own words.
    pub schema: Packed,
    /// The indexes that the store makes again from the rows.
    pub indexes: Packed,
    /// The key that the next row would get, where keys are counted.
    pub next_key: Packed,
    /// Anything else.
    pub metadata: Packed,
}

impl TableDescription {
    /// A table of which only the name is known.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        let parts = [
            ("primary_key", &self.primary_key),
            ("schema", &self.schema),
            ("indexes", &self.indexes),
            ("next_key", &self.next_key),
            ("metadata", &self.metadata),
        ];
        let known = parts.iter().filter(|(_, value)| !value.is_nil());
        put_map(out, 1 + u32::try_from(known.clone().count()).unwrap_or_default());
        put_text(out, "name");
        put_text(out, &self.name);
        for (name, value) in known {
            put_text(out, name);
            out.extend_from_slice(value.as_bytes());
        }
    }

    pub(crate) fn take(taker: &mut Taker<'_>) -> MemoryResult<Self> {
        let mut description = Self::default();
        let mut name = None;
        for _ in 0..taker.map()? {
            match taker.text()? {
                "name" => name = Some(taker.text()?.to_owned()),
                "primary_key" => description.primary_key = taker.packed()?,
                "schema" => description.schema = taker.packed()?,
                "indexes" => description.indexes = taker.packed()?,
                "next_key" => description.next_key = taker.packed()?,
                "metadata" => description.metadata = taker.packed()?,
                _ => drop(taker.value()?),
            }
        }
        description.name = name.ok_or(crate::MemoryError::Malformed("a table has no name"))?;
        Ok(description)
    }
}

/// Encoded entries of a view, in parts that any thread may write at any time: rows (a key and a row each) or keys.
pub trait Entries: Send + Sync {
    /// How many entries all parts have together.
    fn count(&self) -> u64;

    /// How many parts there are; good parts have some 10 to 100 KiB.
    fn parts(&self) -> usize;

    /// Appends the entries of one part, from 0, as MessagePack, and returns how many they are.
    fn write(&self, part: usize, out: &mut Vec<u8>) -> MemoryResult<u64>;
}

/// What became of a table since the position that a view follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The table is new, or to be taken as new: the view has all of its rows. In a view of everything all tables are.
    Whole,
    /// The table stayed, and its description is another one.
    Described,
    /// The table and its description stayed.
    Kept,
}

/// One table of a view.
#[derive(Clone)]
pub struct TableView {
    /// What it is.
    pub description: Arc<TableDescription>,
    /// What became of it.
    pub change: Change,
    /// All rows, or those that changed.
    pub upserts: Arc<dyn Entries>,
    /// The keys of rows that are gone; none if the table is whole. Keys that never were there do no harm.
    pub deletes: Arc<dyn Entries>,
}

impl fmt::Debug for TableView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TableView")
            .field("name", &self.description.name)
            .field("change", &self.change)
            .field("upserts", &self.upserts.count())
            .field("deletes", &self.deletes.count())
            .finish()
    }
}

/// A consistent view of a store. Reading it holds nobody up.
#[derive(Clone, Debug)]
pub struct View {
    /// The state that it shows.
    pub position: Position,
    /// The state that it follows; `None`: it shows everything.
    pub since: Option<Position>,
    /// How long writers were held up to take it.
    pub held: Duration,
    /// What the store keeps beside its tables; `None`: it is what it was.
    pub metadata: Option<Packed>,
    /// Names of tables that are gone and have no successor of the same name.
    pub dropped: Vec<String>,
    /// All tables, or those with changes.
    pub tables: Vec<TableView>,
    /// The rows of all tables of the store.
    pub counts: BTreeMap<String, u64>,
}

impl View {
    /// How long writers were held up to take it.
    pub fn held(&self) -> Duration {
        self.held
    }

    /// The tables of the store and their rows.
    pub fn inventory(&self) -> Inventory {
        inventory(&self.counts)
    }
}

/// Counts as an inventory.
pub(crate) fn inventory(counts: &BTreeMap<String, u64>) -> Inventory {
    let tables = counts.iter().map(|(name, rows)| TableCount { name: name.clone(), rows: Some(*rows) }).collect();
    Inventory { tables, ..Inventory::default() }
}
