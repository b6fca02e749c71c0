//! The text that Prometheus reads: its exposition format, version 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>).
//!
//! A family is begun once and has all its samples behind it, as the format wants it; everything goes into one text.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;

/// The value of a sample, in base units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Whole(u64),
    Milliseconds(i64),
}

impl From<bool> for Value {
    fn from(is: bool) -> Self {
        Self::Whole(is.into())
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Whole(number)
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Whole(number.into())
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self::Whole(number as u64)
    }
}

impl From<Timestamp> for Value {
    fn from(time: Timestamp) -> Self {
        Self::Milliseconds(time.as_millisecond())
    }
}

impl From<Duration> for Value {
    fn from(duration: Duration) -> Self {
        Self::Milliseconds(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
    }
}

/// The text so far.
#[derive(Debug)]
pub(super) struct Text(String);

impl Text {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self(String::with_capacity(bytes))
    }

    /// Begins a family of values that go up and down.
    pub(super) fn gauge(&mut self, name: &'static str, help: &'static str) -> Family<'_> {
        self.begin(name, "gauge", help)
    }

    /// Begins a family of values that only grow while the daemon lives.
    pub(super) fn counter(&mut self, name: &'static str, help: &'static str) -> Family<'_> {
        self.begin(name, "counter", help)
    }

    fn begin(&mut self, name: &'static str, kind: &str, help: &'static str) -> Family<'_> {
        for part in ["# HELP ", name, " ", help, "\n# TYPE ", name, " ", kind, "\n"] {
            self.0.push_str(part);
        }
        Family { text: &mut self.0, name }
    }

    pub(super) fn finish(self) -> String {
        self.0
    }
}

/// A family whose samples are being written.
#[derive(Debug)]
pub(super) struct Family<'a> {
    text: &'a mut String,
    name: &'static str,
}

impl Family<'_> {
    /// Writes a sample; its labels come from [`label`].
    pub(super) fn sample(&mut self, labels: &[&str], value: impl Into<Value>) {
        self.text.push_str(self.name);
        for (i, label) in labels.iter().enumerate() {
            self.text.push(if i == 0 { '{' } else { ',' });
            self.text.push_str(label);
        }
        self.text.push_str(if labels.is_empty() { " " } else { "} " });
        // Writing to a String cannot fail.
        let _ = match value.into() {
            Value::Whole(number) => writeln!(self.text, "{number}"),
            Value::Milliseconds(ms) => {
                let (sign, ms) = (if ms < 0 { "-" } else { "" }, ms.unsigned_abs());
                match ms % 1000 {
                    0 => writeln!(self.text, "{sign}{}", ms / 1000),
                    rest => writeln!(self.text, "{sign}{}.{rest:03}", ms / 1000),
                }
            }
        };
    }
}

/// A label, escaped. A NUL, at which Prometheus would stop reading, is shown as a replacement character.
pub(super) fn label(name: &str, value: &str) -> String {
    let mut label = String::with_capacity(name.len() + value.len() + 3);
    label.push_str(name);
    label.push_str("=\"");
    for c in value.chars() {
        match c {
            '\\' => label.push_str("\\\\"),
            '"' => label.push_str("\\\""),
            '\n' => label.push_str("\\n"),
            '\0' => label.push(char::REPLACEMENT_CHARACTER),
            c => label.push(c),
        }
    }
    label.push('"');
    label
}
