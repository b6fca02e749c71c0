//! The API of the first start: `/api/setup`, for whoever has the code, and nothing else.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::access::{class, limited, peer, refuse_foreign, require_this_machine};
use super::answer::Problem;
use super::extract::Body;
use super::limits::{Class, Limits};
use super::sessions::SessionView;
use super::{openapi, page, within_limits};
use crate::setup::{Findings, FoundFile, FoundServer, Ground, Wish, Written};

/// The header with the code.
const CODE: &str = "x-copal-setup";
/// In so many folders one search looks at most.
const MOST_FOLDERS: usize = 20;

/// What handlers have at hand. Clones share it.
#[derive(Clone)]
struct SetUpApi {
    ground: Arc<Ground>,
    limits: Arc<Limits>,
}

/// All routes of a set-up, with the same limits as those of the daemon.
pub(crate) fn router(ground: Arc<Ground>) -> Router {
    let api = SetUpApi { ground, limits: Arc::new(Limits::new()) };
    let described = OpenApiRouter::with_openapi(openapi::base()).routes(routes!(show, write)).routes(routes!(find));
    let (routes, mut document) = described.split_for_parts();
    openapi::complete(&mut document);
    let protected = routes.route_layer(from_fn_with_state(api.clone(), with_code));
    let all = Router::new()
        .merge(protected)
        .merge(page::routes())
        .route("/api/session", get(session))
        .route(super::DOCUMENT, openapi::served(&document))
        .fallback(not_yet)
        .with_state(api.clone())
        .layer(from_fn_with_state(api, of_this_machine));
    within_limits(all)
}

/// Refuses browsers that some other site sends here, as the daemon does.
async fn of_this_machine(State(api): State<SetUpApi>, request: Request, next: Next) -> Result<Response, Problem> {
    let (peer, headers) = (peer(request.extensions())?, request.headers());
    if !peer.to_canonical().is_loopback() {
        return Err(Problem::forbidden("a set-up is for this machine only"));
    }
    require_this_machine(headers)?;
    refuse_foreign(headers)?;
    api.limits.check(peer, None, class(request.method())).map_err(limited)?;
    Ok(next.run(request).await)
}

/// Lets in who has the code; guesses are counted like wrong tokens.
async fn with_code(State(api): State<SetUpApi>, request: Request, next: Next) -> Result<Response, Problem> {
    let refused = |what| {
        Problem::unauthorized(what).hint("open the address that copal serve printed: it has the code of this set-up")
    };
    let peer = peer(request.extensions())?;
    let Some(presented) = request.headers().get(CODE) else {
        return Err(refused("the code of the set-up is needed"));
    };
    api.limits.may_log_in(peer).map_err(limited)?;
    if !presented.to_str().is_ok_and(|presented| api.ground.code.is(presented)) {
        api.limits.check(peer, None, Class::FailedLogin).map_err(limited)?;
        return Err(refused("this is not the code of this set-up"));
    }
    Ok(next.run(request).await)
}

/// What is there before there is a configuration.
async fn not_yet(request: Request) -> Problem {
    let path = request.uri().path();
    if path.starts_with("/api/") || path == "/metrics" {
        let hint = "open the address that copal serve printed, or write a configuration: copal init -d sqlite:app.db";
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, "setup", "Copal is not set up yet").hint(hint);
    }
    Problem::not_found("there is nothing at this address")
}

/// Who is signed in: nobody, since nobody can be.
async fn session() -> Json<SessionView> {
    Json(SessionView::of_set_up())
}

/// What a set-up would do if nobody says otherwise.
#[derive(Debug, Serialize, ToSchema)]
struct SetUpView {
    /// The configuration that will be written.
    configuration: String,
    /// Where backups go.
    default_repository: String,
    /// The user's home folder.
    home: Option<String>,
    /// The engines whose databases can be protected.
    engines: Vec<&'static str>,
}

/// What a set-up would do if nobody says otherwise.
#[utoipa::path(get, path = "/api/setup", tag = "setup", responses((status = 200, body = SetUpView)))]
async fn show(State(api): State<SetUpApi>) -> Json<SetUpView> {
    let ground = &api.ground;
    Json(SetUpView {
        configuration: ground.file.display().to_string(),
        default_repository: ground.settings.repository.clone(),
        home: ground.environment.home().map(|home| home.display().to_string()),
        engines: ground.copal().engine_names(),
    })
}

/// Where to search.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct FindRequest {
    /// Absolute paths of folders; the home folder if left out.
    #[serde(default)]
    #[schema(max_items = 20)]
    folders: Vec<String>,
}

/// What was found.
#[derive(Debug, Serialize, ToSchema)]
struct FindView {
    /// Databases that are files.
    files: Vec<FoundFile>,
    /// Database servers of this machine.
    servers: Vec<FoundServer>,
    /// Files and folders that were looked at.
    searched: u64,
    /// Whether the search came to its end everywhere.
    is_complete: bool,
}

/// Searches folders for databases, and this machine for database servers. Takes at most about ten seconds.
#[utoipa::path(post, path = "/api/setup/find", tag = "setup", request_body = FindRequest,
    responses((status = 200, body = FindView)))]
async fn find(State(api): State<SetUpApi>, Body(request): Body<FindRequest>) -> Result<Json<FindView>, Problem> {
    if request.folders.len() > MOST_FOLDERS {
        return Err(Problem::bad_request(format!("a search is in {MOST_FOLDERS} folders at most")));
    }
    let Findings { files, searched, is_complete, servers } = api.ground.find(request.folders).await?;
    Ok(Json(FindView { files, servers, searched, is_complete }))
}

/// Makes the repository, the configuration and the first token. The daemon begins when this was answered.
#[utoipa::path(post, path = "/api/setup", tag = "setup", request_body = Wish, responses((status = 201, body = Written)))]
async fn write(State(api): State<SetUpApi>, Body(wish): Body<Wish>) -> Result<(StatusCode, Json<Written>), Problem> {
    // Whoever hangs up leaves nothing half made.
    let written = tokio::spawn(async move { api.ground.fulfil(wish).await });
    let written = written.await.map_err(|_| Problem::panicked())??;
    Ok((StatusCode::CREATED, Json(written)))
}
