//! Segments forged for a repository without encryption: every seal is valid, and what is sealed breaks the rules of a journal.
//!
//! Whatever they say, nothing panics, no other chain than the one that is there is given, and no prune hurts what is sound.

use std::sync::Arc;

use bytes::Bytes;
use copal_core::{Context, Follows};
use copal_repository::{Database, Manifest, Repository, RepositoryErrorKind as Kind};
use copal_storage::{MemoryStorage, ObjectPath};
use serde_json::{Value, json};

use crate::common;
use crate::common::forge::{document, path};
use crate::common::journal::*;
use crate::common::{Rig, file_bytes, hasty, keep_last};

const PAGE: usize = 1024;

/// A backup and another with three segments.
struct Made {
    rig: Rig,
    database: Database,
    before: Manifest,
    base: Manifest,
    segments: Vec<ObjectPath>,
    ends: Vec<Follows>,
}

impl Made {
    async fn new() -> Self {
        let rig = Rig::new(false).await;
        let database = rig.database("a").await;
        let before = rig.backup(&database, &file_bytes(1, PAGE * 4), PAGE).await;
        let base = rig.backup(&database, &file_bytes(2, PAGE * 4), PAGE).await;
        let mut ends = vec![base.end()];
        let mut segments = Vec::new();
        for seed in 0..3 {
            let made = append(&rig.repository, &database, ends.last().unwrap(), &content(seed)).await.unwrap();
            segments.push(path(format!("databases/a/journal/{}", made.segment.id())));
            ends.push(made.end);
        }
        Self { rig, database, before, base, segments, ends }
    }

    fn bytes(&self, object: &ObjectPath) -> Bytes {
        self.rig.memory.contents()[object].clone()
    }

    /// A segment with another header, sealed as it must be.
    fn forged(&self, which: usize, edit: impl FnOnce(&mut Value)) -> Vec<u8> {
        let (mut header, frame) = apart(&self.bytes(&self.segments[which]));
        edit(&mut header);
        document(header.to_string().as_bytes(), &frame)
    }
}

fn content(seed: u64) -> Vec<u8> {
    file_bytes(100 + seed, 2000)
}

/// The header of a document without encryption, and its frame.
fn apart(bytes: &[u8]) -> (Value, Vec<u8>) {
    let length = u32::from_le_bytes(bytes[8..12].try_into().unwrap()) as usize;
    let header = serde_json::from_slice(&bytes[12..12 + length]).unwrap();
    (header, bytes[12 + length..bytes.len() - 32].to_vec())
}

/// The body of a segment, and a frame with another one.
fn with_body(frame: &[u8], edit: impl FnOnce(&mut Value)) -> Vec<u8> {
    let body = match frame[1] {
        0 => frame[8..].to_vec(),
        _ => zstd::bulk::decompress(&frame[8..], 1 << 20).unwrap(),
    };
    let mut body: Value = serde_json::from_slice(&body).unwrap();
    edit(&mut body);
    common::forge::Frame::plain(19, body.to_string().as_bytes()).bytes()
}

/// What a case expects of the chain.
#[derive(Clone, Copy, Debug)]
enum Expect {
    /// So many segments come before the damage, which names one of these.
    Broken(usize, &'static [usize]),
    /// The chain is whole and has so many segments.
    Whole(usize),
}

async fn check(made: &Made, what: &str, memory: &MemoryStorage, objects: &[ObjectPath], expect: Expect) {
    let state = tempfile::tempdir().unwrap();
    let repository = Repository::open(Arc::new(memory.clone()), None, hasty(state.path())).await.unwrap();
    let (database, context) = (&made.database, Context::silent());
    let (sound, problems) = repository.sound_journal(database, &made.base).await.unwrap();
    let whole = repository.journal(database, &made.base).await;
    let listed = repository.journal_listing(database).await.unwrap();
    assert!(repository.listing(database).await.is_ok(), "{what}");
    let verified = repository.verify(database, made.base.clone(), &context).await.unwrap();
    let count = match expect {
        Expect::Broken(count, named) => {
            let error = whole.unwrap_err();
            assert!(error.is_damage() || error.kind() == Kind::Unsupported, "{what}: {error:?}");
            let named: Vec<_> = named.iter().map(|i| &objects[*i]).collect();
            assert!(error.object.as_ref().is_some_and(|o| named.contains(&o)), "{what}: {error:?}");
            assert!(!problems.is_empty(), "{what}");
            assert!(verified.iter().any(|d| named.contains(&&d.object)), "{what}: {verified:?}");
            count
        }
        Expect::Whole(count) => {
            assert!(problems.is_empty() && whole.is_ok(), "{what}: {problems:?}");
            count
        }
    };
    assert_eq!(sound.segments.len(), count, "{what}");
    let of_base = listed.journals.get(&made.base.header.backup).map_or(0, Vec::len);
    assert!(of_base >= count, "{what}: {of_base} listed");
    let read = read_segments(&repository, database, &made.base, &sound).await.unwrap();
    for (i, files) in read.into_iter().enumerate() {
        assert!(files.concat() == content(i as u64), "{what}: segment {i} gives other bytes");
    }
    // Nobody appends to a chain that has another end, and what may be appended leaves it as sound as it was.
    match append(&repository, database, &sound.end(), b"next").await {
        Ok(_) => assert!(matches!(expect, Expect::Whole(_)), "{what}: appended to a broken chain"),
        Err(error) => assert!(error.kind() == Kind::Gap, "{what}: {error:?}"),
    }
    // A prune drops the older backup or nothing.
    let before = memory.contents();
    let pruned = repository.prune(database, &keep_last(1), &context).await;
    let after = memory.contents();
    let mut needed: Vec<ObjectPath> = vec![path(format!("databases/a/backups/{}", made.base.header.backup))];
    let packs = made.base.header.packs.iter().chain(sound.segments.iter().flat_map(|s| &s.header.packs));
    needed.extend(packs.map(|(pack, _)| path(format!("databases/a/packs/{pack}"))));
    needed.extend(sound.segments.iter().map(|s| path(format!("databases/a/journal/{}", s.id()))));
    for object in &needed {
        assert_eq!(before.get(object), after.get(object), "{what}: prune took {object}: {pruned:?}");
    }
    if let Err(error) = pruned {
        assert!(error.is_damage() || error.kind() == Kind::Unsupported, "{what}: {error:?}");
        let packs = |all: &std::collections::BTreeMap<ObjectPath, Bytes>| {
            all.keys().filter(|p| p.as_str().contains("/packs/")).cloned().collect::<Vec<_>>()
        };
        assert_eq!(packs(&before), packs(&after), "{what}");
    }
    // A backup always works.
    let bytes = file_bytes(9, PAGE * 3);
    let next = common::backup(&repository, database, &bytes, PAGE).await.unwrap();
    assert!(append(&repository, database, &next.end(), b"its own").await.is_ok(), "{what}");
    assert!(common::restore(&repository, database, next.manifest).await.unwrap() == bytes, "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_headers_break_the_chain_where_they_are() {
    use Expect::{Broken, Whole};
    let made = Made::new().await;
    let backup = made.base.header.backup.to_string();
    let older = made.before.header.backup.to_string();
    let (older_hash, first_hash) = (made.before.end().hash, made.ends[1].hash.clone());
    type Edit = Box<dyn FnOnce(&mut Value)>;
    let field = |name: &'static str, value: Value| -> Edit { Box::new(move |h| h[name] = value) };
    let follows = |name: &'static str, value: Value| -> Edit { Box::new(move |h| h["follows"][name] = value) };
    let packs_of_first = apart(&made.bytes(&made.segments[0])).0["packs"].clone();
    // What is done to the last segment, or to the one in front of it.
    let cases: Vec<(&str, usize, Edit, Expect)> = vec![
        ("as it is", 2, Box::new(|_| {}), Whole(3)),
        ("another number", 2, follows("sequence", 3.into()), Broken(2, &[2])),
        ("the number of the one before it", 2, follows("sequence", 1.into()), Broken(1, &[1, 2])),
        ("the number of the first", 2, follows("sequence", 0.into()), Broken(0, &[0, 1, 2])),
        ("the last number", 2, follows("sequence", ((1_u64 << 40) - 1).into()), Broken(2, &[2])),
        ("a number too large", 2, follows("sequence", (1_u64 << 40).into()), Broken(2, &[2])),
        ("the largest number", 2, follows("sequence", u64::MAX.into()), Broken(2, &[2])),
        ("a negative number", 2, follows("sequence", (-1).into()), Broken(2, &[2])),
        ("a broken number", 2, follows("sequence", json!(2.5)), Broken(2, &[2])),
        ("a number beyond numbers", 2, follows("sequence", json!(1e300)), Broken(2, &[2])),
        ("no number", 2, follows("sequence", Value::Null), Broken(2, &[2])),
        ("the hash of something else", 2, follows("hash", first_hash.into()), Broken(2, &[2])),
        ("no hash", 2, follows("hash", "".into()), Broken(2, &[2])),
        ("a hash of zeros", 2, follows("hash", "0".repeat(64).into()), Broken(2, &[2])),
        (
            "a hash in capitals",
            2,
            Box::new(|h| {
                h["follows"]["hash"] = h["follows"]["hash"].as_str().unwrap().to_uppercase().into();
            }),
            Broken(2, &[2]),
        ),
        ("earlier than the one before it", 2, field("time", "2001-01-01T00:00:00Z".into()), Broken(2, &[2])),
        ("no time", 2, field("time", "yesterday".into()), Broken(2, &[2])),
        // Whoever may write may say that it was later; what follows is then earlier.
        ("in a hundred years", 2, field("time", "2126-01-01T00:00:00Z".into()), Whole(3)),
        ("the base is no backup", 2, follows("base", "20010101-000000Z-0000".into()), Whole(2)),
        ("the base is later", 2, follows("base", "20990101-000000Z-0000".into()), Broken(2, &[2])),
        ("the base is no id", 2, follows("base", "../x".into()), Broken(2, &[2])),
        (
            "the base is an older backup",
            2,
            Box::new(move |h| {
                h["follows"] = json!({"base": older, "sequence": 0, "hash": older_hash});
            }),
            Whole(2),
        ),
        ("follows nothing", 2, field("follows", Value::Null), Broken(2, &[2])),
        ("another id", 2, field("segment", "20010101-000000Z-0000".into()), Broken(2, &[2])),
        ("its base's id", 2, field("segment", backup.into()), Broken(2, &[2])),
        ("another database", 2, field("database", "0".repeat(32).into()), Broken(2, &[2])),
        ("the next version", 2, field("format", 2.into()), Broken(2, &[2])),
        ("packs of another segment", 2, field("packs", packs_of_first), Broken(2, &[2])),
        ("no packs", 2, field("packs", json!([])), Broken(2, &[2])),
        (
            "packs twice",
            2,
            Box::new(|h| {
                let pack = h["packs"][0].clone();
                h["packs"].as_array_mut().unwrap().push(pack);
            }),
            Broken(2, &[2]),
        ),
        ("a pack that is a path", 2, Box::new(|h| h["packs"][0][0] = "../../x".into()), Broken(2, &[2])),
        ("a pack of 16 EiB", 2, Box::new(|h| h["packs"][0][1] = u64::MAX.into()), Broken(2, &[2])),
        ("unknown keys", 2, field("unknown", json!([{}])), Whole(3)),
        // Then the one behind it does not fit any more.
        ("a changed one in the middle", 1, field("unknown", 1.into()), Broken(2, &[2])),
        ("a fork in the middle", 1, follows("sequence", 2.into()), Broken(1, &[1, 2])),
    ];
    for (what, which, edit, expect) in cases {
        let memory = made.rig.memory.fork();
        memory.put(&made.segments[which], made.forged(which, edit));
        // A version to come is refused as such, which is no damage.
        if what == "the next version" {
            let state = tempfile::tempdir().unwrap();
            let repository = Repository::open(Arc::new(memory.clone()), None, hasty(state.path())).await.unwrap();
            let error = repository.journal(&made.database, &made.base).await.unwrap_err();
            assert_eq!(error.kind(), Kind::Unsupported, "{error:?}");
            continue;
        }
        check(&made, what, &memory, &made.segments, expect).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_segments_with_one_number_neither_is_given() {
    let made = Made::new().await;
    for which in 0..3 {
        // Behind all others, and right behind the one that it repeats.
        for id in ["20990101-000000Z-0000".to_owned(), format!("{}z", made.segments[which].file_name())] {
            let id = match id.strip_suffix('z') {
                None => id,
                Some(own) => {
                    let last = u16::from_str_radix(&own[own.len() - 4..], 16).unwrap();
                    let Some(next) = last.checked_add(1) else { continue };
                    format!("{}{next:04x}", &own[..own.len() - 4])
                }
            };
            let fork = path(format!("databases/a/journal/{id}"));
            if made.segments.contains(&fork) {
                continue;
            }
            let memory = made.rig.memory.fork();
            memory.put(&fork, made.forged(which, |h| h["segment"] = id.clone().into()));
            let objects = [&made.segments[..], &[fork]].concat();
            let named: [&'static [usize]; 3] = [&[0, 3], &[1, 3], &[2, 3]];
            check(&made, &format!("fork {id} of {which}"), &memory, &objects, Expect::Broken(which, named[which]))
                .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_bodies_are_refused_or_give_what_their_digests_say() {
    let made = Made::new().await;
    let last = &made.segments[2];
    let (header, frame) = apart(&made.bytes(last));
    type Edit = Box<dyn FnOnce(&mut Value)>;
    let cases: Vec<(&str, Edit)> = vec![
        (
            "pages in a segment",
            Box::new(|b| {
                let file = json!({"name": "main.db", "kind": "pages", "length": 0, "page_size": 512, "head": "", "digest": "0".repeat(64), "branches": []});
                b["files"].as_array_mut().unwrap().push(file);
            }),
        ),
        (
            "one name twice",
            Box::new(|b| {
                let file = b["files"][0].clone();
                b["files"].as_array_mut().unwrap().push(file);
            }),
        ),
        ("an unsafe name", Box::new(|b| b["files"][0]["name"] = "../../x".into())),
        ("no files", Box::new(|b| b["files"] = Value::Null)),
        ("a stream without branches", Box::new(|b| b["files"][0]["branches"] = json!([]))),
        ("an empty stream with branches", Box::new(|b| b["files"][0]["length"] = 0.into())),
        ("no use of packs", Box::new(|b| b["pack_use"] = json!([]))),
    ];
    for (what, edit) in cases {
        let memory = made.rig.memory.fork();
        memory.put(last, document(header.to_string().as_bytes(), &with_body(&frame, edit)));
        let state = tempfile::tempdir().unwrap();
        let repository = Repository::open(Arc::new(memory.clone()), None, hasty(state.path())).await.unwrap();
        let found = repository.journal(&made.database, &made.base).await;
        let Ok(journal) = found else {
            check(&made, what, &memory, &made.segments, Expect::Broken(2, &[2])).await;
            continue;
        };
        let error = read_segments(&repository, &made.database, &made.base, &journal).await.unwrap_err();
        assert!(error.is_damage() && error.object.is_some(), "{what}: {error:?}");
    }
    // A segment may name bytes of another one's pack, which stays as long as anybody needs it.
    let (first, _) = apart(&made.bytes(&made.segments[0]));
    let (_, first_frame) = apart(&made.bytes(&made.segments[0]));
    let mut shared = header.clone();
    shared["packs"] = first["packs"].clone();
    let memory = made.rig.memory.fork();
    memory.put(last, document(shared.to_string().as_bytes(), &first_frame));
    let state = tempfile::tempdir().unwrap();
    let repository = Repository::open(Arc::new(memory.clone()), None, hasty(state.path())).await.unwrap();
    repository.prune(&made.database, &keep_last(1), &Context::silent()).await.unwrap();
    let read = read_journal(&repository, &made.database, &made.base).await.unwrap();
    assert_eq!(read.concat(), [content(0), content(1), content(0)]);
    // A pack that is not there is missed by whoever reads, and by verify.
    let mut missing = header;
    missing["packs"][0][0] = "20261120-153000Z-7f3a-0-0123456789abcdef".into();
    memory.put(last, document(missing.to_string().as_bytes(), &frame));
    let damaged = repository.verify(&made.database, made.base.clone(), &Context::silent()).await.unwrap();
    assert!(!damaged.is_empty());
}
