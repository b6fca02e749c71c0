//! What cannot be done is told before anything is done.

use copal_core::{Engine as _, EngineError, EngineErrorKind};

use super::*;
use crate::testing::PASSWORD;

fn assert_refused(error: &EngineError, kind: EngineErrorKind, words: &[&str]) {
    let text = format!("{error} {}", error.hint.as_deref().unwrap_or_default());
    assert_eq!(error.kind, kind, "{error:?}");
    assert!(words.iter().all(|word| text.contains(word)), "{text}");
    assert!(!format!("{error:?}").contains(PASSWORD));
}

#[test]
fn what_cannot_be_carried() {
    let server = Server::start();
    server.sql("", "CREATE DATABASE d; CREATE TABLE d.good (id INT PRIMARY KEY); CREATE DATABASE e");
    let url = server.url("d");
    let cases = [
        ("CREATE TABLE d.bad (id INT NOT NULL) ENGINE=CSV", "DROP TABLE d.bad", "CSV"),
        ("CREATE TABLE d.bad (id INT) ENGINE=MERGE UNION=()", "DROP TABLE d.bad", "MRG_M"),
        ("CREATE TABLE d.copal_snapshot (id INT)", "DROP TABLE d.copal_snapshot", "keeps for itself"),
        (
            "CREATE TABLE d.bad (x INT, s BIGINT UNSIGNED GENERATED ALWAYS AS ROW START, e BIGINT UNSIGNED GENERATED ALWAYS AS ROW END, \
             PERIOD FOR SYSTEM_TIME (s, e)) WITH SYSTEM VERSIONING",
            "DROP TABLE d.bad",
            "by transactions",
        ),
        (
            "CREATE TABLE e.child (id INT, CONSTRAINT x FOREIGN KEY (id) REFERENCES d.good (id))",
            "DROP TABLE e.child",
            "e.child",
        ),
    ];
    take(&url, 1).unwrap();
    for (make, undo, word) in cases {
        server.sql("", make);
        let error = take(&url, 2).unwrap_err();
        assert_refused(&error, EngineErrorKind::Unsupported, &["\"d\"", word, "nothing was changed"]);
        server.sql("", undo);
    }
    server.sql("", cases[4].0);
    let error = rewind(&url, 1).unwrap_err();
    assert_refused(&error, EngineErrorKind::Unsupported, &["e.child"]);
    assert_eq!(ours(&server).len(), 1);
    for wrong in ["mysql", "information_schema", "copal_snap_0123456789ab"] {
        assert_eq!(take(&server.url(wrong), 1).unwrap_err().kind, EngineErrorKind::Unsupported, "{wrong}");
    }
    assert_eq!(take(&server.url("gone"), 1).unwrap_err().kind, EngineErrorKind::NotFound);
    assert_eq!(rewind(&url, 7).unwrap_err().kind, EngineErrorKind::NotFound);
    let error = engine().scratch(&source(&url), std::path::Path::new("/")).unwrap_err();
    assert_refused(&error, EngineErrorKind::Unsupported, &["copal snap -d"]);
}

#[test]
fn missing_privileges_are_named_and_those_that_are_told_suffice() {
    let server = Server::start();
    let name = "a_d%x";
    server.sql("", &format!("CREATE DATABASE `{name}`; CREATE USER little@'%' IDENTIFIED BY 'x'; CREATE USER other@'%'; GRANT ALL ON *.* TO other@'%'"));
    server.sql(
        name,
        "CREATE TABLE t (id INT PRIMARY KEY); INSERT INTO t VALUES (1); CREATE DEFINER=other@'%' TRIGGER tr BEFORE INSERT ON t FOR EACH ROW SET @x = 1; \
         CREATE DEFINER=other@'%' PROCEDURE p() SELECT 1; CREATE VIEW v AS SELECT * FROM t; CREATE EVENT e ON SCHEDULE EVERY 1 YEAR DO SELECT 1",
    );
    let url = server.url_as("little", Some("x"), name);
    // Each answer says what to type; typing it leads to the next, and at last there.
    let mut typed = Vec::new();
    let mut follow = |result: EngineResult<()>| {
        let Err(error) = &result else { return true };
        assert_eq!(error.kind, EngineErrorKind::PermissionDenied, "{error:?} after {typed:?}");
        let hint = error.hint.clone().unwrap();
        let statement = hint.strip_prefix("as an administrator: ").unwrap().replace('…', "little@'%'");
        assert!(!typed.contains(&statement), "{error:?} again after {typed:?}");
        server.sql("", &statement);
        typed.push(statement);
        false
    };
    let before = dump(&server, name);
    while !follow(take(&url, 1).map(drop)) {
        assert!(ours(&server).is_empty());
    }
    while !follow(rewind(&url, 1).map(drop)) {
        assert_eq!((before.clone(), ours(&server).len()), (dump(&server, name), 1));
    }
    assert_same(&before, &dump(&server, name));
    assert!(typed.len() >= 4, "{typed:?}");
    let wrong = take(&server.url_as("copal", Some("s3cret"), name), 1).unwrap_err();
    assert_refused(&wrong, EngineErrorKind::PermissionDenied, &["MYSQL_PWD"]);
    assert!(!format!("{wrong:?}").contains("s3cret"), "{wrong:?}");
    assert_eq!(take("mysql://u@127.0.0.1:1/d", 1).unwrap_err().kind, EngineErrorKind::NotFound);
}

#[test]
fn what_cannot_be_put_back_is_a_warning() {
    let server = Server::start();
    server.sql("", "CREATE DATABASE d; CREATE DATABASE e; CREATE TABLE e.x (id INT); CREATE TABLE d.t (id INT)");
    server.sql("d", "CREATE VIEW v AS SELECT * FROM e.x; CREATE VIEW w AS SELECT * FROM t");
    let url = server.url("d");
    take(&url, 1).unwrap();
    server.sql("d", "DROP VIEW v; DROP VIEW w; DROP DATABASE e");
    let (context, warnings) = listening();
    let prepared = engine().prepare(&source(&url), &id(1), RewindOptions::default(), &context).unwrap();
    let notes = prepared.finish(&context).unwrap().notes;
    let told = warnings.told();
    assert!(notes.is_empty() && told.len() == 1, "{notes:?} {told:?}");
    assert!(told[0].starts_with("the view \"v\" could not be put back: "), "{told:?}");
    assert_eq!(server.sql("d", "SHOW TABLES"), "t\nw");
}

#[test]
fn what_a_newer_copal_has_made_is_left_alone() {
    let server = Server::start();
    server.sql("", "CREATE DATABASE d; CREATE TABLE d.t (id INT)");
    let url = server.url("d");
    for n in 1..4 {
        take(&url, n).unwrap();
        let newest = listed(&url).pop().unwrap();
        assert_eq!(newest, id(n));
    }
    let schema = |n: u32| {
        let all = ours(&server);
        let is_it = |name: &&String| {
            server.sql(name, &format!("SELECT description LIKE '%{}%' FROM copal_snapshot", id(n))) == "1"
        };
        all.iter().find(is_it).unwrap().clone()
    };
    let (first, second) = (schema(1), schema(2));
    server.sql(&first, "UPDATE copal_snapshot SET description = '{\"form\": 2}'");
    assert_eq!(listed(&url), [id(2), id(3)]);
    server.sql(&second, "ALTER TABLE copal_snapshot CHANGE used_bytes used INT");
    assert_eq!(listed(&url), [id(3)]);
    let working = first.replace("snap", "rewind");
    let aside = first.replace("snap", "aside");
    server.sql("", &format!("CREATE DATABASE {working}; CREATE TABLE {working}.copal_rewind (id INT, plan TEXT); CREATE DATABASE {aside}"));
    server.sql(&working, "INSERT INTO copal_rewind VALUES (1, '{}')");
    let (context, warnings) = listening();
    assert!(engine().settle(&source(&url), false, &context).unwrap().is_empty());
    assert!(warnings.told().len() == 1 && warnings.told()[0].contains(&working), "{:?}", warnings.told());
    take(&url, 4).unwrap();
    rewind(&url, 3).unwrap();
    engine().remove(&source(&url), &id(3), &Context::silent()).unwrap();
    assert_eq!(listed(&url), [id(4)]);
    assert!([first, second, working, aside].iter().all(|kept| ours(&server).contains(kept)));
}

#[test]
fn without_functions_tables_are_locked() {
    let server = Server::start_with(&["--log-bin"]);
    server.sql("", "CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY); INSERT INTO d.t VALUES (1), (2); CREATE USER little@'%' IDENTIFIED BY 'x'");
    server.sql("", "GRANT ALL ON d.* TO little@'%'; GRANT ALL ON `copal\\_%`.* TO little@'%'; SET GLOBAL log_bin_trust_function_creators = 0");
    let url = server.url_as("little", Some("x"), "d");
    let taken = take(&url, 1).unwrap();
    assert_eq!(taken.snapshot.method, "locked tables");
    server.sql("d", "DELETE FROM t");
    rewind(&url, 1).unwrap();
    assert_eq!(server.sql("d", "SELECT count(*) FROM t"), "2");
}

#[test]
fn a_full_disk_is_named_and_left_clean() {
    let Some(server) = Server::start_on_small_disk(230) else { return };
    server.sql("", "CREATE DATABASE d");
    server.sql("d", "CREATE TABLE t (id INT PRIMARY KEY, x VARCHAR(250)); INSERT INTO t SELECT seq, repeat('x', 200) FROM seq_1_to_100000");
    let url = server.url("d");
    let before = dump(&server, "d");
    let mut filled = 0;
    let error = loop {
        match take(&url, filled + 1) {
            Ok(_) => filled += 1,
            Err(error) => break error,
        }
        assert!(filled < 20, "the disk is never full");
    };
    assert_eq!(error.kind, EngineErrorKind::NoSpace, "{error:?}");
    assert_eq!((ours(&server).len(), listed(&url).len()), (filled as usize, filled as usize));
    // Nor is there room for a rewind, unless what failed has left some.
    if let Err(error) = rewind(&url, 1) {
        assert_eq!(error.kind, EngineErrorKind::NoSpace, "{error:?}");
    }
    assert_eq!(ours(&server).len(), filled as usize);
    assert_same(&before, &dump(&server, "d"));
}

#[test]
fn connections_are_encrypted_as_asked() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let (key, certificate) = (folder.path().join("key"), folder.path().join("crt"));
    let done = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .unwrap();
    assert!(done.status.success(), "openssl: {}", String::from_utf8_lossy(&done.stderr));
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let (cert, key) = (format!("--ssl-cert={}", certificate.display()), format!("--ssl-key={}", key.display()));
    let server = Server::start_with(&[&cert, &key]);
    server.sql("", "CREATE DATABASE d; ALTER USER copal@'%' REQUIRE SSL");
    let url = |query: &str| source(&format!("{}?{query}", server.url("d")));
    let authority = format!("ssl-ca={}", certificate.display());
    for good in [
        "",
        "ssl-mode=REQUIRED",
        &format!("ssl-mode=VERIFY_IDENTITY&{authority}"),
        &format!("ssl_mode=verify_ca&{authority}"),
    ] {
        engine().identify(&url(good)).unwrap_or_else(|error| panic!("{good}: {error:?}"));
    }
    let plain = engine().identify(&url("ssl=false")).unwrap_err();
    assert_eq!(plain.kind, EngineErrorKind::PermissionDenied, "{plain:?}");
    assert!(engine().identify(&url("ssl-mode=VERIFY_IDENTITY")).is_err(), "an authority that nobody trusts");
    let bare = Server::start();
    assert!(engine().identify(&source(&format!("{}?ssl-mode=REQUIRED", bare.url("x")))).is_err());
}
