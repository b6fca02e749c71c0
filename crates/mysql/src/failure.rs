//! What a server says, as errors with advice.

use copal_core::{EngineError, EngineErrorKind};

/// A statement that the server refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The server's number of the error; 0 if the connection was lost.
    pub(crate) code: u16,
    /// What it said.
    pub(crate) message: String,
}

impl Refusal {
    /// A lock was not had in time, or a deadlock was broken: the same statement may succeed later.
    pub(crate) fn is_lock(&self) -> bool {
        matches!(self.code, 1205 | 1213)
    }

    /// What the statement names is not there, or not as it was when the statement was made.
    pub(crate) fn is_change(&self) -> bool {
        matches!(self.code, 1146 | 1054 | 1049 | 1412 | 1136)
    }

    /// A function may not be made: for want of a privilege, or because there is a binary log.
    pub(crate) fn is_about_functions(&self) -> bool {
        matches!(self.code, 1044 | 1227 | 1370 | 1418 | 1419)
    }

    /// What the statement names is not there.
    pub(crate) fn is_absence(&self) -> bool {
        matches!(self.code, 1008 | 1049 | 1051 | 1146)
    }
}

/// A statement was refused, or the connection was lost meanwhile.
pub(crate) fn refused(place: &str, refusal: &Refusal) -> EngineError {
    let what = if refusal.code == 0 { "the connection was lost" } else { "the server refused" };
    with_advice(format!("{place}: {what}"), refusal)
}

/// No connection was made.
pub(crate) fn not_connected(place: &str, refusal: &Refusal) -> EngineError {
    with_advice(format!("{place} cannot be reached"), refusal)
}

fn with_advice(message: String, refusal: &Refusal) -> EngineError {
    use EngineErrorKind as Kind;
    let (kind, hint) = match refusal.code {
        1045 | 1698 => (Kind::PermissionDenied, "check user and password: in the URL, or MYSQL_PWD"),
        1044 | 1142 | 1143 | 1227 | 1370 | 1419 => (
            Kind::PermissionDenied,
            "the user needs more privileges: docs/engines/mysql.md has all that are needed, with the GRANTs to type",
        ),
        1049 | 1146 => (Kind::NotFound, ""),
        1205 | 1213 => (Kind::Busy, "another session holds a lock; try again when its transaction has ended"),
        1040 | 1203 | 1226 => (Kind::Busy, "the server has no connection left; try again, or raise max_connections"),
        1021 | 1114 | 3675 => (Kind::NoSpace, "make room on the server's disk"),
        1030 if refusal.message.contains("28") || refusal.message.contains("space") => {
            (Kind::NoSpace, "make room on the server's disk")
        }
        1290 | 1836 => (Kind::PermissionDenied, "the server is read-only: name the primary"),
        0 if refusal.message.contains("efused") || refusal.message.contains("No such file") => {
            (Kind::NotFound, "is the server running there? check host, port or socket")
        }
        0 if refusal.message.contains("certificate") => (
            Kind::Other,
            "name who signed the server's certificate: ?ssl-ca=/path/ca.pem, or ask for less: ?ssl-mode=REQUIRED",
        ),
        _ => (Kind::Other, ""),
    };
    let error = EngineError::new(kind, message).because(refusal.message.clone());
    if hint.is_empty() { error } else { error.hint(hint) }
}
