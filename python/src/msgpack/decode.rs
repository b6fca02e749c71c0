//! MessagePack made into Python values again.
//!
//! What comes out of a backup was authenticated and walked over by the engine, but what lies in extension types was not: nothing is
//! taken for granted. ValueError means that the bytes are no such value.

use std::collections::HashMap;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyComplex, PyDict, PyFloat, PyFrozenSet, PyList, PySet, PyString, PyTuple};
use rmp::Marker;
use rmp::decode::Bytes;

use super::{Types, ext};

/// More than what is written ever needs.
const MOST_DEPTH: usize = 1_100;
/// Longer names of fields are not remembered, nor are more than so many.
const NAME_BYTES: usize = 64;
const MOST_NAMES: usize = 4_096;

/// Reads values.
pub(crate) struct Decoder<'py> {
    py: Python<'py>,
    types: &'static Types,
    /// Names of fields: all rows share the same texts.
    names: HashMap<Vec<u8>, Bound<'py, PyString>>,
}

fn damaged(what: &str) -> PyErr {
    PyValueError::new_err(what.to_owned())
}

fn unexpected<E>(_: E) -> PyErr {
    damaged("a value is not what it must be")
}

/// Takes so many bytes.
fn take<'a>(rest: &mut &'a [u8], count: usize) -> PyResult<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(count).ok_or_else(|| damaged("a value is cut off"))?;
    *rest = after;
    Ok(taken)
}

/// Reads with one of `rmp`'s functions.
fn read<'a, T, E>(rest: &mut &'a [u8], read: impl FnOnce(&mut Bytes<'a>) -> Result<T, E>) -> PyResult<T> {
    let mut bytes = Bytes::new(rest);
    let value = read(&mut bytes).map_err(unexpected)?;
    *rest = bytes.remaining_slice();
    Ok(value)
}

impl<'py> Decoder<'py> {
    pub(crate) fn new(py: Python<'py>) -> PyResult<Self> {
        Ok(Self { py, types: Types::get(py)?, names: HashMap::new() })
    }

    /// The one value that the bytes are.
    pub(crate) fn only(&mut self, mut bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
        let value = self.value(&mut bytes, 0)?;
        if bytes.is_empty() { Ok(value) } else { Err(damaged("something follows a value")) }
    }

    /// A key and its row, as they were before they were written.
    pub(crate) fn entry(&mut self, key: &[u8], mut row: &[u8]) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        let is_row = |row: &Bound<'py, PyAny>| row.is_exact_instance_of::<PyDict>();
        let row = self.value(&mut row, 0)?;
        if is_row(&row) {
            return Ok((self.only(key)?, row));
        }
        let (key, row): (Bound<'py, PyAny>, Bound<'py, PyAny>) = row.extract().map_err(unexpected)?;
        if is_row(&row) { Ok((key, row)) } else { Err(damaged("a row is no map")) }
    }

    fn value(&mut self, rest: &mut &[u8], depth: usize) -> PyResult<Bound<'py, PyAny>> {
        if depth > MOST_DEPTH {
            return Err(damaged("values lie too deep in each other"));
        }
        let py = self.py;
        let first = rest.first().ok_or_else(|| damaged("a value is cut off"))?;
        Ok(match Marker::from_u8(*first) {
            Marker::Null => {
                take(rest, 1)?;
                py.None().into_bound(py)
            }
            Marker::True | Marker::False => {
                read(rest, rmp::decode::read_bool)?.into_pyobject(py)?.to_owned().into_any()
            }
            Marker::FixPos(_) | Marker::U8 | Marker::U16 | Marker::U32 | Marker::U64 => {
                read(rest, rmp::decode::read_int::<u64, _>)?.into_pyobject(py)?.into_any()
            }
            Marker::FixNeg(_) | Marker::I8 | Marker::I16 | Marker::I32 | Marker::I64 => {
                read(rest, rmp::decode::read_int::<i64, _>)?.into_pyobject(py)?.into_any()
            }
            Marker::F32 => PyFloat::new(py, f64::from(read(rest, rmp::decode::read_f32)?)).into_any(),
            Marker::F64 => PyFloat::new(py, read(rest, rmp::decode::read_f64)?).into_any(),
            Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32 => {
                PyString::new(py, text(rest)?).into_any()
            }
            Marker::Bin8 | Marker::Bin16 | Marker::Bin32 => {
                let count = read(rest, rmp::decode::read_bin_len)? as usize;
                PyBytes::new(py, take(rest, count)?).into_any()
            }
            Marker::FixArray(_) | Marker::Array16 | Marker::Array32 => {
                let items = self.items(rest, depth)?;
                PyList::new(py, items)?.into_any()
            }
            Marker::FixMap(_) | Marker::Map16 | Marker::Map32 => {
                let dict = PyDict::new(py);
                for _ in 0..read(rest, rmp::decode::read_map_len)? {
                    let key = self.field(rest, depth + 1)?;
                    dict.set_item(key, self.value(rest, depth + 1)?)?;
                }
                dict.into_any()
            }
            _ => {
                let meta = read(rest, rmp::decode::read_ext_meta)?;
                let content = take(rest, meta.size as usize)?;
                self.extended(meta.typeid, content, depth + 1)?
            }
        })
    }

    /// The key of a map, which mostly is the name of a field.
    fn field(&mut self, rest: &mut &[u8], depth: usize) -> PyResult<Bound<'py, PyAny>> {
        let before = *rest;
        let Ok(name) = text(rest) else {
            *rest = before;
            return self.value(rest, depth);
        };
        if let Some(known) = self.names.get(name.as_bytes()) {
            return Ok(known.clone().into_any());
        }
        let made = PyString::new(self.py, name);
        if name.len() <= NAME_BYTES && self.names.len() < MOST_NAMES {
            self.names.insert(name.as_bytes().to_vec(), made.clone());
        }
        Ok(made.into_any())
    }

    fn items(&mut self, rest: &mut &[u8], depth: usize) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let count = read(rest, rmp::decode::read_array_len)? as usize;
        // Each takes a byte at least.
        let mut items = Vec::with_capacity(count.min(rest.len()));
        for _ in 0..count {
            items.push(self.value(rest, depth + 1)?);
        }
        Ok(items)
    }

    /// The items of the array that some content is.
    fn array(&mut self, mut content: &[u8], depth: usize) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let items = self.items(&mut content, depth)?;
        if content.is_empty() { Ok(items) } else { Err(damaged("something follows a value")) }
    }

    fn extended(&mut self, kind: i8, content: &[u8], depth: usize) -> PyResult<Bound<'py, PyAny>> {
        let (py, types) = (self.py, self.types);
        Ok(match kind {
            ext::INTEGER => {
                let signed = PyDict::new(py);
                signed.set_item("signed", true)?;
                let bytes = PyBytes::new(py, content);
                py.get_type::<pyo3::types::PyInt>().call_method("from_bytes", (bytes, "little"), Some(&signed))?
            }
            ext::DECIMAL => types.decimal.bind(py).call1((std::str::from_utf8(content).map_err(unexpected)?,))?,
            ext::DATE => {
                let mut content = content;
                types.date.bind(py).call_method1("fromisoformat", (text(&mut content)?,))?
            }
            ext::TIME => self.moment(types.time.bind(py), content, depth)?,
            ext::DATETIME => self.moment(types.datetime.bind(py), content, depth)?,
            ext::TIMEDELTA => {
                let parts = self.array(content, depth)?;
                if parts.len() != 3 {
                    return Err(damaged("a span of time has not three parts"));
                }
                types.timedelta.bind(py).call1(PyTuple::new(py, parts)?)?
            }
            ext::UUID => {
                let named = PyDict::new(py);
                named.set_item("bytes", PyBytes::new(py, content))?;
                types.uuid.bind(py).call((), Some(&named))?
            }
            ext::TUPLE => PyTuple::new(py, self.array(content, depth)?)?.into_any(),
            ext::SET => PySet::new(py, self.array(content, depth)?)?.into_any(),
            ext::FROZENSET => PyFrozenSet::new(py, self.array(content, depth)?)?.into_any(),
            ext::COMPLEX => {
                let bytes: [u8; 16] = content.try_into().map_err(unexpected)?;
                let (real, imaginary) = bytes.split_at(8);
                let number = |half: &[u8]| half.try_into().map(f64::from_be_bytes).map_err(unexpected);
                PyComplex::from_doubles(py, number(real)?, number(imaginary)?).into_any()
            }
            ext::SURROGATES => {
                PyBytes::new(py, content).call_method1("decode", ("utf-8", "surrogatepass")).map_err(unexpected)?
            }
            ext::BYTEARRAY => PyByteArray::new(py, content).into_any(),
            _ => return Err(damaged(&format!("extension type {kind} is not known"))),
        })
    }

    fn moment(&mut self, class: &Bound<'py, PyAny>, content: &[u8], depth: usize) -> PyResult<Bound<'py, PyAny>> {
        let parts = self.array(content, depth)?;
        let [text, fold, name] = parts.as_slice() else { return Err(damaged("a time has not three parts")) };
        let value = class.call_method1("fromisoformat", (text,))?;
        if name.is_none() && fold.eq(0)? {
            return Ok(value);
        }
        let parts = PyDict::new(self.py);
        parts.set_item("fold", fold)?;
        if !name.is_none() {
            let zone = self.types.zone.as_ref().ok_or_else(|| damaged("this Python has no time zones"))?;
            parts.set_item("tzinfo", zone.bind(self.py).call1((name,))?)?;
        }
        value.call_method("replace", (), Some(&parts))
    }
}

fn text<'a>(rest: &mut &'a [u8]) -> PyResult<&'a str> {
    let (text, after) = rmp::decode::read_str_from_slice(*rest).map_err(unexpected)?;
    *rest = after;
    Ok(text)
}
