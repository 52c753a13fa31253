//! The second paths: where the other nodes are on them, and how they are found.
//!
//! On a link nodes find each other by multicast; a peer that is named by its address is greeted there. A path that a
//! node was heard on is used for what is said to it, and each message takes all of its paths.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use nix::net::if_::if_nametoindex;

use super::peers::Peers;
use crate::config::HeartbeatPath;
use crate::driver::datagrams::Path;
use crate::engine::Instant;
use crate::wire::handover::HandoverMessage;
use crate::wire::heartbeat::Heartbeat;
use crate::wire::seal::Topic;

/// How often is looked for nodes that are not heard, and for interfaces that were not there.
const GREETING: Duration = Duration::from_secs(1);
/// A path counts as alive for so long after it was heard on; then its node is looked for again.
const ALIVE: Duration = Duration::from_secs(3);
/// How often nodes on a link are looked for where one is heard already: others may be there, which missed the first greeting.
const GREETING_AGAIN: Duration = Duration::from_secs(10);
/// How many paths to a node are used, the last heard first. As many as can be configured.
const MOST_PATHS: usize = 8;
/// A heartbeat that cannot be read is reported once in so long.
const REPORT_SPACING: Duration = Duration::from_secs(60);

/// All of them.
#[derive(Debug)]
pub(super) struct SecondPath {
    configured: Vec<HeartbeatPath>,
    /// The index of each interface that is listened on.
    joined: BTreeMap<String, u32>,
    /// When nodes were looked for on each interface.
    greeted: BTreeMap<String, Instant>,
    /// Where each node was heard, and when.
    heard: BTreeMap<String, Vec<(Path, Instant)>>,
    next_at: Option<Instant>,
    reported_at: Option<Instant>,
    /// What a heartbeat is written into.
    bytes: Vec<u8>,
}

impl SecondPath {
    /// Nobody is known on them.
    pub(super) fn new(configured: Vec<HeartbeatPath>, now: Instant) -> Self {
        Self {
            next_at: (!configured.is_empty()).then_some(now),
            configured,
            joined: BTreeMap::new(),
            greeted: BTreeMap::new(),
            heard: BTreeMap::new(),
            reported_at: None,
            bytes: Vec::new(),
        }
    }

    /// Others are configured. What changed, if anything.
    pub(super) fn follow(
        &mut self,
        configured: Vec<HeartbeatPath>,
        peers: Option<&mut Peers>,
        now: Instant,
    ) -> Option<String> {
        if configured == self.configured {
            return None;
        }
        if let Some(peers) = peers {
            self.joined.values().for_each(|ifindex| peers.leave(*ifindex));
        }
        *self = Self::new(configured, now);
        let names: Vec<String> = self.configured.iter().map(ToString::to_string).collect();
        Some(format!("heartbeat: {}", if names.is_empty() { "no path".to_owned() } else { names.join(", ") }))
    }

    /// When [`Self::greet`] is due.
    pub(super) const fn next_at(&self) -> Option<Instant> {
        self.next_at
    }

    /// Looks for nodes that are not heard. What is refused is tried again a second later.
    pub(super) fn greet(&mut self, peers: &mut Peers, now: Instant) {
        if self.next_at.is_none_or(|at| now < at) {
            return;
        }
        self.next_at = Some(now + GREETING);
        for path in self.configured.clone() {
            match path {
                HeartbeatPath::Peer(address) => {
                    let is_heard = |path: &Path| path.remote.ip() == address;
                    if !self.is_alive(now, is_heard) {
                        let remote = SocketAddr::new(address, peers.port());
                        peers.greet(Path { ifindex: 0, remote }).ok();
                    }
                }
                HeartbeatPath::Interface(name) => self.greet_link(peers, now, name),
            }
        }
    }

    fn greet_link(&mut self, peers: &mut Peers, now: Instant, name: String) {
        let ifindex = if_nametoindex(name.as_str()).ok();
        let joined = self.joined.get(&name).copied();
        if joined != ifindex {
            // It came, went, or is another one of that name.
            joined.into_iter().for_each(|joined| peers.leave(joined));
            self.joined.remove(&name);
            self.greeted.remove(&name);
        }
        let Some(ifindex) = ifindex else { return };
        if !self.joined.contains_key(&name) && peers.join(ifindex).is_ok() {
            self.joined.insert(name.clone(), ifindex);
        }
        let spacing = if self.is_alive(now, |path| path.ifindex == ifindex) { GREETING_AGAIN } else { Duration::ZERO };
        if self.greeted.get(&name).is_none_or(|at| now.since(*at) >= spacing) && peers.greet_link(ifindex).is_ok() {
            self.greeted.insert(name, now);
        }
    }

    /// A node was heard. Whether that was on one of these paths.
    pub(super) fn note(&mut self, now: Instant, peer: &str, path: Path) -> bool {
        let on_link = self.joined.values().any(|ifindex| *ifindex == path.ifindex);
        let by_address = self.configured.contains(&HeartbeatPath::Peer(path.remote.ip()));
        if !on_link && !by_address {
            return false;
        }
        let path = if on_link { path } else { Path { ifindex: 0, ..path } };
        self.heard.retain(|_, paths| {
            paths.retain(|(_, at)| now.since(*at) < GREETING_AGAIN);
            !paths.is_empty()
        });
        let paths = self.heard.entry(peer.to_owned()).or_default();
        paths.retain(|(known, _)| *known != path);
        paths.insert(0, (path, now));
        paths.truncate(MOST_PATHS);
        true
    }

    /// Says something to a node, on all paths that it was heard on. What does not get there is said again soon enough.
    pub(super) fn send(&mut self, peers: &mut Peers, peer: &str, heartbeat: &Heartbeat) {
        self.bytes.clear();
        heartbeat.emit(&mut self.bytes);
        for (path, _) in self.heard.get(peer).into_iter().flatten() {
            peers.send_on(peer, *path, Topic::Heartbeat, &self.bytes).ok();
        }
    }

    /// Says something of a handover to a node, on all paths that it was heard on. The engine says it again.
    pub(super) fn send_handover(&mut self, peers: &mut Peers, peer: &str, message: &HandoverMessage) {
        self.bytes.clear();
        message.emit(&mut self.bytes);
        for (path, _) in self.heard.get(peer).into_iter().flatten() {
            peers.send_on(peer, *path, Topic::Handover, &self.bytes).ok();
        }
    }

    /// Whether a heartbeat that cannot be read is to be reported.
    pub(super) fn is_worth_a_line(&mut self, now: Instant) -> bool {
        let due = self.reported_at.is_none_or(|at| now.since(at) >= REPORT_SPACING);
        if due {
            self.reported_at = Some(now);
        }
        due
    }

    /// Where a node was heard, last first.
    pub(super) fn paths(&self, peer: &str) -> impl Iterator<Item = SocketAddr> {
        self.heard.get(peer).into_iter().flatten().map(|(path, _)| path.remote)
    }

    fn is_alive(&self, now: Instant, is_it: impl Fn(&Path) -> bool) -> bool {
        self.heard.values().flatten().any(|(path, at)| is_it(path) && now.since(*at) < ALIVE)
    }
}
