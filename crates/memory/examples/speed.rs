//! Measures what views, fulls and segments of a large table cost: `cargo run --release -p copal-memory --example speed [ROWS]`.
#![allow(clippy::print_stdout, reason = "a measurement is printed")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use copal_core::{AnyError, Context, Engine, FileHandle, Journal, PageFileSpec, Sink, Source};
use copal_memory::{MemoryEngine, MemoryStore};
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize)]
struct User {
    id: u64,
    name: String,
    email: String,
    score: f64,
    active: bool,
}

fn user(id: u64) -> User {
    let (name, email) = (format!("user {id:07}"), format!("user{id:07}@example.com"));
    User { id, name, email, score: id as f64 / 3.0, active: !id.is_multiple_of(3) }
}

/// Counts and forgets.
#[derive(Default)]
struct Nowhere(u64);

impl Sink for Nowhere {
    fn begin(&mut self, _: &PageFileSpec) -> Result<FileHandle, AnyError> {
        Err("no pages".into())
    }

    fn pages(&mut self, _: FileHandle, _: u64, _: &[u8]) -> Result<(), AnyError> {
        Err("no pages".into())
    }

    fn finish(&mut self, _: FileHandle, _: u64, _: &[u8]) -> Result<(), AnyError> {
        Err("no pages".into())
    }

    fn withdraw(&mut self, _: FileHandle) -> Result<(), AnyError> {
        Ok(())
    }

    fn begin_stream(&mut self, _: &str) -> Result<FileHandle, AnyError> {
        Ok(FileHandle(0))
    }

    fn append(&mut self, _: FileHandle, bytes: &[u8]) -> Result<(), AnyError> {
        self.0 += bytes.len() as u64;
        Ok(())
    }

    fn finish_stream(&mut self, _: FileHandle) -> Result<(), AnyError> {
        Ok(())
    }
}

/// How long this thread has waited for a processor while it could have run, where the system tells.
fn queued_for_processor() -> Duration {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(told.split(' ').nth(1).and_then(|text| text.parse().ok()).unwrap_or_default())
}

fn main() -> Result<(), AnyError> {
    let rows: u64 = std::env::args().nth(1).map_or(Ok(1_000_000), |text| text.parse())?;
    let (engine, store, context) = (MemoryEngine::new(), MemoryStore::new(), Context::silent());
    let _registration = engine.register("users", store.clone())?;
    let source = Source::parse("memory:users")?;
    let users = store.table::<u64, User>("users")?;
    let started = Instant::now();
    for id in 0..rows {
        users.insert(id, user(id))?;
    }
    println!("{rows} rows inserted in {:?}", started.elapsed());
    let held = || engine.last_held("users").unwrap_or_default();

    let mut position = None;
    for _ in 0..5 {
        let mut sink = Nowhere::default();
        let started = Instant::now();
        position = engine.capture(&source, &mut sink, &context)?.position;
        println!("full: {:?} for {} bytes, writers held up for {:?}", started.elapsed(), sink.0, held());
    }
    for round in 0..3 {
        let started = Instant::now();
        for id in 0..1_000 {
            users.update(&((id * 997 + round) % rows), |user| user.score += 1.0)?;
        }
        let changed = started.elapsed();
        let mut sink = Nowhere::default();
        let started = Instant::now();
        let since = position.take().unwrap_or_default();
        position = engine.capture_since(&source, &since, &mut sink, &context)?.and_then(|capture| capture.position);
        let (took, bytes) = (started.elapsed(), sink.0);
        println!("1,000 changes in {changed:?}; segment: {took:?} for {bytes} bytes, held up for {:?}", held());
    }

    // The longest that one insert takes while fulls are made, and without them.
    for is_saving in [false, true] {
        let stop = AtomicBool::new(false);
        let mut most_held = Duration::ZERO;
        let (longest, long) = std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let (mut longest, mut long, mut id) = (Duration::ZERO, 0, 0_u64);
                while !stop.load(Ordering::SeqCst) {
                    id = (id + 7_919) % rows;
                    let (started, queued) = (Instant::now(), queued_for_processor());
                    let _ = users.upsert(id, user(id));
                    // On a busy machine most of it is the wait for a processor, which is nobody's lock.
                    let took = started.elapsed().saturating_sub(queued_for_processor().saturating_sub(queued));
                    longest = longest.max(took);
                    long += u32::from(took > Duration::from_millis(5));
                }
                (longest, long)
            });
            for _ in 0..5 {
                match is_saving {
                    true => {
                        drop(engine.capture(&source, &mut Nowhere::default(), &context));
                        most_held = most_held.max(held());
                    }
                    false => std::thread::sleep(Duration::from_millis(300)),
                }
            }
            stop.store(true, Ordering::SeqCst);
            writer.join().unwrap_or_default()
        });
        let beside = if is_saving { "beside five fulls" } else { "alone" };
        println!(
            "longest insert {beside} (no wait for a processor): {longest:?}, {long} of more than 5 ms; held up {most_held:?}"
        );
    }
    Ok(())
}
