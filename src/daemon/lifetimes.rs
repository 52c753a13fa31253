//! The addresses' own lifetimes: what the kernel takes away in the end, whether or not there are rules that close it before.
//!
//! The kernel counts them in whole seconds, so they are renewed about once a second, behind an advert: long enough that they never
//! end while a lease runs, a restart within it included. One of many IPv6 addresses is seldom renewed, for each renewal has the kernel look at all of
//! them: [`period`] keeps that below a hundredth of a processor.
//!
//! Decides when. The thread of the addresses does it, if the lease still runs by then ([`Right`]): a thread that was frozen must not bring back what
//! the kernel has taken away.

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::clock;
use crate::driver::addresses::LATE_BY;
use crate::engine::election::PATIENCE;
use crate::engine::{Engine, Instant, Vip, VipId, VipSettings};
use crate::types::{AdvertInterval, Family, MacMode, Priority, VirtualAddress, Vrid};

/// How often lifetimes are renewed where that costs little.
const PERIOD: Duration = Duration::from_secs(1);

/// What the thread of the addresses may be busy with before it comes to a renewal.
const SLACK: Duration = Duration::from_secs(1);

/// A hundred times what one IPv6 renewal costs on a host with a thousand of them (0.3 ms, measured).
const PERIOD_PER_IPV6_ADDRESS: Duration = Duration::from_millis(30);

/// The lease of a vip, as other threads than the loop see it.
#[derive(Clone, Debug, Default)]
pub(super) struct Right(Arc<AtomicU64>);

impl Right {
    /// Whether the addresses may be held now.
    pub(super) fn is_held(&self) -> bool {
        clock::now().as_nanos() < self.0.load(Ordering::Acquire)
    }

    fn until(&self, until: Instant) {
        self.0.store(until.as_nanos(), Ordering::Release);
    }
}

/// How long addresses live, by family; `None`: for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lifetime {
    v4: Option<Duration>,
    v6: Option<Duration>,
}

impl Lifetime {
    pub(super) const fn of(self, family: Family) -> Option<Duration> {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }
}

/// One family of a vip, whose lifetimes are to be renewed.
#[derive(Clone, Debug)]
pub(super) struct Prolongation {
    pub(super) vip: VipId,
    pub(super) mac: MacMode,
    pub(super) vrid: Vrid,
    pub(super) family: Family,
    pub(super) addresses: Arc<[VirtualAddress]>,
    pub(super) lifetime: Duration,
    pub(super) right: Right,
}

/// Those of all vips.
#[derive(Debug)]
pub(super) struct Lifetimes {
    vips: BTreeMap<VipId, Lives>,
    ipv6_addresses: u32,
}

/// Those of a vip.
#[derive(Debug)]
struct Lives {
    right: Right,
    mac: MacMode,
    vrid: Vrid,
    /// From one chance to renew them to the next.
    interval: AdvertInterval,
    /// Of each family that has any. An address owner's addresses are the interface's own, and have none.
    families: [Option<Lasting>; 2],
}

/// Of the addresses of one family.
#[derive(Debug)]
struct Lasting {
    family: Family,
    addresses: Arc<[VirtualAddress]>,
    seconds: u32,
    renewed_at: Option<Instant>,
}

impl Lasting {
    const fn lifetime(&self) -> Duration {
        Duration::from_secs(self.seconds as u64)
    }
}

impl Lives {
    fn lasting(&mut self) -> impl Iterator<Item = &mut Lasting> {
        self.families.iter_mut().flatten()
    }
}

impl Lifetimes {
    pub(super) fn of(engine: &Engine) -> Self {
        let mut lifetimes = Self { vips: BTreeMap::new(), ipv6_addresses: 0 };
        lifetimes.reload(engine);
        lifetimes
    }

    /// The engine has other vips. All is renewed at the next chance.
    pub(super) fn reload(&mut self, engine: &Engine) {
        let before = mem::take(&mut self.vips);
        for (_, gone) in before.iter().filter(|(vip, _)| engine.vip(**vip).is_none()) {
            gone.right.until(Instant::ZERO);
        }
        self.ipv6_addresses = ipv6_addresses(engine.vips().iter().map(|vip| vip.settings()));
        let lives = |vip: &Vip| {
            let settings = vip.settings();
            let lasting = |family| {
                let is_of_it = |address: &&VirtualAddress| address.family() == family;
                let addresses = match vip.addresses() {
                    all if all.iter().all(|address| is_of_it(&address)) => Arc::clone(all),
                    both => both.iter().filter(is_of_it).cloned().collect(),
                };
                let seconds = seconds(settings, family, self.ipv6_addresses);
                let lasts = settings.priority != Priority::OWNER && !addresses.is_empty();
                lasts.then_some(Lasting { family, addresses, seconds, renewed_at: None })
            };
            Lives {
                right: before.get(&vip.id()).map_or_else(Right::default, |lives| lives.right.clone()),
                mac: settings.mac,
                vrid: settings.vrid,
                interval: settings.interval,
                families: Family::ALL.map(lasting),
            }
        };
        self.vips = engine.vips().iter().map(|vip| (vip.id(), lives(vip))).collect();
    }

    /// A vip's addresses may be held until then.
    pub(super) fn hold(&self, vip: VipId, until: Instant) {
        if let Some(lives) = self.vips.get(&vip) {
            lives.right.until(until);
        }
    }

    /// They may be held no longer.
    pub(super) fn end(&self, vip: VipId) {
        self.hold(vip, Instant::ZERO);
    }

    /// A vip's lease. That of a vip that is unknown never runs.
    pub(super) fn right(&self, vip: VipId) -> Right {
        self.vips.get(&vip).map_or_else(Right::default, |lives| lives.right.clone())
    }

    /// A vip's addresses are installed now, for so long.
    pub(super) fn install(&mut self, vip: VipId, now: Instant) -> Lifetime {
        let mut lifetime = Lifetime::default();
        for lasting in self.vips.get_mut(&vip).into_iter().flat_map(Lives::lasting) {
            lasting.renewed_at = Some(now);
            match lasting.family {
                Family::V4 => lifetime.v4 = Some(lasting.lifetime()),
                Family::V6 => lifetime.v6 = Some(lasting.lifetime()),
            }
        }
        lifetime
    }

    /// Has what is due of a vip renewed; where an order is not taken, at the next chance.
    pub(super) fn renew(&mut self, vip: VipId, now: Instant, mut order: impl FnMut(Prolongation) -> bool) {
        let Some(lives) = self.vips.get_mut(&vip) else { return };
        let (mac, vrid, right, interval) = (lives.mac, lives.vrid, lives.right.clone(), lives.interval.duration());
        for lasting in lives.lasting() {
            let period = period(lasting.family, self.ipv6_addresses);
            // The next chance would be later than that.
            if lasting.renewed_at.is_some_and(|at| now.since(at) + interval <= period) {
                continue;
            }
            let (family, addresses, lifetime) = (lasting.family, Arc::clone(&lasting.addresses), lasting.lifetime());
            if order(Prolongation { vip, mac, vrid, family, addresses, lifetime, right: right.clone() }) {
                lasting.renewed_at = Some(now);
            }
        }
    }

    /// An address of a vip has come to its end before it was renewed: they are all due.
    pub(super) fn expired(&mut self, vip: VipId) {
        self.vips.get_mut(&vip).into_iter().flat_map(Lives::lasting).for_each(|lasting| lasting.renewed_at = None);
    }
}

/// How long a host may answer beyond the end of its lease, at most, where nothing else closes it.
pub(super) fn resolution<'a>(vips: impl IntoIterator<Item = &'a VipSettings>) -> Duration {
    let vips: Vec<_> = vips.into_iter().filter(|vip| vip.priority != Priority::OWNER).collect();
    let ipv6 = ipv6_addresses(vips.iter().copied());
    let beyond = |vip: &&VipSettings| {
        let families = Family::ALL.into_iter().filter(|family| vip.addresses_of(*family).next().is_some());
        let longest = families.map(|family| seconds(vip, family, ipv6)).max().unwrap_or_default();
        Duration::from_secs(longest.into()).saturating_sub(lease(vip))
    };
    vips.iter().map(beyond).max().unwrap_or_default() + LATE_BY
}

fn ipv6_addresses<'a>(vips: impl Iterator<Item = &'a VipSettings>) -> u32 {
    let count = vips.map(|vip| vip.addresses_of(Family::V6).count()).sum::<usize>();
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// In whole seconds: that is how the kernel counts. What is left when it is renewed outlives the lease.
fn seconds(vip: &VipSettings, family: Family, ipv6_addresses: u32) -> u32 {
    let renewed_every = period(family, ipv6_addresses).max(vip.interval.duration());
    let wanted = lease(vip) + renewed_every + SLACK;
    let seconds = wanted.as_secs() + u64::from(wanted.subsec_nanos() > 0);
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

fn period(family: Family, ipv6_addresses: u32) -> Duration {
    match family {
        Family::V4 => PERIOD,
        Family::V6 => PERIOD.max(PERIOD_PER_IPV6_ADDRESS.saturating_mul(ipv6_addresses)),
    }
}

fn lease(vip: &VipSettings) -> Duration {
    vip.interval.duration() * PATIENCE
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, MissingInterface, System};

    fn engine(interval: &str, ipv6: usize) -> Engine {
        let v6 = (1..=ipv6).map(|n| format!(", \"2001:db8::{n:x}/64\"")).collect::<String>();
        let text = format!(
            "[node]\nname = \"a\"\n[[vip]]\nname = \"db\"\ninterface = \"eno1\"\nvrid = 51\n\
             advert_interval = \"{interval}\"\naddresses = [\"10.0.0.1/24\"{v6}]\n"
        );
        let system =
            System { host_name: "h".into(), interfaces: Vec::new(), missing_interface: MissingInterface::Ignore };
        Engine::new(config::parse("f", &text, &system).expect("the text is valid").settings, Instant::ZERO)
    }

    fn lifetimes_of(interval: &str, ipv6: usize) -> [Option<u64>; 2] {
        let engine = engine(interval, ipv6);
        let id = engine.vips()[0].id();
        let lifetime = Lifetimes::of(&engine).install(id, Instant::ZERO);
        Family::ALL.map(|family| lifetime.of(family).map(|lifetime| lifetime.as_secs()))
    }

    #[test]
    fn a_lifetime_outlives_the_lease_whenever_it_is_renewed() {
        assert_eq!(lifetimes_of("10ms", 0), [Some(3), None]);
        assert_eq!(lifetimes_of("100ms", 1), [Some(3), Some(3)]);
        assert_eq!(lifetimes_of("1s", 0), [Some(5), None]);
        assert_eq!(lifetimes_of("40s", 0), [Some(161), None]);
        assert_eq!(lifetimes_of("100ms", 999), [Some(3), Some(32)], "few renewals of many IPv6 addresses");
    }

    #[test]
    fn what_is_due_is_renewed_about_once_a_second_and_again_where_nobody_took_it() {
        let engine = engine("100ms", 0);
        let id = engine.vips()[0].id();
        let mut lifetimes = Lifetimes::of(&engine);
        let at = |ms: u64| Instant::ZERO + Duration::from_millis(ms);
        let mut renewed = Vec::new();
        for ms in (0..3_000).step_by(100) {
            lifetimes.renew(id, at(ms), |_| {
                renewed.push(ms);
                ms != 1_000
            });
        }
        assert_eq!(renewed, [0, 1_000, 1_100, 2_100]);
    }

    #[test]
    fn the_resolution_is_what_a_lifetime_may_outlive_its_lease_by() {
        let resolution = |interval, ipv6| resolution(engine(interval, ipv6).vips().iter().map(|vip| vip.settings()));
        assert_eq!(resolution("100ms", 0), Duration::from_millis(2_950));
        assert_eq!(resolution("1s", 0), Duration::from_millis(2_250));
    }
}
