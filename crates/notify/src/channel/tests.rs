//! Configurations, and what is never shown.

use super::*;

fn parse(channel: &str, text: &str) -> Result<Channel> {
    let table: toml::Table = format!("value = {text}").parse().unwrap();
    Channel::parse(channel, &table["value"])
}

#[test]
fn each_form_is_read_and_shows_scheme_and_host_only() {
    for (channel, text, place) in [
        ("webhook", r#""https://example.org:8443/hush?token=hush""#, "https://example.org:8443"),
        ("webhook", r#"{ url = "http://u:hush@h/hush", headers = { X-A = "hush" }, secret = "hush" }"#, "http://h"),
        ("slack", r#""https://hooks.slack.com/services/hush""#, "https://hooks.slack.com"),
        ("discord", r#"{ url = "https://discord.com/api/webhooks/1/hush", timeout = "3s" }"#, "https://discord.com"),
        ("telegram", r#"{ token = "1:hush", chat = -100 }"#, "https://api.telegram.org"),
        ("telegram", r#"{ token = "1:hush", chat = "@ops", url = "http://[::1]:8081/x" }"#, "http://[::1]:8081"),
        ("ntfy", r#""hush""#, "https://ntfy.sh"),
        ("ntfy", r#""https://ntfy.example.org/hush""#, "https://ntfy.example.org"),
        ("ntfy", r#"{ url = "https://h", topic = "hush", token = "hush", priority = 5 }"#, "https://h"),
        ("email", r#"{ url = "smtps://hush:hush@mail", from = "a@b.org", to = "c@d.org" }"#, "smtps://mail:465"),
        ("email", r#"{ url = "smtp://mail", from = "A <a@b.org>", to = ["c@d.org"] }"#, "smtp://mail:587"),
        ("email", r#"{ url = "smtp://mail", from = "a@b.org", to = "c@d.org", starttls = false }"#, "smtp://mail:25"),
        ("exec", r#""tell hush""#, "sh"),
        ("exec", r#"["/usr/bin/tell", "hush"]"#, "tell"),
        ("exec", r#"{ command = ["tell", "hush"], timeout = "1m" }"#, "tell"),
        ("healthcheck", r#""https://hc-ping.com/hush""#, "https://hc-ping.com"),
    ] {
        let read = parse(channel, text).unwrap();
        assert_eq!((read.name(), read.place().as_str()), (channel, place), "{text}");
        assert_eq!(format!("{read:?}"), format!("Channel({channel} {place})"));
        assert_eq!(read.is_heartbeat(), channel == "healthcheck");
    }
    assert_eq!(parse("exec", r#"{ command = "x", timeout = "1m" }"#).unwrap().timeout, Duration::from_secs(60));
}

#[test]
fn mistakes_are_named_without_their_values() {
    for (channel, text, expected) in [
        ("webhook", r#""hush""#, "webhook: the URL cannot be read: relative URL without a base"),
        ("webhook", r#""ftp://hush/""#, "webhook: the URL must begin with https:// or http://"),
        ("webhook", r#"{ url = "https://hush", token = "hush" }"#, "webhook: \"token\" is no key of it"),
        (
            "webhook",
            r#"{ url = "https://h", headers = { "a b" = "hush" } }"#,
            "webhook: the header \"a b\" cannot be sent",
        ),
        ("webhook", r#"{ url = "https://h", headers = { a = "hush\n" } }"#, "webhook: the header \"a\" cannot be sent"),
        (
            "webhook",
            r#"{ url = "https://h", headers = { Host = "hush" } }"#,
            "webhook: the header \"Host\" cannot be sent",
        ),
        ("webhook", "{}", "webhook: \"url\" is missing"),
        ("webhook", "1", "webhook: must be a text or a table"),
        ("slack", r#"["hush"]"#, "slack: must be a URL or a table"),
        ("slack", r#"" ""#, "slack: is empty"),
        ("discord", r#"{ url = "https://h", timeout = "hush" }"#, "discord: \"timeout\": \"hush\" is not a duration"),
        ("discord", r#"{ url = "https://h", timeout = "0s" }"#, "discord: \"timeout\" must be longer than nothing"),
        ("telegram", r#""hush""#, "telegram: must be a table"),
        ("telegram", "{ chat = 1 }", "telegram: \"token\" is missing"),
        ("telegram", r#"{ token = "hush/x", chat = 1 }"#, "telegram: \"token\" is no token of a bot"),
        ("telegram", r#"{ token = "hush" }"#, "telegram: \"chat\" must be a number or a name such as \"@channel\""),
        ("ntfy", r#""a b""#, "ntfy: the topic must be"),
        ("ntfy", r#""https://ntfy.sh""#, "ntfy: \"topic\" is missing"),
        ("ntfy", r#"{ topic = "t", priority = 6 }"#, "ntfy: \"priority\" must be a number from 1 to 5"),
        ("ntfy", r#"{ topic = "t", token = "hush\n" }"#, "ntfy: \"token\" cannot be sent"),
        ("email", r#""hush@example.org""#, "email: must be a table"),
        ("email", r#"{ url = "https://hush" }"#, "email: \"url\" must begin with smtps:// or smtp://"),
        ("email", r#"{ url = "smtp://h/hush" }"#, "email: \"url\" must be no more than"),
        ("email", r#"{ url = "smtps://h", starttls = true }"#, "email: \"starttls\" is for smtp://"),
        ("email", r#"{ url = "smtps://u@h" }"#, "email: \"password\" is missing"),
        ("email", r#"{ url = "smtps://h", password = "hush" }"#, "email: \"user\" is missing"),
        ("email", r#"{ url = "smtp://u:hush@h", starttls = false }"#, "email: a password is not sent without TLS"),
        ("email", r#"{ url = "smtps://h", from = "hush", to = "a@b" }"#, "email: \"from\" is no address"),
        ("email", r#"{ url = "smtps://h", from = "a@b" }"#, "email: \"to\" is missing"),
        ("email", r#"{ url = "smtps://h", from = "a@b", to = [] }"#, "email: \"to\" must be a text or a list of texts"),
        ("email", r#"{ url = "smtps://h", from = "a@b", to = "a@b\r\nBcc: x@y" }"#, "email: \"to\" is no address"),
        ("exec", "[]", "exec: \"command\" must be a text or a list of texts"),
        ("exec", r#"[""]"#, "exec: \"command\" names no program"),
        ("exec", "{}", "exec: \"command\" is missing"),
        ("healthcheck", "{}", "healthcheck: \"url\" is missing"),
        ("pager", r#""hush""#, "notify: \"pager\" is no channel; channels are webhook, slack,"),
    ] {
        let error = parse(channel, text).unwrap_err();
        let shown = error.to_string();
        assert!(shown.starts_with(expected), "{text}: {shown}");
        assert!(expected.contains("hush") || !format!("{shown}{error:?}").contains("hush"), "{shown}");
        assert_eq!((error.kind(), error.is_retryable()), (NotifyErrorKind::Configuration, false));
    }
}
