//! Rows of tables made into the bytes of a view.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use copal::memory::{Blocks, Change, Packed, Position, TableDescription, TableView, View};
use pyo3::exceptions::{PyIndexError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};

use super::saved::{Change as Changed, Changes, hash};
use crate::msgpack::{Encoder, Keys};
use crate::rows::{BLOCK_ROWS, Rows, Shape};

/// Deleted keys of one block.
const BLOCK_KEYS: usize = 8192;

/// A view under construction: tables, and the rows of each, block by block.
#[pyclass(module = "copal._copal")]
pub(crate) struct PackedView {
    is_full: bool,
    held: Duration,
    metadata: Option<Packed>,
    dropped: Vec<String>,
    counts: BTreeMap<String, u64>,
    tables: Vec<Table>,
}

struct Table {
    description: TableDescription,
    is_whole: bool,
    field: Option<Py<PyAny>>,
    upserts: Blocks,
    deletes: Blocks,
    /// Hashes of the keys of rows, and of deleted keys.
    upserted: HashSet<u64>,
    deleted: Vec<u64>,
}

fn packed(value: &Bound<'_, PyAny>) -> PyResult<Packed> {
    let mut encoder = Encoder::default();
    encoder.value(value)?;
    Packed::new(encoder.out).map_err(|error| PyTypeError::new_err(error.to_string()))
}

#[pymethods]
impl PackedView {
    /// A view of everything, or of what changed; how long writers were held up for it, in seconds; the names of dropped tables; and how
    /// many rows each table has.
    #[new]
    #[pyo3(signature = (is_full, held, dropped, counts, metadata = None))]
    fn new(
        is_full: bool,
        held: f64,
        dropped: Vec<String>,
        counts: BTreeMap<String, u64>,
        metadata: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let held = Duration::try_from_secs_f64(held).unwrap_or_default();
        let metadata = metadata.map(packed).transpose()?;
        Ok(Self { is_full, held, metadata, dropped, counts, tables: Vec::new() })
    }

    /// Adds a table; `created` if its rows are all that it has.
    fn table(
        &mut self,
        name: String,
        created: bool,
        primary_key: &Bound<'_, PyAny>,
        schema: &Bound<'_, PyAny>,
        indexes: &Bound<'_, PyAny>,
        next_key: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let description = TableDescription {
            name,
            primary_key: packed(primary_key)?,
            schema: packed(schema)?,
            indexes: packed(indexes)?,
            next_key: packed(next_key)?,
            metadata: Packed::nil(),
        };
        self.tables.push(Table {
            description,
            is_whole: created || self.is_full,
            field: (!primary_key.is_none()).then(|| primary_key.clone().unbind()),
            upserts: Blocks::new(),
            deletes: Blocks::new(),
            upserted: HashSet::new(),
            deleted: Vec::new(),
        });
        Ok(())
    }

    /// Adds the rows of a block to the table that was added last. TypeError names the row and the field that cannot be kept.
    fn rows(&mut self, py: Python<'_>, rows: &Rows, block: usize) -> PyResult<()> {
        let table = self.tables.last_mut().ok_or_else(|| PyIndexError::new_err("no table"))?;
        table.add(py, rows, block)
    }

    /// Adds keys of rows that are gone from the table that was added last; those of rows that were added are passed over.
    fn deletes(&mut self, py: Python<'_>, keys: &Bound<'_, PyList>) -> PyResult<()> {
        let table = self.tables.last_mut().ok_or_else(|| PyIndexError::new_err("no table"))?;
        let mut writer = Keys::new(py)?;
        let (mut bytes, mut count) = (Vec::new(), 0);
        for key in keys.iter() {
            let start = bytes.len();
            writer.write(&key, &mut bytes).map_err(|error| named(py, error, &table.description.name, &key, None))?;
            let hash = hash(&bytes[start..]);
            if table.upserted.contains(&hash) {
                bytes.truncate(start);
                continue;
            }
            table.deleted.push(hash);
            count += 1;
            if count == BLOCK_KEYS {
                table.deletes.push(count as u64, std::mem::take(&mut bytes));
                count = 0;
            }
        }
        table.deletes.push(count as u64, bytes);
        Ok(())
    }
}

impl PackedView {
    /// Its content as a view of the state at `position`, and what it changes.
    pub(super) fn take(&mut self, position: Position, since: Option<Position>) -> (View, Changes) {
        let mut tables = std::mem::take(&mut self.tables);
        let changed = tables.iter_mut().map(|table| Changed {
            table: table.description.name.clone(),
            is_whole: table.is_whole,
            upserted: std::mem::take(&mut table.upserted),
            deleted: std::mem::take(&mut table.deleted),
        });
        let changes = Changes {
            is_full: self.is_full,
            dropped: self.dropped.clone(),
            tables: changed.collect(),
            counts: self.counts.clone(),
        };
        let view = View {
            position,
            since,
            held: self.held,
            metadata: self.metadata.take(),
            dropped: std::mem::take(&mut self.dropped),
            tables: tables.into_iter().map(Table::finish).collect(),
            counts: std::mem::take(&mut self.counts),
        };
        (view, changes)
    }
}

impl Table {
    fn add(&mut self, py: Python<'_>, rows: &Rows, block: usize) -> PyResult<()> {
        let keys = rows.keys(py);
        let field = self.field.as_ref().map(|field| field.bind(py));
        let mut packer = Packer::new(py)?;
        let mut out = Vec::with_capacity(rows.len().min(BLOCK_ROWS) * 80);
        let mut count = 0;
        for (position, (shape, values)) in rows.block_rows(block)?.enumerate() {
            let key = match &keys {
                Some(keys) => keys.bind(py).get_item(block * BLOCK_ROWS + position)?,
                None => own_key(py, shape, values, field)?,
            };
            let start = out.len();
            let exact = packer.keys.write(&key, &mut out);
            let exact = exact.map_err(|error| named(py, error, &self.description.name, &key, None))?;
            self.upserted.insert(hash(&out[start..]));
            let row = packer.row(py, shape, values);
            row.map_err(|(error, field)| named(py, error, &self.description.name, &key, field))?;
            match exact {
                None => out.extend_from_slice(&packer.encoder.out),
                Some(exact) => {
                    let row = std::mem::take(&mut packer.encoder.out);
                    packer.encoder.pair(&exact, &row)?;
                    out.extend_from_slice(&packer.encoder.out);
                }
            }
            count += 1;
        }
        self.upserts.push(count, out);
        Ok(())
    }

    fn finish(self) -> TableView {
        let change = if self.is_whole { Change::Whole } else { Change::Described };
        TableView {
            description: Arc::new(self.description),
            change,
            upserts: Arc::new(self.upserts),
            deletes: Arc::new(self.deletes),
        }
    }
}

/// The key that a row holds itself.
fn own_key<'py>(
    py: Python<'py>,
    shape: Option<&Shape>,
    values: &[Py<PyAny>],
    field: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let none = || PyTypeError::new_err("a row does not hold its key");
    match (shape, field) {
        (Some(shape), _) => shape.key.and_then(|key| values.get(key)).map(|key| key.bind(py).clone()).ok_or_else(none),
        (None, Some(field)) => values.first().ok_or_else(none)?.bind(py).get_item(field),
        (None, None) => Err(none()),
    }
}

/// Encodes rows.
struct Packer {
    keys: Keys,
    encoder: Encoder,
    /// By the address of a shape: how a row of it begins, and what stands before each value.
    before: BTreeMap<usize, (Vec<u8>, Vec<Vec<u8>>)>,
}

/// An error and the field that it is about.
type InField = (PyErr, Option<Py<PyAny>>);

impl Packer {
    fn new(py: Python<'_>) -> PyResult<Self> {
        Ok(Self { keys: Keys::new(py)?, encoder: Encoder::default(), before: BTreeMap::new() })
    }

    /// Encodes a row into `encoder.out`.
    fn row(&mut self, py: Python<'_>, shape: Option<&Shape>, values: &[Py<PyAny>]) -> Result<(), InField> {
        self.encoder.reset();
        let Some(shape) = shape else { return self.loose(values.first().map(|row| row.bind(py))) };
        let address = std::ptr::from_ref(shape).addr();
        if let std::collections::btree_map::Entry::Vacant(vacant) = self.before.entry(address) {
            vacant.insert(before(py, shape)?);
        }
        let Some((head, names)) = self.before.get(&address) else { return Ok(()) };
        self.encoder.out.extend_from_slice(head);
        for ((name, value), field) in names.iter().zip(values).zip(&shape.fields) {
            self.encoder.out.extend_from_slice(name);
            self.encoder.value(value.bind(py)).map_err(|error| (error, Some(field.clone_ref(py))))?;
        }
        Ok(())
    }

    fn loose(&mut self, row: Option<&Bound<'_, PyAny>>) -> Result<(), InField> {
        let row = row.and_then(|row| row.cast::<PyDict>().ok());
        let row = row.ok_or_else(|| (PyTypeError::new_err("a row is no dict"), None))?;
        self.encoder.map_header(row.len()).map_err(|error| (error, None))?;
        for (field, value) in row.iter() {
            let written = self.encoder.value(&field).and_then(|()| self.encoder.value(&value));
            written.map_err(|error| (error, Some(field.unbind())))?;
        }
        Ok(())
    }
}

fn before(py: Python<'_>, shape: &Shape) -> Result<(Vec<u8>, Vec<Vec<u8>>), InField> {
    let mut head = Encoder::default();
    head.map_header(shape.fields.len()).map_err(|error| (error, None))?;
    let mut names = Vec::with_capacity(shape.fields.len());
    for field in &shape.fields {
        let mut name = Encoder::default();
        name.value(field.bind(py)).map_err(|error| (error, Some(field.clone_ref(py))))?;
        names.push(name.out);
    }
    Ok((head.out, names))
}

/// The error with what it is about; errors other than of types, such as of memory, stay as they are.
fn named(py: Python<'_>, error: PyErr, table: &str, key: &Bound<'_, PyAny>, field: Option<Py<PyAny>>) -> PyErr {
    if !error.is_instance_of::<PyTypeError>(py) {
        return error;
    }
    let shown = |value: &Bound<'_, PyAny>| match value.repr() {
        Ok(text) => text.to_string_lossy().chars().take(200).collect(),
        Err(_) => "?".to_owned(),
    };
    let field = field.map_or_else(String::new, |field| format!(", field {}", shown(field.bind(py))));
    PyTypeError::new_err(format!("table {table:?}, key {}{field}: {}", shown(key), error.value(py)))
}

/// The first 128 bits of the BLAKE3 of each row of a block, over its MessagePack. TypeError for what cannot be kept.
#[pyfunction]
pub(crate) fn packed_digests<'py>(py: Python<'py>, rows: &Rows, block: usize) -> PyResult<Bound<'py, PyList>> {
    let mut packer = Packer::new(py)?;
    let digests = PyList::empty(py);
    for (shape, values) in rows.block_rows(block)? {
        packer.row(py, shape, values).map_err(|(error, _)| error)?;
        digests.append(PyBytes::new(py, &blake3::hash(&packer.encoder.out).as_bytes()[..16]))?;
    }
    Ok(digests)
}
