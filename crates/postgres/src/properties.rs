//! What belongs to the database itself and is in no archive under another name: how it was created, its owner, settings,
//! comment and grants.

use copal_core::{EngineError, EngineErrorKind, EngineResult};
use serde::{Deserialize, Serialize};

use crate::quote::{identifier, literal};
use crate::session::Session;

/// The properties of a database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Properties {
    /// Its name when it was backed up.
    pub(crate) name: String,
    /// The major version of `pg_dump` that wrote the archive.
    #[serde(default)]
    pub(crate) dumped_by: u32,
    owner: String,
    encoding: String,
    collate: String,
    ctype: String,
    /// `c` libc, `i` ICU, `b` built in.
    provider: String,
    /// Of ICU or the built-in provider.
    locale: Option<String>,
    icu_rules: Option<String>,
    connection_limit: i64,
    /// Whoever may create databases may copy it, and it cannot be dropped: not for a database that is being made.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) is_template: bool,
    pub(crate) comment: Option<String>,
    /// Size in bytes, all files of it.
    pub(crate) bytes: u64,
    settings: Vec<Setting>,
    grants: Option<Vec<Grant>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Setting {
    /// Of this role in this database; of everybody if there is none.
    role: Option<String>,
    /// `name=value`.
    text: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Grant {
    /// The role; everybody if there is none.
    grantee: Option<String>,
    privilege: String,
    with_grant_option: bool,
}

impl Properties {
    /// The properties of the session's database.
    pub(crate) fn of(session: &mut Session) -> EngineResult<Self> {
        let name = session.database.clone();
        Self::of_other(session, &name)
    }

    /// The properties of a database of the session's server.
    pub(crate) fn of_other(session: &mut Session, name: &str) -> EngineResult<Self> {
        let (provider, locale, rules) = match session.major() {
            0..15 => ("'c'", "NULL", "NULL"),
            15 => ("d.datlocprovider", "d.daticulocale", "NULL"),
            16 => ("d.datlocprovider", "d.daticulocale", "d.daticurules"),
            _ => ("d.datlocprovider", "d.datlocale", "d.daticurules"),
        };
        session.row(&format!(
            "SELECT d.datname AS name, pg_catalog.pg_get_userbyid(d.datdba) AS owner, \
               pg_catalog.pg_encoding_to_char(d.encoding) AS encoding, d.datcollate AS collate, d.datctype AS ctype, \
               {provider} AS provider, {locale} AS locale, {rules} AS icu_rules, d.datconnlimit AS connection_limit, \
               d.datistemplate AS is_template, \
               pg_catalog.shobj_description(d.oid, 'pg_database') AS comment, pg_catalog.pg_database_size(d.oid) AS bytes, \
               (SELECT coalesce(json_agg(json_build_object('role', r.rolname, 'text', t)), '[]') \
                  FROM pg_catalog.pg_db_role_setting s LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole, \
                  unnest(s.setconfig) AS t WHERE s.setdatabase = d.oid) AS settings, \
               CASE WHEN d.datacl IS NOT NULL THEN (SELECT coalesce(json_agg(json_build_object( \
                   'grantee', CASE WHEN a.grantee = 0 THEN NULL ELSE pg_catalog.pg_get_userbyid(a.grantee) END, \
                   'privilege', a.privilege_type, 'with_grant_option', a.is_grantable)), '[]') \
                 FROM pg_catalog.aclexplode(d.datacl) a) END AS grants \
             FROM pg_catalog.pg_database d WHERE d.datname = {}",
            literal(name)
        ))
    }

    /// As it is kept in a backup.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// From a backup.
    pub(crate) fn from_json(bytes: &[u8]) -> EngineResult<Self> {
        serde_json::from_slice(bytes).map_err(|e| {
            EngineError::new(
                EngineErrorKind::Unsupported,
                "the properties of the database in the backup cannot be read",
            )
            .because(e)
        })
    }

    /// The statement that creates an empty database of this kind on a server of this major version.
    pub(crate) fn create(&self, name: &str, major: u32) -> String {
        let mut text = format!(
            "CREATE DATABASE {} TEMPLATE template0 ENCODING {} LC_COLLATE {} LC_CTYPE {}",
            identifier(name),
            literal(&self.encoding),
            literal(&self.collate),
            literal(&self.ctype)
        );
        match (self.provider.as_str(), &self.locale) {
            ("i", Some(locale)) => {
                text += &format!(" LOCALE_PROVIDER icu ICU_LOCALE {}", literal(locale));
                if let Some(rules) = self.icu_rules.as_ref().filter(|_| major >= 16) {
                    text += &format!(" ICU_RULES {}", literal(rules));
                }
            }
            ("b", Some(locale)) => text += &format!(" LOCALE_PROVIDER builtin BUILTIN_LOCALE {}", literal(locale)),
            _ if major >= 15 => text += " LOCALE_PROVIDER libc",
            _ => {}
        }
        text
    }

    /// The statements that give the database of this name its settings, grants, limit and owner.
    pub(crate) fn apply(&self, name: &str) -> Vec<String> {
        let database = identifier(name);
        let mut statements = Vec::new();
        for Setting { role, text } in &self.settings {
            let Some((key, value)) = text.split_once('=') else { continue };
            let whose = role.as_ref().map_or(String::new(), |role| format!("ROLE {} IN ", identifier(role)));
            let key: Vec<_> = key.split('.').map(identifier).collect();
            statements.push(format!(
                "ALTER {whose}DATABASE {database} SET {} TO {}",
                key.join("."),
                value_of(&key, value)
            ));
        }
        if let Some(grants) = &self.grants {
            statements.push(format!("REVOKE ALL ON DATABASE {database} FROM PUBLIC"));
            for Grant { grantee, privilege, with_grant_option } in grants {
                let to = grantee.as_deref().map_or_else(|| "PUBLIC".to_owned(), identifier);
                let option = if *with_grant_option { " WITH GRANT OPTION" } else { "" };
                statements.push(format!("GRANT {privilege} ON DATABASE {database} TO {to}{option}"));
            }
        }
        if self.connection_limit >= 0 {
            statements.push(format!("ALTER DATABASE {database} CONNECTION LIMIT {}", self.connection_limit));
        }
        statements.push(format!("ALTER DATABASE {database} OWNER TO {}", identifier(&self.owner)));
        statements
    }
}

/// The statement that makes a database a template, or none.
pub(crate) fn set_template(database: &str, is_template: bool) -> String {
    format!("ALTER DATABASE {} IS_TEMPLATE {is_template}", identifier(database))
}

/// A setting's value; lists are kept as lists.
fn value_of(key: &[String], value: &str) -> String {
    const LISTS: [&str; 7] = [
        "\"search_path\"",
        "\"temp_tablespaces\"",
        "\"session_preload_libraries\"",
        "\"local_preload_libraries\"",
        "\"shared_preload_libraries\"",
        "\"unix_socket_directories\"",
        "\"DateStyle\"",
    ];
    match key {
        // Its elements are quoted as identifiers are, where they need it.
        [key] if LISTS.contains(&key.as_str()) && !value.is_empty() => {
            split_list(value).iter().map(|element| literal(element)).collect::<Vec<_>>().join(", ")
        }
        _ => literal(value),
    }
}

/// The elements of a list such as `"$user", public`.
fn split_list(text: &str) -> Vec<String> {
    let (mut elements, mut element, mut is_quoted) = (Vec::new(), String::new(), false);
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '"' if is_quoted && characters.peek() == Some(&'"') => {
                characters.next();
                element.push('"');
            }
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => elements.push(std::mem::take(&mut element)),
            c if c.is_whitespace() && !is_quoted => {}
            c => element.push(c),
        }
    }
    elements.push(element);
    elements
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_names_are_quoted() {
        assert_eq!(split_list("\"$user\", public, \"a,\"\"b\""), ["$user", "public", "a,\"b"]);
        let properties = Properties {
            owner: "o'\"x".into(),
            settings: vec![
                Setting { role: None, text: "search_path=\"$user\", public".into() },
                Setting { role: Some("R".into()), text: "my.var=it's".into() },
            ],
            connection_limit: -1,
            ..Properties::default()
        };
        assert_eq!(
            properties.apply("d\"b"),
            [
                "ALTER DATABASE \"d\"\"b\" SET \"search_path\" TO '$user', 'public'",
                "ALTER ROLE \"R\" IN DATABASE \"d\"\"b\" SET \"my\".\"var\" TO 'it''s'",
                "ALTER DATABASE \"d\"\"b\" OWNER TO \"o'\"\"x\"",
            ]
        );
    }
}
