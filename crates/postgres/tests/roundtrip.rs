//! Backups and restores of real servers, through the engine's contract alone.
#![allow(clippy::unwrap_used)]

mod common;

use common::{backup, databases, engine, engine_for, restore};
use copal_core::{Context, Engine, EngineErrorKind, Objects, RestoreRequest, Source};
use copal_postgres::PostgresEngine;
use copal_postgres::testing::Server;

#[test]
fn the_torture_database_comes_back_on_every_version() {
    Server::for_each_version(|server| {
        server.create_torture("it's \"odd\"");
        let source = "it's \"odd\"";
        for (jobs, target) in [(1, "Restored here"), (2, "-d \u{fc} %")] {
            let engine = PostgresEngine { jobs, ..engine_for(&server) };
            let backup = backup(&engine, &server, source);
            let restored = restore(&engine, &backup, &server, target, |_| {}).unwrap();
            assert!(!restored.replaced && restored.check.ran.contains(&"inventory".to_owned()), "{restored:?}");
            server.assert_same(source, target);
            let replaced = restore(&engine, &backup, &server, target, |request| request.replace = true).unwrap();
            // It has a subscription, which might have a slot elsewhere: not ours to drop.
            assert!(replaced.notes.iter().any(|note| note.contains("the old database is left")), "{replaced:?}");
            server.assert_same(source, target);
        }
        assert!(!databases(&server).contains("copal_"), "{}", databases(&server));
    });
}

#[test]
fn what_is_there_is_replaced_only_when_told() {
    let server = Server::start(15);
    server.create_database("shop");
    server.psql(
        "shop",
        "CREATE TABLE a AS SELECT generate_series(1, 1000) AS id; COMMENT ON DATABASE shop IS 'the shop'",
    );
    server.psql(
        "shop",
        "ALTER DATABASE shop SET search_path = \"$user\", public; ALTER DATABASE shop CONNECTION LIMIT 50",
    );
    let engine = engine();
    let backup = backup(&engine, &server, "shop");
    server.psql("shop", "DELETE FROM a WHERE id > 10");
    let refused = restore(&engine, &backup, &server, "shop", |_| {}).unwrap_err();
    assert_eq!(refused.kind, EngineErrorKind::Exists);
    let dry = restore(&engine, &backup, &server, "shop", |r| (r.replace, r.dry_run) = (true, true)).unwrap();
    assert!(dry.replaced);
    assert_eq!(server.psql("shop", "SELECT count(*) FROM a"), "10");
    let done = restore(&engine, &backup, &server, "shop", |r| (r.replace, r.keep_old) = (true, true)).unwrap();
    assert!(done.replaced && done.notes.iter().any(|note| note.contains("kept as \"shop_before_")), "{done:?}");
    assert_eq!(server.psql("shop", "SELECT count(*) FROM a"), "1000");
    assert_eq!(server.psql("shop", "SHOW search_path"), "\"$user\", public");
    let about = "SELECT shobj_description(oid, 'pg_database') || datconnlimit FROM pg_database WHERE datname = 'shop'";
    assert_eq!(server.psql("shop", about), "the shop50");
    let old = server.psql("postgres", "SELECT datname FROM pg_database WHERE datname ~ '^shop_before'");
    assert_eq!(server.psql(&old, "SELECT count(*) FROM a"), "10");
}

#[test]
fn single_tables_come_back_with_all_that_belongs_to_them() {
    let server = Server::start(15);
    server.create_database("shop");
    server.psql(
        "shop",
        "CREATE TABLE other (id int PRIMARY KEY); CREATE SCHEMA \"odd one\"; \
         CREATE TABLE \"odd one\".\"T a\" (id serial PRIMARY KEY, x int CHECK (x > 0) REFERENCES other); \
         CREATE INDEX ON \"odd one\".\"T a\" (x); INSERT INTO other VALUES (1), (2); \
         INSERT INTO \"odd one\".\"T a\" (x) VALUES (1), (2)",
    );
    let before = server.pg_dump_text("shop");
    let engine = engine();
    let backup = backup(&engine, &server, "shop");
    let objects = Objects { tables: vec!["odd one.T a".into()], schemas: vec![] };
    let taken = restore(&engine, &backup, &server, "shop", |r| r.objects = objects.clone()).unwrap_err();
    assert!(taken.source.as_ref().is_some_and(|s| s.to_string().contains("already exists")), "{taken:?}");
    server.psql("shop", "DROP TABLE \"odd one\".\"T a\"");
    restore(&engine, &backup, &server, "shop", |r| r.objects = objects).unwrap();
    assert_eq!(server.pg_dump_text("shop"), before);
    let missing = Objects { tables: vec!["nothing".into()], schemas: vec![] };
    let error = restore(&engine, &backup, &server, "shop", |r| r.objects = missing).unwrap_err();
    assert_eq!(error.kind, EngineErrorKind::NotFound);
    server.psql("shop", "DROP SCHEMA \"odd one\" CASCADE");
    let missing = Objects { tables: vec![], schemas: vec!["odd".into()] };
    let error = restore(&engine, &backup, &server, "shop", |r| r.objects = missing).unwrap_err();
    assert_eq!(error.kind, EngineErrorKind::NotFound);
    let schemas = Objects { tables: vec![], schemas: vec!["odd one".into()] };
    restore(&engine, &backup, &server, "shop", |r| r.objects = schemas).unwrap();
    assert_eq!(server.pg_dump_text("shop"), before);
}

#[test]
fn the_plain_archive_can_be_had() {
    let server = Server::start(15);
    server.create_database("shop");
    server.psql("shop", "CREATE TABLE a AS SELECT generate_series(1, 1000) AS id");
    let backup = backup(&engine(), &server, "shop");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("it's.pgdump");
    let target = Source::parse(&format!("file:{}", path.display())).unwrap();
    let restored = engine().restore(&backup, &RestoreRequest::new(target), &Context::silent()).unwrap();
    assert!(restored.notes.iter().any(|note| note.contains("globals.sql")), "{restored:?}");
    server.create_database("by_hand");
    let mut command = server.command("pg_restore", "by_hand");
    let status = command.arg("--dbname=by_hand").arg(&path).status().unwrap();
    assert!(status.success());
    assert_eq!(server.psql("by_hand", "SELECT count(*) FROM a"), "1000");
}

#[test]
fn an_index_that_no_dump_has_is_not_missed() {
    let server = Server::start(15);
    server.create_database("shop");
    server.psql("shop", "CREATE TABLE a AS SELECT generate_series(1, 10) AS id; CREATE INDEX broken ON a (id)");
    // As a CREATE INDEX CONCURRENTLY that failed leaves it.
    server.psql("shop", "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'broken'::regclass");
    let backup = backup(&engine(), &server, "shop");
    restore(&engine(), &backup, &server, "other", |_| {}).unwrap();
    assert_eq!(server.psql("other", "SELECT count(*) FROM a"), "10");
}
