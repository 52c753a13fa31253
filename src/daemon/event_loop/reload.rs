//! New settings: what of them the loop itself keeps, and in which order the engine and its hands learn of them.

use super::EventLoop;
use crate::config::{Config, Seal};
use crate::daemon::difference::Difference;
use crate::daemon::log::{Entry, Names};
use crate::daemon::peers::{Peers, sealing_name};
use crate::engine::seals::{Sealing, Seals};
use crate::engine::{Input, Instant};

impl EventLoop {
    /// What is new is made ready before the engine's orders are carried out, and what is needed no longer is taken down after.
    pub(super) fn on_reload(&mut self, now: Instant, config: Config) -> Difference {
        let Config { settings, seal, spreads: _, checks: _, hooks, alerts, heartbeat, voters, notes: _ } = config;
        let mut difference = Difference::between(&self.engine, &settings);
        difference.others.extend(self.reload_seal(&settings.node, seal.as_ref()));
        difference.others.extend(self.second_path.follow(heartbeat, self.peers.as_mut(), now));
        match self.log.keep_alerts(alerts) {
            Some(changed) => difference.others.extend(changed.into_iter().map(|name| format!("~ alert {name}"))),
            None => {
                self.log.write(Entry::Trouble("the alerts are those from before the reload: too many wait".to_owned()))
            }
        }
        difference.others.extend(self.votes.follow(voters));
        // Before the engine can ask for one that is new.
        match self.hooks.keep(hooks) {
            Ok(changed) => difference.others.extend(changed.into_iter().map(|vip| format!("~ hooks of {vip}"))),
            Err(error) => {
                self.log.write(Entry::Trouble(format!("the hooks are those from before the reload: {error}")))
            }
        }
        if difference.is_none() {
            return difference;
        }
        let watchdog = settings.fence.watchdog.clone();
        self.engine.handle(now, Input::Settings(settings));
        self.self_fence.reload(watchdog, self.owns(), now, &self.log);
        let names = Names::of(&self.engine);
        self.hooks.rename(names.clone());
        self.log.write(Entry::Names(names));
        self.links.reload(&self.engine);
        self.sockets.extend(&self.engine, &self.log);
        self.leases.reload(&self.engine, &self.log);
        self.lifetimes.reload(&self.engine);
        self.watches.reload(&self.engine, &self.log);
        self.references.follow(&self.engine, &self.links, &self.log);
        self.carry_out(now);
        self.sockets.close_unwanted();
        self.leases.release_retired(&self.log);
        if let Err(error) = self.kernel.watch(&self.engine) {
            self.log.write(Entry::Trouble(error.to_string()));
        }
        difference
    }

    /// What changes in how nodes believe each other.
    fn reload_seal(&mut self, node: &str, seal: Option<&Seal>) -> Option<String> {
        let adverts = self.reload_seals(seal);
        let opened = match (&mut self.peers, seal) {
            (None, None) => return adverts,
            (peers @ Some(_), None) => {
                *peers = None;
                return Some("seal: off".to_owned());
            }
            (None, Some(seal)) => Peers::open(node, seal).map(|peers| {
                self.peers = Some(peers);
                Some("seal: on".to_owned())
            }),
            (Some(peers), Some(seal)) => peers.follow(node, seal),
        };
        let change = opened.unwrap_or_else(|error| {
            self.log.write(Entry::Trouble(error.to_string()));
            Some(format!("seal: {error}"))
        });
        match (change, adverts) {
            (Some(change), Some(adverts)) => Some(format!("{change}; {adverts}")),
            (change, adverts) => change.or(adverts),
        }
    }

    /// What changes in the seals of adverts. They need an epoch from the disk, for which the loop does not wait.
    fn reload_seals(&mut self, seal: Option<&Seal>) -> Option<String> {
        let to = seal.map_or(Sealing::Off, |seal| seal.adverts);
        let later = "adverts are sealed after a restart only";
        let Some(seals) = self.sockets.seals_mut() else {
            let keys = seal.filter(|_| to != Sealing::Off)?.keys.clone();
            if to.sends() {
                return Some(later.to_owned());
            }
            self.sockets.seal(Some(Seals::new(keys, to, None)));
            return Some(format!("adverts off -> {}", sealing_name(to)));
        };
        let from = seals.sealing();
        let keys = seal.map_or_else(|| seals.keys().clone(), |seal| seal.keys.clone());
        if !seals.follow(keys, to) {
            return Some(later.to_owned());
        }
        let [from, to] = [from, to].map(sealing_name);
        (from != to).then(|| format!("adverts {from} -> {to}"))
    }
}
