//! `/api/overview`: the part of all databases that somebody looks at, chosen here and not by who asks.

mod index;
#[cfg(test)]
mod tests;

use std::sync::{Arc, PoisonError};

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::access::Viewer;
use super::answer::Problem;
use super::extract::Query;
use super::views::DatabaseView;
use crate::runner::LiveRun;
use crate::strips::StripRun;
use index::Index;

/// The index that was made last, with the generations of runner and protection that it is of.
#[derive(Debug, Default)]
pub(super) struct Cache(Option<((u64, u64), Arc<Index>)>);

/// Rows in one answer.
const MOST_ROWS: u32 = 200;
/// Runs under way in one answer.
const MOST_LIVE: usize = 100;
/// Databases that are named because they are not protected.
const MOST_WORST: usize = 5;
/// Characters of a text that is looked for.
const LONGEST: usize = 200;

/// Which databases, in which order.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct OverviewQuery {
    /// Only those whose name, engine or source has this text in it, in upper or lower case.
    #[param(max_length = 200)]
    search: Option<String>,
    /// Only those in this state: `running` have a run of any kind under way, the newest backup of `failing` failed.
    #[param(inline)]
    #[serde(default)]
    state: Which,
    /// Only those of this engine.
    #[param(max_length = 200)]
    engine: Option<String>,
    /// By what they are sorted, and by name where that is the same: `age` is that of the newest backup, `drill` that of the newest verified
    /// one, `size` what they take in the repository. What is not known comes last.
    #[param(inline)]
    #[serde(default)]
    sort: Sort,
    /// `asc` begins with what is not protected, with the youngest, the smallest, the next.
    #[param(inline)]
    #[serde(default)]
    order: Order,
    /// So many are passed over.
    #[param(minimum = 0, maximum = 4294967295_u32)]
    offset: Option<u32>,
    /// At most so many, 50 if left out.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u32>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Which {
    #[default]
    All,
    Protected,
    Unprotected,
    Running,
    Failing,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Sort {
    Name,
    #[default]
    State,
    Age,
    Size,
    Next,
    Drill,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Order {
    #[default]
    Asc,
    Desc,
}

/// How all databases do, and those that were asked for.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OverviewView {
    /// The time by the daemon's clock.
    now: Timestamp,
    /// About all databases.
    summary: SummaryView,
    /// Up to five that are not protected, by name.
    worst: Vec<WorstView>,
    /// The engines of all databases.
    engines: Vec<String>,
    /// How many databases match.
    total: usize,
    /// Those of them that were asked for.
    rows: Vec<RowView>,
    /// What is under way, of all databases; at most 100.
    live: Vec<LiveRun>,
}

/// About all databases.
#[derive(Debug, Serialize, ToSchema)]
struct SummaryView {
    /// How many there are.
    databases: usize,
    /// How many are protected.
    protected: usize,
    /// How many are not.
    not_protected: usize,
    /// Of how many that is not known.
    unknown: usize,
    /// When the newest backup of all was made.
    newest_backup: Option<Timestamp>,
    /// Runs under way.
    running: usize,
    /// What the repository failed with when it was asked last.
    repository_error: Option<String>,
    /// Why a newer configuration is not in force.
    configuration_error: Option<String>,
}

/// A database that is not protected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
struct WorstView {
    /// Its name.
    name: String,
    /// Why, one line.
    message: String,
}

/// One database.
#[derive(Debug, Serialize, ToSchema)]
struct RowView {
    #[serde(flatten)]
    database: DatabaseView,
    /// Its newest backup runs that are over, at most 30, oldest first; of a database of a whole server those of the server.
    strip: Vec<StripRun>,
}

impl Api {
    /// What is known of all databases, as it is now; made anew only when something has happened.
    fn index(&self) -> Arc<Index> {
        let mut cache = self.shared.overview.lock().unwrap_or_else(PoisonError::into_inner);
        let now = (self.runner.generation(), self.protection.generation());
        match &cache.0 {
            Some((then, index)) if *then == now => Arc::clone(index),
            _ => {
                let (briefs, busy) = (self.runner.briefs(), self.runner.busy());
                let copal = self.lock().copal.clone();
                let server = |name: &str| copal.server_of(name).map(|(server, _)| server.to_owned());
                let engine = |name: &str| copal.configured_engine(name);
                let index = self.protection.look(|seen| Index::new(briefs, &busy, seen, server, engine));
                let index = Arc::new(index);
                cache.0 = Some((now, Arc::clone(&index)));
                index
            }
        }
    }

    fn row(&self, name: &str, server: Option<&str>, index: &Index) -> RowView {
        let mut database = DatabaseView::new(name, self.runner.database(name), self.protection.get(name));
        if let Some((protected, problem)) = index.of_server(name) {
            database.judge_server(protected, problem);
        }
        if let Some(runs) = server.and_then(|server| self.runner.database(server)) {
            database.run_with(runs);
        }
        let strip = self.runner.recorder().strips().of(server.unwrap_or(name));
        RowView { database, strip }
    }
}

/// How all databases do, and a page of them.
#[utoipa::path(get, path = "/api/overview", tag = "databases", params(OverviewQuery),
    responses((status = 200, body = OverviewView)))]
pub(crate) async fn overview(
    _: Viewer,
    State(api): State<Api>,
    Query(query): Query<OverviewQuery>,
) -> Result<Json<OverviewView>, Problem> {
    let most = query.limit.unwrap_or(50);
    if !(1..=MOST_ROWS).contains(&most) {
        return Err(Problem::bad_request(format!("limit must be 1 to {MOST_ROWS}")));
    }
    for (name, text) in [("search", &query.search), ("engine", &query.engine)] {
        if text.as_ref().is_some_and(|text| text.chars().count() > LONGEST) {
            return Err(Problem::bad_request(format!("{name} must have at most {LONGEST} characters")));
        }
    }
    api.protection.ready(super::FIRST_LOOK).await;
    let index = api.index();
    let found = index.select(&query);
    let offset = usize::try_from(query.offset.unwrap_or(0)).unwrap_or(usize::MAX);
    let page = found.iter().skip(offset).take(most as usize);
    let rows = page.map(|entry| api.row(entry.name(), entry.server(), &index)).collect();
    let mut live = api.runner.live();
    let summary = SummaryView {
        running: live.len(),
        repository_error: api.protection.error(),
        configuration_error: api.lock().error.clone(),
        ..index.summary()
    };
    live.truncate(MOST_LIVE);
    let (worst, engines) = (index.worst(), index.engines());
    Ok(Json(OverviewView { now: Timestamp::now(), summary, worst, engines, total: found.len(), rows, live }))
}
