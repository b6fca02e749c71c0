//! Backups in a loop while processes write: every one holds a committed state, whole, and nothing older than it should.

use crate::home::Home;
use crate::rounds;
use crate::writer::{self, Writers};

fn hammer(journal_mode: &str, count: u64) {
    let home = Home::new();
    let path = home.path("bank.db");
    writer::create(&path, journal_mode);
    let mut writers = Writers::start(&path, 2);
    let mut last = 0;
    for round in 0..count {
        let before = writer::committed(&path);
        home.good(&["backup", "bank.db", "--quiet"]);
        let after = writer::committed(&path);
        home.good(&["restore", "bank.db", "--to", "restored.db", "--quiet"]);
        let restored = writer::check(&home.path("restored.db"));
        assert!((before..=after).contains(&restored), "round {round}: {before} <= {restored} <= {after}");
        last = restored;
        std::fs::remove_file(home.path("restored.db")).unwrap();
        assert!(writers.are_alive());
    }
    drop(writers);
    assert!(last > 0, "the writers have written nothing");
    home.good(&["verify", "bank.db", "--drill", "--quiet"]);
}

#[test]
fn live_backups_in_wal_mode_hold_committed_states() {
    hammer("wal", rounds(160));
}

#[test]
fn live_backups_in_rollback_mode_hold_committed_states() {
    hammer("delete", rounds(50));
}
