use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::*;

fn file() -> (tempfile::TempDir, TokenFile) {
    let home = tempfile::tempdir().unwrap();
    let file = TokenFile::new(home.path().join("state").join(FILE_NAME));
    (home, file)
}

fn now() -> Timestamp {
    "2026-11-20T15:30:00Z".parse().unwrap()
}

/// A file with an entry that is right, and something else.
fn entry(name: &str, hash: &str, more: &str) -> String {
    format!("[tokens.{name}]\nrole = \"viewer\"\nhash = \"{hash}\"\ncreated = \"2026-11-20T15:30:00Z\"\n{more}")
}

fn some_hash(digit: char) -> String {
    format!("sha256:{}", digit.to_string().repeat(64))
}

#[test]
fn roles_have_an_order_and_one_word_each() {
    assert!(Role::Viewer < Role::Operator && Role::Operator < Role::Admin);
    for role in Role::ALL {
        assert_eq!(role.to_string().parse::<Role>().unwrap(), role);
        assert_eq!(serde_json::to_string(&role).unwrap(), format!("\"{role}\""));
    }
    let error = "Admin".parse::<Role>().unwrap_err().to_string();
    assert_eq!(error, "\"Admin\" is no role; the roles are viewer, operator and admin");
}

#[test]
fn a_token_is_shown_once_and_found_by_its_hash() {
    let (_home, file) = file();
    assert!(file.list().unwrap().is_empty());
    assert!(Tokens::load(file.path()).unwrap().is_empty());
    assert!(!file.path().parent().unwrap().exists(), "looking creates nothing");

    let grafana = file.add("grafana", Role::Viewer, now()).unwrap();
    let ops = file.add("Ops.1_a-b", Role::Admin, now()).unwrap();
    let text = grafana.reveal();
    let rest = text.strip_prefix("copal_").unwrap();
    assert!(rest.len() == 64 && rest.bytes().all(|c| c.is_ascii_alphanumeric()), "{text}");
    assert_ne!(text, ops.reveal());
    let written = fs::read_to_string(file.path()).unwrap();
    assert!(!written.contains(rest) && written.contains("[tokens.grafana]"), "{written}");

    let info = |name: &str, role| TokenInfo { name: name.to_owned(), role, created: now() };
    assert_eq!(file.list().unwrap(), [info("Ops.1_a-b", Role::Admin), info("grafana", Role::Viewer)]);
    let tokens = Tokens::load(file.path()).unwrap();
    assert!(!tokens.is_empty());
    assert_eq!(tokens.find(text), Some(info("grafana", Role::Viewer)));
    assert_eq!(tokens.find(ops.reveal()), Some(info("Ops.1_a-b", Role::Admin)));
    for wrong in ["", "copal_", rest, &text.to_uppercase(), &format!("{text} "), &"x".repeat(100_000)] {
        assert_eq!(tokens.find(wrong), None);
    }

    assert_eq!(file.remove("grafana").unwrap(), info("grafana", Role::Viewer));
    assert!(tokens.find(text).is_some(), "until it is read again");
    tokens.clone().reload().unwrap();
    assert_eq!(tokens.find(text), None);
    assert!(tokens.find(ops.reveal()).is_some());
    fs::remove_file(file.path()).unwrap();
    tokens.reload().unwrap();
    assert!(tokens.is_empty());
}

#[test]
fn names_are_plain_and_given_once() {
    let (_home, file) = file();
    for name in ["", "a b", "ä", "a/b", "a\n", &"a".repeat(65)] {
        assert!(matches!(file.add(name, Role::Viewer, now()), Err(TokenError::Name(_))), "{name:?}");
    }
    assert!(matches!(file.remove("a"), Err(TokenError::Unknown { .. })));
    assert!(!file.path().parent().unwrap().exists(), "what is refused creates nothing");
    file.add(&"a".repeat(64), Role::Viewer, now()).unwrap();
    file.add("a", Role::Viewer, now()).unwrap();
    let before = fs::read(file.path()).unwrap();
    let error = file.add("a", Role::Admin, now()).unwrap_err();
    assert!(error.to_string().starts_with("there is a token \"a\" in "), "{error}");
    assert_eq!(fs::read(file.path()).unwrap(), before);
}

#[test]
fn what_is_wrong_is_named_and_left_alone() {
    let (_home, file) = file();
    fs::create_dir(file.path().parent().unwrap()).unwrap();
    let good = some_hash('a');
    let cases = [
        ("rubbish".to_owned(), "line 1: "),
        (entry("a", &good, "") + "[token.b]\n", "line 5: unknown field `token`"),
        (entry("a", &good, "rolle = 1\n"), "line 5: unknown field `rolle`"),
        (entry("a", &good, "").replace("viewer", "root"), "line 2: unknown variant `root`"),
        (entry("a", &good, "").replace("2026", "soon"), "line 4: "),
        (entry("a", &good, "").replace("role", "#role"), "missing field `role`"),
        (entry("a", "sha256:ab", ""), "the hash of \"a\" is not "),
        (entry("a", &some_hash('g'), ""), "the hash of \"a\" is not "),
        (entry("a", &some_hash('a').replace("sha256", "md5"), ""), "the hash of \"a\" is not "),
        (entry("\"a b\"", &good, ""), "\"a b\" is no name"),
        (entry("a", &good, "") + &entry("a", &some_hash('b'), ""), "line 5: duplicate key"),
        (entry("a", &good, "") + &entry("b", &good, ""), "\"a\" and \"b\" are the same token"),
    ];
    for (text, problem) in cases {
        fs::write(file.path(), &text).unwrap();
        let errors = [
            Tokens::load(file.path()).map(drop),
            file.list().map(drop),
            file.add("new", Role::Viewer, now()).map(drop),
            file.remove("a").map(drop),
        ];
        for error in errors.map(Result::unwrap_err) {
            let error = error.to_string();
            let head = format!("the token file {} is wrong: ", file.path().display());
            assert!(error.starts_with(&head) && error.contains(problem), "{problem:?} in {error}");
            assert!(error.contains("; mend it, or remove it") && !error.contains('\n'), "{error}");
        }
        assert_eq!(fs::read_to_string(file.path()).unwrap(), text);
    }
    fs::write(file.path(), [0xff, 0xfe]).unwrap();
    assert!(matches!(file.list(), Err(TokenError::Wrong { .. })));
    fs::remove_file(file.path()).unwrap();
    fs::create_dir(file.path()).unwrap();
    let error = Tokens::load(file.path()).unwrap_err();
    assert!(matches!(error, TokenError::Unreadable(..)) && error.source().is_some(), "{error}");
}

#[test]
fn where_nothing_can_be_written_it_is_said() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("file"), "").unwrap();
    let path = home.path().join("file").join(FILE_NAME);
    let error = TokenFile::new(&path).add("a", Role::Viewer, now()).unwrap_err();
    assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    assert!(matches!(error, TokenError::Unwritable(..) | TokenError::Unreadable(..)), "{error}");
}

#[test]
fn many_who_add_at_once_lose_nothing() {
    let (_home, file) = file();
    let add = |worker: usize| {
        let file = file.clone();
        move || (0..6).map(|n| file.add(&format!("{worker}-{n}"), Role::Viewer, now()).unwrap()).collect::<Vec<_>>()
    };
    let threads: Vec<_> = (0..8).map(|worker| std::thread::spawn(add(worker))).collect();
    let all: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    let tokens = Tokens::load(file.path()).unwrap();
    assert_eq!((file.list().unwrap().len(), all.len()), (48, 48));
    assert!(all.iter().all(|token| tokens.find(token.reveal()).is_some()));
    assert_eq!(names_beside(&file), [FILE_NAME, "tokens.toml.lock"]);
}

fn names_beside(file: &TokenFile) -> Vec<String> {
    let folder = fs::read_dir(file.path().parent().unwrap()).unwrap();
    let mut names: Vec<_> = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[cfg(unix)]
#[test]
fn only_its_owner_reads_it_whatever_was_there_before() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let (home, file) = file();
    file.add("a", Role::Viewer, now()).unwrap();
    assert_eq!(mode(file.path()), 0o600);
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644)).unwrap();
    // Left by somebody who was killed.
    let left: PathBuf = format!("{}.new", file.path().display()).into();
    fs::write(&left, "half").unwrap();
    file.add("b", Role::Viewer, now()).unwrap();
    assert_eq!((mode(file.path()), left.exists()), (0o600, false));
    // A link stays one.
    let link = home.path().join("link.toml");
    symlink(file.path(), &link).unwrap();
    let linked = TokenFile::new(&link);
    linked.add("c", Role::Viewer, now()).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(file.list().unwrap().len(), 3);
}

/// Refreshes until something holds; looks are a second apart.
fn refresh_until(tokens: &Tokens, holds: impl Fn() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_secs(60), "nothing was refreshed");
        std::thread::sleep(Duration::from_millis(20));
        tokens.refresh_if_changed();
    }
}

#[test]
fn a_change_comes_into_force_and_damage_does_not() {
    let (_home, file) = file();
    let tokens = Tokens::load(file.path()).unwrap();
    let first = file.add("first", Role::Viewer, now()).unwrap();
    refresh_until(&tokens, || tokens.find(first.reveal()).is_some());
    let good = fs::read(file.path()).unwrap();

    let warned = || tokens.inner.seen.lock().unwrap().warned.clone();
    fs::write(file.path(), "rubbish").unwrap();
    refresh_until(&tokens, || warned().is_some());
    assert!(tokens.find(first.reveal()).is_some());
    assert!(tokens.reload().is_err());
    assert!(tokens.find(first.reveal()).is_some());

    fs::write(file.path(), good).unwrap();
    refresh_until(&tokens, || warned().is_none());
    file.remove("first").unwrap();
    refresh_until(&tokens, || tokens.find(first.reveal()).is_none());
    let second = file.add("second", Role::Admin, now()).unwrap();
    refresh_until(&tokens, || tokens.find(second.reveal()).is_some());
}
