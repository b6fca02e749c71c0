//! Streams of events.

use axum::body::{Body, BodyDataStream};
use axum::http::header;
use futures::StreamExt;
use serde_json::{Value, json};

use super::Home;
use super::home::{PATIENCE, make};
use crate::api::events::MOST_STREAMS;
use crate::tokens::Role::{Operator, Viewer};

/// The events of a stream, as they come.
struct Events {
    body: BodyDataStream,
    text: String,
}

impl Events {
    async fn open(home: &Home, path: &str) -> Self {
        let answer = home.open_from("127.0.0.1", home.request(Some(Operator), "GET", path, None)).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()[header::CONTENT_TYPE], "text/event-stream");
        Self { body: Body::into_data_stream(answer.into_body()), text: String::new() }
    }

    /// The next event, by name, and its data; none at the end.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let line = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
                let found = line("event: ").zip(line("data: "));
                let found = found.map(|(name, data)| (name.to_owned(), serde_json::from_str(data).unwrap()));
                self.text = rest.to_owned();
                // Without a name it only keeps the connection.
                match found {
                    Some(found) => return Some(found),
                    None => continue,
                }
            }
            let part = tokio::time::timeout(PATIENCE, self.body.next()).await.expect("no event comes")?;
            self.text.push_str(std::str::from_utf8(&part.unwrap()).unwrap());
        }
    }
}

#[tokio::test]
async fn the_stream_of_a_run_ends_with_it() {
    let home = Home::new().await;
    make(&home.path("shop.db"), 40_000);
    home.back_up("shop").await;
    let answer = home.post(Operator, "/api/databases/shop/verify", json!({ "drill": true })).await;
    let run = Home::started(&answer);
    for _ in 0..2 {
        // The second time it is over.
        let mut events = Events::open(&home, &format!("/api/runs/{run}/events")).await;
        let mut last = None;
        while let Some((name, data)) = events.next().await {
            assert_eq!(data["id"], run);
            assert!(last.is_none(), "{name} after the end");
            match name.as_str() {
                "progress" => assert!(data["phase"].is_string(), "{data}"),
                "run-ended" => last = Some(data),
                other => panic!("{other}"),
            }
        }
        assert_eq!(last.expect("the end is told")["ending"], "success");
    }
    let missing = home.request(Some(Viewer), "GET", "/api/runs/7/events", None);
    home.send(missing).await.refuses(404);
}

#[tokio::test]
async fn the_stream_of_everything_tells_of_starts_and_ends() {
    let home = Home::new().await;
    let mut events = Events::open(&home, "/api/events").await;
    let run = home.restore(Operator, "shop", json!({ "to": home.path("copy.db") })).await;
    let mut told = Vec::new();
    while told.last().is_none_or(|name| name != "run-ended") {
        let (name, data) = events.next().await.expect("it goes on");
        if data["id"] == run["id"] && name != "progress" {
            told.push(name.clone());
        }
        if name == "run-ended" {
            assert_eq!(data, run);
        }
    }
    assert_eq!(told, ["run-started", "run-ended"]);
}

#[tokio::test]
async fn there_are_only_so_many_streams_and_places_are_given_back() {
    let home = Home::new().await;
    let run = home.restore(Operator, "shop", json!({ "to": home.path("copy.db"), "dry_run": true })).await;
    let mut open = Vec::new();
    for _ in 0..MOST_STREAMS {
        open.push(Events::open(&home, "/api/events").await);
    }
    for path in ["/api/events".to_owned(), format!("/api/runs/{}/events", run["id"])] {
        home.ask(Viewer, "GET", &path).await.refuses(503);
    }
    open.pop();
    // Nor does one that finds nothing keep its place.
    for _ in 0..3 {
        home.ask(Viewer, "GET", "/api/runs/7/events").await.refuses(404);
    }
    open.push(Events::open(&home, "/api/events").await);
    home.ask(Viewer, "GET", "/api/events").await.refuses(503);
}

#[tokio::test]
async fn a_stream_ends_when_its_token_is_removed() {
    let home = Home::new().await;
    let mut events = Events::open(&home, "/api/events").await;
    home.tokens.remove("operator").unwrap();
    while events.next().await.is_some() {}
}

#[tokio::test]
async fn a_runner_that_has_stopped_starts_nothing() {
    let home = Home::new().await;
    let events = Events::open(&home, "/api/events").await;
    let stopped = home.runner.stop(PATIENCE).await;
    assert_eq!(stopped.left, []);
    // It starts nothing any more, and says so.
    home.ask(Operator, "POST", "/api/databases/shop/backup").await.refuses(503);
    home.post(Operator, "/api/databases/shop/verify", json!({})).await.refuses(503);
    drop(events);
}
