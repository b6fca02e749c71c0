//! The frozen repositories with journals under tests/fixtures/journal-1 restore for ever.
//!
//! `COPAL_WRITE_FIXTURE=<folder>` makes them; that was done once, and is done again only for another format. Three backups, each
//! with a journal; the first was pruned. The journal of the second has three segments, one with an empty stream and one without
//! any. `expected.json` holds, in order, BLAKE3 of every file of the backup and of its segments.

use std::collections::BTreeMap;

use copal_core::Context;
use copal_repository::WriteOptions;
use serde_json::{Value, json};

use crate::common;
use crate::common::frozen::{Freezing, Frozen, KINDS, digest, target};
use crate::common::journal::*;
use crate::common::streams::*;

#[tokio::test(flavor = "multi_thread")]
async fn every_frozen_journal_restores_byte_for_byte() {
    let mut restored = 0;
    for kind in KINDS {
        let frozen = Frozen::open("journal-1", kind).await;
        let (repository, database) = (&frozen.repository, &frozen.database);
        for (id, saved) in &frozen.backups {
            let manifest = repository.manifest(database, &id.parse().unwrap()).await.unwrap();
            assert!(repository.verify(database, manifest.clone(), &Context::silent()).await.unwrap().is_empty());
            let dump = read_stream(repository, database, &manifest, "dump").await.unwrap();
            assert_eq!(digest(&dump), saved["files"]["dump"].as_str().unwrap());
            let journal = repository.journal(database, &manifest).await.unwrap();
            let found = read_segments(repository, database, &manifest, &journal).await.unwrap();
            assert_eq!(found.len(), saved["segments"].as_array().unwrap().len());
            for (i, (segment, files)) in journal.segments.iter().zip(found).enumerate() {
                let expected = &saved["segments"][i];
                assert_eq!(segment.id().as_str(), expected["id"].as_str().unwrap());
                let names = segment.body.files.iter().map(copal_core::FileEntry::name);
                let found: BTreeMap<&str, String> = names.zip(files.iter().map(|bytes| digest(bytes))).collect();
                assert_eq!(json!(found), expected["files"]);
                restored += 1;
            }
        }
    }
    assert_eq!(restored, 2 * (3 + 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fixture_is_made_once() {
    let Some(target) = target() else { return };
    for kind in KINDS {
        let freezing = Freezing::create(kind).await;
        let (repository, database) = (&freezing.repository, &freezing.database);
        let mut backups: BTreeMap<String, Value> = BTreeMap::new();
        let mut follows = None;
        for (round, segments) in [2usize, 3, 1].into_iter().enumerate() {
            let dump = format!("the whole store, for the {round}th time\n").repeat(3000).into_bytes();
            let expected = json!({ "dump": digest(&dump) });
            let facts = copal_repository::BackupFacts {
                captured_at: jiff::Timestamp::now(),
                follows: follows.take(),
                ..Default::default()
            };
            let (push, options) = (streams(&[("dump", &dump)]), WriteOptions::default());
            let context = Context::silent();
            let made = common::backup_pushed(repository, database, &options, facts, push, &context).await.unwrap();
            let (mut end, mut saved) = (made.end(), Vec::new());
            for number in 0..segments {
                let delta = format!("what happened, part {number} of {round}\n").repeat(2000).into_bytes();
                let files: &[(&str, &[u8])] = match number {
                    0 => &[("delta", &delta), ("parts/nothing", b"")],
                    1 => &[],
                    _ => &[("delta", &delta)],
                };
                let facts = copal_repository::SegmentFacts { captured_at: jiff::Timestamp::now(), ..facts_at(0) };
                let appended = append_pushed(repository, database, &end, facts, streams(files), &context).await;
                let appended = appended.unwrap();
                let files: BTreeMap<_, _> = files.iter().map(|(name, bytes)| (*name, digest(bytes))).collect();
                saved.push(json!({ "id": appended.segment.id(), "files": files }));
                end = appended.end;
            }
            backups.insert(made.manifest.header.backup.to_string(), json!({ "files": expected, "segments": saved }));
            follows = Some(end);
        }
        let pruned = repository.prune(database, &common::keep_last(2), &Context::silent()).await.unwrap();
        assert_eq!(pruned.segments.len(), 2);
        backups.pop_first();
        freezing.write(&target, &backups);
    }
}
