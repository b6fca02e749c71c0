//! The keys of one channel in the configuration. No error shows a value: most are secret.

use std::time::Duration;

use copal_core::{Secret, parse_duration};
use toml::Value;

use crate::channel::http::Endpoint;
use crate::{NotifyError, Result};

/// The value of a channel: a table of which keys are taken, or one value that stands for the first of them.
pub(super) struct Keys {
    pub(super) channel: &'static str,
    table: toml::Table,
    /// A text or list in place of a table.
    alone: Option<Value>,
}

impl Keys {
    pub(super) fn new(channel: &'static str, value: &Value) -> Result<Self> {
        match value {
            Value::Table(table) => Ok(Self { channel, table: table.clone(), alone: None }),
            Value::String(text) if text.trim().is_empty() => Err(NotifyError::configuration(channel, "is empty")),
            Value::String(_) | Value::Array(_) => {
                Ok(Self { channel, table: toml::Table::new(), alone: Some(value.clone()) })
            }
            _ => Err(NotifyError::configuration(channel, "must be a text or a table")),
        }
    }

    /// The text or list in place of a table.
    pub(super) fn alone(&mut self) -> Option<Value> {
        self.alone.take()
    }

    pub(super) fn must_be_table(&self) -> Result<()> {
        if self.alone.is_some() { Err(self.error("must be a table")) } else { Ok(()) }
    }

    pub(super) fn take(&mut self, key: &str) -> Option<Value> {
        self.table.remove(key)
    }

    pub(super) fn error(&self, message: impl Into<String>) -> NotifyError {
        NotifyError::configuration(self.channel, message)
    }

    pub(super) fn text(&mut self, key: &str) -> Result<Option<String>> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::String(text)) if !text.trim().is_empty() => Ok(Some(text)),
            Some(_) => Err(self.error(format!("\"{key}\" must be a text that is not empty"))),
        }
    }

    pub(super) fn needed(&mut self, key: &str) -> Result<String> {
        self.text(key)?.ok_or_else(|| self.error(format!("\"{key}\" is missing")))
    }

    pub(super) fn secret(&mut self, key: &str) -> Result<Option<Secret>> {
        Ok(self.text(key)?.map(Secret::new))
    }

    pub(super) fn flag(&mut self, key: &str) -> Result<Option<bool>> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Boolean(flag)) => Ok(Some(flag)),
            Some(_) => Err(self.error(format!("\"{key}\" must be true or false"))),
        }
    }

    pub(super) fn duration(&mut self, key: &str) -> Result<Option<Duration>> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        let duration = parse_duration(&text).map_err(|error| self.error(format!("\"{key}\": {error}")))?;
        match Duration::try_from(duration) {
            Ok(duration) if !duration.is_zero() => Ok(Some(duration)),
            _ => Err(self.error(format!("\"{key}\" must be longer than nothing"))),
        }
    }

    /// A text or a list of texts.
    pub(super) fn texts(&self, key: &str, value: Value) -> Result<Vec<String>> {
        let wrong = || self.error(format!("\"{key}\" must be a text or a list of texts"));
        let values = match value {
            Value::Array(values) if !values.is_empty() => values,
            Value::String(_) => vec![value],
            _ => return Err(wrong()),
        };
        values.into_iter().map(|value| value.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
    }

    /// The URL, which may stand alone.
    pub(super) fn endpoint(&mut self) -> Result<Endpoint> {
        let text = match self.alone() {
            Some(Value::String(text)) => text,
            Some(_) => return Err(self.error("must be a URL or a table")),
            None => self.needed("url")?,
        };
        Endpoint::parse(self.channel, &text)
    }

    /// Refuses what was not taken.
    pub(super) fn finish(self) -> Result<()> {
        match self.table.keys().next() {
            Some(key) => Err(self.error(format!("\"{key}\" is no key of it"))),
            None => Ok(()),
        }
    }
}
