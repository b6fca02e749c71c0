//! Snapshots of a configured database: what there is, and how one is taken, gone back to and removed.
//!
//! A database that only the repository knows has none: its name would be taken for a path here.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use copal::{Context, Copal, CopalError, ErrorKind, RewindRequest, SnapOptions, SnapshotId, SnapshotSummary};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::access::{Operator, Viewer};
use super::answer::Problem;
use super::databases::StartedRun;
use super::extract::{Body, Path};
use crate::run::RunError;
use crate::runner::Job;

/// How long a server has to tell its snapshots.
const LIMIT: Duration = Duration::from_secs(10);

/// The snapshots of a database.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SnapshotsView {
    /// Whether there can be any.
    supported: bool,
    /// Newest first.
    snapshots: Vec<SnapshotView>,
    /// What could not be asked, and why.
    failures: Vec<String>,
}

/// A snapshot.
#[derive(Debug, Serialize, ToSchema)]
struct SnapshotView {
    /// Its id.
    id: String,
    /// Its name.
    name: String,
    /// When it was taken.
    time: Timestamp,
    /// What it was taken for.
    label: Option<String>,
    /// The other databases that it was taken of at the same time.
    together: Vec<String>,
    /// Bytes of disk that removing it would free; null if nobody can tell.
    size_bytes: Option<u64>,
}

impl SnapshotView {
    fn of(summary: SnapshotSummary, database: &str) -> Self {
        let parts = summary.databases.iter().map(|part| part.used_bytes);
        let size_bytes = parts.reduce(|a, b| Some(a?.saturating_add(b?))).flatten();
        let others = summary.databases.iter().map(|part| part.database.clone()).chain(summary.missing);
        Self {
            id: summary.id.to_string(),
            name: summary.name,
            time: summary.time,
            label: summary.label,
            together: others.filter(|other| other != database).collect(),
            size_bytes,
        }
    }
}

impl Api {
    /// The use cases, if they know the place of this database.
    fn of_configured(&self, name: &str) -> Option<Copal> {
        let copal = self.lock().copal.clone();
        let is_configured = copal.settings().databases.contains_key(name) || copal.server_of(name).is_some();
        is_configured.then_some(copal)
    }

    /// The same for something that is to be done.
    async fn require_configured(&self, name: &str) -> Result<Copal, Problem> {
        if let Some(copal) = self.of_configured(name) {
            return Ok(copal);
        }
        self.known(name).await?;
        Err(Problem::bad_request(format!("{name:?} is not configured here, so there are no snapshots of it")))
    }

    /// The snapshots of one database; a server that does not answer in time is told to stop.
    async fn snapshots(&self, copal: &Copal, name: &str) -> copal::Result<(Vec<SnapshotSummary>, Vec<CopalError>)> {
        let context = Context::silent();
        let _until_then = context.cancel.cancel_on_drop();
        let names = [name.to_owned()];
        match tokio::time::timeout(LIMIT, copal.snapshots(&names, &context)).await {
            Ok(listing) => {
                let listing = listing?;
                Ok((listing.snapshots, listing.failures.into_iter().map(|(_, error)| error).collect()))
            }
            Err(_) => {
                let message = format!("{name} did not tell its snapshots within {} s", LIMIT.as_secs());
                Err(CopalError::new(ErrorKind::Unavailable, message))
            }
        }
    }
}

/// The snapshots of a database, newest first.
#[utoipa::path(get, path = "/api/databases/{name}/snapshots", tag = "snapshots",
    params(("name" = String, Path, description = "its name in the configuration")), responses((status = 200, body = SnapshotsView)))]
pub(crate) async fn list(
    _: Viewer,
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<Json<SnapshotsView>, Problem> {
    let Some(copal) = api.of_configured(&name) else {
        api.known(&name).await?;
        return Ok(Json(SnapshotsView { supported: false, snapshots: Vec::new(), failures: Vec::new() }));
    };
    let (supported, found, failures) = match api.snapshots(&copal, &name).await {
        Ok((found, failures)) => (true, found, failures),
        Err(error) => match error.kind() {
            ErrorKind::Unsupported => (false, Vec::new(), Vec::new()),
            _ => (true, Vec::new(), vec![error]),
        },
    };
    let snapshots = found.into_iter().rev().map(|summary| SnapshotView::of(summary, &name)).collect();
    let failures = failures.iter().map(|error| RunError::of(error).message).collect();
    Ok(Json(SnapshotsView { supported, snapshots, failures }))
}

/// What to take.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SnapshotRequest {
    /// What to call it; the local time if left out.
    #[schema(min_length = 1, max_length = 200)]
    name: Option<String>,
    /// What it is taken for.
    #[schema(pattern = "^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$")]
    label: Option<String>,
}

/// Takes a snapshot of a database that may be in use.
#[utoipa::path(post, path = "/api/databases/{name}/snapshots", tag = "snapshots", request_body = SnapshotRequest,
    params(("name" = String, Path, description = "its name in the configuration")), responses((status = 202, body = StartedRun)))]
pub(crate) async fn take(
    Operator(access): Operator,
    State(api): State<Api>,
    Path(database): Path<String>,
    Body(SnapshotRequest { name, label }): Body<SnapshotRequest>,
) -> Result<(StatusCode, Json<StartedRun>), Problem> {
    api.require_configured(&database).await?;
    let options = SnapOptions { name, label, databases: vec![database.clone()], ..SnapOptions::default() };
    options.check()?;
    let run = api.runner.job(&database, Job::Snapshot(options)).await?;
    tracing::info!(database, who = access.who(), %run, "a snapshot was asked for");
    Ok(StartedRun::answer(run))
}

/// Which snapshot to go back to.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RewindBody {
    /// The snapshot's id.
    #[schema(pattern = "^[0-9]{8}-[0-9]{6}Z-[0-9a-f]{4}$")]
    snapshot: String,
    /// The name of the database, typed again.
    confirm: String,
}

/// Puts a database back as it was in a snapshot, in one step. What was changed since then is lost. It needs a token, and the
/// database's name in `confirm`. Other databases that the snapshot was taken of stay as they are.
#[utoipa::path(post, path = "/api/databases/{name}/rewind", tag = "snapshots", request_body = RewindBody,
    params(("name" = String, Path, description = "its name in the configuration")), responses((status = 202, body = StartedRun)),
    security(("token" = [])))]
pub(crate) async fn rewind(
    Operator(access): Operator,
    State(api): State<Api>,
    Path(name): Path<String>,
    Body(request): Body<RewindBody>,
) -> Result<(StatusCode, Json<StartedRun>), Problem> {
    access.require_admin("a rewind")?;
    let id = snapshot_id(&request.snapshot)?;
    let copal = api.require_configured(&name).await?;
    refuse_whole_server(&copal, &name)?;
    if request.confirm != name {
        let message = "to put a database back, its name has to be typed again in \"confirm\"";
        return Err(Problem::bad_request(message).hint(format!("\"confirm\": {name:?}")));
    }
    let request =
        RewindRequest { snapshot: Some(id.to_string()), databases: vec![name.clone()], ..RewindRequest::default() };
    let run = api.runner.job(&name, Job::Rewind(request)).await?;
    tracing::info!(database = name, who = access.who(), %run, snapshot = %id, "a rewind was asked for");
    Ok(StartedRun::answer(run))
}

/// Which snapshot.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct SnapshotPath {
    /// the database's name in the configuration
    name: String,
    /// the snapshot's id
    #[param(pattern = "^[0-9]{8}-[0-9]{6}Z-[0-9a-f]{4}$")]
    id: String,
}

/// That it is meant.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RemovalRequest {
    /// The name of the snapshot, typed again.
    confirm: String,
}

/// The snapshot that is gone.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Removed {
    /// Its id.
    removed: String,
}

/// Removes a database's part of a snapshot, with the snapshot's name in `confirm`. It needs a token.
#[utoipa::path(post, path = "/api/databases/{name}/snapshots/{id}/remove", tag = "snapshots", request_body = RemovalRequest,
    params(SnapshotPath), responses((status = 200, body = Removed)), security(("token" = [])))]
pub(crate) async fn remove(
    Operator(access): Operator,
    State(api): State<Api>,
    Path(SnapshotPath { name, id }): Path<SnapshotPath>,
    Body(request): Body<RemovalRequest>,
) -> Result<Json<Removed>, Problem> {
    access.require_admin("removing a snapshot")?;
    let id = snapshot_id(&id)?;
    let copal = api.require_configured(&name).await?;
    refuse_whole_server(&copal, &name)?;
    let (found, mut failures) = api.snapshots(&copal, &name).await?;
    let Some(snapshot) = found.into_iter().find(|snapshot| snapshot.id == id) else {
        // It may be of one that could not be asked.
        return Err(match failures.pop() {
            Some(error) => error.into(),
            None => Problem::not_found(format!("there is no snapshot {id} of {name:?}")),
        });
    };
    if request.confirm != snapshot.name {
        let message = "to remove a snapshot, its name has to be typed again in \"confirm\"";
        return Err(Problem::bad_request(message).hint(format!("\"confirm\": {:?}", snapshot.name)));
    }
    // Whoever asked may go away meanwhile: what was begun is finished.
    let (at, names) = (id.to_string(), vec![name.clone()]);
    let removal = tokio::spawn(async move { copal.remove_snapshot(&at, &names, &Context::silent()).await });
    removal.await.map_err(|_| Problem::panicked())??;
    tracing::info!(database = name, who = access.who(), snapshot = %id, "a snapshot was removed");
    Ok(Json(Removed { removed: id.to_string() }))
}

/// What is lost is one database's, the one whose name was given.
fn refuse_whole_server(copal: &Copal, name: &str) -> Result<(), Problem> {
    if !copal.is_whole_server(name) {
        return Ok(());
    }
    let problem = Problem::bad_request(format!("{name} is a whole server; this is for one database at a time"));
    Err(problem.hint(format!("name one of them: {name}.DATABASE")))
}

fn snapshot_id(text: &str) -> Result<SnapshotId, Problem> {
    text.parse().map_err(|_| Problem::bad_request(format!("{text:?} is no snapshot's id")))
}
