//! What the planner is told about a database: its policy, and what happened before the daemon started.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::Schedule;

/// When one database is backed up and drilled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// When it is backed up; `None` means on changes and requests only.
    pub schedule: Option<Schedule>,
    /// When it is drilled.
    pub drill: Option<Schedule>,
    /// The zone of both.
    pub zone: TimeZone,
    /// Starts of regular runs are spread over this time.
    pub jitter: Duration,
    /// A backup after a change starts no earlier than this after the backup before it.
    pub min_interval: Duration,
    /// What follows a transient failure.
    pub retries: Retries,
    /// A run that takes longer is ended by whoever started it.
    pub time_limit: Option<Duration>,
    /// Whether occurrences missed during downtime are made up for, together by one run. If so, the newest run before a restart
    /// is also repeated if it failed or was cut off.
    pub catch_up: bool,
    /// Whether backups are followed by a prune.
    pub retention: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            schedule: None,
            drill: None,
            zone: TimeZone::UTC,
            jitter: Duration::ZERO,
            min_interval: Duration::ZERO,
            retries: Retries::default(),
            time_limit: None,
            catch_up: true,
            retention: false,
        }
    }
}

/// How a run that failed for a passing reason is repeated.
///
/// Retries end at the next regular occurrence, whatever stands here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    /// At most so many.
    pub most: u32,
    /// The wait before the first; each further one is twice as long.
    pub first: Duration,
    /// No wait is longer.
    pub cap: Duration,
}

impl Default for Retries {
    /// Half a minute, doubled up to half an hour, ten times: a server may be away for some hours.
    fn default() -> Self {
        Self { most: 10, first: Duration::from_secs(30), cap: Duration::from_secs(30 * 60) }
    }
}

impl Retries {
    /// The wait before the retry with this number, from 1.
    pub fn delay(&self, number: u32) -> Duration {
        let factor = 1_u32.checked_shl(number.saturating_sub(1)).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.cap)
    }
}

/// What is known of the runs of a database before the planner knew it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Of its backups.
    pub backup: Past,
    /// Of its drills.
    pub drill: Past,
}

/// What is known of runs of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// When the newest run started, whatever became of it.
    pub last_start: Option<Timestamp>,
    /// When the newest successful run started.
    pub last_success: Option<Timestamp>,
}
