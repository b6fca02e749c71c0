//! The document that describes the API, beside what the handlers say themselves.

use axum::http::header;
use axum::response::IntoResponse as _;
use axum::routing::{MethodRouter, get};
use bytes::Bytes;
use utoipa::OpenApi;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, ResponseBuilder};

use super::answer::{ErrorBody, Problem};
use super::cookie;

/// What a client with a cookie has to know.
const COOKIE: &str = "from POST /api/session; whatever is not GET or HEAD needs the session's \"csrf\" in the header X-Copal-CSRF besides";

/// How any request can go wrong.
const PROBLEMS: [(&str, &str); 11] = [
    ("400", "the request is not what is described here"),
    ("401", "a token is needed, or the one that came is not known, or the session has ended"),
    ("403", "the role does not suffice, or another site is behind the request"),
    ("404", "there is no such thing"),
    ("405", "this address does not take that method"),
    ("408", "the request came too slowly, or the repository answers too slowly"),
    ("409", "it is in the way of something that is there or under way"),
    ("413", "the body is too large"),
    ("429", "too many requests; Retry-After says how many seconds to wait"),
    ("500", "it failed, or the repository is damaged"),
    ("503", "the repository, the history or the daemon is not available now"),
];

#[derive(OpenApi)]
#[openapi(
    info(title = "Copal", description = "What the daemon `copal serve` knows and does. Times are RFC 3339 in UTC, sizes are bytes."),
    components(schemas(ErrorBody)),
    tags(
        (name = "databases", description = "what is protected, and what can be started for it"),
        (name = "backups", description = "what can be restored"),
        (name = "snapshots", description = "copies beside the databases, to go back to in seconds"),
        (name = "repository", description = "where backups are kept"),
        (name = "runs", description = "what runs and what ran"),
        (name = "daemon", description = "how the daemon itself does"),
        (name = "session", description = "signing in with a browser"),
    )
)]
struct Base;

/// What no handler says.
pub(super) fn base() -> utoipa::openapi::OpenApi {
    Base::openapi()
}

/// Answers with the document, which is far smaller as text.
pub(super) fn served<S: Clone + Send + Sync + 'static>(document: &utoipa::openapi::OpenApi) -> MethodRouter<S> {
    let text = serde_json::to_vec(document).map(Bytes::from).map_err(|error| error.to_string());
    let answer = move || match &text {
        Ok(text) => ([(header::CONTENT_TYPE, "application/json")], text.clone()).into_response(),
        Err(error) => Problem::failed(format!("the document cannot be written: {error}")).into_response(),
    };
    get(move || std::future::ready(answer()))
}

/// Adds to every operation how it can go wrong, and that it may need a token.
pub(super) fn complete(document: &mut utoipa::openapi::OpenApi) {
    let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("token", SecurityScheme::Http(scheme));
    let cookie = ApiKeyValue::with_description(cookie::NAME, COOKIE);
    components.add_security_scheme("session", SecurityScheme::ApiKey(ApiKey::Cookie(cookie)));
    let none: [String; 0] = [];
    let requirements = [SecurityRequirement::default(), SecurityRequirement::new("token", none.clone())];
    document.security = Some(requirements.into_iter().chain([SecurityRequirement::new("session", none)]).collect());
    for item in document.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete];
        for operation in operations.into_iter().filter_map(Option::as_mut) {
            add_problems(operation);
        }
    }
}

fn add_problems(operation: &mut Operation) {
    let mut problems = PROBLEMS.to_vec();
    if operation.request_body.is_some() {
        problems.push(("415", "the body is not application/json"));
    }
    for (status, description) in problems {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("ErrorBody"))).build();
        let response = ResponseBuilder::new().description(description).content("application/json", content).build();
        operation.responses.responses.entry(status.to_owned()).or_insert(RefOr::T(response));
    }
}
