//! The notice's JSON, posted to any URL.

use std::str::FromStr as _;

use aws_lc_rs::hmac;
use copal_core::Secret;
use reqwest::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderName, TRANSFER_ENCODING};
use toml::Value;

use crate::channel::http::{Endpoint, Request, secret_header};
use crate::channel::keys::Keys;
use crate::{Notice, Result};

const SIGNATURE: HeaderName = HeaderName::from_static("x-copal-signature");

#[derive(Clone)]
pub(super) struct Webhook {
    endpoint: Endpoint,
    headers: HeaderMap,
    secret: Option<Secret>,
}

impl Webhook {
    pub(super) fn read(keys: &mut Keys) -> Result<Self> {
        let endpoint = keys.endpoint()?;
        let secret = keys.secret("secret")?;
        let mut headers = HeaderMap::new();
        let table = match keys.take("headers") {
            None => toml::Table::new(),
            Some(Value::Table(table)) => table,
            Some(_) => return Err(keys.error("\"headers\" must be a table")),
        };
        for (name, value) in table {
            let known = HeaderName::from_str(&name)
                .ok()
                .filter(|name| ![CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING].contains(name));
            let value = value.as_str().and_then(secret_header);
            let (Some(header), Some(value)) = (known, value) else {
                return Err(keys.error(format!("the header {name:?} cannot be sent")));
            };
            headers.insert(header, value);
        }
        Ok(Self { endpoint, headers, secret })
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(super) async fn send(&self, notice: &Notice) -> Result<()> {
        let mut request = Request::json(notice);
        request.headers = self.headers.clone();
        if let Some(secret) = &self.secret {
            let key = hmac::Key::new(hmac::HMAC_SHA256, secret.reveal().as_bytes());
            let tag = hmac::sign(&key, &request.body);
            let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
            if let Some(value) = secret_header(&format!("sha256={hex}")) {
                request.headers.insert(SIGNATURE, value);
            }
        }
        self.endpoint.post(request).await
    }
}
