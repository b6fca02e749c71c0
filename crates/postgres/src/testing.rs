//! Real PostgreSQL servers of several versions for tests of this and other crates (cargo feature `testkit`).
//!
//! Owns starting, stopping and asking them. Each server has a folder, a socket and a port of its own and ends with its
//! `Server`, even if the test process is killed. Whatever goes wrong here is a panic, as in any test.
#![allow(clippy::unwrap_used)]

mod compare;
mod install;
mod load;
mod torture;

use std::ffi::OsStr;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub use compare::{Checksums, differences};
pub use install::{Installation, fixture};
pub use load::{Load, Work, invariants};

/// The password of the superuser `postgres`, with letters that a URL has to escape.
pub const PASSWORD: &str = "p@ss/w:rd %41";
/// How long a server may take to start, and a file system to give up what a killed one held.
const PATIENCE: Duration = Duration::from_secs(60);
/// Ends the server in folder `$1` when the process that holds the other end of its standard input is gone.
const WATCHER: &str = r#"trap "" INT TERM HUP
read -r _
[ -d "$1" ] || exit 0
pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null)
[ -z "$pid" ] || [ "$(readlink "/proc/$pid/cwd")" != "$1/data" ] || kill -QUIT "$pid"
sleep 1
for disk in "$1"/disk-*; do umount --lazy "$disk"; done
rm -rf "$1""#;

/// How a server is to be.
#[derive(Debug, Clone, Default)]
pub struct ServerOptions {
    /// What is written is really on disk; slower.
    pub fsync: bool,
    /// TCP needs TLS, with a certificate of its own for `localhost` and 127.0.0.1. Not every build can ([`Installation::tls`]).
    pub tls: bool,
    /// More settings, as in `postgresql.conf`.
    pub settings: Vec<(String, String)>,
}

/// How a server ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Ends its sessions, then shuts down.
    Fast,
    /// Ends at once; the next start recovers.
    Immediate,
    /// `kill -9` of the server's first process; its others notice.
    Kill,
}

/// A running server; stops when dropped.
#[derive(Debug)]
pub struct Server {
    installation: Installation,
    options: ServerOptions,
    folder: Option<tempfile::TempDir>,
    port: u16,
    process: Option<Child>,
    watcher: Child,
}

impl Server {
    /// The installed versions, oldest first.
    pub fn versions() -> Vec<Installation> {
        Installation::all()
    }

    /// Runs a test on a server of each version, and says so where one is missing.
    pub fn for_each_version(mut test: impl FnMut(Server)) {
        let installed = Self::versions();
        for major in [15, 16, 17, 18] {
            if installed.iter().any(|found| found.major == major) {
                test(Self::start(major));
            } else {
                let _ = writeln!(std::io::stderr(), "SKIPPED: PostgreSQL {major} is not installed (tools/prepare.sh)");
            }
        }
    }

    /// Starts a fresh server of this major version.
    pub fn start(major: u32) -> Self {
        Self::start_with(major, ServerOptions::default())
    }

    /// Starts a fresh server that is like this.
    pub fn start_with(major: u32, options: ServerOptions) -> Self {
        let installation = Installation::of(major);
        let folder = tempfile::Builder::new().prefix("copal-pg").tempdir().unwrap();
        let watcher = Command::new("sh")
            .args([OsStr::new("-c"), WATCHER.as_ref(), "watcher".as_ref(), folder.path().as_os_str()])
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        installation.new_cluster(&folder.path().join("data"));
        if let Some((uid, gid)) = install::account() {
            chown(folder.path(), Some(uid), Some(gid)).unwrap();
            std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let mut server = Self { installation, options, folder: Some(folder), port: 0, process: None, watcher };
        if server.options.tls {
            server.make_certificate();
        }
        server.run();
        server
    }

    /// What it runs.
    pub fn installation(&self) -> &Installation {
        &self.installation
    }

    /// Its major version.
    pub fn major(&self) -> u32 {
        self.installation.major
    }

    /// Its port on 127.0.0.1, the same after a restart.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder of its socket; everything else that is its own lies there too.
    pub fn folder(&self) -> &Path {
        self.folder.as_ref().unwrap().path()
    }

    /// Its data folder.
    pub fn data(&self) -> PathBuf {
        self.folder().join("data")
    }

    /// What it wrote to its log.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.folder().join("log")).unwrap()).into_owned()
    }

    /// The certificate to trust, if it has one.
    pub fn certificate(&self) -> Option<PathBuf> {
        self.options.tls.then(|| self.folder().join("server.crt"))
    }

    /// The URL of a database over TCP, with the superuser's password.
    pub fn url(&self, database: &str) -> String {
        self.url_as("postgres", Some(PASSWORD), database)
    }

    /// The URL of a database over TCP for a role.
    pub fn url_as(&self, role: &str, password: Option<&str>, database: &str) -> String {
        let password = password.map(|text| format!(":{}", escaped(text))).unwrap_or_default();
        format!("postgres://{}{password}@127.0.0.1:{}/{}", escaped(role), self.port, escaped(database))
    }

    /// The URL of a database over the socket, where no password is asked for.
    pub fn socket_url(&self, database: &str) -> String {
        let host = escaped(self.folder().to_str().unwrap());
        format!("postgres://postgres@/{}?host={host}&port={}", escaped(database), self.port)
    }

    /// A program of its version (or a newer one, where its build has none), set up to reach a database over the socket.
    pub fn command(&self, program: &str, database: &str) -> Command {
        let mut command = Command::new(self.installation.program(program));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PG")) {
            command.env_remove(name);
        }
        // The environment, not arguments: a name with `=` in it would be taken for a list of parameters.
        command
            // No `.pgpass`, service file or certificate of whoever runs the test.
            .env("HOME", self.folder())
            .env("PGHOST", self.folder())
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", "postgres")
            .env("PGDATABASE", database)
            .env("PGCLIENTENCODING", "UTF8");
        command
    }

    /// What statements answer, unaligned and without heads; stops at the first error, which is a panic.
    pub fn psql(&self, database: &str, sql: &str) -> String {
        self.try_psql(database, sql).unwrap_or_else(|error| panic!("{error}\nin {database:?}: {sql:.2000}"))
    }

    /// The same; an error is what psql says.
    pub fn try_psql(&self, database: &str, sql: &str) -> Result<String, String> {
        let mut command = self.command("psql", database);
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-f", "-"]);
        answer(command, sql)
    }

    /// Runs a file of statements, with psql variables.
    pub fn psql_file(&self, database: &str, file: &Path, variables: &[(&str, &str)]) {
        let mut command = self.command("psql", database);
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]);
        for (name, value) in variables {
            command.arg("-v").arg(format!("{name}={value}"));
        }
        command.arg("-f").arg(file);
        answer(command, "").unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }

    /// Makes an empty database.
    pub fn create_database(&self, name: &str) {
        self.create_database_with(name, "");
    }

    /// The same with options of CREATE DATABASE, such as `ENCODING 'LATIN1' LOCALE 'C'`.
    pub fn create_database_with(&self, name: &str, options: &str) {
        self.psql("postgres", &format!("CREATE DATABASE {} TEMPLATE template0 {options}", ident(name)));
    }

    /// Makes a folder that the server may use, for a tablespace or a file to read.
    pub fn make_folder(&self, name: &str) -> PathBuf {
        let folder = self.folder().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        if let Some((uid, gid)) = install::account() {
            chown(&folder, Some(uid), Some(gid)).unwrap();
        }
        folder
    }

    /// Makes a tablespace that is full after so many megabytes. None, and it says so, where that cannot be: it takes root.
    pub fn small_tablespace(&self, name: &str, megabytes: u32) -> Option<()> {
        let size = format!("size={megabytes}m,mode=0777");
        self.mounted_tablespace(name, Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]))
    }

    /// Makes a tablespace on a file system where files can share their blocks; None as above.
    pub fn reflink_tablespace(&self, name: &str) -> Option<()> {
        let image = self.folder().join(format!("{name}.xfs"));
        std::fs::File::create(&image).unwrap().set_len(1 << 30).unwrap();
        let made = Command::new("mkfs.xfs").args(["-q", "-m", "reflink=1"]).arg(&image).output();
        if !made.is_ok_and(|done| done.status.success()) {
            let _ = writeln!(std::io::stderr(), "SKIPPED: mkfs.xfs is missing (tools/prepare.sh)");
            return None;
        }
        self.mounted_tablespace(name, Command::new("mount").args(["-o", "loop"]).arg(&image))
    }

    fn mounted_tablespace(&self, name: &str, mount: &mut Command) -> Option<()> {
        let folder = self.make_folder(&format!("disk-{name}"));
        if !mount.arg(&folder).output().is_ok_and(|done| done.status.success()) {
            let _ = writeln!(std::io::stderr(), "SKIPPED: a disk cannot be mounted here (it takes root)");
            return None;
        }
        let place = self.make_folder(&format!("disk-{name}/tablespace"));
        let place = literal(place.to_str().unwrap());
        self.psql("postgres", &format!("CREATE TABLESPACE {} LOCATION {place}", ident(name)));
        Some(())
    }

    /// Ends it; its files stay for [`Server::restart`].
    pub fn stop(&mut self, how: Stop) {
        let Some(mut process) = self.process.take() else { return };
        let signal = match how {
            Stop::Fast => "INT",
            Stop::Immediate => "QUIT",
            Stop::Kill => "KILL",
        };
        let pid = process.id().to_string();
        let _ = Command::new("sh").args(["-c", "kill -$0 $1", signal, &pid]).stderr(Stdio::null()).status();
        process.wait().unwrap();
    }

    /// Starts it again on the same port, after [`Stop::Fast`] if it runs.
    pub fn restart(&mut self) {
        self.stop(Stop::Fast);
        self.run();
    }

    fn make_certificate(&self) {
        assert!(self.installation.tls, "this PostgreSQL {} was built without TLS", self.major());
        let (key, certificate) = (self.data().join("server.key"), self.folder().join("server.crt"));
        let done = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"])
            .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout"])
            .arg(&key)
            .arg("-out")
            .arg(&certificate)
            .output()
            .unwrap();
        assert!(done.status.success(), "openssl: {}", String::from_utf8_lossy(&done.stderr));
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        if let Some((uid, gid)) = install::account() {
            chown(&key, Some(uid), Some(gid)).unwrap();
        }
        let hba = self.data().join("pg_hba.conf");
        let text = std::fs::read_to_string(&hba).unwrap().replace("\nhost ", "\nhostssl ");
        std::fs::write(hba, text).unwrap();
    }

    /// Starts the process. The server itself tries the port; another is chosen if it is taken.
    fn run(&mut self) {
        let end = Instant::now() + PATIENCE;
        let chosen = self.port;
        loop {
            self.port = if chosen == 0 { free_port() } else { chosen };
            let mut process = self.spawn();
            if ready(&mut process, &self.data(), end) {
                self.process = Some(process);
                return;
            }
            let _ = process.kill();
            let _ = process.wait();
            assert!(Instant::now() < end, "PostgreSQL {} does not start:\n{}", self.major(), self.log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn spawn(&self) -> Child {
        let log = std::fs::File::options().create(true).append(true).open(self.folder().join("log")).unwrap();
        let mut command = Command::new(self.installation.bin.join("postgres"));
        command.arg("-D").arg(self.data()).arg("-k").arg(self.folder()).arg("-p").arg(self.port.to_string());
        let on = |yes| if yes { "on" } else { "off" };
        let mut settings = vec![
            ("listen_addresses".to_owned(), "127.0.0.1".to_owned()),
            ("fsync".to_owned(), on(self.options.fsync).to_owned()),
            ("synchronous_commit".to_owned(), on(self.options.fsync).to_owned()),
            ("max_prepared_transactions".to_owned(), "5".to_owned()),
        ];
        if self.major() >= 18 {
            // Only since then may extensions lie elsewhere, as the one of the torture schema does.
            let path = format!("{}:$system", self.folder().join("extensions").display());
            settings.push(("extension_control_path".to_owned(), path));
        }
        if let Some(certificate) = self.certificate() {
            settings.push(("ssl".to_owned(), "on".to_owned()));
            settings.push(("ssl_cert_file".to_owned(), certificate.to_str().unwrap().to_owned()));
        }
        for (name, value) in settings.iter().chain(&self.options.settings) {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        if let Some((uid, gid)) = install::account() {
            command.uid(uid).gid(gid);
        }
        // A group of its own: Ctrl-C is for the test, and the test's end is the server's.
        command.env("LC_ALL", "C.UTF-8").current_dir("/").process_group(0);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop(Stop::Immediate);
        for entry in std::fs::read_dir(self.folder()).unwrap().flatten() {
            if entry.file_name().to_string_lossy().starts_with("disk-") {
                let _ = Command::new("umount").arg("--lazy").arg(entry.path()).output();
            }
        }
        // The folder goes first, so that the watcher finds nothing to do.
        self.folder.take();
        drop(self.watcher.stdin.take());
        let _ = self.watcher.wait();
    }
}

/// Waits until connections are accepted; false if the process has ended.
fn ready(process: &mut Child, data: &Path, end: Instant) -> bool {
    let pid = process.id().to_string();
    while Instant::now() < end {
        if process.try_wait().unwrap().is_some() {
            return false;
        }
        // Its pid is the first line of that file, how it is doing the eighth.
        let text = std::fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
        let mut lines = text.lines();
        if lines.next() == Some(&pid) && lines.nth(6).is_some_and(|state| state.trim() == "ready") {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

/// A port that was free a moment ago, below those that the system gives to clients.
fn free_port() -> u16 {
    use std::hash::{BuildHasher as _, RandomState};
    loop {
        let port = 10_000 + (RandomState::new().hash_one(0) % 20_000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Runs a command with this input.
fn answer(mut command: Command, input: &str) -> Result<String, String> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // It may stop reading at an error, which it then tells.
    let writer = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// A name as SQL writes it.
pub fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as SQL writes it.
pub fn literal(text: &str) -> String {
    let (escape, text) = match text.contains('\\') {
        true => ("E", text.replace('\\', "\\\\")),
        false => ("", text.to_owned()),
    };
    format!("{escape}'{}'", text.replace('\'', "''"))
}

/// A text as a part of a URL.
fn escaped(text: &str) -> String {
    let mut url = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => url.push(char::from(byte)),
            _ => url.push_str(&format!("%{byte:02X}")),
        }
    }
    url
}
