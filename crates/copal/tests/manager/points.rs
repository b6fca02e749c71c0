//! Random operations on a store, saved by a manager and restored to every point, against plain maps.

use std::collections::BTreeMap;

use copal::memory::{MemoryStore, Table};
use copal::{BackupChoice, BackupManager, Context, Copal, RestoreOptions, S3Options, Saved, Settings};
use copal_storage::testkit::S3Server;
use jiff::Timestamp;

use crate::home::Home;
use crate::rounds;

type Model = BTreeMap<String, BTreeMap<u32, String>>;

/// Small numbers that look random; the same for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

fn change(store: &MemoryStore, model: &mut Model, dice: &mut Dice) {
    let name = format!("table {}", dice.roll(3));
    if dice.roll(12) == 0 {
        assert_eq!(store.drop_table(&name), model.remove(&name).is_some());
        return;
    }
    let table: Table<u32, String> = store.table(&name).unwrap();
    let rows = model.entry(name).or_default();
    for _ in 0..dice.roll(30) {
        let key = u32::try_from(dice.roll(200)).unwrap();
        match dice.roll(3) {
            0 => assert_eq!(table.remove(&key).unwrap(), rows.remove(&key)),
            _ => {
                let row = format!("row {}", dice.roll(1_000_000));
                assert_eq!(table.upsert(key, row.clone()).unwrap(), rows.insert(key, row));
            }
        }
    }
}

/// What is restored with this choice into an empty store of another process.
async fn restored(settings: &Settings, backup: BackupChoice) -> Model {
    let copal = Copal::new(settings.clone());
    let store = MemoryStore::new();
    let _registered = copal.register("model", store.clone()).unwrap();
    let options = RestoreOptions { backup, ..RestoreOptions::default() };
    copal.restore("memory:model", options, &Context::silent()).await.unwrap();
    let rows = |name: String| {
        let table: Table<u32, String> = store.table(&name).unwrap();
        let rows = table.snapshot().iter().map(|(key, row)| (*key, row.clone())).collect();
        (name, rows)
    };
    store.tables().into_iter().map(rows).collect()
}

async fn every_point(copal: Copal, seed: u64, saves: u64) {
    let mut dice = Dice(seed);
    let store = MemoryStore::new();
    let registered = copal.register("model", store.clone()).unwrap();
    let manager = BackupManager::builder(copal.clone(), registered.source()).incremental(true).build();
    let (mut model, mut points): (Model, Vec<(copal::BackupId, Timestamp, Model)>) = Default::default();
    for _ in 0..saves {
        (0..dice.roll(4)).for_each(|_| change(&store, &mut model, &mut dice));
        let saved = match dice.roll(6) {
            0 => manager.backup_full().await,
            _ => manager.backup_delta().await,
        };
        let id = match saved.unwrap() {
            Saved::Full(outcome) => outcome.backup.id,
            Saved::Delta(outcome) => outcome.segment.id,
            Saved::Unchanged => continue,
        };
        points.push((id, Timestamp::now(), model.clone()));
    }
    assert!(points.len() as u64 > saves / 2, "seed {seed}");
    let settings = copal.settings();
    for (number, (id, time, expected)) in points.iter().enumerate() {
        let by_id = restored(settings, BackupChoice::Id(id.clone())).await;
        assert_eq!(by_id, *expected, "seed {seed}, point {number}, {id}");
        let by_time = restored(settings, BackupChoice::At(*time)).await;
        assert_eq!(by_time, *expected, "seed {seed}, point {number} at {time}");
    }
    assert_eq!(restored(settings, BackupChoice::Latest).await, points.last().unwrap().2, "seed {seed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_point_of_a_local_repository() {
    for seed in 0..rounds(1) {
        for encrypt in [false, true] {
            every_point(Home::new().copal(encrypt).await, seed * 2 + u64::from(encrypt), 14).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_point_of_a_bucket() {
    let home = Home::new();
    let server = S3Server::start().await.unwrap();
    let s3: S3Options = server.options().s3;
    let repository = format!("s3://{}/prefix", server.bucket);
    let copal = Copal::new(Settings { s3, repository, ..home.settings() });
    copal.init(copal::InitOptions { encrypt: true, ..Default::default() }).await.unwrap();
    every_point(copal, 99, 8).await;
}
