//! What is to be done: the engine's outputs, each handed to who carries it out.

use std::mem;
use std::thread;

use super::EventLoop;
use crate::daemon::kernel::Kernel;
use crate::daemon::links::Interface;
use crate::daemon::log::Entry;
use crate::daemon::message::Message;
use crate::driver::fencing;
use crate::engine::{
    AddressSet, EffectError, EventKind, FenceOrder, HookOrder, Input, Instant, Output, Prepared, StateName, Vip, VipId,
};
use crate::types::MacMode;

/// How many leases are renewed together: enough that what is done once for all of them hardly counts, few enough that the
/// first waits only while so many adverts are sent.
const RENEWALS_AT_ONCE: usize = 64;

type RemovalOrder = fn(&Kernel, Interface, AddressSet) -> Result<(), EffectError>;

impl EventLoop {
    pub(super) fn carry_out(&mut self, now: Instant) {
        let mut owner_may_be_new = false;
        while let Some(output) = self.next_output(now) {
            match output {
                Output::Transmit(transmit) => {
                    if let Err(error) = self.sockets.send(&transmit) {
                        self.log.write(Entry::Trouble(error.to_string()));
                    }
                }
                Output::RenewLease { vip, until } => {
                    self.renewals.push((vip, until));
                    if self.renewals.len() >= RENEWALS_AT_ONCE {
                        self.renew_leases(now);
                    }
                }
                Output::EndLease { vip } => {
                    self.lifetimes.end(vip);
                    self.leases.end(vip, &self.log);
                }
                Output::LetGo { vip } => {
                    let closed = self.leases.let_go(vip, &self.log);
                    self.lifetimes.end(vip);
                    self.engine.handle(now, Input::LetGo { vip, closed });
                }
                Output::Prepare(set) => self.prepare(now, set),
                Output::Install(set) => self.install(now, set),
                Output::Remove(set) => self.remove(now, set, Kernel::remove),
                Output::Trim(set) => self.remove(now, set, Kernel::trim),
                Output::Announce(set) => {
                    if let Some(interface) = self.links.interface(set.link)
                        && let Err(error) = self.kernel.announce(interface, set.clone(), self.lifetimes.right(set.vip))
                    {
                        self.log.write(Entry::Trouble(error.to_string()));
                    }
                }
                Output::Vote { to, message } => {
                    if let Some(peers) = &mut self.peers {
                        self.votes.put(peers, &to, &message);
                    }
                }
                Output::Ask(question) => {
                    self.watches.expect_answers(&question, &self.log);
                    if let Some(interface) = self.links.interface(question.link)
                        && let Err(error) = self.sockets.ask(interface, &question)
                    {
                        self.log.write(Entry::Trouble(error.to_string()));
                    }
                }
                Output::Echo(question) => self.references.ask(&self.engine, &self.links, &question, &self.log),
                Output::SendHeartbeat { peer, heartbeat } => {
                    if let Some(peers) = &mut self.peers {
                        self.second_path.send(peers, &peer, &heartbeat);
                    }
                }
                Output::SendHandover { peer, message } => {
                    if let Some(peers) = &mut self.peers {
                        self.second_path.send_handover(peers, &peer, &message);
                    }
                }
                Output::HandoverEnded { request, outcome } => self.handovers.on_ended(request, outcome),
                Output::Fence(order) => self.fence(now, order),
                Output::RunHook(order) => self.run_hook(now, order),
                Output::KeepHolds => self.unsaved_since = self.unsaved_since.or(Some(now)),
                Output::Event(event) => {
                    if matches!(event.kind, EventKind::Transition { .. }) {
                        self.unsaved_since = self.unsaved_since.or(Some(now));
                        owner_may_be_new = true;
                    }
                    self.log.write(Entry::Event(event));
                }
            }
        }
        if let Some(peers) = &mut self.peers {
            self.votes.flush(peers);
        }
        if owner_may_be_new {
            self.follow_ownership(now);
        }
        self.answer_settled();
        if !self.waiting.is_empty() || self.save_at().is_some_and(|at| now >= at) {
            self.save(now);
        }
    }

    /// The next thing to do. Leases wait while one advert comes after the other, to be renewed together.
    fn next_output(&mut self, now: Instant) -> Option<Output> {
        match self.engine.poll_output() {
            together @ Some(Output::Transmit(_) | Output::RenewLease { .. }) => together,
            other => {
                self.renew_leases(now);
                // One that came too late has consequences.
                other.or_else(|| self.engine.poll_output())
            }
        }
    }

    fn renew_leases(&mut self, now: Instant) {
        if self.renewals.is_empty() {
            return;
        }
        let mut renewals = mem::take(&mut self.renewals);
        let lapsed = self.leases.renew(&renewals, &self.log);
        renewals.retain(|(vip, _)| !lapsed.contains(vip));
        for (vip, until) in &renewals {
            self.lifetimes.hold(*vip, *until);
        }
        self.renew_lifetimes(now, renewals.into_iter().map(|(vip, _)| vip));
        for vip in lapsed {
            self.engine.handle(now, Input::LeaseLapsed { vip });
        }
    }

    /// Off the loop, once nothing more urgent is to be done.
    pub(super) fn renew_lifetimes(&mut self, now: Instant, vips: impl IntoIterator<Item = VipId>) {
        let Self { engine, links, lifetimes, kernel, .. } = self;
        let mut due = Vec::new();
        for vip in vips {
            let link = engine.vip(vip).map(|vip| vip.link());
            let Some(interface) = link.and_then(|link| links.interface(link)) else { continue };
            due.extend(lifetimes.due(vip, now).map(|what| (interface, what)));
        }
        let asked: Vec<VipId> = due.iter().map(|(_, what)| what.vip).collect();
        if !due.is_empty() && !kernel.prolong(due) {
            asked.into_iter().for_each(|vip| lifetimes.not_renewed(vip));
        }
    }

    /// Has the watchdog armed while anything is owned, or is still there.
    pub(super) fn follow_ownership(&mut self, now: Instant) {
        if self.self_fence.is_configured() {
            self.self_fence.follow(self.owns(), now, &self.log);
        }
    }

    pub(super) fn owns(&self) -> bool {
        let owns = |vip: &Vip| matches!(vip.state(), StateName::Claiming | StateName::Active);
        self.removals > 0 || self.engine.vips().iter().any(owns)
    }

    /// On a thread of its own, which may take minutes.
    fn fence(&mut self, now: Instant, FenceOrder { request, peer }: FenceOrder) {
        let to_loop = self.to_loop.clone();
        let spawned = thread::Builder::new().name("fence".into()).spawn(move || {
            let result = fencing::fence(&peer).map_err(EffectError);
            // An agent that has ended claims nothing.
            if let Some(to_loop) = to_loop.upgrade() {
                to_loop.blocking_send(Message::Fenced { request, result }).ok();
            }
        });
        if let Err(error) = spawned {
            let result = Err(EffectError(format!("no thread for it: {error}")));
            self.engine.handle(now, Input::Fenced { request, result });
        }
    }

    fn run_hook(&mut self, now: Instant, order: HookOrder) {
        let (request, vip, moment) = (order.request, order.vip, order.moment);
        match self.hooks.run(order) {
            Ok(()) => self.hooks_under_way += 1,
            Err(error) => self.engine.handle(now, Input::HookEnded { request, vip, moment, result: Err(error) }),
        }
    }

    fn install(&mut self, now: Instant, set: AddressSet) {
        let (request, vip) = (set.request, set.vip);
        // The order may be carried out before the lease is renewed, which comes next.
        if let Some(until) = self.engine.vip(vip).and_then(|vip| vip.lease_until()) {
            self.lifetimes.hold(vip, until);
        }
        let ordered = match self.links.interface(set.link) {
            Some(interface) => {
                let (lifetime, right) = (self.lifetimes.install(vip, now), self.lifetimes.right(vip));
                self.kernel.install(interface, set, lifetime, right)
            }
            None => Err(EffectError::from("the interface is missing")),
        };
        if ordered.is_err() {
            self.engine.handle(now, Input::Installed { request, vip, result: ordered });
        }
    }

    /// Behind a gate that is closed. Where there is none, or where a switch would learn of the virtual MAC address at
    /// once, it waits for the claim.
    fn prepare(&mut self, now: Instant, set: AddressSet) {
        let (request, vip) = (set.request, set.vip);
        let can = self.circumstances.enforcement.is_in_time() && set.mac == MacMode::Interface;
        let ordered = match self.links.interface(set.link).filter(|_| can) {
            Some(interface) => {
                let lifetime = self.lifetimes.install(vip, now);
                match self.kernel.prepare(interface, set, lifetime) {
                    Ok(()) => return,
                    Err(error) => Err(error),
                }
            }
            None => Ok(Prepared::Later),
        };
        self.engine.handle(now, Input::Prepared { request, vip, result: ordered });
    }

    /// An interface that is gone has no addresses, which the thread of the addresses finds out.
    fn remove(&mut self, now: Instant, set: AddressSet, order: RemovalOrder) {
        let (request, vip) = (set.request, set.vip);
        let Some(interface) = self.links.interface(set.link) else {
            self.engine.handle(now, Input::Removed { request, vip, result: Ok(()) });
            return;
        };
        self.leases.on_remove(&set);
        match order(&self.kernel, interface, set) {
            Ok(()) => self.removals += 1,
            Err(error) => {
                self.leases.on_removed(request, false, &self.log);
                self.engine.handle(now, Input::Removed { request, vip, result: Err(error) });
            }
        }
    }
}
