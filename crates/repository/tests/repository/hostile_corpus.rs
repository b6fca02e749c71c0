//! Replays the stored corpus of `fuzz/` and a bounded number of mutations of it, so that every `cargo test` fuzzes a little
//! without nightly or cargo-fuzz.
//!
//! `COPAL_FUZZ_ROUNDS` asks for more. `COPAL_WRITE_CORPUS=1` writes the seeds made of real repository bytes anew.

use std::collections::BTreeMap;
use std::path::PathBuf;

use copal_repository::fuzzing::TARGETS;

use crate::common;
use crate::common::{Rig, file_bytes};

fn corpus(target: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../../fuzz/corpus", target].iter().collect()
}

fn stored(target: &str) -> Vec<Vec<u8>> {
    let mut files: Vec<_> = std::fs::read_dir(corpus(target)).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|file| std::fs::read(file).unwrap()).collect()
}

/// Numbers that look random and are the same every time.
struct Dice(blake3::OutputReader);

impl Dice {
    fn new(seed: &str) -> Self {
        Self(blake3::Hasher::new().update(seed.as_bytes()).finalize_xof())
    }

    fn number(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.number() % n.max(1) as u64) as usize
    }

    fn mutate(&mut self, bytes: &mut Vec<u8>, others: &[Vec<u8>]) {
        const TELLING: [u64; 9] = [0, 1, 255, 4096, 4097, 0xffff, 1 << 25, u32::MAX as u64, u64::MAX];
        let at = self.below(bytes.len() + 1);
        match self.below(7) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, self.number() as u8),
            2 => bytes.iter_mut().skip(at).take(1).for_each(|b| *b ^= 1 << (self.number() % 8)),
            3 => {
                let width = 1 << self.below(4);
                let value = TELLING[self.below(TELLING.len())].to_le_bytes();
                bytes.iter_mut().skip(at).zip(value).take(width).for_each(|(to, from)| *to = from);
            }
            4 => {
                let end = (at + 1 + self.below(64)).min(bytes.len());
                bytes.drain(at.min(end)..end);
            }
            5 => {
                let end = (at + 1 + self.below(64)).min(bytes.len());
                let part = bytes[at.min(end)..end].to_vec();
                bytes.splice(at..at, part);
            }
            _ => {
                let other = &others[self.below(others.len())];
                bytes.truncate(at);
                bytes.extend_from_slice(&other[self.below(other.len() + 1)..]);
            }
        }
    }
}

#[test]
fn no_stored_bytes_and_no_mutation_of_them_break_a_decoder() {
    let rounds = std::env::var("COPAL_FUZZ_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(20_000);
    for (name, target) in TARGETS {
        let seeds = stored(name);
        assert!(seeds.len() >= 3, "fuzz/corpus/{name} has too few files");
        seeds.iter().for_each(|bytes| target(bytes));
        let mut dice = Dice::new(name);
        for _ in 0..rounds {
            let mut bytes = seeds[dice.below(seeds.len())].clone();
            for _ in 0..=dice.below(3) {
                dice.mutate(&mut bytes, &seeds);
            }
            target(&bytes);
        }
    }
}

/// Writes the corpus: parts of repositories as they are, small ones.
#[tokio::test(flavor = "multi_thread")]
async fn the_corpus_is_made_of_real_bytes() {
    if std::env::var_os("COPAL_WRITE_CORPUS").is_none() {
        return;
    }
    let mut seeds: BTreeMap<&str, Vec<Vec<u8>>> = BTreeMap::new();
    for encrypted in [true, false] {
        let rig = Rig::new(encrypted).await;
        rig.repository.add_recipient(&common::RecoveryKey::generate().recipient).await.ok();
        let database = rig.database("a").await;
        let mut bytes = file_bytes(1, 512 * 12 + 7);
        for round in 0..3 {
            bytes[round * 512] ^= 1;
            rig.backup(&database, &bytes, 512).await;
        }
        let streamed = rig.database("b").await;
        for length in [1, 200_000, 900_000, 2_000_000] {
            let bytes = file_bytes(2, length);
            let push = common::streams::streams(&[("dump", &bytes)]);
            common::streams::backup_pushed(&rig.repository, &streamed, &Default::default(), push).await.unwrap();
        }
        rig.repository.prune(&database, &common::keep_last(2), &copal_core::Context::silent()).await.unwrap();
        for (path, content) in rig.memory.contents() {
            let content = content.to_vec();
            let untagged = content[..content.len().saturating_sub(32)].to_vec();
            match path.as_str().split('/').collect::<Vec<_>>().as_slice() {
                ["copal.json"] => seeds.entry("config").or_default().push(content),
                ["leases", _] => {
                    let mut lease: serde_json::Value = serde_json::from_slice(&content).unwrap();
                    lease["holder"] = serde_json::json!({
                        "host": "h", "boot_id": null, "pid_namespace": "pid:[1]", "pid": 1, "started": 1,
                    });
                    lease["state"] = if encrypted { "held" } else { "free" }.into();
                    seeds.entry("lease").or_default().push(serde_json::to_vec(&lease).unwrap());
                }
                ["keys", _] => seeds.entry("wrap").or_default().push(content),
                // Without the seal, which the target makes anew.
                ["databases", _, "database"] | ["databases", _, "backups", _] if !encrypted => {
                    seeds.entry("document").or_default().push(untagged);
                }
                ["databases", _, "packs", _] if !encrypted => {
                    let mut at = 8;
                    while let Some(length) = content.get(at..at + 4) {
                        let length = u32::from_le_bytes(length.try_into().unwrap()) as usize;
                        let frame = content[at + 4..at + 4 + length - 32].to_vec();
                        at += 4 + length;
                        // Maps this small are seldom worth compressing.
                        let raw = match frame[1] {
                            0 => frame[8..].to_vec(),
                            _ => zstd::bulk::decompress(&frame[8..], 4 << 20).unwrap(),
                        };
                        match frame[0] {
                            2 => seeds.entry("leaf").or_default().push(raw),
                            5 => seeds.entry("stream_leaf").or_default().push(raw),
                            3 => seeds.entry("branch").or_default().push(raw),
                            _ => {}
                        }
                        seeds.entry("frame").or_default().push(frame);
                    }
                }
                _ => {}
            }
        }
    }
    seeds.entry("lease").or_default().push(b"{}".to_vec());
    seeds.entry("wrap").or_default().push(b"age-encryption.org/v1\n-> scrypt AAAA 30\nAAAA\n--- AAAA\n".to_vec());
    let header = br#"{"format":1,"database":"00112233445566778899aabbccddeeff","plan":"20261120-153000Z-7f3a"}"#;
    let plan = br#"{"created":"2026-11-20T00:00:00Z","manifests":[["20261120-153000Z-7f3a","00"]],"packs":[],"marks":["x"],"tombstones":["plans/x"]}"#;
    let lengths = [u32::try_from(header.len()).unwrap(), u32::try_from(plan.len()).unwrap()].map(u32::to_le_bytes);
    let plan = [b"COPALDC1".as_slice(), &lengths[0], header, &[18, 0, 0, 0], &lengths[1], plan].concat();
    seeds.entry("document").or_default().push(plan);
    seeds.entry("config").or_default().push(b"{\"format\":2}".to_vec());
    for (name, seeds) in seeds {
        std::fs::create_dir_all(corpus(name)).unwrap();
        let mut written = 0;
        for seed in seeds {
            if !seed.is_empty() && seed.len() <= 4096 && written < 8 {
                let file = blake3::hash(&seed).to_hex()[..16].to_owned();
                std::fs::write(corpus(name).join(file), &seed).unwrap();
                written += 1;
            }
        }
    }
}
