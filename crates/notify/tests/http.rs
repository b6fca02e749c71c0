//! Every channel that goes over HTTP, against a receiver that answers, fails, hangs and closes.

#![allow(clippy::unwrap_used)]

#[path = "sinks/http.rs"]
mod sink;

use std::time::{Duration, Instant};

use copal_notify::{BackupFacts, Channel, Event, Notice, NotifyErrorKind};
use serde_json::json;
use sink::{Answer, HttpSink};

/// A name that tries everything.
const HOSTILE: &str = "shöp \"'`$(x)` @everyone <!channel> <@U1> [x](http://evil)\r\nX-Evil: 1\n\n*b* /rm & 😀";

fn channel(kind: &str, text: &str) -> Channel {
    let table: toml::Table = format!("value = {text}").parse().unwrap();
    Channel::parse(kind, &table["value"]).unwrap()
}

fn notice(event: Event) -> Notice {
    let time = "2026-11-20T15:30:00Z".parse().unwrap();
    let mut notice = Notice::new(event, HOSTILE, "db1", time, format!("The backup of {HOSTILE} failed"));
    notice.details = "no space left\non the device".to_owned();
    notice.consecutive_failures = 3;
    notice.error_kind = Some("storage".to_owned());
    notice.backup = Some(BackupFacts { id: "20261120-153000Z-7f3a".to_owned(), ..BackupFacts::default() });
    notice
}

/// Every channel over HTTP that points to the sink, with `hush-hush` wherever it has a secret.
fn all(sink: &HttpSink) -> Vec<Channel> {
    let url = sink.url("/hush-hush");
    let root = sink.url("");
    vec![
        channel(
            "webhook",
            &format!("{{ url = '{url}?k=hush-hush', secret = 'hush-hush', headers = {{ K = 'hush-hush' }} }}"),
        ),
        channel("slack", &format!("'{url}'")),
        channel("discord", &format!("'{url}'")),
        channel("telegram", &format!("{{ url = '{root}', token = '1:hush-hush', chat = 1 }}")),
        channel("ntfy", &format!("{{ url = '{root}', topic = 'hush-hush', token = 'hush-hush' }}")),
        channel("healthcheck", &format!("'{url}'")),
    ]
}

#[tokio::test]
async fn a_webhook_gets_the_documented_json_signed() {
    let sink = HttpSink::start(Answer::status(204)).await;
    let url = sink.url("/hook?key=1");
    let text = format!("{{ url = '{url}', secret = 'Jefe', headers = {{ Authorization = 'Bearer x' }} }}");
    let notice = notice(Event::Failure);
    channel("webhook", &text).send(&notice).await.unwrap();
    let arrived = sink.one();
    assert_eq!((arrived.method.as_str(), arrived.target.as_str()), ("POST", "/hook?key=1"));
    assert_eq!(arrived.header("content-type"), "application/json");
    assert_eq!(arrived.header("authorization"), "Bearer x");
    assert_eq!(arrived.headers.get("x-evil"), None);
    let json = arrived.json();
    assert_eq!((&json["format"], &json["event"], &json["database"]), (&json!(1), &json!("failure"), &json!(HOSTILE)));
    assert_eq!(serde_json::from_value::<Notice>(json).unwrap(), notice);
    // Python's hmac makes the same signature; it is there wherever these tests run.
    let script = "import hmac,sys;print('sha256='+hmac.new(b'Jefe',sys.stdin.buffer.read(),'sha256').hexdigest())";
    let mut python = std::process::Command::new("python3")
        .args(["-c", script])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut python.stdin.take().unwrap(), &arrived.body).unwrap();
    let expected = String::from_utf8(python.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!(arrived.header("x-copal-signature"), expected.trim());
}

#[tokio::test]
async fn slack_gets_escaped_text() {
    let sink = HttpSink::start(Answer::With(200, vec![], "ok".to_owned())).await;
    channel("slack", &format!("'{}'", sink.url("/services/T/B/x"))).send(&notice(Event::Failure)).await.unwrap();
    let json = sink.one().json();
    let text = json["text"].as_str().unwrap();
    assert!(text.starts_with("❌ The backup of shöp"), "{text}");
    for escaped in ["&lt;!channel&gt;", "&lt;@", "\u{200b}*b", "@\u{200b}everyone", "no space left\non the device"] {
        assert!(text.contains(escaped), "{escaped} in {text}");
    }
    assert!(!text.contains(['<', '>', '\r']), "{text}");
    assert!(text.lines().all(|line| !line.starts_with("X-Evil")), "{text}");
    assert_eq!(json["unfurl_links"], false);
}

#[tokio::test]
async fn discord_gets_escaped_text_that_mentions_nobody() {
    let sink = HttpSink::start(Answer::status(204)).await;
    let channel = channel("discord", &format!("'{}'", sink.url("/api/webhooks/1/x")));
    let mut notice = notice(Event::Failure);
    notice.details = "😀<@&1>*".repeat(1000);
    channel.send(&notice).await.unwrap();
    let json = sink.one().json();
    assert_eq!(json["allowed_mentions"], json!({"parse": []}));
    let text = json["content"].as_str().unwrap();
    let length = text.encode_utf16().count();
    assert!(text.ends_with('…') && (1990..=2000).contains(&length), "{length}");
    assert!(text.contains("\\[x\\]\\(http\\://evil\\)") && text.contains("@\u{200b}everyone"), "{text}");
}

#[tokio::test]
async fn telegram_gets_plain_text() {
    let sink = HttpSink::start(Answer::With(200, vec![], "{\"ok\":true}".to_owned())).await;
    let text = format!("{{ url = '{}', token = '12:a_b-C', chat = -1001 }}", sink.url(""));
    channel("telegram", &text).send(&notice(Event::Recovered)).await.unwrap();
    let arrived = sink.one();
    assert_eq!(arrived.target, "/bot12:a_b-C/sendMessage");
    let json = arrived.json();
    assert_eq!((&json["chat_id"], json.get("parse_mode")), (&json!(-1001), None));
    let text = json["text"].as_str().unwrap();
    assert!(text.starts_with("✅ ") && text.contains("<!channel>") && text.contains("@\u{200b}everyone"), "{text}");
}

#[tokio::test]
async fn ntfy_gets_topic_priority_and_token() {
    let sink = HttpSink::start(Answer::status(200)).await;
    let (url, with_topic) = (sink.url("/"), sink.url("/ops"));
    let own = channel("ntfy", &format!("{{ url = '{url}', topic = 'ops', token = 'tk_x' }}"));
    own.send(&notice(Event::Damage)).await.unwrap();
    let arrived = sink.one();
    assert_eq!((arrived.target.as_str(), arrived.header("authorization")), ("/", "Bearer tk_x"));
    let json = arrived.json();
    assert_eq!(
        (&json["topic"], &json["priority"], &json["tags"]),
        (&json!("ops"), &json!(5), &json!(["rotating_light"]))
    );
    assert!(!json["title"].as_str().unwrap().contains(['\n', '\r']));
    let mut long = notice(Event::Success);
    (long.headline, long.details) = ("é".repeat(1000), "é".repeat(10_000));
    channel("ntfy", &format!("'{with_topic}'")).send(&long).await.unwrap();
    let arrived = sink.one();
    let json = arrived.json();
    assert_eq!((arrived.target.as_str(), arrived.header("authorization")), ("/", ""));
    assert_eq!((&json["topic"], &json["priority"]), (&json!("ops"), &json!(2)));
    assert!(json["title"].as_str().unwrap().len() <= 250 && json["message"].as_str().unwrap().len() <= 4096);
}

#[tokio::test]
async fn a_healthcheck_is_pinged_where_it_belongs() {
    let sink = HttpSink::start(Answer::status(200)).await;
    let channel = channel("healthcheck", &format!("'{}'", sink.url("/ping/uuid?rid=1")));
    for (event, target) in [
        (Event::Start, "/ping/uuid/start?rid=1"),
        (Event::Success, "/ping/uuid?rid=1"),
        (Event::Recovered, "/ping/uuid?rid=1"),
        (Event::Failure, "/ping/uuid/fail?rid=1"),
        (Event::Missed, "/ping/uuid/fail?rid=1"),
        (Event::Test, "/ping/uuid/log?rid=1"),
    ] {
        channel.send(&notice(event)).await.unwrap();
        let arrived = sink.one();
        assert_eq!((arrived.method.as_str(), arrived.target.as_str()), ("POST", target), "{event}");
        assert!(String::from_utf8_lossy(&arrived.body).contains("no space left"));
    }
}

#[tokio::test]
async fn only_a_healthcheck_is_told_of_a_beginning() {
    let sink = HttpSink::start(Answer::status(200)).await;
    for channel in all(&sink) {
        channel.send(&notice(Event::Start)).await.unwrap();
    }
    assert_eq!(sink.one().target, "/hush-hush/start");
}

#[tokio::test]
async fn answers_are_told_apart_and_no_error_shows_a_secret() {
    use NotifyErrorKind::{Refused, Unavailable};
    // A server that repeats what it should not.
    let echo = "no route /hush-hush for 1:hush-hush".to_owned();
    for (status, kind) in [
        (400, Refused),
        (401, Refused),
        (404, Refused),
        (408, Unavailable),
        (410, Refused),
        (429, Unavailable),
        (500, Unavailable),
        (503, Unavailable),
    ] {
        let sink = HttpSink::start(Answer::With(status, vec![("retry-after", "7".to_owned())], echo.clone())).await;
        for channel in all(&sink) {
            let error = channel.send(&notice(Event::Failure)).await.unwrap_err();
            let shown = format!("{error} {error:?}");
            assert_eq!((error.kind(), error.status), (kind, Some(status)), "{shown}");
            assert_eq!((error.is_retryable(), error.retry_after), (kind == Unavailable, Some(Duration::from_secs(7))));
            assert!(!shown.contains("hush"), "{shown}");
            let expected = format!("{} (http://127.0.0.1:{}): answered {status} ", channel.name(), sink.port);
            assert!(shown.starts_with(&expected), "{shown}");
        }
    }
}

#[tokio::test]
async fn a_known_service_says_why_it_refuses() {
    let said = "{\"description\":\"Bad Request: chat not found\"}\r\n\u{1b}[31m".to_owned();
    let sink = HttpSink::start(Answer::With(400, vec![], said)).await;
    for channel in all(&sink) {
        let shown = channel.send(&notice(Event::Failure)).await.unwrap_err().to_string();
        let is_known = !matches!(channel.name(), "webhook" | "healthcheck");
        assert_eq!(shown.contains("chat not found"), is_known, "{shown}");
        assert!(!shown.contains(char::is_control), "{shown:?}");
    }
}

#[tokio::test]
async fn redirections_are_not_followed() {
    let other = HttpSink::start(Answer::status(200)).await;
    for status in [301, 302, 303, 307, 308] {
        let target = vec![("location", other.url("/hush-hush"))];
        let sink = HttpSink::start(Answer::With(status, target, String::new())).await;
        for channel in all(&sink) {
            let error = channel.send(&notice(Event::Failure)).await.unwrap_err();
            assert_eq!((error.kind(), error.status), (NotifyErrorKind::Refused, Some(status)));
            let expected = format!("a redirection to http://127.0.0.1:{}; give the final URL", other.port);
            assert!(error.to_string().ends_with(&expected), "{error}");
        }
    }
    assert_eq!(other.all().len(), 0);
}

#[tokio::test]
async fn who_hangs_is_left() {
    let sink = HttpSink::start(Answer::Hang).await;
    for channel in all(&sink) {
        let begin = Instant::now();
        let error = channel.with_timeout(Duration::from_millis(150)).send(&notice(Event::Failure)).await.unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (NotifyErrorKind::TimedOut, true), "{error}");
        assert!(begin.elapsed() < Duration::from_secs(5));
        assert!(!error.to_string().contains("hush"), "{error}");
    }
}

#[tokio::test]
async fn who_closes_or_is_not_there_may_be_tried_again() {
    let sink = HttpSink::start(Answer::Close).await;
    let nobody = {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        listener.local_addr().unwrap().port()
    };
    let gone = channel("webhook", &format!("'http://127.0.0.1:{nobody}/hush-hush'"));
    for channel in all(&sink).into_iter().chain([gone]) {
        let error = channel.send(&notice(Event::Failure)).await.unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (NotifyErrorKind::Unreachable, true), "{error}");
        assert!(!format!("{error} {error:?}").contains("hush"), "{error}");
    }
}
