//! A hostile writer: repositories forged from docs/format.md alone, every seal valid, and what is sealed nonsense.
//!
//! Without encryption anybody who can write can do this. Whatever is read, nothing panics, nothing takes memory without a
//! bound, and the answer is an error or exactly the bytes whose digest the manifest gives.

use std::sync::{Arc, Mutex};

use copal_core::{BackupId, Content, Context, FolderName};
use copal_repository::{Database, Repository, RepositoryError, RepositoryErrorKind as Kind, RepositoryOptions};
use copal_storage::MemoryStorage;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::common;
use crate::common::forge::*;
use crate::common::{RecoveryKey, hasty};

/// Set for a process that runs one test.
const ALONE: &str = "COPAL_TEST_ALONE";

/// Everything that reads; gives the file if it was restored.
async fn read_all(memory: &MemoryStorage) -> Result<Vec<u8>, RepositoryError> {
    let state = tempfile::tempdir().unwrap();
    let repository = Repository::open(Arc::new(memory.clone()), None, hasty(state.path())).await?;
    let name: FolderName = "a".parse().unwrap();
    let Some(database) = repository.database(&name).await? else {
        return Err(RepositoryError::new(Kind::NotFound, "no database"));
    };
    repository.listing(&database).await?;
    let read = read_backup(&repository, &database).await;
    // The next backup shares with what it finds; restoring it gives its bytes or an error as well.
    let mut bytes = content();
    bytes[0] ^= 1;
    match common::backup(&repository, &database, &bytes, PAGE).await {
        Ok(made) => match common::restore(&repository, &database, made.manifest).await {
            Ok(restored) => assert!(restored == bytes, "the next backup restored other bytes"),
            Err(error) => assert!(error.is_damage() && read.is_err(), "{error}"),
        },
        Err(error) => assert!(is_refusal(&error), "{error:?}"),
    }
    read
}

async fn read_backup(repository: &Repository, database: &Database) -> Result<Vec<u8>, RepositoryError> {
    let id: BackupId = BACKUP.parse().unwrap();
    let manifest = repository.manifest(database, &id).await?;
    let damaged = repository.verify(database, manifest.clone(), &Context::silent()).await?;
    let content = repository.content(database, manifest);
    let restored = tokio::task::spawn_blocking(move || {
        let target = common::Target(Mutex::new(Vec::new()));
        match content.write_file("main.db", &target, &Context::silent()) {
            Ok(()) => Ok(target.0.into_inner().unwrap()),
            Err(error) => Err(*error.downcast::<RepositoryError>().unwrap()),
        }
    });
    let restored = restored.await.unwrap();
    if let Err(error) = &restored
        && error.is_damage()
    {
        assert!(!damaged.is_empty(), "verify missed: {error}");
    } else {
        assert!(damaged.is_empty(), "{damaged:?}");
    }
    restored
}

fn is_refusal(error: &RepositoryError) -> bool {
    error.is_damage() || matches!(error.kind(), Kind::Unsupported | Kind::NotFound | Kind::Pruned)
}

/// The most memory that this process ever had resident, in bytes.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.and_then(|l| l.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()).unwrap_or(0) << 10
}

fn on<T>(edit: impl Fn(&mut T) + Send + Sync + 'static) -> Edit<T> {
    Arc::new(edit)
}

fn file(edit: impl Fn(&mut Value) + Send + Sync + 'static) -> Edits {
    Edits { body: on(move |body: &mut Value| edit(&mut body["files"][0])), ..Edits::default() }
}

fn body(edit: impl Fn(&mut Value) + Send + Sync + 'static) -> Edits {
    Edits { body: on(edit), ..Edits::default() }
}

fn header(edit: impl Fn(&mut Value) + Send + Sync + 'static) -> Edits {
    Edits { header: on(edit), ..Edits::default() }
}

fn leaf(edit: impl Fn(&mut LeafParts) + Send + Sync + 'static) -> Edits {
    Edits { leaf: on(edit), ..Edits::default() }
}

fn branch(edit: impl Fn(&mut BranchParts) + Send + Sync + 'static) -> Edits {
    Edits { branch: on(edit), ..Edits::default() }
}

fn pages(edit: impl Fn(&mut Frame) + Send + Sync + 'static) -> Edits {
    Edits { pages: on(edit), ..Edits::default() }
}

/// zstd of so many zeros, one frame.
fn bomb(length: usize) -> Vec<u8> {
    zstd::bulk::compress(&vec![0; length], 19).unwrap()
}

/// zstd of so many zeros that does not say how many.
fn silent_bomb(length: usize) -> Vec<u8> {
    zstd::stream::encode_all(vec![0; length].as_slice(), 19).unwrap()
}

fn nonsense() -> Vec<(&'static str, Edits)> {
    let elsewhere = "20261120-153000Z-7f3a-1-0123456789abcdef";
    let mut cases: Vec<(&'static str, Edits)> = vec![
        ("a pack of 33 MiB", header(|h| h["packs"][0][1] = (33u64 << 20).into())),
        ("a pack listed twice", header(|h| h["packs"] = json!([h["packs"][0], h["packs"][0]]))),
        ("no pack listed", header(|h| h["packs"] = json!([]))),
        ("another pack listed", header(move |h| h["packs"][0][0] = elsewhere.into())),
        ("a pack that is smaller than its references", header(|h| h["packs"][0][1] = 100.into())),
        ("a pack id that is a path", header(|h| h["packs"][0][0] = "../../etc/passwd".into())),
        ("a negative size", header(|h| h["packs"][0][1] = (-1).into())),
        (
            "a size beyond u64",
            Edits {
                header_bytes: on(|h: &mut Vec<u8>| {
                    let text = String::from_utf8(h.clone()).unwrap().replace("]]", "99999999999999999999]]");
                    *h = text.into_bytes();
                }),
                ..Edits::default()
            },
        ),
        ("a format to come", header(|h| h["format"] = 2.into())),
        ("another database", header(|h| h["database"] = "f".repeat(32).into())),
        ("another backup", header(|h| h["backup"] = "20261120-153000Z-7f3b".into())),
        ("pages of no bytes", file(|f| f["page_size"] = 0.into())),
        ("pages of 511 bytes", file(|f| f["page_size"] = 511.into())),
        ("pages of 4 GiB", file(|f| f["page_size"] = u32::MAX.into())),
        ("pages that are larger than their frame", file(|f| f["page_size"] = (1 << 20).into())),
        ("a file of 16 EiB", file(|f| f["length"] = u64::MAX.into())),
        ("a file of no bytes with a map", file(|f| f["length"] = 0.into())),
        ("a file that is longer than its map", file(|f| f["length"] = (PAGE * PAGES + 1).into())),
        ("a file that is shorter than its map", file(|f| f["length"] = (PAGE * PAGES - PAGE).into())),
        ("a file that is a little shorter", file(|f| f["length"] = (PAGE * PAGES - 1).into())),
        ("a head that is longer than the file", file(|f| f["head"] = "00".repeat(PAGE * PAGES + 1).into())),
        ("a head of 64 KiB and a byte", file(|f| f["head"] = "00".repeat(65_537).into())),
        ("half a byte of head", file(|f| f["head"] = "0".into())),
        ("another digest", file(|f| f["digest"] = "0".repeat(64).into())),
        ("a digest of another length", file(|f| f["digest"] = "00".into())),
        ("a stream", file(|f| f["kind"] = "stream".into())),
        ("no branches", file(|f| f["branches"] = json!([]))),
        ("too many branches", file(|f| f["branches"] = json!([f["branches"][0], f["branches"][0]]))),
        ("a million branches", file(|f| f["branches"] = Value::Array(vec![f["branches"][0].clone(); 1_000_000]))),
        ("a branch in another pack", file(move |f| f["branches"][0][0] = elsewhere.into())),
        ("a branch with another number", file(|f| f["branches"][0][1] = 0.into())),
        ("a branch of 4 GiB", file(|f| f["branches"][0][3] = u32::MAX.into())),
        ("a branch at the end of the pack", file(|f| f["branches"][0][2] = u32::MAX.into())),
        ("a branch of nothing", file(|f| f["branches"][0][3] = 0.into())),
        ("a branch that is a leaf", file(|f| f["branches"][0][1] = 1.into())),
        ("pack use of nobody", body(|b| b["pack_use"] = json!([]))),
        ("files with the same name", body(|b| b["files"] = json!([b["files"][0], b["files"][0]]))),
        (
            "notes in notes in notes",
            Edits {
                body_bytes: on(|b: &mut Vec<u8>| {
                    let deep = format!("\"notes\":{}", "[".repeat(200_000));
                    *b = String::from_utf8(b.clone()).unwrap().replace("\"notes\":[]", &deep).into_bytes();
                }),
                ..Edits::default()
            },
        ),
        ("a leaf for other pages", leaf(|l| l.first = 4096)),
        ("a leaf at the end of all numbers", leaf(|l| l.first = u64::MAX)),
        ("a leaf of no pages", leaf(|l| l.count = 0)),
        ("a leaf of more pages than it has", leaf(|l| l.count = 4096)),
        ("a leaf of 4 Gi pages", leaf(|l| l.count = u32::MAX)),
        ("a leaf of 4 Gi frames", leaf(|l| l.frame_count = u32::MAX)),
        ("a leaf of no frames", leaf(|l| (l.frame_count, l.frames) = (0, Vec::new()))),
        ("a leaf without packs", leaf(|l| l.packs.clear())),
        ("a leaf of 65,535 packs", leaf(|l| l.packs = vec![PACK.into(); 65_535])),
        ("a leaf with a pack that is a path", leaf(|l| l.packs[0] = "../../../../etc/passwd".into())),
        ("a leaf with a pack that is not listed", leaf(move |l| l.packs[0] = elsewhere.into())),
        ("a frame beyond the leaf's frames", leaf(|l| l.indexes[3] = 1)),
        ("a slot beyond the frame", leaf(|l| l.slots[9] = 10)),
        ("the last of all slots", leaf(|l| l.slots[9] = u16::MAX)),
        ("another page's slot", leaf(|l| l.slots[9] = 8)),
        ("another page's digest", leaf(|l| l.digests[9] = l.digests[8])),
        (
            "two pages exchanged",
            leaf(|l| {
                l.slots.swap(2, 3);
                l.digests.swap(2, 3);
            }),
        ),
        ("pages in the leaf's own frame", leaf(|l| l.frames[0].1 = 1)),
        ("pages outside of every pack", leaf(|l| l.frames[0].2 = (32 << 20) - 1)),
        ("pages outside of their pack", leaf(|l| l.frames[0].2 = 30 << 20)),
        ("pages in the head of the pack", leaf(|l| l.frames[0].2 = 0)),
        ("pages of 4 GiB", leaf(|l| l.frames[0].3 = u32::MAX)),
        ("pages of nothing", leaf(|l| l.frames[0].3 = 0)),
        ("a branch for other leaves", branch(|b| b.first = 4096)),
        ("a branch of more leaves than it has", branch(|b| b.count = 4096)),
        ("a branch with a leaf too many", branch(|b| (b.count, b.leaves) = (2, vec![b.leaves[0]; 2]))),
        ("a branch with itself as leaf", branch(|b| b.leaves[0].1 = 2)),
        ("a branch with pages as leaf", branch(|b| b.leaves[0].1 = 0)),
        ("a branch with a leaf outside", branch(|b| b.leaves[0].2 = 31 << 20)),
        ("pages that claim 4 MiB and a byte", pages(|f| f.raw_length = (4 << 20) + 1)),
        ("pages that claim 4 GiB", pages(|f| f.raw_length = u32::MAX)),
        ("pages that claim less than they are", pages(|f| f.raw_length -= 1)),
        ("pages that claim nothing", pages(|f| f.raw_length = 0)),
        ("pages that expand to 256 MiB", pages(|f| f.body = bomb(256 << 20))),
        ("pages that expand to 64 MiB without saying so", pages(|f| f.body = silent_bomb(64 << 20))),
        ("pages that are two zstd frames", pages(|f| f.body = f.body.repeat(2))),
        ("pages that are no zstd", pages(|f| f.body = vec![0x55; 300])),
        ("pages that are half a zstd frame", pages(|f| f.body.truncate(f.body.len() / 2))),
        ("pages with a compression to come", pages(|f| f.compression = 2)),
        ("pages said not to be compressed", pages(|f| f.compression = 0)),
        ("pages with reserved bits", pages(|f| f.reserved = 1)),
        ("pages of another kind", pages(|f| f.kind = 2)),
        ("fewer pages than the leaf wants", pages(|f| *f = Frame::zstd(1, &content()[..PAGE * 9]))),
        ("other pages", pages(|f| *f = Frame::zstd(1, &vec![0; PAGE * PAGES]))),
        (
            "a leaf that expands to 256 MiB",
            Edits {
                leaf_frame: on(|f: &mut Frame| (f.compression, f.body) = (1, bomb(256 << 20))),
                ..Edits::default()
            },
        ),
        (
            "a manifest that claims 4 GiB",
            Edits { manifest_frame: on(|f: &mut Frame| f.raw_length = u32::MAX), ..Edits::default() },
        ),
        (
            "a manifest that claims 256 MiB and has none",
            Edits {
                manifest_frame: on(|f: &mut Frame| (f.compression, f.raw_length) = (1, 256 << 20)),
                ..Edits::default()
            },
        ),
        (
            "a manifest that expands to 256 MiB",
            Edits {
                manifest_frame: on(|f: &mut Frame| (f.compression, f.body) = (1, bomb(256 << 20))),
                ..Edits::default()
            },
        ),
        ("a manifest that is a record", Edits { manifest_frame: on(|f: &mut Frame| f.kind = 17), ..Edits::default() }),
        ("no record", Edits { record_bytes: on(|b: &mut Vec<u8>| b.clear()), ..Edits::default() }),
        ("no configuration", Edits { config_bytes: on(|b: &mut Vec<u8>| b.clear()), ..Edits::default() }),
    ];
    for name in ["", ".", "..", "../x", "/etc/passwd", "a/../b", "a//b", "a/", "a\\b", "C:x", "a\0b"] {
        cases.push(("an unsafe name", file(move |f| f["name"] = name.into())));
    }
    cases
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_forged_well_restores() {
    assert_eq!(read_all(&forge(&Edits::default())).await.unwrap(), content());
    // What contradicts nothing is no damage.
    let harmless = [
        header(|h| h["predecessor"] = BACKUP.into()),
        header(|h| h["unknown"] = json!({"a": [1]})),
        body(|b| b["logical_bytes"] = u64::MAX.into()),
        body(|b| b["pack_use"] = json!([[u64::MAX, u64::MAX]])),
        body(|b| b["pack_use"] = json!([[0, u64::MAX]])),
    ];
    for edits in harmless {
        assert_eq!(read_all(&forge(&edits)).await.unwrap(), content());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sealed_nonsense_is_refused_in_bounded_memory() {
    if std::env::var_os(ALONE).is_none() {
        // In a process of its own, whose memory it measures.
        let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
        alone.args(["--exact", "hostile::sealed_nonsense_is_refused_in_bounded_memory"]).env(ALONE, "1");
        let output = alone.output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && told.contains("1 passed"), "{told}");
        return;
    }
    let cases = nonsense();
    // Forging takes memory, too: do it first.
    let forged: Vec<_> = cases.iter().map(|(what, edits)| (*what, forge(edits))).collect();
    let before = peak_memory();
    for (what, memory) in forged {
        match read_all(&memory).await {
            Ok(_) => panic!("{what}: restored"),
            Err(error) => assert!(is_refusal(&error), "{what}: {error:?}"),
        }
    }
    let grown = peak_memory().saturating_sub(before);
    assert!(grown < 256 << 20, "{grown} bytes more at the peak");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_lease_or_plan_touches_nothing_outside_of_its_database() {
    let good = forge(&Edits::default());
    let victim = path("databases/b/backups/20261120-153000Z-7f3b");
    let lease = |commit: &str| {
        json!({
            "format": 1, "state": "held", "operation": "x", "commit": commit, "sequence": u64::MAX, "nonce": "",
            "holder": {"host": "x", "boot_id": null, "pid_namespace": null, "pid": 1, "started": null},
        })
        .to_string()
    };
    for commit in
        [victim.as_str(), "copal.json", "keys/00000000.age", "../x", "databases/a/packs/x", "databases/a/backups/x", ""]
    {
        let memory = good.fork();
        memory.put(&path("leases/a"), lease(commit));
        let before = memory.contents();
        let repository =
            Repository::open(Arc::new(memory.clone()), None, hasty(&std::env::temp_dir().join("none"))).await;
        let repository = repository.unwrap();
        let database = common::database(&repository, "a").await;
        let error = common::backup(&repository, &database, &content(), PAGE).await.unwrap_err();
        assert!(error.is_damage() && error.object == Some(path("leases/a")), "{commit}: {error:?}");
        assert_eq!(memory.contents(), before, "{commit}");
    }
    let plan_id = "20261121-000000Z-0000";
    let plan_header = json!({"format": 1, "database": DATABASE, "plan": plan_id}).to_string();
    for (marks, tombstones, packs) in [
        (json!(["../database", "../../b/database", "/x"]), json!([]), json!([])),
        (
            json!([]),
            json!(["../keys/x", "packs/x", "backups/../database", "backups", "plans/../../b/database"]),
            json!([]),
        ),
        (json!([]), json!([]), json!(["../../b/database"])),
    ] {
        let memory = good.fork();
        memory.put(&path("databases/b/database"), "b");
        memory.put(&victim, "b");
        let body = json!({
            "created": "2026-11-20T00:00:00Z", "manifests": [], "packs": packs, "marks": marks, "tombstones": tombstones,
        });
        let frame = Frame::plain(18, body.to_string().as_bytes()).bytes();
        let plan = path(format!("databases/a/plans/{plan_id}"));
        memory.put(&plan, document(plan_header.as_bytes(), &frame));
        let before = memory.contents();
        let repository =
            Repository::open(Arc::new(memory.clone()), None, hasty(&std::env::temp_dir().join("none"))).await;
        let repository = repository.unwrap();
        let database = common::database(&repository, "a").await;
        let _ = repository.prune(&database, &common::keep_last(9), &Context::silent()).await;
        let after = memory.contents();
        for (object, bytes) in before.iter().filter(|(p, _)| **p != plan) {
            assert_eq!(after.get(object), Some(bytes), "{object}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_asks_for_too_much_work_is_not_tried() {
    let key = RecoveryKey::generate();
    let memory = MemoryStorage::new();
    let recipients = [key.recipient.clone()];
    let options = RepositoryOptions::default();
    Repository::create(Arc::new(memory.clone()), None, &recipients, options.clone()).await.unwrap();
    let costly = "age-encryption.org/v1\n-> scrypt AAAAAAAAAAAAAAAAAAAAAA 30\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n--- AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n";
    memory.put(&path("keys/00000000.age"), costly);
    let begin = std::time::Instant::now();
    let error = Repository::open(Arc::new(memory.clone()), Some(&common::unlock()), options.clone()).await.unwrap_err();
    assert!(begin.elapsed().as_secs() < 5);
    assert!(error.is_damage() || error.kind() == Kind::Passphrase, "{error:?}");
    memory.put(&path("keys/11111111.age"), vec![b'x'; 1 << 20]);
    Repository::open(Arc::new(memory), Some(&key.unlock()), options).await.unwrap();
}

/// Where random damage is done, before sealing.
#[derive(Clone, Copy, Debug)]
enum Place {
    Leaf,
    Branch,
    Header,
    Body,
    Record,
    Config,
    Pages,
}

/// Overwrites, inserts, removes or repeats bytes.
#[derive(Clone, Debug)]
enum Change {
    Set(prop::sample::Index, u8),
    Set32(prop::sample::Index, u32),
    Insert(prop::sample::Index, Vec<u8>),
    Remove(prop::sample::Index, usize),
    Repeat(prop::sample::Index, usize),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        match self {
            Self::Set(at, value) => {
                let at = at.index(bytes.len());
                bytes[at] = *value;
            }
            Self::Set32(at, value) => {
                let at = at.index(bytes.len());
                bytes.iter_mut().skip(at).zip(value.to_le_bytes()).for_each(|(to, from)| *to = from);
            }
            Self::Insert(at, inserted) => {
                let at = at.index(bytes.len());
                bytes.splice(at..at, inserted.iter().copied());
            }
            Self::Remove(at, n) => {
                let at = at.index(bytes.len());
                bytes.drain(at..(at + n).min(bytes.len()));
            }
            Self::Repeat(at, n) => {
                let at = at.index(bytes.len());
                let part = bytes[at..(at + n).min(bytes.len())].to_vec();
                bytes.splice(at..at, part);
            }
        }
    }
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(a, v)| Change::Set(a, v)),
        (at(), prop_oneof![Just(0), Just(u32::MAX), Just(4097), Just(1 << 25), any::<u32>()])
            .prop_map(|(a, v)| Change::Set32(a, v)),
        // Digits make numbers larger, the rest is syntax.
        (at(), prop::collection::vec(prop_oneof![b'0'..=b'9', Just(b'['), Just(b'"'), any::<u8>()], 1..6))
            .prop_map(|(a, v)| Change::Insert(a, v)),
        (at(), 1..40usize).prop_map(|(a, n)| Change::Remove(a, n)),
        (at(), 1..60usize).prop_map(|(a, n)| Change::Repeat(a, n)),
    ]
}

fn edits_at(place: Place, changes: Vec<Change>) -> Edits {
    let bytes = on(move |bytes: &mut Vec<u8>| changes.iter().for_each(|c| c.apply(bytes)));
    let base = Edits::default();
    match place {
        Place::Leaf => Edits { leaf_bytes: bytes, ..base },
        Place::Branch => Edits { branch_bytes: bytes, ..base },
        Place::Header => Edits { header_bytes: bytes, ..base },
        Place::Body => Edits { body_bytes: bytes, ..base },
        Place::Record => Edits { record_bytes: bytes, ..base },
        Place::Config => Edits { config_bytes: bytes, ..base },
        Place::Pages => Edits { pages: on(move |f: &mut Frame| bytes(&mut f.body)), ..base },
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn changed_bytes_under_valid_seals_give_an_error_or_the_exact_file(
        place in prop_oneof![
            Just(Place::Leaf), Just(Place::Branch), Just(Place::Header), Just(Place::Body), Just(Place::Record),
            Just(Place::Config), Just(Place::Pages),
        ],
        changes in prop::collection::vec(change(), 1..4),
    ) {
        let memory = forge(&edits_at(place, changes));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        match runtime.block_on(read_all(&memory)) {
            Ok(bytes) => prop_assert!(bytes == content(), "restored other bytes"),
            Err(error) => prop_assert!(is_refusal(&error), "{error:?}"),
        }
    }
}
