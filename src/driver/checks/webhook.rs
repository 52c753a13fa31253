//! Tells a web server something, by a POST of JSON. HTTP/1.1, a connection each: what is told is rare.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::time::Duration;

use super::place::{Lookup, Place};
use super::tls::Trust;
use super::{Failure, one_line};
use crate::driver::patience::Patience;

/// Where the status stands is in the first bytes of an answer.
const HEAD: usize = 1024;
/// The longest token, in bytes.
const LONGEST_TOKEN: u64 = 4096;

/// Where to, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// The page.
    pub page: Page,
    /// A file with a token that is shown (`Authorization: Bearer`).
    pub token: Option<PathBuf>,
}

/// A page of a web server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Where.
    pub place: Place,
    /// By https, where it is said whom to believe.
    pub trust: Option<Trust>,
    /// The `Host` header.
    pub host: String,
    /// The path, with its query.
    pub path: String,
}

/// What of one attempt may serve the next.
#[derive(Debug, Default)]
pub struct Left(Option<Lookup>);

impl Webhook {
    /// Tells it, and waits for its thanks.
    ///
    /// # Errors
    ///
    /// Why it may not know, in one line without a secret. `None`: nobody wants to wait any longer.
    pub fn tell(
        &self,
        document: &str,
        timeout: Duration,
        stop: BorrowedFd<'_>,
        Left(lookup): &mut Left,
    ) -> Result<(), Option<String>> {
        let told = Patience::new(timeout, stop).and_then(|patience| self.try_tell(document, &patience, lookup));
        told.map_err(|failure| match failure {
            Failure::Ill(why) | Failure::Unable(why) => Some(one_line(&why)),
            Failure::Stopped => None,
        })
    }

    fn try_tell(&self, document: &str, patience: &Patience<'_>, lookup: &mut Option<Lookup>) -> Result<(), Failure> {
        let request = self.request(document).map_err(Failure::Unable)?;
        let Page { place, trust, host, .. } = &self.page;
        let mut stream = place.connect(patience, lookup)?;
        let answer = match trust {
            None => post(&request, &mut stream),
            Some(trust) => {
                let mut sealed = trust.wrap(stream, host)?;
                let answer = post(&request, &mut sealed);
                stream = sealed.into_parts().1;
                answer
            }
        };
        let answer = answer.map_err(|error| stream.failure(place, &error))?;
        judge(&String::from_utf8_lossy(&answer))
    }

    fn request(&self, document: &str) -> Result<Vec<u8>, String> {
        let Page { host, path, .. } = &self.page;
        let authorization = match &self.token {
            None => String::new(),
            Some(path) => {
                let mut token = String::new();
                let read = File::open(path).and_then(|file| file.take(LONGEST_TOKEN).read_to_string(&mut token));
                read.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
                let token = token.trim();
                if token.is_empty() || !token.chars().all(|c| c.is_ascii_graphic()) {
                    return Err(format!("{} is not one word", path.display()));
                }
                format!("Authorization: Bearer {token}\r\n")
            }
        };
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: vipd/{}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n{authorization}Connection: close\r\n\r\n",
            env!("CARGO_PKG_VERSION"),
            document.len()
        );
        Ok([head.as_bytes(), document.as_bytes()].concat())
    }
}

/// The beginning of the answer.
fn post(request: &[u8], stream: &mut (impl Read + Write)) -> io::Result<Vec<u8>> {
    stream.write_all(request)?;
    stream.flush()?;
    let mut answer = Vec::new();
    let mut buffer = [0; HEAD];
    while answer.len() < HEAD && !answer.contains(&b'\n') {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => answer.extend(buffer.iter().take(read)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(answer)
}

fn judge(answer: &str) -> Result<(), Failure> {
    let line = answer.lines().next().unwrap_or_default();
    let mut words = line.split(' ');
    let is_http = words.next().is_some_and(|version| version.starts_with("HTTP/1."));
    match words.next().and_then(|status| status.parse::<u16>().ok()).filter(|_| is_http) {
        Some(200..=299) => Ok(()),
        Some(status) => Err(Failure::Ill(format!("status {status}"))),
        None => Err(Failure::Ill("the answer is no HTTP".to_owned())),
    }
}
