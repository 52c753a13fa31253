//! Which adverts are believed where nodes have a key in common: those of this virtual router, from this sender, and only once.
//!
//! Adverts go to a group, so nobody can be given a token as in a [session](super::session). Instead each life of a sender has a
//! higher epoch than the one before (it keeps the last one on disk), and within it a number that grows. The receiver keeps the
//! highest epoch of each sender, and which numbers came, for each virtual router. So what is repeated, from this life or an earlier one, is
//! dropped; and what one of the sender's interfaces said is not believed where another one of them is heard.
//!
//! What this cannot see: a receiver that has just been started knows nothing of what it heard before, and believes what is
//! repeated to it until it hears the sender itself; and a packet that somebody held back, and delivers late for the first time.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::LinkId;
use super::numbers::Numbers;
use crate::types::Family;
use crate::wire::DropReason;
use crate::wire::seal::Keys;
use crate::wire::sealed_advert::{self, Stamp};

/// How many senders are remembered, a source address on an interface each, with up to 255 virtual routers. Only whoever has the key is.
/// Past that the one that has been silent for longest is forgotten.
pub const MAX_SENDERS: usize = 4_096;

/// What is done about seals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sealing {
    /// Adverts are plain.
    #[default]
    Off,
    /// Adverts are sent plain; those with a seal are believed if it holds.
    Receive,
    /// Adverts are sealed; plain ones are believed too.
    Send,
    /// Adverts are sealed; plain ones are dropped.
    Require,
}

/// The seals of a node's adverts, and of those that it hears.
#[derive(Debug)]
pub struct Seals {
    keys: Keys,
    sealing: Sealing,
    /// This life of this node; none where it cannot be told from others, and must not seal.
    epoch: Option<u64>,
    /// The last number from each of our addresses, by interface.
    sent: BTreeMap<(LinkId, IpAddr), u64>,
    senders: BTreeMap<(LinkId, IpAddr), Sender>,
    /// Grows with each advert that is believed.
    turn: u64,
}

#[derive(Debug)]
struct Sender {
    epoch: u64,
    /// Which of its interfaces.
    link: u32,
    /// What came, by VRID.
    numbers: BTreeMap<u8, Numbers>,
    /// When it was believed last.
    turn: u64,
}

impl Sealing {
    /// Whether this node's adverts are sealed.
    pub const fn sends(self) -> bool {
        match self {
            Self::Off | Self::Receive => false,
            Self::Send | Self::Require => true,
        }
    }
}

impl Seals {
    /// Of a node. The epoch is higher than that of any earlier life of it; one that never is to seal needs none.
    pub const fn new(keys: Keys, sealing: Sealing, epoch: Option<u64>) -> Self {
        Self { keys, sealing, epoch, sent: BTreeMap::new(), senders: BTreeMap::new(), turn: 0 }
    }

    /// Goes on with other settings, if it can. What came stays known.
    pub fn follow(&mut self, keys: Keys, sealing: Sealing) -> bool {
        let can = self.epoch.is_some() || !sealing.sends();
        if can {
            self.keys = keys;
            self.sealing = sealing;
        }
        can
    }

    /// The keys in use.
    pub const fn keys(&self) -> &Keys {
        &self.keys
    }

    /// What is done about seals.
    pub const fn sealing(&self) -> Sealing {
        self.sealing
    }

    /// Seals an advert that leaves by an interface, if that is to be.
    pub fn seal(&mut self, link: LinkId, source: IpAddr, packet: &mut Vec<u8>) {
        let Some(epoch) = self.epoch.filter(|_| self.sealing.sends()) else { return };
        let counter = self.sent.entry((link, source)).or_insert(0);
        *counter = counter.saturating_add(1);
        let stamp = Stamp { epoch, link: link.0.into(), counter: *counter };
        sealed_advert::seal(&self.keys, source, stamp, packet);
    }

    /// The advert in a packet that arrived, once its seal was seen to hold, and to be new; or as it is, where that is believed too.
    ///
    /// # Errors
    ///
    /// Why it is not believed.
    pub fn open<'a>(&mut self, link: LinkId, source: IpAddr, bytes: &'a [u8]) -> Result<&'a [u8], DropReason> {
        if self.sealing == Sealing::Off {
            return Ok(bytes);
        }
        match (sealed_advert::open(&self.keys, source, bytes)?, self.sealing) {
            ((advert, Some(stamp)), _) => self.admit(link, source, advert, stamp).map(|()| advert),
            ((_, None), Sealing::Require) if is_whole(bytes, source) => Err(DropReason::NotSealed { source }),
            ((advert, None), _) => Ok(advert),
        }
    }

    fn admit(&mut self, link: LinkId, source: IpAddr, advert: &[u8], stamp: Stamp) -> Result<(), DropReason> {
        let [_, vrid, ..] = advert else { return Err(DropReason::Truncated { have: advert.len(), need: 2 }) };
        let Stamp { epoch, counter, .. } = stamp;
        // What came back is no sign of a copy of this host, which would have an epoch of its own.
        if self.epoch == Some(epoch) && self.sent.get(&(link, source)).is_some_and(|last| counter <= *last) {
            return Err(DropReason::OwnSource { source });
        }
        self.turn = self.turn.saturating_add(1);
        let turn = self.turn;
        let sender = self.sender(link, source, stamp);
        if epoch < sender.epoch {
            return Err(DropReason::StaleEpoch { epoch, known: sender.epoch });
        }
        if epoch > sender.epoch {
            *sender = Sender::new(stamp, turn);
        }
        if stamp.link != sender.link {
            return Err(DropReason::OtherLink { source });
        }
        let is_new = match sender.numbers.get_mut(vrid) {
            Some(numbers) => numbers.admit(counter),
            None => sender.numbers.insert(*vrid, Numbers::from(counter)).is_none(),
        };
        if !is_new {
            return Err(DropReason::Replayed { counter });
        }
        sender.turn = turn;
        Ok(())
    }

    /// What is known of a sender, whose seal holds; makes room where there is none.
    fn sender(&mut self, link: LinkId, source: IpAddr, stamp: Stamp) -> &mut Sender {
        let place = (link, source);
        if !self.senders.contains_key(&place) && self.senders.len() >= MAX_SENDERS {
            let idle = self.senders.iter().min_by_key(|(_, sender)| sender.turn).map(|(place, _)| *place);
            idle.and_then(|idle| self.senders.remove(&idle));
        }
        let turn = self.turn;
        self.senders.entry(place).or_insert_with(|| Sender::new(stamp, turn))
    }
}

impl Sender {
    const fn new(stamp: Stamp, turn: u64) -> Self {
        Self { epoch: stamp.epoch, link: stamp.link, numbers: BTreeMap::new(), turn }
    }
}

/// Whether it would be an advert without a seal. What is not, is dropped for what it is.
fn is_whole(bytes: &[u8], source: IpAddr) -> bool {
    crate::wire::advert::length(bytes, Family::of(source)) == Some(bytes.len())
}

#[cfg(test)]
mod tests;
