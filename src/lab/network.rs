//! A network: one Ethernet segment, as a bridge in a namespace of its own, with a port for each host's interface.
//!
//! The ports are where faults are made, because a real switch is where a host's death, a pulled cable or a partition
//! shows. Needs no program and no kernel module but bridge and veth.

use std::fs;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result};
use netlink_packet_core::DefaultNla;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::link::{
    BridgePortState, InfoBridge, InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind, InfoVeth,
    LinkAttribute, LinkInfo, LinkMessage,
};

use super::namespace::Namespace;
use super::rtnl::{Rtnl, link_message};

const BRIDGE: &str = "switch";

/// An Ethernet segment. Cheap to clone; it lasts as long as a clone or a port of it.
#[derive(Clone)]
pub struct Network {
    switch: Arc<Switch>,
}

struct Switch {
    rtnl: Rtnl,
    bridge: u32,
    ports: AtomicU32,
    _namespace: Namespace,
}

/// A host's place at the switch. Cheap to clone.
#[derive(Clone)]
pub struct Port {
    switch: Arc<Switch>,
    index: u32,
    name: String,
}

impl Network {
    /// An empty segment: a learning switch that floods all multicast and forwards at once.
    ///
    /// # Errors
    /// The process is not root over its namespaces (see [`enter`](super::enter)), or the kernel has no bridges.
    pub fn new() -> Result<Self> {
        let namespace = Namespace::new("switch")?;
        // A switch knows nothing of the firewall of a host. There is no such setting where the machine asks none for bridges.
        namespace.run_in(|| {
            for packets in ["arptables", "iptables", "ip6tables"] {
                fs::write(format!("/proc/sys/net/bridge/bridge-nf-call-{packets}"), "0").ok();
            }
        })?;
        let rtnl = namespace.run_in(Rtnl::new)??;
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(BRIDGE.into()));
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Bridge),
            LinkInfo::Data(InfoData::Bridge(vec![
                InfoBridge::MulticastSnooping(false),
                InfoBridge::StpState(netlink_packet_route::link::BridgeStpState::Disabled),
                InfoBridge::ForwardDelay(0),
            ])),
        ]));
        rtnl.create_link(message).context("cannot make a bridge (is the kernel module `bridge` there?)")?;
        let bridge = rtnl.link(BRIDGE)?.index;
        rtnl.set_up(bridge, true).context("bridge")?;
        Ok(Self { switch: Arc::new(Switch { rtnl, bridge, ports: AtomicU32::new(0), _namespace: namespace }) })
    }

    /// Makes a cable between a new port of the switch and a new interface of a namespace, both up.
    pub(super) fn plug(
        &self,
        namespace: &Namespace,
        rtnl: &Rtnl,
        interface: &str,
        mac: Option<[u8; 6]>,
    ) -> Result<Port> {
        let number = self.switch.ports.fetch_add(1, Ordering::Relaxed);
        let port_name = format!("port{number}");
        let mut host_side = LinkMessage::default();
        host_side.attributes.push(LinkAttribute::IfName(interface.into()));
        host_side.attributes.push(LinkAttribute::NetNsFd(namespace.net().as_raw_fd()));
        host_side.attributes.extend(mac.map(|mac| LinkAttribute::Address(mac.to_vec())));
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(port_name.clone()));
        message.attributes.push(LinkAttribute::Controller(self.switch.bridge));
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(host_side))),
        ]));
        self.switch
            .rtnl
            .create_link(message)
            .with_context(|| format!("cannot make the interface {interface} (veth)"))?;
        let index = self.switch.rtnl.link(&port_name)?.index;
        self.switch.rtnl.set_up(index, true).context("switch port")?;
        rtnl.set_up(rtnl.link(interface)?.index, true).with_context(|| format!("interface {interface}"))?;
        // On both sides: the host's IPv6 waits for the same news.
        self.switch.rtnl.await_carrier(&port_name)?;
        rtnl.await_carrier(interface)?;
        Ok(Port { switch: Arc::clone(&self.switch), index, name: port_name })
    }
}

impl Port {
    /// The cable: out, and the host's interface loses its carrier; or back in.
    ///
    /// # Errors
    /// The kernel's refusal, for example when the host has deleted its interface.
    pub fn set_cable(&self, connected: bool) -> Result<()> {
        self.switch.rtnl.set_up(self.index, connected).context("switch port")?;
        if connected { self.switch.rtnl.await_carrier(&self.name) } else { Ok(()) }
    }

    /// Whether the switch forwards anything from and to the port. Takes effect at once, and the host sees no change of
    /// carrier: this is how a dead host's port and a broken uplink look.
    ///
    /// # Errors
    /// The kernel's refusal, for example while the cable is out.
    pub fn set_forwarding(&self, forwarding: bool) -> Result<()> {
        // By a message to the bridge, with the state as IFLA_PROTINFO's only byte. A message to the link would be
        // followed by a notice that the link has changed, and then the bridge would look at its carrier and enable it again.
        let state = if forwarding { BridgePortState::Forwarding } else { BridgePortState::Disabled };
        let mut message = link_message(self.index);
        message.header.interface_family = AddressFamily::Bridge;
        message.attributes.push(LinkAttribute::Other(DefaultNla::new(libc::IFLA_PROTINFO, vec![state.into()])));
        self.switch.rtnl.set_link(message).context("switch port")
    }

    /// Whether the port is isolated: frames between two isolated ports are dropped, and all others pass. Isolating
    /// the nodes' ports is the partition in which every client still reaches every node.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn set_isolated(&self, isolated: bool) -> Result<()> {
        self.change(InfoBridgePort::Isolated(isolated))
    }

    /// Whether multicast reaches the host. Without it the host is deaf to adverts by multicast, in this direction
    /// only, while ARP and unicast pass: a switch with IGMP snooping and no querier does that. IPv6 neighbour
    /// solicitations are multicast too.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn set_multicast(&self, delivered: bool) -> Result<()> {
        self.change(InfoBridgePort::MulticastFlood(delivered))
    }

    fn change(&self, what: InfoBridgePort) -> Result<()> {
        let mut message = link_message(self.index);
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::PortKind(InfoPortKind::Bridge),
            LinkInfo::PortData(InfoPortData::BridgePort(vec![what])),
        ]));
        self.switch.rtnl.change_link(message).context("switch port")
    }
}
