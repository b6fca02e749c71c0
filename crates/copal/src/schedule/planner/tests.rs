use std::time::Instant;

use jiff::tz::TimeZone;

use super::super::{Past, Retries, Schedule};
use super::*;

const MIDNIGHT: &str = "2026-03-02T00:00:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn minutes(count: u64) -> Duration {
    Duration::from_secs(count * 60)
}

fn policy(schedule: &str) -> Policy {
    Policy { schedule: Some(Schedule::parse(schedule).unwrap()), ..Policy::default() }
}

fn on_change(minutes: u64) -> Policy {
    Policy { min_interval: Duration::from_secs(minutes * 60), ..Policy::default() }
}

fn past(last_start: &str, last_success: &str) -> History {
    let time = |text: &str| (!text.is_empty()).then(|| at(text));
    History { backup: Past { last_start: time(last_start), last_success: time(last_success) }, drill: Past::default() }
}

fn start(policy: Policy, history: History, now: &str) -> Planner {
    let mut planner = Planner::new(4);
    reload(&mut planner, policy, history, now);
    planner
}

fn reload(planner: &mut Planner, policy: Policy, history: History, now: &str) {
    planner.configure(BTreeMap::from([("shop".to_owned(), (policy, history))]), 4, at(now));
}

/// The reasons of the runs that start now.
fn reasons(planner: &mut Planner, now: &str) -> Vec<RunReason> {
    planner.tick(at(now)).runs.iter().map(|run| run.reason).collect()
}

/// Lets time pass from one wake-up to the next, with runs that end at once; answers with the starts until `end`.
fn live(planner: &mut Planner, from: &str, end: &str) -> Vec<(String, RunReason)> {
    let (mut now, end) = (at(from), at(end));
    let mut starts = Vec::new();
    loop {
        let tick = planner.tick(now);
        assert_eq!(tick.missed, []);
        for run in &tick.runs {
            starts.push((now.to_string(), run.reason));
            planner.ended(&run.database, RunOutcome::Success, now);
        }
        match tick.wake_at.filter(|wake| *wake < end) {
            _ if !tick.runs.is_empty() => {}
            Some(wake) => now = wake,
            None => return starts,
        }
    }
}

#[test]
fn a_run_says_all_that_its_caller_needs() {
    let daily = Policy { retention: true, time_limit: Some(minutes(90)), ..policy("@daily") };
    let mut planner = start(daily, History::default(), "2026-03-01T12:00:00Z");
    let first = planner.tick(at("2026-03-01T12:00:00Z"));
    assert_eq!((first.runs.len(), first.wake_at), (0, Some(at(MIDNIGHT))));
    let second = planner.tick(at("2026-03-02T00:00:00.2Z"));
    let run = Run {
        database: "shop".into(),
        kind: RunKind::Backup,
        reason: RunReason::Scheduled,
        due: at(MIDNIGHT),
        attempt: 1,
        time_limit: Some(minutes(90)),
        then_prune: true,
    };
    assert_eq!((second.runs, second.wake_at), (vec![run], None));
    assert_eq!((planner.running(), planner.running_of("shop")), (1, Some(RunKind::Backup)));
    assert_eq!(planner.next_regular("shop", RunKind::Backup), Some(at("2026-03-03T00:00:00Z")));
    assert_eq!(planner.next_regular("shop", RunKind::Drill), None);
    planner.ended("shop", RunOutcome::Success, at("2026-03-02T00:10:00Z"));
    assert_eq!((planner.running(), planner.running_of("shop")), (0, None));
    assert_eq!(planner.tick(at("2026-03-02T00:10:00Z")).wake_at, Some(at("2026-03-03T00:00:00Z")));
    assert!(!planner.changed("shopp", at("2026-03-02T00:10:00Z")));
    assert!(!planner.request("shopp", RunKind::Backup, at("2026-03-02T00:10:00Z")));
}

#[test]
fn kinds_and_reasons_have_names() {
    assert_eq!(serde_json::to_string(&RunKind::Backup).unwrap(), "\"backup\"");
    assert_eq!(serde_json::to_string(&RunReason::CaughtUp).unwrap(), "\"caught-up\"");
    assert_eq!(serde_json::from_str::<RunOutcome>("\"transient-failure\"").unwrap(), RunOutcome::TransientFailure);
}

#[test]
fn a_burst_keeps_the_limit_and_the_order() {
    let mut planner = Planner::new(4);
    let databases = (0..200).map(|n| {
        let minute = if n % 2 == 0 { "1" } else { "0" };
        (format!("db{n:03}"), (policy(&format!("{minute} 0 * * *")), History::default()))
    });
    planner.configure(databases.collect(), 4, at("2026-03-01T12:00:00Z"));
    assert_eq!(planner.tick(at("2026-03-01T12:00:00Z")).wake_at, Some(at(MIDNIGHT)));
    let mut now = at(MIDNIGHT);
    let mut running = std::collections::VecDeque::new();
    let mut order = Vec::new();
    loop {
        let tick = planner.tick(now);
        assert!(tick.missed.is_empty());
        for run in tick.runs {
            assert_eq!(run.reason, RunReason::Scheduled, "waiting for a place is no downtime");
            order.push((run.due, run.database.to_string()));
            running.push_back(run.database);
        }
        assert!(running.len() <= 4 && planner.running() == running.len());
        if order.len() < 200 {
            assert_eq!(running.len(), 4, "a place stays empty");
        }
        let next = now + minutes(3);
        if let Some(wake) = tick.wake_at.filter(|wake| *wake < next) {
            assert_eq!(planner.tick(wake).runs, [], "there is no place");
        }
        now = next;
        match running.pop_front() {
            Some(name) => planner.ended(&name, RunOutcome::Success, now),
            None => break,
        }
    }
    assert_eq!(order.len(), 200);
    assert!(order.is_sorted(), "{order:?}");
    assert_eq!(order[0].1, "db001");
}

#[test]
fn downtime_is_caught_up_by_one_run() {
    let ten_days_ago = past("2026-02-20T00:00:03Z", "2026-02-20T00:00:03Z");
    let mut planner = start(policy("@daily"), ten_days_ago, "2026-03-02T07:00:00Z");
    let tick = planner.tick(at("2026-03-02T07:00:00Z"));
    assert_eq!((tick.runs[0].reason, tick.runs[0].due), (RunReason::CaughtUp, at("2026-02-21T00:00:00Z")));
    planner.ended("shop", RunOutcome::Success, at("2026-03-02T07:01:00Z"));
    let tick = planner.tick(at("2026-03-02T07:01:00Z"));
    assert_eq!((tick.runs.len(), tick.wake_at), (0, Some(at("2026-03-03T00:00:00Z"))));

    let unwanted = Policy { catch_up: false, ..policy("@daily") };
    let mut planner = start(unwanted, ten_days_ago, "2026-03-02T07:00:00Z");
    let tick = planner.tick(at("2026-03-02T07:00:00Z"));
    let missed = Missed { database: "shop".into(), kind: RunKind::Backup, since: at("2026-02-21T00:00:00Z") };
    assert_eq!((tick.runs, tick.missed), (vec![], vec![missed]));
    assert_eq!(tick.wake_at, Some(at("2026-03-03T00:00:00Z")));
    assert_eq!(planner.tick(at("2026-03-02T07:00:01Z")).missed, []);
}

#[test]
fn a_short_restart_misses_nothing() {
    for catch_up in [true, false] {
        let daily = Policy { catch_up, ..policy("@daily") };
        let yesterday = past("2026-03-01T00:00:00Z", "2026-03-01T00:00:00Z");
        let mut planner = start(daily.clone(), yesterday, "2026-03-02T00:00:20Z");
        assert_eq!(reasons(&mut planner, "2026-03-02T00:00:20Z"), [RunReason::Scheduled]);
        // It ran before the restart.
        let today = past("2026-03-02T00:00:00Z", "2026-03-02T00:00:00Z");
        let mut planner = start(daily.clone(), today, "2026-03-02T00:00:20Z");
        assert_eq!(reasons(&mut planner, "2026-03-02T00:00:20Z"), []);
        // A database that is new waits for its time.
        let mut planner = start(daily, History::default(), "2026-03-02T00:00:20Z");
        assert_eq!(planner.tick(at("2026-03-02T00:00:20Z")).wake_at, Some(at("2026-03-03T00:00:00Z")));
    }
}

#[test]
fn a_restart_between_an_occurrence_and_its_jitter_loses_nothing() {
    let daily = Policy { jitter: minutes(600), catch_up: false, ..policy("@daily") };
    let mut planner = start(daily.clone(), History::default(), "2026-03-01T12:00:00Z");
    let due = planner.tick(at("2026-03-01T12:00:00Z")).wake_at.unwrap();
    assert!(due > at("2026-03-02T00:02:00Z"), "{due}");
    let mut planner = start(daily, past("2026-03-01T05:00:00Z", "2026-03-01T05:00:00Z"), "2026-03-02T00:01:00Z");
    assert_eq!(planner.tick(at("2026-03-02T00:01:00Z")).wake_at, Some(due));
    let tick = planner.tick(due);
    assert_eq!((tick.runs[0].reason, tick.missed.len()), (RunReason::Scheduled, 0));
}

#[test]
fn a_run_that_was_cut_off_is_repeated_after_the_restart() {
    let history = past("2026-03-02T00:00:00Z", "2026-03-01T00:00:00Z");
    let mut planner = start(policy("@daily"), history, "2026-03-02T00:00:20Z");
    assert_eq!(reasons(&mut planner, "2026-03-02T00:00:20Z"), [RunReason::Retry]);
    planner.ended("shop", RunOutcome::Success, at("2026-03-02T00:01:00Z"));
    assert_eq!(reasons(&mut planner, "2026-03-02T00:01:00Z"), []);

    let unwanted = Policy { catch_up: false, ..policy("@daily") };
    let tick = start(unwanted, history, "2026-03-02T00:00:20Z").tick(at("2026-03-02T00:00:20Z"));
    assert_eq!((tick.runs.len(), tick.missed.len()), (0, 0));
}

#[test]
fn changes_are_folded_and_keep_their_distance() {
    let mut planner = start(on_change(30), History::default(), "2026-03-02T10:00:00Z");
    assert_eq!(planner.tick(at("2026-03-02T10:00:00Z")), Tick::default());
    assert!(planner.changed("shop", at("2026-03-02T10:01:00Z")));
    assert_eq!(reasons(&mut planner, "2026-03-02T10:01:00Z"), [RunReason::Changed]);
    for minute in ["02", "03"] {
        planner.changed("shop", at(&format!("2026-03-02T10:{minute}:00Z")));
    }
    planner.ended("shop", RunOutcome::Success, at("2026-03-02T10:04:00Z"));
    planner.changed("shop", at("2026-03-02T10:05:00Z"));
    let tick = planner.tick(at("2026-03-02T10:05:00Z"));
    assert_eq!((tick.runs.len(), tick.wake_at), (0, Some(at("2026-03-02T10:31:00Z"))));
    planner.changed("shop", at("2026-03-02T10:30:00Z"));
    assert_eq!(reasons(&mut planner, "2026-03-02T10:30:59Z"), []);
    assert_eq!(reasons(&mut planner, "2026-03-02T10:31:00Z"), [RunReason::Changed]);
    planner.ended("shop", RunOutcome::Success, at("2026-03-02T10:32:00Z"));
    assert_eq!(planner.tick(at("2026-03-02T12:00:00Z")), Tick::default());
}

#[test]
fn the_minimum_interval_outlives_a_restart_and_counts_from_any_backup() {
    let yesterday = past("2026-03-02T09:50:00Z", "2026-03-02T09:50:00Z");
    let mut planner = start(on_change(30), yesterday, "2026-03-02T10:00:00Z");
    planner.changed("shop", at("2026-03-02T10:00:00Z"));
    assert_eq!(planner.tick(at("2026-03-02T10:00:00Z")).wake_at, Some(at("2026-03-02T10:20:00Z")));
    // A request does not wait, and covers the change.
    planner.request("shop", RunKind::Backup, at("2026-03-02T10:05:00Z"));
    assert_eq!(reasons(&mut planner, "2026-03-02T10:05:00Z"), [RunReason::Requested]);
    planner.ended("shop", RunOutcome::Success, at("2026-03-02T10:06:00Z"));
    assert_eq!(planner.tick(at("2026-03-02T10:06:00Z")).wake_at, None);
}

#[test]
fn retries_back_off_and_end_at_the_next_occurrence() {
    let retries = Retries { most: 10, first: minutes(1), cap: minutes(20) };
    let hourly = Policy { retries, ..policy("@hourly") };
    let mut planner = start(hourly, History::default(), "2026-03-02T09:59:00Z");
    let mut now = at("2026-03-02T10:00:00Z");
    let mut seen = Vec::new();
    while now < at("2026-03-02T11:02:30Z") {
        let tick = planner.tick(now);
        for run in &tick.runs {
            seen.push((now.to_string()[11..16].to_owned(), run.reason, run.attempt));
            planner.ended(&run.database, RunOutcome::TransientFailure, now);
        }
        now = planner.tick(now).wake_at.unwrap();
    }
    use RunReason::{Retry, Scheduled};
    let expected = [
        ("10:00", Scheduled, 1),
        ("10:01", Retry, 2),
        ("10:03", Retry, 3),
        ("10:07", Retry, 4),
        ("10:15", Retry, 5),
        ("10:31", Retry, 6),
        ("10:51", Retry, 7),
        // 11:11 would be too late.
        ("11:00", Scheduled, 1),
        ("11:01", Retry, 2),
    ];
    assert_eq!(seen, expected.map(|(time, reason, attempt)| (time.to_owned(), reason, attempt)));
}

#[test]
fn only_transient_failures_are_retried_and_not_for_ever() {
    use RunOutcome::{Cancelled, PermanentFailure, Success, TransientFailure};
    for (outcome, wake) in [
        (Success, "2026-03-03T00:00:00Z"),
        (PermanentFailure, "2026-03-03T00:00:00Z"),
        (Cancelled, "2026-03-03T00:00:00Z"),
        (TransientFailure, "2026-03-02T00:01:30Z"),
    ] {
        let mut planner = start(policy("@daily"), History::default(), "2026-03-01T23:00:00Z");
        assert_eq!(reasons(&mut planner, MIDNIGHT).len(), 1);
        planner.ended("shop", outcome, at("2026-03-02T00:01:00Z"));
        assert_eq!(planner.tick(at("2026-03-02T00:01:00Z")).wake_at, Some(at(wake)), "{outcome:?}");
    }
    let retries = Retries { most: 2, first: minutes(1), cap: minutes(1) };
    let mut planner = start(Policy { retries, ..on_change(0) }, History::default(), MIDNIGHT);
    planner.changed("shop", at(MIDNIGHT));
    for (now, reason) in [
        ("2026-03-02T00:00:00Z", RunReason::Changed),
        ("2026-03-02T00:01:00Z", RunReason::Retry),
        ("2026-03-02T00:02:00Z", RunReason::Retry),
    ] {
        assert_eq!(reasons(&mut planner, now), [reason]);
        // Changes do not get round the wait.
        planner.ended("shop", TransientFailure, at(now));
        if now != "2026-03-02T00:02:00Z" {
            planner.changed("shop", at(now));
            assert_eq!(reasons(&mut planner, now), []);
        }
    }
    assert_eq!(planner.tick(at("2026-03-02T00:02:00Z")), Tick::default());
}

#[test]
fn occurrences_during_a_run_are_one_run_after_it() {
    let often = Policy { catch_up: false, ..policy("*/5 * * * *") };
    let mut planner = start(often, History::default(), "2026-03-02T00:00:00Z");
    assert_eq!(reasons(&mut planner, "2026-03-02T00:05:00Z"), [RunReason::Scheduled]);
    assert_eq!(reasons(&mut planner, "2026-03-02T00:10:00Z"), []);
    planner.ended("shop", RunOutcome::Success, at("2026-03-02T00:17:00Z"));
    let tick = planner.tick(at("2026-03-02T00:17:00Z"));
    assert_eq!((tick.runs[0].reason, tick.missed.len()), (RunReason::Scheduled, 0));
    planner.ended("shop", RunOutcome::Success, at("2026-03-02T00:18:00Z"));
    let tick = planner.tick(at("2026-03-02T00:18:00Z"));
    assert_eq!((tick.runs.len(), tick.wake_at), (0, Some(at("2026-03-02T00:20:00Z"))));
}

#[test]
fn backup_and_drill_of_a_database_take_turns() {
    let both = Policy { drill: Some(Schedule::parse("@daily").unwrap()), retention: true, ..policy("@daily") };
    let mut planner = start(both, History::default(), "2026-03-01T12:00:00Z");
    let tick = planner.tick(at(MIDNIGHT));
    assert_eq!(tick.runs.iter().map(|run| (run.kind, run.then_prune)).collect::<Vec<_>>(), [(RunKind::Backup, true)]);
    planner.request("shop", RunKind::Backup, at("2026-03-02T01:00:00Z"));
    planner.ended("shop", RunOutcome::Success, at("2026-03-02T02:00:00Z"));
    let tick = planner.tick(at("2026-03-02T02:00:00Z"));
    assert_eq!((tick.runs[0].kind, tick.runs[0].then_prune, tick.runs.len()), (RunKind::Drill, false, 1));
    assert_eq!(tick.runs[0].reason, RunReason::Scheduled, "waiting for the backup is no downtime");
    planner.ended("shop", RunOutcome::Success, at("2026-03-02T03:00:00Z"));
    assert_eq!(reasons(&mut planner, "2026-03-02T03:00:00Z"), [RunReason::Requested]);
}

#[test]
fn a_clock_set_back_repeats_nothing() {
    let mut planner = start(policy("@daily"), History::default(), "2026-03-01T12:00:00Z");
    assert_eq!(reasons(&mut planner, MIDNIGHT), [RunReason::Scheduled]);
    planner.ended("shop", RunOutcome::Success, at("2026-03-02T00:10:00Z"));
    assert_eq!(planner.tick(at("2026-03-01T23:20:00Z")).wake_at, Some(at("2026-03-03T00:00:00Z")));
    // Again and again.
    assert_eq!(reasons(&mut planner, "2026-03-02T00:00:01Z"), []);
    assert_eq!(planner.tick(at("2026-03-01T23:59:00Z")).wake_at, Some(at("2026-03-03T00:00:00Z")));
    assert_eq!(reasons(&mut planner, "2026-03-02T00:00:01Z"), []);
    assert_eq!(reasons(&mut planner, "2026-03-03T00:00:00Z"), [RunReason::Scheduled]);
}

#[test]
fn a_clock_set_back_during_a_run_repeats_nothing() {
    let mut planner = start(policy("@daily"), History::default(), "2026-03-01T12:00:00Z");
    assert_eq!(reasons(&mut planner, MIDNIGHT), [RunReason::Scheduled]);
    planner.ended("shop", RunOutcome::Success, at("2026-03-01T23:10:00Z"));
    assert_eq!(reasons(&mut planner, "2026-03-02T00:00:30Z"), []);
    assert_eq!(reasons(&mut planner, "2026-03-03T00:00:00Z"), [RunReason::Scheduled]);
}

#[test]
fn a_clock_set_back_stops_nothing() {
    let mut planner = start(policy("*/5 * * * *"), History::default(), "2026-03-02T10:00:00Z");
    assert_eq!(live(&mut planner, "2026-03-02T10:00:00Z", "2026-03-02T12:00:00Z").len(), 23);
    assert_eq!(planner.tick(at("2026-03-02T11:01:00Z")).wake_at, Some(at("2026-03-02T11:05:00Z")));
    assert_eq!(live(&mut planner, "2026-03-02T11:01:00Z", "2026-03-02T12:00:00Z").len(), 11);

    // The clock was a year ahead for some days, then somebody sees it.
    let mut planner = start(policy("@daily"), History::default(), "2026-03-01T12:00:00Z");
    planner.tick(at("2026-03-01T12:00:00Z"));
    let ahead = live(&mut planner, "2027-03-01T12:00:00Z", "2027-03-05T12:00:00Z");
    assert_eq!(ahead.len(), 5);
    assert_eq!(ahead[0].1, RunReason::CaughtUp);
    let back = live(&mut planner, "2026-03-05T12:00:00Z", "2026-03-08T12:00:00Z");
    assert_eq!(
        back.iter().map(|(time, _)| time.as_str()).collect::<Vec<_>>(),
        ["2026-03-06T00:00:00Z", "2026-03-07T00:00:00Z", "2026-03-08T00:00:00Z"]
    );
}

#[test]
fn waits_keep_their_length_when_the_clock_is_set_back() {
    let mut planner = start(on_change(30), History::default(), "2026-03-02T10:00:00Z");
    planner.changed("shop", at("2026-03-02T10:00:00Z"));
    assert_eq!(reasons(&mut planner, "2026-03-02T10:00:00Z"), [RunReason::Changed]);
    planner.ended("shop", RunOutcome::TransientFailure, at("2026-03-02T10:00:10Z"));
    assert_eq!(planner.tick(at("2026-02-02T10:00:20Z")).wake_at, Some(at("2026-02-02T10:00:50Z")));
    assert_eq!(reasons(&mut planner, "2026-02-02T10:00:50Z"), [RunReason::Retry]);
    planner.ended("shop", RunOutcome::Success, at("2026-02-02T10:01:00Z"));
    planner.changed("shop", at("2026-02-02T10:02:00Z"));
    assert_eq!(planner.tick(at("2026-01-01T00:02:00Z")).wake_at, Some(at("2026-01-01T00:30:50Z")));
}

#[test]
fn a_clock_set_back_does_not_delay_who_waits_for_a_place() {
    let mut planner = Planner::new(1);
    let database = |name: &str| (name.to_owned(), (policy("@daily"), History::default()));
    planner.configure(["a", "b", "c"].map(database).into(), 1, at("2026-03-01T12:00:00Z"));
    assert_eq!(planner.tick(at(MIDNIGHT)).runs[0].database.as_ref(), "a");
    for (ended, next, now) in [("a", "b", "2025-03-02T00:01:00Z"), ("b", "c", "2025-03-02T00:02:00Z")] {
        planner.ended(ended, RunOutcome::Success, at(now));
        let tick = planner.tick(at(now));
        assert_eq!((tick.runs[0].database.as_ref(), tick.runs[0].reason), (next, RunReason::Scheduled));
    }
    planner.ended("c", RunOutcome::Success, at("2025-03-02T00:03:00Z"));
    assert_eq!(planner.tick(at("2025-03-02T00:03:00Z")).wake_at, Some(at("2025-03-03T00:00:00Z")));
}

#[test]
fn a_clock_set_back_does_not_repeat_who_waited_for_a_place() {
    let mut planner = Planner::new(1);
    let database = |name: &str| (name.to_owned(), (policy("@daily"), History::default()));
    planner.configure(["a", "b"].map(database).into(), 1, at("2026-03-01T12:00:00Z"));
    assert_eq!(planner.tick(at(MIDNIGHT)).runs[0].database.as_ref(), "a");
    planner.ended("a", RunOutcome::Success, at("2026-03-01T23:50:00Z"));
    assert_eq!(planner.tick(at("2026-03-01T23:50:00Z")).runs[0].database.as_ref(), "b");
    planner.ended("b", RunOutcome::Success, at("2026-03-01T23:55:00Z"));
    assert_eq!(planner.tick(at("2026-03-01T23:55:00Z")).wake_at, Some(at("2026-03-03T00:00:00Z")));
}

#[test]
fn a_trembling_clock_is_no_clock_set_back() {
    let mut planner = start(policy("@daily"), History::default(), "2026-03-01T12:00:00Z");
    assert_eq!(reasons(&mut planner, MIDNIGHT), [RunReason::Scheduled]);
    planner.ended("shop", RunOutcome::Success, at("2026-03-01T23:59:59.5Z"));
    assert_eq!(reasons(&mut planner, "2026-03-01T23:59:59.6Z"), []);
    assert_eq!(planner.tick(at(MIDNIGHT)).wake_at, Some(at("2026-03-03T00:00:00Z")));
    // Waits are not moved either.
    planner.request("shop", RunKind::Backup, at(MIDNIGHT));
    assert_eq!(reasons(&mut planner, MIDNIGHT), [RunReason::Requested]);
    planner.ended("shop", RunOutcome::TransientFailure, at("2026-03-02T00:00:10Z"));
    assert_eq!(planner.tick(at("2026-03-02T00:00:09.5Z")).wake_at, Some(at("2026-03-02T00:00:40Z")));
}

#[test]
fn a_clock_set_back_while_nobody_was_awake() {
    let future = past("2026-03-02T00:00:00Z", "2026-03-02T00:00:00Z");
    for (now, wake) in
        [("2026-03-01T23:30:00Z", "2026-03-03T00:00:00Z"), ("2026-02-20T12:00:00Z", "2026-02-21T00:00:00Z")]
    {
        let mut planner = start(policy("@daily"), future, now);
        assert_eq!(planner.tick(at(now)).wake_at, Some(at(wake)), "{now}");
    }
    let mut planner = start(on_change(30), future, "2025-01-01T00:00:00Z");
    planner.changed("shop", at("2025-01-01T00:00:00Z"));
    assert_eq!(planner.tick(at("2025-01-01T00:00:00Z")).wake_at, Some(at("2025-01-01T00:30:00Z")));
}

#[test]
fn a_clock_that_jumps_forward_is_downtime() {
    let mut planner = start(policy("@hourly"), History::default(), "2026-03-01T12:00:00Z");
    planner.tick(at("2026-03-01T12:00:00Z"));
    assert_eq!(reasons(&mut planner, "2026-03-05T10:30:00Z"), [RunReason::CaughtUp]);
    planner.ended("shop", RunOutcome::Success, at("2026-03-05T10:31:00Z"));
    assert_eq!(planner.tick(at("2026-03-05T10:31:00Z")).wake_at, Some(at("2026-03-05T11:00:00Z")));

    let unwanted = Policy { catch_up: false, ..policy("@hourly") };
    let mut planner = start(unwanted, History::default(), "2026-03-01T12:00:00Z");
    planner.tick(at("2026-03-01T12:00:00Z"));
    let tick = planner.tick(at("2026-03-05T10:30:00Z"));
    assert_eq!((tick.runs.len(), tick.missed[0].since), (0, at("2026-03-01T13:00:00Z")));
    assert_eq!(tick.wake_at, Some(at("2026-03-05T11:00:00Z")));
}

#[test]
fn a_reload_keeps_what_is_pending_and_what_runs() {
    let daily = Policy { min_interval: minutes(30), ..policy("@daily") };
    let mut planner = start(daily.clone(), History::default(), "2026-03-01T12:00:00Z");
    assert_eq!(reasons(&mut planner, MIDNIGHT).len(), 1);
    planner.changed("shop", at("2026-03-02T00:01:00Z"));
    // The history is stale by now: it must not be looked at.
    let stale = past("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z");
    reload(&mut planner, daily.clone(), stale, "2026-03-02T00:02:00Z");
    assert_eq!((planner.running(), planner.tick(at("2026-03-02T00:02:00Z"))), (1, Tick::default()));
    planner.ended("shop", RunOutcome::TransientFailure, at("2026-03-02T00:03:00Z"));
    reload(&mut planner, daily.clone(), stale, "2026-03-02T00:03:10Z");
    assert_eq!(planner.tick(at("2026-03-02T00:03:10Z")).wake_at, Some(at("2026-03-02T00:03:30Z")));
    assert_eq!(reasons(&mut planner, "2026-03-02T00:03:30Z"), [RunReason::Retry]);
    // A new schedule, zone or jitter counts at once, but not what it would have missed.
    for (changed, next) in [
        (policy("0 0,6 * * *"), "2026-03-02T06:00:00Z"),
        (Policy { zone: TimeZone::get("Asia/Kolkata").unwrap(), ..policy("0 6 * * *") }, "2026-03-02T00:30:00Z"),
        (policy("@hourly"), "2026-03-02T01:00:00Z"),
    ] {
        reload(&mut planner, changed, stale, "2026-03-02T00:04:00Z");
        assert_eq!(planner.next_regular("shop", RunKind::Backup), Some(at(next)));
    }
    let spread = Policy { jitter: minutes(50), ..policy("@hourly") };
    reload(&mut planner, spread, stale, "2026-03-02T00:05:00Z");
    let next = planner.next_regular("shop", RunKind::Backup).unwrap();
    assert!(next > at("2026-03-02T01:00:00Z") && next < at("2026-03-02T01:50:00Z"), "{next}");
    reload(&mut planner, on_change(0), stale, "2026-03-02T00:06:00Z");
    assert_eq!(planner.next_regular("shop", RunKind::Backup), None);
}

#[test]
fn a_reload_keeps_an_occurrence_whose_time_has_come() {
    let mut planner = Planner::new(1);
    let with = |schedule: &str| {
        ["a", "b"].map(|name| (name.to_owned(), (policy(schedule), History::default()))).into_iter().collect()
    };
    planner.configure(with("@daily"), 1, at("2026-03-01T12:00:00Z"));
    assert_eq!(planner.tick(at(MIDNIGHT)).runs[0].database.as_ref(), "a");
    planner.configure(with("@weekly"), 1, at("2026-03-02T00:05:00Z"));
    planner.ended("a", RunOutcome::Success, at("2026-03-02T00:10:00Z"));
    let tick = planner.tick(at("2026-03-02T00:10:00Z"));
    assert_eq!((tick.runs[0].database.as_ref(), tick.runs[0].reason), ("b", RunReason::Scheduled));
    assert_eq!(planner.next_regular("b", RunKind::Backup), Some(at("2026-03-08T00:00:00Z")));
}

#[test]
fn a_removed_database_ends_its_run_and_is_gone() {
    let mut planner = start(policy("@daily"), History::default(), "2026-03-01T12:00:00Z");
    assert_eq!(reasons(&mut planner, MIDNIGHT).len(), 1);
    planner.configure(BTreeMap::new(), 4, at("2026-03-02T00:01:00Z"));
    assert_eq!((planner.running(), planner.running_of("shop")), (1, Some(RunKind::Backup)));
    assert!(!planner.request("shop", RunKind::Backup, at("2026-03-02T00:02:00Z")));
    assert_eq!(planner.next_regular("shop", RunKind::Backup), None);
    planner.ended("shop", RunOutcome::TransientFailure, at("2026-03-02T00:03:00Z"));
    assert_eq!((planner.running(), planner.tick(at("2026-03-09T00:00:00Z"))), (0, Tick::default()));
    // Back before its run has ended: still only one run.
    let mut planner = start(policy("@daily"), History::default(), "2026-03-01T12:00:00Z");
    assert_eq!(reasons(&mut planner, MIDNIGHT).len(), 1);
    planner.configure(BTreeMap::new(), 4, at("2026-03-02T00:01:00Z"));
    reload(&mut planner, policy("@hourly"), History::default(), "2026-03-02T00:02:00Z");
    assert_eq!(reasons(&mut planner, "2026-03-02T01:00:00Z"), []);
    planner.ended("shop", RunOutcome::Success, at("2026-03-02T01:10:00Z"));
    assert_eq!(reasons(&mut planner, "2026-03-02T01:10:00Z"), [RunReason::Scheduled]);
}

#[test]
fn a_lower_limit_ends_no_run() {
    let with = |count: usize| {
        (0..count).map(|n| (format!("db{n}"), (policy("@daily"), History::default()))).collect::<BTreeMap<_, _>>()
    };
    let mut planner = Planner::new(3);
    planner.configure(with(5), 3, at("2026-03-01T12:00:00Z"));
    assert_eq!(planner.tick(at(MIDNIGHT)).runs.len(), 3);
    planner.configure(with(5), 0, at("2026-03-02T00:01:00Z"));
    for (ended, started) in [("db0", 0), ("db1", 0), ("db2", 1), ("db3", 1), ("db4", 0)] {
        planner.ended(ended, RunOutcome::Success, at("2026-03-02T00:02:00Z"));
        assert_eq!(planner.tick(at("2026-03-02T00:02:00Z")).runs.len(), started, "after {ended}");
    }
}

#[test]
fn two_thousand_databases_are_cheap() {
    let berlin = TimeZone::get("Europe/Berlin").unwrap();
    let databases = (0..2000).map(|n| {
        // 200 of them at each of ten minutes.
        let policy = Policy { zone: berlin.clone(), ..policy(&format!("{} * * * *", n % 10)) };
        (format!("db{n}"), (policy, History::default()))
    });
    let began = Instant::now();
    let mut planner = Planner::new(4);
    let mut now = at("2026-03-28T12:30:00Z");
    planner.configure(databases.collect(), 4, now);
    let (mut count, mut worst) = (0, 0);
    let end = at("2026-03-29T12:30:00Z");
    while now < end {
        let tick = planner.tick(now);
        assert!(tick.missed.is_empty() && planner.running() <= 4);
        for run in &tick.runs {
            worst = worst.max(now.duration_since(run.due).as_millis());
            planner.ended(&run.database, RunOutcome::Success, now);
        }
        count += tick.runs.len();
        now = if tick.runs.is_empty() { tick.wake_at.unwrap() } else { now + Duration::from_millis(1) };
    }
    assert_eq!(count, 2000 * 24);
    assert!(worst <= 50, "200 at once in fours: {worst} ms");
    // A day of 2,000 databases, without optimisation; a cost that grew with their number would be far above.
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}
