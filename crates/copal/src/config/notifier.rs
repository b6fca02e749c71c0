//! `[notify.NAME]`: who is told what. Only the shape is checked here; the daemon sends.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use copal_core::NotifyEvent;

use super::document::Table;
use super::nearest::nearest;
use super::place::Base;
use crate::Result;

/// One table `[notify.NAME]`. `Debug` does not show the address, which is often a secret.
#[derive(Clone, PartialEq)]
pub struct Notifier {
    /// The channel: `webhook`, `slack`, `discord`, `telegram`, `ntfy`, `email`, `exec` or `healthcheck`.
    pub channel: &'static str,
    /// The channel's address or options.
    pub address: toml::Value,
    /// The events it is told; empty: the default ones.
    pub on: Vec<NotifyEvent>,
    /// Told at the nth failure in a row only.
    pub after: Option<u32>,
}

impl fmt::Debug for Notifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { channel, on, after, .. } = self;
        f.debug_struct("Notifier")
            .field("channel", channel)
            .field("on", on)
            .field("after", after)
            .finish_non_exhaustive()
    }
}

const CHANNELS: [&str; 8] = ["webhook", "slack", "discord", "telegram", "ntfy", "email", "exec", "healthcheck"];

/// Reads every `[notify.NAME]`.
pub(super) fn read_all(top: &Table<'_>, base: &Base) -> Result<BTreeMap<String, Notifier>> {
    let Some(tables) = top.table("notify")? else { return Ok(BTreeMap::new()) };
    tables.tables()?.into_iter().map(|(name, table)| Ok((name, read(&table, base)?))).collect()
}

fn read(table: &Table<'_>, base: &Base) -> Result<Notifier> {
    let known: Vec<_> = CHANNELS.into_iter().chain(["on", "after"]).collect();
    table.only(&known)?;
    let mut channels = CHANNELS.into_iter().filter(|channel| table.has(channel));
    let (Some(channel), None) = (channels.next(), channels.next()) else {
        let error = table.error(table.offset, "exactly one channel is needed");
        return Err(error.with_hint(format!("one of {}", CHANNELS.join(", "))));
    };
    let mut address = table.value(channel)?.ok_or_else(|| table.error(table.offset, "the channel is empty"))?;
    let shape_is_good = match (&address, channel) {
        (toml::Value::String(text), "webhook" | "slack" | "discord" | "healthcheck") => text.contains("://"),
        (toml::Value::String(text), "ntfy" | "exec") => !text.trim().is_empty(),
        (toml::Value::Array(words), "exec") => !words.is_empty() && words.iter().all(toml::Value::is_str),
        (toml::Value::Table(_), _) => true,
        _ => false,
    };
    if !shape_is_good {
        let expected = match channel {
            "exec" => "a command: a text, a list of texts or a table",
            "telegram" | "email" => "a table",
            "ntfy" => "a text or a table",
            _ => "a URL or a table",
        };
        return Err(table.error(table.offset, format!("\"{channel}\" must be {expected}")));
    }
    // A path is meant from the folder of the file that names it.
    if let Some(toml::Value::String(ca)) = address.as_table_mut().and_then(|options| options.get_mut("ca")) {
        *ca = base.path(Path::new(ca)).display().to_string();
    }
    let events = table.texts("on")?.into_iter().map(|name| {
        let found = NotifyEvent::CHOICES.into_iter().find(|event| event.name() == name.value);
        found.ok_or_else(|| {
            let names = NotifyEvent::CHOICES.map(NotifyEvent::name);
            let error = table.error(name.offset, format!("\"{}\" is no event", name.value));
            match nearest(&name.value, names) {
                Some(near) => error.with_hint(format!("did you mean \"{near}\"?")),
                None => error.with_hint(format!("events are {}", names.join(", "))),
            }
        })
    });
    Ok(Notifier { channel, address, on: events.collect::<Result<_>>()?, after: table.number("after", 1..=u32::MAX)? })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::{Configuration, Environment};

    #[test]
    fn shapes_are_those_that_the_channels_read() {
        for (channel, is_good) in [
            ("webhook = 'https://h'", true),
            ("webhook = { url = 'https://h', headers = { A = 'b' } }", true),
            ("webhook = 'h'", false),
            ("ntfy = 'topic'", true),
            ("ntfy = ' '", false),
            ("telegram = { token = '1:x', chat = 1 }", true),
            ("telegram = 'https://h'", false),
            ("email = { url = 'smtps://h', from = 'a@b', to = ['c@d'] }", true),
            ("email = 'ops@example.org'", false),
            ("exec = 'tell'", true),
            ("exec = ['tell', 'ops']", true),
            ("exec = { command = ['tell'], timeout = '1m' }", true),
            ("exec = []", false),
        ] {
            let environment: Environment = [("HOME", "/home/x")].into_iter().collect();
            let text = format!("[notify.ops]\n{channel}");
            let read = Configuration::read(Path::new("/etc/copal/copal.toml"), &text, &environment);
            assert_eq!(read.is_ok(), is_good, "{channel}: {read:?}");
        }
    }
}
