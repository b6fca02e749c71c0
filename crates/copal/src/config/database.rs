//! `[databases.NAME]`: what is protected and by which policy.

use std::collections::BTreeMap;
use std::time::Duration;

use copal_core::{Keep, Source};
use jiff::SignedDuration;
use jiff::tz::TimeZone;

use super::document::Table;
use super::nearest::nearest;
use super::notifier::Notifier;
use super::place::Base;
use super::schedule::check_schedule;
use crate::engines::FILE_SCHEMES;
use crate::schedule::{Policy, Retries, Schedule};
use crate::{CopalError, DatabaseSettings, ErrorKind, Result};

const KEYS: [&str; 14] = [
    "url",
    "schedule",
    "keep",
    "drill",
    "notify",
    "timezone",
    "max_age",
    "jitter",
    "min_interval",
    "retries",
    "time_limit",
    "catch_up",
    "on_change",
    "spare",
];

/// One table `[databases.NAME]`.
#[derive(Clone, Debug)]
pub struct DatabaseConfiguration {
    /// What the use cases need of it.
    pub settings: DatabaseSettings,
    /// The notifiers that are told about it.
    pub notify: Vec<String>,
    /// A backup after a change starts no earlier than this after the backup before it.
    pub min_interval: Duration,
    /// A run that failed for a passing reason is repeated so many times.
    pub retries: u32,
    /// A run that takes longer is ended.
    pub time_limit: Duration,
    /// Whether runs missed during downtime are made up for, together by one.
    pub catch_up: bool,
    /// Whether a change of its file calls for a backup.
    pub on_change: bool,
}

impl Default for DatabaseConfiguration {
    fn default() -> Self {
        Self {
            settings: DatabaseSettings::default(),
            notify: Vec::new(),
            min_interval: Duration::from_secs(5 * 60),
            retries: Retries::default().most,
            // An operation that began more than a day ago does not commit any more (docs/format.md, "Leases").
            time_limit: Duration::from_secs(24 * 60 * 60),
            catch_up: true,
            on_change: false,
        }
    }
}

impl DatabaseConfiguration {
    /// Reads the table; places become absolute, notifiers must exist.
    pub(super) fn read(table: &Table<'_>, base: &Base, notifiers: &BTreeMap<String, Notifier>) -> Result<Self> {
        table.only(&KEYS)?;
        let url = table.text("url")?.ok_or_else(|| {
            table.error(table.offset, "\"url\" is missing").with_hint("url = \"sqlite:path/to/app.db\", for example")
        })?;
        let source = Source::parse(&url.value).map_err(|error| table.error(url.offset, error))?;
        let default = Self::default();
        Ok(Self {
            settings: DatabaseSettings {
                url: base.url(&url.value),
                schedule: read_schedule(table, "schedule")?,
                max_age: table.duration("max_age")?,
                keep: read_keep(table)?,
                drill: read_schedule(table, "drill")?,
                timezone: super::read_timezone(table)?,
                jitter: table.duration("jitter")?.unwrap_or_default(),
                spare: table.flag("spare")?.unwrap_or_default(),
            },
            notify: read_notify(table, notifiers)?,
            min_interval: table.duration("min_interval")?.unwrap_or(default.min_interval),
            retries: table.number("retries", 0..=100)?.unwrap_or(default.retries),
            time_limit: read_time_limit(table)?.unwrap_or(default.time_limit),
            catch_up: table.flag("catch_up")?.unwrap_or(default.catch_up),
            on_change: read_on_change(table, &source)?.unwrap_or(default.on_change),
        })
    }

    /// What the planner goes by; `zone` is for a database without a zone of its own.
    ///
    /// Errors: none for a configuration that was read.
    pub fn policy(&self, zone: &TimeZone) -> Result<Policy> {
        let settings = &self.settings;
        let schedule = |text: &Option<String>| {
            let parsed = text.as_deref().map(Schedule::parse).transpose();
            parsed.map_err(|problem| CopalError::new(ErrorKind::Configuration, problem))
        };
        Ok(Policy {
            schedule: schedule(&settings.schedule)?,
            drill: schedule(&settings.drill)?,
            zone: settings.timezone.as_ref().unwrap_or(zone).clone(),
            jitter: settings.jitter,
            min_interval: self.min_interval,
            retries: Retries { most: self.retries, ..Retries::default() },
            time_limit: Some(self.time_limit),
            catch_up: self.catch_up,
            retention: settings.keep != Keep::default(),
        })
    }
}

fn read_time_limit(table: &Table<'_>) -> Result<Option<Duration>> {
    match table.duration("time_limit")? {
        Some(limit) if limit.is_zero() => {
            Err(table.error(table.offset_of("time_limit"), "\"time_limit\" must be at least 1s"))
        }
        limit => Ok(limit),
    }
}

fn read_on_change(table: &Table<'_>, source: &Source) -> Result<Option<bool>> {
    let flag = table.flag("on_change")?;
    let is_file = source.scheme().is_none_or(|scheme| FILE_SCHEMES.contains(&scheme));
    if flag == Some(true) && !is_file {
        let message = format!("\"on_change\" watches a file, and {source} is none,");
        return Err(table.error(table.offset_of("on_change"), message).with_hint("give it a schedule instead"));
    }
    Ok(flag)
}

fn read_schedule(table: &Table<'_>, key: &str) -> Result<Option<String>> {
    let Some(text) = table.text(key)? else { return Ok(None) };
    check_schedule(&text.value).map_err(|problem| {
        let error = table.error(text.offset, format!("\"{key}\": {problem}"));
        error.with_hint("write cron (\"0 3 * * *\"), \"@daily\", \"@weekly\" or \"every 5m\"")
    })?;
    Ok(Some(text.value))
}

fn read_keep(table: &Table<'_>) -> Result<Keep> {
    let Some(keep) = table.table("keep")? else { return Ok(Keep::default()) };
    keep.only(&["last", "within", "hourly", "daily", "weekly", "monthly", "yearly"])?;
    let count = |key| keep.number(key, 1..=u32::MAX);
    let within = keep.duration("within")?.and_then(|duration| SignedDuration::try_from(duration).ok());
    Ok(Keep {
        last: count("last")?,
        within,
        hourly: count("hourly")?,
        daily: count("daily")?,
        weekly: count("weekly")?,
        monthly: count("monthly")?,
        yearly: count("yearly")?,
    })
}

fn read_notify(table: &Table<'_>, notifiers: &BTreeMap<String, Notifier>) -> Result<Vec<String>> {
    let names = table.texts("notify")?;
    if let Some(unknown) = names.iter().find(|name| !notifiers.contains_key(&name.value)) {
        let error = table.error(unknown.offset, format!("there is no [notify.{}], named by \"notify\"", unknown.value));
        return Err(match nearest(&unknown.value, notifiers.keys().map(String::as_str)) {
            Some(near) => error.with_hint(format!("did you mean \"{near}\"?")),
            None => error,
        });
    }
    Ok(names.into_iter().map(|name| name.value).collect())
}
