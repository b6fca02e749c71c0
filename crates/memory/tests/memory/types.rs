//! What rows may be, how structs may change, and the stores of programs that encode for themselves.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use copal_core::EngineErrorKind;
use copal_memory::{
    Blocks, Change, EncodedStore, MemoryEngine, MemoryErrorKind, MemoryStore, Packed, Position, TableDescription,
    TableView, View, ext,
};
use serde::{Deserialize, Serialize, Serializer};

use crate::common;
use crate::common::{delta, full, restore};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Point,
    Circle { radius: f32 },
    Named(String, Option<Box<Shape>>),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Everything {
    floats: Vec<f64>,
    big: (u64, i64),
    text: String,
    shape: Shape,
    map: BTreeMap<i16, Option<char>>,
    unit: (),
}

#[test]
fn values_come_back_to_the_bit() {
    let (engine, store) = (MemoryEngine::new(), MemoryStore::new());
    let _live = engine.register("s", store.clone()).unwrap();
    let table = store.table::<(String, i64), Everything>("t").unwrap();
    let row = Everything {
        floats: vec![-0.0, f64::NAN, f64::INFINITY, f64::MIN_POSITIVE / 4.0, 0.1],
        big: (u64::MAX, i64::MIN),
        text: "päßword \0 \u{10ffff}".repeat(100),
        shape: Shape::Named("x".to_owned(), Some(Box::new(Shape::Circle { radius: 0.1 }))),
        map: [(-1, None), (300, Some('é'))].into(),
        unit: (),
    };
    table.insert((String::new(), -1), row.clone()).unwrap();
    table.insert(("b".to_owned(), 1), Everything { shape: Shape::Point, ..row.clone() }).unwrap();
    let (saved, _) = full(&engine, "s");
    // Into the typed store itself, and into one that learns the types later.
    let later = MemoryStore::new();
    let _later = engine.register("later", later.clone()).unwrap();
    restore(&engine, &saved, "memory:s", true).unwrap();
    restore(&engine, &saved, "memory:later", false).unwrap();
    for table in [table, later.table("t").unwrap()] {
        let found = table.get(&(String::new(), -1)).unwrap();
        let bits = |row: &Everything| row.floats.iter().map(|float| float.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&found), bits(&row));
        assert_eq!(Everything { floats: vec![], ..found }, Everything { floats: vec![], ..row.clone() });
        assert_eq!(table.len(), 2);
    }
    // What nobody gave a type is in the next backup as it came.
    let raw = MemoryStore::new();
    let _raw = engine.register("raw", raw.clone()).unwrap();
    restore(&engine, &saved, "memory:raw", false).unwrap();
    assert_eq!(
        full(&engine, "raw").0.streams.values().map(Vec::len).sum::<usize>(),
        saved.streams.values().map(Vec::len).sum::<usize>()
    );
}

#[test]
fn a_struct_that_gained_a_field_reads_old_rows() {
    #[derive(Clone, Serialize, Deserialize)]
    struct Old {
        name: String,
        gone: u8,
    }
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct New {
        #[serde(default)]
        added: Option<u32>,
        name: String,
    }
    #[derive(Clone, Debug, Serialize, Deserialize)]
    struct Unfit {
        name: String,
        needed: u32,
    }
    let (engine, store) = (MemoryEngine::new(), MemoryStore::new());
    let _live = engine.register("s", store.clone()).unwrap();
    store.table::<u8, Old>("t").unwrap().insert(1, Old { name: "n".to_owned(), gone: 1 }).unwrap();
    let (saved, _) = full(&engine, "s");

    let (new, unfit) = (MemoryStore::new(), MemoryStore::new());
    let (_new, _unfit) =
        (engine.register("new", new.clone()).unwrap(), engine.register("unfit", unfit.clone()).unwrap());
    let table = new.table::<u8, New>("t").unwrap();
    restore(&engine, &saved, "memory:new", false).unwrap();
    assert_eq!(table.get(&1), Some(New { added: None, name: "n".to_owned() }));

    let table = unfit.table::<u8, Unfit>("t").unwrap();
    table.insert(9, Unfit { name: "there".to_owned(), needed: 1 }).unwrap();
    let error = restore(&engine, &saved, "memory:unfit", true).unwrap_err();
    assert_eq!(error.kind, EngineErrorKind::Unsupported, "{error}");
    assert!(table.contains(&9) && table.len() == 1);
    assert_eq!(unfit.table::<u8, New>("t").unwrap_err().kind(), MemoryErrorKind::Mismatch);

    // A table that came before its types is not lost when they do not fit.
    let late = MemoryStore::new();
    let _late = engine.register("late", late.clone()).unwrap();
    restore(&engine, &saved, "memory:late", false).unwrap();
    assert_eq!(late.table::<u8, Unfit>("t").unwrap_err().kind(), MemoryErrorKind::Mismatch);
    assert_eq!(late.table::<u8, New>("t").unwrap().len(), 1);
}

#[test]
fn a_row_that_could_not_be_read_is_not_saved() {
    #[derive(Clone, Deserialize)]
    struct Liar;
    impl Serialize for Liar {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            use serde::ser::SerializeSeq;
            // Says three and gives one.
            let mut items = serializer.serialize_seq(Some(3))?;
            items.serialize_element(&1)?;
            items.end()
        }
    }
    let (engine, store) = (MemoryEngine::new(), MemoryStore::new());
    let _live = engine.register("s", store.clone()).unwrap();
    store.table::<u8, Liar>("t").unwrap().insert(1, Liar).unwrap();
    let mut sink = common::Streams::default();
    let error =
        copal_core::Engine::capture(&engine, &common::source("memory:s"), &mut sink, &copal_core::Context::silent());
    assert!(error.unwrap_err().to_string().contains("table \"t\""));
}

/// Fails to save the store; with its causes.
fn refused(engine: &MemoryEngine) -> String {
    let mut sink = common::Streams::default();
    let error =
        copal_core::Engine::capture(engine, &common::source("memory:s"), &mut sink, &copal_core::Context::silent())
            .unwrap_err();
    assert_eq!(error.kind, EngineErrorKind::Unsupported, "{error}");
    format!("{error}: {error:?}")
}

#[test]
fn a_type_that_cannot_read_what_it_writes_is_not_saved() {
    #[derive(Clone, Serialize, Deserialize)]
    #[serde(into = "u8", from = "String")]
    struct OneWay;
    impl From<OneWay> for u8 {
        fn from(_: OneWay) -> Self {
            1
        }
    }
    impl From<String> for OneWay {
        fn from(_: String) -> Self {
            Self
        }
    }
    let (engine, store) = (MemoryEngine::new(), MemoryStore::new());
    let _live = engine.register("s", store.clone()).unwrap();
    let table = store.table::<u8, OneWay>("t").unwrap();
    let (_, empty) = full(&engine, "s");
    table.insert(1, OneWay).unwrap();
    assert!(refused(&engine).contains("could be saved, but not restored"));
    let since = empty.position.unwrap();
    assert_eq!(delta(&engine, "s", &since).err().unwrap().kind, EngineErrorKind::Unsupported);
}

#[test]
fn keys_that_lose_what_tells_them_apart_are_not_saved() {
    #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
    struct Skipping {
        saved: u8,
        #[serde(skip)]
        lost: u8,
    }
    let (engine, store) = (MemoryEngine::new(), MemoryStore::new());
    let _live = engine.register("s", store.clone()).unwrap();
    let table = store.table::<Skipping, u8>("t").unwrap();
    table.insert(Skipping { saved: 0, lost: 0 }, 0).unwrap();
    table.insert(Skipping { saved: 1, lost: 1 }, 0).unwrap();
    full(&engine, "s");
    table.insert(Skipping { saved: 1, lost: 2 }, 0).unwrap();
    assert!(refused(&engine).contains("have the same bytes"));
    table.clear().unwrap();
    table.insert(Skipping { saved: 1, lost: 1 }, 0).unwrap();
    assert!(refused(&engine).contains("comes back as another one"));
}

#[test]
fn an_index_that_panics_leaves_the_store_as_it_was() {
    let (engine, store) = (MemoryEngine::new(), MemoryStore::new());
    let _live = engine.register("s", store.clone()).unwrap();
    let (first, second) = (store.table::<u8, u8>("a").unwrap(), store.table::<u8, u8>("b").unwrap());
    let is_broken = Arc::new(AtomicBool::new(false));
    let breaks = Arc::clone(&is_broken);
    let twice = first.with_index("twice", |row| row * 2).unwrap();
    let index = second.with_index("index", move |row| {
        assert!(!breaks.load(Ordering::SeqCst), "an index may panic");
        *row
    });
    let index = index.unwrap();
    first.insert(1, 1).unwrap();
    second.insert(1, 1).unwrap();
    let (saved, _) = full(&engine, "s");
    first.upsert(1, 2).unwrap();
    second.upsert(1, 2).unwrap();
    is_broken.store(true, Ordering::SeqCst);
    let restoring = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        restore(&engine, &saved.copy(), "memory:s", true).map(drop)
    }));
    assert!(restoring.is_err());
    assert_eq!((first.get(&1), second.get(&1)), (Some(2), Some(2)), "one table as restored, the other as before");
    assert_eq!((twice.count(&4), twice.count(&2), index.count(&2)), (1, 0, 1));
    is_broken.store(false, Ordering::SeqCst);
    restore(&engine, &saved, "memory:s", true).unwrap();
    assert_eq!((first.get(&1), second.get(&1)), (Some(1), Some(1)));
    assert_eq!((twice.count(&2), index.count(&1), index.count(&2)), (1, 1, 0));
}

#[test]
fn indexes_follow_rows_and_restores() {
    let (engine, store) = (MemoryEngine::new(), MemoryStore::new());
    let _live = engine.register("s", store.clone()).unwrap();
    let users = store.table::<u64, common::User>("users").unwrap();
    users.insert(1, common::user(1)).unwrap();
    let active = users.with_index("active", |user| user.active).unwrap();
    for id in 2..10 {
        users.insert(id, common::user(id)).unwrap();
    }
    assert_eq!((active.count(&true), active.count(&false)), (6, 3));
    let (saved, capture) = full(&engine, "s");
    assert_eq!(users.description().indexes, Packed::of(&["active"]).unwrap());
    users.update(&3, |user| user.active = true).unwrap();
    users.remove(&1).unwrap();
    let ids = |value| active.get(&value).into_iter().map(|(id, _)| id).collect::<Vec<_>>();
    assert_eq!((ids(true), ids(false)), (vec![2, 3, 4, 5, 7, 8], vec![6, 9]));
    let (segment, _) = delta(&engine, "s", &capture.position.unwrap()).unwrap().unwrap();
    restore(&engine, &saved.copy(), "memory:s", true).unwrap();
    assert_eq!((ids(true), ids(false)), (vec![1, 2, 4, 5, 7, 8], vec![3, 6, 9]));
    restore(&engine, &saved.followed_by([&segment]), "memory:s", true).unwrap();
    assert_eq!((ids(true), ids(false)), (vec![2, 3, 4, 5, 7, 8], vec![6, 9]));
    users.clear().unwrap();
    assert_eq!((active.count(&true), active.count(&false)), (0, 0));
}

/// A view with one table whose rows are encoded already.
fn offered(since: Option<Position>, commit: u64, change: Change, rows: &[(u8, &str)], gone: &[u8], count: u64) -> View {
    let mut upserts = Blocks::new();
    for (key, row) in rows {
        upserts.push(1, [Packed::of(key).unwrap().as_bytes(), Packed::of(row).unwrap().as_bytes()].concat());
    }
    let mut deletes = Blocks::new();
    deletes.push(gone.len() as u64, gone.to_vec());
    let description =
        Arc::new(TableDescription { next_key: Packed::of(&commit).unwrap(), ..TableDescription::named("t") });
    View {
        position: Position { epoch: 7, commit },
        since,
        held: Duration::from_micros(1),
        metadata: since.is_none().then(|| Packed::of("m").unwrap()),
        dropped: Vec::new(),
        tables: vec![TableView { description, change, upserts: Arc::new(upserts), deletes: Arc::new(deletes) }],
        counts: [("t".to_owned(), count)].into(),
    }
}

#[test]
fn encoded_views_are_saved_and_come_back_in_their_order() {
    let (engine, store) = (MemoryEngine::new(), EncodedStore::new());
    let _live = engine.register("py", store.clone()).unwrap();
    let nothing = copal_core::Engine::capture(
        &engine,
        &common::source("memory:py"),
        &mut common::Streams::default(),
        &copal_core::Context::silent(),
    );
    assert!(nothing.is_err());
    store.offer(offered(None, 1, Change::Whole, &[(9, "nine"), (1, "one"), (5, "five")], &[], 3));
    let (base, capture) = full(&engine, "py");
    assert_eq!(capture.position.as_deref(), Some("0000000000000007:1"));
    let first = Position { epoch: 7, commit: 1 };
    store.offer(offered(Some(first), 2, Change::Described, &[(3, "three"), (9, "NINE")], &[1], 3));
    assert_eq!(delta(&engine, "py", "0000000000000007:9").map(drop).unwrap_err().kind, EngineErrorKind::Gap);
    let (segment, _) = delta(&engine, "py", "0000000000000007:1").unwrap().unwrap();
    assert_eq!(store.last_saved(), Some(first));

    let content = base.copy().followed_by([&segment]);
    assert_eq!(restore(&engine, &content, "memory:py", false).unwrap_err().kind, EngineErrorKind::Exists);
    assert!(restore(&engine, &content, "memory:py", true).unwrap().replaced);
    let loaded = store.take_loaded().unwrap();
    let table = &loaded.tables["t"];
    let rows: Vec<_> =
        table.iter().map(|(key, row)| (key.to_vec(), rmp_serde::from_slice::<String>(row).unwrap())).collect();
    let expected = [(9, "NINE"), (5, "five"), (3, "three")].map(|(key, row)| (vec![key], row.to_owned()));
    assert_eq!(rows, expected);
    assert_eq!(table.description.next_key.to::<u8>().unwrap(), 2);
    assert_eq!(loaded.metadata.to::<String>().unwrap(), "m");
    assert!(store.take_loaded().is_none());

    // Blocks that are not what they are said to be.
    for (bytes, entries) in
        [(vec![1, 0xc1], 1), (vec![1], 1), (vec![1, 1, 2], 1), (vec![1, 1, 2, 2], 1), (vec![1, 1], 2)]
    {
        let mut view = offered(None, 3, Change::Whole, &[], &[], 1);
        let mut blocks = Blocks::new();
        blocks.push(entries, bytes);
        view.tables[0].upserts = Arc::new(blocks);
        store.offer(view);
        let mut sink = common::Streams::default();
        let saved = copal_core::Engine::capture(
            &engine,
            &common::source("memory:py"),
            &mut sink,
            &copal_core::Context::silent(),
        );
        assert!(saved.is_err());
    }
}

#[test]
fn extension_types_are_kept() {
    let mut row = Vec::new();
    rmp::encode::write_ext_meta(&mut row, 4, ext::DECIMAL).unwrap();
    row.extend_from_slice(b"1.10");
    let packed = Packed::new(row.clone()).unwrap();
    assert_eq!(packed.as_bytes(), row);
    assert!(Packed::new(row[..5].to_vec()).is_err());
    assert_eq!(format!("{packed:?}"), "Packed(6 bytes)");
}
