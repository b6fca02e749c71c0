//! As much of HTTP/1.1 as it takes to ask the daemon.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// No answer takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Answer {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}

/// Asks once, with an empty body.
pub(crate) fn ask(address: SocketAddr, method: &str, path: &str) -> io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nAccept: */*\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )?;
    read(&mut BufReader::new(stream))
}

fn read(stream: &mut impl BufRead) -> io::Result<Answer> {
    let status = line(stream)?;
    let status = status.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(|| unexpected(&status))?;
    let (mut length, mut is_chunked) = (None, false);
    loop {
        let header = line(stream)?;
        if header.is_empty() {
            break;
        }
        let (name, value) = header.split_once(':').ok_or_else(|| unexpected(&header))?;
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = Some(value.trim().parse().map_err(|_| unexpected(&header))?),
            "transfer-encoding" => is_chunked = value.trim().eq_ignore_ascii_case("chunked"),
            _ => {}
        }
    }
    let mut body = Vec::new();
    match length {
        _ if is_chunked => chunks(stream, &mut body)?,
        Some(length) => exactly(stream, length, &mut body)?,
        None => drop(stream.read_to_end(&mut body)?),
    }
    let body = String::from_utf8(body).map_err(|_| unexpected("a body that is no text"))?;
    Ok(Answer { status, body })
}

fn chunks(stream: &mut impl BufRead, body: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let size = line(stream)?;
        let length = size.split(';').next().and_then(|size| u64::from_str_radix(size.trim(), 16).ok());
        match length.ok_or_else(|| unexpected(&size))? {
            0 => return Ok(()),
            length => exactly(stream, length, body)?,
        }
        line(stream)?;
    }
}

fn exactly(stream: &mut impl BufRead, length: u64, body: &mut Vec<u8>) -> io::Result<()> {
    match stream.take(length).read_to_end(body)? as u64 == length {
        true => Ok(()),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    match stream.read_line(&mut line)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(line.trim_end().to_owned()),
    }
}

fn unexpected(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("no HTTP: {what}"))
}

#[test]
fn bodies_are_read_by_their_length_in_chunks_or_to_the_end() {
    for answer in [
        "HTTP/1.1 202 Accepted\r\ncontent-length: 8\r\n\r\n{\"a\": 1}and more",
        "HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{\"a\r\n5;x=y\r\n\": 1}\r\n0\r\n\r\n",
        "HTTP/1.1 202 Accepted\r\n\r\n{\"a\": 1}",
    ] {
        let answer = read(&mut answer.as_bytes()).unwrap();
        assert_eq!((answer.status, answer.json()["a"].as_u64()), (202, Some(1)));
    }
    for broken in ["", "220 ftp", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", "HTTP/1.1 200 OK\r\n"] {
        assert!(read(&mut broken.as_bytes()).is_err(), "{broken}");
    }
}
