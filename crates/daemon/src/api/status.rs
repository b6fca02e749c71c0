//! `/api/status`, `/api/notifiers` and `/metrics`: how the daemon itself does.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use copal_notify::NotifierStatus;
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use super::access::{Operator, Viewer};
use super::answer::Problem;
use super::extract::Path;
use crate::history::HistoryStatus;
use crate::metrics;

/// How the daemon does.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StatusView {
    /// The program's version.
    version: String,
    /// When it started.
    started: Timestamp,
    /// The configuration's file.
    configuration: Option<String>,
    /// Since when it is in force.
    configuration_since: Timestamp,
    /// Why a newer one is not in force; null if there is none.
    configuration_error: Option<String>,
    /// What the repository failed with when it was asked last.
    repository_error: Option<String>,
    /// Configured databases.
    databases: usize,
    /// Databases, configured or not, that are not protected.
    not_protected: usize,
    /// Runs under way.
    running: usize,
    /// At most so many regular ones at once.
    concurrency: usize,
    /// How the history of runs does.
    history: HistoryStatus,
}

/// How the daemon does.
#[utoipa::path(get, path = "/api/status", tag = "daemon", responses((status = 200, body = StatusView)))]
pub(crate) async fn status(_: Viewer, State(api): State<Api>) -> Json<StatusView> {
    api.protection.ready(super::FIRST_LOOK).await;
    let not_protected = api.protection.not_protected();
    let running = api.runner.live().len();
    let history = api.runner.recorder().status();
    let repository_error = api.protection.error();
    let configured = api.lock();
    Json(StatusView {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started: api.shared.started,
        configuration: configured.path.as_ref().map(|path| path.display().to_string()),
        configuration_since: configured.since,
        configuration_error: configured.error.clone(),
        repository_error,
        databases: configured.copal.settings().databases.len(),
        not_protected,
        running,
        concurrency: configured.limit,
        history,
    })
}

/// How each notifier does.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NotifiersView {
    /// By name.
    #[schema(value_type = BTreeMap<String, Object>)]
    notifiers: BTreeMap<String, NotifierStatus>,
}

/// How each notifier does: what was delivered last, what failed, what waits.
#[utoipa::path(get, path = "/api/notifiers", tag = "daemon", responses((status = 200, body = NotifiersView)))]
pub(crate) async fn notifiers(_: Viewer, State(api): State<Api>) -> Json<NotifiersView> {
    Json(NotifiersView { notifiers: api.notifications.status() })
}

/// That a trial was delivered.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Delivered {
    /// The notifier.
    notifier: String,
    /// Always true.
    delivered: bool,
}

/// Sends a trial notification, and waits until it is delivered.
#[utoipa::path(post, path = "/api/notifiers/{name}/test", tag = "daemon",
    params(("name" = String, Path, description = "its name in the configuration")),
    responses((status = 200, body = Delivered), (status = 502, body = super::answer::ErrorBody, description = "it could not be delivered")))]
pub(crate) async fn test_notifier(
    Operator(access): Operator,
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<Json<Delivered>, Problem> {
    api.notifications.test(&name).await?;
    tracing::info!(notifier = name, who = access.who(), "a trial was sent");
    Ok(Json(Delivered { notifier: name, delivered: true }))
}

/// Metrics for Prometheus, in its text format.
#[utoipa::path(get, path = "/metrics", tag = "daemon",
    responses((status = 200, content_type = "text/plain", body = String)))]
pub(crate) async fn metrics(_: Viewer, State(api): State<Api>) -> Response {
    let databases = api.protection.all();
    let runs = api.runner.databases();
    let notifiers = api.notifications.status();
    let history = api.runner.recorder().status();
    let live = api.runner.live();
    let (limit, configuration_is_good) = {
        let configured = api.lock();
        (configured.limit, configured.error.is_none())
    };
    let text = metrics::render(&metrics::Facts {
        now: Timestamp::now(),
        started: api.shared.started,
        version: env!("CARGO_PKG_VERSION"),
        databases: &databases,
        runs: &runs,
        live: &live,
        limit,
        notifiers: &notifiers,
        history: &history,
        configuration_is_good,
    });
    let kind = HeaderValue::from_static(metrics::CONTENT_TYPE);
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}
