//! The judge: at most one host answers for an address, but for what VRRP without a quorum cannot avoid.
//!
//! Each excuse is written down here, and as narrow as it can be:
//!
//! - **Between two live agents** a double ownership lasts no longer than it takes them to talk: two ways and the
//!   engine's spacing of answers. Where something between them was lost, or one of them stood still, they
//!   find each other by the next advert in turn, and the time counts from the last such disturbance.
//! - **A dead agent** (frozen, crashed) and its successor never overlap, since the lease has lapsed before the successor's
//!   patience ended. Excused is only who did not wait: see [`Watch::excuse_for_not_waiting`].

use vipd::engine::silence::LONGEST_WAIT;
use vipd::engine::summons::ROUND;
use vipd::engine::{Cause, Preempt};
use vipd::types::Priority;

use super::clock::{MILLISECOND, Nanos, nanos};
use super::host::{Host, Life};
use super::network::{Network, Port};

/// What the engine may wait before it answers a rival out of turn, and then some for the host to do it.
const ANSWER: Nanos = 12 * MILLISECOND;

#[derive(Debug)]
pub struct Watch {
    /// The first thing that must not happen.
    pub violation: Option<String>,
    /// Double ownerships are wanted, as where the settings forbid the hosts to hear each other.
    pub forgiving: bool,
    /// There are voters: no two owners, for no reason and no time.
    pub exclusive: bool,
    /// From now on every vip has one owner at every moment, and it is always the same.
    pub settled: Option<Vec<Port>>,
    /// No host answers for some of the first so many vips and not for the others, for longer than that.
    pub together: Option<(usize, Nanos)>,
    /// By host: since when it does.
    torn_since: Vec<Option<Nanos>>,
    /// For how long one did, at most.
    pub longest_torn: Nanos,
    hosts: usize,
    /// By vip and host: who answers.
    owners: Vec<Vec<bool>>,
    overlaps: Vec<Overlap>,
    /// How long two hosts answered, in all.
    pub overlapped: Nanos,
    /// For how long nobody answered for the first vip.
    silence: Silence,
}

/// Nobody answers.
#[derive(Clone, Copy, Debug, Default)]
struct Silence {
    since: Option<Nanos>,
    longest: Nanos,
}

/// Two hosts that answer for the same vip.
#[derive(Clone, Debug)]
struct Overlap {
    vip: usize,
    pair: (Port, Port),
    began: Nanos,
    /// Since when nothing keeps the two from finding each other.
    clear_since: Nanos,
    /// One of the two was dead when it began, and that was excused.
    excused: bool,
}

impl Watch {
    pub fn new(vips: usize, hosts: usize) -> Self {
        Self {
            violation: None,
            forgiving: false,
            exclusive: false,
            settled: None,
            together: None,
            torn_since: vec![None; hosts],
            longest_torn: 0,
            hosts,
            owners: vec![vec![false; hosts]; vips],
            overlaps: Vec::new(),
            overlapped: 0,
            silence: Silence::default(),
        }
    }

    /// From now on the longest time without an owner of the first vip counts; there is one now.
    pub const fn forget_silence(&mut self) {
        self.silence = Silence { since: None, longest: 0 };
    }

    /// The longest time without an owner of the first vip.
    pub fn longest_silence(&self, now: Nanos) -> Nanos {
        self.silence.longest.max(self.silence.since.map_or(0, |since| now - since))
    }

    /// From now on there are so many vips.
    pub fn add_vips(&mut self, vips: usize) {
        let vips = vips.max(self.owners.len());
        self.owners.resize(vips, vec![false; self.hosts]);
    }

    pub fn fail(&mut self, now: Nanos, text: String) {
        let ms = now / MILLISECOND;
        self.violation.get_or_insert_with(|| format!("at {ms} ms: {text}"));
    }

    /// Judges what the hosts answer now.
    pub fn look(&mut self, now: Nanos, hosts: &[Host], network: &Network, gate: bool) {
        for vip in 0..self.owners.len() {
            let mut changed = false;
            for (place, host) in hosts.iter().enumerate() {
                let answers = host.answers(vip, now, gate);
                changed |= answers != self.owners[vip][place];
                self.owners[vip][place] = answers;
            }
            if changed {
                self.on_change(now, vip, hosts, network, gate);
            }
        }
        self.judge_overlaps(now, hosts, network);
        self.judge_settled(now);
        self.judge_together(now, hosts);
    }

    fn judge_together(&mut self, now: Nanos, hosts: &[Host]) {
        let Some((vips, longest)) = self.together else { return };
        for (host, it) in hosts.iter().enumerate() {
            // A dead agent gives nothing up where a link fails: its lease does.
            let longest = if it.is_dead() { longest.max(3 * it.interval(0)) } else { longest };
            let owned = (0..vips).filter(|vip| self.owners[*vip][host]).count();
            if owned == 0 || owned == vips {
                self.torn_since[host] = None;
                continue;
            }
            let torn = now - *self.torn_since[host].get_or_insert(now);
            self.longest_torn = self.longest_torn.max(torn);
            if torn > longest {
                let (torn_us, us) = (torn / 1_000, longest / 1_000);
                self.fail(
                    now,
                    format!(
                        "host {host} has {owned} of {vips} vips of a group for {torn_us} us, where {us} us are enough"
                    ),
                );
            }
        }
    }

    fn judge_settled(&mut self, now: Nanos) {
        let Some(settled) = &self.settled else { return };
        let wrong = (0..settled.len())
            .find(|vip| (0..self.hosts).any(|host| self.owners[*vip][host] != (settled[*vip] == host)));
        if let Some(vip) = wrong {
            let owners: Vec<Port> = (0..self.hosts).filter(|host| self.owners[vip][*host]).collect();
            let text = format!("vip {vip} was settled on host {}, now {owners:?} answer", settled[vip]);
            self.fail(now, text);
        }
    }

    fn on_change(&mut self, now: Nanos, vip: usize, hosts: &[Host], network: &Network, gate: bool) {
        let owners: Vec<Port> = (0..self.hosts).filter(|host| self.owners[vip][*host]).collect();
        if self.exclusive && owners.len() > 1 {
            self.fail(now, format!("vip {vip} has the owners {owners:?}, in spite of voters"));
        }
        match self.silence.since {
            None if vip == 0 && owners.is_empty() => self.silence.since = Some(now),
            Some(since) if vip == 0 && !owners.is_empty() => {
                let longest = self.silence.longest.max(now - since);
                self.silence = Silence { since: None, longest };
            }
            Some(_) | None => {}
        }
        let over = |overlap: &Overlap| {
            overlap.vip == vip && !(owners.contains(&overlap.pair.0) && owners.contains(&overlap.pair.1))
        };
        // Those that end are judged for the last time before they go.
        self.judge_overlaps(now, hosts, network);
        self.overlapped += self.overlaps.iter().filter(|o| over(o)).map(|o| now - o.began).sum::<Nanos>();
        self.overlaps.retain(|overlap| !over(overlap));
        for (n, one) in owners.iter().enumerate() {
            for other in &owners[n + 1..] {
                let known = self.overlaps.iter().any(|o| o.vip == vip && o.pair == (*one, *other));
                if !known {
                    self.begin(now, vip, (*one, *other), hosts, network, gate);
                }
            }
        }
    }

    fn begin(&mut self, now: Nanos, vip: usize, pair: (Port, Port), hosts: &[Host], network: &Network, gate: bool) {
        let mut excused = false;
        for (dead, successor) in [pair, (pair.1, pair.0)] {
            if !hosts[dead].is_dead() {
                continue;
            }
            excused = true;
            if hosts[successor].is_dead() {
                continue;
            }
            if !gate && overruled(hosts, vip, successor) {
                continue;
            }
            match Self::excuse_for_not_waiting(now, vip, dead, successor, hosts, network) {
                Some(_) => {}
                None => {
                    let cause = hosts[successor].agent[vip].claimed.clone();
                    let text = format!(
                        "two owners of vip {vip}: host {successor} (claimed: {cause:?}) while the lease of host {dead}, \
                         which is {:?}, still runs",
                        hosts[dead].life
                    );
                    self.fail(now, text);
                }
            }
        }
        self.overlaps.push(Overlap { vip, pair, began: now, clear_since: now, excused });
    }

    /// Why a successor could not know that a dead owner's lease still ran.
    fn excuse_for_not_waiting(
        now: Nanos,
        vip: usize,
        dead: Port,
        successor: Port,
        hosts: &[Host],
        network: &Network,
    ) -> Option<&'static str> {
        let (lost, heir) = (&hosts[dead], &hosts[successor]);
        let patience = 4 * lost.interval(vip) + network.longest_way();
        let Some((claimed_at, cause)) = &heir.agent[vip].claimed else { return Some("it never claimed") };
        if *claimed_at < lost.life_changed_at {
            return Some("it claimed while the other lived, and death cut their talk short");
        }
        if network.lost_at(dead, successor).is_some_and(|at| at + patience >= now) {
            return Some("adverts of the dead owner did not get through");
        }
        if !lost.spec.clock.is_good() || !heir.spec.clock.is_good() {
            return Some("a bad clock measures no lease");
        }
        let settings = &heir.configured[vip];
        if settings.priority == Priority::OWNER {
            return Some("the address owner waits for nobody");
        }
        match cause {
            Cause::Preempts { .. } if network.lost_at(successor, dead).is_some_and(|at| at + patience >= now) => {
                Some("it never heard that it is to yield")
            }
            // Two that do not hear each other own, and who claims has heard one of them only.
            Cause::PeerResigned { source }
                if !is_of(lost, *source) && lost.life_changed_at < heir.life_changed_at + lost.interval(vip) =>
            {
                Some("it was started after the last advert of the dead owner")
            }
            Cause::TakesOver { peer, .. } if *peer != lost.spec.settings.node => {
                Some("who gave it owned beside the dead one already, which was judged")
            }
            Cause::Preempts { .. } if 2 * network.longest_way() >= nanos(ROUND) => Some("answers may come too late"),
            Cause::ActiveDown { silence: None } if heir.interval(vip) < lost.interval(vip) => {
                Some("it knew no owner, and its own interval is shorter")
            }
            Cause::PeerResigned { .. } if network.reorders() => Some("an old resignation came late"),
            _ => None,
        }
    }

    fn judge_overlaps(&mut self, now: Nanos, hosts: &[Host], network: &Network) {
        let mut failure = None;
        for overlap in &mut self.overlaps {
            let (one, other) = overlap.pair;
            if hosts[one].is_dead() || hosts[other].is_dead() {
                // The lease ends it.
                overlap.clear_since = now;
                overlap.excused = true;
                continue;
            }
            let lost = network.lost_at(one, other).max(network.lost_at(other, one)).unwrap_or(0);
            let moved = hosts[one].life_changed_at.max(hosts[other].life_changed_at);
            let interval = hosts[one].interval(overlap.vip).max(hosts[other].interval(overlap.vip));
            let talk = 2 * network.longest_way() + ANSWER + lateness(hosts, overlap.pair);
            let disturbed_at = lost.max(moved);
            let disturbed = overlap.excused || disturbed_at + 5 * interval + talk >= overlap.began;
            let patience =
                hosts[one].active_down(overlap.vip, interval).max(hosts[other].active_down(overlap.vip, interval));
            let bound = if disturbed { talk + interval + 2 * patience } else { talk };
            let since = overlap.clear_since.max(disturbed_at);
            if now > since + bound && failure.is_none() {
                failure = Some(format!(
                    "two owners of vip {}: hosts {one} and {other}, both alive, since {} us and undisturbed for {} us, \
                     where {} us are enough",
                    overlap.vip,
                    overlap.began / 1_000,
                    (now - since) / 1_000,
                    bound / 1_000
                ));
            }
        }
        if let Some(text) = failure.filter(|_| !self.forgiving) {
            self.fail(now, text);
        }
    }
}

fn lateness(hosts: &[Host], pair: (Port, Port)) -> Nanos {
    2 * (hosts[pair.0].spec.lateness.1 + hosts[pair.1].spec.lateness.1)
}

/// Whether a host claimed after it had waited for a silent owner as long as anybody does. Without a gate a dead agent's addresses answer
/// for ever.
fn overruled(hosts: &[Host], vip: usize, host: Port) -> bool {
    let claimed = &hosts[host].agent[vip].claimed;
    matches!(claimed, Some((_, Cause::ActiveDown { silence: Some(silence) })) if *silence >= LONGEST_WAIT)
}

fn is_of(host: &Host, source: std::net::IpAddr) -> bool {
    host.spec.ipv4.map(std::net::IpAddr::V4) == Some(source) || host.spec.ipv6.map(std::net::IpAddr::V6) == Some(source)
}

/// Whether a better host would take a vip from its owner, after whatever delay.
pub fn would_preempt(hosts: &[Host], vip: usize, owner: Port) -> Option<Port> {
    let priority = |host: Port| hosts[host].configured[vip].priority;
    (0..hosts.len()).find(|host| {
        let eligible = hosts[*host].life == Life::Running;
        let willing = hosts[*host].configured[vip].preempt != Preempt::Off || priority(*host) == Priority::OWNER;
        eligible && willing && priority(*host) > priority(owner)
    })
}
