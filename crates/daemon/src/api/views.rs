//! Databases and backups as the API tells them. What is not known is left out.

use copal::{Abilities, BackupAge, BackupSummary, Copal, DamagedObject, StatusProblemKind};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use utoipa::ToSchema;

use crate::protection::Seen;
use crate::run::{Ending, RunId, RunRecord};
use crate::runner::DatabaseStatus;

/// One database: whether it is protected, and how its runs do.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DatabaseView {
    /// Its name.
    name: String,
    /// Whether the configuration knows it; if not, some other host backs it up into this repository.
    configured: bool,
    /// Whether everything is as promised; absent until the repository has answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) protected: Option<bool>,
    /// Why it is not protected.
    problems: Vec<ProblemView>,
    /// What somebody should know although it is no problem.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    notes: Vec<String>,
    /// The engine's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    engine: Option<String>,
    /// Where the database is, without secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    /// The machine that made the newest good backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    /// How many backups can be listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    backups: Option<usize>,
    /// The newest good backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_backup: Option<BackupRef>,
    /// The newest backup of which all content was read back.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_verified: Option<BackupRef>,
    /// Bytes of its objects in the repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    repository_bytes: Option<u64>,
    /// The schedule that it is judged by.
    #[serde(skip_serializing_if = "Option::is_none")]
    schedule: Option<String>,
    /// The promised age that it is judged by.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_age_seconds: Option<u64>,
    /// Without another good backup it is stale after this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    stale_after: Option<Timestamp>,
    /// When the next regular backup is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_run: Option<Timestamp>,
    /// When the next drill is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_drill: Option<Timestamp>,
    /// The regular run under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    running: Option<RunId>,
    /// Backups that failed in a row.
    consecutive_failures: u32,
    /// The newest backup run that this daemon made; one under way is not among them.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_run: Option<RunBrief>,
    /// The newest drill that this daemon made.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_drill: Option<RunBrief>,
}

/// One database with what is configured for it and what its engine can do.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DatabaseDetails {
    #[serde(flatten)]
    database: DatabaseView,
    /// Which backups stay, for example `last 10, daily 7`; absent without a rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    keep: Option<String>,
    /// When it is drilled.
    #[serde(skip_serializing_if = "Option::is_none")]
    drill_schedule: Option<String>,
    /// The time zone of its schedules.
    timezone: String,
    /// What its engine can do; absent if that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    capabilities: Option<CapabilitiesView>,
}

/// What an engine can do beside backups.
#[derive(Debug, Serialize, ToSchema)]
struct CapabilitiesView {
    /// Restores to a scratch place, checked there.
    drill: bool,
    /// Snapshots.
    snapshots: bool,
    /// A journal, so that any saved moment can be restored.
    journal: bool,
    /// Restores of chosen tables.
    objects: bool,
}

/// One reason why a database is not protected.
#[derive(Debug, Serialize, ToSchema)]
struct ProblemView {
    /// `no-backup`, `stale`, `damage`, `drill-overdue` or `clock`.
    #[schema(value_type = String, example = "stale")]
    kind: StatusProblemKind,
    /// The reason, one line.
    message: String,
}

/// A backup, in short.
#[derive(Debug, Serialize, ToSchema)]
struct BackupRef {
    /// Its id.
    id: String,
    /// When it was made.
    time: Timestamp,
}

/// A run that is over, in short.
#[derive(Debug, Serialize, ToSchema)]
struct RunBrief {
    /// Its number.
    id: RunId,
    /// When it started.
    started: Timestamp,
    /// How it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    ending: Option<Ending>,
    /// How long it took.
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_ms: Option<u64>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl DatabaseView {
    /// Its name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What is known of a database by its runs, by the repository, or by both.
    pub(super) fn new(name: &str, runs: Option<DatabaseStatus>, seen: Option<Seen>) -> Self {
        let configured = runs.is_some();
        let runs = runs.unwrap_or_else(|| DatabaseStatus {
            name: name.to_owned(),
            running: None,
            backup: Default::default(),
            drill: Default::default(),
        });
        let mut view = Self {
            name: name.to_owned(),
            configured,
            protected: None,
            problems: Vec::new(),
            notes: Vec::new(),
            engine: None,
            source: None,
            host: None,
            backups: None,
            last_backup: None,
            last_verified: None,
            repository_bytes: None,
            schedule: None,
            max_age_seconds: None,
            stale_after: None,
            next_run: runs.backup.next,
            next_drill: runs.drill.next,
            running: runs.running,
            consecutive_failures: runs.backup.consecutive_failures,
            last_run: runs.backup.newest.map(RunBrief::of),
            last_drill: runs.drill.newest.map(RunBrief::of),
        };
        if let Some(Seen { status, repository_bytes }) = seen {
            let problem = |problem: copal::StatusProblem| ProblemView { kind: problem.kind, message: problem.message };
            view.protected = Some(status.protected);
            view.problems = status.problems.into_iter().map(problem).collect();
            view.notes = status.notes;
            (view.engine, view.source, view.host) = (status.engine, status.source, status.host);
            view.backups = Some(status.backups);
            view.last_backup = status.last_backup.map(BackupRef::of);
            view.last_verified = status.last_verified.map(BackupRef::of);
            view.repository_bytes = repository_bytes;
            (view.schedule, view.max_age_seconds) = (status.schedule, status.max_age_seconds);
            view.stale_after = status.stale_after;
            // Of a database that is backed up elsewhere, or with its whole server.
            view.next_run = view.next_run.or(status.next_run.filter(|next| *next > Timestamp::now()));
            view.configured |= status.configured;
        }
        view
    }
}

impl DatabaseView {
    /// Judges a whole server, of which the repository says nothing, by its databases.
    pub(super) fn judge_server(&mut self, protected: bool, problem: Option<(StatusProblemKind, &str)>) {
        self.protected = Some(protected);
        let problem = problem.map(|(kind, message)| ProblemView { kind, message: message.to_owned() });
        self.problems.extend(problem);
    }

    /// Tells the runs of the whole server that it is on, since it has none of its own.
    pub(super) fn run_with(&mut self, server: DatabaseStatus) {
        (self.running, self.consecutive_failures) = (server.running, server.backup.consecutive_failures);
        (self.next_run, self.next_drill) = (server.backup.next, server.drill.next);
        (self.last_run, self.last_drill) =
            (server.backup.newest.map(RunBrief::of), server.drill.newest.map(RunBrief::of));
    }
}

impl DatabaseDetails {
    /// Adds what the configuration and the engine say.
    pub(super) fn new(database: DatabaseView, copal: &Copal, name: &str, engine: Option<&str>) -> Self {
        let settings = copal.settings_of(name);
        let capabilities = engine.and_then(|engine| copal.abilities(engine)).map(|can| {
            let Abilities { drill, snapshots, journal, objects } = can;
            CapabilitiesView { drill, snapshots, journal, objects }
        });
        Self {
            database,
            keep: settings.map(|settings| settings.keep.to_string()).filter(|keep| !keep.is_empty()),
            drill_schedule: settings.and_then(|settings| settings.drill.clone()),
            timezone: zone_name(copal.zone_of(name)),
            capabilities,
        }
    }
}

/// The name of a time zone; of one without a name, its offset now.
pub(super) fn zone_name(zone: &TimeZone) -> String {
    zone.iana_name().map_or_else(|| zone.to_offset(Timestamp::now()).to_string(), str::to_owned)
}

impl BackupRef {
    fn of(age: BackupAge) -> Self {
        Self { id: age.id.to_string(), time: age.time }
    }
}

impl RunBrief {
    fn of(run: RunRecord) -> Self {
        let RunRecord { id, started, ending, duration_ms, error, .. } = run;
        Self { id, started, ending, duration_ms, error: error.map(|error| error.message) }
    }
}

/// One backup.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BackupView {
    /// The database's folder name in the repository.
    database: String,
    /// Its id.
    id: String,
    /// When it was made.
    time: Timestamp,
    /// The engine's name.
    engine: String,
    /// The user's label.
    label: Option<String>,
    /// Kept for ever.
    pinned: bool,
    /// All content of it was read back.
    verified: bool,
    /// Size of the database.
    logical_bytes: u64,
    /// Bytes that this backup added to the repository.
    added_bytes: u64,
    /// Bytes of all objects that restoring it reads.
    stored_bytes: u64,
}

impl From<BackupSummary> for BackupView {
    fn from(summary: BackupSummary) -> Self {
        let BackupSummary { database, id, time, engine, label, pinned, verified, .. } = summary;
        let BackupSummary { logical_bytes, added_bytes, stored_bytes, .. } = summary;
        let (database, id) = (database.to_string(), id.to_string());
        Self { database, id, time, engine, label, pinned, verified, logical_bytes, added_bytes, stored_bytes }
    }
}

/// An object of the repository that is missing or not what it should be.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DamageView {
    /// The backup, if it is one's.
    backup: Option<String>,
    /// The object.
    object: String,
    /// What is wrong with it.
    problem: String,
}

impl From<DamagedObject> for DamageView {
    fn from(damaged: DamagedObject) -> Self {
        let DamagedObject { backup, object, problem, .. } = damaged;
        Self { backup: backup.map(|id| id.to_string()), object, problem }
    }
}
