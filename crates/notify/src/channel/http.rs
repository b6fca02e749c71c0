//! Requests that show nobody where they go: URLs of webhooks are secrets.

use std::sync::OnceLock;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode, Url};

use crate::text::one_line;
use crate::{NotifyError, NotifyErrorKind, Result};

/// What is read of an answer that says why it refuses, in bytes.
const MOST_WORDS: usize = 4096;
/// What is shown of it, in characters.
const SHOWN_WORDS: usize = 200;

/// A URL of which only scheme and host are ever shown.
#[derive(Clone)]
pub(super) struct Endpoint {
    channel: &'static str,
    url: Url,
}

impl Endpoint {
    pub(super) fn parse(channel: &'static str, text: &str) -> Result<Self> {
        // The parser's error quotes nothing of the text.
        let url = Url::parse(text.trim())
            .map_err(|error| NotifyError::configuration(channel, format!("the URL cannot be read: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(NotifyError::configuration(channel, "the URL must begin with https:// or http://"));
        }
        Ok(Self { channel, url })
    }

    /// The same with more at the end of its path.
    pub(super) fn below(&self, segments: &[&str]) -> Self {
        let mut below = self.clone();
        if let Ok(mut path) = below.url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        below
    }

    /// The last part of the path, and the URL without it.
    pub(super) fn split_last(&self) -> Option<(Self, String)> {
        let last = self.url.path_segments()?.rfind(|segment| !segment.is_empty())?.to_owned();
        let mut rest = self.clone();
        rest.url.path_segments_mut().ok()?.pop_if_empty().pop();
        Some((rest, last))
    }

    /// Scheme, host and port.
    pub(super) fn place(&self) -> String {
        place_of(&self.url)
    }

    /// Posts a body; any answer but 2xx is an error.
    pub(super) async fn post(&self, request: Request<'_>) -> Result<()> {
        let mut post = client(self.channel)?.post(self.url.clone()).headers(request.headers);
        post = post.header(CONTENT_TYPE, HeaderValue::from_static(request.content_type)).body(request.body);
        let response = post.send().await.map_err(|error| self.no_answer(error))?;
        let status = response.status();
        if status.is_success() { Ok(()) } else { Err(self.refused(response, request.words, request.secrets).await) }
    }

    fn error(&self, kind: NotifyErrorKind, message: impl Into<String>) -> NotifyError {
        NotifyError::new(kind, self.channel, message).at(self.place())
    }

    fn no_answer(&self, error: reqwest::Error) -> NotifyError {
        let error = error.without_url();
        if error.is_builder() {
            return self.error(NotifyErrorKind::Configuration, "the URL cannot be used");
        }
        let kind = if error.is_timeout() { NotifyErrorKind::TimedOut } else { NotifyErrorKind::Unreachable };
        // The innermost error says it best: "connection refused", "invalid peer certificate".
        let mut innermost: &dyn std::error::Error = &error;
        while let Some(source) = innermost.source() {
            innermost = source;
        }
        let what = if error.is_connect() { "no connection" } else { "the connection was lost" };
        self.error(kind, format!("{what}: {}", self.without_secrets(&innermost.to_string(), &[])))
    }

    async fn refused(&self, response: Response, words: Words, secrets: &[&str]) -> NotifyError {
        let status = response.status();
        let kind = match status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY => {
                NotifyErrorKind::Unavailable
            }
            status if status.is_server_error() => NotifyErrorKind::Unavailable,
            _ => NotifyErrorKind::Refused,
        };
        let mut message = format!("answered {status}");
        if status.is_redirection() {
            // Not followed: the notice and its secrets are for this host.
            let target = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            match target.and_then(|target| self.url.join(target).ok()) {
                Some(target) if target.has_host() => message += &format!(", a redirection to {}", place_of(&target)),
                _ => message += ", a redirection",
            }
            message += "; give the final URL";
        }
        let mut error = self.error(kind, message).status(status.as_u16());
        let seconds = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        error.retry_after = seconds.map(Duration::from_secs);
        if matches!(words, Words::Shown) && !status.is_redirection() {
            let said = self.without_secrets(&beginning(response).await, secrets);
            if !said.is_empty() {
                error.message += &format!(": {said}");
            }
        }
        error
    }

    /// The words of the other side on one line; nothing if they hold a secret.
    fn without_secrets(&self, words: &str, secrets: &[&str]) -> String {
        let path = self.url.path_segments().into_iter().flatten();
        let query = self.url.query_pairs().map(|(_, value)| value.into_owned()).collect::<Vec<_>>();
        let own = [self.url.username(), self.url.password().unwrap_or_default()];
        let all = path.chain(query.iter().map(String::as_str)).chain(own).chain(secrets.iter().copied());
        if all.filter(|secret| secret.len() >= 6).any(|secret| words.contains(secret)) {
            return String::new();
        }
        one_line(words).chars().take(SHOWN_WORDS).collect()
    }
}

/// What is posted.
pub(super) struct Request<'a> {
    pub(super) content_type: &'static str,
    pub(super) body: Vec<u8>,
    pub(super) headers: HeaderMap,
    pub(super) words: Words,
    /// Secrets besides the URL.
    pub(super) secrets: &'a [&'a str],
}

/// Whether an error may show what the other side said.
#[derive(Clone, Copy)]
pub(super) enum Words {
    /// A known service, which says what is wrong with a request.
    Shown,
    /// Anybody, who may repeat the URL.
    Hidden,
}

impl<'a> Request<'a> {
    pub(super) fn json(value: &impl serde::Serialize) -> Self {
        // Only maps with keys that are no texts cannot be written.
        let body = serde_json::to_vec(value).unwrap_or_default();
        Self { content_type: "application/json", body, headers: HeaderMap::new(), words: Words::Hidden, secrets: &[] }
    }

    pub(super) fn showing_words(self, secrets: &'a [&'a str]) -> Self {
        Self { words: Words::Shown, secrets, ..self }
    }
}

/// A header whose value is marked as not to be shown.
pub(super) fn secret_header(value: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn place_of(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}", url.scheme(), url.host_str().unwrap_or_default())
}

async fn beginning(mut response: Response) -> String {
    let mut read = Vec::new();
    while read.len() < MOST_WORDS
        && let Ok(Some(chunk)) = response.chunk().await
    {
        read.extend_from_slice(&chunk);
    }
    read.truncate(MOST_WORDS);
    String::from_utf8_lossy(&read).into_owned()
}

/// One client for all, made when it is first needed: it reads the system's certificates.
fn client(channel: &'static str) -> Result<&'static Client> {
    static CLIENT: OnceLock<Client> = OnceLock::new();
    if let Some(client) = CLIENT.get() {
        return Ok(client);
    }
    // Notices are rare: no connection is kept, and none outlives the runtime it was made in.
    let built = Client::builder()
        .redirect(Policy::none())
        .pool_max_idle_per_host(0)
        .user_agent(concat!("copal/", env!("CARGO_PKG_VERSION")))
        .build();
    let built = built
        .map_err(|error| NotifyError::configuration(channel, format!("TLS cannot be used: {}", error.without_url())))?;
    Ok(CLIENT.get_or_init(|| built))
}
