mod daylight;
mod oracle;

use super::*;

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn schedule(text: &str) -> Schedule {
    Schedule::parse(text).unwrap()
}

fn after(text: &str, time: &str) -> String {
    schedule(text).next_after(at(time), &TimeZone::UTC).unwrap().to_string()
}

#[test]
fn mistakes_are_named() {
    for (text, problem) in [
        ("", "\"\" is no schedule"),
        ("* * * *", "\"* * * *\" is no schedule"),
        ("0 0 * * * *", "\"0 0 * * * *\" is no schedule"),
        ("@dayly", "\"@dayly\" is no known schedule"),
        ("@reboot", "\"@reboot\" is no known schedule"),
        ("every 0s", "\"every 0s\" would never rest"),
        ("every 200y", "\"every 200y\" is longer than a century"),
        ("60 * * * *", "\"60\" is no minute"),
        ("+5 * * * *", "\"+5\" is no minute"),
        ("1,,2 * * * *", "\"\" is no minute"),
        ("mon * * * *", "\"mon\" is no minute"),
        ("0 24 * * *", "\"24\" is no hour"),
        ("0 0 0 * *", "\"0\" is no day of the month"),
        ("0 0 L * *", "\"L\" is no day of the month"),
        ("0 0 * 13 *", "\"13\" is no month"),
        ("0 0 * jam *", "\"jam\" is no month"),
        ("0 0 * * 8", "\"8\" is no day of the week"),
        ("0 0 * * 5#2", "\"5#2\" is no day of the week"),
        ("*/0 * * * *", "\"*/0\" has no step from 1 to 60"),
        ("*/90 * * * *", "\"*/90\" has no step from 1 to 60"),
        ("0 */25 * * *", "\"*/25\" has no step from 1 to 24"),
        ("*/ * * * *", "\"*/\" has no step from 1 to 60"),
        ("5/15 * * * *", "\"5/15\" steps from one minute to nowhere"),
        ("0 22-2 * * *", "\"22-2\" ends before it begins"),
        ("0 0 30 2 *", "\"0 0 30 2 *\" names a day that never comes"),
        ("0 0 31 apr,jun,sep,nov *", "\"0 0 31 apr,jun,sep,nov *\" names a day that never comes"),
        ("0 0 30,31 feb */2", "\"0 0 30,31 feb */2\" names a day that never comes"),
    ] {
        assert_eq!(Schedule::parse(text).unwrap_err(), problem, "{text:?}");
    }
    assert!(Schedule::parse("every day").is_err());
    assert!(Schedule::parse("every").is_err());
}

#[test]
fn a_schedule_is_kept_as_written() {
    let written = schedule(" 0 3 * * MON ");
    assert_eq!(written.as_str(), "0 3 * * MON");
    assert_eq!(written.to_string(), "0 3 * * MON");
    assert_eq!(format!("{written:?}"), "Schedule(\"0 3 * * MON\")");
}

#[test]
fn rare_days_come() {
    for (text, time, next) in [
        ("0 0 29 2 *", "2024-02-29T00:00:00Z", "2028-02-29T00:00:00Z"),
        ("0 0 29 2 *", "2096-03-01T00:00:00Z", "2104-02-29T00:00:00Z"),
        // Both fields of days restricted: Mondays of February, too.
        ("0 0 30 2 1", "2024-03-01T00:00:00Z", "2025-02-03T00:00:00Z"),
        // One of them with `*`: both must match.
        ("0 0 */28 2 1", "2024-03-01T00:00:00Z", "2027-02-01T00:00:00Z"),
        ("0 0 29 2 */6", "2024-03-01T00:00:00Z", "2032-02-29T00:00:00Z"),
        ("0 0 31 12 *", "2024-12-31T00:00:00Z", "2025-12-31T00:00:00Z"),
        ("0 0 1 * fri-sun", "2026-11-21T00:00:00Z", "2026-11-22T00:00:00Z"),
        ("0 0 * * 5-7", "2026-11-22T00:00:00Z", "2026-11-27T00:00:00Z"),
        ("@weekly", "2026-11-21T00:00:00Z", "2026-11-22T00:00:00Z"),
        ("@monthly", "2026-11-21T00:00:00Z", "2026-12-01T00:00:00Z"),
        ("@annually", "2026-11-21T00:00:00Z", "2027-01-01T00:00:00Z"),
        ("@midnight", "2026-11-21T00:00:00.000000001Z", "2026-11-22T00:00:00Z"),
        ("@hourly", "2026-11-20T23:59:59.999999999Z", "2026-11-21T00:00:00Z"),
    ] {
        assert_eq!(after(text, time), next, "{text} after {time}");
    }
    assert_eq!(schedule("@daily").next_after(Timestamp::MAX, &TimeZone::UTC), None);
    assert_eq!(schedule("every 1h").next_after(Timestamp::MAX, &TimeZone::UTC), None);
}

#[test]
fn intervals_count_from_the_epoch() {
    for (text, time, next) in [
        ("every 5m", "2026-11-21T13:30:00Z", "2026-11-21T13:35:00Z"),
        ("every 5m", "2026-11-21T13:34:59.9Z", "2026-11-21T13:35:00Z"),
        ("every 1d", "2026-11-21T13:30:00Z", "2026-11-22T00:00:00Z"),
        ("every 7s", "1970-01-01T00:00:08Z", "1970-01-01T00:00:14Z"),
        ("every 7s", "1969-12-31T23:59:59.5Z", "1970-01-01T00:00:00Z"),
        ("every 7s", "1969-12-31T23:59:52.5Z", "1969-12-31T23:59:53Z"),
        ("every 1h30m", "1970-01-01T00:00:00Z", "1970-01-01T01:30:00Z"),
    ] {
        assert_eq!(after(text, time), next, "{text} after {time}");
    }
    // Across a change of the clocks in real time.
    let (hourly, berlin) = (schedule("every 1h"), zone("Europe/Berlin"));
    let mut time = at("2024-10-26T20:00:00Z");
    for _ in 0..12 {
        let next = hourly.next_after(time, &berlin).unwrap();
        assert_eq!(next.duration_since(time).as_secs(), 3600);
        time = next;
    }
}

#[test]
fn jitter_stays_in_its_bound_and_in_order() {
    let berlin = zone("Europe/Berlin");
    for (text, minutes) in [("*/5 * * * *", 3), ("*/5 * * * *", 60), ("30 1-3 * * *", 600), ("every 7m", 20)] {
        let (schedule, jitter) = (schedule(text), Duration::from_secs(minutes * 60));
        let mut delays = std::collections::BTreeSet::new();
        let (mut time, mut before) = (at("2024-10-25T00:00:00Z"), Timestamp::MIN);
        for _ in 0..2000 {
            time = schedule.next_after(time, &berlin).unwrap();
            let start = schedule.spread("shop", time, &berlin, jitter);
            assert_eq!(schedule.spread("shop", time, &berlin, jitter), start);
            assert!(start >= time && start > before, "{text}: {start} after {before}");
            assert!(start < time + jitter);
            assert!(start < schedule.next_after(time, &berlin).unwrap());
            delays.insert(start.duration_since(time));
            before = start;
        }
        assert!(delays.len() > 1900, "{text}: only {} delays", delays.len());
    }
}

#[test]
fn jitter_spreads_databases_and_never_changes() {
    let (daily, midnight) = (schedule("@daily"), at("2026-11-21T00:00:00Z"));
    let delay = |name: &str| {
        daily.spread(name, midnight, &TimeZone::UTC, Duration::from_secs(3600)).duration_since(midnight).as_millis()
    };
    let mut quarters = [0; 4];
    for n in 0..1000 {
        quarters[usize::try_from(delay(&format!("db{n}")) / 900_000).unwrap()] += 1;
    }
    assert!(quarters.iter().all(|count| (200..300).contains(count)), "{quarters:?}");
    // A restart by a later version must not shift anything.
    assert_eq!((delay("shop"), delay("analytics")), (3_096_365, 1_929_614));
    assert_eq!(daily.spread("shop", midnight, &TimeZone::UTC, Duration::ZERO), midnight);
}

#[test]
fn going_on_after_a_clock_was_set_back_passes_over_one_occurrence_at_most() {
    for (text, now, done, next) in [
        ("@daily", "2026-11-21T12:00:00Z", "2026-11-21T00:00:00Z", "2026-11-22T00:00:00Z"),
        ("@daily", "2026-11-20T23:30:00Z", "2026-11-21T00:00:00Z", "2026-11-22T00:00:00Z"),
        ("@daily", "2026-11-20T23:30:00Z", "2026-11-21T05:00:00Z", "2026-11-22T00:00:00Z"),
        ("@daily", "2026-11-18T23:30:00Z", "2026-11-21T00:00:00Z", "2026-11-19T00:00:00Z"),
        ("@daily", "2025-11-20T23:30:00Z", "2026-11-21T00:00:00Z", "2025-11-21T00:00:00Z"),
        ("*/5 * * * *", "2026-11-21T00:00:00Z", "2026-11-21T00:05:00Z", "2026-11-21T00:10:00Z"),
        ("*/5 * * * *", "2026-11-21T00:00:00Z", "2026-11-21T00:10:00Z", "2026-11-21T00:05:00Z"),
    ] {
        let resumed = schedule(text).resume(at(now), at(done), &TimeZone::UTC).unwrap();
        assert_eq!(resumed, at(next), "{text} at {now} after {done}");
    }
}
