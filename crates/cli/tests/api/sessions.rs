//! Signing in with a browser.

use std::time::{Duration, Instant};

use reqwest::{Client, Method, RequestBuilder, Response, header};
use serde_json::{Value, json};

use crate::served::{PATIENCE, Served, TLS, certificate, client, home, token};

/// A browser that was signed in.
struct Browser {
    client: Client,
    url: String,
    /// `copal_session=…`.
    cookie: String,
    /// All that was said with it.
    attributes: String,
    view: Value,
}

impl Browser {
    async fn sign_in(served: &Served, token: &str) -> Self {
        Self::sign_in_by(client(), served, token).await
    }

    async fn sign_in_by(client: Client, served: &Served, token: &str) -> Self {
        let answer = post(&client, served, token).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()[header::CACHE_CONTROL], "no-store");
        let set = answer.headers()[header::SET_COOKIE].to_str().unwrap();
        let (cookie, attributes) = set.split_once("; ").unwrap();
        let (cookie, attributes) = (cookie.to_owned(), attributes.to_owned());
        Self { client, url: served.url.clone(), cookie, attributes, view: value(answer).await }
    }

    fn ask(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url)).header(header::COOKIE, &self.cookie)
    }

    /// With the session's secret.
    fn change(&self, method: Method, path: &str) -> RequestBuilder {
        self.ask(method, path).header("x-copal-csrf", self.view["csrf"].as_str().unwrap())
    }

    async fn get(&self, path: &str) -> Response {
        self.ask(Method::GET, path).send().await.unwrap()
    }
}

fn post(client: &Client, served: &Served, token: &str) -> RequestBuilder {
    let request = client.post(format!("{}/api/session", served.url));
    request.header(header::CONTENT_TYPE, "application/json").body(json!({ "token": token }).to_string())
}

async fn value(answer: Response) -> Value {
    serde_json::from_str(&answer.text().await.unwrap()).unwrap()
}

#[tokio::test]
async fn a_token_is_sent_once_and_a_cookie_stands_for_it() {
    let home = home("");
    home.good(&["init", "--no-encrypt"]);
    let (viewer, operator) = (token(&home, "looker", "viewer"), token(&home, "ops", "operator"));
    let mut served = Served::start(&home, &[], &[]);
    let nobody = value(client().get(format!("{}/api/session", served.url)).send().await.unwrap()).await;
    let version = &nobody["version"];
    assert_eq!(
        nobody,
        json!({ "signed_in": false, "who": null, "role": null, "may_restore": false, "csrf": null, "needs_token": true,
                "setup": false, "version": version })
    );
    let looker = Browser::sign_in(&served, &viewer).await;
    let ops = Browser::sign_in(&served, &operator).await;
    assert_eq!(looker.attributes, "HttpOnly; SameSite=Strict; Path=/");
    let csrf = &ops.view["csrf"];
    assert_eq!(
        ops.view,
        json!({ "signed_in": true, "who": "ops", "role": "operator", "may_restore": true, "csrf": csrf,
                "needs_token": true, "setup": false, "version": version })
    );
    assert_eq!(csrf.as_str().unwrap().len(), 64);
    assert_ne!((&looker.cookie, &looker.view["csrf"]), (&ops.cookie, csrf));
    assert_eq!(value(ops.get("/api/session").await).await, ops.view);

    // Each stays who it is.
    for browser in [&looker, &ops] {
        assert_eq!(browser.get("/api/status").await.status(), 200);
    }
    let back_up = async |browser: &Browser| {
        let request = browser.change(Method::POST, "/api/databases/shop/backup");
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!((back_up(&looker).await, back_up(&ops).await), (403, 202));
    // The secret of one session is none of another.
    let other = looker.view["csrf"].as_str().unwrap();
    let request = ops.ask(Method::POST, "/api/databases/shop/backup").header("x-copal-csrf", other);
    assert_eq!(request.send().await.unwrap().status(), 403);

    served.terminate();
    assert_eq!(served.ended_with().code(), Some(0));
    let log = served.log();
    assert!(log.contains("signed in") && log.contains("looker"), "{log}");
    for secret in [&viewer, &operator, &ops.cookie["copal_session=".len()..], csrf.as_str().unwrap()] {
        assert!(!log.contains(secret), "the log holds {secret}:\n{log}");
    }
}

#[tokio::test]
async fn whatever_changes_something_needs_the_secret_of_the_session() {
    let home = home("");
    home.good(&["init", "--no-encrypt"]);
    let admin = token(&home, "root", "admin");
    let served = Served::start(&home, &[], &[]);
    let browser = Browser::sign_in(&served, &admin).await;
    let document = value(browser.get("/api/openapi.json").await).await;
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let method = method.to_uppercase().parse::<Method>().unwrap();
            if method != Method::GET && (&method, path.as_str()) != (&Method::POST, "/api/session") {
                operations.push((method, path.as_str(), operation["requestBody"].is_object()));
            }
        }
    }
    assert!(operations.len() >= 10, "{operations:?}");
    // The end of the session comes last.
    operations.sort_by_key(|(_, path, _)| *path == "/api/session");
    assert_eq!(operations.last().unwrap().0, Method::DELETE);
    let stale = "0".repeat(64);
    for (method, path, has_body) in operations {
        let id = if path.contains("/backups/") { "20261120-153000Z-7f3a" } else { "7" };
        let filled = path.replace("{name}", "nobody").replace("{id}", id);
        let send = async |secret: Option<&str>| {
            let mut request = browser.ask(method.clone(), &filled);
            if let Some(secret) = secret {
                request = request.header("x-copal-csrf", secret);
            }
            if has_body {
                request = request.header(header::CONTENT_TYPE, "application/json").body("{}");
            }
            let answer = request.send().await.unwrap();
            (answer.status().as_u16(), answer.text().await.unwrap())
        };
        for secret in [None, Some(""), Some(&*stale)] {
            let (status, text) = send(secret).await;
            assert!(status == 403 && text.contains("X-Copal-CSRF"), "{method} {path}: {status} {text}");
        }
        let (status, text) = send(browser.view["csrf"].as_str()).await;
        assert!(![401, 403].contains(&status), "{method} {path}: {status} {text}");
    }
}

#[tokio::test]
async fn whoever_signs_out_is_out_and_others_are_not() {
    let home = home("");
    home.good(&["init", "--no-encrypt"]);
    let token = token(&home, "ops", "operator");
    let served = Served::start(&home, &[], &[]);
    let (here, there) = (Browser::sign_in(&served, &token).await, Browser::sign_in(&served, &token).await);
    assert_ne!(here.cookie, there.cookie);
    let listening = here.get("/api/events").await;
    assert_eq!(listening.status(), 200);
    let out = here.change(Method::DELETE, "/api/session").send().await.unwrap();
    assert_eq!(out.status(), 204);
    assert_eq!(out.headers()[header::SET_COOKIE], "copal_session=; HttpOnly; SameSite=Strict; Path=/; Max-Age=0");
    // The text is whole: the end of the stream was said.
    listening.text().await.unwrap();
    let ended = here.get("/api/status").await;
    assert_eq!(ended.status(), 401);
    assert_eq!(value(ended).await["error"]["kind"], "unauthorized");
    assert_eq!(value(here.get("/api/session").await).await["signed_in"], false);
    assert_eq!(there.get("/api/status").await.status(), 200);
    // Nor does it matter to be out already.
    assert_eq!(here.ask(Method::DELETE, "/api/session").send().await.unwrap().status(), 204);
}

#[tokio::test]
async fn an_id_is_never_taken_over() {
    let home = home("");
    home.good(&["init", "--no-encrypt"]);
    let token = token(&home, "ops", "operator");
    let served = Served::start(&home, &[], &[]);
    let before = Browser::sign_in(&served, &token).await;
    let planted = format!("copal_session={}", "7".repeat(64));
    for cookie in [&planted, &before.cookie] {
        let answer = post(&client(), &served, &token).header(header::COOKIE, cookie).send().await.unwrap();
        let set = answer.headers()[header::SET_COOKIE].to_str().unwrap();
        assert!(answer.status() == 200 && !set.contains(cookie.as_str()), "{set}");
        let ask = client().get(format!("{}/api/status", served.url)).header(header::COOKIE, cookie);
        assert_eq!(ask.send().await.unwrap().status(), 401, "{cookie}");
    }
}

#[tokio::test]
async fn a_session_ends_with_its_token_at_once() {
    let home = home("");
    home.good(&["init", "--no-encrypt"]);
    let (gone, stays) = (token(&home, "gone", "operator"), token(&home, "stays", "operator"));
    let served = Served::start(&home, &[], &[]);
    let (gone, stays) = (Browser::sign_in(&served, &gone).await, Browser::sign_in(&served, &stays).await);
    let listening = gone.get("/api/events").await;
    home.good(&["token", "remove", "gone"]);
    let late = Instant::now() + PATIENCE;
    while gone.get("/api/status").await.status() != 401 {
        assert!(Instant::now() < late, "it still holds");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    listening.text().await.unwrap();
    assert_eq!(stays.get("/api/status").await.status(), 200);
    // Another token of the same name does not bring it back.
    token(&home, "gone", "operator");
    let request = || gone.change(Method::POST, "/api/databases/shop/backup").send();
    assert_eq!(request().await.unwrap().status(), 401);
}

#[tokio::test]
async fn other_sites_cannot_sign_anybody_in_or_use_the_session() {
    let home = home("");
    home.good(&["init", "--no-encrypt"]);
    let token = token(&home, "ops", "operator");
    let served = Served::start(&home, &[], &[]);
    let browser = Browser::sign_in(&served, &token).await;
    let own = served.url.clone();
    for (origin, is_let_in) in
        [("http://evil.example", false), ("http://127.0.0.1:1", false), ("null", false), (&*own, true)]
    {
        let signed_in = post(&client(), &served, &token).header(header::ORIGIN, origin).send().await.unwrap();
        assert_eq!(signed_in.status(), if is_let_in { 200 } else { 403 }, "{origin}");
        assert_eq!(signed_in.headers().contains_key(header::SET_COOKIE), is_let_in, "{origin}");
        assert!(!signed_in.headers().contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));
        let look = browser.ask(Method::GET, "/api/status").header(header::ORIGIN, origin).send().await.unwrap();
        assert_eq!(look.status(), if is_let_in { 200 } else { 403 }, "{origin}");
        let change = browser.change(Method::POST, "/api/databases/shop/backup").header(header::ORIGIN, origin);
        assert_eq!(change.send().await.unwrap().status(), if is_let_in { 202 } else { 403 }, "{origin}");
    }
}

#[tokio::test]
async fn with_tls_the_cookie_is_for_tls_only() {
    let home = home(TLS);
    home.good(&["init", "--no-encrypt"]);
    let client = certificate(&home);
    let token = token(&home, "ops", "viewer");
    let served = Served::start(&home, &[], &[]);
    let browser = Browser::sign_in_by(client, &served, &token).await;
    assert_eq!(browser.attributes, "HttpOnly; SameSite=Strict; Path=/; Secure");
    assert_eq!(browser.get("/api/status").await.status(), 200);
    let out = browser.change(Method::DELETE, "/api/session").send().await.unwrap();
    assert!(out.headers()[header::SET_COOKIE].to_str().unwrap().contains("; Secure"));
}

#[tokio::test]
async fn guesses_are_counted() {
    let home = home("");
    home.good(&["init", "--no-encrypt"]);
    let token = token(&home, "ops", "viewer");
    let served = Served::start(&home, &[], &[]);
    let client = client();
    let status = async |token: &str| post(&client, &served, token).send().await.unwrap().status().as_u16();
    for _ in 0..9 {
        assert_eq!(status("guess").await, 401);
    }
    assert_eq!(status(&token).await, 200);
    assert_eq!(status("guess").await, 401);
    let answer = post(&client, &served, &token).send().await.unwrap();
    assert_eq!(answer.status(), 429);
    assert!(answer.headers().contains_key(header::RETRY_AFTER));
}
