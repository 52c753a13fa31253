//! A second owner, as others than its adverts betray it: what counts as evidence, and what is done about it.
//!
//! | evidence | verdict |
//! |---|---|
//! | an owner's address is claimed by a foreign MAC | *assert*: advertise, announce again, at once and by the repeats |
//! | the same, from the same MAC, for [`PERSISTENT_AFTER`] | alarm; with `on_conflict = "demote"`: give up, and keep out |
//! | the same within [`SHORTEST_GRACE`] or an interval of the takeover | *assert*, silently: the former owner's last words |
//! | the first claim of a MAC | nothing for [`OVERTAKING`], in which a peer's advert may come and be yielded to |
//! | a claim by a MAC of the group, or the former owner's | the same for an interval, but for [`SHORTEST_GRACE`] at least |
//! | a backup hears an address claimed | the owner's MAC; no conflict; see [`super::silence`] |
//! | adverts with our own source address | reported as a cloned host, where they cannot be our own that came back |
//! | adverts of our VRID for none of our addresses | reported as a foreign group, and not heeded: see [`is_foreign`] |
//!
//! Whoever can send a frame can forge a claim; so a claim alone never makes an owner give up unless the configuration says so.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

use super::announce::RIVAL_SPACING;
use super::output::{Cause, EventKind, Output, StateName};
use super::rare::Blank;
use super::settings::OnConflict;
use super::stats::REPORT_SPACING;
use super::time::Instant;
use super::vip::{Step, Vip};
use crate::types::{Family, MacAddr, Priority};
use crate::wire::DropReason;

/// For so long after a takeover the former owner may still be heard: it has to hear of its successor first, which takes an
/// advert, and to stop what it has begun to send.
pub const SHORTEST_GRACE: Duration = Duration::from_millis(100);
/// A conflict is an alarm once the same host has claimed an address for so long, and
pub const PERSISTENT_AFTER: Duration = Duration::from_secs(10);
/// so often: one that was made to yield by a first answer repeats itself once or twice.
pub const PERSISTENT_CLAIMS: u64 = 3;
/// A conflict counts as over when nothing was heard of it for so long. A host that has the address answers those who ask,
/// which is heard by nobody else; what is heard of it are its announcements and its questions to others.
pub const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);
/// By so much a peer's announcements may overtake the advert by which it takes over: keepalived before 2.2 announces first, which takes
/// it some 20 us an address.
pub const OVERTAKING: Duration = Duration::from_millis(20);
/// How many conflicts of a vip are known at a time, and claims wait for their judgement. Nobody has more false owners; a forger can feign any number.
const MOST_CONFLICTS: usize = 8;
/// How long a node stays out after it gave up against a persistent claim.
const HOLD_AFTER_CONFLICT: Duration = Duration::from_secs(30);

/// By what an address was claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimKind {
    /// Unasked: gratuitous ARP, or an unsolicited neighbour advertisement.
    Announcement,
    /// A question to others that was sent from the address.
    Question,
    /// An answer to a question.
    Answer,
}

/// Another host that claims an address of which this node is the owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The address.
    pub address: IpAddr,
    /// The other host's.
    pub mac: MacAddr,
    /// Its first claim.
    pub first_at: Instant,
    /// Its last claim.
    pub last_at: Instant,
    /// How many were heard.
    pub count: u64,
    /// Whether it was the owner before this node was: it has lost the role, and not the address.
    pub former_owner: bool,
    /// Whether it is an alarm.
    pub persistent: bool,
    reported_at: Instant,
}

/// Another group that uses the same VRID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignGroup {
    /// Who speaks for it.
    pub source: IpAddr,
    /// The addresses that it is about.
    pub theirs: Vec<IpAddr>,
    /// When it was heard last.
    pub last_at: Instant,
}

/// What a vip knows of others that should not be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Evidence {
    conflicts: Vec<Conflict>,
    /// Who claimed an address last while this node was not the owner.
    owner_mac: Option<MacAddr>,
    foreign_group: Option<Box<ForeignGroup>>,
    /// When each address was announced against a claim. No more than the vip has.
    asserted: BTreeMap<IpAddr, Instant>,
    /// Claims of what may be a peer, which are judged unless this node has yielded to it by then.
    pending: Vec<Pending>,
}

impl Blank for Evidence {
    const BLANK: &'static Self = &Self {
        conflicts: Vec::new(),
        owner_mac: None,
        foreign_group: None,
        asserted: BTreeMap::new(),
        pending: Vec::new(),
    };
}

/// What was heard of another host that claims an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Claim {
    heard_at: Instant,
    address: IpAddr,
    mac: MacAddr,
    kind: ClaimKind,
}

/// A claim that is yet to be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pending {
    claim: Claim,
    due_at: Instant,
}

/// What a status shows.
impl Vip {
    /// The hosts that claim this owner's addresses, as far as they were heard lately. None of what is not an owner.
    pub fn conflicts(&self, now: Instant) -> impl Iterator<Item = &Conflict> {
        let is_owner = self.state() == StateName::Active;
        self.evidence.conflicts.iter().filter(move |conflict| is_owner && conflict.is_of_now(now, self.since()))
    }

    /// The group with the same VRID that was heard last, and lately.
    pub fn foreign_group(&self, now: Instant) -> Option<&ForeignGroup> {
        self.evidence.foreign_group.as_deref().filter(|group| now.since(group.last_at) < FORGOTTEN_AFTER)
    }

    /// The MAC address of the owner, while that is another node, or of the last one. It is known once the owner has announced itself.
    pub fn owner_mac(&self) -> Option<MacAddr> {
        self.evidence.owner_mac
    }
}

/// Whether an advert's addresses show that it is about another group than this node's: both lists hold addresses that are not
/// link-local, and none of them is in both.
///
/// DEVIATION: RFC 9568 §7.1 lets version 3 ignore the list. Lists that differ in part are those of one group whose nodes are set up
/// differently, and are heeded. Lists that have nothing in common are those of two groups, of which neither is the other's backup; were
/// they heeded, each would silence the other. keepalived's excluded addresses are in no list and do not matter: the rest of the list does.
/// A link-local address says nothing, because each implementation makes up its own (RFC 9568 §5.2.9 only wants one first).
pub fn is_foreign(theirs: &[IpAddr], ours: impl Iterator<Item = IpAddr>) -> bool {
    let tells = |address: &IpAddr| match address {
        IpAddr::V4(_) => true,
        IpAddr::V6(address) => !address.is_unicast_link_local(),
    };
    let mut comparable = false;
    for own in ours.filter(tells) {
        if theirs.contains(&own) {
            return false;
        }
        comparable = true;
    }
    comparable && theirs.iter().any(tells)
}

/// Inputs.
impl Vip {
    pub(super) fn on_address_claimed(&mut self, step: &mut Step<'_>, address: IpAddr, mac: MacAddr, kind: ClaimKind) {
        let vrid = self.settings.vrid;
        // Every interface with the virtual MAC address makes itself this address (RFC 4291 appendix A), a backup's too: FRR's is
        // there all the time.
        let made_by_itself = address == vrid.derived_link_local() && mac == vrid.virtual_mac(Family::V6);
        if made_by_itself || !self.addresses().iter().any(|own| own.ip == address) {
            return;
        }
        self.depose_if_late(step);
        match self.state() {
            StateName::Active => {
                let claim = Claim { heard_at: step.now, address, mac, kind };
                match self.advert_may_follow_for(&claim) {
                    Some(time) => {
                        let owner_since = self.since();
                        self.evidence.defer(Pending { claim, due_at: step.now + time }, owner_since);
                    }
                    None => self.owner_on_claim(step, claim),
                }
            }
            // The former owner may have the last word until the kernel has the addresses: then this node has it.
            StateName::Claiming => self.withdraw_on_answer(step, address, mac, kind),
            StateName::Backup => {
                self.evidence.owner_mac = Some(mac);
                self.note_answer(step, address, mac);
                self.note_answer_of_summoned(address, mac);
            }
            // Between two owners, too, somebody is the owner.
            StateName::Held | StateName::Initialize => self.evidence.owner_mac = Some(mac),
        }
    }

    /// When a claim is to be judged.
    pub(super) fn judgement_at(&self) -> Option<Instant> {
        self.pending().map(|pending| pending.due_at).min()
    }

    /// Judges the claims that nothing has explained.
    pub(super) fn judge(&mut self, step: &mut Step<'_>) {
        let next = |vip: &Self, now| vip.pending().find(|pending| now >= pending.due_at).copied();
        while let Some(due) = next(self, step.now) {
            self.evidence.pending.retain(|pending| *pending != due);
            self.owner_on_claim(step, due.claim);
        }
    }

    /// The claims that wait for their judgement, as far as they were made against the present ownership.
    fn pending(&self) -> impl Iterator<Item = &Pending> {
        let (is_owner, since) = (self.state() == StateName::Active, self.since());
        self.evidence.pending.iter().filter(move |pending| is_owner && pending.claim.heard_at >= since)
    }

    /// For how long the advert of a peer that takes over may follow its claim: FRR's first advert leaves before its macvlan is ready. Were
    /// the claim contradicted, the neighbours would hold to the wrong host after this node has yielded.
    fn advert_may_follow_for(&self, claim: &Claim) -> Option<Duration> {
        if self.may_be_peer(claim.mac, claim.address) {
            return Some(self.grace());
        }
        let is_known = self.conflicts(claim.heard_at).any(|conflict| conflict.mac == claim.mac);
        (!is_known && !self.has_just_taken_over(claim.heard_at)).then_some(OVERTAKING)
    }

    /// Whether a MAC address is one that another node of this group may have: that of its virtual router, or a former owner's.
    fn may_be_peer(&self, mac: MacAddr, address: IpAddr) -> bool {
        mac == self.settings.vrid.virtual_mac(Family::of(address)) || self.evidence.owner_mac == Some(mac)
    }

    fn grace(&self) -> Duration {
        self.settings.interval.duration().max(SHORTEST_GRACE)
    }

    /// Whether the former owner may still be heard.
    fn has_just_taken_over(&self, now: Instant) -> bool {
        now.since(self.since()) < self.grace()
    }

    fn owner_on_claim(&mut self, step: &mut Step<'_>, claim: Claim) {
        let Claim { heard_at, address, mac, kind } = claim;
        self.assert_address(step, address);
        if self.has_just_taken_over(heard_at) {
            return;
        }
        let former_owner = self.evidence.owner_mac == Some(mac);
        let since = self.since();
        let Some(conflict) = self.evidence.claim(heard_at, since, (address, mac), former_owner) else { return };
        let Conflict { count, first_at, persistent, .. } = conflict;
        if persistent {
            let lasts = step.now.since(first_at);
            self.event(step, EventKind::ConflictPersists { address, mac, count, lasts, former_owner });
            if self.settings.on_conflict == OnConflict::Demote {
                self.hold(step, HOLD_AFTER_CONFLICT, Cause::AddressInUse { address, mac });
            }
        } else {
            self.event_of_packet(step, EventKind::Conflict { address, mac, kind, count, former_owner });
        }
    }

    /// Has the last word about an address, at once where it has not had it within [`RIVAL_SPACING`], else after that.
    ///
    /// DEVIATION: RFC 5227 §2.4(c) lets an address that must stay be defended once in ten seconds. Ten seconds of a service at
    /// the wrong host are too many; once in a second floods no link either, were the other one of the same mind.
    fn assert_address(&mut self, step: &mut Step<'_>, address: IpAddr) {
        let all = self.announce_against_rival(step, RIVAL_SPACING);
        let is_due = self.evidence.asserted.get(&address).is_none_or(|at| step.now.since(*at) >= RIVAL_SPACING);
        if !all && !is_due {
            return;
        }
        self.evidence.asserted.insert(address, step.now);
        if !all {
            // A host that takes several addresses announces them in a row: the answer to the first was too early for the rest.
            let mut set = self.address_set(step);
            set.addresses = set.addresses.iter().filter(|own| own.ip == address).cloned().collect();
            step.outputs.push_back(Output::Announce(set));
        }
        self.answer(step);
    }

    /// Says what a dropped advert is evidence of, where that is more than a reason to drop it; and whether it did.
    pub(super) fn report_evidence(
        &mut self,
        step: &mut Step<'_>,
        reason: &DropReason,
        priority: Priority,
        theirs: &[IpAddr],
        due: bool,
    ) -> bool {
        if let DropReason::ForeignGroup { source } = *reason {
            let group = ForeignGroup { source, theirs: theirs.to_vec(), last_at: step.now };
            if due {
                self.event_of_packet(step, EventKind::ForeignGroup { source, theirs: group.theirs.clone() });
            }
            self.evidence.foreign_group = Some(Box::new(group));
            return true;
        }
        if let DropReason::OwnSource { source } = *reason
            && self.is_clone(step.now, priority)
        {
            if due {
                self.event_of_packet(step, EventKind::ClonedHost { source, priority });
            }
            return true;
        }
        false
    }

    /// Whether an advert with our source address is another host's. Our own come back through a loop in the network; but they
    /// have our priority, and are those of an owner, of one that was it a moment ago, or of one that told another to yield.
    fn is_clone(&self, now: Instant, priority: Priority) -> bool {
        let ours = self.speaks_with(priority) || priority == Priority::RESIGN;
        let speaks = match self.state() {
            StateName::Claiming | StateName::Active => true,
            StateName::Initialize | StateName::Backup | StateName::Held => {
                self.summoned_since().is_some()
                    || now.since(self.since()) < self.active_down_interval(self.settings.interval)
            }
        };
        !ours || !speaks
    }
}

impl Conflict {
    /// Whether it is one with the present ownership, and not over.
    fn is_of_now(&self, now: Instant, owner_since: Instant) -> bool {
        self.first_at >= owner_since && now.since(self.last_at) < FORGOTTEN_AFTER
    }
}

impl Evidence {
    /// Puts off the judgement of a claim. One that is put off already, and what a forger has too many of, is not heeded.
    fn defer(&mut self, new: Pending, owner_since: Instant) {
        self.pending.retain(|pending| pending.claim.heard_at >= owner_since);
        let is_other =
            |pending: &Pending| (pending.claim.address, pending.claim.mac) != (new.claim.address, new.claim.mac);
        if self.pending.len() < MOST_CONFLICTS && self.pending.iter().all(is_other) {
            self.pending.push(new);
        }
    }

    /// Takes note of a claim against an owner. What is to be reported, and as what.
    fn claim(
        &mut self,
        now: Instant,
        owner_since: Instant,
        (address, mac): (IpAddr, MacAddr),
        former_owner: bool,
    ) -> Option<Conflict> {
        self.conflicts.retain(|conflict| conflict.is_of_now(now, owner_since));
        let known = self.conflicts.iter_mut().find(|known| (known.address, known.mac) == (address, mac));
        let Some(conflict) = known else {
            let new = Conflict {
                address,
                mac,
                first_at: now,
                last_at: now,
                count: 1,
                former_owner,
                persistent: false,
                reported_at: now,
            };
            if self.conflicts.len() == MOST_CONFLICTS {
                let oldest = (0..).zip(&self.conflicts).min_by_key(|(_, conflict)| conflict.last_at);
                if let Some((place, _)) = oldest {
                    self.conflicts.swap_remove(place);
                }
            }
            self.conflicts.push(new);
            return Some(new);
        };
        conflict.count = conflict.count.saturating_add(1);
        conflict.last_at = now;
        let persists = conflict.count >= PERSISTENT_CLAIMS && now.since(conflict.first_at) >= PERSISTENT_AFTER;
        let due = persists != conflict.persistent || now.since(conflict.reported_at) >= REPORT_SPACING;
        conflict.persistent = persists;
        if due {
            conflict.reported_at = now;
        }
        due.then_some(*conflict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddr = MacAddr(2, 0, 0, 0, 0, 9);

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn claim(evidence: &mut Evidence, seconds: u64) -> Option<Conflict> {
        evidence.claim(at(seconds), at(0), (ip("10.0.0.100"), MAC), false)
    }

    #[test]
    fn a_claim_is_reported_once_and_again_when_it_persists_and_then_once_a_minute() {
        let mut evidence = Evidence::BLANK.clone();
        let reported: Vec<(u64, bool)> =
            (0..200).filter_map(|second| Some((second, claim(&mut evidence, second)?.persistent))).collect();
        assert_eq!(reported, [(0, false), (10, true), (70, true), (130, true), (190, true)]);
    }

    #[test]
    fn two_claims_never_persist_and_a_forgotten_one_begins_anew() {
        let mut evidence = Evidence::BLANK.clone();
        assert!(claim(&mut evidence, 0).is_some());
        assert!(claim(&mut evidence, 30).is_none());
        let again = claim(&mut evidence, 30 + FORGOTTEN_AFTER.as_secs()).unwrap();
        assert_eq!((again.count, again.persistent), (1, false));
        let (now, claim) = (at(40 + FORGOTTEN_AFTER.as_secs()), (ip("10.0.0.100"), MAC));
        assert_eq!(evidence.claim(now, now, claim, false).unwrap().count, 1, "an ownership of its own");
    }

    #[test]
    fn a_forger_of_many_macs_fills_no_memory() {
        let mut evidence = Evidence::BLANK.clone();
        for n in 0..=255 {
            let claim = (ip("10.0.0.100"), MacAddr(2, 0, 0, 0, 0, n));
            assert!(evidence.claim(at(u64::from(n)), at(0), claim, false).is_some());
        }
        let left: Vec<u8> = evidence.conflicts.iter().map(|conflict| conflict.mac.5).collect();
        assert_eq!(left.len(), MOST_CONFLICTS);
        assert!(left.iter().all(|n| *n >= 248), "the last ones: {left:?}");

        for n in 0..=255 {
            let mac = MacAddr(2, 0, 0, 0, 0, n);
            let claim = Claim { heard_at: at(9), address: ip("10.0.0.100"), mac, kind: ClaimKind::Announcement };
            evidence.defer(Pending { claim, due_at: at(10) }, at(0));
        }
        assert_eq!(evidence.pending.len(), MOST_CONFLICTS);
    }

    #[test]
    fn a_group_is_foreign_when_nothing_but_link_local_addresses_could_be_common() {
        let of = |texts: &[&str]| texts.iter().map(|text| ip(text)).collect::<Vec<_>>();
        let foreign = |theirs: &[&str], ours: &[&str]| is_foreign(&of(theirs), of(ours).into_iter());
        assert!(foreign(&["10.0.0.7"], &["10.0.0.100"]));
        assert!(!foreign(&["10.0.0.7", "10.0.0.100"], &["10.0.0.100", "10.0.0.101"]));
        assert!(!foreign(&["10.0.0.100"], &["10.0.0.100", "10.0.0.101"]), "the rest may be excluded at the peer");
        assert!(foreign(&["fe80::1", "fd00::7"], &["fe80::1", "fd00::100"]), "a link-local address in common");
        assert!(!foreign(&["fe80::1"], &["fe80::2", "fd00::100"]), "the peer lists no other");
        assert!(!foreign(&["fe80::1", "fd00::7"], &["fe80::2"]), "this node has no other");
    }
}
