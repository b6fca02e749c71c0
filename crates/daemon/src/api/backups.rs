//! `/api/databases/{name}/backups`: what can be restored.

use std::collections::HashMap;

use axum::Json;
use axum::extract::State;
use copal::{BackupChoice, BackupSummary, KeptUntil, Outlook, Reason};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::access::{Operator, Viewer};
use super::answer::Problem;
use super::databases::backup_id;
use super::extract::{Path, Query};
use super::views::{BackupView, DamageView};

/// Backups in one page.
const MOST: u32 = 1000;
/// Runs of one database that are looked through: every five minutes for ninety days.
pub(super) const MOST_RUNS: u32 = 30_000;
const LONGEST_RUN: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Which backup.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct BackupPath {
    /// the database's name
    name: String,
    /// the backup's id
    #[param(pattern = "^[0-9]{8}-[0-9]{6}Z-[0-9a-f]{4}$")]
    id: String,
}

/// Which part of the backups.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct BackupsQuery {
    /// Older than the one with this id.
    #[param(pattern = "^[0-9]{8}-[0-9]{6}Z-[0-9a-f]{4}$", min_length = 21, max_length = 21)]
    before: Option<String>,
    /// The newest so many; all if left out.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// A backup of a database, with what its runs and the configuration say about it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ListedBackup {
    #[serde(flatten)]
    backup: BackupView,
    /// How long the run took that made it, if the history knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_ms: Option<u64>,
    /// Whether it was stored as a whole, or only what differs from earlier ones.
    method: Method,
    /// The rules that want it now: `last`, `within`, `daily` and others, `newest`, `newest-verified`, `pinned`, `no-rule`.
    #[schema(value_type = Vec<String>, example = json!(["last", "daily"]))]
    kept_by: Vec<Reason>,
    /// When it is dropped if the schedule goes on; absent if that is not known or never.
    #[serde(skip_serializing_if = "Option::is_none")]
    kept_until: Option<Timestamp>,
    /// Nothing drops it: it is pinned, or there is no rule.
    kept_for_ever: bool,
}

/// How a backup was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
enum Method {
    /// It shares nothing with earlier ones.
    Full,
    /// It shares content with earlier ones.
    Changes,
}

/// The backups of a database, oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BackupsView {
    /// Its name.
    database: String,
    /// Where it is, or was at its newest backup.
    source: String,
    /// Its backups.
    backups: Vec<ListedBackup>,
    /// What is wrong with this database's part of the repository.
    damaged: Vec<DamageView>,
}

/// The backups of a database: all of them, or a page from the newest on.
#[utoipa::path(get, path = "/api/databases/{name}/backups", tag = "backups",
    params(("name" = String, Path, description = "the database's name"), BackupsQuery),
    responses((status = 200, body = BackupsView)))]
pub(crate) async fn list(
    _: Viewer,
    State(api): State<Api>,
    Path(name): Path<String>,
    Query(query): Query<BackupsQuery>,
) -> Result<Json<BackupsView>, Problem> {
    if query.limit.is_some_and(|limit| !(1..=MOST).contains(&limit)) {
        return Err(Problem::bad_request(format!("limit must be 1 to {MOST}")));
    }
    if let Some(before) = query.before.as_ref().filter(|before| !looks_like_id(before)) {
        return Err(Problem::bad_request(format!("{before:?} is no backup's id")));
    }
    api.known(&name).await?;
    let copal = api.copal().await?;
    let listing = copal.list(Some(&name)).await?.pop();
    let mut listing = listing.ok_or_else(|| Problem::not_found(format!("the repository has nothing of {name:?}")))?;
    let mut outlook = copal.outlook(&name, &listing.backups, Timestamp::now());
    if let Some(before) = &query.before {
        listing.backups.retain(|backup| backup.id.as_str() < before.as_str());
    }
    if let Some(limit) = query.limit {
        let surplus = listing.backups.len().saturating_sub(limit as usize);
        listing.backups.drain(..surplus);
    }
    let durations = api.durations(&name, &listing.backups).await;
    let backups = listing.backups.into_iter().map(|backup| {
        let outlook = outlook.remove(&backup.id);
        ListedBackup::new(durations.get(backup.id.as_str()).copied(), outlook, backup)
    });
    Ok(Json(BackupsView {
        database: name,
        source: listing.source,
        backups: backups.collect(),
        damaged: listing.damaged.into_iter().map(Into::into).collect(),
    }))
}

impl ListedBackup {
    fn new(duration_ms: Option<u64>, outlook: Option<Outlook>, backup: BackupSummary) -> Self {
        let (kept_by, until) = outlook.map_or((Vec::new(), KeptUntil::Unknown), |told| (told.reasons, told.until));
        Self {
            duration_ms,
            method: if backup.stored_bytes > backup.added_bytes { Method::Changes } else { Method::Full },
            kept_by,
            kept_until: if let KeptUntil::Until(time) = until { Some(time) } else { None },
            kept_for_ever: until == KeptUntil::ForEver,
            backup: backup.into(),
        }
    }
}

impl Api {
    /// How long the runs took that made these backups, by id, as far as the history knows; without a history it knows nothing.
    pub(super) async fn durations(&self, name: &str, backups: &[BackupSummary]) -> HashMap<String, u64> {
        let Some(oldest) = backups.iter().map(|backup| backup.time).min() else { return HashMap::new() };
        // A run starts before its backup: it may have waited for another one.
        let since = oldest.checked_sub(LONGEST_RUN).unwrap_or(Timestamp::MIN);
        let runs = self.runner.recorder().ended(name, since, MOST_RUNS).await.unwrap_or_default();
        runs.into_iter().filter_map(|run| Some((run.backup?, run.duration_ms?))).collect()
    }
}

/// Whether a text has the shape of a backup's id; ids are compared as texts, so that the time in it need not exist.
fn looks_like_id(text: &str) -> bool {
    let is_digit = |c: u8| c.is_ascii_digit();
    let is_hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    let fits = |(at, c): (usize, u8)| match at {
        8 | 16 => c == b'-',
        15 => c == b'Z',
        17.. => is_hex(c),
        _ => is_digit(c),
    };
    text.len() == 21 && text.bytes().enumerate().all(fits)
}

/// Everything about one backup: what `copal show --json` tells.
#[utoipa::path(get, path = "/api/databases/{name}/backups/{id}", tag = "backups",
    params(BackupPath), responses((status = 200, body = Object)))]
pub(crate) async fn show(
    _: Viewer,
    State(api): State<Api>,
    Path(BackupPath { name, id }): Path<BackupPath>,
) -> Result<Json<serde_json::Value>, Problem> {
    let id = backup_id(&id)?;
    api.known(&name).await?;
    let details = api.copal().await?.show(&name, BackupChoice::Id(id)).await?;
    serde_json::to_value(details).map(Json).map_err(|_| Problem::panicked())
}

/// Keeps a backup for ever.
#[utoipa::path(put, path = "/api/databases/{name}/backups/{id}/pin", tag = "backups",
    params(BackupPath), responses((status = 200, body = BackupView)))]
pub(crate) async fn pin(
    operator: Operator,
    api: State<Api>,
    path: Path<BackupPath>,
) -> Result<Json<BackupView>, Problem> {
    set_pinned(operator, api, path, true).await
}

/// Leaves a backup to the retention again.
#[utoipa::path(delete, path = "/api/databases/{name}/backups/{id}/pin", tag = "backups",
    params(BackupPath), responses((status = 200, body = BackupView)))]
pub(crate) async fn unpin(
    operator: Operator,
    api: State<Api>,
    path: Path<BackupPath>,
) -> Result<Json<BackupView>, Problem> {
    set_pinned(operator, api, path, false).await
}

async fn set_pinned(
    Operator(access): Operator,
    State(api): State<Api>,
    Path(BackupPath { name, id }): Path<BackupPath>,
    pinned: bool,
) -> Result<Json<BackupView>, Problem> {
    let id = backup_id(&id)?;
    api.known(&name).await?;
    let backup = api.copal().await?.set_pinned(&name, BackupChoice::Id(id), pinned).await?;
    tracing::info!(database = name, backup = %backup.id, who = access.who(), pinned, "a backup was pinned or unpinned");
    Ok(Json(backup.into()))
}
