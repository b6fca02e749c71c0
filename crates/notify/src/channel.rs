//! One way to reach somebody.

mod chat;
mod email;
mod exec;
mod healthcheck;
mod http;
mod keys;
mod ntfy;
mod webhook;

use std::fmt;
use std::time::Duration;

use crate::channel::email::Email;
use crate::channel::exec::Exec;
use crate::channel::healthcheck::Healthcheck;
use crate::channel::keys::Keys;
use crate::channel::ntfy::Ntfy;
use crate::channel::webhook::Webhook;
use crate::{Event, Notice, NotifyError, NotifyErrorKind, Result};

/// How long a sending may take, unless the channel's `timeout` says otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);

/// A place that notices are sent to. `Debug` shows its kind and host only.
///
/// | channel | as a text | keys of a table |
/// |---|---|---|
/// | `webhook` | URL | `url`, `headers` (a table), `secret` |
/// | `slack` | URL of an incoming webhook | `url` |
/// | `discord` | URL of a webhook | `url` |
/// | `telegram` | | `token`, `chat` (a number or `@channel`), `url` of another Bot API server |
/// | `ntfy` | topic at ntfy.sh, or a URL that ends with it | `topic`, `url` of the server or with the topic, `token`, `priority` (1 to 5, else by event) |
/// | `email` | | `url`, `from`, `to` (a text or a list), `user`, `password`, `starttls`, `ca` |
/// | `exec` | for `/bin/sh -c` | `command` (a text or a list) |
/// | `healthcheck` | URL | `url` |
///
/// Every table also takes `timeout` (`"15s"`).
///
/// - A webhook gets the JSON of [`Notice`] by POST. With a `secret`, `X-Copal-Signature: sha256=<hex>` is the HMAC-SHA256
///   of the body.
/// - The `url` of an e-mail server is `smtps://[user:password@]host[:465]`, TLS from the start, or
///   `smtp://[user:password@]host[:587]`, with STARTTLS, without which nothing is sent. `starttls = false` does without
///   TLS, and then refuses to send a password to another host. `ca` is a PEM file of an authority to trust besides the
///   system's.
/// - A command finds the facts in its environment only: `COPAL_NOTICE` (the JSON), `COPAL_EVENT`, `COPAL_DATABASE`,
///   `COPAL_HOST`, `COPAL_TIME`, `COPAL_HEADLINE`, `COPAL_DETAILS`, `COPAL_CONSECUTIVE_FAILURES`, and where they are known
///   `COPAL_BACKUP_ID`, `COPAL_LOGICAL_BYTES`, `COPAL_ADDED_BYTES`, `COPAL_STORED_BYTES`, `COPAL_DURATION_SECONDS`,
///   `COPAL_ERROR_KIND`, `COPAL_NEXT_RUN`. At its time limit it is killed with its process group.
/// - A healthcheck is pinged at `URL/start`, `URL` (success), `URL/fail`, and `URL/log` for a trial, which changes nothing.
#[derive(Clone)]
pub struct Channel {
    way: Way,
    timeout: Duration,
}

#[derive(Clone)]
enum Way {
    Webhook(Webhook),
    Chat(chat::Chat),
    Ntfy(Ntfy),
    Email(Box<Email>),
    Exec(Exec),
    Healthcheck(Healthcheck),
}

impl Channel {
    /// Reads the value of `webhook`, `slack`, `discord`, `telegram`, `ntfy`, `email`, `exec` or `healthcheck` under
    /// `[notify.NAME]`.
    pub fn parse(channel: &str, value: &toml::Value) -> Result<Self> {
        let Some(name) = NAMES.into_iter().find(|name| *name == channel) else {
            let message = format!("\"{channel}\" is no channel; channels are {}", NAMES.join(", "));
            return Err(NotifyError::configuration("notify", message));
        };
        let mut keys = Keys::new(name, value)?;
        let timeout = keys.duration("timeout")?.unwrap_or(DEFAULT_TIMEOUT);
        let way = match name {
            "webhook" => Way::Webhook(Webhook::read(&mut keys)?),
            "slack" => Way::Chat(chat::Chat::slack(&mut keys)?),
            "discord" => Way::Chat(chat::Chat::discord(&mut keys)?),
            "telegram" => Way::Chat(chat::Chat::telegram(&mut keys)?),
            "ntfy" => Way::Ntfy(Ntfy::read(&mut keys)?),
            "email" => Way::Email(Box::new(Email::read(&mut keys)?)),
            "exec" => Way::Exec(Exec::read(&mut keys)?),
            _ => Way::Healthcheck(Healthcheck::read(&mut keys)?),
        };
        keys.finish()?;
        Ok(Self { way, timeout })
    }

    /// The same with another time limit.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Its kind, as in the configuration.
    pub fn name(&self) -> &'static str {
        match &self.way {
            Way::Webhook(_) => "webhook",
            Way::Chat(chat) => chat.name(),
            Way::Ntfy(_) => "ntfy",
            Way::Email(_) => "email",
            Way::Exec(_) => "exec",
            Way::Healthcheck(_) => "healthcheck",
        }
    }

    /// Scheme and host, or the command's program.
    pub fn place(&self) -> String {
        match &self.way {
            Way::Webhook(webhook) => webhook.endpoint().place(),
            Way::Chat(chat) => chat.endpoint().place(),
            Way::Ntfy(ntfy) => ntfy.endpoint().place(),
            Way::Email(email) => email.place(),
            Way::Exec(exec) => exec.program(),
            Way::Healthcheck(healthcheck) => healthcheck.endpoint().place(),
        }
    }

    /// Whether it expects to be told of each run, and raises the alarm when it is not.
    pub fn is_heartbeat(&self) -> bool {
        matches!(self.way, Way::Healthcheck(_))
    }

    /// Sends one notice, within the time limit. A beginning goes to healthchecks only; others take it for done.
    pub async fn send(&self, notice: &Notice) -> Result<()> {
        if notice.event == Event::Start && !self.is_heartbeat() {
            return Ok(());
        }
        let sending = async {
            match &self.way {
                Way::Webhook(webhook) => webhook.send(notice).await,
                Way::Chat(chat) => chat.send(notice).await,
                Way::Ntfy(ntfy) => ntfy.send(notice).await,
                Way::Email(email) => email.send(notice, self.timeout).await,
                Way::Exec(exec) => exec.send(notice).await,
                Way::Healthcheck(healthcheck) => healthcheck.send(notice).await,
            }
        };
        // Dropping what is under way closes connections and kills commands.
        match tokio::time::timeout(self.timeout, sending).await {
            Ok(sent) => sent.map_err(|error| error.at(self.place())),
            Err(_) => {
                let message = format!("not done after {:?}", self.timeout);
                Err(NotifyError::new(NotifyErrorKind::TimedOut, self.name(), message).at(self.place()))
            }
        }
    }
}

const NAMES: [&str; 8] = ["webhook", "slack", "discord", "telegram", "ntfy", "email", "exec", "healthcheck"];

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Channel({} {})", self.name(), self.place())
    }
}

#[cfg(test)]
mod tests;
