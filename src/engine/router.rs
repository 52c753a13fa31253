//! A virtual router: one family of a vip. It decides which adverts concern it, and what it says in its own.
//!
//! It has no state of its own: the vip's routers move together.

use alloc::vec::Vec;
use core::net::IpAddr;

use super::election::Rank;
use super::input::Arrival;
use super::rival;
use super::settings::{ChecksumPolicy, VipSettings};
use super::stats::Drops;
use super::time::Instant;
use crate::types::{AdvertInterval, Family, Priority, Version};
use crate::wire::DropReason;
use crate::wire::advert::{Advert, ChecksumForm, listed};

/// How many peers are remembered, the latest first. More than any group has in practice; a forger gains nothing by more.
const MEMBERS: usize = 8;

/// One family of a vip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Router {
    family: Family,
    /// What the adverts list.
    listed: Vec<IpAddr>,
    source: Option<IpAddr>,
    checksum: ChecksumForm,
    heard: Option<Heard>,
    /// The address list of a peer that was reported because it is not ours.
    reported: Option<Vec<IpAddr>>,
    /// Who has been heard with an address of ours: a peer whose list is changed is one still.
    members: Vec<IpAddr>,
    sent: u64,
    received: u64,
    drops: Drops,
}

/// The last advert that concerned a virtual router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// When.
    pub at: Instant,
    /// The sender.
    pub source: IpAddr,
    /// What it advertised.
    pub priority: Priority,
    /// What it promised.
    pub interval: AdvertInterval,
}

/// What an accepted advert taught beside its content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Learned {
    /// From now on this checksum form is used.
    pub checksum: Option<ChecksumForm>,
    /// The peer's list of addresses, where it is another than ours and was not reported yet.
    pub addresses: Option<Vec<IpAddr>>,
}

impl Router {
    /// The virtual router of a family; `None` where the vip has no address of it.
    pub fn new(family: Family, settings: &VipSettings) -> Option<Self> {
        let addresses: Vec<IpAddr> = settings.addresses_of(family).map(|address| address.ip).collect();
        let checksum = match settings.checksum {
            ChecksumPolicy::Auto => ChecksumForm::Rfc9568,
            ChecksumPolicy::Pinned(form) => form,
        };
        (!addresses.is_empty()).then(|| Self {
            family,
            listed: listed(&addresses).to_vec(),
            source: None,
            checksum,
            heard: None,
            reported: None,
            members: Vec::new(),
            sent: 0,
            received: 0,
            drops: Drops::default(),
        })
    }

    /// IPv4 or IPv6.
    pub const fn family(&self) -> Family {
        self.family
    }

    /// The address that adverts are sent from, while there is one.
    pub const fn source(&self) -> Option<IpAddr> {
        self.source
    }

    /// The checksum form that adverts are sent with.
    pub const fn checksum(&self) -> ChecksumForm {
        self.checksum
    }

    /// The last advert that was accepted.
    pub const fn heard(&self) -> Option<&Heard> {
        self.heard.as_ref()
    }

    /// Adverts sent.
    pub const fn sent(&self) -> u64 {
        self.sent
    }

    /// Adverts accepted.
    pub const fn received(&self) -> u64 {
        self.received
    }

    /// Packets dropped.
    pub const fn drops(&self) -> &Drops {
        &self.drops
    }

    /// Packets dropped, to be counted.
    pub const fn drops_mut(&mut self) -> &mut Drops {
        &mut self.drops
    }

    /// The interface's address changed.
    pub const fn set_source(&mut self, source: Option<IpAddr>) {
        self.source = source;
    }

    /// What this node brings into the election; `None` without a source address.
    pub fn rank(&self, priority: Priority) -> Option<Rank> {
        self.source.map(|source| Rank { priority, source })
    }

    /// Goes on with new settings. The checksum form that was learned stays, unless another one is pinned.
    pub fn follow_settings(&mut self, settings: &VipSettings) {
        let addresses: Vec<IpAddr> = settings.addresses_of(self.family).map(|address| address.ip).collect();
        if self.listed != listed(&addresses) {
            self.listed = listed(&addresses).to_vec();
            self.reported = None;
        }
        if let ChecksumPolicy::Pinned(form) = settings.checksum {
            self.checksum = form;
        }
    }

    /// The next advert, which is counted as sent.
    pub fn advert(&mut self, settings: &VipSettings, priority: Priority) -> Advert {
        self.sent = self.sent.saturating_add(1);
        Advert {
            version: settings.version,
            vrid: settings.vrid,
            priority,
            interval: settings.interval,
            addresses: self.listed.clone(),
            password: settings.password,
        }
    }

    /// Whether an advert concerns this virtual router.
    ///
    /// # Errors
    ///
    /// The first reason why it does not.
    pub fn check(&self, arrival: &Arrival, settings: &VipSettings) -> Result<(), DropReason> {
        let (advert, source) = (&arrival.advert, arrival.source);
        // RFC 9568 §7.1: what was routed is not believed. DEVIATION: an IPv6 unicast peer's link-local address shows that
        // as well, since no router forwards such a packet (RFC 4291 §2.5.6), and keepalived sends these with hop limit 64.
        let link_local_peer = is_link_local(source) && settings.peers.contains(&source);
        let routed = arrival.hop_limit != crate::wire::advert::HOP_LIMIT && !link_local_peer;
        if settings.check_hop_limit && routed {
            return Err(DropReason::WrongHopLimit { hop_limit: arrival.hop_limit });
        }
        if advert.version != settings.version {
            return Err(DropReason::OtherVersion { version: advert.version.number() });
        }
        if self.source == Some(source) {
            return Err(DropReason::OwnSource { source });
        }
        if !settings.peers.is_empty() && !settings.peers.contains(&source) {
            return Err(DropReason::NotAPeer { source });
        }
        if advert.version == Version::V2 {
            if advert.password != settings.password {
                return Err(DropReason::WrongPassword);
            }
            // RFC 3768 §7.1: another interval is a misconfiguration, and the advert is discarded.
            if advert.interval != settings.interval {
                return Err(DropReason::OtherInterval { seconds: advert.interval.whole_seconds().unwrap_or(0) });
            }
        }
        let ours = settings.addresses_of(self.family).map(|address| address.ip);
        if rival::is_foreign(&advert.addresses, ours) && !self.members.contains(&source) {
            return Err(DropReason::ForeignGroup { source });
        }
        // RFC 9568 §7.1: the address owner takes nobody's word.
        if settings.priority == Priority::OWNER {
            return Err(DropReason::AddressOwner { source });
        }
        Ok(())
    }

    /// Takes note of an advert that [`Self::check`] accepted.
    pub fn note(&mut self, now: Instant, arrival: &Arrival, settings: &VipSettings) -> Learned {
        let advert = &arrival.advert;
        if !self.members.contains(&arrival.source) {
            self.members.truncate(MEMBERS - 1);
            self.members.insert(0, arrival.source);
        }
        self.received = self.received.saturating_add(1);
        self.heard =
            Some(Heard { at: now, source: arrival.source, priority: advert.priority, interval: advert.interval });
        Learned { checksum: self.follow_checksum(arrival, settings), addresses: self.compare_addresses(advert) }
    }

    fn follow_checksum(&mut self, arrival: &Arrival, settings: &VipSettings) -> Option<ChecksumForm> {
        let has_forms = self.family == Family::V4 && settings.version == Version::V3;
        if !has_forms || settings.checksum != ChecksumPolicy::Auto || arrival.checksum == self.checksum {
            return None;
        }
        self.checksum = arrival.checksum;
        Some(self.checksum)
    }

    fn compare_addresses(&mut self, advert: &Advert) -> Option<Vec<IpAddr>> {
        let same = advert.addresses.len() == self.listed.len()
            && (advert.addresses == self.listed
                || advert.addresses.iter().all(|address| self.listed.contains(address)));
        if same || self.reported.as_ref() == Some(&advert.addresses) {
            return None;
        }
        self.reported = Some(advert.addresses.clone());
        self.reported.clone()
    }
}

const fn is_link_local(source: IpAddr) -> bool {
    match source {
        IpAddr::V4(_) => false,
        IpAddr::V6(source) => source.is_unicast_link_local(),
    }
}
