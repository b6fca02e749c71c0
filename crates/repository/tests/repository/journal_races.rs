//! Who reads a journal while somebody prunes or appends gets all of it or is told that it was pruned: it is not damaged.

use std::sync::Arc;

use copal_core::{Context, Follows};
use copal_repository::{BackupFacts, Database, Manifest, Repository, RepositoryErrorKind as Kind};
use copal_storage::stepped::Scheduler;
use copal_storage::{MemoryStorage, ObjectPath, Storage};

use crate::common;
use crate::common::journal::append;
use crate::common::{Rig, file_bytes, hasty, keep_last};

const PAGE: usize = 1024;

fn shared(memory: &MemoryStorage) -> Arc<dyn Storage> {
    Arc::new(memory.clone())
}

/// A backup with three segments, and another backup behind it.
async fn two_backups(rig: &Rig) -> (Database, Manifest, Vec<Follows>) {
    let database = rig.database("a").await;
    let first = common::backup(&rig.repository, &database, &file_bytes(1, PAGE * 3), PAGE).await.unwrap();
    let mut ends = vec![first.end()];
    for i in 0..3 {
        ends.push(append(&rig.repository, &database, &ends[i], &file_bytes(i as u64, 900)).await.unwrap().end);
    }
    let facts = BackupFacts { follows: ends.last().cloned(), ..Default::default() };
    common::backup_with(&rig.repository, &database, &file_bytes(2, PAGE * 3), PAGE, facts).await.unwrap();
    (database, first.manifest, ends)
}

/// Lets the calls of an operation go one by one, and does something else in front of the nth. Says whether it came to that.
async fn with_between<T>(
    scheduler: &Scheduler,
    nth: usize,
    operation: impl Future<Output = T>,
    between: impl AsyncFn(),
) -> (T, bool) {
    let mut count = 0;
    let drive = async {
        loop {
            let Some(call) = scheduler.pending().into_iter().next() else {
                scheduler.wait_change().await;
                continue;
            };
            if count == nth {
                between().await;
            }
            count += 1;
            scheduler.grant(call.id);
        }
    };
    let result = tokio::select! {
        result = operation => result,
        () = drive => unreachable!("it never ends"),
    };
    (result, count > nth)
}

async fn open_stepped(scheduler: &Scheduler, memory: &MemoryStorage, state: &std::path::Path) -> Repository {
    let storage: Arc<dyn Storage> = Arc::new(scheduler.storage("reader", shared(memory)));
    with_between(scheduler, usize::MAX, Repository::open(storage, None, hasty(state)), async || ()).await.0.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prune_beside_a_reader_is_no_damage_and_no_shorter_journal() {
    let rig = Rig::new(false).await;
    let (database, base, ends) = two_backups(&rig).await;
    let mut pruned = 0;
    for knows in [false, true] {
        for nth in 0.. {
            let (memory, scheduler, state) = (rig.memory.fork(), Scheduler::new(), tempfile::tempdir().unwrap());
            let reader = open_stepped(&scheduler, &memory, state.path()).await;
            let other = tempfile::tempdir().unwrap();
            let pruner = Repository::open(shared(&memory), None, hasty(other.path())).await.unwrap();
            if knows {
                let seen = reader.journal(&database, &base);
                with_between(&scheduler, usize::MAX, seen, async || ()).await.0.unwrap();
            }
            let operation = async {
                let listed = reader.journal_listing(&database).await.unwrap();
                assert!(listed.damaged.is_empty(), "{nth}: {:?}", listed.damaged);
                let listed = reader.listing(&database).await.unwrap();
                assert!(listed.damaged.is_empty(), "{nth}: {:?}", listed.damaged);
                let (journal, problems) = reader.sound_journal(&database, &base).await?;
                assert!(problems.is_empty(), "{nth}: {problems:?}");
                let again = reader.journal(&database, &base).await?;
                reader.require_backup(&database, &base.header.backup).await?;
                assert_eq!(again.end(), ends[3], "{nth}");
                assert_eq!(journal.end(), ends[3], "{nth}");
                Ok::<_, copal_repository::RepositoryError>(())
            };
            let between = async || {
                pruner.prune(&database, &keep_last(1), &Context::silent()).await.unwrap();
            };
            let (result, happened) = with_between(&scheduler, nth, operation, between).await;
            if !happened {
                result.unwrap();
                break;
            }
            if let Err(error) = result {
                assert_eq!(error.kind(), Kind::Pruned, "{nth}: {error:?}");
                pruned += 1;
            }
        }
    }
    assert!(pruned > 10, "{pruned}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verification_of_what_is_pruned_meanwhile_does_not_pass() {
    let rig = Rig::new(false).await;
    let (database, base, _) = two_backups(&rig).await;
    rig.repository.prune(&database, &keep_last(1), &Context::silent()).await.unwrap();
    let error = rig.repository.verify(&database, base, &Context::silent()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Pruned, "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_saved_while_somebody_reads_is_not_missing() {
    let rig = Rig::new(false).await;
    let (database, _, _) = two_backups(&rig).await;
    for with_backup in [false, true] {
        for nth in 0.. {
            let (memory, scheduler, state) = (rig.memory.fork(), Scheduler::new(), tempfile::tempdir().unwrap());
            // The writer and the reader are processes of one machine.
            let reader = open_stepped(&scheduler, &memory, state.path()).await;
            let writer = Repository::open(shared(&memory), None, hasty(state.path())).await.unwrap();
            let made = common::backup(&writer, &database, &file_bytes(3, PAGE), PAGE).await.unwrap();
            let first = append(&writer, &database, &made.end(), b"first").await.unwrap();
            let operation = async {
                let listed = reader.journal_listing(&database).await.unwrap();
                assert!(listed.damaged.is_empty(), "{nth}: {:?}", listed.damaged);
                let listed = reader.listing(&database).await.unwrap();
                assert!(listed.damaged.is_empty(), "{nth}: {:?}", listed.damaged);
                assert!(reader.journal(&database, &made.manifest).await.unwrap().end().sequence >= 1);
                reader.plan_prune(&database, &keep_last(9)).await.unwrap();
            };
            let between = async || {
                if with_backup {
                    common::backup(&writer, &database, &file_bytes(4, PAGE), PAGE).await.unwrap();
                } else {
                    append(&writer, &database, &first.end, b"second").await.unwrap();
                }
            };
            if !with_between(&scheduler, nth, operation, between).await.1 {
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_last_segment_that_this_machine_saw_is_missed() {
    let rig = Rig::new(true).await;
    let database = rig.database("a").await;
    let made = common::backup(&rig.repository, &database, &file_bytes(1, PAGE), PAGE).await.unwrap();
    let first = append(&rig.repository, &database, &made.end(), b"first").await.unwrap();
    let last = append(&rig.repository, &database, &first.end, b"second").await.unwrap();
    let object = ObjectPath::parse(&format!("databases/a/journal/{}", last.segment.id())).unwrap();
    for emptied in [false, true] {
        rig.memory.delete(&object).await.unwrap();
        if emptied {
            rig.memory.put(&object, bytes::Bytes::new());
        }
        let error = rig.repository.journal(&database, &made.manifest).await.unwrap_err();
        assert!(error.is_damage() && error.object.as_ref() == Some(&object), "{error:?}");
        let hint = error.hint.unwrap();
        assert!(hint.contains(&first.segment.id().to_string()), "{hint}");
        let (sound, problems) = rig.repository.sound_journal(&database, &made.manifest).await.unwrap();
        assert_eq!((sound.end(), problems.len()), (first.end.clone(), 1));
        let damaged = rig.repository.verify(&database, made.manifest.clone(), &Context::silent()).await.unwrap();
        assert_eq!(damaged.into_iter().map(|d| d.object).collect::<Vec<_>>(), std::slice::from_ref(&object));
    }
    // Who never saw it cannot know.
    rig.forget();
    assert_eq!(rig.repository.journal(&database, &made.manifest).await.unwrap().end(), first.end);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_segment_goes_with_its_backup() {
    let rig = Rig::new(true).await;
    let (database, base, _) = two_backups(&rig).await;
    let journal = rig.repository.journal(&database, &base).await.unwrap();
    let ids: Vec<_> = journal.segments.iter().map(|segment| segment.id().clone()).collect();
    for (i, id) in ids.iter().enumerate() {
        let memory = rig.memory.fork();
        let object = ObjectPath::parse(&format!("databases/a/journal/{id}")).unwrap();
        let mut bytes = memory.contents()[&object].to_vec();
        match i {
            0 => bytes.truncate(40),
            1 => *bytes.last_mut().unwrap() ^= 1,
            _ => {
                bytes =
                    memory.contents()[&ObjectPath::parse(&format!("databases/a/journal/{}", ids[0])).unwrap()].to_vec()
            }
        }
        memory.put(&object, bytes);
        let state = tempfile::tempdir().unwrap();
        let unlock = common::unlock();
        let repository = Repository::open(shared(&memory), Some(&unlock), hasty(state.path())).await.unwrap();
        // While its backup stays, nothing goes.
        let before = memory.contents();
        let error = repository.prune(&database, &keep_last(2), &Context::silent()).await.unwrap_err();
        assert!(error.is_damage() && error.object.as_ref() == Some(&object), "{error:?}");
        let of_database = |all: &std::collections::BTreeMap<ObjectPath, bytes::Bytes>| {
            all.keys().filter(|path| path.as_str().starts_with("databases/")).cloned().collect::<Vec<_>>()
        };
        assert_eq!(of_database(&before), of_database(&memory.contents()));
        let planned = repository.plan_prune(&database, &keep_last(1)).await.unwrap();
        let pruned = repository.prune(&database, &keep_last(1), &Context::silent()).await.unwrap();
        assert_eq!(pruned.segments, ids);
        assert_eq!(planned.segments, ids);
        let left: Vec<_> =
            memory.contents().into_iter().filter(|(_, bytes)| !bytes.is_empty()).map(|(p, _)| p).collect();
        let of = |folder: &str| left.iter().filter(|path| path.as_str().starts_with(folder)).count();
        assert_eq!((of("databases/a/journal/"), of("databases/a/backups/")), (0, 1));
        let newest = repository.catalog(&database.name).await.unwrap().newest().cloned().unwrap();
        let newest = repository.manifest(&database, &newest).await.unwrap();
        assert_eq!(of("databases/a/packs/"), newest.header.packs.len());
        assert!(common::restore(&repository, &database, newest).await.unwrap() == file_bytes(2, PAGE * 3));
    }
}
