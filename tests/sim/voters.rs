//! The witness, and what nodes and witness say to each other about grants: real bytes, over the same lossy network.

use std::sync::Arc;
use std::time::Duration;

use vipd::engine::{Input, QuorumSettings, Voter};
use vipd::wire::grant::{self, GrantMessage};

use super::clock::Clock;
use super::host::{Life, Wire};
use super::network::Port;
use super::world::{Entry, World};

/// Where the witness is reached.
pub const WITNESS: Port = Port::MAX - 2;

/// A voter that owns nothing.
#[derive(Debug)]
pub struct Witness {
    pub clock: Clock,
    pub longest_grant: Duration,
    /// While it runs.
    pub voter: Option<Voter>,
}

/// Settings of a node whose voters are all hosts of a world, and the witness where there is to be one.
pub fn quorum(own: usize, hosts: usize, witness: bool, longest_grant: Duration) -> QuorumSettings {
    let nodes = (0..hosts).map(|place| Arc::from(name_of(place)));
    let witness = witness.then(|| Arc::from(name_of(WITNESS)));
    QuorumSettings {
        own: name_of(own).into(),
        cluster: "sim".into(),
        voters: nodes.chain(witness).collect(),
        longest_grant,
    }
}

/// The name of a host, as its settings have it, or of the witness.
pub fn name_of(port: Port) -> String {
    if port == WITNESS { "witness".into() } else { format!("host {port}") }
}

impl World {
    pub fn start_witness(&mut self) {
        let now = self.now;
        self.log(|| "witness starts".into());
        let witness = self.witness.as_mut().expect("this world has a witness");
        witness.voter = Some(Voter::new(witness.clock.shows(now), witness.longest_grant));
    }

    pub fn stop_witness(&mut self) {
        self.log(|| "witness dies".into());
        self.witness.as_mut().expect("this world has a witness").voter = None;
    }

    /// A node or the witness sends a message about grants.
    pub fn vote(&mut self, from: Port, to: &str, message: &GrantMessage) {
        let to =
            (0..self.hosts.len()).chain([WITNESS]).find(|port| name_of(*port) == to).expect("a voter of this world");
        assert_ne!(from, to, "a node asks itself without a message");
        if from != WITNESS && self.hosts[from].wire != Wire::Up {
            return;
        }
        self.log(|| format!("{} to {}: {message:?}", name_of(from), name_of(to)));
        let mut bytes = Vec::new();
        message.emit(&mut bytes);
        self.votes_sent += 1;
        for at in self.network.unfiltered_arrivals(&mut self.rng, self.now, from, to) {
            self.push(at, Entry::Vote { from, to, bytes: bytes.clone() });
        }
    }

    pub fn deliver_vote(&mut self, from: Port, to: Port, bytes: &[u8]) {
        for message in grant::parse(bytes).expect("the network does not change bytes") {
            if to == WITNESS {
                self.witness_hears(from, message);
                continue;
            }
            let it = &self.hosts[to];
            if it.wire == Wire::Up && it.life != Life::Crashed {
                self.input(to, Input::Grant { from: name_of(from).into(), message });
            }
        }
    }

    fn witness_hears(&mut self, from: Port, message: GrantMessage) {
        let Some(witness) = &mut self.witness else { return };
        let now = witness.clock.shows(self.now);
        let Some(voter) = &mut witness.voter else { return };
        if let Some(answer) = voter.answer(now, &name_of(from), &message) {
            self.vote(WITNESS, &name_of(from), &answer);
        }
    }
}
