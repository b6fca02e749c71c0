//! The native part of the Python package `copal`: the use cases, with JSON in both directions.
//!
//! Work runs on threads that never touch Python. The thread that asked for it waits in `Work::next` without the
//! interpreter's lock and goes back to Python for every event, so Python code never runs on top of a frame of this library:
//! signals, exceptions, forks and the end of the interpreter meet nothing here that they could break.

mod calls;
mod failure;
mod host;
mod json;
mod msgpack;
mod policy;
mod rows;
mod session;
mod store;
mod work;

#[pyo3::pymodule]
mod _copal {
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::failure::Failure;
    #[pymodule_export]
    use super::host::shutdown;
    #[pymodule_export]
    use super::msgpack::import_classes;
    #[pymodule_export]
    use super::policy::{config, next_run};
    #[pymodule_export]
    use super::rows::{Rows, capture};
    #[pymodule_export]
    use super::session::Session;
    #[pymodule_export]
    use super::store::{LoadedTables, PackedView, Store, packed_digests};
    #[pymodule_export]
    use super::work::Work;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
