//! What must hold among the vips of a node: names, VRIDs, addresses and routes that only one may have.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::net::IpAddr;
use std::ops::Range;

use super::address::is_link_local;
use super::problem::{Findings, Kind, Problem};
use crate::types::{Family, Routing, VirtualRoute, Vrid};

/// What one vip lays claim to, as far as it could be read.
pub(super) struct Claimed {
    /// Its name, and where that stands.
    pub(super) name: Option<(String, Range<usize>)>,
    /// Its interface.
    pub(super) interface: Option<String>,
    /// Its VRID, and where that stands.
    pub(super) vrid: Option<(Vrid, Range<usize>)>,
    /// The families of its virtual routers.
    pub(super) families: Vec<Family>,
    /// Its addresses, and where each stands.
    pub(super) addresses: Vec<(IpAddr, Range<usize>)>,
    /// Its routes and rules, and where each stands.
    pub(super) routing: Vec<(Routing, Range<usize>)>,
    /// The header of its table.
    pub(super) at: Range<usize>,
}

/// All vips, in the order of the file.
#[derive(Default)]
pub(super) struct Across {
    vips: Vec<Claimed>,
}

impl Across {
    /// One more.
    pub(super) fn add(&mut self, vip: Claimed) {
        self.vips.push(vip);
    }

    /// Whether there is a vip of this name, be it otherwise wrong.
    pub(super) fn has_vip(&self, name: &str) -> bool {
        self.vips.iter().any(|vip| vip.name.as_ref().is_some_and(|(known, _)| known == name))
    }

    /// Reports what is claimed twice.
    pub(super) fn check(&self, findings: &mut Findings) {
        self.names(findings);
        self.vrids(findings);
        self.addresses(findings);
        self.routing(findings);
    }

    fn names(&self, findings: &mut Findings) {
        let mut seen = HashMap::new();
        for (name, at) in self.vips.iter().filter_map(|vip| vip.name.as_ref()) {
            if let Some(first) = first_claim(&mut seen, name.as_str(), at) {
                let message = format!("two vips are named `{name}`");
                let problem = Problem::at(at.clone(), Kind::Duplicate, message, "again", "give each vip its own name");
                findings.refuse(problem.because_of(first, "first here"));
            }
        }
    }

    fn vrids(&self, findings: &mut Findings) {
        let mut seen = HashMap::new();
        for vip in &self.vips {
            let (Some(interface), Some((vrid, at))) = (&vip.interface, &vip.vrid) else { continue };
            // One report for both families.
            let firsts = vip.families.iter().map(|family| first_claim(&mut seen, (interface, *vrid, *family), at));
            let Some(first) = firsts.collect::<Vec<_>>().into_iter().flatten().next() else { continue };
            let message = format!("`vrid = {vrid}` is used twice on interface `{interface}`");
            let remedy =
                "give each vip of an interface its own VRID, the same on all nodes; or list the addresses in one vip";
            let problem = Problem::at(at.clone(), Kind::Duplicate, message, "again", remedy);
            findings.refuse(problem.because_of(first, "first here"));
        }
    }

    fn addresses(&self, findings: &mut Findings) {
        let mut seen = HashMap::new();
        for vip in &self.vips {
            for (ip, at) in &vip.addresses {
                // A link-local address means something on its link only.
                let scope = if is_link_local(*ip) { vip.interface.as_deref() } else { None };
                let Some((first, owner)) = first_claim(&mut seen, (*ip, scope), &(at.clone(), vip.at.clone())) else {
                    continue;
                };
                let (message, remedy) = if owner == vip.at {
                    (format!("{ip} is listed twice in one vip"), "remove one of the two")
                } else {
                    (format!("{ip} is listed in two vips"), "leave it in one of them: an address has one owner")
                };
                let problem = Problem::at(at.clone(), Kind::Duplicate, message, "again", remedy);
                findings.refuse(problem.because_of(first, "first here"));
            }
        }
    }
}

impl Across {
    /// Two routes to one network with one metric cannot be told apart, in one vip or in two.
    fn routing(&self, findings: &mut Findings) {
        let mut seen = HashMap::new();
        for (routing, at) in self.vips.iter().flat_map(|vip| &vip.routing) {
            let place = match *routing {
                Routing::Route(route) => Routing::Route(VirtualRoute { via: None, source: None, ..route }),
                rule @ Routing::Rule(_) => rule,
            };
            let Some(first) = first_claim(&mut seen, place, at) else { continue };
            let (message, remedy) = match routing {
                Routing::Route(route) => (
                    format!("there are two routes to {} with one metric in one table", route.to),
                    "remove one of the two, or give one another `metric`",
                ),
                Routing::Rule(rule) => (format!("the rule \"{rule}\" is listed twice"), "remove one of the two"),
            };
            let problem = Problem::at(at.clone(), Kind::Duplicate, message, "again", remedy);
            findings.refuse(problem.because_of(first, "first here"));
        }
    }
}

/// The place of the first claim, if this is not it.
fn first_claim<K: Eq + Hash, P: Clone>(seen: &mut HashMap<K, P>, key: K, place: &P) -> Option<P> {
    match seen.entry(key) {
        Entry::Occupied(first) => Some(first.get().clone()),
        Entry::Vacant(vacant) => {
            vacant.insert(place.clone());
            None
        }
    }
}
