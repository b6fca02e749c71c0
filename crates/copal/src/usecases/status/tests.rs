//! The judgement against clocks that nobody has to wait for.

use copal_core::{BackupId, Promise};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::judge::{Judgement, Known, Newest, judge};
use super::promise::Promised;
use crate::{DamagedObject, DatabaseSettings, StatusProblemKind};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn backup(time: &str) -> Newest {
    let captured_at = at(time);
    Newest { id: BackupId::new(captured_at), captured_at, host: "db1".into(), took: SignedDuration::ZERO }
}

fn known(time: &str) -> Known {
    Known { newest: Some(backup(time)), ..Known::default() }
}

fn by(settings: DatabaseSettings) -> Promised {
    Promised::configured(&settings, &TimeZone::get("Europe/Berlin").unwrap())
}

fn scheduled(schedule: &str) -> Promised {
    by(DatabaseSettings { schedule: Some(schedule.into()), ..DatabaseSettings::default() })
}

fn recorded(schedule: &str) -> Promised {
    Promised::recorded(&Promise { schedule: Some(schedule.into()), max_age_seconds: None })
}

fn kinds(judgement: &Judgement) -> Vec<StatusProblemKind> {
    judgement.problems.iter().map(|problem| problem.kind).collect()
}

#[test]
fn without_a_promise_any_backup_protects_and_none_does_not() {
    let now = at("2026-06-01T00:00:00Z");
    assert_eq!(judge(&known("2020-01-01T00:00:00Z"), &Promised::default(), now), Judgement::default());
    assert_eq!(kinds(&judge(&Known::default(), &Promised::default(), now)), [StatusProblemKind::NoBackup]);
}

#[test]
fn the_promised_age_goes_before_the_schedule() {
    let promised = by(DatabaseSettings {
        schedule: Some("every 5m".into()),
        max_age: Some(std::time::Duration::from_secs(36 * 3600)),
        ..DatabaseSettings::default()
    });
    let known = known("2026-06-01T00:00:00Z");
    assert!(judge(&known, &promised, at("2026-06-02T12:00:00Z")).problems.is_empty());
    let late = judge(&known, &promised, at("2026-06-02T12:00:01Z"));
    assert_eq!(late.problems[0].message, "the newest good backup is 1d12h old, and 1d12h is promised");
    assert_eq!(late.stale_after, Some(at("2026-06-02T12:00:00Z")));
}

#[test]
fn a_schedule_is_kept_within_its_tolerance() {
    for (schedule, made, last_good_moment) in [
        // By Berlin's clock; an hour for what is far apart.
        ("0 3 * * *", "2026-06-01T01:00:02Z", "2026-06-02T02:00:00Z"),
        ("0 3 * * 1-5", "2026-06-05T01:00:02Z", "2026-06-08T02:00:00Z"),
        // The night in which Berlin's clocks go forward: 03:00 comes an hour earlier.
        ("0 3 * * *", "2026-03-28T02:00:02Z", "2026-03-29T02:00:00Z"),
        // As long as the interval, at least ten minutes.
        ("every 30m", "2026-06-01T01:00:02Z", "2026-06-01T02:00:00Z"),
        ("every 5m", "2026-06-01T01:00:02Z", "2026-06-01T01:15:00Z"),
    ] {
        let (known, promised, last) = (known(made), scheduled(schedule), at(last_good_moment));
        assert_eq!(judge(&known, &promised, last).stale_after, Some(last), "{schedule} {made}");
        assert!(judge(&known, &promised, last).problems.is_empty(), "{schedule} {made}");
        let late = judge(&known, &promised, last + SignedDuration::from_secs(1));
        assert_eq!(kinds(&late), [StatusProblemKind::Stale], "{schedule} {made}");
    }
}

#[test]
fn what_takes_long_and_what_is_spread_has_more_time() {
    let mut known = known("2026-06-01T01:00:00Z");
    known.newest.as_mut().unwrap().took = SignedDuration::from_hours(5);
    let mut promised = scheduled("0 3 * * *");
    promised.jitter = std::time::Duration::from_secs(1800);
    assert_eq!(judge(&known, &promised, at("2026-06-01T01:00:00Z")).stale_after, Some(at("2026-06-02T07:30:00Z")));
    // A copied repository has times of the copy: no more than one occurrence is passed over for that.
    known.newest.as_mut().unwrap().took = SignedDuration::from_hours(5000);
    assert_eq!(judge(&known, &promised, at("2026-06-01T01:00:00Z")).stale_after, Some(at("2026-06-03T02:30:00Z")));
}

#[test]
fn a_place_that_does_not_know_the_zone_gives_no_false_alarm_and_a_true_one_within_the_period() {
    let hour = SignedDuration::from_hours(1);
    for (name, schedule) in
        [("Asia/Tokyo", "0 3 * * *"), ("America/Los_Angeles", "30 23 * * *"), ("Asia/Kolkata", "0 3 * * 1-5")]
    {
        let zone = TimeZone::get(name).unwrap();
        let (schedule, promised) = (crate::schedule::Schedule::parse(schedule).unwrap(), recorded(schedule));
        let mut made = at("2026-01-01T00:00:00Z");
        for _ in 0..300 {
            made = schedule.next_after(made, &zone).unwrap();
            let next = schedule.next_after(made, &zone).unwrap();
            let known = known(&made.to_string());
            let on_time = judge(&known, &promised, next + hour);
            assert!(on_time.problems.is_empty(), "{name} {schedule} {made}: {on_time:?}");
            let period = next.duration_since(made).max(SignedDuration::from_hours(72));
            let late = judge(&known, &promised, made + period + hour * 3);
            assert_eq!(kinds(&late), [StatusProblemKind::Stale], "{name} {schedule} {made}");
        }
    }
}

#[test]
fn the_next_run_is_told_where_it_is_certain() {
    let now = at("2026-06-01T10:00:30Z");
    assert_eq!(scheduled("0 3 * * *").next_run("a", now), Some(at("2026-06-02T01:00:00Z")));
    assert_eq!(recorded("0 3 * * *").next_run("a", now), None);
    assert_eq!(recorded("*/5 * * * *").next_run("a", now), Some(at("2026-06-01T10:05:00Z")));
    assert_eq!(recorded("every 1h").next_run("a", now), Some(at("2026-06-01T11:00:00Z")));
    let unknown = recorded("when the moon is full");
    assert_eq!(unknown.next_run("a", now), None);
    let judgement = judge(&known("2026-06-01T00:00:00Z"), &unknown, now);
    assert_eq!(judgement.notes, ["this copal does not understand the schedule \"when the moon is full\""]);
}

#[test]
fn damage_of_the_newest_is_a_problem_and_older_damage_a_note() {
    let now = at("2026-06-03T00:00:00Z");
    let object = |time: Option<&str>| DamagedObject {
        database: "a".parse().unwrap(),
        backup: time.map(|time| BackupId::new(at(time))),
        object: "databases/a/x".into(),
        problem: "is missing".into(),
    };
    let mut known = known("2026-06-02T00:00:00Z");
    known.damaged = vec![object(Some("2026-06-01T00:00:00Z"))];
    let judgement = judge(&known, &Promised::default(), now);
    assert!(judgement.problems.is_empty());
    assert_eq!(judgement.notes, ["older backups are missing or damaged: 1"]);
    known.damaged.extend([object(None), object(Some("2026-06-02T12:00:00Z"))]);
    let judgement = judge(&known, &Promised::default(), now);
    assert_eq!(kinds(&judgement), [StatusProblemKind::Damage]);
    let message = &judgement.problems[0].message;
    assert!(message.starts_with("the newest backup 20260602-120000Z-"), "{message}");
    assert!(message.ends_with(" cannot be used: databases/a/x is missing (and 1 more)"), "{message}");
    known.newest = None;
    let judgement = judge(&known, &Promised::default(), now);
    assert_eq!(kinds(&judgement), [StatusProblemKind::Damage, StatusProblemKind::NoBackup]);
}

#[test]
fn a_clock_that_is_wrong_is_named() {
    let known = known("2026-06-01T00:10:00Z");
    let ahead = judge(&known, &scheduled("@daily"), at("2026-06-01T00:00:00Z"));
    assert_eq!(
        ahead.problems[0].message,
        "the newest backup is of the future, 2026-06-01T00:10:00Z: the clock here or on db1 is wrong"
    );
    assert_eq!(kinds(&ahead), [StatusProblemKind::Clock]);
    assert!(judge(&known, &scheduled("@daily"), at("2026-06-01T00:05:00Z")).problems.is_empty());
    // The clock was put right, and ids go on from where they were.
    let mut repaired = known.clone();
    repaired.newest.as_mut().unwrap().id = BackupId::new(at("2030-01-01T00:00:00Z"));
    let judgement = judge(&repaired, &scheduled("@daily"), at("2026-06-01T00:10:00Z"));
    assert!(judgement.problems.is_empty() && judgement.notes[0].contains("is of the future"), "{judgement:?}");
}

#[test]
fn a_drill_that_did_not_happen_is_overdue() {
    let promised = by(DatabaseSettings { drill: Some("0 4 * * 0".into()), ..DatabaseSettings::default() });
    let id = |time| Some(BackupId::new(at(time)));
    let mut known = known("2026-06-08T01:00:00Z");
    // Sunday, 4 o'clock in Berlin, and a day for it to happen.
    known.unverified = id("2026-06-01T01:00:00Z");
    assert!(judge(&known, &promised, at("2026-06-08T02:00:00Z")).problems.is_empty());
    let never = judge(&known, &promised, at("2026-06-08T02:00:01Z"));
    assert_eq!(never.problems[0].message, "no backup was ever verified, and a drill was due at 2026-06-07T02:00:00Z");
    assert_eq!(kinds(&never), [StatusProblemKind::DrillOverdue]);
    known.verified = id("2026-05-31T01:00:00Z");
    let since = judge(&known, &promised, at("2026-06-08T02:00:01Z"));
    assert!(since.problems[0].message.starts_with("no backup since 20260531-010000Z-"), "{since:?}");
    // There was nothing newer to be drilled.
    known.unverified = None;
    known.verified = known.newest.as_ref().map(|newest| newest.id.clone());
    assert!(judge(&known, &promised, at("2027-06-08T02:00:01Z")).problems.is_empty());
}
