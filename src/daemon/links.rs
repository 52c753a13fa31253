//! What the loop knows of its interfaces, and whose addresses are on them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::engine::{Engine, LinkId, Vip, VipId};
use crate::types::{MacAddr, MacMode, Routing};

/// An interface as an effect needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Interface {
    pub(super) ifindex: u32,
    pub(super) mac: MacAddr,
}

/// All that the settings name.
#[derive(Debug)]
pub(super) struct Links {
    by_name: BTreeMap<String, LinkId>,
    heard: BTreeSet<LinkId>,
    interfaces: BTreeMap<LinkId, Interface>,
    addresses: BTreeMap<(LinkId, IpAddr), VipId>,
    /// Those that live on a macvlan, whose index is not known here.
    addresses_on_macvlans: BTreeMap<IpAddr, VipId>,
}

impl Links {
    /// None has been heard of.
    pub(super) fn of(engine: &Engine) -> Self {
        let mut links = Self {
            by_name: BTreeMap::new(),
            heard: BTreeSet::new(),
            interfaces: BTreeMap::new(),
            addresses: BTreeMap::new(),
            addresses_on_macvlans: BTreeMap::new(),
        };
        links.reload(engine);
        links
    }

    /// The engine has other links and vips. What is known of the interfaces stays.
    pub(super) fn reload(&mut self, engine: &Engine) {
        let addresses_of = |mode: MacMode| {
            engine
                .vips()
                .iter()
                .filter(move |vip| vip.settings().mac == mode)
                .flat_map(|vip| vip.addresses().iter().map(move |address| ((vip.link(), address.ip), vip.id())))
        };
        self.by_name = (0..).map(LinkId).zip(engine.links()).map(|(id, link)| (link.name.clone(), id)).collect();
        self.addresses = addresses_of(MacMode::Interface).collect();
        self.addresses_on_macvlans = addresses_of(MacMode::Virtual).map(|((_, ip), vip)| (ip, vip)).collect();
    }

    /// The link of a name, if it is one.
    pub(super) fn find(&self, name: &str) -> Option<LinkId> {
        self.by_name.get(name).copied()
    }

    /// Takes note of what a link is now.
    pub(super) fn hear(&mut self, link: LinkId, ifindex: Option<u32>, mac: Option<MacAddr>) {
        self.heard.insert(link);
        match ifindex {
            Some(ifindex) => {
                // An interface without a MAC address (a tunnel) has neighbours without a cache.
                self.interfaces.insert(link, Interface { ifindex, mac: mac.unwrap_or_default() });
            }
            None => {
                self.interfaces.remove(&link);
            }
        }
    }

    /// Whether the state of every link is known, be it missing.
    pub(super) fn all_heard(&self) -> bool {
        self.heard.len() == self.by_name.len()
    }

    /// The interface, while there is one.
    pub(super) fn interface(&self, link: LinkId) -> Option<Interface> {
        self.interfaces.get(&link).copied()
    }

    /// Whose route or rule it is that stood on an interface, or on none.
    pub(super) fn vip_routing(&self, engine: &Engine, ifindex: u32, routing: Routing) -> Option<VipId> {
        let stands_there = |vip: &&Vip| match routing {
            Routing::Route(_) => self.interface(vip.link()).is_some_and(|interface| interface.ifindex == ifindex),
            Routing::Rule(_) => true,
        };
        let mut vips = engine.vips().iter().filter(|vip| vip.settings().routing.contains(&routing));
        vips.find(stands_there).map(Vip::id)
    }

    /// Whose address it is that stood on an interface.
    pub(super) fn vip_of(&self, ifindex: u32, ip: IpAddr) -> Option<VipId> {
        match self.interfaces.iter().find(|(_, interface)| interface.ifindex == ifindex) {
            Some((link, _)) => self.addresses.get(&(*link, ip)).copied(),
            None => self.addresses_on_macvlans.get(&ip).copied(),
        }
    }
}
