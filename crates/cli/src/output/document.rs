//! The JSON document, format 1: one per run, whatever happens.

use copal::CopalError;
use serde::Serialize;
use serde_json::value::RawValue;

/// The whole document.
#[derive(Serialize)]
pub(super) struct Document<'a> {
    pub(super) format: u32,
    pub(super) command: &'a str,
    pub(super) ok: bool,
    pub(super) exit_code: u8,
    pub(super) warnings: Vec<String>,
    pub(super) error: Option<ErrorDocument>,
    /// One line each, their keys in the order of their types.
    pub(super) results: Vec<Box<RawValue>>,
}

/// An error.
#[derive(Serialize)]
pub(super) struct ErrorDocument {
    kind: &'static str,
    message: String,
    causes: Vec<String>,
    hint: Option<String>,
}

impl From<&CopalError> for ErrorDocument {
    fn from(error: &CopalError) -> Self {
        Self {
            kind: error.kind().as_str(),
            message: error.to_string(),
            causes: error.causes(),
            hint: error.hint().map(str::to_owned),
        }
    }
}

/// The result of a database for which the command failed.
#[derive(Serialize)]
pub(super) struct FailedResult<'a> {
    pub(super) database: &'a str,
    pub(super) error: ErrorDocument,
}
