//! What nodes and witness say about grants: asking for one, the answer, giving one back; and the roll call, which asks who is there.
//!
//! A payload holds one or more messages, so that the virtual routers of a node share datagrams. It travels sealed, which says
//! who sent it and that it is no replay; nothing here is believed without that.
//!
//! A message is its kind, the length of its body in bytes, and the body; all numbers are big endian, durations nanoseconds, names
//! a byte of length and UTF-8:
//!
//! | kind | body |
//! |---|---|
//! | 1 ask | router, stamp, length, challenge |
//! | 2 reply | router, stamp, verdict and what belongs to it |
//! | 3 release | router, stamp |
//! | 4 roll call | stamp |
//! | 5 present | stamp, wait |
//!
//! A router is the name of the cluster and the VRID (1 byte).

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use crate::types::{Priority, Vrid};

/// The longest name of a node or a cluster in bytes.
pub const NAME_MAX: usize = 255;

/// A virtual router as all nodes name it to a voter, which may serve many clusters.
///
/// Of both families: they move together, and what a reload adds to one node's list must not make it another contest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouterId {
    /// The name of the cluster, at most [`NAME_MAX`] bytes.
    pub cluster: Arc<str>,
    /// Unique within the cluster.
    pub vrid: Vrid,
}

impl fmt::Display for RouterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.cluster, self.vrid)
    }
}

/// When a question was sent, in nanoseconds by the asker's own clock. A voter gives it back as it is, and compares it with nothing
/// but others of the same asker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp(pub u64);

/// One message.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GrantMessage {
    /// A node wants a grant, or wants it to last.
    Ask(Ask),
    /// A voter's answer to it.
    Reply(Reply),
    /// A node needs a grant no longer.
    Release(Release),
    /// Are you there?
    RollCall {
        /// Given back.
        stamp: Stamp,
    },
    /// I am.
    Present {
        /// That of the roll call.
        stamp: Stamp,
        /// For how long the voter does not vote yet; zero: it does.
        wait: Duration,
    },
}

/// A node wants a grant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ask {
    /// Of which virtual router.
    pub router: RouterId,
    /// When it was sent.
    pub stamp: Stamp,
    /// For how long.
    pub length: Duration,
    /// The priority of one that means to replace a living owner, so that the voter tells that one.
    pub challenge: Option<Priority>,
}

/// A voter's answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reply {
    /// Of which virtual router.
    pub router: RouterId,
    /// That of the question.
    pub stamp: Stamp,
    /// Yes or no.
    pub verdict: Verdict,
}

/// What a voter says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Nobody else gets it.
    Granted {
        /// For so long, counted from the receipt of the question.
        length: Duration,
        /// Who means to replace the asker.
        challenger: Option<Challenger>,
    },
    /// Another node has it.
    Refused {
        /// Which.
        holder: Arc<str>,
        /// For so long, unless it gives it back or has it renewed.
        remaining: Duration,
    },
    /// The voter has just started, and an earlier self of it may have granted this to anybody.
    Starting {
        /// For so long.
        remaining: Duration,
    },
    /// The voter grants nothing for so long.
    TooLong {
        /// This is its longest.
        longest: Duration,
    },
    /// The voter has no room for one more virtual router.
    Full,
}

/// A node that means to replace a living owner.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Challenger {
    /// Which.
    pub name: Arc<str>,
    /// Its priority.
    pub priority: Priority,
}

/// A node needs a grant no longer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Release {
    /// Of which virtual router.
    pub router: RouterId,
    /// What was asked for until then, and nothing later.
    pub stamp: Stamp,
}

/// Why bytes are no payload of these messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantError {
    /// Ends within a message. Bytes.
    Truncated {
        /// Bytes left.
        have: usize,
        /// Bytes needed.
        need: usize,
    },
    /// A body is longer than what its kind holds.
    Overlong {
        /// Bytes that are too many.
        extra: usize,
    },
    /// A kind that is not known here.
    UnknownKind {
        /// The kind.
        kind: u8,
    },
    /// A verdict that is not known here.
    UnknownVerdict {
        /// The verdict.
        verdict: u8,
    },
    /// A name that is empty or not UTF-8.
    BadName,
    /// VRID 0.
    NoVrid,
}

const ASK: u8 = 1;
const REPLY: u8 = 2;
const RELEASE: u8 = 3;
const ROLL_CALL: u8 = 4;
const PRESENT: u8 = 5;

const GRANTED: u8 = 1;
const GRANTED_BUT_CHALLENGED: u8 = 2;
const REFUSED: u8 = 3;
const STARTING: u8 = 4;
const TOO_LONG: u8 = 5;
const FULL: u8 = 6;

/// Kind and length.
const HEAD: usize = 3;

/// Reads a payload.
///
/// # Errors
///
/// The first thing that is wrong with it: a payload is believed whole or not at all.
pub fn parse(payload: &[u8]) -> Result<Vec<GrantMessage>, GrantError> {
    let mut messages = Vec::new();
    let mut rest = Reader(payload);
    while !rest.0.is_empty() {
        let kind = rest.byte()?;
        let length = usize::from(rest.short()?);
        let mut body = Reader(rest.bytes(length)?);
        messages.push(body.message(kind)?);
        if !body.0.is_empty() {
            return Err(GrantError::Overlong { extra: body.0.len() });
        }
    }
    Ok(messages)
}

impl GrantMessage {
    /// Appends the message to a payload.
    pub fn emit(&self, payload: &mut Vec<u8>) {
        let mut body = Vec::with_capacity(self.emitted_len());
        let kind = match self {
            Self::Ask(ask) => {
                put_router(&mut body, &ask.router);
                put_stamp(&mut body, ask.stamp);
                put_duration(&mut body, ask.length);
                body.push(ask.challenge.map_or(0, |priority| priority.0));
                ASK
            }
            Self::Reply(reply) => {
                put_router(&mut body, &reply.router);
                put_stamp(&mut body, reply.stamp);
                reply.verdict.put(&mut body);
                REPLY
            }
            Self::Release(release) => {
                put_router(&mut body, &release.router);
                put_stamp(&mut body, release.stamp);
                RELEASE
            }
            Self::RollCall { stamp } => {
                put_stamp(&mut body, *stamp);
                ROLL_CALL
            }
            Self::Present { stamp, wait } => {
                put_stamp(&mut body, *stamp);
                put_duration(&mut body, *wait);
                PRESENT
            }
        };
        payload.push(kind);
        let length = u16::try_from(body.len()).expect("two names of 255 bytes and a few numbers");
        payload.extend_from_slice(&length.to_be_bytes());
        payload.extend_from_slice(&body);
    }

    /// The bytes that [`Self::emit`] appends.
    pub fn emitted_len(&self) -> usize {
        let router = |router: &RouterId| 1 + name_of(&router.cluster).len() + 1;
        HEAD + match self {
            Self::Ask(ask) => router(&ask.router) + 8 + 8 + 1,
            Self::Reply(reply) => {
                let verdict = match &reply.verdict {
                    Verdict::Granted { challenger: None, .. } => 8,
                    Verdict::Granted { challenger: Some(challenger), .. } => {
                        8 + 1 + name_of(&challenger.name).len() + 1
                    }
                    Verdict::Refused { holder, .. } => 1 + name_of(holder).len() + 8,
                    Verdict::Starting { .. } | Verdict::TooLong { .. } => 8,
                    Verdict::Full => 0,
                };
                router(&reply.router) + 8 + 1 + verdict
            }
            Self::Release(release) => router(&release.router) + 8,
            Self::RollCall { .. } => 8,
            Self::Present { .. } => 16,
        }
    }
}

impl Verdict {
    /// In how long this may be granted to who asked; `None`: it is, or nobody knows.
    pub const fn wait(&self) -> Option<Duration> {
        match self {
            Self::Refused { remaining, .. } | Self::Starting { remaining } => Some(*remaining),
            Self::Granted { .. } | Self::TooLong { .. } | Self::Full => None,
        }
    }

    /// Who means to replace the one that this is granted to.
    pub const fn challenger(&self) -> Option<&Challenger> {
        match self {
            Self::Granted { challenger, .. } => challenger.as_ref(),
            Self::Refused { .. } | Self::Starting { .. } | Self::TooLong { .. } | Self::Full => None,
        }
    }

    fn put(&self, body: &mut Vec<u8>) {
        match self {
            Self::Granted { length, challenger: None } => {
                body.push(GRANTED);
                put_duration(body, *length);
            }
            Self::Granted { length, challenger: Some(Challenger { name, priority }) } => {
                body.push(GRANTED_BUT_CHALLENGED);
                put_duration(body, *length);
                put_name(body, name);
                body.push(priority.0);
            }
            Self::Refused { holder, remaining } => {
                body.push(REFUSED);
                put_name(body, holder);
                put_duration(body, *remaining);
            }
            Self::Starting { remaining } => {
                body.push(STARTING);
                put_duration(body, *remaining);
            }
            Self::TooLong { longest } => {
                body.push(TOO_LONG);
                put_duration(body, *longest);
            }
            Self::Full => body.push(FULL),
        }
    }
}

/// Bytes that have not been read yet.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, need: usize) -> Result<&'a [u8], GrantError> {
        let (taken, rest) = self.0.split_at_checked(need).ok_or(GrantError::Truncated { have: self.0.len(), need })?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], GrantError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(GrantError::Truncated { have: self.0.len(), need: N })?;
        self.0 = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8, GrantError> {
        self.array().map(u8::from_be_bytes)
    }

    fn short(&mut self) -> Result<u16, GrantError> {
        self.array().map(u16::from_be_bytes)
    }

    fn stamp(&mut self) -> Result<Stamp, GrantError> {
        self.array().map(u64::from_be_bytes).map(Stamp)
    }

    fn duration(&mut self) -> Result<Duration, GrantError> {
        self.array().map(u64::from_be_bytes).map(Duration::from_nanos)
    }

    fn name(&mut self) -> Result<Arc<str>, GrantError> {
        let length = usize::from(self.byte()?);
        let name = core::str::from_utf8(self.bytes(length)?).map_err(|_| GrantError::BadName)?;
        if name.is_empty() { Err(GrantError::BadName) } else { Ok(Arc::from(name)) }
    }

    fn router(&mut self) -> Result<RouterId, GrantError> {
        let cluster = self.name()?;
        let vrid = Vrid::new(self.byte()?).ok_or(GrantError::NoVrid)?;
        Ok(RouterId { cluster, vrid })
    }

    fn message(&mut self, kind: u8) -> Result<GrantMessage, GrantError> {
        Ok(match kind {
            ASK => GrantMessage::Ask(Ask {
                router: self.router()?,
                stamp: self.stamp()?,
                length: self.duration()?,
                challenge: Some(self.byte()?).filter(|priority| *priority != 0).map(Priority),
            }),
            REPLY => {
                GrantMessage::Reply(Reply { router: self.router()?, stamp: self.stamp()?, verdict: self.verdict()? })
            }
            RELEASE => GrantMessage::Release(Release { router: self.router()?, stamp: self.stamp()? }),
            ROLL_CALL => GrantMessage::RollCall { stamp: self.stamp()? },
            PRESENT => GrantMessage::Present { stamp: self.stamp()?, wait: self.duration()? },
            kind => return Err(GrantError::UnknownKind { kind }),
        })
    }

    fn verdict(&mut self) -> Result<Verdict, GrantError> {
        Ok(match self.byte()? {
            GRANTED => Verdict::Granted { length: self.duration()?, challenger: None },
            GRANTED_BUT_CHALLENGED => {
                let length = self.duration()?;
                let challenger = Challenger { name: self.name()?, priority: Priority(self.byte()?) };
                Verdict::Granted { length, challenger: Some(challenger) }
            }
            REFUSED => Verdict::Refused { holder: self.name()?, remaining: self.duration()? },
            STARTING => Verdict::Starting { remaining: self.duration()? },
            TOO_LONG => Verdict::TooLong { longest: self.duration()? },
            FULL => Verdict::Full,
            verdict => return Err(GrantError::UnknownVerdict { verdict }),
        })
    }
}

fn put_router(body: &mut Vec<u8>, router: &RouterId) {
    put_name(body, &router.cluster);
    body.push(router.vrid.number());
}

fn put_stamp(body: &mut Vec<u8>, stamp: Stamp) {
    body.extend_from_slice(&stamp.0.to_be_bytes());
}

fn put_duration(body: &mut Vec<u8>, duration: Duration) {
    let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    body.extend_from_slice(&nanos.to_be_bytes());
}

fn put_name(body: &mut Vec<u8>, name: &str) {
    let name = name_of(name);
    body.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
    body.extend_from_slice(name);
}

/// What fits of a name. One that is longer is refused where it is configured.
fn name_of(name: &str) -> &[u8] {
    name.as_bytes().get(..NAME_MAX).unwrap_or(name.as_bytes())
}

impl fmt::Display for GrantError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { have, need } => write!(f, "ends within a message: {have} bytes where {need} are needed"),
            Self::Overlong { extra } => write!(f, "a message of {extra} bytes too many"),
            Self::UnknownKind { kind } => write!(f, "unknown kind of message {kind}"),
            Self::UnknownVerdict { verdict } => write!(f, "unknown verdict {verdict}"),
            Self::BadName => f.write_str("a name that is empty or not UTF-8"),
            Self::NoVrid => f.write_str("VRID 0"),
        }
    }
}

#[cfg(test)]
mod tests;
