//! Appending beside backups and prunes: what was acknowledged is there, and nothing that is there misses a pack.

use copal_storage::stepped::Grant;
use copal_storage::{Method, StorageErrorKind};

use crate::steps::random::{random_schedule, schedules};
use crate::steps::{Op, PRUNE, SMALL, Start, Step, Time, WHOLE, World};

const APPEND: Op = Op::Append;

/// The first backup has a journal that a prune drops, the last one that it keeps.
async fn start() -> Start {
    Start::with_segments([1, 0, 1]).await
}

async fn length(start: &Start, op: Op) -> usize {
    let mut world = World::new(start);
    let actor = world.add(op).await;
    let steps = world.run_to_end(actor).await;
    assert_eq!(world.succeeded(actor), Some(true), "{}", world.told("an operation alone fails"));
    world.judge().await;
    steps
}

/// Runs operations one after the other, each of which must succeed.
async fn come_and_go(world: &mut World, ops: &[Op]) {
    for op in ops {
        let other = world.add(*op).await;
        world.run_to_end(other).await;
        assert_eq!(world.succeeded(other), Some(true), "{}", world.told("who comes next must succeed"));
    }
}

#[tokio::test(start_paused = true)]
async fn one_stands_still_at_every_step_while_others_come() {
    let start = start().await;
    let mut schedules = 0;
    let pairs: [(Op, &[Op]); 8] = [
        (APPEND, &[PRUNE]),
        (APPEND, &[SMALL]),
        (APPEND, &[APPEND]),
        (APPEND, &[WHOLE, PRUNE]),
        (APPEND, &[APPEND, PRUNE]),
        (PRUNE, &[APPEND]),
        (PRUNE, &[WHOLE, APPEND, PRUNE]),
        (SMALL, &[APPEND, PRUNE]),
    ];
    for (sleeper, others) in pairs {
        let steps = length(&start, sleeper).await;
        for (time, renewal_first) in [(Time::Own, false), (Time::Own, true), (Time::Together, false)] {
            for at in 0..=steps {
                let mut world = World::new(&start);
                (world.time, world.renewal_first) = (time, renewal_first);
                let a = world.add(sleeper).await;
                world.run(a, at).await;
                come_and_go(&mut world, others).await;
                world.run_to_end(a).await;
                world.judge().await;
                schedules += 1;
            }
        }
    }
    println!("{schedules} schedules");
}

#[tokio::test(start_paused = true)]
async fn one_is_killed_at_every_step() {
    let start = start().await;
    let mut schedules = 0;
    for killed in [APPEND, PRUNE, SMALL] {
        let steps = length(&start, killed).await;
        for others in [[APPEND, PRUNE], [PRUNE, APPEND], [SMALL, APPEND]] {
            for at in 0..steps {
                let mut world = World::new(&start);
                let a = world.add(killed).await;
                world.run(a, at).await;
                world.kill(a).await;
                come_and_go(&mut world, &others).await;
                world.judge().await;
                schedules += 1;
            }
        }
    }
    println!("{schedules} schedules");
}

/// A call of an append gets no answer, whether it acts, acts later or never, and others come before and after that.
#[tokio::test(start_paused = true)]
async fn an_answer_is_lost_at_every_step() {
    let start = start().await;
    let mut schedules = 0;
    let steps = length(&start, APPEND).await;
    for at in 0..steps {
        for grant in [Grant::LoseAnswer, Grant::ActLate, Grant::Fail(StorageErrorKind::Transient)] {
            for others in [[APPEND, PRUNE], [PRUNE, APPEND], [WHOLE, PRUNE]] {
                for (lands_after, outage) in [(0, 0), (0, 16), (1, 0), (1, 16), (2, 15)] {
                    let mut world = World::new(&start);
                    world.time = Time::Own;
                    let a = world.add(APPEND).await;
                    world.run(a, at).await;
                    let Step::Acted(call) = world.step(a, grant).await else { panic!("nobody else is there") };
                    let path = call.call.path_text();
                    let is_commit = call.call.method == Method::Create && path.contains("/journal/");
                    if lands_after > 0 && grant != Grant::ActLate || outage > 0 && !is_commit {
                        continue;
                    }
                    world.fail_on(a, path, outage).await;
                    world.run_to_end(a).await;
                    for (number, op) in others.iter().enumerate() {
                        if number == lands_after {
                            world.land().await;
                        }
                        come_and_go(&mut world, &[*op]).await;
                    }
                    world.land().await;
                    world.judge().await;
                    schedules += 1;
                }
            }
        }
    }
    println!("{schedules} schedules");
}

#[tokio::test(start_paused = true)]
async fn random_schedules() {
    let start = start().await;
    let meeting = [APPEND, APPEND, APPEND, SMALL, WHOLE, PRUNE, PRUNE, Op::Prune { last: 2 }, Op::Pin(0)];
    for seed in 0..schedules(300) {
        random_schedule(&start, seed, &meeting).await;
    }
}
