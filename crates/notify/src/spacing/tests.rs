//! Decisions over simulated hours.

use super::*;

const START: &str = "2026-11-20T00:00:00Z";

fn at(minutes: i64) -> Timestamp {
    START.parse::<Timestamp>().unwrap() + SignedDuration::from_mins(minutes)
}

fn notice(event: Event, failures: u32) -> Notice {
    let mut notice = Notice::new(event, "shop", "db1", at(0), "something");
    notice.consecutive_failures = failures;
    notice
}

fn decide(spacing: &mut Spacing, event: Event, failures: u32, minutes: i64) -> bool {
    spacing.decide(&notice(event, failures), at(minutes))
}

#[test]
fn repeats_are_spaced_out() {
    let mut spacing = Spacing::new(SpacingOptions::default());
    // A failure every five minutes for four days.
    let told: Vec<_> = (0..=4 * 24 * 12)
        .filter(|n| decide(&mut spacing, Event::Failure, *n as u32 + 1, n * 5))
        .map(|n| n * 5 / 60)
        .collect();
    assert_eq!(told, [0, 1, 5, 29, 53, 77]);
}

#[test]
fn the_base_is_configurable() {
    let mut spacing = Spacing::new(SpacingOptions { base: Duration::from_secs(60), ..SpacingOptions::default() });
    let told: Vec<_> = (0..60).filter(|n| decide(&mut spacing, Event::Stale, 0, *n)).collect();
    assert_eq!(told, [0, 1, 5, 29, 53]);
}

#[test]
fn the_third_failure_is_waited_for() {
    let mut spacing = Spacing::new(SpacingOptions { after: 3, ..SpacingOptions::default() });
    assert!(!decide(&mut spacing, Event::Failure, 1, 0));
    assert!(!decide(&mut spacing, Event::Failure, 2, 1));
    // Nobody was told, so nobody is told that it is over.
    assert!(!decide(&mut spacing, Event::Recovered, 0, 2));
    for n in 1..=2 {
        assert!(!decide(&mut spacing, Event::Failure, n, 3));
    }
    assert!(decide(&mut spacing, Event::Failure, 3, 4));
    assert!(!decide(&mut spacing, Event::Failure, 4, 5));
    assert!(decide(&mut spacing, Event::Recovered, 0, 6));
    assert!(!decide(&mut spacing, Event::Recovered, 0, 7));
}

#[test]
fn a_new_trouble_is_told_at_once() {
    let mut spacing = Spacing::new(SpacingOptions::default());
    assert!(decide(&mut spacing, Event::Failure, 1, 0));
    assert!(decide(&mut spacing, Event::Stale, 1, 1));
    assert!(decide(&mut spacing, Event::Damage, 0, 2));
    assert!(!decide(&mut spacing, Event::Success, 0, 3));
    assert!(decide(&mut spacing, Event::Failure, 1, 4));
    assert!(decide(&mut spacing, Event::Stale, 1, 5));
    // A backup repairs neither what was damaged nor a drill.
    assert!(!decide(&mut spacing, Event::Damage, 0, 6));
    spacing.over("shop", Event::Damage);
    assert!(decide(&mut spacing, Event::Damage, 0, 7));
}

#[test]
fn databases_do_not_share_their_spacing() {
    let mut spacing = Spacing::new(SpacingOptions::default());
    assert!(decide(&mut spacing, Event::Failure, 1, 0));
    let mut other = notice(Event::Failure, 1);
    other.database = "crm".to_owned();
    assert!(spacing.decide(&other, at(0)));
    spacing.retain(|database| database == "crm");
    assert!(!spacing.decide(&other, at(1)));
    assert!(decide(&mut spacing, Event::Failure, 2, 1));
}

#[test]
fn only_what_is_wanted_is_told_but_a_trial_always() {
    let mut spacing = Spacing::new(SpacingOptions { on: vec![Event::Success], ..SpacingOptions::default() });
    assert!(!decide(&mut spacing, Event::Failure, 1, 0));
    assert!(!decide(&mut spacing, Event::Start, 0, 0));
    assert!(decide(&mut spacing, Event::Success, 0, 1));
    assert!(decide(&mut spacing, Event::Success, 0, 2));
    // The first success after failures is one, too.
    assert!(decide(&mut spacing, Event::Recovered, 0, 3));
    assert!(decide(&mut spacing, Event::Test, 0, 3));
    let mut default = Spacing::new(SpacingOptions::default());
    assert!(!decide(&mut default, Event::Success, 0, 0));
    assert!(!decide(&mut default, Event::Start, 0, 0));
}

#[test]
fn a_healthcheck_hears_everything_each_time() {
    let channel = Channel::parse("healthcheck", &toml::Value::String("https://hc/x".to_owned())).unwrap();
    let mut spacing = Spacing::new(SpacingOptions::for_channel(&channel, &[Event::Failure], None));
    for minute in 0..3 {
        assert!(decide(&mut spacing, Event::Start, 0, minute));
        assert!(decide(&mut spacing, Event::Failure, 1, minute));
        assert!(decide(&mut spacing, Event::Success, 0, minute));
    }
    assert!(!decide(&mut spacing, Event::Stale, 0, 4), "not asked for");
}

#[test]
fn a_clock_put_back_neither_silences_nor_repeats() {
    let mut spacing = Spacing::new(SpacingOptions::default());
    assert!(decide(&mut spacing, Event::Failure, 1, 0));
    assert!(!decide(&mut spacing, Event::Failure, 2, -1_000_000));
    assert!(!decide(&mut spacing, Event::Failure, 3, -1_000_000 + 59));
    assert!(decide(&mut spacing, Event::Failure, 4, -1_000_000 + 60));
}

#[test]
fn what_was_told_outlives_a_restart() {
    let mut spacing = Spacing::new(SpacingOptions::default());
    assert!(decide(&mut spacing, Event::Failure, 1, 0));
    let kept = serde_json::to_string(spacing.told()).unwrap();
    let mut spacing = Spacing::with_told(SpacingOptions::default(), serde_json::from_str(&kept).unwrap());
    assert!(!decide(&mut spacing, Event::Failure, 2, 59));
    assert!(decide(&mut spacing, Event::Recovered, 0, 60));
    assert_eq!(spacing.told(), &Told::default());
}

#[test]
fn what_is_taken_back_is_told_again() {
    let mut spacing = Spacing::new(SpacingOptions::default());
    assert!(!spacing.is_in_trouble("shop"));
    assert!(decide(&mut spacing, Event::Failure, 1, 0) && decide(&mut spacing, Event::Damage, 0, 0));
    assert!(spacing.is_in_trouble("shop"));
    let mut told = spacing.told().clone();
    told.forget("shop", Event::Failure);
    told.forget("other", Event::Failure);
    let mut spacing = Spacing::with_told(SpacingOptions::default(), told);
    assert!(!spacing.is_in_trouble("shop"), "damage is no trouble that a backup ends");
    assert!(decide(&mut spacing, Event::Failure, 2, 1) && !decide(&mut spacing, Event::Damage, 0, 1));
}
