//! The use cases as a program would call them: on a local folder and on a server that checks signatures.

// Everything here is a test; a panic is how a test fails.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::{Arc, Mutex};

use copal::{
    BackupOptions, CancelToken, Context, Copal, ErrorKind, Event, InitOptions, Keep, PassphraseSource, Progress,
    PruneOptions, RestoreOptions, S3Options, Secret, Settings, VerifyOptions,
};
use copal_storage::testkit::S3Server;
use rusqlite::Connection;

fn settings(home: &Path, repository: &str) -> Settings {
    Settings {
        state: Some(home.join("state")),
        passphrase: PassphraseSource::Known(Secret::new("a passphrase")),
        ..Settings::new(repository)
    }
}

fn make_database(path: &Path, rows: u32) {
    let db = Connection::open(path).unwrap();
    db.execute_batch("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, body BLOB)").unwrap();
    db.execute_batch("BEGIN IMMEDIATE").unwrap();
    for _ in 0..rows {
        db.execute("INSERT INTO t (body) VALUES (randomblob(500))", []).unwrap();
    }
    db.execute_batch("COMMIT").unwrap();
}

/// Everything that one does with a repository.
async fn live_a_life(copal: &Copal, home: &Path) {
    let context = Context::silent();
    let path = home.join("app.db");
    make_database(&path, 300);
    let database = path.to_str().unwrap();
    let encrypted = InitOptions { encrypt: true, ..InitOptions::default() };
    assert!(copal.init(encrypted.clone()).await.unwrap().encrypted);
    assert_eq!(copal.init(encrypted).await.unwrap_err().kind(), ErrorKind::Exists);
    let first = copal.backup(database, BackupOptions::default(), &context).await.unwrap();
    assert!(first.damaged.is_empty());
    make_database(&path, 1);
    let labelled = BackupOptions { label: Some("second".into()), ..BackupOptions::default() };
    let second = copal.backup(database, labelled, &context).await.unwrap().backup;
    assert!(second.added_bytes < first.backup.added_bytes / 2);
    let listed = copal.list(None).await.unwrap();
    assert_eq!(
        listed[0].backups.iter().map(|b| b.id.clone()).collect::<Vec<_>>(),
        [first.backup.id, second.id.clone()]
    );
    let verified = VerifyOptions { drill: true, ..VerifyOptions::default() };
    let verified = copal.verify(Some(database), verified, &context).await.unwrap();
    assert!(verified.iter().all(|v| v.verified && v.drill.as_ref().unwrap().is_good()), "{verified:?}");
    let target = home.join("restored.db");
    let to = RestoreOptions { to: Some(target.to_str().unwrap().into()), ..RestoreOptions::default() };
    copal.restore(database, to, &context).await.unwrap();
    let rows = |path: &Path| -> u32 {
        Connection::open(path).unwrap().query_row("SELECT count(*) FROM t", [], |r| r.get(0)).unwrap()
    };
    assert_eq!((rows(&target), rows(&path)), (301, 301));
    let keep = PruneOptions { keep: Some(Keep { last: Some(1), ..Keep::default() }), ..PruneOptions::default() };
    let pruned = copal.prune(database, keep, &context).await.unwrap();
    assert_eq!((pruned.kept.len(), pruned.deleted.len()), (1, 1));
    assert_eq!(copal.keys().await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_folder() {
    let home = tempfile::tempdir().unwrap();
    let repository = home.path().join("repository");
    live_a_life(&Copal::new(settings(home.path(), repository.to_str().unwrap())), home.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_s3_server_with_signatures() {
    let home = tempfile::tempdir().unwrap();
    let server = S3Server::start().await.unwrap();
    let url = format!("s3://{}/some/prefix", server.bucket);
    let right = Settings { s3: server.options().s3, ..settings(home.path(), &url) };
    live_a_life(&Copal::new(right.clone()), home.path()).await;

    let wrong =
        S3Options { secret_access_key: Some(copal_storage::Secret::new("s3cr3t of another")), ..right.s3.clone() };
    let error = Copal::new(Settings { s3: wrong, ..right }).list(None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error} {:?}", error.causes());
    assert!(!format!("{error:?}").contains("s3cr3t"), "no secret in an error");
}

/// Cancels at the first sign of progress, and keeps what it was told.
#[derive(Default)]
struct CancelAtOnce {
    token: CancelToken,
    phases: Mutex<Vec<String>>,
}

impl Progress for CancelAtOnce {
    fn event(&self, event: Event) {
        match event {
            Event::Phase { name, .. } => self.phases.lock().unwrap().push(name),
            Event::Advance(_) => self.token.cancel(),
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_backup_does_not_exist() {
    let home = tempfile::tempdir().unwrap();
    let repository = home.path().join("repository");
    let copal = Copal::new(settings(home.path(), repository.to_str().unwrap()));
    copal.init(InitOptions { encrypt: true, ..InitOptions::default() }).await.unwrap();
    let path = home.path().join("app.db");
    make_database(&path, 8000);
    let database = path.to_str().unwrap();
    let progress = Arc::new(CancelAtOnce::default());
    let context = Context { cancel: progress.token.clone(), progress: progress.clone() };
    let error = copal.backup(database, BackupOptions::default(), &context).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    assert!(progress.phases.lock().unwrap().contains(&"reading".to_owned()));
    assert!(copal.list(Some(database)).await.unwrap()[0].backups.is_empty());
    // The lease was given back: nobody waits.
    copal.backup(database, BackupOptions::default(), &Context::silent()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_record_hides_no_backup() {
    let home = tempfile::tempdir().unwrap();
    let repository = home.path().join("repository");
    let copal = Copal::new(settings(home.path(), repository.to_str().unwrap()));
    copal.init(InitOptions { encrypt: true, ..InitOptions::default() }).await.unwrap();
    let path = home.path().join("app.db");
    make_database(&path, 50);
    let database = path.to_str().unwrap();
    let name = copal.backup(database, BackupOptions::default(), &Context::silent()).await.unwrap().backup.database;
    let record = repository.join(format!("databases/{name}/database"));
    std::fs::write(&record, "garbage").unwrap();
    for lost in [false, true] {
        if lost {
            std::fs::remove_file(&record).unwrap();
        }
        let listed = copal.list(None).await.unwrap().remove(0);
        assert_eq!((listed.backups.len(), listed.damaged.len()), (1, 1), "{listed:?}");
        let verified = copal.verify(None, VerifyOptions::default(), &Context::silent()).await.unwrap().remove(0);
        assert_eq!((verified.verified, verified.damaged.len()), (true, 1), "{verified:?}");
        let target = home.path().join(format!("restored-{lost}.db"));
        let to = RestoreOptions { to: Some(target.to_str().unwrap().into()), ..RestoreOptions::default() };
        copal.restore(name.as_str(), to, &Context::silent()).await.unwrap();
        let error = copal.backup(database, BackupOptions::default(), &Context::silent()).await.unwrap_err();
        assert_eq!(error.kind().exit_code(), 4, "{error}");
    }
}

#[test]
fn a_copy_is_put_aside_before_a_migration() {
    let home = tempfile::tempdir().unwrap();
    let (database, copies) = (home.path().join("app größe.db"), home.path().join("copies"));
    let url = format!("sqlite+aiosqlite:///{}?timeout=5", database.display());
    let copy = |label: &str, keep| copal::snapshot_before_migration(&url, &copies, label, keep);
    assert_eq!(copy("pre-migrate", 5), None, "there is no database yet");
    assert!(!copies.exists() && !database.exists());
    make_database(&database, 3);
    let rows = |path: &Path| -> u32 {
        Connection::open(path).unwrap().query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap()
    };
    let first = copy("pre-migrate", 3).unwrap();
    assert_eq!(rows(&first), 3);
    // Somebody's own files, one of them named like a copy.
    let strange = copies.join(first.file_name().unwrap().to_str().unwrap().replace("20", "19"));
    std::fs::write(&strange, "mine").unwrap();
    std::fs::write(copies.join("notes.txt"), "mine").unwrap();
    // Times of files tell nothing about their age.
    std::fs::File::options().write(true).open(&first).unwrap().set_modified(std::time::SystemTime::now()).unwrap();
    let mut made = vec![first];
    for n in 0..4 {
        make_database(&database, 1);
        made.push(copy("pre-migrate", 3).unwrap());
        assert_eq!(rows(made.last().unwrap()), 4 + n);
    }
    let there: Vec<bool> = made.iter().map(|path| path.exists()).collect();
    assert_eq!(there, [false, false, true, true, true]);
    assert!(strange.exists() && copies.join("notes.txt").exists());
    assert!(copy("other", 1).unwrap().exists() && made[2].exists(), "each label for itself");
    std::fs::rename(&made[2], &database).unwrap();
    assert_eq!(rows(&database), 5);
    for unsafe_label in ["../x", "a b", ""] {
        assert_eq!(copy(unsafe_label, 3), None);
        let error = copal::try_snapshot_before_migration(&url, &copies, unsafe_label, 3).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
    }
    let server = copal::try_snapshot_before_migration("postgres://h/d", &copies, "x", 3).unwrap_err();
    assert_eq!(server.kind(), ErrorKind::Unsupported);
    assert_eq!(copal::snapshot_before_migration("sqlite://", &copies, "x", 3), None, "a database in memory");
}
