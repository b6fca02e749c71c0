//! Streams go in through the sink and come back byte for byte; what was stored before is not stored again.

use std::time::Duration;

use copal_core::{Content, Context, Sink};
use copal_repository::{BackupSink, Database, Manifest, WriteOptions};
use copal_storage::Method;
use copal_storage::fault::{Action, Fault};

use crate::common;
use crate::common::streams::*;
use crate::common::{Rig, file_bytes};

const MIB: usize = 1 << 20;

async fn backup(rig: &Rig, database: &Database, contents: &[(&str, &[u8])]) -> Manifest {
    backup_pushed(&rig.repository, database, &WriteOptions::default(), streams(contents)).await.unwrap()
}

async fn read(rig: &Rig, database: &Database, manifest: &Manifest, name: &str) -> Vec<u8> {
    read_stream(&rig.repository, database, manifest, name).await.unwrap()
}

async fn require_sound(rig: &Rig, database: &Database, manifest: &Manifest) {
    let damaged = rig.repository.verify(database, manifest.clone(), &Context::silent()).await.unwrap();
    assert!(damaged.is_empty(), "{damaged:?}");
}

/// Many lines that differ a little, like a dump.
fn lines(length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 64);
    for n in 0u64.. {
        if bytes.len() >= length {
            break;
        }
        bytes.extend_from_slice(format!("{n}\tcustomer {}\t{}\n", n % 977, n.wrapping_mul(2_654_435_761)).as_bytes());
    }
    bytes.truncate(length);
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_every_size_come_back_and_unchanged_ones_add_nothing() {
    for encrypted in [true, false] {
        let rig = Rig::new(encrypted).await;
        let contents = [
            ("nothing", vec![]),
            ("byte", vec![7]),
            ("chunk", file_bytes(1, 64 << 10)),
            ("ten", file_bytes(2, 10 * MIB)),
            ("forty", file_bytes(3, 40 * MIB)),
            ("zeros", vec![0; 40 * MIB]),
            ("lines", lines(20 * MIB)),
        ];
        for (name, bytes) in &contents {
            let database = rig.database(name).await;
            let first = backup(&rig, &database, &[(name, bytes)]).await;
            assert_eq!(first.body.logical_bytes, bytes.len() as u64);
            assert!(read(&rig, &database, &first, name).await == *bytes, "{name}");
            let second = backup(&rig, &database, &[(name, bytes)]).await;
            assert_eq!(second.body.added_bytes, 0, "{name}: nothing changed");
            assert!(read(&rig, &database, &second, name).await == *bytes, "{name}");
            require_sound(&rig, &database, &second).await;
        }
        let zeros = rig.repository.database(&"zeros".parse().unwrap()).await.unwrap().unwrap();
        rig.repository.listing(&zeros).await.unwrap();
        let again = backup(&rig, &zeros, &[("zeros", &contents[5].1)]).await;
        assert!(again.body.stored_bytes < 100_000, "{}", again.body.stored_bytes);
        assert!(again.body.pack_use.iter().all(|u| u.used_bytes <= u.total_bytes), "{:?}", again.body.pack_use);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn little_is_stored_again_after_a_change() {
    let rig = Rig::new(true).await;
    let database = rig.database("a").await;
    let mut bytes = file_bytes(1, 40 * MIB);
    let first = backup(&rig, &database, &[("dump", &bytes)]).await;
    bytes.splice(20 * MIB..20 * MIB, *b"a line more");
    for is_forgotten in [false, true] {
        if is_forgotten {
            rig.forget();
        }
        bytes.splice(10 * MIB..10 * MIB, *b"another");
        let second = backup(&rig, &database, &[("dump", &bytes)]).await;
        let added = second.body.added_bytes;
        assert!(added > 0 && added * 50 < 2 * first.body.added_bytes, "{added}");
        assert!(read(&rig, &database, &second, "dump").await == bytes);
        require_sound(&rig, &database, &second).await;
    }
    // Under another name, and cut in two, too.
    let (one, two) = bytes.split_at(15 * MIB);
    let third = backup(&rig, &database, &[("one", one), ("two", two)]).await;
    assert!(third.body.added_bytes * 20 < first.body.added_bytes, "{}", third.body.added_bytes);
    assert!(read(&rig, &database, &third, "one").await == one && read(&rig, &database, &third, "two").await == two);
    // The oldest goes, what is shared with it stays.
    rig.repository.prune(&database, &common::keep_last(1), &Context::silent()).await.unwrap();
    assert!(read(&rig, &database, &third, "two").await == two);
    require_sound(&rig, &database, &third).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_and_page_files_are_written_side_by_side() {
    let rig = Rig::new(true).await;
    let database = rig.database("a").await;
    let (one, two, pages) = (lines(9 * MIB), file_bytes(2, 5 * MIB), file_bytes(3, 3 * MIB));
    for round in 0..2 {
        let (first, second, third) = (one.clone(), two.clone(), pages.clone());
        let push: Push = Box::new(move |sink: &mut BackupSink| {
            let given_up = sink.begin_stream("one")?;
            sink.append(given_up, &first)?;
            sink.append(given_up, b"and then it broke")?;
            sink.withdraw(given_up)?;
            let (a, b) = (sink.begin_stream("one")?, sink.begin_stream("two/of them")?);
            for (x, y) in first.chunks(90_000).zip(second.chunks(50_000).map(Some).chain(std::iter::repeat(None))) {
                sink.append(a, x)?;
                if let Some(y) = y {
                    sink.append(b, y)?;
                }
            }
            push_pages(sink, "main.db", &third)?;
            sink.finish_stream(b)?;
            sink.finish_stream(a)
        });
        let made = backup_pushed(&rig.repository, &database, &WriteOptions::default(), push).await.unwrap();
        assert!(read(&rig, &database, &made, "one").await == one, "{round}");
        assert!(read(&rig, &database, &made, "two/of them").await == two, "{round}");
        assert!(made.body.files.len() == 3 && made.body.logical_bytes == 17 << 20);
        if round == 1 {
            assert!(made.body.added_bytes < 2 << 20, "{}", made.body.added_bytes);
        }
        require_sound(&rig, &database, &made).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_calls_make_the_same_frames() {
    let bytes = [file_bytes(5, 6 * MIB), lines(6 * MIB)].concat();
    let mut sizes = Vec::new();
    for (part, workers) in [(100_000, 1), (4096, 4), (5 * MIB, 2)] {
        let rig = Rig::new(false).await;
        let database = rig.database("a").await;
        let content = bytes.clone();
        let push: Push = Box::new(move |sink: &mut BackupSink| push_stream(sink, "dump", &content, part));
        let options = WriteOptions { workers: Some(workers), ..WriteOptions::default() };
        let made = backup_pushed(&rig.repository, &database, &options, push).await.unwrap();
        let copal_core::FileEntry::Stream { digest, branches, .. } = made.body.files[0].clone() else { panic!() };
        assert_eq!(digest, *blake3::hash(&bytes).as_bytes());
        sizes.push((made.body.added_bytes, branches[0].frame));
    }
    // The list of chunks names packs by random ids, and compresses to a few bytes more or less.
    assert!(sizes.iter().all(|s| s.0.abs_diff(sizes[0].0) < 64 && s.1 == sizes[0].1), "{sizes:?}");
}

type Misuse = fn(&mut BackupSink) -> Result<(), copal_core::AnyError>;

#[tokio::test(flavor = "multi_thread")]
async fn misuse_is_refused() {
    let rig = Rig::new(false).await;
    let database = rig.database("a").await;
    let cases: [Misuse; 6] = [
        |sink| sink.begin_stream("").map(drop),
        |sink| sink.begin_stream("../x").map(drop),
        |sink| sink.begin_stream("a").and_then(|_| sink.begin_stream("a")).map(drop),
        |sink| push_stream(sink, "a", b"x", 1).and_then(|()| push_stream(sink, "a", b"x", 1)),
        |sink| sink.append(copal_core::FileHandle(9), b"x"),
        |sink| sink.finish_stream(copal_core::FileHandle(9)),
    ];
    for case in cases {
        backup_pushed(&rig.repository, &database, &WriteOptions::default(), Box::new(case)).await.unwrap_err();
    }
    let push: Push = Box::new(|sink: &mut BackupSink| sink.begin_stream("a").map(drop));
    backup_pushed(&rig.repository, &database, &WriteOptions::default(), push).await.unwrap_err();
}

/// Takes some bytes and then no more.
struct Full(usize);

impl std::io::Write for Full {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 = self.0.checked_sub(bytes.len()).ok_or_else(|| std::io::Error::other("the reader has had enough"))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_the_target_is_the_cause() {
    let rig = Rig::new(false).await;
    let database = rig.database("a").await;
    let push: Push = Box::new(|sink: &mut BackupSink| {
        push_stream(sink, "dump", &file_bytes(1, 30 * MIB), MIB)?;
        push_pages(sink, "pages", &[1; 8192])
    });
    let made = backup_pushed(&rig.repository, &database, &WriteOptions::default(), push).await.unwrap();
    let content = rig.repository.content(&database, made);
    tokio::task::spawn_blocking(move || {
        let error = content.write_stream("dump", &mut Full(5 * MIB), &Context::silent()).unwrap_err();
        let cause = error.source().unwrap().downcast_ref::<std::io::Error>().unwrap();
        assert_eq!(cause.to_string(), "the reader has had enough");
        for name in ["pages", "nothing"] {
            content.write_stream(name, &mut Full(5 * MIB), &Context::silent()).unwrap_err();
        }
    })
    .await
    .unwrap();
}

/// What comes of a stream and is not stored yet lies in memory, so there must not be more of it the longer it takes.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_storage_holds_the_engine_back() {
    const PACK: usize = 16 << 20;
    let (storage, repository, _state) = common::with_faults().await;
    let database = common::database(&repository, "a").await;
    let options = WriteOptions { level: None, uploads: 1, workers: Some(2), ..WriteOptions::default() };
    let known = file_bytes(0, 8 * MIB);
    backup_pushed(&repository, &database, &options, streams(&[("dump", &known)])).await.unwrap();
    storage.plan(Fault::from(1, Action::Delay(Duration::from_millis(500))).on(Method::Create));
    // All new, and new bytes between known ones.
    for is_mixed in [false, true] {
        let (session, mut sink) = repository.begin_backup(&database, &options, &Context::silent()).await.unwrap();
        let before = storage.count(Method::Create);
        let (calls, known) = (storage.clone(), known.clone());
        let (ahead, sink) = tokio::task::spawn_blocking(move || {
            let stream = sink.begin_stream("dump").unwrap();
            let (mut ahead, mut new) = (0, 0usize);
            for number in 0..64 {
                if is_mixed {
                    sink.append(stream, &known[2 * MIB..4 * MIB]).unwrap();
                }
                sink.append(stream, &file_bytes(number + 100 + u64::from(is_mixed) * 100, MIB)).unwrap();
                new += MIB;
                let begun = calls.count(Method::Create) - before;
                ahead = ahead.max(new.saturating_sub(begun * PACK));
            }
            (ahead, sink)
        })
        .await
        .unwrap();
        session.abandon(Some(sink)).await;
        // One pack that is full and waits, runs of up to 2 MiB between the engine and the packs, and what is not cut yet.
        assert!(ahead <= PACK + 22 * MIB, "{} MiB wait", ahead / MIB);
    }
}
