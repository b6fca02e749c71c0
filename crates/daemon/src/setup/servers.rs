//! Database servers of this machine: where they usually listen, and where the environment says.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use copal::config::Environment;
use copal::{Copal, CopalError};
use futures::future::join_all;
use serde::Serialize;
use tokio::net::TcpStream;
use utoipa::ToSchema;

/// How long a server may take to let one user in and to list its databases.
const PATIENCE: Duration = Duration::from_secs(4);
/// How long a connection may take to be there.
const KNOCK: Duration = Duration::from_secs(1);

const POSTGRES_FOLDERS: [&str; 3] = ["/var/run/postgresql", "/run/postgresql", "/tmp"];
const POSTGRES_SOCKET: &str = ".s.PGSQL.";
/// The bit of a folder's mode.
const OTHERS_MAY_WRITE: u32 = 0o002;
const MYSQL_SOCKETS: [&str; 3] = ["/run/mysqld/mysqld.sock", "/var/lib/mysql/mysql.sock", "/tmp/mysql.sock"];

/// A database server, as a whole.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FoundServer {
    /// All of its databases, `…/*`; a name in the place of `*`, percent-encoded, is one of them. Without a password.
    url: String,
    /// The engine's name.
    engine: String,
    /// The server's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    /// Its databases.
    databases: Vec<String>,
    /// Why it lets nobody in.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

/// A place where a server may be, and the URLs to try there, the best first.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    engine: &'static str,
    /// Host and port to knock at; `None`: there is a socket.
    knock: Option<(String, u16)>,
    urls: Vec<String>,
}

/// Finds servers that answer, whether or not they let us in.
pub(super) async fn find(copal: &Copal, environment: &Environment) -> Vec<FoundServer> {
    let built_in = copal.engine_names();
    let places = [postgres(environment, &POSTGRES_FOLDERS), mysql(environment, &MYSQL_SOCKETS)];
    let places = places.into_iter().flatten().filter(|place| built_in.contains(&place.engine));
    join_all(places.map(|place| ask(copal, place))).await.into_iter().flatten().collect()
}

async fn ask(copal: &Copal, place: Place) -> Option<FoundServer> {
    if let Some((host, port)) = &place.knock {
        tokio::time::timeout(KNOCK, TcpStream::connect((host.as_str(), *port))).await.ok()?.ok()?;
    }
    let mut refused = None;
    for url in place.urls {
        let look = async {
            let identified = copal.identify(&url).await?;
            Ok::<_, CopalError>((identified.version, copal.databases_on_server(&url).await?.unwrap_or_default()))
        };
        let (error, hint) = match tokio::time::timeout(PATIENCE, look).await {
            Ok(Ok((version, databases))) => {
                let (engine, version) = (place.engine.to_owned(), Some(version));
                return Some(FoundServer { url, engine, version, databases, error: None, hint: None });
            }
            Ok(Err(error)) => (error.to_string(), error.hint().map(str::to_owned)),
            Err(_) => ("the server does not answer".to_owned(), None),
        };
        refused = refused.or(Some((url, error, hint)));
    }
    let (url, error, hint) = refused?;
    let engine = place.engine.to_owned();
    Some(FoundServer { url, engine, version: None, databases: Vec::new(), error: Some(error), hint })
}

/// Sockets in the usual folders and in `PGHOST`; by TCP at `PGHOST` and `PGPORT` what has no socket.
fn postgres(environment: &Environment, folders: &[&str]) -> Vec<Place> {
    let host = environment.get("PGHOST").filter(|host| !host.contains(','));
    let port: u16 = environment.get("PGPORT").and_then(|port| port.parse().ok()).unwrap_or(5432);
    let mut places = Vec::new();
    let (mut seen, mut ports) = (BTreeSet::new(), BTreeSet::new());
    let named = host.filter(|host| host.starts_with('/'));
    for folder in named.into_iter().chain(folders.iter().copied()) {
        // `/var/run` is a link to `/run` on most systems.
        let Ok(real) = fs::canonicalize(folder) else { continue };
        if !seen.insert(real) {
            continue;
        }
        // Whoever names a folder and a port has said whose server that is.
        let said = (named == Some(folder)).then_some(port);
        for port in sockets(Path::new(folder), said) {
            ports.insert(port);
            let query = format!("?host={}&port={port}", encode(folder));
            places.push(Place {
                engine: "postgres",
                knock: None,
                urls: vec![format!("postgres:///*{query}"), format!("postgres://postgres@/*{query}")],
            });
        }
    }
    let host = host.filter(|host| !host.starts_with('/'));
    if host.is_some() || !ports.contains(&port) {
        let host = host.unwrap_or("127.0.0.1");
        let at = format!("{}:{port}/*", if host.contains(':') { format!("[{host}]") } else { encode(host) });
        places.push(Place {
            engine: "postgres",
            knock: Some((host.to_owned(), port)),
            urls: vec![format!("postgres://{at}"), format!("postgres://postgres@{at}")],
        });
    }
    places
}

/// The ports whose sockets lie in a folder: those that are trusted, and the one that was said.
fn sockets(folder: &Path, said: Option<u16>) -> BTreeSet<u16> {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let port = |entry: fs::DirEntry| {
        let port = entry.file_name().to_str()?.strip_prefix(POSTGRES_SOCKET)?.parse().ok()?;
        (said == Some(port) || is_trusted(&entry.path())).then_some(port)
    };
    entries.filter_map(port).collect()
}

/// Whether this is a socket that not just anybody could have put there: whoever listens may ask for the password that the
/// environment has, and `/tmp` is for everybody. Ours and the system's are trusted, and what lies where only its owner may write.
fn is_trusted(socket: &Path) -> bool {
    let folder = socket.parent().and_then(|folder| folder.metadata().ok());
    let (Ok(found), Some(folder)) = (socket.symlink_metadata(), folder) else { return false };
    let is_known = |owner: u32| owner == 0 || owner == rustix::process::geteuid().as_raw();
    found.file_type().is_socket() && (is_known(found.uid()) || folder.mode() & OTHERS_MAY_WRITE == 0)
}

/// The socket of `MYSQL_UNIX_PORT`, else the first that there is; without one, TCP at `MYSQL_TCP_PORT`.
fn mysql(environment: &Environment, sockets: &[&str]) -> Vec<Place> {
    let port: u16 = environment.get("MYSQL_TCP_PORT").and_then(|port| port.parse().ok()).unwrap_or(3306);
    let mut users = vec![environment.get("USER").unwrap_or("root")];
    if users != ["root"] {
        users.push("root");
    }
    let named = environment.get("MYSQL_UNIX_PORT").map(PathBuf::from).filter(|socket| socket.exists());
    let socket = named.or_else(|| sockets.iter().map(PathBuf::from).find(|socket| is_trusted(socket)));
    let (at, query, knock) = match socket.as_deref().and_then(Path::to_str) {
        Some(socket) => (String::new(), format!("?socket={}", encode(socket)), None),
        None => (format!("127.0.0.1:{port}"), String::new(), Some(("127.0.0.1".to_owned(), port))),
    };
    let urls = users.iter().map(|user| format!("mysql://{}@{at}/*{query}", encode(user))).collect();
    vec![Place { engine: "mysql", knock, urls }]
}

fn encode(text: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    text.bytes().map(|b| if keep(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown};
    use std::os::unix::net::UnixListener;

    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        variables.iter().map(|(name, value)| (*name, *value)).collect()
    }

    #[test]
    fn servers_are_looked_for_where_the_environment_says_and_where_they_usually_are() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().to_str().unwrap();
        let nowhere = postgres(&environment(&[]), &[]);
        assert_eq!(nowhere[0].urls, ["postgres://127.0.0.1:5432/*", "postgres://postgres@127.0.0.1:5432/*"]);
        let other = postgres(&environment(&[("PGHOST", "::1"), ("PGPORT", "5433")]), &[]);
        assert_eq!((other.len(), other[0].urls[0].as_str()), (1, "postgres://[::1]:5433/*"));

        for name in [".s.PGSQL.5432", ".s.PGSQL.5432.lock", ".s.PGSQL.6000", "other"] {
            drop(UnixListener::bind(home.path().join(name)).unwrap());
        }
        let found = postgres(&environment(&[("PGHOST", folder)]), &[folder]);
        let urls: Vec<_> = found.iter().map(|place| place.urls[0].as_str()).collect();
        let expected = [5432, 6000].map(|port| format!("postgres:///*?host={folder}&port={port}"));
        assert_eq!(urls, expected);
        assert!(found.iter().all(|place| place.knock.is_none()));

        let socket = home.path().join("my sql.sock");
        fs::write(&socket, "").unwrap();
        let here = mysql(&environment(&[("MYSQL_UNIX_PORT", socket.to_str().unwrap()), ("USER", "a:b")]), &[]);
        let expected = ["a%3Ab", "root"].map(|user| format!("mysql://{user}@/*?socket={folder}/my%20sql.sock"));
        assert_eq!((here[0].urls.as_slice(), &here[0].knock), (&expected[..], &None));
        let there = mysql(&environment(&[("MYSQL_TCP_PORT", "3307")]), &["/nothing"]);
        assert_eq!(there[0].urls, ["mysql://root@127.0.0.1:3307/*"]);
        assert_eq!(there[0].knock, Some(("127.0.0.1".to_owned(), 3307)));
    }

    #[test]
    fn what_anybody_could_have_put_there_gets_no_password() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().to_str().unwrap();
        let socket = home.path().join(".s.PGSQL.5432");
        let found = |variables: &[(&str, &str)]| {
            let places = postgres(&environment(variables), &[folder]);
            places.iter().filter(|place| place.knock.is_none()).count()
        };
        let has_mysql = || mysql(&environment(&[]), &[socket.to_str().unwrap()])[0].knock.is_none();
        // Not a socket at all: a file, or a link to somebody's socket.
        fs::write(&socket, "").unwrap();
        assert!(found(&[]) == 0 && !has_mysql());
        fs::remove_file(&socket).unwrap();
        drop(UnixListener::bind(home.path().join("elsewhere")).unwrap());
        std::os::unix::fs::symlink("elsewhere", &socket).unwrap();
        assert!(found(&[]) == 0 && !has_mysql());
        fs::remove_file(&socket).unwrap();

        // Ours, wherever it is.
        drop(UnixListener::bind(&socket).unwrap());
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o1777)).unwrap();
        assert!(found(&[]) == 1 && has_mysql());
        // Only root can make one that belongs to somebody else.
        if !rustix::process::geteuid().is_root() {
            return;
        }
        chown(&socket, Some(4711), None).unwrap();
        assert!(found(&[]) == 0 && !has_mysql());
        // Who names it has said so, and only for that one.
        assert_eq!((found(&[("PGHOST", folder)]), found(&[("PGHOST", folder), ("PGPORT", "6000")])), (1, 0));
        // Where only its owner may write, as servers make their folders.
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o2775)).unwrap();
        assert!(found(&[]) == 1 && has_mysql());
    }
}
