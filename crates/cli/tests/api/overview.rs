//! What the page shows first: all databases, chosen by the daemon; then one of them, its backups and its runs.

use std::collections::BTreeSet;
use std::time::Instant;

use serde_json::{Value, json};

use crate::home::Home;
use crate::served::{PATIENCE, Served, token};

/// A home with this configuration of databases.
fn home(databases: &str) -> Home {
    let home = Home::new();
    home.write(
        "copal.toml",
        &format!("[repository]\nurl = \"repository\"\n[daemon]\nlisten = \"127.0.0.1:0\"\n{databases}"),
    );
    home.good(&["init", "--no-encrypt"]);
    home
}

async fn get(served: &Served, path: &str, token: &str) -> Value {
    let answer = served.get(path, token).await;
    assert_eq!(answer.status(), 200, "{path}");
    serde_json::from_str(&answer.text().await.unwrap()).unwrap()
}

/// Asks until the answer is as it should be.
async fn until(served: &Served, path: &str, token: &str, is_good: impl Fn(&Value) -> bool) -> Value {
    let late = Instant::now() + PATIENCE;
    loop {
        let answer = get(served, path, token).await;
        if is_good(&answer) {
            return answer;
        }
        assert!(Instant::now() < late, "{path}: {answer}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

fn names(answer: &Value) -> Vec<&str> {
    answer["rows"].as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_database_that_fails_is_told_until_it_recovers() {
    let home =
        home("[databases.shop]\nurl = \"sqlite:shop.db\"\n[databases.gone]\nurl = \"sqlite:gone.db\"\nretries = 0\n");
    home.database("shop.db", 10);
    home.good(&["backup", "shop"]);
    let token = token(&home, "ops", "operator");
    let served = Served::start(&home, &[], &[]);
    let answer = get(&served, "/api/overview", &token).await;
    assert_eq!(names(&answer), ["gone", "shop"]);
    let summary = &answer["summary"];
    let counts = ["databases", "protected", "not_protected", "unknown"].map(|key| summary[key].as_u64().unwrap());
    assert_eq!(counts, [2, 1, 1, 0], "{answer}");
    assert_eq!(summary["newest_backup"], answer["rows"][1]["last_backup"]["time"]);
    assert_eq!((&summary["repository_error"], &summary["configuration_error"]), (&Value::Null, &Value::Null));
    assert_eq!((&answer["worst"][0]["name"], &answer["engines"]), (&json!("gone"), &json!(["sqlite"])));
    assert_eq!(answer["rows"][0]["strip"], json!([]));

    let (status, _) = served.post("/api/databases/gone/backup", &token, "").await;
    assert_eq!(status, 202);
    let failing = until(&served, "/api/overview?state=failing", &token, |answer| answer["total"] == 1).await;
    let row = &failing["rows"][0];
    assert_eq!(
        (&row["name"], &row["protected"], &row["consecutive_failures"]),
        (&json!("gone"), &json!(false), &json!(1))
    );
    let run = &row["strip"][0];
    assert_eq!(
        (&run["kind"], run["ending"].as_str().is_some_and(|ending| ending.ends_with("failure"))),
        (&json!("backup"), true)
    );
    assert_eq!((&run["run"], &run["started"]), (&row["last_run"]["id"], &row["last_run"]["started"]));

    home.database("gone.db", 10);
    served.post("/api/databases/gone/backup", &token, "").await;
    let well = until(&served, "/api/overview?state=protected&sort=name", &token, |answer| answer["total"] == 2).await;
    assert_eq!(
        (names(&well), &well["worst"], &well["summary"]["not_protected"]),
        (vec!["gone", "shop"], &json!([]), &json!(0))
    );
    assert_eq!(get(&served, "/api/overview?state=failing", &token).await["total"], 0);
    let endings = well["rows"][0]["strip"].as_array().unwrap().iter().map(|run| run["ending"] == "success");
    assert_eq!(endings.collect::<Vec<_>>(), [false, true]);

    // A restart knows the same runs.
    drop(served);
    let served = Served::start(&home, &[], &[]);
    let path = "/api/overview?search=gone";
    let again = until(&served, path, &token, |answer| answer["rows"][0]["strip"].as_array().unwrap().len() == 2).await;
    assert_eq!(again["rows"][0]["strip"], well["rows"][0]["strip"]);

    let failed = get(&served, "/api/runs?failed=true", &token).await;
    assert_eq!((failed["runs"].as_array().unwrap().len(), &failed["runs"][0]["id"]), (1, &run["run"]));
    assert_eq!(get(&served, "/api/runs?failed=false&kind=backup", &token).await["runs"].as_array().unwrap().len(), 1);
    assert_eq!(get(&served, "/api/runs?kind=drill", &token).await["runs"], json!([]));
}

#[tokio::test]
async fn names_are_found_whatever_they_are() {
    let odd = [
        "<script>alert(1)</script>",
        "it's \"odd\" & %5F",
        "../../etc/passwd",
        "STRA\u{df}E \u{202e}\u{1f4be}",
        "a_b",
        "plain",
    ];
    let lines = odd.map(|name| format!("[databases.{}]\nurl = \"sqlite:x.db\"\n", json!(name)));
    let home = home(&lines.concat());
    let token = token(&home, "ops", "viewer");
    let served = Served::start(&home, &[], &[]);
    let search = async |text: &str| {
        let request =
            served.ask(reqwest::Method::GET, &format!("/api/overview?sort=name&search={}", encoded(text)), &token);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200, "{text}");
        assert_eq!(answer.headers()["content-type"], "application/json");
        let answer: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        names(&answer).into_iter().map(str::to_owned).collect::<BTreeSet<_>>()
    };
    for (text, found) in [
        ("<SCRIPT>", vec![odd[0]]),
        ("%5F", vec![odd[1]]),
        ("' OR 1=1 --", vec![]),
        ("../", vec![odd[2]]),
        ("stra\u{df}e", vec![odd[3]]),
        ("_", vec![odd[4]]),
        ("*", vec![]),
        ("\0", vec![]),
        ("SQLITE:", odd.to_vec()),
    ] {
        assert_eq!(search(text).await, found.into_iter().map(str::to_owned).collect(), "{text:?}");
    }
    assert_eq!(served.get(&format!("/api/overview?search={}", "x".repeat(201)), &token).await.status(), 400);
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[tokio::test]
async fn pages_over_many_databases_have_each_once() {
    let lines: String = (0..120).map(|n| format!("[databases.db-{n:03}]\nurl = \"sqlite:{n}.db\"\n")).collect();
    let home = home(&lines);
    let token = token(&home, "ops", "viewer");
    let served = Served::start(&home, &[], &[]);
    let mut all = Vec::new();
    for (offset, rows) in [(0, 50), (50, 50), (100, 20), (120, 0), (4_294_967_295_u32, 0)] {
        let page = get(&served, &format!("/api/overview?offset={offset}"), &token).await;
        assert_eq!((page["total"].as_u64(), names(&page).len()), (Some(120), rows));
        all.extend(names(&page).into_iter().map(str::to_owned));
    }
    assert_eq!(all, (0..120).map(|n| format!("db-{n:03}")).collect::<Vec<_>>());
    let page = get(&served, "/api/overview?sort=name&order=desc&limit=200&search=-11", &token).await;
    assert_eq!((names(&page).len(), names(&page)[0], page["summary"]["databases"].as_u64()), (10, "db-119", Some(120)));
    assert_eq!(page["worst"].as_array().unwrap().len(), 5);
    for wrong in ["limit=0", "limit=201", "limit=x", "offset=-1", "sort=colour", "order=up", "state=good", "page=2"] {
        let answer = served.get(&format!("/api/overview?{wrong}"), &token).await;
        assert_eq!(answer.status(), 400, "{wrong}");
        assert!(answer.text().await.unwrap().contains("\"error\""), "{wrong}");
    }
}

#[tokio::test]
async fn a_run_says_what_it_did_and_why_it_failed() {
    let home = home("[databases.shop]\nurl = \"sqlite:shop.db\"\n");
    home.database("shop.db", 100);
    home.good(&["backup", "shop"]);
    let token = token(&home, "ops", "admin");
    let served = Served::start(&home, &[], &[]);
    let ran = async |body: Value| {
        let (status, answer) = served.post("/api/databases/shop/restore", &token, &body.to_string()).await;
        assert_eq!(status, 202, "{answer}");
        let record = served.ended(&answer["run"], &token).await;
        let log = get(&served, &format!("/api/runs/{}/log", answer["run"]), &token).await;
        assert_eq!((&log["run"], &log["truncated"]), (&answer["run"], &json!(false)));
        (record, log["lines"].as_array().unwrap().clone())
    };
    let of_level = |lines: &[Value], level: &str| {
        let texts =
            lines.iter().filter(|line| line["level"] == level).map(|line| line["text"].as_str().unwrap().to_owned());
        texts.collect::<Vec<_>>()
    };
    let copy = home.path("copy.db");
    let (record, lines) = ran(json!({ "to": copy })).await;
    assert_eq!(record["ending"], "success", "{record}");
    assert!(of_level(&lines, "phase").contains(&"restoring".to_owned()), "{lines:?}");
    assert!(!of_level(&lines, "check").is_empty(), "{lines:?}");
    assert_eq!(of_level(&lines, "error"), [""; 0]);
    let time = |value: &Value| value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let times: Vec<_> = lines.iter().map(|line| time(&line["time"])).collect();
    assert!(times.is_sorted() && times[0] >= time(&record["started"]), "{times:?}");

    // The target is there now.
    let (record, lines) = ran(json!({ "to": copy })).await;
    let last = lines.last().unwrap();
    assert_eq!((&last["level"], &last["text"]), (&json!("error"), &record["error"]["message"]), "{lines:?}");
    assert_eq!(of_level(&lines, "check"), [""; 0]);

    let (status, answer) = served.post("/api/databases/shop/verify", &token, "{\"drill\": true}").await;
    assert_eq!(status, 202);
    served.ended(&answer["run"], &token).await;
    let log = get(&served, &format!("/api/runs/{}/log", answer["run"]), &token).await;
    assert!(of_level(log["lines"].as_array().unwrap(), "check").len() > 1, "{log}");
    assert_eq!(served.get("/api/runs/7/log", &token).await.status(), 404);
}

#[tokio::test]
async fn one_database_with_its_backups_and_days() {
    let home = home(
        "[databases.shop]\nurl = \"sqlite:shop.db\"\nschedule = \"@daily\"\ntimezone = \"Europe/Berlin\"\n\
         keep = { last = 3, within = \"36h\" }\ndrill = \"@weekly\"\n",
    );
    home.database("shop.db", 100);
    home.good(&["backup", "shop", "--pin"]);
    home.good(&["backup", "shop"]);
    let token = token(&home, "ops", "operator");
    let served = Served::start(&home, &[], &[]);
    served.post("/api/databases/shop/backup", &token, "").await;
    let path = "/api/databases/shop/backups";
    let all = until(&served, path, &token, |answer| answer["backups"].as_array().unwrap().len() == 3).await;
    let all = all["backups"].as_array().unwrap();
    until(&served, "/api/overview?state=running", &token, |answer| answer["total"] == 0).await;

    let details = get(&served, "/api/databases/shop", &token).await;
    assert_eq!((&details["keep"], &details["drill_schedule"]), (&json!("last 3, within 1d12h"), &json!("@weekly")));
    assert_eq!((&details["timezone"], &details["schedule"]), (&json!("Europe/Berlin"), &json!("@daily")));
    let can = json!({ "drill": true, "snapshots": true, "journal": false, "objects": false });
    assert_eq!(details["capabilities"], can);

    let told = |at: usize, key: &str| all[at][key].clone();
    let kept_by = json!(["newest", "last", "within"]);
    assert_eq!(
        (told(0, "kept_for_ever"), told(2, "kept_for_ever"), told(2, "kept_by")),
        (json!(true), json!(false), kept_by)
    );
    let until_of = |at: usize| told(at, "kept_until").as_str().map(str::to_owned);
    assert!(until_of(0).is_none() && until_of(1).is_some() && until_of(1) <= until_of(2), "{all:?}");
    assert_eq!((told(0, "method"), told(1, "method")), (json!("full"), json!("changes")));

    let ids: Vec<_> = all.iter().map(|backup| backup["id"].clone()).collect();
    let page = async |query: &str| {
        let page = get(&served, &format!("{path}?{query}"), &token).await;
        page["backups"].as_array().unwrap().iter().map(|backup| backup["id"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(page("limit=2").await, ids[1..]);
    let before = ids[1].as_str().unwrap();
    assert_eq!(page(&format!("limit=2&before={before}")).await, ids[..1]);
    assert_eq!(page("before=99999999-999999Z-ffff").await, ids);
    for wrong in ["limit=0", "limit=1001", "before=latest", "after=x"] {
        assert_eq!(served.get(&format!("{path}?{wrong}"), &token).await.status(), 400, "{wrong}");
    }

    let series = get(&served, "/api/databases/shop/series", &token).await;
    let columns = &series["backups"];
    assert_eq!(
        (&columns["id"], &series["timezone"], &series["journal"]),
        (&json!(ids), &json!("Europe/Berlin"), &json!([]))
    );
    // Only the daemon's own run has a duration.
    let durations = columns["duration_ms"].as_array().unwrap();
    assert_eq!(durations.iter().map(Value::is_null).collect::<Vec<_>>(), [true, true, false]);
    for key in ["time", "logical_bytes", "added_bytes", "stored_bytes"] {
        assert_eq!(columns[key].as_array().unwrap().len(), 3, "{key}");
    }
    let good: u64 = series["days"].as_array().unwrap().iter().map(|day| day["good"].as_u64().unwrap()).sum();
    assert_eq!(good, 3, "{series}");
    assert_eq!(served.get("/api/databases/nobody/series", &token).await.status(), 404);
}
