//! How things go wrong, as JSON.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use copal::{CopalError, ErrorKind};
use serde::Serialize;
use utoipa::ToSchema;

use crate::history::HistoryError;
use crate::notifier::TrialError;
use crate::runner::Refused;
use crate::setup::Refusal;

/// Why a request was not answered.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    error: ErrorView,
    /// Seconds to wait.
    retry_after: Option<u64>,
}

/// The body of every answer that is no success.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorBody {
    error: ErrorView,
}

/// What went wrong.
#[derive(Debug, Serialize, ToSchema)]
struct ErrorView {
    /// The class, as in the JSON of the command line; `unauthorized`, `forbidden`, `too-large` and
    /// `too-many-requests` besides.
    kind: String,
    /// What happened, one line.
    message: String,
    /// What lies underneath, nearest first.
    causes: Vec<String>,
    /// What to do about it.
    hint: Option<String>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, kind: &str, message: impl Into<String>) -> Self {
        let error = ErrorView { kind: kind.to_owned(), message: message.into(), causes: Vec::new(), hint: None };
        Self { status, error, retry_after: None }
    }

    /// An error, with a status that its kind does not tell.
    pub(crate) fn with_status(status: StatusCode, error: &CopalError) -> Self {
        let view = ErrorView {
            kind: error.kind().as_str().to_owned(),
            message: error.to_string(),
            causes: error.causes(),
            hint: error.hint().map(str::to_owned),
        };
        Self { status, error: view, retry_after: None }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "usage", message)
    }

    pub(crate) fn unauthorized(message: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
            .hint("make a token with: copal token add NAME --role viewer, and send it as: Authorization: Bearer TOKEN")
    }

    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", message)
    }

    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "busy", message)
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
    }

    pub(crate) fn too_many(seconds: u64) -> Self {
        let problem = Self::new(StatusCode::TOO_MANY_REQUESTS, "too-many-requests", "too many requests");
        Self { retry_after: Some(seconds.max(1)), ..problem }
    }

    pub(crate) fn too_large(most: usize) -> Self {
        let message = format!("a request has a body of {most} bytes at most");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", message)
    }

    pub(crate) fn method_not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "usage", "this address does not take that method")
    }

    pub(crate) fn too_slow() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "unavailable", "the request took too long")
    }

    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", message)
    }

    pub(crate) fn panicked() -> Self {
        Self::failed("the request stopped unexpectedly; this is a mistake in copal")
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.error.hint = Some(hint.into());
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(ErrorBody { error: self.error })).into_response();
        let headers = response.headers_mut();
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"copal\""));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<CopalError> for Problem {
    fn from(error: CopalError) -> Self {
        let status = match error.kind() {
            ErrorKind::NotFound | ErrorKind::Pruned => StatusCode::NOT_FOUND,
            ErrorKind::Exists | ErrorKind::Busy => StatusCode::CONFLICT,
            ErrorKind::Usage | ErrorKind::Unsupported => StatusCode::BAD_REQUEST,
            ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::with_status(status, &error)
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Wish(error) => Self::with_status(StatusCode::BAD_REQUEST, &error),
            Refusal::Exists(error) => Self::with_status(StatusCode::CONFLICT, &error),
            Refusal::Failed(error) => error.into(),
        }
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let text = refused.to_string();
        match refused {
            Refused::UnknownDatabase | Refused::UnknownRun => Self::not_found(text),
            Refused::Busy | Refused::TooMany => Self::conflict(text),
            Refused::Stopping => Self::unavailable(text),
        }
    }
}

impl From<HistoryError> for Problem {
    fn from(error: HistoryError) -> Self {
        Self::unavailable(error.to_string())
    }
}

impl From<TrialError> for Problem {
    fn from(error: TrialError) -> Self {
        let text = error.to_string();
        match error {
            TrialError::Unknown(_) => Self::not_found(text),
            TrialError::Failed(_) => Self::new(StatusCode::BAD_GATEWAY, "failed", text),
            TrialError::Stopping => Self::unavailable(text),
        }
    }
}
