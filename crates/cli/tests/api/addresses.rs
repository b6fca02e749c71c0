//! Where it listens, and with which certificate.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use crate::served::{PATIENCE, Served, TLS, certificate, home, token};

#[test]
fn a_public_address_without_a_token_is_refused() {
    let home = home("");
    home.good(&["init", "--no-encrypt"]);
    for listen in ["0.0.0.0:0", "[::]:0", "[::ffff:0.0.0.0]:0", "192.0.2.1:0"] {
        let run = home.run(&["serve", "--config", "copal.toml", "--listen", listen]);
        assert_eq!(run.code, 2, "{}", run.page());
        assert!(run.stderr.contains("copal token add") && !run.stderr.contains("listening"), "{}", run.stderr);
    }
    // The same in the configuration.
    let text = fs::read_to_string(home.path("copal.toml")).unwrap();
    home.write("copal.toml", &text.replace("127.0.0.1:0", "0.0.0.0:0"));
    assert_eq!(home.run(&["serve", "--config", "copal.toml"]).code, 2);

    token(&home, "ops", "viewer");
    let served = Served::start(&home, &[], &[]);
    assert!(served.url.starts_with("http://0.0.0.0:"), "{}", served.url);
    assert!(served.log().contains("without TLS"), "{}", served.log());
}

#[tokio::test]
async fn with_a_certificate_only_tls_is_spoken() {
    let home = home(TLS);
    home.good(&["init", "--no-encrypt"]);
    home.good(&["backup", "shop"]);
    let client = certificate(&home);
    let token = token(&home, "ops", "viewer");
    let served = Served::start(&home, &[], &[]);
    assert!(served.url.starts_with("https://127.0.0.1:"), "{}", served.url);
    let address = format!("{}/api/databases", served.url);
    let answer = client.get(&address).bearer_auth(&token).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.text().await.unwrap().contains("\"shop\""));
    assert_eq!(client.get(&address).send().await.unwrap().status(), 401);
    // Who does not know the certificate does not talk to it.
    assert!(served.ask(reqwest::Method::GET, "/healthz", &token).send().await.unwrap_err().is_connect());
    let mut plain = TcpStream::connect(served.address()).unwrap();
    plain.set_read_timeout(Some(PATIENCE)).unwrap();
    plain.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut said = Vec::new();
    // A reset is an end, too.
    let _ = plain.read_to_end(&mut said);
    assert!(!String::from_utf8_lossy(&said).contains("HTTP/1.1"));
}
