//! `/api/databases`: their state, and what can be started for one.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use copal::schedule::RunKind;
use copal::{BackupChoice, BackupId, RestoreOptions, RestorePlace, Source, VerifyOptions, WhichBackups};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::access::{Operator, Viewer};
use super::answer::Problem;
use super::etag;
use super::extract::{Body, Path, Query};
use super::views::{DatabaseDetails, DatabaseView};
use crate::run::RunId;
use crate::runner::Job;

/// What follows them is a path, whatever the number of slashes.
const SCHEMES_OF_FILES: [&str; 3] = ["sqlite", "duckdb", "file"];

/// The list as it was sent last: it stays the same until something happens, and many ask for it again and again.
#[derive(Debug, Default)]
pub(super) struct Cache(Option<((u64, u64), Bytes)>);

/// Which databases.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    /// Only those that are protected, or are not.
    protected: Option<bool>,
    /// Only those with a name after this one.
    after: Option<String>,
    /// At most so many; all if left out.
    #[param(minimum = 1, maximum = 4294967295_u32)]
    limit: Option<u32>,
}

/// Databases by name.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DatabasesView {
    databases: Vec<DatabaseView>,
}

impl Api {
    fn views(&self) -> Vec<DatabaseView> {
        let mut all: BTreeMap<String, (Option<_>, Option<_>)> = BTreeMap::new();
        for runs in self.runner.databases() {
            let name = runs.name.clone();
            all.entry(name).or_default().0 = Some(runs);
        }
        for (name, seen) in self.protection.all() {
            all.entry(name).or_default().1 = Some(seen);
        }
        all.into_iter().map(|(name, (runs, seen))| DatabaseView::new(&name, runs, seen)).collect()
    }

    /// All of them as JSON, and a tag that changes with it.
    fn all_as_json(&self) -> ((u64, u64), Bytes) {
        let mut cache = self.shared.databases.lock().unwrap_or_else(PoisonError::into_inner);
        let now = (self.runner.generation(), self.protection.generation());
        match &cache.0 {
            Some((then, bytes)) if *then == now => (now, bytes.clone()),
            _ => {
                let json = serde_json::to_vec(&DatabasesView { databases: self.views() });
                let bytes = Bytes::from(json.unwrap_or_default());
                cache.0 = Some((now, bytes.clone()));
                (now, bytes)
            }
        }
    }
}

/// Every database of the configuration and of the repository.
#[utoipa::path(get, path = "/api/databases", tag = "databases", params(ListQuery),
    responses((status = 200, body = DatabasesView), (status = 304, description = "as the client knows it by its ETag")))]
pub(crate) async fn list(
    _: Viewer,
    State(api): State<Api>,
    Query(query): Query<ListQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    api.protection.ready(super::FIRST_LOOK).await;
    if query.limit == Some(0) {
        return Err(Problem::bad_request("limit must be at least 1"));
    }
    if query.protected.is_some() || query.after.is_some() || query.limit.is_some() {
        let wanted = |view: &DatabaseView| query.protected.is_none_or(|protected| view.protected == Some(protected));
        let after = |view: &DatabaseView| query.after.as_ref().is_none_or(|after| view.name() > after.as_str());
        let most = query.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let databases = api.views().into_iter().filter(|view| wanted(view) && after(view)).take(most).collect();
        return Ok(Json(DatabasesView { databases }).into_response());
    }
    let (generation, json) = api.all_as_json();
    let tag = format!("\"{}-{}-{}\"", api.shared.started.as_millisecond(), generation.0, generation.1);
    let is_known = etag::is_known(&headers, &tag);
    let tag = HeaderValue::from_str(&tag).map_err(|_| Problem::panicked())?;
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let common = [(header::ETAG, tag), (header::CACHE_CONTROL, HeaderValue::from_static("no-cache"))];
    Ok(match is_known {
        true => (StatusCode::NOT_MODIFIED, common).into_response(),
        false => (common, [kind], json).into_response(),
    })
}

/// One database.
#[utoipa::path(get, path = "/api/databases/{name}", tag = "databases", params(("name" = String, Path, description = "its name")),
    responses((status = 200, body = DatabaseDetails)))]
pub(crate) async fn show(
    _: Viewer,
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<Json<DatabaseDetails>, Problem> {
    api.known(&name).await?;
    api.protection.ready(super::FIRST_LOOK).await;
    let seen = api.protection.get(&name);
    let copal = api.lock().copal.clone();
    let engine = seen.as_ref().and_then(|seen| seen.status.engine.clone());
    let engine = engine.or_else(|| copal.configured_engine(&name).map(str::to_owned));
    let database = DatabaseView::new(&name, api.runner.database(&name), seen);
    Ok(Json(DatabaseDetails::new(database, &copal, &name, engine.as_deref())))
}

/// That something will be done.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Accepted {
    /// The database.
    database: String,
    /// Always true.
    accepted: bool,
}

impl Accepted {
    fn answer(database: String) -> (StatusCode, Json<Self>) {
        (StatusCode::ACCEPTED, Json(Self { database, accepted: true }))
    }
}

/// The run that was started.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StartedRun {
    /// Its number, for `/api/runs/{id}`.
    run: RunId,
}

impl StartedRun {
    pub(super) fn answer(run: RunId) -> (StatusCode, Json<Self>) {
        (StatusCode::ACCEPTED, Json(Self { run }))
    }
}

/// Backs a configured database up as soon as there is a place for the run.
#[utoipa::path(post, path = "/api/databases/{name}/backup", tag = "databases",
    params(("name" = String, Path, description = "its name in the configuration")), responses((status = 202, body = Accepted)))]
pub(crate) async fn backup(
    Operator(access): Operator,
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<(StatusCode, Json<Accepted>), Problem> {
    api.runner.request(&name, RunKind::Backup).await?;
    tracing::info!(database = name, who = access.who(), "a backup was asked for");
    Ok(Accepted::answer(name))
}

/// Restores the newest backup of a configured database to a scratch place and checks it there, as soon as there is a place for
/// the run.
#[utoipa::path(post, path = "/api/databases/{name}/drill", tag = "databases",
    params(("name" = String, Path, description = "its name in the configuration")), responses((status = 202, body = Accepted)))]
pub(crate) async fn drill(
    Operator(access): Operator,
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<(StatusCode, Json<Accepted>), Problem> {
    api.runner.request(&name, RunKind::Drill).await?;
    tracing::info!(database = name, who = access.who(), "a drill was asked for");
    Ok(Accepted::answer(name))
}

/// Something significant changed in a configured database: a backup follows, but no two within its `min_interval`, and reports in
/// between are one. A report that was accepted survives a crash of the daemon.
#[utoipa::path(post, path = "/api/databases/{name}/changed", tag = "databases",
    params(("name" = String, Path, description = "its name in the configuration")), responses((status = 202, body = Accepted)))]
pub(crate) async fn changed(
    _: Operator,
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<(StatusCode, Json<Accepted>), Problem> {
    api.runner.changed(&name).await?;
    Ok(Accepted::answer(name))
}

/// What to read back.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct VerifyRequest {
    /// `latest`, `all` or a backup's id.
    #[serde(default = "latest")]
    #[schema(example = "latest", pattern = "^(latest|all|[0-9]{8}-[0-9]{6}Z-[0-9a-f]{4})$")]
    backup: String,
    /// Also restore it to a scratch place and check it there.
    #[serde(default)]
    drill: bool,
}

fn latest() -> String {
    "latest".to_owned()
}

/// Reads backups back.
#[utoipa::path(post, path = "/api/databases/{name}/verify", tag = "databases", request_body = VerifyRequest,
    params(("name" = String, Path, description = "its name")), responses((status = 202, body = StartedRun)))]
pub(crate) async fn verify(
    Operator(access): Operator,
    State(api): State<Api>,
    Path(name): Path<String>,
    Body(request): Body<VerifyRequest>,
) -> Result<(StatusCode, Json<StartedRun>), Problem> {
    api.known(&name).await?;
    let backups = match request.backup.as_str() {
        "latest" => WhichBackups::Latest,
        "all" => WhichBackups::All,
        id => WhichBackups::Id(backup_id(id)?),
    };
    let run = api.runner.job(&name, Job::Verify(VerifyOptions { backups, drill: request.drill })).await?;
    tracing::info!(database = name, who = access.who(), %run, "a verification was asked for");
    Ok(StartedRun::answer(run))
}

/// What to restore, and where to.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RestoreRequest {
    /// `latest` or a backup's id.
    #[serde(default = "latest")]
    #[schema(example = "latest", pattern = "^(latest|[0-9]{8}-[0-9]{6}Z-[0-9a-f]{4})$")]
    backup: String,
    /// Instead of `backup`: the newest backup that is not later.
    at: Option<Timestamp>,
    /// An absolute path or a URL; the original place if left out.
    #[schema(example = "sqlite:/tmp/copy.db", min_length = 1)]
    to: Option<String>,
    /// Replace what is there: needs the role `admin` and `confirm`.
    #[serde(default)]
    replace: bool,
    /// The name of the database that is replaced, typed again; needed to replace. It is the one that the target is the place of
    /// now, as the plan tells it.
    confirm: Option<String>,
    /// Only look whether it could be done.
    #[serde(default)]
    dry_run: bool,
}

impl RestoreRequest {
    /// What it asks for, if that makes sense.
    pub(super) fn options(self) -> Result<RestoreOptions, Problem> {
        let backup = match (self.backup.as_str(), self.at) {
            ("latest", None) => BackupChoice::Latest,
            ("latest", Some(at)) => BackupChoice::At(at),
            (id, None) => BackupChoice::Id(backup_id(id)?),
            (_, Some(_)) => return Err(Problem::bad_request("\"backup\" and \"at\" exclude each other")),
        };
        let Self { to, replace, dry_run, .. } = self;
        if let Some(to) = &to {
            check_target(to)?;
        }
        Ok(RestoreOptions { backup, to, replace, dry_run, ..RestoreOptions::default() })
    }
}

/// Restores a backup. It needs a token; over an existing database it needs the role `admin`, `replace` and the database's name in
/// `confirm`, and the new database is complete and checked before it takes the old one's place.
#[utoipa::path(post, path = "/api/databases/{name}/restore", tag = "databases", request_body = RestoreRequest,
    params(("name" = String, Path, description = "its name")), responses((status = 202, body = StartedRun)),
    security(("token" = [])))]
pub(crate) async fn restore(
    Operator(access): Operator,
    State(api): State<Api>,
    Path(name): Path<String>,
    Body(request): Body<RestoreRequest>,
) -> Result<(StatusCode, Json<StartedRun>), Problem> {
    access.require_restore(request.replace)?;
    api.known(&name).await?;
    let (replace, confirm) = (request.replace, request.confirm.clone());
    let mut options = request.options()?;
    let mut over = None;
    if replace {
        // At another database's place it is that one which is gone afterwards.
        let RestorePlace { database: replaced, target } = api.restore_place(&name, &options).await?;
        if confirm.as_deref() != Some(replaced.as_str()) {
            let message = "to replace a database, its name has to be typed again in \"confirm\"";
            return Err(Problem::bad_request(message).hint(format!("\"confirm\": {replaced:?}")));
        }
        // Whatever backup is the newest by then: the place is the one that was confirmed.
        options.to = Some(target);
        over = (replaced != name).then_some(replaced);
    }
    let run = api.runner.job(&name, Job::Restore { options: Box::new(options), over }).await?;
    tracing::info!(database = name, who = access.who(), %run, replace, "a restore was asked for");
    Ok(StartedRun::answer(run))
}

/// A target must not depend on the folder that the daemon was started in.
fn check_target(to: &str) -> Result<(), Problem> {
    let source =
        Source::parse(to).map_err(|_| Problem::bad_request("\"to\" is neither a path nor a database's URL"))?;
    let is_server = source.reveal_rest().starts_with("//")
        && source.scheme().is_some_and(|scheme| !SCHEMES_OF_FILES.contains(&scheme));
    if is_server || source.file_path().is_absolute() {
        return Ok(());
    }
    let problem = Problem::bad_request("\"to\" must be an absolute path or a server's URL");
    Err(match source.scheme() {
        Some(scheme) => {
            problem.hint(format!("as in {scheme}:/absolute/path; behind three slashes it would be relative"))
        }
        None => problem,
    })
}

pub(super) fn backup_id(text: &str) -> Result<BackupId, Problem> {
    text.parse().map_err(|_| Problem::bad_request(format!("{text:?} is no backup's id")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_do_not_depend_on_a_working_folder() {
        for to in [
            "/tmp/x.db",
            "sqlite:/tmp/x.db",
            "sqlite:////tmp/x.db",
            "duckdb:/x",
            "postgres://u@h/db",
            "file:/tmp/x.dump",
        ] {
            assert!(check_target(to).is_ok(), "{to}");
        }
        for to in [
            "",
            "x.db",
            "../x.db",
            "sqlite:x.db",
            "duckdb:../x",
            "sqlite:///tmp/x.db",
            "sqlite://x.db",
            "sqlite+aiosqlite:///x.db",
            "DuckDB:///x",
            "file://x.dump",
            "\0",
            "/tmp/x\0.db",
        ] {
            assert!(check_target(to).is_err(), "{to}");
        }
    }
}
