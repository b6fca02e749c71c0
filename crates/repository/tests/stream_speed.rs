//! How fast streams are: `cargo test --release -p copal-repository --test stream_speed -- --ignored --nocapture`.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::time::Instant;

use common::Rig;
use common::streams::*;
use copal_core::{Content, Context, Sink};
use copal_repository::{BackupSink, WriteOptions};

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

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn speed_of_streams() {
    let rig = Rig::new(true).await;
    let database = rig.database("a").await;
    let bytes = std::sync::Arc::new(rows(1024 * MIB));
    let speed = |what: &str, begun: Instant| {
        println!("{what}: {:.0} MB/s", bytes.len() as f64 / begun.elapsed().as_secs_f64() / 1e6);
    };
    let begun = Instant::now();
    let mut encoder = zstd::stream::Encoder::new(std::io::sink(), 3).unwrap();
    std::io::Write::write_all(&mut encoder, &bytes[..256 * MIB]).unwrap();
    encoder.finish().unwrap();
    println!("zstd -3, one thread: {:.0} MB/s", 256.0 * 1.048_576 / begun.elapsed().as_secs_f64());
    let mut made = None;
    for what in ["new", "unchanged"] {
        let content = std::sync::Arc::clone(&bytes);
        let push: Push = Box::new(move |sink: &mut BackupSink| {
            let stream = sink.begin_stream("dump")?;
            content.chunks(200_000).try_for_each(|part| sink.append(stream, part))?;
            sink.finish_stream(stream)
        });
        let begun = Instant::now();
        let options = WriteOptions::default();
        made = Some(backup_pushed(&rig.repository, &database, &options, push).await.unwrap());
        speed(what, begun);
    }
    let made = made.unwrap();
    println!("{} bytes stored", made.body.stored_bytes);
    let content = rig.repository.content(&database, made.clone());
    let begun = Instant::now();
    let write = move || content.write_stream("dump", &mut std::io::sink(), &Context::silent());
    tokio::task::spawn_blocking(write).await.unwrap().unwrap();
    speed("write_stream", begun);
}
