//! Names, bodies and parameters that nobody should send.

use axum::body::{Body, Bytes};
use axum::http::{Request, header};
use futures::stream;
use rusqlite::Connection;
use serde_json::json;

use super::home::{make, nothing};
use super::{Home, encoded};
use crate::tokens::Role;

#[tokio::test]
async fn a_name_only_selects_what_is_known() {
    let home = Home::new().await;
    // Whoever opens it leaves files beside it.
    make(&home.path("secret.db"), 1);
    Connection::open(home.path("secret.db")).unwrap().pragma_update(None, "journal_mode", "WAL").unwrap();
    let secret = home.path("secret.db").display().to_string();
    let configured = home.path("shop.db").display().to_string();
    let before = home.files();
    let names = [
        "../x".to_owned(),
        "..".to_owned(),
        ".".to_owned(),
        "shop/../other".to_owned(),
        "%2e%2e%2f".to_owned(),
        "/etc/passwd".to_owned(),
        "sqlite:/etc/passwd".to_owned(),
        secret.clone(),
        format!("sqlite:{secret}"),
        format!("file:{secret}"),
        // Even what is configured has a name, and is known by nothing else.
        configured.clone(),
        format!("sqlite:{configured}"),
        "postgres://postgres@127.0.0.1:1/postgres".to_owned(),
        "SHOP".to_owned(),
        "shop ".to_owned(),
        "shop\0".to_owned(),
        "\0".to_owned(),
        "\u{202e}pohs\n".to_owned(),
        "x".repeat(10_000),
        "$(id)".to_owned(),
        "' OR 1=1 --".to_owned(),
    ];
    for name in &names {
        let segment = encoded(name);
        let id = "20261120-153000Z-7f3a";
        // Each role has a limit of its own.
        let (viewer, operator, admin) = (Role::Viewer, Role::Operator, Role::Admin);
        for (role, method, rest, body) in [
            (viewer, "GET", String::new(), None),
            (viewer, "GET", "/backups".to_owned(), None),
            (viewer, "GET", format!("/backups/{id}"), None),
            (operator, "PUT", format!("/backups/{id}/pin"), None),
            (operator, "DELETE", format!("/backups/{id}/pin"), None),
            (operator, "POST", "/backup".to_owned(), None),
            (operator, "POST", "/drill".to_owned(), None),
            (admin, "POST", "/changed".to_owned(), None),
            (admin, "POST", "/verify".to_owned(), Some(nothing())),
            (admin, "POST", "/restore".to_owned(), Some(json!({ "to": home.path("out.db") }))),
            (admin, "POST", "/restore".to_owned(), Some(json!({ "replace": true, "confirm": name }))),
        ] {
            let path = format!("/api/databases/{segment}{rest}");
            let answer = home.send(home.request(Some(role), method, &path, body)).await;
            assert!([400, 404].contains(&answer.status.as_u16()), "{method} {name:?}{rest}: {answer:?}");
            answer.refuses(answer.status.as_u16());
        }
    }
    for name in ["../x", "%2e%2e%2f", "/etc/passwd", "shop"] {
        let notifier = format!("/api/notifiers/{}/test", encoded(name));
        home.ask(Role::Operator, "POST", &notifier).await.refuses(404);
    }
    for bytes in ["%ff", "%c3%28", "%00%ff"] {
        home.ask(Role::Admin, "GET", &format!("/api/databases/{bytes}")).await.refuses(400);
    }
    assert_eq!(home.files(), before);
    assert_eq!(home.ask(Role::Viewer, "GET", "/api/runs").await.json()["runs"], json!([]));
}

#[tokio::test]
async fn ids_are_ids() {
    let home = Home::new().await;
    for id in ["x", "..", "%2e%2e%2fpacks", "20261120-153000Z-7f3a%00", "20261320-153000Z-7f3a", "latest", "99999999"] {
        home.ask(Role::Viewer, "GET", &format!("/api/databases/shop/backups/{id}")).await.refuses(400);
        home.ask(Role::Operator, "PUT", &format!("/api/databases/shop/backups/{id}/pin")).await.refuses(400);
    }
    let unknown = "/api/databases/shop/backups/20201120-153000Z-7f3a";
    home.ask(Role::Viewer, "GET", unknown).await.refuses(404);
    home.ask(Role::Operator, "PUT", &format!("{unknown}/pin")).await.refuses(404);
    home.ask(Role::Operator, "DELETE", &format!("{unknown}/pin")).await.refuses(404);
    for id in ["x", "1.5", "99999999999999999999", "0x10", "%31%00", ""] {
        let status = home.ask(Role::Viewer, "GET", &format!("/api/runs/{id}/events")).await.status.as_u16();
        assert!([400, 404].contains(&status), "{id:?}: {status}");
    }
    for id in ["0", "-1", "7", "9223372036854775807", "-9223372036854775808"] {
        home.ask(Role::Viewer, "GET", &format!("/api/runs/{id}")).await.refuses(404);
        home.ask(Role::Operator, "POST", &format!("/api/runs/{id}/cancel")).await.refuses(404);
    }
}

#[tokio::test]
async fn parameters_are_what_the_document_says() {
    let home = Home::new().await;
    for path in [
        "/api/runs?limit=0",
        "/api/runs?limit=1001",
        "/api/runs?limit=-1",
        "/api/runs?limit=x",
        "/api/runs?limit=",
        "/api/runs?limit=1&limit=2",
        "/api/runs?before=x",
        "/api/runs?unknown=1",
        "/api/databases?limit=0",
        "/api/databases?limit=4294967296",
        "/api/databases?protected=perhaps",
        "/api/databases?x",
    ] {
        home.ask(Role::Viewer, "GET", path).await.refuses(400);
    }
    let names = async |query: &str| {
        let listed = home.ask(Role::Viewer, "GET", &format!("/api/databases?{query}")).await.json();
        let databases = listed["databases"].as_array().unwrap().iter();
        databases.map(|database| database["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names("").await, ["other", "shop"]);
    assert_eq!(names("limit=1").await, ["other"]);
    assert_eq!(names("after=other").await, ["shop"]);
    assert_eq!(names("after=%00").await, ["other", "shop"]);
    let list = home.ask(Role::Viewer, "GET", "/api/databases").await;
    let mut again = home.request(Some(Role::Viewer), "GET", "/api/databases", None);
    again.headers_mut().insert(header::IF_NONE_MATCH, list.headers[header::ETAG].clone());
    assert_eq!(home.send(again).await.status, 304);
}

/// A request with a body as it is.
fn post(home: &Home, kind: Option<&str>, body: impl Into<Body>) -> Request<Body> {
    let mut request = home.request(Some(Role::Operator), "POST", "/api/databases/shop/verify", None);
    if let Some(kind) = kind {
        request.headers_mut().insert(header::CONTENT_TYPE, kind.parse().unwrap());
    }
    *request.body_mut() = body.into();
    request
}

#[tokio::test]
async fn a_body_is_an_object_with_known_fields() {
    let home = Home::new().await;
    let json = Some("application/json");
    for kind in [None, Some("text/plain"), Some("application/x-www-form-urlencoded"), Some("multipart/form-data")] {
        home.send(post(&home, kind, "{}")).await.refuses(415);
    }
    let deep = "[".repeat(30_000);
    for body in [
        "",
        "{",
        "null",
        "[]",
        "[\"latest\", true]",
        "\"latest\"",
        "{\"backup\": null}",
        "{\"backup\": 1}",
        "{\"backup\": \"newest\"}",
        "{\"backup\": \"../latest\"}",
        "{\"drill\": \"yes\"}",
        "{\"drill\": true, \"drill\": false}",
        "{\"unknown\": 1}",
        "{} {}",
        "\u{feff}{}",
        &deep,
        &format!("{{\"backup\": {deep}"),
        &format!("{{\"drill\": {}1{}}}", "{\"a\":".repeat(5_000), "}".repeat(5_000)),
    ] {
        home.send(post(&home, json, body.to_owned())).await.refuses(400);
    }
    home.send(post(&home, json, &b"{\"backup\": \"\xff\"}"[..])).await.refuses(400);
    assert_eq!(home.ask(Role::Viewer, "GET", "/api/runs").await.json()["runs"], json!([]));
    let answer = home.send(post(&home, Some("application/json; charset=utf-8"), "{}")).await;
    assert_eq!(home.ended(Home::started(&answer)).await["ending"], "success");
}

#[tokio::test]
async fn a_huge_body_is_refused_whether_it_is_announced_or_not() {
    let home = Home::new().await;
    let json = Some("application/json");
    let huge = format!("{{\"backup\": \"{}\"}}", "x".repeat(100_000));
    let mut announced = post(&home, json, huge.clone());
    announced.headers_mut().insert(header::CONTENT_LENGTH, huge.len().into());
    home.send(announced).await.refuses(413);
    home.send(post(&home, json, huge)).await.refuses(413);
    let endless = stream::repeat_with(|| std::io::Result::Ok(Bytes::from_static(&[b' '; 1024])));
    home.send(post(&home, json, Body::from_stream(endless))).await.refuses(413);
    // Where no body is expected, none is read.
    let endless = stream::repeat_with(|| std::io::Result::Ok(Bytes::from_static(&[b' '; 1024])));
    let mut request = home.request(Some(Role::Operator), "POST", "/api/databases/shop/backup", None);
    *request.body_mut() = Body::from_stream(endless);
    assert_eq!(home.send(request).await.status, 202);
}
