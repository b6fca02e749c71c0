//! Who may do what.
//!
//! With tokens, every request needs one. Without any, whoever is on this machine may look, and start and cancel runs, but not
//! restore: a restore writes where it is told to, by the rights of the daemon. A browser that some other site sends here is
//! refused by its `Host` (a name that was pointed at this machine) and its `Origin`.

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::Response;
use copal::Secret;

use super::Api;
use super::answer::Problem;
use super::limits::Class;
use crate::server::Peer;
use crate::tokens::{Role, TokenInfo};

/// Who asks.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    role: Role,
    /// None for somebody on this machine while there are no tokens.
    token: Option<(TokenInfo, Secret)>,
}

impl Access {
    /// Who it was, for the log.
    pub(crate) fn who(&self) -> &str {
        self.token.as_ref().map_or("local", |(token, _)| &token.name)
    }

    /// Whether the same request would still be let in: an answer may go on for days, and a token is removed meanwhile.
    pub(super) fn is_in_force(&self, api: &Api) -> bool {
        api.tokens.refresh_if_changed();
        match &self.token {
            Some((token, presented)) => api.tokens.find(presented.reveal()).as_ref() == Some(token),
            None => !api.needs_token(),
        }
    }

    fn require(&self, role: Role) -> Result<(), Problem> {
        if self.role >= role {
            return Ok(());
        }
        Err(Problem::forbidden(format!("this needs the role {role}, and {} has {}", self.who(), self.role)))
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
    let Some(peer) = request.extensions().get::<Peer>().map(|peer| peer.0.ip()) else {
        return Err(Problem::forbidden("nobody knows where this request comes from"));
    };
    api.tokens.refresh_if_changed();
    let limits = &api.shared.limits;
    let limited = |wait: std::time::Duration| Problem::too_many(wait.as_secs() + 1);
    let headers = request.headers();
    let access = match headers.get(header::AUTHORIZATION) {
        Some(value) => {
            limits.may_log_in(peer).map_err(limited)?;
            let presented = value.to_str().ok().and_then(bearer);
            match presented.and_then(|presented| Some((api.tokens.find(presented)?, Secret::new(presented)))) {
                Some((token, presented)) => Access { role: token.role, token: Some((token, presented)) },
                None => {
                    limits.check(peer, None, Class::FailedLogin).map_err(limited)?;
                    return Err(Problem::unauthorized("this token is not known"));
                }
            }
        }
        None if api.needs_token() || !peer.is_loopback() => {
            return Err(Problem::unauthorized("a token is needed"));
        }
        None => {
            let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
            if !is_this_machine(host) {
                return Err(Problem::forbidden(format!("without a token this machine is not served as {host:?}")));
            }
            Access { role: Role::Operator, token: None }
        }
    };
    if is_foreign(headers) {
        return Err(Problem::forbidden("another site must not use this browser for requests"));
    }
    let class = if matches!(*request.method(), Method::GET | Method::HEAD) { Class::Read } else { Class::Write };
    limits.check(peer, access.token.as_ref().map(|(token, _)| token.name.as_str()), class).map_err(limited)?;
    Ok(access)
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
    let Some(origin) = text(header::ORIGIN) else { return false };
    origin.split_once("://").map(|(_, authority)| authority) != text(header::HOST)
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
    }

    #[test]
    fn a_token_comes_as_bearer() {
        assert_eq!(bearer("Bearer abc"), Some("abc"));
        assert_eq!(bearer("bearer  abc"), Some("abc"));
        assert_eq!(bearer("Basic abc"), None);
        assert_eq!(bearer("abc"), None);
    }
}
