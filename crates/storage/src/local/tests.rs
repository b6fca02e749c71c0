use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use super::*;
use crate::Method;

fn path(text: &str) -> ObjectPath {
    ObjectPath::parse(text).unwrap()
}

/// Tells loudly that a test could not be run here.
#[allow(clippy::print_stderr)]
fn skipped(why: &str) {
    eprintln!("SKIPPED: {why}");
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

/// All names below a folder, hidden ones included.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn storage() -> (tempfile::TempDir, LocalStorage) {
    let dir = tempfile::tempdir().unwrap();
    let storage = LocalStorage::create(dir.path().join("repository")).unwrap();
    (dir, storage)
}

#[tokio::test]
async fn files_and_folders_are_private_and_nothing_else_stays() {
    let (_dir, storage) = storage();
    let version = storage.create(&path("a/b/x"), "1".into()).await.unwrap();
    storage.replace(&path("a/b/x"), "2".into(), &version).await.unwrap();
    assert_eq!(mode(storage.root()), 0o700);
    assert_eq!(mode(&storage.root().join("a/b")), 0o700);
    assert_eq!(mode(&storage.root().join("a/b/x")), 0o600);
    assert_eq!(names(&storage.root().join("a/b")), [".lock~", "x"]);
}

#[tokio::test]
async fn staging_files_are_hidden_and_swept_when_old() {
    let (_dir, storage) = storage();
    storage.create(&path("d/packs/x"), "1".into()).await.unwrap();
    let folder = storage.root().join("d/packs");
    let old = folder.join(".staging~old");
    let ahead = folder.join(".staging~ahead");
    let new = folder.join(".staging~new");
    for (file, shift) in [(&old, -7200), (&ahead, 1_000_000), (&new, 0)] {
        let opened = std::fs::File::create(file).unwrap();
        let shift_by = Duration::from_secs(i64::unsigned_abs(shift));
        let now = SystemTime::now();
        opened.set_modified(if shift < 0 { now - shift_by } else { now + shift_by }).unwrap();
    }
    assert_eq!(storage.list(&path("d")).await.unwrap().len(), 1);
    assert_eq!(storage.sweep_staging(&path("d"), Duration::from_secs(3600)).await.unwrap(), 2);
    assert_eq!(names(&folder), [".staging~new", "x"]);
    assert_eq!(storage.sweep_staging(&path("d"), Duration::from_secs(3600)).await.unwrap(), 0);
}

#[tokio::test]
async fn odd_names_are_not_listed() {
    use std::os::unix::ffi::OsStrExt;
    let (_dir, storage) = storage();
    storage.create(&path("d/x"), "1".into()).await.unwrap();
    let folder = storage.root().join("d");
    for name in [&b"\xff\xfe"[..], b"with space", b"umlaut-\xc3\xa4", b"y~"] {
        std::fs::write(folder.join(std::ffi::OsStr::from_bytes(name)), b"?").unwrap();
    }
    std::fs::create_dir_all(folder.join("odd folder/in")).unwrap();
    std::fs::write(folder.join("odd folder/in/y"), b"?").unwrap();
    let found = storage.list(&path("d")).await.unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(storage.list_folders(Some(&path("d"))).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_root_that_vanished_is_said_so_and_not_made_again() {
    let (_dir, storage) = storage();
    storage.create(&path("d/x"), "1".into()).await.unwrap();
    let (_, version) = storage.get_versioned(&path("d/x")).await.unwrap();
    std::fs::rename(storage.root(), storage.root().with_extension("away")).unwrap();
    let errors = [
        storage.get(&path("d/x")).await.unwrap_err(),
        storage.get_range(&path("d/x"), 0..1).await.unwrap_err(),
        storage.head(&path("d/x")).await.unwrap_err(),
        storage.create(&path("d/y"), "2".into()).await.unwrap_err(),
        storage.create(&path("new/y"), "2".into()).await.unwrap_err(),
        storage.replace(&path("d/x"), "2".into(), &version).await.unwrap_err(),
        storage.list(&path("d")).await.unwrap_err(),
        storage.list_folders(None).await.unwrap_err(),
        storage.delete(&path("d/x")).await.unwrap_err(),
        storage.sweep_staging(&path("d"), Duration::ZERO).await.unwrap_err(),
    ];
    for error in errors {
        assert!(error.is_storage_gone(), "{error:?}");
    }
    assert!(!storage.root().exists());
    assert_eq!(LocalStorage::open(storage.root()).unwrap_err().kind(), StorageErrorKind::NotFound);
}

#[tokio::test]
async fn a_folder_removed_behind_our_back_is_made_again() {
    let (_dir, storage) = storage();
    storage.create(&path("d/e/x"), "1".into()).await.unwrap();
    std::fs::remove_dir_all(storage.root().join("d")).unwrap();
    storage.create(&path("d/e/x"), "2".into()).await.unwrap();
    assert_eq!(&storage.get(&path("d/e/x")).await.unwrap()[..], b"2");
}

#[tokio::test]
async fn links_are_read_through_and_not_written_through() {
    let (dir, storage) = storage();
    let outside = dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("moved"), b"moved").unwrap();
    storage.create(&path("d/x"), "1".into()).await.unwrap();
    let root = storage.root();
    symlink(&outside, root.join("d/linked")).unwrap();
    symlink(outside.join("moved"), root.join("d/object")).unwrap();
    symlink(outside.join("nothing"), root.join("d/dangling")).unwrap();
    symlink(root.join("d"), root.join("d/loop")).unwrap();
    let (_, version) = storage.get_versioned(&path("d/object")).await.unwrap();
    assert_eq!(&storage.get(&path("d/linked/moved")).await.unwrap()[..], b"moved");
    let found = storage.list(&path("d")).await.unwrap();
    let found: Vec<&str> = found.iter().map(|i| i.path.as_str()).collect();
    assert_eq!(found, ["d/linked/moved", "d/object", "d/x"]);
    // Writing:
    assert!(storage.create(&path("d/linked/new"), "2".into()).await.is_err());
    for taken in ["d/object", "d/dangling"] {
        let error = storage.create(&path(taken), "2".into()).await.unwrap_err();
        assert_eq!(error.kind(), StorageErrorKind::AlreadyExists);
    }
    assert!(storage.replace(&path("d/object"), "2".into(), &version).await.is_err());
    storage.delete(&path("d/object")).await.unwrap();
    assert_eq!(names(&outside), ["moved"]);
    assert_eq!(std::fs::read(outside.join("moved")).unwrap(), b"moved");
}

#[tokio::test]
async fn a_pipe_does_not_hang_a_reader() {
    let (_dir, storage) = storage();
    storage.create(&path("d/x"), "1".into()).await.unwrap();
    let made = Command::new("mkfifo").arg(storage.root().join("d/pipe")).status();
    if !made.is_ok_and(|status| status.success()) {
        return skipped("no mkfifo here");
    }
    assert_eq!(storage.get(&path("d/pipe")).await.unwrap_err().kind(), StorageErrorKind::Other);
    assert_eq!(storage.list(&path("d")).await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_object_shortened_on_the_disk_is_truncated() {
    let (_dir, storage) = storage();
    storage.create(&path("d/x"), "0123456789".into()).await.unwrap();
    std::fs::OpenOptions::new().write(true).open(storage.root().join("d/x")).unwrap().set_len(4).unwrap();
    let error = storage.get_range(&path("d/x"), 2..8).await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Truncated);
    assert!(error.to_string().contains("only 4 bytes"), "{error}");
}

/// A mounted file system, unmounted when dropped.
struct Mounted<'a>(&'a Path);

impl<'a> Mounted<'a> {
    fn new(folder: &'a Path, arguments: &[&str]) -> Option<Self> {
        let done = Command::new("mount").args(arguments).arg(folder).stderr(Stdio::null()).status();
        done.is_ok_and(|status| status.success()).then_some(Self(folder))
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[tokio::test]
async fn a_full_disk_is_said_so_leaves_nothing_half_and_can_be_cleared() {
    let dir = tempfile::tempdir().unwrap();
    let Some(_mounted) = Mounted::new(dir.path(), &["-t", "tmpfs", "-o", "size=1m", "tmpfs"]) else {
        return skipped("a small file system cannot be mounted here (needs root)");
    };
    let storage = LocalStorage::open(dir.path()).unwrap();
    storage.create(&path("d/x"), vec![1; 600 << 10].into()).await.unwrap();
    let error = storage.create(&path("d/y"), vec![2; 600 << 10].into()).await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::NoSpace, "{error:?}");
    assert!(error.hint.is_some());
    assert_eq!(names(&dir.path().join("d")), ["x"]);
    // To the last byte, so that not even a lock file can be made.
    let mut filler = std::fs::File::create(dir.path().join("filler")).unwrap();
    while filler.write_all(&[0; 4096]).is_ok() {}
    storage.delete(&path("d/x")).await.unwrap();
    storage.create(&path("d/y"), vec![2; 500 << 10].into()).await.unwrap();
}

#[tokio::test]
async fn a_read_only_repository_is_readable() {
    let (_dir, storage) = storage();
    let version = storage.create(&path("d/x"), "1".into()).await.unwrap();
    let root = storage.root().to_owned();
    let root_text = root.to_str().unwrap().to_owned();
    let Some(_bound) = Mounted::new(&root, &["--bind", &root_text]) else {
        return skipped("a folder cannot be mounted read-only here (needs root)");
    };
    let remounted = Command::new("mount").args(["-o", "remount,ro,bind", &root_text]).status();
    if !remounted.is_ok_and(|status| status.success()) {
        return skipped("a folder cannot be mounted read-only here");
    }
    let storage = LocalStorage::open(&root).unwrap();
    assert_eq!(&storage.get(&path("d/x")).await.unwrap()[..], b"1");
    assert_eq!(storage.list(&path("d")).await.unwrap().len(), 1);
    assert_eq!(storage.list_folders(None).await.unwrap(), ["d"]);
    let errors = [
        storage.create(&path("d/y"), "1".into()).await.unwrap_err(),
        storage.create(&path("e/y"), "1".into()).await.unwrap_err(),
        storage.replace(&path("d/x"), "1".into(), &version).await.unwrap_err(),
        storage.delete(&path("d/x")).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), StorageErrorKind::PermissionDenied, "{error:?}");
        assert!(error.hint.unwrap().contains("read-only"));
    }
}

#[tokio::test]
async fn an_unwritable_folder_is_said_so() {
    let (_dir, storage) = storage();
    storage.create(&path("d/x"), "1".into()).await.unwrap();
    let folder = storage.root().join("d");
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o500)).unwrap();
    let result = storage.create(&path("d/y"), "1".into()).await;
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)).unwrap();
    match result {
        Ok(_) => skipped("permissions do not bind this user (root)"),
        Err(e) => assert_eq!(e.kind(), StorageErrorKind::PermissionDenied, "{e:?}"),
    }
}

/// Runs this test program once more as a child that runs only `writer_process`.
fn writer(root: &Path, role: &str, number: u32) -> std::process::Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "local::tests::writer_process", "--ignored", "--nocapture"])
        .env("COPAL_TEST_ROOT", root)
        .env("COPAL_TEST_ROLE", role)
        .env("COPAL_TEST_NUMBER", number.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// What the children of the tests below do; prints one `won` per exclusive write that was let through.
#[tokio::test]
#[ignore = "is run by other tests as a process of its own"]
#[allow(clippy::print_stdout)]
async fn writer_process() {
    let root = std::env::var("COPAL_TEST_ROOT").unwrap();
    let number = std::env::var("COPAL_TEST_NUMBER").unwrap();
    let storage = LocalStorage::open(root).unwrap();
    if std::env::var("COPAL_TEST_ROLE").unwrap() == "create" {
        for n in 0..50 {
            match storage.create(&path(&format!("race/{n}")), vec![number.as_bytes()[0]; 10_000].into()).await {
                Ok(_) => println!("won"),
                Err(e) => assert_eq!(e.kind(), StorageErrorKind::AlreadyExists, "{e:?}"),
            }
        }
        return;
    }
    let mut added = 0;
    while added < 25 {
        let (bytes, version) = storage.get_versioned(&path("counter")).await.unwrap();
        let count: u64 = std::str::from_utf8(&bytes).unwrap().parse().unwrap();
        match storage.replace(&path("counter"), (count + 1).to_string().into(), &version).await {
            Ok(_) => added += 1,
            Err(e) => assert_eq!(e.kind(), StorageErrorKind::Conflict, "{e:?}"),
        }
    }
}

#[test]
fn of_many_processes_exactly_one_creates() {
    let (_dir, storage) = storage();
    let children: Vec<_> = (0..4).map(|n| writer(storage.root(), "create", n)).collect();
    let mut won = 0;
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        won += String::from_utf8(output.stdout).unwrap().lines().filter(|line| line.contains("won")).count();
    }
    assert_eq!(won, 50);
    let files = names(&storage.root().join("race"));
    assert_eq!(files.len(), 50, "{files:?}");
    for file in files {
        let bytes = std::fs::read(storage.root().join("race").join(file)).unwrap();
        assert_eq!(bytes.len(), 10_000);
        assert!(bytes.iter().all(|b| *b == bytes[0]));
    }
}

#[tokio::test]
async fn many_processes_replace_without_losing_one() {
    let (_dir, storage) = storage();
    storage.create(&path("counter"), "0".into()).await.unwrap();
    let children: Vec<_> = (0..4).map(|n| writer(storage.root(), "replace", n)).collect();
    for child in children {
        assert!(child.wait_with_output().unwrap().status.success());
    }
    assert_eq!(&storage.get(&path("counter")).await.unwrap()[..], b"100");
}

#[tokio::test]
async fn writers_killed_at_any_time_leave_whole_objects() {
    let (_dir, storage) = storage();
    for round in 0..20_u64 {
        let mut child = writer(storage.root(), "create", 7);
        std::thread::sleep(Duration::from_millis(5 + round * 3));
        child.kill().unwrap();
        child.wait().unwrap();
        for info in storage.list(&path("race")).await.unwrap() {
            assert_eq!(storage.get(&info.path).await.unwrap(), vec![b'7'; 10_000]);
            storage.delete(&info.path).await.unwrap();
        }
    }
    storage.sweep_staging(&path("race"), Duration::ZERO).await.unwrap();
    let left = names(&storage.root().join("race"));
    assert!(left.iter().all(|name| name == LOCK_NAME), "{left:?}");
}

#[tokio::test]
async fn a_lock_left_by_a_killed_process_holds_nobody_up() {
    let (_dir, storage) = storage();
    let version = storage.create(&path("d/x"), "1".into()).await.unwrap();
    std::fs::write(storage.root().join("d").join(LOCK_NAME), b"").unwrap();
    storage.replace(&path("d/x"), "2".into(), &version).await.unwrap();
}

#[tokio::test]
async fn the_recorder_sees_what_a_create_costs() {
    let (_dir, storage) = storage();
    let recorder = crate::fault::FaultStorage::new(Arc::new(storage));
    recorder.create(&path("d/x"), "123".into()).await.unwrap();
    let calls = recorder.calls();
    assert_eq!(calls.len(), 1);
    assert_eq!((calls[0].method, calls[0].path_text(), calls[0].bytes), (Method::Create, "d/x", 3));
}
