//! Journals: what is appended comes back in order, and nobody appends to a state that is not the end.

use std::sync::Arc;

use copal_core::{BackupId, Content, Context, Follows};
use copal_repository::{Manifest, Repository, RepositoryErrorKind as Kind, SegmentFacts, WriteOptions};
use copal_storage::fault::{Action, Fault, FaultStorage};
use copal_storage::{ObjectPath, Storage, StorageErrorKind};
use jiff::Timestamp;

use crate::common;
use crate::common::journal::*;
use crate::common::streams::{push_pages, streams};
use crate::common::{Rig, file_bytes, keep_last};

const PAGE: usize = 1024;

fn path(text: impl AsRef<str>) -> ObjectPath {
    ObjectPath::parse(text.as_ref()).unwrap()
}

fn second(n: i64) -> Timestamp {
    Timestamp::from_second(n).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_come_back_in_order_and_up_to_any_moment() {
    for encrypted in [false, true] {
        let rig = Rig::new(encrypted).await;
        let database = rig.database("a").await;
        let facts = copal_repository::BackupFacts { captured_at: second(1000), ..Default::default() };
        let made =
            common::backup_with(&rig.repository, &database, &file_bytes(1, PAGE * 9), PAGE, facts).await.unwrap();
        let mut end = made.end();
        assert_eq!(end.sequence, 0);
        let large = file_bytes(2, 33 << 20);
        let contents: [&[(&str, &[u8])]; 4] = [
            &[("delta", b"first")],
            &[("nothing", b""), ("parts/some", b"second")],
            &[],
            &[("large", &large), ("delta", b"fourth")],
        ];
        for (i, content) in contents.iter().enumerate() {
            let (facts, push) = (facts_at(1010 + i as i64 * 10), streams(content));
            let context = Context::silent();
            let appended = append_pushed(&rig.repository, &database, &end, facts, push, &context).await.unwrap();
            assert_eq!((appended.end.sequence, &appended.end.base), (i as u64 + 1, &end.base));
            assert_eq!(appended.segment.sequence(), i as u64 + 1);
            assert_eq!(appended.segment.header.follows, end);
            end = appended.end;
        }
        let journal = rig.repository.journal(&database, &made.manifest).await.unwrap();
        assert_eq!(journal.end(), end);
        for (moment, count) in [(999, 0), (1009, 0), (1010, 1), (1019, 1), (1030, 3), (9999, 4)] {
            assert_eq!(journal.until(second(moment)).len(), count, "{moment}");
        }
        assert!(journal.segments[3].header.packs.len() > 1, "more than one pack");
        let read = read_journal(&rig.repository, &database, &made.manifest).await.unwrap();
        let expected: Vec<Vec<Vec<u8>>> =
            contents.iter().map(|files| files.iter().map(|(_, bytes)| bytes.to_vec()).collect()).collect();
        assert!(read == expected);
        // The backup alone has none.
        assert!(rig.repository.content(&database, made.manifest.clone()).segments().is_empty());
        let damaged = rig.repository.verify(&database, made.manifest.clone(), &Context::silent()).await.unwrap();
        assert!(damaged.is_empty(), "{damaged:?}");
        for _ in 0..2 {
            let journals = rig.repository.journals(&database).await.unwrap();
            let listed = &journals[&made.manifest.header.backup];
            assert_eq!(listed.iter().map(|s| s.sequence).collect::<Vec<_>>(), [1, 2, 3, 4]);
            assert_eq!(listed[3].logical_bytes, large.len() as u64 + 6);
            assert_eq!(listed[1].time, second(1020));
            assert!(listed[0].added_bytes > 0 && listed[2].added_bytes == 0);
        }
        assert!(rig.repository.listing(&database).await.unwrap().damaged.is_empty());
    }
}

/// Objects and what is put in their places; `None`: nothing.
type Changes = Vec<(ObjectPath, Option<bytes::Bytes>)>;

/// A backup with so many segments; the states after each of them, the backup's first.
async fn with_segments(rig: &Rig, name: &str, count: usize) -> (copal_repository::Database, Manifest, Vec<Follows>) {
    let database = rig.database(name).await;
    let made = common::backup(&rig.repository, &database, &file_bytes(7, PAGE * 3), PAGE).await.unwrap();
    let mut ends = vec![made.end()];
    for i in 0..count {
        let bytes = file_bytes(100 + i as u64, 3000);
        ends.push(append(&rig.repository, &database, &ends[i], &bytes).await.unwrap().end);
    }
    (database, made.manifest, ends)
}

fn names(rig: &Rig, under: &str) -> Vec<ObjectPath> {
    rig.memory
        .contents()
        .into_iter()
        .filter(|(p, b)| p.as_str().starts_with(under) && !b.is_empty())
        .map(|(p, _)| p)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_end_of_the_newest_journal_is_appended_to() {
    let rig = Rig::new(true).await;
    let (database, made, ends) = with_segments(&rig, "a", 2).await;
    let (end, repository) = (ends[2].clone(), &rig.repository);
    let other: BackupId = "20010101-000000Z-0000".parse().unwrap();
    let wrong = [
        ends[0].clone(),
        ends[1].clone(),
        Follows { sequence: 3, ..end.clone() },
        Follows { hash: "0".repeat(64), ..end.clone() },
        Follows { base: other, ..end.clone() },
    ];
    let packs = names(&rig, "databases/a/packs");
    for follows in &wrong {
        let error = append(repository, &database, follows, b"x").await.unwrap_err();
        assert_eq!(error.kind(), Kind::Gap, "{error}");
        assert!(error.hint.is_some() && error.database.is_some());
    }
    assert_eq!(names(&rig, "databases/a/packs"), packs, "nothing was stored");
    let end = append(repository, &database, &end, b"third").await.unwrap().end;
    assert_eq!(repository.journal(&database, &made).await.unwrap().end(), end);
    let next = common::backup(repository, &database, &file_bytes(8, PAGE), PAGE).await.unwrap();
    assert_eq!(append(repository, &database, &end, b"x").await.unwrap_err().kind(), Kind::Gap);
    let first = append(repository, &database, &next.end(), b"a journal of its own").await.unwrap();
    assert!(first.segment.id() > &next.manifest.header.backup);
    assert_eq!(repository.journal(&database, &made).await.unwrap().segments.len(), 3);
    assert_eq!(repository.journal(&database, &next.manifest).await.unwrap().segments.len(), 1);
    assert_eq!(repository.journals(&database).await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_segments_a_second_do_not_run_ahead_of_the_clock() {
    let rig = Rig::new(false).await;
    let (database, made, ends) = with_segments(&rig, "a", 40).await;
    let journal = rig.repository.journal(&database, &made).await.unwrap();
    assert!(journal.segments.windows(2).all(|pair| pair[0].id() < pair[1].id()));
    let ahead = journal.segments[39].id().time().duration_since(Timestamp::now());
    assert!(ahead < jiff::SignedDuration::from_secs(3), "{ahead}");
    assert_eq!(journal.end(), ends[40]);
    // Page files are no part of a journal.
    let push = Box::new(|sink: &mut copal_repository::BackupSink| push_pages(sink, "main.db", &[1; 4096]));
    let context = Context::silent();
    let error = append_pushed(&rig.repository, &database, &ends[40], facts_at(0), push, &context).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Usage);
    // A clock that is behind does not put a segment in front of what it follows.
    let push = streams(&[("delta", b"x")]);
    let appended = append_pushed(&rig.repository, &database, &ends[40], facts_at(5), push, &context).await.unwrap();
    assert_eq!(appended.segment.header.time, journal.segments[39].header.time);
    assert_eq!(rig.repository.journal(&database, &made).await.unwrap().segments.len(), 41);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_breaks_the_chain_is_named_and_nothing_behind_it_is_given() {
    for encrypted in [false, true] {
        let rig = Rig::new(encrypted).await;
        let (database, made, _) = with_segments(&rig, "a", 4).await;
        let (_, other, _) = with_segments(&rig, "b", 4).await;
        let (ours, theirs) = (names(&rig, "databases/a/journal"), names(&rig, "databases/b/journal"));
        let whole = rig.memory.contents();
        let flipped = |at: usize| {
            let mut bytes = whole[&ours[1]].to_vec();
            let length = bytes.len();
            bytes[length * at / 100] ^= 1;
            bytes.into()
        };
        let changes: Vec<(&str, Changes, usize, usize)> = vec![
            ("gap", vec![(ours[1].clone(), None)], 2, 1),
            ("emptied", vec![(ours[1].clone(), Some(bytes::Bytes::new()))], 2, 1),
            ("first is gone", vec![(ours[0].clone(), None)], 1, 0),
            ("cut", vec![(ours[1].clone(), Some(whole[&ours[1]].slice(..99)))], 1, 1),
            ("header", vec![(ours[1].clone(), Some(flipped(20)))], 1, 1),
            ("body", vec![(ours[1].clone(), Some(flipped(95)))], 1, 1),
            ("foreign", vec![(ours[1].clone(), Some(whole[&theirs[1]].clone()))], 1, 1),
            (
                "exchanged",
                vec![
                    (ours[1].clone(), Some(whole[&ours[2]].clone())),
                    (ours[2].clone(), Some(whole[&ours[1]].clone())),
                ],
                1,
                1,
            ),
        ];
        for (what, objects, named, sound) in changes {
            let memory = rig.memory.fork();
            for (object, bytes) in objects {
                match bytes {
                    Some(bytes) => memory.put(&object, bytes),
                    None => memory.delete(&object).await.unwrap(),
                }
            }
            let state = tempfile::tempdir().unwrap();
            let unlock = encrypted.then(common::unlock);
            let storage: Arc<dyn Storage> = Arc::new(memory);
            let repository = Repository::open(storage, unlock.as_ref(), common::hasty(state.path())).await.unwrap();
            let error = repository.journal(&database, &made).await.unwrap_err();
            assert!(error.is_damage(), "{what}: {error}");
            let objects =
                if what == "exchanged" { vec![ours[1].clone(), ours[2].clone()] } else { vec![ours[named].clone()] };
            assert!(objects.contains(error.object.as_ref().unwrap()), "{what}: {error}");
            assert_eq!(error.backup.as_ref(), Some(&made.header.backup), "{what}");
            assert!(error.database.is_some(), "{what}");
            let (journal, problems) = repository.sound_journal(&database, &made).await.unwrap();
            assert_eq!(journal.segments.len(), sound, "{what}");
            assert!(!problems.is_empty());
            let listed = repository.journals(&database).await.unwrap();
            assert_eq!(listed.get(&made.header.backup).map_or(0, Vec::len), sound, "{what}");
            assert!(repository.listing(&database).await.unwrap().damaged.is_empty(), "{what}");
            let damaged = repository.verify(&database, made.clone(), &Context::silent()).await.unwrap();
            assert!(damaged.iter().any(|d| objects.contains(&d.object)), "{what}: {damaged:?}");
            // The backup itself is whole, and the other database knows nothing of all this.
            assert!(repository.catalog(&database.name).await.unwrap().verified.contains(&made.header.backup));
            let b = repository.database(&"b".parse().unwrap()).await.unwrap().unwrap();
            assert_eq!(repository.journal(&b, &other).await.unwrap().segments.len(), 4);
            // Nothing is deleted while nobody can tell what a segment needs.
            if !matches!(what, "gap" | "emptied" | "first is gone") {
                assert!(repository.prune(&database, &keep_last(1), &Context::silent()).await.unwrap_err().is_damage());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_end_is_known_from_the_next_backup_and_from_this_machine() {
    let rig = Rig::new(true).await;
    let (database, made, ends) = with_segments(&rig, "a", 3).await;
    let last = names(&rig, "databases/a/journal").pop().unwrap();
    let bytes = rig.memory.contents()[&last].clone();
    rig.memory.delete(&last).await.unwrap();
    let listing = rig.repository.listing(&database).await.unwrap();
    assert_eq!(listing.damaged.iter().map(|d| d.object.clone()).collect::<Vec<_>>(), std::slice::from_ref(&last));
    let error = rig.repository.prune(&database, &keep_last(1), &Context::silent()).await.unwrap_err();
    assert_eq!((error.kind(), error.object), (Kind::Rollback, Some(last.clone())));
    assert_eq!(append(&rig.repository, &database, &ends[3], b"x").await.unwrap_err().kind(), Kind::Gap);
    let facts = copal_repository::BackupFacts { follows: Some(ends[3].clone()), ..Default::default() };
    let next = common::backup_with(&rig.repository, &database, &[1; PAGE], PAGE, facts).await.unwrap().manifest;
    rig.forget();
    let journal = rig.repository.journal(&database, &made).await.unwrap();
    assert_eq!(journal.segments.len(), 2);
    let missing = rig.repository.missing_after(&database, &journal).await.unwrap().unwrap();
    assert_eq!((missing.first, missing.last, &missing.said_by), (3, 3, &next.header.backup));
    let damaged = rig.repository.verify(&database, made.clone(), &Context::silent()).await.unwrap();
    assert_eq!(damaged.len(), 1, "{damaged:?}");
    rig.memory.put(&last, bytes);
    let journal = rig.repository.journal(&database, &made).await.unwrap();
    assert_eq!(rig.repository.missing_after(&database, &journal).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_go_with_their_backup_and_stay_with_it() {
    let rig = Rig::new(true).await;
    let (database, first, _) = with_segments(&rig, "a", 3).await;
    let (_, second, ends) = with_segments(&rig, "a", 2).await;
    // A writer that was killed leaves packs behind.
    let (options, context) = (WriteOptions::default(), Context::silent());
    let (session, mut sink) = rig.repository.begin_segment(&database, &ends[2], &options, &context).await.unwrap();
    let sink = tokio::task::spawn_blocking(move || {
        common::streams::push_stream(&mut sink, "delta", &file_bytes(9, 20 << 20), 1 << 20).unwrap();
        sink
    });
    session.abandon(Some(sink.await.unwrap())).await;
    let planned = rig.repository.plan_prune(&database, &keep_last(1)).await.unwrap();
    let pruned = rig.repository.prune(&database, &keep_last(1), &context).await.unwrap();
    assert_eq!(pruned.segments.len(), 3);
    assert_eq!(planned.segments, pruned.segments);
    assert_eq!(names(&rig, "databases/a/journal").len(), 2);
    assert_eq!(names(&rig, "databases/a/backups").len(), 1);
    let journal = rig.repository.journal(&database, &second).await.unwrap();
    let needed = second.header.packs.len() + journal.segments.iter().map(|s| s.header.packs.len()).sum::<usize>();
    assert_eq!(names(&rig, "databases/a/packs").len(), needed);
    assert_eq!(read_segments(&rig.repository, &database, &second, &journal).await.unwrap().len(), 2);
    let gone = rig.repository.journal(&database, &first).await.unwrap();
    assert!(gone.segments.is_empty());
    append(&rig.repository, &database, &ends[2], b"goes on").await.unwrap();
    assert!(rig.repository.listing(&database).await.unwrap().damaged.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sleeping_writer_cannot_commit_and_the_journal_goes_on() {
    let rig = Rig::new(true).await;
    let (database, made, ends) = with_segments(&rig, "a", 1).await;
    let (state, context, options) = (tempfile::tempdir().unwrap(), Context::silent(), WriteOptions::default());
    let storage: Arc<dyn Storage> = Arc::new(rig.memory.clone());
    let other = Repository::open(storage, Some(&common::unlock()), common::hasty(state.path())).await.unwrap();
    let (sleeper, sink) = rig.repository.begin_segment(&database, &ends[1], &options, &context).await.unwrap();
    let taken = append(&other, &database, &ends[1], b"taken over").await.unwrap();
    let error = sleeper.commit(sink, SegmentFacts::default(), &context).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Busy, "{error}");
    assert_eq!(append(&other, &database, &ends[1], b"x").await.unwrap_err().kind(), Kind::Gap);
    append(&other, &database, &taken.end, b"goes on").await.unwrap();
    assert_eq!(read_journal(&other, &database, &made).await.unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_writers_who_know_the_same_end_one_appends() {
    let rig = Rig::new(false).await;
    let (database, made, mut ends) = with_segments(&rig, "a", 0).await;
    let states = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let storage: Arc<dyn Storage> = Arc::new(rig.memory.clone());
    // Neither has the patience to wait for the other.
    let one = Repository::open(Arc::clone(&storage), None, common::hasty(states[0].path())).await.unwrap();
    let other = Repository::open(storage, None, common::hasty(states[1].path())).await.unwrap();
    for round in 0..10usize {
        let end = ends.last().unwrap();
        let (a, b) = futures::join!(append(&one, &database, end, b"one"), append(&other, &database, end, b"other"));
        let failed = [a.as_ref().err(), b.as_ref().err()];
        assert!(failed.iter().flatten().all(|e| matches!(e.kind(), Kind::Gap | Kind::Busy)), "{round}: {failed:?}");
        let mut done: Vec<_> = [a, b].into_iter().flatten().collect();
        assert!(done.len() <= 1);
        ends.extend(done.pop().map(|done| done.end));
    }
    assert!(ends.len() > 1);
    assert_eq!(rig.repository.journal(&database, &made).await.unwrap().end(), *ends.last().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_call_of_an_append_fails_the_chain_stays_whole() {
    let rig = Rig::new(false).await;
    let (database, made, ends) = with_segments(&rig, "a", 1).await;
    let mut failed = 0;
    for action in [Action::Kill, Action::KillAfter, Action::LoseAnswer, Action::Fail(StorageErrorKind::Other)] {
        for nth in 1..=24 {
            let memory = rig.memory.fork();
            let faulty = FaultStorage::new(Arc::new(memory.clone()));
            let state = tempfile::tempdir().unwrap();
            let shared: Arc<dyn Storage> = Arc::new(faulty.clone());
            let repository = Repository::open(shared, None, common::hasty(state.path())).await.unwrap();
            faulty.plan(Fault::at(nth, action));
            let done = append(&repository, &database, &ends[1], b"second").await;
            failed += usize::from(done.is_err());
            drop(repository);
            let after: Arc<dyn Storage> = Arc::new(memory.clone());
            let repository = Repository::open(after, None, common::hasty(state.path())).await.unwrap();
            let journal = repository.journal(&database, &made).await.unwrap();
            let count = journal.segments.len();
            assert!(count == 2 || count == 1 && done.is_err(), "{action:?} {nth}: {count}");
            let end = append(&repository, &database, &journal.end(), b"next").await.unwrap().end;
            // What was under way before may have come through meanwhile, or never will.
            assert_eq!(end.sequence, count as u64 + 1, "{action:?} {nth}");
            repository.prune(&database, &keep_last(1), &Context::silent()).await.unwrap();
            let journal = repository.journal(&database, &made).await.unwrap();
            let read = read_segments(&repository, &database, &made, &journal).await.unwrap();
            assert_eq!(read.last().unwrap()[0], b"next");
            let packs = made.header.packs.len() + journal.segments.iter().map(|s| s.header.packs.len()).sum::<usize>();
            let stored = memory.contents().into_keys().filter(|p| p.as_str().contains("/packs/")).count();
            assert_eq!(stored, packs, "{action:?} {nth}: garbage");
        }
    }
    assert!(failed > 20, "{failed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_packs_of_a_segment_are_named_and_the_backup_counts_as_verified() {
    let rig = Rig::new(true).await;
    let (database, made, _) = with_segments(&rig, "a", 2).await;
    let journal = rig.repository.journal(&database, &made).await.unwrap();
    let pack = path(format!("databases/a/packs/{}", journal.segments[1].header.packs[0].0));
    let whole = rig.memory.contents()[&pack].clone();
    let mut flipped = whole.to_vec();
    flipped[whole.len() / 2] ^= 1;
    for bytes in [None, Some(whole.slice(..whole.len() - 1)), Some(flipped.into())] {
        match bytes {
            Some(bytes) => rig.memory.put(&pack, bytes),
            None => rig.memory.delete(&pack).await.unwrap(),
        }
        let error = read_segments(&rig.repository, &database, &made, &journal).await.unwrap_err();
        assert!(error.is_damage() && error.object.as_ref() == Some(&pack), "{error}");
        let damaged = rig.repository.verify(&database, made.clone(), &Context::silent()).await.unwrap();
        assert_eq!(damaged.into_iter().map(|d| d.object).collect::<Vec<_>>(), std::slice::from_ref(&pack));
        let catalog = rig.repository.catalog(&database.name).await.unwrap();
        assert!(catalog.verified.contains(&made.header.backup));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_backup_does_not_hide_the_damage_behind_it() {
    for encrypted in [false, true] {
        let rig = Rig::new(encrypted).await;
        let (database, made, ends) = with_segments(&rig, "a", 1).await;
        // Somebody gave up on a backup, and the journal went on.
        let (options, context) = (WriteOptions::default(), Context::silent());
        let (session, sink) = rig.repository.begin_backup(&database, &options, &context).await.unwrap();
        let id = session.id().clone();
        session.abandon(Some(sink)).await;
        rig.memory.put(&path(format!("databases/a/backups/{id}")), bytes::Bytes::new());
        let end = append(&rig.repository, &database, &ends[1], b"second").await.unwrap().end;
        let last = names(&rig, "databases/a/journal").pop().unwrap();
        assert!(last.file_name() > id.as_str());
        assert_eq!(rig.repository.journal(&database, &made).await.unwrap().end(), end);
        let whole = rig.memory.contents()[&last].clone();
        let mut flipped = whole.to_vec();
        flipped[whole.len() - 20] ^= 1;
        for bytes in [whole.slice(..50), flipped.into()] {
            rig.memory.put(&last, bytes);
            rig.forget();
            let error = rig.repository.journal(&database, &made).await.unwrap_err();
            assert!(error.is_damage() && error.object.as_ref() == Some(&last), "{error}");
            assert_eq!(error.backup.as_ref(), Some(&made.header.backup));
            let damaged = rig.repository.verify(&database, made.clone(), &context).await.unwrap();
            assert_eq!(damaged.into_iter().map(|d| d.object).collect::<Vec<_>>(), std::slice::from_ref(&last));
            let listed = rig.repository.journal_listing(&database).await.unwrap();
            assert_eq!(listed.damaged.into_iter().map(|d| d.object).collect::<Vec<_>>(), std::slice::from_ref(&last));
        }
    }
}
