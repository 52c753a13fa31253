//! What happens: each message, packet and deadline becomes an input of the engine.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::EventLoop;
use crate::daemon::log::Entry;
use crate::daemon::message::Message;
use crate::daemon::peers::Heard;
use crate::daemon::status;
use crate::driver::links::LinkEvent;
use crate::engine::{Input, Instant, LinkState, VipId};
use crate::wire::handover::HandoverMessage;
use crate::wire::heartbeat::Heartbeat;
use crate::wire::seal::Topic;

/// How long a restart may be put off until the peers are patient. With [`STOP_PATIENCE`] less than what systemd gives a stop.
const HAND_ON_PATIENCE: Duration = Duration::from_secs(4);
/// How long a stopping agent waits for the kernel to take the addresses away.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

impl EventLoop {
    pub(super) fn on_deadline(&mut self, now: Instant) {
        self.armed = None;
        if let Some(deadline) = self.engine.next_deadline().filter(|deadline| *deadline <= now) {
            self.lateness.record(now.since(deadline));
            self.engine.handle(now, Input::Deadline);
        }
        if self.hand_on_at.is_some_and(|at| at <= now) {
            self.hand_on(now);
        }
        self.supervisor.beat(now);
        self.log.beat(now);
        if let Some(peers) = &mut self.peers {
            self.second_path.greet(peers, now);
        }
        self.self_fence.feed(now, &self.log);
    }

    pub(super) fn on_message(&mut self, now: Instant, message: Message) {
        match message {
            Message::Links(events) => {
                // An interface that is gone explains why its addresses are, so it is heard of first.
                let (states, addresses): (Vec<_>, Vec<_>) =
                    events.into_iter().partition(|event| matches!(event, LinkEvent::State { .. }));
                for event in states.into_iter().chain(addresses) {
                    self.on_link_event(now, event);
                    self.carry_out(now);
                }
            }
            Message::Installed { request, vip, result } => {
                self.engine.handle(now, Input::Installed { request, vip, result });
            }
            Message::Prepared { request, vip, result } => {
                self.engine.handle(now, Input::Prepared { request, vip, result });
            }
            Message::Removed { request, vip, result } => {
                self.removals = self.removals.saturating_sub(1);
                self.leases.on_removed(request, result.is_ok(), &self.log);
                if result.is_err() && !self.circumstances.enforcement.is_in_time() {
                    self.self_fence.starve(&self.log);
                }
                self.engine.handle(now, Input::Removed { request, vip, result });
                self.follow_ownership(now);
            }
            Message::Spared(spared) => {
                self.memory.keep_spared(spared);
                self.unsaved_since = self.unsaved_since.or(Some(now));
            }
            Message::ReferencePath { link, reference, path } => {
                self.engine.handle(now, Input::ReferencePath { link, reference, path });
                self.watches.reload(&self.engine, &self.log);
            }
            Message::Check { check, result } => {
                self.engine.handle(now, Input::CheckResult { check: check.into(), result: *result });
            }
            Message::Status(answer) => {
                let mut status = status::status(&self.engine, now, self.circumstances, &self.lateness, &self.journal);
                status.heard_on_second_path(&self.engine, &self.second_path, now);
                status.quorum = self.votes.status(&self.engine, now);
                status.seal = self.peers.as_ref().map(|peers| peers.status(now, self.sockets.sealing()));
                if answer.send(status).is_err() {
                    self.log.write(Entry::Trouble("a control client left before its answer".to_owned()));
                }
            }
            Message::Fenced { request, result } => self.engine.handle(now, Input::Fenced { request, result }),
            Message::HookEnded { request, vip, moment, result } => {
                self.hooks_under_way = self.hooks_under_way.saturating_sub(1);
                self.engine.handle(now, Input::HookEnded { request, vip, moment, result });
            }
            Message::Journal(status) => self.journal = *status,
            Message::Hold { vip, change, answer } => self.on_hold_change(now, vip.as_deref(), change, answer),
            Message::HandOver { request, answer } => {
                match request.first(&self.engine) {
                    Some(vip) => {
                        let order = request.order();
                        let request = self.handovers.wait(request.vip, answer);
                        self.engine.handle(now, Input::HandOver { vip, request, order });
                    }
                    // One that has left does not want to know.
                    None => drop(answer.send(None)),
                }
            }
            Message::Stop { is_restart: false } => self.on_stop(now),
            Message::Stop { is_restart: true } => self.on_restart(now),
            // One that is stopping drops the question, which is an answer too.
            Message::Reload { config, answer } if self.stop.is_none() && self.hand_on_at.is_none() => {
                let difference = self.on_reload(now, *config);
                if answer.send(difference).is_err() {
                    self.log.write(Entry::Trouble("a control client left before its answer".to_owned()));
                }
            }
            Message::Reload { .. } => {}
            Message::Lost { thread, error } => unreachable!("{thread} is handled by the loop: {error}"),
        }
    }

    pub(super) fn on_heard(&mut self, now: Instant, heard: Heard) {
        match heard {
            Heard::Message { sender, topic: Topic::Heartbeat, payload, path } => {
                self.second_path.note(now, &sender, path);
                match Heartbeat::parse(&payload) {
                    Ok(heartbeat) => self.engine.handle(now, Input::Heartbeat { peer: sender, heartbeat }),
                    Err(error) if self.second_path.is_worth_a_line(now) => {
                        self.log.write(Entry::Trouble(format!("a heartbeat of {sender} cannot be read: {error}")));
                    }
                    Err(_) => {}
                }
            }
            Heard::Message { sender, topic: Topic::Handover, payload, path } => {
                self.second_path.note(now, &sender, path);
                match HandoverMessage::parse(&payload) {
                    Ok(message) => self.engine.handle(now, Input::Handover { peer: sender, message }),
                    Err(error) if self.second_path.is_worth_a_line(now) => {
                        self.log
                            .write(Entry::Trouble(format!("what {sender} says of a handover cannot be read: {error}")));
                    }
                    Err(_) => {}
                }
            }
            Heard::Message { sender, topic: Topic::Grant, payload, path: _ } => match self.votes.read(now, &payload) {
                Ok(messages) => {
                    let from: Arc<str> = sender.into();
                    for message in messages {
                        self.engine.handle(now, Input::Grant { from: Arc::clone(&from), message });
                    }
                }
                Err(Some(error)) => {
                    let text = format!("what {sender} says about grants cannot be read: {error}");
                    self.log.write(Entry::Trouble(text));
                }
                Err(None) => {}
            },
            Heard::Session { peer, path } => {
                if self.second_path.note(now, &peer, path) {
                    self.engine.handle(now, Input::PeerMet { peer });
                }
            }
            Heard::Refused { path, error } => {
                let from = path.remote;
                self.log.write(Entry::Trouble(format!("a sealed message from {from} is not believed: {error}")));
            }
        }
    }

    fn on_link_event(&mut self, now: Instant, event: LinkEvent) {
        match event {
            LinkEvent::State { name, ifindex, mac, state, mtu: _ } => {
                let Some(link) = self.links.find(&name) else { return };
                // What was there has gone, or has another name now, with our addresses on it: they are taken from it
                // before it is forgotten, even where another interface has come in its place meanwhile.
                if self.links.interface(link).is_some_and(|known| Some(known.ifindex) != ifindex) {
                    self.engine.handle(now, Input::Link { link, state: LinkState::Missing });
                    self.carry_out(now);
                }
                self.links.hear(link, ifindex, mac);
                self.watches.follow(link, ifindex, mac, &self.log);
                if self.sockets.follow(link, &name, ifindex, &self.log) {
                    self.leases.follow(link, &self.log);
                }
                self.references.follow(&self.engine, &self.links, &self.log);
                self.engine.handle(now, Input::Link { link, state });
                if self.links.all_heard() {
                    self.supervisor.ready();
                }
            }
            LinkEvent::AddressGone { ifindex, ip, by_port, expired } => {
                let ours = by_port == self.kernel.address_port();
                let Some(vip) = self.links.vip_of(ifindex, ip).filter(|_| !ours) else { return };
                if expired {
                    self.on_expired(now, vip, ip);
                } else {
                    self.engine.handle(now, Input::AddressGone { vip, address: ip });
                }
            }
            LinkEvent::RoutingGone { ifindex, routing, by_port } => {
                let ours = by_port == self.kernel.routing_port();
                let owner = self.links.vip_routing(&self.engine, ifindex, routing).filter(|_| !ours);
                if let Some(vip) = owner {
                    self.engine.handle(now, Input::RoutingGone { vip, routing });
                }
            }
        }
    }

    /// The kernel took an address away for its age: no other program did. It goes with the lease, or comes back with it.
    fn on_expired(&mut self, now: Instant, vip: VipId, ip: IpAddr) {
        let Some(owner) = self.engine.vip(vip).filter(|vip| vip.lease_until().is_some_and(|until| now < until)) else {
            return;
        };
        let name = &owner.settings().name;
        let text = format!("{name}: this host was too busy to renew the lifetime of {ip} in time: put back");
        self.log.write(Entry::Trouble(text));
        self.lifetimes.not_renewed(vip);
        self.renew_lifetimes(now, [vip]);
    }

    pub(super) fn on_stop(&mut self, now: Instant) {
        if self.stop.is_none() {
            self.stop = Some(now + STOP_PATIENCE);
            self.supervisor.stopping();
            self.engine.handle(now, Input::Shutdown);
        }
    }

    /// Leaves what is owned to the next agent, as soon as that has a longer lease than usual to begin within.
    fn on_restart(&mut self, now: Instant) {
        if self.stop.is_none() && self.hand_on_at.is_none() {
            self.supervisor.stopping();
            self.engine.handle(now, Input::PrepareHandOn);
            match self.engine.may_hand_on_at() {
                Some(at) => self.hand_on_at = Some(at.min(now + HAND_ON_PATIENCE)),
                None => self.hand_on(now),
            }
        }
    }

    /// Ends. The next agent has the length of a lease to begin.
    pub(super) fn hand_on(&mut self, now: Instant) {
        self.hand_on_at = None;
        if self.stop.is_none() {
            self.stop = Some(now + STOP_PATIENCE);
            self.hands_on = true;
            self.engine.handle(now, Input::HandOn);
        }
    }
}
