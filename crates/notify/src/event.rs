//! What there is to tell.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What happened. The names in JSON and in `on` are [`Event::name`]'s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// A backup begins. Only a healthcheck is told.
    Start,
    /// A backup failed.
    Failure,
    /// The first success after failures, in place of [`Event::Success`].
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

impl Event {
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

    /// One sign before the headline.
    pub(crate) fn sign(self) -> &'static str {
        match self {
            Self::Failure | Self::DrillFailed => "❌",
            Self::Damage => "🚨",
            Self::Missed | Self::Stale => "⚠️",
            Self::Recovered | Self::Success => "✅",
            Self::Start | Self::Test => "ℹ️",
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_in_json() {
        use Event::*;
        for event in [Start, Failure, Recovered, Success, Missed, Stale, DrillFailed, Damage, Test] {
            assert_eq!(serde_json::to_value(event).unwrap(), event.name());
        }
    }
}
