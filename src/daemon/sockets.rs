//! The advert sockets, one a link and family in use, opened and closed as interfaces come and go.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::task::{Context, Poll};

use super::links::Interface;
use super::log::{Entry, Log};
use crate::driver::adverts::{AdvertSocket, DATAGRAM_LEN, Datagram};
use crate::driver::frames::{FrameSocket, Urgency};
use crate::driver::readiness::Readable;
use crate::engine::seals::{Sealing, Seals};
use crate::engine::{Arrival, Engine, Input, LinkId, Question, Transmit, Vip};
use crate::types::{Family, MacMode};
use crate::wire::advert::{Advert, Endpoints};
use crate::wire::arp::Arp;
use crate::wire::frame;
use crate::wire::ndisc::NeighborSolicitation;

/// All of them.
#[derive(Debug)]
pub(super) struct Sockets {
    /// The families in use on each link.
    wanted: Vec<(LinkId, Family)>,
    open: Vec<Open>,
    /// For adverts with a virtual source MAC.
    frames: FrameSocket,
    /// The index of each link's interface.
    ifindexes: BTreeMap<LinkId, u32>,
    /// What is being received.
    buffer: Vec<u8>,
    /// What is being sent.
    bytes: Vec<u8>,
    /// The frame around it.
    frame: Vec<u8>,
    /// Where nodes have a key in common.
    seals: Option<Seals>,
    /// Where the next search for a packet begins, so that no socket is served before all others for ever.
    next: usize,
}

#[derive(Debug)]
struct Open {
    link: LinkId,
    family: Family,
    socket: Readable<AdvertSocket>,
}

impl Sockets {
    /// None is open until its link is known.
    pub(super) fn new(engine: &Engine) -> io::Result<Self> {
        Ok(Self {
            wanted: wanted(engine),
            open: Vec::new(),
            frames: FrameSocket::open(Urgency::Control)?,
            ifindexes: BTreeMap::new(),
            buffer: vec![0; DATAGRAM_LEN],
            bytes: Vec::new(),
            frame: Vec::new(),
            seals: None,
            next: 0,
        })
    }

    /// How adverts are sealed from now on.
    pub(super) fn seal(&mut self, seals: Option<Seals>) {
        self.seals = seals;
    }

    /// How they are.
    pub(super) const fn seals_mut(&mut self) -> Option<&mut Seals> {
        self.seals.as_mut()
    }

    /// What is done about seals.
    pub(super) fn sealing(&self) -> Sealing {
        self.seals.as_ref().map_or(Sealing::Off, Seals::sealing)
    }

    /// An interface has this index now, or none: a new index is a new interface, and needs new sockets. Whether it is one.
    pub(super) fn follow(&mut self, link: LinkId, name: &str, ifindex: Option<u32>, log: &Log) -> bool {
        if self.ifindexes.get(&link).copied() == ifindex {
            return false;
        }
        self.open.retain(|open| open.link != link);
        self.ifindexes.remove(&link);
        let Some(ifindex) = ifindex else { return false };
        self.ifindexes.insert(link, ifindex);
        let families: Vec<_> = self.wanted.iter().filter(|(wanted, _)| *wanted == link).map(|(_, it)| *it).collect();
        families.into_iter().for_each(|family| self.open(link, name, ifindex, family, log));
        true
    }

    /// Opens what the engine's links and vips need by now.
    pub(super) fn extend(&mut self, engine: &Engine, log: &Log) {
        self.wanted = wanted(engine);
        for (link, family) in self.wanted.clone() {
            let is_open = self.open.iter().any(|open| (open.link, open.family) == (link, family));
            let name = engine.links().get(usize::from(link.0)).map(|link| link.name.as_str());
            if let (false, Some(ifindex), Some(name)) = (is_open, self.ifindexes.get(&link).copied(), name) {
                self.open(link, name, ifindex, family, log);
            }
        }
    }

    /// Closes what is needed no longer, once the last has been said there.
    pub(super) fn close_unwanted(&mut self) {
        let Self { open, wanted, .. } = self;
        open.retain(|open| wanted.contains(&(open.link, open.family)));
    }

    /// The next packet, as an input.
    pub(super) fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Input>> {
        let Self { open, buffer, next, seals, .. } = self;
        for offset in 0..open.len() {
            let place = (*next + offset) % open.len();
            let Open { link, family, socket } = &open[place];
            let seals = seals.as_mut();
            let received = socket.poll_take(context, |socket| {
                Ok(socket.recv(buffer)?.map(|datagram| input(*link, *family, &datagram, seals)))
            });
            if received.is_ready() {
                // The others have their turn before this one has another.
                *next = place + 1;
                return received;
            }
        }
        Poll::Pending
    }

    /// Sends an advert. Never waits: an advert that the queue has no room for is as good as lost on the way.
    pub(super) fn send(&mut self, transmit: &Transmit) -> io::Result<()> {
        let Transmit { link, source, destination, mac, advert, checksum, vip: _ } = transmit;
        let family = Family::of(*source);
        let endpoints = Endpoints { source: *source, destination: *destination };
        advert.emit(endpoints, *checksum, &mut self.bytes);
        if let Some(seals) = &mut self.seals {
            seals.seal(*link, *source, &mut self.bytes);
        }
        if *mac == MacMode::Virtual && is_multicast(*destination) {
            let Some(ifindex) = self.ifindexes.get(link) else { return Ok(()) };
            frame::emit_packet(&self.bytes, advert.vrid.virtual_mac(family), *source, &mut self.frame);
            return self.frames.send(*ifindex, &[&self.frame]).map(|_| ());
        }
        match self.open.iter().find(|open| open.link == *link && open.family == family) {
            Some(open) => open.socket.get_ref().send(*source, *destination, &self.bytes),
            None => Ok(()),
        }
    }

    /// Asks who has some addresses. Never waits, as an advert does not.
    pub(super) fn ask(&self, interface: Interface, question: &Question) -> io::Result<()> {
        let frames: Vec<Vec<u8>> = question
            .addresses
            .iter()
            .filter_map(|address| {
                let mut frame = Vec::new();
                match (address, question.sources) {
                    (IpAddr::V4(ip), [Some(IpAddr::V4(sender_ip)), _]) => {
                        Arp { sender_ip, ..Arp::probe(interface.mac, *ip) }.emit(&mut frame);
                    }
                    (IpAddr::V4(ip), _) => Arp::probe(interface.mac, *ip).emit(&mut frame),
                    (IpAddr::V6(target), [_, Some(IpAddr::V6(source))]) => {
                        NeighborSolicitation { source, target: *target }.emit(interface.mac, &mut frame);
                    }
                    (IpAddr::V6(_), _) => return None,
                }
                Some(frame)
            })
            .collect();
        self.frames.send(interface.ifindex, &frames).map(|_| ())
    }
}

impl Sockets {
    fn open(&mut self, link: LinkId, name: &str, ifindex: u32, family: Family, log: &Log) {
        match AdvertSocket::open(name, ifindex, family).and_then(Readable::new) {
            Ok(socket) => self.open.push(Open { link, family, socket }),
            Err(error) => log.write(Entry::Trouble(format!("{name}: {error}"))),
        }
    }
}

fn wanted(engine: &Engine) -> Vec<(LinkId, Family)> {
    let routers = |vip: &Vip| vip.routers().iter().map(|router| (vip.link(), router.family())).collect::<Vec<_>>();
    let mut wanted: Vec<_> = engine.vips().iter().flat_map(routers).collect();
    wanted.sort_unstable();
    wanted.dedup();
    wanted
}

fn input(link: LinkId, family: Family, datagram: &Datagram<'_>, seals: Option<&mut Seals>) -> Input {
    let Datagram { source, destination, hop_limit, payload } = *datagram;
    let believed = match seals {
        Some(seals) => seals.open(link, source, payload),
        None => Ok(payload),
    };
    match believed.and_then(|payload| Advert::parse(payload, Endpoints { source, destination })) {
        Ok((advert, checksum)) => Input::Advert(Arrival { link, source, hop_limit, advert, checksum }),
        Err(reason) => Input::Dropped { link, family, source, reason },
    }
}

const fn is_multicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_multicast(),
        IpAddr::V6(address) => address.is_multicast(),
    }
}
