//! What a seed makes of a world: its hosts, their settings, and which faults befall them.

use std::net::IpAddr;
use std::time::Duration;

use vipd::engine::{AnnounceSettings, ChecksumPolicy, HeartbeatSettings, Preempt, VipSettings};
use vipd::types::{Family, Password, Priority, Version, Vrid};
use vipd::wire::advert::ChecksumForm;

use super::build::{address, addresses_v6, host, interval, ms, vip};
use super::clock::{Clock, GOOD_PPM, MICROSECOND, MILLISECOND, Nanos, nanos};
use super::host::{HostSpec, Life, QUICK, Wire};
use super::network::{NEIGHBOURS, Network, Packet};
use super::rng::Rng;
use super::world::{LINK, World};

/// After so long an owner has told the neighbours again, whatever happened: shorter than the default, so that many worlds
/// can be run to it.
pub const REFRESH: Duration = Duration::from_secs(2);

/// What can befall a world. A seed has some of them, so that the others' excuses do not hide what these break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Loss,
    Cuts,
    Freezes,
    Crashes,
    Kills,
    Stops,
    Links,
    Refusals,
    Removals,
    Reloads,
    Noise,
    SecondPath,
}

const FAULTS: [Fault; 10] = [
    Fault::Loss,
    Fault::Cuts,
    Fault::Freezes,
    Fault::Crashes,
    Fault::Kills,
    Fault::Stops,
    Fault::Links,
    Fault::Refusals,
    Fault::Removals,
    Fault::Noise,
];

#[derive(Clone, Debug)]
pub struct Plan {
    faults: Vec<Fault>,
    /// How many things befall the world, and the longest pause between them.
    pub acts: u64,
    pub pause: Nanos,
    /// Whether the agents start one after another.
    pub staggered: bool,
    pub effect_time: (Nanos, Nanos),
    pub lateness: Nanos,
    network: Network,
    second: Network,
    hosts: Vec<HostSpec>,
}

/// Settings.
impl Plan {
    pub fn by_seed(seed: u64) -> Self {
        // Another stream than the world's own.
        let mut rng = Rng::new(seed ^ 0x7669_7064);
        let mut faults: Vec<Fault> = FAULTS.into_iter().filter(|_| rng.permille(250)).collect();
        // And others, so that the worlds without reloads and without many addresses are those that they were before there were any.
        if Rng::new(seed ^ 0x7265_6c6f_6164).permille(250) {
            faults.push(Fault::Reloads);
        }
        let mut hosts = hosts(&mut rng);
        if Rng::new(seed ^ 0x6d61_6e79).permille(100) {
            give_many_addresses(&mut hosts);
        }
        let second = second_path(&mut Rng::new(seed ^ 0x7365_636f_6e64), &mut faults, &mut hosts);
        let slow = rng.permille(150);
        let starved = rng.permille(150);
        let shortest = hosts.iter().flat_map(|host| &host.settings.vips).map(|vip| vip.interval.duration()).min();
        let shortest = nanos(shortest.expect("each host has a vip"));
        let effect_time = if slow { (0, 300 * MILLISECOND) } else { QUICK };
        let lateness = if starved { shortest / 2 } else { 100 * MICROSECOND };
        let mut plan = Self {
            network: network(&mut rng, &faults),
            second,
            faults,
            acts: rng.within(0, 25),
            pause: 0,
            staggered: rng.permille(500),
            effect_time,
            lateness,
            hosts,
        };
        plan.pause = rng.pick(&[1, 4, 10]) * nanos(plan.longest_interval());
        for host in &mut plan.hosts {
            host.effect_time = effect_time;
            host.lateness = (0, lateness);
        }
        plan
    }

    pub fn world(&self, seed: u64) -> World {
        let mut world = World::new(seed, self.network.clone(), self.hosts.clone());
        world.second = self.second.clone();
        world
    }

    pub fn vips(&self) -> usize {
        self.hosts[0].settings.vips.len()
    }

    pub fn longest_interval(&self) -> Duration {
        self.all_vips().map(|vip| vip.interval.duration()).max().expect("each host has a vip")
    }

    /// No host waits longer for an owner, whoever that is.
    pub fn patience(&self) -> Nanos {
        let version_2 = self.all_vips().any(|vip| vip.version == Version::V2);
        let interval = nanos(self.longest_interval());
        if version_2 { 3 * interval + super::clock::SECOND } else { 4 * interval }
    }

    pub fn longest_delay(&self) -> Nanos {
        let delay = |vip: &VipSettings| match vip.preempt {
            Preempt::After(delay) => nanos(delay),
            Preempt::On | Preempt::Off => 0,
        };
        self.all_vips().map(delay).max().unwrap_or(0)
    }

    fn all_vips(&self) -> impl Iterator<Item = &VipSettings> {
        self.hosts.iter().flat_map(|host| &host.settings.vips)
    }
}

fn network(rng: &mut Rng, faults: &[Fault]) -> Network {
    let mut network = Network::quiet();
    network.delay.1 = rng.pick(&[100, 200, 1_000]) * MICROSECOND;
    if faults.contains(&Fault::Loss) {
        network.lost_permille = rng.pick(&[0, 10, 100, 400]);
        network.doubled_permille = rng.pick(&[0, 0, 100]);
        network.late_permille = rng.pick(&[0, 0, 50, 300]);
        network.late_by = rng.pick(&[1, 5, 50]) * MILLISECOND;
    }
    network
}

/// So many that they are installed ahead of a claim: of the first vip, on each host.
fn give_many_addresses(hosts: &mut [HostSpec]) {
    for vip in hosts.iter_mut().filter_map(|host| host.settings.vips.first_mut()) {
        let family = vip.addresses[0].family();
        vip.addresses.extend((1..=60).map(|last| match family {
            Family::V4 => address(IpAddr::from([10, 0, 1, last])),
            Family::V6 => address(IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 1, u16::from(last)])),
        }));
    }
}

/// In a third of the worlds most hosts have a second path, which may be as bad as the first.
fn second_path(rng: &mut Rng, faults: &mut Vec<Fault>, hosts: &mut [HostSpec]) -> Network {
    let mut network = Network::quiet();
    if !rng.permille(333) {
        return network;
    }
    if rng.permille(400) {
        faults.push(Fault::SecondPath);
    }
    if rng.permille(300) {
        network.lost_permille = rng.pick(&[10, 100, 400]);
        network.late_permille = rng.pick(&[0, 50, 300]);
        network.late_by = rng.pick(&[1, 5, 50]) * MILLISECOND;
    }
    let interval = ms(rng.pick(&[10, 100, 100, 1_000]));
    for host in hosts {
        host.settings.heartbeat = (!rng.permille(100)).then_some(HeartbeatSettings { interval });
    }
    network
}

fn hosts(rng: &mut Rng) -> Vec<HostSpec> {
    let count = u8::try_from(rng.pick(&[2, 2, 2, 3, 3, 4, 5])).expect("few");
    let version = if rng.permille(150) { Version::V2 } else { Version::V3 };
    let families: &[Family] = match version {
        Version::V2 => &[Family::V4],
        Version::V3 => rng.pick(&[&[Family::V4], &[Family::V6], &Family::ALL]),
    };
    let mixed_intervals = version == Version::V3 && rng.permille(200);
    let common_interval = rng.pick(&[10_u16, 10, 20, 100, 300, 1_000]);
    let unicast = rng.permille(300);
    let reversed = rng.permille(300);
    let vips = if rng.permille(200) { 2 } else { 1 };
    let password = (version == Version::V2 && rng.permille(300)).then_some(Password(*b"secret\0\0"));
    let owner = (rng.permille(100)).then(|| rng.index(usize::from(count)));
    let bad_clock = rng.permille(80).then(|| rng.index(usize::from(count)));
    let equal = rng.permille(200);
    let preempt = rng.permille(600).then_some(Preempt::On);
    (0..count)
        .map(|place| {
            let settings = (0..vips).map(|number: u16| {
                let mut it = vip(u8::try_from(rng.within(1, 254)).expect("a byte"));
                it.name = format!("vip-{number}");
                it.vrid = Vrid::new(51 + u8::try_from(number).expect("few")).expect("not 0");
                it.version = version;
                if equal || rng.permille(100) {
                    it.priority = Priority::DEFAULT;
                }
                if owner == Some(usize::from(place)) {
                    it.priority = Priority::OWNER;
                }
                it.interval = match version {
                    Version::V2 => interval(1_000),
                    Version::V3 if mixed_intervals => interval(rng.pick(&[10, 20, 50, 100, 1_000])),
                    Version::V3 => interval(common_interval),
                };
                let delay = ms(rng.within(0, 3_000));
                it.preempt = preempt.unwrap_or_else(|| rng.pick(&[Preempt::On, Preempt::Off, Preempt::After(delay)]));
                it.password = password;
                it.announce = AnnounceSettings { repeat: vec![ms(100), ms(1_000)], refresh: Some(REFRESH) }.into();
                it.checksum = rng.pick(&[
                    ChecksumPolicy::Auto,
                    ChecksumPolicy::Auto,
                    ChecksumPolicy::Pinned(ChecksumForm::Rfc9568),
                    ChecksumPolicy::Pinned(ChecksumForm::Rfc5798),
                ]);
                it.addresses.clear();
                if families.contains(&Family::V4) {
                    let last = 100 + u8::try_from(number).expect("few") * 10;
                    it.addresses.extend([last, last + 1].map(|last| address(IpAddr::from([10, 0, 0, last]))));
                }
                if families.contains(&Family::V6) {
                    it.addresses.extend(addresses_v6(number));
                }
                it
            });
            let mut spec = host(place, settings.collect());
            if reversed {
                // The order of the hosts' addresses differs between the families.
                spec.ipv4 = spec.ipv4.map(|ip| std::net::Ipv4Addr::from(u32::from(ip) + 40 - 2 * u32::from(place)));
            }
            spec.clock = Clock {
                offset: rng.within(0, 1 << 40),
                ppm: i32::try_from(rng.within(0, 400)).expect("small") - GOOD_PPM,
            };
            if bad_clock == Some(usize::from(place)) {
                spec.clock.ppm = i32::try_from(rng.within(0, 100_000)).expect("small") - 50_000;
            }
            spec
        })
        .collect::<Vec<_>>()
        .into_iter()
        .with_peers(unicast)
}

/// Makes the hosts each other's unicast peers, where they are to be.
trait WithPeers: Iterator<Item = HostSpec> + Sized {
    fn with_peers(self, unicast: bool) -> Vec<HostSpec> {
        let mut hosts: Vec<HostSpec> = self.collect();
        if unicast {
            let sources: Vec<[IpAddr; 2]> = hosts
                .iter()
                .map(|host| [host.ipv4.map(IpAddr::V4), host.ipv6.map(IpAddr::V6)].map(|ip| ip.expect("given above")))
                .collect();
            for (place, host) in hosts.iter_mut().enumerate() {
                let others = sources.iter().enumerate().filter(|(other, _)| *other != place);
                let peers: Vec<IpAddr> = others.flat_map(|(_, sources)| *sources).collect();
                host.settings.vips.iter_mut().for_each(|vip| vip.peers = peers.clone());
            }
        }
        hosts
    }
}

impl<I: Iterator<Item = HostSpec>> WithPeers for I {}

/// Faults.
impl Plan {
    /// Something befalls the world.
    pub fn act(&self, world: &mut World) {
        if self.faults.is_empty() {
            return;
        }
        let fault = world.rng.pick(&self.faults);
        let host = world.rng.index(world.hosts.len());
        let life = world.hosts[host].life;
        match fault {
            // It is there all the time.
            Fault::Loss => {}
            Fault::Cuts => self.cut_or_mend(world, host),
            Fault::Freezes if life == Life::Frozen => world.thaw(host),
            Fault::Freezes if world.rng.permille(500) => world.freeze_host(host),
            Fault::Freezes => world.freeze(host),
            Fault::Crashes | Fault::Kills | Fault::Stops if matches!(life, Life::Crashed | Life::Stopped) => {
                world.start(host);
            }
            Fault::Crashes => world.crash(host),
            Fault::Kills => world.kill(host),
            Fault::Stops if life == Life::Running => world.stop(host),
            Fault::Stops => {}
            Fault::Links => {
                let wire = world.rng.pick(&[Wire::Up, Wire::Up, Wire::Down, Wire::Missing]);
                world.set_wire(host, wire);
            }
            Fault::Refusals => world.hosts[host].refusals = u32::try_from(world.rng.within(0, 2)).expect("few"),
            Fault::Removals => {
                let vip = world.rng.index(self.vips());
                let all: Vec<IpAddr> = world.hosts[host].kernel[vip].installed.iter().copied().collect();
                let some = world.rng.within(0, all.len() as u64);
                all.into_iter().take(usize::try_from(some).expect("few")).for_each(|ip| {
                    world.remove_address(host, vip, ip);
                });
            }
            Fault::Reloads => reload(world, host),
            Fault::Noise => noise(world),
            Fault::SecondPath => {
                let other = world.rng.index(world.hosts.len());
                if world.rng.permille(600) {
                    world.second.cut(host, other);
                } else {
                    world.second.heal();
                }
            }
        }
    }

    fn cut_or_mend(&self, world: &mut World, host: usize) {
        let other = world.rng.pick(&[NEIGHBOURS, 0, 1]);
        match world.rng.within(0, 4) {
            0 => world.cut(host, other),
            1 if host != other => world.part(host, other),
            2 => world.isolate(host),
            3 => {
                world.network.mend(host, other);
                world.network.mend(other, host);
            }
            _ => (0..world.hosts.len()).for_each(|other| {
                world.network.mend(host, other);
                world.network.mend(other, host);
            }),
        }
    }

    /// Everything is repaired, and every agent runs, but for some that stay dead as long as another lives.
    pub fn heal(&self, world: &mut World) {
        world.heal();
        let spared = world.rng.index(world.hosts.len());
        for host in 0..world.hosts.len() {
            world.hosts[host].refusals = 0;
            if world.hosts[host].wire != Wire::Up {
                world.set_wire(host, Wire::Up);
            }
            match world.hosts[host].life {
                Life::Running => {}
                Life::Frozen => world.thaw(host),
                Life::Crashed | Life::Stopped => {
                    if host == spared || world.rng.permille(700) {
                        world.start(host);
                    }
                }
            }
        }
    }
}

/// A host's operator changes a priority, and what its vips carry beside what they always do.
fn reload(world: &mut World, host: usize) {
    let mut settings = world.hosts[host].spec.settings.clone();
    for vip in &mut settings.vips {
        if vip.priority != Priority::OWNER {
            vip.priority = Priority(u8::try_from(world.rng.within(1, 254)).expect("a byte"));
        }
        let family = Family::of(vip.addresses[0].ip);
        let beside = match family {
            Family::V4 => address(IpAddr::from([10, 0, 1, vip.vrid.number()])),
            Family::V6 => address(IpAddr::from([0x2001, 0xdb8, 1, 0, 0, 0, 0, u16::from(vip.vrid.number())])),
        };
        if vip.addresses.contains(&beside) {
            vip.addresses.retain(|address| *address != beside);
        } else if world.rng.permille(500) {
            vip.addresses.push(beside);
        }
    }
    world.reload(host, settings);
}

/// Packets of protocol 112 that are nobody's business.
fn noise(world: &mut World) {
    let length = world.rng.within(0, 40);
    let bytes: Vec<u8> = (0..length).map(|_| world.rng.next().to_le_bytes()[0]).collect();
    let source = IpAddr::from([10, 0, 0, 250]);
    let destination = vipd::wire::advert::group(Family::V4);
    world.send(usize::MAX - 1, Packet { link: LINK, source, destination, hop_limit: 255, bytes });
}
