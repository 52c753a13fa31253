//! A host that takes the shared address by itself: someone configured it there by hand, or restored an old machine.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::host::Host;
use super::network::Network;
use super::tap::Tap;
use crate::types::MacAddr;
use crate::wire::arp::Arp;
use crate::wire::ndisc::NeighborAdvertisement;

/// Its MAC address, which the lab makes from its first address.
pub const STRANGER_MAC: [u8; 6] = [2, 4, 10, 77, 0, 66];

/// Nothing is waited for.
const PATIENCE: Duration = Duration::from_millis(1);

/// The host. It vanishes when dropped.
pub struct Stranger {
    host: Host,
    tap: Tap,
    address: IpAddr,
}

impl Stranger {
    /// Makes one, which does not have the address yet.
    pub(super) fn new(network: &Network, interface: &str, address: IpAddr) -> Result<Self> {
        let host = Host::new("stranger")?;
        host.plug(network, interface, &["10.77.0.66/24", "fd77::66/64"])?;
        let tap = Tap::open(&host, interface, PATIENCE)?;
        Ok(Self { host, tap, address })
    }

    /// It has the address, and says so to all. Returns when that began.
    pub(super) fn take(&self, interface: &str) -> Result<Instant> {
        let prefix_len = if self.address.is_ipv4() { 24 } else { 64 };
        self.host.add_address(interface, &format!("{}/{prefix_len}", self.address))?;
        self.announce()
    }

    /// It says again that it has the address.
    pub(super) fn announce(&self) -> Result<Instant> {
        let [a, b, c, d, e, f] = STRANGER_MAC;
        let mac = MacAddr(a, b, c, d, e, f);
        let mut frame = Vec::new();
        match self.address {
            IpAddr::V4(address) => Arp::gratuitous_request(mac, address).emit(&mut frame),
            IpAddr::V6(address) => NeighborAdvertisement::unsolicited(mac, address).emit(mac, &mut frame),
        }
        let at = Instant::now();
        self.tap.send(&frame).context("the stranger's announcement")?;
        Ok(at)
    }

    /// It is switched off.
    pub(super) fn remove(self) -> Result<()> {
        self.host.kill().map(drop)
    }
}
