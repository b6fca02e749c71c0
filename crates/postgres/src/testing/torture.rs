//! The torture schema, loaded from the files beside the tests.

use super::{Server, fixture, ident, literal};

/// The tablespace that the torture schema uses.
const TABLESPACE: &str = "Space \"%s\" \\ ä";
/// The files in order, and the first major version for each.
const FILES: [(u32, &str); 4] =
    [(15, "torture.sql"), (16, "torture-16.sql"), (17, "torture-17.sql"), (18, "torture-18.sql")];
/// An extension whose table has rows of its own and rows of its users.
const EXTENSION: &str = "CREATE TABLE copal_settings (key text PRIMARY KEY, value text, own boolean DEFAULT false);
INSERT INTO copal_settings VALUES ('own', 'as installed', true);
SELECT pg_extension_config_dump('copal_settings', 'WHERE NOT own');
";

impl Server {
    /// Makes a database with all that its version has to offer. Its roles and its tablespace are made if they are not there.
    pub fn create_torture(&self, database: &str) {
        self.create_torture_roles();
        self.create_database(database);
        for (_, file) in FILES.iter().filter(|(major, _)| *major <= self.major()) {
            self.psql_file(database, &fixture(file), &[("tablespace", TABLESPACE)]);
        }
        if self.installation().contrib {
            let folder = self.make_folder("files for file_fdw");
            std::fs::write(folder.join("rows.csv"), "1,one\n2,\"it's, two\"\n").unwrap();
            let file = folder.join("rows.csv");
            let variables = [("file", file.to_str().unwrap()), ("folder", self.folder().to_str().unwrap())];
            self.psql_file(database, &fixture("torture-contrib.sql"), &variables);
        }
    }

    /// The roles and the tablespace that the torture schema needs, as a server to restore to has to have them.
    pub fn create_torture_roles(&self) {
        if self.major() >= 18 {
            let folder = self.folder().join("extensions/extension");
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("copal_torture.control"), "default_version = '1'\nrelocatable = true\n")
                .unwrap();
            std::fs::write(folder.join("copal_torture--1.sql"), EXTENSION).unwrap();
        }
        if self.psql("postgres", "SELECT to_regrole('reader') IS NULL") == "t" {
            self.psql_file("postgres", &fixture("roles.sql"), &[]);
            if self.major() >= 16 {
                self.psql_file("postgres", &fixture("roles-16.sql"), &[]);
            }
        }
        let exists = format!("SELECT count(*) FROM pg_tablespace WHERE spcname = {}", literal(TABLESPACE));
        if self.psql("postgres", &exists) == "0" {
            let folder = self.make_folder("tablespace");
            let location = literal(folder.to_str().unwrap());
            let name = ident(TABLESPACE);
            let sql = format!(
                "CREATE TABLESPACE {name} OWNER \"Plain Owner\" LOCATION {location} WITH (random_page_cost = 1.5)"
            );
            self.psql("postgres", &format!("{sql}; GRANT CREATE ON TABLESPACE {name} TO reader;"));
        }
    }
}
