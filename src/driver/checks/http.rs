//! What a web server answers to a GET. HTTP/1.0 on purpose: the answer comes in one piece, and ends with the connection.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::RangeInclusive;
use std::os::fd::AsFd;

use super::Failure;
use super::patience::{Patience, readable};

/// How much of an answer is read: a page about health is short.
const MAX_ANSWER: usize = 64 * 1024;

/// What is asked, and what should be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Where.
    pub address: SocketAddr,
    /// The `Host` header.
    pub host: String,
    /// The path, with its query.
    pub path: String,
    /// Which status codes are well.
    pub status: RangeInclusive<u16>,
    /// What the body must contain.
    pub body: Option<String>,
}

pub(super) fn run(request: &Request, patience: &Patience<'_>) -> Result<String, Failure> {
    let ill = |error: io::Error| Failure::Ill(format!("{}: {error}", request.address));
    let mut stream = TcpStream::connect_timeout(&request.address, patience.timeout()).map_err(ill)?;
    stream.set_write_timeout(Some(patience.timeout())).map_err(ill)?;
    let Request { host, path, .. } = request;
    let asked = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\nUser-Agent: vipd\r\nConnection: close\r\n\r\n");
    stream.write_all(asked.as_bytes()).map_err(ill)?;
    stream.set_nonblocking(true).map_err(ill)?;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while answer.len() < MAX_ANSWER {
        patience.wait([readable(stream.as_fd())])?;
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => answer.extend(buffer.iter().take(read)),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(ill(error)),
        }
    }
    judge(request, &String::from_utf8_lossy(&answer))
}

fn judge(request: &Request, answer: &str) -> Result<String, Failure> {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let line = head.lines().next().unwrap_or_default();
    let mut words = line.split(' ');
    let is_http = words.next().is_some_and(|version| version.starts_with("HTTP/1."));
    let status = words.next().and_then(|status| status.parse::<u16>().ok()).filter(|_| is_http);
    let Some(status) = status else { return Err(Failure::Ill("the answer is no HTTP".to_owned())) };
    if !request.status.contains(&status) {
        return Err(Failure::Ill(format!("status {status}")));
    }
    match &request.body {
        Some(wanted) if !body.contains(wanted) => Err(Failure::Ill(format!("status {status}, but not `{wanted}`"))),
        Some(_) | None => Ok(format!("status {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_and_body_decide() {
        let address = "127.0.0.1:80".parse().unwrap();
        let request = |body: Option<&str>| Request {
            address,
            host: "h".into(),
            path: "/".into(),
            status: 200..=299,
            body: body.map(Into::into),
        };
        let answer = "HTTP/1.1 200 OK\r\nA: ok\r\n\r\nall is well";
        assert!(judge(&request(None), answer).is_ok());
        assert!(judge(&request(Some("is well")), answer).is_ok());
        assert!(judge(&request(Some("A: ok")), answer).is_err());
        for bad in ["", "SSH-2.0 200", "HTTP/1.1 503 Busy\r\n\r\n", "HTTP/1.1 OK\r\n\r\n"] {
            assert!(judge(&request(None), bad).is_err(), "{bad}");
        }
    }
}
