//! Smaller answers for whoever takes gzip.
//!
//! Every answer that is worth it lies in memory as a whole already, and files are compressed once and not for each request: so this
//! compresses bytes and no streams. Events are never held back.

use std::io::{self, Write};

use axum::body::{Body, HttpBody, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::write::GzEncoder;

use super::answer::Problem;
use super::etag;

/// Smaller answers fit into one packet anyway.
const WORTH_IT: u64 = 1024;
/// What takes longer must not hold up others.
const LONG: usize = 64 * 1024;
/// JSON is compressed for each request, and most of what can be saved is saved quickly.
const QUICK: Compression = Compression::new(3);

/// Compresses JSON above a kilobyte.
pub(super) async fn json(request: Request, next: Next) -> Response {
    let takes_gzip = takes_gzip(request.headers());
    let mut response = next.run(request).await;
    let kind = response.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    if !kind.is_some_and(|kind| kind.starts_with(b"application/json")) || is_encoded(&response) {
        return response;
    }
    response.headers_mut().append(header::VARY, HeaderValue::from_static("accept-encoding"));
    let length = response.body().size_hint().exact();
    if !takes_gzip || length.is_none_or(|length| length < WORTH_IT) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    // It is there as a whole, as its length is known.
    let Ok(plain) = to_bytes(body, usize::MAX).await else { return Problem::panicked().into_response() };
    let compressed = match plain.len() {
        0..LONG => smaller(&plain, QUICK),
        _ => {
            let plain = plain.clone();
            tokio::task::spawn_blocking(move || smaller(&plain, QUICK)).await.ok().flatten()
        }
    };
    let Some(compressed) = compressed else { return Response::from_parts(parts, Body::from(plain)) };
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    etag::weaken(&mut parts.headers);
    Response::from_parts(parts, Body::from(compressed))
}

fn is_encoded(response: &Response) -> bool {
    response.headers().contains_key(header::CONTENT_ENCODING)
}

/// The same with gzip, if that is less.
pub(super) fn smaller(plain: &[u8], level: Compression) -> Option<Vec<u8>> {
    let compress = || -> io::Result<Vec<u8>> {
        let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 3), level);
        encoder.write_all(plain)?;
        encoder.finish()
    };
    // Nothing can fail in memory; if it did, the answer would go out as it is.
    compress().ok().filter(|compressed| compressed.len() < plain.len())
}

/// Whether a client takes gzip: by its name, else by `*` (RFC 9110, 12.5.3).
pub(super) fn takes_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT_ENCODING).into_iter();
    let mut any = false;
    for item in values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')) {
        let (name, weight) = item.split_once(';').unwrap_or((item, ""));
        let weight = weight.trim();
        let is_taken = match weight.strip_prefix("q=").or_else(|| weight.strip_prefix("Q=")) {
            Some(weight) => weight.trim().parse::<f32>().is_ok_and(|weight| weight > 0.0),
            None => weight.is_empty(),
        };
        match name.trim() {
            name if name.eq_ignore_ascii_case("gzip") => return is_taken,
            "*" => any = is_taken,
            _ => {}
        }
    }
    any
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;

    #[test]
    fn what_a_client_takes_is_what_it_says() {
        let takes = |value: &str| {
            takes_gzip(&HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_str(value).unwrap())]))
        };
        for value in
            ["gzip", "GZIP", "gzip, deflate, br, zstd", "br;q=1.0, gzip;q=0.8", "*", "gzip ; q=0.001", "*;q=0, gzip"]
        {
            assert!(takes(value), "{value}");
        }
        for value in ["", "br", "identity", "gzip;q=0", "*, gzip;q=0", "*;q=0", "gzip;q=x", "gzip;level=1", "xgzip"] {
            assert!(!takes(value), "{value}");
        }
        assert!(!takes_gzip(&HeaderMap::new()));
    }

    #[test]
    fn it_is_the_same_again_and_only_if_it_is_less() {
        let text = "the same again and again, ".repeat(1_000);
        let compressed = smaller(text.as_bytes(), QUICK).unwrap();
        assert!(compressed.len() < text.len() / 10);
        let mut again = String::new();
        GzDecoder::new(&compressed[..]).read_to_string(&mut again).unwrap();
        assert_eq!(again, text);
        assert_eq!(smaller(b"", QUICK), None);
        assert_eq!(smaller(b"x", QUICK), None);
    }
}
