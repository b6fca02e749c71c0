use jiff::civil::date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::*;

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn candidate(time: Timestamp) -> Candidate {
    let id = format!("{}-{:04x}", time.strftime("%Y%m%d-%H%M%SZ"), 7);
    Candidate { id: id.parse().unwrap(), time, pinned: false, verified: false }
}

/// One backup every `step` seconds, the oldest first.
fn series(count: i64, step: i64) -> Vec<Candidate> {
    let end = at("2026-11-20T12:30:00Z");
    (0..count).rev().map(|i| candidate(end - SignedDuration::from_secs(i * step))).collect()
}

fn utc(candidates: &[Candidate], keep: &Keep) -> Vec<Decision> {
    decide(candidates, keep, &TimeZone::UTC, false).unwrap()
}

/// The positions, counted from the newest, of the backups that stay for this reason.
fn kept_for(decisions: &[Decision], reason: Reason) -> Vec<usize> {
    let newest_first = decisions.iter().rev().enumerate();
    newest_first.filter(|(_, d)| d.reasons.contains(&reason)).map(|(age, _)| age).collect()
}

#[test]
fn nothing_to_decide() {
    assert_eq!(utc(&[], &Keep { last: Some(3), daily: Some(1), ..Keep::default() }), []);
}

#[test]
fn without_a_rule_all_stay() {
    let decisions = utc(&series(5, DAY), &Keep::default());
    assert_eq!(kept_for(&decisions, Reason::NoRule), [0, 1, 2, 3, 4]);
    assert_eq!(kept_for(&decisions, Reason::Newest), [0]);
}

#[test]
fn a_rule_of_zero_is_none() {
    let zero = Keep {
        last: Some(0),
        within: Some(SignedDuration::ZERO),
        hourly: Some(0),
        daily: Some(0),
        weekly: Some(0),
        monthly: Some(0),
        yearly: Some(0),
    };
    assert!(!zero.has_rules());
    assert_eq!(kept_for(&utc(&series(4, 60 * DAY), &zero), Reason::NoRule), [0, 1, 2, 3]);
}

#[test]
fn answers_in_the_order_of_times() {
    let mut candidates = series(6, DAY);
    let expected: Vec<_> = candidates.iter().map(|c| c.id.clone()).collect();
    candidates.reverse();
    candidates.swap(1, 4);
    let answered: Vec<_> = utc(&candidates, &Keep::default()).into_iter().map(|d| d.id).collect();
    assert_eq!(answered, expected);
}

#[test]
fn last_counts_backups() {
    let decisions = utc(&series(10, HOUR), &Keep { last: Some(3), ..Keep::default() });
    assert_eq!(kept_for(&decisions, Reason::Last), [0, 1, 2]);
    assert!(decisions[0].reasons.is_empty());
    let all = utc(&series(2, HOUR), &Keep { last: Some(u32::MAX), ..Keep::default() });
    assert_eq!(kept_for(&all, Reason::Last), [0, 1]);
}

#[test]
fn within_counts_back_from_the_newest_and_includes_its_edge() {
    let keep = Keep { within: Some(SignedDuration::from_hours(48)), ..Keep::default() };
    assert_eq!(kept_for(&utc(&series(10, DAY), &keep), Reason::Within), [0, 1, 2]);
}

#[test]
fn each_period_keeps_its_newest() {
    // Every six hours, the newest at 12:30: the newest of the days before are those of 18:30.
    let decisions = utc(&series(40, 6 * HOUR), &Keep { daily: Some(3), hourly: Some(2), ..Keep::default() });
    assert_eq!(kept_for(&decisions, Reason::Daily), [0, 3, 7]);
    assert_eq!(kept_for(&decisions, Reason::Hourly), [0, 1]);
}

#[test]
fn weeks_begin_on_monday_and_cross_the_year() {
    // 2026-12-31 is a Thursday of ISO week 53, which ends on Sunday, 2027-01-03.
    let days = |from: i8, to: i8| from..=to;
    let december = days(24, 31).map(|d| date(2026, 12, d));
    let january = days(1, 5).map(|d| date(2027, 1, d));
    let candidates: Vec<_> = december
        .chain(january)
        .map(|d| candidate(d.at(10, 0, 0, 0).to_zoned(TimeZone::UTC).unwrap().timestamp()))
        .collect();
    let decisions = utc(&candidates, &Keep { weekly: Some(9), ..Keep::default() });
    let kept: Vec<_> = decisions.iter().filter(|d| !d.reasons.is_empty()).map(|d| d.id.to_string()).collect();
    assert_eq!(kept, ["20261227-100000Z-0007", "20270103-100000Z-0007", "20270105-100000Z-0007"]);
}

#[test]
fn months_and_years_skip_those_without_a_backup() {
    let times = ["2023-05-01T00:00:00Z", "2025-02-01T00:00:00Z", "2025-12-20T00:00:00Z", "2026-01-10T00:00:00Z"];
    let candidates: Vec<_> = times.iter().map(|t| candidate(at(t))).collect();
    let decisions = utc(&candidates, &Keep { monthly: Some(3), yearly: Some(3), ..Keep::default() });
    assert_eq!(kept_for(&decisions, Reason::Monthly), [0, 1, 2]);
    assert_eq!(kept_for(&decisions, Reason::Yearly), [0, 1, 3]);
}

#[test]
fn days_are_those_of_the_zone() {
    let candidates: Vec<_> =
        ["2026-06-01T21:30:00Z", "2026-06-01T22:30:00Z"].iter().map(|t| candidate(at(t))).collect();
    let keep = Keep { daily: Some(2), ..Keep::default() };
    assert_eq!(kept_for(&utc(&candidates, &keep), Reason::Daily), [0]);
    let zone = TimeZone::fixed(jiff::tz::offset(2));
    let decisions = decide(&candidates, &keep, &zone, false).unwrap();
    assert_eq!(kept_for(&decisions, Reason::Daily), [0, 1]);
}

#[test]
fn the_hour_that_comes_twice_is_two_hours() {
    // Central European summer time ends on 2026-10-25 at 01:00 UTC, when 03:00 becomes 02:00 again.
    let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
    let candidates: Vec<_> =
        ["2026-10-25T00:10:00Z", "2026-10-25T01:10:00Z"].iter().map(|t| candidate(at(t))).collect();
    let decisions = decide(&candidates, &Keep { hourly: Some(5), ..Keep::default() }, &zone, false).unwrap();
    assert_eq!(kept_for(&decisions, Reason::Hourly), [0, 1]);
}

#[test]
fn pinned_and_the_newest_verified_stay() {
    let mut candidates = series(6, DAY);
    candidates[0].pinned = true;
    candidates[1].verified = true;
    candidates[2].verified = true;
    let decisions = utc(&candidates, &Keep { last: Some(1), ..Keep::default() });
    let reasons: Vec<_> = decisions.into_iter().map(|d| d.reasons).collect();
    let expected: [&[Reason]; 6] =
        [&[Reason::Pinned], &[], &[Reason::NewestVerified], &[], &[], &[Reason::Newest, Reason::Last]];
    assert_eq!(reasons, expected);
}

#[test]
fn a_newest_backup_far_ahead_stops_rules_of_time_only() {
    let mut candidates = series(3, DAY);
    let jump = candidates[2].time + SignedDuration::from_secs(40 * DAY);
    candidates.push(candidate(jump));
    let time_rules = [
        Keep { within: Some(SignedDuration::from_hours(1)), ..Keep::default() },
        Keep { hourly: Some(1), ..Keep::default() },
        Keep { daily: Some(1), ..Keep::default() },
        Keep { weekly: Some(1), ..Keep::default() },
        Keep { monthly: Some(1), last: Some(5), ..Keep::default() },
        Keep { yearly: Some(1), ..Keep::default() },
    ];
    for keep in time_rules {
        let doubt = RetentionError::ClockInDoubt { newest: candidates[3].id.clone(), days: 40 };
        assert_eq!(decide(&candidates, &keep, &TimeZone::UTC, false), Err(doubt), "{keep:?}");
        assert!(decide(&candidates, &keep, &TimeZone::UTC, true).is_ok(), "{keep:?}");
    }
    assert!(decide(&candidates, &Keep { last: Some(1), ..Keep::default() }, &TimeZone::UTC, false).is_ok());
    assert!(decide(&candidates, &Keep::default(), &TimeZone::UTC, false).is_ok());
}

#[test]
fn thirty_one_days_are_believed() {
    let keep = Keep { daily: Some(1), ..Keep::default() };
    assert!(decide(&series(2, 31 * DAY), &keep, &TimeZone::UTC, false).is_ok());
    assert!(decide(&series(2, 31 * DAY + 1), &keep, &TimeZone::UTC, false).is_err());
    assert!(decide(&series(1, DAY), &keep, &TimeZone::UTC, false).is_ok());
}

fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
    let one = (0..4 * 365 * DAY, any::<u16>(), prop::bool::weighted(0.1), prop::bool::weighted(0.3));
    prop::collection::vec(one, 0..60).prop_map(|rows| {
        let begin = at("2023-01-01T00:00:00Z");
        let mut candidates: Vec<Candidate> = rows
            .into_iter()
            .map(|(seconds, random, pinned, verified)| {
                let time = begin + SignedDuration::from_secs(seconds);
                let id = format!("{}-{random:04x}", time.strftime("%Y%m%d-%H%M%SZ"));
                Candidate { id: id.parse().unwrap(), time, pinned, verified }
            })
            .collect();
        candidates.sort_by(|a, b| a.id.cmp(&b.id));
        candidates.dedup_by(|a, b| a.id == b.id);
        candidates
    })
}

fn rules() -> impl Strategy<Value = Keep> {
    let count = || prop::option::weighted(0.4, 0_u32..12);
    let within = prop::option::weighted(0.3, (0..400 * DAY).prop_map(SignedDuration::from_secs));
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

/// Both sets of rules together, the more generous count of each.
fn union(a: &Keep, b: &Keep) -> Keep {
    Keep {
        last: a.last.max(b.last),
        within: a.within.max(b.within),
        hourly: a.hourly.max(b.hourly),
        daily: a.daily.max(b.daily),
        weekly: a.weekly.max(b.weekly),
        monthly: a.monthly.max(b.monthly),
        yearly: a.yearly.max(b.yearly),
    }
}

fn trusting(candidates: &[Candidate], keep: &Keep) -> Vec<Decision> {
    decide(candidates, keep, &TimeZone::UTC, true).unwrap()
}

proptest! {
    #[test]
    fn what_must_stay_stays(candidates in candidates(), keep in rules()) {
        let decisions = trusting(&candidates, &keep);
        prop_assert_eq!(decisions.len(), candidates.len());
        let newest_verified = candidates.iter().rposition(|c| c.verified);
        for (position, (candidate, decision)) in candidates.iter().zip(&decisions).enumerate() {
            prop_assert_eq!(&candidate.id, &decision.id);
            let kept = !decision.reasons.is_empty();
            prop_assert!(kept || position + 1 != candidates.len(), "the newest went");
            prop_assert!(kept || !candidate.pinned, "a pinned one went");
            prop_assert!(kept || newest_verified != Some(position), "the newest verified went");
            prop_assert!(kept || keep.has_rules(), "one went without a rule");
        }
    }

    #[test]
    fn more_rules_never_drop_more(candidates in candidates(), a in rules(), b in rules()) {
        prop_assume!(a.has_rules());
        let (few, more) = (trusting(&candidates, &a), trusting(&candidates, &union(&a, &b)));
        for (few, more) in few.iter().zip(&more) {
            prop_assert!(few.reasons.iter().all(|reason| more.reasons.contains(reason)), "{few:?} {more:?}");
        }
    }

    #[test]
    fn each_rule_keeps_no_more_than_it_says(candidates in candidates(), keep in rules()) {
        let decisions = trusting(&candidates, &keep);
        let counts = [
            (Reason::Last, keep.last), (Reason::Hourly, keep.hourly), (Reason::Daily, keep.daily),
            (Reason::Weekly, keep.weekly), (Reason::Monthly, keep.monthly), (Reason::Yearly, keep.yearly),
        ];
        for (reason, count) in counts {
            let kept = kept_for(&decisions, reason).len();
            prop_assert!(kept <= count.unwrap_or(0) as usize, "{reason:?} kept {kept} of {count:?}");
        }
    }

    #[test]
    fn pruning_again_drops_nothing(candidates in candidates(), keep in rules()) {
        let first = trusting(&candidates, &keep);
        let stays = |c: &&Candidate| first.iter().any(|d| d.id == c.id && !d.reasons.is_empty());
        let left: Vec<_> = candidates.iter().filter(stays).cloned().collect();
        prop_assert!(trusting(&left, &keep).iter().all(|d| !d.reasons.is_empty()));
    }
}
