//! What people are told of real runs, by a webhook to a real receiver.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use copal::Copal;
use copal::schedule::{Policy, RunKind, Schedule};
use copal_daemon::{
    Ending, NotificationSettings, Notifications, NotifierSettings, Protection, ProtectionSettings, Recorder, Runner,
    TrialError,
};
use copal_notify::{Channel, Event, OutboxOptions, SpacingOptions};
use jiff::Timestamp;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::home::{Home, PATIENCE, ended};

/// A receiver on loopback that keeps the bodies and answers with the status it is told.
#[derive(Clone)]
struct Receiver {
    port: u16,
    status: Arc<AtomicU16>,
    bodies: Arc<Mutex<Vec<serde_json::Value>>>,
}

impl Receiver {
    async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let receiver = Self { port, status: Arc::new(AtomicU16::new(200)), bodies: Arc::default() };
        let accepting = receiver.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(accepting.clone().serve(socket));
            }
        });
        receiver
    }

    async fn serve(self, mut socket: TcpStream) {
        let mut request = Vec::new();
        let body = loop {
            if socket.read_buf(&mut request).await.unwrap() == 0 {
                return;
            }
            let text = String::from_utf8_lossy(&request).into_owned();
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length =
                head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                break body.to_owned();
            }
        };
        self.bodies.lock().unwrap().push(serde_json::from_str(&body).unwrap());
        let status = self.status.load(Ordering::SeqCst);
        let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        socket.write_all(answer.as_bytes()).await.unwrap();
    }

    fn events(&self) -> Vec<String> {
        self.bodies.lock().unwrap().iter().map(|body| body["event"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until these were told, and nothing else.
    async fn told(&self, events: &[&str]) {
        let began = Instant::now();
        while self.events() != events {
            assert!(began.elapsed() < PATIENCE, "{:?} instead of {events:?}", self.events());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn settings(home: &Home, receiver: &Receiver) -> NotificationSettings {
    let address = toml::Value::String(format!("http://127.0.0.1:{}/hook", receiver.port));
    let channel = Channel::parse("webhook", &address).unwrap();
    let spacing = SpacingOptions::for_channel(&channel, &[], None);
    let pause = Duration::from_millis(50);
    NotificationSettings {
        host: "db1".to_owned(),
        notifiers: BTreeMap::from([("ops".to_owned(), NotifierSettings { channel, spacing })]),
        routes: home.policies.keys().map(|name| (name.clone(), vec!["ops".to_owned()])).collect(),
        outbox: OutboxOptions { first_pause: pause, max_pause: pause, ..OutboxOptions::default() },
    }
}

fn start(home: &Home, receiver: &Receiver) -> (Runner, Notifications) {
    let (recorder, past) = Recorder::start(Some(home.state()), Timestamp::now());
    let told = past.told.clone();
    let runner = Runner::start(home.runner_settings(2), recorder, past);
    let notifications = Notifications::start(settings(home, receiver), &runner, told);
    (runner, notifications)
}

async fn run(runner: &Runner, kind: RunKind) -> Option<Ending> {
    let mut events = runner.subscribe();
    runner.request("shop", kind).await.unwrap();
    ended(&mut events).await.ending
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_and_recovery_are_told_once_also_over_a_restart() {
    let mut home = Home::new().await;
    let retries = copal::schedule::Retries { most: 0, ..Default::default() };
    home.add("shop", 10, Policy { retries, catch_up: false, ..Policy::default() });
    let receiver = Receiver::start().await;
    let (runner, notifications) = start(&home, &receiver);
    runner.begin();
    assert_eq!(run(&runner, RunKind::Backup).await, Some(Ending::Success));
    std::fs::rename(home.path("shop"), home.path("away")).unwrap();
    for _ in 0..2 {
        assert_eq!(run(&runner, RunKind::Backup).await, Some(Ending::TransientFailure));
    }
    runner.stop(PATIENCE).await;
    notifications.stop(PATIENCE).await;
    receiver.told(&["failure"]).await;
    let (runner, notifications) = start(&home, &receiver);
    runner.begin();
    assert_eq!(run(&runner, RunKind::Backup).await, Some(Ending::TransientFailure));
    std::fs::rename(home.path("away"), home.path("shop")).unwrap();
    assert_eq!(run(&runner, RunKind::Backup).await, Some(Ending::Success));
    assert_eq!(run(&runner, RunKind::Backup).await, Some(Ending::Success));
    runner.stop(PATIENCE).await;
    notifications.stop(PATIENCE).await;
    receiver.told(&["failure", "recovered"]).await;
    let bodies = receiver.bodies.lock().unwrap().clone();
    assert_eq!((&bodies[0]["database"], &bodies[0]["error_kind"]), (&"shop".into(), &"not-found".into()));
    assert_eq!((&bodies[0]["consecutive_failures"], &bodies[0]["host"]), (&1.into(), &"db1".into()));
    assert!(bodies[1]["backup"]["logical_bytes"].as_u64() > Some(10_000), "{}", bodies[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notifier_that_fails_harms_no_backup_and_is_tried_again() {
    let mut home = Home::new().await;
    home.add("shop", 10, Policy::default());
    let receiver = Receiver::start().await;
    receiver.status.store(500, Ordering::SeqCst);
    let (runner, notifications) = start(&home, &receiver);
    let mut wanting = settings(&home, &receiver);
    wanting.notifiers.get_mut("ops").unwrap().spacing.on = vec![Event::Success];
    notifications.reload(wanting).await;
    assert!(matches!(notifications.test("ops").await, Err(TrialError::Failed(_))));
    runner.begin();
    assert_eq!(run(&runner, RunKind::Backup).await, Some(Ending::Success));
    let began = Instant::now();
    while receiver.events().len() < 3 {
        assert!(began.elapsed() < PATIENCE, "{:?}", receiver.events());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let status = notifications.status()["ops"].clone();
    assert!(status.last_error.is_some() && status.waiting == 1 && status.last_sent.is_none(), "{status:?}");
    assert_eq!(run(&runner, RunKind::Backup).await, Some(Ending::Success));
    receiver.status.store(204, Ordering::SeqCst);
    notifications.stop(PATIENCE).await;
    let status = notifications.status()["ops"].clone();
    assert!(status.last_error.is_none() && status.waiting == 0 && status.last_sent.is_some(), "{status:?}");
    assert!(matches!(notifications.test("ops").await, Err(TrialError::Stopping)));
    runner.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trials_reach_the_notifier_that_is_named() {
    let home = Home::new().await;
    let receiver = Receiver::start().await;
    let (_runner, notifications) = start(&home, &receiver);
    assert!(matches!(notifications.test("pos").await, Err(TrialError::Unknown(_))));
    notifications.test("ops").await.unwrap();
    assert_eq!(receiver.events(), ["test"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_that_a_drill_finds_is_told() {
    let mut home = Home::new().await;
    home.add("shop", 100, Policy::default());
    let receiver = Receiver::start().await;
    let (runner, notifications) = start(&home, &receiver);
    runner.begin();
    assert_eq!(run(&runner, RunKind::Backup).await, Some(Ending::Success));
    assert_eq!(run(&runner, RunKind::Drill).await, Some(Ending::Success));
    let packs = home.folder.path().join("repository/databases/shop/packs");
    let pack = std::fs::read_dir(packs).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::remove_file(&pack).unwrap();
    std::fs::write(&pack, bytes).unwrap();
    assert_eq!(run(&runner, RunKind::Drill).await, Some(Ending::PermanentFailure));
    let drill = runner.database("shop").unwrap().drill;
    assert_eq!((drill.newest.unwrap().error.unwrap().kind.as_str(), drill.consecutive_failures), ("damage", 1));
    notifications.stop(PATIENCE).await;
    assert_eq!(receiver.events(), ["damage"]);
    runner.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_missed_while_nobody_was_awake_is_told() {
    let mut home = Home::new().await;
    let schedule = Some(Schedule::parse("@yearly").unwrap());
    home.add("shop", 10, Policy { schedule, catch_up: false, ..Policy::default() });
    let receiver = Receiver::start().await;
    {
        // Somebody was awake two years ago.
        let (runner, _notifications) = start(&home, &receiver);
        runner.begin();
        assert_eq!(run(&runner, RunKind::Backup).await, Some(Ending::Success));
        runner.stop(PATIENCE).await;
        let (recorder, past) = Recorder::start(Some(home.state()), Timestamp::now());
        let mut run = past.newest.into_values().next().unwrap().run.unwrap();
        run.started = run.started.checked_sub(jiff::SignedDuration::from_hours(2 * 366 * 24)).unwrap();
        recorder.record(run);
        recorder.flush().await;
    }
    let (runner, notifications) = start(&home, &receiver);
    runner.begin();
    receiver.told(&["missed"]).await;
    runner.stop(PATIENCE).await;
    notifications.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stale_is_told_whoever_should_have_made_it() {
    let mut home = Home::new().await;
    for name in ["shop", "others", "none"] {
        home.add(name, 10, Policy::default());
    }
    // The backups of this one are made elsewhere.
    Copal::new(home.settings.clone())
        .backup("others", copal::BackupOptions::default(), &copal::Context::silent())
        .await
        .unwrap();
    let receiver = Receiver::start().await;
    let (runner, notifications) = start(&home, &receiver);
    runner.begin();
    assert_eq!(run(&runner, RunKind::Backup).await, Some(Ending::Success));
    let promise = |shop| {
        let mut settings = home.settings.clone();
        for (name, age) in [("shop", shop), ("others", 3600), ("none", 3600)] {
            settings.databases.get_mut(name).unwrap().max_age = Some(Duration::from_secs(age));
        }
        ProtectionSettings { again: Duration::from_millis(50), ..ProtectionSettings::new(settings) }
    };
    let protection = Protection::start(promise(3600), runner.clone());
    receiver.told(&["stale"]).await;
    assert_eq!(receiver.bodies.lock().unwrap()[0]["database"], "none");
    // A backup's time can lie a second ahead.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(receiver.events(), ["stale"], "told once");
    assert_eq!(protection.get("others").map(|seen| seen.status.protected), Some(true));
    protection.reload(promise(1)).await;
    receiver.told(&["stale", "stale"]).await;
    assert_eq!(receiver.bodies.lock().unwrap()[1]["database"], "shop");
    // Somebody else makes the backup that was missing.
    Copal::new(home.settings.clone())
        .backup("none", copal::BackupOptions::default(), &copal::Context::silent())
        .await
        .unwrap();
    receiver.told(&["stale", "stale", "recovered"]).await;
    assert_eq!(receiver.bodies.lock().unwrap()[2]["database"], "none");
    notifications.stop(PATIENCE).await;
    runner.stop(PATIENCE).await;
}
