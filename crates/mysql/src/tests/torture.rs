//! One database with everything that a server knows, changed in every way, and put back.

use std::path::Path;

use copal_core::{CheckLevel, Context, Engine as _, RewindOptions, Snapshots as _};

use super::*;

/// A name with all that names may have.
pub(super) const NAME: &str = "sh`öp_ 'x' \"数\" %";

/// Every change that an application or a migration could make.
const CHANGES: &str = r"
DELETE FROM child; INSERT INTO `pa``rent` VALUES (9000, 'new', NULL); UPDATE gen SET a = 9; DELETE FROM nokey WHERE a = 3; DELETE FROM versioned;
UPDATE periods SET x = 77; INSERT INTO zero (f) VALUES (1); TRUNCATE texts; UPDATE mem SET x = 'changed'; INSERT INTO uses_seq (x) VALUES (3), (4);
ALTER TABLE child DROP CONSTRAINT `f``1`; ALTER TABLE egg DROP FOREIGN KEY egg_hen; DROP TABLE hen; CREATE VIEW hen AS SELECT 1 AS id;
ALTER TABLE aria ADD COLUMN more INT, ENGINE=InnoDB; DROP TABLE myisam; ALTER TABLE parts REMOVE PARTITIONING;
DROP TABLE outward; CREATE TABLE fresh (id INT PRIMARY KEY, CONSTRAINT `to``other` FOREIGN KEY (id) REFERENCES egg (id)); CREATE TABLE a_table (x INT);
DROP VIEW a_view; CREATE TABLE a_view (x INT); CREATE VIEW another AS SELECT * FROM fresh;
CREATE OR REPLACE VIEW `v``1` AS SELECT 2 AS z; DROP FUNCTION `tw``ice`; CREATE PROCEDURE stranger() SELECT 1;
CREATE OR REPLACE PROCEDURE `pr'oc` () SELECT 2; DROP TRIGGER tr2; CREATE TRIGGER new_one BEFORE INSERT ON gen FOR EACH ROW SET NEW.a = 1;
CREATE TRIGGER tr2 BEFORE UPDATE ON log FOR EACH ROW SET NEW.what = 'no'; ALTER EVENT `ev'ent` ENABLE COMMENT 'other'; CREATE EVENT fresh_one ON SCHEDULE EVERY 1 YEAR DO SELECT 1;
CREATE SEQUENCE more_seq; ALTER DATABASE CHARACTER SET latin1";

pub(super) fn quoted(name: &str) -> String {
    crate::quote::identifier(name)
}

/// Makes the database.
pub(super) fn make(server: &Server) {
    let other = "CREATE DATABASE `oth``er`; CREATE TABLE `oth``er`.`ta.rget` (id INT PRIMARY KEY); INSERT INTO `oth``er`.`ta.rget` VALUES (1), (2)";
    let make =
        format!("CREATE DATABASE {} CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci COMMENT 'it''s'", quoted(NAME));
    server.sql("", &format!("{other}; {make}"));
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tests/torture.sql")).unwrap();
    server.sql(NAME, &text);
}

#[test]
fn everything_is_put_back() {
    let server = Server::start();
    make(&server);
    let url = server.url(NAME);
    let before = dump(&server, NAME);
    let taken = take(&url, 1).unwrap();
    assert_same(&before, &dump(&server, NAME));
    assert_eq!((taken.snapshot.method.as_str(), taken.notes), ("insert select", vec![]));
    assert!(taken.snapshot.used_bytes.unwrap() > 100_000 && taken.snapshot.bytes.unwrap() > 100_000);
    assert!(taken.snapshot.engine_version.starts_with("MariaDB 1"));
    // A snapshot is in nobody's way.
    server.sql("", "DELETE FROM `oth``er`.`ta.rget` WHERE id = 2");
    let url = server.socket_url(NAME);
    for round in 0..2 {
        server.sql(NAME, CHANGES);
        assert_ne!(before, dump(&server, NAME));
        let rewound = rewind(&url, 1).unwrap();
        assert!(rewound.notes.is_empty(), "{:?}", rewound.notes);
        assert_same(&before, &dump(&server, NAME));
        assert_eq!(ours(&server).len(), 1, "round {round}");
    }
    // Foreign keys of all kinds are in force.
    for wrong in [
        "INSERT INTO outward VALUES (9, 99)",
        "INSERT INTO child VALUES (99, 77, 1)",
        "DELETE FROM `oth``er`.`ta.rget`",
    ] {
        assert!(server.try_sql(NAME, wrong).unwrap_err().contains("foreign key"), "{wrong}");
    }
    server.sql(NAME, "DELETE FROM `pa``rent` WHERE `i'd` = 1");
    assert_eq!(server.sql(NAME, "SELECT count(*) FROM child"), "1");
    // Gone altogether.
    server.sql("", &format!("DROP DATABASE {}", quoted(NAME)));
    assert_eq!(listed(&url), [id(1)]);
    // Defaults name their sequence with the database: it has to be there.
    let error = rewind(&url, 1).unwrap_err();
    let sequence = error.hint.unwrap().split_once("first: ").unwrap().1.to_owned();
    assert_eq!(ours(&server).len(), 1);
    server.sql("", &format!("CREATE DATABASE {0}; USE {0}; {sequence}", quoted(NAME)));
    rewind(&url, 1).unwrap();
    assert_same(&before, &dump(&server, NAME));
    let inventory = engine().inventory(&source(&url), &Context::silent()).unwrap();
    assert_eq!(inventory.tables.iter().find(|table| table.name == "nokey").unwrap().rows, Some(4));
    let report = engine().check(&source(&url), CheckLevel::Full, &Context::silent()).unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    engine().remove(&source(&url), &id(1), &Context::silent()).unwrap();
    assert!(ours(&server).is_empty() && listed(&url).is_empty());
}

#[test]
fn a_spare_copy_is_used_and_made_again() {
    let server = Server::start();
    make(&server);
    let (url, context) = (server.url(NAME), Context::silent());
    let before = dump(&server, NAME);
    let mut with_spare = request(1);
    with_spare.spare = true;
    let taken = engine().take(&source(&url), &with_spare, &context).unwrap();
    assert!(taken.snapshot.has_spare && taken.notes.is_empty(), "{taken:?}");
    for spare in [true, false] {
        server.sql(NAME, CHANGES);
        let options = RewindOptions { spare, ..RewindOptions::default() };
        let prepared = engine().prepare(&source(&url), &id(1), options, &context).unwrap();
        let rewound = prepared.finish(&context).unwrap();
        assert!(rewound.notes.is_empty(), "{:?}", rewound.notes);
        assert_same(&before, &dump(&server, NAME));
        assert_eq!(engine().list(&source(&url), &context).unwrap()[0].has_spare, spare);
    }
    // A rewind that is not finished after all leaves the spare copy, and nothing else.
    drop(engine().prepare(&source(&url), &id(1), RewindOptions::default(), &context).unwrap());
    assert_eq!(ours(&server).len(), 1);
}

#[test]
fn notes_are_kept_and_databases_told_apart() {
    let server = Server::start();
    server.sql("", "CREATE DATABASE a; CREATE DATABASE b; CREATE TABLE a.alembic_version (version_num VARCHAR(32)); INSERT INTO a.alembic_version VALUES ('1a2b')");
    let (a, b, context) = (server.url("a"), server.url("b"), Context::silent());
    take(&a, 2).unwrap();
    take(&a, 1).unwrap();
    take(&b, 1).unwrap();
    let found = engine().list(&source(&a), &context).unwrap();
    assert_eq!(found.iter().map(|s| s.id.clone()).collect::<Vec<_>>(), [id(1), id(2)]);
    assert_eq!((found[1].note.clone(), found[1].schema_version.as_deref()), (request(2).note, Some("1a2b")));
    let note = SnapshotNote { name: "other".to_owned(), revision: 1, ..SnapshotNote::default() };
    engine().describe(&source(&a), &id(2), &note, &context).unwrap();
    assert_eq!(engine().list(&source(&a), &context).unwrap()[1].note, note);
    let server_url = server.url("x").replace("/x", "/*");
    let members: Vec<_> =
        engine().members(&source(&server_url)).unwrap().unwrap().into_iter().map(|m| m.name).collect();
    assert_eq!(members, ["a", "b"]);
    let gone = engine().remove(&source(&b), &id(2), &context).unwrap_err();
    assert!(gone.message.contains("no snapshot"), "{gone}");
    let identity = engine().identify(&source(&a)).unwrap();
    assert!(identity.short_name == "a" && !identity.canonical.contains("p@ss"), "{identity:?}");
}
