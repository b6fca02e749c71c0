//! Snapshots while something else goes on: their backup, a spare copy that takes long; and databases of special kinds.
#![allow(clippy::unwrap_used)]

mod common;

use std::process::Stdio;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use common::memory::MemoryBackup;
use common::snapshots::{count, request, rewind, settled, take, text};
use common::{backup, engine, restore, source, told};
use copal_core::{
    AnyError, CancelToken, Context, Engine, EngineError, EngineErrorKind, FileHandle, PageFileSpec, RewindOptions,
    Sink, SnapshotNote, Snapshots,
};
use copal_postgres::PostgresEngine;
use copal_postgres::testing::{Server, literal};

/// Takes a backup's first bytes only when it is told to.
struct Slow {
    backup: MemoryBackup,
    reached: Option<Sender<()>>,
    go: Receiver<()>,
}

impl Sink for Slow {
    fn begin(&mut self, spec: &PageFileSpec) -> Result<FileHandle, AnyError> {
        self.backup.begin(spec)
    }

    fn pages(&mut self, file: FileHandle, first: u64, bytes: &[u8]) -> Result<(), AnyError> {
        self.backup.pages(file, first, bytes)
    }

    fn finish(&mut self, file: FileHandle, length: u64, head: &[u8]) -> Result<(), AnyError> {
        Sink::finish(&mut self.backup, file, length, head)
    }

    fn withdraw(&mut self, stream: FileHandle) -> Result<(), AnyError> {
        self.backup.withdraw(stream)
    }

    fn begin_stream(&mut self, name: &str) -> Result<FileHandle, AnyError> {
        self.backup.begin_stream(name)
    }

    fn append(&mut self, stream: FileHandle, bytes: &[u8]) -> Result<(), AnyError> {
        if let Some(reached) = self.reached.take() {
            reached.send(())?;
            self.go.recv()?;
        }
        self.backup.append(stream, bytes)
    }

    fn finish_stream(&mut self, stream: FileHandle) -> Result<(), AnyError> {
        self.backup.finish_stream(stream)
    }
}

const OPEN: &str = "SELECT count(*) FROM pg_database WHERE datname ~ '^copal' AND datallowconn";

/// Does something while the `n`th snapshot of `shop` is backed up; the backup.
fn while_backed_up(server: &Server, n: u32, meanwhile: impl FnOnce()) -> MemoryBackup {
    let (engine, shop) = (engine(), source(server, "shop"));
    let (reached, has_reached) = channel();
    let (go, may_go) = channel();
    let mut sink = Slow { backup: MemoryBackup::default(), reached: Some(reached), go: may_go };
    std::thread::scope(|scope| {
        // Moved: if something panics here, the backup ends, too.
        let go = go;
        let sink = &mut sink;
        let backing_up =
            scope.spawn(move || Snapshots::capture(&engine, &shop, &request(n, false).id, sink, &Context::silent()));
        has_reached.recv().unwrap();
        assert_eq!(server.psql("postgres", OPEN), "1");
        meanwhile();
        assert_eq!(server.psql("postgres", OPEN), "1");
        go.send(()).unwrap();
        backing_up.join().unwrap().unwrap();
    });
    assert_eq!(server.psql("postgres", OPEN), "0");
    sink.backup
}

fn assert_backed_up<T: std::fmt::Debug>(result: Result<T, EngineError>) {
    let error = result.unwrap_err();
    assert_eq!(error.kind, EngineErrorKind::Busy, "{}", text(&error));
    assert!(text(&error).contains("the snapshot is being backed up"), "{}", text(&error));
}

#[test]
fn a_snapshot_that_is_backed_up_is_in_nobodys_way() {
    let server = Server::start(15);
    let (engine, shop, context) = (engine(), source(&server, "shop"), Context::silent());
    server.psql("postgres", "CREATE ROLE stranger LOGIN");
    server.create_database("shop");
    server.psql("shop", "CREATE TABLE a AS SELECT generate_series(1, 1000) AS id");
    take(&engine, &shop, 1, false).unwrap();
    let id = request(1, false).id;
    let kept = while_backed_up(&server, 1, || {
        take(&engine, &shop, 2, false).unwrap();
        let note = SnapshotNote { name: "another".into(), ..SnapshotNote::default() };
        engine.describe(&shop, &id, &note, &context).unwrap();
        assert_eq!(engine.settle(&shop, false, &context).unwrap(), Vec::<String>::new());
        assert_backed_up(engine.remove(&shop, &id, &context));
        assert_backed_up(rewind(&engine, &shop, 1, false));
        assert_backed_up(Snapshots::capture(&engine, &shop, &id, &mut MemoryBackup::default(), &context));
        server.psql("shop", "DELETE FROM a");
        rewind(&engine, &shop, 2, false).unwrap();
        assert_eq!(server.psql("shop", "SELECT count(*) FROM a"), "1000");
        // Those who own it may look into it, nobody else.
        let open = server.psql("postgres", "SELECT datname FROM pg_database WHERE datname ~ '^copal' AND datallowconn");
        let mut stranger = server.command("psql", &open);
        let tried = stranger.env("PGUSER", "stranger").args(["-X", "-c", "SELECT 1"]).output().unwrap();
        let words = String::from_utf8_lossy(&tried.stderr);
        assert!(words.contains("permission denied for database"), "{words}");
    });
    assert!(kept.streams.iter().any(|(name, _)| name == "database.json"));
    // Copies have the rights of the database, not those of the snapshot.
    rewind(&engine, &shop, 1, false).unwrap();
    assert_eq!(server.psql("postgres", "SELECT datacl IS NULL FROM pg_database WHERE datname = 'shop'"), "t");
    engine.remove(&shop, &id, &context).unwrap();
    // With a spare copy there is something to go back to, but no other one is made.
    take(&engine, &shop, 3, true).unwrap();
    while_backed_up(&server, 3, || {
        server.psql("shop", "DELETE FROM a");
        let rewound = rewind(&engine, &shop, 3, true).unwrap();
        assert!(rewound.notes.iter().any(|note| note.contains("being backed up")), "{rewound:?}");
        assert_eq!(server.psql("shop", "SELECT count(*) FROM a"), "1000");
        assert_backed_up(rewind(&engine, &shop, 3, true));
    });
    settled(&server);
    rewind(&engine, &shop, 3, true).unwrap();
    settled(&server);
    assert_eq!((count(&server, "spare"), count(&server, "old")), ("1".into(), "0".into()));
}

#[test]
fn a_spare_copy_is_waited_for_as_long_as_it_takes() {
    let server = Server::start(15);
    let (impatient, shop) =
        (PostgresEngine { lock_wait: Duration::from_millis(100), ..engine() }, source(&server, "shop"));
    server.create_database("shop");
    server.psql("shop", "CREATE TABLE a AS SELECT generate_series(1, 1000) AS id");
    take(&impatient, &shop, 1, false).unwrap();
    let snapshot = server.psql("postgres", "SELECT datname FROM pg_database WHERE datname ~ '^copal_snap_'");
    // As whoever makes one has it.
    let lock = format!("hashtextextended({}, 6734)", literal(&format!("copal spare of {snapshot}")));
    let mut making = server.command("psql", "postgres");
    let make = format!("SELECT pg_advisory_lock({lock}); SELECT pg_sleep(600)");
    let mut making =
        making.args(["-X", "-q", "-c", &make]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let waiters = |is_granted: bool| {
        let query = format!("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted = {is_granted}");
        server.psql("template1", &query).parse::<u32>().unwrap()
    };
    while waiters(true) == 0 {
        std::thread::sleep(Duration::from_millis(20));
    }
    let (context, told) = told();
    let context = Context { cancel: CancelToken::default(), ..context };
    let go_back = || {
        let id = request(1, false).id;
        impatient.prepare(&shop, &id, RewindOptions::default(), &context).and_then(|prepared| prepared.finish(&context))
    };
    std::thread::scope(|scope| {
        let rewinding = scope.spawn(go_back);
        while waiters(false) == 0 && !rewinding.is_finished() {
            std::thread::sleep(Duration::from_millis(20));
        }
        // Ten times what it waits for other locks.
        std::thread::sleep(Duration::from_secs(1));
        assert!(!rewinding.is_finished(), "{:?}", rewinding.join());
        assert!(told.phases().contains(&"waiting for the spare copy".to_owned()), "{:?}", told.phases());
        server
            .psql("template1", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query ~ 'pg_sleep\\(600'");
        rewinding.join().unwrap().unwrap();
    });
    making.wait().unwrap();
    settled(&server);
    // Whoever does not want to wait tells it to stop.
    let mut making = server.command("psql", "postgres");
    let mut making =
        making.args(["-X", "-q", "-c", &make]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while waiters(true) == 0 {
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::scope(|scope| {
        let rewinding = scope.spawn(go_back);
        while waiters(false) == 0 && !rewinding.is_finished() {
            std::thread::sleep(Duration::from_millis(20));
        }
        context.cancel.cancel();
        assert_eq!(rewinding.join().unwrap().unwrap_err().kind, EngineErrorKind::Cancelled);
    });
    making.kill().unwrap();
    making.wait().unwrap();
}

#[test]
fn a_template_is_one_afterwards_and_its_old_copies_go() {
    let server = Server::start(15);
    let (engine, shop) = (engine(), source(&server, "shop"));
    server.create_database_with("shop", "IS_TEMPLATE true");
    let templates = "SELECT string_agg(datname, ',' ORDER BY datname) FROM pg_database WHERE datistemplate";
    take(&engine, &shop, 1, true).unwrap();
    settled(&server);
    for _ in 0..2 {
        let rewound = rewind(&engine, &shop, 1, false).unwrap();
        assert!(rewound.notes.is_empty(), "{rewound:?}");
        settled(&server);
        assert_eq!(server.psql("postgres", templates), "shop,template0,template1");
        assert_eq!(count(&server, "(old|new)"), "0");
    }
    // And if it is none any more, or none yet.
    server.psql("postgres", "ALTER DATABASE shop IS_TEMPLATE false");
    take(&engine, &shop, 2, false).unwrap();
    server.psql("postgres", "ALTER DATABASE shop IS_TEMPLATE true");
    let kept = backup(&engine, &server, "shop");
    rewind(&engine, &shop, 2, false).unwrap();
    // The server drops the old copy when nobody waits for it any more; a restore that came before would find it and say so.
    settled(&server);
    assert_eq!(server.psql("postgres", templates), "template0,template1");
    // A backup has it, too.
    for _ in 0..2 {
        let restored = restore(&engine, &kept, &server, "shop", |request| request.replace = true).unwrap();
        assert!(restored.notes.is_empty(), "{restored:?}");
        assert_eq!(server.psql("postgres", templates), "shop,template0,template1");
        assert_eq!(server.psql("postgres", "SELECT count(*) FROM pg_database WHERE datname ~ '_before_'"), "0");
    }
    restore(&engine, &kept, &server, "shop", |request| (request.replace, request.keep_old) = (true, true)).unwrap();
    assert_eq!(server.psql("postgres", "SELECT count(*) FROM pg_database WHERE datname ~ '_before_'"), "1");
    let scratch = engine.scratch(&shop, std::path::Path::new("/")).unwrap();
    let name = scratch.source.redacted().rsplit('/').next().unwrap().to_owned();
    restore(&engine, &kept, &server, &name, |_| {}).unwrap();
    (scratch.discard)().unwrap();
    assert_eq!(count(&server, "drill"), "0");
}

#[test]
fn the_database_called_postgres_is_one_as_any_other() {
    let server = Server::start(15);
    let (engine, postgres) = (engine(), source(&server, "postgres"));
    server.psql("postgres", "CREATE TABLE a AS SELECT generate_series(1, 10) AS id");
    take(&engine, &postgres, 1, true).unwrap();
    settled(&server);
    server.psql("postgres", "DROP TABLE a");
    // What is prepared in one database is not taken for left by who works in another.
    server.create_database("other");
    let prepared =
        engine.prepare(&postgres, &request(1, false).id, RewindOptions::default(), &Context::silent()).unwrap();
    assert_eq!(engine.settle(&source(&server, "other"), false, &Context::silent()).unwrap(), Vec::<String>::new());
    prepared.finish(&Context::silent()).unwrap();
    settled(&server);
    assert_eq!(server.psql("postgres", "SELECT count(*) FROM a"), "10");
    engine.remove(&postgres, &request(1, false).id, &Context::silent()).unwrap();
    assert_eq!(settled(&server), "other,postgres");
}
