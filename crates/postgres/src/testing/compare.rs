//! Whether two databases are the same: their dumps as text, and what every table, sequence and large object contains.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Server, answer, literal};

/// What each object contains, by its name.
pub type Checksums = BTreeMap<String, String>;

/// Answers lines of a name, a tab and what the object contains; names are quoted, their line ends escaped.
const CONTENTS: &str = r#"
SET search_path = pg_catalog;
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
SET intervalstyle = 'postgres';
SET bytea_output = 'hex';
SET extra_float_digits = 1;
SET row_security = off;
CREATE FUNCTION pg_temp.shown(kind text, space name, name name) RETURNS text LANGUAGE sql AS
$$ SELECT kind || ' ' || replace(replace(format('%I.%I', space, name), E'\t', '\t'), E'\n', '\n') || E'\t' $$;
SELECT CASE
    WHEN c.relkind = 'S' THEN
        format('SELECT %L || last_value || '' '' || is_called FROM %I.%I',
               pg_temp.shown('sequence', n.nspname, c.relname), n.nspname, c.relname)
    WHEN NOT c.relispopulated THEN
        format('SELECT %L || ''not populated''', pg_temp.shown('table', n.nspname, c.relname))
    ELSE
        -- A column called like the alias would be taken for the row.
        format('SELECT %L || count(*) || '' '' || coalesce(sum(hashtextextended("copal''s row"::text, 0)), 0)'
               ' FROM ONLY %I.%I AS "copal''s row"', pg_temp.shown('table', n.nspname, c.relname), n.nspname, c.relname)
    END
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm', 'S') AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
\gexec
SELECT 'large object ' || oid || E'\t' || length(lo_get(oid)) || ' ' || md5(lo_get(oid)) FROM pg_largeobject_metadata;
"#;

impl Server {
    /// What `pg_dump` says about a database, without what differs from one run to the next.
    pub fn pg_dump_text(&self, database: &str) -> String {
        let mut command = self.command("pg_dump", database);
        command.args(["--format=plain", "--quote-all-identifiers"]);
        let dump = answer(command, "").unwrap_or_else(|error| panic!("pg_dump of {database:?}: {error}"));
        without_noise(&dump)
    }

    /// What `pg_dumpall` says about roles and tablespaces, without what differs from one run to the next. Passwords differ
    /// for each time that they were set.
    pub fn globals_text(&self, passwords: bool) -> String {
        let mut command = self.command("pg_dumpall", "postgres");
        command.arg("--globals-only").args((!passwords).then_some("--no-role-passwords"));
        without_noise(&answer(command, "").unwrap_or_else(|error| panic!("pg_dumpall: {error}")))
    }

    /// Rows and a hash of every table (in no order), values of sequences, hashes of large objects.
    pub fn checksums(&self, database: &str) -> Checksums {
        let text = self.psql(database, CONTENTS);
        let mut checksums = Checksums::new();
        for line in text.lines().filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once('\t').unwrap_or_else(|| panic!("not a checksum: {line:?}"));
            checksums.insert(name.to_owned(), value.to_owned());
        }
        checksums
    }

    /// What belongs to a database itself and in no dump of its content: owner, locale, grants, comment, settings.
    pub fn database_facts(&self, database: &str) -> String {
        let database = literal(database);
        self.psql(
            "postgres",
            &format!(
                "SELECT pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datcollate, datctype, datconnlimit,
                        datallowconn, datistemplate, t.spcname, shobj_description(d.oid, 'pg_database')
                 FROM pg_database d JOIN pg_tablespace t ON t.oid = dattablespace WHERE datname = {database};
                 SELECT 'grant ' || a::text FROM pg_database, unnest(datacl) a WHERE datname = {database} ORDER BY 1;
                 SELECT 'set ' || coalesce(r.rolname, '') || ' ' || s FROM pg_db_role_setting
                 JOIN pg_database d ON d.oid = setdatabase LEFT JOIN pg_roles r ON r.oid = setrole, unnest(setconfig) s
                 WHERE datname = {database} ORDER BY 1"
            ),
        )
    }

    /// Panics with the differences if two databases are not the same, by their dumps and by what they contain.
    pub fn assert_same(&self, one: &str, other: &str) {
        self.assert_same_as(one, self, other);
    }

    /// The same for a database of another server. Dumps are compared if both have the same major version.
    pub fn assert_same_as(&self, one: &str, server: &Server, other: &str) {
        let (left, right) = (self.checksums(one), server.checksums(other));
        let lines = |sums: &Checksums| sums.iter().map(|(name, sum)| format!("{name}\t{sum}\n")).collect::<String>();
        let mut found = differences(&lines(&left), &lines(&right));
        if self.major() == server.major() {
            found.push_str(&differences(&self.pg_dump_text(one), &server.pg_dump_text(other)));
        }
        assert!(found.is_empty(), "{one:?} and {other:?} are not the same:\n{found}");
    }
}

/// A dump without the versions of the programs, and without the random words that newer ones put around it.
fn without_noise(dump: &str) -> String {
    let noise = ["\\restrict ", "\\unrestrict ", "-- Dumped from database version ", "-- Dumped by pg_dump version "];
    let mut text = String::new();
    for line in dump.lines().filter(|line| !noise.iter().any(|noise| line.starts_with(noise))) {
        text.push_str(line);
        text.push('\n');
    }
    text
}

/// The first lines that only one of two texts has (`-` or `+`), or that stand elsewhere; empty if the texts are equal.
pub fn differences(left: &str, right: &str) -> String {
    if left == right {
        return String::new();
    }
    let mut count: BTreeMap<&str, i64> = BTreeMap::new();
    left.lines().for_each(|line| *count.entry(line).or_default() += 1);
    right.lines().for_each(|line| *count.entry(line).or_default() -= 1);
    let mut found = String::new();
    for (text, sign) in [(left, '-'), (right, '+')] {
        let only = text.lines().filter(|line| count[line] != 0 && (count[line] > 0) == (sign == '-'));
        only.take(30).for_each(|line| writeln!(found, "{sign}{line:.500}").unwrap());
    }
    if found.is_empty() {
        let moved = left.lines().zip(right.lines()).find(|(left, right)| left != right).unwrap_or(("", ""));
        writeln!(found, "in another order, first\n-{:.500}\n+{:.500}", moved.0, moved.1).unwrap();
    }
    found
}
