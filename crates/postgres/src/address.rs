//! Where a database is: every spelling that people use, as parameters of libpq.
//!
//! What is not in the text (host, user, password file, service, TLS) libpq takes from its environment, `~/.pgpass` and
//! service files itself, in the client programs that do the work.

use std::collections::BTreeMap;

use copal_core::{EngineError, EngineErrorKind, EngineResult, Secret, Source};

/// Parameters of a connection. Neither `Debug` nor the connection string shows the password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    parameters: BTreeMap<String, String>,
    /// Given in the text; else libpq looks for one itself.
    pub(crate) password: Option<Secret>,
    scheme: String,
}

impl Address {
    /// Takes `postgres://user:password@host:port/database?parameter=value` or `postgres:keyword=value …` apart.
    pub(crate) fn of(source: &Source) -> EngineResult<Self> {
        let scheme = source.scheme().unwrap_or("postgres").to_owned();
        let mut address = Self { parameters: BTreeMap::new(), password: None, scheme };
        let rest = source.reveal_rest();
        let taken = match rest.strip_prefix("//") {
            Some(url) => address.take_url(url),
            None if rest.contains('=') => address.take_keywords(rest),
            None => {
                address.set("dbname", rest.to_owned());
                Ok(())
            }
        };
        taken.map_err(|what| {
            EngineError::new(EngineErrorKind::NotFound, format!("{source}: {what}"))
                .hint("write it as postgres://user@host:5432/database?sslmode=require")
        })?;
        if address.parameters.contains_key("sslpassword") {
            let message = format!("{source}: sslpassword would be visible to others in a program's arguments");
            return Err(EngineError::new(EngineErrorKind::Unsupported, message)
                .hint("put it into a service file and name that: postgres:service=NAME"));
        }
        Ok(address)
    }

    /// The same server and user, another database.
    pub(crate) fn with_database(&self, name: &str) -> Self {
        let mut other = self.clone();
        other.parameters.insert("dbname".to_owned(), name.to_owned());
        other
    }

    /// The database's name, if the text has one; else libpq takes the service's, `PGDATABASE` or the user's name.
    pub(crate) fn database(&self) -> Option<&str> {
        self.parameters.get("dbname").map(String::as_str)
    }

    /// Whether it names all databases of the server.
    pub(crate) fn is_whole_server(&self) -> bool {
        self.database() == Some("*")
    }

    /// A connection string for the arguments of a program: everything but the password.
    pub(crate) fn connection_string(&self) -> String {
        let quote = |value: &str| format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"));
        let parts: Vec<_> = self.parameters.iter().map(|(key, value)| format!("{key}={}", quote(value))).collect();
        parts.join(" ")
    }

    /// The address as a source, password included, for whoever connects later.
    pub(crate) fn source(&self) -> EngineResult<Source> {
        let mut user = self.parameters.get("user").map(|user| encode(user)).unwrap_or_default();
        if let Some(password) = &self.password {
            user = format!("{user}:{}", encode(password.reveal()));
        }
        let at = if user.is_empty() { "" } else { "@" };
        // A list of hosts or a socket's folder goes into the query, where it needs no brackets.
        let host = self.parameters.get("host").filter(|host| !host.contains(['/', ',', ':']));
        let port = self.parameters.get("port").filter(|port| host.is_some() && !port.contains(','));
        let place = format!(
            "{}{}",
            host.map(|host| encode(host)).unwrap_or_default(),
            port.map(|port| format!(":{port}")).unwrap_or_default()
        );
        let query: Vec<_> = self
            .parameters
            .iter()
            .filter(|(key, _)| !matches!(key.as_str(), "user" | "dbname"))
            .filter(|(key, _)| !(*key == "host" && host.is_some() || *key == "port" && port.is_some()))
            .map(|(key, value)| format!("{key}={}", encode(value)))
            .collect();
        let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
        let database = self.database().map(encode).unwrap_or_default();
        let text = format!("{}://{user}{at}{place}/{database}{query}", self.scheme);
        Source::parse(&text).map_err(|e| EngineError::new(EngineErrorKind::Other, e.to_string()))
    }

    /// The server as people read it.
    pub(crate) fn server(&self) -> String {
        match (self.parameters.get("host"), self.parameters.get("port"), self.parameters.get("service")) {
            (Some(host), Some(port), _) => format!("{host}:{port}"),
            (Some(host), None, _) => host.clone(),
            (None, _, Some(service)) => format!("service {service}"),
            (None, Some(port), None) => format!("the local server at port {port}"),
            (None, None, None) => "the server of the environment".to_owned(),
        }
    }

    fn set(&mut self, key: &str, value: String) {
        if key == "password" {
            self.password = Some(Secret::new(value));
        } else if !value.is_empty() {
            self.parameters.insert(key.to_owned(), value);
        }
    }

    fn take_url(&mut self, url: &str) -> Result<(), String> {
        let (url, query) = url.split_once('?').unwrap_or((url, ""));
        let (authority, database) = url.split_once('/').unwrap_or((url, ""));
        // A password may contain anything but a slash or a question mark.
        let (user, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = user.split_once(':').map_or((user, None), |(user, password)| (user, Some(password)));
        self.set("user", decode(user)?);
        if let Some(password) = password {
            self.set("password", decode(password)?);
        }
        let (mut names, mut ports) = (Vec::new(), Vec::new());
        for part in hosts.split(',').filter(|_| !hosts.is_empty()) {
            let (name, port) = match part.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
                Some((name, port)) => (name, port.strip_prefix(':').unwrap_or(port)),
                None => part.rsplit_once(':').unwrap_or((part, "")),
            };
            if !port.is_empty() && port.parse::<u16>().is_err() {
                return Err(format!("{port:?} is not a port"));
            }
            names.push(decode(name)?);
            ports.push(port.to_owned());
        }
        self.set("host", names.join(","));
        if ports.iter().any(|port| !port.is_empty()) {
            let ports: Vec<_> = ports.iter().map(|port| if port.is_empty() { "5432" } else { port }).collect();
            self.set("port", ports.join(","));
        }
        self.set("dbname", decode(database)?);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or_else(|| format!("{pair:?} has no value"))?;
            let value = decode(value)?;
            match key {
                // How drivers of other languages write it.
                "ssl" if matches!(value.as_str(), "true" | "1") => self.set("sslmode", "require".to_owned()),
                "ssl" if matches!(value.as_str(), "false" | "0") => self.set("sslmode", "disable".to_owned()),
                "ssl" => self.set("sslmode", value),
                "database" | "db" => self.set("dbname", value),
                "unix_sock" => {
                    // The socket itself, where libpq wants its folder.
                    let folder = value.rsplit_once("/.s.PGSQL.").map_or(value.as_str(), |(folder, _)| folder);
                    self.set("host", folder.to_owned());
                }
                // Of drivers, not of connections.
                "prepared_statement_cache_size" | "async_fallback" | "pool_size" | "pool_timeout" => {}
                _ if is_keyword(key) => self.set(key, value),
                _ => return Err(format!("{key:?} is not a parameter of a PostgreSQL connection")),
            }
        }
        Ok(())
    }

    fn take_keywords(&mut self, text: &str) -> Result<(), String> {
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            let (key, after) = rest.split_once('=').ok_or("a keyword has no value")?;
            let key = key.trim();
            if !is_keyword(key) && key != "password" {
                return Err(format!("{key:?} is not a parameter of a PostgreSQL connection"));
            }
            let after = after.trim_start();
            let is_quoted = after.starts_with('\'');
            let mut value = String::new();
            let mut end = None;
            let mut characters = after.char_indices().skip(usize::from(is_quoted));
            while let Some((at, character)) = characters.next() {
                match character {
                    '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
                    '\'' if is_quoted => {
                        end = Some(at + 1);
                        break;
                    }
                    c if !is_quoted && c.is_whitespace() => {
                        end = Some(at);
                        break;
                    }
                    c => value.push(c),
                }
            }
            if is_quoted && end.is_none() {
                return Err(format!("the value of {key} has no closing quote"));
            }
            self.set(key, value);
            rest = end.and_then(|end| after.get(end..)).unwrap_or_default().trim_start();
        }
        Ok(())
    }
}

/// Whether libpq knows a parameter of this name, or may in a version to come.
fn is_keyword(key: &str) -> bool {
    const KEYWORDS: [&str; 20] = [
        "host",
        "hostaddr",
        "port",
        "dbname",
        "user",
        "password",
        "passfile",
        "service",
        "servicefile",
        "options",
        "application_name",
        "fallback_application_name",
        "connect_timeout",
        "client_encoding",
        "channel_binding",
        "target_session_attrs",
        "krbsrvname",
        "requirepeer",
        "require_auth",
        "tcp_user_timeout",
    ];
    let families = ["ssl", "keepalives", "gss", "load_balance_hosts", "oauth_", "min_protocol", "max_protocol"];
    let is_word = key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    KEYWORDS.contains(&key) || is_word && families.iter().any(|family| key.starts_with(family))
}

fn encode(text: &str) -> String {
    let keep = |b: &u8| b.is_ascii_alphanumeric() || b"-._~*".contains(b);
    text.bytes().map(|b| if keep(&b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

fn decode(text: &str) -> Result<String, String> {
    let wrong = || format!("{text:?} is not well percent-encoded");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|b| char::from(b).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else {
            // Without the text, which may be a password.
            return Err("a % is not followed by two hexadecimal digits; a literal % is written %25".to_owned());
        };
        bytes.push(u8::try_from(high * 16 + low).unwrap_or_default());
    }
    let text = String::from_utf8(bytes).map_err(|_| wrong())?;
    if text.contains('\0') { Err("it contains a null byte".to_owned()) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        Address::of(&Source::parse(text).unwrap()).unwrap()
    }

    #[test]
    fn every_spelling_is_understood() {
        let cases = [
            (
                "postgres://app:s%40cret@db1:5433/shop",
                "dbname='shop' host='db1' port='5433' user='app'",
                Some("s@cret"),
            ),
            (
                "postgresql+asyncpg://app@db1/shop?ssl=require",
                "dbname='shop' host='db1' sslmode='require' user='app'",
                None,
            ),
            ("postgres:///shop?host=/run/pg", "dbname='shop' host='/run/pg'", None),
            ("postgres://[::1]:5432/a%20b", "dbname='a b' host='::1' port='5432'", None),
            ("postgres://a,b:5433/x", "dbname='x' host='a,b' port='5432,5433'", None),
            ("postgres:service=prod dbname='it\\'s'", "dbname='it\\'s' service='prod'", None),
            ("postgres:host=db1 password=x user = app", "host='db1' user='app'", Some("x")),
            ("postgres:shop", "dbname='shop'", None),
            ("postgres:", "", None),
            ("postgres://u:p@w:d@h/-d", "dbname='-d' host='h' user='u'", Some("p@w:d")),
        ];
        for (text, expected, password) in cases {
            let found = address(text);
            assert_eq!(found.connection_string(), expected, "{text}");
            assert_eq!(found.password.as_ref().map(Secret::reveal), password, "{text}");
            let again = Address::of(&found.source().unwrap()).unwrap();
            assert_eq!(again.connection_string(), expected, "{text} by {}", found.source().unwrap());
            assert_eq!(again.password, found.password);
            assert!(!format!("{found:?}").contains("s@cret"));
        }
        assert!(address("postgres://h/*").is_whole_server());
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for text in [
            "postgres://u:sec%zzret@h/d",
            "postgres://u:secret@h:port/d",
            "postgres://u:secret@h/d?nonsense=1",
            "postgres://u:secret@h/d?sslpassword=x",
            "postgres:host='x",
        ] {
            let error = Address::of(&Source::parse(text).unwrap()).unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains("secret") && !shown.contains("zzret"), "{shown}");
        }
    }
}
