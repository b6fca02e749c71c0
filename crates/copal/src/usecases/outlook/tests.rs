use copal_core::Keep;
use jiff::SignedDuration;

use super::*;
use crate::Settings;

fn copal(settings: DatabaseSettings) -> Copal {
    let timezone = TimeZone::UTC;
    Copal::new(Settings { databases: [("shop".to_owned(), settings)].into(), timezone, ..Settings::new("/repository") })
}

fn settings() -> DatabaseSettings {
    DatabaseSettings {
        url: "sqlite:/shop.db".into(),
        schedule: Some("@daily".into()),
        keep: Keep { last: Some(2), ..Keep::default() },
        ..DatabaseSettings::default()
    }
}

/// One a day until the 20th of November.
fn backups(count: i64) -> Vec<BackupSummary> {
    let newest: Timestamp = "2026-11-20T00:00:00Z".parse().unwrap();
    let backup = |age: i64| {
        let time = newest - SignedDuration::from_hours(24 * age);
        BackupSummary {
            database: "shop".parse().unwrap(),
            id: BackupId::new(time),
            time,
            engine: "sqlite".into(),
            label: None,
            pinned: false,
            verified: false,
            logical_bytes: 1,
            added_bytes: 1,
            stored_bytes: 1,
        }
    };
    (0..count).rev().map(backup).collect()
}

fn noon() -> Timestamp {
    "2026-11-20T12:00:00Z".parse().unwrap()
}

#[test]
fn the_schedule_says_when_a_backup_goes() {
    let backups = backups(3);
    let told = copal(settings()).outlook("shop", &backups, noon());
    let untils: Vec<_> = backups.iter().map(|backup| told[&backup.id].until).collect();
    let day = |text: &str| KeptUntil::Until(text.parse().unwrap());
    let expected = ["2026-11-21T00:00:00Z", "2026-11-21T00:00:00Z", "2026-11-22T00:00:00Z"].map(day);
    assert_eq!(untils, expected);
    assert_eq!(told[&backups[0].id].reasons, []);
    assert_eq!(told[&backups[2].id].reasons, [Reason::Newest, Reason::Last]);
}

#[test]
fn what_has_no_rules_or_no_schedule_ends_at_no_time() {
    let mut backups = backups(2);
    backups[0].pinned = true;
    let untils = |settings: DatabaseSettings, name: &str| {
        let told = copal(settings).outlook(name, &backups, noon());
        backups.iter().map(|backup| told[&backup.id].until).collect::<Vec<_>>()
    };
    use KeptUntil::{ForEver, Unknown};
    assert_eq!(untils(DatabaseSettings { keep: Keep::default(), ..settings() }, "shop"), [ForEver, ForEver]);
    assert_eq!(untils(DatabaseSettings { schedule: None, ..settings() }, "shop"), [ForEver, Unknown]);
    assert_eq!(untils(settings(), "elsewhere"), [ForEver, Unknown]);
}

#[test]
fn engines_say_what_they_can() {
    let copal = copal(settings());
    assert_eq!(copal.configured_engine("shop"), Some("sqlite"));
    assert_eq!(copal.configured_engine("elsewhere"), None);
    let sqlite = Abilities { drill: true, snapshots: true, journal: false, objects: false };
    assert_eq!(copal.abilities("sqlite"), Some(sqlite));
    assert_eq!(copal.abilities("oracle"), None);
    assert!(copal.settings_of("shop").is_some() && copal.settings_of("elsewhere").is_none());
}
