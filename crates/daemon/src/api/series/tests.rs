use copal::BackupId;

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn backup(time: &str) -> BackupSummary {
    BackupSummary {
        database: "shop".parse().unwrap(),
        id: BackupId::new(at(time)),
        time: at(time),
        engine: "sqlite".into(),
        label: None,
        pinned: false,
        verified: false,
        logical_bytes: 1,
        added_bytes: 1,
        stored_bytes: 1,
    }
}

fn run(started: &str, ending: Ending, backup: Option<&BackupSummary>) -> EndedRun {
    EndedRun { started: at(started), ending, backup: backup.map(|backup| backup.id.to_string()), duration_ms: Some(7) }
}

fn told(days: Vec<DayView>) -> Vec<(String, u64, u64)> {
    days.into_iter().map(|day| (day.date.to_string(), day.good, day.failed)).collect()
}

fn day(date: &str, good: u64, failed: u64) -> (String, u64, u64) {
    (date.to_owned(), good, failed)
}

#[test]
fn a_backup_that_both_know_is_counted_once() {
    let backups = [backup("2026-11-18T03:00:00Z"), backup("2026-11-19T03:00:00Z"), backup("2026-11-19T04:00:00Z")];
    let runs = [
        run("2026-11-19T09:00:00Z", Ending::Cancelled, None),
        run("2026-11-19T04:00:00Z", Ending::Success, Some(&backups[2])),
        run("2026-11-19T02:00:00Z", Ending::TransientFailure, None),
        // Its backup was pruned since.
        run("2026-11-17T03:00:00Z", Ending::Success, Some(&backup("2026-11-17T03:00:00Z"))),
        run("2026-11-16T03:00:00Z", Ending::PermanentFailure, None),
        run("2026-11-15T03:00:00Z", Ending::Interrupted, None),
    ];
    let days = days(&backups, &runs, false, &TimeZone::UTC, at("2026-11-20T12:00:00Z"));
    let expected = [day("2026-11-16", 0, 1), day("2026-11-17", 1, 0), day("2026-11-18", 1, 0), day("2026-11-19", 2, 1)];
    assert_eq!(told(days), expected);
}

#[test]
fn runs_of_a_whole_server_are_one_backup_of_each_database() {
    let backups = [backup("2026-11-19T03:00:05Z"), backup("2026-11-19T05:00:00Z")];
    let other = backup("2026-11-19T03:00:09Z");
    let runs = [
        run("2026-11-19T03:00:00Z", Ending::Success, Some(&other)),
        run("2026-11-18T03:00:00Z", Ending::Success, Some(&other)),
    ];
    let days = days(&backups, &runs, true, &TimeZone::UTC, at("2026-11-20T12:00:00Z"));
    assert_eq!(told(days), [day("2026-11-18", 1, 0), day("2026-11-19", 2, 0)]);
}

#[test]
fn days_are_those_of_the_zone_and_at_most_371() {
    let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
    // Half past midnight in summer, where UTC has the day before; the day on which the clock goes back has 25 hours.
    let backups = [
        "2025-11-14T12:00:00Z",
        "2025-11-15T12:00:00Z",
        "2026-06-01T22:30:00Z",
        "2026-10-24T22:10:00Z",
        "2026-10-25T22:50:00Z",
    ]
    .map(backup);
    let days = days(&backups, &[], false, &zone, at("2026-11-20T12:00:00Z"));
    assert_eq!(told(days), [day("2025-11-15", 1, 0), day("2026-06-02", 1, 0), day("2026-10-25", 2, 0)]);
}
