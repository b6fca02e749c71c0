//! Operations of several processes on one database, in every order of their storage calls that a few pre-emptions make.
//!
//! After every step and every schedule `steps` holds the storage against what must never happen.

use copal_storage::stepped::Grant;
use copal_storage::{Method, StorageErrorKind};

use crate::steps::random::{random_schedule, schedules};
use crate::steps::{Op, PINNED, PRUNE, SMALL, Start, Step, Time, WHOLE, World};

/// What processes do to each other.
const ALL: [Op; 6] = [SMALL, WHOLE, PINNED, PRUNE, Op::Pin(0), Op::Unpin(0)];

/// How many steps an operation takes alone.
async fn length(start: &Start, op: Op) -> usize {
    let mut world = World::new(start);
    let actor = world.add(op).await;
    let steps = world.run_to_end(actor).await;
    assert_eq!(world.succeeded(actor), Some(true), "{}", world.told("an operation alone fails"));
    world.judge().await;
    steps
}

#[tokio::test(start_paused = true)]
async fn one_stands_still_at_every_step_while_another_takes_over() {
    let start = Start::new().await;
    let mut schedules = 0;
    for sleeper in ALL {
        let steps = length(&start, sleeper).await;
        for other in ALL {
            for (time, renewal_first) in [(Time::Own, false), (Time::Own, true), (Time::Together, false)] {
                for at in 0..=steps {
                    let mut world = World::new(&start);
                    world.time = time;
                    world.renewal_first = renewal_first;
                    let (a, b) = (world.add(sleeper).await, world.add(other).await);
                    world.run(a, at).await;
                    world.run_to_end(b).await;
                    world.run_to_end(a).await;
                    // What was pruned cannot be pinned.
                    let may_fail = sleeper == PRUNE && matches!(other, Op::Pin(_) | Op::Unpin(_));
                    let succeeded = world.succeeded(b) == Some(true);
                    assert!(succeeded || may_fail, "{}", world.told("who takes over must succeed"));
                    world.judge().await;
                    schedules += 1;
                }
            }
        }
    }
    println!("{schedules} schedules");
}

#[tokio::test(start_paused = true)]
async fn one_stands_still_at_every_step_while_two_others_come_and_go() {
    let start = Start::new().await;
    let mut schedules = 0;
    for sleeper in [SMALL, WHOLE, PINNED, PRUNE, Op::Pin(0), Op::Pin(2), Op::Unpin(2)] {
        let steps = length(&start, sleeper).await;
        for others in [[WHOLE, PRUNE], [PRUNE, WHOLE], [SMALL, PRUNE], [PRUNE, PRUNE]] {
            for at in 0..=steps {
                let mut world = World::new(&start);
                world.time = Time::Own;
                let a = world.add(sleeper).await;
                world.run(a, at).await;
                for op in others {
                    let other = world.add(op).await;
                    world.run_to_end(other).await;
                    assert_eq!(world.succeeded(other), Some(true), "{}", world.told("who takes over must succeed"));
                }
                world.run_to_end(a).await;
                world.judge().await;
                schedules += 1;
            }
        }
    }
    println!("{schedules} schedules");
}

#[tokio::test(start_paused = true)]
async fn two_stand_still_one_after_the_other() {
    let start = Start::new().await;
    let mut schedules = 0;
    let pairs = [
        (SMALL, PRUNE),
        (WHOLE, PRUNE),
        (PRUNE, SMALL),
        (PRUNE, PRUNE),
        (PRUNE, Op::Pin(0)),
        (Op::Pin(0), PRUNE),
        (SMALL, WHOLE),
    ];
    for (first, second) in pairs {
        let steps = length(&start, first).await;
        for at in 1..=steps {
            // Every third of the second's steps, each time others.
            for second_at in (at % 3..60).step_by(3) {
                let mut world = World::new(&start);
                world.time = if second_at % 2 == 0 { Time::Own } else { Time::Together };
                world.renewal_first = second_at % 5 == 0;
                let (a, b) = (world.add(first).await, world.add(second).await);
                world.run(a, at).await;
                let is_over = world.run(b, second_at).await < second_at;
                world.run_to_end(a).await;
                world.run_to_end(b).await;
                world.judge().await;
                schedules += 1;
                if is_over {
                    break;
                }
            }
        }
    }
    println!("{schedules} schedules");
}

#[tokio::test(start_paused = true)]
async fn one_is_killed_at_every_step() {
    let start = Start::new().await;
    let mut schedules = 0;
    for killed in ALL {
        let steps = length(&start, killed).await;
        for others in [[SMALL, PRUNE], [PRUNE, SMALL]] {
            for at in 0..steps {
                let mut world = World::new(&start);
                let a = world.add(killed).await;
                world.run(a, at).await;
                world.kill(a).await;
                for op in others {
                    let other = world.add(op).await;
                    world.run_to_end(other).await;
                    assert_eq!(world.succeeded(other), Some(true), "{}", world.told("who comes next must succeed"));
                }
                world.judge().await;
                schedules += 1;
            }
        }
    }
    println!("{schedules} schedules");
}

/// Calls about one object after which a commit gives up, and after which it also gave up on preventing itself.
const OUTAGES: [usize; 3] = [0, 15, 16];

/// One call of an operation gets no answer, whether it acts, acts later or never; also when the object cannot be
/// reached for a while from then on. Others come before and after the late act.
#[tokio::test(start_paused = true)]
async fn an_answer_is_lost_at_every_step() {
    let start = Start::new().await;
    let mut schedules = 0;
    let nobody: &[Op] = &[];
    for unlucky in ALL {
        let steps = length(&start, unlucky).await;
        for at in 0..steps {
            for grant in [Grant::LoseAnswer, Grant::ActLate, Grant::Fail(StorageErrorKind::Transient)] {
                for others in [nobody, &[PRUNE], &[WHOLE, PRUNE], &[PRUNE, SMALL]] {
                    for (lands_after, outage) in (0..=others.len()).flat_map(|l| OUTAGES.map(|o| (l, o))) {
                        let mut world = World::new(&start);
                        world.time = Time::Own;
                        let a = world.add(unlucky).await;
                        world.run(a, at).await;
                        let Step::Acted(call) = world.step(a, grant).await else { panic!("nobody else is there") };
                        let path = call.call.path_text();
                        let is_commit = call.call.method == Method::Create
                            && (path.contains("/backups/") || path.contains("/plans/"));
                        if lands_after > 0 && grant != Grant::ActLate || outage > 0 && !is_commit {
                            continue;
                        }
                        world.fail_on(a, path, outage).await;
                        world.run_to_end(a).await;
                        // Who fails gives the lease back, so that the next need not wait.
                        let must_be_free = outage == 0 && !path.starts_with("leases/");
                        assert!(!must_be_free || world.is_free(), "{}", world.told("the lease is held for nothing"));
                        for (number, op) in others.iter().enumerate() {
                            if number == lands_after {
                                world.land().await;
                            }
                            let other = world.add(*op).await;
                            world.run_to_end(other).await;
                            assert_eq!(world.succeeded(other), Some(true), "{}", world.told("the next must succeed"));
                        }
                        world.land().await;
                        world.judge().await;
                        schedules += 1;
                    }
                }
            }
        }
    }
    println!("{schedules} schedules");
}

/// As storages are used in earnest: what is transient is tried again, and nobody notices.
#[tokio::test(start_paused = true)]
async fn with_retries_no_lost_answer_matters() {
    let start = Start::new().await;
    let mut schedules = 0;
    for unlucky in ALL {
        let steps = length(&start, unlucky).await;
        for at in 0..steps {
            for grant in [Grant::LoseAnswer, Grant::ActLate, Grant::Fail(StorageErrorKind::Transient)] {
                let mut world = World::new(&start);
                world.retries = true;
                let a = world.add(unlucky).await;
                world.run(a, at).await;
                world.step(a, grant).await;
                world.run(a, 1).await;
                world.land().await;
                world.run_to_end(a).await;
                assert_eq!(world.succeeded(a), Some(true), "{}", world.told("a lost answer was not made up for"));
                world.judge().await;
                schedules += 1;
            }
        }
    }
    println!("{schedules} schedules");
}

/// What may meet in a random schedule.
const MEETING: [Op; 8] = [SMALL, WHOLE, PINNED, PRUNE, Op::Prune { last: 2 }, Op::Pin(0), Op::Pin(1), Op::Unpin(1)];

#[tokio::test(start_paused = true)]
async fn random_schedules() {
    let start = Start::new().await;
    for seed in 0..schedules(400) {
        random_schedule(&start, seed, &MEETING).await;
    }
}

#[tokio::test(start_paused = true)]
async fn more_random_schedules() {
    let start = Start::new().await;
    for seed in (1 << 32)..(1 << 32) + schedules(400) {
        random_schedule(&start, seed, &MEETING).await;
    }
}
