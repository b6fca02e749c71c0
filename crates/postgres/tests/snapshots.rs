//! Snapshots on real servers: what they hold, who is ended for them, who may make them, and what stands in the way.
#![allow(clippy::unwrap_used)]

mod common;

use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use common::memory::MemoryBackup;
use common::snapshots::{ODD, count, request, rewind, settled, take, text};
use common::{backup, databases, engine, engine_for, restore, source, told};
use copal_core::{
    CancelToken, Context, Engine, EngineError, EngineErrorKind, RewindOptions, SnapshotNote, Snapshots, Source,
};
use copal_postgres::PostgresEngine;
use copal_postgres::testing::{Server, ServerOptions, differences, ident, literal};

/// What belongs to a database as a database.
fn properties(server: &Server, database: &str) -> String {
    let name = literal(database);
    server.psql(
        "postgres",
        &format!(
            "SELECT pg_get_userbyid(datdba), datacl, datconnlimit, datallowconn, encoding, datcollate, \
             shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = {name}; \
             SELECT setrole::regrole, unnest(setconfig) AS c FROM pg_db_role_setting s JOIN pg_database d ON d.oid = setdatabase \
             WHERE datname = {name} ORDER BY 1, 2"
        ),
    )
}

#[test]
fn a_database_goes_back_with_all_that_belongs_to_it() {
    Server::for_each_version(|server| {
        let (engine, odd) = (engine_for(&server), source(&server, ODD));
        server.psql("postgres", "CREATE ROLE \"the Öwner\"; CREATE ROLE app; CREATE ROLE gone");
        server.create_database_with(ODD, "OWNER \"the Öwner\" ENCODING 'LATIN1' LOCALE 'C'");
        server.psql(
            ODD,
            "CREATE TABLE a AS SELECT generate_series(1, 1000) AS id; CREATE SEQUENCE s; SELECT nextval('s'); \
             SELECT lo_from_bytea(0, 'large'); CREATE SCHEMA other; \
             CREATE TABLE other.\"alembic_version\" (version_num text); INSERT INTO other.alembic_version VALUES ('4f1c')",
        );
        let name = ident(ODD);
        server.psql(
            "postgres",
            &format!(
                "COMMENT ON DATABASE {name} IS E'it''s \\\\ the \"shop\"'; ALTER DATABASE {name} CONNECTION LIMIT 50; \
                 ALTER DATABASE {name} SET search_path = \"$user\", public, \"odd, one\"; \
                 ALTER ROLE app IN DATABASE {name} SET work_mem = '7MB'; ALTER DATABASE {name} SET my.var = E'a\\'\\\\b'; \
                 REVOKE ALL ON DATABASE {name} FROM PUBLIC; GRANT CONNECT ON DATABASE {name} TO app WITH GRANT OPTION"
            ),
        );
        let (had, held) = (properties(&server, ODD), server.pg_dump_text(ODD));
        let taken = take(&engine, &odd, 1, false).unwrap();
        assert_eq!(taken.snapshot.schema_version.as_deref(), Some("4f1c"));
        assert_eq!(taken.snapshot.engine_version.split('.').next(), Some(server.major().to_string().as_str()));
        assert_eq!((taken.snapshot.method.as_str(), taken.notes.len()), ("wal_log", 0), "{taken:?}");

        let listed = engine.list(&odd, &Context::silent()).unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!((&listed[0].note, &listed[0].id), (&request(1, false).note, &request(1, false).id));
        assert!(!listed[0].has_spare && listed[0].used_bytes == listed[0].bytes && listed[0].bytes > Some(1 << 20));
        // Nobody is let in, and a server's backup does not have it.
        let snapshot = server.psql("postgres", "SELECT datname FROM pg_database WHERE datname ~ '^copal_snap_'");
        assert!(server.try_psql(&snapshot, "SELECT 1").is_err());
        let all = Source::parse(&server.url("*")).unwrap();
        let members: Vec<_> = engine.members(&all).unwrap().unwrap().into_iter().map(|member| member.name).collect();
        assert_eq!(members, [ODD, "postgres"]);

        server.psql(
            "postgres",
            &format!(
                "ALTER DATABASE {name} RESET ALL; ALTER ROLE app IN DATABASE {name} RESET ALL; \
                 GRANT ALL ON DATABASE {name} TO gone; ALTER DATABASE {name} OWNER TO app; \
                 COMMENT ON DATABASE {name} IS 'other'; ALTER DATABASE {name} CONNECTION LIMIT -1"
            ),
        );
        server.psql(ODD, "DROP TABLE a; CREATE TABLE b (id int); SELECT lo_unlink(oid) FROM pg_largeobject_metadata");
        let rewound = rewind(&engine, &odd, 1, false).unwrap();
        assert!(rewound.notes.is_empty(), "{rewound:?}");
        assert_eq!(properties(&server, ODD), had);
        assert_eq!(differences(&server.pg_dump_text(ODD), &held), "");

        let note = SnapshotNote { name: "it's \\ another".into(), revision: 1, ..SnapshotNote::default() };
        engine.describe(&odd, &request(1, false).id, &note, &Context::silent()).unwrap();
        assert_eq!(engine.list(&odd, &Context::silent()).unwrap()[0].note, note);
        // It may be the last copy there is; a role that is gone is left out.
        settled(&server);
        server.psql("postgres", &format!("DROP DATABASE {name}"));
        server.psql("postgres", "DROP ROLE app");
        assert_eq!(engine.list(&odd, &Context::silent()).unwrap().len(), 1);
        let (context, told) = told();
        let id = request(1, false).id;
        engine.prepare(&odd, &id, RewindOptions::default(), &context).unwrap().finish(&context).unwrap();
        let warnings = told.warnings();
        assert!(warnings.len() == 2 && warnings.iter().all(|text| text.contains("\"app\"")), "{warnings:?}");
        assert_eq!(differences(&server.pg_dump_text(ODD), &held), "");
        engine.remove(&odd, &request(1, false).id, &Context::silent()).unwrap();
        assert_eq!(settled(&server), format!("{ODD},postgres"));
        assert_eq!(rewind(&engine, &odd, 1, false).unwrap_err().kind, EngineErrorKind::NotFound);
    });
}

#[test]
fn a_spare_copy_is_used_and_made_anew() {
    let server = Server::start(15);
    let (engine, shop) = (engine(), source(&server, "shop"));
    server.create_database("shop");
    server.psql("shop", "CREATE TABLE a AS SELECT generate_series(1, 1000) AS id");
    take(&engine, &shop, 1, true).unwrap();
    settled(&server);
    let listed = engine.list(&shop, &Context::silent()).unwrap();
    assert!(listed[0].has_spare && listed[0].used_bytes == listed[0].bytes.map(|bytes| 2 * bytes), "{listed:?}");
    for round in 0..3 {
        let spare = "SELECT oid FROM pg_database WHERE datname ~ '^copal_spare_'";
        let before = server.psql("postgres", spare);
        server.psql("shop", "DELETE FROM a WHERE id > 10");
        // The second does not wait for what goes on behind the first.
        rewind(&engine, &shop, 1, true).unwrap();
        assert_eq!(server.psql("postgres", "SELECT oid FROM pg_database WHERE datname = 'shop'"), before, "{round}");
        assert_eq!(server.psql("shop", "SELECT count(*) FROM a"), "1000");
        if round == 1 {
            settled(&server);
        }
        // The one that is being made is waited for.
        let prepared =
            engine.prepare(&shop, &request(1, false).id, RewindOptions::default(), &Context::silent()).unwrap();
        assert_eq!((count(&server, "spare"), count(&server, "new")), ("0".into(), "1".into()));
        // Not finished, it is a spare one again.
        drop(prepared);
        settled(&server);
        assert_eq!((count(&server, "spare"), count(&server, "new")), ("1".into(), "0".into()));
    }
    rewind(&engine, &shop, 1, false).unwrap();
    assert!(!settled(&server).contains("copal_spare_"));
    // A copy that is made for it goes if it is not wanted.
    drop(engine.prepare(&shop, &request(1, false).id, RewindOptions::default(), &Context::silent()).unwrap());
    let left = settled(&server);
    assert!(!left.contains("copal_spare_") && !left.contains("copal_new_") && !left.contains("copal_old_"), "{left}");
    // Whoever drops a snapshot by hand leaves its spare copy.
    take(&engine, &shop, 2, true).unwrap();
    settled(&server);
    for snapshot in server.psql("postgres", "SELECT datname FROM pg_database WHERE datname ~ '^copal_snap_'").lines() {
        server.psql("postgres", &format!("DROP DATABASE {snapshot}"));
    }
    let would = engine.settle(&shop, true, &Context::silent()).unwrap();
    assert!(would.len() == 1 && would[0].contains("copal_spare_"), "{would:?}");
    assert_eq!(engine.settle(&shop, false, &Context::silent()).unwrap().len(), 1);
    assert_eq!(settled(&server), "postgres,shop");
}

/// Sessions that write all the time, and connect again whenever they are ended.
struct Pool<'a> {
    server: &'a Server,
    stop: AtomicBool,
    /// Attempts to connect that failed in a row, at most, and all of them.
    longest: AtomicU32,
    refused: AtomicU32,
    said: std::sync::Mutex<Vec<String>>,
}

impl Pool<'_> {
    fn work(&self, n: usize) {
        let mut failures = 0;
        while !self.stop.load(Ordering::SeqCst) {
            let mut command = self.server.command("psql", "shop");
            let turn = format!(
                "DO $$ BEGIN LOOP INSERT INTO one VALUES ({n}); INSERT INTO two VALUES ({n}); COMMIT; END LOOP; END $$"
            );
            let done = command.args(["-X", "-q", "-c", &turn]).env("PGAPPNAME", "pool").output().unwrap();
            let words = String::from_utf8_lossy(&done.stderr).into_owned();
            let ended = words.contains("terminating connection") || words.contains("server closed the connection");
            failures = if ended { 0 } else { failures + 1 };
            self.longest.fetch_max(failures, Ordering::SeqCst);
            if !ended {
                self.refused.fetch_add(1, Ordering::SeqCst);
                self.said.lock().unwrap().push(words);
            }
        }
    }

    /// Waits until each of them has written since now.
    fn await_all(&self) {
        let before = self.server.psql("shop", "SELECT who, count(*) FROM two GROUP BY who ORDER BY who");
        let counts = |text: &str| -> Vec<u64> {
            let mut counts = vec![0; 4];
            for (who, n) in text.lines().filter_map(|line| line.split_once('|')) {
                counts[who.parse::<usize>().unwrap()] = n.parse().unwrap();
            }
            counts
        };
        loop {
            let now = self.server.psql("shop", "SELECT who, count(*) FROM two GROUP BY who ORDER BY who");
            if counts(&now).iter().zip(counts(&before)).all(|(now, before)| *now > before) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn end(&self) {
        self.stop.store(true, Ordering::SeqCst);
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pool'";
        while self.server.psql("postgres", end).contains('t') {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

#[test]
fn clients_that_write_and_reconnect_all_the_time_go_on_at_once() {
    Server::for_each_version(|server| {
        let (engine, shop) = (engine_for(&server), source(&server, "shop"));
        server.create_database("shop");
        server.psql("shop", "CREATE TABLE one (who int); CREATE TABLE two (who int)");
        let pool = Pool {
            server: &server,
            stop: AtomicBool::new(false),
            longest: AtomicU32::new(0),
            refused: AtomicU32::new(0),
            said: Default::default(),
        };
        std::thread::scope(|scope| {
            for n in 0..4 {
                let pool = &pool;
                scope.spawn(move || pool.work(n));
            }
            pool.await_all();
            for n in 1..4 {
                let taken = take(&engine, &shop, n, n == 2).unwrap();
                assert!(
                    taken.notes.iter().any(|note| note.contains("sessions of \"shop\": postgres (pool)")),
                    "{taken:?}"
                );
                // Who came meanwhile has waited.
                assert_eq!(pool.refused.load(Ordering::SeqCst), 0, "{:?}", pool.said.lock().unwrap());
                pool.await_all();
            }
            for n in 1..4 {
                let rewound = rewind(&engine, &shop, n, false).unwrap();
                assert!(rewound.notes.iter().any(|note| note.contains("sessions of \"shop\"")), "{rewound:?}");
                pool.await_all();
            }
            pool.end();
        });
        let said = pool.said.lock().unwrap();
        // The moment of the exchange itself: the name was looked up, and is another database's.
        let only = said.iter().all(|words| words.contains("renamed"));
        assert!(only && pool.longest.load(Ordering::SeqCst) <= 3, "{said:?}");
        // Each was one moment of both tables.
        settled(&server);
        for n in 1..4 {
            rewind(&engine, &shop, n, false).unwrap();
            let same = "SELECT (SELECT count(*) FROM one) = (SELECT count(*) FROM two) AND EXISTS (SELECT FROM one)";
            assert_eq!(server.psql("shop", same), "t");
        }
    });
}

/// A session that stays until it is ended.
fn idle(server: &Server, database: &str, role: &str) -> Child {
    let mut command = server.command("psql", database);
    command.env("PGUSER", role).args(["-X", "-c", "SELECT pg_sleep(600)"]);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let there = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}' AND usename = '{role}' AND query ~ '^SELECT pg_sleep'"
    );
    while server.psql("postgres", &there) == "0" {
        std::thread::sleep(Duration::from_millis(20));
    }
    child
}

#[test]
fn missing_rights_are_named_before_anything_is_done() {
    let server = Server::start(15);
    server.psql(
        "postgres",
        "CREATE ROLE owner LOGIN; CREATE ROLE saver LOGIN PASSWORD 'x'; CREATE ROLE app LOGIN; GRANT owner TO saver",
    );
    server.create_database_with("shop", "OWNER owner");
    let as_saver = Source::parse(&server.url_as("saver", Some("x"), "shop")).unwrap();
    let engine = engine();
    let refused = |word: &str| {
        let error = take(&engine, &as_saver, 1, false).unwrap_err();
        assert_eq!(error.kind, EngineErrorKind::PermissionDenied, "{}", text(&error));
        assert!(text(&error).contains(word), "{}", text(&error));
    };
    refused("ALTER ROLE \"saver\" CREATEDB");
    server.psql("postgres", "ALTER ROLE saver CREATEDB; REVOKE owner FROM saver");
    refused("GRANT \"owner\" TO \"saver\"");
    server.psql("postgres", "GRANT owner TO saver");
    let mut others = vec![idle(&server, "shop", "app")];
    refused("GRANT pg_signal_backend TO \"saver\"");
    assert_eq!(others[0].try_wait().unwrap(), None, "nobody was ended");
    server.psql("postgres", "GRANT pg_signal_backend TO saver");
    others.push(idle(&server, "shop", "postgres"));
    refused("sessions that are in it: postgres");
    others.remove(1).kill().unwrap();
    while server.psql(
        "postgres",
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = 'shop' AND usename = 'postgres'",
    ) != "0"
    {
        std::thread::sleep(Duration::from_millis(20));
    }
    // With these rights all of it works, and another's session is ended.
    let taken = take(&engine, &as_saver, 1, true).unwrap();
    assert!(taken.notes.iter().any(|note| note.contains("ended 1 session of \"shop\": app")), "{taken:?}");
    assert!(!others[0].wait().unwrap().success());
    server.psql("shop", "CREATE TABLE later ()");
    others.push(idle(&server, "shop", "app"));
    let rewound = rewind(&engine, &as_saver, 1, false).unwrap();
    assert!(rewound.notes.iter().any(|note| note.contains("ended 1 session of \"shop\": app")), "{rewound:?}");
    assert_eq!(server.psql("shop", "SELECT to_regclass('later')"), "");
    engine.remove(&as_saver, &request(1, false).id, &Context::silent()).unwrap();
    assert_eq!(settled(&server), "postgres,shop");
    others.iter_mut().for_each(|child| drop(child.wait()));
}

#[test]
fn what_stands_in_the_way_is_named() {
    let settings = vec![("wal_level".to_owned(), "logical".to_owned())];
    let server = Server::start_with(15, ServerOptions { settings, ..ServerOptions::default() });
    let (engine, shop) = (engine(), source(&server, "shop"));
    assert_eq!(take(&engine, &shop, 1, false).unwrap_err().kind, EngineErrorKind::NotFound);
    server.create_database("shop");
    take(&engine, &shop, 1, false).unwrap();
    let in_the_way = |what: &str, undo: &str, takes: bool| {
        let busy = |error: EngineError| {
            assert!(error.kind == EngineErrorKind::Busy && text(&error).contains(what), "{}", text(&error));
        };
        busy(rewind(&engine, &shop, 1, false).unwrap_err());
        match take(&engine, &shop, 2, false) {
            Ok(_) if takes => engine.remove(&shop, &request(2, false).id, &Context::silent()).unwrap(),
            taken => busy(taken.unwrap_err()),
        }
        server.psql("shop", undo);
    };
    server.psql("shop", "BEGIN; CREATE TABLE c (id int); PREPARE TRANSACTION 'the open one'");
    in_the_way("the open one", "ROLLBACK PREPARED 'the open one'", false);
    server.psql("shop", "SELECT pg_create_logical_replication_slot('slot', 'pgoutput')");
    in_the_way("slots follow it, which cannot go back: slot", "SELECT pg_drop_replication_slot('slot')", true);
    server.psql(
        "shop",
        "CREATE SUBSCRIPTION sub CONNECTION 'dbname=x' PUBLICATION p WITH (connect = false, slot_name = NONE)",
    );
    in_the_way("subscriptions, which no snapshot holds: sub", "DROP SUBSCRIPTION sub", true);
    let whole = engine.list(&Source::parse(&server.url("*")).unwrap(), &Context::silent()).unwrap_err();
    assert_eq!(whole.kind, EngineErrorKind::Unsupported);
    rewind(&engine, &shop, 1, false).unwrap();
    assert_eq!(settled(&server).matches("copal").count(), 1);
}

#[test]
fn operations_exclude_each_other() {
    let server = Server::start(15);
    let shop = source(&server, "shop");
    server.create_database("shop");
    server.psql("shop", "CREATE TABLE a AS SELECT generate_series(1, 200000) AS id");
    let engine = PostgresEngine { lock_wait: Duration::from_secs(60), ..engine() };
    std::thread::scope(|scope| {
        let takes: Vec<_> = (1..4)
            .map(|n| {
                scope.spawn({
                    let (engine, shop) = (&engine, &shop);
                    move || take(engine, shop, n, false)
                })
            })
            .collect();
        takes.into_iter().for_each(|taking| drop(taking.join().unwrap().unwrap()));
        let taking = scope.spawn(|| take(&engine, &shop, 4, false));
        let rewinding = scope.spawn(|| rewind(&engine, &shop, 1, true));
        let reading = scope.spawn(|| engine.list(&shop, &Context::silent()).unwrap().len());
        assert!(reading.join().unwrap() >= 3);
        taking.join().unwrap().unwrap();
        rewinding.join().unwrap().unwrap();
    });
    assert_eq!(engine.list(&shop, &Context::silent()).unwrap().len(), 4);
    settled(&server);
    // While one is prepared, others wait, and say at last for what; or they are told to stop.
    let impatient = PostgresEngine { lock_wait: Duration::from_millis(300), ..engine.clone() };
    let prepared = engine.prepare(&shop, &request(1, false).id, RewindOptions::default(), &Context::silent()).unwrap();
    let error = take(&impatient, &shop, 5, false).unwrap_err();
    assert!(
        error.kind == EngineErrorKind::Busy && text(&error).contains("another snapshot or rewind"),
        "{}",
        text(&error)
    );
    let token = CancelToken::default();
    let context = Context { cancel: token.clone(), ..Context::silent() };
    let error = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| engine.take(&shop, &request(5, false), &context).unwrap_err());
        while server.psql("postgres", "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
            == "0"
        {
            std::thread::sleep(Duration::from_millis(20));
        }
        token.cancel();
        waiting.join().unwrap()
    });
    assert_eq!(error.kind, EngineErrorKind::Cancelled);
    // Another database's are not waited for.
    server.create_database("other");
    take(&impatient, &source(&server, "other"), 1, false).unwrap();
    prepared.finish(&Context::silent()).unwrap();
    assert_eq!(server.psql("shop", "SELECT count(*) FROM a"), "200000");
    assert!(!settled(&server).contains("copal_new_"));
}

#[test]
fn a_cancelled_copy_leaves_nothing() {
    let server = Server::start(15);
    let (engine, shop) = (engine(), source(&server, "shop"));
    server.create_database("shop");
    server.psql("shop", "CREATE TABLE a AS SELECT id, repeat('x', 500) AS t FROM generate_series(1, 300000) AS id");
    let token = CancelToken::default();
    let context = Context { cancel: token.clone(), ..Context::silent() };
    let error = std::thread::scope(|scope| {
        let taking = scope.spawn(|| engine.take(&shop, &request(1, false), &context).unwrap_err());
        while server.psql("postgres", "SELECT count(*) FROM pg_stat_activity WHERE query ~ '^CREATE DATABASE'") == "0" {
            std::thread::sleep(Duration::from_millis(2));
        }
        token.cancel();
        taking.join().unwrap()
    });
    assert_eq!(error.kind, EngineErrorKind::Cancelled, "{}", text(&error));
    settled(&server);
    take(&engine, &shop, 2, false).unwrap();
    assert_eq!(settled(&server).matches("copal").count(), 1, "{}", databases(&server));
}

#[test]
fn a_full_disk_leaves_everything_as_it_was() {
    let server = Server::start(15);
    let (engine, shop) = (engine(), source(&server, "shop"));
    if server.small_tablespace("small", 50).is_none() {
        return;
    }
    // It has room for this twice, not three times.
    server.create_database_with("shop", "TABLESPACE small");
    server.psql("shop", "CREATE TABLE a AS SELECT id, repeat('x', 200) AS t FROM generate_series(1, 60000) AS id");
    take(&engine, &shop, 1, false).unwrap();
    // The server gives a copy that went through its log its blocks late.
    server.psql("postgres", "CHECKPOINT");
    for error in [take(&engine, &shop, 2, false).unwrap_err(), rewind(&engine, &shop, 1, false).unwrap_err()] {
        assert_eq!(error.kind, EngineErrorKind::NoSpace, "{}", text(&error));
    }
    assert_eq!(server.psql("shop", "SELECT count(*) FROM a"), "60000");
    assert_eq!(settled(&server).matches("copal").count(), 1);
    assert_eq!(engine.list(&shop, &Context::silent()).unwrap().len(), 1);
    server.psql("shop", "DROP TABLE a");
    rewind(&engine, &shop, 1, false).unwrap();
    assert_eq!(server.psql("shop", "SELECT count(*) FROM a"), "60000");
}

#[test]
fn blocks_are_shared_where_the_file_system_can() {
    if Server::versions().iter().all(|found| found.major != 18) {
        return;
    }
    let server = Server::start(18);
    let engine = engine_for(&server);
    server.create_database("plain");
    assert_eq!(take(&engine, &source(&server, "plain"), 1, false).unwrap().snapshot.method, "wal_log");
    if server.reflink_tablespace("xfs").is_none() {
        return;
    }
    let shop = source(&server, "shop");
    server.create_database_with("shop", "TABLESPACE xfs");
    server.psql("shop", "CREATE TABLE a AS SELECT id, repeat('x', 500) AS t FROM generate_series(1, 300000) AS id");
    server.psql("postgres", "CHECKPOINT");
    let folder = server.folder().join("disk-xfs");
    let used = || {
        let out = std::process::Command::new("df").args(["--output=used", "-k"]).arg(&folder).output().unwrap().stdout;
        String::from_utf8(out).unwrap().lines().nth(1).unwrap().trim().parse::<u64>().unwrap()
    };
    let before = used();
    let taken = take(&engine, &shop, 1, false).unwrap();
    assert_eq!(taken.snapshot.method, "reflink");
    settled(&server);
    assert!(used().saturating_sub(before) < 30_000, "{before} {}", used());
    let listed = engine.list(&shop, &Context::silent()).unwrap();
    assert!(listed[0].has_spare && listed[0].used_bytes.is_none() && listed[0].bytes > Some(150 << 20), "{listed:?}");
    for _ in 0..2 {
        server.psql("shop", "DELETE FROM a WHERE id > 10");
        rewind(&engine, &shop, 1, false).unwrap();
        assert_eq!(server.psql("shop", "SELECT count(*) FROM a"), "300000");
        settled(&server);
        assert!(engine.list(&shop, &Context::silent()).unwrap()[0].has_spare);
    }
}

#[test]
fn a_snapshot_is_backed_up_and_a_backup_becomes_one() {
    Server::for_each_version(|server| {
        let (engine, odd) = (engine_for(&server), source(&server, ODD));
        server.psql("postgres", "CREATE ROLE seller");
        server.create_database_with(ODD, "OWNER seller");
        server.psql(ODD, "CREATE TABLE a AS SELECT generate_series(1, 1000) AS id; CREATE INDEX ON a (id)");
        let name = ident(ODD);
        server.psql(
            "postgres",
            &format!("COMMENT ON DATABASE {name} IS 'the shop'; ALTER DATABASE {name} SET work_mem = '7MB'"),
        );
        let (had, held) = (properties(&server, ODD), server.pg_dump_text(ODD));
        take(&engine, &odd, 1, false).unwrap();
        let direct = backup(&engine, &server, ODD);
        server.psql(ODD, "DROP TABLE a");
        let mut kept = MemoryBackup::default();
        kept.capture = Snapshots::capture(&engine, &odd, &request(1, false).id, &mut kept, &Context::silent()).unwrap();
        assert!(kept.capture.inventory.compare(&direct.capture.inventory).is_empty());
        let stream = |backup: &MemoryBackup| {
            let (_, bytes) = backup.streams.iter().find(|(name, _)| name == "database.json").unwrap().clone();
            let mut value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            value.as_object_mut().unwrap().remove("bytes");
            value
        };
        assert_eq!(stream(&kept), stream(&direct));
        let open = "SELECT count(*) FROM pg_database WHERE datname ~ '^copal' AND datallowconn";
        assert_eq!(server.psql("postgres", open), "0");
        restore(&engine, &kept, &server, "by backup", |_| {}).unwrap();
        assert_eq!(differences(&server.pg_dump_text("by backup"), &held), "");
        // And the other way round.
        engine.remove(&odd, &request(1, false).id, &Context::silent()).unwrap();
        let inventory = direct.capture.inventory.clone();
        let taken =
            Snapshots::restore(&engine, &odd, &direct, &request(2, false), &inventory, &Context::silent()).unwrap();
        assert_eq!(taken.snapshot.method, "restored");
        assert_eq!(engine.list(&odd, &Context::silent()).unwrap().len(), 1);
        assert_eq!(server.psql("postgres", open), "0");
        rewind(&engine, &odd, 2, false).unwrap();
        assert_eq!((properties(&server, ODD), differences(&server.pg_dump_text(ODD), &held)), (had, String::new()));
        // What is not complete becomes none.
        let mut wrong = inventory;
        wrong.tables[0].rows = Some(1001);
        let error =
            Snapshots::restore(&engine, &odd, &direct, &request(3, false), &wrong, &Context::silent()).unwrap_err();
        assert_eq!(error.kind, EngineErrorKind::Corrupt);
        assert_eq!(settled(&server).matches("copal").count(), 1);
    });
}
