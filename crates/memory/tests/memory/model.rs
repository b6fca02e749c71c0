//! Random work with fulls, segments, failures and restores, beside plain maps.

use std::collections::BTreeMap;

use copal_core::{Context, Engine, EngineErrorKind, Inventory, Journal, RestoreRequest};
use copal_memory::{MemoryEngine, MemoryStore, Packed, Store, Table};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use crate::common::{Saved, Streams, delta, full, restore, source};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Row {
    count: u32,
    text: String,
}

#[derive(Clone, Debug)]
enum Work {
    Upsert {
        table: u8,
        key: u16,
        count: u32,
    },
    Many {
        table: u8,
        from: u16,
    },
    Update {
        table: u8,
        key: u16,
    },
    Remove {
        table: u8,
        key: u16,
    },
    Clear {
        table: u8,
    },
    Drop {
        table: u8,
    },
    Describe {
        table: u8,
        next: u32,
    },
    Metadata(u32),
    Full,
    Delta,
    FailedFull {
        room: usize,
    },
    FailedDelta {
        room: usize,
    },
    /// Back to one of the states that are saved.
    Restore {
        point: usize,
    },
}

fn work() -> impl Strategy<Value = Work> {
    let table = 0_u8..3;
    prop_oneof![
        6 => (table.clone(), 0_u16..40, any::<u32>()).prop_map(|(table, key, count)| Work::Upsert { table, key, count }),
        1 => (table.clone(), 0_u16..3_000).prop_map(|(table, from)| Work::Many { table, from }),
        3 => (table.clone(), 0_u16..40).prop_map(|(table, key)| Work::Update { table, key }),
        3 => (table.clone(), 0_u16..40).prop_map(|(table, key)| Work::Remove { table, key }),
        1 => table.clone().prop_map(|table| Work::Clear { table }),
        1 => table.clone().prop_map(|table| Work::Drop { table }),
        1 => (table, any::<u32>()).prop_map(|(table, next)| Work::Describe { table, next }),
        1 => any::<u32>().prop_map(Work::Metadata),
        2 => Just(Work::Full),
        5 => Just(Work::Delta),
        1 => (0_usize..200).prop_map(|room| Work::FailedFull { room }),
        2 => (0_usize..90).prop_map(|room| Work::FailedDelta { room }),
        1 => any::<usize>().prop_map(|point| Work::Restore { point }),
    ]
}

/// The next key and the rows of a table.
type Content = (u32, BTreeMap<u16, Row>);

/// What should be there.
#[derive(Clone, Debug, Default, PartialEq)]
struct State {
    tables: BTreeMap<String, Content>,
    metadata: u32,
}

/// A saved state: a full, and some segments behind it.
struct Point {
    full: usize,
    segments: Vec<usize>,
    state: State,
    inventory: Inventory,
}

struct Trial {
    engine: MemoryEngine,
    store: MemoryStore,
    state: State,
    saved: Vec<Saved>,
    points: Vec<Point>,
    /// The last state that was saved from the store as it is now, and its point.
    position: Option<(String, usize)>,
}

fn table_of(store: &MemoryStore, name: &str) -> Table<u16, Row> {
    store.table(name).unwrap()
}

fn row(count: u32) -> Row {
    Row { count, text: "x".repeat(count as usize % 40) }
}

/// What is in a store.
fn read(store: &MemoryStore) -> State {
    let mut state =
        State { metadata: store.metadata::<Option<u32>>().unwrap().unwrap_or_default(), ..State::default() };
    for name in store.tables() {
        let table = table_of(store, &name);
        let next = table.description().next_key.to::<Option<u32>>().unwrap().unwrap_or_default();
        let rows = table.snapshot().iter().map(|(key, row)| (*key, row.clone())).collect();
        state.tables.insert(name, (next, rows));
    }
    state
}

impl Trial {
    fn rows(&mut self, table: u8) -> (Table<u16, Row>, &mut Content) {
        // Names that are nothing to rely on.
        let name = ["users", "../päßword s\n", "users/x"][usize::from(table)].to_owned();
        (table_of(&self.store, &name), self.state.tables.entry(name).or_default())
    }

    fn content(&self, point: usize) -> Saved {
        let Point { full, segments, .. } = &self.points[point];
        self.saved[*full].copy().followed_by(segments.iter().map(|at| &self.saved[*at])).in_pieces(1 + point * 37)
    }

    fn keep(&mut self, saved: Saved, capture: copal_core::Capture, segment: Option<usize>) {
        self.saved.push(saved);
        let at = self.saved.len() - 1;
        let (full, segments) = match segment {
            None => (at, Vec::new()),
            Some(before) => {
                let before = &self.points[before];
                (before.full, before.segments.iter().copied().chain([at]).collect())
            }
        };
        self.points.push(Point { full, segments, state: self.state.clone(), inventory: capture.inventory });
        self.position = Some((capture.position.unwrap(), self.points.len() - 1));
    }

    fn step(&mut self, work: Work) {
        match work {
            Work::Upsert { table, key, count } => {
                let (table, (_, rows)) = self.rows(table);
                assert_eq!(table.upsert(key, row(count)).unwrap(), rows.insert(key, row(count)));
            }
            Work::Many { table, from } => {
                let (table, (_, rows)) = self.rows(table);
                for key in from..from + 1_500 {
                    table.upsert(key, row(u32::from(key))).unwrap();
                    rows.insert(key, row(u32::from(key)));
                }
            }
            Work::Update { table, key } => {
                let (table, (_, rows)) = self.rows(table);
                let changed = table.update(&key, |row| row.count = row.count.wrapping_add(1)).unwrap();
                assert_eq!(changed, rows.get_mut(&key).map(|row| row.count = row.count.wrapping_add(1)));
            }
            Work::Remove { table, key } => {
                let (table, (_, rows)) = self.rows(table);
                assert_eq!(table.remove(&key).unwrap(), rows.remove(&key));
            }
            Work::Clear { table } => {
                let (table, (_, rows)) = self.rows(table);
                table.clear().unwrap();
                rows.clear();
            }
            Work::Drop { table } => {
                let (table, _) = self.rows(table);
                assert!(self.store.drop_table(table.name()));
                self.state.tables.remove(table.name());
                assert!(table.upsert(1, row(1)).is_err(), "dropped");
            }
            Work::Describe { table, next } => {
                let (table, (known, _)) = self.rows(table);
                table.describe(|description| description.next_key = Packed::of(&next).unwrap()).unwrap();
                *known = next;
            }
            Work::Metadata(metadata) => {
                self.store.set_metadata(&metadata).unwrap();
                self.state.metadata = metadata;
            }
            Work::Full => {
                let (saved, capture) = full(&self.engine, "live");
                self.keep(saved, capture, None);
            }
            Work::Delta => match self.position.clone() {
                None => self.step(Work::Full),
                Some((position, before)) => match delta(&self.engine, "live", &position).unwrap() {
                    Some((saved, capture)) => self.keep(saved, capture, Some(before)),
                    None => assert_eq!(self.points[before].state, self.state, "nothing happened"),
                },
            },
            Work::FailedFull { room } => {
                let mut sink = Streams::with_room(room);
                // It may have room enough, and then nobody hears of it.
                let _ = self.engine.capture(&source("memory:live"), &mut sink, &Context::silent());
            }
            Work::FailedDelta { room } => {
                if let Some((position, _)) = &self.position {
                    let mut sink = Streams::with_room(room);
                    let _ = self.engine.capture_since(&source("memory:live"), position, &mut sink, &Context::silent());
                }
            }
            Work::Restore { point } => {
                if self.points.is_empty() {
                    return;
                }
                let point = point % self.points.len();
                restore(&self.engine, &self.content(point), "memory:live", true).unwrap();
                // Tables that the program has opened stay, without rows.
                let before = std::mem::replace(&mut self.state, self.points[point].state.clone());
                for (name, (next, _)) in before.tables {
                    self.state.tables.entry(name).or_insert((next, BTreeMap::new()));
                }
                if let Some((position, _)) = self.position.take() {
                    let gap = delta(&self.engine, "live", &position).map(drop).unwrap_err();
                    assert_eq!(gap.kind, EngineErrorKind::Gap, "{gap}");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn every_saved_state_comes_back(steps in prop::collection::vec(work(), 1..70)) {
        let engine = MemoryEngine::new();
        let store = MemoryStore::new();
        let _live = engine.register("live", store.clone()).unwrap();
        let (saved, points) = (Vec::new(), Vec::new());
        let mut trial = Trial { engine, store, state: State::default(), saved, points, position: None };
        for step in steps {
            trial.step(step);
            prop_assert_eq!(&read(&trial.store), &trial.state);
        }
        trial.step(Work::Delta);
        for (number, point) in trial.points.iter().enumerate() {
            let target = MemoryStore::new();
            let _target = trial.engine.register("target", target.clone()).unwrap();
            let expected = Some(point.inventory.clone());
            let request = RestoreRequest { expected, ..RestoreRequest::new(source("memory:target")) };
            trial.engine.restore(&trial.content(number), &request, &Context::silent()).unwrap();
            let counts: BTreeMap<_, _> = point.state.tables.iter().map(|(name, (_, rows))| (name.clone(), rows.len() as u64)).collect();
            prop_assert_eq!(target.count(true).unwrap(), counts, "as it came");
            prop_assert_eq!(&read(&target), &point.state);
        }
    }
}
