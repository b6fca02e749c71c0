//! Python values written as MessagePack.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyByteArray, PyBytes, PyComplex, PyDict, PyFloat, PyFrozenSet, PyInt, PyList, PySet, PyString, PyTuple,
    PyType,
};

use super::{MOST_DEPTH, Types, ext};

/// Writes values one after the other to the end of `out`.
#[derive(Default)]
pub(crate) struct Encoder {
    pub(crate) out: Vec<u8>,
    /// The containers around the value, by address.
    above: Vec<usize>,
}

/// The error for what cannot be kept.
fn refused(what: impl Into<String>) -> PyErr {
    PyTypeError::new_err(what.into())
}

fn length(bytes: usize) -> PyResult<u32> {
    u32::try_from(bytes).map_err(|_| refused("a value of more than 4 GiB cannot be kept"))
}

impl Encoder {
    /// Appends a value. TypeError for what cannot be kept as it is.
    ///
    /// Writing to a Vec cannot fail, so the results of `rmp` are not looked at.
    pub(crate) fn value(&mut self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        if let Ok(text) = value.cast_exact::<PyString>() {
            self.text(text)
        } else if let Ok(number) = value.cast_exact::<PyInt>() {
            self.integer(number)
        } else if let Ok(number) = value.cast_exact::<PyFloat>() {
            let _ = rmp::encode::write_f64(&mut self.out, number.value());
            Ok(())
        } else if value.is_none() {
            let _ = rmp::encode::write_nil(&mut self.out);
            Ok(())
        } else if let Ok(truth) = value.cast_exact::<PyBool>() {
            let _ = rmp::encode::write_bool(&mut self.out, truth.is_true());
            Ok(())
        } else if let Ok(list) = value.cast_exact::<PyList>() {
            self.items(value, list.len(), list.iter())
        } else if let Ok(dict) = value.cast_exact::<PyDict>() {
            self.mapping(dict)
        } else if let Ok(bytes) = value.cast_exact::<PyBytes>() {
            let bytes = bytes.as_bytes();
            length(bytes.len())?;
            let _ = rmp::encode::write_bin(&mut self.out, bytes);
            Ok(())
        } else {
            self.extended(value)
        }
    }

    /// Appends how many keys and values of a map follow.
    pub(crate) fn map_header(&mut self, count: usize) -> PyResult<()> {
        let _ = rmp::encode::write_map_len(&mut self.out, length(count)?);
        Ok(())
    }

    /// Appends an extension type whose content is what `write` appends.
    pub(super) fn extension(&mut self, kind: i8, write: impl FnOnce(&mut Self) -> PyResult<()>) -> PyResult<()> {
        let outer = std::mem::take(&mut self.out);
        let written = write(self);
        let content = std::mem::replace(&mut self.out, outer);
        written?;
        let _ = rmp::encode::write_ext_meta(&mut self.out, length(content.len())?, kind);
        self.out.extend_from_slice(&content);
        Ok(())
    }

    /// Appends a tuple of two.
    pub(crate) fn pair(&mut self, first: &[u8], second: &[u8]) -> PyResult<()> {
        self.extension(ext::TUPLE, |encoder| {
            let _ = rmp::encode::write_array_len(&mut encoder.out, 2);
            encoder.out.extend_from_slice(first);
            encoder.out.extend_from_slice(second);
            Ok(())
        })
    }

    fn text(&mut self, text: &Bound<'_, PyString>) -> PyResult<()> {
        if let Ok(utf8) = text.to_cow() {
            length(utf8.len())?;
            let _ = rmp::encode::write_str(&mut self.out, &utf8);
            return Ok(());
        }
        // Halves of surrogate pairs are no UTF-8.
        let encoded = text.call_method1("encode", ("utf-8", "surrogatepass"))?;
        let encoded = encoded.cast::<PyBytes>()?;
        self.extension(ext::SURROGATES, |encoder| {
            encoder.out.extend_from_slice(encoded.as_bytes());
            Ok(())
        })
    }

    fn integer(&mut self, number: &Bound<'_, PyInt>) -> PyResult<()> {
        if let Ok(small) = number.extract::<i64>() {
            let _ = rmp::encode::write_sint(&mut self.out, small);
            return Ok(());
        }
        if let Ok(large) = number.extract::<u64>() {
            let _ = rmp::encode::write_uint(&mut self.out, large);
            return Ok(());
        }
        let is_negative = number.lt(0)?;
        let magnitude = if is_negative { number.call_method0("__invert__")? } else { number.clone().into_any() };
        let size = magnitude.call_method0("bit_length")?.extract::<usize>()? / 8 + 1;
        let signed = PyDict::new(number.py());
        signed.set_item("signed", true)?;
        let bytes = number.call_method("to_bytes", (size, "little"), Some(&signed))?;
        let bytes = bytes.cast::<PyBytes>()?;
        self.extension(ext::INTEGER, |encoder| {
            encoder.out.extend_from_slice(bytes.as_bytes());
            Ok(())
        })
    }

    fn items<'py>(
        &mut self,
        owner: &Bound<'py, PyAny>,
        count: usize,
        items: impl Iterator<Item = Bound<'py, PyAny>>,
    ) -> PyResult<()> {
        self.enter(owner)?;
        let _ = rmp::encode::write_array_len(&mut self.out, length(count)?);
        let mut written = 0;
        for item in items {
            self.value(&item)?;
            written += 1;
        }
        self.above.pop();
        // Other threads run only between calls; a method of an object could still have changed the list.
        if written == count { Ok(()) } else { Err(refused("a list was changed while it was saved")) }
    }

    fn mapping(&mut self, dict: &Bound<'_, PyDict>) -> PyResult<()> {
        self.enter(dict.as_any())?;
        self.map_header(dict.len())?;
        for (key, value) in dict.iter() {
            self.value(&key)?;
            self.value(&value)?;
        }
        self.above.pop();
        Ok(())
    }

    /// The items of a set have no order: they are sorted, so that equal sets are equal bytes.
    fn set<'py>(&mut self, owner: &Bound<'py, PyAny>, items: impl Iterator<Item = Bound<'py, PyAny>>) -> PyResult<()> {
        self.enter(owner)?;
        let outer = std::mem::take(&mut self.out);
        let mut encoded = Vec::new();
        let mut failed = None;
        for item in items {
            if let Err(error) = self.value(&item) {
                failed = Some(error);
                break;
            }
            encoded.push(std::mem::take(&mut self.out));
        }
        self.out = outer;
        if let Some(error) = failed {
            return Err(error);
        }
        encoded.sort();
        let _ = rmp::encode::write_array_len(&mut self.out, length(encoded.len())?);
        encoded.iter().for_each(|item| self.out.extend_from_slice(item));
        self.above.pop();
        Ok(())
    }

    fn extended(&mut self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        if let Ok(tuple) = value.cast_exact::<PyTuple>() {
            return self.extension(ext::TUPLE, |encoder| encoder.items(value, tuple.len(), tuple.iter()));
        }
        if let Ok(set) = value.cast_exact::<PySet>() {
            return self.extension(ext::SET, |encoder| encoder.set(value, set.iter()));
        }
        if let Ok(set) = value.cast_exact::<PyFrozenSet>() {
            return self.extension(ext::FROZENSET, |encoder| encoder.set(value, set.iter()));
        }
        if let Ok(number) = value.cast_exact::<PyComplex>() {
            return self.extension(ext::COMPLEX, |encoder| {
                encoder.out.extend_from_slice(&number.real().to_be_bytes());
                encoder.out.extend_from_slice(&number.imag().to_be_bytes());
                Ok(())
            });
        }
        if let Ok(bytes) = value.cast_exact::<PyByteArray>() {
            return self.extension(ext::BYTEARRAY, |encoder| {
                encoder.out.extend_from_slice(&bytes.to_vec());
                Ok(())
            });
        }
        self.of_library(value)
    }

    /// Objects of the standard library.
    fn of_library(&mut self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let types = Types::get(value.py())?;
        let class = value.get_type();
        let is = |known: &Py<PyType>| class.is(known);
        if is(&types.datetime) {
            self.moment(ext::DATETIME, value, types)
        } else if is(&types.date) {
            self.extension(ext::DATE, |encoder| encoder.value(&value.call_method0("isoformat")?))
        } else if is(&types.decimal) {
            let text = value.str()?;
            self.extension(ext::DECIMAL, |encoder| {
                encoder.out.extend_from_slice(text.to_cow()?.as_bytes());
                Ok(())
            })
        } else if is(&types.uuid) {
            let bytes = value.getattr("bytes")?;
            let bytes = bytes.cast::<PyBytes>()?;
            self.extension(ext::UUID, |encoder| {
                encoder.out.extend_from_slice(bytes.as_bytes());
                Ok(())
            })
        } else if is(&types.timedelta) {
            let parts = ["days", "seconds", "microseconds"].map(|part| value.getattr(part));
            self.extension(ext::TIMEDELTA, |encoder| {
                let _ = rmp::encode::write_array_len(&mut encoder.out, 3);
                parts.into_iter().try_for_each(|part| encoder.value(&part?))
            })
        } else if is(&types.time) {
            self.moment(ext::TIME, value, types)
        } else {
            Err(refused(format!("a value of class {} cannot be kept", class_name(&class))))
        }
    }

    /// A time, whose zone is one of `datetime.timezone` or has a name by which it is found again.
    fn moment(&mut self, kind: i8, value: &Bound<'_, PyAny>, types: &Types) -> PyResult<()> {
        let zone = value.getattr("tzinfo")?;
        let name = if zone.is_none() {
            None
        } else {
            let class = zone.get_type();
            if class.is(&types.timezone) {
                let plain = class.call1((zone.call_method1("utcoffset", (value.py().None(),))?,))?;
                if plain.repr()?.to_cow()? != zone.repr()?.to_cow()? {
                    return Err(refused("a datetime.timezone with a name of its own cannot be kept"));
                }
                None
            } else if types.zone.as_ref().is_some_and(|known| class.is(known)) {
                let key = zone.getattr("key")?;
                if key.is_none() {
                    return Err(refused("a time zone without a key cannot be kept"));
                }
                Some(key)
            } else {
                return Err(refused(format!("a time zone of class {} cannot be kept", class_name(&class))));
            }
        };
        let (text, fold) = (value.call_method0("isoformat")?, value.getattr("fold")?);
        self.extension(kind, |encoder| {
            let _ = rmp::encode::write_array_len(&mut encoder.out, 3);
            encoder.value(&text)?;
            encoder.value(&fold)?;
            match &name {
                Some(name) => encoder.value(name),
                None => {
                    let _ = rmp::encode::write_nil(&mut encoder.out);
                    Ok(())
                }
            }
        })
    }

    fn enter(&mut self, owner: &Bound<'_, PyAny>) -> PyResult<()> {
        let identity = owner.as_ptr() as usize;
        if self.above.contains(&identity) {
            return Err(refused("a value that holds itself cannot be kept"));
        }
        if self.above.len() >= MOST_DEPTH {
            return Err(refused(format!("values that lie more than {MOST_DEPTH} deep in each other cannot be kept")));
        }
        self.above.push(identity);
        Ok(())
    }

    /// Forgets what a failed call left.
    pub(crate) fn reset(&mut self) {
        self.above.clear();
        self.out.clear();
    }
}

/// The class with its module, as people know it.
pub(super) fn class_name(class: &Bound<'_, PyType>) -> String {
    class.fully_qualified_name().map_or_else(|_| "?".to_owned(), |name| name.to_string())
}
