//! E-mail by SMTP, with TLS unless it is told to do without.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use copal_core::Secret;
use jiff::Timestamp;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message as Mail};
use lettre::transport::smtp::Error as SmtpError;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use percent_encoding::percent_decode_str;
use reqwest::Url;

use crate::channel::keys::Keys;
use crate::text::{Count, Message, escape_within, one_line};
use crate::{Notice, NotifyError, NotifyErrorKind, Result};

const NAME: &str = "email";
/// Longer subjects are cut by those who show them.
const SUBJECT_LIMIT: usize = 200;
const BODY_LIMIT: usize = 64 << 10;

#[derive(Clone)]
pub(super) struct Email {
    host: String,
    port: u16,
    security: Security,
    login: Option<(String, Secret)>,
    from: Mailbox,
    to: Vec<Mailbox>,
    /// An authority to trust besides the system's.
    authority: Option<std::path::PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Security {
    /// TLS from the start.
    Implicit,
    /// STARTTLS, or nothing is sent.
    StartTls,
    None,
}

impl Email {
    pub(super) fn read(keys: &mut Keys) -> Result<Self> {
        keys.must_be_table()?;
        let url =
            Url::parse(&keys.needed("url")?).map_err(|error| keys.error(format!("\"url\" cannot be read: {error}")))?;
        let starttls = keys.flag("starttls")?;
        let (security, port) = match (url.scheme(), starttls) {
            ("smtps", None) => (Security::Implicit, 465),
            ("smtp", None | Some(true)) => (Security::StartTls, 587),
            ("smtp", Some(false)) => (Security::None, 25),
            ("smtps", Some(_)) => {
                return Err(keys.error("\"starttls\" is for smtp://; smtps:// has TLS from the start"));
            }
            _ => return Err(keys.error("\"url\" must begin with smtps:// or smtp://")),
        };
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        if host.is_empty() || !matches!(url.path(), "" | "/") || url.query().is_some() {
            return Err(keys.error("\"url\" must be no more than smtps://[user:password@]host[:port]"));
        }
        let decoded = |text: &str| {
            let decoded = percent_decode_str(text).decode_utf8().map(|text| text.into_owned());
            decoded.map_err(|_| keys.error("\"url\" has a wrong % escape"))
        };
        let mut user = Some(url.username()).filter(|user| !user.is_empty()).map(decoded).transpose()?;
        let mut password =
            url.password().filter(|password| !password.is_empty()).map(decoded).transpose()?.map(Secret::new);
        user = keys.text("user")?.or(user);
        password = keys.secret("password")?.or(password);
        let login = match (user, password) {
            (Some(user), Some(password)) => Some((user, password)),
            (None, None) => None,
            (Some(_), None) => return Err(keys.error("\"password\" is missing")),
            (None, Some(_)) => return Err(keys.error("\"user\" is missing")),
        };
        if security == Security::None && login.is_some() && !is_loopback(&host) {
            return Err(keys.error("a password is not sent without TLS to another host"));
        }
        let (from, authority) = (keys.needed("from")?, keys.text("ca")?.map(Into::into));
        let to = keys.take("to").ok_or_else(|| keys.error("\"to\" is missing"))?;
        let mailbox = |key: &str, text: &str| {
            text.parse::<Mailbox>().map_err(|error| keys.error(format!("\"{key}\" is no address: {error}")))
        };
        let from = mailbox("from", &from)?;
        let to = keys.texts("to", to)?.iter().map(|text| mailbox("to", text)).collect::<Result<_>>()?;
        if security == Security::None && authority.is_some() {
            return Err(keys.error("\"ca\" is of no use without TLS"));
        }
        Ok(Self { host, port: url.port().unwrap_or(port), security, login, from, to, authority })
    }

    /// Scheme and host.
    pub(super) fn place(&self) -> String {
        let scheme = if self.security == Security::Implicit { "smtps" } else { "smtp" };
        format!("{scheme}://{}:{}", self.host, self.port)
    }

    pub(super) async fn send(&self, notice: &Notice, timeout: Duration) -> Result<()> {
        let mail = self.mail(notice)?;
        let hello = ClientId::default();
        let tls = if self.security == Security::None { None } else { Some(self.tls().await?) };
        let (implicit, starttls) = match self.security {
            Security::Implicit => (tls, None),
            _ => (None, tls),
        };
        let server = (self.host.as_str(), self.port);
        let mut connection = AsyncSmtpConnection::connect_tokio1(server, Some(timeout), &hello, implicit, None)
            .await
            .map_err(|error| self.failed("no connection", &error))?;
        if let Some(tls) = starttls {
            if !connection.can_starttls() {
                let message = "the server offers no STARTTLS, so nothing was sent; see smtps:// and starttls = false";
                return Err(NotifyError::new(NotifyErrorKind::Refused, NAME, message));
            }
            connection.starttls(tls, &hello).await.map_err(|error| self.failed("no TLS", &error))?;
        }
        if let Some((user, password)) = &self.login {
            let login = Credentials::new(user.clone(), password.reveal().to_owned());
            let known = [Mechanism::Plain, Mechanism::Login];
            connection.auth(&known, &login).await.map_err(|error| self.failed("the login failed", &error))?;
        }
        let sent = connection.send(mail.envelope(), &mail.formatted()).await;
        sent.map_err(|error| self.failed("not accepted", &error))?;
        // It is accepted, however the farewell goes.
        let _ = connection.quit().await;
        Ok(())
    }

    fn mail(&self, notice: &Notice) -> Result<Mail> {
        let message = Message::new(notice);
        let shortened = |text: &str, limit| escape_within(text, limit, Count::Bytes, |_, _| None);
        // A name that looks like an encoded word (RFC 2047) is not to be decoded.
        let title = message.title.replace("=?", "=\u{200b}?");
        let id = format!("<{:032x}@{}>", rand::random::<u128>(), self.from.email.domain());
        let mut builder = Mail::builder()
            .from(self.from.clone())
            .subject(shortened(&format!("[copal] {title}"), SUBJECT_LIMIT))
            .date(notice.time.max(Timestamp::UNIX_EPOCH).into())
            .message_id(Some(id))
            .header(ContentType::TEXT_PLAIN);
        for to in &self.to {
            builder = builder.to(to.clone());
        }
        let mut mail = builder
            .body(shortened(&message.body, BODY_LIMIT))
            .map_err(|error| NotifyError::configuration(NAME, format!("no mail can be made: {error}")))?;
        // No answers from those who are on holiday (RFC 3834).
        let automatic = HeaderName::new_from_ascii_str("Auto-Submitted");
        mail.headers_mut().insert_raw(HeaderValue::new(automatic, "auto-generated".to_owned()));
        Ok(mail)
    }

    async fn tls(&self) -> Result<TlsParameters> {
        let unusable = |what: String| NotifyError::configuration(NAME, what);
        let mut parameters = TlsParameters::builder(self.host.clone());
        if let Some(path) = &self.authority {
            let pem = tokio::fs::read(path).await;
            let pem = pem.map_err(|error| unusable(format!("\"ca\" {} cannot be read: {error}", path.display())))?;
            let certificate = Certificate::from_pem(&pem)
                .map_err(|_| unusable(format!("\"ca\" {} is no certificate", path.display())))?;
            parameters = parameters.add_root_certificate(certificate);
        }
        parameters.build().map_err(|error| unusable(format!("TLS cannot be used: {error}")))
    }

    fn failed(&self, what: &str, error: &SmtpError) -> NotifyError {
        let status = error.status().and_then(|code| code.to_string().parse::<u16>().ok());
        let kind = if error.is_timeout() {
            NotifyErrorKind::TimedOut
        } else if error.is_permanent() || (error.is_client() && status.is_none()) {
            NotifyErrorKind::Refused
        } else if error.is_transient() {
            NotifyErrorKind::Unavailable
        } else {
            NotifyErrorKind::Unreachable
        };
        let said: String = one_line(&error.to_string()).chars().take(300).collect();
        // A server that repeats what it was given is not repeated.
        let message = if self.repeats_login(&said) { what.to_owned() } else { format!("{what}: {said}") };
        let error = NotifyError::new(kind, NAME, message);
        match status {
            Some(status) => error.status(status),
            None => error,
        }
    }

    fn repeats_login(&self, said: &str) -> bool {
        self.login.as_ref().is_some_and(|(user, password)| {
            let plain = format!("\0{user}\0{}", password.reveal());
            [password.reveal().to_owned(), BASE64.encode(password.reveal()), BASE64.encode(plain)]
                .iter()
                .any(|secret| said.contains(secret.trim_end_matches('=')))
        })
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}
