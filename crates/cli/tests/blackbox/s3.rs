//! The nightly job: a PostgreSQL server into a bucket, and what may be wrong with the bucket.

use copal_postgres::testing::Server;
use copal_storage::testkit::S3Server;

use crate::home::{Home, Run};

/// An S3 server, and the runtime that it needs.
struct Bucket {
    server: S3Server,
    _runtime: tokio::runtime::Runtime,
}

impl Bucket {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let server = runtime.block_on(S3Server::start()).unwrap();
        Self { server, _runtime: runtime }
    }

    /// Runs the program with a repository there.
    fn run(&self, home: &Home, bucket: &str, secret: &str, arguments: &[&str]) -> Run {
        let url = format!("s3://{bucket}/nightly");
        let variables = [
            ("COPAL_REPOSITORY", url.as_str()),
            ("AWS_ENDPOINT_URL", &self.server.endpoint),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", &self.server.access_key),
            ("AWS_SECRET_ACCESS_KEY", secret),
        ];
        home.run_with(&variables, arguments)
    }

    fn files(&self) -> usize {
        let mut folders = vec![self.server.folder()];
        let mut files = 0;
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap().flatten() {
                match entry.path().is_dir() {
                    true => folders.push(entry.path()),
                    false => files += 1,
                }
            }
        }
        files
    }
}

#[test]
fn a_server_is_backed_up_to_a_bucket_and_restored_from_it() {
    let (server, bucket, home) = (Server::start(15), Bucket::start(), Home::new());
    server.create_database("shop");
    server.psql("shop", "CREATE TABLE item AS SELECT g AS id, md5(g::text) AS name FROM generate_series(1, 20000) g");
    let sum = "SELECT count(*) || md5(string_agg(name, ',' ORDER BY id)) FROM item";
    let before = server.psql("shop", sum);
    home.write("copal.toml", &format!("[databases.shop]\nurl = \"{}\"\nkeep = {{ last = 2 }}\n", server.url("shop")));
    let secret = bucket.server.secret_key.expose().to_owned();
    let good = |arguments: &[&str]| {
        let run = bucket.run(&home, &bucket.server.bucket, &secret, arguments);
        assert_eq!(run.code, 0, "copal {arguments:?}\n{}", run.page());
        run
    };
    good(&["init", "--no-encrypt"]);
    for _ in 0..3 {
        good(&["backup", "shop"]);
    }
    good(&["prune", "shop"]);
    assert_eq!(good(&["list", "shop", "--json"]).json()["results"].as_array().unwrap().len(), 2);
    server.psql("shop", "DROP TABLE item");
    good(&["restore", "shop", "--replace"]);
    assert_eq!(server.psql("shop", sum), before);
    good(&["verify", "shop", "--drill"]);
}

#[test]
fn a_wrong_secret_or_bucket_is_told_and_nothing_is_stored() {
    let (server, bucket, home) = (Server::start(15), Bucket::start(), Home::new());
    server.create_database("shop");
    let secret = bucket.server.secret_key.expose().to_owned();
    let url = server.url("shop");
    let good = bucket.run(&home, &bucket.server.bucket, &secret, &["init", "--no-encrypt"]);
    assert_eq!(good.code, 0, "{}", good.page());
    let files = bucket.files();
    let wrong = bucket.run(&home, &bucket.server.bucket, "not this one", &["backup", &url]);
    assert!(wrong.code == 1 && wrong.stderr.contains("AWS_SECRET_ACCESS_KEY"), "{}", wrong.page());
    assert!(!wrong.page().contains("not this one"), "{}", wrong.page());
    let missing = bucket.run(&home, "elsewhere", &secret, &["backup", &url]);
    assert!(missing.code == 1 && missing.stderr.contains("elsewhere"), "{}", missing.page());
    assert!(missing.stderr.contains("bucket"), "{}", missing.page());
    let init = bucket.run(&home, "elsewhere", &secret, &["init", "--no-encrypt"]);
    assert!(init.code == 1 && init.stderr.contains("bucket"), "{}", init.page());
    assert_eq!(bucket.files(), files);
    let good = bucket.run(&home, &bucket.server.bucket, &secret, &["backup", &url]);
    assert_eq!(good.code, 0, "{}", good.page());
}
