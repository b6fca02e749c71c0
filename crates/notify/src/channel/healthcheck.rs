//! Pings as healthchecks.io and its kin take them.

use reqwest::header::HeaderMap;

use crate::channel::http::{Endpoint, Request, Words};
use crate::channel::keys::Keys;
use crate::text::{Count, Message, escape_within};
use crate::{Event, Notice, Result};

/// What healthchecks.io keeps of a ping's body is more.
const LIMIT: usize = 10_000;

#[derive(Clone)]
pub(super) struct Healthcheck {
    endpoint: Endpoint,
}

impl Healthcheck {
    pub(super) fn read(keys: &mut Keys) -> Result<Self> {
        Ok(Self { endpoint: keys.endpoint()? })
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(super) async fn send(&self, notice: &Notice) -> Result<()> {
        let endpoint = match notice.event {
            Event::Start => self.endpoint.below(&["start"]),
            Event::Success | Event::Recovered => self.endpoint.clone(),
            // Noted there, without a change of state.
            Event::Test => self.endpoint.below(&["log"]),
            Event::Failure | Event::Missed | Event::Stale | Event::DrillFailed | Event::Damage => {
                self.endpoint.below(&["fail"])
            }
        };
        let body = escape_within(&Message::new(notice).whole(), LIMIT, Count::Bytes, |_, _| None);
        let request = Request {
            content_type: "text/plain; charset=utf-8",
            body: body.into_bytes(),
            headers: HeaderMap::new(),
            words: Words::Hidden,
            secrets: &[],
        };
        endpoint.post(request).await
    }
}
