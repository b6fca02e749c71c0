//! The engine's own rules, and archives for people.

use std::path::Path;

use copal_core::{CheckLevel, Context, Engine, EngineErrorKind, Inventory, RestoreRequest, TableCount};
use copal_memory::{Blocks, Change, EncodedStore, MemoryEngine, MemoryStore, Packed, Position, Store, ext};

use crate::common;
use crate::common::{delta, full, restore, source, user};

fn lines(file: &Path) -> Vec<serde_json::Value> {
    std::fs::read_to_string(file).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_store_is_found_while_it_is_registered() {
    let (engine, store) = (MemoryEngine::new(), MemoryStore::new());
    let registration = engine.clone().register("sessions", store.clone()).unwrap();
    assert!(engine.register("sessions", MemoryStore::new()).is_err());
    assert!(engine.register("", MemoryStore::new()).is_err());
    let identity = engine.identify(&source("memory:sessions")).unwrap();
    assert_eq!((identity.canonical.as_str(), identity.short_name.as_str()), ("memory:sessions", "sessions"));
    assert_eq!(engine.identify(&source("memory://sessions")).unwrap(), identity);
    assert_eq!(engine.identify(&source("./sessions")).unwrap_err().kind, EngineErrorKind::NotThisEngine);
    store.table::<u8, u8>("t").unwrap().insert(1, 1).unwrap();
    let inventory = engine.inventory(&source("memory:sessions"), &Context::silent()).unwrap();
    assert_eq!(inventory.tables, [TableCount { name: "t".to_owned(), rows: Some(1) }]);
    drop(registration);
    let error = engine.identify(&source("memory:sessions")).unwrap_err();
    assert_eq!(error.kind, EngineErrorKind::NotFound);
    assert!(error.hint.unwrap().contains("registers"));
}

#[test]
fn a_restore_touches_nothing_before_all_is_right() {
    let (engine, store) = (MemoryEngine::new(), MemoryStore::new());
    let _live = engine.register("s", store.clone()).unwrap();
    let table = store.table::<u64, common::User>("users").unwrap();
    for id in 0..5_000 {
        table.insert(id, user(id)).unwrap();
    }
    let (saved, capture) = full(&engine, "s");
    table.clear().unwrap();
    table.insert(1, user(1)).unwrap();
    assert_eq!(restore(&engine, &saved, "memory:s", false).unwrap_err().kind, EngineErrorKind::Exists);
    let mut request = RestoreRequest { replace: true, ..RestoreRequest::new(source("memory:s")) };
    let mut other: Inventory = capture.inventory.clone();
    other.tables[0].rows = Some(5_001);
    request.expected = Some(other);
    let wrong = engine.restore(&saved, &request, &Context::silent()).unwrap_err();
    assert_eq!(wrong.kind, EngineErrorKind::Corrupt);
    request.expected = Some(capture.inventory);
    let cancelled = Context::silent();
    cancelled.cancel.cancel();
    assert_eq!(engine.restore(&saved, &request, &cancelled).unwrap_err().kind, EngineErrorKind::Cancelled);
    assert!(
        engine
            .restore(&saved, &RestoreRequest { dry_run: true, ..request.clone() }, &Context::silent())
            .unwrap()
            .replaced
    );
    let keep = RestoreRequest { keep_old: true, ..request.clone() };
    assert_eq!(engine.restore(&saved, &keep, &Context::silent()).unwrap_err().kind, EngineErrorKind::Unsupported);
    assert_eq!(table.len(), 1);
    assert!(engine.restore(&saved, &request, &Context::silent()).unwrap().replaced);
    assert_eq!(table.len(), 5_000);
    assert!(engine.check(&source("memory:s"), CheckLevel::Full, &Context::silent()).unwrap().problems.is_empty());
}

#[test]
fn a_drill_decodes_everything_and_leaves_nothing() {
    let (engine, store) = (MemoryEngine::new(), MemoryStore::new());
    let live = engine.register("s", store.clone()).unwrap();
    let table = store.table::<u64, common::User>("users").unwrap();
    table.insert(1, user(1)).unwrap();
    let (saved, capture) = full(&engine, "s");
    table.insert(2, user(2)).unwrap();
    let (segment, after) = delta(&engine, "s", &capture.position.unwrap()).unwrap().unwrap();
    drop(live);
    let scratch = engine.scratch(&source("memory:s"), Path::new("/nowhere")).unwrap();
    let target = scratch.source.reveal();
    restore(&engine, &saved.followed_by([&segment]), &target, false).unwrap();
    assert_eq!(engine.inventory(&scratch.source, &Context::silent()).unwrap(), after.inventory);
    let report = engine.check(&scratch.source, CheckLevel::Full, &Context::silent()).unwrap();
    assert!(report.problems.is_empty() && !report.ran.is_empty());
    (scratch.discard)().unwrap();
    assert_eq!(engine.identify(&scratch.source).unwrap_err().kind, EngineErrorKind::NotFound);
}

#[test]
fn archives_are_for_people() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, store) = (MemoryEngine::new(), MemoryStore::new());
    let _live = engine.register("s", store.clone()).unwrap();
    for name in ["../users", "Users", "users", "", "COM1", "a\0b", &"é".repeat(300)] {
        store.table::<u64, common::User>(name).unwrap().insert(7, user(7)).unwrap();
    }
    store.set_metadata(&[("made", 1)]).unwrap();
    let (saved, capture) = full(&engine, "s");
    let users = store.table::<u64, common::User>("users").unwrap();
    users.update(&7, |user| user.score = f64::NAN).unwrap();
    let (segment, _) = delta(&engine, "s", &capture.position.unwrap()).unwrap().unwrap();
    let content = saved.followed_by([&segment]);
    let path = folder.path().join("archive");
    let target = format!("file:{}", path.display());
    // Nothing needs to be registered for this.
    let elsewhere = MemoryEngine::new();
    assert!(!restore(&elsewhere, &content, &target, false).unwrap().replaced);
    let tables: serde_json::Value = serde_json::from_slice(&std::fs::read(path.join("tables.json")).unwrap()).unwrap();
    assert_eq!(tables["tables"].as_array().unwrap().len(), 7);
    for table in tables["tables"].as_array().unwrap() {
        let file = table["file"].as_str().unwrap();
        assert!(file.len() < 60 && file.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)), "{file}");
        let rows = lines(&path.join(file));
        assert_eq!(rows.len() as u64, table["rows"].as_u64().unwrap());
        assert_eq!(rows[0]["key"], 7);
        assert_eq!(rows[0]["row"]["name"], "user 0000007");
        let score = if table["name"] == "users" { serde_json::json!({"$float": "nan"}) } else { (7.0 / 3.0).into() };
        assert_eq!(rows[0]["row"]["score"], score);
    }
    // Not over another one without being told so, and never over what is none.
    assert_eq!(restore(&elsewhere, &content, &target, false).unwrap_err().kind, EngineErrorKind::Exists);
    assert!(restore(&elsewhere, &content, &target, true).unwrap().replaced);
    std::fs::remove_file(path.join("tables.json")).unwrap();
    assert_eq!(restore(&elsewhere, &content, &target, true).unwrap_err().kind, EngineErrorKind::Exists);
    std::fs::remove_dir_all(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    restore(&elsewhere, &content, &target, false).unwrap();
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["archive"], "nothing stays beside it");
    let nowhere = format!("file:{}", folder.path().join("no/such/archive").display());
    assert!(restore(&elsewhere, &content, &nowhere, false).is_err());
}

#[test]
fn archives_have_all_types() {
    let extension = |kind: i8, payload: &[u8]| {
        let mut out = Vec::new();
        rmp::encode::write_ext_meta(&mut out, payload.len() as u32, kind).unwrap();
        [out, payload.to_vec()].concat()
    };
    let packed = |value: &dyn Fn() -> Packed| value().as_bytes().to_vec();
    let array = packed(&|| Packed::of(&(1, "a")).unwrap());
    let cases: Vec<(Vec<u8>, serde_json::Value)> = vec![
        (vec![0xc0], serde_json::json!(null)),
        (packed(&|| Packed::of(&u64::MAX).unwrap()), u64::MAX.into()),
        (packed(&|| Packed::of(&i64::MIN).unwrap()), i64::MIN.into()),
        (packed(&|| Packed::of(&f64::NEG_INFINITY).unwrap()), serde_json::json!({"$float": "-inf"})),
        (vec![0xc4, 2, 0, 255], serde_json::json!({"$bytes": "00ff"})),
        (vec![0x81, 1, 2], serde_json::json!({"$map": [[1, 2]]})),
        (vec![0x81, 0xa2, b'$', b'x', 2], serde_json::json!({"$map": [["$x", 2]]})),
        (vec![0x82, 0xa1, b'x', 2, 0xa1, b'x', 3], serde_json::json!({"$map": [["x", 2], ["x", 3]]})),
        (extension(ext::INTEGER, &[0, 0, 0, 0, 0, 0, 0, 0, 1]), serde_json::json!({"$int": "0x10000000000000000"})),
        (extension(ext::DECIMAL, b"1.10"), serde_json::json!({"$decimal": "1.10"})),
        (extension(ext::TUPLE, &array), serde_json::json!({"$tuple": [1, "a"]})),
        (extension(ext::SET, &extension(ext::FROZENSET, &[0x90])), serde_json::json!({"$set": {"$frozenset": []}})),
        (extension(ext::UUID, &[1; 16]), serde_json::json!({"$uuid": "01010101-0101-0101-0101-010101010101"})),
        (extension(ext::COMPLEX, &[0; 16]), serde_json::json!({"$complex": [0.0, 0.0]})),
        (extension(ext::SURROGATES, &[0xed, 0xa0, 0x80]), serde_json::json!({"$surrogates": "eda080"})),
        (extension(ext::TUPLE, &[0xc1]), serde_json::json!({"$ext": 8, "data": "c1"})),
        (extension(99, b"x"), serde_json::json!({"$ext": 99, "data": "78"})),
        (extension(-1, &[0, 0, 0, 1]), serde_json::json!({"$ext": -1, "data": "00000001"})),
    ];
    let (engine, store) = (MemoryEngine::new(), EncodedStore::new());
    let _live = engine.register("s", store.clone()).unwrap();
    let mut rows = Blocks::new();
    for (key, (value, _)) in cases.iter().enumerate() {
        rows.push(1, [&[key as u8], value.as_slice()].concat());
    }
    store.offer(copal_memory::View {
        position: Position { epoch: 1, commit: 1 },
        since: None,
        held: std::time::Duration::ZERO,
        metadata: None,
        dropped: Vec::new(),
        tables: vec![copal_memory::TableView {
            description: std::sync::Arc::new(copal_memory::TableDescription::named("t")),
            change: Change::Whole,
            upserts: std::sync::Arc::new(rows),
            deletes: std::sync::Arc::new(Blocks::new()),
        }],
        counts: [("t".to_owned(), cases.len() as u64)].into(),
    });
    let (saved, _) = full(&engine, "s");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("archive");
    restore(&engine, &saved, &format!("file:{}", path.display()), false).unwrap();
    for (line, (_, expected)) in lines(&path.join("001-t.jsonl")).iter().zip(&cases) {
        assert_eq!(&line["row"], expected);
    }
    let raw = MemoryStore::new();
    let _raw = engine.register("raw", raw.clone()).unwrap();
    restore(&engine, &saved, "memory:raw", false).unwrap();
    assert_eq!(raw.count(true).unwrap()["t"], cases.len() as u64);
}
