//! Shallow copies of containers: in one step, and of the same class without running code of that class.

use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList, PyTuple, PyType};

/// A copy with the same items.
pub(super) fn list<'py>(list: &Bound<'py, PyList>) -> PyResult<Bound<'py, PyList>> {
    let items = list.get_slice(0, list.len());
    if list.is_exact_instance_of::<PyList>() {
        return Ok(items);
    }
    let plain = list.py().get_type::<PyList>();
    let copy = empty(&plain, list.as_any(), None)?;
    plain.call_method1(intern!(list.py(), "extend"), (&copy, items))?;
    Ok(copy.cast_into()?)
}

/// A copy with the same keys and values.
pub(super) fn dict<'py>(dict: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyDict>> {
    let py = dict.py();
    if dict.is_exact_instance_of::<PyDict>() {
        return dict.copy();
    }
    let copy = empty(&py.get_type::<PyDict>(), dict.as_any(), None)?;
    let ordered = ordered(py)?;
    if dict.is_instance(ordered)? {
        // It has an order of its own beside that of the dict.
        let items = ordered.call_method1(intern!(py, "items"), (dict,))?;
        for item in items.try_iter()?.collect::<PyResult<Vec<_>>>()? {
            let (key, value): (Bound<'py, PyAny>, Bound<'py, PyAny>) = item.extract()?;
            ordered.call_method1(intern!(py, "__setitem__"), (&copy, key, value))?;
        }
        return Ok(copy.cast_into()?);
    }
    let copy = copy.cast_into::<PyDict>()?;
    for (key, value) in dict.iter().collect::<Vec<_>>() {
        copy.set_item(key, value)?;
    }
    Ok(copy)
}

/// A tuple of the same class with other items.
pub(super) fn tuple<'py>(tuple: &Bound<'py, PyTuple>, items: Vec<Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>> {
    let items = PyTuple::new(tuple.py(), items)?;
    if tuple.is_exact_instance_of::<PyTuple>() {
        return Ok(items.into_any());
    }
    empty(&tuple.py().get_type::<PyTuple>(), tuple.as_any(), Some(items))
}

/// An object of the value's class and with its attributes, as the plain class makes it: empty, or with the items of a tuple.
fn empty<'py>(
    plain: &Bound<'py, PyType>,
    value: &Bound<'py, PyAny>,
    items: Option<Bound<'py, PyTuple>>,
) -> PyResult<Bound<'py, PyAny>> {
    let (py, class) = (value.py(), value.get_type());
    let made = match items {
        None => plain.call_method1(intern!(py, "__new__"), (&class,)),
        Some(items) => plain.call_method1(intern!(py, "__new__"), (&class, items)),
    };
    // Classes of native code can have parts that only they know how to copy.
    let copy = made.map_err(|error| {
        let refused = PyTypeError::new_err(format!("a value of class {class} cannot be copied"));
        refused.set_cause(py, Some(error));
        refused
    })?;
    if let Some(attributes) = value.getattr_opt(intern!(py, "__dict__"))?
        && let Ok(attributes) = attributes.cast::<PyDict>()
        && !attributes.is_empty()
    {
        copy.getattr(intern!(py, "__dict__"))?.cast_into::<PyDict>()?.update(attributes.as_mapping())?;
    }
    Ok(copy)
}

pub(super) fn ordered(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static ORDERED: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    ORDERED.import(py, "collections", "OrderedDict")
}
