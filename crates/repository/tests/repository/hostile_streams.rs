//! A hostile writer of streams, every seal valid; and damage of what an honest one wrote.

use std::sync::Arc;

use copal_core::{BackupId, Context, FolderName};
use copal_repository::{Repository, RepositoryError, WriteOptions};
use copal_storage::MemoryStorage;
use serde_json::{Value, json};

use crate::common::forge::*;
use crate::common::streams::*;
use crate::common::{Rig, file_bytes, hasty};

const CHUNK: usize = 1000;
const CHUNKS: usize = 8;

#[derive(Clone, Copy)]
struct ChunkParts {
    frame: u32,
    start: u32,
    length: u32,
    digest: [u8; 16],
}

#[derive(Clone)]
struct StreamLeafParts {
    first: u64,
    count: u32,
    packs: Vec<String>,
    frame_count: u32,
    frames: Vec<Ref>,
    chunks: Vec<ChunkParts>,
}

impl StreamLeafParts {
    fn bytes(&self) -> Vec<u8> {
        let mut out = self.first.to_le_bytes().to_vec();
        out.extend_from_slice(&self.count.to_le_bytes());
        put_packs(&mut out, &self.packs);
        out.extend_from_slice(&self.frame_count.to_le_bytes());
        put_refs(&mut out, &self.frames);
        for c in &self.chunks {
            for n in [c.frame, c.start, c.length] {
                out.extend_from_slice(&n.to_le_bytes());
            }
            out.extend_from_slice(&c.digest);
        }
        out
    }
}

/// All that a case may change, in the order in which it is sealed: two leaves of four chunks lie under one branch.
enum Change {
    None,
    Content(fn(&mut Frame)),
    Leaf(fn(&mut StreamLeafParts)),
    SecondLeaf(fn(&mut StreamLeafParts)),
    LeafFrame(fn(&mut Frame)),
    Branch(fn(&mut BranchParts)),
    File(fn(&mut Value)),
}

fn stream_content() -> Vec<u8> {
    file_bytes(4, CHUNK * CHUNKS)
}

fn forge_stream(change: &Change) -> MemoryStorage {
    let memory = forge(&Edits::default());
    let mut pack = ForgedPack::default();
    let mut push = |frame: &Frame| pack.push(frame);
    let bytes = stream_content();
    let mut frame = Frame::zstd(4, &bytes);
    if let Change::Content(edit) = change {
        edit(&mut frame);
    }
    let frame = push(&frame);
    let chunk = |i: usize, c: &[u8]| ChunkParts {
        frame: 0,
        start: (i * CHUNK) as u32,
        length: c.len() as u32,
        digest: digest(c),
    };
    let chunks: Vec<_> = bytes.chunks(CHUNK).enumerate().map(|(i, c)| chunk(i, c)).collect();
    let mut leaves = Vec::new();
    for (i, chunks) in chunks.chunks(4).enumerate() {
        let mut leaf = StreamLeafParts {
            first: (i * 4) as u64,
            count: 4,
            packs: vec![PACK.into()],
            frame_count: 1,
            frames: vec![frame],
            chunks: chunks.to_vec(),
        };
        match change {
            Change::Leaf(edit) if i == 0 => edit(&mut leaf),
            Change::SecondLeaf(edit) if i == 1 => edit(&mut leaf),
            _ => {}
        }
        let mut leaf = Frame::plain(5, &leaf.bytes());
        if let Change::LeafFrame(edit) = change {
            edit(&mut leaf);
        }
        leaves.push(push(&leaf));
    }
    let mut branch = BranchParts { first: 0, count: 2, packs: vec![PACK.into()], leaves };
    if let Change::Branch(edit) = change {
        edit(&mut branch);
    }
    let branch = push(&Frame::plain(3, &branch.bytes()));
    let size = pack.bytes.len();
    memory.put(&path(format!("databases/a/packs/{PACK}")), pack.bytes);
    let mut file = json!({
        "name": "dump", "kind": "stream", "length": bytes.len(), "digest": blake3::hash(&bytes).to_hex().to_string(),
        "branches": [[PACK, branch.1, branch.2, branch.3]],
    });
    if let Change::File(edit) = change {
        edit(&mut file);
    }
    let header = json!({
        "format": 1, "database": DATABASE, "backup": BACKUP, "time": "2026-11-20T15:30:00Z", "predecessor": null,
        "packs": [[PACK, size]], "promise": {"schedule": null, "max_age_seconds": null},
    });
    let body = json!({
        "engine": "bytes", "engine_version": "", "copal_version": "", "host": "", "name": "a", "source": "x",
        "label": null, "captured_at": "2026-11-20T15:30:00Z", "base": null, "files": [file],
        "pack_use": [[bytes.len(), bytes.len()]], "logical_bytes": bytes.len(), "added_bytes": size,
        "stored_bytes": size, "inventory": {"facts": {}, "tables": []}, "position": null, "notes": [], "warnings": [],
    });
    let frame = Frame::plain(16, &serde_json::to_vec(&body).unwrap()).bytes();
    let header = serde_json::to_vec(&header).unwrap();
    memory.put(&path(format!("databases/a/backups/{BACKUP}")), document(&header, &frame));
    memory
}

/// Reads the stream both ways, verifies it and makes the next backup on top of it, which must give its own bytes.
async fn read_all(memory: &MemoryStorage) -> Result<Vec<u8>, RepositoryError> {
    let state = tempfile::tempdir().unwrap();
    let repository = Repository::open(Arc::new(memory.clone()), None, hasty(state.path())).await?;
    let database = repository.database(&"a".parse::<FolderName>().unwrap()).await?.unwrap();
    repository.listing(&database).await?;
    let id: BackupId = BACKUP.parse().unwrap();
    let read = match repository.manifest(&database, &id).await {
        Err(error) => Err(error),
        Ok(manifest) => {
            let read = read_stream(&repository, &database, &manifest, "dump").await;
            let damaged = repository.verify(&database, manifest, &Context::silent()).await?;
            assert_eq!(damaged.is_empty(), read.is_ok(), "{damaged:?}");
            read
        }
    };
    let mut bytes = stream_content();
    bytes[0] ^= 1;
    let next = backup_pushed(&repository, &database, &WriteOptions::default(), streams(&[("dump", &bytes)])).await?;
    match read_stream(&repository, &database, &next, "dump").await {
        Ok(found) => assert!(found == bytes, "the next backup gave other bytes"),
        Err(error) => assert!(error.is_damage() && read.is_err(), "{error}"),
    }
    read
}

#[tokio::test(flavor = "multi_thread")]
async fn sealed_nonsense_is_refused() {
    assert_eq!(read_all(&forge_stream(&Change::None)).await.unwrap(), stream_content());
    let cases: Vec<(&str, Change)> = vec![
        ("a stream that is longer than its chunks", Change::File(|f| f["length"] = 8001.into())),
        ("a stream that is shorter than its chunks", Change::File(|f| f["length"] = 7999.into())),
        ("a stream of 16 EiB", Change::File(|f| f["length"] = u64::MAX.into())),
        ("a stream of nothing with chunks", Change::File(|f| f["length"] = 0.into())),
        ("another digest", Change::File(|f| f["digest"] = "0".repeat(64).into())),
        ("no branches", Change::File(|f| f["branches"] = json!([]))),
        ("a branch twice", Change::File(|f| f["branches"] = json!([f["branches"][0], f["branches"][0]]))),
        ("a million branches", Change::File(|f| f["branches"] = vec![f["branches"][0].clone(); 1_000_000].into())),
        ("an unsafe name", Change::File(|f| f["name"] = "../dump".into())),
        ("a leaf with another number", Change::Leaf(|l| l.first = 1)),
        ("a leaf at the end of all numbers", Change::SecondLeaf(|l| l.first = u64::MAX)),
        ("a leaf that overlaps", Change::SecondLeaf(|l| l.first = 3)),
        ("a leaf of no chunks", Change::Leaf(|l| l.count = 0)),
        ("a leaf of none, honestly", Change::Leaf(|l| (l.count, l.chunks) = (0, Vec::new()))),
        ("a leaf of 4,097 chunks", Change::Leaf(|l| (l.count, l.chunks) = (4097, vec![l.chunks[0]; 4097]))),
        ("a leaf of 4 Gi chunks", Change::Leaf(|l| l.count = u32::MAX)),
        ("a leaf of 4 Gi frames", Change::Leaf(|l| l.frame_count = u32::MAX)),
        ("a leaf of more chunks than the stream", Change::Leaf(|l| (l.count, l.chunks) = (400, l.chunks.repeat(100)))),
        ("a leaf without packs", Change::Leaf(|l| l.packs.clear())),
        ("a leaf with a pack that is a path", Change::Leaf(|l| l.packs[0] = "../../etc/passwd".into())),
        ("an absent pack", Change::Leaf(|l| l.packs[0] = "20261120-153000Z-7f3a-1-0123456789abcdef".into())),
        ("an absent frame", Change::Leaf(|l| l.frames[0].1 = 9)),
        ("a frame outside of its pack", Change::Leaf(|l| l.frames[0].2 = 31 << 20)),
        ("a frame of 4 GiB", Change::Leaf(|l| l.frames[0].3 = u32::MAX)),
        ("a frame that is a leaf", Change::SecondLeaf(|l| l.frames[0].1 = 1)),
        ("a chunk in no frame", Change::Leaf(|l| l.chunks[1].frame = 1)),
        ("a chunk outside of its frame", Change::SecondLeaf(|l| l.chunks[3].start += 1)),
        ("a chunk far outside of its frame", Change::Leaf(|l| l.chunks[3].start = u32::MAX)),
        ("a chunk of no bytes", Change::Leaf(|l| l.chunks[0].length = 0)),
        ("a chunk of 4 GiB", Change::Leaf(|l| l.chunks[0].length = u32::MAX)),
        ("a chunk of 4 MiB", Change::Leaf(|l| (l.chunks[0].start, l.chunks[0].length) = (0, 4 << 20))),
        ("another chunk's digest", Change::Leaf(|l| l.chunks[0].digest = l.chunks[1].digest)),
        ("two chunks exchanged", Change::Leaf(|l| l.chunks.swap(0, 1))),
        ("the second leaf missing", Change::Branch(|b| (b.count, b.leaves) = (1, b.leaves[..1].to_vec()))),
        ("the same leaf twice", Change::Branch(|b| b.leaves[1] = b.leaves[0])),
        ("leaves exchanged", Change::Branch(|b| b.leaves.swap(0, 1))),
        ("a branch of 4,096 leaves", Change::Branch(|b| b.count = 4096)),
        ("a branch with another number", Change::Branch(|b| b.first = 4096)),
        ("content as a leaf", Change::Branch(|b| b.leaves[0].1 = 0)),
        ("other content", Change::Content(|f| *f = Frame::zstd(4, &vec![0; CHUNK * CHUNKS]))),
        ("less content", Change::Content(|f| *f = Frame::zstd(4, &stream_content()[..CHUNK * 7]))),
        ("pages as content", Change::Content(|f| f.kind = 1)),
        ("content that claims 4 GiB", Change::Content(|f| f.raw_length = u32::MAX)),
        (
            "content that expands to 64 MiB",
            Change::Content(|f| f.body = zstd::bulk::compress(&vec![0; 64 << 20], 3).unwrap()),
        ),
        ("a leaf of pages", Change::LeafFrame(|f| f.kind = 2)),
        ("a leaf that is cut off", Change::LeafFrame(|f| *f = Frame::plain(5, &f.body[..f.body.len() - 1]))),
        ("a leaf with a byte more", Change::LeafFrame(|f| *f = Frame::plain(5, &[f.body.as_slice(), &[0]].concat()))),
    ];
    for (what, change) in cases {
        match read_all(&forge_stream(&change)).await {
            Ok(_) => panic!("{what}: restored"),
            Err(error) => {
                assert!(error.is_damage(), "{what}: {error:?}");
                assert!(error.object.is_some(), "{what}: {error:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_names_the_object_and_nothing_of_it_comes_out() {
    for encrypted in [true, false] {
        let rig = Rig::new(encrypted).await;
        let database = rig.database("a").await;
        let bytes = file_bytes(1, 24 << 20);
        let options = WriteOptions::default();
        let push = || streams(&[("dump", &bytes)]);
        let made = backup_pushed(&rig.repository, &database, &options, push()).await.unwrap();
        let packs: Vec<_> =
            rig.memory.contents().into_iter().filter(|(path, _)| path.as_str().contains("/packs/")).collect();
        assert!(packs.len() >= 2);
        for (object, content) in packs {
            for at in [content.len() / 5, content.len() - 100] {
                let mut hurt = content.to_vec();
                hurt[at] ^= 1;
                rig.memory.put(&object, hurt);
                let error = read_stream(&rig.repository, &database, &made, "dump").await.unwrap_err();
                assert!(error.is_damage() && error.object.as_ref() == Some(&object), "{error:?}");
                assert!(error.database.is_some() && error.backup.as_ref() == Some(&made.header.backup));
                let damaged = rig.repository.verify(&database, made.clone(), &Context::silent()).await.unwrap();
                assert_eq!(damaged.iter().map(|d| &d.object).collect::<Vec<_>>(), [&object]);
                // Nothing is shared with what was found damaged.
                let next = backup_pushed(&rig.repository, &database, &options, push()).await.unwrap();
                assert!(read_stream(&rig.repository, &database, &next, "dump").await.unwrap() == bytes);
                rig.memory.put(&object, content.to_vec());
            }
        }
    }
}
