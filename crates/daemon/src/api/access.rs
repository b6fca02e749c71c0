//! Who may do what.
//!
//! With tokens, every request needs one, or the cookie of a session that stands for one. Without any, whoever is on this machine may
//! look, and start and cancel runs, but not restore: a restore writes where it is told to, by the rights of the daemon. A browser
//! that some other site sends here is refused by its `Host` (a name that was pointed at this machine) and by its `Origin`, and with
//! a cookie by what it cannot know: the secret of the session, which has to come with all that changes something.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::Response;

use super::Api;
use super::answer::Problem;
use super::cookie;
use super::limits::Class;
use crate::server::Peer;
use crate::tokens::{KnownToken, OpenSession, Role};

const CSRF: HeaderName = HeaderName::from_static("x-copal-csrf");
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// Who asks.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    role: Role,
    /// None for somebody on this machine while there are no tokens.
    token: Option<KnownToken>,
    /// That stands for the token, if it did not come itself.
    session: Option<OpenSession>,
}

impl Access {
    fn by_token(token: KnownToken) -> Self {
        Self { role: token.info.role, token: Some(token), session: None }
    }

    pub(super) fn by_session(session: OpenSession) -> Self {
        Self { session: Some(session.clone()), ..Self::by_token(session.token) }
    }

    fn local() -> Self {
        Self { role: Role::Operator, token: None, session: None }
    }

    /// Who it was, for the log.
    pub(crate) fn who(&self) -> &str {
        self.token.as_ref().map_or("local", |token| &token.info.name)
    }

    pub(super) fn role(&self) -> Role {
        self.role
    }

    /// The session that the request came with.
    pub(super) fn session(&self) -> Option<&OpenSession> {
        self.session.as_ref()
    }

    /// Whether the same request would still be let in: an answer may go on for days, and a token is removed meanwhile.
    pub(super) fn is_in_force(&self, api: &Api) -> bool {
        api.tokens.refresh_if_changed();
        let Some(token) = &self.token else { return !api.needs_token() };
        let is_open = |session| api.shared.sessions.is_open(session, Instant::now());
        api.tokens.holds(token) && self.session.as_ref().is_none_or(is_open)
    }

    fn require(&self, role: Role) -> Result<(), Problem> {
        if self.role >= role {
            return Ok(());
        }
        Err(Problem::forbidden(format!("this needs the role {role}, and {} has {}", self.who(), self.role)))
    }

    /// Whether it is somebody with a token, or only whoever is on this machine.
    pub(crate) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Refuses whoever is no admin; `what` is what only admins may.
    pub(crate) fn require_admin(&self, what: &str) -> Result<(), Problem> {
        if self.token.is_none() {
            return Err(Problem::forbidden(format!("{what} needs a token"))
                .hint("make one with: copal token add NAME --role admin"));
        }
        self.require(Role::Admin)
    }

    /// Refuses whoever may not restore here: over an existing database only admins may.
    pub(crate) fn require_restore(&self, replaces: bool) -> Result<(), Problem> {
        if self.token.is_none() {
            return Err(Problem::forbidden("a restore needs a token")
                .hint("make one with: copal token add NAME --role operator (admin to replace databases)"));
        }
        self.require(if replaces { Role::Admin } else { Role::Operator })
    }
}

/// Checks every request before anything of it is read.
pub(crate) async fn guard(State(api): State<Api>, mut request: Request, next: Next) -> Result<Response, Problem> {
    let access = admit(&api, &request)?;
    tracing::debug!(who = access.who(), method = %request.method(), path = request.uri().path(), "a request");
    request.extensions_mut().insert(access);
    Ok(next.run(request).await)
}

fn admit(api: &Api, request: &Request) -> Result<Access, Problem> {
    let (peer, headers) = (peer(request.extensions())?, request.headers());
    let Some(access) = identify(api, peer, request.method(), headers)? else {
        return Err(match cookie::session(headers) {
            Some(_) => Problem::unauthorized("this session has ended").hint("sign in again"),
            None => Problem::unauthorized("a token is needed"),
        });
    };
    refuse_foreign(headers)?;
    let who = access.token.as_ref().map(|token| token.info.name.as_str());
    api.shared.limits.check(peer, who, class(request.method())).map_err(limited)?;
    Ok(access)
}

/// Checks requests for what needs no token: no other site may make them, nor anybody too many.
pub(crate) async fn public(State(api): State<Api>, request: Request, next: Next) -> Result<Response, Problem> {
    let (peer, headers) = (peer(request.extensions())?, request.headers());
    if !api.needs_token() && peer.is_loopback() {
        require_this_machine(headers)?;
    }
    refuse_foreign(headers)?;
    api.shared.limits.check(peer, None, class(request.method())).map_err(limited)?;
    Ok(next.run(request).await)
}

/// Who asks; `None` for somebody who has to sign in first.
fn identify(api: &Api, peer: IpAddr, method: &Method, headers: &HeaderMap) -> Result<Option<Access>, Problem> {
    api.tokens.refresh_if_changed();
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let presented = value.to_str().ok().and_then(bearer);
        return recognise(api, peer, presented).map(|token| Some(Access::by_token(token)));
    }
    let id = cookie::session(headers);
    if let Some(session) = id.and_then(|id| api.shared.sessions.find(id, &api.tokens, Instant::now())) {
        let presented = headers.get(CSRF).map(HeaderValue::as_bytes).unwrap_or_default();
        if class(method) == Class::Write && !session.has_csrf(presented) {
            return Err(Problem::forbidden("with a session's cookie this needs the session's secret in X-Copal-CSRF")
                .hint("GET /api/session tells it as \"csrf\"; a token in Authorization needs none"));
        }
        return Ok(Some(Access::by_session(session)));
    }
    if api.needs_token() || !peer.is_loopback() {
        return Ok(None);
    }
    require_this_machine(headers)?;
    Ok(Some(Access::local()))
}

/// Whose token this is. Those that are none are counted.
pub(super) fn recognise(api: &Api, peer: IpAddr, presented: Option<&str>) -> Result<KnownToken, Problem> {
    api.shared.limits.may_log_in(peer).map_err(limited)?;
    match presented.and_then(|presented| api.tokens.recognise(presented)) {
        Some(token) => Ok(token),
        None => {
            api.shared.limits.check(peer, None, Class::FailedLogin).map_err(limited)?;
            Err(Problem::unauthorized("this token is not known"))
        }
    }
}

pub(super) fn peer(extensions: &Extensions) -> Result<IpAddr, Problem> {
    let peer = extensions.get::<Peer>().map(|peer| peer.0.ip());
    peer.ok_or_else(|| Problem::forbidden("nobody knows where this request comes from"))
}

pub(super) fn class(method: &Method) -> Class {
    if matches!(*method, Method::GET | Method::HEAD) { Class::Read } else { Class::Write }
}

pub(super) fn limited(wait: Duration) -> Problem {
    Problem::too_many(wait.as_secs() + 1)
}

pub(super) fn require_this_machine(headers: &HeaderMap) -> Result<(), Problem> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if is_this_machine(host) {
        return Ok(());
    }
    Err(Problem::forbidden(format!("without a token this machine is not served as {host:?}")))
}

pub(super) fn refuse_foreign(headers: &HeaderMap) -> Result<(), Problem> {
    if is_foreign(headers) {
        return Err(Problem::forbidden("another site must not use this browser for requests")
            .hint("a reverse proxy in front of Copal has to pass on the browser's Host"));
    }
    Ok(())
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Whether a `Host` is a name that nobody can point elsewhere.
fn is_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Whether a browser says that a page of another site is behind the request.
fn is_foreign(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(origin) = headers.get(header::ORIGIN) {
        let authority = origin.to_str().ok().and_then(|origin| Some(origin.split_once("://")?.1));
        return authority.is_none() || authority != text(header::HOST);
    }
    // What a page shows of others comes without `Origin`. A link that somebody follows is their own request.
    matches!(text(SEC_FETCH_SITE), Some("cross-site" | "same-site")) && text(SEC_FETCH_MODE) != Some("navigate")
}

async fn access_of(parts: &Parts, role: Role) -> Result<Access, Problem> {
    let access = parts.extensions.get::<Access>().cloned();
    let access = access.ok_or_else(|| Problem::unauthorized("a token is needed"))?;
    access.require(role)?;
    Ok(access)
}

/// Somebody who may look.
pub(crate) struct Viewer(pub(crate) Access);

/// Somebody who may start and cancel runs.
pub(crate) struct Operator(pub(crate) Access);

impl<S: Send + Sync> FromRequestParts<S> for Viewer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        access_of(parts, Role::Viewer).await.map(Self)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        access_of(parts, Role::Operator).await.map(Self)
    }
}

/// Somebody who may not be signed in yet.
pub(crate) struct Anybody(pub(crate) Option<Access>);

impl FromRequestParts<Api> for Anybody {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        identify(api, peer(&parts.extensions)?, &parts.method, &parts.headers).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_this_machine() {
        for host in ["localhost", "LOCALHOST:8467", "127.0.0.1:1", "[::1]:8467", "[::1]", "127.9.9.9"] {
            assert!(is_this_machine(host), "{host}");
        }
        for host in ["", "evil.example", "localhost.evil.example", "10.0.0.1:8467", "[::2]", "127.0.0.1.evil.example"] {
            assert!(!is_this_machine(host), "{host}");
        }
    }

    #[test]
    fn pages_of_other_sites_are_foreign() {
        let of = |host: &str, origin: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().unwrap());
            }
            is_foreign(&headers)
        };
        assert!(!of("localhost:8467", None));
        assert!(!of("localhost:8467", Some("http://localhost:8467")));
        assert!(of("localhost:8467", Some("http://localhost:8000")));
        assert!(of("localhost:8467", Some("https://evil.example")));
        assert!(of("localhost:8467", Some("null")));
        assert!(is_foreign(&HeaderMap::from_iter([(header::ORIGIN, HeaderValue::from_static("null"))])));
    }

    #[test]
    fn what_pages_of_other_sites_show_is_foreign_and_a_link_is_not() {
        let of = |site: &str, mode: &str| {
            let values = [(SEC_FETCH_SITE, site), (SEC_FETCH_MODE, mode)];
            is_foreign(&values.into_iter().map(|(name, value)| (name, value.parse().unwrap())).collect())
        };
        for mode in ["no-cors", "cors", "navigate"] {
            assert!(!of("same-origin", mode) && !of("none", mode), "{mode}");
        }
        for site in ["cross-site", "same-site"] {
            assert!(of(site, "no-cors") && of(site, "") && !of(site, "navigate"), "{site}");
        }
    }

    #[test]
    fn a_token_comes_as_bearer() {
        assert_eq!(bearer("Bearer abc"), Some("abc"));
        assert_eq!(bearer("bearer  abc"), Some("abc"));
        assert_eq!(bearer("Basic abc"), None);
        assert_eq!(bearer("abc"), None);
    }
}
