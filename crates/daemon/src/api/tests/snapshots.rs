//! Snapshots: taking, listing, going back and removing, and who may.

use copal::{Context, SnapOptions};
use serde_json::{Value, json};

use super::Home;
use super::home::{make, rows};
use crate::tokens::Role::{Admin, Operator, Viewer};

const SNAPSHOTS: &str = "/api/databases/shop/snapshots";
const REWIND: &str = "/api/databases/shop/rewind";

async fn listed(home: &Home, database: &str) -> Vec<Value> {
    let told = home.ask(Viewer, "GET", &format!("/api/databases/{database}/snapshots")).await.json();
    assert_eq!((&told["supported"], &told["failures"]), (&json!(true), &json!([])), "{told}");
    told["snapshots"].as_array().unwrap().clone()
}

async fn take(home: &Home, body: Value) -> Value {
    home.ended(Home::started(&home.post(Operator, SNAPSHOTS, body).await)).await
}

#[tokio::test]
async fn a_database_goes_back_to_what_was_taken() {
    let home = Home::new().await;
    let shop = home.path("shop.db");
    assert_eq!(listed(&home, "shop").await, [] as [Value; 0]);
    home.post(Viewer, SNAPSHOTS, json!({})).await.refuses(403);
    let run = take(&home, json!({ "name": "it's \"good\"", "label": "before-import" })).await;
    assert_eq!((&run["ending"], &run["kind"]), (&json!("success"), &json!("snapshot")), "{run}");
    make(&shop, 50);
    assert_eq!(take(&home, json!({})).await["ending"], "success");
    // A name is taken once.
    assert_eq!(take(&home, json!({ "name": "it's \"good\"" })).await["error"]["kind"], "exists");

    let snapshots = listed(&home, "shop").await;
    assert_eq!(snapshots.len(), 2);
    let good = &snapshots[1];
    assert_eq!((&good["name"], &good["label"]), (&json!("it's \"good\""), &json!("before-import")));
    assert_eq!(good["together"], json!([]));
    assert!(snapshots[0]["time"].as_str() >= good["time"].as_str(), "the newest first");

    let body = |confirm: &str| json!({ "snapshot": good["id"], "confirm": confirm });
    for role in [Viewer, Operator] {
        home.post(role, REWIND, body("shop")).await.refuses(403);
    }
    for confirm in ["", "Shop", "shop ", "other", "it's \"good\""] {
        home.post(Admin, REWIND, body(confirm)).await.refuses(400);
    }
    for body in [
        json!({ "snapshot": good["id"] }),
        json!({ "confirm": "shop" }),
        json!({ "snapshot": good["name"], "confirm": "shop" }),
        json!({ "snapshot": "latest", "confirm": "shop" }),
        json!({ "snapshot": good["id"], "confirm": "shop", "force": true }),
    ] {
        home.post(Admin, REWIND, body).await.refuses(400);
    }
    let unknown = json!({ "snapshot": "20201120-153000Z-7f3a", "confirm": "shop" });
    let run = home.ended(Home::started(&home.post(Admin, REWIND, unknown).await)).await;
    assert_eq!(run["error"]["kind"], "not-found", "{run}");
    assert_eq!(rows(&shop), 250);
    let run = home.ended(Home::started(&home.post(Admin, REWIND, body("shop")).await)).await;
    assert_eq!((&run["ending"], &run["kind"]), (&json!("success"), &json!("rewind")), "{run}");
    assert_eq!(rows(&shop), 200);
}

#[tokio::test]
async fn what_is_removed_is_this_databases_part() {
    let home = Home::new().await;
    let together = SnapOptions { name: Some("both".to_owned()), ..SnapOptions::default() };
    home.copal.snap(together, &Context::silent()).await.unwrap();
    let snapshot = listed(&home, "shop").await.remove(0);
    assert_eq!((&snapshot["name"], &snapshot["together"]), (&json!("both"), &json!(["other"])), "{snapshot}");
    let id = snapshot["id"].as_str().unwrap();
    let remove = format!("{SNAPSHOTS}/{id}/remove");
    for role in [Viewer, Operator] {
        home.post(role, &remove, json!({ "confirm": "both" })).await.refuses(403);
    }
    for confirm in ["", "shop", id, "both "] {
        home.post(Admin, &remove, json!({ "confirm": confirm })).await.refuses(400);
    }
    home.post(Admin, &remove, json!({})).await.refuses(400);
    let answer = home.post(Admin, &remove, json!({ "confirm": "both" })).await;
    assert_eq!((answer.status.as_u16(), answer.json()), (200, json!({ "removed": id })));
    assert_eq!(listed(&home, "shop").await, [] as [Value; 0]);
    assert_eq!(listed(&home, "other").await.len(), 1);
    home.post(Admin, &remove, json!({ "confirm": "both" })).await.refuses(404);
    home.post(Admin, &format!("{SNAPSHOTS}/both/remove"), json!({ "confirm": "both" })).await.refuses(400);
}

#[tokio::test]
async fn names_are_names() {
    let home = Home::new().await;
    for body in [
        json!({ "name": "" }),
        json!({ "name": " a" }),
        json!({ "name": "-d" }),
        json!({ "name": "a\nb" }),
        json!({ "name": "x".repeat(201) }),
        json!({ "name": 1 }),
        json!({ "label": "" }),
        json!({ "label": "../x" }),
        json!({ "label": ".x" }),
        json!({ "label": "x".repeat(65) }),
        json!({ "spare": true }),
    ] {
        home.post(Operator, SNAPSHOTS, body).await.refuses(400);
    }
    let long = "ü".repeat(100);
    assert_eq!(take(&home, json!({ "name": long })).await["ending"], "success");
    assert_eq!(listed(&home, "shop").await[0]["name"], long);
    for name in ["nobody", "../shop", "shop.db"] {
        let path = format!("/api/databases/{}/snapshots", super::encoded(name));
        home.ask(Viewer, "GET", &path).await.refuses(404);
        home.post(Operator, &path, json!({})).await.refuses(404);
    }
}

#[tokio::test]
async fn a_database_that_is_away_is_told() {
    let home = Home::new().await;
    std::fs::remove_file(home.path("shop.db")).unwrap();
    let told = home.ask(Viewer, "GET", SNAPSHOTS).await.json();
    assert_eq!(told["snapshots"], json!([]), "{told}");
    let run = take(&home, json!({ "name": "x" })).await;
    assert_ne!(run["ending"], "success", "{run}");
    assert!(!home.path("shop.db").exists());
}
