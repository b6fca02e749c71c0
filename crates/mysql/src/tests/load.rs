//! Clients that write all the time.

use std::io::Write as _;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use copal_core::{Context, EngineErrorKind, RewindOptions, Snapshots as _};

use super::*;

/// Moves amounts between three tables, whose sum stays; connects again if it is cut off.
struct Writer {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u32>,
}

impl Writer {
    fn start(server: &Server, seed: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let mut command = server.command("d");
        let mut moved = 0;
        let thread = std::thread::spawn(move || {
            let mut n = seed;
            while !told.load(Ordering::SeqCst) {
                let mut child =
                    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
                let mut input = child.stdin.take().unwrap();
                while !told.load(Ordering::SeqCst) {
                    n = n.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    let (i, amount) = (n % 500 + 1, n % 7);
                    let text = format!(
                        "BEGIN; UPDATE a SET v = v - {amount} WHERE id = {i}; UPDATE b SET v = v + {amount} WHERE id = {i}; COMMIT; SELECT 1;\n"
                    );
                    if input.write_all(text.as_bytes()).is_err() {
                        break;
                    }
                    moved += 1;
                }
                drop(input);
                child.wait().unwrap();
            }
            moved
        });
        Self { stop, thread }
    }

    fn stop(self) -> u32 {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().unwrap()
    }
}

fn make(server: &Server) {
    server.sql("", "CREATE DATABASE d");
    server.sql(
        "d",
        "CREATE TABLE a (id INT PRIMARY KEY, v INT); CREATE TABLE b LIKE a; CREATE TABLE middle (id INT PRIMARY KEY, x VARCHAR(250)); \
         INSERT INTO a SELECT seq, 1000 FROM seq_1_to_500; INSERT INTO b SELECT * FROM a; \
         INSERT INTO middle SELECT seq, repeat('x', 200) FROM seq_1_to_20000; RENAME TABLE middle TO ab; \
         CREATE TRIGGER tr BEFORE INSERT ON ab FOR EACH ROW SET NEW.x = 'y'",
    );
}

const SUM: &str = "SELECT (SELECT sum(v) FROM a) + (SELECT sum(v) FROM b)";

#[test]
fn a_snapshot_under_writes_is_one_moment_and_so_is_a_rewind() {
    for settings in [&[][..], &["--log-bin"][..]] {
        let server = Server::start_with(settings);
        make(&server);
        let url = server.url("d");
        let writers = [Writer::start(&server, 1), Writer::start(&server, 2)];
        std::thread::sleep(Duration::from_millis(300));
        for n in 1..3 {
            let taken = take(&url, n).unwrap();
            assert_eq!(taken.snapshot.method, "insert select");
        }
        for schema in ours(&server) {
            assert_eq!(server.sql(&schema, SUM), "1000000");
        }
        for n in 1..3 {
            rewind(&url, n).unwrap();
            assert_eq!(server.sql("d", SUM), "1000000");
        }
        assert!(writers.into_iter().map(Writer::stop).all(|moved| moved > 0));
        assert_eq!(server.sql("d", SUM), "1000000", "whatever was written then, was written whole");
        assert_eq!(ours(&server).len(), 2);
    }
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn tables_altered_meanwhile_are_noticed() {
    let server = Server::start();
    make(&server);
    let url = server.url("d");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0.. {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                server.sql("d", &format!("ALTER TABLE a ADD COLUMN c{n} INT DEFAULT {n}; UPDATE b SET v = v; ALTER TABLE a DROP COLUMN c{n}; DO sleep(0.2)"));
            }
        });
        // Also if this one fails.
        let _stopped = Stop(&stop);
        for n in 1..6 {
            match take(&url, n) {
                Ok(_) => {
                    let schema = ours(&server).pop().unwrap();
                    // The shape that the snapshot remembers is the one that it has.
                    let text = server.sql(
                        &schema,
                        "SELECT objects LIKE '%`c_` int%' OR objects LIKE '%`c__` int%' FROM copal_snapshot",
                    );
                    let columns = server.sql("", &format!("SELECT count(*) > 2 FROM information_schema.columns WHERE table_schema = '{schema}' AND table_name = 'a'"));
                    assert_eq!(text, columns);
                    engine().remove(&source(&url), &id(n), &Context::silent()).unwrap();
                }
                Err(error) => assert_eq!(error.kind, EngineErrorKind::Busy, "{error:?}"),
            }
            assert!(ours(&server).is_empty());
        }
    });
}

pub(super) fn holder(server: &Server, sql: &str) -> Child {
    let mut child =
        server.command("d").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(sql.as_bytes()).unwrap();
    let state = "SELECT count(*) FROM information_schema.processlist WHERE db = 'd' AND command = 'Sleep'";
    while server.sql("", state) == "0" {
        std::thread::sleep(Duration::from_millis(20));
    }
    child
}

#[test]
fn long_transactions_are_ended_and_named() {
    let server = Server::start();
    make(&server);
    let url = server.url("d");
    take(&url, 1).unwrap();
    for sql in ["BEGIN; UPDATE a SET v = 0 WHERE id = 1;\n", "LOCK TABLES b WRITE;\n"] {
        let mut open = holder(&server, sql);
        let notes = rewind(&url, 1).unwrap().notes;
        assert!(notes.iter().any(|note| note.starts_with("ended session") && note.contains("root@")), "{notes:?}");
        assert_eq!(server.sql("d", SUM), "1000000");
        drop(open.stdin.take());
        open.wait().unwrap();
    }
    // Who holds nothing goes on with the same connection.
    let mut idle = holder(&server, "SELECT 1;\n");
    let notes = rewind(&url, 1).unwrap().notes;
    assert!(notes.is_empty(), "{notes:?}");
    idle.stdin.take().unwrap().write_all(b"UPDATE a SET v = 1 WHERE id = 1;\n").unwrap();
    assert!(idle.wait().unwrap().success());
    assert_eq!(server.sql("d", "SELECT v FROM a WHERE id = 1"), "1");
}

#[test]
fn a_table_made_at_the_moment_of_a_rewind_is_told() {
    let server = Server::start();
    make(&server);
    let url = server.url("d");
    take(&url, 1).unwrap();
    let prepared = engine().prepare(&source(&url), &id(1), RewindOptions::default(), &Context::silent()).unwrap();
    let mut open = holder(&server, "BEGIN; SELECT * FROM a;\n");
    let (context, warnings) = listening();
    std::thread::scope(|scope| {
        let finished = scope.spawn(|| prepared.finish(&context).unwrap());
        let renaming = "SELECT count(*) FROM information_schema.processlist WHERE info LIKE 'RENAME TABLE%'";
        while server.sql("", renaming) == "0" {
            assert!(!finished.is_finished(), "nobody was waited for");
        }
        server.sql("", "CREATE TABLE d.late (id INT)");
    });
    assert_eq!(warnings.told().len(), 1);
    assert!(warnings.told()[0].contains("late"), "{:?}", warnings.told());
    assert_eq!(server.sql("d", "SHOW TABLES"), "a\nab\nb\nlate");
    drop(open.stdin.take());
    open.wait().unwrap();
}

#[test]
fn two_at_once_wait_for_each_other() {
    let server = Server::start();
    make(&server);
    let url = server.url("d");
    std::thread::scope(|scope| {
        let threads: Vec<_> = (1..4)
            .map(|n| {
                scope.spawn({
                    let url = &url;
                    move || take(url, n).unwrap()
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| drop(thread.join().unwrap()));
    });
    assert_eq!(listed(&url).len(), 3);
    let prepared = engine().prepare(&source(&url), &id(1), RewindOptions::default(), &Context::silent()).unwrap();
    let impatient = MysqlEngine { lock_wait: Duration::from_secs(1) };
    let error = impatient.take(&source(&url), &request(9), &Context::silent()).unwrap_err();
    assert!(
        error.kind == EngineErrorKind::Busy && error.message.contains("\"d\"") && error.hint.is_some(),
        "{error:?}"
    );
    // As an async program drops it whose call was cancelled.
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async { drop(prepared) });
    assert_eq!(ours(&server).len(), 3, "what was prepared and not finished is gone");
    impatient.take(&source(&url), &request(9), &Context::silent()).unwrap();
}

#[test]
fn a_cancelled_snapshot_leaves_nothing() {
    let server = Server::start();
    make(&server);
    server.sql("d", "INSERT INTO ab SELECT seq, 'x' FROM seq_20001_to_400000");
    let context = Context::silent();
    let token = context.cancel.clone();
    let url = server.url("d");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(700));
            token.cancel();
        });
        let error = engine().take(&source(&url), &request(1), &context).unwrap_err();
        assert_eq!(error.kind, EngineErrorKind::Cancelled, "{error:?}");
    });
    engine().settle(&source(&url), false, &Context::silent()).unwrap();
    assert!(ours(&server).is_empty());
}
