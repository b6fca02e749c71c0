//! Where a database is: what the user wrote, taken apart.

use std::fmt;
use std::path::{Path, PathBuf};

/// The place of a database: an engine's URL, or a plain path whose engine is told by the file itself.
///
/// `Debug` and `Display` never show a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Source {
    scheme: Option<String>,
    rest: String,
}

/// A text that names no database.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither a path nor a database URL")]
pub struct SourceError(pub String);

impl Source {
    /// Takes `scheme:rest` apart; anything without a scheme is a path. `sqlite+aiosqlite:` counts as `sqlite:`.
    pub fn parse(text: &str) -> Result<Self, SourceError> {
        if text.is_empty() || text.contains('\0') {
            return Err(SourceError(text.into()));
        }
        if let Some((scheme, rest)) = text.split_once(':') {
            let base = scheme.split('+').next().unwrap_or(scheme);
            let is_scheme = base.len() > 1
                && base.bytes().all(|b| b.is_ascii_alphanumeric())
                && base.starts_with(|c: char| c.is_ascii_alphabetic())
                && !text.starts_with(['/', '.']);
            if is_scheme {
                return Ok(Self { scheme: Some(base.to_ascii_lowercase()), rest: rest.to_owned() });
            }
        }
        Ok(Self { scheme: None, rest: text.to_owned() })
    }

    /// A plain path.
    pub fn path(path: &Path) -> Self {
        // Paths that are not UTF-8 are refused above this layer; they could not be written into a manifest.
        Self { scheme: None, rest: path.to_string_lossy().into_owned() }
    }

    /// The URL's scheme without its driver, lower case; `None` for a plain path.
    pub fn scheme(&self) -> Option<&str> {
        self.scheme.as_deref()
    }

    /// The path of a database that is a file: the plain path, or what follows `scheme:`. As in SQLAlchemy, three
    /// slashes start a relative path and four an absolute one; `scheme:/x` is absolute and `scheme:x` relative.
    pub fn file_path(&self) -> PathBuf {
        let rest = match (&self.scheme, self.rest.strip_prefix("//")) {
            (Some(_), Some(after)) => without_options(after.strip_prefix('/').unwrap_or(after)),
            _ => &self.rest,
        };
        PathBuf::from(rest)
    }

    /// A name, path or URL that somebody gave, as it may be shown: without a password, and otherwise as it was.
    pub fn shown(text: &str) -> String {
        Self::parse(text).map_or_else(|_| text.to_owned(), |source| source.redacted())
    }

    /// What follows the scheme, password included; for engines that connect to servers.
    pub fn reveal_rest(&self) -> &str {
        &self.rest
    }

    /// One database of the server that `…/*` names as a whole; `None` if this names one database.
    pub fn member(&self, name: &str) -> Option<Self> {
        let (path, query) =
            self.rest.split_once('?').map_or((self.rest.as_str(), None), |(path, query)| (path, Some(query)));
        let server =
            path.strip_suffix("/*").or_else(|| path.strip_suffix("/%2A")).filter(|server| server.starts_with("//"))?;
        let keep = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
        let name: String =
            name.bytes().map(|b| if keep(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect();
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        Some(Self { scheme: self.scheme.clone(), rest: format!("{server}/{name}{query}") })
    }

    /// The server on which this database is, as a whole (`…/*`); `None` for what is no `scheme://host/…`.
    pub fn whole_server(&self) -> Option<Self> {
        let after = self.rest.strip_prefix("//").filter(|_| self.scheme.is_some())?;
        let (path, query) = after.split_once('?').map_or((after, None), |(path, query)| (path, Some(query)));
        let server = path.split_once('/').map_or(path, |(server, _)| server);
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        Some(Self { scheme: self.scheme.clone(), rest: format!("//{server}/*{query}") })
    }

    /// The whole text, password included.
    pub fn reveal(&self) -> String {
        let prefix = self.scheme.as_ref().map(|scheme| format!("{scheme}:")).unwrap_or_default();
        format!("{prefix}{}", self.rest)
    }

    /// The text with any password taken out, as it is shown and stored.
    pub fn redacted(&self) -> String {
        let prefix = self.scheme.as_ref().map(|s| format!("{s}:")).unwrap_or_default();
        if self.scheme.is_none() {
            return self.rest.clone();
        }
        let Some(after) = self.rest.strip_prefix("//") else {
            return format!("{prefix}{}", without_keywords(&self.rest));
        };
        let mut end = after.find(['/', '?']).unwrap_or(after.len());
        let is_host = |text: &str| {
            text.rsplit_once(':')
                .is_none_or(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()) || text.ends_with(']'))
        };
        if let Some(at) = after.rfind('@').filter(|at| *at > end && !is_host(after.get(..end).unwrap_or_default())) {
            // A password with a slash or a question mark that was not encoded.
            end = after.get(at..).and_then(|rest| rest.find(['/', '?'])).map_or(after.len(), |n| at + n);
        }
        let (authority, tail) = after.split_at(end);
        let shown = match authority.rsplit_once('@') {
            Some((user, host)) => format!("{}@{host}", user.split(':').next().unwrap_or_default()),
            None => authority.to_owned(),
        };
        let (path, query) = tail.split_once('?').map_or((tail, ""), |(path, query)| (path, query));
        let kept: Vec<&str> = query.split('&').filter(|pair| !pair.is_empty() && !is_password(pair)).collect();
        let mark = if kept.is_empty() { "" } else { "?" };
        format!("{prefix}//{shown}{path}{mark}{}", kept.join("&"))
    }
}

/// The path without the options that SQLAlchemy's URLs may have behind it (`?timeout=5`).
fn without_options(path: &str) -> &str {
    path.split_once('?').filter(|(_, options)| options.contains('=')).map_or(path, |(path, _)| path)
}

/// Whether `key=value` carries a password. A percent-encoded key could spell one, so it counts as one.
fn is_password(pair: &str) -> bool {
    let key = pair.split('=').next().unwrap_or(pair).trim().to_ascii_lowercase();
    key.contains('%') || ["password", "passwd", "pwd"].iter().any(|name| key.ends_with(name))
}

/// A libpq keyword string (`host=db1 password='a b' dbname=shop`) without its passwords. Any other text stays as it is; what
/// cannot be taken apart is cut off where that begins.
fn without_keywords(text: &str) -> String {
    if !text.to_ascii_lowercase().contains("password") {
        return text.to_owned();
    }
    let mut kept: Vec<&str> = Vec::new();
    let mut rest = text.trim_start();
    while let Some((key, after)) = rest.split_once('=') {
        let value = after.trim_start();
        let is_quoted = value.starts_with('\'');
        let mut is_escaped = false;
        let end = value.char_indices().skip(usize::from(is_quoted)).find(|(_, c)| {
            let ends = !is_escaped && if is_quoted { *c == '\'' } else { c.is_whitespace() };
            is_escaped = !is_escaped && *c == '\\';
            ends
        });
        let end = end.map_or(value.len(), |(at, _)| at + usize::from(is_quoted));
        let (pair, next) = rest.split_at(rest.len() - value.len() + end);
        if !key.trim().to_ascii_lowercase().ends_with("password") {
            kept.push(pair.trim());
        }
        rest = next.trim_start();
    }
    kept.join(" ")
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.redacted())
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.redacted())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_paths_are_told_apart() {
        let cases = [
            ("app.db", None, "app.db"),
            ("./a:b.db", None, "./a:b.db"),
            ("/x/y.db", None, "/x/y.db"),
            ("C:x", None, "C:x"),
            ("sqlite:app.db", Some("sqlite"), "app.db"),
            ("sqlite:/abs/app.db", Some("sqlite"), "/abs/app.db"),
            ("sqlite:///app.db", Some("sqlite"), "app.db"),
            ("sqlite:////abs/app.db", Some("sqlite"), "/abs/app.db"),
            ("sqlite+aiosqlite:///app.db", Some("sqlite"), "app.db"),
            ("sqlite:///app.db?timeout=5&cache=shared", Some("sqlite"), "app.db"),
            ("sqlite:///what?.db", Some("sqlite"), "what?.db"),
        ];
        for (text, scheme, path) in cases {
            let source = Source::parse(text).unwrap();
            assert_eq!((source.scheme(), source.file_path()), (scheme, PathBuf::from(path)), "{text}");
        }
        assert!(Source::parse("").is_err());
    }

    #[test]
    fn members_of_a_server_are_addressed() {
        let server = Source::parse("postgres://u:p@h/*?sslmode=require").unwrap();
        assert_eq!(server.member("a b/ü").unwrap().reveal_rest(), "//u:p@h/a%20b%2F%C3%BC?sslmode=require");
        assert!(Source::parse("postgres://h/a").unwrap().member("b").is_none());
        let whole = |url: &str| Source::parse(url).unwrap().whole_server().map(|server| server.reveal());
        assert_eq!(whole("postgres://u:p@h:1/a?x=1").as_deref(), Some("postgres://u:p@h:1/*?x=1"));
        assert_eq!(whole("postgres://h").as_deref(), Some("postgres://h/*"));
        assert_eq!(whole("app.db"), None);
    }

    #[test]
    fn passwords_are_not_shown() {
        let source = Source::parse("postgres://app:s3cr@t@db1:5432/shop?x=1").unwrap();
        assert_eq!(format!("{source:?} {source}"), "postgres://app@db1:5432/shop?x=1 postgres://app@db1:5432/shop?x=1");
    }

    #[test]
    fn passwords_in_queries_and_keywords_are_not_shown() {
        let cases = [
            ("postgres://u@h/d?password=x", "postgres://u@h/d"),
            ("postgres://u:p%40q@h/d?a=1&password=x&sslpassword=y&b=2", "postgres://u@h/d?a=1&b=2"),
            ("postgres://h/d?pass%77ord=x", "postgres://h/d"),
            ("mysql://u@h/d?passwd=x&a=1&PWD=y", "mysql://u@h/d?a=1"),
            ("postgres:host=db1 dbname=shop password=x", "postgres:host=db1 dbname=shop"),
            ("postgres:host=db1 password = 'a \\' b' dbname=shop", "postgres:host=db1 dbname=shop"),
            ("postgres:password=x dbname=a", "postgres:dbname=a"),
            ("postgres://app:pa/s?s@h:5432/db?a=1", "postgres://app@h:5432/db?a=1"),
            ("postgres://[::1]:5432/d@b", "postgres://[::1]:5432/d@b"),
            ("sqlite:app.db", "sqlite:app.db"),
        ];
        for (text, shown) in cases {
            assert_eq!(Source::parse(text).unwrap().redacted(), shown);
        }
    }
}
