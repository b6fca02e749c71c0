//! A DuckDB of the machine, run as a program of its own: the `duckdb` command, or a Python that has the module.
//!
//! It opens a database read-only and reads every table, all columns. Which versions can read which files is found out by
//! trying.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use copal_core::{Context, EngineError, EngineErrorKind, EngineResult};
use serde_json::{Map, Value};

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// All tables were read.
    Read { version: String, tables: u64, rows: u64 },
    /// A DuckDB that should be able to read it cannot.
    Refused { version: String, problem: String },
    /// There is no DuckDB that can read such a file; why.
    Impossible(String),
    /// There is one, and it could not read this file for reasons that are not the file's.
    Unreadable(String),
}

const POLL: Duration = Duration::from_millis(20);
/// What DuckDBs say about files of versions that they do not know.
const TOO_OLD: [&str; 4] = [
    "can only read version",
    "newer version of DuckDB",
    "Try opening the file with a newer version",
    "could not be read by this version",
];
/// What DuckDBs say when something else than the file is in the way.
const IN_THE_WAY: [(&str, &str); 4] = [
    ("Could not set lock on file", "it is open in another program"),
    ("Out of Memory Error", "the memory does not suffice"),
    ("No space left on device", "there is no space for temporary files"),
    ("INSTALL ", "it needs an extension that is not installed"),
];
/// One row for each table.
const TABLES: &str = "SELECT schema_name AS s, table_name AS t FROM duckdb_tables() \
                      WHERE NOT internal AND NOT temporary AND database_name = current_database() ORDER BY ALL";
/// Takes statements as JSON, answers each with a line: its rows as objects.
/// Modules come from where Python has them, never from the current folder; nothing is fetched from the network.
const SCRIPT: &str = r#"
import sys
sys.path[:] = [folder for folder in sys.path if folder]
import json
try:
    import duckdb
except ImportError:
    sys.exit("copal: no module")
request = json.load(sys.stdin)
quiet = {"autoinstall_known_extensions": "false"}
path = request["path"]
connection = duckdb.connect(path, read_only=True, config=quiet) if path else duckdb.connect(config=quiet)
for statement in request["statements"]:
    cursor = connection.execute(statement)
    names = [column[0] for column in cursor.description]
    print(json.dumps([dict(zip(names, row)) for row in cursor.fetchall()]))
"#;

/// One way to run DuckDB.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Program {
    Python(PathBuf),
    Command(PathBuf),
}

/// Why statements were not answered.
enum Failure {
    /// It cannot be run, or is none.
    Absent(String),
    /// It ran, and said this.
    Said(String),
}

type Rows = Vec<Map<String, Value>>;

/// Opens the database read-only and reads everything in it, with `program` or the first suitable one on `PATH`. `maker` is
/// the DuckDB that made the file, if it says.
pub(crate) fn read_everything(
    database: &Path,
    maker: &str,
    program: Option<&Path>,
    context: &Context,
) -> EngineResult<Answer> {
    let candidates: Vec<PathBuf> = match program {
        Some(program) => vec![program.to_owned()],
        None => ["duckdb", "python3", "python"].map(PathBuf::from).to_vec(),
    };
    let mut reasons = Vec::new();
    for candidate in candidates {
        let program = Program::of(candidate);
        // Without the database first: what cannot answer that is no DuckDB, and says nothing about the database.
        let version = match program.ask(None, &["SELECT version() AS v".to_owned()], context)? {
            Ok(answers) => answers.first().and_then(|rows| rows.first()).map(|row| text(row, "v")).unwrap_or_default(),
            Err(Failure::Absent(why) | Failure::Said(why)) => {
                reasons.push(format!("{}: {why}", program.name()));
                continue;
            }
        };
        let problem = match read_tables(&program, database, context)? {
            Ok((tables, rows)) => return Ok(Answer::Read { version, tables, rows }),
            Err(Failure::Said(problem) | Failure::Absent(problem)) => problem,
        };
        if TOO_OLD.iter().any(|known| problem.contains(known)) {
            reasons.push(format!("{}: {version} is too old for this file", program.name()));
        } else if let Some((_, why)) = IN_THE_WAY.iter().find(|(known, _)| problem.contains(known)) {
            return Ok(Answer::Unreadable(format!("DuckDB {version} could not read it, for {why} ({problem})")));
        } else if is_older(&version, maker) {
            // What a newer one made, it need not understand.
            reasons.push(format!("{}: {version} is older than the {maker} that made it: {problem}", program.name()));
        } else {
            return Ok(Answer::Refused { version, problem });
        }
    }
    Ok(Answer::Impossible(reasons.join("; ")))
}

/// Whether a version is certainly older than another: `v1.4.5` than `v1.5.0`.
fn is_older(version: &str, than: &str) -> bool {
    let numbers = |version: &str| -> Vec<u64> {
        let plain = version.trim_start_matches('v').split(['-', ' ']).next().unwrap_or_default();
        plain.split('.').map_while(|number| number.parse().ok()).collect()
    };
    let (version, than) = (numbers(version), numbers(than));
    version.len() == 3 && than.len() == 3 && version < than
}

fn text(row: &Map<String, Value>, key: &str) -> String {
    row.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Reads all tables; their number and that of their rows.
fn read_tables(program: &Program, database: &Path, context: &Context) -> EngineResult<Result<(u64, u64), Failure>> {
    let tables = match program.ask(Some(database), &[TABLES.to_owned()], context)? {
        Ok(answers) => answers.into_iter().next().unwrap_or_default(),
        Err(failure) => return Ok(Err(failure)),
    };
    let statements: Vec<String> = tables
        .iter()
        .map(|row| {
            let name = format!("{}.{}", quoted(&text(row, "s")), quoted(&text(row, "t")));
            // The hash of a whole row needs all its columns.
            format!("SELECT count(*)::VARCHAR AS n, bit_xor(hash(\"copal's row\"))::VARCHAR AS h FROM {name} AS \"copal's row\"")
        })
        .collect();
    if statements.is_empty() {
        return Ok(Ok((0, 0)));
    }
    context.phase("reading with DuckDB", None);
    Ok(match program.ask(Some(database), &statements, context)? {
        Ok(counts) if counts.len() == tables.len() => {
            let count = |rows: &Rows| rows.first().and_then(|row| text(row, "n").parse::<u64>().ok()).unwrap_or(0);
            Ok((tables.len() as u64, counts.iter().map(count).sum()))
        }
        Ok(_) => Err(Failure::Said("it did not answer for every table".to_owned())),
        Err(failure) => Err(failure),
    })
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl Program {
    fn of(path: PathBuf) -> Self {
        // A name without a folder is looked for on PATH; any other must not depend on where it is run.
        let is_bare = path.components().count() == 1 && !path.is_absolute();
        let path = if is_bare { path } else { std::path::absolute(&path).unwrap_or(path) };
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        if name.contains("python") { Self::Python(path) } else { Self::Command(path) }
    }

    fn name(&self) -> String {
        match self {
            Self::Python(path) | Self::Command(path) => path.display().to_string(),
        }
    }

    /// Runs statements on a database opened read-only (or on none); the rows of each. The outer error is about cancelling.
    fn ask(
        &self,
        database: Option<&Path>,
        statements: &[String],
        context: &Context,
    ) -> EngineResult<Result<Vec<Rows>, Failure>> {
        let (mut command, input) = match self {
            Self::Python(program) => {
                let mut command = Command::new(program);
                command.args(["-c", SCRIPT]);
                let request = serde_json::json!({ "path": database, "statements": statements });
                (command, request.to_string())
            }
            Self::Command(program) => {
                let mut command = Command::new(program);
                command.args(["-init", "/dev/null", "-bail", "-json"]);
                if let Some(database) = database {
                    command.arg("-readonly").arg(database);
                }
                (command, statements.iter().map(|s| format!("{s};\n")).collect())
            }
        };
        // Neither settings nor modules of whatever folder this happens to run in.
        command.current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = match command.spawn() {
            Ok(child) => child,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Err(Failure::Absent("not found".to_owned())));
            }
            Err(e) => return Ok(Err(Failure::Absent(e.to_string()))),
        };
        let (status, out, err) = converse(child, input, context)?;
        if !status.success() || !err.trim().is_empty() && out.trim().is_empty() {
            let text = match last_lines(if err.trim().is_empty() { &out } else { &err }) {
                nothing if nothing.is_empty() => format!("it ended without a word ({status})"),
                text => text,
            };
            return Ok(Err(match text.contains("copal: no module") {
                true => Failure::Absent("it has no module duckdb".to_owned()),
                false => Failure::Said(text),
            }));
        }
        let mut answers = Vec::new();
        for value in serde_json::Deserializer::from_str(&out).into_iter::<Rows>() {
            match value {
                Ok(rows) => answers.push(rows),
                Err(_) => {
                    return Ok(Err(Failure::Absent(format!(
                        "it does not answer as DuckDB does: {}",
                        last_lines(&out)
                    ))));
                }
            }
        }
        Ok(Ok(answers))
    }
}

/// Gives a child its input and takes what it says; ends it when cancelled. How it ended, output, errors.
fn converse(mut child: Child, input: String, context: &Context) -> EngineResult<(ExitStatus, String, String)> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(input.as_bytes())));
        let out = scope.spawn(move || read_all(stdout));
        let err = scope.spawn(move || read_all(stderr));
        let status = loop {
            if let Err(cancelled) = context.cancel.check() {
                let _ = child.kill();
                let _ = child.wait();
                return Err(cancelled.into());
            }
            match child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) => std::thread::sleep(POLL),
                Err(e) => {
                    let message = "the DuckDB that checks the database cannot be waited for";
                    return Err(EngineError::new(EngineErrorKind::Other, message).because(e));
                }
            }
        };
        Ok((status, out.join().unwrap_or_default(), err.join().unwrap_or_default()))
    })
}

fn read_all(stream: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut stream) = stream {
        // What was said until it broke off is enough.
        let _ = stream.read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The end of what a program said, without its call stack, on one line.
fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let from = lines.iter().rposition(|line| line.contains("Error") || line.contains("Exception")).unwrap_or(0);
    let text = lines.get(from..).unwrap_or_default().join(" ");
    text.chars().take(500).collect()
}
