//! Who may open a repository, and whether it is the one that it says it is: each refusal has its own message.

use std::sync::Arc;

use copal_core::{Context, Event, Secret};
use copal_repository::{Repository, RepositoryError, RepositoryErrorKind as Kind, RepositoryOptions, Unlock, WrapKind};
use copal_storage::{MemoryStorage, ObjectPath, Storage};

use crate::common;
use crate::common::{PASSPHRASE, RecoveryKey, database, file_bytes, hasty, keep_last, unlock};

const PAGE: usize = 1024;

fn path(text: impl AsRef<str>) -> ObjectPath {
    ObjectPath::parse(text.as_ref()).unwrap()
}

fn arc(memory: &MemoryStorage) -> Arc<dyn Storage> {
    Arc::new(memory.clone())
}

fn passphrase(text: &str) -> Unlock {
    Unlock::Passphrase(Secret::new(text))
}

async fn open(memory: &MemoryStorage, unlock: Option<&Unlock>) -> Result<Repository, RepositoryError> {
    Repository::open(arc(memory), unlock, RepositoryOptions::default()).await
}

async fn refusal(memory: &MemoryStorage, unlock: Option<&Unlock>) -> RepositoryError {
    open(memory, unlock).await.expect_err("it must not open")
}

/// A repository with a recovery key, which opens at once.
struct Quick {
    memory: MemoryStorage,
    state: tempfile::TempDir,
    key: RecoveryKey,
    repository: Repository,
}

impl Quick {
    async fn new() -> Self {
        let (memory, state, key) = (MemoryStorage::new(), tempfile::tempdir().unwrap(), RecoveryKey::generate());
        let recipients = [key.recipient.clone()];
        let repository = Repository::create(arc(&memory), None, &recipients, hasty(state.path())).await.unwrap();
        Self { memory, state, key, repository }
    }

    async fn open_as(&self, memory: &MemoryStorage, state: &tempfile::TempDir) -> Repository {
        Repository::open(arc(memory), Some(&self.key.unlock()), hasty(state.path())).await.unwrap()
    }
}

fn edit_config(memory: &MemoryStorage, edit: impl FnOnce(&mut serde_json::Value)) {
    let bytes = memory.contents()[&path("copal.json")].clone();
    let mut json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    edit(&mut json);
    memory.put(&path("copal.json"), serde_json::to_vec(&json).unwrap());
}

fn key_paths(memory: &MemoryStorage) -> Vec<ObjectPath> {
    memory.contents().into_keys().filter(|p| p.as_str().starts_with("keys/")).collect()
}

/// Collects what an operation tells.
#[derive(Clone, Default)]
struct Told(Arc<std::sync::Mutex<Vec<Event>>>);

impl copal_core::Progress for Told {
    fn event(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

impl Told {
    fn context(&self) -> Context {
        Context { progress: Arc::new(self.clone()), ..Context::silent() }
    }

    fn has(&self, wanted: impl Fn(&Event) -> bool) -> bool {
        self.0.lock().unwrap().iter().any(wanted)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn passphrases_and_recovery_keys_open_what_they_were_added_to() {
    let (memory, key) = (MemoryStorage::new(), RecoveryKey::generate());
    let options = RepositoryOptions::default();
    let first = Secret::new(PASSPHRASE);
    let repository = Repository::create(arc(&memory), Some(&first), &[], options).await.unwrap();
    let id = *repository.id();

    let error = refusal(&memory, Some(&passphrase("wrong"))).await;
    assert_eq!(error.kind(), Kind::Passphrase);
    assert!(error.message.contains("is not the passphrase"), "{error}");
    let error = refusal(&memory, None).await;
    assert_eq!(error.kind(), Kind::Passphrase);
    assert!(error.message.contains("no passphrase was given"), "{error}");
    let error = refusal(&memory, Some(&key.unlock())).await;
    assert_eq!(error.kind(), Kind::Passphrase);
    assert!(error.message.contains("has no key for an identity"), "{error}");

    repository.add_recipient(&key.recipient).await.unwrap();
    assert_eq!(*open(&memory, Some(&key.unlock())).await.unwrap().id(), id);
    assert_eq!(refusal(&memory, Some(&RecoveryKey::generate().unlock())).await.kind(), Kind::Passphrase);

    let repository = open(&memory, Some(&unlock())).await.unwrap();
    repository.change_passphrase(&Secret::new("second")).await.unwrap();
    assert_eq!(refusal(&memory, Some(&unlock())).await.kind(), Kind::Passphrase);
    let repository = open(&memory, Some(&passphrase("second"))).await.unwrap();
    let kinds: Vec<_> = repository.wraps().await.unwrap().into_iter().map(|w| (w.kind, w.in_use)).collect();
    assert!(kinds.contains(&(Some(WrapKind::Passphrase), true)), "{kinds:?}");
    assert!(kinds.contains(&(Some(WrapKind::RecoveryKey), false)), "{kinds:?}");
    assert_eq!(kinds.len(), 2);

    // What was written before any change of keys still opens after all of them.
    let wraps = repository.wraps().await.unwrap();
    let old = wraps.iter().find(|w| w.in_use).unwrap();
    repository.remove_wrap(&old.id).await.unwrap();
    assert_eq!(refusal(&memory, Some(&passphrase("second"))).await.kind(), Kind::Passphrase);
    assert_eq!(*open(&memory, Some(&key.unlock())).await.unwrap().id(), id);
    assert_eq!(repository.remove_wrap("00000000").await.unwrap_err().kind(), Kind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_key_that_anybody_can_open_stays() {
    let quick = Quick::new().await;
    let id = quick.repository.wraps().await.unwrap()[0].id.clone();
    assert_eq!(quick.repository.remove_wrap(&id).await.unwrap_err().kind(), Kind::Usage);
    quick.memory.put(&path("keys/0123abcd.age"), "garbage");
    assert_eq!(quick.repository.remove_wrap(&id).await.unwrap_err().kind(), Kind::Usage, "garbage is no key");
    quick.repository.remove_wrap("0123abcd").await.unwrap();
    open(&quick.memory, Some(&quick.key.unlock())).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_passphrase_after_opening_with_the_recovery_key_keeps_the_recovery_key() {
    let quick = Quick::new().await;
    let repository = open(&quick.memory, Some(&quick.key.unlock())).await.unwrap();
    repository.change_passphrase(&Secret::new("new")).await.unwrap();
    open(&quick.memory, Some(&quick.key.unlock())).await.unwrap();
    open(&quick.memory, Some(&passphrase("new"))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_inits_at_the_same_moment_the_winner_keeps_its_keys() {
    // The loser has looked and found nothing; then the winner comes and finishes; then the loser goes on.
    use copal_storage::stepped::Scheduler;
    for steps in 0..12 {
        let memory = MemoryStorage::new();
        let (winner, loser) = (RecoveryKey::generate(), RecoveryKey::generate());
        let scheduler = Scheduler::new();
        let slow = Arc::new(scheduler.storage("slow", arc(&memory)));
        let recipients = [loser.recipient.clone()];
        let slow =
            tokio::spawn(
                async move { Repository::create(slow, None, &recipients, RepositoryOptions::default()).await },
            );
        let step = || async {
            while scheduler.pending().is_empty() && !slow.is_finished() {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
            scheduler.pending().first().is_some_and(|call| scheduler.grant(call.id))
        };
        for _ in 0..steps {
            step().await;
        }
        let recipients = [winner.recipient.clone()];
        let fast = Repository::create(arc(&memory), None, &recipients, RepositoryOptions::default()).await;
        while step().await {}
        let slow = slow.await.unwrap();
        let (won, lost) = if fast.is_ok() { (&winner, slow) } else { (&loser, fast) };
        assert_eq!(lost.unwrap_err().kind(), Kind::Exists, "after {steps} steps");
        open(&memory, Some(&won.unlock())).await.unwrap();
        assert_eq!(key_paths(&memory).len(), 1, "after {steps} steps");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn encryption_cannot_be_switched_off() {
    let quick = Quick::new().await;
    let fresh = || hasty(tempfile::tempdir().unwrap().path());
    let off = |json: &mut serde_json::Value| {
        json["encryption"] = "none".into();
        json["mac"] = serde_json::Value::Null;
    };
    edit_config(&quick.memory, off);
    // The keys are still there.
    let error = refusal(&quick.memory, None).await;
    assert_eq!(error.kind(), Kind::Tampering);
    assert_eq!(error.object, Some(path("copal.json")));
    assert!(error.message.contains("there are keys"), "{error}");
    // They are gone, but this machine was here before.
    for key in key_paths(&quick.memory) {
        quick.memory.delete(&key).await.unwrap();
    }
    let error = Repository::open(arc(&quick.memory), None, hasty(quick.state.path())).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Tampering);
    assert!(error.message.contains("knows the repository as encrypted"), "{error}");
    // It was not, but a passphrase is configured.
    let error = Repository::open(arc(&quick.memory), Some(&quick.key.unlock()), fresh()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Usage);
    assert!(error.message.contains("passphrase is configured"), "{error}");
    // And were it opened all the same, nothing in it would read as plain.
    let before = Quick::new().await;
    let a = database(&before.repository, "a").await;
    common::backup(&before.repository, &a, &file_bytes(1, 5000), PAGE).await.unwrap();
    edit_config(&before.memory, off);
    for key in key_paths(&before.memory) {
        before.memory.delete(&key).await.unwrap();
    }
    let opened = open(&before.memory, None).await.unwrap();
    let error = opened.database(&"a".parse().unwrap()).await.unwrap_err();
    assert!(error.is_damage(), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_configuration_is_tampering() {
    let quick = Quick::new().await;
    let key = quick.key.unlock();
    let with = |edit: fn(&mut serde_json::Value)| {
        let memory = quick.memory.fork();
        edit_config(&memory, edit);
        memory
    };
    for (what, edit) in [
        ("mac", (|json| json["mac"] = "0".repeat(64).into()) as fn(&mut serde_json::Value)),
        ("no mac", |json| json["mac"] = serde_json::Value::Null),
        ("mac of another form", |json| json["mac"] = "x".into()),
        ("id", |json| json["repository"] = "0123456789abcdef0123456789abcdef".into()),
    ] {
        let error = refusal(&with(edit), Some(&key)).await;
        assert_eq!(error.kind(), Kind::Tampering, "{what}: {error}");
        assert_eq!(error.object, Some(path("copal.json")), "{what}");
    }
    for (edit, kind) in [
        ((|json| json["format"] = 2.into()) as fn(&mut serde_json::Value), Kind::Unsupported),
        (|json| *json = serde_json::json!({"format": 7, "whatever": []}), Kind::Unsupported),
        (|json| json["format"] = 0.into(), Kind::Damage),
        (|json| json["encryption"] = "rot13".into(), Kind::Damage),
    ] {
        for unlock in [Some(&key), None] {
            let error = refusal(&with(edit), unlock).await;
            assert_eq!(error.kind(), kind, "{error}");
            assert!(kind != Kind::Unsupported || error.hint.as_deref() == Some("update copal"), "{error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_can_be_replayed_from_elsewhere() {
    let quick = Quick::new().await;
    let (a, b) = (database(&quick.repository, "a").await, database(&quick.repository, "b").await);
    let bytes = file_bytes(1, PAGE * 9);
    let one = common::backup(&quick.repository, &a, &bytes, PAGE).await.unwrap().manifest;
    let two = common::backup(&quick.repository, &a, &file_bytes(2, PAGE * 9), PAGE).await.unwrap().manifest;
    let other = common::backup(&quick.repository, &b, &file_bytes(3, PAGE * 9), PAGE).await.unwrap().manifest;
    let object = |name: &str, id: &str| path(format!("databases/{name}/backups/{id}"));
    let (one_id, two_id) = (one.header.backup.clone(), two.header.backup.clone());
    let bytes_of = |p: &ObjectPath| quick.memory.contents()[p].clone();

    let of_b = bytes_of(&object("b", other.header.backup.as_str()));
    let of_one = bytes_of(&object("a", one_id.as_str()));
    let cases = [
        (two_id.to_string(), of_b.clone(), "of another database"),
        (two_id.to_string(), of_one, "is the manifest of backup"),
        // Under its own name, as one that never was here.
        (other.header.backup.to_string(), of_b, "of another database"),
    ];
    for (place, replayed, message) in cases {
        let memory = quick.memory.fork();
        memory.put(&object("a", &place), replayed);
        let state = tempfile::tempdir().unwrap();
        let repository = quick.open_as(&memory, &state).await;
        let error = repository.manifest(&a, &place.parse().unwrap()).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Replay, "{error}");
        assert_eq!(error.object, Some(object("a", &place)));
        assert!(error.message.contains(message), "{error}");
        let listing = repository.listing(&a).await.unwrap();
        assert!(listing.damaged.iter().any(|d| d.object == object("a", &place)), "{:?}", listing.damaged);
        assert!(listing.backups.iter().any(|s| s.id == one_id), "what is unharmed is listed");
        let manifest = repository.manifest(&a, &one_id).await.unwrap();
        assert_eq!(common::restore(&repository, &a, manifest).await.unwrap(), bytes);
        // The next backup is sound, and prune does not guess.
        let made = common::backup(&repository, &a, &bytes, PAGE).await.unwrap();
        assert_eq!(common::restore(&repository, &a, made.manifest).await.unwrap(), bytes);
        let error = repository.prune(&a, &keep_last(1), &Context::silent()).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Replay);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_was_rolled_back_is_noticed_by_who_saw_more() {
    let quick = Quick::new().await;
    let a = database(&quick.repository, "a").await;
    let mut bytes = file_bytes(1, PAGE * 50);
    common::backup(&quick.repository, &a, &bytes, PAGE).await.unwrap();
    let yesterday = quick.memory.fork();
    bytes[0] ^= 1;
    let lost = common::backup(&quick.repository, &a, &bytes, PAGE).await.unwrap().manifest;
    let lost_object = path(format!("databases/a/backups/{}", lost.header.backup));

    let repository = quick.open_as(&yesterday, &quick.state).await;
    for _ in 0..2 {
        let listing = repository.listing(&a).await.unwrap();
        assert_eq!(listing.backups.len(), 1);
        assert_eq!(listing.damaged.iter().map(|d| &d.object).collect::<Vec<_>>(), [&lost_object], "it says so again");
        assert!(listing.damaged[0].problem.contains("rolled back"), "{:?}", listing.damaged);
    }
    let error = repository.prune(&a, &keep_last(1), &Context::silent()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Rollback);
    assert_eq!(error.object.as_ref(), Some(&lost_object));

    // The cache is of the lost backup: used here, it would refer to packs that are not here.
    let told = Told::default();
    let made = common::backup_under(&repository, &a, &bytes, PAGE, Default::default(), &told.context()).await.unwrap();
    assert!(made.damaged.iter().any(|d| d.object == lost_object), "{:?}", made.damaged);
    assert!(told.has(|event| matches!(event, Event::Warning(text) if text.contains("damaged or missing"))));
    let foreign = made.manifest.header.packs.iter().filter(|(p, _)| p.backup() == lost.header.backup).count();
    assert_eq!(foreign, 0);
    assert_eq!(common::restore(&repository, &a, made.manifest.clone()).await.unwrap(), bytes);
    assert!(repository.verify(&a, made.manifest, &Context::silent()).await.unwrap().is_empty());
    // From now on this one is the newest.
    repository.prune(&a, &keep_last(1), &Context::silent()).await.unwrap();
    assert!(repository.listing(&a).await.unwrap().damaged.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_copies_of_a_repository_go_their_own_ways() {
    let quick = Quick::new().await;
    let a = database(&quick.repository, "a").await;
    let mut bytes = file_bytes(1, PAGE * 50);
    common::backup(&quick.repository, &a, &bytes, PAGE).await.unwrap();
    let copy = quick.memory.fork();
    // One machine, one state folder, both copies in turn: same repository id, same database id.
    for round in 0..6 {
        let memory = if round % 2 == 0 { &quick.memory } else { &copy };
        let repository = quick.open_as(memory, &quick.state).await;
        bytes[round * PAGE] ^= 1;
        let made = common::backup(&repository, &a, &bytes, PAGE).await.unwrap();
        assert!(
            made.manifest.body.added_bytes < 30_000,
            "unchanged pages are shared: {}",
            made.manifest.body.added_bytes
        );
        assert_eq!(common::restore(&repository, &a, made.manifest.clone()).await.unwrap(), bytes, "round {round}");
        assert!(repository.verify(&a, made.manifest, &Context::silent()).await.unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_exchanged_under_the_same_id_makes_the_cache_useless() {
    // Two copies in which the newest backups have the same id can only come from a hostile hand; the cache knows the hash.
    let (memory, state) = (MemoryStorage::new(), tempfile::tempdir().unwrap());
    let repository = Repository::create(arc(&memory), None, &[], hasty(state.path())).await.unwrap();
    let a = database(&repository, "a").await;
    let bytes = file_bytes(1, PAGE * 20);
    let made = common::backup(&repository, &a, &bytes, PAGE).await.unwrap().manifest;
    // A plain repository seals with a hash only: a label is easily changed.
    let object = path(format!("databases/a/backups/{}", made.header.backup));
    let old = memory.contents()[&object].clone();
    let header_end = 12 + u32::from_le_bytes(old[8..12].try_into().unwrap()) as usize;
    let content = serde_json::to_vec(&copal_core::ManifestBody { label: Some("other".into()), ..made.body }).unwrap();
    let mut forged = old[..header_end].to_vec();
    let mut frame = vec![16, 0, 0, 0];
    frame.extend_from_slice(&u32::try_from(content.len()).unwrap().to_le_bytes());
    frame.extend_from_slice(&content);
    let tag = *blake3::Hasher::new().update(&forged).update(&frame).finalize().as_bytes();
    forged.extend_from_slice(&frame);
    forged.extend_from_slice(&tag);
    memory.put(&object, forged);
    assert_eq!(repository.manifest(&a, &made.header.backup).await.unwrap().body.label.as_deref(), Some("other"));
    let told = Told::default();
    let next = common::backup_under(&repository, &a, &bytes, PAGE, Default::default(), &told.context()).await;
    let next = next.unwrap().manifest;
    assert!(told.has(|event| matches!(event, Event::Note(text) if text.contains("reading the page map"))));
    assert_eq!(common::restore(&repository, &a, next).await.unwrap(), bytes);
}
