//! What a scheduler runs: one database and its policy.

use std::fmt;
use std::time::Duration;

use copal_core::{Keep, Source};
use jiff::tz::TimeZone;

use crate::schedule::{Policy, Retries, Schedule};
use crate::{CopalError, DatabaseSettings, ErrorKind, Result};

/// One database and when it is backed up. Its `Debug` shows no password.
#[derive(Clone)]
#[must_use]
pub struct Job {
    pub(super) database: String,
    pub(super) policy: Policy,
    pub(super) keep: Option<Keep>,
    /// Without a zone of its own it gets the settings'.
    pub(super) has_zone: bool,
}

impl Job {
    /// Backs up a database (a configured name, a URL or a path) at the times that [`Schedule::parse`] reads. Errors: `Configuration`.
    pub fn new(database: impl Into<String>, schedule: &str) -> Result<Self> {
        let policy = Policy { schedule: Some(parse(schedule)?), ..Policy::default() };
        Ok(Self { database: database.into(), policy, keep: None, has_zone: false })
    }

    /// What a configuration says of a database.
    pub(super) fn configured(name: &str, settings: &DatabaseSettings) -> Result<Self> {
        let policy = Policy {
            schedule: settings.schedule.as_deref().map(parse).transpose()?,
            drill: settings.drill.as_deref().map(parse).transpose()?,
            jitter: settings.jitter,
            ..Policy::default()
        };
        let job = Self { database: name.to_owned(), policy, keep: None, has_zone: false };
        let job = settings.timezone.iter().fold(job, |job, zone| job.timezone(zone.clone()));
        Ok(if settings.keep == Keep::default() { job } else { job.keep(settings.keep.clone()) })
    }

    /// After a backup, drop those that no rule wants.
    pub fn keep(mut self, keep: Keep) -> Self {
        self.keep = Some(keep);
        self.policy.retention = true;
        self
    }

    /// Restore the newest backup to a scratch place at these times, and check it there. Errors: `Configuration`.
    pub fn drill(mut self, schedule: &str) -> Result<Self> {
        self.policy.drill = Some(parse(schedule)?);
        Ok(self)
    }

    /// The zone of its schedules; else that of the settings.
    pub fn timezone(mut self, zone: TimeZone) -> Self {
        (self.policy.zone, self.has_zone) = (zone, true);
        self
    }

    /// Spread regular starts over this time.
    pub fn jitter(mut self, jitter: Duration) -> Self {
        self.policy.jitter = jitter;
        self
    }

    /// How a run that failed for a passing reason is repeated.
    pub fn retries(mut self, retries: Retries) -> Self {
        self.policy.retries = retries;
        self
    }

    /// A backup after a reported change starts no earlier than this after the backup before it.
    pub fn min_interval(mut self, interval: Duration) -> Self {
        self.policy.min_interval = interval;
        self
    }

    /// A run that takes longer is ended.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.policy.time_limit = Some(limit);
        self
    }

    /// Whether occurrences that the program slept through are made up for, together by one run; so unless set.
    pub fn catch_up(mut self, catch_up: bool) -> Self {
        self.policy.catch_up = catch_up;
        self
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("database", &Source::shown(&self.database))
            .field("policy", &self.policy)
            .field("keep", &self.keep)
            .finish_non_exhaustive()
    }
}

fn parse(schedule: &str) -> Result<Schedule> {
    Schedule::parse(schedule).map_err(|problem| {
        CopalError::new(ErrorKind::Configuration, problem)
            .with_hint("write cron (\"0 3 * * *\"), \"@daily\", \"@weekly\" or \"every 5m\"")
    })
}
