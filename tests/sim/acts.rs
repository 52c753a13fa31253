//! What befalls the hosts of a world.

use std::net::IpAddr;

use vipd::engine::{Input, LinkId, Settings, StateName};

use super::clock::{MILLISECOND, Nanos};
use super::host::{AgentVip, KernelVip, Life, Power, Wire};
use super::network::{NEIGHBOURS, Port};
use super::voters::WITNESS;
use super::world::{Entry, News, World, place};

/// How long a kernel takes to tell its agent of a change.
const NEWS_TIME: Nanos = MILLISECOND;

impl World {
    /// Nothing gets from one to the other.
    pub fn cut(&mut self, from: Port, to: Port) {
        self.log(|| format!("cut {from} to {to}"));
        self.network.cut(from, to);
    }

    /// Nothing gets between two hosts.
    pub fn part(&mut self, one: Port, other: Port) {
        self.cut(one, other);
        self.cut(other, one);
    }

    /// Nothing gets from and to a host.
    pub fn isolate(&mut self, host: Port) {
        for other in (0..self.hosts.len()).chain([NEIGHBOURS, WITNESS]).filter(|other| *other != host) {
            self.part(host, other);
        }
    }

    pub fn heal(&mut self) {
        self.log(|| "all ways are open".into());
        self.network.heal();
        self.second.heal();
    }

    /// The agent stands still; its kernel does not.
    pub fn freeze(&mut self, host: Port) {
        if self.hosts[host].life == Life::Running {
            self.log(|| format!("host {host}: agent freezes"));
            self.live(host, Life::Frozen);
        }
    }

    /// The whole host stands still, as a paused virtual machine does.
    pub fn freeze_host(&mut self, host: Port) {
        self.freeze(host);
        if self.hosts[host].life == Life::Frozen {
            self.hosts[host].power = Power::Paused;
        }
    }

    /// The agent goes on: what waited for it comes first, then its deadline, as its loop does. What its host's kernel was asked comes
    /// before that.
    pub fn thaw(&mut self, host: Port) {
        if self.hosts[host].life != Life::Frozen {
            return;
        }
        self.log(|| format!("host {host}: agent thaws"));
        let stops = self.hosts[host].inbox.contains(&Input::Shutdown);
        self.live(host, if stops { Life::Stopped } else { Life::Running });
        self.hosts[host].power = Power::On;
        for (by, vip, addresses) in std::mem::take(&mut self.hosts[host].unanswered) {
            self.answer(host, by, vip, addresses);
        }
        while let Some(input) = self.hosts[host].inbox.pop_front() {
            self.input(host, input);
        }
        self.start_effect(host);
        self.input(host, Input::Deadline);
    }

    /// The agent is gone; its addresses stay.
    pub fn crash(&mut self, host: Port) {
        self.log(|| format!("host {host}: agent crashes"));
        self.hosts[host].incarnation += 1;
        self.hosts[host].engine = None;
        self.hosts[host].power = Power::On;
        self.live(host, Life::Crashed);
    }

    /// The host is gone, and its addresses with it.
    pub fn kill(&mut self, host: Port) {
        self.crash(host);
        self.hosts[host].power = Power::Off;
        self.hosts[host].unanswered.clear();
        self.hosts[host].kernel.iter_mut().for_each(|kernel| kernel.installed.clear());
        self.look();
    }

    /// The agent is asked to stop.
    pub fn stop(&mut self, host: Port) {
        self.log(|| format!("host {host}: agent is asked to stop"));
        self.input(host, Input::Shutdown);
        if self.hosts[host].life == Life::Running {
            self.live(host, Life::Stopped);
        }
    }

    /// The agent ends, and leaves what it owns to the next one.
    pub fn hand_on(&mut self, host: Port) {
        self.log(|| format!("host {host}: agent ends for another to go on"));
        self.input(host, Input::HandOn);
        self.live(host, Life::Stopped);
    }

    /// The agent is told to keep to other settings.
    pub fn reload(&mut self, host: Port, settings: Settings) {
        self.log(|| format!("host {host}: reloads"));
        self.hosts[host].spec.settings = settings.clone();
        self.input(host, Input::Settings(settings));
    }

    /// The agent has other vips now: those that are new have their own places.
    pub fn follow_settings(&mut self, host: Port) {
        let vips: Vec<_> = self.hosts[host].engine.iter().flat_map(|engine| engine.vips()).collect();
        let vips: Vec<_> = vips.into_iter().map(|vip| (place(vip.id()), vip.settings().clone())).collect();
        let Some((last, filler)) = vips.iter().max_by_key(|(place, _)| *place).cloned() else { return };
        self.watch.add_vips(last + 1);
        for it in &mut self.hosts {
            let room = it.configured.len().max(last + 1);
            it.configured.resize(room, filler.clone());
            it.kernel.resize(room, KernelVip::default());
            it.agent.resize(room, AgentVip { state: StateName::Initialize, claimed: None });
        }
        for (place, settings) in vips {
            self.hosts[host].configured[place] = settings;
        }
    }

    /// The interface changes.
    pub fn set_wire(&mut self, host: Port, wire: Wire) {
        self.log(|| format!("host {host}: interface {wire:?}"));
        let it = &mut self.hosts[host];
        it.wire = wire;
        if wire == Wire::Missing {
            it.kernel.iter_mut().for_each(|kernel| kernel.installed.clear());
        }
        let incarnation = it.incarnation;
        let news = if wire == Wire::Missing { News::LinkLost } else { News::Link };
        self.push(self.now + NEWS_TIME, Entry::Tell { host, incarnation, news });
        self.look();
    }

    /// One of several interfaces goes down or comes up.
    pub fn set_link(&mut self, host: Port, link: LinkId, up: bool) {
        self.log(|| format!("host {host}: interface {} is {}", link.0, if up { "up" } else { "down" }));
        let it = &mut self.hosts[host];
        if up {
            it.down.remove(&link);
        } else {
            it.down.insert(link);
        }
        let incarnation = it.incarnation;
        self.push(self.now + NEWS_TIME, Entry::Tell { host, incarnation, news: News::OneLink(link) });
        self.look();
    }

    /// Another program removes an address.
    pub fn remove_address(&mut self, host: Port, vip: usize, address: IpAddr) {
        let it = &mut self.hosts[host];
        if !it.kernel[vip].installed.remove(&address) {
            return;
        }
        let incarnation = it.incarnation;
        self.log(|| format!("host {host}: another program removes {address}"));
        self.push(self.now + NEWS_TIME, Entry::Tell { host, incarnation, news: News::Gone { vip, address } });
        self.look();
    }

    fn live(&mut self, host: Port, life: Life) {
        self.hosts[host].life = life;
        self.hosts[host].life_changed_at = self.now;
        self.look();
    }
}
