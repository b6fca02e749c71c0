//! A connection: one `psql` that takes statement and gives rows back as JSON, a row a line.
//!
//! So a connection is made exactly as the dump and the restore make theirs, with the same library, and whatever lets
//! `psql` in lets Copal in (docs/adr/0006).

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt as _;
use std::process::{ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use copal_core::{Context, EngineError, EngineErrorKind, EngineResult};
use serde::de::DeserializeOwned;

use crate::address::Address;
use crate::failure;
use crate::programs::{Installation, Running};

/// Ends the answer to a statement; nothing that a server says is one line of this.
const MARK: &str = "--copal-mark-6b1d--";
const TICK: Duration = Duration::from_millis(50);

/// A statement that the server refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The five characters of SQLSTATE; empty if the connection was lost.
    pub(crate) state: String,
    /// What the server said.
    pub(crate) message: String,
}

enum Line {
    Out(String),
    Err(String),
}

/// An open connection; ends when it is dropped.
pub(crate) struct Session {
    input: Option<ChildStdin>,
    lines: Receiver<Line>,
    running: Option<Running>,
    /// Version of the server, for example 150018.
    pub(crate) version: u32,
    /// The database's name.
    pub(crate) database: String,
    /// The server's process that serves it.
    pub(crate) pid: u32,
    context: Context,
    place: String,
}

impl Session {
    /// Connects. A cancelled context ends whatever the session waits for.
    pub(crate) fn open(programs: &Installation, address: &Address, context: &Context) -> EngineResult<Self> {
        let mut command = programs.command("psql", address);
        command.args(["--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--set=VERBOSITY=verbose"]);
        command.env("PGCLIENTENCODING", "UTF8").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A group of its own: Ctrl-C is for us, who may leave the session to end its work.
        command.process_group(0);
        let mut child = command
            .spawn()
            .map_err(|e| EngineError::new(EngineErrorKind::Other, "psql could not be started").because(e))?;
        let (sender, lines) = channel();
        if let Some(out) = child.stdout.take() {
            follow(out, Line::Out, sender.clone());
        }
        if let Some(err) = child.stderr.take() {
            follow(err, Line::Err, sender);
        }
        let input = child.stdin.take();
        let place = match address.database() {
            Some(database) => format!("the database {database:?} on {}", address.server()),
            None => format!("the database on {}", address.server()),
        };
        let mut session = Self {
            input,
            lines,
            running: Some(Running::adopt("psql", child)),
            version: 0,
            database: String::new(),
            pid: 0,
            context: context.clone(),
            place,
        };
        #[derive(serde::Deserialize)]
        struct Welcome {
            version: String,
            database: String,
            pid: u32,
        }
        let welcome = session.ask(
            "SELECT current_setting('server_version_num') AS version, current_database() AS database, \
             pg_catalog.pg_backend_pid() AS pid",
            None,
        );
        let welcome: Vec<Welcome> = match welcome {
            Ok(rows) => session.parse(rows)?,
            Err(Asked::Refused(refusal)) => return Err(failure::not_connected(&session.place, &refusal)),
            Err(Asked::Failed(error)) => return Err(error),
        };
        if let [welcome] = welcome.as_slice() {
            session.version = welcome.version.parse().unwrap_or_default();
            session.database.clone_from(&welcome.database);
            session.pid = welcome.pid;
        }
        let mut settings = vec![
            ("search_path", ""),
            ("statement_timeout", "0"),
            ("lock_timeout", "0"),
            ("idle_in_transaction_session_timeout", "0"),
            ("client_min_messages", "warning"),
            // Rather fail than see less.
            ("row_security", "off"),
        ];
        settings.extend(Some(("idle_session_timeout", "0")).filter(|_| session.major() >= 14));
        settings.extend(Some(("transaction_timeout", "0")).filter(|_| session.major() >= 17));
        let set = |(name, value): &(&str, &str)| format!("pg_catalog.set_config('{name}', '{value}', false) AS {name}");
        let set: Vec<String> = settings.iter().map(set).collect();
        // All with one answer to wait for.
        session.row::<serde::de::IgnoredAny>(&format!("SELECT {}", set.join(", ")))?;
        Ok(session)
    }

    /// The server's major version.
    pub(crate) fn major(&self) -> u32 {
        self.version / 10_000
    }

    /// Rows of a query, each an object with its columns.
    pub(crate) fn rows<T: DeserializeOwned>(&mut self, query: &str) -> EngineResult<Vec<T>> {
        match self.try_rows(query)? {
            Ok(rows) => Ok(rows),
            Err(refusal) => Err(self.refused(&refusal)),
        }
    }

    /// The one row of a query.
    pub(crate) fn row<T: DeserializeOwned>(&mut self, query: &str) -> EngineResult<T> {
        let mut rows = self.rows(query)?;
        match (rows.pop(), rows.is_empty()) {
            (Some(row), true) => Ok(row),
            _ => Err(EngineError::new(EngineErrorKind::Other, format!("{} answered with no row, or many", self.place))),
        }
    }

    /// The same as `rows`, but the caller looks at a refusal.
    pub(crate) fn try_rows<T: DeserializeOwned>(&mut self, query: &str) -> EngineResult<Result<Vec<T>, Refusal>> {
        match self.ask(query, None) {
            Ok(rows) => self.parse(rows).map(Ok),
            Err(Asked::Refused(refusal)) => Ok(Err(refusal)),
            Err(Asked::Failed(error)) => Err(error),
        }
    }

    /// Runs one statement that gives no rows.
    pub(crate) fn run(&mut self, statement: &str) -> EngineResult<()> {
        match self.try_run(statement)? {
            Ok(()) => Ok(()),
            Err(refusal) => Err(self.refused(&refusal)),
        }
    }

    /// The same, but the caller looks at a refusal.
    pub(crate) fn try_run(&mut self, statement: &str) -> EngineResult<Result<(), Refusal>> {
        match self.say(&format!("{statement};"), None) {
            Ok(_) => Ok(Ok(())),
            Err(Asked::Refused(refusal)) => Ok(Err(refusal)),
            Err(Asked::Failed(error)) => Err(error),
        }
    }

    /// Runs one statement that gives no rows, with `meanwhile` called again and again until the answer is there.
    pub(crate) fn run_while(
        &mut self,
        statement: &str,
        meanwhile: &mut dyn FnMut(),
    ) -> EngineResult<Result<(), Refusal>> {
        match self.say(&format!("{statement};"), Some(meanwhile)) {
            Ok(_) => Ok(Ok(())),
            Err(Asked::Refused(refusal)) => Ok(Err(refusal)),
            Err(Asked::Failed(error)) => Err(error),
        }
    }

    /// Lets it run these statements, up to the first that is refused, and end then, though this process may have ended before.
    pub(crate) fn leave(mut self, script: &str) {
        let script = format!("\\set ON_ERROR_STOP on\n\\o /dev/null\n{script}\n");
        if let (Some(mut input), Some(running)) = (self.input.take(), self.running.take()) {
            // At once, and it is small enough for a pipe: all of it is there, or nothing.
            let _ = input.write_all(script.as_bytes());
            drop(input);
            std::thread::spawn(move || drop(running.wait()));
        }
    }

    /// An error for a refusal.
    pub(crate) fn refused(&self, refusal: &Refusal) -> EngineError {
        failure::refused(&self.place, refusal)
    }

    fn ask(&mut self, query: &str, meanwhile: Option<&mut dyn FnMut()>) -> Result<Vec<String>, Asked> {
        self.say(&format!("SELECT to_json(copal_row) FROM ({query}) AS copal_row;"), meanwhile)
    }

    fn parse<T: DeserializeOwned>(&self, rows: Vec<String>) -> EngineResult<Vec<T>> {
        let parsed: Result<Vec<T>, _> = rows.iter().map(|row| serde_json::from_str(row)).collect();
        parsed.map_err(|e| {
            EngineError::new(EngineErrorKind::Other, format!("{} gave an answer that makes no sense", self.place))
                .because(e)
        })
    }

    fn say(&mut self, text: &str, mut meanwhile: Option<&mut dyn FnMut()>) -> Result<Vec<String>, Asked> {
        let lost = |words: Vec<String>| Asked::Refused(Refusal { state: String::new(), message: words.join("\n") });
        let text = format!("{text}\n\\echo {MARK} :ERROR :SQLSTATE\n\\warn {MARK}\n");
        // If this fails psql is gone, and so are its lines, once they are read.
        let _ = self.input.as_mut().map(|input| input.write_all(text.as_bytes()).and_then(|()| input.flush()));
        let (mut rows, mut words) = (Vec::new(), Vec::new());
        let (mut state, mut is_told) = (None, false);
        let mut beaten = Instant::now();
        loop {
            if self.context.cancel.is_cancelled() {
                // The server ends the statement when it finds nobody to tell the result.
                self.running = None;
                return Err(Asked::Failed(copal_core::Cancelled.into()));
            }
            let wait = if meanwhile.is_some() { TICK / 5 } else { TICK };
            match self.lines.recv_timeout(wait) {
                Ok(Line::Out(line)) => match line.strip_prefix(MARK) {
                    Some(mark) => state = Some(mark.trim().to_owned()),
                    None => rows.push(line),
                },
                Ok(Line::Err(line)) if line == MARK => is_told = true,
                Ok(Line::Err(line)) => words.push(line),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(lost(words)),
            }
            if let Some(meanwhile) = meanwhile.as_mut().filter(|_| beaten.elapsed() >= TICK / 5) {
                meanwhile();
                beaten = Instant::now();
            }
            if let (Some(state), true) = (&state, is_told) {
                return match state.split_once(' ') {
                    Some(("false", _)) => Ok(rows),
                    Some((_, state)) => {
                        Err(Asked::Refused(Refusal { state: state.to_owned(), message: words_of(&words) }))
                    }
                    None => Err(lost(words)),
                };
            }
        }
    }
}

enum Asked {
    Refused(Refusal),
    Failed(EngineError),
}

/// What the server said, without where in its source it said so.
fn words_of(lines: &[String]) -> String {
    let is_word = |line: &&String| {
        !line.starts_with("LOCATION:") && !line.starts_with("LINE ") && !line.trim_start().starts_with('^')
    };
    let lines: Vec<_> = lines
        .iter()
        .filter(is_word)
        .map(|line| match line.split_once(":  ") {
            // `ERROR:  42P01: relation …`
            Some(("ERROR" | "FATAL", rest)) => rest.split_once(": ").map_or(rest, |(_, message)| message).to_owned(),
            _ => line.clone(),
        })
        .collect();
    lines.join("\n")
}

fn follow(from: impl Read + Send + 'static, make: fn(String) -> Line, to: Sender<Line>) {
    std::thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while let Ok(1..) = from.read_until(b'\n', &mut line) {
            let text = String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(&line)).into_owned();
            if to.send(make(text)).is_err() {
                return;
            }
            line.clear();
        }
    });
}
