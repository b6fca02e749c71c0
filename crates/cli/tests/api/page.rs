//! The files of the page, and what is compressed.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use flate2::read::GzDecoder;
use reqwest::{Method, Response, header};

use crate::served::{PATIENCE, Served, client, home, token};

const INDEX: &str = include_str!("../../../../web/index.html");
const STYLE: &str = include_str!("../../../../web/style.css");
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

fn unpacked(bytes: &[u8]) -> String {
    let mut text = String::new();
    GzDecoder::new(bytes).read_to_string(&mut text).unwrap();
    text
}

/// Nobody's request.
async fn ask(served: &Served, method: Method, path: &str, headers: &[(header::HeaderName, &str)]) -> Response {
    let mut request = client().request(method, format!("{}{path}", served.url));
    for (name, value) in headers {
        request = request.header(name, *value);
    }
    request.send().await.unwrap()
}

/// The status of a request that is sent as it stands here.
fn raw(served: &Served, path: &str) -> u16 {
    let mut stream = TcpStream::connect(served.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    said.split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn the_page_is_there_for_everybody_with_all_that_keeps_it_safe() {
    let home = home("");
    home.good(&["init", "--no-encrypt"]);
    token(&home, "ops", "viewer");
    let served = Served::start(&home, &[], &[]);
    for (path, kind, content) in
        [("/", "text/html; charset=utf-8", INDEX), ("/page/style.css", "text/css; charset=utf-8", STYLE)]
    {
        let plain = ask(&served, Method::GET, path, &[]).await;
        assert_eq!(plain.status(), 200, "{path}");
        let headers = plain.headers().clone();
        for (name, value) in [
            ("content-type", kind),
            ("content-security-policy", POLICY),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("cache-control", "no-cache"),
            ("vary", "accept-encoding"),
        ] {
            assert_eq!(headers[name], value, "{path} {name}");
        }
        assert!(!headers.contains_key(header::SET_COOKIE) && !headers.contains_key(header::CONTENT_ENCODING));
        assert_eq!(plain.text().await.unwrap(), content);

        let head = ask(&served, Method::HEAD, path, &[]).await;
        assert_eq!(
            (head.status().as_u16(), head.headers()[header::ETAG].clone()),
            (200, headers[header::ETAG].clone())
        );
        assert_eq!(head.headers()[header::CONTENT_LENGTH], content.len().to_string().as_str());
        assert!(head.bytes().await.unwrap().is_empty());

        let tag = headers[header::ETAG].to_str().unwrap();
        let known = ask(&served, Method::GET, path, &[(header::IF_NONE_MATCH, tag)]).await;
        assert_eq!((known.status().as_u16(), known.headers()[header::ETAG].to_str().unwrap()), (304, tag));
        assert_eq!(known.headers()[header::CONTENT_SECURITY_POLICY], POLICY);
        assert!(known.bytes().await.unwrap().is_empty());
        let other = ask(&served, Method::GET, path, &[(header::IF_NONE_MATCH, "\"other\"")]).await;
        assert_eq!(other.status(), 200);

        for method in [Method::POST, Method::PUT, Method::DELETE] {
            let refused = ask(&served, method, path, &[]).await;
            assert_eq!(
                (refused.status().as_u16(), &refused.headers()[header::ALLOW]),
                (405, &"GET,HEAD".parse().unwrap())
            );
        }
        let foreign = ask(&served, Method::GET, path, &[(header::ORIGIN, "http://evil.example")]).await;
        assert_eq!(foreign.status(), 403);
    }
}

#[tokio::test]
async fn only_the_files_of_the_page_are_served() {
    let home = home("");
    home.good(&["init", "--no-encrypt"]);
    let served = Served::start(&home, &[], &[]);
    assert_eq!(raw(&served, "/page/style.css"), 200);
    for path in [
        "/page/",
        "/page",
        "/page/nothing.js",
        "/page/STYLE.CSS",
        "/page//style.css",
        "/page/./style.css",
        "/page/style.css/",
        "/page/style.css%00",
        "/page/tests",
        "/page/dev/index.html",
        "/page/../Cargo.toml",
        "/page/../../Cargo.toml",
        "/page/%2e%2e/Cargo.toml",
        "/page/..%2fCargo.toml",
        "/page/..%5cCargo.toml",
        "/page/%2fetc%2fpasswd",
        "/page//etc/passwd",
        "/page/lib/../style.css",
        "/page/copal.toml",
        "/style.css",
        "/index.html",
    ] {
        assert_eq!(raw(&served, path), 404, "{path}");
    }
    assert_eq!(raw(&served, "/page/%ff"), 400);
}

#[tokio::test]
async fn whoever_takes_gzip_gets_the_same_in_less() {
    // Long enough to be worth it.
    let more: String = (0..200).map(|n| format!("[databases.\"many-{n}\"]\nurl = \"sqlite:shop.db\"\n")).collect();
    let home = home("");
    let configuration = std::fs::read_to_string(home.path("copal.toml")).unwrap();
    home.write("copal.toml", &format!("{more}{configuration}"));
    home.good(&["init", "--no-encrypt"]);
    let token = token(&home, "ops", "viewer");
    let served = Served::start(&home, &[], &[]);
    let bearer = format!("Bearer {token}");
    let asked = [(header::AUTHORIZATION, &*bearer), (header::ACCEPT_ENCODING, "gzip, deflate, br")];
    let late = Instant::now() + PATIENCE;
    loop {
        let plain = ask(&served, Method::GET, "/api/databases", &asked[..1]).await;
        let packed = ask(&served, Method::GET, "/api/databases", &asked).await;
        assert!(!plain.headers().contains_key(header::CONTENT_ENCODING));
        for (name, value) in
            [("content-encoding", "gzip"), ("content-type", "application/json"), ("vary", "accept-encoding")]
        {
            assert_eq!(packed.headers()[name], value);
        }
        assert_eq!(plain.headers()[header::VARY], "accept-encoding");
        // A tag stands for what is said, compressed or not.
        let tag = packed.headers()[header::ETAG].to_str().unwrap().to_owned();
        let known = [asked.as_slice(), &[(header::IF_NONE_MATCH, &*tag)]].concat();
        let known = ask(&served, Method::GET, "/api/databases", &known).await;
        // What is said changes while the daemon looks at its databases for the first time.
        if tag == format!("W/{}", plain.headers()[header::ETAG].to_str().unwrap()) && known.status() == 304 {
            let (plain, packed) = (plain.text().await.unwrap(), packed.bytes().await.unwrap());
            assert_eq!(unpacked(&packed), plain);
            assert!(packed.len() * 3 < plain.len(), "{} {}", packed.len(), plain.len());
            break;
        }
        assert!(Instant::now() < late, "it is never known");
    }
    // What is short stays as it is, and so do events, which must not wait for more.
    for path in ["/api/session", "/api/events"] {
        let answer = ask(&served, Method::GET, path, &asked).await;
        assert_eq!(answer.status(), 200);
        assert!(!answer.headers().contains_key(header::CONTENT_ENCODING), "{path}");
    }
    let path = "/page/style.css";
    let packed = ask(&served, Method::GET, path, &asked[1..]).await;
    let headers = packed.headers().clone();
    assert_eq!(
        (&headers[header::CONTENT_ENCODING], &headers[header::VARY]),
        (&"gzip".parse().unwrap(), &"accept-encoding".parse().unwrap())
    );
    let body = packed.bytes().await.unwrap();
    assert!(unpacked(&body) == STYLE && body.len() < STYLE.len());
    // Other bytes, another tag.
    let plain = ask(&served, Method::GET, path, &[]).await;
    assert_ne!(plain.headers()[header::ETAG], headers[header::ETAG]);
    let known = [asked[1].clone(), (header::IF_NONE_MATCH, headers[header::ETAG].to_str().unwrap())];
    assert_eq!(ask(&served, Method::GET, path, &known).await.status(), 304);
}
