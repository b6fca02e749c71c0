//! What a client has already.

use axum::http::{HeaderMap, HeaderValue, header};

/// Whether a client says that it has what this tag stands for, compressed or not.
pub(super) fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let values = headers.get_all(header::IF_NONE_MATCH).into_iter();
    let mut tags = values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    tags.any(|known| known.trim() == "*" || opaque(known.trim()) == opaque(tag))
}

/// Makes a tag that stands for certain bytes stand for what they say: the bytes are others when they are compressed.
pub(super) fn weaken(headers: &mut HeaderMap) {
    let Some(tag) = headers.get(header::ETAG).and_then(|tag| tag.to_str().ok()) else { return };
    if let Ok(weak) = HeaderValue::try_from(format!("W/{}", opaque(tag))) {
        headers.insert(header::ETAG, weak);
    }
}

fn opaque(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(value: &str) -> bool {
        let headers = HeaderMap::from_iter([(header::IF_NONE_MATCH, value.parse().unwrap())]);
        is_known(&headers, "\"a-1\"")
    }

    #[test]
    fn a_client_names_what_it_has() {
        for value in ["\"a-1\"", "W/\"a-1\"", "\"x\", \"a-1\"", "\"x\",W/\"a-1\"", "*"] {
            assert!(known(value), "{value}");
        }
        for value in ["", "\"a\"", "a-1", "\"A-1\"", "w/\"a-1\"", "\"a-1"] {
            assert!(!known(value), "{value}");
        }
        assert!(!is_known(&HeaderMap::new(), "\"a-1\""));
    }

    #[test]
    fn a_tag_is_weakened_once() {
        let mut headers = HeaderMap::new();
        weaken(&mut headers);
        assert!(headers.is_empty());
        headers.insert(header::ETAG, "\"a\"".parse().unwrap());
        for _ in 0..2 {
            weaken(&mut headers);
            assert_eq!(headers[header::ETAG], "W/\"a\"");
        }
    }
}
