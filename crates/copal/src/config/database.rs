//! `[databases.NAME]`: what is protected and by which policy.

use std::collections::BTreeMap;

use copal_core::{Keep, Source};
use jiff::SignedDuration;
use jiff::tz::TimeZone;

use super::document::Table;
use super::nearest::nearest;
use super::notifier::Notifier;
use super::place::Base;
use super::schedule::check_schedule;
use crate::{DatabaseSettings, Result};

/// One table `[databases.NAME]`.
#[derive(Clone, Debug, Default)]
pub struct DatabaseConfiguration {
    /// What the use cases need of it.
    pub settings: DatabaseSettings,
    /// When it is drilled, as written.
    pub drill: Option<String>,
    /// The notifiers that are told about it.
    pub notify: Vec<String>,
    /// Its own time zone.
    pub timezone: Option<TimeZone>,
}

impl DatabaseConfiguration {
    /// Reads the table; places become absolute, notifiers must exist.
    pub(super) fn read(table: &Table<'_>, base: &Base, notifiers: &BTreeMap<String, Notifier>) -> Result<Self> {
        table.only(&["url", "schedule", "keep", "drill", "notify", "timezone", "max_age"])?;
        let url = table.text("url")?.ok_or_else(|| {
            table.error(table.offset, "\"url\" is missing").with_hint("url = \"sqlite:path/to/app.db\", for example")
        })?;
        Source::parse(&url.value).map_err(|error| table.error(url.offset, error))?;
        Ok(Self {
            settings: DatabaseSettings {
                url: base.url(&url.value),
                schedule: read_schedule(table, "schedule")?,
                max_age: table.duration("max_age")?,
                keep: read_keep(table)?,
            },
            drill: read_schedule(table, "drill")?,
            notify: read_notify(table, notifiers)?,
            timezone: super::read_timezone(table)?,
        })
    }
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
