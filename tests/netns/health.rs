//! The address follows the service: real agents, real checks.

use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};
use vipd::lab::Host;

use crate::support::{
    Agent, CONFIG, CONTROL, PATIENCE, Segment, Transition, Vip, await_all, configure, ensure_calm, eventually, reload,
    set_mode, vipd, write_program,
};
use crate::{lone_trial, trial};

/// Where a host's service says how it is: exit code 0 while the file says so.
const SERVICE: &str = "/run/vipd/service";
const PROGRAM: &str = "/run/vipd/check-service";
const WEIGHT: &str = "/run/vipd/weight";

pub fn trials() -> Vec<Trial> {
    vec![
        trial("the_address_follows_a_failing_program_and_comes_back", follows_a_program),
        trial("weights_decide_who_owns", weights_decide),
        trial("a_check_that_cannot_run_is_an_error_at_start_and_at_a_reload", cannot_run),
        trial("a_program_that_hangs_costs_no_advert", hangs),
        // What the others start makes adverts late, too.
        lone_trial("two_hundred_programs_a_second_delay_no_advert", checks_delay_nothing),
        trial("a_host_and_a_neighbour_are_asked_in_both_families", asks_others),
        trial("a_restart_moves_nothing_though_checks_know_nothing_yet", restart),
    ]
}

fn prepare(host: &Host) -> Result<()> {
    host.write_file(SERVICE.as_ref(), "well\n")?;
    host.write_file(WEIGHT.as_ref(), "0\n")?;
    write_program(
        host,
        PROGRAM,
        &format!("read state < {SERVICE}; echo \"the service is $state\"; [ \"$state\" = well ]"),
    )
}

fn checked(priority: u8, what: &str) -> Vip {
    Vip::new(priority).with(&format!("[[vip.check]]\nname = \"service\"\ninterval = \"100ms\"\n{what}"))
}

fn with_program(priority: u8) -> Vip {
    checked(priority, &format!("exec = [\"{PROGRAM}\"]\nfault = true"))
}

fn pair(vip: impl Fn(u8) -> Vip) -> Result<(Segment, [Agent; 2])> {
    let segment = Segment::new()?;
    prepare(&segment.a)?;
    prepare(&segment.b)?;
    let agents = segment.pair(vip)?;
    Ok((segment, agents))
}

fn follows_a_program() -> Result<()> {
    let (segment, [agent_a, agent_b]) = pair(with_program)?;
    let start = Instant::now();
    segment.a.write_file(SERVICE.as_ref(), "ill\n")?;
    let moved = agent_b.await_state("Active")?;
    eprintln!("service ill to the other Active: {:?} (fall 2, each 100 ms)", moved.at.saturating_duration_since(start));
    let why = agent_a.await_state("Initialize")?.cause;
    ensure!(why == "check db/service fails: exit code 1: the service is ill", "{why}");
    await_all(&segment.b)?;
    let check = agent_a.vip()?.checks.pop().context("a vip with a check")?;
    ensure!(check.state == "failing" && check.output == "exit code 1: the service is ill", "{check:?}");
    let (_, table, _) = vipd(&segment.a, &["status", "--control", CONTROL])?;
    ensure!(table.contains("no part in the election") && table.contains("the service is ill"), "{table}");

    segment.a.write_file(SERVICE.as_ref(), "well\n")?;
    agent_a.await_state("Active")?;
    agent_b.await_state("Backup")?;
    await_all(&segment.a)
}

fn weights_decide() -> Result<()> {
    let (segment, [agent_a, agent_b]) = pair(|priority| checked(priority, &format!("file = \"{WEIGHT}\"")))?;
    segment.a.write_file(WEIGHT.as_ref(), "-150\n")?;
    agent_b.await_state("Active")?;
    agent_a.await_state("Backup")?;
    let vip = agent_a.vip()?;
    ensure!((vip.priority, vip.effective_priority) == (200, 50), "{vip:?}");
    await_all(&segment.b)?;
    // A number that is gone is a fault of the other.
    segment.b.run_in(|| std::fs::remove_file(WEIGHT))??;
    agent_a.await_state("Active")?;
    let why = agent_b.await_state("Initialize")?.cause;
    ensure!(why.contains("check db/service fails") && why.contains("No such file"), "{why}");
    await_all(&segment.a)
}

fn cannot_run() -> Result<()> {
    let segment = Segment::new()?;
    prepare(&segment.a)?;
    configure(&segment.a, &[with_program(200)])?;
    let (code, _, said) = vipd(&segment.a, &["check", "--config", CONFIG])?;
    ensure!(code == Some(0), "{said}");
    let agent = Agent::start(&segment.a, &[with_program(200)])?;
    agent.await_state("Active")?;

    set_mode(&segment.a, PROGRAM, 0o777)?;
    for command in
        [&["check", "--config", CONFIG][..], &["run", "--config", CONFIG, "--control", "/run/vipd/other.sock"]]
    {
        let (code, _, said) = vipd(&segment.a, command)?;
        ensure!(
            code == Some(3) && said.contains("can be changed by others") && said.contains("chmod"),
            "{code:?} {said}"
        );
    }
    let (code, _, said) = vipd(&segment.a, &["reload", "--control", CONTROL])?;
    ensure!(code == Some(3) && said.contains("can be changed by others"), "{code:?} {said}");
    // And the agent that runs says the same of it.
    let why = agent.await_state("Initialize")?.cause;
    ensure!(why.contains("can be changed by others"), "{why}");
    Ok(())
}

fn hangs() -> Result<()> {
    let (segment, [agent_a, agent_b]) = pair(with_program)?;
    write_program(&segment.b, PROGRAM, "sleep 1000 & sleep 1000")?;
    let why = agent_b.await_state("Initialize")?.cause;
    ensure!(why == "check db/service fails: no answer within 1s", "{why}");
    ensure_calm(&[&agent_a], Duration::from_secs(2))?;
    ensure!(agent_b.stop()? == Some(0), "the exit code is not 0");
    Ok(())
}

/// The address is where others can be reached; but not a host for whom nobody answers.
fn asks_others() -> Result<()> {
    let segment = Segment::new()?;
    let link_local = "fe80::200:5eff:fe00:1";
    segment.client.add_address("eth0", &format!("{link_local}/64"))?;
    let others = [
        ("ping4", "ping = \"10.9.0.9\""),
        ("ping6", "ping = \"fd09::9\""),
        ("ping-link-local", &format!("ping = \"{link_local}\"\ninterface = \"eth0\"")),
        ("arp", "arp = \"10.9.0.9\"\ninterface = \"eth0\""),
        ("nd", "arp = \"fd09::9\"\ninterface = \"eth0\""),
        ("nobody", "arp = \"10.9.0.77\"\ninterface = \"eth0\""),
        ("nowhere", "ping = \"198.51.100.1\""),
    ];
    let check = |(name, what): &(&str, &str)| {
        format!("[[vip.check]]\nname = \"{name}\"\ninterval = \"200ms\"\nweight = -1\nfall = 1\n{what}\n")
    };
    let checks: String = others.iter().map(check).collect();
    let agent = Agent::start(&segment.a, &[Vip::new(100).with(&checks)])?;
    agent.await_state("Active")?;
    let states = || -> Result<Vec<(String, String)>> {
        Ok(agent.vip()?.checks.into_iter().map(|check| (check.state, check.output)).collect())
    };
    let all = eventually("all have looked", || {
        let all = states()?;
        let failing = all.iter().filter(|(state, _)| state == "failing").count();
        Ok((failing == 2).then_some(all))
    })?;
    for (state, output) in &all[..5] {
        ensure!(state == "passing", "{output}");
    }
    ensure!(all[3].1.starts_with("10.9.0.9 is at ") && all[4].1.starts_with("fd09::9 is at "), "{all:?}");
    ensure!(all[5].1 == "no answer within 1s" && all[6].1.contains("unreachable"), "{all:?}");
    ensure!(agent.vip()?.effective_priority == 98, "{all:?}");
    segment.client.port("eth0")?.set_cable(false)?;
    eventually("nobody answers", || Ok((agent.vip()?.effective_priority == 93).then_some(())))?;
    Ok(())
}

fn restart() -> Result<()> {
    let (segment, [agent_a, agent_b]) = pair(|priority| with_program(priority).every_ms(1_000))?;
    // The next agent's first run takes longer than the lease.
    write_program(&segment.a, PROGRAM, "sleep 0.9")?;
    agent_a.process().signal(nix::sys::signal::Signal::SIGKILL)?;
    agent_a.process().wait(PATIENCE)?.context("a killed agent ends")?;
    let again = Agent::start(&segment.a, &[with_program(200).every_ms(1_000)])?;
    let adopted = again.await_state("Active")?;
    ensure!(adopted.cause.starts_with("adopted"), "{}", adopted.cause);
    ensure_calm(&[&again, &agent_b], Duration::from_secs(4))?;
    let check = again.vip()?.checks.pop().context("a vip with a check")?;
    ensure!(check.state == "passing", "{check:?}");
    await_all(&segment.a)
}

/// Vips of each agent, of which every one sends an advert each 10 ms.
const VIPS: u8 = 4;
const INTERVAL: Duration = Duration::from_millis(10);
/// So long is measured without checks, and then with them, again and again.
const WINDOW: Duration = Duration::from_secs(1);
/// How often at least; and at most, until the two are alike: a machine that is busy otherwise makes a few adverts late
/// by milliseconds, and it is chance in which windows.
const ROUNDS: std::ops::RangeInclusive<usize> = 3..=12;
/// So many are made where this is set, to measure and not to judge.
const ROUNDS_VARIABLE: &str = "VIPD_LATENESS_ROUNDS";
/// What counts for nothing beside a fifth: a hundredth of the interval.
const ALIKE: Duration = Duration::from_micros(100);

/// Two agents, side by side: what the machine does otherwise falls on both. In turn one of them has the checks.
fn checks_delay_nothing() -> Result<()> {
    let segment = Segment::new()?;
    let each = |number: u32| {
        format!("[[vip.check]]\nname = \"c{number}\"\ninterval = \"1s\"\nweight = -1\nexec = [\"/bin/true\"]\n")
    };
    let checks: String = (0..200).map(each).collect();
    let vips = |first: u8, checks: &str| -> Vec<Vip> {
        let vip = |vrid: u8| {
            let addresses = format!("[\"10.9.0.{vrid}/24\"]");
            let vip = Vip::new(100).named(format!("vip-{vrid}")).vrid(vrid).addresses(addresses).every_ms(10);
            if vrid == first { vip.with(checks) } else { vip }
        };
        (first..first + VIPS).map(vip).collect()
    };
    let firsts = [51, 61];
    let hosts = [&segment.a, &segment.b];
    let agents = [Agent::start(hosts[0], &vips(firsts[0], ""))?, Agent::start(hosts[1], &vips(firsts[1], ""))?];
    let mut realtime = true;
    for agent in &agents {
        let is_owner = |seen: &[Transition]| seen.iter().filter(|one| one.to == "Active").count() == usize::from(VIPS);
        agent.await_that("all are Active", |seen| is_owner(seen).then_some(()))?;
        realtime &= agent.status()?.realtime;
    }

    let measured = std::env::var(ROUNDS_VARIABLE).ok().map(|rounds| rounds.parse::<usize>()).transpose()?;
    // Of both while nobody has checks; of the one that has them, and of the other.
    let (mut without, mut with, mut beside) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=measured.unwrap_or(*ROUNDS.end()) {
        for (place, (host, first)) in hosts.into_iter().zip(firsts).enumerate() {
            without.extend(lateness(&segment, firsts)?.into_iter().flatten());
            configure(host, &vips(first, &checks))?;
            reload(host)?;
            eventually("all checks pass", || {
                let checks = agents[place].status()?.vips.into_iter().flat_map(|vip| vip.checks);
                Ok((checks.filter(|check| check.state == "passing").count() == 200).then_some(()))
            })?;
            let [late_a, late_b] = lateness(&segment, firsts)?;
            let (own, other) = if place == 0 { (late_a, late_b) } else { (late_b, late_a) };
            with.extend(own);
            beside.extend(other);
            configure(host, &vips(first, ""))?;
            reload(host)?;
        }
        let late = [&mut without, &mut with, &mut beside].map(|late| percentile_99(late));
        eprintln!(
            "99th percentile of the lateness of {} and more adverts each 10 ms, after {round} rounds: without checks \
             {:?}, with 200 a second {:?}, of another agent beside it {:?}",
            with.len(),
            late[0],
            late[1],
            late[2]
        );
        let is_alike = late[1] <= late[0] * 6 / 5 + ALIKE && late[1] <= late[2] * 6 / 5 + ALIKE;
        // Without real-time scheduling, which an ordinary user cannot have, all programs of the machine are as urgent
        // as an advert.
        if measured.is_none() && round >= *ROUNDS.start() && (is_alike || !realtime) {
            return Ok(());
        }
    }
    ensure!(measured.is_some(), "adverts are later with checks than without");
    Ok(())
}

fn percentile_99(late: &mut [Duration]) -> Duration {
    late.sort_unstable();
    late[late.len() * 99 / 100]
}

/// How much later than its interval after the one before each advert came, by the kernel's own clock; for each owner, by its
/// first VRID.
fn lateness(segment: &Segment, firsts: [u8; 2]) -> Result<[Vec<Duration>; 2]> {
    let arrivals = segment.client.run_in(|| receive_adverts(WINDOW))??;
    let late = firsts.map(|first| {
        let of = |vrid: u8| -> Vec<Duration> {
            let mut its: Vec<Duration> = arrivals.iter().filter(|(its, _)| *its == vrid).map(|(_, at)| *at).collect();
            its.sort_unstable();
            its.windows(2).map(|pair| pair[1].saturating_sub(pair[0]).saturating_sub(INTERVAL)).collect()
        };
        (first..first + VIPS).flat_map(of).collect::<Vec<_>>()
    });
    ensure!(late.iter().all(|late| late.len() > 200), "only {:?} adverts", late.each_ref().map(Vec::len));
    Ok(late)
}

/// The VRIDs of adverts, and when they arrived by the stamps that the kernel gave them.
fn receive_adverts(time: Duration) -> Result<Vec<(u8, Duration)>> {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(112)))?;
    socket.join_multicast_v4_n(&"224.0.0.18".parse()?, &InterfaceIndexOrAddress::Index(if_nametoindex("eth0")?))?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    socket.set_recv_buffer_size(4 << 20)?;
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
    let (start, mut arrivals) = (Instant::now(), Vec::new());
    while start.elapsed() < time {
        let (mut packet, mut control) = ([0; 256], nix::cmsg_space!(nix::sys::time::TimeSpec));
        let mut parts = [std::io::IoSliceMut::new(&mut packet)];
        let received = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty())?;
        let stamp = received.cmsgs()?.find_map(|message| match message {
            ControlMessageOwned::ScmTimestampns(stamp) => Some(Duration::from(stamp)),
            _ => None,
        });
        // Behind an IPv4 header without options: version and type, VRID.
        arrivals.extend(stamp.map(|stamp| (packet[21], stamp)));
    }
    Ok(arrivals)
}
