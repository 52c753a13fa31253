//! The segment between the hosts: what gets lost, doubled, late or out of order, and who cannot reach whom.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use vipd::engine::LinkId;

use super::clock::{MICROSECOND, Nanos};
use super::rng::Rng;

/// A packet of protocol 112.
#[derive(Clone, Debug)]
pub struct Packet {
    /// Which of the hosts' interfaces are on its segment.
    pub link: LinkId,
    pub source: IpAddr,
    pub destination: IpAddr,
    pub hop_limit: u8,
    pub bytes: Vec<u8>,
}

/// Where a packet goes to: a host's place in the world, or the neighbours.
pub type Port = usize;

/// The neighbours, whose caches are to be right.
pub const NEIGHBOURS: Port = Port::MAX;

#[derive(Clone, Debug)]
pub struct Network {
    /// The shortest and the longest way, but for the packets that are late.
    pub delay: (Nanos, Nanos),
    pub lost_permille: u32,
    pub doubled_permille: u32,
    pub late_permille: u32,
    /// How much longer a late packet may take: others overtake it.
    pub late_by: Nanos,
    cuts: BTreeSet<(Port, Port)>,
    /// Where only the adverts are stopped, as a firewall does.
    filtered: BTreeSet<(Port, Port)>,
    /// Where hosts have several interfaces: the segment of one is cut between two.
    parted_links: BTreeSet<(LinkId, Port, Port)>,
    last_arrival: BTreeMap<(Port, Port), Nanos>,
    lost_at: BTreeMap<(Port, Port), Nanos>,
}

impl Network {
    /// Nothing is lost and nothing overtakes.
    pub fn quiet() -> Self {
        Self {
            delay: (50 * MICROSECOND, 200 * MICROSECOND),
            lost_permille: 0,
            doubled_permille: 0,
            late_permille: 0,
            late_by: 0,
            cuts: BTreeSet::new(),
            filtered: BTreeSet::new(),
            parted_links: BTreeSet::new(),
            last_arrival: BTreeMap::new(),
            lost_at: BTreeMap::new(),
        }
    }

    /// No packet is longer under way.
    pub fn longest_way(&self) -> Nanos {
        self.delay.1 + self.late_by
    }

    /// Whether copies can arrive after what was sent later.
    pub fn reorders(&self) -> bool {
        self.late_permille > 0 || self.doubled_permille > 0
    }

    pub fn cut(&mut self, from: Port, to: Port) {
        self.cuts.insert((from, to));
    }

    /// Adverts no longer get from one to the other; all else does.
    pub fn filter(&mut self, from: Port, to: Port) {
        self.filtered.insert((from, to));
    }

    /// Nothing gets between two hosts on the segment of one of their interfaces.
    pub fn part_link(&mut self, link: LinkId, one: Port, other: Port) {
        self.parted_links.extend([(link, one, other), (link, other, one)]);
    }

    /// Whether something is lost on the segment of an interface.
    pub fn loses(&mut self, now: Nanos, link: LinkId, from: Port, to: Port) -> bool {
        let is_lost = self.parted_links.contains(&(link, from, to));
        if is_lost {
            self.note_lost(now, from, to);
        }
        is_lost
    }

    pub fn mend(&mut self, from: Port, to: Port) {
        self.cuts.remove(&(from, to));
    }

    /// Every way is open again and nothing is lost or late from now on; what is under way arrives.
    pub fn heal(&mut self) {
        self.cuts.clear();
        self.filtered.clear();
        self.parted_links.clear();
        self.lost_permille = 0;
        self.doubled_permille = 0;
        self.late_permille = 0;
    }

    /// When something was last lost on the way.
    pub fn lost_at(&self, from: Port, to: Port) -> Option<Nanos> {
        self.lost_at.get(&(from, to)).copied()
    }

    /// A packet could not be taken by its receiver.
    pub fn note_lost(&mut self, now: Nanos, from: Port, to: Port) {
        let last = self.lost_at.entry((from, to)).or_default();
        *last = now.max(*last);
    }

    /// When an advert or an announcement arrives: never, once, or twice.
    pub fn arrivals(&mut self, rng: &mut Rng, now: Nanos, from: Port, to: Port) -> Vec<Nanos> {
        if self.filtered.contains(&(from, to)) {
            self.note_lost(now, from, to);
            return Vec::new();
        }
        self.unfiltered_arrivals(rng, now, from, to)
    }

    /// The same of a question or an answer, which no filter of adverts stops.
    pub fn unfiltered_arrivals(&mut self, rng: &mut Rng, now: Nanos, from: Port, to: Port) -> Vec<Nanos> {
        if self.cuts.contains(&(from, to)) || rng.permille(self.lost_permille) {
            self.note_lost(now, from, to);
            return Vec::new();
        }
        let copies = if rng.permille(self.doubled_permille) { 2 } else { 1 };
        (0..copies).map(|_| self.arrival(rng, now, from, to)).collect()
    }

    fn arrival(&mut self, rng: &mut Rng, now: Nanos, from: Port, to: Port) -> Nanos {
        let at = now + rng.within(self.delay.0, self.delay.1);
        if rng.permille(self.late_permille) {
            // Until it arrives it is as good as lost.
            self.note_lost(now + self.late_by, from, to);
            return at + rng.within(0, self.late_by);
        }
        // The rest keeps its order, as on a wire.
        let last = self.last_arrival.entry((from, to)).or_default();
        *last = at.max(*last);
        *last
    }
}
