//! The page: the files of `web/`, which are part of the program.
//!
//! A name is only ever looked up among the names that were there when the program was built; nothing is read from a disk. The page
//! holds no data, so it asks for no token: what it shows, it asks the API for.

use std::collections::BTreeMap;
use std::sync::{LazyLock, OnceLock};

use aws_lc_rs::digest;
use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use flate2::Compression;

use super::answer::Problem;
use super::extract::Path;
use super::{compress, etag};

/// Made by the build script: every file by its name.
static FILES: &[(&str, &[u8])] = &include!(concat!(env!("OUT_DIR"), "/page_files.rs"));
static PAGE: LazyLock<BTreeMap<&str, File>> =
    LazyLock::new(|| FILES.iter().map(|(name, content)| (*name, File::new(name, content))).collect());

const INDEX: &str = "index.html";
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// `/` and `/page/…`, without anything about who may ask.
pub(crate) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new().route("/", get(index)).route("/page/{*file}", get(file))
}

async fn index(headers: HeaderMap) -> Response {
    answer(INDEX, &headers)
}

async fn file(Path(name): Path<String>, headers: HeaderMap) -> Response {
    answer(&name, &headers)
}

fn answer(name: &str, headers: &HeaderMap) -> Response {
    match PAGE.get(name) {
        Some(file) => file.answer(headers),
        None => Problem::not_found("the page has no such file").into_response(),
    }
}

struct File {
    kind: &'static str,
    plain: &'static [u8],
    hash: String,
    compressed: OnceLock<Option<Bytes>>,
}

impl File {
    fn new(name: &str, plain: &'static [u8]) -> Self {
        let hash = digest::digest(&digest::SHA256, plain);
        let hash = hash.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        Self { kind: kind(name), plain, hash, compressed: OnceLock::new() }
    }

    fn answer(&self, headers: &HeaderMap) -> Response {
        let compressed = compress::takes_gzip(headers).then(|| self.compressed()).flatten();
        // Other bytes have another tag.
        let tag = match compressed {
            Some(_) => format!("\"{}-gzip\"", self.hash),
            None => format!("\"{}\"", self.hash),
        };
        let is_known = etag::is_known(headers, &tag);
        let common = [
            (header::ETAG, tag.as_str()),
            (header::CACHE_CONTROL, "no-cache"),
            (header::VARY, "accept-encoding"),
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        ];
        let kind = [(header::CONTENT_TYPE, self.kind)];
        match compressed {
            _ if is_known => (StatusCode::NOT_MODIFIED, common).into_response(),
            Some(compressed) => {
                (common, kind, [(header::CONTENT_ENCODING, "gzip")], compressed.clone()).into_response()
            }
            None => (common, kind, Bytes::from_static(self.plain)).into_response(),
        }
    }

    /// With gzip, as small as it gets, since it is done once.
    fn compressed(&self) -> Option<&Bytes> {
        let compress = || compress::smaller(self.plain, Compression::best()).map(Bytes::from);
        self.compressed.get_or_init(compress).as_ref()
    }
}

/// The type that goes with a name; `nosniff` has browsers go by it.
fn kind(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("ico") => "image/x-icon",
        Some("woff2") => "font/woff2",
        _ => "text/plain; charset=utf-8",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_whole_and_nothing_else_is_in_it() {
        assert_eq!(PAGE.len(), FILES.len());
        assert_eq!(PAGE[INDEX].kind, "text/html; charset=utf-8");
        for (name, content) in FILES {
            assert!(!content.is_empty(), "{name}");
            let first = name.split('/').next().unwrap();
            assert!(!["tests", "dev", "node_modules", ".."].contains(&first) && !first.is_empty(), "{name}");
            assert!(!name.contains('\\') && !name.contains("//"), "{name}");
        }
    }

    /// What stands between quotes after one of these words.
    fn quoted_after<'a>(text: &'a str, words: &'a [&'a str]) -> impl Iterator<Item = &'a str> {
        let after = words.iter().flat_map(|word| text.split(word).skip(1));
        after.filter_map(|rest| {
            let quote = rest.chars().next().filter(|first| ['"', '\''].contains(first))?;
            rest[1..].split(quote).next()
        })
    }

    #[test]
    fn what_the_page_loads_is_there() {
        for (name, content) in FILES {
            let Ok(text) = std::str::from_utf8(content) else { continue };
            let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
            let words: &[&str] = match name.rsplit_once('.').map(|(_, extension)| extension) {
                Some("html") => &["src=", "href="],
                Some("js") if !name.starts_with("vendor/") => &[" from ", "import ", "import("],
                _ => continue,
            };
            for loaded in quoted_after(text, words) {
                let path = match loaded.strip_prefix("/page/") {
                    Some(path) => path.to_owned(),
                    None if loaded.starts_with('.') => resolved(folder, loaded),
                    None => continue,
                };
                assert!(PAGE.contains_key(path.as_str()), "{name} loads {loaded:?}");
            }
        }
    }

    fn resolved(folder: &str, path: &str) -> String {
        let mut parts: Vec<_> = folder.split('/').filter(|part| !part.is_empty()).collect();
        for part in path.split('/') {
            match part {
                "." => {}
                ".." => drop(parts.pop()),
                part => parts.push(part),
            }
        }
        parts.join("/")
    }
}
