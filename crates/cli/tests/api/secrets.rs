//! Tokens and passphrases: what is told of them, and when they end.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;

use crate::served::{PATIENCE, Served, home, token};

const PASSPHRASE: &str = "correct-horse-battery-staple";

#[tokio::test]
async fn neither_the_log_nor_an_answer_holds_a_secret() {
    let home = home("");
    let variables = [("COPAL_PASSPHRASE", PASSPHRASE)];
    for arguments in [&["init", "--encrypt"][..], &["backup", "shop"]] {
        let run = home.run_with(&variables, arguments);
        assert_eq!(run.code, 0, "{}", run.page());
    }
    let tokens = ["viewer", "operator", "admin"].map(|role| token(&home, role, role));
    let [_, operator, admin] = &tokens;
    let mut served = Served::start(&home, &[], &variables);
    let mut told = String::new();
    let id = home.run_with(&variables, &["list", "shop", "--json"]).json()["results"][0]["id"].clone();
    let backup = format!("/api/databases/shop/backups/{}", id.as_str().unwrap());
    for path in [
        "/api/status",
        "/api/databases",
        "/api/databases/shop",
        "/api/databases/shop/backups",
        "/api/databases/shop/series",
        "/api/overview?search=shop",
        &backup,
        "/api/runs",
        "/api/notifiers",
        "/metrics",
        "/api/openapi.json",
        "/api/databases/nobody",
    ] {
        for token in &tokens {
            told.push_str(&served.get(path, token).await.text().await.unwrap());
        }
    }
    let guess = format!("{operator}guessed");
    told.push_str(&served.get("/api/status", &guess).await.text().await.unwrap());
    // A token where none belongs, and a server's password.
    let secret = "pa55word-of-a-server";
    let server = format!("postgres://u:{secret}@127.0.0.1:1/x");
    for to in [server.clone(), home.path("copy.db").display().to_string()] {
        let (status, answer) =
            served.post("/api/databases/shop/restore", operator, &json!({ "to": to }).to_string()).await;
        assert_eq!(status, 202, "{answer}");
        told.push_str(&served.ended(&answer["run"], operator).await.to_string());
        let log = served.get(&format!("/api/runs/{}/log", answer["run"]), operator).await;
        told.push_str(&log.text().await.unwrap());
    }
    assert_eq!(home.rows("copy.db"), 100);
    for body in [json!({ "to": format!("{server}\0") }), json!({ "to": server.replace("//", "") })] {
        let (status, answer) = served.post("/api/databases/shop/restore", admin, &body.to_string()).await;
        told.push_str(&answer.to_string());
        if status == 202 {
            told.push_str(&served.ended(&answer["run"], admin).await.to_string());
        }
    }
    let renewed = served.ask(Method::PUT, &format!("{backup}/pin"), operator).send().await.unwrap();
    assert_eq!(renewed.status(), 200);
    served.terminate();
    assert_eq!(served.ended_with().code(), Some(0), "{}", served.log());

    let log = served.log();
    assert!(log.contains("who=\"operator\"") || log.contains("operator"), "{log}");
    for (what, text) in [("the log", &log), ("an answer", &told)] {
        for secret in tokens.iter().map(String::as_str).chain([PASSPHRASE, secret, guess.as_str()]) {
            assert!(!text.contains(secret), "{what} holds {secret}:\n{text}");
        }
    }
    // Nor does the history.
    for file in std::fs::read_dir(home.path("state/copal")).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains(PASSPHRASE) && !text.contains(secret) && !text.contains(operator.as_str()));
    }
}

#[tokio::test]
async fn a_removed_token_ends_and_so_does_what_it_listens_to() {
    let home = home("");
    home.good(&["init", "--no-encrypt"]);
    let (gone, stays) = (token(&home, "gone", "operator"), token(&home, "stays", "viewer"));
    let mut served = Served::start(&home, &[], &[]);
    let listening = served.get("/api/events", &gone).await;
    let staying = served.get("/api/events", &stays).await;
    assert_eq!((listening.status().as_u16(), staying.status().as_u16()), (200, 200));
    home.good(&["token", "remove", "gone"]);
    let late = Instant::now() + PATIENCE;
    while served.get("/api/status", &gone).await.status() != 401 {
        assert!(Instant::now() < late, "it still holds");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // The text is whole: the end of the stream was said.
    listening.text().await.unwrap();
    assert_eq!(served.get("/api/status", &stays).await.status(), 200);

    served.terminate();
    staying.text().await.unwrap();
    assert_eq!(served.ended_with().code(), Some(0), "{}", served.log());
}
