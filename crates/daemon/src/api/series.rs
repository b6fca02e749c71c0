//! `/api/databases/{name}/series`: how backups grew and how long they took, which days were good, and what the journal covers.

use std::collections::{BTreeMap, HashSet};

use axum::Json;
use axum::extract::State;
use copal::{BackupSummary, DatabaseListing};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use super::access::Viewer;
use super::answer::Problem;
use super::backups::MOST_RUNS;
use super::extract::Path;
use super::views::zone_name;
use crate::history::EndedRun;
use crate::run::Ending;

/// Backups in the answer.
const MOST: usize = 2000;
/// Days in the answer: a year, in whole weeks.
const DAYS: i64 = 371;

/// What plots and calendars are made of.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SeriesView {
    /// The time zone of the days.
    timezone: String,
    /// The newest 2,000 backups, oldest first.
    backups: BackupSeries,
    /// The last 371 days as far as there was a backup or a failure on them, oldest first.
    days: Vec<DayView>,
    /// Times that can be restored to the moment.
    journal: Vec<JournalView>,
}

/// Backups in columns of the same length.
#[derive(Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
struct BackupSeries {
    /// Their ids.
    id: Vec<String>,
    /// When they were made, in seconds since 1970-01-01 00:00 UTC.
    time: Vec<i64>,
    /// Sizes of the database.
    logical_bytes: Vec<u64>,
    /// What they added to the repository.
    added_bytes: Vec<u64>,
    /// What restoring them reads.
    stored_bytes: Vec<u64>,
    /// How long the runs took that made them; null where the history does not know.
    duration_ms: Vec<Option<u64>>,
}

/// The backups of one day.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
struct DayView {
    /// The day.
    #[schema(value_type = String, format = Date, example = "2026-11-20")]
    date: Date,
    /// Backups that were made, by whomever.
    good: u64,
    /// Runs that failed.
    failed: u64,
}

/// What the journal of one backup covers.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
struct JournalView {
    /// The backup.
    backup: String,
    /// From when on: the time of the backup.
    from: Timestamp,
    /// Until when.
    to: Timestamp,
    /// Segments.
    segments: usize,
}

/// What plots and calendars are made of: the backups of a database in columns, its days, and what its journal covers.
#[utoipa::path(get, path = "/api/databases/{name}/series", tag = "databases",
    params(("name" = String, Path, description = "its name")), responses((status = 200, body = SeriesView)))]
pub(crate) async fn series(
    _: Viewer,
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<Json<SeriesView>, Problem> {
    api.known(&name).await?;
    let copal = api.copal().await?;
    let listing = match copal.list(Some(&name)).await {
        Ok(mut listings) => listings.pop(),
        // Configured, and no backup yet; that runs failed can be told all the same.
        Err(error) if error.kind() == copal::ErrorKind::NotFound => None,
        Err(error) => return Err(error.into()),
    };
    let (mut backups, journal) = listing.map(parts).unwrap_or_default();
    let now = Timestamp::now();
    let zone = copal.zone_of(&name).clone();
    let since = now.checked_sub(SignedDuration::from_hours(DAYS * 24)).unwrap_or(Timestamp::MIN);
    let server = copal.server_of(&name).map(|(server, _)| server.to_owned());
    let runs = api.runner.recorder().ended(server.as_deref().unwrap_or(&name), since, MOST_RUNS).await;
    // Without a history there are still the backups.
    let days = days(&backups, &runs.unwrap_or_default(), server.is_some(), &zone, now);
    let surplus = backups.len().saturating_sub(MOST);
    backups.drain(..surplus);
    let durations = api.durations(&name, &backups).await;
    let mut columns = BackupSeries::default();
    for backup in &backups {
        let id = backup.id.to_string();
        columns.duration_ms.push(durations.get(&id).copied());
        columns.id.push(id);
        columns.time.push(backup.time.as_second());
        columns.logical_bytes.push(backup.logical_bytes);
        columns.added_bytes.push(backup.added_bytes);
        columns.stored_bytes.push(backup.stored_bytes);
    }
    Ok(Json(SeriesView { timezone: zone_name(&zone), backups: columns, days, journal }))
}

/// The backups, and what their journals cover.
fn parts(listing: DatabaseListing) -> (Vec<BackupSummary>, Vec<JournalView>) {
    let journal = listing.journal.iter().filter_map(|(backup, segments)| {
        let to = segments.last()?.time;
        Some(JournalView { backup: backup.to_string(), from: backup.time(), to, segments: segments.len() })
    });
    (listing.backups, journal.collect())
}

/// Counts by days. A backup that a run of this daemon made is counted once, though both know it; runs of a whole server made
/// one backup each of this database at most.
fn days(
    backups: &[BackupSummary],
    runs: &[EndedRun],
    is_of_server: bool,
    zone: &TimeZone,
    now: Timestamp,
) -> Vec<DayView> {
    let mut calendar = Calendar { zone, day: None };
    let Some(first) =
        calendar.day(now).and_then(|today| today.checked_sub(SignedDuration::from_hours(24 * (DAYS - 1))).ok())
    else {
        return Vec::new();
    };
    let mut days: BTreeMap<Date, [u64; 3]> = BTreeMap::new();
    let mut made: HashSet<&str> = HashSet::new();
    for run in runs {
        let Some(day) = calendar.day(run.started) else { continue };
        let [good, failed, _] = days.entry(day).or_default();
        match run.ending {
            Ending::Success => *good += 1,
            ending => *failed += u64::from(ending.is_failure()),
        }
        made.extend(run.backup.as_deref().filter(|_| !is_of_server));
    }
    for backup in backups.iter().filter(|backup| !made.contains(backup.id.as_str())) {
        let Some(day) = calendar.day(backup.time) else { continue };
        days.entry(day).or_default()[2] += 1;
    }
    let count = |(date, [by_runs, failed, others]): (Date, [u64; 3])| {
        let good = if is_of_server { by_runs.max(others) } else { by_runs + others };
        DayView { date, good, failed }
    };
    days.into_iter().filter(|(day, _)| *day >= first).map(count).filter(|day| day.good + day.failed > 0).collect()
}

/// The day of a moment, without asking the zone again for moments of the same day.
struct Calendar<'a> {
    zone: &'a TimeZone,
    day: Option<(Timestamp, Timestamp, Date)>,
}

impl Calendar<'_> {
    fn day(&mut self, time: Timestamp) -> Option<Date> {
        if let Some((start, end, date)) = self.day
            && (start..end).contains(&time)
        {
            return Some(date);
        }
        let zoned = time.to_zoned(self.zone.clone());
        let start = zoned.start_of_day().ok()?;
        let end = start.tomorrow().and_then(|next| next.start_of_day()).ok()?;
        self.day = Some((start.timestamp(), end.timestamp(), zoned.date()));
        Some(zoned.date())
    }
}

#[cfg(test)]
mod tests;
