use std::collections::BTreeMap;

use jiff::SignedDuration;
use proptest::prelude::*;

use super::*;
use crate::Reason;
use crate::retention::decide;

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

fn begin() -> Timestamp {
    "2026-01-05T00:30:00Z".parse().unwrap()
}

fn at(seconds: i64) -> Timestamp {
    begin() + SignedDuration::from_secs(seconds)
}

fn candidate(time: Timestamp, pinned: bool, verified: bool) -> Candidate {
    Candidate { id: BackupId::new(time), time, pinned, verified }
}

/// Every `step` seconds, the last now.
fn past(count: i64, step: i64) -> Vec<Candidate> {
    (0..count).rev().map(|n| candidate(at(-n * step), false, false)).collect()
}

fn schedule(count: i64, step: i64) -> Vec<Timestamp> {
    (1..=count).map(|n| at(n * step)).collect()
}

fn told(candidates: &[Candidate], keep: &Keep, backups: &[Timestamp], drills: &[Timestamp]) -> Vec<KeptUntil> {
    let expected = Expected { backups, drills };
    kept_until(candidates, keep, &TimeZone::UTC, expected).into_iter().map(|(_, until)| until).collect()
}

/// The days from now on at which they go.
fn days(untils: &[KeptUntil]) -> Vec<Option<i64>> {
    let day = |until: &KeptUntil| match until {
        KeptUntil::Until(time) => Some(time.duration_since(begin()).as_secs() / DAY),
        _ => None,
    };
    untils.iter().map(day).collect()
}

#[test]
fn counts_and_durations_end_with_the_backups_that_follow() {
    let daily = schedule(30, DAY);
    let last = Keep { last: Some(3), ..Keep::default() };
    assert_eq!(days(&told(&past(4, DAY), &last, &daily, &[])), [Some(1), Some(1), Some(2), Some(3)]);
    let within = Keep { within: Some(SignedDuration::from_hours(72)), ..Keep::default() };
    assert_eq!(days(&told(&past(2, DAY), &within, &daily, &[])), [Some(3), Some(4)]);
}

#[test]
fn a_weekly_one_outlives_the_daily_ones() {
    // 2026-01-05 is a Monday: the backup of the Sunday before is the newest of its week.
    let keep = Keep { daily: Some(2), weekly: Some(2), ..Keep::default() };
    let untils = told(&past(3, DAY), &keep, &schedule(60, DAY), &[]);
    assert_eq!(days(&untils), [Some(1), Some(7), Some(2)]);
}

#[test]
fn nothing_ends_that_has_no_end_in_sight() {
    let keep = Keep { last: Some(1), ..Keep::default() };
    let mut some = past(3, DAY);
    some[0].pinned = true;
    some[1].verified = true;
    let untils = told(&some, &keep, &schedule(5, DAY), &[]);
    assert_eq!(untils, [KeptUntil::ForEver, KeptUntil::Unknown, KeptUntil::Until(at(DAY))]);
    assert_eq!(told(&some, &Keep::default(), &schedule(5, DAY), &[]), [KeptUntil::ForEver; 3]);
    assert_eq!(told(&past(1, DAY), &keep, &[], &[]), [KeptUntil::Unknown]);
    assert_eq!(told(&[], &keep, &schedule(5, DAY), &[]), []);
    // The drill verifies the second of the future backups.
    let untils = told(&some, &keep, &schedule(5, DAY), &[at(2 * DAY + HOUR)]);
    assert_eq!(days(&untils), [None, Some(3), Some(1)]);
}

#[test]
fn a_schedule_so_rare_that_clocks_are_doubted_drops_nothing() {
    let keep = Keep { monthly: Some(1), ..Keep::default() };
    assert_eq!(told(&past(2, DAY), &keep, &schedule(9, 40 * DAY), &[]), [KeptUntil::Unknown; 2]);
    let keep = Keep { last: Some(1), ..Keep::default() };
    assert_eq!(told(&past(2, DAY), &keep, &schedule(9, 40 * DAY), &[]), [KeptUntil::Until(at(40 * DAY)); 2]);
}

/// What the retention really does, backup by backup.
fn simulated(
    candidates: &[Candidate],
    keep: &Keep,
    zone: &TimeZone,
    expected: Expected<'_>,
) -> BTreeMap<BackupId, KeptUntil> {
    let mut there: Vec<Candidate> = candidates.to_vec();
    let mut until: BTreeMap<_, _> = candidates.iter().map(|c| (c.id.clone(), KeptUntil::Unknown)).collect();
    let mut events: Vec<(Timestamp, bool)> = expected.backups.iter().map(|time| (*time, false)).collect();
    events.extend(expected.drills.iter().map(|time| (*time, true)));
    events.sort();
    for (time, is_drill) in events {
        if is_drill {
            if let Some(newest) = there.iter_mut().max_by_key(|candidate| candidate.time) {
                newest.verified = true;
            }
            continue;
        }
        there.push(candidate(time, false, false));
        let Ok(decisions) = decide(&there, keep, zone, false) else { continue };
        for decision in decisions {
            if decision.reasons.is_empty() {
                there.retain(|candidate| candidate.id != decision.id);
                until.entry(decision.id).and_modify(|until| *until = KeptUntil::Until(time));
            } else if decision.reasons.iter().any(|reason| [Reason::Pinned, Reason::NoRule].contains(reason)) {
                until.entry(decision.id).and_modify(|until| *until = KeptUntil::ForEver);
            }
        }
    }
    until
}

/// Times after one another, from minutes to weeks apart.
fn gaps(most: usize) -> impl Strategy<Value = Vec<i64>> {
    let gap = prop_oneof![60..2 * HOUR, HOUR..2 * DAY, DAY..20 * DAY, Just(34 * DAY)];
    prop::collection::vec(gap, 1..most)
}

fn rules() -> impl Strategy<Value = Keep> {
    let count = || prop::option::weighted(0.4, 0_u32..6);
    let within = prop::option::weighted(0.3, (0..30 * DAY).prop_map(SignedDuration::from_secs));
    (count(), within, count(), count(), count(), count(), count()).prop_map(
        |(last, within, hourly, daily, weekly, monthly, yearly)| Keep {
            last,
            within,
            hourly,
            daily,
            weekly,
            monthly,
            yearly,
        },
    )
}

proptest! {
    #[test]
    fn what_is_told_is_what_happens(
        back in gaps(20),
        marks in prop::collection::vec((prop::bool::weighted(0.1), prop::bool::weighted(0.2)), 20),
        ahead in gaps(40),
        drills in prop::collection::vec(1..60 * DAY, 0..5),
        keep in rules(),
        is_berlin in any::<bool>(),
    ) {
        let mut time = 0;
        let candidates: Vec<_> = back
            .iter()
            .zip(marks)
            .map(|(gap, (pinned, verified))| {
                time -= gap;
                candidate(at(time), pinned, verified)
            })
            .collect();
        let mut time = 0;
        let backups: Vec<_> = ahead
            .iter()
            .map(|gap| {
                time += gap;
                at(time)
            })
            .collect();
        let mut drills: Vec<_> = drills.into_iter().map(at).collect();
        drills.sort();
        let zone = if is_berlin { TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap() } else { TimeZone::UTC };
        let expected = Expected { backups: &backups, drills: &drills };
        let told: BTreeMap<_, _> = kept_until(&candidates, &keep, &zone, expected).into_iter().collect();
        let mut happens = simulated(&candidates, &keep, &zone, expected);
        // Whether it is for ever does not depend on whether a prune refuses.
        for candidate in candidates.iter().filter(|candidate| candidate.pinned || !keep.has_rules()) {
            happens.insert(candidate.id.clone(), KeptUntil::ForEver);
        }
        prop_assert_eq!(told, happens);
    }
}
