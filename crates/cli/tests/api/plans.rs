//! Plans that a person goes by: their command in a shell, servers that say nothing, and who works on the repository.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use copal_postgres::testing::Server;
use serde_json::{Value, json};

use crate::home::Home;
use crate::served::{PATIENCE, Served, token};

async fn get(served: &Served, path: &str, token: &str) -> Value {
    let answer = served.get(path, token).await;
    let status = answer.status();
    let text = answer.text().await.unwrap();
    assert_eq!(status, 200, "{path}: {text}");
    serde_json::from_str(&text).unwrap()
}

/// A configuration of these databases, and a repository.
fn configure(home: &Home, databases: &[(&str, &str, &str)]) {
    write_configuration(home, databases);
    home.good(&["init", "--no-encrypt"]);
}

fn write_configuration(home: &Home, databases: &[(&str, &str, &str)]) {
    let mut text = "[repository]\nurl = \"repository\"\n[daemon]\nlisten = \"127.0.0.1:0\"\n".to_owned();
    for (name, url, more) in databases {
        text.push_str(&format!("[databases.{}]\nurl = {}\n{more}\n", json!(name), json!(url)));
    }
    home.write("copal.toml", &text);
}

/// A name of a database in a path.
fn encoded(name: &str) -> String {
    name.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

#[tokio::test]
async fn the_command_of_a_plan_restores_whatever_the_names_are() {
    let home = Home::new();
    let names = ["it's \"odd\" $(touch pwned) `touch pwned`", "-v"];
    home.database("o'dd \"$HOME\".db", 100);
    configure(&home, &names.map(|name| (name, "sqlite:o'dd \"$HOME\".db", "")));
    home.good(&["backup", "--all"]);
    let token = token(&home, "ops", "admin");
    let served = Served::start(&home, &[], &[]);
    let elsewhere = home.path("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_copal")).parent().unwrap();
    for (n, name) in names.iter().enumerate() {
        let target = home.path(&format!("{n} it's\n\t\u{1b}$(touch pwned);\"*\\ü'.db"));
        for replaces in [false, true] {
            let path = format!("/api/databases/{}/restore/plan", encoded(name));
            let (status, plan) = served.post(&path, &token, &json!({ "to": target }).to_string()).await;
            assert_eq!(
                (status, plan["is_possible"].as_bool(), plan["replaces"].as_bool()),
                (200, Some(true), Some(replaces)),
                "{plan}"
            );
            let line = plan["command"].as_str().unwrap();
            let program_alone = home.command(&[]);
            let mut shell = Command::new("sh");
            shell.args(["-c", line]).current_dir(&elsewhere).env_clear().stdin(Stdio::null());
            shell.envs(program_alone.get_envs().filter_map(|(variable, value)| Some((variable, value?))));
            shell.env("PATH", format!("{}:/usr/bin:/bin", program.display()));
            let done = shell.output().unwrap();
            assert!(done.status.success(), "{line}\n{}", String::from_utf8_lossy(&done.stderr));
            let db = rusqlite::Connection::open(&target).unwrap();
            assert_eq!(db.query_row("SELECT count(*) FROM item", [], |row| row.get::<_, u32>(0)).unwrap(), 100);
        }
    }
    assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 0, "the shell did something else");
    assert!(!home.path("pwned").exists());
}

#[tokio::test]
async fn a_server_that_says_nothing_is_told_and_not_waited_for() {
    let server = Server::start(15);
    server.create_database("shop");
    server.psql("shop", "CREATE TABLE item AS SELECT g FROM generate_series(1, 100) g");
    let home = Home::new();
    configure(&home, &[("shop", &server.url("shop"), "")]);
    home.good(&["backup", "shop"]);
    let token = token(&home, "ops", "admin");
    let served = Served::start(&home, &[], &[]);
    let plan = async |to: Option<String>| {
        let (status, plan) =
            served.post("/api/databases/shop/restore/plan", &token, &json!({ "to": to }).to_string()).await;
        assert_eq!(status, 200, "{plan}");
        plan
    };
    let original = plan(None).await;
    assert_eq!((&original["exists"], &original["is_original"]), (&json!(true), &json!(true)), "{original}");
    assert_eq!((&original["confirm"], &original["space"]), (&json!("shop"), &json!(null)), "{original}");
    let new = plan(Some(server.url("new"))).await;
    assert_eq!((&new["exists"], &new["is_possible"]), (&json!(false), &json!(true)), "{new}");
    assert!(new["warnings"].to_string().contains("password") && !new.to_string().contains("p%40ss"), "{new}");
    assert_eq!(server.psql("postgres", "SELECT count(*) FROM pg_database WHERE datname = 'new'"), "0");

    // It takes connections, and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = format!("postgres://u:pa55word@{}/x?sslmode=disable", silent.local_addr().unwrap());
    let began = Instant::now();
    let stuck = plan(Some(to.clone())).await;
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert_eq!((&stuck["exists"], &stuck["is_possible"]), (&json!(null), &json!(false)), "{stuck}");
    assert!(stuck["problems"][0].as_str().unwrap().contains("did not answer"), "{stuck}");
    assert!(!stuck.to_string().contains("pa55word") && !served.log().contains("pa55word"), "{stuck}");

    // Each of them keeps a thread waiting: there are no more than a few.
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..12 {
        let request = served.ask(reqwest::Method::POST, "/api/databases/shop/restore/plan", &token);
        let request = request.header("content-type", "application/json").body(json!({ "to": to }).to_string());
        asked.spawn(async move { request.send().await.unwrap().status().as_u16() });
    }
    let statuses = asked.join_all().await;
    assert!(statuses.contains(&409) && statuses.iter().all(|status| [200, 409].contains(status)), "{statuses:?}");
    // They end with what they wait for, and then others may look.
    drop(silent);
    let late = Instant::now() + PATIENCE;
    while served.post("/api/databases/shop/restore/plan", &token, "{}").await.0 != 200 {
        assert!(Instant::now() < late, "no target is looked at any more");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn a_prune_deletes_what_its_plan_says() {
    let home = Home::new();
    home.database("shop.db", 100);
    configure(&home, &[("shop", "sqlite:shop.db", "keep = { last = 2 }")]);
    for _ in 0..4 {
        home.add_rows("shop.db", 200);
        home.good(&["backup", "shop"]);
    }
    let ids = home.ids("shop");
    let tokens = ["viewer", "operator"].map(|role| token(&home, role, role));
    let [viewer, operator] = &tokens;
    let served = Served::start(&home, &[], &[]);
    let path = "/api/databases/shop/prune";
    let plan = get(&served, path, viewer).await;
    assert_eq!((&plan["deleted"], &plan["rules"]), (&json!(ids[..2]), &json!("last 2")), "{plan}");
    assert!(plan["freed_bytes"].as_u64().unwrap() > 0, "{plan}");
    let kept: Vec<&str> = plan["kept"].as_array().unwrap().iter().map(|kept| kept["id"].as_str().unwrap()).collect();
    assert_eq!(kept, ids[2..]);
    assert!(plan["kept"][0]["reasons"].as_array().unwrap().contains(&json!("last")), "{plan}");
    assert_eq!(home.ids("shop"), ids, "a plan deletes nothing");
    let before = size(&home.path("repository/databases/shop/packs"));
    let body = json!({ "deleted": plan["deleted"] }).to_string();
    assert_eq!(served.post(path, viewer, &body).await.0, 403);
    let (status, answer) = served.post(path, operator, &body).await;
    assert_eq!(status, 202, "{answer}");
    let run = served.ended(&answer["run"], operator).await;
    assert_eq!((&run["ending"], &run["kind"]), (&json!("success"), &json!("prune")), "{run}");
    assert_eq!(home.ids("shop"), kept);
    let freed = before - size(&home.path("repository/databases/shop/packs"));
    assert_eq!(plan["freed_bytes"], freed);
    let plan = get(&served, path, viewer).await;
    assert_eq!((&plan["deleted"], &plan["freed_bytes"]), (&json!([]), &json!(0)), "{plan}");
}

#[tokio::test]
async fn a_prune_deletes_nothing_that_was_not_shown() {
    let home = Home::new();
    home.database("shop.db", 100);
    configure(&home, &[("shop", "sqlite:shop.db", "keep = { last = 2 }")]);
    let back_up = || {
        home.add_rows("shop.db", 200);
        home.good(&["backup", "shop"]);
    };
    (0..3).for_each(|_| back_up());
    let token = token(&home, "ops", "operator");
    let served = Served::start(&home, &[], &[]);
    let path = "/api/databases/shop/prune";
    let prune = async |deleted: &Value| {
        let (status, answer) = served.post(path, &token, &json!({ "deleted": deleted }).to_string()).await;
        assert_eq!(status, 202, "{answer}");
        served.ended(&answer["run"], &token).await
    };
    let shown = get(&served, path, &token).await["deleted"].clone();
    assert_eq!(shown, json!(home.ids("shop")[..1]));
    // Another one takes the place of one that was to stay.
    back_up();
    let ids = home.ids("shop");
    for deleted in [&shown, &json!([]), &json!(ids[1..])] {
        let run = prune(deleted).await;
        assert_eq!(run["error"]["kind"], "busy", "{run}");
        assert!(run["error"]["message"].as_str().unwrap().contains("look again"), "{run}");
        assert_eq!(home.ids("shop"), ids);
    }
    let shown = get(&served, path, &token).await["deleted"].clone();
    assert_eq!(shown, json!(ids[..2]));
    assert_eq!(prune(&shown).await["ending"], "success");
    assert_eq!(home.ids("shop"), ids[2..]);
    // That they went meanwhile is what was wanted.
    assert_eq!(prune(&shown).await["ending"], "success");
    assert_eq!(home.ids("shop"), ids[2..]);
}

#[tokio::test]
async fn what_is_confirmed_is_the_database_that_is_there_now() {
    let home = Home::new();
    home.database("first.db", 100);
    configure(&home, &[("shop", "sqlite:first.db", "")]);
    home.good(&["backup", "shop"]);
    // The place that the backup was made of is another one's by now.
    home.add_rows("first.db", 50);
    home.database("second.db", 10);
    let before = home.rows("first.db");
    assert_ne!(before, 100);
    write_configuration(&home, &[("shop", "sqlite:second.db", ""), ("orders", "sqlite:first.db", "")]);
    let token = token(&home, "ops", "admin");
    let served = Served::start(&home, &[], &[]);
    let (status, plan) = served.post("/api/databases/shop/restore/plan", &token, "{}").await;
    assert_eq!((status, &plan["confirm"], &plan["exists"]), (200, &json!("orders"), &json!(true)), "{plan}");
    assert!(plan["warnings"].to_string().contains("that of orders now"), "{plan}");
    let restore = async |confirm: &str| {
        let body = json!({ "replace": true, "confirm": confirm }).to_string();
        served.post("/api/databases/shop/restore", &token, &body).await
    };
    let (status, refused) = restore("shop").await;
    assert_eq!((status, &refused["error"]["hint"]), (400, &json!("\"confirm\": \"orders\"")), "{refused}");
    assert_eq!(home.rows("first.db"), before);
    let (status, answer) = restore("orders").await;
    assert_eq!(status, 202, "{answer}");
    assert_eq!(served.ended(&answer["run"], &token).await["ending"], "success");
    assert_eq!((home.rows("first.db"), home.rows("second.db")), (100, 10));
}

#[tokio::test]
async fn a_database_that_is_busy_is_not_replaced_by_anothers_backup() {
    let home = Home::new();
    home.database("shop.db", 100);
    home.database("orders.db", 10);
    configure(&home, &[("shop", "sqlite:shop.db", ""), ("orders", "sqlite:orders.db", "")]);
    home.good(&["backup", "shop"]);
    let token = token(&home, "ops", "admin");
    let served = Served::start(&home, &[], &[]);
    // Its backup waits for this.
    let writer = rusqlite::Connection::open(home.path("orders.db")).unwrap();
    writer.execute_batch("BEGIN EXCLUSIVE").unwrap();
    assert_eq!(served.post("/api/databases/orders/backup", &token, "").await.0, 202);
    let backup = served.newest_run("orders", &token).await;
    let restore = async || {
        let body = json!({ "to": home.path("orders.db"), "replace": true, "confirm": "orders" }).to_string();
        served.post("/api/databases/shop/restore", &token, &body).await
    };
    let (status, refused) = restore().await;
    assert_eq!((status, &refused["error"]["kind"]), (409, &json!("busy")), "{refused}");
    writer.execute_batch("COMMIT").unwrap();
    drop(writer);
    assert_eq!(served.ended(&backup, &token).await["ending"], "success");
    assert_eq!(home.rows("orders.db"), 10);
    let (status, answer) = restore().await;
    assert_eq!(status, 202, "{answer}");
    assert_eq!(served.ended(&answer["run"], &token).await["ending"], "success");
    assert_eq!(home.rows("orders.db"), 100);
}

#[tokio::test]
async fn of_a_whole_server_nothing_is_lost_by_one_name() {
    let home = Home::new();
    configure(&home, &[("server", "postgres://nobody@127.0.0.1:1/*", "")]);
    let token = token(&home, "ops", "admin");
    let served = Served::start(&home, &[], &[]);
    let id = "20261120-153000Z-7f3a";
    for (path, body) in [
        (format!("snapshots/{id}/remove"), json!({ "confirm": "try" })),
        ("rewind".to_owned(), json!({ "snapshot": id, "confirm": "server" })),
        ("prune".to_owned(), json!({ "deleted": [] })),
    ] {
        let (status, refused) = served.post(&format!("/api/databases/server/{path}"), &token, &body.to_string()).await;
        assert_eq!(status, 400, "{path}: {refused}");
        assert!(refused["error"]["message"].as_str().unwrap().contains("whole server"), "{path}: {refused}");
    }
}

fn size(folder: &Path) -> u64 {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}

#[tokio::test]
async fn who_works_on_a_database_is_shown() {
    let home = Home::new();
    home.database("shop.db", 100);
    configure(&home, &[("shop", "sqlite:shop.db", "")]);
    home.good(&["backup", "shop"]);
    let token = token(&home, "ops", "viewer");
    let served = Served::start(&home, &[], &[]);
    assert_eq!(get(&served, "/api/repository", &token).await["leases"], json!([]));
    // Its backup waits for this, with the lease in its hand.
    let writer = rusqlite::Connection::open(home.path("shop.db")).unwrap();
    writer.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let mut command = home.command(&["backup", "shop"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let until = async |count: usize| {
        let late = Instant::now() + PATIENCE;
        loop {
            let told = get(&served, "/api/repository", &token).await;
            if told["leases"].as_array().unwrap().len() == count {
                return told;
            }
            assert!(Instant::now() < late, "{told}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let told = until(1).await;
    let lease = &told["leases"][0];
    assert_eq!((&lease["database"], &lease["operation"]), (&json!("shop"), &json!("backup")), "{lease}");
    assert_eq!((&lease["pid"], &lease["is_own"]), (&json!(child.id()), &json!(false)), "{lease}");
    assert!(lease["since"].is_string() && !lease["host"].as_str().unwrap().is_empty(), "{lease}");
    writer.execute_batch("COMMIT").unwrap();
    drop(writer);
    assert!(child.wait().unwrap().success());
    until(0).await;
}

#[tokio::test]
async fn what_only_the_repository_knows_is_no_path() {
    let home = Home::new();
    home.database("shop.db", 10);
    configure(&home, &[("shop", "sqlite:shop.db", "")]);
    home.database("stray.db", 20);
    home.good(&["backup", "--all"]);
    home.good(&["backup", "./stray.db"]);
    let document = home.good(&["list", "--json"]).json();
    let all = document["results"].as_array().unwrap().iter().map(|result| result["database"].as_str().unwrap());
    let stray = all.into_iter().find(|name| name.starts_with("stray-")).unwrap().to_owned();
    // In the folder in which the daemon runs there is a database of that very name.
    std::fs::copy(home.path("shop.db"), home.path(&stray)).unwrap();
    let token = token(&home, "ops", "admin");
    let served = Served::start(&home, &[], &[]);
    let path = format!("/api/databases/{stray}/snapshots");
    let told = get(&served, &path, &token).await;
    assert_eq!((&told["supported"], &told["snapshots"]), (&json!(false), &json!([])), "{told}");
    assert_eq!(served.post(&path, &token, "{}").await.0, 400);
    let body = json!({ "snapshot": "20261120-153000Z-7f3a", "confirm": stray }).to_string();
    assert_eq!(served.post(&format!("/api/databases/{stray}/rewind"), &token, &body).await.0, 400);
    assert_eq!(home.good(&["snaps", "-d", &stray, "--json"]).json()["results"], json!([]));
    // But it can be restored.
    let plan = served.post(&format!("/api/databases/{stray}/restore/plan"), &token, "{}").await.1;
    assert_eq!((&plan["confirm"], &plan["exists"]), (&json!(stray), &json!(true)), "{plan}");
}
