//! Years, minute by minute: a slow count by the words of the rule, which shares nothing with the search.

use std::ops::Range;

use jiff::SignedDuration;
use jiff::civil::DateTime;

use super::*;

struct Local {
    minute: i8,
    hour: i8,
    day: i8,
    month: i8,
    /// 0 is Sunday.
    weekday: i8,
}

struct Rules {
    text: &'static str,
    matches: fn(&Local) -> bool,
    /// Hours are named: what a gap swallows runs once behind it.
    named: bool,
    /// Minutes or hours are written with `*`: repeated minutes run twice.
    each_pass: bool,
}

const fn star(text: &'static str, matches: fn(&Local) -> bool) -> Rules {
    Rules { text, matches, named: false, each_pass: true }
}

const fn fixed(text: &'static str, matches: fn(&Local) -> bool) -> Rules {
    Rules { text, matches, named: true, each_pass: false }
}

const SCHEDULES: [Rules; 24] = [
    star("*/5 * * * *", |t| t.minute % 5 == 0),
    star("@hourly", |t| t.minute == 0),
    star("17 * * * *", |t| t.minute == 17),
    star("45 */2 * * *", |t| t.minute == 45 && t.hour % 2 == 0),
    star("7-59/13 */5 1-10 * *", |t| t.minute % 13 == 7 && t.hour % 5 == 0 && t.day <= 10),
    star("0 */6 * * 0,6", |t| t.minute == 0 && t.hour % 6 == 0 && [0, 6].contains(&t.weekday)),
    Rules { text: "*/20 2 * * *", matches: |t| t.minute % 20 == 0 && t.hour == 2, named: true, each_pass: true },
    Rules {
        text: "*/15 23,0 * * *",
        matches: |t| t.minute % 15 == 0 && [0, 23].contains(&t.hour),
        named: true,
        each_pass: true,
    },
    fixed("@daily", |t| t.minute == 0 && t.hour == 0),
    fixed("30 0 * * *", |t| t.minute == 30 && t.hour == 0),
    fixed("30 2 * * *", |t| t.minute == 30 && t.hour == 2),
    fixed("15 2,3 * * *", |t| t.minute == 15 && [2, 3].contains(&t.hour)),
    fixed("0,15,30,45 1-3 * * *", |t| t.minute % 15 == 0 && (1..=3).contains(&t.hour)),
    fixed("0 0-23/3 * * *", |t| t.minute == 0 && t.hour % 3 == 0),
    fixed("0 3 1,15 * *", |t| t.minute == 0 && t.hour == 3 && [1, 15].contains(&t.day)),
    fixed("0 3 * * Mon-Fri", |t| t.minute == 0 && t.hour == 3 && (1..=5).contains(&t.weekday)),
    fixed("0 0 13 * fri", |t| t.minute == 0 && t.hour == 0 && (t.day == 13 || t.weekday == 5)),
    fixed("0 0 */2 * 1", |t| t.minute == 0 && t.hour == 0 && t.day % 2 == 1 && t.weekday == 1),
    fixed("0 0 10-20 * */3", |t| t.minute == 0 && t.hour == 0 && (10..=20).contains(&t.day) && t.weekday % 3 == 0),
    fixed("30 1 * 3,oct sat-sun", |t| {
        t.minute == 30 && t.hour == 1 && [3, 10].contains(&t.month) && [0, 6].contains(&t.weekday)
    }),
    fixed("59 23 31 * *", |t| t.minute == 59 && t.hour == 23 && t.day == 31),
    fixed("0 12 29 FEB *", |t| t.minute == 0 && t.hour == 12 && t.day == 29 && t.month == 2),
    fixed("@yearly", |t| t.minute == 0 && t.hour == 0 && t.day == 1 && t.month == 1),
    fixed("10-50/20 23,0 * * 7", |t| [10, 30, 50].contains(&t.minute) && [23, 0].contains(&t.hour) && t.weekday == 0),
];

/// A real minute.
struct Minute {
    at: i64,
    local: Local,
    /// Its local time has been before.
    repeated: bool,
    /// Local minutes that do not exist, right before it.
    skipped: Vec<Local>,
}

fn local(time: DateTime) -> Local {
    let weekday = time.weekday().to_sunday_zero_offset();
    Local { minute: time.minute(), hour: time.hour(), day: time.day(), month: time.month(), weekday }
}

fn minutes(zone: &TimeZone, span: Range<Timestamp>) -> Vec<Minute> {
    let minute = SignedDuration::from_mins(1);
    let mut latest = zone.to_datetime(span.start - minute);
    let mut before = latest;
    let mut found = Vec::new();
    for at in (span.start.as_second()..span.end.as_second()).step_by(60) {
        let now = zone.to_datetime(Timestamp::from_second(at).unwrap());
        let mut skipped = Vec::new();
        let mut expected = before + minute;
        while expected < now {
            skipped.push(local(expected));
            expected += minute;
        }
        found.push(Minute { at, local: local(now), repeated: now <= latest, skipped });
        (before, latest) = (now, latest.max(now));
    }
    found
}

fn expected(rules: &Rules, minutes: &[Minute]) -> Vec<i64> {
    let due = |minute: &&Minute| {
        let regular = (rules.matches)(&minute.local) && (rules.each_pass || !minute.repeated);
        regular || rules.named && minute.skipped.iter().any(|local| (rules.matches)(local))
    };
    minutes.iter().filter(due).map(|minute| minute.at).collect()
}

fn compare(zone_name: &str, start: &str, end: &str, changes: usize) {
    let (zone, span) = (zone(zone_name), at(start)..at(end));
    let minutes = minutes(&zone, span.clone());
    let edges = minutes.windows(2).filter(|pair| !pair[1].skipped.is_empty() || pair[1].repeated && !pair[0].repeated);
    assert_eq!(edges.count(), changes, "{zone_name} changes its clocks");
    for rules in &SCHEDULES {
        let schedule = schedule(rules.text);
        let expected = expected(rules, &minutes);
        let mut found = Vec::with_capacity(expected.len());
        let mut time = span.start - SignedDuration::from_nanos(1);
        loop {
            time = schedule.next_after(time, &zone).unwrap();
            if time >= span.end {
                break;
            }
            assert_eq!(time.subsec_nanosecond(), 0);
            found.push(time.as_second());
        }
        let differs = expected.iter().zip(&found).find(|(a, b)| a != b);
        assert!(expected == found, "{} in {zone_name}: {differs:?}", rules.text);
        // The answer does not depend on where the search began.
        for n in 0..500 {
            let second = span.start.as_second() + n * 7_654_321 % (span.end.as_second() - span.start.as_second());
            let next = expected.get(expected.partition_point(|at| *at <= second));
            let Some(next) = next else { continue };
            let asked = Timestamp::from_second(second).unwrap();
            assert_eq!(schedule.next_after(asked, &zone).unwrap().as_second(), *next, "{} after {asked}", rules.text);
        }
    }
}

#[test]
fn europe_berlin() {
    compare("Europe/Berlin", "2024-01-01T00:00Z", "2026-01-01T00:00Z", 4);
}

#[test]
fn america_new_york() {
    compare("America/New_York", "2026-01-01T00:00Z", "2028-04-01T00:00Z", 5);
}

#[test]
fn australia_lord_howe() {
    compare("Australia/Lord_Howe", "2024-01-01T00:00Z", "2026-01-01T00:00Z", 4);
}

#[test]
fn america_sao_paulo_while_it_had_summer_time() {
    compare("America/Sao_Paulo", "2016-06-01T00:00Z", "2019-06-01T00:00Z", 6);
}

#[test]
fn pacific_apia_when_it_crossed_the_date_line() {
    compare("Pacific/Apia", "2011-08-01T00:00Z", "2012-06-01T00:00Z", 3);
}

#[test]
fn asia_kolkata() {
    compare("Asia/Kolkata", "2024-01-01T00:00Z", "2025-06-01T00:00Z", 0);
}

#[test]
fn utc() {
    compare("UTC", "2024-01-01T00:00Z", "2025-06-01T00:00Z", 0);
}
