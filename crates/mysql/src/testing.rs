//! A real MariaDB for tests of this and other crates (cargo feature `testkit`).
//!
//! Owns starting, stopping and asking it. Each server has a folder, a socket and a port of its own and ends with its `Server`,
//! even if the test process is killed. Whatever goes wrong here is a panic, as in any test.
#![allow(clippy::unwrap_used)]

use std::ffi::OsStr;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The password of the user `copal`, who may do everything, with letters that a URL has to escape.
pub const PASSWORD: &str = "p@ss/w:rd %41'";
const PATIENCE: Duration = Duration::from_secs(60);
/// A small log, so that a new data folder is copied in no time; nothing here must outlive the power, so nobody waits for a disk.
const SMALL: [&str; 5] = [
    "--debug-no-sync",
    "--innodb-log-file-size=16M",
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-buffer-pool-size=64M",
    "--aria-log-file-size=8M",
];
/// Ends the server in folder `$1` when the process that holds the other end of its standard input is gone.
const WATCHER: &str = r#"trap "" INT TERM HUP
read -r _
[ -d "$1" ] || exit 0
pid=$(cat "$1/pid" 2>/dev/null)
[ -z "$pid" ] || [ "$(readlink "/proc/$pid/cwd")" != "$1/data" ] || kill -KILL "$pid"
sleep 1
umount --lazy "$1/data" 2>/dev/null
rm -rf "$1""#;

/// A running server; stops when dropped.
#[derive(Debug)]
pub struct Server {
    folder: Option<tempfile::TempDir>,
    port: u16,
    process: Option<Child>,
    watcher: Child,
    settings: Vec<String>,
}

impl Server {
    /// Starts a fresh server.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with more arguments, such as `--log-bin`.
    pub fn start_with(settings: &[&str]) -> Self {
        Self::start_on(settings, None)
    }

    /// The same on a disk of so many megabytes; none, and it says so, where that cannot be: it takes root.
    pub fn start_on_small_disk(megabytes: u32) -> Option<Self> {
        let server = Self::start_on(&["--innodb-data-file-path=ibdata1:12M:autoextend:max:64M"], Some(megabytes));
        server.process.is_some().then_some(server)
    }

    fn start_on(settings: &[&str], disk: Option<u32>) -> Self {
        let folder = tempfile::Builder::new().prefix("copal-my").tempdir().unwrap();
        let watcher = Command::new("sh")
            .args([OsStr::new("-c"), WATCHER.as_ref(), "watcher".as_ref(), folder.path().as_os_str()])
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        if let Some((uid, gid)) = account() {
            chown(folder.path(), Some(uid), Some(gid)).unwrap();
        }
        let data = folder.path().join("data");
        let settings = settings.iter().map(|&setting| setting.to_owned()).collect();
        let mut server = Self { folder: Some(folder), port: free_port(), process: None, watcher, settings };
        if let Some(megabytes) = disk {
            std::fs::create_dir(&data).unwrap();
            let size = format!("size={megabytes}m,mode=0755");
            let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&data).output();
            if !mount.is_ok_and(|done| done.status.success()) {
                let _ = writeln!(std::io::stderr(), "SKIPPED: a small disk cannot be mounted here (it takes root)");
                return server;
            }
            if let Some((uid, gid)) = account() {
                chown(&data, Some(uid), Some(gid)).unwrap();
            }
        }
        run(Command::new("cp").args(["-aT", "--reflink=auto"]).arg(template()).arg(&data));
        server.run();
        let password = PASSWORD.replace('\'', "''");
        server.sql(
            "",
            &format!(
                "CREATE USER copal@'%' IDENTIFIED BY '{password}'; GRANT ALL ON *.* TO copal@'%' WITH GRANT OPTION"
            ),
        );
        server
    }

    /// Its folder, with its socket and its log.
    pub fn folder(&self) -> &Path {
        self.folder.as_ref().unwrap().path()
    }

    /// Its port on 127.0.0.1, the same after a restart.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.folder().join("socket")
    }

    /// The URL of a database over TCP, for the user `copal`.
    pub fn url(&self, database: &str) -> String {
        self.url_as("copal", Some(PASSWORD), database)
    }

    /// The URL of a database over TCP for a user.
    pub fn url_as(&self, user: &str, password: Option<&str>, database: &str) -> String {
        let password = password.map(|text| format!(":{}", escaped(text))).unwrap_or_default();
        format!("mysql://{}{password}@127.0.0.1:{}/{}", escaped(user), self.port, escaped(database))
    }

    /// The URL of a database over the socket, for `root` without a password.
    pub fn socket_url(&self, database: &str) -> String {
        format!("mysql://root@/{}?socket={}", escaped(database), escaped(self.socket().to_str().unwrap()))
    }

    /// The client program, set up to reach a database over the socket.
    pub fn command(&self, database: &str) -> Command {
        let mut command = Command::new("mariadb");
        command.args([
            "--no-defaults",
            "--user=root",
            "--default-character-set=utf8mb4",
            "--batch",
            "--raw",
            "--skip-column-names",
        ]);
        command.arg(format!("--socket={}", self.socket().display())).arg(format!("--database={database}"));
        command.env_remove("MYSQL_PWD");
        command
    }

    /// What statements answer, columns apart by tabs; an error is a panic. An empty name is no database.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        self.try_sql(database, sql).unwrap_or_else(|error| panic!("{error}\nin {database:?}: {sql:.2000}"))
    }

    /// The same; an error is what the client says.
    pub fn try_sql(&self, database: &str, sql: &str) -> Result<String, String> {
        let mut child = self.command(database);
        let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (mut stdin, text) = (child.stdin.take().unwrap(), sql.to_owned());
        // It may stop reading at an error, which it then tells.
        let writer = std::thread::spawn(move || drop(stdin.write_all(text.as_bytes())));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// The server's process, ended at once; its files stay for [`Server::restart`].
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Starts it again on the same port.
    pub fn restart(&mut self) {
        self.kill();
        self.run();
    }

    fn run(&mut self) {
        let end = Instant::now() + PATIENCE;
        loop {
            let _ = std::fs::remove_file(self.socket());
            let mut process = self.spawn();
            while process.try_wait().unwrap().is_none() && Instant::now() < end {
                // Both: over the socket it may answer before its port is known to be free.
                if self.try_sql("", "SELECT 1").is_ok() && TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                    self.process = Some(process);
                    return;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            let _ = process.kill();
            let _ = process.wait();
            let log = std::fs::read(self.folder().join("log")).unwrap();
            assert!(Instant::now() < end, "MariaDB does not start:\n{}", String::from_utf8_lossy(&log));
            // Somebody may have been faster at the port.
            self.port = free_port();
        }
    }

    fn spawn(&self) -> Child {
        let log = std::fs::File::options().create(true).append(true).open(self.folder().join("log")).unwrap();
        let mut command = Command::new(program("mariadbd"));
        let folder = self.folder();
        command.arg("--no-defaults").args(SMALL).args(&self.settings);
        for (name, value) in [("datadir", "data"), ("socket", "socket"), ("pid-file", "pid"), ("tmpdir", "")] {
            command.arg(format!("--{name}={}", folder.join(value).display()));
        }
        command.args([format!("--port={}", self.port), "--bind-address=127.0.0.1".to_owned()]);
        command.args(["--event-scheduler=OFF", "--character-set-server=utf8mb4", "--skip-name-resolve"]);
        if let Some((uid, gid)) = account() {
            command.uid(uid).gid(gid);
        }
        // A group of its own: Ctrl-C is for the test, and the test's end is the server's.
        command.current_dir("/").process_group(0);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let _ = Command::new("umount").arg("--lazy").arg(self.folder().join("data")).output();
        // The folder goes first, so that the watcher finds nothing to do.
        self.folder.take();
        drop(self.watcher.stdin.take());
        let _ = self.watcher.wait();
    }
}

/// A data folder, made once: whole or not at all, as several processes may try.
fn template() -> PathBuf {
    let version = Command::new(program("mariadbd")).arg("--version").output().unwrap().stdout;
    let version: String = String::from_utf8_lossy(&version).chars().filter(char::is_ascii_alphanumeric).collect();
    let folder = target().join("mariadb-data");
    let whole = folder.join(format!("{version}-{}", account().map_or(0, |(uid, _)| uid)));
    if whole.is_dir() {
        return whole;
    }
    std::fs::create_dir_all(&folder).unwrap();
    // One makes it, and whoever comes meanwhile waits.
    let lock = std::fs::File::create(folder.join(".lock")).unwrap();
    lock.lock().unwrap();
    if whole.is_dir() {
        return whole;
    }
    let temporary = tempfile::Builder::new().prefix("copal-my").tempdir().unwrap();
    std::fs::set_permissions(temporary.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let data = temporary.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let mut install = Command::new(program("mariadb-install-db"));
    install.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]).args(SMALL);
    if let Some((uid, gid)) = account() {
        chown(temporary.path(), Some(uid), Some(gid)).unwrap();
        chown(&data, Some(uid), Some(gid)).unwrap();
        install.uid(uid).gid(gid);
    }
    // In a temporary folder of its own: a MariaDB that starts removes what it takes for temporary tables of dead ones.
    install.arg(format!("--datadir={}", data.display())).arg(format!("--tmpdir={}", temporary.path().display()));
    run(install.current_dir("/"));
    let new = tempfile::Builder::new().prefix(".new-").tempdir_in(&folder).unwrap();
    run(Command::new("cp").arg("-a").arg(&data).arg(new.path()));
    std::fs::rename(new.path().join("data"), &whole).unwrap();
    whole
}

fn program(name: &str) -> PathBuf {
    let folders = ["/usr/sbin", "/usr/bin", "/usr/local/bin"];
    let found = folders.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{name} is missing: run tools/prepare.sh"))
}

/// The account that servers run under, (user, group): not root. None if that is ours.
fn account() -> Option<(u32, u32)> {
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    let ids = |name: &str| {
        let mut fields = users.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?.split(':').skip(1);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    Some(ids("mysql").or_else(|| ids("nobody")).unwrap())
}

/// Cargo's target folder, in which this program lies.
fn target() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    let target = program.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
    target.map_or_else(std::env::temp_dir, Path::to_owned)
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

fn run(command: &mut Command) {
    let done = command.output().unwrap();
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
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
