//! Views while others write: consistent, and nobody waits for them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use copal_core::{Context, Engine, EngineErrorKind};
use copal_memory::{MemoryEngine, MemoryStore, Store, Table};

use crate::common;
use crate::common::{Saved, Streams, delta, full, restore, source, user};

fn sum(store: &MemoryStore) -> i64 {
    let [left, right] = ["left", "right"].map(|name| store.table::<u32, i64>(name).unwrap());
    [left, right].iter().map(|table| table.snapshot().iter().map(|(_, amount)| *amount).sum::<i64>()).sum()
}

#[test]
fn what_is_done_atomically_is_seen_whole_in_every_full_and_segment() {
    let (engine, store) = (MemoryEngine::new(), MemoryStore::new());
    let _live = engine.register("bank", store.clone()).unwrap();
    let [left, right] = ["left", "right"].map(|name| store.table::<u32, i64>(name).unwrap());
    for account in 0..3_000 {
        left.insert(account, 100).unwrap();
        right.insert(account, 100).unwrap();
    }
    let stop = AtomicBool::new(false);
    let mut states: Vec<(usize, Vec<Saved>)> = Vec::new();
    let mut fulls: Vec<Saved> = Vec::new();
    std::thread::scope(|scope| {
        for thread in 0..3_u32 {
            let (store, left, right, stop) = (&store, &left, &right, &stop);
            scope.spawn(move || {
                let mut at = thread;
                while !stop.load(Ordering::SeqCst) {
                    at = (at * 7 + 1) % 3_000;
                    store.atomically(|| {
                        left.update(&at, |amount| *amount -= 1).unwrap();
                        right.update(&(2_999 - at), |amount| *amount += 1).unwrap();
                    });
                }
            });
        }
        for _ in 0..4 {
            let (saved, capture) = full(&engine, "bank");
            fulls.push(saved);
            let (mut segments, mut position) = (Vec::new(), capture.position.unwrap());
            for _ in 0..6 {
                if let Some((segment, capture)) = delta(&engine, "bank", &position).unwrap() {
                    segments.push(segment);
                    position = capture.position.unwrap();
                }
                states.push((fulls.len() - 1, segments.iter().map(Saved::copy).collect()));
            }
        }
        stop.store(true, Ordering::SeqCst);
    });
    assert_eq!(sum(&store), 600_000);
    for (full, segments) in states {
        let target = MemoryStore::new();
        let _target = engine.register("target", target.clone()).unwrap();
        restore(&engine, &fulls[full].copy().followed_by(&segments), "memory:target", false).unwrap();
        assert_eq!(sum(&target), 600_000);
    }
}

#[test]
fn writers_go_on_while_a_view_is_read() {
    let (engine, store) = (MemoryEngine::new(), MemoryStore::new());
    let _live = engine.register("users", store.clone()).unwrap();
    let users: Table<u64, _> = store.table("users").unwrap();
    for id in 0..40_000 {
        users.insert(id, user(id)).unwrap();
    }
    // The sink takes nothing before another thread has changed, added and removed rows of every leaf.
    let (begin, begun) = channel::<()>();
    let (done, is_done) = channel::<()>();
    let writer = users.clone();
    let thread = std::thread::spawn(move || {
        begun.recv().unwrap();
        for id in (0..40_000).step_by(100) {
            writer.update(&id, |user| user.name.clear()).unwrap();
            writer.remove(&(id + 1)).unwrap();
            writer.insert(1_000_000 + id, user(id)).unwrap();
        }
        done.send(()).unwrap();
    });
    let mut is_first = true;
    let mut sink = Streams::default();
    sink.before = Some(Box::new(move || {
        if std::mem::take(&mut is_first) {
            begin.send(()).unwrap();
            is_done.recv_timeout(Duration::from_secs(120)).expect("the writer was not held up");
        }
    }));
    let capture = engine.capture(&source("memory:users"), &mut sink, &Context::silent()).unwrap();
    thread.join().unwrap();
    let target = MemoryStore::new();
    let _target = engine.register("target", target.clone()).unwrap();
    restore(&engine, &sink.saved(), "memory:target", false).unwrap();
    let restored = target.table::<u64, common::User>("users").unwrap().snapshot();
    assert!(restored.iter().map(|(_, user)| user.clone()).eq((0..40_000).map(user)), "what was there when it began");

    let (segment, after) = delta(&engine, "users", &capture.position.unwrap()).unwrap().unwrap();
    assert_eq!(after.inventory.tables[0].rows, Some(40_000));
    assert!(segment.streams["changes"].len() < 150_000, "1,200 changes, not 40,000 rows");
    assert!(engine.last_held("users").unwrap() < Duration::from_secs(5));
}

#[test]
fn changes_are_told_until_they_are_saved() {
    let (engine, store) = (MemoryEngine::new(), MemoryStore::new());
    let _live = engine.register("s", store.clone()).unwrap();
    let table = store.table::<String, u8>("t").unwrap();
    table.insert("a".to_owned(), 1).unwrap();
    let (base, capture) = full(&engine, "s");
    let start = capture.position.unwrap();
    table.upsert("b".to_owned(), 2).unwrap();
    let (_, lost) = delta(&engine, "s", &start).unwrap().unwrap();
    table.remove("a").unwrap();
    let (segment, second) = delta(&engine, "s", &start).unwrap().unwrap();
    let target = MemoryStore::new();
    let _target = engine.register("target", target.clone()).unwrap();
    restore(&engine, &base.followed_by([&segment]), "memory:target", false).unwrap();
    assert_eq!(target.table::<String, u8>("t").unwrap().snapshot().iter().count(), 1);
    assert_eq!(target.table::<String, u8>("t").unwrap().get("b"), Some(2));

    // The second was saved, so what lies before it is forgotten, and the first attempt with it.
    let second = second.position.unwrap();
    assert!(delta(&engine, "s", &second).unwrap().is_none());
    for unknown in
        [start, lost.position.unwrap(), "0000000000000001:1".to_owned(), "nonsense".to_owned(), String::new()]
    {
        let gap = delta(&engine, "s", &unknown).map(drop).unwrap_err();
        assert_eq!(gap.kind, EngineErrorKind::Gap, "{unknown}");
        assert!(gap.hint.is_some());
    }
    table.upsert("c".to_owned(), 3).unwrap();
    assert!(delta(&engine, "s", &second).unwrap().is_some(), "what failed changed nothing");
}

#[test]
fn what_is_remembered_is_bounded() {
    let store = MemoryStore::new();
    let table = store.table::<u32, u8>("t").unwrap();
    let position = store.view(None).unwrap().unwrap().position;
    for key in 0..70_000 {
        table.insert(key, 1).unwrap();
        table.remove(&key).unwrap();
    }
    table.insert(7, 7).unwrap();
    let view = store.view(Some(position)).unwrap().unwrap();
    assert_eq!(view.tables[0].change, copal_memory::Change::Whole);
    assert_eq!((view.tables[0].upserts.count(), view.tables[0].deletes.count()), (1, 0));
    // Views that nobody follows are forgotten, oldest first.
    for _ in 0..40 {
        store.view(None).unwrap();
    }
    assert!(store.view(Some(view.position)).is_err());
}

#[test]
fn a_panic_in_a_change_changes_nothing() {
    let store = MemoryStore::new();
    let table = store.table::<u32, Vec<u8>>("t").unwrap();
    let by_length = table.with_index("length", Vec::len).unwrap();
    table.insert(1, vec![1]).unwrap();
    let held = table.clone();
    let panicked = std::thread::spawn(move || {
        held.update(&1, |row| {
            row.push(2);
            panic!("in the middle");
        })
    });
    assert!(panicked.join().is_err());
    assert_eq!(table.get(&1), Some(vec![1]));
    assert_eq!((by_length.count(&1), by_length.count(&2)), (1, 0));
    let panicked = std::thread::spawn({
        let store = store.clone();
        move || store.atomically(|| panic!("alone"))
    });
    assert!(panicked.join().is_err());
    table.upsert(1, vec![]).unwrap();
    assert_eq!(by_length.get(&0), [(1, vec![])]);
}
