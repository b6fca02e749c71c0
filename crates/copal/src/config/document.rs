//! A TOML file in the hands of a reader: tables whose keys are known, texts with their variables replaced, and errors
//! that name file and line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::dotenv;
use super::environment::Environment;
use super::nearest::nearest;
use super::substitute::{SubstituteError, substitute};
use crate::{CopalError, ErrorKind, Result};

/// The text of a configuration file and what its variables are replaced from.
pub(super) struct Document<'a> {
    path: PathBuf,
    text: &'a str,
    environment: &'a Environment,
    dotenv: BTreeMap<String, String>,
}

impl<'a> Document<'a> {
    /// Takes the text of the file at `path`, and the `.env` beside it if there is one.
    pub(super) fn new(path: &Path, text: &'a str, environment: &'a Environment) -> Self {
        let dotenv =
            std::fs::read_to_string(path.with_file_name(".env")).map(|text| dotenv::parse(&text)).unwrap_or_default();
        Self { path: path.to_owned(), text, environment, dotenv }
    }

    /// Takes the file apart.
    pub(super) fn parse(&self) -> Result<Spanned<DeTable<'a>>> {
        DeTable::parse(self.text).map_err(|error| {
            let offset = error.span().map_or(0, |span| span.start);
            self.error(offset, format!("this is not TOML: {}", error.message().trim().replace('\n', ", ")))
        })
    }

    /// An error at a place in the file.
    pub(super) fn error(&self, offset: usize, message: impl std::fmt::Display) -> CopalError {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        CopalError::new(ErrorKind::Configuration, format!("{}:{line}: {message}", self.path.display()))
    }

    fn complete(&self, text: &str, offset: usize) -> Result<String> {
        let lookup = |name: &str| {
            let known = self.environment.get(name).or_else(|| self.dotenv.get(name).map(String::as_str));
            known.map(str::to_owned)
        };
        substitute(text, lookup).map_err(|error| match error {
            SubstituteError::Missing(name) => self
                .error(offset, format!("the variable {name} is not set"))
                .with_hint(format!("export {name}, or set it in {}", self.path.with_file_name(".env").display())),
            SubstituteError::NotAName(name) => self
                .error(offset, format!("\"${{{name}}}\" names no variable"))
                .with_hint("variables are written ${NAME}; for a literal \"${\" write \"$${\""),
            SubstituteError::Unclosed => {
                self.error(offset, "\"${\" without \"}\"").with_hint("for a literal \"${\" write \"$${\"")
            }
        })
    }
}

/// A value and where in the file it stands.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) offset: usize,
}

/// One table of the file.
pub(super) struct Table<'a> {
    pub(super) document: &'a Document<'a>,
    /// As it is called in messages, for example `[databases.shop]`.
    pub(super) title: String,
    pub(super) offset: usize,
    table: &'a DeTable<'a>,
}

impl<'a> Table<'a> {
    /// The table that is the whole file.
    pub(super) fn whole(document: &'a Document<'a>, root: &'a Spanned<DeTable<'a>>) -> Self {
        Self { document, title: "the file's top level".into(), offset: 0, table: root.get_ref() }
    }

    /// Refuses keys that are none of these, naming the nearest.
    pub(super) fn only(&self, known: &[&str]) -> Result<()> {
        let unknown = self.table.keys().filter(|key| !known.contains(&key.get_ref().as_ref()));
        // The first in the file, whatever order the table has in memory.
        let Some(key) = unknown.min_by_key(|key| key.span().start) else { return Ok(()) };
        let (name, at) = (key.get_ref(), key.span().start);
        let error = self.document.error(at, format!("unknown key \"{name}\" in {}", self.title));
        Err(match nearest(name, known.iter().copied()) {
            Some(near) => error.with_hint(format!("did you mean \"{near}\"?")),
            None => error.with_hint(format!("known here: {}", known.join(", "))),
        })
    }

    fn get(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.table.get(key)
    }

    /// Where the value of a key stands, for errors about it.
    pub(super) fn offset_of(&self, key: &str) -> usize {
        self.get(key).map_or(self.offset, |value| value.span().start)
    }

    /// Whether there is such a key.
    pub(super) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    fn wrong_type(&self, key: &str, value: &Spanned<DeValue<'_>>, expected: &str) -> CopalError {
        let found = value.get_ref().type_str();
        self.document.error(value.span().start, format!("\"{key}\" in {} must be {expected}, not {found}", self.title))
    }

    /// An error at the value of a key.
    pub(super) fn error(&self, offset: usize, message: impl std::fmt::Display) -> CopalError {
        self.document.error(offset, format!("{message} in {}", self.title))
    }

    /// A text, variables replaced.
    pub(super) fn text(&self, key: &str) -> Result<Option<At<String>>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let offset = value.span().start;
        let text = value.get_ref().as_str().ok_or_else(|| self.wrong_type(key, value, "a text in quotes"))?;
        Ok(Some(At { value: self.document.complete(text, offset)?, offset }))
    }

    /// A list of texts, variables replaced; a single text counts as a list of one.
    pub(super) fn texts(&self, key: &str) -> Result<Vec<At<String>>> {
        let Some(value) = self.get(key) else { return Ok(Vec::new()) };
        let Some(list) = value.get_ref().as_array() else {
            return Ok(self.text(key)?.into_iter().collect());
        };
        let element = |entry: &Spanned<DeValue<'_>>| {
            let offset = entry.span().start;
            let text = entry.get_ref().as_str().ok_or_else(|| self.wrong_type(key, entry, "a list of texts"))?;
            Ok(At { value: self.document.complete(text, offset)?, offset })
        };
        list.iter().map(element).collect()
    }

    /// A whole number in a range.
    pub(super) fn number(&self, key: &str, range: std::ops::RangeInclusive<u32>) -> Result<Option<u32>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let whole = value.get_ref().as_integer().ok_or_else(|| self.wrong_type(key, value, "a whole number"))?;
        let parsed = i64::from_str_radix(&whole.as_str().replace('_', ""), whole.radix()).ok();
        let number = parsed.and_then(|number| u32::try_from(number).ok()).filter(|number| range.contains(number));
        let (low, high) = (range.start(), range.end());
        let bounds = if *high == u32::MAX { format!("at least {low}") } else { format!("from {low} to {high}") };
        number.map(Some).ok_or_else(|| self.error(value.span().start, format!("\"{key}\" must be {bounds}")))
    }

    /// True or false.
    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value.get_ref().as_bool().map(Some).ok_or_else(|| self.wrong_type(key, value, "true or false"))
    }

    /// A duration such as `5d`.
    pub(super) fn duration(&self, key: &str) -> Result<Option<Duration>> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        let parsed = copal_core::parse_duration(&text.value).map_err(|error| error.to_string());
        let duration = parsed.and_then(|signed| Duration::try_from(signed).map_err(|error| error.to_string()));
        duration.map(Some).map_err(|error| self.error(text.offset, format!("\"{key}\": {error}")))
    }

    /// A table in this one.
    pub(super) fn table(&self, key: &str) -> Result<Option<Table<'a>>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let table = value.get_ref().as_table().ok_or_else(|| self.wrong_type(key, value, "a table"))?;
        let title = match self.title.strip_prefix('[').and_then(|title| title.strip_suffix(']')) {
            Some(above) => format!("[{above}.{key}]"),
            None => format!("[{key}]"),
        };
        Ok(Some(Table { document: self.document, title, offset: value.span().start, table }))
    }

    /// All tables in this one by name, in the order of the file.
    pub(super) fn tables(&self) -> Result<Vec<(String, Table<'a>)>> {
        let mut names: Vec<_> = self.table.keys().map(|key| (key.span().start, key.get_ref().to_string())).collect();
        names.sort();
        let named = names.into_iter().map(|(offset, name)| {
            let table = self.table(&name)?;
            Ok(table.map(|table| (name, Table { offset, ..table })))
        });
        named.filter_map(Result::transpose).collect()
    }

    /// A value of any kind, variables in its texts replaced.
    pub(super) fn value(&self, key: &str) -> Result<Option<toml::Value>> {
        self.get(key).map(|value| self.owned(key, value)).transpose()
    }

    fn owned(&self, key: &str, value: &Spanned<DeValue<'_>>) -> Result<toml::Value> {
        let offset = value.span().start;
        Ok(match value.get_ref() {
            DeValue::String(text) => toml::Value::String(self.document.complete(text, offset)?),
            DeValue::Boolean(flag) => toml::Value::Boolean(*flag),
            DeValue::Integer(whole) => i64::from_str_radix(&whole.as_str().replace('_', ""), whole.radix())
                .map(toml::Value::Integer)
                .map_err(|_| self.error(offset, format!("the number of \"{key}\" is too large")))?,
            DeValue::Array(list) => {
                toml::Value::Array(list.iter().map(|entry| self.owned(key, entry)).collect::<Result<_>>()?)
            }
            DeValue::Table(table) => {
                let entry = |(name, value): (&Spanned<_>, _)| {
                    Ok((ToString::to_string(name.get_ref() as &std::borrow::Cow<'_, str>), self.owned(key, value)?))
                };
                toml::Value::Table(table.iter().map(entry).collect::<Result<_>>()?)
            }
            DeValue::Float(_) | DeValue::Datetime(_) => {
                return Err(self.wrong_type(key, value, "a text, number, flag, list or table"));
            }
        })
    }
}
