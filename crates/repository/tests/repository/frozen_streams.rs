//! The frozen repositories with streams under tests/fixtures/streams-1 restore for ever.
//!
//! `COPAL_WRITE_FIXTURE=<folder>` makes them; that was done once, and is done again only for another format. One stream with
//! a few lines, one of nothing, a page file beside them, three backups of which the first was pruned. `expected.json` holds
//! BLAKE3 of every file of every backup.

use std::collections::BTreeMap;

use copal_core::{Content, Context, Sink};
use copal_repository::{BackupSink, WriteOptions};
use serde_json::{Value, json};

use crate::common;
use crate::common::frozen::{Freezing, Frozen, KINDS, digest, target};
use crate::common::streams::*;

#[tokio::test(flavor = "multi_thread")]
async fn every_frozen_stream_restores_byte_for_byte() {
    let mut restored = 0;
    for kind in KINDS {
        let frozen = Frozen::open("streams-1", kind).await;
        let (repository, database) = (&frozen.repository, &frozen.database);
        for (id, files) in &frozen.backups {
            let manifest = repository.manifest(database, &id.parse().unwrap()).await.unwrap();
            assert!(repository.verify(database, manifest.clone(), &Context::silent()).await.unwrap().is_empty());
            assert_eq!(manifest.body.files.len(), files.as_object().unwrap().len());
            for (name, hash) in files.as_object().unwrap() {
                let content = repository.content(database, manifest.clone());
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
    let Some(target) = target() else { return };
    for kind in KINDS {
        let freezing = Freezing::create(kind).await;
        let (repository, database) = (&freezing.repository, &freezing.database);
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
            let made = backup_pushed(repository, database, &WriteOptions::default(), push).await.unwrap();
            backups.insert(made.header.backup.to_string(), json!(expected));
        }
        repository.prune(database, &common::keep_last(2), &Context::silent()).await.unwrap();
        backups.pop_first();
        freezing.write(&target, &backups);
    }
}
