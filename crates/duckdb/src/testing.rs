//! Real DuckDBs in processes of their own, a sink that makes a folder of what it is given, and a content made of one.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use copal_core::{
    AnyError, CancelToken, Content, Context, Event, FileEntry, FileHandle, PageFileSpec, Progress, Sink, WriteAt,
};

const ENVIRONMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../.venv");
/// Answers each line with one: `ok`, rows, or `error …`. `FOR EVER …` answers at once and goes on, until the process ends.
const SCRIPT: &str = r#"
import sys, threading, duckdb
c = duckdb.connect(sys.argv[1])
c.execute("SET enable_progress_bar = false")
def for_ever(sql):
    d = c.cursor()
    for _ in range(1000000):
        try: d.execute(sql)
        except duckdb.Error: pass
print("ready", flush=True)
for line in sys.stdin:
    sql = line.strip()
    try:
        if sql.startswith("FOR EVER "):
            threading.Thread(target=for_ever, args=(sql[9:],), daemon=True).start()
            answer = "ok"
        else:
            answer = repr(c.execute(sql).fetchall()) if sql.startswith("SELECT") else (c.execute(sql), "ok")[1]
    except Exception as e:
        answer = "error " + str(e).replace("\n", " ")
    print(answer, flush=True)
"#;

/// A Python that holds a database.
pub(crate) struct Python {
    child: Child,
    answers: BufReader<std::process::ChildStdout>,
    ready: String,
}

impl Python {
    /// Opens (or makes) a database with this version of DuckDB.
    pub(crate) fn owning(version: &str, path: &Path) -> Self {
        let python = Self::start_on(version, path.as_os_str());
        assert_eq!(python.ready, "ready\n", "DuckDB {version} cannot open {}", path.display());
        python
    }

    /// A DuckDB without a file.
    pub(crate) fn in_memory(version: &str) -> Self {
        Self::start_on(version, ":memory:".as_ref())
    }

    /// Whether DuckDB refuses to open the database for writing.
    pub(crate) fn refuses(version: &str, path: &Path) -> bool {
        Self::start_on(version, path.as_os_str()).ready.is_empty()
    }

    fn start_on(version: &str, path: &std::ffi::OsStr) -> Self {
        let library = Path::new(ENVIRONMENT).join("duckdb").join(version);
        assert!(library.is_dir(), "DuckDB {version} is missing: run tools/prepare.sh");
        let mut child = Command::new(Path::new(ENVIRONMENT).join("bin/python"))
            .args(["-c", SCRIPT])
            .arg(path)
            .env("PYTHONPATH", library)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut answers = BufReader::new(child.stdout.take().unwrap());
        let mut ready = String::new();
        answers.read_line(&mut ready).unwrap();
        Self { child, answers, ready }
    }

    fn say(&mut self, sql: &str) -> String {
        assert!(!sql.contains('\n'));
        writeln!(self.child.stdin.as_mut().unwrap(), "{sql}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        answer.trim().to_owned()
    }

    /// Runs statements.
    pub(crate) fn run(&mut self, sql: &str) {
        assert_eq!(self.say(sql), "ok", "{sql}");
    }

    /// Runs a statement over and over from now on.
    pub(crate) fn start(&mut self, sql: &str) {
        self.run(sql);
    }

    /// Runs statements that must fail.
    pub(crate) fn fail(&mut self, sql: &str) {
        let answer = self.say(sql);
        assert!(answer.starts_with("error"), "{sql}: {answer}");
    }

    /// The rows of a query, as Python shows them.
    pub(crate) fn ask(&mut self, sql: &str) -> String {
        let answer = self.say(sql);
        assert!(answer.starts_with('['), "{sql}: {answer}");
        answer
    }

    /// As `kill -9` does it.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Python {
    /// Closes the database and waits for that.
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        for _ in 0..1000 {
            if self.child.try_wait().is_ok_and(|status| status.is_some()) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A Python with this version of DuckDB, as somebody could have it on `PATH`.
pub(crate) fn python_with(version: &str, folder: &Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let program = folder.join(format!("python-{version}"));
    let text = format!("#!/bin/sh\nPYTHONPATH={ENVIRONMENT}/duckdb/{version} exec {ENVIRONMENT}/bin/python \"$@\"\n");
    std::fs::write(&program, text).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    program
}

/// A Python without any.
pub(crate) fn python_without() -> PathBuf {
    Path::new(ENVIRONMENT).join("bin/python")
}

/// The `duckdb` command, version 1.5.6.
pub(crate) fn duckdb_command() -> PathBuf {
    let program = Path::new(ENVIRONMENT).join("duckdb/cli/duckdb_cli/duckdb");
    assert!(program.is_file(), "the duckdb command is missing: run tools/prepare.sh");
    program
}

/// Writes page files into a folder.
pub(crate) struct FolderSink {
    folder: PathBuf,
    files: HashMap<u32, (PageFileSpec, File, Vec<bool>)>,
    next: u32,
    /// Done whenever pages come.
    pub(crate) at_pages: Option<Box<dyn FnMut()>>,
}

impl FolderSink {
    /// Makes the folder, empty.
    pub(crate) fn new(folder: &Path) -> Self {
        let _ = std::fs::remove_dir_all(folder);
        std::fs::create_dir_all(folder).unwrap();
        Self { folder: folder.to_owned(), files: HashMap::new(), next: 0, at_pages: None }
    }
}

impl Sink for FolderSink {
    fn begin(&mut self, spec: &PageFileSpec) -> Result<FileHandle, AnyError> {
        self.next += 1;
        let file = File::create_new(self.folder.join(&spec.name))?;
        self.files.insert(self.next, (spec.clone(), file, Vec::new()));
        Ok(FileHandle(self.next))
    }

    fn pages(&mut self, file: FileHandle, first: u64, bytes: &[u8]) -> Result<(), AnyError> {
        if let Some(act) = &mut self.at_pages {
            act();
        }
        let (spec, file, given) = self.files.get_mut(&file.0).unwrap();
        let size = spec.page_size as usize;
        let last = first as usize + bytes.len().div_ceil(size);
        given.resize(given.len().max(last), false);
        given[first as usize..last].fill(true);
        Ok(file.write_all_at(bytes, u64::from(spec.head_length) + first * size as u64)?)
    }

    fn finish(&mut self, file: FileHandle, length: u64, head: &[u8]) -> Result<(), AnyError> {
        let (spec, file, given) = self.files.remove(&file.0).unwrap();
        assert_eq!(head.len(), spec.head_length as usize);
        let pages = (length - head.len() as u64).div_ceil(u64::from(spec.page_size)) as usize;
        assert!(
            given.len() >= pages && given[..pages].iter().all(|given| *given),
            "pages of {} are missing",
            spec.name
        );
        file.set_len(length)?;
        Ok(file.write_all_at(head, 0)?)
    }

    fn withdraw(&mut self, file: FileHandle) -> Result<(), AnyError> {
        let (spec, ..) = self.files.remove(&file.0).unwrap();
        Ok(std::fs::remove_file(self.folder.join(spec.name))?)
    }
}

/// Collects warnings.
#[derive(Clone, Default)]
pub(crate) struct Warnings(Arc<Mutex<Vec<String>>>);

impl Warnings {
    /// A context that tells its warnings here.
    pub(crate) fn context(&self) -> Context {
        Context { cancel: CancelToken::default(), progress: Arc::new(self.clone()) }
    }

    /// What was warned of.
    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl Progress for Warnings {
    fn event(&self, event: Event) {
        if let Event::Warning(text) = event {
            self.0.lock().unwrap().push(text);
        }
    }
}

/// A backup made of the files in a folder.
pub(crate) struct FolderContent {
    folder: PathBuf,
    files: Vec<FileEntry>,
}

impl FolderContent {
    pub(crate) fn new(folder: &Path) -> Self {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            files.push(FileEntry::Pages {
                name: entry.file_name().to_str().unwrap().to_owned(),
                length: entry.metadata().unwrap().len(),
                page_size: 65_536,
                head: Vec::new(),
                digest: [0; 32],
                branches: Vec::new(),
            });
        }
        Self { folder: folder.to_owned(), files }
    }
}

impl Content for FolderContent {
    fn files(&self) -> &[FileEntry] {
        &self.files
    }

    fn write_file(&self, name: &str, out: &dyn WriteAt, _context: &Context) -> Result<(), AnyError> {
        Ok(out.write_at(0, &std::fs::read(self.folder.join(name))?)?)
    }
}
