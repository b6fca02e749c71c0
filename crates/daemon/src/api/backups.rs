//! `/api/databases/{name}/backups`: what can be restored.

use axum::Json;
use axum::extract::State;
use copal::BackupChoice;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::access::{Operator, Viewer};
use super::answer::Problem;
use super::databases::backup_id;
use super::extract::Path;
use super::views::{BackupView, DamageView};

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

/// The backups of a database, oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BackupsView {
    /// Its name.
    database: String,
    /// Where it is, or was at its newest backup.
    source: String,
    /// Its backups.
    backups: Vec<BackupView>,
    /// What is wrong with this database's part of the repository.
    damaged: Vec<DamageView>,
}

/// The backups of a database.
#[utoipa::path(get, path = "/api/databases/{name}/backups", tag = "backups",
    params(("name" = String, Path, description = "the database's name")), responses((status = 200, body = BackupsView)))]
pub(crate) async fn list(
    _: Viewer,
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<Json<BackupsView>, Problem> {
    api.known(&name).await?;
    let listing = api.copal().await?.list(Some(&name)).await?.pop();
    let listing = listing.ok_or_else(|| Problem::not_found(format!("the repository has nothing of {name:?}")))?;
    Ok(Json(BackupsView {
        database: name,
        source: listing.source,
        backups: listing.backups.into_iter().map(Into::into).collect(),
        damaged: listing.damaged.into_iter().map(Into::into).collect(),
    }))
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
