//! A topic at ntfy.sh or another ntfy server, as JSON: nothing of a notice is in a header.

use copal_core::Secret;
use reqwest::header::AUTHORIZATION;
use serde_json::json;
use toml::Value;

use crate::channel::http::{Endpoint, Request, secret_header};
use crate::channel::keys::Keys;
use crate::text::{Count, Message, escape_within, plain};
use crate::{Event, Notice, Result};

/// Longer ones become attachments.
const LIMIT: usize = 4096;
const TITLE_LIMIT: usize = 250;

#[derive(Clone)]
pub(super) struct Ntfy {
    server: Endpoint,
    topic: Secret,
    token: Option<Secret>,
    priority: Option<i64>,
}

impl Ntfy {
    pub(super) fn read(keys: &mut Keys) -> Result<Self> {
        let (url, topic) = match keys.alone() {
            Some(Value::String(text)) if text.contains("://") => (Some(text), None),
            Some(Value::String(topic)) => (None, Some(topic)),
            Some(_) => return Err(keys.error("must be a text or a table")),
            None => (keys.text("url")?, keys.text("topic")?),
        };
        let server = Endpoint::parse(keys.channel, url.as_deref().unwrap_or("https://ntfy.sh"))?;
        let (server, topic) = match topic {
            Some(topic) => (server, topic),
            None => server.split_last().ok_or_else(|| keys.error("\"topic\" is missing"))?,
        };
        let is_topic = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if topic.is_empty() || topic.len() > 64 || !topic.chars().all(is_topic) {
            return Err(keys.error("the topic must be up to 64 letters, digits, \"_\" and \"-\""));
        }
        let token = keys.secret("token")?;
        if token.as_ref().is_some_and(|token| secret_header(token.reveal()).is_none()) {
            return Err(keys.error("\"token\" cannot be sent"));
        }
        let priority = match keys.take("priority") {
            None => None,
            Some(Value::Integer(priority @ 1..=5)) => Some(priority),
            Some(_) => return Err(keys.error("\"priority\" must be a number from 1 to 5")),
        };
        Ok(Self { server, topic: Secret::new(topic), token, priority })
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.server
    }

    pub(super) async fn send(&self, notice: &Notice) -> Result<()> {
        let message = Message::new(notice);
        let body = json!({
            "topic": self.topic.reveal(),
            "title": escape_within(&message.title, TITLE_LIMIT, Count::Bytes, plain),
            "message": escape_within(&message.body, LIMIT, Count::Bytes, plain),
            "priority": self.priority.unwrap_or_else(|| priority(notice.event)),
            "tags": [tag(notice.event)],
        });
        let token = self.token.as_ref().map_or("", |token| token.reveal());
        let secrets = [self.topic.reveal(), token];
        let mut request = Request::json(&body).showing_words(&secrets);
        if !token.is_empty()
            && let Some(value) = secret_header(&format!("Bearer {token}"))
        {
            request.headers.insert(AUTHORIZATION, value);
        }
        self.server.post(request).await
    }
}

/// From 1, silent, to 5, which breaks through "do not disturb".
fn priority(event: Event) -> i64 {
    match event {
        Event::Damage => 5,
        Event::Failure | Event::Stale | Event::Missed | Event::DrillFailed => 4,
        Event::Recovered | Event::Test => 3,
        Event::Start | Event::Success => 2,
    }
}

/// Shown as a sign before the title.
fn tag(event: Event) -> &'static str {
    match event {
        Event::Damage => "rotating_light",
        Event::Failure | Event::DrillFailed => "x",
        Event::Missed | Event::Stale => "warning",
        Event::Recovered | Event::Success => "white_check_mark",
        Event::Start | Event::Test => "information_source",
    }
}
