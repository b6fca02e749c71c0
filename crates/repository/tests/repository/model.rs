//! Random sequences of changes, backups, segments, prunes, cancelled and killed operations against plain copies.

use proptest::prelude::*;
use proptest::test_runner::Config;

use crate::oracle::{Change, Fate, Rules, Step, World};

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => (1..60u16).prop_map(Change::Scattered),
        3 => (any::<u16>(), 1..200u16).prop_map(|(at, pages)| Change::Cluster { at, pages }),
        2 => (1..300u16).prop_map(Change::Grow),
        // More than one leaf of 4,096 pages.
        1 => (4000..5000u16).prop_map(Change::Grow),
        2 => any::<u16>().prop_map(Change::Shrink),
        1 => (1..4000u16).prop_map(Change::OddTail),
        1 => prop_oneof![Just(512), Just(1024), Just(4096)].prop_map(Change::PageSize),
        1 => Just(Change::Everything),
    ]
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        3 => Just(Fate::Lives),
        1 => (1..40u16).prop_map(Fate::KilledAt),
        1 => (1..40u16).prop_map(Fate::KilledAfter),
    ]
}

fn rules() -> impl Strategy<Value = Rules> {
    let some = |chance: f64, max: u32| proptest::option::weighted(chance, 0..max);
    (some(0.6, 4), some(0.3, 200), some(0.2, 6), some(0.1, 4), any::<bool>()).prop_map(
        |(last, within_hours, daily, weekly, trust_clock)| Rules { last, within_hours, daily, weekly, trust_clock },
    )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => change().prop_map(Step::Change),
        6 => (fate(), any::<bool>(), any::<bool>()).prop_map(|(fate, pin, backwards)| {
            Step::Backup { fate, pin: pin && backwards, backwards }
        }),
        1 => (0..12u8).prop_map(|event| Step::CancelledBackup { event }),
        5 => (fate(), prop_oneof![1 => Just(0), 9 => 1..3000u16])
            .prop_map(|(fate, bytes)| Step::Append { fate, bytes }),
        4 => (rules(), fate()).prop_map(|(rules, fate)| Step::Prune { rules, fate }),
        1 => (any::<u8>(), any::<bool>()).prop_map(|(which, pinned)| Step::Pin { which, pinned }),
        1 => any::<u8>().prop_map(|which| Step::Verify { which }),
        1 => Just(Step::ForgetState),
        1 => Just(Step::KeepState),
        1 => Just(Step::BringStateBack),
        2 => (1..100u16).prop_map(|hours| Step::Wait { hours }),
    ]
}

proptest! {
    #![proptest_config(Config { cases: 96, max_shrink_iters: 300, failure_persistence: None, ..Config::default() })]

    #[test]
    fn whatever_happens_every_backup_that_is_listed_restores(
        encrypted in any::<bool>(),
        steps in prop::collection::vec((prop_oneof![3 => Just(0usize), 1 => Just(1)], any::<u8>(), step()), 1..50),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new(encrypted).await;
            for (database, dice, step) in steps {
                world.take(database, &step).await;
                world.check(usize::from(dice)).await;
            }
            world.check_all().await;
        });
    }
}
