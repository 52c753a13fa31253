//! Hosts as the scenarios want them, in a few words.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use vipd::engine::{
    AnnounceSettings, ChecksumPolicy, OnConflict, OnSilentOwner, Preempt, Prefer, Settings, VipSettings,
};
use vipd::types::{AdvertInterval, Family, MacMode, Priority, Version, VirtualAddress, Vrid};
use vipd::wire::advert::{Advert, ChecksumForm, Endpoints, HOP_LIMIT, group};

use super::clock::Clock;
use super::host::{HostSpec, QUICK};
use super::network::{NEIGHBOURS, Network, Packet};
use super::world::{LINK, World};

pub const VIP_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 100));

pub fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

pub fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub fn interval(milliseconds: u16) -> AdvertInterval {
    AdvertInterval::from_centiseconds(milliseconds / 10).expect("10 ms to 40.95 s")
}

/// One IPv4 address, version 3, an advert each 100 ms, preemption.
pub fn vip(priority: u8) -> VipSettings {
    VipSettings {
        name: "vip".into(),
        interface: "eth0".into(),
        vrid: Vrid::new(51).expect("51 is a VRID"),
        priority: Priority(priority),
        interval: interval(100),
        version: Version::V3,
        preempt: Preempt::On,
        peers: Vec::new(),
        check_hop_limit: true,
        mac: MacMode::Interface,
        checksum: ChecksumPolicy::Auto,
        password: None,
        announce: AnnounceSettings { repeat: [1, 5, 30].map(secs).to_vec(), refresh: Some(secs(60)) }.into(),
        on_conflict: OnConflict::Assert,
        on_silent_owner: OnSilentOwner::Wait,
        checks: Vec::new(),
        hooks: Vec::new(),
        references: Vec::new(),
        prefer: Prefer::Available,
        addresses: vec![address(VIP_V4)],
        routing: Vec::new(),
        spread: None,
    }
}

pub fn address(ip: IpAddr) -> VirtualAddress {
    VirtualAddress { ip, prefix_len: if ip.is_ipv4() { 24 } else { 64 }, label: None }
}

/// The addresses of a vip of IPv6: a link-local one first.
pub fn addresses_v6(vip: u16) -> Vec<VirtualAddress> {
    let local = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0xff, vip + 1);
    let global = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x100 + vip);
    [local, global].map(|ip| address(IpAddr::V6(ip))).to_vec()
}

/// A host with these vips at a place in the world: 10.0.0.1 and fe80::1 for the first.
pub fn host(place: u8, vips: Vec<VipSettings>) -> HostSpec {
    let number = place + 1;
    HostSpec {
        settings: Settings::of(&format!("host {place}"), vips),
        // No two hosts count from the same moment.
        clock: Clock { offset: 1_000_000_000 * u64::from(number), ppm: 0 },
        ipv4: Some(Ipv4Addr::new(10, 0, 0, number)),
        ipv6: Some(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, u16::from(number))),
        effect_time: QUICK,
        lateness: (0, 0),
    }
}

/// Hosts with one vip each, on a quiet segment, their agents started.
pub fn world(vips: impl IntoIterator<Item = VipSettings>) -> World {
    let specs = (0..).zip(vips).map(|(place, vip)| host(place, vec![vip])).collect();
    let mut world = World::new(1, Network::quiet(), specs);
    world.start_all();
    world
}

/// What a host with these settings advertises at a priority.
pub fn advert(vip: &VipSettings, priority: u8) -> Advert {
    Advert {
        version: vip.version,
        vrid: vip.vrid,
        priority: Priority(priority),
        interval: vip.interval,
        addresses: vip.addresses_of(Family::V4).map(|address| address.ip).collect(),
        password: vip.password,
    }
}

/// A host that is no part of the world.
pub const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 250));

/// Somebody sends an advert to all hosts of the world, from an address that may be another's.
pub fn forge(world: &mut World, source: IpAddr, advert: &Advert, form: ChecksumForm) {
    let destination = group(Family::of(source));
    let mut bytes = Vec::new();
    advert.emit(Endpoints { source, destination }, form, &mut bytes);
    world.send(NEIGHBOURS, Packet { link: LINK, source, destination, hop_limit: HOP_LIMIT, bytes });
}
