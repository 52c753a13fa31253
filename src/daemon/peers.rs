//! What this node and others say to each other over UDP: names to addresses, sessions, and who is believed.
//!
//! It gives whoever owns it messages that are authentic and new, and answers hellos itself. It decides nothing else:
//! what a message means, and when to say something, is the owner's business.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::task::{Context, Poll};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::clock;
use crate::config::Seal;
use crate::driver::datagrams::{DatagramSocket, Path};
use crate::driver::random;
use crate::driver::readiness::Readable;
use crate::engine::Instant;
use crate::engine::seals::Sealing;
use crate::engine::session::{HELLO_SPACING, Opened, Sessions, Unsealed};
use crate::types::Family;
use crate::wire::seal::{Key, MAX_LEN, SealError, Topic};

/// How many datagrams may be refused before the loop does something else: a flood holds up nothing for longer than that,
/// about 0.2 ms.
const REFUSED_IN_A_ROW: usize = 64;

/// A refusal that goes on is reported once in so long; the rest is in the counters.
const REPORT_SPACING: Duration = Duration::from_secs(60);

/// This node among its peers.
#[derive(Debug)]
pub struct Peers {
    sessions: Sessions,
    name: String,
    port: u16,
    sockets: Vec<Readable<DatagramSocket>>,
    /// Where each peer was heard last.
    paths: BTreeMap<String, Path>,
    /// The interfaces where nodes find each other.
    joined: Vec<u32>,
    /// When a peer without a session was last asked for one because there was something to say to it.
    asked: BTreeMap<String, Instant>,
    /// When a refusal of each kind was reported last.
    reported: [Option<Instant>; SealError::LABELS.len()],
    buffer: Vec<u8>,
    /// Which socket has its turn.
    next: usize,
}

/// What came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A peer says something.
    Message {
        /// Who.
        sender: String,
        /// What about.
        topic: Topic,
        /// What.
        payload: Vec<u8>,
        /// Which way it came.
        path: Path,
    },
    /// A session toward a peer begins, or a peer answered a greeting on this path. What was said to it before may not
    /// have been believed: say what is true now.
    Session {
        /// Which.
        peer: String,
        /// Which way it answered.
        path: Path,
    },
    /// Something that whoever runs this should know of, such as a node with another key.
    Refused {
        /// Who sent it.
        path: Path,
        /// Why it is not believed.
        error: SealError,
    },
}

/// Why something was not sent.
#[derive(Debug, thiserror::Error)]
pub enum NotSent {
    /// The peer would not believe it. It has been asked for a session: [`Heard::Session`] says when there is one.
    #[error("no session yet")]
    NoSession,
    /// Nobody knows where the peer is.
    #[error("the address is not known")]
    NoPath,
    /// The payload has too many bytes.
    #[error("{have} bytes, at most {room} can be sent")]
    TooLong {
        /// How many.
        have: usize,
        /// How many there may be.
        room: usize,
    },
    /// The kernel's refusal.
    #[error("{0}")]
    Refused(#[from] io::Error),
}

/// What the status says of all this.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SealStatus {
    /// Which key seals, by its first four bytes of identity.
    pub key: String,
    /// Which other key is believed.
    pub also_key: Option<String>,
    /// What is done about seals on adverts: `off`, `receive`, `send` or `require`.
    #[serde(default)]
    pub adverts: String,
    /// The UDP port.
    pub port: u16,
    /// Those that have been heard.
    pub peers: Vec<PeerStatus>,
    /// Datagrams that were believed.
    pub accepted: u64,
    /// Datagrams that were not, by reason.
    pub refused: BTreeMap<String, u64>,
}

/// A peer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Its name.
    pub name: String,
    /// Where it was heard last.
    pub address: Option<SocketAddr>,
    /// Whether there is a session in which it believes this node.
    pub believes_us: bool,
    /// Whether there is one in which this node has believed it.
    pub believed: bool,
    /// Milliseconds since it was heard last.
    pub age_ms: f64,
}

impl Peers {
    /// Opens the port in each family that the host has. Must be called within a runtime.
    ///
    /// # Errors
    ///
    /// Where the port is taken, or neither family can be had.
    pub fn open(name: &str, seal: &Seal) -> io::Result<Self> {
        Self::open_at(name, seal, None)
    }

    /// Opens the port on one address alone; `None`: as [`Self::open`].
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn open_at(name: &str, seal: &Seal, address: Option<IpAddr>) -> io::Result<Self> {
        let sockets = match address {
            Some(address) => vec![Readable::new(DatagramSocket::bind(SocketAddr::new(address, seal.port))?)?],
            None => sockets(seal.port)?,
        };
        Ok(Self {
            sessions: Sessions::new(name, seal.keys.clone(), random::seed()?),
            name: name.to_owned(),
            port: seal.port,
            sockets,
            paths: BTreeMap::new(),
            joined: Vec::new(),
            asked: BTreeMap::new(),
            reported: [None; SealError::LABELS.len()],
            buffer: vec![0; MAX_LEN + 1],
            next: 0,
        })
    }

    /// Goes on with other settings, and says what changed. Other keys end no session; another name is another node.
    ///
    /// # Errors
    ///
    /// As [`Self::open`]; then all is as it was, but for the keys.
    pub fn follow(&mut self, name: &str, seal: &Seal) -> io::Result<Option<String>> {
        let mut changes = Vec::new();
        if self.sessions.keys() != &seal.keys {
            self.sessions.set_keys(seal.keys.clone());
            let also =
                seal.keys.also().map_or_else(String::new, |also| format!(", and believed from {}", key_name(also)));
            changes.push(format!("sealed with {}{also}", key_name(seal.keys.current())));
        }
        if name != self.name {
            self.sessions = Sessions::new(name, seal.keys.clone(), random::seed()?);
            name.clone_into(&mut self.name);
        }
        if seal.port != self.port {
            self.sockets = sockets(seal.port)?;
            changes.push(format!("port {} -> {}", self.port, seal.port));
            self.port = seal.port;
            for ifindex in std::mem::take(&mut self.joined) {
                self.join(ifindex)?;
            }
        }
        Ok((!changes.is_empty()).then(|| format!("seal: {}", changes.join(", "))))
    }

    /// What was heard next. Hellos are answered, and what is not believed is counted, on the way.
    pub fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Heard>> {
        for _ in 0..REFUSED_IN_A_ROW {
            let Some((place, path, len)) = self.poll_datagram(context)? else { return Poll::Pending };
            if let Some(heard) = self.take(place, path, len) {
                return Poll::Ready(Ok(heard));
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Says something to a peer, where it was heard last.
    ///
    /// # Errors
    ///
    /// Where it would not be believed, or cannot be sent.
    pub fn send(&mut self, to: &str, topic: Topic, payload: &[u8]) -> Result<(), NotSent> {
        let path = self.path_of(to).ok_or(NotSent::NoPath)?;
        self.send_on(to, self.outgoing(path), topic, payload)
    }

    /// Says something to a peer, on a path of the caller's choice.
    ///
    /// # Errors
    ///
    /// As [`Self::send`].
    pub fn send_on(&mut self, to: &str, path: Path, topic: Topic, payload: &[u8]) -> Result<(), NotSent> {
        match self.sessions.seal(to, topic, payload) {
            Ok(bytes) => Ok(self.transmit(path, &bytes)?),
            Err(Unsealed::TooLong { have, room }) => Err(NotSent::TooLong { have, room }),
            Err(Unsealed::NoSession) => {
                let now = clock::now();
                if self.asked.get(to).is_none_or(|last| now.since(*last) >= HELLO_SPACING) {
                    self.asked.insert(to.to_owned(), now);
                    let hello = self.sessions.hello(Some(to));
                    self.transmit(path, &hello)?;
                }
                Err(NotSent::NoSession)
            }
        }
    }

    /// Asks whoever is at an address for a session. Its name need not be known.
    ///
    /// # Errors
    ///
    /// The kernel's refusal.
    pub fn greet(&mut self, path: Path) -> io::Result<()> {
        let hello = self.sessions.hello(None);
        self.transmit(path, &hello)
    }

    /// Asks all nodes on an interface for a session, in each family that it has.
    ///
    /// # Errors
    ///
    /// The kernel's refusal, where it refuses all families.
    pub fn greet_link(&mut self, ifindex: u32) -> io::Result<()> {
        let hello = self.sessions.hello(None);
        let port = self.port;
        let send = |socket: &Readable<DatagramSocket>| socket.get_ref().send_to_group(ifindex, port, &hello);
        let (sent, refused): (Vec<_>, Vec<_>) = self.sockets.iter().map(send).partition(Result::is_ok);
        if sent.is_empty() { refused.into_iter().collect() } else { Ok(()) }
    }

    /// Lets nodes on an interface find this one.
    ///
    /// # Errors
    ///
    /// The kernel's refusal, where it refuses all families.
    pub fn join(&mut self, ifindex: u32) -> io::Result<()> {
        let join = |socket: &Readable<DatagramSocket>| socket.get_ref().join(ifindex);
        let (joined, refused): (Vec<_>, Vec<_>) = self.sockets.iter().map(join).partition(Result::is_ok);
        if joined.is_empty() {
            return refused.into_iter().collect();
        }
        if !self.joined.contains(&ifindex) {
            self.joined.push(ifindex);
        }
        Ok(())
    }

    /// No longer.
    pub fn leave(&mut self, ifindex: u32) {
        self.joined.retain(|joined| *joined != ifindex);
        self.sockets.iter().for_each(|socket| socket.get_ref().leave(ifindex));
    }

    /// Where a peer was heard last, by something authentic and new.
    pub fn path_of(&self, peer: &str) -> Option<Path> {
        self.paths.get(peer).copied()
    }

    /// How long a payload to a peer may be, in bytes.
    pub const fn room(&self, to: &str) -> usize {
        self.sessions.room(to)
    }

    /// Whether a peer will believe what is said to it, as far as is known.
    pub fn can_send(&self, to: &str) -> bool {
        self.sessions.can_send(to)
    }

    /// How many peers are known.
    pub fn count(&self) -> usize {
        self.sessions.count()
    }

    /// The port of this node and of its peers.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// For the status.
    pub fn status(&self, now: Instant, adverts: Sealing) -> SealStatus {
        let keys = self.sessions.keys();
        SealStatus {
            key: key_name(keys.current()),
            also_key: keys.also().map(key_name),
            adverts: sealing_name(adverts).to_owned(),
            port: self.port,
            peers: self
                .sessions
                .peers()
                .map(|peer| PeerStatus {
                    name: peer.name.to_owned(),
                    address: self.path_of(peer.name).map(|path| path.remote),
                    believes_us: peer.can_send,
                    believed: peer.can_receive,
                    age_ms: now.since(peer.heard_at).as_secs_f64() * 1000.0,
                })
                .collect(),
            accepted: self.sessions.accepted(),
            refused: self.sessions.refused().map(|(label, count)| (label.to_owned(), count)).collect(),
        }
    }
}

impl Peers {
    /// The next datagram, into the buffer: of which socket, from where, how long.
    fn poll_datagram(&mut self, context: &mut Context<'_>) -> io::Result<Option<(usize, Path, usize)>> {
        let Self { sockets, buffer, next, .. } = self;
        for offset in 0..sockets.len() {
            let place = (*next + offset) % sockets.len();
            if let Poll::Ready(received) = sockets[place].poll_take(context, |socket| socket.recv(buffer)) {
                // The other one has its turn before this one has another.
                *next = place + 1;
                let (path, len) = received?;
                return Ok(Some((place, path, len)));
            }
        }
        Ok(None)
    }

    /// What a datagram says, if anything.
    fn take(&mut self, place: usize, path: Path, len: usize) -> Option<Heard> {
        let now = clock::now();
        let opening = self.sessions.open(now, path.ifindex, self.buffer.get(..len).unwrap_or_default());
        let heard = match opening.outcome {
            Ok(Opened::Message { sender, topic, payload }) => {
                note_path(&mut self.paths, sender, path);
                Some(Heard::Message { sender: sender.to_owned(), topic, payload: payload.to_vec(), path })
            }
            Ok(Opened::Hello { sender, opened, fresh }) => {
                // A hello that answers nothing may be repeated by anybody, from anywhere.
                if fresh {
                    note_path(&mut self.paths, sender, path);
                }
                if opened {
                    self.asked.remove(sender);
                }
                (opened || fresh).then(|| Heard::Session { peer: sender.to_owned(), path })
            }
            Err(error) => {
                let reported = &mut self.reported[error.index()];
                let due = is_worth_a_line(error) && reported.is_none_or(|at| now.since(at) >= REPORT_SPACING);
                due.then(|| {
                    *reported = Some(now);
                    Heard::Refused { path, error }
                })
            }
        };
        if self.paths.len() > self.sessions.count() {
            let sessions = &self.sessions;
            self.paths.retain(|name, _| sessions.knows(name));
            self.asked.clear();
        }
        if let Some(reply) = opening.reply {
            // An answer that cannot be sent is as good as lost: whoever asked asks again.
            let socket = self.sockets[place].get_ref();
            socket.send(self.outgoing(path), &reply).ok();
        }
        heard
    }

    fn transmit(&self, path: Path, bytes: &[u8]) -> io::Result<()> {
        let family = Family::of(path.remote.ip());
        match self.sockets.iter().map(Readable::get_ref).find(|socket| socket.family() == family) {
            Some(socket) => socket.send(path, bytes),
            None => Err(io::Error::new(io::ErrorKind::Unsupported, format!("this host has no {family}"))),
        }
    }

    /// The way back. On a link that was named for it that is the link; else what the host's routes say, which may not
    /// be the way that something came.
    fn outgoing(&self, path: Path) -> Path {
        let on_link = matches!(path.remote.ip(), IpAddr::V6(address) if address.is_unicast_link_local());
        let ifindex = if on_link || self.joined.contains(&path.ifindex) { path.ifindex } else { 0 };
        Path { ifindex, ..path }
    }
}

/// What a wrong key or name brings about, which goes on until somebody mends it. The rest passes, or is an enemy's, and
/// counted.
const fn is_worth_a_line(error: SealError) -> bool {
    match error {
        SealError::UnknownVersion { .. }
        | SealError::UnknownKey { .. }
        | SealError::BadTag
        | SealError::UnknownKind { .. }
        | SealError::OwnName => true,
        SealError::TooShort { .. }
        | SealError::TooLong { .. }
        | SealError::BadMagic
        | SealError::BadName
        | SealError::BadHello
        | SealError::NotForUs
        | SealError::NoSession
        | SealError::StaleSession
        | SealError::Replayed { .. }
        | SealError::StaleHello => false,
    }
}

fn note_path(paths: &mut BTreeMap<String, Path>, peer: &str, path: Path) {
    match paths.get_mut(peer) {
        Some(known) => *known = path,
        None => drop(paths.insert(peer.to_owned(), path)),
    }
}

/// One a family. A host may lack one, but a port that is taken is a mistake.
fn sockets(port: u16) -> io::Result<Vec<Readable<DatagramSocket>>> {
    let mut sockets = Vec::new();
    let mut missing = None;
    for family in Family::ALL {
        match DatagramSocket::open(family, port) {
            Ok(socket) => sockets.push(Readable::new(socket)?),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
            Err(error) => missing = Some(error),
        }
    }
    match missing {
        Some(error) if sockets.is_empty() => Err(error),
        Some(_) | None => Ok(sockets),
    }
}

/// As the file has it.
pub const fn sealing_name(sealing: Sealing) -> &'static str {
    match sealing {
        Sealing::Off => "off",
        Sealing::Receive => "receive",
        Sealing::Send => "send",
        Sealing::Require => "require",
    }
}

/// As the log and the status show it.
pub fn key_name(key: &Key) -> String {
    key.id().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
