//! The kernels: they install and remove addresses one request after another, and end the lease by the host's own clock.

use vipd::engine::{EffectError, Input, Prepared};

use super::clock::Clock;
use super::host::{Effect, Wire};
use super::network::Port;
use super::world::{Entry, World, place};

impl World {
    pub fn queue_effect(&mut self, host: Port, effect: Effect) {
        self.log(|| match &effect {
            Effect::Install(set) => format!("host {host}: asks for vip {}", set.vip.0),
            Effect::Prepare(set) => format!("host {host}: prepares vip {}", set.vip.0),
            Effect::Remove(set) => format!("host {host}: takes vip {} away", set.vip.0),
        });
        self.hosts[host].effects.push_back(effect);
        self.start_effect(host);
    }

    /// The next effect begins, if none is under way and the agent is there to ask for it.
    pub fn start_effect(&mut self, host: Port) {
        let it = &mut self.hosts[host];
        if it.effect_under_way || it.effects.is_empty() || it.is_dead() {
            return;
        }
        it.effect_under_way = true;
        let (time, incarnation) = (it.spec.effect_time, it.incarnation);
        let at = self.now + self.rng.within(time.0, time.1) / 2;
        self.push(at, Entry::Apply { host, incarnation });
    }

    pub fn apply_effect(&mut self, host: Port) {
        let it = &mut self.hosts[host];
        let missing = it.wire == Wire::Missing;
        let mut failed = false;
        match it.effects.front() {
            Some(Effect::Install(set) | Effect::Prepare(set)) => {
                let addresses = set.addresses.iter().map(|address| address.ip);
                let installed = &mut it.kernel[place(set.vip)].installed;
                if missing {
                    failed = true;
                } else if it.refusals > 0 {
                    it.refusals -= 1;
                    failed = true;
                    // All but the last are there all the same.
                    installed.extend(addresses.take(set.addresses.len() - 1));
                } else {
                    installed.extend(addresses);
                }
            }
            Some(Effect::Remove(set)) => {
                for address in set.addresses.iter() {
                    it.kernel[place(set.vip)].installed.remove(&address.ip);
                }
            }
            None => unreachable!("an effect under way is the first of the queue"),
        }
        let (time, incarnation) = (it.spec.effect_time, it.incarnation);
        let at = self.now + self.rng.within(time.0, time.1) / 2;
        self.push(at, Entry::Answer { host, incarnation, failed });
        self.look();
    }

    pub fn answer_effect(&mut self, host: Port, failed: bool) {
        let it = &mut self.hosts[host];
        it.effect_under_way = false;
        let result: Result<(), EffectError> = if failed { Err("File exists".into()) } else { Ok(()) };
        let input = match it.effects.pop_front().expect("an effect under way is the first of the queue") {
            Effect::Install(set) => Input::Installed { request: set.request, vip: set.vip, result },
            Effect::Prepare(set) => {
                let result = result.map(|()| Prepared::There);
                Input::Prepared { request: set.request, vip: set.vip, result }
            }
            Effect::Remove(set) => Input::Removed { request: set.request, vip: set.vip, result },
        };
        self.input(host, input);
        self.start_effect(host);
    }

    /// Sees to it that the end of a lease is looked at when it comes.
    pub fn watch_lapse(&mut self, host: Port, vip: usize) {
        let it = &self.hosts[host];
        let clock: Clock = it.spec.clock;
        let kernel = &it.kernel[vip];
        let Some(at) = kernel.lease_until.map(|until| clock.when(until)) else { return };
        if !kernel.lapse_watched && at > self.now {
            self.hosts[host].kernel[vip].lapse_watched = true;
            self.push(at, Entry::Lapse { host, vip });
        }
    }
}
