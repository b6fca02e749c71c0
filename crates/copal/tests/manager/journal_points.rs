//! States of a journal that is damaged or cut short: what is asked for comes back whole, or it is said what is missing.

use std::path::PathBuf;

use copal::memory::{MemoryStore, Table};
use copal::{
    BackupChoice, BackupId, BackupManager, Context, Copal, CopalError, ErrorKind, InitOptions, PassphraseSource,
    RestoreOptions, Saved, Settings, VerifyOptions, WhichBackups,
};
use jiff::Timestamp;
use tempfile::TempDir;

/// A full backup and segments, each with a row more.
struct Shop {
    folder: TempDir,
    copal: Copal,
    /// The states, the backup's first: id, and a moment at which it was the newest.
    states: Vec<(BackupId, Timestamp)>,
}

impl Shop {
    async fn new(segments: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let copal = Copal::new(settings(&folder));
        copal.init(InitOptions { encrypt: false, ..InitOptions::default() }).await.unwrap();
        let store = MemoryStore::new();
        let registered = copal.register("shop", store.clone()).unwrap();
        let manager = BackupManager::builder(copal.clone(), registered.source()).incremental(true).build();
        let rows: Table<u32, u32> = store.table("rows").unwrap();
        let mut states = Vec::new();
        for row in 0..=segments {
            rows.upsert(row.try_into().unwrap(), 7).unwrap();
            let id = match manager.backup_now().await.unwrap() {
                Saved::Full(outcome) => outcome.backup.id,
                Saved::Delta(outcome) => outcome.segment.id,
                Saved::Unchanged => unreachable!("a row was added"),
            };
            states.push((id, Timestamp::now()));
        }
        Self { folder, copal, states }
    }

    fn object(&self, state: usize) -> PathBuf {
        self.folder.path().join("repository/databases/shop/journal").join(self.states[state].0.to_string())
    }

    fn damage(&self, state: usize) {
        let mut bytes = std::fs::read(self.object(state)).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::remove_file(self.object(state)).unwrap();
        std::fs::write(self.object(state), bytes).unwrap();
    }

    /// How many rows come back, into the store of another process.
    async fn rows(&self, backup: BackupChoice) -> Result<usize, CopalError> {
        let copal = Copal::new(self.copal.settings().clone());
        let store = MemoryStore::new();
        let _registered = copal.register("shop", store.clone()).unwrap();
        let options = RestoreOptions { backup, ..RestoreOptions::default() };
        copal.restore("memory:shop", options, &Context::silent()).await?;
        Ok(store.table::<u32, u32>("rows").unwrap().len())
    }

    /// Fails with damage that names this state's segment and, in the hint, the newest state in front of it.
    fn assert_names(&self, error: &CopalError, broken: usize) {
        assert_eq!(error.kind(), ErrorKind::Damage, "{error:?}");
        assert!(format!("{error}").contains(&self.states[broken].0.to_string()), "{error}");
        let hint = error.hint().unwrap();
        assert!(hint.contains(&self.states[broken - 1].0.to_string()), "{hint}");
    }
}

fn settings(folder: &TempDir) -> Settings {
    Settings {
        state: Some(folder.path().join("state")),
        passphrase: PassphraseSource::None,
        ..Settings::new(folder.path().join("repository").to_str().unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_segment_leaves_what_is_in_front_of_it() {
    let shop = Shop::new(4).await;
    shop.damage(3);
    for state in 0..3 {
        let (id, time) = &shop.states[state];
        assert_eq!(shop.rows(BackupChoice::Id(id.clone())).await.unwrap(), state + 1);
        if state < 2 {
            assert_eq!(shop.rows(BackupChoice::At(*time)).await.unwrap(), state + 1);
        }
    }
    shop.assert_names(&shop.rows(BackupChoice::Latest).await.unwrap_err(), 3);
    shop.assert_names(&shop.rows(BackupChoice::At(shop.states[2].1)).await.unwrap_err(), 3);
    for state in 3..5 {
        let (id, time) = &shop.states[state];
        assert_eq!(shop.rows(BackupChoice::At(*time)).await.unwrap_err().kind(), ErrorKind::Damage);
        let error = shop.rows(BackupChoice::Id(id.clone())).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damage, "{error:?}");
        assert!(error.hint().unwrap().contains(&shop.states[2].0.to_string()), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_last_segment_that_is_gone_is_missed() {
    let shop = Shop::new(3).await;
    std::fs::remove_file(shop.object(3)).unwrap();
    shop.assert_names(&shop.rows(BackupChoice::Latest).await.unwrap_err(), 3);
    shop.assert_names(&shop.rows(BackupChoice::At(shop.states[3].1)).await.unwrap_err(), 3);
    assert_eq!(shop.rows(BackupChoice::Id(shop.states[2].0.clone())).await.unwrap(), 3);
    assert_eq!(shop.rows(BackupChoice::At(shop.states[1].1)).await.unwrap(), 2);
    assert_eq!(shop.rows(BackupChoice::Id(shop.states[0].0.clone())).await.unwrap(), 1);
    for backups in [WhichBackups::Latest, WhichBackups::All, WhichBackups::Id(shop.states[0].0.clone())] {
        let options = VerifyOptions { backups, ..VerifyOptions::default() };
        let outcomes = shop.copal.verify(Some("shop"), options, &Context::silent()).await.unwrap();
        assert_eq!(outcomes.len(), 1, "{outcomes:?}");
        assert!(!outcomes[0].verified && outcomes[0].segments == 2, "{outcomes:?}");
        let damaged: Vec<_> = outcomes[0].damaged.iter().map(|object| object.object.clone()).collect();
        assert_eq!(damaged, [format!("databases/shop/journal/{}", shop.states[3].0)]);
    }
    // All of them: the journal looks as if it had never been.
    for state in 1..3 {
        std::fs::remove_file(shop.object(state)).unwrap();
    }
    assert_eq!(shop.rows(BackupChoice::Latest).await.unwrap_err().kind(), ErrorKind::Damage);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_drops_no_segments_without_a_word() {
    let shop = Shop::new(2).await;
    let options = RestoreOptions { as_snapshot: Some("s".into()), ..RestoreOptions::default() };
    let _registered = shop.copal.register("shop", MemoryStore::new());
    let error = shop.copal.restore("memory:shop", options, &Context::silent()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage, "{error:?}");
    assert!(error.hint().unwrap().contains(&shop.states[0].0.to_string()), "{error:?}");
}
