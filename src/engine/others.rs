//! Owners beside the one that a Backup follows, or will replace.
//!
//! Whoever took an owner's place may only have told it to yield ([`super::summons`]), and two own that do not hear each other. So each that was
//! heard and has not resigned may own still, until its own silence has lasted: its agent or its host may be gone, or stand still, within its
//! lease.

use alloc::vec::Vec;
use core::net::IpAddr;

use super::output::Cause;
use super::router::Heard;
use super::time::Instant;
use super::vip::{State, Vip};
use crate::types::Family;

/// As many addresses as there can be, unless somebody forges adverts: several own only where each hears none of the others.
const MOST: usize = 16;

/// The source addresses of one owner, as far as is known: family by family. What another one sends meanwhile may be taken for its.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Voice {
    v4: Option<IpAddr>,
    v6: Option<IpAddr>,
}

impl Voice {
    pub(super) const UNKNOWN: Self = Self { v4: None, v6: None };

    pub(super) fn of_source(source: IpAddr) -> Self {
        let mut voice = Self::UNKNOWN;
        voice.heard(source);
        voice
    }

    const fn of(&self, family: Family) -> Option<IpAddr> {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }

    pub(super) fn has(&self, source: IpAddr) -> bool {
        self.of(Family::of(source)) == Some(source)
    }

    pub(super) fn sources(&self) -> impl Iterator<Item = IpAddr> {
        [self.v4, self.v6].into_iter().flatten()
    }

    pub(super) fn forget(&mut self, source: IpAddr) {
        self.v4 = self.v4.filter(|known| *known != source);
        self.v6 = self.v6.filter(|known| *known != source);
    }

    fn is_of_another(&self, source: IpAddr) -> bool {
        self.of(Family::of(source)).is_some_and(|known| known != source)
    }

    /// An owner was heard. Where it is a new one, what was known of the last one's other family is void.
    pub(super) fn heard(&mut self, source: IpAddr) {
        if self.is_of_another(source) {
            *self = Self::UNKNOWN;
        }
        match Family::of(source) {
            Family::V4 => self.v4 = Some(source),
            Family::V6 => self.v6 = Some(source),
        }
    }
}

/// What an owner sends from one of its addresses. Which ones are the same owner's is not known for sure, so each counts for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Other {
    heard: Heard,
    /// When its silence has lasted.
    until: Instant,
}

/// Those that are known, in the order in which they were noted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Others(Vec<Other>);

impl Others {
    pub(super) const NONE: Self = Self(Vec::new());

    /// Those noted first are forgotten first.
    fn note(&mut self, other: Other) {
        self.forget(other.heard.source);
        if self.0.len() >= MOST {
            self.0.remove(0);
        }
        self.0.push(other);
    }

    /// It owns no more, or is followed itself. Whether it was known.
    pub(super) fn forget(&mut self, source: IpAddr) -> bool {
        let known = self.0.len();
        self.0.retain(|other| other.heard.source != source);
        self.0.len() < known
    }
}

impl Vip {
    /// The owners beside this one: those that are known, and whoever was the owner until now, unless it has resigned.
    pub(super) fn others_than(&self, heard: &Heard) -> Others {
        let Some(backup) = self.backup() else { return Others::NONE };
        let mut others = backup.others.clone();
        let voice = backup.voice();
        if let Some(last) = backup.owner().filter(|_| voice.is_of_another(heard.source)) {
            for source in voice.sources().filter(|source| !backup.resigned().has(*source)) {
                others.note(self.other(Heard { source, ..*last }));
            }
        }
        others.forget(heard.source);
        others.0.retain(|other| heard.at < other.until);
        others
    }

    /// Whether the sender is another one than the owner that is told to yield, and which lives as far as is known.
    pub(super) fn is_beside_summoned(&self, heard: &Heard) -> bool {
        let (Some(backup), Some(_)) = (self.backup(), self.summoned_since()) else { return false };
        let owner = backup.owner().filter(|owner| heard.at < owner.at + self.active_down_interval(owner.interval));
        owner.is_some() && backup.voice().is_of_another(heard.source)
    }

    /// The owner that is told to yield stays the one to be preempted; the sender hears the same.
    pub(super) fn hear_beside_summoned(&mut self, heard: Heard) {
        let other = self.other(heard);
        if let State::Backup(backup) = &mut self.state {
            backup.others.note(other);
        }
    }

    fn other(&self, heard: Heard) -> Other {
        Other { heard, until: heard.at + self.active_down_interval(heard.interval) }
    }

    /// When to ask again whether to claim, where another owner than the one that fell silent or resigned may own still. One that is
    /// preempted is told to yield, and the others with it; one that hands over gives what it has, whoever had it before.
    pub(super) fn object_for_others(&mut self, now: Instant, cause: &Cause) -> Option<Instant> {
        if let Cause::Preempts { .. } | Cause::TakesOver { .. } = cause {
            return None;
        }
        let until = self.others_own_until(now, |_| true)?;
        let interval = self.interval().duration();
        if let State::Backup(backup) = &mut self.state
            && now + interval < until
        {
            backup.prepare_anew();
        }
        Some(until)
    }

    /// Until when one of these owners may own. Voters know better.
    pub(super) fn others_own_until(&self, now: Instant, which: impl Fn(&Heard) -> bool) -> Option<Instant> {
        let (Some(backup), None) = (self.backup(), &self.quorum) else { return None };
        let those = backup.others.0.iter().filter(|other| which(&other.heard));
        those.map(|other| other.until).filter(|until| now < *until).max()
    }
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;

    use super::*;
    use crate::types::{AdvertInterval, Priority};

    #[test]
    fn forged_adverts_grow_no_memory() {
        let mut others = Others::NONE;
        for sender in 0..=u8::MAX {
            let source = IpAddr::V4(Ipv4Addr::new(192, 0, 2, sender));
            let heard =
                Heard { source, priority: Priority::RESIGN, interval: AdvertInterval::MAX_V3, at: Instant::ZERO };
            others.note(Other { heard, until: Instant::ZERO });
        }
        assert_eq!(others.0.len(), MOST);
        assert!(others.forget(IpAddr::V4(Ipv4Addr::new(192, 0, 2, u8::MAX))), "the last is known");
    }
}
