//! The addresses' own lifetimes: what the kernel takes away in the end, whether or not there are rules that close it before.
//!
//! The kernel counts them in whole seconds, so they are renewed about once a second, behind an advert: long enough that they
//! never end while a lease runs, a restart within it included. Each of many is renewed less often, and lives longer
//! ([`Periods`]).
//!
//! Decides when. The thread of the addresses does it, if the lease still runs by then ([`Right`]): a thread that was frozen
//! must not bring back what the kernel has taken away.

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

/// How often lifetimes are renewed, at most.
const PERIOD: Duration = Duration::from_secs(1);

/// What the thread of the addresses may be busy with before it comes to a renewal.
const SLACK: Duration = Duration::from_secs(1);

/// Those of a thousand addresses take the kernel up to 1 ms (measured): once a second that would be several times what
/// the adverts and the lease of their owner take at adverts of 1 s.
const PERIOD_PER_IPV4_ADDRESS: Duration = Duration::from_millis(3);

/// At each renewal of an IPv6 address the kernel looks at all of them (0.3 us each, measured): those of a thousand take
/// 0.3 s. So much for each look, and they take no more than 0.2 % of a processor, however many there are.
const PERIOD_PER_IPV6_LOOK: Duration = Duration::from_micros(200);

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

/// How often lifetimes are renewed, by family.
#[derive(Clone, Copy, Debug)]
struct Periods {
    v4: Duration,
    v6: Duration,
}

impl Periods {
    /// The more addresses there are, the seldomer each.
    fn of<'a>(vips: impl IntoIterator<Item = &'a VipSettings>) -> Self {
        let (mut v4, mut v6) = (0, 0);
        // An address owner's have no lifetime.
        for vip in vips.into_iter().filter(|vip| vip.priority != Priority::OWNER) {
            v4 += vip.addresses_of(Family::V4).count();
            v6 += vip.addresses_of(Family::V6).count();
        }
        let period =
            |each: Duration, count: usize| PERIOD.max(each.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX)));
        Self { v4: period(PERIOD_PER_IPV4_ADDRESS, v4), v6: period(PERIOD_PER_IPV6_LOOK, v6.saturating_mul(v6)) }
    }

    const fn of_family(self, family: Family) -> Duration {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
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
    periods: Periods,
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
        let mut lifetimes = Self { vips: BTreeMap::new(), periods: Periods::of([]) };
        lifetimes.reload(engine);
        lifetimes
    }

    /// The engine has other vips. All is renewed at the next chance.
    pub(super) fn reload(&mut self, engine: &Engine) {
        let before = mem::take(&mut self.vips);
        for (_, gone) in before.iter().filter(|(vip, _)| engine.vip(**vip).is_none()) {
            gone.right.until(Instant::ZERO);
        }
        self.periods = Periods::of(engine.vips().iter().map(Vip::settings));
        let lives = |vip: &Vip| {
            let settings = vip.settings();
            let lasting = |family| {
                let is_of_it = |address: &&VirtualAddress| address.family() == family;
                let addresses = match vip.addresses() {
                    all if all.iter().all(|address| is_of_it(&address)) => Arc::clone(all),
                    both => both.iter().filter(is_of_it).cloned().collect(),
                };
                let seconds = seconds(settings, family, self.periods);
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

    /// What of a vip is to be renewed now. It is taken for renewed: see [`Self::not_renewed`].
    pub(super) fn due(&mut self, vip: VipId, now: Instant) -> impl Iterator<Item = Prolongation> {
        let periods = self.periods;
        let due = self.vips.get_mut(&vip).map(|lives| {
            let (mac, vrid, right, interval) = (lives.mac, lives.vrid, lives.right.clone(), lives.interval.duration());
            lives.lasting().filter_map(move |lasting| {
                // The next chance would be later than that.
                let period = periods.of_family(lasting.family);
                if lasting.renewed_at.is_some_and(|at| now.since(at) + interval <= period) {
                    return None;
                }
                lasting.renewed_at = Some(now);
                let (family, addresses, lifetime) =
                    (lasting.family, Arc::clone(&lasting.addresses), lasting.lifetime());
                Some(Prolongation { vip, mac, vrid, family, addresses, lifetime, right: right.clone() })
            })
        });
        due.into_iter().flatten()
    }

    /// Addresses of a vip have come to their end before they were renewed, or nobody took the order: they are all due.
    pub(super) fn not_renewed(&mut self, vip: VipId) {
        self.vips.get_mut(&vip).into_iter().flat_map(Lives::lasting).for_each(|lasting| lasting.renewed_at = None);
    }
}

/// How long a host may answer beyond the end of its lease, at most, where nothing else closes it.
pub(super) fn resolution<'a>(vips: impl IntoIterator<Item = &'a VipSettings>) -> Duration {
    let vips: Vec<_> = vips.into_iter().filter(|vip| vip.priority != Priority::OWNER).collect();
    let periods = Periods::of(vips.iter().copied());
    let beyond = |vip: &&VipSettings| {
        let families = Family::ALL.into_iter().filter(|family| vip.addresses_of(*family).next().is_some());
        let longest = families.map(|family| seconds(vip, family, periods)).max().unwrap_or_default();
        Duration::from_secs(longest.into()).saturating_sub(lease(vip))
    };
    vips.iter().map(beyond).max().unwrap_or_default() + LATE_BY
}

/// In whole seconds: that is how the kernel counts. What is left when it is renewed outlives the lease.
fn seconds(vip: &VipSettings, family: Family, periods: Periods) -> u32 {
    let renewed_every = periods.of_family(family).max(vip.interval.duration());
    let wanted = lease(vip) + renewed_every + SLACK;
    let seconds = wanted.as_secs() + u64::from(wanted.subsec_nanos() > 0);
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

fn lease(vip: &VipSettings) -> Duration {
    vip.interval.duration() * PATIENCE
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, MissingInterface, System};

    fn engine(interval: &str, ipv4: usize, ipv6: usize) -> Engine {
        let v4 = (1..ipv4).map(|n| format!(", \"10.1.{}.{}/16\"", n / 250, n % 250 + 1)).collect::<String>();
        let v6 = (1..=ipv6).map(|n| format!(", \"2001:db8::{n:x}/64\"")).collect::<String>();
        let text = format!(
            "[node]\nname = \"a\"\n[[vip]]\nname = \"db\"\ninterface = \"eno1\"\nvrid = 51\n\
             advert_interval = \"{interval}\"\naddresses = [\"10.0.0.1/24\"{v4}{v6}]\n"
        );
        let system =
            System { host_name: "h".into(), interfaces: Vec::new(), missing_interface: MissingInterface::Ignore };
        Engine::new(config::parse("f", &text, &system).expect("the text is valid").settings, Instant::ZERO)
    }

    fn lifetimes_of(interval: &str, ipv4: usize, ipv6: usize) -> [Option<u64>; 2] {
        let engine = engine(interval, ipv4, ipv6);
        let id = engine.vips()[0].id();
        let lifetime = Lifetimes::of(&engine).install(id, Instant::ZERO);
        Family::ALL.map(|family| lifetime.of(family).map(|lifetime| lifetime.as_secs()))
    }

    #[test]
    fn a_lifetime_outlives_the_lease_whenever_it_is_renewed() {
        assert_eq!(lifetimes_of("10ms", 1, 0), [Some(3), None]);
        assert_eq!(lifetimes_of("100ms", 1, 1), [Some(3), Some(3)]);
        assert_eq!(lifetimes_of("1s", 1, 0), [Some(5), None]);
        assert_eq!(lifetimes_of("40s", 1, 0), [Some(161), None]);
        assert_eq!(lifetimes_of("100ms", 1000, 1), [Some(5), Some(3)], "few renewals of many IPv4 addresses");
        assert_eq!(lifetimes_of("100ms", 1, 999), [Some(3), Some(202)], "few renewals of many IPv6 addresses");
    }

    #[test]
    fn what_is_due_is_renewed_about_once_a_second_and_again_where_nobody_took_it() {
        let engine = engine("100ms", 1, 0);
        let id = engine.vips()[0].id();
        let mut lifetimes = Lifetimes::of(&engine);
        let at = |ms: u64| Instant::ZERO + Duration::from_millis(ms);
        let mut renewed = Vec::new();
        for ms in (0..3_000).step_by(100) {
            for _ in lifetimes.due(id, at(ms)).collect::<Vec<_>>() {
                renewed.push(ms);
                if ms == 1_000 {
                    lifetimes.not_renewed(id);
                }
            }
        }
        assert_eq!(renewed, [0, 1_000, 1_100, 2_100]);
    }

    #[test]
    fn the_resolution_is_what_a_lifetime_may_outlive_its_lease_by() {
        let resolution = |interval, ipv4| resolution(engine(interval, ipv4, 0).vips().iter().map(|vip| vip.settings()));
        assert_eq!(resolution("100ms", 1), Duration::from_millis(2_950));
        assert_eq!(resolution("1s", 1), Duration::from_millis(2_250));
        assert_eq!(resolution("1s", 1000), Duration::from_millis(4_250));
    }
}
