//! The first start: from nothing to a daemon that protects, by the requests that the page makes.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use copal_postgres::testing::Server;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::home::Home;
use crate::served::{PATIENCE, Served, client};

const PASSPHRASE: &str = "five-random-words-are-a-good-one";

/// A request of the page, as a browser sends it.
fn request(served: &Served, method: Method, path: &str, code: &str) -> RequestBuilder {
    let request = client().request(method, format!("{}{path}", served.url));
    request.header("x-copal-setup", code).header("origin", &served.url)
}

async fn answer(request: RequestBuilder) -> (u16, Value) {
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), serde_json::from_str(&answer.text().await.unwrap()).unwrap())
}

async fn get(served: &Served, path: &str, code: &str) -> (u16, Value) {
    answer(request(served, Method::GET, path, code)).await
}

async fn post(served: &Served, path: &str, code: &str, body: &Value) -> (u16, Value) {
    let request = request(served, Method::POST, path, code).header("content-type", "application/json");
    answer(request.body(body.to_string())).await
}

/// Waits until the ordinary daemon answers somebody with this token.
async fn becomes_a_daemon(served: &Served, token: &str) {
    let late = Instant::now() + PATIENCE;
    loop {
        let answer = served.ask(Method::GET, "/api/status", token).send().await;
        if answer.is_ok_and(|answer| answer.status() == 200) {
            return;
        }
        assert!(Instant::now() < late, "it remains a set-up\n{}", served.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Every file and folder below one, with the content of files.
fn tree(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut tree = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            // What the program says grows, whatever it does.
            if path.ends_with("first.log") {
                continue;
            }
            match path.is_dir() {
                true => {
                    folders.push(path.clone());
                    tree.insert(path, Vec::new());
                }
                false => drop(tree.insert(path.clone(), fs::read(&path).unwrap())),
            }
        }
    }
    tree
}

fn one(name: &str, url: impl std::fmt::Display) -> Value {
    json!({"encrypt": false, "databases": [{"name": name, "url": url.to_string(), "schedule": "@daily"}]})
}

#[tokio::test]
async fn from_nothing_to_a_database_that_is_protected_and_drilled() {
    let home = Home::new();
    let odd = "we\"ird ${HOME}\n[daemon]\n\\ \u{fc}.db";
    for name in ["shop.db", odd] {
        home.database(name, 100);
    }
    fs::create_dir(home.path("deep")).unwrap();
    let beginning = [&[7; 8], &b"DUCK"[..], &[0; 4084]].concat();
    fs::write(home.path("deep/numbers"), beginning.repeat(3)).unwrap();
    home.write("notes.db", &"not a database ".repeat(100));
    let (mut served, code) = Served::first_start(&home, &[]);

    let (status, session) = get(&served, "/api/session", "").await;
    assert_eq!((status, &session["setup"], &session["signed_in"]), (200, &json!(true), &json!(false)), "{session}");
    let page = client().get(&served.url).send().await.unwrap();
    assert_eq!(page.status(), 200);
    assert!(page.headers()["content-security-policy"].to_str().unwrap().contains("default-src 'none'"));
    let (status, early) = get(&served, "/api/databases", &code).await;
    assert_eq!((status, &early["error"]["kind"]), (503, &json!("setup")), "{early}");
    let (status, view) = get(&served, "/api/setup", &code).await;
    let configuration = home.path("config/copal/copal.toml");
    assert_eq!((status, view["configuration"].as_str()), (200, configuration.to_str()), "{view}");
    assert_eq!(view["default_repository"].as_str(), home.path("data/copal/repository").to_str());
    assert_eq!(view["engines"], json!(["sqlite", "duckdb", "postgres", "mysql"]));

    let (status, found) = post(&served, "/api/setup/find", &code, &json!({"folders": [home.path("")]})).await;
    assert_eq!((status, &found["is_complete"]), (200, &json!(true)), "{found}");
    let files = found["files"].as_array().unwrap();
    let engine = |name: &str| {
        let path = home.path(name).display().to_string();
        files.iter().find(|file| file["path"] == path.as_str()).map(|file| file["engine"].clone())
    };
    assert_eq!(engine("shop.db"), Some(json!("sqlite")));
    assert_eq!(engine(odd), Some(json!("sqlite")));
    assert_eq!(engine("deep/numbers"), Some(json!("duckdb")));
    assert_eq!((engine("notes.db"), files.len()), (None, 3), "{found}");

    let chosen = files.iter().filter(|file| file["engine"] == "sqlite");
    let databases: Vec<_> =
        chosen.map(|file| json!({"name": file["name"], "url": file["url"], "schedule": "@daily"})).collect();
    let odd_name = files.iter().find(|file| file["path"].as_str().unwrap().contains("ird")).unwrap()["name"].clone();
    let wish = json!({"repository": null, "encrypt": true, "passphrase": PASSPHRASE, "databases": databases});
    let (status, written) = post(&served, "/api/setup", &code, &wish).await;
    assert_eq!(status, 201, "{written}\n{}", served.log());
    assert_eq!(fs::read_to_string(&configuration).unwrap(), written["text"].as_str().unwrap());
    let file = Path::new(written["passphrase_file"].as_str().unwrap());
    assert_eq!(fs::read_to_string(file).unwrap(), format!("{PASSPHRASE}\n"));
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);

    // The same process at the same address.
    let token = written["token"].as_str().unwrap();
    becomes_a_daemon(&served, token).await;
    assert_eq!(get(&served, "/api/setup", &code).await.0, 404);
    let (status, session) = get(&served, "/api/session", "").await;
    assert_eq!((status, &session["setup"], &session["needs_token"]), (200, &json!(false), &json!(true)), "{session}");
    let names = ["shop", odd_name.as_str().unwrap()];
    for name in names {
        for (path, body) in [("backup", ""), ("verify", r#"{"drill": true}"#)] {
            let (status, started) = served.post(&format!("/api/databases/{name}/{path}"), token, body).await;
            assert_eq!(status, 202, "{name} {path}: {started}");
            // A backup gets its number when there is a place for it.
            let run = match path {
                "backup" => served.newest_run(name, token).await,
                _ => started["run"].clone(),
            };
            let run = served.ended(&run, token).await;
            assert_eq!(run["ending"], "success", "{run}");
        }
    }
    served.terminate();
    assert_eq!(served.ended_with().code(), Some(0), "{}", served.log());
    let log = served.log();
    for secret in [&code, PASSPHRASE, token] {
        assert!(!log.contains(secret), "the log holds {secret}:\n{log}");
    }

    // From now on it starts as ever, wherever that is.
    let elsewhere = home.path("deep").display().to_string();
    let served = Served::start_found(&home, &elsewhere);
    let (status, session) = answer(served.ask(Method::GET, "/api/databases", token)).await;
    let protected = session["databases"].as_array().unwrap().iter();
    assert_eq!(status, 200);
    assert!(protected.filter(|found| names.iter().any(|name| found["name"] == *name)).count() == 2, "{session}");
    assert_eq!(answer(served.ask(Method::GET, "/api/databases", "copal_none")).await.0, 401);
}

#[tokio::test]
async fn only_who_has_the_code_is_let_in() {
    let home = Home::new();
    let database = home.database("shop.db", 10);
    let (served, code) = Served::first_start(&home, &[]);
    let before = tree(&home.path(""));
    let without = client().get(format!("{}/api/setup", served.url));
    assert_eq!(answer(without).await.0, 401);
    for (method, path) in [(Method::GET, ""), (Method::POST, ""), (Method::POST, "/find")] {
        let guess = format!("{}-{code}", &code[..4]);
        let (status, refused) = answer(request(&served, method.clone(), &format!("/api/setup{path}"), &guess)).await;
        assert_eq!((status, &refused["error"]["kind"]), (401, &json!("unauthorized")), "{method} {path}");
    }
    // With the code, but by a page of another site, or under a name that was pointed here.
    let wish = one("shop", database.display());
    for (name, value) in [("origin", "https://evil.example"), ("origin", "null"), ("host", "evil.example")] {
        let foreign = client().post(format!("{}/api/setup", served.url)).header("x-copal-setup", &code);
        let foreign = foreign.header("content-type", "application/json").header(name, value).body(wish.to_string());
        let (status, refused) = answer(foreign).await;
        assert_eq!((status, &refused["error"]["kind"]), (403, &json!("forbidden")), "{name} {value}");
    }
    assert_eq!(get(&served, "/api/setup", &code).await.0, 200);
    // Guessing ends soon, and then not even the code is looked at for a while.
    let mut guesses = 3;
    while get(&served, "/api/setup", "0000-0000-0000-0000-0000").await.0 == 401 {
        guesses += 1;
        assert!(guesses < 20, "guesses are not counted");
    }
    assert_eq!(get(&served, "/api/setup", &code).await.0, 429);
    assert_eq!(tree(&home.path("")), before);
}

#[tokio::test]
async fn what_cannot_be_done_leaves_nothing_behind() {
    let home = Home::new();
    let database = home.database("shop.db", 10).display().to_string();
    home.write("notes.db", &"not a database ".repeat(100));
    fs::create_dir_all(home.path("full")).unwrap();
    home.write("full/mine.txt", "of somebody");
    fs::create_dir_all(home.path("empty")).unwrap();
    // The last step before copal.toml fails, when all else is there already.
    fs::create_dir_all(home.path("state/copal")).unwrap();
    home.write("state/copal/tokens.toml", "this is no file of tokens");
    let (served, code) = Served::first_start(&home, &[]);
    let before = tree(&home.path(""));
    let path = |name: &str| home.path(name).display().to_string();
    let with = |more: Value| {
        let mut wish = one("shop", &database);
        wish.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        wish
    };
    let databases = |list: Value| with(json!({ "databases": list }));
    let one_of = |name: &str, url: &str| databases(json!([{"name": name, "url": url}]));
    let wishes = [
        databases(json!([])),
        databases(json!([{"name": "a", "url": database}, {"name": "a", "url": database}])),
        databases(json!([{"name": "a", "url": database, "schedule": "sometimes"}])),
        one_of("Shop!", &database),
        one_of("a\"]\n[daemon]", &database),
        one_of("shop", &path("notes.db")),
        one_of("shop", &path("nothing.db")),
        one_of("shop", "shop.db"),
        one_of("shop", "sqlite:shop.db"),
        one_of("shop", "oracle:x"),
        one_of("shop", "memory:x"),
        one_of("shop", "postgres://u:secret-of-u@127.0.0.1:1/x"),
        with(json!({"repository": "relative"})),
        with(json!({"repository": "memory:x"})),
        with(json!({"repository": path("new/../empty")})),
        with(json!({"repository": "ftp://u:secret-of-u@host/x"})),
        with(json!({"repository": path("full")})),
        with(json!({"repository": path("shop.db/repository")})),
        with(json!({"encrypt": true})),
        with(json!({"passphrase": PASSPHRASE})),
        with(json!({"encrypt": true, "passphrase": "short"})),
        with(json!({"encrypt": true, "passphrase": format!("{PASSPHRASE}\nmore")})),
        with(json!({"unknown": 1})),
    ];
    for wish in &wishes {
        let (status, refused) = post(&served, "/api/setup", &code, wish).await;
        assert_eq!(status, 400, "{wish}: {refused}");
        let text = refused.to_string();
        assert!(!text.contains("secret-of-u") && !text.contains(PASSPHRASE), "{text}");
        assert_eq!(tree(&home.path("")), before, "{wish}: {refused}");
    }
    for repository in [json!(null), json!(path("new/deep")), json!(path("empty"))] {
        let wish = with(json!({"repository": repository, "encrypt": true, "passphrase": PASSPHRASE}));
        let (status, failed) = post(&served, "/api/setup", &code, &wish).await;
        assert_eq!((status, &failed["error"]["kind"]), (500, &json!("failed")), "{failed}");
        assert!(failed["error"]["causes"].to_string().contains("tokens.toml"), "{failed}");
        assert_eq!(tree(&home.path("")), before, "{repository}");
    }
    // And once that is mended, the same works in the same process.
    fs::remove_file(home.path("state/copal/tokens.toml")).unwrap();
    let wish = with(json!({"repository": path("empty"), "encrypt": true, "passphrase": PASSPHRASE}));
    let (status, written) = post(&served, "/api/setup", &code, &wish).await;
    assert_eq!(status, 201, "{written}");
    becomes_a_daemon(&served, written["token"].as_str().unwrap()).await;
    let log = served.log();
    assert!(!log.contains("secret-of-u") && !log.contains(PASSPHRASE), "{log}");
}

#[tokio::test]
async fn a_repository_that_is_there_is_taken() {
    let home = Home::new();
    let database = home.database("shop.db", 10).display().to_string();
    let repository = home.path("repository").display().to_string();
    let variables = [("COPAL_PASSPHRASE", PASSPHRASE)];
    for arguments in [&["--repository", &repository, "init"][..], &["--repository", &repository, "backup", "shop.db"]] {
        let run = home.run_with(&variables, arguments);
        assert_eq!(run.code, 0, "{}", run.page());
    }
    let (served, code) = Served::first_start(&home, &[]);
    let before = tree(&home.path("repository"));
    let wish = |passphrase: &str| {
        json!({"repository": repository, "encrypt": true, "passphrase": passphrase,
               "databases": [{"name": "shop", "url": database}]})
    };
    let (status, refused) = post(&served, "/api/setup", &code, &wish("another passphrase")).await;
    assert_eq!((status, &refused["error"]["kind"]), (400, &json!("passphrase")), "{refused}");
    assert!(!home.path("config").exists());
    let (status, written) = post(&served, "/api/setup", &code, &wish(PASSPHRASE)).await;
    assert_eq!(status, 201, "{written}");
    becomes_a_daemon(&served, written["token"].as_str().unwrap()).await;
    assert!(before.keys().all(|path| path.exists()));
}

#[tokio::test]
async fn whoever_else_writes_a_configuration_ends_the_set_up() {
    let home = Home::new();
    let database = home.database("shop.db", 10);
    let (mut served, code) = Served::first_start(&home, &[]);
    // As long as it cannot be used, nothing is overwritten and nothing ends.
    let file = home.write("copal.toml", "this is no configuration");
    let (status, refused) = post(&served, "/api/setup", &code, &one("shop", database.display())).await;
    assert_eq!((status, &refused["error"]["kind"]), (409, &json!("exists")), "{refused}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "this is no configuration");
    served.signal("HUP");
    fs::remove_file(&file).unwrap();
    home.good(&["init", "--no-encrypt", "-d", "sqlite:shop.db"]);
    let late = Instant::now() + PATIENCE;
    while !served.log().contains("listening on ") {
        assert!(Instant::now() < late, "{}", served.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let answer = client().get(format!("{}/api/databases/shop", served.url)).send().await.unwrap();
    assert_eq!(answer.status(), 200, "nobody needs a token: none was made");
    served.terminate();
    assert_eq!(served.ended_with().code(), Some(0), "{}", served.log());
}

#[test]
fn a_set_up_that_nobody_wants_ends_like_the_daemon() {
    let home = Home::new();
    for signal in ["TERM", "INT"] {
        let (mut served, _) = Served::first_start(&home, &[]);
        served.signal(signal);
        assert_eq!(served.ended_with().code(), Some(0), "{}", served.log());
    }
    assert!(!home.path("config").exists() && !home.path("data").exists());
}

#[test]
fn a_set_up_that_could_not_be_reached_or_by_everybody_is_refused() {
    let home = Home::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let run = home.run(&["serve", "--setup", "--listen", &address]);
    assert!(run.code == 2 && run.stderr.contains("another program listens on"), "{}", run.page());
    for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let run = home.run(&["serve", "--setup", "--listen", listen]);
        assert!(run.code == 2 && run.stderr.contains("only this machine"), "{}", run.page());
        assert!(run.stderr.contains("copal init") && run.stdout.is_empty(), "{}", run.page());
    }
    // A service must not wait for somebody in silence, and who names a file means that one.
    let socket = home.path("notify.socket").display().to_string();
    let here = ["serve", "--setup", "--listen", "127.0.0.1:0"];
    for variables in [[("NOTIFY_SOCKET", socket.as_str())], [("COPAL_REPOSITORY", "repository")]] {
        let run = home.run_with(&variables, &here);
        assert!(run.code == 2 && run.stderr.contains("nothing to protect"), "{}", run.page());
    }
    let run = home.run(&["serve", "--setup", "--config", "other.toml"]);
    assert!(run.code == 2 && run.stderr.contains("other.toml"), "{}", run.page());
    home.write("copal.toml", "");
    let run = home.run(&here);
    assert!(run.code == 2 && run.stderr.contains("nothing to protect"), "{}", run.page());
}

#[test]
fn without_a_terminal_nobody_is_waited_for_unless_that_is_asked_for() {
    let home = Home::new();
    let run = home.run(&["serve", "--listen", "127.0.0.1:0"]);
    assert!(run.code == 2 && run.stderr.contains("nothing to protect"), "{}", run.page());
    assert!(run.stderr.contains("copal init -d") && run.stderr.contains("copal serve --setup"), "{}", run.page());
    // The address would be printed nowhere.
    let run = home.run(&["serve", "--setup", "--json", "--listen", "127.0.0.1:0"]);
    assert_eq!((run.code, run.json()["error"]["kind"].as_str()), (2, Some("usage")), "{}", run.page());
    assert!(!home.path("config").exists() && !home.path("data").exists());
    // Where there is a file it says nothing; here it names nothing to protect, and no page writes over it.
    home.write("copal.toml", "");
    let run = home.run(&["serve", "--listen", "127.0.0.1:0"]);
    assert!(run.code == 2 && !run.stderr.contains("--setup"), "{}", run.page());
}

#[tokio::test]
async fn servers_are_found_with_their_databases() {
    let server = Server::start(15);
    server.create_database("shop");
    let home = Home::new();
    fs::create_dir(home.path("here")).unwrap();
    let folder = server.folder().display().to_string();
    let port = server.port().to_string();
    let (served, code) = Served::first_start(&home, &[("PGHOST", &folder), ("PGPORT", &port)]);
    let (status, found) = post(&served, "/api/setup/find", &code, &json!({"folders": [home.path("here")]})).await;
    assert_eq!((status, &found["files"]), (200, &json!([])), "{found}");
    let servers = found["servers"].as_array().unwrap();
    let is_ours = |server: &&Value| server["url"].as_str().unwrap().ends_with(&format!("&port={port}"));
    let ours = servers.iter().find(is_ours).unwrap_or_else(|| panic!("{found}"));
    assert!(ours["databases"].as_array().unwrap().contains(&json!("shop")), "{ours}");
    assert!(ours["engine"] == "postgres" && ours["version"].as_str().unwrap().starts_with("15"), "{ours}");
    // A name in the place of the star is a URL that can be protected.
    let url = ours["url"].as_str().unwrap().replace('*', "shop");
    let (status, written) = post(&served, "/api/setup", &code, &one("shop", url)).await;
    assert_eq!(status, 201, "{written}");
}
