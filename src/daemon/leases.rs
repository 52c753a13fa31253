//! The leases of all vips, handed on to the gates of their interfaces.
//!
//! Runs in the loop: renewals are one netlink message, right behind their adverts. Where there is no gate the agent goes on with
//! the weaker promise of the addresses' lifetimes, and has said so.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::num::NonZeroU32;

use super::clock;
use super::log::{Entry, Log};
use crate::driver::gate::{Gate, LeaseId, Managed, Renewal, Wanted};
use crate::engine::{AddressSet, Engine, Instant, LinkId, RequestId, VipId};
use crate::types::Priority;

/// All of them.
#[derive(Debug)]
pub(super) struct Leases {
    /// `None`: the addresses' lifetimes have to do.
    gate: Option<Gate>,
    vips: BTreeMap<VipId, Leased>,
    interfaces: BTreeMap<LinkId, String>,
    /// No vip has them any more, but they may still be on their interfaces: closed until they are not.
    retired: BTreeSet<(LinkId, IpAddr)>,
    /// Removals that were ordered and have not ended.
    removing: BTreeMap<RequestId, AddressSet>,
    /// Addresses that could not be removed.
    stuck: BTreeSet<(LinkId, IpAddr)>,
}

#[derive(Debug)]
struct Leased {
    link: LinkId,
    addresses: Vec<IpAddr>,
}

impl Leases {
    /// Those of an agent before this one are taken over as this one's. Whatever has no interface yet is gated once it is heard of.
    pub(super) fn new(gate: Option<Gate>, engine: &Engine, log: &Log) -> Self {
        let mut leases = Self {
            gate,
            vips: leased(engine),
            interfaces: interfaces(engine),
            retired: BTreeSet::new(),
            removing: BTreeMap::new(),
            stuck: BTreeSet::new(),
        };
        let links: Vec<_> = leases.interfaces.keys().copied().collect();
        links.into_iter().for_each(|link| leases.follow(link, log));
        leases
    }

    /// The engine has other vips: closes their new addresses unless the vip is held, and those that went. What goes on is
    /// not touched.
    pub(super) fn reload(&mut self, engine: &Engine, log: &Log) {
        let before = self.managed();
        self.vips = leased(engine);
        self.interfaces = interfaces(engine);
        self.retired.extend(before.keys());
        for vip in self.vips.values() {
            vip.addresses.iter().for_each(|address| {
                self.retired.remove(&(vip.link, *address));
            });
        }
        let managed = self.managed();
        let changed = managed.iter().filter(|(place, lease)| before.get(*place) != Some(*lease));
        for (link, changed) in by_link(changed.map(|((link, address), lease)| (*link, managed_by(*address, *lease)))) {
            let (Some(gate), Some(interface)) = (&mut self.gate, self.interfaces.get(&link)) else { continue };
            match gate.assign(interface, &changed) {
                // It was not needed until now, or somebody flushed all rules.
                Err(error) if error.kind() == io::ErrorKind::NotFound => self.follow(link, log),
                result => report(result, log),
            }
        }
    }

    /// A removal was ordered.
    pub(super) fn on_remove(&mut self, set: &AddressSet) {
        self.removing.insert(set.request, set.clone());
    }

    /// A removal has ended.
    pub(super) fn on_removed(&mut self, request: RequestId, removed: bool, log: &Log) {
        let Some(set) = self.removing.remove(&request) else { return };
        for address in set.addresses.iter() {
            let place = (set.link, address.ip);
            if removed {
                self.stuck.remove(&place);
            } else {
                self.stuck.insert(place);
            }
        }
        self.release_retired(log);
    }

    /// Opens the gates to addresses that no vip has any more, once they are off their interfaces.
    pub(super) fn release_retired(&mut self, log: &Log) {
        if self.retired.is_empty() {
            return;
        }
        let removing = self.removing.values();
        let mut kept: BTreeSet<_> =
            removing.flat_map(|set| set.addresses.iter().map(|address| (set.link, address.ip))).collect();
        kept.extend(&self.stuck);
        let free: BTreeSet<_> = self.retired.difference(&kept).copied().collect();
        self.retired.retain(|place| kept.contains(place));
        for (link, addresses) in by_link(free) {
            let is_used = self.vips.values().any(|leased| leased.link == link)
                || self.retired.iter().any(|(retired, _)| *retired == link);
            let (Some(gate), Some(interface)) = (&mut self.gate, self.interfaces.get(&link)) else { continue };
            let released = if is_used { gate.release(interface, &addresses) } else { gate.unmanage(interface) };
            report(released, log);
        }
    }

    /// An interface is there, or is there anew.
    pub(super) fn follow(&mut self, link: LinkId, log: &Log) {
        let managed = self.managed();
        let (Some(gate), Some(interface)) = (&mut self.gate, self.interfaces.get(&link)) else { return };
        let here = managed.into_iter().filter(|((managed, _), _)| *managed == link);
        let here: Vec<_> = here.map(|((_, address), lease)| managed_by(address, lease)).collect();
        report(gate.manage(interface, &here), log);
    }

    /// Holds the addresses of each of these vips until then. Those whose addresses may not be held: it came too late.
    pub(super) fn renew(&mut self, renewals: &[(VipId, Instant)], log: &Log) -> BTreeSet<VipId> {
        let mut outcomes = self.try_renew(renewals);
        let is_missing =
            |outcome: &io::Result<Renewal>| matches!(outcome, Err(error) if error.kind() == io::ErrorKind::NotFound);
        let missing = renewals.iter().zip(&outcomes).filter(|(_, outcome)| is_missing(outcome));
        let missing: Vec<_> = missing.map(|(renewal, _)| *renewal).collect();
        if !missing.is_empty() {
            // Somebody flushed all rules, ours among them.
            let links = missing.iter().filter_map(|(vip, _)| self.vips.get(vip)).map(|leased| leased.link);
            for link in links.collect::<BTreeSet<_>>() {
                self.follow(link, log);
            }
            let again = self.try_renew(&missing);
            outcomes.iter_mut().filter(|outcome| is_missing(outcome)).zip(again).for_each(|(old, new)| *old = new);
        }
        let mut lapsed = BTreeSet::new();
        for ((vip, _), outcome) in renewals.iter().zip(outcomes) {
            match outcome {
                Ok(Renewal::Open) => {}
                Ok(Renewal::Lapsed) => {
                    lapsed.insert(*vip);
                }
                Err(error) => log.write(Entry::Trouble(error.to_string())),
            }
        }
        lapsed
    }

    /// Holds a vip's addresses no longer.
    pub(super) fn end(&mut self, vip: VipId, log: &Log) {
        let (Some(gate), Some(leased)) = (&mut self.gate, self.vips.get(&vip)) else { return };
        let Some(interface) = self.interfaces.get(&leased.link) else { return };
        report(gate.end(interface, lease_of(vip)), log);
    }

    /// As [`Self::end`]. Whether the kernel lets them answer nobody from now on.
    pub(super) fn let_go(&mut self, vip: VipId, log: &Log) -> bool {
        let (Some(gate), Some(leased)) = (&mut self.gate, self.vips.get(&vip)) else { return false };
        let Some(interface) = self.interfaces.get(&leased.link) else { return false };
        let ended = gate.end(interface, lease_of(vip));
        let closed = ended.is_ok();
        report(ended, log);
        closed
    }

    /// Opens all gates: the addresses are gone.
    pub(super) fn remove_all(&mut self, log: &Log) {
        if let Some(gate) = &mut self.gate {
            report(gate.remove_all(), log);
        }
    }
}

impl Leases {
    /// All that is closed unless its vip is held; without a vip, it is closed.
    fn managed(&self) -> BTreeMap<(LinkId, IpAddr), Option<VipId>> {
        let all = self.vips.iter();
        let all = all.flat_map(|(vip, leased)| leased.addresses.iter().map(|ip| ((leased.link, *ip), Some(*vip))));
        all.chain(self.retired.iter().map(|place| (*place, None))).collect()
    }

    fn try_renew(&mut self, renewals: &[(VipId, Instant)]) -> Vec<io::Result<Renewal>> {
        let Self { gate: Some(gate), vips, interfaces, .. } = self else {
            return renewals.iter().map(|_| Ok(Renewal::Open)).collect();
        };
        // A vip without a lease is open as it is.
        let wanted = |(vip, until): &(VipId, Instant)| {
            let leased = vips.get(vip)?;
            let interface = interfaces.get(&leased.link)?;
            Some(Wanted { interface, lease: lease_of(*vip), until: clock::as_std(*until) })
        };
        let wanted: Vec<_> = renewals.iter().map(wanted).collect();
        let mut outcomes = gate.renew_all(&wanted.iter().copied().flatten().collect::<Vec<_>>()).into_iter();
        wanted.iter().map(|wanted| wanted.and_then(|_| outcomes.next()).unwrap_or(Ok(Renewal::Open))).collect()
    }
}

fn leased(engine: &Engine) -> BTreeMap<VipId, Leased> {
    // The addresses of an address owner are the interface's own, and stay whoever is Active.
    let leased = engine.vips().iter().filter(|vip| vip.settings().priority != Priority::OWNER);
    let leased = leased.map(|vip| {
        let addresses = vip.addresses().iter().map(|address| address.ip).collect();
        (vip.id(), Leased { link: vip.link(), addresses })
    });
    leased.collect()
}

fn interfaces(engine: &Engine) -> BTreeMap<LinkId, String> {
    (0..).map(LinkId).zip(engine.links().iter().map(|link| link.name.clone())).collect()
}

/// A vip's lease on its interface.
const fn lease_of(VipId(number): VipId) -> LeaseId {
    LeaseId(NonZeroU32::MIN.saturating_add(number))
}

fn managed_by(address: IpAddr, vip: Option<VipId>) -> Managed {
    Managed { address, lease: vip.map(lease_of) }
}

fn by_link<T>(all: impl IntoIterator<Item = (LinkId, T)>) -> BTreeMap<LinkId, Vec<T>> {
    let mut by_link = BTreeMap::<_, Vec<_>>::new();
    for (link, one) in all {
        by_link.entry(link).or_default().push(one);
    }
    by_link
}

fn report(result: io::Result<()>, log: &Log) {
    match result {
        // An interface that is gone has neither a gate nor an address.
        Err(error) if error.kind() != io::ErrorKind::NotFound => log.write(Entry::Trouble(error.to_string())),
        Ok(()) | Err(_) => {}
    }
}
