//! Who looks at the leases that are there, and changes nothing.

use std::io;

use super::Layer;
use super::table::{self, Lease, OWNED, Set};
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

pub(super) fn leases(nftables: &mut Nftables, layer: Layer, interface: &str) -> io::Result<Vec<Lease>> {
    let mut leases = Vec::new();
    // The first table knows the addresses of both families.
    for table in table::tables_of(interface, layer).iter().take(1) {
        for family in table.place.families() {
            let owned = table::elements(table, Set { kind: OWNED, family: *family });
            match nftables.list(table.place.family(), &owned) {
                Ok(answers) => leases.extend(answers.into_iter().flat_map(table::elements_of)),
                Err(error) if is_missing(&error) => {}
                Err(error) => return Err(context(&format!("read the leases on {interface}"))(error)),
            }
        }
    }
    Ok(leases)
}
