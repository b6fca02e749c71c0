use std::pin::pin;
use std::sync::Mutex as StdMutex;

use futures::FutureExt;
use tokio::sync::{Mutex, Notify};

use super::*;
use crate::setup::code::Code;

fn ground(root: &Path) -> Ground {
    let mut settings = Settings::new(root.join("default").display().to_string());
    settings.state = Some(root.join("state"));
    Ground {
        code: Code::random().unwrap(),
        file: root.join("config/copal.toml"),
        settings,
        environment: [("HOME", root.to_str().unwrap())].into_iter().collect(),
        existing: Box::new(|| Ok(None)),
        writing: Mutex::new(()),
        turn: Mutex::new(()),
        searching: Mutex::new(()),
        look: Notify::new(),
        wrong: StdMutex::new(None),
    }
}

fn wish(databases: Vec<WishedDatabase>) -> Wish {
    Wish { repository: None, encrypt: false, passphrase: None, databases }
}

#[tokio::test]
async fn a_repository_of_somebody_else_is_not_reached_by_a_detour() {
    let home = tempfile::tempdir().unwrap();
    let root = home.path();
    let theirs = root.join("backups");
    Copal::new(Settings::new(theirs.display().to_string())).init(InitOptions::default()).await.unwrap();
    let shop = root.join("shop.db");
    rusqlite::Connection::open(&shop).unwrap().execute_batch("CREATE TABLE item (id INTEGER)").unwrap();
    let shop = WishedDatabase { name: "shop".to_owned(), url: shop.display().to_string(), schedule: None };
    let wish = Wish {
        repository: Some(root.join("new/../backups").display().to_string()),
        encrypt: true,
        passphrase: Some(Secret::new("five random words")),
        ..wish(vec![shop])
    };
    let refused = ground(root).fulfil(wish).await;
    assert!(theirs.join("copal.json").exists() && !root.join("new").exists());
    assert!(matches!(refused, Err(Refusal::Wish(error)) if error.to_string().contains("is no place for a repository")));
}

#[tokio::test]
async fn who_only_looks_for_a_configuration_refuses_nobody() {
    let home = tempfile::tempdir().unwrap();
    let ground = ground(home.path());
    let looking = ground.turn.lock().await;
    let mut first = pin!(ground.fulfil(wish(Vec::new())));
    assert!(first.as_mut().now_or_never().is_none(), "it waits");
    let second = ground.fulfil(wish(Vec::new())).await;
    assert!(matches!(second, Err(Refusal::Exists(error)) if error.kind() == ErrorKind::Busy));
    drop(looking);
    // Its turn came: it was looked at.
    let refused = first.await;
    assert!(matches!(refused, Err(Refusal::Wish(error)) if error.kind() == ErrorKind::Usage));
}
