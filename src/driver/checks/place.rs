//! Where a check connects to: an address, or a name that is looked up anew for each run.

use std::fmt;
use std::io::{self, PipeReader, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::AsFd;
use std::str::FromStr;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use socket2::{Domain, Protocol, Socket, Type};

use super::Failure;
use crate::driver::patience::{Patience, readable, writable};

/// The longest name of a host (RFC 1035 §2.3.4).
const MAX_NAME: usize = 253;

/// An address or a name, with a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// An address.
    Address(SocketAddr),
    /// What the system's resolver makes of a name.
    Name {
        /// The name.
        host: String,
        /// The port.
        port: u16,
    },
}

impl Place {
    /// `HOST:PORT` or, where there is a port that goes without saying, `HOST`. `None`: it is neither.
    pub fn parse(text: &str, usual_port: Option<u16>) -> Option<Self> {
        let plain = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        if let (Ok(ip), Some(port)) = (plain.parse(), usual_port) {
            return Some(Self::Address(SocketAddr::new(ip, port)));
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return (address.port() != 0).then_some(Self::Address(address));
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().ok().filter(|port| *port != 0)?),
            None => (text, usual_port?),
        };
        let is_label = |label: &str| {
            !label.is_empty() && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_')
        };
        let labels = host.strip_suffix('.').unwrap_or(host);
        // Digits and dots alone are an address that was mistyped.
        let is_name = labels.split('.').all(is_label) && labels.bytes().any(|c| !c.is_ascii_digit() && c != b'.');
        (is_name && host.len() <= MAX_NAME).then(|| Self::Name { host: host.to_owned(), port })
    }

    /// Connects, to one address of a name after the other.
    pub(super) fn connect<'p>(
        &self,
        patience: &'p Patience<'p>,
        lookup: &mut Option<Lookup>,
    ) -> Result<Patient<'p>, Failure> {
        let addresses = match self {
            Self::Address(address) => vec![*address],
            Self::Name { host, port } => look_up(host, *port, patience, lookup)?,
        };
        let mut last = Failure::Unable(format!("{self} has no address"));
        for address in addresses {
            match connect(address, patience) {
                Ok(stream) => return Ok(Patient { stream, patience, gave_up: None }),
                Err(Failure::Ill(why)) => last = Failure::Ill(why),
                Err(failure) => return Err(failure),
            }
        }
        Err(last)
    }
}

impl FromStr for Place {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::parse(text, None).ok_or(())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

/// A question to the resolver, which cannot be taken back: it waits as long as it likes, on a thread of its own.
#[derive(Debug)]
pub(super) struct Lookup {
    answer: Receiver<io::Result<Vec<SocketAddr>>>,
    /// Closed at the end.
    done: PipeReader,
}

/// A question that was not answered before the deadline is waited for by the next run: there is never more than one.
fn look_up(
    host: &str,
    port: u16,
    patience: &Patience<'_>,
    lookup: &mut Option<Lookup>,
) -> Result<Vec<SocketAddr>, Failure> {
    let unable = |error: io::Error| Failure::Unable(format!("{host} cannot be looked up: {error}"));
    let asked = match lookup.take() {
        Some(before) => before,
        None => Lookup::start(host, port).map_err(unable)?,
    };
    let waited = patience.wait([readable(asked.done.as_fd())]).map(drop);
    match waited {
        Ok(()) => match asked.answer.recv() {
            Ok(answer) => answer.map_err(unable),
            Err(_) => Err(Failure::Unable(format!("{host} cannot be looked up: the resolver panicked"))),
        },
        Err(Failure::Ill(late)) => {
            *lookup = Some(asked);
            Err(Failure::Unable(format!("{host} cannot be looked up: {late}")))
        }
        Err(failure) => Err(failure),
    }
}

impl Lookup {
    fn start(host: &str, port: u16) -> io::Result<Self> {
        let (done, ends) = io::pipe()?;
        let (tell, answer) = channel();
        let host = host.to_owned();
        thread::Builder::new().name("resolver".into()).spawn(move || {
            let found = (host.as_str(), port).to_socket_addrs().map(Iterator::collect);
            // Nobody may want to know any more.
            tell.send(found).ok();
            drop(ends);
        })?;
        Ok(Self { answer, done })
    }
}

fn connect(address: SocketAddr, patience: &Patience<'_>) -> Result<TcpStream, Failure> {
    let ill = |error: io::Error| Failure::Ill(format!("{address}: {error}"));
    let socket =
        Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP)).map_err(ill)?;
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {
            patience.wait([writable(socket.as_fd())])?;
            if let Some(error) = socket.take_error().map_err(ill)? {
                return Err(ill(error));
            }
        }
        connected => connected.map_err(ill)?,
    }
    Ok(socket.into())
}

/// A stream that is waited for as long as a run has patience.
#[derive(Debug)]
pub(super) struct Patient<'p> {
    stream: TcpStream,
    patience: &'p Patience<'p>,
    gave_up: Option<Failure>,
}

impl Patient<'_> {
    /// What an error of reading or writing was: the end of the patience, or the other side's fault.
    pub(super) fn failure(&mut self, place: &Place, error: &io::Error) -> Failure {
        self.gave_up.take().unwrap_or_else(|| Failure::Ill(format!("{place}: {error}")))
    }

    fn again<T>(&mut self, writes: bool, mut attempt: impl FnMut(&mut TcpStream) -> io::Result<T>) -> io::Result<T> {
        loop {
            match attempt(&mut self.stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
            let fd = self.stream.as_fd();
            if let Err(failure) = self.patience.wait([if writes { writable(fd) } else { readable(fd) }]) {
                self.gave_up = Some(failure);
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }
}

impl Read for Patient<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.again(false, |stream| stream.read(buffer))
    }
}

impl Write for Patient<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.again(true, |stream| stream.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names_are_told_apart() {
        let shown = |text: &str, port| Place::parse(text, port).map(|place| place.to_string());
        for (text, port, place) in [
            ("127.0.0.1:80", None, Some("127.0.0.1:80")),
            ("[::1]:80", None, Some("[::1]:80")),
            ("[::1]", Some(443), Some("[::1]:443")),
            ("::1", Some(443), Some("[::1]:443")),
            ("db-a:5432", None, Some("db-a:5432")),
            ("www.example.com.", Some(80), Some("www.example.com.:80")),
            ("www.example.com", None, None),
            ("127.0.0.1", None, None),
            ("127.0.0.1:0", None, None),
            ("db-a:0", None, None),
            ("10.0.0:80", None, None),
            ("a..b:80", None, None),
            ("", Some(80), None),
            ("a b:80", None, None),
        ] {
            assert_eq!(shown(text, port).as_deref(), place, "{text}");
        }
        assert!(matches!(Place::parse("db-a:5432", None), Some(Place::Name { .. })));
    }
}
