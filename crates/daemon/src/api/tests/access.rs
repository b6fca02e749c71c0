//! Who may do what, on every operation of the document.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::{Request, header};
use serde_json::json;

use super::home::nothing;
use super::{Answer, Home};
use crate::api::document;
use crate::tokens::Role;

/// Every operation, and the humblest role that may do it.
const OPERATIONS: [(&str, &str, Role); 31] = [
    ("GET", "/api/status", Role::Viewer),
    ("GET", "/metrics", Role::Viewer),
    ("GET", "/api/notifiers", Role::Viewer),
    ("POST", "/api/notifiers/{name}/test", Role::Operator),
    ("GET", "/api/overview", Role::Viewer),
    ("GET", "/api/databases", Role::Viewer),
    ("GET", "/api/databases/{name}", Role::Viewer),
    ("POST", "/api/databases/{name}/backup", Role::Operator),
    ("POST", "/api/databases/{name}/drill", Role::Operator),
    ("POST", "/api/databases/{name}/changed", Role::Operator),
    ("POST", "/api/databases/{name}/verify", Role::Operator),
    ("POST", "/api/databases/{name}/restore", Role::Operator),
    ("GET", "/api/databases/{name}/series", Role::Viewer),
    ("POST", "/api/databases/{name}/restore/plan", Role::Operator),
    ("GET", "/api/databases/{name}/prune", Role::Viewer),
    ("POST", "/api/databases/{name}/prune", Role::Operator),
    ("GET", "/api/databases/{name}/snapshots", Role::Viewer),
    ("POST", "/api/databases/{name}/snapshots", Role::Operator),
    ("POST", "/api/databases/{name}/snapshots/{id}/remove", Role::Admin),
    ("POST", "/api/databases/{name}/rewind", Role::Admin),
    ("GET", "/api/repository", Role::Viewer),
    ("GET", "/api/databases/{name}/backups", Role::Viewer),
    ("GET", "/api/databases/{name}/backups/{id}", Role::Viewer),
    ("PUT", "/api/databases/{name}/backups/{id}/pin", Role::Operator),
    ("DELETE", "/api/databases/{name}/backups/{id}/pin", Role::Operator),
    ("GET", "/api/runs", Role::Viewer),
    ("GET", "/api/runs/{id}", Role::Viewer),
    ("GET", "/api/runs/{id}/log", Role::Viewer),
    ("POST", "/api/runs/{id}/cancel", Role::Operator),
    ("GET", "/api/runs/{id}/events", Role::Viewer),
    ("GET", "/api/events", Role::Viewer),
];

/// What needs no token; `sessions` tests it.
const PUBLIC: [(&str, &str); 3] = [("GET", "/api/session"), ("POST", "/api/session"), ("DELETE", "/api/session")];

/// The address with something in its places that is not there.
fn filled(path: &str) -> String {
    let id = if path.contains("/databases/") { ID } else { "7" };
    path.replace("{name}", "nobody").replace("{id}", id)
}

/// No backup and no snapshot has it.
const ID: &str = "20261120-153000Z-7f3a";

fn body_of(path: &str) -> Option<serde_json::Value> {
    match path.rsplit('/').next()? {
        "verify" | "restore" | "plan" | "snapshots" => Some(nothing()),
        "rewind" => Some(json!({ "snapshot": ID, "confirm": "nobody" })),
        "prune" => Some(json!({ "deleted": [] })),
        "remove" => Some(json!({ "confirm": "nothing" })),
        _ => None,
    }
}

#[test]
fn the_table_has_every_operation_of_the_document() {
    let document = serde_json::to_value(document()).unwrap();
    let paths = document["paths"].as_object().unwrap().iter();
    let described: BTreeSet<_> = paths
        .flat_map(|(path, item)| {
            let methods =
                item.as_object().unwrap().keys().filter(|key| !["parameters", "summary"].contains(&key.as_str()));
            methods.map(move |method| (method.to_uppercase(), path.clone()))
        })
        .collect();
    let known = OPERATIONS.iter().map(|(method, path, _)| (*method, *path)).chain(PUBLIC);
    assert_eq!(described, known.map(|(method, path)| (method.to_owned(), path.to_owned())).collect());
}

fn is_unauthorized(answer: &Answer) {
    answer.refuses(401);
    assert_eq!(answer.headers[header::WWW_AUTHENTICATE], "Bearer realm=\"copal\"");
}

#[tokio::test]
async fn without_a_token_nothing_is_told_anywhere() {
    let home = Home::new().await;
    for (n, (method, path, _)) in OPERATIONS.into_iter().enumerate() {
        let peer = format!("127.0.0.{}", n + 1);
        let request = |value: Option<&str>| {
            let mut request = home.request(None, method, &filled(path), body_of(path));
            if let Some(value) = value {
                request.headers_mut().insert(header::AUTHORIZATION, value.parse().unwrap());
            }
            request
        };
        is_unauthorized(&home.send_from(&peer, request(None)).await);
        let bare = home.bearer(Role::Admin).replace("Bearer ", "");
        for wrong in ["Bearer wrong", "Bearer", "", "Basic YWRtaW46YWRtaW4=", &bare, &format!("Bearer {bare}x")] {
            is_unauthorized(&home.send_from(&peer, request(Some(wrong))).await);
        }
    }
    assert!(home.runner.live().is_empty());
}

#[tokio::test]
async fn each_role_may_do_what_it_may_and_nothing_else() {
    let home = Home::new().await;
    for (method, path, needed) in OPERATIONS {
        for role in Role::ALL {
            let request = home.request(Some(role), method, &filled(path), body_of(path));
            // Events go on for ever.
            let answer = home.open_from("127.0.0.1", request).await;
            let status = answer.status().as_u16();
            match role < needed {
                true => assert_eq!(status, 403, "{role} {method} {path}"),
                false => assert!([200, 404].contains(&status), "{role} {method} {path}: {status}"),
            }
        }
    }
    // What a body asks for may need more.
    let body = json!({ "replace": true, "confirm": "shop" });
    home.post(Role::Operator, "/api/databases/shop/restore", body).await.refuses(403);
}

#[tokio::test]
async fn the_document_the_page_and_the_health_need_no_token_but_other_methods_are_refused() {
    let home = Home::new().await;
    let ask = async |method: &str, path: &str| home.send(home.request(None, method, path, None)).await;
    assert_eq!(ask("GET", "/api/openapi.json").await.json()["openapi"], "3.1.0");
    assert_eq!(ask("GET", "/healthz").await.body, "ok\n");
    ask("GET", "/nothing").await.refuses(404);
    for (method, path, allowed) in [
        ("PATCH", "/api/status", "GET"),
        ("GET", "/api/databases/shop/backup", "POST"),
        ("TRACE", "/api/events", "GET"),
    ] {
        let answer = home.ask(Role::Admin, method, path).await;
        assert!(answer.refuses(405).headers[header::ALLOW].to_str().unwrap().contains(allowed), "{answer:?}");
    }
}

#[tokio::test]
async fn a_removed_token_and_a_new_one_hold_within_seconds() {
    let home = Home::new().await;
    assert_eq!(home.ask(Role::Operator, "GET", "/api/status").await.status, 200);
    home.tokens.remove("operator").unwrap();
    let added = home.tokens.add("late", Role::Viewer, jiff::Timestamp::now()).unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
    home.ask(Role::Operator, "GET", "/api/status").await.refuses(401);
    let mut request = home.request(None, "GET", "/api/status", None);
    let bearer = format!("Bearer {}", added.reveal());
    request.headers_mut().insert(header::AUTHORIZATION, bearer.parse().unwrap());
    assert_eq!(home.send(request).await.status, 200);
    assert_eq!(home.ask(Role::Viewer, "GET", "/api/status").await.status, 200);
    // A file that is gone opens nothing.
    std::fs::remove_file(home.tokens.path()).unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
    for role in [None, Some(Role::Viewer)] {
        home.send(home.request(role, "GET", "/api/status", None)).await.refuses(401);
    }
}

#[tokio::test]
async fn who_tries_too_many_tokens_is_not_listened_to_for_a_while() {
    let home = Home::new().await;
    let guess = || {
        let mut request = home.request(None, "GET", "/api/status", None);
        request.headers_mut().insert(header::AUTHORIZATION, "Bearer guess".parse().unwrap());
        request
    };
    for _ in 0..10 {
        home.send_from("192.0.2.7", guess()).await.refuses(401);
    }
    let right = || home.request(Some(Role::Admin), "GET", "/api/status", None);
    for request in [guess(), right()] {
        let answer = home.send_from("192.0.2.7", request).await;
        let wait: u64 = answer.refuses(429).headers[header::RETRY_AFTER].to_str().unwrap().parse().unwrap();
        assert!((1..=7).contains(&wait), "{wait}");
    }
    assert_eq!(home.send_from("192.0.2.8", right()).await.status, 200);
    // Without any token it is no login.
    is_unauthorized(&home.send_from("192.0.2.7", home.request(None, "GET", "/api/status", None)).await);
}

#[tokio::test]
async fn without_tokens_only_this_machine_is_served_and_no_other_site_through_its_browser() {
    let home = Home::with_tokens(false).await;
    let ask = |method: &str, path: &str, headers: &[(header::HeaderName, &str)]| {
        let mut request: Request<Body> = home.request(None, method, path, body_of(path));
        for (name, value) in headers {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        request
    };
    let status = async |request| home.send(request).await.status.as_u16();
    assert_eq!(status(ask("GET", "/api/status", &[])).await, 200);
    assert_eq!(status(ask("POST", "/api/databases/shop/backup", &[])).await, 202);
    is_unauthorized(&home.send_from("192.0.2.1", ask("GET", "/api/status", &[])).await);
    for host in ["evil.example", "10.0.0.1:8467", "localhost.evil.example", ""] {
        assert_eq!(status(ask("GET", "/api/status", &[(header::HOST, host)])).await, 403, "{host:?}");
    }
    for origin in ["http://evil.example", "null", "http://127.0.0.1:1"] {
        let headers = [(header::ORIGIN, origin)];
        assert_eq!(status(ask("POST", "/api/databases/shop/backup", &headers)).await, 403, "{origin:?}");
    }
    let own = [(header::ORIGIN, "http://127.0.0.1:8467")];
    assert_eq!(status(ask("POST", "/api/databases/shop/backup", &own)).await, 202);
    // A restore writes where it is told to, and what is lost by a rewind is lost.
    for path in ["/api/databases/shop/restore", "/api/databases/shop/rewind"] {
        home.send(ask("POST", path, &[])).await.refuses(403);
    }
    // A token that is none is refused even where none is needed.
    let guess = [(header::AUTHORIZATION, "Bearer guess")];
    is_unauthorized(&home.send(ask("GET", "/api/status", &guess)).await);
}

#[tokio::test]
async fn writes_have_a_limit_that_says_when_to_come_again() {
    let home = Home::new().await;
    let mut refused = None;
    for _ in 0..400 {
        let answer = home.ask(Role::Operator, "POST", "/api/databases/nobody/changed").await;
        if answer.status == 429 {
            refused = Some(answer);
            break;
        }
        answer.refuses(404);
    }
    let refused = refused.expect("there is a limit");
    assert!(refused.refuses(429).headers.contains_key(header::RETRY_AFTER));
    // Others are not hindered by it.
    home.ask(Role::Admin, "POST", "/api/databases/nobody/changed").await.refuses(404);
}
