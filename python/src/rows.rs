//! Rows of in-memory tables, held as they were at one moment.
//!
//! [`capture`] takes the values of all rows of all given tables while it holds the GIL once, without running Python code for plain
//! values: no other thread changes a row meanwhile. It copies no text and no number, only references, so it is much shorter than
//! encoding would be. Lists, dicts, sets and what else programs change in place is copied, objects of derived classes included.
//!
//! Afterwards rows are encoded block by block ([`Rows::json`], [`Rows::dicts`], [`Rows::digests`]), so that the caller gives other
//! threads their turn between two blocks, and a block that is not needed any more can be let go.

mod derived;
mod taking;

use pyo3::exceptions::{PyIndexError, PyRecursionError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};

use crate::json::{self, Fidelity};

/// Rows of one block: encoded in one to two milliseconds.
pub(crate) const BLOCK_ROWS: usize = 2048;

/// Python's own limit for nested values is about this.
const MOST_DEPTH: usize = 990;

/// The shape of a row that is held as a dict of its own.
const LOOSE: u32 = u32::MAX;

/// One table to capture: its records by key, its primary key's field, and which keys (all if None).
type Wanted<'py> = (Bound<'py, PyDict>, Option<Bound<'py, PyAny>>, Option<Bound<'py, PyAny>>);

/// Imports what capturing may need.
pub(crate) fn import_classes(py: Python<'_>) -> PyResult<()> {
    derived::ordered(py).map(drop)
}

/// Takes the rows of all tables at one moment.
///
/// Each table is `(records, primary_key, wanted)`: a dict of dicts; the field that repeats the key, or None if none does; an
/// iterable of keys, or None for all. Wanted keys without a row are left out.
#[pyfunction]
pub(crate) fn capture(tables: Vec<Wanted<'_>>) -> PyResult<Vec<Rows>> {
    tables.iter().map(|(records, field, wanted)| taking::table(records, field.as_ref(), wanted.as_ref())).collect()
}

/// The fields of many rows, in order.
pub(crate) struct Shape {
    pub(crate) fields: Vec<Py<PyAny>>,
    /// Where the primary key is among them.
    pub(crate) key: Option<usize>,
    /// What stands before each value in JSON; made when first needed.
    before: Option<Vec<Vec<u8>>>,
}

#[derive(Default)]
struct Block {
    /// The shape of each row.
    shapes: Vec<u32>,
    /// The values of all rows, one after the other; one dict for a loose row.
    values: Vec<Py<PyAny>>,
}

/// Rows of one table as they were at one moment, in blocks.
#[pyclass(module = "copal._copal")]
pub(crate) struct Rows {
    shapes: Vec<Shape>,
    blocks: Vec<Block>,
    rows: usize,
    keys: Option<Py<PyList>>,
    missing: Vec<Py<PyAny>>,
    odd_key: Option<Py<PyAny>>,
}

#[pymethods]
impl Rows {
    fn __len__(&self) -> usize {
        self.len()
    }

    /// How many blocks there are.
    #[getter]
    fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// The key of each row, if not every row holds its own in the field of the primary key.
    #[getter]
    pub(crate) fn keys(&self, py: Python<'_>) -> Option<Py<PyList>> {
        self.keys.as_ref().map(|keys| keys.clone_ref(py))
    }

    /// The wanted keys that have no row.
    #[getter]
    fn missing(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        self.missing.iter().map(|key| key.clone_ref(py)).collect()
    }

    /// A key that JSON cannot hold, if there is one.
    #[getter]
    fn odd_key(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.odd_key.as_ref().map(|key| key.clone_ref(py))
    }

    /// The rows of a block as `json.dumps` writes each, with the separator between them. `exact` refuses values that
    /// would come back as another type.
    #[pyo3(signature = (block, separator, exact = false))]
    fn json<'py>(
        &mut self,
        py: Python<'py>,
        block: usize,
        separator: &[u8],
        exact: bool,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let mut out = Vec::with_capacity(self.rows.min(BLOCK_ROWS) * 96);
        let fidelity = if exact { Fidelity::Exact } else { Fidelity::AsJson };
        self.each_json(
            py,
            block,
            fidelity,
            |row, first, whole: &mut Vec<u8>| {
                if !first {
                    whole.extend_from_slice(separator);
                }
                whole.extend_from_slice(row);
            },
            &mut out,
        )?;
        Ok(PyBytes::new(py, &out))
    }

    /// The first 128 bits of each row's BLAKE3, over its JSON.
    fn digests<'py>(&mut self, py: Python<'py>, block: usize) -> PyResult<Bound<'py, PyList>> {
        let mut digests: Vec<[u8; 16]> = Vec::with_capacity(BLOCK_ROWS);
        self.each_json(
            py,
            block,
            Fidelity::Exact,
            |row, _, digests: &mut Vec<[u8; 16]>| {
                let mut digest = [0; 16];
                digest.copy_from_slice(&blake3::hash(row).as_bytes()[..16]);
                digests.push(digest);
            },
            &mut digests,
        )?;
        PyList::new(py, digests.iter().map(|digest| PyBytes::new(py, digest)))
    }

    /// The rows of a block as new dicts.
    fn dicts<'py>(&self, py: Python<'py>, block: usize) -> PyResult<Bound<'py, PyList>> {
        let rows = PyList::empty(py);
        for (shape, values) in self.block_rows(block)? {
            match shape {
                None => rows.append(values[0].bind(py))?,
                Some(shape) => {
                    let row = PyDict::new(py);
                    for (field, value) in shape.fields.iter().zip(values) {
                        row.set_item(field, value)?;
                    }
                    rows.append(row)?;
                }
            }
        }
        Ok(rows)
    }

    /// Only the rows of these positions, in ascending order.
    fn pick(&self, py: Python<'_>, positions: Vec<usize>) -> PyResult<Self> {
        let mut picked = Self::empty(self.shapes.iter().map(|shape| shape.clone_ref(py)).collect());
        let mut wanted = positions.iter().copied().peekable();
        let mut position = 0;
        for block in 0..self.blocks.len() {
            let shapes = &self.blocks[block].shapes;
            for ((_, values), id) in self.block_rows(block)?.zip(shapes) {
                if wanted.next_if_eq(&position).is_some() {
                    let target = picked.open_block();
                    target.shapes.push(*id);
                    target.values.extend(values.iter().map(|value| value.clone_ref(py)));
                    picked.rows += 1;
                }
                position += 1;
            }
        }
        if let Some(keys) = &self.keys {
            let keys = keys.bind(py);
            let chosen = positions.iter().map(|position| keys.get_item(*position)).collect::<PyResult<Vec<_>>>()?;
            picked.keys = Some(PyList::new(py, chosen)?.unbind());
        }
        picked.odd_key = self.odd_key(py);
        Ok(picked)
    }

    /// Lets the rows of a block go.
    fn release(&mut self, block: usize) {
        if let Some(block) = self.blocks.get_mut(block) {
            *block = Block::default();
        }
    }
}

impl Rows {
    /// How many rows there are.
    pub(crate) fn len(&self) -> usize {
        self.rows
    }

    fn empty(shapes: Vec<Shape>) -> Self {
        Self { shapes, blocks: Vec::new(), rows: 0, keys: None, missing: Vec::new(), odd_key: None }
    }

    /// The block that takes the next row.
    fn open_block(&mut self) -> &mut Block {
        if self.blocks.last().is_none_or(|block| block.shapes.len() >= BLOCK_ROWS) {
            self.blocks.push(Block::default());
        }
        let last = self.blocks.len() - 1;
        &mut self.blocks[last]
    }

    /// The shape and the values of each row of a block.
    pub(crate) fn block_rows(&self, block: usize) -> PyResult<impl Iterator<Item = (Option<&Shape>, &[Py<PyAny>])>> {
        let block = self.blocks.get(block).ok_or_else(|| PyIndexError::new_err("no such block"))?;
        let mut rest = block.values.as_slice();
        Ok(block.shapes.iter().map(move |id| {
            let shape = self.shapes.get(*id as usize);
            let (values, after) = rest.split_at(shape.map_or(1, |shape| shape.fields.len()));
            rest = after;
            (shape, values)
        }))
    }

    fn each_json<T>(
        &mut self,
        py: Python<'_>,
        block: usize,
        fidelity: Fidelity,
        mut each: impl FnMut(&[u8], bool, &mut T),
        target: &mut T,
    ) -> PyResult<()> {
        for shape in &mut self.shapes {
            shape.prepare(py, fidelity)?;
        }
        let mut encoder = json::Encoder::new(fidelity);
        let mut first = true;
        for (shape, values) in self.block_rows(block)? {
            encoder.out.clear();
            match shape.and_then(|shape| shape.before.as_ref()) {
                None => encoder.value(values[0].bind(py))?,
                Some(before) if before.is_empty() => encoder.out.extend_from_slice(b"{}"),
                Some(before) => {
                    for (before, value) in before.iter().zip(values) {
                        encoder.out.extend_from_slice(before);
                        encoder.value(value.bind(py))?;
                    }
                    encoder.out.push(b'}');
                }
            }
            each(&encoder.out, first, target);
            first = false;
        }
        Ok(())
    }
}

impl Shape {
    fn clone_ref(&self, py: Python<'_>) -> Self {
        let fields = self.fields.iter().map(|field| field.clone_ref(py)).collect();
        Self { fields, key: self.key, before: self.before.clone() }
    }

    fn prepare(&mut self, py: Python<'_>, fidelity: Fidelity) -> PyResult<()> {
        if self.before.is_none() {
            let mut before = Vec::with_capacity(self.fields.len());
            let mut names = Vec::with_capacity(self.fields.len());
            for field in &self.fields {
                let mut encoder = json::Encoder::new(fidelity);
                encoder.out.extend_from_slice(if before.is_empty() { b"{" } else { b", " });
                let start = encoder.out.len();
                encoder.key(field.bind(py))?;
                names.push(encoder.out[start..].to_vec());
                encoder.out.extend_from_slice(b": ");
                before.push(encoder.out);
            }
            json::check_names(names.iter().map(Vec::as_slice))?;
            self.before = Some(before);
        }
        Ok(())
    }
}

/// Refuses what holds itself, as `json.dumps` does.
pub(crate) fn enter(identity: usize, above: &mut Vec<usize>) -> PyResult<()> {
    if above.contains(&identity) {
        return Err(PyValueError::new_err("Circular reference detected"));
    }
    if above.len() >= MOST_DEPTH {
        return Err(PyRecursionError::new_err("maximum recursion depth exceeded while encoding a value"));
    }
    above.push(identity);
    Ok(())
}
