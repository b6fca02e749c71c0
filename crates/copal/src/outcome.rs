//! What the use cases answer. Their serialised form is the JSON contract of the command line.

mod journal;
mod plan;
mod snapshots;

use std::collections::BTreeMap;
use std::time::Duration;

use copal_core::{BackupId, Difference, FolderName, Inventory, KeptUntil, Reason};
use jiff::Timestamp;
use serde::Serialize;

pub use journal::{AppendOutcome, JournalEnd, JournalSegment};
pub(crate) use journal::{listed_segment, segment};
pub use plan::{LeaseInfo, RestorePlan, SpacePlan};
pub use snapshots::{
    DatabaseNote, GcOutcome, RemovedSnapshot, RewindOutcome, SnapOutcome, SnapshotListing, SnapshotPart,
    SnapshotSummary,
};

/// One backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BackupSummary {
    /// The database's folder name in the repository.
    pub database: FolderName,
    /// Its id.
    pub id: BackupId,
    /// When it was made, UTC.
    pub time: Timestamp,
    /// The engine's name.
    pub engine: String,
    /// The user's label.
    pub label: Option<String>,
    /// Kept for ever.
    pub pinned: bool,
    /// All content of it was read back.
    pub verified: bool,
    /// Size of the database.
    pub logical_bytes: u64,
    /// Bytes that this backup added to the repository.
    pub added_bytes: u64,
    /// Bytes of all objects that restoring it reads.
    pub stored_bytes: u64,
}

/// What `backup` made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BackupOutcome {
    /// The new backup, which is whole.
    #[serde(flatten)]
    pub backup: BackupSummary,
    /// Damage of earlier backups that was met on the way; the new one shares nothing with it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub damaged: Vec<DamagedObject>,
    /// What the first segment of its journal goes on from.
    #[serde(skip)]
    pub end: JournalEnd,
    /// How long writers were held up, where the engine knows it.
    #[serde(skip)]
    pub held: Option<Duration>,
}

/// One database of a repository and its backups, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DatabaseListing {
    /// Its folder name.
    pub database: FolderName,
    /// Its display name.
    pub name: String,
    /// Where it is (or was, at its newest backup).
    pub source: String,
    /// Its backups.
    pub backups: Vec<BackupSummary>,
    /// The journals of those backups that have one, oldest segment first.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub journal: BTreeMap<BackupId, Vec<JournalSegment>>,
    /// What is wrong with this database's part of the repository (missing backups, damaged manifests).
    pub damaged: Vec<DamagedObject>,
}

/// Everything about one backup.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BackupDetails {
    /// The summary.
    #[serde(flatten)]
    pub summary: BackupSummary,
    /// Where the database was.
    pub source: String,
    /// The machine that wrote the backup.
    pub host: String,
    /// Version of the database's format or server.
    pub engine_version: String,
    /// Version of the program that wrote the backup.
    pub copal_version: String,
    /// When the captured view was opened.
    pub captured_at: Timestamp,
    /// The backup before this one.
    pub predecessor: Option<BackupId>,
    /// The database's files: name and length in bytes.
    pub files: Vec<(String, u64)>,
    /// Packs that restoring needs.
    pub packs: usize,
    /// What the database contained.
    pub inventory: Inventory,
    /// Where the backup stands in the database's own history.
    pub position: Option<String>,
    /// Remarks and warnings of the time it was made.
    pub notes: Vec<String>,
    /// Its journal, oldest segment first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub journal: Vec<JournalSegment>,
}

/// What `init` did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InitOutcome {
    /// The repository's URL.
    pub repository: String,
    /// Its id.
    pub id: String,
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// The key wraps written.
    pub keys: Vec<String>,
}

/// What `restore` did (or would do).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RestoreOutcome {
    /// The backup.
    #[serde(flatten)]
    pub backup: BackupSummary,
    /// The last segment of its journal that was applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segment: Option<JournalSegment>,
    /// Where it was restored to.
    pub target: String,
    /// Whether a database was replaced.
    pub replaced: bool,
    /// Nothing was done, it was only looked whether it could be.
    pub dry_run: bool,
    /// The checks that passed.
    pub checks: Vec<String>,
    /// Remarks.
    pub notes: Vec<String>,
}

/// An object of the repository that is missing or not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DamagedObject {
    /// The database.
    pub database: FolderName,
    /// The backup that needs the object.
    pub backup: Option<BackupId>,
    /// The object's name in the repository.
    pub object: String,
    /// What is wrong with it.
    pub problem: String,
}

/// What a drill found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DrillOutcome {
    /// Whether the backup was really restored and checked; if not, `problems` says why it was impossible.
    pub performed: bool,
    /// The engine's checks that ran.
    pub checks: Vec<String>,
    /// What is wrong, in the engine's words.
    pub problems: Vec<String>,
    /// What differs from the inventory.
    pub differences: Vec<Difference>,
}

impl DrillOutcome {
    /// Whether it was performed and found nothing.
    pub fn is_good(&self) -> bool {
        self.performed && self.problems.is_empty() && self.differences.is_empty()
    }
}

/// What `verify` found about one backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VerifyOutcome {
    /// The database.
    pub database: FolderName,
    /// The backup.
    pub id: BackupId,
    /// When it was made; absent if its manifest cannot be read.
    pub time: Option<Timestamp>,
    /// Whether everything was read back and is as it was written.
    pub verified: bool,
    /// Bytes of database content that were read back.
    pub verified_bytes: u64,
    /// Segments of its journal that were read back, too.
    #[serde(skip_serializing_if = "is_zero")]
    pub segments: usize,
    /// The drill, if one was asked for.
    pub drill: Option<DrillOutcome>,
    /// Objects that are missing or changed.
    pub damaged: Vec<DamagedObject>,
}

/// One backup that stays, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeptBackup {
    /// The backup.
    pub id: BackupId,
    /// Every reason.
    pub reasons: Vec<Reason>,
}

/// What `prune` did (or would do) for one database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PruneOutcome {
    /// The database.
    pub database: FolderName,
    /// Nothing was deleted, it was only looked what would be.
    pub dry_run: bool,
    /// The backups that stay.
    pub kept: Vec<KeptBackup>,
    /// The backups that went.
    pub deleted: Vec<BackupId>,
    /// The segments of their journals, which went with them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deleted_segments: Vec<BackupId>,
    /// Packs deleted.
    pub deleted_packs: usize,
    /// Bytes of packs freed.
    pub freed_bytes: u64,
}

/// Why a backup stays, and until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outlook {
    /// Every rule that wants it now.
    pub reasons: Vec<Reason>,
    /// Until when.
    pub until: KeptUntil,
}

/// What databases of one kind can do beside backups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Abilities {
    /// Drills.
    pub drill: bool,
    /// Snapshots.
    pub snapshots: bool,
    /// A journal, so that any saved moment can be restored.
    pub journal: bool,
    /// Restores of chosen tables.
    pub objects: bool,
}

/// A wrap of the repository's key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyInfo {
    /// Its id.
    pub id: String,
    /// `passphrase` or `recovery-key`.
    pub kind: String,
    /// When it was added, by the clock of the store.
    pub created: Timestamp,
    /// Whether it is the one that opened the repository now.
    pub in_use: bool,
}

/// How serious a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Good,
    /// Works, but somebody should know.
    Warning,
    /// Does not work.
    Problem,
}

/// One thing that `doctor` looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How serious.
    pub severity: Severity,
    /// What was looked at and found, one line.
    pub message: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

/// What `doctor` found about one subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    /// `repository`, `configuration`, `state folder` or a database's name.
    pub subject: String,
    /// What was found.
    pub findings: Vec<Finding>,
}

/// A backup and its age.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BackupAge {
    /// Its id.
    pub id: BackupId,
    /// When it was made, UTC.
    pub time: Timestamp,
    /// How old what it holds is, by this machine's clock.
    pub age_seconds: u64,
}

impl BackupAge {
    /// The age as people write it: `11h5m`.
    pub fn age_text(&self) -> String {
        span_text(self.age_seconds)
    }
}

/// Why a database is not protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StatusProblemKind {
    /// There is none, or none that can be read.
    NoBackup,
    /// The newest good backup is older than promised.
    Stale,
    /// The newest backup is damaged or gone, or the database's record is.
    Damage,
    /// No backup was verified when a drill should have done that.
    DrillOverdue,
    /// The newest backup is of the future, so that nobody can tell its age.
    Clock,
}

/// One reason why a database is not protected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StatusProblem {
    /// What kind of reason.
    pub kind: StatusProblemKind,
    /// The reason, one line.
    pub message: String,
}

/// Whether one database is protected, and what speaks for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DatabaseStatus {
    /// Its folder name in the repository.
    pub database: FolderName,
    /// Its name in the configuration; of one that is not configured, the folder name.
    pub name: String,
    /// Whether the configuration knows it.
    pub configured: bool,
    /// Whether everything is as promised.
    pub protected: bool,
    /// Why it is not protected.
    pub problems: Vec<StatusProblem>,
    /// What somebody should know although it is no problem.
    pub notes: Vec<String>,
    /// The engine's name.
    pub engine: Option<String>,
    /// Where the database is (or was, at its newest backup).
    pub source: Option<String>,
    /// The machine that made the newest good backup.
    pub host: Option<String>,
    /// How many backups can be listed.
    pub backups: usize,
    /// The newest good backup.
    pub last_backup: Option<BackupAge>,
    /// The newest backup of which all content was read back.
    pub last_verified: Option<BackupAge>,
    /// The schedule that it is judged by.
    pub schedule: Option<String>,
    /// The promised age that it is judged by.
    pub max_age_seconds: Option<u64>,
    /// Without another good backup it is stale after this time.
    pub stale_after: Option<Timestamp>,
    /// When the next regular run starts, if that can be told.
    pub next_run: Option<Timestamp>,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// A time span in its two largest units, in the spelling of the configuration: `3d4h`.
pub(crate) fn span_text(seconds: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
    let first = UNITS.iter().position(|(_, size)| seconds >= *size).unwrap_or(UNITS.len() - 1);
    let (mut text, mut rest) = (String::new(), seconds);
    for (unit, size) in UNITS.iter().skip(first).take(2) {
        if rest >= *size || text.is_empty() {
            text.push_str(&format!("{}{unit}", rest / size));
        }
        rest %= size;
    }
    text
}

/// The summary of a backup as the repository tells it.
pub(crate) fn summary(database: &FolderName, brief: &copal_repository::Summary) -> BackupSummary {
    BackupSummary {
        database: database.clone(),
        id: brief.id.clone(),
        time: brief.id.time(),
        engine: brief.engine.clone(),
        label: brief.label.clone(),
        pinned: brief.pinned,
        verified: brief.verified,
        logical_bytes: brief.logical_bytes,
        added_bytes: brief.added_bytes,
        stored_bytes: brief.stored_bytes,
    }
}

/// Damage as the repository tells it.
pub(crate) fn damaged_objects(
    database: &FolderName,
    damaged: impl IntoIterator<Item = copal_repository::DamagedBackup>,
) -> Vec<DamagedObject> {
    let object = |d: copal_repository::DamagedBackup| DamagedObject {
        database: database.clone(),
        backup: d.backup,
        object: d.object.to_string(),
        problem: d.problem,
    };
    damaged.into_iter().map(object).collect()
}

/// The object that an error is about.
pub(crate) fn damaged_object(
    database: &FolderName,
    backup: Option<&BackupId>,
    error: &copal_repository::RepositoryError,
) -> Option<DamagedObject> {
    let object = error.object.as_ref()?.to_string();
    let prefix = format!("{object}: ");
    let problem = error.message.strip_prefix(&prefix).unwrap_or(&error.message).to_owned();
    Some(DamagedObject { database: database.clone(), backup: backup.cloned(), object, problem })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_short() {
        for (seconds, expected) in
            [(0, "0s"), (59, "59s"), (60, "1m"), (3_605, "1h"), (39_900, "11h5m"), (129_600, "1d12h"), (90_059, "1d1h")]
        {
            assert_eq!(span_text(seconds), expected);
        }
    }
}
