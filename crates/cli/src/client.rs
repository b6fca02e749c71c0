//! Talks to the daemon of this configuration.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use copal::config::Configuration;
use copal::{CopalError, ErrorKind, Result};
use reqwest::{Certificate, Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::session::Session;

const TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT: Duration = Duration::from_secs(2);

/// A daemon somewhere.
pub(crate) struct Client {
    http: reqwest::Client,
    url: String,
    token: Option<String>,
}

#[derive(Deserialize)]
struct Failed {
    error: Told,
}

#[derive(Deserialize)]
struct Told {
    message: String,
    hint: Option<String>,
}

impl Client {
    /// The daemon at `COPAL_DAEMON`, else where the configuration says that it listens.
    pub(crate) fn new(session: &Session, configuration: &Configuration) -> Result<Self> {
        let daemon = &configuration.daemon;
        let mut http = reqwest::Client::builder().timeout(TIMEOUT).connect_timeout(CONNECT).no_proxy();
        if let Some(tls) = &daemon.tls
            && let Ok(pem) = std::fs::read(&tls.certificate)
            && let Ok(certificates) = Certificate::from_pem_bundle(&pem)
        {
            http = http.tls_certs_merge(certificates);
        }
        let failed = |error| CopalError::new(ErrorKind::Failed, "there is no HTTP client").because(error);
        let address = match daemon.listen.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => (IpAddr::from(Ipv4Addr::LOCALHOST), daemon.listen.port()).into(),
            IpAddr::V6(ip) if ip.is_unspecified() => (IpAddr::from(Ipv6Addr::LOCALHOST), daemon.listen.port()).into(),
            _ => daemon.listen,
        };
        let scheme = if daemon.tls.is_some() { "https" } else { "http" };
        let url = session.environment.get("COPAL_DAEMON").map(|url| url.trim_end_matches('/').to_owned());
        Ok(Self {
            http: http.build().map_err(failed)?,
            url: url.unwrap_or_else(|| format!("{scheme}://{address}")),
            token: session.environment.get("COPAL_TOKEN").map(str::to_owned),
        })
    }

    /// One request without a body; segments of the path are encoded. Errors: `Unavailable` if no daemon answers.
    pub(crate) async fn ask<T: DeserializeOwned>(&self, method: Method, path: &[&str]) -> Result<T> {
        let invalid = |why: String| {
            let message = format!("{} is no address of a daemon: {why}", self.url);
            CopalError::new(ErrorKind::Usage, message).with_hint("COPAL_DAEMON=http://127.0.0.1:8467, for example")
        };
        let mut url = reqwest::Url::parse(&self.url).map_err(|error| invalid(error.to_string()))?;
        let Ok(mut segments) = url.path_segments_mut() else { return Err(invalid("it has no path".to_owned())) };
        segments.pop_if_empty().extend(path);
        drop(segments);
        let mut request = self.http.request(method, url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let away = |error: reqwest::Error| {
            let message = format!("no daemon answers at {}", self.url);
            CopalError::new(ErrorKind::Unavailable, message)
                .because(error.without_url())
                .with_hint("start it with copal serve, or say where it is with COPAL_DAEMON")
        };
        let response = request.send().await.map_err(away)?;
        let status = response.status();
        let body = response.bytes().await.map_err(away)?;
        if status.is_success() {
            let unknown =
                |error| CopalError::new(ErrorKind::Failed, "the daemon's answer is not understood").because(error);
            return serde_json::from_slice(&body).map_err(unknown);
        }
        let kind = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ErrorKind::PermissionDenied,
            StatusCode::NOT_FOUND => ErrorKind::NotFound,
            StatusCode::CONFLICT => ErrorKind::Busy,
            StatusCode::SERVICE_UNAVAILABLE => ErrorKind::Unavailable,
            _ => ErrorKind::Failed,
        };
        let told = serde_json::from_slice::<Failed>(&body).map(|failed| failed.error);
        let told = told.unwrap_or_else(|_| Told { message: format!("the daemon answered {status}"), hint: None });
        let hint = match kind {
            ErrorKind::PermissionDenied => Some("put a token into COPAL_TOKEN; copal token add makes one".to_owned()),
            _ => told.hint,
        };
        let error = CopalError::new(kind, told.message);
        Err(match hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        })
    }
}
