//! What a renewal costs. Printed; the limits hold in an optimized build only.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use nix::time::{ClockId, clock_gettime};
use vipd::driver::gate::{Gate, Renewal};

use crate::support::{ip, set_up, veth};
use crate::{open_gate, trial};

pub fn trials() -> Vec<Trial> {
    vec![trial("gate: the cost of a renewal", the_cost_of_a_renewal)]
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
        for (count, runs) in [(1, 500), (2, 500), (1000, 20)] {
            let v4 = |n: u32| IpAddr::from((0x0a01_0000 + n).to_be_bytes());
            measure(&mut gate, way, "IPv4", &(0..count).map(v4).collect::<Vec<_>>(), runs);
            let base = u128::from_be_bytes(match ip("2001:db8::") {
                IpAddr::V6(base) => base.octets(),
                IpAddr::V4(_) => unreachable!("written as IPv6"),
            });
            let v6 = |n: u32| IpAddr::from((base + u128::from(n)).to_be_bytes());
            measure(&mut gate, way, "IPv6", &(0..count).map(v6).collect::<Vec<_>>(), runs);
        }
    }
}

fn measure(gate: &mut Gate, way: &str, family: &str, addresses: &[IpAddr], runs: u32) {
    gate.manage("eth0", addresses).expect("eth0 exists");
    let mut renew = |pause: Duration| {
        let (mut cpu, mut longest) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..runs {
            std::thread::sleep(pause);
            let (start, cpu_start) = (Instant::now(), cpu_time());
            let renewal = gate.renew("eth0", addresses, start + Duration::from_secs(10)).expect("the gate stands");
            cpu += cpu_time() - cpu_start;
            longest = longest.max(start.elapsed());
            assert_eq!(renewal, Renewal::Open);
        }
        (cpu / runs, longest)
    };
    let (hot, cold) = (renew(Duration::ZERO), renew(Duration::from_millis(10)));
    let start = Instant::now();
    gate.end("eth0", addresses).expect("the gate stands");
    let end = start.elapsed();
    assert_eq!(gate.owned("eth0").expect("the gate stands"), []);
    println!(
        "{family}, {} {way}: {:?} CPU hot, {:?} every 10 ms; longest {:?} and {:?}; end {end:?}",
        addresses.len(),
        hot.0,
        cold.0,
        hot.1,
        cold.1,
    );
}

fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("Linux has a clock a thread").into()
}
