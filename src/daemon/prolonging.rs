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

#[derive(Debug)]
struct Waiting {
    interface: Interface,
    what: Prolongation,
    done: usize,
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

    /// Renews a few, if their lease still runs.
    pub(super) fn work(&mut self, addresses: &mut Addresses, virtual_macs: &mut VirtualMacs) {
        let Some(mut waiting) = self.waiting.pop_front() else { return };
        let what = &waiting.what;
        let at_once = match what.family {
            Family::V4 => IPV4_AT_ONCE,
            Family::V6 => IPV6_AT_ONCE,
        };
        let rest = what.addresses.get(waiting.done..).unwrap_or_default();
        let few = rest.get(..at_once).unwrap_or(rest);
        if few.is_empty() {
            return;
        }
        let Some(ifindex) = self.ifindex(waiting.interface, what, virtual_macs) else { return };
        // Asked last: whoever was frozen until now finds that it is over.
        if !what.right.is_held() {
            return;
        }
        match addresses.install(ifindex, few, options(what.mac, Some(what.lifetime))) {
            Ok(()) => {
                waiting.done += few.len();
                self.waiting.push_front(waiting);
            }
            // Of that the loop hears by other ways.
            Err(AddressError::Refused { refusal, .. }) if refusal.errno == libc::ENODEV => {}
            Err(error) => tracing::warn!("a lifetime is not renewed: {error}"),
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
