//! Where a database is: `mysql://user:password@host:port/database?parameter=value`.

use std::path::PathBuf;

use copal_core::{EngineError, EngineErrorKind, EngineResult, Secret, Source};
use mysql_async::{Opts, OptsBuilder, SslOpts};

/// Where servers put their socket, if nobody says it.
const SOCKETS: [&str; 3] = ["/run/mysqld/mysqld.sock", "/var/lib/mysql/mysql.sock", "/tmp/mysql.sock"];

// None of these quotes what was written: it may be a part of a password whose signs were not encoded.
const WRONG_PORT: &str = "the port is not a number; write / ? : @ in a password as %2F %3F %3A %40";
const WRONG_TLS: &str = "ssl-mode is DISABLED, PREFERRED, REQUIRED, VERIFY_CA or VERIFY_IDENTITY";
const WRONG_PARAMETER: &str =
    "a parameter is none that Copal knows; those are socket, user, password, database, ssl-mode and ssl-ca";

/// Whether a connection is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tls {
    /// Not.
    Disabled,
    /// If the server can.
    Preferred,
    /// In any case, with whoever answers.
    Required,
    /// In any case, with a server whose certificate is signed by an authority that is trusted.
    VerifyAuthority,
    /// The same, and the certificate is that host's.
    VerifyHost,
}

/// What a connection needs. `Debug` does not show the password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// The database's name; `*` for all of the server.
    pub(crate) database: String,
    user: String,
    password: Option<Secret>,
    host: String,
    port: u16,
    socket: Option<PathBuf>,
    tls: Tls,
    authority: Option<PathBuf>,
    shown: String,
}

impl Address {
    /// Takes a source apart.
    pub(crate) fn of(source: &Source) -> EngineResult<Self> {
        Self::parse(source).map_err(|what| {
            EngineError::new(EngineErrorKind::NotFound, format!("{source}: {what}")).hint(
                "write it as mysql://user@host:3306/database, or mysql://user@/database?socket=/run/mysqld/mysqld.sock",
            )
        })
    }

    fn parse(source: &Source) -> Result<Self, String> {
        let rest = source.reveal_rest();
        let url = rest.strip_prefix("//").ok_or("a server's address begins with two slashes")?;
        let (url, query) = url.split_once('?').unwrap_or((url, ""));
        let (authority, database) = url.split_once('/').unwrap_or((url, ""));
        let (user, place) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = user.split_once(':').map_or((user, None), |(user, password)| (user, Some(password)));
        let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, port)) => (host, port.strip_prefix(':').unwrap_or(port)),
            None => place.rsplit_once(':').unwrap_or((place, "")),
        };
        let port = if port.is_empty() { 3306 } else { port.parse().map_err(|_| WRONG_PORT)? };
        let mut address = Self {
            database: decode(database)?,
            user: decode(user)?,
            password: password.map(decode).transpose()?.map(Secret::new),
            host: decode(host)?,
            port,
            socket: None,
            tls: Tls::Preferred,
            authority: None,
            shown: source.redacted(),
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or("a parameter has no value")?;
            address.take(key, decode(value)?)?;
        }
        if address.database.is_empty() {
            return Err("no database is named".to_owned());
        }
        if address.user.is_empty() {
            address.user = std::env::var("USER").unwrap_or_else(|_| "root".to_owned());
        }
        let from_environment = || std::env::var("MYSQL_PWD").ok().map(Secret::new);
        address.password = address.password.or_else(from_environment);
        if address.host.is_empty() && address.socket.is_none() {
            address.socket = SOCKETS.iter().map(PathBuf::from).find(|path| path.exists());
            "localhost".clone_into(&mut address.host);
        }
        Ok(address)
    }

    fn take(&mut self, key: &str, value: String) -> Result<(), String> {
        match key.replace('-', "_").as_str() {
            "socket" | "unix_socket" => self.socket = Some(PathBuf::from(value)),
            "password" | "passwd" | "pwd" => self.password = Some(Secret::new(value)),
            "user" => self.user = value,
            "database" | "db" => self.database = value,
            "ssl_ca" => self.authority = Some(PathBuf::from(value)),
            "ssl_mode" | "sslmode" | "ssl" | "tls" => {
                self.tls = match value.to_ascii_lowercase().replace('-', "_").as_str() {
                    "disabled" | "disable" | "false" | "0" => Tls::Disabled,
                    "preferred" | "prefer" => Tls::Preferred,
                    "required" | "require" | "true" | "1" | "skip_verify" => Tls::Required,
                    "verify_ca" => Tls::VerifyAuthority,
                    "verify_identity" | "verify_full" => Tls::VerifyHost,
                    _ => return Err(WRONG_TLS.to_owned()),
                }
            }
            // Of drivers, not of connections.
            "charset" | "collation" | "autocommit" | "local_infile" | "binary_prefix" | "use_unicode" => {}
            _ if key.starts_with("pool") || key.contains("timeout") => {}
            _ => return Err(WRONG_PARAMETER.to_owned()),
        }
        Ok(())
    }

    /// Whether it names all databases of the server.
    pub(crate) fn is_whole_server(&self) -> bool {
        self.database == "*"
    }

    /// The address as it may be shown.
    pub(crate) fn shown(&self) -> &str {
        &self.shown
    }

    /// The server as people read it.
    pub(crate) fn server(&self) -> String {
        match &self.socket {
            Some(socket) => socket.display().to_string(),
            None => format!("{}:{}", self.host, self.port),
        }
    }

    /// The user's name.
    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    /// What to connect with, the best first.
    pub(crate) fn options(&self) -> Vec<Opts> {
        let builder = || {
            OptsBuilder::default()
                .ip_or_hostname(self.host.clone())
                .tcp_port(self.port)
                .user(Some(self.user.clone()))
                .pass(self.password.as_ref().map(|password| password.reveal().to_owned()))
                .prefer_socket(false)
                .stmt_cache_size(0)
        };
        if let Some(socket) = &self.socket {
            return vec![builder().socket(Some(socket.to_string_lossy().into_owned())).into()];
        }
        let mut ssl = SslOpts::default();
        if let Some(authority) = &self.authority {
            ssl = ssl.with_root_certs(vec![authority.clone().into()]);
        }
        let encrypted = match self.tls {
            Tls::Disabled => None,
            Tls::Preferred | Tls::Required if self.authority.is_none() => {
                Some(ssl.with_danger_accept_invalid_certs(true).with_danger_skip_domain_validation(true))
            }
            Tls::VerifyHost => Some(ssl),
            _ => Some(ssl.with_danger_skip_domain_validation(true)),
        };
        let plain = matches!(self.tls, Tls::Disabled | Tls::Preferred);
        let encrypted = encrypted.map(|ssl| builder().ssl_opts(Some(ssl)).into());
        encrypted.into_iter().chain(plain.then(|| builder().into())).collect()
    }
}

/// Percent-decoding; what is not UTF-8 is refused.
fn decode(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let hex = (first == b'%').then(|| after.get(..2)).flatten().and_then(|two| std::str::from_utf8(two).ok());
        match hex.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).map_err(|_| "a percent-encoded part is not UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Address {
        Address::of(&Source::parse(text).unwrap()).unwrap()
    }

    #[test]
    fn every_part_is_found() {
        let a = of("mysql+pymysql://us%40er:p%2Fw%3Ad@db1:3307/sh%C3%B6p?charset=utf8mb4&ssl-mode=REQUIRED");
        assert_eq!((a.user(), a.database.as_str(), a.server()), ("us@er", "shöp", "db1:3307".to_owned()));
        assert_eq!(a.password.as_ref().unwrap().reveal(), "p/w:d");
        assert_eq!(a.options().len(), 1, "no way without TLS");
        assert_eq!(of("mariadb://u@[::1]/d").server(), "::1:3306");
        assert_eq!(of("mysql://u@h/d").options().len(), 2);
        let socket = of("mysql://u@/a%2Fb%25?unix_socket=/run/my%20sql.sock");
        assert_eq!((socket.server().as_str(), socket.database.as_str()), ("/run/my sql.sock", "a/b%"));
        assert!(of("mysql://u@h/*").is_whole_server());
    }

    #[test]
    fn passwords_are_not_shown() {
        for text in ["mysql://u:s3cret@h/d", "mysql://u@h/d?password=s3cret"] {
            let shown = format!("{:?} {}", of(text), of(text).shown());
            assert!(!shown.contains("s3cret"), "{shown}");
        }
        for text in ["mysql://u:s3cret@h:x/d", "mysql://u:s3cret@h/", "mysql://u:s3cret@h/d?ssl=perhaps"] {
            let error = Address::of(&Source::parse(text).unwrap()).unwrap_err();
            assert!(!format!("{error:?} {error}").contains("s3cret"), "{error:?}");
        }
        for (text, words) in [
            ("mysql://root:s3cret/x@h/d", "the port is not a number; write / ? : @"),
            ("mysql://u:s3?cret@h/d", "the port is not a number"),
            ("mysql://u@h/d?s3cret", "a parameter has no value"),
            ("mysql://u@h/d?ssl=s3cret", "ssl-mode is"),
            ("mysql://u@h/d?a-s3cret=x", "a parameter is none that Copal knows"),
        ] {
            let error = Address::parse(&Source::parse(text).unwrap()).unwrap_err();
            assert!(error.contains(words) && !error.contains("s3") && !error.contains("cret"), "{error}");
        }
        assert_eq!(of("mysql://u@h/d?passwd=s3cret").password.unwrap().reveal(), "s3cret");
    }
}
