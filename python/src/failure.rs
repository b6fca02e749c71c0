//! Errors on their way to Python: one exception that carries the error as JSON.

use copal::{CopalError, ErrorKind};
use pyo3::PyErr;
use pyo3::exceptions::PyException;
use serde::Serialize;

pyo3::create_exception!(
    _copal,
    Failure,
    PyException,
    "An error of the library as JSON: kind, message, causes, hint, exit_code. The package raises the class of its kind instead."
);

/// An error as docs/json.md describes it, and its exit code.
#[derive(Serialize)]
struct Description<'a> {
    kind: &'static str,
    message: String,
    causes: Vec<String>,
    hint: Option<&'a str>,
    exit_code: u8,
}

/// The error as JSON.
pub(crate) fn describe(error: &CopalError) -> String {
    let (kind, causes, hint) = (error.kind(), error.causes(), error.hint());
    let description =
        Description { kind: kind.as_str(), message: error.to_string(), causes, hint, exit_code: kind.exit_code() };
    // Texts and a number can always be written.
    serde_json::to_string(&description).unwrap_or_default()
}

/// The exception for an error.
pub(crate) fn raise(error: &CopalError) -> PyErr {
    Failure::new_err(describe(error))
}

/// A wrong call. What `serde_json` says names keys and types, and quotes no value that could be a secret.
pub(crate) fn wrong_call(what: &str, problem: &serde_json::Error) -> CopalError {
    use serde_json::error::Category;
    let text = match problem.classify() {
        Category::Data => problem.to_string(),
        _ => "it is no JSON".to_owned(),
    };
    let is_value = text.starts_with("invalid type") || text.starts_with("invalid value");
    let shown = if is_value { "a value has the wrong type" } else { text.as_str() };
    CopalError::new(ErrorKind::Usage, format!("{what}: {shown}"))
}
