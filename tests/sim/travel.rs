//! What travels between the hosts and to the neighbours: adverts as real bytes, and announcements.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;

use vipd::engine::{AddressSet, Arrival, ClaimKind, Input, LinkId, Question, StateName, Transmit};
use vipd::types::{Family, MacAddr, Priority};
use vipd::wire::advert::{Advert, Endpoints, HOP_LIMIT};

use super::host::{Life, Power, Wire};
use super::network::{NEIGHBOURS, Packet, Port};
use super::world::{Entry, PacketRef, Sent, World, place, vip_id};

/// What answers as long as a host reaches the neighbours.
pub const REFERENCE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 254));

impl World {
    pub fn transmit(&mut self, host: Port, transmit: Transmit, advertised: &mut BTreeSet<usize>) {
        let vip = place(transmit.vip);
        let priority = transmit.advert.priority;
        let family = Family::of(transmit.source);
        if priority != Priority::RESIGN {
            advertised.insert(vip);
        } else if self.hosts[host].kernel[vip].lease_until.is_some() {
            self.watch.fail(self.now, format!("host {host}: a resignation without a lease ended first"));
        }
        self.log(|| format!("host {host}: sends {family} advert of vip {vip}, priority {priority}"));
        self.sent.push(Sent { at: self.now, by: host, vip, family, priority });
        if !self.hosts[host].carries(transmit.link) {
            return;
        }
        let endpoints = Endpoints { source: transmit.source, destination: transmit.destination };
        let mut bytes = vec![0xa5; 7];
        transmit.advert.emit(endpoints, transmit.checksum, &mut bytes);
        let Endpoints { source, destination } = endpoints;
        if let Some(seals) = &mut self.hosts[host].seals {
            seals.seal(transmit.link, source, &mut bytes);
        }
        self.send(host, Packet { link: transmit.link, source, destination, hop_limit: HOP_LIMIT, bytes });
    }

    /// Puts a packet on the segment.
    pub fn send(&mut self, from: Port, packet: Packet) {
        if let Some(tap) = &mut self.tap {
            tap.push(packet.clone());
        }
        let packet = Rc::new(packet);
        for to in (0..self.hosts.len()).filter(|to| *to != from) {
            let family = Family::of(packet.source);
            let for_it = packet.destination.is_multicast() || self.hosts[to].source(family) == Some(packet.destination);
            if !for_it || self.network.loses(self.now, packet.link, from, to) {
                continue;
            }
            for at in self.network.arrivals(&mut self.rng, self.now, from, to) {
                self.push(at, Entry::Deliver { to, packet: PacketRef(Rc::clone(&packet)) });
            }
        }
    }

    pub fn deliver(&mut self, to: Port, packet: &Packet) {
        let family = Family::of(packet.source);
        let from = self.hosts.iter().position(|host| host.source(family) == Some(packet.source));
        let it = &self.hosts[to];
        if !it.carries(packet.link) || it.life == Life::Crashed || (it.deaf_to_ipv4 && family == Family::V4) {
            self.network.note_lost(self.now, from.unwrap_or(NEIGHBOURS), to);
            return;
        }
        let endpoints = Endpoints { source: packet.source, destination: packet.destination };
        let (link, source) = (packet.link, packet.source);
        let believed = match &mut self.hosts[to].seals {
            Some(seals) => seals.open(link, source, &packet.bytes),
            None => Ok(packet.bytes.as_slice()),
        };
        let input = match believed.and_then(|bytes| Advert::parse(bytes, endpoints)) {
            Ok((advert, checksum)) => {
                Input::Advert(Arrival { link, source, hop_limit: packet.hop_limit, advert, checksum })
            }
            Err(reason) => Input::Dropped { link, family, source, reason },
        };
        self.input(to, input);
    }

    /// Asks all hosts who has some addresses. Their kernels answer, whatever their agents do.
    pub fn ask(&mut self, host: Port, question: &Question) {
        let vip = place(question.vip);
        self.log(|| format!("host {host}: asks who has vip {vip}"));
        if !question.addresses.contains(&REFERENCE) {
            self.asked.push((self.now, host, vip));
        }
        if !self.hosts[host].carries(question.link) {
            return;
        }
        if question.addresses.contains(&REFERENCE) {
            for there in self.network.unfiltered_arrivals(&mut self.rng, self.now, host, NEIGHBOURS) {
                for at in self.network.unfiltered_arrivals(&mut self.rng, there, NEIGHBOURS, host) {
                    self.push(at, Entry::HostReply { to: host, link: question.link, address: REFERENCE });
                }
            }
            return;
        }
        for to in (0..self.hosts.len()).filter(|to| *to != host) {
            if self.network.loses(self.now, question.link, host, to) {
                continue;
            }
            for at in self.network.unfiltered_arrivals(&mut self.rng, self.now, host, to) {
                self.push(at, Entry::Question { to, by: host, vip, addresses: question.addresses.clone() });
            }
        }
    }

    /// A host's kernel is asked.
    pub fn answer(&mut self, host: Port, by: Port, vip: usize, addresses: Vec<IpAddr>) {
        match self.hosts[host].power {
            Power::On => {}
            Power::Paused => {
                self.hosts[host].unanswered.push((by, vip, addresses));
                return;
            }
            Power::Off => return,
        }
        let owns = self.hosts[host].answers(vip, self.now, self.gate);
        let installed = &self.hosts[host].kernel[vip].installed;
        let (of_vip, own): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|it| installed.contains(it));
        for address in of_vip.into_iter().filter(|_| owns) {
            for at in self.network.unfiltered_arrivals(&mut self.rng, self.now, host, by) {
                self.push(at, Entry::Reply { to: by, by: host, vip, address });
            }
        }
        let link = self.hosts[host].link_of(vip);
        let is_up = self.hosts[host].carries(link);
        for address in own
            .into_iter()
            .filter(|it| is_up && self.hosts[host].source(Family::of(*it)) == Some(*it))
            .collect::<Vec<_>>()
        {
            for at in self.network.unfiltered_arrivals(&mut self.rng, self.now, host, by) {
                self.push(at, Entry::HostReply { to: by, link, address });
            }
        }
    }

    pub fn hear_host(&mut self, host: Port, link: LinkId, address: IpAddr) {
        if self.hosts[host].carries(link) {
            self.input(host, Input::HostAnswered { link, address });
        }
    }

    pub fn hear_reply(&mut self, host: Port, by: Port, vip: usize, address: IpAddr) {
        if self.hosts[host].wire != Wire::Up {
            return;
        }
        let mac = MacAddr(2, 0, 0, 0, 0, u8::try_from(by).expect("few"));
        self.input(host, Input::AddressClaimed { vip: vip_id(vip), address, mac, kind: ClaimKind::Answer });
    }

    pub fn announce(&mut self, host: Port, set: &AddressSet) {
        let vip = place(set.vip);
        if self.hosts[host].agent[vip].state != StateName::Active {
            self.watch.fail(self.now, format!("host {host}: announces vip {vip} without being Active"));
        }
        self.log(|| format!("host {host}: announces vip {vip}"));
        // The gate stops a late announcement as it stops a late answer.
        if !self.hosts[host].answers(vip, self.now, self.gate) {
            return;
        }
        self.announced.push((self.now, host, vip));
        let addresses: Vec<IpAddr> = set.addresses.iter().map(|address| address.ip).collect();
        for at in self.network.arrivals(&mut self.rng, self.now, host, NEIGHBOURS) {
            self.push(at, Entry::Announcement { vip, from: host, addresses: addresses.clone() });
        }
    }
}
