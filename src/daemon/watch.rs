//! Who else says that he has our addresses: the sockets that hear it, one a link and family in use.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::task::{Context, Poll};

use super::log::{Entry, Log};
use crate::driver::readiness::Readable;
use crate::driver::watch::{Claim, ClaimSocket, PACKET_LEN};
use crate::engine::isolation::Path;
use crate::engine::{ClaimKind, Engine, Input, LinkId, Question, Vip, VipId};
use crate::types::{Family, MacAddr, MacMode};

/// How many claims of our own are passed over before the loop has its turn.
const OWN_IN_A_ROW: u32 = 64;

/// All of them.
#[derive(Debug)]
pub(super) struct Watches {
    /// Whose an address is, and the MAC address that it answers with where that is not the interface's.
    addresses: Watched,
    /// Those that are asked on the link.
    references: BTreeSet<(LinkId, IpAddr)>,
    /// The own addresses of owners that were asked for last, by who asked.
    owners: Owners,
    interfaces: BTreeMap<LinkId, Interface>,
    open: Vec<Open>,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Interface {
    ifindex: u32,
    mac: Option<MacAddr>,
}

#[derive(Debug)]
struct Open {
    link: LinkId,
    socket: Readable<ClaimSocket>,
}

impl Watches {
    /// None is open until its link is known.
    pub(super) fn of(engine: &Engine) -> Self {
        let (addresses, references) = (addresses_of(engine), references_of(engine));
        let (owners, interfaces) = (BTreeMap::new(), BTreeMap::new());
        Self { addresses, references, owners, interfaces, open: Vec::new(), buffer: vec![0; PACKET_LEN] }
    }

    /// Watches the addresses that the engine has now.
    pub(super) fn reload(&mut self, engine: &Engine, log: &Log) {
        let (addresses, references) = (addresses_of(engine), references_of(engine));
        // The next question brings back what is still wanted of them.
        self.owners.clear();
        if self.addresses.keys().ne(addresses.keys()) || self.references != references {
            self.addresses = addresses;
            self.references = references;
            let there: Vec<_> = self.interfaces.iter().map(|(link, interface)| (*link, interface.ifindex)).collect();
            there.into_iter().for_each(|(link, ifindex)| self.open_on(link, ifindex, log));
        } else {
            self.addresses = addresses;
        }
    }

    /// An interface has this index and MAC address now, or is gone: a new index is a new interface.
    pub(super) fn follow(&mut self, link: LinkId, ifindex: Option<u32>, mac: Option<MacAddr>, log: &Log) {
        let Some(ifindex) = ifindex else {
            self.interfaces.remove(&link);
            self.open.retain(|open| open.link != link);
            return;
        };
        let before = self.interfaces.insert(link, Interface { ifindex, mac });
        if before.is_some_and(|before| before.ifindex == ifindex) {
            return;
        }
        self.open_on(link, ifindex, log);
    }

    fn open_on(&mut self, link: LinkId, ifindex: u32, log: &Log) {
        self.open.retain(|open| open.link != link);
        for family in Family::ALL {
            let addresses = self.watched_on(link, family);
            if addresses.is_empty() {
                continue;
            }
            match ClaimSocket::open(ifindex, family, addresses).and_then(Readable::new) {
                Ok(socket) => self.open.push(Open { link, socket }),
                Err(error) => log.write(Entry::Trouble(format!("a second owner will not be noticed: {error}"))),
            }
        }
    }

    /// This is about to be asked: what answers is heard, an owner's own address as well.
    pub(super) fn expect_answers(&mut self, question: &Question, log: &Log) {
        let (vip, link) = (question.vip, question.link);
        let is_known = |ip: &IpAddr| {
            let of_link = &(link, *ip);
            self.addresses.contains_key(of_link) || self.references.contains(of_link) || is_owner(&self.owners, of_link)
        };
        let Some(owner) = question.addresses.iter().copied().find(|ip| !is_known(ip)) else { return };
        self.owners.insert(vip, (link, owner));
        for Open { socket, .. } in self.open.iter().filter(|open| open.link == link) {
            let addresses = self.watched_on(link, socket.get_ref().family());
            if let Err(error) = socket.get_ref().watch(addresses) {
                log.write(Entry::Trouble(format!("{owner} is waited for when it is preempted: {error}")));
            }
        }
    }

    fn watched_on(&self, link: LinkId, family: Family) -> Vec<IpAddr> {
        let watched = self.addresses.keys().chain(&self.references).chain(self.owners.values());
        watched.filter(|(on, ip)| *on == link && Family::of(*ip) == family).map(|(_, ip)| *ip).collect()
    }

    /// The next claim of another host, as an input.
    pub(super) fn poll_claim(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Input>> {
        let Self { addresses, references, owners, interfaces, open, buffer } = self;
        'sockets: for Open { link, socket } in open {
            for _ in 0..OWN_IN_A_ROW {
                let claim = match socket.poll_take(context, |socket| socket.recv(buffer)) {
                    Poll::Pending => continue 'sockets,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Ready(Ok(claim)) => claim,
                };
                let Claim { address, mac, kind } = claim;
                let of_link = &(*link, address);
                let is_asked = references.contains(of_link) || is_owner(owners, of_link);
                if kind == ClaimKind::Answer && is_asked {
                    return Poll::Ready(Ok(Input::HostAnswered { link: *link, address }));
                }
                let Some((vip, virtual_mac)) = addresses.get(of_link).copied() else { continue };
                let own = interfaces.get(link).and_then(|interface| interface.mac);
                // Our own come back where the network has a loop, or a bond has two ports on one switch.
                if Some(mac) != own && Some(mac) != virtual_mac {
                    return Poll::Ready(Ok(Input::AddressClaimed { vip, address, mac, kind }));
                }
            }
            // More may be waiting, after everything else had its turn.
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

type Watched = BTreeMap<(LinkId, IpAddr), (VipId, Option<MacAddr>)>;
type Owners = BTreeMap<VipId, (LinkId, IpAddr)>;

fn is_owner(owners: &Owners, address: &(LinkId, IpAddr)) -> bool {
    owners.values().any(|owner| owner == address)
}

fn references_of(engine: &Engine) -> BTreeSet<(LinkId, IpAddr)> {
    let of_vip = |vip: &Vip| {
        let paths = vip.references().iter().filter_map(|state| state.path);
        let link = vip.link();
        let on_link = paths.filter(|path| matches!(path, Path::Neighbour(_)));
        on_link.map(|path| (link, path.address())).collect::<Vec<_>>()
    };
    engine.vips().iter().flat_map(of_vip).collect()
}

fn addresses_of(engine: &Engine) -> Watched {
    let of_vip = |vip: &Vip| {
        let (id, link, mode, vrid) = (vip.id(), vip.link(), vip.settings().mac, vip.settings().vrid);
        let entry = move |ip: IpAddr| {
            let mac = (mode == MacMode::Virtual).then(|| vrid.virtual_mac(Family::of(ip)));
            ((link, ip), (id, mac))
        };
        vip.addresses().iter().map(|address| entry(address.ip)).collect::<Vec<_>>()
    };
    engine.vips().iter().flat_map(of_vip).collect()
}
