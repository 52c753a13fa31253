//! What a renewal costs. Printed; the limits hold in an optimized build only.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use nix::time::{ClockId, clock_gettime};
use vipd::driver::addresses::{Addresses, InstallOptions};
use vipd::driver::gate::{Gate, LeaseId, Managed, Renewal, Wanted};
use vipd::types::VirtualAddress;

use crate::exact::{VIPS, by, numbered};
use crate::support::{index, ip, set_up, veth};
use crate::{both, open_gate, trial};

pub fn trials() -> Vec<Trial> {
    let renewal = both("the cost of a renewal", the_cost_of_a_renewal);
    renewal.into_iter().chain([trial("gate: the cost of the lifetimes beside it", the_cost_of_lifetimes)]).collect()
}

/// As an agent renews them: once a second, so much seldomer as there are more of them, and off the loop.
fn the_cost_of_lifetimes() {
    veth("eth0", "eth1", None);
    set_up("eth0", true);
    set_up("eth1", true);
    let mut addresses = Addresses::open().expect("netlink opens");
    let mut gate = open_gate();
    for count in [1, 1000_u32] {
        let (v4_period, v6_period) = ((count * 3).div_ceil(1000), (count * count).div_ceil(5000));
        for (family, all, period) in [("IPv4", v4(count), v4_period), ("IPv6", v6(count), v6_period)] {
            let prefix_len = if family == "IPv4" { 24 } else { 64 };
            let vips: Vec<_> = all.iter().map(|ip| VirtualAddress { ip: *ip, prefix_len, label: None }).collect();
            let mut install = |options| {
                let start = cpu_time();
                addresses.install(index("eth0"), &vips, options).expect("eth0 exists");
                cpu_time() - start
            };
            let lasting = InstallOptions { valid_lifetime: Some(Duration::from_secs(60)), ..InstallOptions::default() };
            let first = install(lasting);
            let again = (0..5).map(|_| install(lasting)).min().expect("five");
            addresses.remove(index("eth0"), &vips).expect("eth0 exists");
            gate.manage("eth0", &by(VIPS, &all)).expect("eth0 exists");
            let renew = |gate: &mut Gate| {
                let start = (Instant::now(), cpu_time());
                let renewal = gate.renew("eth0", VIPS, start.0 + Duration::from_secs(10)).expect("the gate stands");
                assert_eq!(renewal, Renewal::Open);
                cpu_time() - start.1
            };
            renew(&mut gate);
            let lease = (0..20).map(|_| renew(&mut gate)).min().expect("twenty");
            gate.end("eth0", VIPS).expect("the gate stands");
            println!("{family}, {count}: installed with a lifetime {first:?}, renewed {again:?} CPU every {period} s");
            for (interval, adverts_a_second) in [("100 ms", 10), ("1 s", 1)] {
                let share = again / (period * adverts_a_second);
                println!(
                    "{family}, {count}: an advert at {interval}: lease {lease:?} + lifetimes {share:?} = {:?}",
                    lease + share
                );
            }
        }
    }
}

fn v4(count: u32) -> Vec<IpAddr> {
    (0..count).map(|n| IpAddr::from((0x0a01_0000 + n).to_be_bytes())).collect()
}

fn v6(count: u32) -> Vec<IpAddr> {
    let base = u128::from_be_bytes(match ip("2001:db8::") {
        IpAddr::V6(base) => base.octets(),
        IpAddr::V4(_) => unreachable!("written as IPv6"),
    });
    (1..=count).map(|n| IpAddr::from((base + u128::from(n)).to_be_bytes())).collect()
}

fn the_cost_of_a_renewal() {
    veth("eth0", "eth1", None);
    set_up("eth0", true);
    set_up("eth1", true);
    let start = Instant::now();
    let mut gate = open_gate();
    println!("open: {:?}", start.elapsed());
    for in_place in [true, false] {
        if !in_place {
            gate.refresh_by_replacement();
        }
        let way = if gate.refreshes_in_place() { "in place" } else { "by replacement" };
        for (count, runs) in [(1, 100), (1000, 100)] {
            measure(&mut gate, &format!("IPv4, {count} of one vip {way}"), &by(VIPS, &v4(count)), runs);
            measure(&mut gate, &format!("IPv6, {count} of one vip {way}"), &by(VIPS, &v6(count)), runs);
        }
        let vips = v4(1000).into_iter().zip(1..);
        let vips: Vec<_> = vips.map(|(address, vip)| Managed { address, lease: Some(numbered(vip)) }).collect();
        measure(&mut gate, &format!("IPv4, 1000 vips at once {way}"), &vips, 20);
    }
}

fn measure(gate: &mut Gate, name: &str, managed: &[Managed], runs: u32) {
    gate.manage("eth0", managed).expect("eth0 exists");
    let leases: BTreeSet<LeaseId> = managed.iter().filter_map(|it| it.lease).collect();
    // The first one opens them, which costs more.
    let mut renew = |pause: Duration| {
        let mut took: Vec<(Duration, Duration)> = Vec::new();
        for run in 0..=runs {
            std::thread::sleep(pause);
            let (start, cpu_start) = (Instant::now(), cpu_time());
            let until = start + Duration::from_secs(10);
            let wanted: Vec<_> =
                leases.iter().map(|lease| Wanted { interface: "eth0", lease: *lease, until }).collect();
            let renewals = gate.renew_all(&wanted);
            let cpu = cpu_time() - cpu_start;
            assert!(renewals.into_iter().all(|renewal| renewal.expect("the gate stands") == Renewal::Open));
            if run > 0 {
                took.push((cpu, start.elapsed()));
            }
        }
        let longest = took.iter().map(|(_, elapsed)| *elapsed).max().expect("some");
        took.sort();
        let mean = took.iter().map(|(cpu, _)| *cpu).sum::<Duration>() / runs;
        (mean, took[took.len() / 2].0, longest)
    };
    let (hot, cold) = (renew(Duration::ZERO), renew(Duration::from_millis(10)));
    let start = Instant::now();
    leases.iter().for_each(|lease| gate.end("eth0", *lease).expect("the gate stands"));
    let end = start.elapsed();
    assert_eq!(gate.owned("eth0").expect("the gate stands"), []);
    for (pace, (mean, median, longest)) in [("one after the other", hot), ("every 10 ms", cold)] {
        println!("{name}, {pace}: CPU mean {mean:?}, median {median:?}; longest {longest:?}");
    }
    println!("{name} ended within {end:?}");
}

fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("Linux has a clock a thread").into()
}
