//! Two nodes and a client on one switch.

use std::net::{IpAddr, UdpSocket};

use anyhow::{Context as _, Result};
use vipd::lab::{Host, Network};

use super::{Agent, Vip, eventually, neighbour};

/// The address that most tests are about, with [`V6`].
pub const V4: &str = "10.9.0.100";
/// See [`V4`].
pub const V6: &str = "fd09::100";
/// What an agent adds to an IPv6 vip of VRID 51 that names no link-local address (RFC 9568 §5.2.9 wants one first).
pub const LINK_LOCAL: &str = "fe80::200:5eff:fe00:233";
/// Of `eth0` of node a, which the lab makes from its first address.
pub const MAC_A: [u8; 6] = [0x02, 0x04, 10, 9, 0, 1];
/// Of `eth0` of node b.
pub const MAC_B: [u8; 6] = [0x02, 0x04, 10, 9, 0, 2];

/// `eth0` of a, b and client is 10.9.0.1, .2 and .9, and fd09::1, ::2 and ::9.
pub struct Segment {
    pub network: Network,
    pub a: Host,
    pub b: Host,
    pub client: Host,
}

impl Segment {
    /// A new one.
    pub fn new() -> Result<Self> {
        let network = Network::new()?;
        let [a, b, client] = [("a", 1), ("b", 2), ("client", 9)].map(|(name, number)| host(&network, name, number));
        Ok(Self { a: a?, b: b?, client: client?, network })
    }

    /// Two agents with a vip that is the same but for its priority: a, with 200, is the owner, and b, with 100, has heard it.
    ///
    /// One after the other: started together, on a busy machine b may be first, and it is a that takes over while a test begins.
    pub fn pair(&self, vip: impl Fn(u8) -> Vip) -> Result<[Agent; 2]> {
        let a = Agent::start(&self.a, &[vip(200)])?;
        a.await_state("Active")?;
        let b = Agent::start(&self.b, &[vip(100)])?;
        b.await_state("Backup")?;
        eventually("b hears a", || Ok(b.vip()?.owner))?;
        Ok([a, b])
    }

    /// Node a comes back from its death as a machine does: with nothing but its own addresses.
    pub fn reboot_a(&mut self) -> Result<()> {
        self.a = host(&self.network, "a", 1)?;
        Ok(())
    }
}

/// A host with `eth0` on a network.
pub fn host(network: &Network, name: &str, number: u8) -> Result<Host> {
    let host = Host::new(name)?;
    host.plug(network, "eth0", &[&format!("10.9.0.{number}/24"), &format!("fd09::{number}/64")])?;
    Ok(host)
}

/// Has a client learn who has an address, as any program that sends something does.
pub fn learn(client: &Host, address: &str) -> Result<[u8; 6]> {
    let address = ip(address);
    let socket = client.run_in(|| UdpSocket::bind((if address.is_ipv4() { "0.0.0.0" } else { "::" }, 0)))??;
    eventually(&format!("the client learns who has {address}"), || {
        // Until it is known who has it, this may fail, and asks.
        socket.send_to(b"?", (address, 9)).ok();
        neighbour(client, address)
    })
}

/// An address from its text.
pub fn ip(text: &str) -> IpAddr {
    text.parse().with_context(|| text.to_owned()).expect("the tests write addresses properly")
}
