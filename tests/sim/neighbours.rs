//! The neighbours' caches: whoever announced an address last is asked for it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::clock::Nanos;
use super::network::Port;

#[derive(Clone, Debug, Default)]
pub struct Neighbours {
    /// By vip and address: who announced it last, and when that arrived.
    cache: BTreeMap<(usize, IpAddr), (Port, Nanos)>,
}

impl Neighbours {
    pub fn hear(&mut self, now: Nanos, vip: usize, address: IpAddr, from: Port) {
        self.cache.insert((vip, address), (from, now));
    }

    /// Who is asked for an address.
    pub fn believes(&self, vip: usize, address: IpAddr) -> Option<Port> {
        self.cache.get(&(vip, address)).map(|(port, _)| *port)
    }
}
