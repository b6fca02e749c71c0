//! JSON of Python values, byte for byte as `json.dumps` of the standard library writes it with its defaults. But where keys of one
//! dict would become the same text, so that only one of them came back, that is an error.

mod text;

use std::collections::HashSet;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

use crate::rows::enter;

/// What becomes of values that JSON holds only as something else.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fidelity {
    /// As `json.dumps`: tuples become lists, keys become text.
    AsJson,
    /// They are errors.
    Exact,
}

/// Encodes values one after the other to the end of `out`.
pub(crate) struct Encoder {
    pub(crate) out: Vec<u8>,
    fidelity: Fidelity,
    above: Vec<usize>,
}

impl Encoder {
    pub(crate) fn new(fidelity: Fidelity) -> Self {
        Self { out: Vec::new(), fidelity, above: Vec::new() }
    }

    /// Appends a value. TypeError for what JSON cannot hold, ValueError for a value that holds itself.
    pub(crate) fn value(&mut self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        if let Ok(text) = value.cast_exact::<PyString>() {
            text::write(&mut self.out, text)
        } else if let Ok(number) = value.cast_exact::<PyInt>() {
            self.integer(number)
        } else if let Ok(number) = value.cast_exact::<PyFloat>() {
            text::write_float(&mut self.out, number.value());
            Ok(())
        } else if value.is_none() {
            self.out.extend_from_slice(b"null");
            Ok(())
        } else if let Ok(truth) = value.cast_exact::<PyBool>() {
            self.out.extend_from_slice(if truth.is_true() { b"true" } else { b"false" });
            Ok(())
        } else if let Ok(list) = value.cast_exact::<PyList>() {
            self.sequence(value, list.iter().map(Ok))
        } else if let Ok(dict) = value.cast_exact::<PyDict>() {
            self.mapping(value, dict.iter().map(Ok))
        } else if self.fidelity == Fidelity::Exact {
            Err(inexact(value))
        } else {
            self.other(value)
        }
    }

    /// Appends what `json.dumps` makes of a key.
    pub(crate) fn key(&mut self, key: &Bound<'_, PyAny>) -> PyResult<()> {
        if let Ok(text) = key.cast_exact::<PyString>() {
            return text::write(&mut self.out, text);
        }
        if self.fidelity == Fidelity::Exact {
            return Err(inexact(key));
        }
        if let Ok(text) = key.cast::<PyString>() {
            return text::write(&mut self.out, text);
        }
        if key.is_instance_of::<PyFloat>() || key.is_instance_of::<PyInt>() || key.is_none() {
            self.out.push(b'"');
            self.value(key)?;
            self.out.push(b'"');
            return Ok(());
        }
        let name = key.get_type().name()?;
        Err(PyTypeError::new_err(format!("keys must be str, int, float, bool or None, not {name}")))
    }

    /// Values of classes derived from the plain ones.
    fn other(&mut self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        if let Ok(text) = value.cast::<PyString>() {
            text::write(&mut self.out, text)
        } else if let Ok(number) = value.cast::<PyInt>() {
            self.integer(number)
        } else if let Ok(number) = value.cast::<PyFloat>() {
            text::write_float(&mut self.out, number.value());
            Ok(())
        } else if let Ok(tuple) = value.cast_exact::<PyTuple>() {
            self.sequence(value, tuple.iter().map(Ok))
        } else if value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>() {
            self.sequence(value, value.try_iter()?)
        } else if value.is_instance_of::<PyDict>() {
            let items = value.call_method0("items")?;
            self.mapping(value, items.try_iter()?.map(|item| item?.extract()))
        } else {
            let name = value.get_type().name()?;
            Err(PyTypeError::new_err(format!("Object of type {name} is not JSON serializable")))
        }
    }

    fn integer(&mut self, number: &Bound<'_, PyInt>) -> PyResult<()> {
        if let Ok(small) = number.extract::<i64>() {
            self.out.extend_from_slice(itoa::Buffer::new().format(small).as_bytes());
            return Ok(());
        }
        // Python's own conversion, so that its limit of digits holds; int's, whatever a derived class prints.
        let digits = number.py().get_type::<PyInt>().call_method1("__repr__", (number,))?;
        self.out.extend_from_slice(digits.extract::<String>()?.as_bytes());
        Ok(())
    }

    fn sequence<'py>(
        &mut self,
        owner: &Bound<'py, PyAny>,
        items: impl Iterator<Item = PyResult<Bound<'py, PyAny>>>,
    ) -> PyResult<()> {
        enter(owner.as_ptr() as usize, &mut self.above)?;
        self.out.push(b'[');
        for (position, item) in items.enumerate() {
            if position > 0 {
                self.out.extend_from_slice(b", ");
            }
            self.value(&item?)?;
        }
        self.out.push(b']');
        self.above.pop();
        Ok(())
    }

    fn mapping<'py>(
        &mut self,
        owner: &Bound<'py, PyAny>,
        items: impl Iterator<Item = PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)>>,
    ) -> PyResult<()> {
        enter(owner.as_ptr() as usize, &mut self.above)?;
        self.out.push(b'{');
        let mut names = Vec::new();
        let mut are_texts = true;
        for (position, item) in items.enumerate() {
            let (key, value) = item?;
            if position > 0 {
                self.out.extend_from_slice(b", ");
            }
            let start = self.out.len();
            self.key(&key)?;
            names.push(start..self.out.len());
            are_texts &= key.is_exact_instance_of::<PyString>();
            self.out.extend_from_slice(b": ");
            self.value(&value)?;
        }
        if !are_texts {
            check_names(names.into_iter().map(|name| &self.out[name]))?;
        }
        self.out.push(b'}');
        self.above.pop();
        Ok(())
    }
}

/// Refuses keys of one dict that are the same text in JSON, of which only the last would come back. TypeError.
pub(crate) fn check_names<'a>(names: impl Iterator<Item = &'a [u8]>) -> PyResult<()> {
    let mut seen = HashSet::new();
    for name in names {
        if !seen.insert(name) {
            let name = String::from_utf8_lossy(name);
            return Err(PyTypeError::new_err(format!("several keys of a dict would become {name} in JSON")));
        }
    }
    Ok(())
}

fn inexact(value: &Bound<'_, PyAny>) -> PyErr {
    let name = value.get_type().name().map_or_else(|_| String::from("?"), |name| name.to_string());
    PyTypeError::new_err(format!("JSON does not keep a {name} as it is"))
}
