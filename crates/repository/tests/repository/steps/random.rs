//! Schedules that follow from a seed.

use copal_storage::StorageErrorKind;
use copal_storage::stepped::Grant;
use jiff::SignedDuration;

use super::{Op, PRUNE, Start, Step, TTL, Time, World};

/// Numbers that follow from a seed.
struct Dice(blake3::OutputReader);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(blake3::Hasher::new().update(b"schedule").update(&seed.to_le_bytes()).finalize_xof())
    }

    fn below(&mut self, n: usize) -> usize {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        (u64::from_le_bytes(bytes) % n as u64) as usize
    }

    /// True once in n times.
    fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// One schedule of up to four operations in which everything may happen that can happen in earnest.
pub async fn random_schedule(start: &Start, seed: u64, others: &[Op]) {
    let mut dice = Dice::new(seed);
    let mut world = World::new(start);
    world.time = if dice.once_in(2) { Time::Own } else { Time::Together };
    world.retries = dice.once_in(2);
    let has_faults = dice.once_in(2);
    let has_jumps = dice.once_in(4);
    let mut ready: Vec<Op> = (0..2 + dice.below(3)).map(|_| others[dice.below(others.len())]).collect();
    let first = ready.pop().unwrap_or(PRUNE);
    world.add(first).await;
    let mut current = 0;
    loop {
        if !ready.is_empty() && dice.once_in(8) {
            let op = ready.pop().unwrap_or(PRUNE);
            current = world.add(op).await;
        }
        let living: Vec<usize> = (0..world.actors.len()).filter(|a| !world.actors[*a].is_done()).collect();
        if living.is_empty() {
            match ready.pop() {
                Some(op) => current = world.add(op).await,
                None => break,
            }
            continue;
        }
        if !living.contains(&current) || dice.once_in(6) {
            current = living[dice.below(living.len())];
            world.renewal_first = dice.once_in(2);
        }
        if has_jumps && dice.once_in(30) {
            let hours = [1, -1, 24 * 3652, -24 * 3652][dice.below(4)];
            world.jump(current, SignedDuration::from_hours(hours));
        }
        if dice.once_in(20) {
            world.pass(current, TTL / [2, 4, 8][dice.below(3)]);
        }
        if has_faults && dice.once_in(150) {
            world.kill(current).await;
            continue;
        }
        if dice.once_in(10) {
            world.land().await;
        }
        let grant = match (has_faults && dice.once_in(15), dice.below(4)) {
            (false, _) => Grant::Act,
            (true, 0) => Grant::LoseAnswer,
            (true, 1) => Grant::Fail(StorageErrorKind::Transient),
            (true, _) => Grant::ActLate,
        };
        let step = world.step(current, grant).await;
        if let (Step::Acted(call), true) = (step, grant == Grant::ActLate && dice.once_in(2)) {
            let most = 12 + dice.below(8);
            world.fail_on(current, call.call.path_text(), most).await;
        }
    }
    world.land().await;
    world.judge().await;
}

/// How many random schedules a test takes, always with the same seeds; `COPAL_SCHEDULES` says how many for a longer
/// search.
pub fn schedules(usually: u64) -> u64 {
    std::env::var("COPAL_SCHEDULES").ok().and_then(|text| text.parse().ok()).unwrap_or(usually)
}
