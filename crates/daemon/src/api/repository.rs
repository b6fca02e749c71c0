//! `/api/repository`: what is kept where, by which keys it opens, and who works on it.
//!
//! What is kept is what was seen last; keys and leases are asked for, but nobody waits for them long.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use copal::{KeyInfo, LeaseInfo};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::access::Viewer;
use super::answer::Problem;
use super::extract::Query;
use crate::protection::Seen;
use crate::run::RunError;

/// How long keys and leases are taken for what they were.
const FRESH: Duration = Duration::from_secs(3);
/// How long the repository is waited for.
const LIMIT: Duration = Duration::from_secs(5);
const MOST: u32 = 200;

/// How the databases are ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RepositorySort {
    /// The largest first.
    #[default]
    Size,
    /// By name.
    Name,
    /// Those first that were never verified, then those whose verification is oldest.
    Verified,
}

/// Which databases.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct RepositoryQuery {
    /// `size`, `name` or `verified`; by size if left out.
    #[serde(default)]
    #[param(inline)]
    sort: RepositorySort,
    /// Without the first so many.
    #[serde(default)]
    #[param(maximum = 4294967295_u32)]
    offset: u32,
    /// At most so many, 50 if left out.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u32>,
}

/// What is kept where.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RepositoryView {
    /// Where it is, without secrets.
    url: String,
    /// What it failed with when it was asked last; null if it answered.
    error: Option<String>,
    /// What opened it: `passphrase`, `recovery-key` or `none` if it is not encrypted; null if that is not known.
    encryption: Option<String>,
    /// What it can be opened with.
    keys: Vec<KeyView>,
    /// Bytes of all databases.
    total_bytes: u64,
    /// How many databases have something there.
    databases_total: usize,
    /// Those that were asked for.
    databases: Vec<StoredView>,
    /// Operations under way that have a database to themselves.
    leases: Vec<LeaseView>,
}

/// What the key can be unwrapped with.
#[derive(Clone, Debug, Serialize, ToSchema)]
struct KeyView {
    /// Its id.
    id: String,
    /// `passphrase`, `recovery-key` or `damaged`.
    kind: String,
    /// When it was added.
    created: Timestamp,
}

/// A database of the repository.
#[derive(Debug, Serialize, ToSchema)]
struct StoredView {
    /// Its name.
    name: String,
    /// Bytes of its objects; absent until they were counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    /// How many backups can be listed.
    backups: usize,
    /// When the newest good one was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_backup: Option<Timestamp>,
    /// When the newest one was made of which all content was read back.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_verified: Option<Timestamp>,
}

/// An operation under way.
#[derive(Clone, Debug, Serialize, ToSchema)]
struct LeaseView {
    /// The database.
    database: String,
    /// What is done, for example `backup`.
    operation: String,
    /// The machine that does it.
    host: String,
    /// The process there.
    pid: u32,
    /// Whether it is this daemon.
    is_own: bool,
    /// When it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
}

/// What was asked for last.
#[derive(Debug, Default)]
pub(super) struct Cache(Option<(Instant, Held)>);

/// What only the repository itself knows now.
#[derive(Clone, Debug, Default)]
struct Held {
    encryption: Option<String>,
    keys: Vec<KeyView>,
    leases: Vec<LeaseView>,
    error: Option<String>,
}

impl Api {
    /// Keys and leases. Whoever asks meanwhile waits for the same answer.
    async fn held(&self) -> Held {
        let mut cache = self.shared.held.lock().await;
        if let Some((_, held)) = cache.0.as_ref().filter(|(since, _)| since.elapsed() < FRESH) {
            return held.clone();
        }
        let mut held = Held::default();
        let asked = tokio::time::timeout(LIMIT, self.ask_held(&mut held)).await;
        match asked {
            Ok(Ok(())) => {}
            Ok(Err(error)) => held.error = Some(RunError::of(&error).message),
            Err(_) => held.error = Some(format!("the repository did not answer within {} s", LIMIT.as_secs())),
        }
        cache.0 = Some((Instant::now(), held.clone()));
        held
    }

    async fn ask_held(&self, held: &mut Held) -> copal::Result<()> {
        let copal = self.lock().copal.clone();
        let copal = copal.current().await?;
        let keys = copal.encryption().await?;
        held.encryption = Some(match &keys {
            Some(keys) => keys.iter().find(|key| key.in_use).map_or("passphrase", |key| key.kind.as_str()).to_owned(),
            None => "none".to_owned(),
        });
        let view = |KeyInfo { id, kind, created, .. }: KeyInfo| KeyView { id, kind, created };
        held.keys = keys.unwrap_or_default().into_iter().map(view).collect();
        held.leases = copal.leases().await?.into_iter().map(LeaseView::of).collect();
        Ok(())
    }
}

impl LeaseView {
    fn of(lease: LeaseInfo) -> Self {
        let LeaseInfo { database, operation, host, pid, is_own, since } = lease;
        Self { database: database.to_string(), operation, host, pid, is_own, since }
    }
}

impl StoredView {
    fn of(name: String, seen: Seen) -> Self {
        let Seen { status, repository_bytes } = seen;
        Self {
            name,
            bytes: repository_bytes,
            backups: status.backups,
            last_backup: status.last_backup.map(|backup| backup.time),
            last_verified: status.last_verified.map(|backup| backup.time),
        }
    }

    fn is_there(&self) -> bool {
        self.backups > 0 || self.bytes.is_some_and(|bytes| bytes > 0)
    }
}

/// What is kept where: sizes, keys, and the operations under way. What the repository does not tell in time is left out, and
/// `error` says why.
#[utoipa::path(get, path = "/api/repository", tag = "repository", params(RepositoryQuery),
    responses((status = 200, body = RepositoryView)))]
pub(crate) async fn show(
    _: Viewer,
    State(api): State<Api>,
    Query(query): Query<RepositoryQuery>,
) -> Result<Json<RepositoryView>, Problem> {
    let limit = query.limit.unwrap_or(50);
    if !(1..=MOST).contains(&limit) {
        return Err(Problem::bad_request(format!("limit must be 1 to {MOST}")));
    }
    let (held, ()) = tokio::join!(api.held(), api.protection.ready(super::FIRST_LOOK));
    let all = api.protection.all().into_iter().map(|(name, seen)| StoredView::of(name, seen));
    let mut databases: Vec<StoredView> = all.filter(StoredView::is_there).collect();
    let total_bytes = databases.iter().filter_map(|database| database.bytes).fold(0, u64::saturating_add);
    let databases_total = databases.len();
    // They are in the order of their names, which stays among equals.
    match query.sort {
        RepositorySort::Size => databases.sort_by_key(|database| std::cmp::Reverse(database.bytes)),
        RepositorySort::Name => {}
        RepositorySort::Verified => databases.sort_by_key(|database| database.last_verified),
    }
    let [offset, limit] = [query.offset, limit].map(|number| usize::try_from(number).unwrap_or(usize::MAX));
    let url = api.lock().copal.repository_url();
    Ok(Json(RepositoryView {
        url,
        error: held.error.or_else(|| api.protection.error()),
        encryption: held.encryption,
        keys: held.keys,
        total_bytes,
        databases_total,
        databases: databases.into_iter().skip(offset).take(limit).collect(),
        leases: held.leases,
    }))
}
