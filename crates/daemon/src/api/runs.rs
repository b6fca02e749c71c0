//! `/api/runs`: what runs and what ran.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::access::{Operator, Viewer};
use super::answer::Problem;
use super::extract::{Path, Query};
use crate::history::RunFilter;
use crate::log::LogLine;
use crate::run::{RunId, RunRecord, TaskKind};
use crate::runner::LiveRun;

const MOST: u32 = 1000;

/// Which runs.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunsQuery {
    /// Of this database only.
    database: Option<String>,
    /// Only those that failed by themselves, or only the others.
    failed: Option<bool>,
    /// Only those that do this.
    #[param(inline)]
    kind: Option<TaskKind>,
    /// Older than the one with this number.
    before: Option<i64>,
    /// At most so many, 100 if left out.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// Runs, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RunsView {
    /// As the history has them.
    runs: Vec<RunRecord>,
    /// How far those are that are under way.
    live: Vec<LiveRun>,
}

/// One run.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RunView {
    /// As the history has it.
    run: RunRecord,
    /// How far it is; null when it is over.
    live: Option<LiveRun>,
}

impl Api {
    pub(super) async fn run(&self, id: RunId) -> Result<RunRecord, Problem> {
        let filter = RunFilter { before: Some(RunId(id.0.saturating_add(1))), most: 1, ..RunFilter::default() };
        let found = self.runner.recorder().runs(filter).await?.pop().filter(|run| run.id == id);
        found.ok_or_else(|| Problem::not_found(format!("there is no run {id}")))
    }

    fn live(&self, id: RunId) -> Option<LiveRun> {
        self.runner.watch(id).map(|live| live.borrow().clone())
    }
}

/// Runs, newest first.
#[utoipa::path(get, path = "/api/runs", tag = "runs", params(RunsQuery), responses((status = 200, body = RunsView)))]
pub(crate) async fn list(
    _: Viewer,
    State(api): State<Api>,
    Query(query): Query<RunsQuery>,
) -> Result<Json<RunsView>, Problem> {
    let most = query.limit.unwrap_or(100);
    if !(1..=MOST).contains(&most) {
        return Err(Problem::bad_request(format!("limit must be 1 to {MOST}")));
    }
    let RunsQuery { database, failed, kind, before, .. } = query;
    let mut live = api.runner.live();
    live.retain(|live| {
        let is_of = database.as_ref().is_none_or(|database| *database == live.database);
        is_of && kind.is_none_or(|kind| kind == live.kind) && failed != Some(true)
    });
    let filter = RunFilter { database, kind, failed, before: before.map(RunId), most };
    let runs = api.runner.recorder().runs(filter).await?;
    Ok(Json(RunsView { runs, live }))
}

/// One run.
#[utoipa::path(get, path = "/api/runs/{id}", tag = "runs", params(("id" = i64, Path, description = "its number")),
    responses((status = 200, body = RunView)))]
pub(crate) async fn show(_: Viewer, State(api): State<Api>, Path(id): Path<i64>) -> Result<Json<RunView>, Problem> {
    let run = api.run(RunId(id)).await?;
    Ok(Json(RunView { live: api.live(run.id), run }))
}

/// What a run said.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LogView {
    /// Its number.
    run: RunId,
    /// Its lines, at most 200; none of a run of an older program.
    lines: Vec<LogLine>,
    /// Whether lines in the middle are left out.
    truncated: bool,
}

/// What a run said so far, or until it ended: phases, notes, warnings, the checks that passed, and its error.
#[utoipa::path(get, path = "/api/runs/{id}/log", tag = "runs", params(("id" = i64, Path, description = "its number")),
    responses((status = 200, body = LogView)))]
pub(crate) async fn log(_: Viewer, State(api): State<Api>, Path(id): Path<i64>) -> Result<Json<LogView>, Problem> {
    let run = RunId(id);
    if let Some(log) = api.runner.log(run) {
        return Ok(Json(LogView { run, lines: log.lines(), truncated: log.is_truncated() }));
    }
    // It is written before the run's end: whoever finds no run here finds none at all.
    let log = api.runner.recorder().log(run).await?;
    api.run(run).await?;
    let truncated = log.truncated;
    Ok(Json(LogView { run, lines: log.into_lines(), truncated }))
}

/// That a run was told to stop.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Stopped {
    /// Its number; it has stopped when it is no longer under way.
    run: RunId,
}

/// Tells a run to stop. It ends where nothing is left behind.
#[utoipa::path(post, path = "/api/runs/{id}/cancel", tag = "runs", params(("id" = i64, Path, description = "its number")),
    responses((status = 202, body = Stopped)))]
pub(crate) async fn cancel(
    Operator(access): Operator,
    State(api): State<Api>,
    Path(id): Path<i64>,
) -> Result<(StatusCode, Json<Stopped>), Problem> {
    let run = RunId(id);
    api.runner.cancel(run).await?;
    tracing::info!(%run, who = access.who(), "a run was told to stop");
    Ok((StatusCode::ACCEPTED, Json(Stopped { run })))
}
