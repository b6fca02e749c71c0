//! The HTTP API: what the daemon knows and does, for programs and for the page.
//!
//! Every answer is JSON, errors too (`{"error": {"kind", "message", "causes", "hint"}}`), but for `/metrics`, the page and the one to
//! try the API. A name in a path only ever selects what the configuration or the repository knows; it is never taken for a path or a
//! URL. `/api/openapi.json` describes it all and is made from the handlers themselves.

mod access;
mod answer;
mod backups;
mod compress;
mod cookie;
mod databases;
mod etag;
mod events;
mod extract;
mod limits;
mod openapi;
mod overview;
mod page;
mod plans;
mod repository;
mod runs;
mod series;
mod sessions;
mod set_up;
mod snapshots;
mod status;
#[cfg(test)]
mod tests;
mod views;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use copal::Copal;
use jiff::Timestamp;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::limit::RequestBodyLimitLayer;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::assembly::Loaded;
use crate::notifier::Notifications;
use crate::protection::Protection;
use crate::runner::Runner;
use crate::tokens::{Sessions, Tokens};
use answer::Problem;
use limits::Limits;
pub(crate) use set_up::router as set_up_router;

/// Where the document is that describes the API.
const DOCUMENT: &str = "/api/openapi.json";
/// The largest body of a request; none needs more than a few names.
const MOST_BODY: usize = 64 * 1024;
/// How long an answer may take to begin.
const TIME_LIMIT: Duration = Duration::from_secs(60);
/// How long somebody waits for the first look at the repository.
const FIRST_LOOK: Duration = Duration::from_secs(5);

/// What handlers have at hand. Clones share it.
#[derive(Clone)]
pub(crate) struct Api {
    runner: Runner,
    protection: Protection,
    notifications: Notifications,
    tokens: Tokens,
    shared: Arc<Shared>,
}

struct Shared {
    started: Timestamp,
    limits: Limits,
    sessions: Sessions,
    /// The listener speaks TLS.
    has_tls: bool,
    streams: tokio::sync::Semaphore,
    /// Looks at the targets of restores.
    looks: Arc<tokio::sync::Semaphore>,
    /// There was a token at some time.
    had_token: AtomicBool,
    databases: Mutex<databases::Cache>,
    overview: Mutex<overview::Cache>,
    held: tokio::sync::Mutex<repository::Cache>,
    configured: Mutex<Configured>,
}

/// What the configuration in force says.
#[derive(Debug)]
struct Configured {
    copal: Copal,
    path: Option<std::path::PathBuf>,
    limit: usize,
    since: Timestamp,
    error: Option<String>,
}

impl Configured {
    fn new(loaded: &Loaded, error: Option<String>) -> Self {
        Self {
            copal: Copal::new(loaded.settings.clone()),
            path: loaded.configuration.path.clone(),
            limit: loaded.configuration.daemon.concurrency,
            since: Timestamp::now(),
            error,
        }
    }
}

impl Api {
    /// The API over the daemon's parts.
    pub(crate) fn new(
        runner: Runner,
        protection: Protection,
        notifications: Notifications,
        tokens: Tokens,
        loaded: &Loaded,
    ) -> Self {
        let shared = Shared {
            started: Timestamp::now(),
            limits: Limits::new(),
            sessions: Sessions::default(),
            has_tls: loaded.configuration.daemon.tls.is_some(),
            streams: tokio::sync::Semaphore::new(events::MOST_STREAMS),
            looks: Arc::new(tokio::sync::Semaphore::new(plans::MOST_LOOKS)),
            had_token: AtomicBool::new(!tokens.is_empty()),
            databases: Mutex::default(),
            overview: Mutex::default(),
            held: tokio::sync::Mutex::default(),
            configured: Mutex::new(Configured::new(loaded, None)),
        };
        Self { runner, protection, notifications, tokens, shared: Arc::new(shared) }
    }

    /// Takes note of the configuration in force, or of why a newer one is not.
    pub(crate) fn configured(&self, loaded: &Loaded, error: Option<String>) {
        let mut configured = self.lock();
        match error {
            Some(error) => configured.error = Some(error),
            None => *configured = Configured::new(loaded, None),
        }
    }

    /// Whether everybody needs a token. Once there was one, that stays so: a file that is lost opens nothing.
    fn needs_token(&self) -> bool {
        let has_token = !self.tokens.is_empty();
        self.shared.had_token.fetch_or(has_token, Ordering::Relaxed) || has_token
    }

    /// The use cases, over the repository that is there now.
    async fn copal(&self) -> Result<Copal, Problem> {
        let (copal, since) = {
            let configured = self.lock();
            (configured.copal.clone(), configured.since)
        };
        let current = copal.current().await?;
        let mut configured = self.lock();
        // Another configuration may have come meanwhile: it stays in force.
        if configured.since == since {
            configured.copal = current.clone();
        }
        Ok(current)
    }

    /// Whether the configuration or the repository knows a database of this name.
    async fn known(&self, name: &str) -> Result<(), Problem> {
        if self.lock().copal.settings().databases.contains_key(name) {
            return Ok(());
        }
        self.protection.ready(FIRST_LOOK).await;
        match self.protection.get(name) {
            Some(_) => Ok(()),
            None => Err(Problem::not_found(format!("there is no database {name:?}"))),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Configured> {
        self.shared.configured.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All routes, with access, limits and time limits.
pub(crate) fn router(api: Api) -> Router {
    let (routes, mut document) = described().split_for_parts();
    let (open, open_document) = described_open().split_for_parts();
    document.merge(open_document);
    openapi::complete(&mut document);
    let trial = SwaggerUi::new("/api/docs").config(Config::new([DOCUMENT]));
    let guarded = routes.layer(from_fn_with_state(api.clone(), access::guard)).with_state(api.clone());
    let open = open.merge(page::routes()).layer(from_fn_with_state(api.clone(), access::public)).with_state(api);
    let all = Router::new()
        .merge(guarded)
        .merge(open)
        .merge(trial)
        .route(DOCUMENT, openapi::served(&document))
        .fallback(|| async { Problem::not_found("there is nothing at this address").hint("see /api/docs") });
    within_limits(all)
}

/// What holds for every request, whatever is behind the address.
fn within_limits(routes: Router) -> Router {
    routes
        .route("/healthz", get(|| async { "ok\n" }))
        .method_not_allowed_fallback(|| async { Problem::method_not_allowed() })
        .layer(from_fn(compress::json))
        .layer(RequestBodyLimitLayer::new(MOST_BODY))
        .layer(from_fn(small))
        .layer(from_fn(timely))
        .layer(from_fn(safe_headers))
        .layer(CatchPanicLayer::custom(|_: Box<dyn std::any::Any + Send>| Problem::panicked().into_response()))
}

fn described() -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(openapi::base())
        .routes(routes!(status::status))
        .routes(routes!(status::metrics))
        .routes(routes!(status::notifiers))
        .routes(routes!(status::test_notifier))
        .routes(routes!(overview::overview))
        .routes(routes!(databases::list))
        .routes(routes!(databases::show))
        .routes(routes!(databases::backup))
        .routes(routes!(databases::drill))
        .routes(routes!(databases::changed))
        .routes(routes!(databases::verify))
        .routes(routes!(databases::restore))
        .routes(routes!(series::series))
        .routes(routes!(plans::restore))
        .routes(routes!(plans::show_prune, plans::prune))
        .routes(routes!(snapshots::list, snapshots::take))
        .routes(routes!(snapshots::rewind))
        .routes(routes!(snapshots::remove))
        .routes(routes!(repository::show))
        .routes(routes!(backups::list))
        .routes(routes!(backups::show))
        .routes(routes!(backups::pin, backups::unpin))
        .routes(routes!(runs::list))
        .routes(routes!(runs::show))
        .routes(routes!(runs::log))
        .routes(routes!(runs::cancel))
        .routes(routes!(events::of_run))
        .routes(routes!(events::all))
}

/// What needs no token.
fn described_open() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(sessions::show, sessions::sign_in, sessions::sign_out))
}

/// The OpenAPI document, for those who want it without a daemon.
#[cfg(test)]
fn document() -> utoipa::openapi::OpenApi {
    let mut document = described().into_openapi();
    document.merge(described_open().into_openapi());
    openapi::complete(&mut document);
    document
}

async fn timely(request: Request, next: Next) -> Response {
    match tokio::time::timeout(TIME_LIMIT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::too_slow().into_response(),
    }
}

/// Refuses what is announced to be too large; what turns out to be is cut off further in.
async fn small(request: Request, next: Next) -> Response {
    let announced = request.headers().get(axum::http::header::CONTENT_LENGTH);
    let length = announced.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    match length.is_some_and(|length| length > MOST_BODY as u64) {
        true => Problem::too_large(MOST_BODY).into_response(),
        false => next.run(request).await,
    }
}

/// Answers are for whoever asked, as what they say they are.
async fn safe_headers(request: Request, next: Next) -> Response {
    use axum::http::HeaderValue;
    use axum::http::header::{CACHE_CONTROL, HeaderName, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS};
    const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}
