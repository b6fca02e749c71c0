//! A hostile writer: repositories forged from docs/format.md alone, every seal valid, and what is sealed nonsense.
//!
//! Without encryption anybody who can write can do this. Whatever is read, nothing panics, nothing takes memory without a
//! bound, and the answer is an error or exactly the bytes whose digest the manifest gives.

mod common;

use std::sync::{Arc, Mutex};

use common::{RecoveryKey, file_bytes, hasty};
use copal_core::{BackupId, Content, Context, FolderName};
use copal_repository::{Database, Repository, RepositoryError, RepositoryErrorKind as Kind, RepositoryOptions};
use copal_storage::{MemoryStorage, ObjectPath};
use proptest::prelude::*;
use serde_json::{Value, json};

const PAGE: usize = 1024;
const PAGES: usize = 10;
const DATABASE: &str = "00112233445566778899aabbccddeeff";
const BACKUP: &str = "20261120-153000Z-7f3a";
const PACK: &str = "20261120-153000Z-7f3a-0-0123456789abcdef";

fn path(text: impl AsRef<str>) -> ObjectPath {
    ObjectPath::parse(text.as_ref()).unwrap()
}

fn seal(associated: &[u8], frame: &[u8]) -> Vec<u8> {
    let tag = *blake3::Hasher::new().update(associated).update(frame).finalize().as_bytes();
    [frame, &tag].concat()
}

fn digest(page: &[u8]) -> [u8; 16] {
    blake3::hash(page).as_bytes()[..16].try_into().unwrap()
}

/// A frame before sealing, with every field free.
#[derive(Clone, Debug)]
struct Frame {
    kind: u8,
    compression: u8,
    reserved: u16,
    raw_length: u32,
    body: Vec<u8>,
}

impl Frame {
    fn plain(kind: u8, content: &[u8]) -> Self {
        let raw_length = u32::try_from(content.len()).unwrap();
        Self { kind, compression: 0, reserved: 0, raw_length, body: content.to_vec() }
    }

    fn zstd(kind: u8, content: &[u8]) -> Self {
        let body = zstd::bulk::compress(content, 3).unwrap();
        Self { compression: 1, body, ..Self::plain(kind, &content[..0]) }.claiming(content.len())
    }

    fn claiming(self, raw_length: usize) -> Self {
        Self { raw_length: u32::try_from(raw_length).unwrap(), ..self }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = vec![self.kind, self.compression];
        out.extend_from_slice(&self.reserved.to_le_bytes());
        out.extend_from_slice(&self.raw_length.to_le_bytes());
        out.extend_from_slice(&self.body);
        out
    }
}

fn document(header: &[u8], frame: &[u8]) -> Vec<u8> {
    let mut out = b"COPALDC1".to_vec();
    out.extend_from_slice(&u32::try_from(header.len()).unwrap().to_le_bytes());
    out.extend_from_slice(header);
    let sealed = seal(&out, frame);
    out.extend_from_slice(&sealed);
    out
}

/// A reference as it stands in leaves and branches: index of the pack, frame, offset, length.
type Ref = (u16, u32, u32, u32);

#[derive(Clone, Debug)]
struct LeafParts {
    first: u64,
    count: u32,
    packs: Vec<String>,
    frame_count: u32,
    frames: Vec<Ref>,
    indexes: Vec<u32>,
    slots: Vec<u16>,
    digests: Vec<[u8; 16]>,
}

fn put_refs(out: &mut Vec<u8>, refs: &[Ref]) {
    for (pack, frame, offset, length) in refs {
        out.extend_from_slice(&pack.to_le_bytes());
        for n in [frame, offset, length] {
            out.extend_from_slice(&n.to_le_bytes());
        }
    }
}

fn put_packs(out: &mut Vec<u8>, packs: &[String]) {
    out.extend_from_slice(&(packs.len() as u16).to_le_bytes());
    for pack in packs {
        out.push(pack.len() as u8);
        out.extend_from_slice(pack.as_bytes());
    }
}

impl LeafParts {
    fn bytes(&self) -> Vec<u8> {
        let mut out = self.first.to_le_bytes().to_vec();
        out.extend_from_slice(&self.count.to_le_bytes());
        put_packs(&mut out, &self.packs);
        out.extend_from_slice(&self.frame_count.to_le_bytes());
        put_refs(&mut out, &self.frames);
        self.indexes.iter().for_each(|n| out.extend_from_slice(&n.to_le_bytes()));
        self.slots.iter().for_each(|n| out.extend_from_slice(&n.to_le_bytes()));
        self.digests.iter().for_each(|d| out.extend_from_slice(d));
        out
    }
}

#[derive(Clone, Debug)]
struct BranchParts {
    first: u64,
    count: u32,
    packs: Vec<String>,
    leaves: Vec<Ref>,
}

impl BranchParts {
    fn bytes(&self) -> Vec<u8> {
        let mut out = self.first.to_le_bytes().to_vec();
        out.extend_from_slice(&self.count.to_le_bytes());
        put_packs(&mut out, &self.packs);
        put_refs(&mut out, &self.leaves);
        out
    }
}

/// What a case may change, each thing before it is sealed into the next: pages, leaf, branch, manifest.
type Edit<T> = Arc<dyn Fn(&mut T) + Send + Sync>;

#[derive(Clone)]
struct Edits {
    pages: Edit<Frame>,
    leaf: Edit<LeafParts>,
    leaf_bytes: Edit<Vec<u8>>,
    leaf_frame: Edit<Frame>,
    branch: Edit<BranchParts>,
    branch_bytes: Edit<Vec<u8>>,
    branch_frame: Edit<Frame>,
    header: Edit<Value>,
    header_bytes: Edit<Vec<u8>>,
    body: Edit<Value>,
    body_bytes: Edit<Vec<u8>>,
    manifest_frame: Edit<Frame>,
    record_bytes: Edit<Vec<u8>>,
    config_bytes: Edit<Vec<u8>>,
}

impl Default for Edits {
    fn default() -> Self {
        fn nothing<T>() -> Edit<T> {
            Arc::new(|_| {})
        }
        Self {
            pages: nothing(),
            leaf: nothing(),
            leaf_bytes: nothing(),
            leaf_frame: nothing(),
            branch: nothing(),
            branch_bytes: nothing(),
            branch_frame: nothing(),
            header: nothing(),
            header_bytes: nothing(),
            body: nothing(),
            body_bytes: nothing(),
            manifest_frame: nothing(),
            record_bytes: nothing(),
            config_bytes: nothing(),
        }
    }
}

fn content() -> Vec<u8> {
    file_bytes(3, PAGE * PAGES)
}

fn edited<T>(mut value: T, edit: &Edit<T>) -> T {
    edit(&mut value);
    value
}

/// Forges a repository with one backup of one file.
fn forge(edits: &Edits) -> MemoryStorage {
    let memory = MemoryStorage::new();
    let config = json!({"format": 1, "repository": DATABASE, "encryption": "none", "created": "2026-11-20T00:00:00Z", "mac": null});
    memory.put(&path("copal.json"), edited(serde_json::to_vec(&config).unwrap(), &edits.config_bytes));
    let header = json!({"format": 1, "database": DATABASE}).to_string();
    let body = json!({"name": "a", "source": "x", "engine": "bytes", "created": "2026-11-20T00:00:00Z"}).to_string();
    let body = edited(body.into_bytes(), &edits.record_bytes);
    memory.put(&path("databases/a/database"), document(header.as_bytes(), &Frame::plain(17, &body).bytes()));

    let id: Vec<u8> = (0..16).map(|i| u8::from_str_radix(&DATABASE[i * 2..i * 2 + 2], 16).unwrap()).collect();
    let mut pack = b"COPALPK1".to_vec();
    let mut number = 0u32;
    let mut push = |frame: &Frame| -> Ref {
        let sealed = seal(&[&id, PACK.as_bytes(), &number.to_le_bytes()].concat(), &frame.bytes());
        pack.extend_from_slice(&(sealed.len() as u32).to_le_bytes());
        let place = (0, number, pack.len() as u32, sealed.len() as u32);
        pack.extend_from_slice(&sealed);
        number += 1;
        place
    };
    let bytes = content();
    let pages = push(&edited(Frame::zstd(1, &bytes), &edits.pages));
    let digests: Vec<[u8; 16]> = bytes.chunks(PAGE).map(digest).collect();
    let leaf = LeafParts {
        first: 0,
        count: PAGES as u32,
        packs: vec![PACK.into()],
        frame_count: 1,
        frames: vec![pages],
        indexes: vec![0; PAGES],
        slots: (0..PAGES as u16).collect(),
        digests: digests.clone(),
    };
    let leaf = edited(edited(leaf, &edits.leaf).bytes(), &edits.leaf_bytes);
    let leaf = push(&edited(Frame::plain(2, &leaf), &edits.leaf_frame));
    let branch = BranchParts { first: 0, count: 1, packs: vec![PACK.into()], leaves: vec![leaf] };
    let branch = edited(edited(branch, &edits.branch).bytes(), &edits.branch_bytes);
    let branch = push(&edited(Frame::plain(3, &branch), &edits.branch_frame));
    let size = pack.len();
    memory.put(&path(format!("databases/a/packs/{PACK}")), pack);

    let mut file = blake3::Hasher::new();
    file.update(&((PAGE * PAGES) as u64).to_le_bytes()).update(&(PAGE as u32).to_le_bytes()).update(&[0; 4]);
    digests.iter().for_each(|d| {
        file.update(d);
    });
    let header = json!({
        "format": 1, "database": DATABASE, "backup": BACKUP, "time": "2026-11-20T15:30:00Z", "predecessor": null,
        "packs": [[PACK, size]], "promise": {"schedule": null, "max_age_seconds": null},
    });
    let body = json!({
        "engine": "bytes", "engine_version": "", "copal_version": "", "host": "", "name": "a", "source": "x",
        "label": null, "captured_at": "2026-11-20T15:30:00Z", "base": null,
        "files": [{
            "name": "main.db", "kind": "pages", "length": PAGE * PAGES, "page_size": PAGE, "head": "",
            "digest": file.finalize().to_hex().to_string(), "branches": [[PACK, branch.1, branch.2, branch.3]],
        }],
        "pack_use": [[PAGE * PAGES, PAGE * PAGES]],
        "logical_bytes": PAGE * PAGES, "added_bytes": size, "stored_bytes": size,
        "inventory": {"facts": {}, "tables": []}, "position": null, "notes": [], "warnings": [],
    });
    let header = serde_json::to_vec(&edited(header, &edits.header)).unwrap();
    let header = edited(header, &edits.header_bytes);
    let body = edited(serde_json::to_vec(&edited(body, &edits.body)).unwrap(), &edits.body_bytes);
    let frame = edited(Frame::plain(16, &body), &edits.manifest_frame).bytes();
    memory.put(&path(format!("databases/a/backups/{BACKUP}")), document(&header, &frame));
    memory
}

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
        ("pages that expand to 1 GiB", pages(|f| f.body = bomb(1 << 30))),
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
            "a leaf that expands to 1 GiB",
            Edits { leaf_frame: on(|f: &mut Frame| (f.compression, f.body) = (1, bomb(1 << 30))), ..Edits::default() },
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
            "a manifest that expands to 1 GiB",
            Edits {
                manifest_frame: on(|f: &mut Frame| (f.compression, f.body) = (1, bomb(1 << 30))),
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
