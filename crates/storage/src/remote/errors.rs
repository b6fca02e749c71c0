//! Translates errors of `object_store` into storage errors.
//!
//! `object_store` keeps status and body of an answer to itself except in the texts of its error chain, so they are read
//! from there (`RequestError` in its `client/retry.rs`); the tests against a real server hold that in place.

use std::error::Error as StdError;
use std::time::Duration;

use object_store::client::{HttpError, HttpErrorKind};

use crate::{StorageError, StorageErrorKind};

/// What an error chain tells.
#[derive(Debug, Default)]
struct Answer {
    status: Option<u16>,
    /// The `<Code>` of an error document.
    code: Option<String>,
    connection: Option<HttpErrorKind>,
    text: String,
}

impl Answer {
    fn of(error: &object_store::Error) -> Self {
        let mut answer = Self::default();
        let mut next: Option<&(dyn StdError + 'static)> = Some(error);
        while let Some(error) = next {
            answer.text = error.to_string();
            answer.status = answer.status.or_else(|| status(&answer.text));
            answer.code = answer.code.or_else(|| code(&answer.text));
            if let Some(http) = error.downcast_ref::<HttpError>() {
                answer.connection = answer.connection.or(Some(http.kind()));
            }
            next = error.source();
        }
        answer.text = error.to_string();
        answer
    }

    fn has_code(&self, codes: &[&str]) -> bool {
        self.code.as_deref().is_some_and(|code| codes.contains(&code))
    }
}

/// The number after "status code: " of `RequestError::Status`.
fn status(text: &str) -> Option<u16> {
    let (_, rest) = text.split_once("non-2xx status code: ")?;
    rest.get(..3)?.parse().ok()
}

fn code(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    Some(code.trim().to_owned())
}

/// The storage error for one of `object_store` from the store at `url`.
pub(super) fn translate(error: object_store::Error, url: &str) -> StorageError {
    use StorageErrorKind as Kind;
    use object_store::Error as Store;

    let answer = Answer::of(&error);
    let made = if answer.text.contains("latest/api/token") || answer.text.contains("latest/meta-data") {
        match answer.status {
            Some(500.. | 429 | 408) => new(Kind::Transient, "the instance's role service has a problem"),
            _ => new(Kind::PermissionDenied, format!("no keys for {url} were found")).hint(
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, put the keys into [repository.s3], or give this \
                 machine a role",
            ),
        }
    } else if answer.has_code(&["NoSuchBucket", "ContainerNotFound"]) || answer.text.contains("bucket does not exist") {
        StorageError::storage_gone(format!("the bucket of {url} does not exist"))
            .hint("check its name and the endpoint, or create the bucket; Copal does not create buckets")
    } else if let Some(denied) = denied(&error, &answer, url) {
        denied
    } else if answer.status == Some(507)
        || answer.has_code(&["QuotaExceeded", "XMinioStorageFull", "QuotaExceededException"])
    {
        new(Kind::NoSpace, format!("the store at {url} is full")).hint("free space there or raise the quota")
    } else if is_misdirected(&answer) {
        new(Kind::Configuration, format!("the store answers that {url} lies elsewhere"))
            .hint("set the bucket's region (AWS_REGION or [repository.s3] region)")
    } else {
        match &error {
            Store::NotFound { .. } => new(Kind::NotFound, "no such object"),
            // A 409 says that nothing was written because of another write under way, and not that an object exists.
            Store::AlreadyExists { .. } if is_race(&answer) => {
                new(Kind::Transient, "another write to this object was under way")
            }
            Store::AlreadyExists { .. } => new(Kind::AlreadyExists, "the object already exists"),
            Store::Precondition { .. } | Store::NotModified { .. } => {
                new(Kind::Conflict, "the object was changed or removed meanwhile")
            }
            Store::NotImplemented { .. } | Store::NotSupported { .. } => {
                new(Kind::Unsupported, format!("the store at {url} cannot do this"))
            }
            Store::InvalidPath { .. } => new(Kind::Other, "the store does not take this name"),
            Store::UnknownConfigurationKey { .. } => new(Kind::Configuration, "an option of the store is not known"),
            _ => by_answer(&answer, url),
        }
    };
    made.because(error)
}

fn new(kind: StorageErrorKind, message: impl Into<String>) -> StorageError {
    StorageError::new(kind, message)
}

/// Whether the error is about the whole bucket and not about one object in it.
pub(super) fn is_bucket_gone(error: &StorageError) -> bool {
    error.kind() == StorageErrorKind::NotFound && error.hint.is_some()
}

/// A store that did not answer in time.
pub(super) fn timed_out(url: &str, deadline: Duration) -> StorageError {
    let message = format!("{url} did not answer within {} s", deadline.as_secs());
    StorageError::new(StorageErrorKind::Transient, message)
}

fn is_race(answer: &Answer) -> bool {
    answer.status == Some(409) && !answer.has_code(&["BlobAlreadyExists", "ObjectAlreadyExists"])
}

fn is_misdirected(answer: &Answer) -> bool {
    answer.has_code(&["PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"])
        || matches!(answer.status, Some(301 | 307 | 308))
        || answer.text.contains("incorrectly configured region")
}

/// Refusals, with what is wrong about the keys.
fn denied(error: &object_store::Error, answer: &Answer, url: &str) -> Option<StorageError> {
    use object_store::Error as Store;

    let new = |message: String| StorageError::new(StorageErrorKind::PermissionDenied, message);
    let made = match answer.code.as_deref() {
        Some("SignatureDoesNotMatch" | "AuthenticationFailed") => {
            new(format!("the store at {url} refused the keys: the secret key is wrong"))
                .hint("check the secret access key (AWS_SECRET_ACCESS_KEY or [repository.s3] secret_access_key)")
        }
        Some("InvalidAccessKeyId" | "NotSignedUp" | "UnknownAccessKeyId") => {
            new(format!("the store at {url} refused the keys: it does not know the access key"))
                .hint("check the access key id (AWS_ACCESS_KEY_ID or [repository.s3] access_key_id) and the endpoint")
        }
        Some("ExpiredToken" | "InvalidToken" | "ExpiredTokenException" | "TokenRefreshRequired") => {
            new(format!("the store at {url} refused the keys: the session token is over or wrong"))
                .hint("get a new session token")
        }
        Some("RequestTimeTooSkewed" | "RequestExpired") => {
            new(format!("the store at {url} refused the request: this machine's clock is wrong"))
                .hint("set the clock of this machine")
        }
        _ => match (error, answer.status) {
            (Store::PermissionDenied { .. } | Store::Unauthenticated { .. }, _) | (_, Some(401 | 403)) => {
                new(format!("the store at {url} does not permit this"))
                    .hint("check the keys, and that they may list, read and write in this bucket and prefix")
            }
            _ => return None,
        },
    };
    Some(made)
}

fn by_answer(answer: &Answer, url: &str) -> StorageError {
    use StorageErrorKind as Kind;

    match (answer.status, answer.connection) {
        (Some(501), _) => new(Kind::Unsupported, format!("the store at {url} cannot do this")),
        (Some(status @ (408 | 425 | 429 | 500..)), _) => {
            new(Kind::Transient, format!("the store at {url} has a problem at the moment ({status})"))
        }
        (Some(_), _) if answer.has_code(&["RequestTimeout", "SlowDown", "InternalError"]) => {
            new(Kind::Transient, format!("the store at {url} has a problem at the moment"))
        }
        // A range that begins past the end; the caller looks at the size.
        (Some(416), _) => new(Kind::Truncated, "the object is shorter than the requested range"),
        (Some(status), _) => new(Kind::Other, format!("the store at {url} refused the request ({status})")),
        (None, Some(_)) if answer.text.contains("certificate") => {
            new(Kind::Configuration, format!("the certificate of {url} is not trusted"))
                .hint("check the endpoint; a private authority has to be known to this system")
        }
        (None, Some(_)) if answer.text.contains("builder error") => {
            new(Kind::Configuration, format!("{url} cannot be used as configured")).hint("check the endpoint")
        }
        (None, Some(HttpErrorKind::Timeout)) => new(Kind::Transient, format!("{url} did not answer in time")),
        (None, Some(HttpErrorKind::Connect)) => new(Kind::Transient, format!("cannot connect to the store of {url}"))
            .hint("check the endpoint and the network"),
        (None, Some(_)) => new(Kind::Transient, format!("the connection to the store of {url} was lost")),
        (None, None) => new(Kind::Other, format!("the store at {url} gave an unexpected answer")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: &str, body: &str) -> object_store::Error {
        let source = format!("Server returned non-2xx status code: {status}: {body}");
        object_store::Error::Generic { store: "S3", source: source.into() }
    }

    fn kind(error: object_store::Error) -> StorageErrorKind {
        translate(error, "s3://b").kind()
    }

    #[test]
    fn status_and_code_decide() {
        use StorageErrorKind::*;
        assert_eq!(kind(answered("503 Service Unavailable", "<Code>SlowDown</Code>")), Transient);
        assert_eq!(kind(answered("500 Internal Server Error", "")), Transient);
        assert_eq!(kind(answered("429 Too Many Requests", "")), Transient);
        assert_eq!(kind(answered("400 Bad Request", "<Code>RequestTimeout</Code>")), Transient);
        assert_eq!(kind(answered("400 Bad Request", "<Code>ExpiredToken</Code>")), PermissionDenied);
        assert_eq!(kind(answered("400 Bad Request", "<Code>AuthorizationHeaderMalformed</Code>")), Configuration);
        assert_eq!(kind(answered("400 Bad Request", "<Code>Strange</Code>")), Other);
        assert_eq!(kind(answered("403 Forbidden", "")), PermissionDenied);
        assert_eq!(kind(answered("507 Insufficient Storage", "<Code>XMinioStorageFull</Code>")), NoSpace);
        assert_eq!(kind(answered("501 Not Implemented", "")), Unsupported);
        assert!(translate(answered("404 Not Found", "<Code>NoSuchBucket</Code>"), "s3://b").is_storage_gone());
    }

    #[test]
    fn a_race_is_not_an_existing_object() {
        let conflict = |body: &str| {
            let source = format!("Server returned non-2xx status code: 409 Conflict: {body}");
            object_store::Error::AlreadyExists { path: "x".into(), source: source.into() }
        };
        assert_eq!(kind(conflict("<Code>ConditionalRequestConflict</Code>")), StorageErrorKind::Transient);
        assert_eq!(kind(conflict("")), StorageErrorKind::Transient);
        assert_eq!(kind(conflict("<Code>BlobAlreadyExists</Code>")), StorageErrorKind::AlreadyExists);
        let exists = object_store::Error::AlreadyExists {
            path: "x".into(),
            source: "Server returned non-2xx status code: 412 Precondition Failed: ".into(),
        };
        assert_eq!(kind(exists), StorageErrorKind::AlreadyExists);
    }

    #[test]
    fn connections_are_transient_and_certificates_are_not() {
        let lost = |kind, text: &str| {
            let http = HttpError::new(kind, std::io::Error::other(text.to_owned()));
            object_store::Error::Generic { store: "S3", source: Box::new(http) }
        };
        assert_eq!(kind(lost(HttpErrorKind::Timeout, "late")), StorageErrorKind::Transient);
        assert_eq!(kind(lost(HttpErrorKind::Interrupted, "reset")), StorageErrorKind::Transient);
        let untrusted = lost(HttpErrorKind::Connect, "invalid peer certificate: UnknownIssuer");
        assert_eq!(kind(untrusted), StorageErrorKind::Configuration);
        let keyless = lost(HttpErrorKind::Connect, "PUT http://169.254.169.254/latest/api/token");
        assert_eq!(kind(keyless), StorageErrorKind::PermissionDenied);
    }
}
