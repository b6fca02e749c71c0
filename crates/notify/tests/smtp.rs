//! E-mail against a server that really speaks SMTP, with and without TLS.

#![allow(clippy::unwrap_used)]

#[path = "sinks/smtp.rs"]
mod sink;

use std::time::Duration;

use copal_notify::{Channel, Event, Notice, NotifyError, NotifyErrorKind};
use sink::{Behaviour, CERTIFICATE, SmtpSink, base64};

const LOGIN: &str = "user@x\0hush-hush";

fn email(sink: &SmtpSink, scheme: &str, more: &str) -> Channel {
    let port = sink.port;
    let text = format!(
        "value = {{ url = '{scheme}://localhost:{port}', from = 'Copal <copal@example.org>', \
         to = ['a@example.org', 'Ops <b@example.org>'], {more} }}"
    );
    let table: toml::Table = text.parse().unwrap();
    Channel::parse("email", &table["value"]).unwrap()
}

fn with_login(more: &str) -> String {
    format!("user = 'user@x', password = 'hush-hush', {more}")
}

fn notice(database: &str) -> Notice {
    let time = "2026-11-20T15:30:00Z".parse().unwrap();
    let mut notice = Notice::new(Event::Failure, database, "db1", time, format!("The backup of {database} failed"));
    notice.details = "first\n.\n..dots\nRCPT TO:<evil@example.org>".to_owned();
    notice
}

/// The text of RFC 2047 words and of a body, by Python's own mail parser.
fn parsed(mail: &sink::Mail) -> (String, String) {
    let script = "import sys,email,email.policy,json\n\
                  m=email.message_from_bytes(sys.stdin.buffer.read(),policy=email.policy.default)\n\
                  print(json.dumps([m['subject'],m.get_content()]))";
    let mut python = std::process::Command::new("python3")
        .args(["-c", script])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut python.stdin.take().unwrap(), mail.data.as_bytes()).unwrap();
    let (subject, body): (String, String) = serde_json::from_slice(&python.wait_with_output().unwrap().stdout).unwrap();
    (subject, body.replace("\r\n", "\n"))
}

#[tokio::test]
async fn a_mail_arrives_as_it_was_meant() {
    let sink = SmtpSink::start(Behaviour::default()).await;
    let channel = email(&sink, "smtp", "starttls = false");
    channel.send(&notice("shöp 😀")).await.unwrap();
    let mail = sink.one();
    let commands: Vec<_> = mail.commands.iter().map(String::as_str).collect();
    assert_eq!(
        commands[1..],
        ["MAIL FROM:<copal@example.org>", "RCPT TO:<a@example.org>", "RCPT TO:<b@example.org>", "DATA"]
    );
    assert_eq!(mail.header("From"), "Copal <copal@example.org>");
    assert_eq!(mail.header("To"), "a@example.org, Ops <b@example.org>");
    assert_eq!(mail.header("Date"), "Fri, 20 Nov 2026 15:30:00 +0000");
    assert_eq!(mail.header("Auto-Submitted"), "auto-generated");
    assert!(mail.header("Message-ID").ends_with("@example.org>"));
    let (subject, body) = parsed(&mail);
    assert_eq!(subject, "[copal] The backup of shöp 😀 failed");
    assert_eq!(
        body,
        "first\n.\n..dots\nRCPT TO:<evil@example.org>\n\nDatabase: shöp 😀\nHost: db1\nTime: 2026-11-20 15:30:00 UTC\n"
    );
    channel.send(&notice("plain")).await.unwrap();
    let again = sink.one();
    assert!(parsed(&again).1.contains("\n.\n..dots\n"));
    assert_ne!(mail.header("Message-ID"), again.header("Message-ID"));
}

#[tokio::test]
async fn no_name_becomes_a_header_or_a_command() {
    let sink = SmtpSink::start(Behaviour::default()).await;
    let channel = email(&sink, "smtp", "starttls = false");
    channel.send(&notice("shop")).await.unwrap();
    let names = |mail: &sink::Mail| {
        mail.headers().iter().map(|line| line.split(':').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let expected = names(&sink.one());
    for hostile in [
        "x\r\nBcc: evil@example.org",
        "x\nBcc: evil@example.org\n\nbody",
        "x\r\n.\r\nMAIL FROM:<evil@example.org>\r\n",
        "é\r\nBcc: evil@example.org",
        "x\u{2028}Bcc: evil@example.org\u{85}Bcc: y\0\u{b}",
        "=?utf-8?q?=0d=0aBcc:_evil?= \"quoted\" <a@b> (c), d;",
        &format!("{}\r\nBcc: evil@example.org", "long ".repeat(500)),
    ] {
        channel.send(&notice(hostile)).await.unwrap();
        let mail = sink.one();
        assert_eq!(names(&mail), expected, "{hostile:?}");
        assert_eq!(mail.commands.iter().filter(|line| line.starts_with("RCPT")).count(), 2);
        assert!(mail.data.lines().all(|line| line.len() <= 998));
        let (subject, _) = parsed(&mail);
        assert!(subject.starts_with("[copal] The backup of ") && !subject.contains(char::is_control), "{subject:?}");
        assert!(!hostile.starts_with("=?") || subject.contains("=0d=0aBcc"), "{subject:?}");
    }
}

#[tokio::test]
async fn starttls_comes_before_login_and_mail() {
    let sink = SmtpSink::start(Behaviour { starttls: true, login: Some(LOGIN), ..Behaviour::default() }).await;
    let channel = email(&sink, "smtp", &with_login(&format!("ca = '{CERTIFICATE}'")));
    channel.send(&notice("shop")).await.unwrap();
    let mail = sink.one();
    assert!(mail.was_encrypted);
    let words: Vec<_> = mail.commands.iter().map(|line| line.split([' ', ':']).next().unwrap()).collect();
    assert_eq!(words, ["EHLO", "STARTTLS", "EHLO", "AUTH", "MAIL", "RCPT", "RCPT", "DATA"]);
}

#[tokio::test]
async fn tls_from_the_start() {
    let sink = SmtpSink::start(Behaviour { implicit: true, login: Some(LOGIN), ..Behaviour::default() }).await;
    email(&sink, "smtps", &with_login(&format!("ca = '{CERTIFICATE}'"))).send(&notice("shop")).await.unwrap();
    assert!(sink.one().was_encrypted);
}

/// Sends, and looks that nothing secret shows in the error.
async fn refusal(channel: &Channel) -> NotifyError {
    let error = channel.send(&notice("shop")).await.unwrap_err();
    let shown = format!("{error} {error:?} {channel:?}");
    let plain = base64(format!("\0{LOGIN}").as_bytes());
    assert!(!shown.contains("hush") && !shown.contains(&plain), "{shown}");
    error
}

#[tokio::test]
async fn without_trusted_tls_nothing_is_said() {
    // No STARTTLS on offer, as somebody in between would have it.
    let stripped = SmtpSink::start(Behaviour { login: Some(LOGIN), ..Behaviour::default() }).await;
    let error = refusal(&email(&stripped, "smtp", &with_login("timeout = '10s'"))).await;
    assert_eq!(error.kind(), NotifyErrorKind::Refused);
    assert!(error.to_string().contains("no STARTTLS"), "{error}");
    // A certificate that nobody vouches for.
    for (scheme, implicit) in [("smtp", false), ("smtps", true)] {
        let behaviour = Behaviour { starttls: !implicit, implicit, login: Some(LOGIN), ..Behaviour::default() };
        let unknown = SmtpSink::start(behaviour).await;
        let error = refusal(&email(&unknown, scheme, &with_login("timeout = '10s'"))).await;
        assert_eq!(error.kind(), NotifyErrorKind::Unreachable, "{error}");
        assert!(unknown.commands().iter().all(|line| !line.starts_with("AUTH") && !line.starts_with("MAIL")));
    }
    assert!(stripped.commands().iter().all(|line| !line.starts_with("AUTH") && !line.starts_with("MAIL")));
}

#[tokio::test]
async fn answers_are_told_apart() {
    use NotifyErrorKind::{Refused, Unavailable};
    for (word, answer, kind, status) in [
        ("", "421 too busy", Unavailable, 421),
        ("EHLO", "421 too busy", Unavailable, 421),
        ("MAIL", "451 try later", Unavailable, 451),
        ("RCPT", "550 5.1.1 no such user", Refused, 550),
        ("DATA", "554 no", Refused, 554),
        (".", "452 disk full", Unavailable, 452),
        (".", "554 5.7.1 looks like spam", Refused, 554),
        ("AUTH", "454 later", Unavailable, 454),
        ("AUTH", "535 5.7.8 wrong: hush-hush", Refused, 535),
        ("AUTH", "535 you sent AHVzZXJAeABodXNoLWh1c2g=", Refused, 535),
    ] {
        let behaviour = Behaviour { login: Some(LOGIN), answers: vec![(word, answer)], ..Behaviour::default() };
        let sink = SmtpSink::start(behaviour).await;
        let error = refusal(&email(&sink, "smtp", &with_login("starttls = false"))).await;
        assert_eq!((error.kind(), error.status), (kind, Some(status)), "{word} {answer}: {error}");
        assert_eq!(error.is_retryable(), kind == Unavailable);
        assert!(error.to_string().starts_with(&format!("email (smtp://localhost:{}): ", sink.port)), "{error}");
    }
    let sink = SmtpSink::start(Behaviour { answers: vec![("RCPT", "550 no such user")], ..Behaviour::default() }).await;
    let shown = refusal(&email(&sink, "smtp", "starttls = false")).await.to_string();
    assert!(shown.ends_with("not accepted: permanent error (550): no such user"), "{shown}");
}

#[tokio::test]
async fn an_accepted_mail_is_sent_however_the_farewell_goes() {
    let behaviour = Behaviour { answers: vec![("QUIT", "500 rude")], ..Behaviour::default() };
    let sink = SmtpSink::start(behaviour).await;
    email(&sink, "smtp", "starttls = false").send(&notice("shop")).await.unwrap();
    assert_eq!(sink.mails(), 1);
}

#[tokio::test]
async fn who_hangs_or_is_not_there_may_be_tried_again() {
    for hang_at in ["", "EHLO", "DATA", "."] {
        let sink = SmtpSink::start(Behaviour { hang_at: Some(hang_at), ..Behaviour::default() }).await;
        let channel = email(&sink, "smtp", "starttls = false").with_timeout(Duration::from_millis(150));
        let error = refusal(&channel).await;
        assert_eq!((error.kind(), error.is_retryable()), (NotifyErrorKind::TimedOut, true), "{hang_at}: {error}");
    }
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let text = format!("v = {{ url = 'smtp://127.0.0.1:{port}', from = 'a@b.org', to = 'c@d.org', starttls = false }}");
    let channel = Channel::parse("email", &text.parse::<toml::Table>().unwrap()["v"]).unwrap();
    let error = refusal(&channel).await;
    assert_eq!((error.kind(), error.is_retryable()), (NotifyErrorKind::Unreachable, true), "{error}");
}
