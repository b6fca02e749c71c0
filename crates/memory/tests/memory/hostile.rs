//! Streams that are not what was written: never a panic, and never half of them in a store.

use std::collections::BTreeMap;

use copal_core::EngineErrorKind;
use copal_memory::{MemoryEngine, MemoryStore};
use proptest::prelude::*;

use crate::common::{Saved, delta, full, restore};

type Rows = BTreeMap<u32, (String, Option<f64>)>;

/// A full and a segment with every command.
fn saved() -> (Saved, Saved) {
    let (engine, store) = (MemoryEngine::new(), MemoryStore::new());
    let _live = engine.register("s", store.clone()).unwrap();
    store.set_metadata("of the store").unwrap();
    let [kept, gone] = ["kept", "gone"].map(|name| store.table::<u32, (String, Option<f64>)>(name).unwrap());
    for key in 0..12 {
        kept.insert(key, (format!("row {key}"), Some(f64::from(key)))).unwrap();
        gone.insert(key, (String::new(), None)).unwrap();
    }
    let (base, capture) = full(&engine, "s");
    store.drop_table("gone");
    store.table::<u32, String>("new").unwrap().insert(1, "first".to_owned()).unwrap();
    kept.upsert(3, ("other".to_owned(), None)).unwrap();
    kept.remove(&4).unwrap();
    kept.describe(|description| description.metadata = copal_memory::Packed::of(&[1, 2]).unwrap()).unwrap();
    store.set_metadata("anew").unwrap();
    let (segment, _) = delta(&engine, "s", &capture.position.unwrap()).unwrap().unwrap();
    (base, segment)
}

/// A store with content that no damaged backup may touch.
struct Target {
    engine: MemoryEngine,
    store: MemoryStore,
    _registration: copal_memory::Registration,
}

impl Target {
    fn new() -> Self {
        let (engine, store) = (MemoryEngine::new(), MemoryStore::new());
        let _registration = engine.register("target", store.clone()).unwrap();
        let kept = store.table::<u32, (String, Option<f64>)>("kept").unwrap();
        kept.insert(77, ("what is there".to_owned(), None)).unwrap();
        Self { engine, store, _registration }
    }

    fn rows(&self) -> Rows {
        let table = self.store.table::<u32, (String, Option<f64>)>("kept").unwrap();
        table.snapshot().iter().map(|(key, row)| (*key, row.clone())).collect()
    }

    /// Whether it restored; if not, nothing was touched.
    fn takes(&self, base: &Saved, segments: &[&Saved]) -> bool {
        let before = (self.rows(), self.store.tables());
        let content = base.copy().followed_by(segments.iter().copied());
        let restored = restore(&self.engine, &content, "memory:target", true);
        if let Err(error) = &restored {
            assert_eq!((self.rows(), self.store.tables()), before, "{error}");
            let known = [EngineErrorKind::Corrupt, EngineErrorKind::Unsupported, EngineErrorKind::Repository];
            assert!(known.contains(&error.kind), "{error:?}");
        }
        restored.is_ok()
    }
}

/// The same with other bytes in one stream.
fn with(saved: &Saved, stream: &str, bytes: Vec<u8>) -> Saved {
    let mut streams = saved.streams.clone();
    streams.insert(stream.to_owned(), bytes);
    Saved::new(streams)
}

#[test]
fn whole_streams_are_taken_in_pieces_of_any_length() {
    let (base, segment) = saved();
    for piece in [1, 2, 3, 7, 64, 100_000] {
        let target = Target::new();
        assert!(target.takes(&base.copy().in_pieces(piece), &[&segment.copy().in_pieces(piece)]));
        assert_eq!(target.rows().len(), 11);
        assert_eq!(target.store.tables(), ["kept", "new"]);
        assert_eq!(target.store.metadata::<String>().unwrap(), "anew");
    }
}

#[test]
fn a_stream_cut_off_anywhere_is_refused() {
    let (base, segment) = saved();
    let target = Target::new();
    for (stream, bytes) in &base.streams {
        for length in 0..bytes.len() {
            assert!(!target.takes(&with(&base, stream, bytes[..length].to_vec()), &[&segment]), "{stream} at {length}");
        }
        assert!(!target.takes(&with(&base, stream, [bytes.as_slice(), &[0xc0]].concat()), &[]), "more behind {stream}");
    }
    let bytes = &segment.streams["changes"];
    for length in 0..bytes.len() {
        assert!(!target.takes(&base, &[&with(&segment, "changes", bytes[..length].to_vec())]), "at {length}");
    }
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let (base, segment) = saved();
    let target = Target::new();
    assert!(!target.takes(&base, &[&segment, &segment]), "a table is dropped twice");
    assert!(!target.takes(&segment, &[]));
    assert!(!target.takes(&base, &[&base]));
    let rows = base.streams["rows/0"].clone();
    assert!(!target.takes(&with(&base, "rows/1", rows.clone()), &[]), "rows of another table");
    assert!(!target.takes(&with(&base, "rows/2", rows), &[]), "a stream that nobody names");
    for stream in base.streams.keys() {
        let mut streams = base.streams.clone();
        streams.remove(stream);
        assert!(!target.takes(&Saved::new(streams), &[]), "without {stream}");
    }
    let newer = base.streams["tables"].iter().copied();
    // Behind the array's head, the text's head and "copal-memory".
    let newer: Vec<u8> = newer.enumerate().map(|(at, byte)| if at == 14 { byte + 1 } else { byte }).collect();
    let content = with(&base, "tables", newer);
    let error = restore(&target.engine, &content, "memory:target", true).unwrap_err();
    assert_eq!(error.kind, EngineErrorKind::Unsupported, "{error}");
}

#[test]
fn counts_that_nobody_can_have_are_refused() {
    let target = Target::new();
    let text = |text: &str| [vec![0xa0 | text.len() as u8], text.as_bytes().to_vec()].concat();
    let stream =
        |kind: &str, body: &[u8]| [vec![0x93], text("copal-memory"), vec![1], text(kind), body.to_vec()].concat();
    let table = [vec![0x93], text("table"), vec![0x81], text("name"), text("t"), text("rows/0")].concat();
    let end = [vec![0x92], text("end"), vec![0x81], text("t"), vec![0]].concat();
    let tables = stream("tables", &[table, end.clone()].concat());
    let try_rows = |rows: Vec<u8>| {
        let streams = [("tables".to_owned(), tables.clone()), ("rows/0".to_owned(), stream("rows", &rows))];
        target.takes(&Saved::new(streams), &[])
    };
    let rows = |count: &[u8]| [vec![0x93], text("rows"), text("t"), count.to_vec()].concat();
    assert!(try_rows([rows(&[0]), end.clone()].concat()));
    assert!(!try_rows([rows(&[0xcf, 255, 255, 255, 255, 255, 255, 255, 255]), end.clone()].concat()));
    assert!(!try_rows([rows(&[1]), vec![1], vec![0xdf, 255, 255, 255, 255], end.clone()].concat()));
    assert!(!try_rows([rows(&[2]), vec![1, 1, 1, 2], end.clone()].concat()), "a key twice");
    assert!(!try_rows([rows(&[1]), vec![1, 1], end].concat()), "more than the tables say");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn changed_bytes_do_no_harm(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0_u8..3), 1..4),
    ) {
        let (base, segment) = saved();
        let target = Target::new();
        let names: Vec<&String> = base.streams.keys().chain(segment.streams.keys()).collect();
        let name = names[which.index(names.len())];
        let mut bytes = base.streams.get(name).or(segment.streams.get(name)).unwrap().clone();
        for (at, byte, how) in changes {
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
        }
        match name.as_str() {
            "changes" => target.takes(&base, &[&with(&segment, name, bytes)]),
            _ => target.takes(&with(&base, name, bytes), &[&segment]),
        };
    }
}
