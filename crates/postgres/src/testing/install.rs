//! Where PostgreSQLs are, and new clusters: made by `initdb` once for each version, then copied.

use std::ffi::OsStr;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::PASSWORD;

const ENVIRONMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../.venv/postgres");

/// How clusters are made.
const INITDB: [&str; 6] = [
    "--username=postgres",
    "--auth-local=trust",
    "--auth-host=scram-sha-256",
    "--encoding=UTF8",
    "--locale=C.UTF-8",
    "--no-sync",
];

/// A PostgreSQL that can run servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    /// Its major version.
    pub major: u32,
    /// The folder of its programs.
    pub bin: PathBuf,
    /// It has pg_dump, psql and so on; otherwise a newer version's are used.
    pub clients: bool,
    /// It has the extensions of contrib.
    pub contrib: bool,
    /// Its server can do TLS.
    pub tls: bool,
}

impl Installation {
    /// All of 15 and later, oldest first.
    pub(super) fn all() -> Vec<Self> {
        let mut found: Vec<Self> = Vec::new();
        for major in 15..30 {
            for folder in [format!("/usr/lib/postgresql/{major}"), format!("{ENVIRONMENT}/{major}")] {
                let folder = Path::new(&folder);
                if !folder.join("bin/initdb").is_file() || found.iter().any(|other| other.major == major) {
                    continue;
                }
                let folder = reachable(folder);
                let has = |path: &str| folder.join(path).is_file();
                let packaged = folder.starts_with("/usr");
                found.push(Self {
                    major,
                    bin: folder.join("bin"),
                    clients: has("bin/psql") && has("bin/pg_dump"),
                    contrib: packaged || has("share/postgresql/extension/postgres_fdw.control"),
                    // The package with every program is built without it, and brings no libcrypto.
                    tls: packaged || has("lib/libssl.so.1.1") || has("lib/libssl.so.3"),
                });
            }
        }
        found
    }

    /// The one of this major version.
    pub(super) fn of(major: u32) -> Self {
        let found = Self::all().into_iter().find(|found| found.major == major);
        found.unwrap_or_else(|| panic!("PostgreSQL {major} is missing: run tools/prepare.sh"))
    }

    /// The path of a program, of the oldest version that has it and is not older than this one.
    pub fn program(&self, name: &str) -> PathBuf {
        let own = self.bin.join(name);
        if own.is_file() {
            return own;
        }
        let newer = Self::all().into_iter().filter(|other| other.major > self.major);
        let mut programs = newer.map(|other| other.bin.join(name));
        programs.find(|path| path.is_file()).unwrap_or_else(|| panic!("{name} is missing: run tools/prepare.sh"))
    }

    /// Makes a data folder.
    pub(super) fn new_cluster(&self, data: &Path) {
        let template = self.template();
        run(Command::new("cp").args([
            "-a".as_ref(),
            "--reflink=auto".as_ref(),
            template.as_os_str(),
            data.as_os_str(),
        ]));
    }

    /// A cluster of this very version, made if it is not there yet: whole or not at all, as several processes may try.
    fn template(&self) -> PathBuf {
        let version = Command::new(self.bin.join("initdb")).arg("--version").output().unwrap().stdout;
        let version: String = String::from_utf8_lossy(&version).split(' ').nth(2).unwrap().trim().to_owned();
        // A cluster that another build, account or edition of this file made is another one.
        let mut kind = DefaultHasher::new();
        (&self.bin, account(), INITDB, PASSWORD).hash(&mut kind);
        let folder = target().join("postgres-clusters");
        let whole = folder.join(format!("{version}-{:016x}", kind.finish()));
        if whole.is_dir() {
            return whole;
        }
        std::fs::create_dir_all(&folder).unwrap();
        // The server's account may not reach `target`: initdb works in a folder for temporary files.
        let temporary = tempfile::Builder::new().prefix("copal-pg").tempdir().unwrap();
        let (data, password) = (temporary.path().join("data"), temporary.path().join("password"));
        std::fs::write(&password, PASSWORD).unwrap();
        let mut initdb = Command::new(self.bin.join("initdb"));
        initdb.args(INITDB).arg("--pwfile").arg(&password).arg("-D").arg(&data).current_dir("/");
        if let Some((uid, gid)) = account() {
            chown(temporary.path(), Some(uid), Some(gid)).unwrap();
            chown(&password, Some(uid), Some(gid)).unwrap();
            initdb.uid(uid).gid(gid);
        }
        run(&mut initdb);
        let new = tempfile::Builder::new().prefix(".new-").tempdir_in(&folder).unwrap();
        run(Command::new("cp").args([OsStr::new("-a"), data.as_os_str()]).arg(new.path().join("data")));
        // Another process that was faster is as good.
        let _ = std::fs::rename(new.path().join("data"), &whole);
        assert!(whole.is_dir(), "cannot make {}", whole.display());
        whole
    }
}

/// The same installation where the server's account can reach it: if the project lies in a folder that only root may
/// enter, a copy in the folder for temporary files.
fn reachable(folder: &Path) -> PathBuf {
    let real = folder.canonicalize().unwrap();
    let open = |folder: &Path| std::fs::metadata(folder).unwrap().mode() & 1 != 0;
    if account().is_none() || real.ancestors().all(open) {
        return folder.to_owned();
    }
    // Libraries are found from where the programs are: the package is copied as a whole.
    let root = Path::new(ENVIRONMENT).canonicalize().unwrap();
    let inside = real.strip_prefix(&root).unwrap();
    let package = inside.iter().next().unwrap();
    let whole = std::env::temp_dir().join(format!("copal-postgres-{}", package.display()));
    if !whole.is_dir() {
        let new = tempfile::Builder::new().prefix(".copal-postgres-").tempdir().unwrap();
        run(Command::new("cp").arg("-a").arg(root.join(package)).arg(new.path()));
        // Another process that was faster is as good.
        let _ = std::fs::rename(new.path().join(package), &whole);
    }
    assert_eq!(std::fs::metadata(&whole).unwrap().uid(), 0, "{} is somebody else's", whole.display());
    whole.join(inside.strip_prefix(package).unwrap())
}

/// A file beside the tests of this crate, such as `torture.sql`.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

/// The account that servers run under, (user, group): they refuse root. None if that is ours.
pub(super) fn account() -> Option<(u32, u32)> {
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    let ids = |name: &str| {
        let mut fields = users.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?.split(':').skip(1);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    Some(ids("postgres").or_else(|| ids("nobody")).unwrap())
}

/// Cargo's target folder, in which this program lies.
fn target() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    let target = program.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
    target.map_or_else(std::env::temp_dir, Path::to_owned)
}

fn run(command: &mut Command) {
    let done = command.output().unwrap();
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
}
