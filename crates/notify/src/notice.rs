//! One notice, and the JSON that a webhook gets.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Event;

/// The version of the JSON; fields may be added in it, and none changes its meaning.
pub const NOTICE_FORMAT: u32 = 1;

/// What somebody is told about one database.
///
/// As JSON: `{"format": 1, "event", "database", "host", "time", "headline", "details", "consecutive_failures",
/// "backup": null | {"id", "logical_bytes", "added_bytes", "stored_bytes", "duration_seconds"}, "error_kind",
/// "next_run"}`. Times are RFC 3339 in UTC, sizes are bytes, and what is not known is null.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    /// [`NOTICE_FORMAT`].
    pub format: u32,
    /// What happened.
    pub event: Event,
    /// The database's name, as it was chosen: it can hold anything.
    pub database: String,
    /// The host that tells.
    pub host: String,
    /// When it happened.
    pub time: Timestamp,
    /// One line for people.
    pub headline: String,
    /// More lines for people, or none.
    #[serde(default)]
    pub details: String,
    /// How many backups failed in a row, this one included.
    #[serde(default)]
    pub consecutive_failures: u32,
    /// The backup that was made, or found damaged.
    pub backup: Option<BackupFacts>,
    /// The class of the error, `unavailable` for instance.
    pub error_kind: Option<String>,
    /// When the next backup is due.
    pub next_run: Option<Timestamp>,
}

/// What is known of a backup.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BackupFacts {
    /// Its id.
    pub id: String,
    /// The size of the database.
    pub logical_bytes: Option<u64>,
    /// What the backup added to the repository.
    pub added_bytes: Option<u64>,
    /// What all objects take that restoring it reads.
    pub stored_bytes: Option<u64>,
    /// How long it took, in seconds.
    pub duration_seconds: Option<f64>,
}

impl Notice {
    /// A notice with the facts that all have.
    pub fn new(
        event: Event,
        database: impl Into<String>,
        host: impl Into<String>,
        time: Timestamp,
        headline: impl Into<String>,
    ) -> Self {
        Self {
            format: NOTICE_FORMAT,
            event,
            database: database.into(),
            host: host.into(),
            time,
            headline: headline.into(),
            details: String::new(),
            consecutive_failures: 0,
            backup: None,
            error_kind: None,
            next_run: None,
        }
    }

    /// The trial that `copal notify test` sends.
    pub fn test(host: impl Into<String>, time: Timestamp) -> Self {
        let mut notice = Self::new(Event::Test, "", host, time, "Copal can reach you here");
        notice.details = "This is a trial. Nothing happened to any database.".to_owned();
        notice
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_is_as_documented() {
        let mut notice = Notice::new(
            Event::DrillFailed,
            "shop \"x\"\n",
            "db1",
            "2026-11-20T15:30:00Z".parse().unwrap(),
            "The drill of shop failed",
        );
        notice.consecutive_failures = 2;
        notice.backup = Some(BackupFacts { id: "20261120-153000Z-7f3a".to_owned(), ..BackupFacts::default() });
        let expected = serde_json::json!({
            "format": 1, "event": "drill-failed", "database": "shop \"x\"\n", "host": "db1",
            "time": "2026-11-20T15:30:00Z", "headline": "The drill of shop failed", "details": "",
            "consecutive_failures": 2, "error_kind": null, "next_run": null,
            "backup": {
                "id": "20261120-153000Z-7f3a", "logical_bytes": null, "added_bytes": null, "stored_bytes": null,
                "duration_seconds": null,
            },
        });
        let json = serde_json::to_value(&notice).unwrap();
        assert_eq!(json, expected);
        assert_eq!(serde_json::from_value::<Notice>(json).unwrap(), notice);
    }
}
