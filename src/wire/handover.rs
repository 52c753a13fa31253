//! Handovers: what two nodes say to each other while a vip goes from one to the other. They travel sealed ([`seal`](super::seal)).
//!
//! A vip is found by its VRID and an address in common, as in a [`heartbeat`](super::heartbeat).
//!
//! ```text
//! version 1 | step 1 | detail 1 | vrid 1 | advert interval in cs 2 | number 8 | present 1 | addresses that are present, 4 or 16 each
//! ```
//!
//! All numbers are big endian. A step that needs no detail or no interval has 0 there.

use alloc::vec::Vec;
use core::fmt;

use super::heartbeat::Addresses;
use crate::types::{AdvertInterval, Vrid};

const VERSION: u8 = 1;

/// In the number of a question: nothing will move, so that the successor runs no program for it. Older agents, which run none, heed no bit of it.
pub const QUESTION_ONLY: u64 = 1 << 63;

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandoverMessage {
    /// With [`Self::addresses`] it says which vip.
    pub vrid: Vrid,
    /// The lowest of each family.
    pub addresses: Addresses,
    /// Ties an answer to what it answers: that of the question, as its sender counts. See [`QUESTION_ONLY`].
    pub number: u64,
    /// What is said.
    pub step: HandoverStep,
}

/// What is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandoverStep {
    /// To the owner: let me have it.
    Want(HandoverReason),
    /// To the successor: are you ready to have it?
    Ask {
        /// Why it is to move.
        reason: HandoverReason,
        /// By which the owner's peers wait.
        interval: AdvertInterval,
    },
    /// To the owner: I am ready.
    Ready,
    /// Not to or from me.
    Refuse(Refusal),
    /// To the successor: I answer no more, it is yours.
    LetGo,
    /// To the former owner: I answer.
    Taken,
    /// To the successor: it stays where it is.
    Cancel,
    /// To the owner: I am not ready yet, but I will be, or refuse: go on asking.
    Preparing,
}

/// Why a vip moves from a healthy owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HandoverReason {
    /// The owner's agent is being stopped.
    Stop,
    /// The owner is being drained.
    Drain,
    /// The successor has the higher priority.
    Preempt,
    /// An operator wants it.
    Operator,
    /// A drill.
    Drill,
    /// An operator's handover could not be verified, and is taken back.
    Back,
}

/// Why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refusal {
    /// The node that was asked does not listen for the owner: it is drained or held, or its interface is not ready.
    NotListening,
    /// It follows another owner.
    OtherOwner,
    /// The kernel would not take the addresses.
    NotInstalled,
    /// It has the addresses for its own, or another handover under way.
    Busy,
    /// It does not own the vip.
    NotOwner,
    /// It has no reason to.
    NoReason,
    /// Its data lags too far behind.
    StaleData,
    /// It is a member of a group, which moves as a whole.
    InGroup,
    /// A hook is asked before it claims, and its agent is an older one, which asks it only then.
    AsksHook,
    /// Its hook forbids it.
    Vetoed,
}

/// Why bytes are no such message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandoverError {
    /// Another length than its addresses ask for. Bytes.
    Length {
        /// Bytes received.
        have: usize,
    },
    /// A newer agent's.
    UnknownVersion {
        /// The version field.
        version: u8,
    },
    /// A step, a detail of it or an interval that means nothing.
    UnknownStep {
        /// The step.
        step: u8,
        /// Its detail.
        detail: u8,
    },
    /// VRID 0 is not a virtual router.
    ZeroVrid,
    /// Bits without a meaning.
    UnknownFlags {
        /// Which addresses are present.
        present: u8,
    },
}

impl fmt::Display for HandoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { have } => write!(f, "{have} bytes are too few or too many"),
            Self::UnknownVersion { version } => write!(f, "handover of the unknown version {version}"),
            Self::UnknownStep { step, detail } => write!(f, "unknown step {step} with the detail {detail}"),
            Self::ZeroVrid => f.write_str("VRID 0"),
            Self::UnknownFlags { present } => write!(f, "unknown flags {present:#04x}"),
        }
    }
}

impl fmt::Display for HandoverReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stop => "it stops",
            Self::Drain => "it is drained",
            Self::Preempt => "preempted",
            Self::Operator => "by an operator",
            Self::Drill => "a drill",
            Self::Back => "taken back",
        })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotListening => "it takes no part now: drained, held, or its interface is not ready",
            Self::OtherOwner => "it follows another owner",
            Self::NotInstalled => "its kernel refuses the addresses",
            Self::Busy => "it is the address owner, or another handover is under way",
            Self::NotOwner => "it is not the owner",
            Self::NoReason => "its priority is not higher",
            Self::StaleData => "its data lags too far behind",
            Self::InGroup => "it is a member of a group, which moves as a whole",
            Self::AsksHook => "its agent is an older one, and asks a hook before it claims",
            Self::Vetoed => "its `before_claim` hook forbids it",
        })
    }
}

mod present {
    pub(super) const V4: u8 = 1;
    pub(super) const V6: u8 = 1 << 1;
    pub(super) const ALL: u8 = V4 | V6;
}

impl HandoverMessage {
    /// Appends its bytes.
    pub fn emit(&self, out: &mut Vec<u8>) {
        let (step, detail) = self.step.numbers();
        out.extend([VERSION, step, detail, self.vrid.number()]);
        let interval = if let HandoverStep::Ask { interval, .. } = self.step { interval.centiseconds() } else { 0 };
        out.extend(interval.to_be_bytes());
        out.extend(self.number.to_be_bytes());
        let bit = |is: bool, bit: u8| if is { bit } else { 0 };
        out.push(bit(self.addresses.v4.is_some(), present::V4) | bit(self.addresses.v6.is_some(), present::V6));
        self.addresses.emit(out);
    }

    /// Reads a whole payload.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, HandoverError> {
        let length = HandoverError::Length { have: bytes.len() };
        let (header, rest) = bytes.split_first_chunk::<15>().ok_or(length)?;
        let [version, step, detail, vrid, i1, i2, number @ .., present] = header;
        if *version != VERSION {
            return Err(HandoverError::UnknownVersion { version: *version });
        }
        let step = HandoverStep::of(*step, *detail, u16::from_be_bytes([*i1, *i2]))?;
        let vrid = Vrid::new(*vrid).ok_or(HandoverError::ZeroVrid)?;
        if present & !present::ALL != 0 {
            return Err(HandoverError::UnknownFlags { present: *present });
        }
        let has = |bit: u8| present & bit != 0;
        let (addresses, rest) = Addresses::split_from(rest, has(present::V4), has(present::V6)).ok_or(length)?;
        if !rest.is_empty() {
            return Err(length);
        }
        Ok(Self { vrid, addresses, number: u64::from_be_bytes(*number), step })
    }
}

impl HandoverStep {
    const fn numbers(self) -> (u8, u8) {
        match self {
            Self::Want(reason) => (1, reason.number()),
            Self::Ask { reason, interval: _ } => (2, reason.number()),
            Self::Ready => (3, 0),
            Self::Refuse(refusal) => (4, refusal.number()),
            Self::LetGo => (5, 0),
            Self::Taken => (6, 0),
            Self::Cancel => (7, 0),
            Self::Preparing => (8, 0),
        }
    }

    fn of(step: u8, detail: u8, interval: u16) -> Result<Self, HandoverError> {
        let unknown = HandoverError::UnknownStep { step, detail };
        let plain = |is: Self| if detail == 0 && interval == 0 { Ok(is) } else { Err(unknown) };
        match (step, interval) {
            (1, 0) => HandoverReason::of(detail).map(Self::Want).ok_or(unknown),
            (2, _) => {
                let reason = HandoverReason::of(detail).ok_or(unknown)?;
                let interval = AdvertInterval::from_centiseconds(interval).ok_or(unknown)?;
                Ok(Self::Ask { reason, interval })
            }
            (3, _) => plain(Self::Ready),
            (4, 0) => Refusal::of(detail).map(Self::Refuse).ok_or(unknown),
            (5, _) => plain(Self::LetGo),
            (6, _) => plain(Self::Taken),
            (7, _) => plain(Self::Cancel),
            (8, _) => plain(Self::Preparing),
            (_, _) => Err(unknown),
        }
    }
}

impl HandoverReason {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Stop, Self::Drain, Self::Preempt, Self::Operator, Self::Drill, Self::Back];

    const fn number(self) -> u8 {
        match self {
            Self::Stop => 1,
            Self::Drain => 2,
            Self::Preempt => 3,
            Self::Operator => 4,
            Self::Drill => 5,
            Self::Back => 6,
        }
    }

    fn of(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.number() == number)
    }
}

impl Refusal {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::NotListening,
        Self::OtherOwner,
        Self::NotInstalled,
        Self::Busy,
        Self::NotOwner,
        Self::NoReason,
        Self::StaleData,
        Self::InGroup,
        Self::AsksHook,
        Self::Vetoed,
    ];

    const fn number(self) -> u8 {
        match self {
            Self::NotListening => 1,
            Self::OtherOwner => 2,
            Self::NotInstalled => 3,
            Self::Busy => 4,
            Self::NotOwner => 5,
            Self::NoReason => 6,
            Self::StaleData => 7,
            Self::InGroup => 8,
            Self::AsksHook => 9,
            Self::Vetoed => 10,
        }
    }

    fn of(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|refusal| refusal.number() == number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_step() -> Vec<HandoverStep> {
        let interval = AdvertInterval::from_centiseconds(4095).unwrap();
        let reasons = HandoverReason::ALL.into_iter();
        let mut steps: Vec<_> = reasons.clone().map(HandoverStep::Want).collect();
        steps.extend(reasons.map(|reason| HandoverStep::Ask { reason, interval }));
        steps.extend(Refusal::ALL.map(HandoverStep::Refuse));
        steps.extend([HandoverStep::Ready, HandoverStep::LetGo, HandoverStep::Taken]);
        steps.extend([HandoverStep::Cancel, HandoverStep::Preparing]);
        steps
    }

    fn message(step: HandoverStep) -> HandoverMessage {
        let addresses = Addresses { v4: Some([10, 0, 0, 100].into()), v6: Some("2001:db8::100".parse().unwrap()) };
        HandoverMessage { vrid: Vrid::new(51).unwrap(), addresses, number: 0x0102_0304_0506_0708, step }
    }

    fn bytes(message: &HandoverMessage) -> Vec<u8> {
        let mut bytes = Vec::new();
        message.emit(&mut bytes);
        bytes
    }

    #[test]
    fn what_is_emitted_is_read_again() {
        for step in every_step() {
            let whole = message(step);
            let v6 = Addresses { v4: None, ..whole.addresses };
            for message in [whole, HandoverMessage { addresses: v6, ..whole }] {
                assert_eq!(HandoverMessage::parse(&bytes(&message)), Ok(message));
            }
        }
    }

    #[test]
    fn every_other_length_is_refused() {
        let mut whole = bytes(&message(HandoverStep::LetGo));
        for have in 0..whole.len() {
            assert_eq!(HandoverMessage::parse(&whole[..have]), Err(HandoverError::Length { have }));
        }
        whole.push(0);
        assert_eq!(HandoverMessage::parse(&whole), Err(HandoverError::Length { have: whole.len() }));
    }

    #[test]
    fn each_field_that_can_be_wrong_is_named() {
        let good = bytes(&message(HandoverStep::LetGo));
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            HandoverMessage::parse(&bytes).unwrap_err()
        };
        assert_eq!(with(0, 2), HandoverError::UnknownVersion { version: 2 });
        assert_eq!(with(1, 9), HandoverError::UnknownStep { step: 9, detail: 0 });
        assert_eq!(with(1, 4), HandoverError::UnknownStep { step: 4, detail: 0 });
        assert_eq!(with(1, 2), HandoverError::UnknownStep { step: 2, detail: 0 });
        assert_eq!(with(2, 1), HandoverError::UnknownStep { step: 5, detail: 1 });
        assert_eq!(with(5, 1), HandoverError::UnknownStep { step: 5, detail: 0 });
        assert_eq!(with(3, 0), HandoverError::ZeroVrid);
        assert_eq!(with(14, 4), HandoverError::UnknownFlags { present: 4 });
    }
}
