//! The frozen repositories with streams under tests/fixtures/streams-1 restore for ever.
//!
//! `COPAL_WRITE_FIXTURE=<folder>` makes them; that was done once, and is done again only for another format. One stream with
//! a few lines, one of nothing, a page file beside them, three backups of which the first was pruned. `expected.json` holds
//! BLAKE3 of every file of every backup.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::streams::*;
use copal_core::{Content, Context, Secret, Sink};
use copal_repository::{BackupSink, Repository, Unlock, WriteOptions};
use copal_storage::{MemoryStorage, ObjectPath};
use serde_json::{Value, json};

const PASSPHRASE: &str = "frozen fixture";

fn put_folder(memory: &MemoryStorage, root: &Path, folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
        if entry.is_dir() {
            put_folder(memory, root, &entry);
        } else {
            let name = entry.strip_prefix(root).unwrap().to_str().unwrap();
            memory.put(&ObjectPath::parse(name).unwrap(), std::fs::read(&entry).unwrap());
        }
    }
}

fn digest(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_frozen_stream_restores_byte_for_byte() {
    let fixtures: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../../tests/fixtures/streams-1"].iter().collect();
    let mut restored = 0;
    for kind in ["plain", "encrypted"] {
        let folder = fixtures.join(kind);
        let expected: Value = serde_json::from_slice(&std::fs::read(folder.join("expected.json")).unwrap()).unwrap();
        let memory = MemoryStorage::new();
        put_folder(&memory, &folder.join("repository"), &folder.join("repository"));
        let state = tempfile::tempdir().unwrap();
        let unlock = expected["passphrase"].as_str().map(|p| Unlock::Passphrase(Secret::new(p)));
        let repository = Repository::open(Arc::new(memory), unlock.as_ref(), common::options(&state)).await.unwrap();
        let database = repository.database(&"app".parse().unwrap()).await.unwrap().unwrap();
        for (id, files) in expected["backups"].as_object().unwrap() {
            let manifest = repository.manifest(&database, &id.parse().unwrap()).await.unwrap();
            assert!(repository.verify(&database, manifest.clone(), &Context::silent()).await.unwrap().is_empty());
            assert_eq!(manifest.body.files.len(), files.as_object().unwrap().len());
            for (name, hash) in files.as_object().unwrap() {
                let content = repository.content(&database, manifest.clone());
                let wanted = name.clone();
                let bytes = tokio::task::spawn_blocking(move || {
                    let target = common::Target(std::sync::Mutex::default());
                    content.write_file(&wanted, &target, &Context::silent()).unwrap();
                    target.0.into_inner().unwrap()
                });
                assert_eq!(digest(&bytes.await.unwrap()), hash.as_str().unwrap(), "{kind}: {id}: {name}");
                restored += 1;
            }
        }
    }
    assert_eq!(restored, 2 * 2 * 4);
}

fn lines(from: u64, count: u64) -> Vec<u8> {
    (from..from + count)
        .flat_map(|n| format!("{n}\tcustomer {}\tis a regular customer\n", n % 97).into_bytes())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fixture_is_made_once() {
    let Some(target) = std::env::var_os("COPAL_WRITE_FIXTURE").map(PathBuf::from) else { return };
    for kind in ["plain", "encrypted"] {
        let memory = MemoryStorage::new();
        let state = tempfile::tempdir().unwrap();
        let passphrase = (kind == "encrypted").then(|| Secret::new(PASSPHRASE));
        let repository =
            Repository::create(Arc::new(memory.clone()), passphrase.as_ref(), &[], common::options(&state));
        let repository = repository.await.unwrap();
        let database = common::database(&repository, "app").await;
        let mut dump = lines(0, 40_000);
        let mut backups: BTreeMap<String, Value> = BTreeMap::new();
        for round in 0..3u64 {
            dump.splice(900_000..900_000, lines(1_000_000 * (round + 1), 10));
            let files = [
                ("dump", dump.clone()),
                ("parts/roles.sql", format!("-- round {round}\n").into_bytes()),
                ("parts/nothing", Vec::new()),
                ("pages.db", lines(round, 500)[..8192 + 100].to_vec()),
            ];
            let expected: BTreeMap<_, _> = files.iter().map(|(name, bytes)| (*name, digest(bytes))).collect();
            let push: Push = Box::new(move |sink: &mut BackupSink| {
                for (name, bytes) in &files[..3] {
                    push_stream(sink, name, bytes, 50_000)?;
                }
                push_pages(sink as &mut dyn Sink, files[3].0, &files[3].1)
            });
            let made = backup_pushed(&repository, &database, &WriteOptions::default(), push).await.unwrap();
            backups.insert(made.header.backup.to_string(), json!(expected));
        }
        repository.prune(&database, &common::keep_last(2), &Context::silent()).await.unwrap();
        let first = backups.keys().next().unwrap().clone();
        backups.remove(&first);
        for (path, bytes) in memory.contents() {
            if !path.as_str().starts_with("leases/") {
                let file = target.join(kind).join("repository").join(path.as_str());
                std::fs::create_dir_all(file.parent().unwrap()).unwrap();
                std::fs::write(file, &bytes).unwrap();
            }
        }
        let mut facts = json!({"database": "app", "backups": backups});
        if kind == "encrypted" {
            facts["passphrase"] = PASSPHRASE.into();
        }
        let text = serde_json::to_string_pretty(&facts).unwrap() + "\n";
        std::fs::write(target.join(kind).join("expected.json"), text).unwrap();
    }
}
