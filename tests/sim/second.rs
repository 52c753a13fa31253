//! The second path: a network of its own for heartbeats, which travel as real bytes. What the sealed sessions promise is kept here:
//! nothing arrives at another agent than the one that it was sent to, nor twice, nor from an agent that has a successor.

use vipd::engine::{Input, VipSettings};
use vipd::wire::handover::{HandoverMessage, HandoverStep};
use vipd::wire::heartbeat::{Heartbeat, MAX_LEN};
use vipd::wire::seal::Topic;

use super::clock::{Nanos, SECOND};
use super::host::Life;
use super::network::Port;
use super::world::{Entry, World};

/// How often an agent looks for others.
const GREETING: Nanos = SECOND;

impl World {
    pub fn start_greeting(&mut self, host: Port) {
        if self.speaks(host) {
            let incarnation = self.hosts[host].incarnation;
            self.push(self.now, Entry::Greet { host, incarnation });
        }
    }

    /// A session takes a way there and one back.
    pub fn greet(&mut self, host: Port, incarnation: u32) {
        let it = &self.hosts[host];
        if it.incarnation != incarnation || it.life == Life::Crashed {
            return;
        }
        self.push(self.now + GREETING, Entry::Greet { host, incarnation });
        let runs = |world: &Self, host: Port| world.hosts[host].life == Life::Running && world.speaks(host);
        let others: Vec<Port> = (0..self.hosts.len()).filter(|other| *other != host && runs(self, *other)).collect();
        if !runs(self, host) {
            return;
        }
        for other in others {
            let there = self.second.arrivals(&mut self.rng, self.now, host, other).first().copied();
            let Some(there) = there else { continue };
            let back = self.second.arrivals(&mut self.rng, there, other, host).first().copied();
            let Some(back) = back else { continue };
            for (one, two) in [(host, other), (other, host)] {
                let incarnation = self.hosts[one].incarnation;
                self.push(back, Entry::Met { host: one, incarnation, other: two });
            }
        }
    }

    pub fn send_heartbeat(&mut self, host: Port, peer: &str, heartbeat: &Heartbeat) {
        self.judge_heartbeat(host, heartbeat);
        self.beats.push((self.now, host));
        let mut bytes = Vec::new();
        heartbeat.emit(&mut bytes);
        if bytes.len() > MAX_LEN {
            self.watch.fail(self.now, format!("host {host}: a heartbeat of {} bytes", bytes.len()));
        }
        self.send_sealed(host, peer, Topic::Heartbeat, bytes);
    }

    pub fn send_handover(&mut self, host: Port, peer: &str, message: &HandoverMessage) {
        self.log(|| format!("host {host}: to {peer}: {} {:?}", message.number, message.step));
        self.said.push((self.now, host, message.step));
        if message.step == HandoverStep::LetGo {
            self.judge_let_go(host, message);
        }
        let mut bytes = Vec::new();
        message.emit(&mut bytes);
        self.send_sealed(host, peer, Topic::Handover, bytes);
    }

    fn send_sealed(&mut self, host: Port, peer: &str, topic: Topic, bytes: Vec<u8>) {
        let Some(to) = self.hosts.iter().position(|host| host.spec.settings.node == peer) else { return };
        let (to_incarnation, from_incarnation) = (self.hosts[to].incarnation, self.hosts[host].incarnation);
        // A second copy is refused as a replay.
        if let Some(at) = self.second.arrivals(&mut self.rng, self.now, host, to).first().copied() {
            self.push(at, Entry::Sealed { to, to_incarnation, from: host, from_incarnation, topic, bytes });
        }
    }

    pub fn deliver_sealed(
        &mut self,
        (to, to_run): (Port, u32),
        (from, from_run): (Port, u32),
        topic: Topic,
        bytes: &[u8],
    ) {
        let it = &mut self.hosts[to];
        let youngest = it.heard_from.entry(from).or_default();
        if it.incarnation != to_run || from_run < *youngest {
            return;
        }
        *youngest = from_run;
        let peer = self.hosts[from].spec.settings.node.clone();
        let input = match topic {
            Topic::Heartbeat => Heartbeat::parse(bytes)
                .map(|heartbeat| Input::Heartbeat { peer, heartbeat })
                .map_err(|error| error.to_string()),
            Topic::Handover => HandoverMessage::parse(bytes)
                .map(|message| Input::Handover { peer, message })
                .map_err(|error| error.to_string()),
            Topic::Grant => Err("nobody grants here".to_owned()),
        };
        match input {
            Ok(input) => self.input(to, input),
            Err(error) => self.watch.fail(self.now, format!("host {to}: cannot read what host {from} said: {error}")),
        }
    }

    /// Who says that it is another's answers for none of it.
    fn judge_let_go(&mut self, host: Port, message: &HandoverMessage) {
        let (now, gate) = (self.now, self.gate);
        let it = &self.hosts[host];
        let is_its = |settings: &VipSettings| settings.addresses.iter().any(|it| message.addresses.contains(it.ip));
        let vips = it.configured.iter().enumerate().filter(|(_, settings)| is_its(settings));
        if vips.into_iter().any(|(vip, _)| it.answers(vip, now, gate)) {
            self.watch.fail(now, format!("host {host}: gives away what it still answers for"));
        }
    }

    /// Who says that it has given up has nothing left.
    fn judge_heartbeat(&mut self, host: Port, heartbeat: &Heartbeat) {
        for report in heartbeat.reports.iter().filter(|report| report.given_up) {
            let it = &self.hosts[host];
            let vips = it.configured.iter().zip(&it.kernel);
            let is_its = |settings: &VipSettings| settings.addresses.iter().any(|it| report.addresses.contains(it.ip));
            let mut left = vips.filter(|(settings, _)| settings.vrid == report.vrid && is_its(settings));
            if left.any(|(_, kernel)| kernel.lease_until.is_some() || !kernel.installed.is_empty()) {
                self.watch.fail(self.now, format!("host {host}: says that it has given up what it still has"));
            }
        }
    }

    fn speaks(&self, host: Port) -> bool {
        self.hosts[host].spec.settings.heartbeat.is_some()
    }
}
