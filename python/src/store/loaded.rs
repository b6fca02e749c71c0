//! What was restored, on its way into Python.

use copal::memory::{Loaded, Packed};
use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::msgpack::Decoder;

/// Tables as they came out of a backup. ValueError: they were not saved by this package.
#[pyclass(frozen, module = "copal._copal")]
pub(crate) struct LoadedTables {
    content: Loaded,
}

impl LoadedTables {
    pub(super) fn new(content: Loaded) -> Self {
        Self { content }
    }
}

/// One table: its name, how many rows it has, its primary key, schema, indexes and next key.
type Described<'py> = (String, usize, Bound<'py, PyAny>, Bound<'py, PyAny>, Bound<'py, PyAny>, Bound<'py, PyAny>);

#[pymethods]
impl LoadedTables {
    /// What was kept beside the tables.
    #[getter]
    fn metadata<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Decoder::new(py)?.only(self.content.metadata.as_bytes())
    }

    /// All tables: name, count of rows, primary key, schema, indexes, next key.
    fn tables<'py>(&self, py: Python<'py>) -> PyResult<Vec<Described<'py>>> {
        let mut decoder = Decoder::new(py)?;
        let mut part = |value: &Packed| decoder.only(value.as_bytes());
        let tables = self.content.tables.iter().map(|(name, table)| {
            let known = &table.description;
            let (primary_key, schema) = (part(&known.primary_key)?, part(&known.schema)?);
            Ok((name.clone(), table.len(), primary_key, schema, part(&known.indexes)?, part(&known.next_key)?))
        });
        tables.collect()
    }

    /// Adds so many rows of a table, from that number on, to a dict; both as they were saved.
    fn rows(
        &self,
        py: Python<'_>,
        table: &str,
        first: usize,
        count: usize,
        target: &Bound<'_, PyDict>,
    ) -> PyResult<()> {
        let table = self.content.tables.get(table).ok_or_else(|| PyKeyError::new_err("no such table"))?;
        let mut decoder = Decoder::new(py)?;
        for (key, row) in table.iter().skip(first).take(count) {
            let (key, row) = decoder.entry(key, row)?;
            target.set_item(key, row)?;
        }
        Ok(())
    }
}
