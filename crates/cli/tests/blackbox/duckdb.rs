//! The same journey with a DuckDB that another process holds open and writes to.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::home::{Home, assert_page};

const ENVIRONMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../.venv");
const VERSION: &str = "1.4.5";
/// Commits one row after another, and says how many there are whenever it is asked.
const OWNER: &str = r#"
import sys, threading, duckdb
connection = duckdb.connect(sys.argv[1])
connection.execute("CREATE TABLE IF NOT EXISTS item (id INTEGER PRIMARY KEY, name VARCHAR)")
count, done = connection.execute("SELECT count(*) FROM item").fetchone()[0], threading.Event()
def write():
    global count
    while not done.is_set() and count < 100000:
        connection.execute("INSERT INTO item VALUES (?, ?)", [count + 1, "item"])
        count += 1
        done.wait(0.002)
thread = threading.Thread(target=write)
thread.start()
for _ in sys.stdin:
    print(count, flush=True)
done.set()
thread.join()
"#;
const COUNT: &str = "import sys, duckdb; \
                     print(duckdb.connect(sys.argv[1]).execute('SELECT count(*), max(id) FROM item').fetchone())";

fn python(script: &str, database: &Path) -> Command {
    let library = Path::new(ENVIRONMENT).join("duckdb").join(VERSION);
    assert!(library.is_dir(), "DuckDB {VERSION} is missing: run tools/prepare.sh");
    let mut command = Command::new(Path::new(ENVIRONMENT).join("bin/python"));
    command.args(["-c", script]).arg(database).env("PYTHONPATH", library);
    command
}

/// A process that holds the database open and writes to it.
struct Owner(Child, BufReader<std::process::ChildStdout>);

impl Owner {
    fn start(database: &Path) -> Self {
        let mut child = python(OWNER, database).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        let mut owner = Self(child, answers);
        while owner.committed() < 20 {}
        owner
    }

    fn committed(&mut self) -> u32 {
        writeln!(self.0.stdin.as_mut().unwrap()).unwrap();
        let mut line = String::new();
        self.1.read_line(&mut line).unwrap();
        line.trim().parse().unwrap()
    }

    fn close(mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The rows of a database, which are numbered without a gap.
fn rows(database: &Path) -> u32 {
    let output = python(COUNT, database).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let numbers: Vec<u32> = text.trim().trim_matches(['(', ')']).split(", ").map(|n| n.parse().unwrap()).collect();
    assert_eq!(numbers[0], numbers[1]);
    numbers[0]
}

/// What `PATH` could lead to: a Python that has the module.
fn program(home: &Home) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let text = format!("#!/bin/sh\nPYTHONPATH={ENVIRONMENT}/duckdb/{VERSION} exec {ENVIRONMENT}/bin/python \"$@\"\n");
    let path = home.write("python-with-duckdb", &text);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn a_duckdb_in_use_is_backed_up_and_restored() {
    let home = Home::new();
    let live = home.path("app.duckdb");
    let mut owner = Owner::start(&live);
    for _ in 0..3 {
        let before = owner.committed();
        home.good(&["backup", "app.duckdb"]);
        let after = owner.committed();
        home.good(&["restore", "app.duckdb", "--to", "copy.duckdb", "--replace"]);
        let restored = rows(&home.path("copy.duckdb"));
        assert!((before..=after + 1).contains(&restored), "{before} <= {restored} <= {after}");
    }
    let busy = home.run(&["restore", "app.duckdb", "--replace"]);
    assert_eq!(busy.code, 5, "{}", busy.stderr);
    assert!(busy.stderr.contains("is open in another program") && busy.stderr.contains("Hint"), "{}", busy.stderr);
    owner.close();
    let lost = rows(&live);
    home.good(&["restore", "app.duckdb", "--replace"]);
    assert!(rows(&live) < lost);
}

#[test]
fn a_duckdb_in_use_is_put_aside_and_goes_back() {
    let home = Home::new();
    let live = home.path("app.duckdb");
    let mut owner = Owner::start(&live);
    let before = owner.committed();
    home.good(&["snap", "busy", "-d", "app.duckdb"]);
    let after = owner.committed();
    let refused = home.run(&["rewind", "busy", "-d", "app.duckdb"]);
    assert!(refused.code == 5 && refused.stderr.contains("--force"), "{}", refused.page());
    owner.close();
    assert!(rows(&live) >= after);
    home.good(&["rewind", "busy", "-d", "app.duckdb"]);
    let rewound = rows(&live);
    assert!((before..=after + 1).contains(&rewound), "{before} <= {rewound} <= {after}");
    // Without the database its file tells no engine; its snapshots do.
    std::fs::remove_file(&live).unwrap();
    let _ = std::fs::remove_file(home.path("app.duckdb.wal"));
    home.good(&["rewind", "-d", "app.duckdb"]);
    assert_eq!(rows(&live), rewound);
}

#[test]
fn a_drill_says_what_it_proved_or_that_there_is_no_duckdb() {
    let home = Home::new();
    Owner::start(&home.path("app.duckdb")).close();
    home.good(&["backup", "duckdb:app.duckdb"]);
    let program = program(&home).display().to_string();
    let drilled = home.run_with(&[("COPAL_DUCKDB", &program)], &["verify", "app.duckdb", "--drill"]);
    assert_eq!(drilled.code, 0, "{}", drilled.stderr);
    assert!(drilled.stdout.contains("opened and read by DuckDB v1.4.5: 1 tables"), "{}", drilled.stdout);
    home.write("copal.toml", "[duckdb]\nprogram = \"no-such-duckdb\"\n");
    assert_page!("a_drill_without_a_duckdb", home.run(&["verify", "app.duckdb", "--drill"]));
    let document = home.run(&["verify", "app.duckdb", "--drill", "--json"]).json();
    let drill = &document["results"][0]["drill"];
    assert_eq!((drill["performed"].as_bool(), document["exit_code"].as_i64()), (Some(false), Some(3)));
    assert!(drill["checks"][0].as_str().unwrap().starts_with("checksums of "), "{drill}");
}

#[test]
fn a_backup_of_a_duckdb_is_shown_and_found_again() {
    let home = Home::new();
    let live = home.path("app.duckdb");
    Owner::start(&live).close();
    home.write("copal.toml", "[databases.analytics]\nurl = \"duckdb:app.duckdb\"\n");
    home.good(&["backup", "analytics"]);
    let shown = home.good(&["show", "analytics", "--json"]).json();
    let facts = &shown["results"][0]["inventory"]["facts"];
    assert_eq!((facts["written_by"].as_str(), facts["block_size"].as_str()), (Some("v1.4.5"), Some("262144")));
    std::fs::remove_file(&live).unwrap();
    // Under every name that it had, also when the file is gone.
    for name in ["analytics", "app.duckdb", "duckdb:app.duckdb"] {
        home.good(&["restore", name, "--to", "copy.duckdb", "--replace"]);
    }
    home.good(&["restore", "analytics"]);
    assert!(rows(&live) >= 20);
    let other = home.run(&["restore", "analytics", "--to", "sqlite:x.db"]);
    assert_eq!(other.code, 2, "{}", other.stderr);
}
