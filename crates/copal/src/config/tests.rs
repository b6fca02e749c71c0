//! Whole configurations: what they resolve to, and what mistakes in them are answered with.

use super::*;
use crate::PassphraseSource;

fn environment(variables: &[(&str, &str)]) -> Environment {
    variables.iter().map(|(name, value)| (*name, *value)).collect()
}

fn read(text: &str) -> Result<Configuration> {
    Configuration::read(Path::new("/etc/copal/copal.toml"), text, &environment(&[("HOST", "db1"), ("HOME", "/home/x")]))
}

fn complaint(text: &str) -> (String, String) {
    let error = read(text).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    (error.to_string(), error.hint().unwrap_or_default().to_owned())
}

const WHOLE: &str = r#"
compression = 6
uploads = 5
repack_age = "90d"
database_wait = "1m"
timezone = "Europe/Berlin"

[repository]
url = "s3://backups/prod"

[databases.shop]
url = "postgres://app@${HOST}/shop"
schedule = "0 0 * * *"
keep = { last = 10, within = "5d", daily = 7 }
drill = "@weekly"
notify = ["ops"]
max_age = "36h"

[databases.local]
url = "sqlite:app.db"

[duckdb]
deadline = "2m"
program = "bin/duckdb"

[notify.ops]
webhook = "https://example.org/x"
on = ["failure", "recovered"]
"#;

#[test]
fn a_whole_configuration_is_read() {
    let configuration = read(WHOLE).unwrap();
    let shop = &configuration.databases["shop"];
    assert_eq!(shop.settings.url, "postgres://app@db1/shop");
    assert_eq!(
        (shop.settings.keep.last, shop.settings.keep.daily, shop.settings.keep.weekly),
        (Some(10), Some(7), None)
    );
    assert_eq!(shop.settings.keep.within, Some(jiff::SignedDuration::from_hours(120)));
    assert_eq!(shop.settings.max_age, Some(Duration::from_secs(36 * 3600)));
    assert_eq!((shop.settings.drill.as_deref(), shop.notify.as_slice()), (Some("@weekly"), &["ops".to_owned()][..]));
    assert_eq!(configuration.databases["local"].settings.url, "sqlite:/etc/copal/app.db");
    assert_eq!(configuration.notifiers["ops"].on, [NotifyEvent::Failure, NotifyEvent::Recovered]);
    let resolved = configuration.resolve(&Overrides::default(), &environment(&[("HOME", "/home/x")])).unwrap();
    let settings = resolved.settings;
    assert_eq!((settings.repository.as_str(), settings.repository_is_default), ("s3://backups/prod", false));
    assert_eq!((settings.compression, settings.uploads), (Compression::Level(6), 5));
    assert_eq!(settings.database_wait, Duration::from_secs(60));
    assert_eq!(settings.duckdb.deadline, Duration::from_secs(120));
    assert_eq!(settings.duckdb.program.as_deref(), Some(Path::new("/etc/copal/bin/duckdb")));
    assert_eq!(settings.repack_age, Some(Duration::from_secs(90 * 86_400)));
    assert_eq!(settings.timezone.iana_name(), Some("Europe/Berlin"));
    assert_eq!(settings.state.as_deref(), Some(Path::new("/home/x/.local/state/copal")));
    assert_eq!(settings.databases.len(), 2);
}

#[test]
fn policies_are_what_is_written_and_sensible_where_nothing_is() {
    let text = r#"
timezone = "Europe/Berlin"
[databases.shop]
url = "app.db"
schedule = "0 3 * * *"
drill = "@weekly"
timezone = "Asia/Tokyo"
keep = { last = 3 }
jitter = "10m"
min_interval = "30s"
retries = 0
time_limit = "2h"
catch_up = false
on_change = true
[databases.plain]
url = "postgres://h/plain"
on_change = false
"#;
    let configuration = read(text).unwrap();
    assert!(configuration.databases["shop"].on_change && !configuration.databases["plain"].on_change);
    let policies = configuration.policies(&TimeZone::UTC).unwrap();
    let schedule = |text| Some(crate::schedule::Schedule::parse(text).unwrap());
    let retries = crate::schedule::Retries { most: 0, ..Default::default() };
    let expected = Policy {
        schedule: schedule("0 3 * * *"),
        drill: schedule("@weekly"),
        zone: TimeZone::get("Asia/Tokyo").unwrap(),
        jitter: Duration::from_secs(600),
        min_interval: Duration::from_secs(30),
        retries,
        time_limit: Some(Duration::from_secs(7200)),
        catch_up: false,
        retention: true,
    };
    assert_eq!(policies["shop"], expected);
    let expected = Policy {
        zone: TimeZone::get("Europe/Berlin").unwrap(),
        min_interval: Duration::from_secs(300),
        time_limit: Some(Duration::from_secs(86_400)),
        ..Policy::default()
    };
    assert_eq!(policies["plain"], expected);
    let without = read("[databases.a]\nurl = \"a\"").unwrap().policies(&TimeZone::UTC).unwrap();
    assert_eq!(without["a"].zone, TimeZone::UTC);
}

#[test]
fn the_daemon_is_configured_and_needs_no_configuration() {
    let default = read("").unwrap().daemon;
    assert_eq!((default.listen.to_string().as_str(), default.concurrency), ("127.0.0.1:8467", 2));
    assert_eq!((default.grace, default.tls, default.tokens_file), (Duration::from_secs(60), None, None));
    let text = r#"
[daemon]
listen = "[::]:9000"
concurrency = 4
grace = "5m"
tls = { certificate = "tls/cert.pem", key = "/run/key.pem" }
tokens_file = "tokens.json"
log = "json"
"#;
    let daemon = read(text).unwrap().daemon;
    let expected = DaemonConfiguration {
        listen: "[::]:9000".parse().unwrap(),
        concurrency: 4,
        grace: Duration::from_secs(300),
        tls: Some(TlsFiles { certificate: "/etc/copal/tls/cert.pem".into(), key: "/run/key.pem".into() }),
        tokens_file: Some("/etc/copal/tokens.json".into()),
        log: LogFormat::Json,
    };
    assert_eq!(daemon, expected);
}

#[test]
fn mistakes_are_named_with_file_line_and_advice() {
    let at = |line: u32, text: &str| format!("/etc/copal/copal.toml:{line}: {text}");
    for (text, message, hint) in [
        (
            "\nreposotory = 1",
            at(2, "unknown key \"reposotory\" in the file's top level"),
            "did you mean \"repository\"?",
        ),
        (
            "[databases.shop]\nurl = \"a\"\nshedule = \"@daily\"",
            at(3, "unknown key \"shedule\" in [databases.shop]"),
            "did you mean \"schedule\"?",
        ),
        (
            "[databases.shop]\nurl = \"a\"\nkeep = { lats = 3 }",
            at(3, "unknown key \"lats\" in [databases.shop.keep]"),
            "did you mean \"last\"?",
        ),
        (
            "[repository]\nurl = \"${NOPE}\"",
            at(2, "the variable NOPE is not set"),
            "export NOPE, or set it in /etc/copal/.env",
        ),
        ("uploads = 0", at(1, "\"uploads\" must be from 1 to 64 in the file's top level"), ""),
        (
            "compression = \"best\"",
            at(1, "\"compression\" must be \"auto\", a level from 1 to 19 or \"none\" in the file's top level"),
            "",
        ),
        ("[repository]\nurl = 3", at(2, "\"url\" in [repository] must be a text in quotes, not integer"), ""),
        ("[databases]\nshop = \"a.db\"", at(2, "\"shop\" in [databases] must be a table, not string"), ""),
        (
            "[databases.a]\nurl = \"a\"\nnotify = [\"opps\"]\n[notify.ops]\nexec = \"true\"",
            at(3, "there is no [notify.opps], named by \"notify\" in [databases.a]"),
            "did you mean \"ops\"?",
        ),
        (
            "[notify.ops]\nexec = \"true\"\non = [\"failures\"]",
            at(3, "\"failures\" is no event in [notify.ops]"),
            "did you mean \"failure\"?",
        ),
        (
            // There is such an event, but a trial is sent to the one who is asked for.
            "[notify.ops]\nexec = \"true\"\non = [\"failure\", \"test\"]",
            at(3, "\"test\" is no event in [notify.ops]"),
            "events are failure, recovered, success, missed, stale, drill-failed, damage",
        ),
        (
            "[databases.\"Shop A\"]\nurl = \"a\"\n[databases.shop-a]\nurl = \"b\"",
            at(3, "the databases \"Shop A\" and \"shop-a\" would share the folder \"shop-a\" in [databases]"),
            "give one of them another name",
        ),
        (
            "[databases.a]\nurl = \"postgres://u:hush@h/a\"\non_change = true",
            at(3, "\"on_change\" watches a file, and postgres://u@h/a is none, in [databases.a]"),
            "give it a schedule instead",
        ),
        (
            "[databases.a]\nurl = \"a\"\njiter = \"1m\"",
            at(3, "unknown key \"jiter\" in [databases.a]"),
            "did you mean \"jitter\"?",
        ),
        ("[databases.a]\nurl = \"a\"\nretries = 101", at(3, "\"retries\" must be from 0 to 100 in [databases.a]"), ""),
        (
            "[databases.a]\nurl = \"a\"\ntime_limit = \"0s\"",
            at(3, "\"time_limit\" must be at least 1s in [databases.a]"),
            "",
        ),
        ("[daemon]\nconcurency = 1", at(2, "unknown key \"concurency\" in [daemon]"), "did you mean \"concurrency\"?"),
        (
            "[daemon]\nlisten = \"8467\"",
            at(2, "\"listen\": \"8467\" is no address with a port in [daemon]"),
            "write \"127.0.0.1:8467\", or \"[::]:8467\" for every address of this machine",
        ),
        (
            "[daemon]\ntls = { certificate = \"a\" }",
            at(2, "\"key\" is missing in [daemon.tls]"),
            "tls = { certificate = \"cert.pem\", key = \"key.pem\" }, for example",
        ),
        ("[daemon]\nlog = \"xml\"", at(2, "\"log\" must be \"text\" or \"json\" in [daemon]"), ""),
        (
            "timezone = \"Europe/Bärlin\"",
            at(1, "\"Europe/Bärlin\" is no time zone in the file's top level"),
            "write a name of the IANA database, for example \"Europe/Berlin\" or \"UTC\"",
        ),
    ] {
        assert_eq!(complaint(text), (message, hint.to_owned()), "{text}");
    }
    for (text, line) in
        [("[databases.a]", 1), ("a = ", 1), ("\n\n[x", 3), ("[databases.a]\nurl = \"a\"\nschedule = \"often\"", 3)]
    {
        assert!(complaint(text).0.starts_with(&at(line, "")), "{}", complaint(text).0);
    }
}

#[test]
fn secrets_stay_out_of_messages() {
    let text = "[repository.s3]\nsecret_access_key = [\"hush\"]\n";
    let (message, hint) = complaint(text);
    assert!(!message.contains("hush") && !hint.contains("hush"), "{message}");
    let debug = format!("{:?}", read("[notify.ops]\nwebhook = \"https://hush\"").unwrap());
    assert!(!debug.contains("hush"), "{debug}");
}

#[test]
fn a_dotenv_file_fills_in_and_the_environment_goes_first() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("copal.toml");
    std::fs::write(folder.path().join(".env"), "A=file\nB=file\n").unwrap();
    std::fs::write(&path, "[databases.x]\nurl = \"${A}-${B}-$${A}\"\n").unwrap();
    let configuration = Configuration::load(Some(&path), &environment(&[("A", "env")])).unwrap();
    let expected = folder.path().join("env-file-${A}").display().to_string();
    assert_eq!(configuration.databases["x"].settings.url, expected);
}

#[test]
fn the_repository_is_the_first_that_is_named() {
    let configured = read("[repository]\nurl = \"backups\"").unwrap();
    let flag = Overrides { repository: Some("flag".into()) };
    let variables = environment(&[("COPAL_REPOSITORY", "variable"), ("HOME", "/home/x")]);
    let home = environment(&[("HOME", "/home/x")]);
    let xdg = environment(&[("HOME", "/home/x"), ("XDG_DATA_HOME", "/data"), ("XDG_STATE_HOME", "relative")]);
    let none = Overrides::default();
    for (configuration, overrides, environment, expected, is_default) in [
        (&configured, &flag, &variables, "flag", false),
        (&configured, &none, &variables, "variable", false),
        (&configured, &none, &home, "/etc/copal/backups", false),
        (&Configuration::default(), &none, &home, "/home/x/.local/share/copal/repository", true),
        (&Configuration::default(), &none, &xdg, "/data/copal/repository", true),
    ] {
        let settings = configuration.resolve(overrides, environment).unwrap().settings;
        assert_eq!((settings.repository.as_str(), settings.repository_is_default), (expected, is_default));
        assert_eq!(settings.state.as_deref(), Some(Path::new("/home/x/.local/state/copal")));
    }
    let nowhere = Configuration::default().resolve(&none, &environment(&[])).unwrap_err();
    assert_eq!(nowhere.kind(), ErrorKind::Configuration);
}

#[test]
fn the_passphrase_is_the_first_that_is_given() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (file, other, empty) = (write("a", "from file \n"), write("b", "other\r\n"), write("c", "\n"));
    let text = format!("[repository]\nurl = \"r\"\npassphrase_file = \"{file}\"");
    let configuration = Configuration::read(&folder.path().join("copal.toml"), &text, &environment(&[])).unwrap();
    let passphrase = |variables: &[(&str, &str)]| {
        let resolved = configuration.resolve(&Overrides::default(), &environment(variables))?;
        Ok::<_, CopalError>(match resolved.settings.passphrase {
            PassphraseSource::Known(secret) => secret.reveal().to_owned(),
            _ => String::new(),
        })
    };
    assert_eq!(passphrase(&[]).unwrap(), "from file ");
    assert_eq!(passphrase(&[("COPAL_PASSPHRASE_FILE", &other)]).unwrap(), "other");
    assert_eq!(passphrase(&[("COPAL_PASSPHRASE_FILE", &other), ("COPAL_PASSPHRASE", "direct")]).unwrap(), "direct");
    for bad in [empty.as_str(), "/nonexistent/passphrase"] {
        assert_eq!(passphrase(&[("COPAL_PASSPHRASE_FILE", bad)]).unwrap_err().kind(), ErrorKind::Passphrase);
    }
}

#[test]
fn a_plain_repository_needs_no_passphrase_but_another_one_may() {
    let configuration = read("[repository]\nurl = \"r\"\nencryption = \"none\"").unwrap();
    let variables = environment(&[("COPAL_PASSPHRASE", "x")]);
    let plain = configuration.resolve(&Overrides::default(), &variables).unwrap();
    assert!(!plain.settings.passphrase.is_known());
    let other = configuration.resolve(&Overrides { repository: Some("other".into()) }, &variables).unwrap();
    assert!(other.settings.passphrase.is_known());
}

#[cfg(unix)]
#[test]
fn a_passphrase_file_that_everybody_reads_is_mentioned() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("passphrase");
    std::fs::write(&path, "x").unwrap();
    let variables = environment(&[("HOME", "/h"), ("COPAL_PASSPHRASE_FILE", &path.display().to_string())]);
    for (mode, notices) in [(0o644, 1), (0o640, 0), (0o600, 0)] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let resolved = Configuration::default().resolve(&Overrides::default(), &variables).unwrap();
        assert_eq!(resolved.notices.len(), notices, "{mode:o}");
    }
}

#[test]
fn an_identity_file_is_searched_for_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key.txt");
    std::fs::write(&path, "# created: today\nAGE-SECRET-KEY-1XYZ\n").unwrap();
    let variables = environment(&[("HOME", "/h"), ("COPAL_IDENTITY_FILE", &path.display().to_string())]);
    let resolved = Configuration::default().resolve(&Overrides::default(), &variables).unwrap();
    assert!(resolved.settings.identity.unwrap().reveal().contains("AGE-SECRET-KEY-1XYZ"));
    std::fs::write(&path, "age1public\n").unwrap();
    let error = Configuration::default().resolve(&Overrides::default(), &variables).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Passphrase);
}

#[test]
fn a_named_configuration_must_exist_and_others_need_not() {
    let error = Configuration::load(Some(Path::new("/nonexistent/copal.toml")), &environment(&[])).unwrap_err();
    assert_eq!(error.to_string(), "there is no configuration file /nonexistent/copal.toml");
    let variables = environment(&[("COPAL_CONFIG", "/nonexistent/other.toml")]);
    assert!(Configuration::load(None, &variables).unwrap_err().to_string().contains("other.toml"));
}
