//! Who looks at the leases that are there, and changes nothing.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use super::Layer;
use super::elements::{self, Running};
use super::table::{self, Set};
use crate::driver::error::context;
use crate::driver::nftables::{Nftables, is_missing};

/// Looks on beside an agent that runs.
#[derive(Debug)]
pub struct Onlooker {
    nftables: Nftables,
}

impl Onlooker {
    /// Opens a conversation with nftables, in the network namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// The kernel has no netfilter netlink.
    pub fn open() -> io::Result<Self> {
        Ok(Self { nftables: Nftables::open()? })
    }

    /// As [`Gate::leases`](super::Gate::leases), in that layer.
    ///
    /// # Errors
    ///
    /// The kernel's refusal. An interface without a gate owns nothing.
    pub fn leases(&mut self, layer: Layer, interface: &str) -> io::Result<Vec<Lease>> {
        leases(&mut self.nftables, layer, interface)
    }
}

/// An address that passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The address.
    pub address: IpAddr,
    /// For how long yet.
    pub left: Duration,
    /// How long it was when it was given.
    pub term: Duration,
}

pub(super) fn leases(nftables: &mut Nftables, layer: Layer, interface: &str) -> io::Result<Vec<Lease>> {
    // The first table knows the addresses of both families.
    let Some(table) = table::tables_of(interface, layer).into_iter().next() else { return Ok(Vec::new()) };
    let mut list = |set| match nftables.list(table.place.family(), &elements::all(&table, set)) {
        Err(error) if is_missing(&error) => Ok(Vec::new()),
        result => result.map_err(context(&format!("read the leases on {interface}"))),
    };
    let running = list(Set::Owned)?.into_iter().flat_map(|answer| elements::read(answer, elements::running_of));
    let running: BTreeMap<_, _> = running.map(|running| (running.number, running)).collect();
    let mut leases = Vec::new();
    for family in table.place.families().iter().filter(|_| !running.is_empty()) {
        let leased = list(Set::Leases(*family))?;
        let leased = leased.into_iter().flat_map(|answer| elements::read(answer, elements::leased_of));
        leases.extend(leased.filter_map(|(address, number)| {
            let Running { left, term, .. } = running.get(&number)?;
            Some(Lease { address, left: *left, term: *term })
        }));
    }
    Ok(leases)
}
