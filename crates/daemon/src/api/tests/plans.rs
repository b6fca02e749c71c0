//! Plans of restores and prunes: what they tell, to whom, and that they change nothing.

use serde_json::{Value, json};

use super::Home;
use super::home::rows;
use crate::tokens::Role::{self, Admin, Operator, Viewer};

const PLAN: &str = "/api/databases/shop/restore/plan";

async fn plan(home: &Home, role: Role, body: Value) -> Value {
    let answer = home.post(role, PLAN, body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

#[tokio::test]
async fn of_a_new_place_it_is_what_the_restore_then_does() {
    let home = Home::new().await;
    let target = home.path("copy.db");
    home.post(Viewer, PLAN, json!({ "to": target })).await.refuses(403);
    let before = home.files();
    let told = plan(&home, Operator, json!({ "to": target })).await;
    assert_eq!(home.files(), before, "a plan changes nothing");
    for (key, value) in [
        ("database", json!("shop")),
        ("target", json!(target)),
        ("is_original", json!(false)),
        ("exists", json!(false)),
        ("replaces", json!(false)),
        ("confirm", json!(null)),
        ("role", json!("operator")),
        ("may", json!(true)),
        ("estimated_seconds", json!(null)),
        ("estimated_from", json!(null)),
        ("problems", json!([])),
        ("warnings", json!([])),
        ("is_possible", json!(true)),
    ] {
        assert_eq!(told[key], value, "{key} in {told}");
    }
    assert!(told.get("segment").is_none(), "{told}");
    let bytes = told["logical_bytes"].as_u64().unwrap();
    assert!(bytes > 200 * 1024 && told["read_bytes"].as_u64().unwrap() > 0, "{told}");
    assert_eq!(told["space"]["needed_bytes"], bytes);
    assert!(
        told["space"]["is_enough"].as_bool().unwrap() && told["space"]["available_bytes"].as_u64().unwrap() > bytes
    );
    assert_eq!(home.ask(Viewer, "GET", "/api/runs").await.json()["runs"], json!([]), "a plan is no run");

    let run = home.restore(Operator, "shop", json!({ "to": target })).await;
    assert_eq!((&run["ending"], &run["backup"]), (&json!("success"), &told["backup"]["id"]), "{run}");
    assert_eq!(target.metadata().unwrap().len(), bytes);

    // Now something is there, and it is known how long it takes.
    let told = plan(&home, Operator, json!({ "to": format!("sqlite:{}", target.display()) })).await;
    for (key, value) in [
        ("exists", json!(true)),
        ("replaces", json!(true)),
        ("confirm", json!("shop")),
        ("role", json!("admin")),
        ("may", json!(false)),
        ("estimated_from", json!("restores")),
        ("is_possible", json!(true)),
    ] {
        assert_eq!(told[key], value, "{key} in {told}");
    }
    assert!(told["estimated_seconds"].as_u64().unwrap() >= 1, "{told}");
    assert_eq!(plan(&home, Admin, json!({ "to": target })).await["may"], true);
    let body = json!({ "to": target, "replace": true, "confirm": told["confirm"] });
    assert_eq!(home.restore(Admin, "shop", body).await["ending"], "success");
}

#[tokio::test]
async fn the_place_of_a_database_has_the_name_that_is_typed() {
    let home = Home::new().await;
    let link = home.path("link.db");
    std::os::unix::fs::symlink(home.path("shop.db"), &link).unwrap();
    for body in [json!({}), json!({ "to": link }), json!({ "replace": true, "confirm": "ignored", "dry_run": true })] {
        let told = plan(&home, Admin, body).await;
        assert_eq!((&told["is_original"], &told["exists"]), (&json!(true), &json!(true)), "{told}");
        assert_eq!((&told["confirm"], &told["is_possible"]), (&json!("shop"), &json!(true)), "{told}");
    }
    let told = plan(&home, Admin, json!({ "to": home.path("other.db") })).await;
    assert_eq!((&told["confirm"], &told["is_original"]), (&json!("other"), &json!(false)), "{told}");
    assert_eq!((rows(&home.path("shop.db")), rows(&home.path("other.db"))), (200, 10));
}

#[tokio::test]
async fn an_estimate_goes_by_drills_if_there_was_no_restore_and_not_by_looks() {
    let home = Home::new().await;
    let dry = home.restore(Operator, "shop", json!({ "to": home.path("copy.db"), "dry_run": true })).await;
    assert_eq!(dry["ending"], "success");
    assert_eq!(plan(&home, Operator, json!({})).await["estimated_from"], json!(null));
    for (drill, word) in [(false, "verifications"), (true, "verifications")] {
        let verify = home.post(Operator, "/api/databases/shop/verify", json!({ "drill": drill })).await;
        assert_eq!(home.ended(Home::started(&verify)).await["ending"], "success");
        assert_eq!(plan(&home, Operator, json!({})).await["estimated_from"], word);
    }
    home.ask(Operator, "POST", "/api/databases/shop/drill").await;
    let late = tokio::time::Instant::now() + super::home::PATIENCE;
    while plan(&home, Operator, json!({})).await["estimated_from"] != "drills" {
        assert!(tokio::time::Instant::now() < late, "the drill does not count");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn what_stands_in_the_way_is_told() {
    let home = Home::new().await;
    let folder = home.path("folder");
    std::fs::create_dir(&folder).unwrap();
    for to in [
        home.path("missing/folder/x.db").display().to_string(),
        folder.display().to_string(),
        format!("duckdb:{}", home.path("x.duckdb").display()),
        format!("file:{}", home.path("x.dump").display()),
        "postgres://nobody:pa55word@127.0.0.1:1/x".to_owned(),
        "unknown://127.0.0.1/x".to_owned(),
    ] {
        let told = plan(&home, Operator, json!({ "to": to })).await;
        assert_eq!((&told["is_possible"], &told["exists"]), (&json!(false), &json!(null)), "{told}");
        assert!(!told["problems"].as_array().unwrap().is_empty() && !told.to_string().contains("pa55word"), "{told}");
        let run = home.restore(Operator, "shop", json!({ "to": to })).await;
        assert_ne!(run["ending"], "success", "{run}");
    }
    for body in [
        json!({ "to": "x.db" }),
        json!({ "to": "sqlite:///x.db" }),
        json!({ "to": "" }),
        json!({ "backup": "all" }),
        json!({ "backup": "20201120-153000Z-7f3a", "at": "2026-01-01T00:00:00Z" }),
        json!({ "objects": ["t"] }),
    ] {
        home.post(Admin, PLAN, body).await.refuses(400);
    }
    for body in [json!({ "backup": "20201120-153000Z-7f3a" }), json!({ "at": "1999-01-01T00:00:00Z" })] {
        home.post(Admin, PLAN, body).await.refuses(404);
    }
    home.post(Admin, "/api/databases/nobody/restore/plan", json!({})).await.refuses(404);
}

#[tokio::test]
async fn without_a_token_it_tells_of_the_original_place_only() {
    let home = Home::with_tokens(false).await;
    let ask = async |body: Value| home.send(home.request(None, "POST", PLAN, Some(body))).await.json();
    let told = ask(json!({})).await;
    assert_eq!(
        (&told["may"], &told["exists"], &told["role"]),
        (&json!(false), &json!(true), &json!("admin")),
        "{told}"
    );
    let there = ask(json!({ "to": home.path("other.db") })).await;
    let mut nothing = ask(json!({ "to": home.path("nothing.db") })).await;
    assert_eq!((&there["exists"], &there["is_possible"]), (&json!(null), &json!(false)), "{there}");
    for key in ["target", "command"] {
        nothing[key] = there[key].clone();
    }
    assert_eq!(there, nothing);
}

#[tokio::test]
async fn without_rules_nothing_is_pruned() {
    let home = Home::new().await;
    let second = home.back_up("shop").await;
    let prune = "/api/databases/shop/prune";
    let told = home.ask(Viewer, "GET", prune).await.json();
    assert_eq!(
        (&told["deleted"], &told["rules"], &told["freed_bytes"]),
        (&json!([]), &json!(null), &json!(0)),
        "{told}"
    );
    let kept = told["kept"].as_array().unwrap();
    assert_eq!((kept.len(), &kept[1]["id"]), (2, &json!(second)), "{told}");
    assert_eq!(kept[0]["reasons"], json!(["no-rule"]), "{told}");
    home.post(Viewer, prune, json!({ "deleted": [] })).await.refuses(403);
    for body in [
        json!({}),
        json!({ "deleted": null }),
        json!({ "deleted": second }),
        json!({ "deleted": ["latest"] }),
        json!({ "deleted": [second, "../shop"] }),
        json!({ "deleted": vec![&second; 2001] }),
        json!({ "deleted": [], "keep": { "last": 1 } }),
    ] {
        home.post(Operator, prune, body).await.refuses(400);
    }
    home.ask(Operator, "POST", prune).await.refuses(415);
    let run = home.ended(Home::started(&home.post(Operator, prune, json!({ "deleted": [] })).await)).await;
    assert_eq!((&run["ending"], &run["kind"]), (&json!("success"), &json!("prune")), "{run}");
    assert_eq!(home.ask(Viewer, "GET", prune).await.json()["kept"], told["kept"]);
    // Nothing of this one is in the repository yet.
    home.ask(Viewer, "GET", "/api/databases/other/prune").await.refuses(404);
}
