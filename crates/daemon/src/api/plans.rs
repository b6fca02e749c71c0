//! What a restore or a prune would do, told before anything is done; and the prune itself.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use copal::{
    BackupId, Context, JournalSegment, PlanOptions, PruneOptions, RestoreOptions, RestorePlace, RestorePlan, SpacePlan,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedSemaphorePermit;
use utoipa::ToSchema;
use utoipa::openapi::schema::{Array, ArrayBuilder, ObjectBuilder, Type};

use super::Api;
use super::access::{Operator, Viewer};
use super::answer::Problem;
use super::databases::{RestoreRequest, StartedRun, backup_id};
use super::extract::{Body, Path};
use super::views::BackupView;
use crate::history::RunFilter;
use crate::run::{Ending, RunRecord, TaskKind};
use crate::runner::Job;
use crate::tokens::Role;

/// How long a target has to answer.
const TARGET_LIMIT: Duration = Duration::from_secs(5);
/// How long the repository has.
const REPOSITORY_LIMIT: Duration = Duration::from_secs(20);
/// Runs that an estimate looks at, and how many of them it is made of.
const RUNS: u32 = 1000;
const OF_RUNS: usize = 5;
/// Looks at targets at once. Each has a thread, for as long as the target hangs: no token may use up all that there are.
pub(super) const MOST_LOOKS: usize = 8;
/// Backups that a prune may be confirmed for; more of their ids are too long for a body.
const MOST_SHOWN: usize = 2000;
/// How an id looks.
const ID: &str = "^[0-9]{8}-[0-9]{6}Z-[0-9a-f]{4}$";

/// What a restore would do.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RestorePlanView {
    /// The database whose backup it is.
    database: String,
    /// The backup.
    backup: BackupView,
    /// The last segment of its journal that would be applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    segment: Option<PlanSegmentView>,
    /// Where it would be restored to, without secrets.
    target: String,
    /// Whether that is the place that the backup was made of.
    is_original: bool,
    /// Whether something is there; null if that could not be found out.
    exists: Option<bool>,
    /// Whether something would have to be replaced.
    replaces: bool,
    /// What has to be typed in `confirm` to replace it; null if nothing is replaced.
    confirm: Option<String>,
    /// The role that it takes: `operator`, or `admin` to replace.
    role: Role,
    /// Whether who asks has that role, and a token.
    may: bool,
    /// Size of the restored database.
    logical_bytes: u64,
    /// Bytes of all objects that would be read.
    read_bytes: u64,
    /// How long it may take; null if nothing is known to tell by.
    estimated_seconds: Option<u64>,
    /// What that is known by: `restores`, `drills` or `verifications` of this database.
    #[schema(value_type = Option<String>, example = "drills")]
    estimated_from: Option<&'static str>,
    /// The room at the target; null where that is not the daemon's machine.
    space: Option<SpaceView>,
    /// What makes it impossible.
    problems: Vec<String>,
    /// What somebody should know before.
    warnings: Vec<String>,
    /// Whether it can be done, with `replace` if it replaces something.
    is_possible: bool,
    /// The command that does the same, for a POSIX shell; without secrets.
    command: String,
}

/// A segment of a journal.
#[derive(Debug, Serialize, ToSchema)]
struct PlanSegmentView {
    /// Its id.
    id: String,
    /// Up to when it tells what happened.
    time: Timestamp,
    /// Its number in the journal of its backup, from 1.
    sequence: u64,
    /// Bytes that it added to the repository.
    added_bytes: u64,
}

/// The room at a target.
#[derive(Debug, Serialize, ToSchema)]
struct SpaceView {
    /// Bytes that can still be written there.
    available_bytes: u64,
    /// Bytes that are needed there; what is replaced stays until the new database is complete.
    needed_bytes: u64,
    /// Whether that is enough.
    is_enough: bool,
}

impl From<JournalSegment> for PlanSegmentView {
    fn from(segment: JournalSegment) -> Self {
        let JournalSegment { id, time, sequence, added_bytes } = segment;
        Self { id: id.to_string(), time, sequence, added_bytes }
    }
}

impl From<SpacePlan> for SpaceView {
    fn from(space: SpacePlan) -> Self {
        let SpacePlan { available_bytes, needed_bytes, is_enough } = space;
        Self { available_bytes, needed_bytes, is_enough }
    }
}

/// What a restore would do, with the same body. Nothing is changed, and what stands in the way is told in `problems`. Without a
/// token, nothing is told about a place other than the original one.
#[utoipa::path(post, path = "/api/databases/{name}/restore/plan", tag = "databases", request_body = RestoreRequest,
    params(("name" = String, Path, description = "its name")), responses((status = 200, body = RestorePlanView)))]
pub(crate) async fn restore(
    Operator(access): Operator,
    State(api): State<Api>,
    Path(name): Path<String>,
    Body(request): Body<RestoreRequest>,
) -> Result<Json<RestorePlanView>, Problem> {
    let restore = request.options()?;
    api.known(&name).await?;
    let blind = (!access.has_token() && restore.to.is_some())
        .then(|| "without a token nobody is told what is at another place".to_owned());
    let configuration = api.lock().path.as_ref().and_then(|path| std::path::absolute(path).ok());
    let permit = Some(api.look()?);
    let options = PlanOptions { restore, patience: TARGET_LIMIT, blind, configuration, permit };
    let planned = async { Ok::<_, Problem>(api.copal().await?.restore_plan(&name, options).await?) };
    let plan = tokio::time::timeout(REPOSITORY_LIMIT + TARGET_LIMIT, planned).await;
    let plan = plan.map_err(|_| Problem::unavailable("the repository does not answer"))??;
    let estimate = api.estimate(&name, plan.logical_bytes).await;
    let RestorePlan { backup, segment, target, is_original, exists, replaces, at_place_of, .. } = plan;
    Ok(Json(RestorePlanView {
        database: name,
        backup: backup.into(),
        segment: segment.map(Into::into),
        target,
        is_original,
        exists,
        replaces,
        confirm: replaces.then_some(at_place_of),
        role: if replaces { Role::Admin } else { Role::Operator },
        may: access.require_restore(replaces).is_ok(),
        logical_bytes: plan.logical_bytes,
        read_bytes: plan.read_bytes,
        estimated_seconds: estimate.map(|(seconds, _)| seconds),
        estimated_from: estimate.map(|(_, from)| from),
        space: plan.space.map(Into::into),
        problems: plan.problems,
        warnings: plan.warnings,
        is_possible: plan.is_possible,
        command: plan.command,
    }))
}

impl Api {
    /// How long a restore of so many bytes may take, and what that is known by. A history that cannot be read knows nothing.
    async fn estimate(&self, database: &str, bytes: u64) -> Option<(u64, &'static str)> {
        let filter = RunFilter { database: Some(database.to_owned()), most: RUNS, ..RunFilter::default() };
        let runs = self.runner.recorder().runs(filter).await.unwrap_or_default();
        let kinds = [(TaskKind::Restore, "restores"), (TaskKind::Drill, "drills"), (TaskKind::Verify, "verifications")];
        kinds.into_iter().find_map(|(kind, word)| {
            let newest = self.runner.newest_success(database, kind);
            seconds(of_kind(&runs, newest.as_ref(), kind), bytes).map(|seconds| (seconds, word))
        })
    }

    /// Whose place a restore writes to.
    pub(super) async fn restore_place(&self, name: &str, options: &RestoreOptions) -> Result<RestorePlace, Problem> {
        let permit = Some(self.look()?);
        let found = async { Ok::<_, Problem>(self.copal().await?.restore_place(name, options, permit).await?) };
        let found = tokio::time::timeout(REPOSITORY_LIMIT + TARGET_LIMIT, found).await;
        found.map_err(|_| Problem::unavailable("the repository or the target does not answer"))?
    }

    /// Leave to look at a target.
    fn look(&self) -> Result<Arc<OwnedSemaphorePermit>, Problem> {
        let permit = Arc::clone(&self.shared.looks).try_acquire_owned();
        permit.map(Arc::new).map_err(|_| {
            let problem = Problem::conflict(format!("{MOST_LOOKS} targets of restores are looked at already"));
            problem.hint("try again in a few seconds")
        })
    }
}

/// The runs of a kind, with the newest success: it is known also if thousands of other runs came after it, and counts once.
fn of_kind<'a>(
    runs: &'a [RunRecord],
    newest: Option<&'a RunRecord>,
    kind: TaskKind,
) -> impl Iterator<Item = &'a RunRecord> {
    let newest = newest.filter(|newest| runs.iter().all(|run| run.id != newest.id));
    runs.iter().chain(newest).filter(move |run| run.kind == kind)
}

/// How long so many bytes take if it goes as fast as in these runs.
fn seconds<'a>(runs: impl Iterator<Item = &'a RunRecord>, bytes: u64) -> Option<u64> {
    let measured = runs.filter(|run| run.ending == Some(Ending::Success)).filter_map(|run| {
        let (bytes, milliseconds) = (run.facts.logical_bytes?, run.duration_ms?);
        (bytes > 0).then_some((u128::from(bytes), u128::from(milliseconds)))
    });
    let (done, took) = measured.take(OF_RUNS).fold((0, 0), |(done, took), (bytes, ms)| (done + bytes, took + ms));
    if done == 0 {
        return None;
    }
    // Whole seconds, rather one too many; nothing takes no time.
    let seconds = u128::from(bytes).saturating_mul(took).div_ceil(done * 1000).max(1);
    u64::try_from(seconds).ok()
}

/// What a prune would do.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PrunePlanView {
    /// The database.
    database: String,
    /// The backups that stay.
    kept: Vec<KeptView>,
    /// The ids of those that would go.
    deleted: Vec<String>,
    /// Bytes that this would free.
    freed_bytes: u64,
    /// The rules, for example `last 10, daily 7`; null without any, so that nothing goes.
    rules: Option<String>,
}

/// A backup that stays.
#[derive(Debug, Serialize, ToSchema)]
struct KeptView {
    /// Its id.
    id: String,
    /// Why: `last`, `within`, `hourly`, `daily`, `weekly`, `monthly`, `yearly`, `pinned`, `newest`, `newest-verified`, `no-rule`.
    #[schema(value_type = Vec<String>)]
    reasons: Vec<copal::Reason>,
}

/// What a prune by the rules of the configuration would do now. Nothing is changed.
#[utoipa::path(get, path = "/api/databases/{name}/prune", tag = "databases",
    params(("name" = String, Path, description = "its name")), responses((status = 200, body = PrunePlanView)))]
pub(crate) async fn show_prune(
    _: Viewer,
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<Json<PrunePlanView>, Problem> {
    api.known(&name).await?;
    let copal = api.copal().await?;
    refuse_whole_server(&copal, &name)?;
    let options = PruneOptions { dry_run: true, ..PruneOptions::default() };
    let outcome = copal.prune(&name, options, &Context::silent()).await?;
    let kept = outcome.kept.into_iter().map(|kept| KeptView { id: kept.id.to_string(), reasons: kept.reasons });
    Ok(Json(PrunePlanView {
        kept: kept.collect(),
        deleted: outcome.deleted.iter().map(ToString::to_string).collect(),
        freed_bytes: outcome.freed_bytes,
        rules: copal.keep(&name).map(ToString::to_string).filter(|rules| !rules.is_empty()),
        database: name,
    }))
}

/// What may go.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PruneRequest {
    /// Those that were shown as what would go.
    #[schema(schema_with = shown_ids)]
    deleted: Vec<String>,
}

impl PruneRequest {
    fn only(&self) -> Result<BTreeSet<BackupId>, Problem> {
        if self.deleted.len() > MOST_SHOWN {
            let problem = Problem::bad_request(format!("\"deleted\" has {MOST_SHOWN} ids at most"));
            return Err(problem.hint("more are pruned by the command line: copal prune"));
        }
        self.deleted.iter().map(|id| backup_id(id)).collect()
    }
}

fn shown_ids() -> Array {
    let id = ObjectBuilder::new().schema_type(Type::String).pattern(Some(ID));
    let description = "The ids of the backups that were shown as those that would go. If others would go by then, \
                       the run fails (`busy`) and deletes nothing.";
    ArrayBuilder::new().items(id).max_items(Some(MOST_SHOWN)).description(Some(description)).build()
}

/// Drops the backups that no rule of the configuration wants, if they are among those that were shown, and frees what no backup
/// needs.
#[utoipa::path(post, path = "/api/databases/{name}/prune", tag = "databases", request_body = PruneRequest,
    params(("name" = String, Path, description = "its name")), responses((status = 202, body = StartedRun)))]
pub(crate) async fn prune(
    Operator(access): Operator,
    State(api): State<Api>,
    Path(name): Path<String>,
    Body(request): Body<PruneRequest>,
) -> Result<(StatusCode, Json<StartedRun>), Problem> {
    let only = request.only()?;
    api.known(&name).await?;
    let copal = api.lock().copal.clone();
    refuse_whole_server(&copal, &name)?;
    let run = api.runner.job(&name, Job::Prune { only }).await?;
    tracing::info!(database = name, who = access.who(), %run, "a prune was asked for");
    Ok(StartedRun::answer(run))
}

fn refuse_whole_server(copal: &copal::Copal, name: &str) -> Result<(), Problem> {
    if !copal.is_whole_server(name) {
        return Ok(());
    }
    let problem =
        Problem::bad_request(format!("{name} is a whole server; each of its databases has backups of its own"));
    Err(problem.hint(format!("name one of them: {name}.DATABASE")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{RunFacts, RunId};

    fn run(kind: TaskKind, bytes: Option<u64>, milliseconds: Option<u64>, ending: Ending) -> RunRecord {
        let facts = RunFacts { logical_bytes: bytes, ..RunFacts::default() };
        let start = RunRecord::start(RunId(1), "shop", kind, Timestamp::UNIX_EPOCH);
        RunRecord { duration_ms: milliseconds, ending: Some(ending), facts, ..start }
    }

    fn of(runs: &[RunRecord], bytes: u64) -> Option<u64> {
        seconds(runs.iter(), bytes)
    }

    #[test]
    fn an_estimate_goes_by_bytes_and_time() {
        let good = |bytes, ms| run(TaskKind::Restore, Some(bytes), Some(ms), Ending::Success);
        assert_eq!(of(&[], 1000), None);
        assert_eq!(of(&[good(1000, 2_000)], 1000), Some(2));
        assert_eq!(of(&[good(1000, 2_000)], 10_000), Some(20));
        assert_eq!(of(&[good(1000, 2_000), good(1000, 4_000)], 1000), Some(3));
        assert_eq!(of(&[good(1000, 2_001)], 1000), Some(3), "rounded up");
        assert_eq!(of(&[good(1 << 40, 0)], 0), Some(1));
        assert_eq!(of(&[good(u64::MAX, u64::MAX)], u64::MAX), Some(u64::MAX.div_ceil(1000)));
        assert_eq!(of(&[good(1, u64::MAX)], u64::MAX), None, "more than anybody can wait");
    }

    #[test]
    fn the_newest_run_counts_once() {
        let run = |id, ms| RunRecord { id: RunId(id), ..run(TaskKind::Restore, Some(1000), Some(ms), Ending::Success) };
        let of = |newest: &RunRecord| {
            let runs = [run(2, 4_000), run(1, 2_000)];
            seconds(of_kind(&runs, Some(newest), TaskKind::Restore), 1000)
        };
        assert_eq!(of(&run(2, 4_000)), Some(3));
        assert_eq!(of(&run(3, 12_000)), Some(6), "one that the others do not hold counts, too");
    }

    #[test]
    fn what_failed_or_was_not_measured_does_not_count() {
        let failed = run(TaskKind::Restore, Some(1000), Some(1), Ending::TransientFailure);
        let looked = run(TaskKind::Restore, None, Some(1), Ending::Success);
        let empty = run(TaskKind::Restore, Some(0), Some(1), Ending::Success);
        assert_eq!(of(&[failed.clone(), looked.clone(), empty.clone()], 1000), None);
        let good = run(TaskKind::Restore, Some(1000), Some(5_000), Ending::Success);
        assert_eq!(of(&[failed, looked, empty, good], 1000), Some(5));
    }
}
