//! The leases of all vips, handed on to the gates of their interfaces.
//!
//! Runs in the loop: renewals are one netlink message, right behind their adverts. Where there is no gate the agent goes on with
//! the weaker promise of the addresses' lifetimes, and has said so.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

use super::clock;
use super::log::{Entry, Log};
use crate::driver::gate::{Gate, Renewal, Wanted};
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
    /// Nothing is gated until its interface is heard of.
    pub(super) fn new(gate: Option<Gate>, engine: &Engine) -> Self {
        Self {
            gate,
            vips: leased(engine),
            interfaces: interfaces(engine),
            retired: BTreeSet::new(),
            removing: BTreeMap::new(),
            stuck: BTreeSet::new(),
        }
    }

    /// The engine has other vips: closes their new addresses, and ends the leases on those that went. What goes on is
    /// not touched.
    pub(super) fn reload(&mut self, engine: &Engine, log: &Log) {
        let before = self.managed();
        let owners: BTreeMap<_, _> = self.places();
        self.vips = leased(engine);
        self.interfaces = interfaces(engine);
        let (now, owners_now) = (self.managed(), self.places());
        self.retired.retain(|place| !now.contains(place));
        self.retired.extend(before.difference(&now));
        for (link, added) in by_link(now.difference(&before)) {
            let (Some(gate), Some(interface)) = (&mut self.gate, self.interfaces.get(&link)) else { continue };
            match gate.extend(interface, &added) {
                // It was not needed until now, or somebody flushed all rules.
                Err(error) if error.kind() == io::ErrorKind::NotFound => self.follow(link, log),
                result => report(result, log),
            }
        }
        // The lease on an address that another vip has from now on was not that vip's.
        let passed_on = owners_now.iter().filter(|(place, vip)| owners.get(*place).is_some_and(|owner| owner != *vip));
        let ends: BTreeSet<_> = self.retired.iter().copied().chain(passed_on.map(|(place, _)| *place)).collect();
        for (link, addresses) in by_link(&ends) {
            let (Some(gate), Some(interface)) = (&mut self.gate, self.interfaces.get(&link)) else { continue };
            report(gate.end(interface, &addresses), log);
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
        for (link, addresses) in by_link(&free) {
            let is_used = self.vips.values().any(|leased| leased.link == link)
                || self.retired.iter().any(|(retired, _)| *retired == link);
            let (Some(gate), Some(interface)) = (&mut self.gate, self.interfaces.get(&link)) else { continue };
            let released = if is_used { gate.release(interface, &addresses) } else { gate.unmanage(interface) };
            report(released, log);
        }
    }

    /// An interface is there, or is there anew.
    pub(super) fn follow(&mut self, link: LinkId, log: &Log) {
        let (Some(gate), Some(interface)) = (&mut self.gate, self.interfaces.get(&link)) else { return };
        let there = self.vips.values().filter(|leased| leased.link == link);
        let retired = self.retired.iter().filter(|(retired, _)| *retired == link).map(|(_, address)| *address);
        let addresses: Vec<_> = there.flat_map(|leased| leased.addresses.iter().copied()).chain(retired).collect();
        report(gate.manage(interface, &addresses), log);
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
        report(gate.end(interface, &leased.addresses), log);
    }

    /// As [`Self::end`]. Whether the kernel lets them answer nobody from now on.
    pub(super) fn let_go(&mut self, vip: VipId, log: &Log) -> bool {
        let (Some(gate), Some(leased)) = (&mut self.gate, self.vips.get(&vip)) else { return false };
        let Some(interface) = self.interfaces.get(&leased.link) else { return false };
        let ended = gate.end(interface, &leased.addresses);
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
    fn managed(&self) -> BTreeSet<(LinkId, IpAddr)> {
        self.places().into_keys().collect()
    }

    /// Whose each address is.
    fn places(&self) -> BTreeMap<(LinkId, IpAddr), VipId> {
        let all = self.vips.iter();
        all.flat_map(|(vip, leased)| leased.addresses.iter().map(|address| ((leased.link, *address), *vip))).collect()
    }

    fn try_renew(&mut self, renewals: &[(VipId, Instant)]) -> Vec<io::Result<Renewal>> {
        let Self { gate: Some(gate), vips, interfaces, .. } = self else {
            return renewals.iter().map(|_| Ok(Renewal::Open)).collect();
        };
        // A vip without a lease is open as it is.
        let wanted = |(vip, until): &(VipId, Instant)| {
            let leased = vips.get(vip)?;
            let interface = interfaces.get(&leased.link)?;
            Some(Wanted { interface, addresses: &leased.addresses, until: clock::as_std(*until) })
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

fn by_link<'a>(places: impl IntoIterator<Item = &'a (LinkId, IpAddr)>) -> BTreeMap<LinkId, Vec<IpAddr>> {
    let mut by_link: BTreeMap<LinkId, Vec<IpAddr>> = BTreeMap::new();
    for (link, address) in places {
        by_link.entry(*link).or_default().push(*address);
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
