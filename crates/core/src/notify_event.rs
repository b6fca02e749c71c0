//! What there is to tell people of their backups.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What happened. The names in JSON and in the configuration's `on` are [`NotifyEvent::name`]'s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NotifyEvent {
    /// A backup begins. Only a healthcheck is told.
    Start,
    /// A backup failed.
    Failure,
    /// The first success after failures, in place of [`NotifyEvent::Success`].
    Recovered,
    /// A backup was made.
    Success,
    /// A scheduled backup did not run.
    Missed,
    /// There is no good backup as young as promised.
    Stale,
    /// A drill failed.
    DrillFailed,
    /// Damage was found.
    Damage,
    /// A trial.
    Test,
}

impl NotifyEvent {
    /// What `on` can name; the others are told to whom they are meant for.
    pub const CHOICES: [Self; 7] =
        [Self::Failure, Self::Recovered, Self::Success, Self::Missed, Self::Stale, Self::DrillFailed, Self::Damage];

    /// What a notifier without `on` is told.
    pub const DEFAULT: [Self; 6] =
        [Self::Failure, Self::Recovered, Self::Missed, Self::Stale, Self::DrillFailed, Self::Damage];

    /// Its name: `failure`, `drill-failed` and so on.
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Failure => "failure",
            Self::Recovered => "recovered",
            Self::Success => "success",
            Self::Missed => "missed",
            Self::Stale => "stale",
            Self::DrillFailed => "drill-failed",
            Self::Damage => "damage",
            Self::Test => "test",
        }
    }

    /// Whether something is wrong.
    pub fn is_trouble(self) -> bool {
        matches!(self, Self::Failure | Self::Missed | Self::Stale | Self::DrillFailed | Self::Damage)
    }
}

impl fmt::Display for NotifyEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_in_json() {
        use NotifyEvent::*;
        for event in [Start, Failure, Recovered, Success, Missed, Stale, DrillFailed, Damage, Test] {
            assert_eq!(serde_json::to_value(event).unwrap(), event.name());
        }
    }
}
