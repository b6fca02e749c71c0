//! What the repository holds, as the API tells it.

use serde_json::{Value, json};
use tokio::time::{Duration, Instant, sleep};

use super::Home;
use super::home::PATIENCE;
use crate::tokens::Role::{Operator, Viewer};

async fn ask(home: &Home, query: &str) -> Value {
    let answer = home.ask(Viewer, "GET", &format!("/api/repository{query}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

fn names(told: &Value) -> Vec<&str> {
    told["databases"].as_array().unwrap().iter().map(|database| database["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn sizes_are_those_of_what_is_kept() {
    let home = Home::new().await;
    for name in ["shop", "other"] {
        assert_eq!(home.ask(Operator, "POST", &format!("/api/databases/{name}/backup")).await.status, 202);
    }
    let late = Instant::now() + PATIENCE;
    let is_counted = |told: &Value| {
        let all = told["databases"].as_array().unwrap();
        all.len() == 2 && all.iter().all(|database| database["bytes"].as_u64() > Some(0))
    };
    let mut told = ask(&home, "").await;
    while !is_counted(&told) {
        assert!(Instant::now() < late, "{told}");
        sleep(Duration::from_millis(20)).await;
        told = ask(&home, "").await;
    }
    assert_eq!(told["url"], home.path("repository").display().to_string());
    assert_eq!(
        (&told["error"], &told["encryption"], &told["keys"]),
        (&json!(null), &json!("none"), &json!([])),
        "{told}"
    );
    assert_eq!((names(&told), &told["databases_total"]), (vec!["shop", "other"], &json!(2)), "the largest first");
    let bytes: Vec<u64> = told["databases"].as_array().unwrap().iter().map(|d| d["bytes"].as_u64().unwrap()).collect();
    assert!(bytes[0] > bytes[1], "{told}");
    assert_eq!(told["total_bytes"], bytes[0] + bytes[1]);
    assert!(told["databases"][0]["last_backup"].is_string() && told["databases"][0].get("last_verified").is_none());
    assert_eq!(told["databases"][0]["backups"].as_u64(), Some(2), "{told}");

    assert_eq!(names(&ask(&home, "?sort=name").await), ["other", "shop"]);
    assert_eq!(names(&ask(&home, "?sort=name&limit=1&offset=1").await), ["shop"]);
    let beyond = ask(&home, "?offset=4294967295").await;
    assert_eq!((names(&beyond), &beyond["total_bytes"]), (vec![], &told["total_bytes"]));
    let verify = home.post(Operator, "/api/databases/other/verify", json!({})).await;
    home.ended(Home::started(&verify)).await;
    let mut told = ask(&home, "?sort=verified").await;
    while told["databases"][1].get("last_verified").is_none() {
        assert!(Instant::now() < late, "{told}");
        sleep(Duration::from_millis(20)).await;
        told = ask(&home, "?sort=verified").await;
    }
    assert_eq!(names(&told), ["shop", "other"], "what was never verified comes first");
    for query in ["?limit=0", "?limit=201", "?offset=-1", "?sort=age", "?sort=", "?unknown=1"] {
        home.ask(Viewer, "GET", &format!("/api/repository{query}")).await.refuses(400);
    }
}

#[tokio::test]
async fn one_that_is_away_is_told() {
    let home = Home::new().await;
    ask(&home, "").await;
    std::fs::rename(home.path("repository"), home.path("elsewhere")).unwrap();
    let late = Instant::now() + PATIENCE;
    // What was asked a moment ago is not asked again.
    let mut told = ask(&home, "").await;
    while told["error"] == json!(null) {
        assert!(Instant::now() < late, "{told}");
        sleep(Duration::from_millis(100)).await;
        told = ask(&home, "").await;
    }
    assert_eq!((&told["encryption"], &told["leases"]), (&json!(null), &json!([])), "{told}");
}
