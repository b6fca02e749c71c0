//! A home folder of its own for each test, and the program run in it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rusqlite::Connection;

/// A folder that is home, working folder and everything else to the program.
pub(crate) struct Home {
    folder: tempfile::TempDir,
}

/// What the program answered.
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    home: PathBuf,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Makes a small SQLite database with rows.
    pub(crate) fn database(&self, name: &str, rows: u32) -> PathBuf {
        let path = self.path(name);
        let db = Connection::open(&path).unwrap();
        db.execute_batch("CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT NOT NULL)").unwrap();
        self.add_rows(name, rows);
        path
    }

    pub(crate) fn add_rows(&self, name: &str, rows: u32) {
        let mut db = Connection::open(self.path(name)).unwrap();
        let transaction = db.transaction().unwrap();
        for n in 0..rows {
            transaction.execute("INSERT INTO item (name) VALUES (?1)", [format!("item {n} of many")]).unwrap();
        }
        transaction.commit().unwrap();
    }

    pub(crate) fn rows(&self, name: &str) -> u32 {
        let db = Connection::open(self.path(name)).unwrap();
        db.query_row("SELECT count(*) FROM item", [], |row| row.get(0)).unwrap()
    }

    /// The program, about to run in this home with nothing from outside.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let home = self.folder.path();
        let mut command = Command::new(env!("CARGO_BIN_EXE_copal"));
        command.args(arguments).current_dir(home).env_clear().stdin(Stdio::null());
        command.env("HOME", home).env("TZ", "UTC").env("COLUMNS", "100").env("PATH", "/usr/bin:/bin");
        for (variable, folder) in
            [("XDG_DATA_HOME", "data"), ("XDG_STATE_HOME", "state"), ("XDG_CONFIG_HOME", "config")]
        {
            command.env(variable, home.join(folder));
        }
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        self.run_with(&[], arguments)
    }

    pub(crate) fn run_with(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Run {
        let output = self.command(arguments).envs(variables.iter().copied()).output().unwrap();
        self.answer(&output)
    }

    pub(crate) fn answer(&self, output: &Output) -> Run {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Run {
            code: output.status.code().unwrap_or(-1),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
            home: self.folder.path().to_owned(),
        }
    }

    /// Runs what must succeed.
    #[track_caller]
    pub(crate) fn good(&self, arguments: &[&str]) -> Run {
        let run = self.run(arguments);
        assert_eq!(run.code, 0, "copal {arguments:?}\n{}\n{}", run.stdout, run.stderr);
        run
    }

    /// The ids of the backups of a database, oldest first.
    #[track_caller]
    pub(crate) fn ids(&self, database: &str) -> Vec<String> {
        let document = self.good(&["list", database, "--json"]).json();
        let results = document["results"].as_array().unwrap().iter();
        results.map(|backup| backup["id"].as_str().unwrap().to_owned()).collect()
    }

    /// The files of the default repository whose path contains a text.
    pub(crate) fn objects(&self, part: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.path("data/copal/repository")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.display().to_string().contains(part) {
                    found.push(path);
                }
            }
        }
        found.sort();
        found
    }
}

impl Run {
    /// The one JSON document on standard output.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        let document: serde_json::Value = serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error} in\n{}\nstandard error:\n{}", self.stdout, self.stderr));
        assert_eq!(document["exit_code"], self.code);
        assert_eq!(document["format"], 1);
        document
    }

    /// Everything a user saw, for a snapshot.
    pub(crate) fn page(&self) -> String {
        let mut page = format!("exit code {}\n", self.code);
        for (name, text) in [("standard output", &self.stdout), ("standard error", &self.stderr)] {
            if !text.is_empty() {
                page.push_str(&format!("--- {name}\n{text}"));
            }
        }
        page
    }

    /// Where it ran.
    pub(crate) fn home(&self) -> &Path {
        &self.home
    }
}

/// Compares a page with its snapshot, without what differs from run to run.
macro_rules! assert_page {
    ($run:expr) => {{
        let run = &$run;
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path("snapshots");
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        let home = run.home().display().to_string().replace('.', "\\.");
        settings.add_filter(&home, "<home>");
        for (pattern, word) in crate::home::FILTERS {
            settings.add_filter(pattern, *word);
        }
        settings.bind(|| insta::assert_snapshot!(run.page()));
    }};
    ($name:literal, $run:expr) => {{
        let run = &$run;
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path("snapshots");
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        let home = run.home().display().to_string().replace('.', "\\.");
        settings.add_filter(&home, "<home>");
        for (pattern, word) in crate::home::FILTERS {
            settings.add_filter(pattern, *word);
        }
        settings.bind(|| insta::assert_snapshot!($name, run.page()));
    }};
}
pub(crate) use assert_page;

/// What differs from run to run, and the word in its place.
pub(crate) const FILTERS: &[(&str, &str)] = &[
    (r"\d{8}-\d{6}Z-[0-9a-f]{4}(-\d+-[0-9a-f]{16})?", "<id>"),
    (r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?(Z| UTC)", "<time>"),
    (r"\d{4}-\d\d-\d\d-\d{6}(-\d+)?", "<name>"),
    (r"-[0-9a-f]{6}\b", "-<hash>"),
    (r" *\b\d+(\.\d)? (B|KiB|MiB)\b", " <size>"),
    (r"\b\d+\.\d\d? s\b", "<seconds>"),
    (r" *\b\d+ s\b", " <age>"),
    (r#""(added|stored|logical|freed|verified)_bytes":\d+"#, r#""${1}_bytes":"<n>""#),
    (r#""(host|engine_version|copal_version)":"[^"]*""#, r#""$1":"<$1>""#),
    (r"\b[0-9a-f]{16}:\d+\b", "<position>"),
    (r"\b[0-9a-f]{64}\b", "<digest>"),
    (r"\b[0-9a-f]{32}\b", "<digest>"),
    (r"\b[0-9a-f]{8}\b", "<key>"),
    (r"(?m)^(Host|Copal|Engine)( +).*$", "$1$2<$1>"),
    (r" +\n", "\n"),
];
