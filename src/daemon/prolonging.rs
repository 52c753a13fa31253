//! Lifetimes that wait to be renewed, while the thread of the addresses has nothing better to do.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::kernel::options;
use super::lifetimes::Prolongation;
use super::links::Interface;
use crate::driver::addresses::{AddressError, Addresses};
use crate::driver::virtual_mac::VirtualMacs;
use crate::engine::VipId;
use crate::types::{Family, MacMode, VirtualAddress, Vrid};

/// How many are renewed before another order is looked for. A claim waits no longer than they take: some milliseconds,
/// for a host with a thousand IPv6 addresses renews one in 0.3 ms.
const IPV4_AT_ONCE: usize = 100;
/// See [`IPV4_AT_ONCE`].
const IPV6_AT_ONCE: usize = 10;

/// One entry a family of a vip at most.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    waiting: VecDeque<Waiting>,
    /// Where the addresses of virtual routers with their own MAC address are.
    macvlans: BTreeMap<(u32, Vrid, Family), u32>,
}

#[derive(Clone, Debug)]
struct Waiting {
    interface: Interface,
    what: Prolongation,
    done: usize,
}

impl Waiting {
    /// Whether the kernel can be asked for it along with that.
    fn is_renewed_with(&self, interface: Interface, what: &Prolongation) -> bool {
        let is_beside = match what.mac {
            MacMode::Interface => true,
            MacMode::Virtual => self.what.vrid == what.vrid,
        };
        let like = |what: &Prolongation| (what.mac, what.family, what.lifetime);
        is_beside && self.interface.ifindex == interface.ifindex && like(&self.what) == like(what)
    }
}

impl Backlog {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Adds one, in the place of an older one.
    pub(super) fn put(&mut self, interface: Interface, what: Prolongation) {
        self.waiting.retain(|waiting| (waiting.what.vip, waiting.what.family) != (what.vip, what.family));
        self.waiting.push_back(Waiting { interface, what, done: 0 });
    }

    /// These are to be removed: a renewal would bring them back.
    pub(super) fn forget(&mut self, vip: VipId, addresses: &[VirtualAddress]) {
        self.macvlans.clear();
        for Waiting { what, done, .. } in self.waiting.iter_mut().filter(|waiting| waiting.what.vip == vip) {
            let left = what.addresses.iter().skip(*done).filter(|address| !addresses.contains(address));
            what.addresses = left.cloned().collect::<Arc<[_]>>();
            *done = 0;
        }
    }

    /// Renews a few together, if their leases still run.
    pub(super) fn work(&mut self, addresses: &mut Addresses, virtual_macs: &mut VirtualMacs) {
        let Some(Waiting { interface, what, .. }) = self.waiting.front().cloned() else { return };
        let Some(ifindex) = self.ifindex(interface, &what, virtual_macs) else {
            self.waiting.pop_front();
            return;
        };
        let at_once = match what.family {
            Family::V4 => IPV4_AT_ONCE,
            Family::V6 => IPV6_AT_ONCE,
        };
        let mut few = Vec::new();
        while few.len() < at_once
            && let Some(mut next) = self.waiting.pop_front_if(|next| next.is_renewed_with(interface, &what))
        {
            // Asked last: whoever was frozen until now finds that it is over.
            if !next.what.right.is_held() {
                continue;
            }
            let rest = next.what.addresses.get(next.done..).unwrap_or_default();
            let now: Vec<_> = rest.iter().take(at_once - few.len()).cloned().collect();
            next.done += now.len();
            if now.len() < rest.len() {
                self.waiting.push_front(next);
            }
            few.extend(now);
        }
        match addresses.install(ifindex, &few, options(what.mac, Some(what.lifetime))) {
            // Of that the loop hears by other ways.
            Err(AddressError::Refused { refusal, .. }) if refusal.errno == libc::ENODEV => {}
            Err(error) => tracing::warn!("a lifetime is not renewed: {error}"),
            Ok(()) => {}
        }
    }

    fn ifindex(&mut self, interface: Interface, what: &Prolongation, virtual_macs: &mut VirtualMacs) -> Option<u32> {
        let parent = interface.ifindex;
        match what.mac {
            MacMode::Interface => Some(parent),
            MacMode::Virtual => {
                let key = (parent, what.vrid, what.family);
                if !self.macvlans.contains_key(&key) {
                    let all = virtual_macs.leftovers().inspect_err(|error| tracing::warn!("{error}")).ok()?;
                    self.macvlans = all.iter().map(|it| ((it.parent, it.vrid, it.family), it.ifindex)).collect();
                }
                self.macvlans.get(&key).copied()
            }
        }
    }
}
