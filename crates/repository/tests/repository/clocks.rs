//! Wrong clocks: they cost a warning or a question, never a backup.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use copal_core::{BackupId, CancelToken, Context, Event, Keep, Progress};
use copal_repository::{
    BackupFacts, BackupSession, BackupSink, Database, PruneRules, Repository, RepositoryError, RepositoryErrorKind,
    RepositoryOptions, SegmentFacts, StateFolder, WriteOptions,
};
use copal_storage::{Clock, MemoryStorage, ObjectPath, Storage};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::common::journal::{append_pushed, read_journal};
use crate::common::streams::streams;
use crate::common::{database, file_bytes, push, restore};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const TEN_YEARS: i64 = 24 * 3652;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Clocks that stand still until a test moves them, each by itself.
#[derive(Clone, Debug)]
struct HandClock(Arc<Mutex<(Timestamp, Duration)>>);

impl HandClock {
    fn new(wall: Timestamp) -> Self {
        Self(Arc::new(Mutex::new((wall, DAY))))
    }

    fn set(&self, wall: Timestamp) {
        self.0.lock().unwrap().0 = wall;
    }

    fn jump(&self, hours: i64) {
        self.0.lock().unwrap().0 += SignedDuration::from_hours(hours);
    }

    fn boot_goes_on(&self, by: Duration) {
        self.0.lock().unwrap().1 += by;
    }
}

#[async_trait::async_trait]
impl Clock for HandClock {
    fn wall(&self) -> Timestamp {
        self.0.lock().unwrap().0
    }

    fn monotonic(&self) -> Duration {
        self.0.lock().unwrap().1
    }

    fn boot(&self) -> Duration {
        self.monotonic()
    }

    async fn sleep(&self, _duration: Duration) {
        std::future::pending().await
    }
}

/// A repository in memory whose clocks are in the test's hand: the machine's and the store's.
struct Place {
    memory: MemoryStorage,
    clock: HandClock,
    repository: Repository,
    database: Database,
}

impl Place {
    async fn new(lease_ttl: Duration) -> Self {
        let memory = MemoryStorage::new();
        let noon = at("2026-11-20T12:00:00Z");
        memory.set_time(Some(noon));
        let clock = HandClock::new(noon);
        let options = RepositoryOptions { state: StateFolder::none(), lease_ttl, clock: Arc::new(clock.clone()) };
        let storage: Arc<dyn Storage> = Arc::new(memory.clone());
        let repository = Repository::create(storage, None, &[], options).await.unwrap();
        let database = database(&repository, "db").await;
        Self { memory, clock, repository, database }
    }

    /// Sets the time of day of the machine and the store.
    fn set(&self, time: Timestamp) {
        self.clock.set(time);
        self.memory.set_time(Some(time));
    }

    async fn begin(&self, context: &Context) -> Result<(BackupSession, BackupSink), RepositoryError> {
        let options = WriteOptions { workers: Some(1), ..WriteOptions::default() };
        self.repository.begin_backup(&self.database, &options, context).await
    }

    async fn finish(&self, begun: (BackupSession, BackupSink), bytes: &[u8]) -> Result<BackupId, RepositoryError> {
        let (session, mut sink) = begun;
        let bytes = bytes.to_vec();
        let sink = tokio::task::spawn_blocking(move || {
            push(&mut sink, &bytes, 512).unwrap();
            sink
        });
        let facts = BackupFacts { captured_at: self.clock.wall(), ..BackupFacts::default() };
        let committed = session.commit(sink.await.unwrap(), facts, &Context::silent()).await?;
        Ok(committed.manifest.header.backup)
    }

    /// A backup and the warnings on the way.
    async fn backup(&self, seed: u64) -> (BackupId, Vec<String>) {
        let heard = Arc::new(Heard::default());
        let context = Context { cancel: CancelToken::default(), progress: Arc::clone(&heard) as Arc<dyn Progress> };
        let begun = self.begin(&context).await.unwrap();
        let id = self.finish(begun, &file_bytes(seed, 5000)).await.unwrap();
        let warnings = heard.0.lock().unwrap().clone();
        (id, warnings)
    }

    async fn prune(&self, keep: Keep, trust_clock: bool) -> Result<Vec<BackupId>, RepositoryError> {
        let rules = PruneRules { keep, zone: TimeZone::UTC, trust_clock };
        let planned = self.repository.plan_prune(&self.database, &rules).await.map(|p| p.decisions);
        let pruned = self.repository.prune(&self.database, &rules, &Context::silent()).await.map(|p| p.decisions);
        assert_eq!(planned.as_ref().ok(), pruned.as_ref().ok());
        Ok(pruned?.into_iter().filter(|d| !d.reasons.is_empty()).map(|d| d.id).collect())
    }

    /// Appends to the journal of the newest backup.
    async fn append(&self, bytes: &[u8]) -> BackupId {
        let base = self.ids().await.pop().unwrap();
        let base = self.repository.manifest(&self.database, &base).await.unwrap();
        let end = self.repository.journal(&self.database, &base).await.unwrap().end();
        let facts = SegmentFacts { captured_at: self.clock.wall(), ..SegmentFacts::default() };
        let push = streams(&[("delta", bytes)]);
        let context = Context::silent();
        let made = append_pushed(&self.repository, &self.database, &end, facts, push, &context).await.unwrap();
        made.segment.id().clone()
    }

    /// The names of the objects of a folder, and whether they hold something.
    fn folder(&self, folder: &str) -> Vec<(String, bool)> {
        let prefix = format!("databases/db/{folder}/");
        let objects = self.memory.contents().into_iter();
        objects.filter_map(|(p, b)| Some((p.as_str().strip_prefix(&prefix)?.to_owned(), !b.is_empty()))).collect()
    }

    async fn ids(&self) -> Vec<BackupId> {
        self.repository.catalog(&self.database.name).await.unwrap().backups.into_keys().collect()
    }

    /// Empty objects in the places of manifests and plans.
    fn tombstones(&self) -> usize {
        let is_commit = |path: &str| path.contains("/backups/") || path.contains("/plans/");
        self.memory.contents().iter().filter(|(path, bytes)| bytes.is_empty() && is_commit(path.as_str())).count()
    }
}

#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Progress for Heard {
    fn event(&self, event: Event) {
        if let Event::Warning(text) = event {
            self.0.lock().unwrap().push(text);
        }
    }
}

fn within(days: i64) -> Keep {
    Keep { within: Some(SignedDuration::from_hours(24 * days)), ..Keep::default() }
}

fn last(count: u32) -> Keep {
    Keep { last: Some(count), ..Keep::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_increase_and_a_clock_that_went_back_is_named() {
    for hours in [-1, -TEN_YEARS] {
        let place = Place::new(DAY).await;
        let mut ids = Vec::new();
        for seed in 0..3 {
            let (id, warnings) = place.backup(seed).await;
            assert!(warnings.is_empty(), "{warnings:?}");
            ids.push(id);
            place.clock.jump(1);
        }
        place.clock.jump(hours - 1);
        let (id, warnings) = place.backup(3).await;
        assert!(matches!(&*warnings, [one] if one.contains("the clock of this machine")), "{warnings:?}");
        assert_eq!(id.time(), ids[2].time() + SignedDuration::from_secs(1));
        ids.push(id);
        for seed in 4..7 {
            ids.push(place.backup(seed).await.0);
        }
        assert!(ids.is_sorted() && ids.windows(2).all(|two| two[0] != two[1]), "{ids:?}");
        assert_eq!(place.ids().await, ids);
        for (seed, id) in ids.iter().enumerate() {
            let manifest = place.repository.manifest(&place.database, id).await.unwrap();
            let found = restore(&place.repository, &place.database, manifest).await.unwrap();
            assert_eq!(found, file_bytes(seed as u64, 5000));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_that_took_more_than_a_day_by_any_clock_does_not_commit() {
    let by_wall: fn(&HandClock) = |clock| clock.jump(25);
    let by_boot: fn(&HandClock) = |clock| clock.boot_goes_on(DAY + DAY / 24);
    let by_boot_back: fn(&HandClock) = |clock| {
        clock.boot_goes_on(DAY + DAY / 24);
        clock.jump(-TEN_YEARS);
    };
    let in_time: fn(&HandClock) = |clock| clock.jump(23);
    for (passes, commits) in [(by_wall, false), (by_boot, false), (by_boot_back, false), (in_time, true)] {
        // A lease that is held for so long that only the age is in question.
        let place = Place::new(7 * DAY).await;
        let before = place.backup(0).await.0;
        let begun = place.begin(&Context::silent()).await.unwrap();
        passes(&place.clock);
        let result = place.finish(begun, &file_bytes(1, 5000)).await;
        assert_eq!(result.is_ok(), commits, "{result:?}");
        if let Err(error) = result {
            assert_eq!(error.kind(), RepositoryErrorKind::Busy);
            assert_eq!(place.ids().await, [before]);
        }
        place.backup(2).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_slept_past_its_lease_does_not_even_try() {
    let place = Place::new(Duration::from_secs(60)).await;
    let begun = place.begin(&Context::silent()).await.unwrap();
    let (session, mut sink) = begun;
    place.clock.boot_goes_on(Duration::from_secs(60));
    let pushed = tokio::task::spawn_blocking(move || (push(&mut sink, &[1; 512], 512), sink));
    let (pushed, sink) = pushed.await.unwrap();
    let error = pushed.unwrap_err().downcast::<RepositoryError>().unwrap();
    assert_eq!(error.kind(), RepositoryErrorKind::Busy);
    session.abandon(Some(sink)).await;
    assert!(place.ids().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn tombstones_stay_for_thirty_days_of_the_store() {
    let place = Place::new(DAY).await;
    for seed in 0..3 {
        place.backup(seed).await;
        place.clock.jump(1);
    }
    place.prune(last(1), false).await.unwrap();
    assert_eq!(place.tombstones(), 3, "two backups and the plan");
    // The machine's clock has no say in it.
    place.clock.jump(TEN_YEARS);
    place.prune(last(1), false).await.unwrap();
    assert_eq!(place.tombstones(), 3);
    place.clock.jump(-2 * TEN_YEARS);
    place.memory.set_time(Some(at("2026-12-20T11:00:00Z")));
    place.prune(last(1), false).await.unwrap();
    assert_eq!(place.tombstones(), 3);
    place.memory.set_time(Some(at("2026-12-20T13:00:00Z")));
    place.prune(last(1), false).await.unwrap();
    assert_eq!(place.tombstones(), 1, "the plan that removed the others");
    place.memory.set_time(Some(at("2027-01-20T13:00:00Z")));
    place.prune(last(1), false).await.unwrap();
    assert_eq!(place.tombstones(), 1, "likewise");
    assert_eq!(place.ids().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_of_time_ask_while_backups_are_dated_ten_years_ahead() {
    let place = Place::new(DAY).await;
    let start = at("2026-11-20T12:00:00Z");
    let mut seed = 0;
    let mut day = async |time: Timestamp| {
        place.set(time);
        seed += 1;
        place.backup(seed).await
    };
    let mut ids = Vec::new();
    for n in 0..4 {
        ids.push(day(start + n * DAY).await.0);
    }
    assert_eq!(place.prune(within(30), false).await.unwrap(), ids);
    ids.push(day(start + 4 * DAY + 3652 * DAY).await.0);
    // Whatever the clock says now: the newest lies far after the one before it.
    for now in [start + 4 * DAY + 3652 * DAY, start + 4 * DAY] {
        place.set(now);
        let error = place.prune(within(30), false).await.unwrap_err();
        assert_eq!(error.kind(), RepositoryErrorKind::Usage);
        assert!(error.hint.unwrap().contains("--trust-clock"));
    }
    // The clock is right again, and the next backups are dated seconds after that one.
    for n in 5..8 {
        ids.push(day(start + n * DAY).await.0);
        for keep in [within(30), Keep { daily: Some(7), ..Keep::default() }] {
            let error = place.prune(keep, false).await.unwrap_err();
            assert_eq!(error.kind(), RepositoryErrorKind::Usage, "{n}");
            assert!(error.hint.unwrap().contains("--trust-clock"), "{n}");
        }
    }
    assert_eq!(place.ids().await, ids, "nothing was dropped");
    assert_eq!(place.prune(last(5), false).await.unwrap(), ids[3..], "a rule without a clock");
    assert_eq!(place.prune(within(30), true).await.unwrap(), ids[4..], "the user says so");
}

#[tokio::test(flavor = "multi_thread")]
async fn tombstones_of_segments_stay_for_thirty_days_and_no_id_comes_back() {
    let place = Place::new(DAY).await;
    place.backup(0).await;
    let gone = [place.append(b"one").await, place.append(b"two").await];
    place.backup(1).await;
    let kept = place.append(b"three").await;
    place.prune(last(1), false).await.unwrap();
    let held = |id: &BackupId, holds| (id.to_string(), holds);
    let all = [held(&gone[0], false), held(&gone[1], false), held(&kept, true)];
    assert_eq!(place.folder("journal"), all);
    // The machine's clock has no say in it.
    place.clock.jump(TEN_YEARS);
    place.prune(last(1), false).await.unwrap();
    assert_eq!(place.folder("journal"), all);
    place.clock.jump(-TEN_YEARS);
    for (now, left) in [("2026-12-20T11:00:00Z", &all[..]), ("2026-12-20T13:00:00Z", &all[2..])] {
        place.memory.set_time(Some(at(now)));
        place.prune(last(1), false).await.unwrap();
        assert_eq!(place.folder("journal"), left);
    }
    assert!(place.append(b"four").await > kept);
    let base = place.ids().await.pop().unwrap();
    let base = place.repository.manifest(&place.database, &base).await.unwrap();
    let read = read_journal(&place.repository, &place.database, &base).await.unwrap();
    assert_eq!(read.concat(), [b"three".to_vec(), b"four".to_vec()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_whose_backup_vanished_stay_for_thirty_days() {
    for has_tombstone in [false, true] {
        let place = Place::new(DAY).await;
        let base = place.backup(0).await.0;
        let segments = [place.append(b"one").await, place.append(b"two").await];
        let orphaned: Vec<_> = place.folder("packs");
        let manifest = ObjectPath::parse(&format!("databases/db/backups/{base}")).unwrap();
        let whole = place.memory.contents()[&manifest].clone();
        let next = place.backup(1).await.0;
        let kept = place.append(b"three").await;
        let packs = place.folder("packs");
        place.memory.delete(&manifest).await.unwrap();
        let _ = place.prune(last(9), false).await.unwrap();
        let held = |id: &BackupId, holds| (id.to_string(), holds);
        assert_eq!(
            place.folder("journal"),
            [held(&segments[0], true), held(&segments[1], true), held(&kept, true)],
            "it may be brought back"
        );
        let of_segments = |(pack, _): &&(String, bool)| segments.iter().any(|id| pack.starts_with(id.as_str()));
        let still: Vec<_> = place.folder("packs");
        assert!(orphaned.iter().filter(of_segments).all(|pack| still.contains(pack)), "{still:?}");
        assert!(still.len() < packs.len(), "the packs of the backup itself nobody can know");
        // They are nobody's, which is no damage, and the journal of the next backup is whole.
        let listing = place.repository.journal_listing(&place.database).await.unwrap();
        assert!(listing.damaged.is_empty(), "{:?}", listing.damaged);
        assert_eq!(listing.journals.keys().collect::<Vec<_>>(), [&next]);
        if has_tombstone {
            place.memory.put(&manifest, bytes::Bytes::new());
        } else {
            place.memory.set_time(Some(at("2026-12-20T11:00:00Z")));
            place.prune(last(9), false).await.unwrap();
            assert_eq!(place.folder("journal").iter().filter(|(_, holds)| *holds).count(), 3, "30 days are not over");
            place.memory.set_time(Some(at("2026-12-20T13:00:00Z")));
            // The newest backup's own are as old, and stay.
        }
        place.prune(last(9), false).await.unwrap();
        let left = [held(&segments[0], false), held(&segments[1], false), held(&kept, true)];
        assert_eq!(place.folder("journal"), left);
        assert!(!place.folder("packs").iter().any(|pack| of_segments(&pack)));
        // Brought back too late, the backup is there, and what is missing after it is said.
        place.memory.put(&manifest, whole);
        let manifest = place.repository.manifest(&place.database, &base).await.unwrap();
        assert!(place.repository.journal(&place.database, &manifest).await.unwrap().segments.is_empty());
        let next = place.repository.manifest(&place.database, &next).await.unwrap();
        let read = read_journal(&place.repository, &place.database, &next).await.unwrap();
        assert_eq!(read.concat(), [b"three".to_vec()]);
    }
}
