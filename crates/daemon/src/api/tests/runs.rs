//! What can be started, followed and cancelled, and what becomes of backups.

use serde_json::{Value, json};

use super::Home;
use super::home::{PATIENCE, make};
use crate::run::RunRecord;
use crate::runner::RunEvent;
use crate::tokens::Role::{Admin, Operator, Viewer};

/// Asks for a regular run and waits for its end.
async fn regular(home: &Home, what: &str) -> RunRecord {
    let mut events = home.runner.subscribe();
    let answer = home.ask(Operator, "POST", &format!("/api/databases/shop/{what}")).await;
    assert_eq!((answer.status.as_u16(), answer.json()), (202, json!({ "database": "shop", "accepted": true })));
    loop {
        let event = tokio::time::timeout(PATIENCE, events.recv()).await.expect("nothing happens").unwrap();
        if let RunEvent::Ended(record, _) = event {
            return record;
        }
    }
}

async fn backups(home: &Home) -> Vec<Value> {
    let listed = home.ask(Viewer, "GET", "/api/databases/shop/backups").await.json();
    assert_eq!(listed["damaged"], json!([]));
    listed["backups"].as_array().unwrap().clone()
}

#[tokio::test]
async fn backups_drills_and_reports_of_changes_are_runs() {
    let home = Home::new().await;
    // A report of a change first: behind a backup, its own would wait for the minimum interval.
    for (what, kind) in [("changed", "backup"), ("backup", "backup"), ("drill", "drill")] {
        let record = serde_json::to_value(regular(&home, what).await).unwrap();
        assert_eq!((record["kind"].as_str(), record["ending"].as_str()), (Some(kind), Some("success")), "{record}");
        let shown = home.ask(Viewer, "GET", &format!("/api/runs/{}", record["id"])).await.json();
        assert_eq!(shown, json!({ "run": record, "live": null }));
    }
    assert_eq!(backups(&home).await.len(), 3);
    let runs = home.ask(Viewer, "GET", "/api/runs?database=shop&limit=2").await.json();
    assert_eq!(runs["runs"].as_array().unwrap().len(), 2);
    let last = runs["runs"][1]["id"].to_string();
    let older = home.ask(Viewer, "GET", &format!("/api/runs?before={last}")).await.json();
    assert_eq!(older["runs"].as_array().unwrap().len(), 1);
    assert_eq!(home.ask(Viewer, "GET", "/api/runs?database=other").await.json()["runs"], json!([]));
}

#[tokio::test]
async fn verifications_mark_what_they_read() {
    let home = Home::new().await;
    let second = home.back_up("shop").await;
    let verify = async |body: Value| {
        let answer = home.post(Operator, "/api/databases/shop/verify", body).await;
        home.ended(Home::started(&answer)).await
    };
    let run = verify(json!({ "backup": second, "drill": true })).await;
    assert_eq!((run["ending"].as_str(), run["backup"].as_str()), (Some("success"), Some(second.as_str())), "{run}");
    let marks = async || backups(&home).await.iter().map(|backup| backup["verified"] == true).collect::<Vec<_>>();
    assert_eq!(marks().await, [false, true]);
    assert_eq!(verify(json!({ "backup": "all" })).await["ending"], "success");
    assert_eq!(marks().await, [true, true]);
    let run = verify(json!({ "backup": "20201120-153000Z-7f3a" })).await;
    assert_eq!(run["error"]["kind"], "not-found", "{run}");
    // One that has no backup.
    let answer = home.post(Operator, "/api/databases/other/verify", json!({})).await;
    assert!(home.ended(Home::started(&answer)).await["error"]["message"].is_string());
}

#[tokio::test]
async fn damage_is_told_with_the_object() {
    let home = Home::new().await;
    let pack = home.files().into_iter().find(|file| file.display().to_string().contains("/packs/")).unwrap();
    std::fs::write(&pack, "rubbish").unwrap();
    let answer = home.post(Operator, "/api/databases/shop/verify", json!({})).await;
    let run = home.ended(Home::started(&answer)).await;
    assert_eq!((run["ending"].as_str(), run["error"]["kind"].as_str()), (Some("permanent-failure"), Some("damage")));
    assert!(run["damaged"].as_u64() > Some(0), "{run}");
    let target = home.path("copy.db");
    let run = home.restore(Operator, "shop", json!({ "to": target })).await;
    assert_eq!((run["error"]["kind"].as_str(), target.exists()), (Some("damage"), false), "{run}");
}

#[tokio::test]
async fn pins_are_set_and_taken_away_as_often_as_one_likes() {
    let home = Home::new().await;
    let backup = backups(&home).await[0].clone();
    let pin = format!("/api/databases/shop/backups/{}/pin", backup["id"].as_str().unwrap());
    home.ask(Viewer, "PUT", &pin).await.refuses(403);
    for (method, pinned) in [("PUT", true), ("PUT", true), ("DELETE", false), ("DELETE", false), ("PUT", true)] {
        let answer = home.ask(Operator, method, &pin).await;
        assert_eq!((answer.status.as_u16(), answer.json()["pinned"].as_bool()), (200, Some(pinned)), "{answer:?}");
        assert_eq!(backups(&home).await[0]["pinned"], pinned);
    }
    let shown = home.ask(Viewer, "GET", pin.strip_suffix("/pin").unwrap()).await;
    assert_eq!(shown.json()["id"], backup["id"], "{shown:?}");
    // It is another database's.
    home.back_up("other").await;
    home.ask(Operator, "PUT", &pin.replace("/shop/", "/other/")).await.refuses(404);
}

#[tokio::test]
async fn a_run_that_is_cancelled_leaves_nothing() {
    let home = Home::new().await;
    make(&home.path("shop.db"), 60_000);
    let mut events = home.runner.subscribe();
    home.ask(Operator, "POST", "/api/databases/shop/backup").await;
    let run = loop {
        if let RunEvent::Started(run) = tokio::time::timeout(PATIENCE, events.recv()).await.unwrap().unwrap() {
            break run;
        }
    };
    let cancel = format!("/api/runs/{}/cancel", run.id);
    home.ask(Viewer, "POST", &cancel).await.refuses(403);
    let shown = home.ask(Viewer, "GET", "/api/databases/shop").await.json();
    assert_eq!(shown["running"], json!(run.id));
    assert_eq!(home.ask(Operator, "POST", &cancel).await.json(), json!({ "run": run.id }));
    let record = home.ended(run.id.0).await;
    assert_eq!(record["ending"], "cancelled", "{record}");
    assert_eq!(backups(&home).await.len(), 1);
    home.ask(Operator, "POST", &cancel).await.refuses(404);

    let target = home.path("copy.db");
    home.back_up("shop").await;
    let restore = home.post(Operator, "/api/databases/shop/restore", json!({ "to": target })).await;
    let id = Home::started(&restore);
    assert_eq!(home.ask(Admin, "POST", &format!("/api/runs/{id}/cancel")).await.status, 202);
    assert_eq!((home.ended(id).await["ending"].as_str(), target.exists()), (Some("cancelled"), false));
}

#[tokio::test]
async fn nothing_that_is_told_holds_a_token() {
    let home = Home::new().await;
    regular(&home, "backup").await;
    let secrets: Vec<_> = [Viewer, Operator, Admin].map(|role| home.bearer(role).replace("Bearer ", "")).into();
    for path in [
        "/api/status",
        "/api/databases",
        "/api/databases/shop",
        "/api/runs",
        "/api/notifiers",
        "/metrics",
        "/api/openapi.json",
    ] {
        let answer = home.ask(Admin, "GET", path).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(secrets.iter().all(|secret| !answer.body.contains(secret)), "{path}");
    }
    let file = std::fs::read_to_string(home.tokens.path()).unwrap();
    assert!(secrets.iter().all(|secret| !file.contains(secret.trim_start_matches("copal_"))));
}
