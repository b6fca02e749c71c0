//! `/api/session`: signing in with a browser.
//!
//! A token is sent once, and a cookie stands for it from then on. Each time it is another one: an id that a browser had before,
//! wherever from, never begins to mean anything.

use std::time::Instant;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use copal::Secret;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Api;
use super::access::{Access, Anybody, recognise};
use super::answer::Problem;
use super::cookie;
use super::extract::Body;
use crate::server::Peer;
use crate::tokens::{OpenSession, Role};

/// Who is signed in, and what they may do.
#[derive(Serialize, ToSchema)]
pub(crate) struct SessionView {
    /// Whether other requests are answered.
    signed_in: bool,
    /// The token's name; `local` for somebody on this machine while there are no tokens.
    who: Option<String>,
    /// Their role.
    role: Option<Role>,
    /// Whether they may restore to new places.
    may_restore: bool,
    /// With a session: what its requests that change something have to send in `X-Copal-CSRF`.
    csrf: Option<String>,
    /// Whether this client has to sign in with a token.
    needs_token: bool,
    /// Whether Copal waits for its first configuration.
    setup: bool,
    /// The program's version.
    version: String,
}

impl SessionView {
    /// Before there is a configuration: nobody can sign in.
    pub(super) fn of_set_up() -> Self {
        Self { setup: true, needs_token: false, ..Self::of(None) }
    }

    fn of(access: Option<&Access>) -> Self {
        let session = access.and_then(Access::session);
        Self {
            signed_in: access.is_some(),
            who: access.map(|access| access.who().to_owned()),
            role: access.map(Access::role),
            may_restore: access.is_some_and(|access| access.require_restore(false).is_ok()),
            csrf: session.map(|session: &OpenSession| session.csrf.reveal().to_owned()),
            needs_token: access.is_none_or(Access::has_token),
            setup: false,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// Who is signed in.
#[utoipa::path(get, path = "/api/session", tag = "session", security(()), responses((status = 200, body = SessionView)))]
pub(crate) async fn show(Anybody(access): Anybody) -> Json<SessionView> {
    Json(SessionView::of(access.as_ref()))
}

/// What to sign in with.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SignIn {
    /// A token, as `copal token add` printed it.
    #[schema(value_type = String, min_length = 1, max_length = 256)]
    token: Secret,
}

/// Signs in: the answer's cookie stands for the token until signing out, 12 hours without a request, or the daemon's end.
#[utoipa::path(post, path = "/api/session", tag = "session", security(()), request_body = SignIn,
    responses((status = 200, body = SessionView, headers(("Set-Cookie" = String, description = "the session's cookie")))))]
pub(crate) async fn sign_in(
    State(api): State<Api>,
    Extension(Peer(peer)): Extension<Peer>,
    headers: HeaderMap,
    Body(SignIn { token }): Body<SignIn>,
) -> Result<Response, Problem> {
    api.tokens.refresh_if_changed();
    let token = recognise(&api, peer.ip(), Some(token.reveal())).map_err(|problem| {
        problem.hint("make a token with: copal token add NAME --role viewer (or operator, admin)")
    })?;
    let opened = api.shared.sessions.open(token, Instant::now());
    let (id, session) = opened.map_err(|error| Problem::failed(error.to_string()))?;
    if let Some(before) = cookie::session(&headers) {
        api.shared.sessions.end(before);
    }
    let access = Access::by_session(session);
    tracing::info!(who = access.who(), %peer, "signed in");
    let cookie = cookie::set(id.reveal(), is_secure(&api, &headers));
    Ok(([(header::SET_COOKIE, cookie)], Json(SessionView::of(Some(&access)))).into_response())
}

/// Signs out: the session ends, and the browser forgets its cookie.
#[utoipa::path(delete, path = "/api/session", tag = "session", security(()),
    responses((status = 204, description = "nobody is signed in any more", headers(("Set-Cookie" = String, description = "removes the cookie")))))]
pub(crate) async fn sign_out(_: Anybody, State(api): State<Api>, headers: HeaderMap) -> Response {
    if let Some(token) = cookie::session(&headers).and_then(|id| api.shared.sessions.end(id)) {
        tracing::info!(who = token.info.name, "signed out");
    }
    let cookie = cookie::removed(is_secure(&api, &headers));
    (StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response()
}

/// Whether the browser speaks TLS, with the daemon or with a proxy in front of it; then it shall not send the cookie without.
fn is_secure(api: &Api, headers: &HeaderMap) -> bool {
    api.shared.has_tls || headers.get(header::ORIGIN).is_some_and(|origin| origin.as_bytes().starts_with(b"https://"))
}
