//! What is said about grants: where the voters are, and what a status shows of them.
//!
//! All that one round of the loop has to say to a voter shares datagrams. What is lost, or is said before there is a
//! session, is asked again soon enough; who does not answer is told by the engine.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::milliseconds;
use super::peers::Peers;
use crate::config::VoterAddress;
use crate::driver::datagrams::Path;
use crate::engine::quorum::majority;
use crate::engine::roll::Attendance;
use crate::engine::{Engine, Instant, Vip};
use crate::wire::grant::{self, GrantError, GrantMessage};
use crate::wire::seal::Topic;

/// A message that cannot be read is reported once in so long.
const REPORT_SPACING: Duration = Duration::from_secs(60);

/// What is to be sent, and where to.
#[derive(Debug)]
pub(super) struct Votes {
    addresses: BTreeMap<Arc<str>, IpAddr>,
    unsent: BTreeMap<Arc<str>, Vec<u8>>,
    reported_at: Option<Instant>,
}

impl Votes {
    pub(super) fn new(voters: Vec<VoterAddress>) -> Self {
        let addresses = voters.into_iter().map(|voter| (voter.name, voter.address)).collect();
        Self { addresses, unsent: BTreeMap::new(), reported_at: None }
    }

    /// The voters are elsewhere. What changed, if anything.
    pub(super) fn follow(&mut self, voters: Vec<VoterAddress>) -> Option<String> {
        let before = std::mem::replace(&mut self.addresses, Self::new(voters).addresses);
        let moved = self.addresses.iter().filter(|(name, address)| before.get(*name) != Some(address));
        let moved: Vec<String> = moved.map(|(name, address)| format!("{name} at {address}")).collect();
        (!moved.is_empty()).then(|| format!("voters: {}", moved.join(", ")))
    }

    /// Something is to be said to a voter, or to a node that asked this one.
    pub(super) fn put(&mut self, peers: &mut Peers, to: &Arc<str>, message: &GrantMessage) {
        let room = peers.room(to);
        let unsent = self.unsent.entry(Arc::clone(to)).or_default();
        if !unsent.is_empty() && unsent.len() + message.emitted_len() > room {
            let full = std::mem::take(unsent);
            self.send(peers, to, &full);
        }
        message.emit(self.unsent.entry(Arc::clone(to)).or_default());
    }

    /// Nothing more is to be said now.
    pub(super) fn flush(&mut self, peers: &mut Peers) {
        for (to, bytes) in std::mem::take(&mut self.unsent) {
            if !bytes.is_empty() {
                self.send(peers, &to, &bytes);
            }
        }
    }

    fn send(&self, peers: &mut Peers, to: &Arc<str>, bytes: &[u8]) {
        let configured = self.addresses.get(to);
        let sent = match configured {
            Some(address) => {
                let path = Path { ifindex: 0, remote: SocketAddr::new(*address, peers.port()) };
                peers.send_on(to, path, Topic::Grant, bytes)
            }
            None => peers.send(to, Topic::Grant, bytes),
        };
        // Silence is what it comes to, and silence is told.
        sent.ok();
    }

    /// What a node says; or why it cannot be read, where that is to be reported.
    pub(super) fn read(&mut self, now: Instant, payload: &[u8]) -> Result<Vec<GrantMessage>, Option<GrantError>> {
        grant::parse(payload).map_err(|error| {
            let due = self.reported_at.is_none_or(|at| now.since(at) >= REPORT_SPACING);
            due.then(|| {
                self.reported_at = Some(now);
                error
            })
        })
    }

    /// Describes the voters.
    pub(super) fn status(&self, engine: &Engine, now: Instant) -> Option<QuorumStatus> {
        let settings = engine.quorum_settings()?;
        let voter = |seat: &Attendance| VoterStatus {
            name: seat.voter.to_string(),
            this_node: seat.is_own,
            address: self.addresses.get(&seat.voter).copied(),
            last_heard_age_ms: seat.heard_at.map(|at| milliseconds::exact(now.since(at))),
            round_trip_ms: seat.round_trip.map(milliseconds::exact),
            votes_in_ms: match engine.voter().filter(|_| seat.is_own) {
                Some(voter) => milliseconds::exact(voter.wait(now)),
                None => milliseconds::exact(seat.wait),
            },
            silent: seat.is_silent,
        };
        Some(QuorumStatus {
            cluster: settings.cluster.to_string(),
            longest_grant_ms: milliseconds::exact(settings.longest_grant),
            needed: majority(settings.voters.len()),
            voters: engine.voters().iter().map(voter).collect(),
            granted_here: engine.voter().map(|voter| voter.grants(now)),
        })
    }
}

/// Who votes on the owners.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct QuorumStatus {
    /// What the voters call this group.
    pub cluster: String,
    /// The longest grant, milliseconds.
    pub longest_grant_ms: f64,
    /// How many voters are a majority.
    pub needed: usize,
    /// All voters.
    pub voters: Vec<VoterStatus>,
    /// How many virtual routers this node has granted; none where it does not vote.
    pub granted_here: Option<usize>,
}

/// A voter.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VoterStatus {
    /// Its name.
    pub name: String,
    /// Whether it is this node itself.
    pub this_node: bool,
    /// Where it is asked.
    pub address: Option<IpAddr>,
    /// Milliseconds since it was heard last.
    pub last_heard_age_ms: Option<f64>,
    /// Milliseconds that its last answer to a call took.
    pub round_trip_ms: Option<f64>,
    /// Milliseconds after which it votes, where it has just started; as it was when it answered last.
    pub votes_in_ms: f64,
    /// Whether it does not answer any more: an alarm.
    pub silent: bool,
}

/// The grants of a vip.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GrantsStatus {
    /// How many voters grant it to this node.
    pub granted: usize,
    /// How many are needed.
    pub needed: usize,
    /// Milliseconds for which a majority grants it.
    pub left_ms: Option<f64>,
    /// Who does not grant it, and why.
    pub missing: Vec<String>,
    /// Milliseconds since this node would own it, had it a majority.
    pub lacks_majority_ms: Option<f64>,
}

/// Describes the grants of a vip.
pub(super) fn grants_status(vip: &Vip, now: Instant) -> Option<GrantsStatus> {
    let quorum = vip.quorum()?;
    Some(GrantsStatus {
        granted: quorum.granted(now),
        needed: majority(quorum.seats().len()),
        left_ms: quorum.held_until().filter(|until| now < *until).map(|until| milliseconds::exact(until.since(now))),
        missing: quorum.missing(now).iter().map(ToString::to_string).collect(),
        lacks_majority_ms: vip.lacks_majority_since().map(|since| milliseconds::exact(now.since(since))),
    })
}
