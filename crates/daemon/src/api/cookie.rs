//! The cookie of a session.

use axum::http::{HeaderMap, header};

pub(super) const NAME: &str = "copal_session";
/// As many digits as an id has.
const DIGITS: usize = 64;

/// The id of the session in a request's cookies. Two of them are none: somebody who may set one of them must not choose.
pub(super) fn session(headers: &HeaderMap) -> Option<&str> {
    // Cookies of other programs on this host may hold anything, so this looks at bytes.
    let values = headers.get_all(header::COOKIE).into_iter();
    let mut found = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b';')).filter_map(|cookie| {
        let (name, value) = cookie.split_at_checked(cookie.iter().position(|byte| *byte == b'=')?)?;
        (name.trim_ascii() == NAME.as_bytes()).then_some(value)
    });
    let value = found.next()?.strip_prefix(b"=")?.trim_ascii();
    let is_id = value.len() == DIGITS && value.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if found.next().is_some() || !is_id {
        return None;
    }
    std::str::from_utf8(value).ok()
}

/// What makes a browser keep it, until it is closed.
pub(super) fn set(id: &str, is_secure: bool) -> String {
    let secure = if is_secure { "; Secure" } else { "" };
    format!("{NAME}={id}; HttpOnly; SameSite=Strict; Path=/{secure}")
}

/// What makes a browser forget it.
pub(super) fn removed(is_secure: bool) -> String {
    format!("{}; Max-Age=0", set("", is_secure))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn found(values: &[&[u8]]) -> Option<String> {
        let values = values.iter().map(|value| (header::COOKIE, HeaderValue::from_bytes(value).unwrap()));
        session(&values.collect()).map(str::to_owned)
    }

    #[test]
    fn an_id_is_found_among_other_cookies() {
        let id = "0123456789abcdef".repeat(4);
        let own = format!("copal_session={id}");
        for text in [
            own.clone(),
            format!("a=b; {own}"),
            format!("{own};a=b"),
            format!(";;  {own}  ;; x"),
            format!("copal_session_2=x; xcopal_session=y; {own}; COPAL_SESSION=z"),
            format!("a=\"copal_session\"; {own}"),
        ] {
            assert_eq!(found(&[text.as_bytes()]), Some(id.clone()), "{text}");
        }
        assert_eq!(found(&[b"a=b", own.as_bytes()]), Some(id.clone()));
        assert_eq!(found(&[&[b"a=\xff\xfe; ", own.as_bytes()].concat()]), Some(id));
    }

    #[test]
    fn what_is_no_id_or_more_than_one_is_none() {
        let id = "0123456789abcdef".repeat(4);
        let own = format!("copal_session={id}");
        for text in [
            String::new(),
            "copal_session".to_owned(),
            "copal_session=".to_owned(),
            format!("copal_session={}", &id[1..]),
            format!("{own}0"),
            format!("copal_session=\"{id}\""),
            format!("copal_session={}", id.to_uppercase()),
            format!("copal_session=={}", &id[1..]),
            format!("{own}; {own}"),
            format!("{own}; copal_session=x"),
            format!("copal_session=x; {own}"),
            format!("a={own}"),
        ] {
            assert_eq!(found(&[text.as_bytes()]), None, "{text}");
        }
        assert_eq!(found(&[own.as_bytes(), own.as_bytes()]), None);
        assert_eq!(found(&[]), None);
    }

    #[test]
    fn scripts_and_other_sites_do_not_get_it() {
        assert_eq!(set("x", false), "copal_session=x; HttpOnly; SameSite=Strict; Path=/");
        assert_eq!(set("x", true), "copal_session=x; HttpOnly; SameSite=Strict; Path=/; Secure");
        assert_eq!(removed(true), "copal_session=; HttpOnly; SameSite=Strict; Path=/; Secure; Max-Age=0");
    }
}
