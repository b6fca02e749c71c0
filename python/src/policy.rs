//! What a program wants to know of a `copal.toml` and of schedules without any repository.

use std::collections::BTreeMap;
use std::path::PathBuf;

use copal::config::{Configuration, DatabaseConfiguration, Environment};
use copal::schedule::Schedule;
use copal::{CopalError, ErrorKind, Keep, Result, Source};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use pyo3::prelude::*;
use serde::Serialize;

use crate::failure;

#[derive(Serialize)]
struct Described {
    path: Option<PathBuf>,
    timezone: Option<String>,
    databases: BTreeMap<String, Database>,
}

#[derive(Serialize)]
struct Database {
    /// Without password; calls name the database instead.
    source: String,
    schedule: Option<String>,
    drill: Option<String>,
    timezone: Option<String>,
    keep: Option<Rules>,
    max_age_seconds: Option<u64>,
    jitter_seconds: u64,
    min_interval_seconds: u64,
    time_limit_seconds: u64,
    retries: u32,
    catch_up: bool,
    on_change: bool,
    spare: bool,
    notify: Vec<String>,
}

#[derive(Serialize)]
struct Rules {
    last: Option<u32>,
    within_seconds: Option<i64>,
    hourly: Option<u32>,
    daily: Option<u32>,
    weekly: Option<u32>,
    monthly: Option<u32>,
    yearly: Option<u32>,
}

fn rules(keep: &Keep) -> Option<Rules> {
    let Keep { last, within, hourly, daily, weekly, monthly, yearly } = keep.clone();
    let within_seconds = within.map(|within| within.as_secs());
    (*keep != Keep::default()).then_some(Rules { last, within_seconds, hourly, daily, weekly, monthly, yearly })
}

fn zone_name(zone: Option<&TimeZone>) -> Option<String> {
    zone.and_then(TimeZone::iana_name).map(str::to_owned)
}

fn database(configured: &DatabaseConfiguration) -> Database {
    let settings = &configured.settings;
    Database {
        source: Source::shown(&settings.url),
        schedule: settings.schedule.clone(),
        drill: settings.drill.clone(),
        timezone: zone_name(settings.timezone.as_ref()),
        keep: rules(&settings.keep),
        max_age_seconds: settings.max_age.map(|age| age.as_secs()),
        jitter_seconds: settings.jitter.as_secs(),
        min_interval_seconds: configured.min_interval.as_secs(),
        time_limit_seconds: configured.time_limit.as_secs(),
        retries: configured.retries,
        catch_up: configured.catch_up,
        on_change: configured.on_change,
        spare: settings.spare,
        notify: configured.notify.clone(),
    }
}

fn describe(path: Option<PathBuf>) -> Result<String> {
    let configuration = Configuration::load(path.as_deref(), &Environment::of_process())?;
    let described = Described {
        path: configuration.path.as_deref().and_then(|path| std::path::absolute(path).ok()),
        timezone: zone_name(configuration.timezone.as_ref()),
        databases: configuration.databases.iter().map(|(name, known)| (name.clone(), database(known))).collect(),
    };
    serde_json::to_string(&described)
        .map_err(|e| CopalError::new(ErrorKind::Configuration, "the configuration cannot be told").because(e))
}

/// The configuration at `path`, else the one that the command would find, as JSON: path, timezone, databases. Raises `Failure`.
#[pyfunction]
#[pyo3(signature = (path = None))]
pub(crate) fn config(path: Option<PathBuf>) -> PyResult<String> {
    describe(path).map_err(|e| failure::raise(&e))
}

fn next(schedule: &str, after: &str, timezone: Option<&str>) -> Result<Option<String>> {
    let usage = |message| CopalError::new(ErrorKind::Usage, message);
    let schedule = Schedule::parse(schedule).map_err(|problem| {
        usage(problem).with_hint("write cron (\"0 3 * * *\"), \"@daily\", \"@weekly\" or \"every 5m\"")
    })?;
    let after: Timestamp = after.parse().map_err(|_| usage(format!("{after:?} is no time")))?;
    let zone = match timezone {
        Some(name) => TimeZone::get(name).map_err(|_| {
            let hint = "write a name of the IANA database, for example \"Europe/Berlin\" or \"UTC\"";
            usage(format!("{name:?} is no time zone")).with_hint(hint)
        })?,
        None => TimeZone::system(),
    };
    Ok(schedule.next_after(after, &zone).map(|time| time.to_string()))
}

/// The first time of a schedule that is later than `after` (RFC 3339), in this time zone, else in the system's. `None` if
/// there is none. Raises `Failure`.
#[pyfunction]
#[pyo3(signature = (schedule, after, timezone = None))]
pub(crate) fn next_run(schedule: &str, after: &str, timezone: Option<&str>) -> PyResult<Option<String>> {
    next(schedule, after, timezone).map_err(|e| failure::raise(&e))
}
