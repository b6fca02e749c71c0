//! `/metrics`: what Prometheus is told of the databases and of the daemon.
//!
//! Rendered from facts that others gather, without looking at anything, so that a scrape costs next to nothing. A fact that is
//! not known has no sample: zero would be a claim. The names are a contract with contrib/ and with other people's alerts:
//! `metrics/sample.txt` has them all, and a test holds both to it.

mod text;

use std::collections::BTreeMap;
use std::time::Duration;

use copal::StatusProblemKind;
use copal_notify::NotifierStatus;
use jiff::Timestamp;

use crate::history::HistoryStatus;
use crate::protection::Seen;
use crate::run::{Ending, RunRecord, TaskKind};
use crate::runner::{DatabaseStatus, LaneStatus, LiveRun};
use text::{Family, Text, Value, label};

/// For the header `Content-Type`.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

const PROBLEMS: [StatusProblemKind; 5] = [
    StatusProblemKind::NoBackup,
    StatusProblemKind::Stale,
    StatusProblemKind::Damage,
    StatusProblemKind::DrillOverdue,
    StatusProblemKind::Clock,
];
/// What all samples of a database take, about.
const BYTES_OF_DATABASE: usize = 3072;
const OTHER_BYTES: usize = 16 * 1024;

/// What is told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts<'a> {
    /// The time, by the daemon's clock.
    pub(crate) now: Timestamp,
    /// When the daemon started.
    pub(crate) started: Timestamp,
    /// Its version.
    pub(crate) version: &'a str,
    /// What the repository says, by name; a configured database that was not looked at yet may be missing.
    pub(crate) databases: &'a BTreeMap<String, Seen>,
    /// How the configured databases do.
    pub(crate) runs: &'a [DatabaseStatus],
    /// The runs under way.
    pub(crate) live: &'a [LiveRun],
    /// The most runs at once.
    pub(crate) limit: usize,
    /// How the notifiers do.
    pub(crate) notifiers: &'a BTreeMap<String, NotifierStatus>,
    /// How the history of runs does.
    pub(crate) history: &'a HistoryStatus,
    /// Whether the configuration file, as it is now, is the one in force.
    pub(crate) configuration_is_good: bool,
}

/// What is known of one database.
struct Row<'a> {
    status: Option<&'a copal::DatabaseStatus>,
    run: Option<&'a DatabaseStatus>,
    repository_bytes: Option<u64>,
}

/// Puts the facts into Prometheus' text format.
pub(crate) fn render(facts: &Facts<'_>) -> String {
    let rows = rows(facts);
    let mut text = Text::with_capacity(rows.len() * BYTES_OF_DATABASE + OTHER_BYTES);
    protection(&mut text, &rows);
    backups(&mut text, &rows, facts.now);
    drills(&mut text, &rows);
    runs(&mut text, &rows, facts);
    daemon(&mut text, facts);
    notifiers(&mut text, facts.notifiers);
    text.finish()
}

/// What is known of each database, behind its label.
fn rows<'a>(facts: &Facts<'a>) -> Vec<(String, Row<'a>)> {
    let mut by_name: BTreeMap<&str, (Option<_>, Option<_>)> = BTreeMap::new();
    for (name, seen) in facts.databases {
        by_name.entry(name).or_default().0 = Some(seen);
    }
    for run in facts.runs {
        by_name.entry(&run.name).or_default().1 = Some(run);
    }
    let row = |(name, (seen, run)): (&str, (Option<&'a Seen>, _))| {
        let status = seen.map(|seen| &seen.status);
        let repository_bytes = seen.and_then(|seen| seen.repository_bytes);
        (label("database", name), Row { status, run, repository_bytes })
    };
    by_name.into_iter().map(row).collect()
}

impl Row<'_> {
    fn backup(&self) -> Option<&LaneStatus> {
        self.run.map(|run| &run.backup)
    }

    fn drill(&self) -> Option<&LaneStatus> {
        self.run.map(|run| &run.drill)
    }

    fn newest_success(&self) -> Option<&RunRecord> {
        self.backup()?.newest_success.as_ref()
    }

    /// When the newest good backup was made: the repository's word, and where that is not there yet, the history's.
    fn last_backup(&self) -> Option<Timestamp> {
        match self.status {
            Some(status) => Some(status.last_backup.as_ref()?.time),
            None => Some(self.newest_success()?.started),
        }
    }

    /// Objects that the newest runs found missing or changed. One that was cut off or failed otherwise has seen nothing.
    fn damaged(&self) -> Option<u64> {
        let newest = [self.backup()?, self.drill()?].into_iter().filter_map(|lane| lane.newest.as_ref());
        let has_seen = |run: &&RunRecord| run.facts.damaged > 0 || run.ending == Some(Ending::Success);
        newest.filter(has_seen).map(|run| run.facts.damaged).max()
    }
}

/// Writes a sample for each label with which the fact is known.
fn each<'a, T, V: Into<Value>>(mut family: Family<'_>, rows: &'a [(String, T)], fact: impl Fn(&'a T) -> Option<V>) {
    for (label, row) in rows {
        if let Some(value) = fact(row) {
            family.sample(&[label], value);
        }
    }
}

fn protection(text: &mut Text, rows: &[(String, Row<'_>)]) {
    let help = "Whether everything promised of the database holds, as the repository was last seen (1 or 0).";
    each(text.gauge("copal_protected", help), rows, |row| Some(row.status?.protected));

    let mut family = text.gauge("copal_problem", "Whether the database is not protected for this reason (1 or 0).");
    let kinds = PROBLEMS.map(|kind| (kind, label("kind", problem_word(kind))));
    for (database, row) in rows {
        let Some(status) = row.status else { continue };
        for (kind, label) in &kinds {
            family.sample(&[database, label], status.problems.iter().any(|problem| problem.kind == *kind));
        }
    }

    let help = "Objects that the newest backup run or drill found missing or changed.";
    each(text.gauge("copal_damaged_objects", help), rows, Row::damaged);
}

fn backups(text: &mut Text, rows: &[(String, Row<'_>)], now: Timestamp) {
    each(text.gauge("copal_backups", "Backups that can be listed."), rows, |row| Some(row.status?.backups));

    let help = "When the newest good backup was made, whoever made it.";
    each(text.gauge("copal_backup_last_success_timestamp_seconds", help), rows, Row::last_backup);
    let help = "The age of the newest good backup by the daemon's clock.";
    each(text.gauge("copal_backup_age_seconds", help), rows, |row| {
        // Of the future: some clock was set, and the age cannot be told.
        Some(Duration::try_from(now.duration_since(row.last_backup()?)).unwrap_or_default())
    });
    let help = "The age that the newest good backup is promised not to exceed.";
    each(text.gauge("copal_backup_max_age_seconds", help), rows, |row| row.status?.max_age_seconds);
    let help = "Without another good backup the database is stale after this time.";
    each(text.gauge("copal_backup_stale_after_timestamp_seconds", help), rows, |row| row.status?.stale_after);
    let help = "When the newest backup was made of which all content was read back.";
    each(text.gauge("copal_backup_last_verified_timestamp_seconds", help), rows, |row| {
        Some(row.status?.last_verified.as_ref()?.time)
    });
    let help = "When the next regular backup starts.";
    each(text.gauge("copal_backup_next_run_timestamp_seconds", help), rows, |row| match row.backup() {
        Some(lane) => lane.next,
        None => row.status?.next_run,
    });

    let help = "How long the newest backup run took, whatever became of it.";
    each(text.gauge("copal_backup_last_run_duration_seconds", help), rows, |row| {
        duration(row.backup()?.newest.as_ref())
    });
    let help = "Whether the newest backup run succeeded (1 or 0).";
    each(text.gauge("copal_backup_last_run_success", help), rows, |row| success(row.backup()?));
    let help = "Failures of backup runs in a row.";
    each(text.gauge("copal_backup_consecutive_failures", help), rows, |row| Some(row.backup()?.consecutive_failures));

    let help = "How long the newest successful backup run took.";
    each(text.gauge("copal_backup_last_success_duration_seconds", help), rows, |row| duration(row.newest_success()));
    let help = "The size of the database at the newest successful backup run.";
    let family = text.gauge("copal_backup_last_success_logical_bytes", help);
    each(family, rows, |row| row.newest_success()?.facts.logical_bytes);
    let help = "What the newest successful backup run added to the repository.";
    let family = text.gauge("copal_backup_last_success_added_bytes", help);
    each(family, rows, |row| row.newest_success()?.facts.added_bytes);
    let help = "What all objects take that restoring the newest successful backup reads.";
    let family = text.gauge("copal_backup_last_success_stored_bytes", help);
    each(family, rows, |row| row.newest_success()?.facts.stored_bytes);

    let help = "What all backups of the database take in the repository.";
    each(text.gauge("copal_repository_size_bytes", help), rows, |row| row.repository_bytes);
}

fn drills(text: &mut Text, rows: &[(String, Row<'_>)]) {
    let help = "When the newest successful drill ended.";
    each(text.gauge("copal_drill_last_success_timestamp_seconds", help), rows, |row| {
        row.drill()?.newest_success.as_ref()?.ended
    });
    let help = "Whether the newest drill succeeded (1 or 0).";
    each(text.gauge("copal_drill_last_run_success", help), rows, |row| success(row.drill()?));
    let help = "How long the newest drill took, whatever became of it.";
    each(text.gauge("copal_drill_last_run_duration_seconds", help), rows, |row| duration(row.drill()?.newest.as_ref()));
    let help = "Failures of drills in a row.";
    each(text.gauge("copal_drill_consecutive_failures", help), rows, |row| Some(row.drill()?.consecutive_failures));
    let help = "When the next regular drill starts.";
    each(text.gauge("copal_drill_next_run_timestamp_seconds", help), rows, |row| row.drill()?.next);
}

fn runs(text: &mut Text, rows: &[(String, Row<'_>)], facts: &Facts<'_>) {
    let help = "Whether a run of the database is under way (1 or 0).";
    each(text.gauge("copal_running", help), rows, |row| Some(row.run?.running.is_some()));
    let mut family = text.gauge("copal_running_since_timestamp_seconds", "When the run under way started.");
    for run in facts.live {
        family.sample(&[&label("database", &run.database), &label("kind", run_word(run.kind))], run.started);
    }
    text.gauge("copal_runs_under_way", "Runs under way.").sample(&[], facts.live.len());
    text.gauge("copal_runs_limit", "The most runs at once.").sample(&[], facts.limit);
}

fn daemon(text: &mut Text, facts: &Facts<'_>) {
    let help = "Always 1; the label tells the version of the daemon.";
    text.gauge("copal_build_info", help).sample(&[&label("version", facts.version)], true);
    let help = "When the daemon started.";
    text.gauge("copal_daemon_start_timestamp_seconds", help).sample(&[], facts.started);
    let help = "Whether the configuration file, as it was last read, is the one in force (1 or 0).";
    text.gauge("copal_configuration_ok", help).sample(&[], facts.configuration_is_good);
    let help = "Whether the history of runs can be written (1 or 0).";
    text.gauge("copal_history_ok", help).sample(&[], facts.history.error.is_none());
    let help = "Runs and other facts that the history has not written yet.";
    text.gauge("copal_history_waiting", help).sample(&[], facts.history.pending);
    let help = "Runs that the history never wrote.";
    text.counter("copal_history_lost_total", help).sample(&[], facts.history.lost);
}

fn notifiers(text: &mut Text, notifiers: &BTreeMap<String, NotifierStatus>) {
    let notifiers: Vec<_> = notifiers.iter().map(|(name, status)| (label("notifier", name), status)).collect();
    let help = "Whether the last attempt to notify failed (1 or 0).";
    each(text.gauge("copal_notifier_failing", help), &notifiers, |status| Some(status.last_error.is_some()));
    let help = "Notices that wait or are under way.";
    each(text.gauge("copal_notifier_waiting", help), &notifiers, |status| Some(status.waiting));
    let help = "When a notice was last delivered.";
    each(text.gauge("copal_notifier_last_sent_timestamp_seconds", help), &notifiers, |status| status.last_sent);
    let help = "Notices that were never delivered: refused, too old or too many.";
    each(text.counter("copal_notifier_lost_total", help), &notifiers, |status| Some(status.lost));
}

fn duration(run: Option<&RunRecord>) -> Option<Duration> {
    run?.duration_ms.map(Duration::from_millis)
}

fn success(lane: &LaneStatus) -> Option<bool> {
    lane.newest.as_ref()?.ending.map(|ending| ending == Ending::Success)
}

fn problem_word(kind: StatusProblemKind) -> &'static str {
    match kind {
        StatusProblemKind::NoBackup => "no-backup",
        StatusProblemKind::Stale => "stale",
        StatusProblemKind::Damage => "damage",
        StatusProblemKind::DrillOverdue => "drill-overdue",
        StatusProblemKind::Clock => "clock",
    }
}

fn run_word(kind: TaskKind) -> &'static str {
    match kind {
        TaskKind::Backup => "backup",
        TaskKind::Drill => "drill",
        TaskKind::Verify => "verify",
        TaskKind::Restore => "restore",
        TaskKind::Prune => "prune",
        TaskKind::Snapshot => "snapshot",
        TaskKind::Rewind => "rewind",
    }
}

#[cfg(test)]
mod tests;
