//! What an agent before this one left on the interfaces when it was killed: addresses, macvlans, routes, rules, and
//! leases that may still run.
//!
//! Addresses whose lease still runs are kept with their routes, for the engine to go on with; nobody else can have
//! claimed them yet. All others are a second owner in waiting, and are removed before anything else is done.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use nix::net::if_::if_nametoindex;

use super::clock;
use crate::driver::addresses::{Addresses, OwnAddress};
use crate::driver::gate::Gate;
use crate::driver::routing::{OwnRouting, RoutingTables};
use crate::driver::virtual_mac::{VirtualMac, VirtualMacs};
use crate::engine::{Engine, Instant, Vip, VipId};
use crate::types::{MacMode, VirtualAddress};

/// The lease that still runs on all addresses of a vip.
pub(super) struct Inheritance {
    pub(super) vip: VipId,
    /// When the first address of it ends.
    pub(super) until: Instant,
    /// How long the lease was when it was renewed last.
    pub(super) term: Duration,
}

/// Keeps what can be gone on with, and removes the rest. Returns the vips whose addresses are all there, with a lease.
///
/// # Errors
///
/// What the kernel did not do: then there may be two owners, and the agent must not start.
pub(super) fn take_over(engine: &Engine, gate: Option<&mut Gate>) -> anyhow::Result<Vec<Inheritance>> {
    let mut addresses = Addresses::open()?;
    let mut virtual_macs = VirtualMacs::open()?;
    let mut tables = RoutingTables::open()?;
    let mut left =
        Left { addresses: addresses.own_addresses(None)?, macvlans: virtual_macs.leftovers()?, routing: tables.own()? };
    let mut inherited = Vec::new();
    if let Some(gate) = gate {
        let leases = leases(engine, gate)?;
        for vip in engine.vips() {
            if let Some((until, term)) = left.take_with_lease(engine, vip, &leases, &mut tables) {
                inherited.push(Inheritance { vip: vip.id(), until, term });
            }
        }
    }
    left.remove(&mut addresses, &mut virtual_macs, &mut tables)?;
    Ok(inherited)
}

/// When each address stops to pass its interface, and how long its lease was.
type Leases<'a> = BTreeMap<(&'a str, IpAddr), (Instant, Duration)>;

fn leases<'a>(engine: &'a Engine, gate: &mut Gate) -> anyhow::Result<Leases<'a>> {
    let mut leases = Leases::new();
    for link in engine.links() {
        let now = clock::now();
        let running = gate.leases(&link.name)?.into_iter().filter(|lease| lease.left > Duration::ZERO);
        let key = |address| (link.name.as_str(), address);
        leases.extend(running.map(|lease| (key(lease.address), (now + lease.left, lease.term))));
    }
    Ok(leases)
}

/// What is there and belongs to no running agent.
struct Left {
    addresses: Vec<OwnAddress>,
    macvlans: Vec<VirtualMac>,
    routing: Vec<OwnRouting>,
}

impl Left {
    /// Takes a vip's addresses out if all of them are there, each with a lease, and its routes with them. Until when
    /// the first lease runs, and how long the shortest was.
    fn take_with_lease(
        &mut self,
        engine: &Engine,
        vip: &Vip,
        leases: &Leases<'_>,
        tables: &mut RoutingTables,
    ) -> Option<(Instant, Duration)> {
        let link = engine.links().get(usize::from(vip.link().0))?;
        let parent = if_nametoindex(link.name.as_str()).ok()?;
        let standing = |address: &VirtualAddress| {
            let ifindex = match vip.settings().mac {
                MacMode::Interface => parent,
                MacMode::Virtual => self.macvlan(parent, vip, address)?.ifindex,
            };
            Some(OwnAddress { ifindex, ip: address.ip, prefix_len: address.prefix_len })
        };
        let standing: Vec<_> = vip.addresses().iter().map(standing).collect::<Option<_>>()?;
        if !standing.iter().all(|address| self.addresses.contains(address)) {
            return None;
        }
        let ends = vip.addresses().iter().map(|address| leases.get(&(link.name.as_str(), address.ip)).copied());
        let ends = ends.collect::<Option<Vec<_>>>()?;
        let until = ends.iter().map(|(until, _)| *until).min()?;
        let term = ends.iter().map(|(_, term)| *term).min()?;
        let routing = &vip.settings().routing;
        if !routing.is_empty()
            // What a new file has beside, or what was lost meanwhile.
            && let Err(error) = tables.install(parent, routing)
        {
            tracing::warn!("{} is not gone on with: {error}", vip.settings().name);
            return None;
        }
        self.routing.retain(|own| !routing.iter().any(|routing| *own == OwnRouting::on(parent, *routing)));
        self.addresses.retain(|address| !standing.contains(address));
        self.macvlans.retain(|macvlan| standing.iter().all(|address| address.ifindex != macvlan.ifindex));
        Some((until, term))
    }

    fn macvlan(&self, parent: u32, vip: &Vip, address: &VirtualAddress) -> Option<&VirtualMac> {
        let key = (parent, vip.settings().vrid, address.family());
        self.macvlans.iter().find(|macvlan| (macvlan.parent, macvlan.vrid, macvlan.family) == key)
    }

    fn remove(
        self,
        addresses: &mut Addresses,
        virtual_macs: &mut VirtualMacs,
        tables: &mut RoutingTables,
    ) -> anyhow::Result<()> {
        for OwnRouting { ifindex, routing } in self.routing {
            tables.remove(ifindex, &[routing])?;
            tracing::info!("removed \"{routing}\", which an earlier agent left");
        }
        for left in self.macvlans {
            virtual_macs.remove(left.parent, left.vrid, left.family)?;
            tracing::info!("removed {}, which an earlier agent left", left.name);
        }
        for on_one in self.addresses.chunk_by(|one, other| one.ifindex == other.ifindex) {
            let set: Vec<_> = on_one
                .iter()
                .map(|own| VirtualAddress { ip: own.ip, prefix_len: own.prefix_len, label: None })
                .collect();
            if let Some(first) = on_one.first() {
                addresses.remove(first.ifindex, &set)?;
                tracing::info!("removed {} addresses, which an earlier agent left", set.len());
            }
        }
        Ok(())
    }
}
