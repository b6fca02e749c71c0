//! Keys of rows. The engine takes two keys for the same if their bytes are, Python if they are equal: `1`, `True` and `1.0` are
//! one key of a dict, and so is one moment in two time zones.
//!
//! So a key's bytes are those of the plainest value that is equal to it, and where that is another value than the key, the row is
//! written together with the key: a tuple of both.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyInt, PyString};

use super::{Encoder, Types, once};

/// Writes keys.
pub(crate) struct Keys {
    types: &'static Types,
    encoder: Encoder,
}

impl Keys {
    pub(crate) fn new(py: Python<'_>) -> PyResult<Self> {
        Ok(Self { types: Types::get(py)?, encoder: Encoder::default() })
    }

    /// Appends a key to `out`; the key as it is, if that is not what was appended. TypeError for what is no key.
    pub(crate) fn write(&mut self, key: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> PyResult<Option<Vec<u8>>> {
        self.encoder.reset();
        self.encoder.value(key)?;
        if self.is_plain(key) {
            out.extend_from_slice(&self.encoder.out);
            return Ok(None);
        }
        let exact = std::mem::take(&mut self.encoder.out);
        self.encoder.value(&plainest(key)?)?;
        out.extend_from_slice(&self.encoder.out);
        Ok((self.encoder.out != exact).then_some(exact))
    }

    /// Whether a key of this class is equal to keys of this class only, and then is the same.
    fn is_plain(&self, key: &Bound<'_, PyAny>) -> bool {
        if key.is_exact_instance_of::<PyString>() || key.is_exact_instance_of::<PyInt>() || key.is_none() {
            return true;
        }
        let (class, types) = (key.get_type(), self.types);
        key.is_exact_instance_of::<PyBytes>()
            || class.is(&types.uuid)
            || class.is(&types.date)
            || class.is(&types.timedelta)
    }
}

/// Numbers, moments and what has some in it are rare as keys, and Python knows best what is equal to them.
fn plainest<'py>(key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    function(key.py())?.bind(key.py()).call1((key,))
}

/// The function of the package that knows what is equal to a key.
pub(super) fn function(py: Python<'_>) -> PyResult<&'static Py<PyAny>> {
    static PLAINEST: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    once(py, &PLAINEST, || py.import("copal.dictdb.keys")?.getattr("plainest").map(Bound::unbind))
}
