//! Serves a folder's folders as buckets, for benchmarks: prints one JSON line and stops when standard input ends.
#![allow(clippy::print_stdout, reason = "what it prints is its purpose")]

use std::io::Read;

use copal_storage::testkit::S3Server;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let folder = std::env::args().nth(1).ok_or_else(|| std::io::Error::other("usage: s3_server FOLDER"))?;
    let server = S3Server::start_in(folder.as_ref()).await?;
    let (endpoint, access, secret) = (&server.endpoint, &server.access_key, server.secret_key.expose());
    println!(r#"{{"endpoint": "{endpoint}", "access_key": "{access}", "secret_key": "{secret}"}}"#);
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    Ok(())
}
