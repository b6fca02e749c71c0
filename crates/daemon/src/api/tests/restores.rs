//! Restores: who may, where to, over what, and what is left when it fails.

use serde_json::json;

use super::Home;
use super::home::{make, rows};
use crate::tokens::Role::{Admin, Operator, Viewer};

const RESTORE: &str = "/api/databases/shop/restore";

#[tokio::test]
async fn to_a_new_place_an_operator_may() {
    let home = Home::new().await;
    let target = home.path("copy.db");
    home.post(Viewer, RESTORE, json!({ "to": target })).await.refuses(403);
    let dry = home.restore(Operator, "shop", json!({ "to": target, "dry_run": true })).await;
    assert_eq!((dry["ending"].as_str(), target.exists()), (Some("success"), false), "{dry}");
    let run = home.restore(Operator, "shop", json!({ "to": target })).await;
    assert_eq!((run["ending"].as_str(), run["kind"].as_str()), (Some("success"), Some("restore")), "{run}");
    assert_eq!(rows(&target), 200);

    // What is there now stays.
    make(&target, 7);
    let run = home.restore(Admin, "shop", json!({ "to": format!("sqlite:{}", target.display()) })).await;
    assert!(run["ending"] != "success" && run["error"]["message"].is_string(), "{run}");
    assert_eq!(rows(&target), 207);
    let text = home.path("precious.txt");
    std::fs::write(&text, "precious").unwrap();
    assert_ne!(home.restore(Operator, "shop", json!({ "to": text })).await["ending"], "success");
    assert_eq!(std::fs::read_to_string(&text).unwrap(), "precious");
    let nowhere = home.path("missing/folder/x.db");
    home.restore(Operator, "shop", json!({ "to": nowhere })).await;
    // Without a target it is the original place.
    assert_ne!(home.restore(Operator, "shop", json!({})).await["ending"], "success");
    assert_eq!(rows(&home.path("shop.db")), 200);
}

#[tokio::test]
async fn over_a_database_only_an_admin_may_who_types_its_name() {
    let home = Home::new().await;
    let shop = home.path("shop.db");
    make(&shop, 50);
    for body in
        [json!({ "replace": true, "confirm": "shop" }), json!({ "replace": true, "confirm": "shop", "dry_run": true })]
    {
        home.post(Viewer, RESTORE, body.clone()).await.refuses(403);
        home.post(Operator, RESTORE, body).await.refuses(403);
    }
    for confirm in [json!(null), json!(""), json!("Shop"), json!("shop "), json!("other"), json!(true), json!(["shop"])]
    {
        home.post(Admin, RESTORE, json!({ "replace": true, "confirm": confirm })).await.refuses(400);
    }
    home.post(Admin, RESTORE, json!({ "replace": true })).await.refuses(400);
    assert_eq!(rows(&shop), 250);
    let dry = home.restore(Admin, "shop", json!({ "replace": true, "confirm": "shop", "dry_run": true })).await;
    assert_eq!((dry["ending"].as_str(), rows(&shop)), (Some("success"), 250), "{dry}");
    let run = home.restore(Admin, "shop", json!({ "replace": true, "confirm": "shop" })).await;
    assert_eq!((run["ending"].as_str(), rows(&shop)), (Some("success"), 200), "{run}");
}

#[tokio::test]
async fn what_is_confirmed_is_what_is_replaced() {
    let home = Home::new().await;
    let other = home.path("other.db");
    std::os::unix::fs::symlink(home.path("other.db"), home.path("link.db")).unwrap();
    for to in [other.display().to_string(), format!("sqlite:{}", home.path("link.db").display())] {
        let body = |confirm: &str| json!({ "to": to, "replace": true, "confirm": confirm });
        let refused = home.post(Admin, RESTORE, body("shop")).await;
        assert_eq!(refused.refuses(400).json()["error"]["hint"], "\"confirm\": \"other\"");
    }
    assert_eq!(rows(&other), 10);
    let body = json!({ "to": other, "replace": true, "confirm": "other" });
    assert_eq!(home.restore(Admin, "shop", body).await["ending"], "success");
    assert_eq!(rows(&other), 200);
    // What has no name is confirmed by that of the backup.
    make(&home.path("unnamed.db"), 3);
    let body = json!({ "to": home.path("unnamed.db"), "replace": true, "confirm": "shop" });
    assert_eq!(home.restore(Admin, "shop", body).await["ending"], "success");
    assert_eq!(rows(&home.path("unnamed.db")), 200);
}

#[tokio::test]
async fn a_target_is_absolute_and_of_this_kind() {
    let home = Home::new().await;
    let before = home.files();
    for to in [
        "",
        "x.db",
        "../x.db",
        "sqlite:x.db",
        "sqlite:///x.db",
        "sqlite://x.db",
        "file:x",
        "~/x.db",
        "/tmp/x\0.db",
        "C:\\x",
    ] {
        home.post(Admin, RESTORE, json!({ "to": to })).await.refuses(400);
    }
    for body in [
        json!({ "backup": "20201120-153000Z-7f3a", "at": "2026-01-01T00:00:00Z" }),
        json!({ "backup": "all" }),
        json!({ "backup": "../latest" }),
        json!({ "at": "yesterday" }),
        json!({ "at": 0 }),
        json!({ "to": 1 }),
        json!({ "objects": ["t"] }),
        json!({ "keep_old": true }),
    ] {
        home.post(Admin, RESTORE, body).await.refuses(400);
    }
    let target = home.path("out");
    for body in [
        json!({ "to": format!("postgres://nobody@127.0.0.1:1/{}", "x") }),
        json!({ "to": format!("duckdb:{}", target.display()) }),
        json!({ "to": format!("file:{}", target.display()) }),
        json!({ "to": target, "at": "1999-01-01T00:00:00Z" }),
        json!({ "to": target, "backup": "20201120-153000Z-7f3a" }),
    ] {
        let run = home.restore(Operator, "shop", body).await;
        assert!(run["ending"] != "success" && run["error"]["kind"].is_string(), "{run}");
    }
    assert_eq!(home.files(), before);
    let id = home.back_up("shop").await;
    let run = home.restore(Operator, "shop", json!({ "to": target, "backup": id })).await;
    assert_eq!((run["ending"].as_str(), run["backup"].as_str()), (Some("success"), Some(id.as_str())), "{run}");
}

#[tokio::test]
async fn two_restores_into_one_place_exclude_each_other() {
    let home = Home::new().await;
    make(&home.path("shop.db"), 20_000);
    home.back_up("shop").await;
    let target = home.path("copy.db");
    let first = Home::started(&home.post(Operator, RESTORE, json!({ "to": target })).await);
    let second = Home::started(&home.post(Operator, RESTORE, json!({ "to": target })).await);
    let endings = [home.ended(first).await, home.ended(second).await];
    assert_eq!(endings.iter().filter(|run| run["ending"] == "success").count(), 1, "{endings:?}");
    assert_eq!(rows(&target), 20_200);
    let folder = std::fs::read_dir(home.folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = folder.filter(|name| name.to_string_lossy().contains("copy.db")).collect();
    assert_eq!(left, ["copy.db"]);

    let body = json!({ "replace": true, "confirm": "shop" });
    let first = Home::started(&home.post(Admin, RESTORE, body.clone()).await);
    let second = home.post(Admin, RESTORE, body).await;
    if home.ask(Viewer, "GET", &format!("/api/runs/{first}")).await.json()["live"].is_object() {
        second.refuses(409);
    }
    assert_eq!(home.ended(first).await["ending"], "success");
    assert_eq!(rows(&home.path("shop.db")), 20_200);
}
