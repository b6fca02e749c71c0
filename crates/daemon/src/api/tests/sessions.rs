//! What signing in means from other addresses, and where nobody has to.

use axum::body::Body;
use axum::http::{Request, header};
use serde_json::json;

use super::{Answer, Home};
use crate::tokens::Role;

fn sign_in(home: &Home, token: &str) -> Request<Body> {
    home.request(None, "POST", "/api/session", Some(json!({ "token": token })))
}

fn with(mut request: Request<Body>, headers: &[(&'static str, &str)]) -> Request<Body> {
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    request
}

/// The id that was given out.
#[track_caller]
fn id_of(answer: &Answer) -> String {
    let cookie = answer.headers[header::SET_COOKIE].to_str().unwrap();
    cookie.strip_prefix("copal_session=").unwrap().split(';').next().unwrap().to_owned()
}

#[tokio::test]
async fn without_tokens_whoever_is_on_this_machine_is_signed_in() {
    let home = Home::with_tokens(false).await;
    let show = |headers: &[(&'static str, &str)]| with(home.request(None, "GET", "/api/session", None), headers);
    let local = json!({
        "signed_in": true, "who": "local", "role": "operator", "may_restore": false, "csrf": null, "needs_token": false,
        "setup": false, "version": env!("CARGO_PKG_VERSION"),
    });
    assert_eq!(home.send(show(&[])).await.json(), local);
    // What a browser has from elsewhere is in nobody's way.
    let junk = format!("copal_session={}", "0".repeat(64));
    assert_eq!(home.send(show(&[("cookie", &junk)])).await.json(), local);
    let backup = home.request(None, "POST", "/api/databases/shop/backup", None);
    assert_eq!(home.send(with(backup, &[("cookie", &junk)])).await.status, 202);
    for path in ["/", "/page/style.css", "/api/session"] {
        let ask = |headers: &[(&'static str, &str)]| home.send(with(home.request(None, "GET", path, None), headers));
        assert_eq!(
            ask(&[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")]).await.status,
            200,
            "{path}"
        );
        ask(&[("host", "evil.example")]).await.refuses(403);
        ask(&[("origin", "http://evil.example")]).await.refuses(403);
        ask(&[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")]).await.refuses(403);
    }
    home.send(sign_in(&home, "guess")).await.refuses(401);

    let far = home.send_from("192.0.2.1", show(&[])).await.json();
    assert_eq!((&far["signed_in"], &far["needs_token"], &far["who"]), (&json!(false), &json!(true), &json!(null)));
}

#[tokio::test]
async fn from_the_first_token_on_everybody_signs_in() {
    let home = Home::with_tokens(false).await;
    let show = || home.request(None, "GET", "/api/session", None);
    assert_eq!(home.send(show()).await.json()["who"], "local");
    let token = home.tokens.add("first", Role::Viewer, jiff::Timestamp::now()).unwrap();
    let late = tokio::time::Instant::now() + super::home::PATIENCE;
    while home.send(show()).await.json()["signed_in"] == true {
        assert!(tokio::time::Instant::now() < late, "nobody has to sign in");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let answer = home.send(sign_in(&home, token.reveal())).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["who"]), (200, &json!("first")));
}

#[tokio::test]
async fn a_session_is_as_good_as_its_token_and_its_end_is_told() {
    let home = Home::new().await;
    for role in Role::ALL {
        let bearer = home.bearer(role);
        let answer = home.send(sign_in(&home, bearer.trim_start_matches("Bearer "))).await;
        let view = answer.json();
        assert_eq!(view["may_restore"], role >= Role::Operator);
        let cookie = format!("copal_session={}", id_of(&answer));
        let csrf = view["csrf"].as_str().unwrap();
        let headers = [("cookie", &*cookie), ("x-copal-csrf", csrf)];
        let shown = home.send(with(home.request(None, "GET", "/api/session", None), &headers[..1])).await.json();
        assert_eq!(shown, view);
        // As elsewhere, a token in the header comes first; and it needs no secret.
        let both = home.request(Some(Role::Admin), "POST", "/api/databases/nobody/changed", None);
        home.send(with(both, &headers[..1])).await.refuses(404);
        let pin = |headers| with(home.request(None, "POST", "/api/databases/nobody/changed", None), headers);
        home.send(pin(&headers)).await.refuses(if role >= Role::Operator { 404 } else { 403 });
        home.send(pin(&headers[..1])).await.refuses(403);
        // The secret alone is nothing.
        home.send(pin(&headers[1..])).await.refuses(401);
        let stream = home.open_from("127.0.0.1", with(home.request(None, "GET", "/api/events", None), &headers)).await;
        assert_eq!(stream.status(), 200);
        let out = home.send(with(home.request(None, "DELETE", "/api/session", None), &headers)).await;
        assert_eq!(out.status, 204);
        // The stream ends by itself.
        let end = axum::body::to_bytes(stream.into_body(), usize::MAX);
        tokio::time::timeout(super::home::PATIENCE, end).await.expect("the stream goes on").unwrap();
        let ended = home.send(pin(&headers)).await;
        assert!(ended.refuses(401).json()["error"]["message"].as_str().unwrap().contains("session has ended"));
    }
}

#[tokio::test]
async fn guessing_at_the_sign_in_is_guessing() {
    let home = Home::new().await;
    for _ in 0..10 {
        let answer = home.send_from("192.0.2.7", sign_in(&home, "guess")).await;
        assert!(!answer.refuses(401).headers.contains_key(header::SET_COOKIE));
    }
    let bearer = home.bearer(Role::Admin);
    let right = bearer.trim_start_matches("Bearer ");
    let refused = home.send_from("192.0.2.7", sign_in(&home, right)).await;
    assert!(refused.refuses(429).headers.contains_key(header::RETRY_AFTER));
    // The same count as for tokens in the header.
    let status = home.request(Some(Role::Admin), "GET", "/api/status", None);
    home.send_from("192.0.2.7", status).await.refuses(429);
    let answer = home.send_from("192.0.2.8", sign_in(&home, right)).await;
    assert_eq!(answer.status, 200);
    // Who is signed in already is not kept out by it.
    let cookie = format!("copal_session={}", id_of(&answer));
    let status = with(home.request(None, "GET", "/api/status", None), &[("cookie", &cookie)]);
    assert_eq!(home.send_from("192.0.2.7", status).await.status, 200);
}

#[tokio::test]
async fn even_what_needs_no_token_has_a_limit() {
    let home = Home::new().await;
    let ask = async |path: &str| home.send_from("192.0.2.7", home.request(None, "GET", path, None)).await.status;
    let mut answered = 0;
    while ask("/api/session").await == 200 {
        answered += 1;
        assert!(answered < 20_000, "there is no limit");
    }
    assert!(answered >= 1_000, "{answered}");
    for path in ["/", "/page/style.css", "/page/nothing", "/api/session"] {
        assert_eq!(ask(path).await, 429, "{path}");
    }
}

#[tokio::test]
async fn a_proxy_that_speaks_tls_makes_the_cookie_secure() {
    let home = Home::new().await;
    let bearer = home.bearer(Role::Viewer);
    let token = bearer.trim_start_matches("Bearer ");
    for (scheme, is_secure) in [("http", false), ("https", true)] {
        let origin = format!("{scheme}://copal.example");
        let headers = [("host", "copal.example"), ("origin", &*origin)];
        let answer = home.send(with(sign_in(&home, token), &headers)).await;
        let cookie = answer.headers[header::SET_COOKIE].to_str().unwrap();
        assert_eq!(cookie.ends_with("; Secure"), is_secure, "{cookie}");
    }
}

#[tokio::test]
async fn what_is_no_sign_in_is_refused() {
    let home = Home::new().await;
    let body = |body: &str| {
        let mut request = home.request(None, "POST", "/api/session", Some(json!(null)));
        *request.body_mut() = body.to_owned().into();
        request
    };
    for text in
        ["", "{}", "null", "[\"x\"]", "{\"token\": null}", "{\"token\": 1}", "{\"token\": \"x\", \"who\": \"y\"}"]
    {
        home.send(body(text)).await.refuses(400);
    }
    // What a form of another site could send.
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"] {
        home.send(with(body("{\"token\": \"x\"}"), &[("content-type", kind)])).await.refuses(415);
    }
    home.send(sign_in(&home, &"x".repeat(100_000))).await.refuses(413);
    home.send(sign_in(&home, &"x".repeat(10_000))).await.refuses(401);
}
