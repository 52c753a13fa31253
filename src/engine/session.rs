//! Which messages of other nodes are believed: those that were made for this node, in this life of it, and only once.
//!
//! There is no wall clock and no disk to tell old from new. So each node gives each sender a token, and believes only what
//! carries it. A token is given in a *hello* that answers a message of that very sender and names its number, is bound to the
//! sender's epoch, and dies when another epoch of the same sender is heard with its own. Nothing that was recorded before this node
//! or the sender began is good for anything; what was recorded since has a number that came already.
//!
//! A restart of either side costs one round trip: the first message is refused, and the hello that refuses it opens the
//! session. Nothing is sent again here, since what was refused may no longer be true: the layers above are told, and say
//! what is.
//!
//! What this cannot see: a message that somebody held back, and delivers late for the first time. Whatever matters in an
//! answer must name the question.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::numbers::Numbers;
use super::time::Instant;
use crate::wire::seal::{Keys, Kind, Message, SealError, Topic};

/// At most one hello in so long answers one sender by one interface: whoever repeats what he recorded gains no flood.
pub const HELLO_SPACING: Duration = Duration::from_millis(10);

/// How many peers are remembered: those of a witness of 8,000 pairs, at about 200 bytes each. Past that the one that has been silent for
/// longest is forgotten, and costs one round trip when it speaks again. Only whoever has the key can fill it.
pub const MAX_PEERS: usize = 16_384;

/// All sessions of a node.
#[derive(Debug)]
pub struct Sessions {
    name: String,
    keys: Keys,
    /// Makes tokens, and everything else that nobody may foresee.
    secret: Secret,
    /// This life of this node.
    epoch: u64,
    peers: BTreeMap<String, Peer>,
    /// Grows with each session that begins or is forgotten: a token that is bound to an older one is dead.
    generation: u64,
    /// Of senders that are not known.
    generation_of_strangers: u64,
    /// The highest number that any message of ours has.
    highest: u64,
    /// New messages have a higher number than this, whoever they are for.
    floor: u64,
    /// Answers to numbers up to this one may have been seen by peers that are forgotten.
    forgotten: u64,
    /// The last hellos that were sent in answer.
    answered: Vec<Option<Answered>>,
    accepted: u64,
    refused: [u64; SealError::LABELS.len()],
}

/// What became of a datagram.
#[derive(Debug)]
pub struct Opening<'a> {
    /// What it says, or why it is not believed.
    pub outcome: Result<Opened<'a>, SealError>,
    /// To be sent back to where it came from.
    pub reply: Option<Vec<u8>>,
}

/// An authentic datagram that is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened<'a> {
    /// For the layers above.
    Message {
        /// Who says so.
        sender: &'a str,
        /// What about.
        topic: Topic,
        /// What.
        payload: &'a [u8],
    },
    /// Somebody is there.
    Hello {
        /// Who.
        sender: &'a str,
        /// A session toward it begins: what was said before may not have been believed.
        opened: bool,
        /// It proves that the sender is there now, since it answers this node.
        fresh: bool,
    },
}

/// Why there is nothing to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsealed {
    /// The receiver would not believe it: ask for a session first.
    NoSession,
    /// The payload has too many bytes.
    TooLong {
        /// How many.
        have: usize,
        /// How many there may be.
        room: usize,
    },
}

/// What is known of a peer, for whoever asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerView<'a> {
    /// Its name.
    pub name: &'a str,
    /// Whether it will believe what is said to it, as far as is known.
    pub can_send: bool,
    /// Whether it has been believed.
    pub can_receive: bool,
    /// When it was heard last.
    pub heard_at: Instant,
}

impl Sessions {
    /// Of a node. The seed is 32 bytes that nobody can foresee, new in each life.
    pub fn new(name: &str, keys: Keys, seed: [u8; 32]) -> Self {
        let secret = Secret::new(&seed);
        let epoch = secret.number(b"epoch", &[]);
        Self {
            name: name.into(),
            keys,
            secret,
            epoch,
            peers: BTreeMap::new(),
            generation: 0,
            generation_of_strangers: 0,
            highest: 0,
            floor: 0,
            forgotten: 0,
            answered: vec![None; ANSWER_SLOTS],
            accepted: 0,
            refused: [0; SealError::LABELS.len()],
        }
    }

    /// Goes on with other keys. Sessions are not touched: they belong to the nodes.
    pub fn set_keys(&mut self, keys: Keys) {
        self.keys = keys;
    }

    /// The keys in use.
    pub const fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Takes a datagram. `via` tells interfaces apart: each has its own measure of answers.
    pub fn open<'a>(&mut self, now: Instant, via: u32, bytes: &'a [u8]) -> Opening<'a> {
        let outcome = Message::parse(bytes, &self.keys).and_then(|message| self.addressed(message));
        let opening = match outcome {
            Ok(message) => match message.kind {
                Kind::Hello => self.on_hello(now, via, &message),
                Kind::Of(topic) => self.on_message(now, via, topic, &message),
            },
            Err(error) => Opening { outcome: Err(error), reply: None },
        };
        match &opening.outcome {
            Ok(_) => self.accepted = self.accepted.saturating_add(1),
            Err(error) => {
                if let Some(count) = self.refused.get_mut(error.index()) {
                    *count = count.saturating_add(1);
                }
            }
        }
        opening
    }

    /// A message for a peer.
    ///
    /// # Errors
    ///
    /// Where the peer would not believe it, or it is too long.
    pub fn seal(&mut self, to: &str, topic: Topic, payload: &[u8]) -> Result<Vec<u8>, Unsealed> {
        let (have, room) = (payload.len(), self.room(to));
        if have > room {
            return Err(Unsealed::TooLong { have, room });
        }
        let token = self.peers.get(to).and_then(|peer| peer.token).ok_or(Unsealed::NoSession)?.token;
        let counter = self.next_counter(to);
        Ok(self.emit(Kind::Of(topic), Some(to), token, counter, payload))
    }

    /// Asks a peer for a session; `None`: whoever hears it.
    pub fn hello(&mut self, to: Option<&str>) -> Vec<u8> {
        let counter = match to {
            Some(to) => self.next_counter(to),
            None => self.counter_for_all(),
        };
        self.emit(Kind::Hello, to, 0, counter, &Hello { asks: true, answer: None }.emit())
    }

    /// How long a payload to a peer may be, in bytes.
    pub const fn room(&self, to: &str) -> usize {
        Message::room(self.name.as_str(), to)
    }

    /// Whether a peer will believe what is said to it, as far as is known.
    pub fn can_send(&self, to: &str) -> bool {
        self.peers.get(to).is_some_and(|peer| peer.token.is_some())
    }

    /// How many peers are known.
    pub fn count(&self) -> usize {
        self.peers.len()
    }

    /// Whether a peer is.
    pub fn knows(&self, name: &str) -> bool {
        self.peers.contains_key(name)
    }

    /// All peers that are known, by name.
    pub fn peers(&self) -> impl Iterator<Item = PeerView<'_>> {
        self.peers.iter().map(|(name, peer)| PeerView {
            name,
            can_send: peer.token.is_some(),
            can_receive: peer.session.is_some(),
            heard_at: peer.heard_at,
        })
    }

    /// How many datagrams were believed.
    pub const fn accepted(&self) -> u64 {
        self.accepted
    }

    /// How many were refused, by [`SealError::label`]; those that occurred.
    pub fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> {
        SealError::LABELS.into_iter().zip(self.refused).filter(|(_, count)| *count > 0)
    }
}

/// What is received.
impl Sessions {
    fn addressed<'a>(&self, message: Message<'a>) -> Result<Message<'a>, SealError> {
        if message.sender == self.name {
            return Err(SealError::OwnName);
        }
        match (message.receiver, message.kind) {
            (Some(receiver), _) if receiver == self.name => Ok(message),
            (None, Kind::Hello) => Ok(message),
            (Some(_), _) | (None, Kind::Of(_)) => Err(SealError::NotForUs),
        }
    }

    fn on_message<'a>(&mut self, now: Instant, via: u32, topic: Topic, message: &Message<'a>) -> Opening<'a> {
        let (sender, payload) = (message.sender, message.payload);
        match self.admit(now, message) {
            Ok(()) => Opening { outcome: Ok(Opened::Message { sender, topic, payload }), reply: None },
            Err(error @ (SealError::NoSession | SealError::StaleSession)) => {
                Opening { outcome: Err(error), reply: self.answer(now, via, message) }
            }
            Err(error) => Opening { outcome: Err(error), reply: None },
        }
    }

    /// Whether a message belongs to its sender's session, or begins it, and is new.
    fn admit(&mut self, now: Instant, message: &Message<'_>) -> Result<(), SealError> {
        let Message { sender, epoch, token, counter, .. } = *message;
        if let Some(peer) = self.peers.get_mut(sender)
            && let Some(session) = &mut peer.session
            && (session.epoch, session.token) == (epoch, token)
        {
            if !session.numbers.admit(counter) {
                return Err(SealError::Replayed { counter });
            }
            peer.heard_at = now;
            return Ok(());
        }
        let known = self.peers.contains_key(sender);
        if self.token_for(sender, epoch) != token {
            return Err(if known { SealError::StaleSession } else { SealError::NoSession });
        }
        self.generation = self.generation.saturating_add(1);
        let generation = self.generation;
        let peer = self.peer(now, sender);
        peer.session = Some(Session { epoch, token, numbers: Numbers::from(counter) });
        peer.generation = generation;
        peer.heard_at = now;
        Ok(())
    }

    fn on_hello<'a>(&mut self, now: Instant, via: u32, message: &Message<'a>) -> Opening<'a> {
        let refused = |error| Opening { outcome: Err(error), reply: None };
        let sender = message.sender;
        let Some(hello) = Hello::parse(message.payload) else { return refused(SealError::BadHello) };
        let opened = match hello.answer {
            None => Ok(false),
            Some(answer) => self.on_answer(now, message, answer),
        };
        let opened = match opened {
            Ok(opened) => opened,
            Err(error) => return refused(error),
        };
        let reply = if hello.asks { self.answer(now, via, message) } else { None };
        Opening { outcome: Ok(Opened::Hello { sender, opened, fresh: hello.answer.is_some() }), reply }
    }

    /// A peer gives this node a token. Whether that is a new one.
    fn on_answer(&mut self, now: Instant, message: &Message<'_>, answer: Answer) -> Result<bool, SealError> {
        let Answer { token, epoch, counter } = answer;
        // It must answer what this node said in this life, and each number is answered once.
        let known = self.peers.contains_key(message.sender);
        if message.receiver.is_none()
            || epoch != self.epoch
            || counter > self.highest
            || (!known && counter <= self.forgotten)
        {
            return Err(SealError::StaleHello);
        }
        let given = Given { token, epoch: message.epoch };
        let peer = self.peer(now, message.sender);
        let newest = peer.answered.is_newest(counter);
        if !peer.answered.admit(counter) {
            return Err(SealError::StaleHello);
        }
        peer.heard_at = now;
        // Of two answers that overtook each other, the one to the later number holds.
        let opened = newest && peer.token != Some(given);
        if opened {
            peer.token = Some(given);
        }
        Ok(opened)
    }

    /// A hello that gives the sender of a message its token; it asks for one where there is none for this node.
    fn answer(&mut self, now: Instant, via: u32, message: &Message<'_>) -> Option<Vec<u8>> {
        let to = message.sender;
        let answered =
            Answered { whom: self.secret.address(to, message.epoch, via), counter: message.counter, at: now };
        let last = self.answered.get_mut(answered.slot())?;
        if last.is_some_and(|last| !answered.is_due_after(last)) {
            return None;
        }
        *last = Some(answered);
        let has_token =
            self.peers.get(to).and_then(|peer| peer.token).is_some_and(|given| given.epoch == message.epoch);
        let token = self.token_for(to, message.epoch);
        let answer = Answer { token, epoch: message.epoch, counter: message.counter };
        let counter = self.next_counter(to);
        let payload = Hello { asks: !has_token, answer: Some(answer) }.emit();
        Some(self.emit(Kind::Hello, Some(to), 0, counter, &payload))
    }

    /// What a sender must show: what its session began with, or would begin with.
    fn token_for(&self, sender: &str, epoch: u64) -> u64 {
        let peer = self.peers.get(sender);
        match peer.and_then(|peer| peer.session.as_ref()) {
            Some(session) if session.epoch == epoch => session.token,
            Some(_) | None => {
                let generation = peer.map_or(self.generation_of_strangers, |peer| peer.generation);
                self.secret.token(sender, epoch, generation)
            }
        }
    }

    /// What is known of a peer, who has just proved to be there; makes room where there is none.
    fn peer(&mut self, now: Instant, name: &str) -> &mut Peer {
        // What a stranger was given is good still when another one is forgotten to make room for it.
        let generation = self.generation_of_strangers;
        if !self.peers.contains_key(name) && self.peers.len() >= MAX_PEERS {
            let idle = self.peers.iter().min_by_key(|(_, peer)| peer.heard_at).map(|(name, _)| name.clone());
            if let Some(idle) = idle {
                self.forget(&idle);
            }
        }
        self.peers.entry(name.into()).or_insert_with(|| Peer::new(now, generation))
    }

    /// None of its old tokens and answers may be good again.
    fn forget(&mut self, name: &str) {
        self.peers.remove(name);
        self.generation = self.generation.saturating_add(1);
        self.generation_of_strangers = self.generation;
        self.forgotten = self.highest;
        self.floor = self.highest;
    }
}

/// What is sent.
impl Sessions {
    fn emit(&self, kind: Kind, receiver: Option<&str>, token: u64, counter: u64, payload: &[u8]) -> Vec<u8> {
        let message = Message { kind, sender: &self.name, receiver, epoch: self.epoch, token, counter, payload };
        message.emit(&self.keys)
    }

    /// The number of the next message to a peer. Those to one peer follow each other closely, so that its window covers many.
    fn next_counter(&mut self, to: &str) -> u64 {
        let Some(peer) = self.peers.get_mut(to) else { return self.counter_for_all() };
        peer.sent = peer.sent.max(self.floor).saturating_add(1);
        self.highest = self.highest.max(peer.sent);
        peer.sent
    }

    /// A number that no message to anybody has.
    const fn counter_for_all(&mut self) -> u64 {
        self.highest = self.highest.saturating_add(1);
        self.floor = self.highest;
        self.highest
    }
}

/// A node that has proved to be there.
#[derive(Debug)]
struct Peer {
    heard_at: Instant,
    /// What is believed of it.
    session: Option<Session>,
    /// What the tokens of its other epochs are bound to.
    generation: u64,
    /// What it gave to this node.
    token: Option<Given>,
    /// The numbers of ours that it has answered.
    answered: Numbers,
    /// The number of the last message to it.
    sent: u64,
}

#[derive(Debug)]
struct Session {
    epoch: u64,
    token: u64,
    numbers: Numbers,
}

/// A token, and the epoch of the peer that gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Given {
    token: u64,
    epoch: u64,
}

impl Peer {
    const fn new(now: Instant, generation: u64) -> Self {
        Self { heard_at: now, session: None, generation, token: None, answered: Numbers::NONE, sent: 0 }
    }
}

/// What a hello carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hello {
    /// The sender wants a token.
    asks: bool,
    /// The sender gives one.
    answer: Option<Answer>,
}

/// A token, and the message that it was given for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Answer {
    token: u64,
    /// Of the receiver of this answer.
    epoch: u64,
    /// Of the receiver's message.
    counter: u64,
}

const ASKS: u8 = 1;
const ANSWERS: u8 = 2;

impl Hello {
    fn parse(payload: &[u8]) -> Option<Self> {
        let (flags, rest) = payload.split_first()?;
        let answer = match rest.as_chunks::<8>() {
            ([], []) => None,
            ([token, epoch, counter], []) => {
                let [token, epoch, counter] = [token, epoch, counter].map(|bytes| u64::from_be_bytes(*bytes));
                Some(Answer { token, epoch, counter })
            }
            _ => return None,
        };
        let hello = Self { asks: flags & ASKS != 0, answer };
        (hello.flags() == *flags && *flags != 0).then_some(hello)
    }

    fn emit(&self) -> Vec<u8> {
        let mut payload = vec![self.flags()];
        for number in self.answer.iter().flat_map(|answer| [answer.token, answer.epoch, answer.counter]) {
            payload.extend(number.to_be_bytes());
        }
        payload
    }

    const fn flags(&self) -> u8 {
        (if self.asks { ASKS } else { 0 }) | (if self.answer.is_some() { ANSWERS } else { 0 })
    }
}

/// The last hello that answered a sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Answered {
    /// The sender, its epoch and the interface.
    whom: u64,
    counter: u64,
    at: Instant,
}

/// So many senders are told apart. Those that share a place share a measure of answers; nobody can choose his place.
const ANSWER_SLOTS: usize = 1024;

impl Answered {
    /// Not so soon after the last one; and what somebody repeats is answered once, so that it takes no answer from its sender.
    fn is_due_after(&self, last: Self) -> bool {
        let is_repeated = last.whom == self.whom && self.counter <= last.counter;
        !is_repeated && self.at.since(last.at) >= HELLO_SPACING
    }

    fn slot(&self) -> usize {
        let slots = u64::try_from(ANSWER_SLOTS).unwrap_or(1);
        usize::try_from(self.whom % slots).unwrap_or_default()
    }
}

/// Makes numbers that nobody can foresee.
struct Secret(Hmac<Sha256>);

impl Secret {
    fn new(seed: &[u8; 32]) -> Self {
        Self(Hmac::new_from_slice(seed).expect("HMAC takes a key of any length"))
    }

    /// Never 0, which stands for none.
    fn token(&self, sender: &str, epoch: u64, generation: u64) -> u64 {
        let [epoch, generation] = [epoch, generation].map(u64::to_be_bytes);
        self.number(b"token", &[&epoch, &generation, sender.as_bytes()]).max(1)
    }

    fn address(&self, sender: &str, epoch: u64, via: u32) -> u64 {
        self.number(b"address", &[&epoch.to_be_bytes(), &via.to_be_bytes(), sender.as_bytes()])
    }

    fn number(&self, purpose: &[u8], parts: &[&[u8]]) -> u64 {
        let mac = parts.iter().fold(self.0.clone().chain_update(purpose), |mac, part| mac.chain_update(part));
        let [a, b, c, d, e, f, g, h, ..] = <[u8; 32]>::from(mac.finalize().into_bytes());
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

impl core::fmt::Debug for Secret {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests;
