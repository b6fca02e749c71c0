use std::sync::Arc;

use copal_core::{Context, DatabaseRecord, Keep, Secret};
use copal_repository::{
    BackupFacts, CommittedBackup, PruneRules, RepositoryOptions, SegmentFacts, StateFolder, WriteOptions,
};
use copal_storage::stepped::Scheduler;
use copal_storage::{MemoryStorage, Storage};
use tempfile::TempDir;

use super::*;
use crate::Settings;

struct Place {
    copal: Copal,
    memory: MemoryStorage,
    repository: Repository,
    database: Database,
    state: TempDir,
}

fn options(state: &TempDir) -> RepositoryOptions {
    RepositoryOptions { state: StateFolder::at(state.path()), ..RepositoryOptions::default() }
}

async fn place() -> Place {
    let (memory, state) = (MemoryStorage::new(), tempfile::tempdir().unwrap());
    let shared: Arc<dyn Storage> = Arc::new(memory.clone());
    let none: Option<&Secret> = None;
    let repository = Repository::create(shared, none, &[], options(&state)).await.unwrap();
    let record = DatabaseRecord {
        name: "a".into(),
        source: "memory:a".into(),
        engine: "memory".into(),
        created: Timestamp::UNIX_EPOCH,
    };
    let database = repository.create_database(&"a".parse().unwrap(), &record).await.unwrap();
    let copal = Copal::new(Settings::new("unused"));
    Place { copal, memory, repository, database, state }
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

impl Place {
    async fn backup(&self, captured_at: Timestamp) -> CommittedBackup {
        let (options, context) = (WriteOptions::default(), Context::silent());
        let (session, sink) = self.repository.begin_backup(&self.database, &options, &context).await.unwrap();
        let facts = BackupFacts { captured_at, engine: "memory".into(), ..BackupFacts::default() };
        session.commit(sink, facts, &context).await.unwrap()
    }

    async fn until(&self, time: &str) -> Option<BackupId> {
        let found = self.copal.newest_until(&self.repository, &self.database, at(time)).await.unwrap();
        found.map(|manifest| manifest.header.backup)
    }
}

#[tokio::test]
async fn a_backup_with_a_wrong_time_hides_none_behind_it() {
    let place = place().await;
    let mut ids = Vec::new();
    for time in ["2020-01-01T10:00:00Z", "2030-01-01T00:00:00Z", "2020-01-01T11:00:00Z", "2019-01-01T00:00:00Z"] {
        ids.push(place.backup(at(time)).await.manifest.header.backup);
    }
    let last = place.backup(at("2020-01-01T12:00:00Z")).await.manifest.header.backup;
    assert_eq!(place.until("2018-01-01T00:00:00Z").await, None);
    assert_eq!(place.until("2020-01-01T11:30:00Z").await.as_ref(), Some(&ids[3]));
    assert_eq!(place.until("2020-01-01T12:30:00Z").await.as_ref(), Some(&last));
    assert_eq!(place.until("2031-01-01T12:30:00Z").await.as_ref(), Some(&last));
    place.memory.put(&copal_storage::ObjectPath::parse(&format!("databases/a/backups/{last}")).unwrap(), "x");
    // It cannot be read, and by its id it is no candidate for those times.
    assert_eq!(place.until("2020-01-01T11:30:00Z").await.as_ref(), Some(&ids[3]));
    let error = place.copal.newest_until(&place.repository, &place.database, at("2100-01-01T00:00:00Z")).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Damage);
}

/// A list shows the second in which a backup began, and whoever waits for another operation opens the view much later.
#[tokio::test]
async fn the_time_that_is_shown_with_a_backup_means_this_backup() {
    let place = place().await;
    let first = place.backup(at("2020-01-01T10:00:00Z")).await.manifest.header.backup;
    let late = Timestamp::now().checked_add(SignedDuration::from_secs(3600)).unwrap();
    let second = place.backup(late).await.manifest.header.backup;
    assert_ne!(first.time(), second.time(), "ids are of different seconds");
    assert_eq!(place.until(&second.time().to_string()).await, Some(second));
    assert_eq!(place.until(&first.time().to_string()).await, Some(first));
}

/// A backup that a wrong clock made is no reason to make none until then.
#[tokio::test]
async fn a_backup_of_the_future_makes_no_other_unnecessary() {
    let place = place().await;
    let now = Timestamp::now();
    let hour = SignedDuration::from_secs(3600);
    for (captured_at, is_done) in [(now - hour, false), (now, true), (now + hour, false)] {
        place.backup(captured_at).await;
        let since = Some(now - SignedDuration::from_secs(60));
        let found = place.copal.is_done(&place.repository, &place.database, since).await.unwrap();
        assert_eq!(found, is_done, "{captured_at}");
    }
}

/// Whichever moment a prune chooses, a point is complete or it is said that it was pruned.
#[tokio::test]
async fn a_prune_beside_a_restore_takes_no_segments_away_unseen() {
    let place = place().await;
    let context = Context::silent();
    let mut end = place.backup(at("2020-01-01T10:00:00Z")).await.end();
    for minute in 1..=3 {
        let begun = place.repository.begin_segment(&place.database, &end, &WriteOptions::default(), &context).await;
        let (session, sink) = begun.unwrap();
        let captured_at = at(&format!("2020-01-01T10:0{minute}:00Z"));
        let facts = SegmentFacts { captured_at, engine: "memory".into(), ..SegmentFacts::default() };
        end = session.commit(sink, facts, &context).await.unwrap().end;
    }
    let catalog = place.repository.catalog(&place.database.name).await.unwrap();
    let last = catalog.segments.keys().next_back().cloned().unwrap();
    let rules = PruneRules {
        keep: Keep { last: Some(1), ..Keep::default() },
        zone: jiff::tz::TimeZone::UTC,
        trust_clock: true,
    };
    let mut pruned = 0;
    for choice in [BackupChoice::Latest, BackupChoice::At(at("2020-01-01T10:05:00Z")), BackupChoice::Id(last)] {
        for nth in 0.. {
            let (memory, scheduler) = (place.memory.fork(), Scheduler::new());
            let (stepped, plain): (Arc<dyn Storage>, Arc<dyn Storage>) =
                (Arc::new(scheduler.storage("reader", Arc::new(memory.clone()))), Arc::new(memory.clone()));
            let state = tempfile::tempdir().unwrap();
            let other = Repository::open(plain, None, options(&state)).await.unwrap();
            let mut count = 0;
            let mut has_begun = false;
            let read = async {
                let reader = Repository::open(stepped, None, options(&place.state)).await.unwrap();
                place.copal.point(&reader, &place.database, &choice).await
            };
            let drive = async {
                loop {
                    let Some(call) = scheduler.pending().into_iter().next() else {
                        scheduler.wait_change().await;
                        continue;
                    };
                    has_begun |= call.call.path_text().starts_with("databases/");
                    if has_begun {
                        if count == nth {
                            let next = Place {
                                copal: place.copal.clone(),
                                memory: memory.clone(),
                                repository: other.clone(),
                                database: place.database.clone(),
                                state: tempfile::tempdir().unwrap(),
                            };
                            next.backup(at("2020-01-01T11:00:00Z")).await;
                            other.prune(&place.database, &rules, &context).await.unwrap();
                        }
                        count += 1;
                    }
                    scheduler.grant(call.id);
                }
            };
            let point = tokio::select! {
                point = read => point,
                () = drive => unreachable!("it never ends"),
            };
            match point {
                Ok(point) if point.manifest.header.backup == end.base => assert_eq!(point.segments.len(), 3, "{nth}"),
                Ok(point) => assert!(matches!(choice, BackupChoice::Latest) && point.segments.is_empty(), "{nth}"),
                Err(error) => {
                    let is_gone = matches!(error.kind(), ErrorKind::Pruned | ErrorKind::NotFound);
                    assert!(is_gone, "{choice:?} {nth}: {error:?}");
                    pruned += 1;
                }
            }
            if count <= nth {
                break;
            }
        }
    }
    assert!(pruned > 5, "{pruned}");
}
