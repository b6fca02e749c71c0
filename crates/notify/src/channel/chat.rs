//! Chats that take a text: Slack, Discord, Telegram.

use copal_core::Secret;
use serde_json::{Value, json};

use crate::channel::http::{Endpoint, Request};
use crate::channel::keys::Keys;
use crate::text::{Count, Message, discord, escape_within, plain, slack};
use crate::{Event, Notice, Result};

/// Slack cuts at 40,000 characters and asks for no more than 4,000.
const SLACK_LIMIT: usize = 4000;
const DISCORD_LIMIT: usize = 2000;
const TELEGRAM_LIMIT: usize = 4096;

#[derive(Clone)]
pub(super) struct Chat {
    endpoint: Endpoint,
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    Slack,
    Discord,
    Telegram { token: Secret, chat: Value },
}

impl Chat {
    pub(super) fn slack(keys: &mut Keys) -> Result<Self> {
        Ok(Self { endpoint: keys.endpoint()?, kind: Kind::Slack })
    }

    pub(super) fn discord(keys: &mut Keys) -> Result<Self> {
        Ok(Self { endpoint: keys.endpoint()?, kind: Kind::Discord })
    }

    pub(super) fn telegram(keys: &mut Keys) -> Result<Self> {
        keys.must_be_table()?;
        let token = keys.needed("token")?;
        if !token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":_-".contains(&byte)) {
            return Err(keys.error("\"token\" is no token of a bot"));
        }
        let chat = match keys.take("chat") {
            Some(toml::Value::Integer(id)) => json!(id),
            Some(toml::Value::String(name)) if !name.is_empty() => json!(name),
            _ => return Err(keys.error("\"chat\" must be a number or a name such as \"@channel\"")),
        };
        let server = keys.text("url")?.unwrap_or_else(|| "https://api.telegram.org".to_owned());
        let endpoint = Endpoint::parse(keys.channel, &server)?.below(&[&format!("bot{token}"), "sendMessage"]);
        Ok(Self { endpoint, kind: Kind::Telegram { token: Secret::new(token), chat } })
    }

    pub(super) fn name(&self) -> &'static str {
        match self.kind {
            Kind::Slack => "slack",
            Kind::Discord => "discord",
            Kind::Telegram { .. } => "telegram",
        }
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(super) async fn send(&self, notice: &Notice) -> Result<()> {
        let secret = match &self.kind {
            Kind::Telegram { token, .. } => token.reveal(),
            _ => "",
        };
        self.endpoint.post(Request::json(&self.payload(notice)).showing_words(&[secret])).await
    }

    pub(super) fn payload(&self, notice: &Notice) -> Value {
        let text = format!("{} {}", sign(notice.event), Message::new(notice).whole());
        match &self.kind {
            Kind::Slack => json!({
                "text": escape_within(&text, SLACK_LIMIT, Count::Utf16, slack),
                "unfurl_links": false,
                "unfurl_media": false,
            }),
            Kind::Discord => json!({
                "content": escape_within(&text, DISCORD_LIMIT, Count::Utf16, discord),
                "allowed_mentions": {"parse": []},
            }),
            // Without a parse_mode it is plain text.
            Kind::Telegram { chat, .. } => json!({
                "chat_id": chat,
                "text": escape_within(&text, TELEGRAM_LIMIT, Count::Utf16, plain),
                "link_preview_options": {"is_disabled": true},
            }),
        }
    }
}

/// One sign before the headline.
fn sign(event: Event) -> &'static str {
    match event {
        Event::Failure | Event::DrillFailed => "❌",
        Event::Damage => "🚨",
        Event::Missed | Event::Stale => "⚠️",
        Event::Recovered | Event::Success => "✅",
        Event::Start | Event::Test => "ℹ️",
    }
}
