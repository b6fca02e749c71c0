//! The values of one table's rows, taken in one go.

use std::collections::HashMap;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyByteArray, PyDict, PyFloat, PyInt, PyList, PySet, PyString, PyTuple};

use super::{BLOCK_ROWS, Block, LOOSE, Rows, Shape, derived, enter};

/// More different sets of fields in a table than this are not remembered; such rows are held as copies.
const MOST_SHAPES: usize = 1024;

/// The rows of a table, or of the wanted keys. `field` is the one that repeats the key.
pub(super) fn table<'py>(
    records: &Bound<'py, PyDict>,
    field: Option<&Bound<'py, PyAny>>,
    wanted: Option<&Bound<'py, PyAny>>,
) -> PyResult<Rows> {
    let mut capture = Capture::new(field);
    let keys = match wanted {
        None => {
            // A copy: rows and keys with code of their own let other threads run, and those may change the table.
            let records = records.copy()?;
            for (key, row) in records.iter() {
                capture.take(&key, &row)?;
            }
            capture.needs_keys().then(|| records.keys())
        }
        Some(wanted) => {
            let mut found = Vec::new();
            for key in wanted.try_iter()? {
                let key = key?;
                if let Some(row) = records.get_item(&key)? {
                    capture.take(&key, &row)?;
                    found.push(key);
                } else {
                    capture.rows.missing.push(key.unbind());
                }
            }
            capture.needs_keys().then(|| PyList::new(records.py(), found)).transpose()?
        }
    };
    let mut rows = capture.finish();
    rows.keys = keys.map(Bound::unbind);
    Ok(rows)
}

/// A capture under way.
struct Capture<'a, 'py> {
    rows: Rows,
    block: Block,
    /// Shapes by the identities of their fields. The shapes keep the fields, so no identity is used twice.
    known: HashMap<Vec<usize>, u32>,
    /// The shape of the row before, which mostly is that of the next.
    last: u32,
    field: Option<&'a Bound<'py, PyAny>>,
    /// Whether some row does not hold the key under which it stands.
    moved: bool,
}

impl<'a, 'py> Capture<'a, 'py> {
    fn new(field: Option<&'a Bound<'py, PyAny>>) -> Self {
        let rows = Rows::empty(Vec::new());
        Self { rows, block: Block::default(), known: HashMap::new(), last: LOOSE, field, moved: false }
    }

    fn needs_keys(&self) -> bool {
        self.moved || self.field.is_none()
    }

    fn finish(mut self) -> Rows {
        if !self.block.shapes.is_empty() {
            self.rows.blocks.push(self.block);
        }
        self.rows
    }

    fn take(&mut self, key: &Bound<'py, PyAny>, row: &Bound<'py, PyAny>) -> PyResult<()> {
        let Ok(fields) = row.cast_exact::<PyDict>() else { return self.take_foreign(key, row) };
        if self.rows.odd_key.is_none() && !is_plain_key(key) {
            self.rows.odd_key = Some(key.clone().unbind());
        }
        let start = self.block.values.len();
        if !self.take_like_last(fields)? {
            self.block.values.truncate(start);
            self.take_other(fields)?;
        }
        self.freeze(row.py(), start)?;
        if self.field.is_some() && !self.moved {
            self.moved = !self.holds_key(key, fields, start)?;
        }
        self.block.shapes.push(self.last);
        self.rows.rows += 1;
        if self.block.shapes.len() == BLOCK_ROWS {
            self.rows.blocks.push(std::mem::take(&mut self.block));
        }
        Ok(())
    }

    /// Takes the values if the row has the same fields as the one before, in the same order. Else some may have been taken.
    fn take_like_last(&mut self, fields: &Bound<'py, PyDict>) -> PyResult<bool> {
        let Some(shape) = self.rows.shapes.get(self.last as usize) else { return Ok(false) };
        if shape.fields.len() != fields.len() {
            return Ok(false);
        }
        for (field, (name, value)) in shape.fields.iter().zip(fields.iter()) {
            if !field.is(&name) {
                return Ok(false);
            }
            self.block.values.push(value.unbind());
        }
        Ok(true)
    }

    fn take_other(&mut self, fields: &Bound<'py, PyDict>) -> PyResult<()> {
        // First all that is needed of the row: names with code of their own let other threads run, which may change it.
        let (names, values): (Vec<_>, Vec<_>) = fields.iter().unzip();
        self.last = self.shape_of(&names)?;
        if self.last == LOOSE {
            let row = PyDict::new(fields.py());
            for (name, value) in names.iter().zip(values) {
                row.set_item(name, value)?;
            }
            self.block.values.push(row.into_any().unbind());
        } else {
            self.block.values.extend(values.into_iter().map(Bound::unbind));
        }
        Ok(())
    }

    /// Puts copies in the place of the containers among the values from `start` on.
    fn freeze(&mut self, py: Python<'py>, start: usize) -> PyResult<()> {
        for value in &mut self.block.values[start..] {
            if !is_simple(value.bind(py)) {
                *value = frozen(value.bind(py), &mut Vec::new())?.unbind();
            }
        }
        Ok(())
    }

    /// Whether the row whose values begin at `start` repeats its key.
    fn holds_key(&self, key: &Bound<'py, PyAny>, fields: &Bound<'py, PyDict>, start: usize) -> PyResult<bool> {
        let value = match (self.rows.shapes.get(self.last as usize), self.field) {
            (Some(shape), _) => {
                shape.key.and_then(|at| self.block.values.get(start + at)).map(|value| value.bind(key.py()).clone())
            }
            (None, Some(field)) => fields.get_item(field)?,
            (None, None) => None,
        };
        match value {
            None => Ok(false),
            Some(value) => is_same_key(&value, key),
        }
    }

    /// A row that is a dict of another class is taken by its own `items()`.
    fn take_foreign(&mut self, key: &Bound<'py, PyAny>, row: &Bound<'py, PyAny>) -> PyResult<()> {
        if !row.is_instance_of::<PyDict>() {
            let message = format!("the row with key {} is a {}, not a dict", key.repr()?, row.get_type().name()?);
            return Err(PyTypeError::new_err(message));
        }
        let plain = PyDict::new(row.py());
        for item in row.call_method0("items")?.try_iter()? {
            let (name, value): (Bound<'py, PyAny>, Bound<'py, PyAny>) = item?.extract()?;
            plain.set_item(name, value)?;
        }
        self.take(key, plain.as_any())
    }

    fn shape_of(&mut self, names: &[Bound<'py, PyAny>]) -> PyResult<u32> {
        let identity: Vec<usize> = names.iter().map(|name| name.as_ptr() as usize).collect();
        if let Some(id) = self.known.get(&identity) {
            return Ok(*id);
        }
        let id = u32::try_from(self.rows.shapes.len()).unwrap_or(LOOSE);
        if self.rows.shapes.len() >= MOST_SHAPES {
            return Ok(LOOSE);
        }
        let mut key = None;
        if let Some(field) = self.field {
            for (position, name) in names.iter().enumerate() {
                if name.is(field) || name.eq(field)? {
                    key = Some(position);
                }
            }
        }
        let fields = names.iter().map(|name| name.clone().unbind()).collect();
        self.rows.shapes.push(Shape { fields, key, before: None });
        self.known.insert(identity, id);
        Ok(id)
    }
}

/// Whether a row says its key exactly. Values of other classes may be equal and yet not the same: `1.0`, `True`, two time zones.
fn is_same_key(value: &Bound<'_, PyAny>, key: &Bound<'_, PyAny>) -> PyResult<bool> {
    let is_simple =
        |one: &Bound<'_, PyAny>| one.is_exact_instance_of::<PyString>() || one.is_exact_instance_of::<PyInt>();
    Ok(value.is(key) || (is_simple(value) && is_simple(key) && value.eq(key)?))
}

/// Whether JSON can hold it as a key that comes back equal.
fn is_plain_key(key: &Bound<'_, PyAny>) -> bool {
    key.is_instance_of::<PyInt>()
        || key.is_instance_of::<PyString>()
        || key.is_instance_of::<PyFloat>()
        || key.is_none()
}

/// Whether the value can be held as it is, like most.
fn is_simple(value: &Bound<'_, PyAny>) -> bool {
    value.is_exact_instance_of::<PyString>()
        || value.is_exact_instance_of::<PyInt>()
        || value.is_exact_instance_of::<PyFloat>()
        || value.is_exact_instance_of::<PyBool>()
        || value.is_none()
}

/// The value itself, or a copy if it is a container that programs change in place. The copy of a derived class is of that class too,
/// made without its code.
fn frozen<'py>(value: &Bound<'py, PyAny>, above: &mut Vec<usize>) -> PyResult<Bound<'py, PyAny>> {
    if is_simple(value) {
        return Ok(value.clone());
    }
    let identity = value.as_ptr() as usize;
    if let Ok(list) = value.cast::<PyList>() {
        enter(identity, above)?;
        let copy = derived::list(list)?;
        for position in 0..copy.len() {
            let item = copy.get_item(position)?;
            let held = frozen(&item, above)?;
            if !held.is(&item) {
                copy.set_item(position, held)?;
            }
        }
        above.pop();
        Ok(copy.into_any())
    } else if let Ok(dict) = value.cast::<PyDict>() {
        enter(identity, above)?;
        let copy = derived::dict(dict)?;
        // Nobody else knows the copy, and values are replaced only, so it can be walked through meanwhile.
        for (key, item) in copy.iter() {
            let held = frozen(&item, above)?;
            if !held.is(&item) {
                copy.set_item(key, held)?;
            }
        }
        above.pop();
        Ok(copy.into_any())
    } else if let Ok(tuple) = value.cast::<PyTuple>() {
        enter(identity, above)?;
        let items = tuple.iter().map(|item| frozen(&item, above)).collect::<PyResult<Vec<_>>>()?;
        above.pop();
        if tuple.iter().zip(&items).all(|(item, held)| held.is(&item)) {
            return Ok(value.clone());
        }
        derived::tuple(tuple, items)
    } else if value.is_exact_instance_of::<PySet>() || value.is_exact_instance_of::<PyByteArray>() {
        value.call_method0("copy")
    } else {
        Ok(value.clone())
    }
}
