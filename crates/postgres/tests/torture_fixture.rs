//! The fixtures of other tests, proven without Copal: plain `pg_dump` and `psql` reproduce the torture schema on every
//! version, and what a load keeps true is really true, so that a later difference is Copal's fault.

// Everything here is a test or serves one; a panic is how a test fails.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use copal_postgres::testing::{Load, Server, ServerOptions, Stop, Work, differences, invariants};

/// A version with TLS and programs of its own.
fn whole() -> u32 {
    Server::versions().into_iter().find(|found| found.tls && found.clients).expect("run tools/prepare.sh").major
}

#[test]
fn a_server_can_be_stopped_in_every_way_and_goes_on_where_it_was() {
    let mut server = Server::start(whole());
    let name = "a \"b\"=c\n%20";
    server.create_database(name);
    server.psql(name, "CREATE TABLE t AS SELECT 1 AS a");
    let (port, before) = (server.port(), server.checksums(name));
    for how in [Stop::Fast, Stop::Immediate, Stop::Kill] {
        // `synchronous_commit` is off.
        server.psql(name, "CHECKPOINT");
        server.stop(how);
        assert!(server.try_psql(name, "SELECT 1").is_err());
        server.restart();
        assert_eq!(server.port(), port);
        assert_eq!(server.checksums(name), before);
    }
}

#[test]
fn a_small_tablespace_is_full_and_the_server_lives() {
    let server = Server::start(18);
    let Some(()) = server.small_tablespace("tight", 20) else { return };
    server.psql("postgres", "CREATE DATABASE tight TABLESPACE tight");
    let error = server.try_psql("tight", "CREATE TABLE t AS SELECT repeat('x', 1000) FROM generate_series(1, 50000)");
    assert!(error.unwrap_err().contains("No space left on device"));
    assert_eq!(server.psql("tight", "SELECT 1"), "1");
}

#[test]
fn tcp_asks_for_the_password_and_for_tls() {
    let server = Server::start_with(whole(), ServerOptions { tls: true, ..ServerOptions::default() });
    let psql = |url: &str| {
        let mut command = server.command("psql", "postgres");
        command.args([
            "-X",
            "-A",
            "-t",
            "-w",
            "-c",
            "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
            "-d",
            url,
        ]);
        let output = command.output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let certificate = server.certificate().unwrap();
    let full = format!("{}?sslmode=verify-full&sslrootcert={}", server.url("postgres"), certificate.to_str().unwrap());
    assert_eq!(psql(&full), (true, "t".to_owned()));
    assert!(!psql(&format!("{}?sslmode=disable", server.url("postgres"))).0);
    assert!(!psql(&server.url_as("postgres", Some("wrong"), "postgres")).0);
    assert!(!psql(&server.url_as("postgres", None, "postgres")).0);
    assert_eq!(psql(&server.socket_url("postgres")), (true, "f".to_owned()));
}

#[test]
fn plain_dumps_reproduce_the_torture_schema() {
    Server::for_each_version(|server| {
        let (original, copy) = ("Tor \"ture\" = 'ü'\n\\ %s", "-copy of torture");
        server.create_torture(original);
        server.create_database(copy);
        let script = server.folder().join("dump.sql");
        std::fs::write(&script, server.pg_dump_text(original)).unwrap();
        server.psql_file(copy, &script, &[]);
        server.assert_same(original, copy);

        // So does an archive that is restored by two connections.
        let archive = server.folder().join("dump.archive");
        let run = |command: &mut std::process::Command| {
            let done = command.output().unwrap();
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        };
        run(server.command("pg_dump", original).args(["-Fc", "-Z0", "-f"]).arg(&archive));
        server.create_database("archived");
        run(server.command("pg_restore", "").args(["-e", "-j2", "-d", "archived"]).arg(&archive));
        server.assert_same(original, "archived");

        // Another server, with the same roles; its own databases make other OIDs.
        let other = Server::start(server.major());
        other.create_torture_roles();
        other.create_database(copy);
        other.psql_file(copy, &script, &[]);
        server.assert_same_as(original, &other, copy);
        let globals = |server: &Server| server.globals_text(false).replace(server.folder().to_str().unwrap(), "FOLDER");
        assert_eq!(differences(&globals(&server), &globals(&other)), "");

        // The comparison is not blind.
        for change in [
            "UPDATE a.wide SET compressed = compressed || 'x' WHERE id = 3",
            "SELECT nextval('a.used')",
            "SELECT lo_put(424244, 5, 'x')",
            "DELETE FROM a.no_columns WHERE ctid = (SELECT min(ctid) FROM a.no_columns)",
        ] {
            let before = server.checksums(copy);
            server.psql(copy, change);
            assert_ne!(server.checksums(copy), before, "{change}");
        }
    });
}

#[test]
fn the_load_keeps_what_is_true() {
    Server::for_each_version(|server| {
        server.create_database("live");
        let load = Load::start_with(&server, "live", &Work::ALL, Duration::from_millis(1));
        for _ in 0..5 {
            invariants(&server, "live").unwrap();
            std::thread::sleep(Duration::from_millis(100));
        }
        let slow = Load::start_with(&server, "live", &[Work::Recreate], Duration::from_millis(200));
        load.stop(&server);
        slow.stop(&server);
        assert_eq!(server.psql("live", "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'CALL %'"), "0");
        invariants(&server, "live").unwrap();
        server.psql("live", "UPDATE load.checking SET balance = balance - 1 WHERE id = 7");
        let violated = invariants(&server, "live").unwrap_err();
        assert!(violated.contains("1999999") && violated.contains("checking account 7"), "{violated}");
    });
}

#[test]
fn facts_of_a_database_are_told() {
    let server = Server::start(whole());
    server.create_database_with("it's", "ENCODING 'LATIN1' LOCALE 'C' CONNECTION LIMIT 7");
    server.psql("it's", "COMMENT ON DATABASE \"it's\" IS 'noted'; ALTER DATABASE \"it's\" SET work_mem = '5MB'");
    server.psql("it's", "GRANT CREATE ON DATABASE \"it's\" TO PUBLIC");
    let facts = server.database_facts("it's");
    for fact in ["postgres|LATIN1|C|C|7|t|f|pg_default|noted", "\ngrant =CTc/postgres", "\nset  work_mem=5MB"] {
        assert!(facts.contains(fact), "{fact} in {facts}");
    }
}

#[test]
fn differences_are_seen() {
    assert_eq!(differences("a\nb\n", "a\nb\n"), "");
    assert_eq!(differences("a\nb\nb\n", "a\nb\nc\n"), "-b\n-b\n+c\n");
    assert!(differences("a\nb\n", "b\na\n").starts_with("in another order"));
}
