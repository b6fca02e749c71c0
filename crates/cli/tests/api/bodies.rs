//! Bodies without end, and those that do not come.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use crate::served::{PATIENCE, Served, home, token};

/// Sends the header of a request with this line in it.
fn begin(served: &Served, path: &str, token: &str, line: &str) -> TcpStream {
    let mut stream = TcpStream::connect(served.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let header = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n{line}\r\n\r\n"
    );
    stream.write_all(header.as_bytes()).unwrap();
    stream
}

/// The status, and all that comes until the connection ends.
fn answer(mut stream: TcpStream) -> (u16, String) {
    let mut bytes = Vec::new();
    // A reset is an end, too.
    if let Err(error) = stream.read_to_end(&mut bytes) {
        assert_ne!(error.kind(), ErrorKind::WouldBlock, "the connection stays open");
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    (text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0), text)
}

#[test]
fn what_has_no_end_is_cut_off_and_what_does_not_come_is_not_waited_for() {
    let home = home("");
    home.good(&["init", "--no-encrypt"]);
    home.good(&["backup", "shop"]);
    let token = token(&home, "ops", "operator");
    let served = Served::start(&home, &[], &[]);
    let silent = begin(&served, "/api/databases/shop/verify", &token, "Content-Length: 10");

    // With a handler that reads the body, and with one that does not.
    for path in ["/api/databases/shop/verify", "/api/databases/shop/changed"] {
        let mut endless = begin(&served, path, &token, "Transfer-Encoding: chunked");
        let chunk = format!("1000\r\n{}\r\n", " ".repeat(0x1000));
        let mut sent = 0_u64;
        while endless.write_all(chunk.as_bytes()).is_ok() {
            sent += 0x1000;
            assert!(sent < 1 << 30, "{path}: it is read without end");
        }
    }
    let (status, text) = answer(begin(&served, "/api/databases/shop/verify", &token, "Content-Length: 99999999"));
    assert_eq!(status, 413, "{text}");
    // Two lengths are none.
    let smuggled = "Content-Length: 2\r\nTransfer-Encoding: chunked\r\nConnection: close";
    let mut both = begin(&served, "/api/databases/shop/verify", &token, smuggled);
    let _ = both.write_all(b"0\r\n\r\n{}GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    let (status, text) = answer(both);
    assert!((400..500).contains(&status) && text.matches("HTTP/1.1").count() == 1, "{text}");

    let (status, text) = answer(silent);
    assert_eq!(status, 408, "{text}");
    assert!(text.contains("\"error\""), "{text}");
}
