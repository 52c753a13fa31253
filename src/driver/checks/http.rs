//! What a web server answers to a GET. HTTP/1.0 on purpose: the answer comes in one piece, and ends with the connection.

use std::io::{self, Read, Write};
use std::ops::RangeInclusive;

use super::Failure;
use super::place::{Lookup, Place};
pub use super::tls::{Trust, server_name};
use crate::driver::patience::Patience;

/// How much of an answer is read: a page about health is short.
const MAX_ANSWER: usize = 64 * 1024;

/// What is asked, and what should be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Where.
    pub place: Place,
    /// By https, where it is said whom to believe.
    pub trust: Option<Trust>,
    /// The `Host` header.
    pub host: String,
    /// The path, with its query.
    pub path: String,
    /// Which status codes are well.
    pub status: RangeInclusive<u16>,
    /// What the body must contain.
    pub body: Option<String>,
}

pub(super) fn run(request: &Request, patience: &Patience<'_>, lookup: &mut Option<Lookup>) -> Result<String, Failure> {
    let place = &request.place;
    let mut stream = place.connect(patience, lookup)?;
    let answer = match &request.trust {
        None => ask(request, &mut stream),
        Some(trust) => {
            let mut sealed = trust.wrap(stream, &request.host)?;
            let answer = ask(request, &mut sealed);
            stream = sealed.into_parts().1;
            answer
        }
    };
    let answer = answer.map_err(|error| stream.failure(place, &error))?;
    judge(request, &String::from_utf8_lossy(&answer))
}

/// The answer, as far as it is read.
fn ask(request: &Request, stream: &mut (impl Read + Write)) -> io::Result<Vec<u8>> {
    let Request { host, path, .. } = request;
    let asked = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\nUser-Agent: vipd\r\nConnection: close\r\n\r\n");
    stream.write_all(asked.as_bytes())?;
    stream.flush()?;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while answer.len() < MAX_ANSWER {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => answer.extend(buffer.iter().take(read)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // A server that hangs up without a word of TLS has ended its answer all the same.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && !answer.is_empty() => break,
            Err(error) => return Err(error),
        }
    }
    Ok(answer)
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
        let request = |body: Option<&str>| Request {
            place: "127.0.0.1:80".parse().unwrap(),
            trust: None,
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
