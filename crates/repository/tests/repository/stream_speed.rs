//! How fast streams are: `cargo test --release -p copal-repository --test repository -- stream_speed --ignored --nocapture`.

use std::time::Instant;

use copal_core::{Content, Context, Sink};
use copal_repository::{BackupSink, WriteOptions};

use crate::common::Rig;
use crate::common::streams::*;

const MIB: usize = 1 << 20;

/// Rows as a dump has them: numbers, names and some noise.
fn rows(length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 256);
    let mut state = 1u64;
    for n in 0u64.. {
        if bytes.len() >= length {
            break;
        }
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (city, cents) = (state >> 57, state >> 44 & 0xffff);
        let line =
            format!("{n}\tCustomer#{:09}\tcity {city}\t{cents}.{:02}\t{state:016x}\tregular deposits\n", n, n % 100);
        bytes.extend_from_slice(line.as_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Seconds since `begun`, of the clock, of this process and, of all cores, doing nothing (Linux, else 0).
struct Spent(Instant, f64, f64);

impl Spent {
    fn now() -> Self {
        let ticks = |path: &str, behind: &str, fields: std::ops::Range<usize>| -> f64 {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            let numbers = text.split_once(behind).map_or("", |(_, rest)| rest).split_whitespace();
            numbers.skip(fields.start).take(fields.len()).map(|n| n.parse().unwrap_or(0.0)).sum::<f64>() / 100.0
        };
        Self(Instant::now(), ticks("/proc/self/stat", ") ", 11..13), ticks("/proc/stat", "cpu ", 3..5))
    }

    fn print(&self, what: &str, bytes: usize) {
        let now = Self::now();
        let wall = (now.0 - self.0).as_secs_f64();
        let (busy, idle) = (now.1 - self.1, now.2 - self.2);
        let speed = bytes as f64 / wall / 1e6;
        println!("{what}: {speed:.0} MB/s, {wall:.2} s, {busy:.2} s of CPU, cores idle for {idle:.2} s");
    }
}

/// The most memory this process has had, in KiB (Linux, else 0).
fn peak() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = text.split_once("VmHWM:").and_then(|(_, rest)| rest.split_whitespace().next());
    peak.and_then(|n| n.parse().ok()).unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn speed_of_streams() {
    let rig = Rig::new(true).await;
    let database = rig.database("a").await;
    let bytes = std::sync::Arc::new(rows(1024 * MIB));
    let begun = Spent::now();
    let mut encoder = zstd::stream::Encoder::new(std::io::sink(), 3).unwrap();
    std::io::Write::write_all(&mut encoder, &bytes[..256 * MIB]).unwrap();
    encoder.finish().unwrap();
    begun.print("zstd -3, one thread", 256 * MIB);
    let before = peak();
    let mut made = None;
    for what in ["new", "unchanged"] {
        let content = std::sync::Arc::clone(&bytes);
        let push: Push = Box::new(move |sink: &mut BackupSink| {
            let stream = sink.begin_stream("dump")?;
            content.chunks(200_000).try_for_each(|part| sink.append(stream, part))?;
            sink.finish_stream(stream)
        });
        let begun = Spent::now();
        let options = WriteOptions::default();
        made = Some(backup_pushed(&rig.repository, &database, &options, push).await.unwrap());
        begun.print(what, bytes.len());
    }
    let made = made.unwrap();
    println!("{} bytes stored", made.body.stored_bytes);
    // The storage of this test is memory too.
    let writing = ((peak() - before) * 1024).saturating_sub(made.body.stored_bytes);
    println!("at most {} MiB of memory more than what is stored", writing / MIB as u64);
    let content = rig.repository.content(&database, made.clone());
    let begun = Spent::now();
    let write = move || content.write_stream("dump", &mut std::io::sink(), &Context::silent());
    tokio::task::spawn_blocking(write).await.unwrap().unwrap();
    begun.print("write_stream", bytes.len());
}
