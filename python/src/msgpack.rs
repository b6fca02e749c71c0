//! Python values as the MessagePack of docs/engines/memory.md, and back, each as exactly what it was.
//!
//! What has no place there, objects of derived classes included, is refused: nothing comes back as something else.

mod decode;
mod encode;
mod key;

use copal::memory::ext;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

pub(crate) use decode::Decoder;
pub(crate) use encode::Encoder;
pub(crate) use key::Keys;

/// How deep values may lie in each other; a little less than the engine allows.
const MOST_DEPTH: usize = 500;

/// The classes of the standard library whose objects are kept, besides the built-in ones.
pub(crate) struct Types {
    datetime: Py<PyType>,
    date: Py<PyType>,
    time: Py<PyType>,
    timedelta: Py<PyType>,
    timezone: Py<PyType>,
    decimal: Py<PyType>,
    uuid: Py<PyType>,
    /// Absent where Python has no time zones.
    zone: Option<Py<PyType>>,
}

impl Types {
    /// The classes, imported when first asked for.
    pub(crate) fn get(py: Python<'_>) -> PyResult<&'static Self> {
        static TYPES: PyOnceLock<Types> = PyOnceLock::new();
        once(py, &TYPES, || {
            let class = |module: &str, name: &str| -> PyResult<Py<PyType>> {
                Ok(py.import(module)?.getattr(name)?.cast_into::<PyType>()?.unbind())
            };
            Ok(Self {
                datetime: class("datetime", "datetime")?,
                date: class("datetime", "date")?,
                time: class("datetime", "time")?,
                timedelta: class("datetime", "timedelta")?,
                timezone: class("datetime", "timezone")?,
                decimal: class("decimal", "Decimal")?,
                uuid: class("uuid", "UUID")?,
                zone: class("zoneinfo", "ZoneInfo").ok(),
            })
        })
    }
}

/// Imports all that rows are read and packed with, in the thread that calls.
///
/// Who imports in a thread that saves leaves a half imported module to a child that another thread forks meanwhile, and the child
/// waits for ever for a thread that it does not have.
#[pyfunction]
pub(crate) fn import_classes(py: Python<'_>) -> PyResult<()> {
    Types::get(py)?;
    key::function(py)?;
    crate::rows::import_classes(py)
}

/// What a cell has, or is given now.
///
/// Imports let other threads run, and one of them may fork: nothing may be locked meanwhile, or the child waits for ever. Whoever
/// comes second to the cell has made the same.
fn once<'a, T>(py: Python<'_>, cell: &'a PyOnceLock<T>, make: impl FnOnce() -> PyResult<T>) -> PyResult<&'a T>
where
    T: Send + Sync,
{
    if let Some(made) = cell.get(py) {
        return Ok(made);
    }
    let made = make()?;
    // Given already by another thread.
    let _ = cell.set(py, made);
    cell.get(py).ok_or_else(|| PyRuntimeError::new_err("a cell did not keep what it was given"))
}
