//! The lab itself: hosts can be made, reached, cut, killed and brought back, as root or not.

#![allow(clippy::disallowed_methods, reason = "it waits for real processes")]

#[path = "../harness/mod.rs"]
mod harness;

use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use harness::{TwoOwners, trial};
use libtest_mimic::Trial;
use vipd::lab::{self, Host, Network, Process};

/// They wait for most of the time, but some of them measure.
const AT_ONCE: usize = 2;

fn main() -> ExitCode {
    if let Err(error) = lab::enter() {
        eprintln!("{error:#}");
        return ExitCode::FAILURE;
    }
    harness::run(AT_ONCE, trials())
}

fn trials() -> Vec<Trial> {
    vec![
        trial("a_trial_is_tried_once_more_but_not_after_two_owners", trials_are_tried),
        trial("three_hosts_stand_within_300_ms", three_hosts_stand_within_300_ms),
        trial("ports_make_each_fault_and_undo_it", ports_make_each_fault_and_undo_it),
        trial("a_dead_host_is_silent_and_has_no_process", a_dead_host_is_silent_and_has_no_process),
        trial("interfaces_and_addresses_come_and_go", interfaces_and_addresses_come_and_go),
        trial("each_host_has_its_own_run_and_name", each_host_has_its_own_run_and_name),
        trial("a_process_ends_with_its_handle", a_process_ends_with_its_handle),
        trial("vipd_lab_measures_a_failover", vipd_lab_measures_a_failover),
        trial("vipd_lab_counts_what_a_handover_loses", vipd_lab_counts_what_a_handover_loses),
        trial("vipd_lab_shows_a_host_that_takes_the_address_and_how_long_it_misled", vipd_lab_shows_a_conflict),
        trial("vipd_lab_shows_the_wait_for_an_owner_behind_a_firewall", vipd_lab_shows_a_firewall),
        trial("vipd_lab_shows_that_a_witness_leaves_one_owner", vipd_lab_shows_a_witness),
        trial("vipd_lab_shows_that_nobody_notices_a_return", vipd_lab_shows_that_nobody_notices_a_return),
        trial("vipd_lab_leaves_nothing_when_it_is_killed", vipd_lab_leaves_nothing_when_it_is_killed),
    ]
}

/// What all harnesses do (`tests/harness/`).
fn trials_are_tried() -> Result<()> {
    let outcome = |first: Result<()>, second: Result<()>| harness::tried("a trial of trials", || first, || second);
    let busy = || Err(anyhow!("the machine was busy"));
    ensure!(outcome(Ok(()), busy()).is_ok(), "what has passed is tried again");
    ensure!(outcome(busy(), Ok(())).is_ok(), "nothing is tried again");
    ensure!(outcome(busy(), busy()).is_err(), "what fails twice passes");
    let two = || TwoOwners::never(Duration::from_millis(1)).context("in a scenario");
    ensure!(outcome(two(), Ok(())).is_err(), "two owners are excused");
    Ok(())
}

struct Trio {
    a: Host,
    b: Host,
    client: Host,
    network: Network,
}

fn trio() -> Result<Trio> {
    let network = Network::new()?;
    let host = |name: &str, number: u8| {
        let host = Host::new(name)?;
        host.plug(&network, "eth0", &[&format!("10.9.0.{number}/24"), &format!("fd09::{number}/64")])?;
        Ok::<_, anyhow::Error>(host)
    };
    Ok(Trio { a: host("a", 1)?, b: host("b", 2)?, client: host("client", 9)?, network })
}

/// Whether a datagram from one host arrives at another's address within 200 ms.
fn reaches(from: &Host, to: &Host, address: &str) -> Result<bool> {
    let address: IpAddr = address.parse()?;
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    // The kernel chooses the port: the one of a socket just closed is not free while a process that another trial was
    // starting at that moment still holds a copy.
    let receiver = to.run_in(|| UdpSocket::bind(any))??;
    receiver.set_read_timeout(Some(Duration::from_millis(20)))?;
    let destination = SocketAddr::new(address, receiver.local_addr()?.port());
    let sender = from.run_in(|| UdpSocket::bind(any))??;
    let until = Instant::now() + Duration::from_millis(200);
    while Instant::now() < until {
        // Without carrier or a neighbour the send itself fails, which is an answer too.
        let sent = sender.send_to(b"hello", destination).is_ok();
        if sent && receiver.recv_from(&mut [0; 16]).is_ok() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn unicast(trio: &Trio) -> Result<bool> {
    reaches(&trio.a, &trio.b, "10.9.0.2")
}

fn multicast(trio: &Trio) -> Result<bool> {
    // The group is not routed by address, so the sender needs the route that the interface's prefix does not give.
    let Trio { a, b, .. } = trio;
    let group = Ipv4Addr::new(224, 0, 0, 18);
    let receiver = b.run_in(|| -> Result<UdpSocket> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.join_multicast_v4(&group, &Ipv4Addr::new(10, 9, 0, 2))?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        Ok(socket)
    })??;
    let sender = a.run_in(|| -> Result<UdpSocket> {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
        socket.set_multicast_if_v4(&Ipv4Addr::new(10, 9, 0, 1))?;
        Ok(socket.into())
    })??;
    sender.send_to(b"hello", (group, receiver.local_addr()?.port()))?;
    Ok(receiver.recv_from(&mut [0; 16]).is_ok())
}

fn three_hosts_stand_within_300_ms() -> Result<()> {
    // The best of three: this is a property of the lab, not of a busy machine.
    let mut best = Duration::MAX;
    for _ in 0..3 {
        let begun = Instant::now();
        let trio = trio()?;
        best = best.min(begun.elapsed());
        ensure!(unicast(&trio)?, "a does not reach b over IPv4");
        ensure!(reaches(&trio.a, &trio.b, "fd09::2")?, "a does not reach b over IPv6");
    }
    ensure!(best < Duration::from_millis(300), "it took {best:?}");
    eprintln!("two nodes, a client and a switch stand after {best:?}");
    Ok(())
}

fn ports_make_each_fault_and_undo_it() -> Result<()> {
    let trio = trio()?;
    let (port_a, port_b) = (trio.a.port("eth0")?, trio.b.port("eth0")?);
    ensure!(unicast(&trio)? && multicast(&trio)?, "no network to begin with");

    port_a.set_isolated(true)?;
    ensure!(unicast(&trio)?, "one isolated port alone cuts nothing");
    port_b.set_isolated(true)?;
    ensure!(!unicast(&trio)? && !multicast(&trio)?, "isolated ports pass frames to each other");
    ensure!(reaches(&trio.client, &trio.b, "10.9.0.2")?, "a client does not reach an isolated node");
    port_a.set_isolated(false)?;
    port_b.set_isolated(false)?;
    ensure!(unicast(&trio)? && multicast(&trio)?, "the partition did not heal");

    port_b.set_multicast(false)?;
    ensure!(unicast(&trio)? && !multicast(&trio)?, "only multicast should be lost");
    port_b.set_multicast(true)?;
    ensure!(multicast(&trio)?, "multicast did not come back");

    ensure!(trio.a.link("eth0")?.running, "no carrier to begin with");
    port_a.set_cable(false)?;
    ensure!(!trio.a.link("eth0")?.running, "the carrier outlives the cable");
    port_a.set_cable(true)?;
    ensure!(trio.a.link("eth0")?.running, "no carrier with the cable back");
    ensure!(unicast(&trio)?, "no network with the cable back");
    Ok(())
}

fn a_dead_host_is_silent_and_has_no_process() -> Result<()> {
    let trio = trio()?;
    // Also so that a knows the MAC of b, and need not ask for it, once a second, while b is dead.
    ensure!(unicast(&trio)?, "no network to begin with");
    // A process that leaves its group is the host's all the same.
    let mut command = trio.b.command("sh");
    command.args(["-c", "setsid sleep 1000 & echo ready >&2; sleep 1000"]);
    let process = Process::start(&mut command)?;
    process.wait_for_line(Duration::from_secs(5), |line| line == "ready").context("the shell does not start")?;
    trio.b.kill()?;
    let status = process.wait(Duration::from_secs(5))?.context("the process outlives its host")?;
    ensure!(!status.success(), "it ended by itself");
    ensure!(trio.b.processes()?.is_empty(), "left behind: {:?}", trio.b.processes()?);
    ensure!(!unicast(&trio)?, "a dead host still receives");
    trio.b.reconnect()?;
    ensure!(unicast(&trio)?, "the host did not come back");
    Ok(())
}

fn interfaces_and_addresses_come_and_go() -> Result<()> {
    let trio = trio()?;
    trio.a.add_address("eth0", "10.9.0.77/24")?;
    ensure!(trio.a.addresses("eth0")?.contains(&"10.9.0.77".parse()?), "the address is missing");
    trio.a.delete_address("eth0", "10.9.0.77/24")?;
    ensure!(!trio.a.addresses("eth0")?.contains(&"10.9.0.77".parse()?), "the address is still there");
    trio.a.set_up("eth0", false)?;
    trio.a.rename_link("eth0", "lan")?;
    ensure!(trio.a.link("eth0").is_err() && trio.a.link("lan").is_ok(), "not renamed");
    trio.a.delete_link("lan")?;
    ensure!(trio.a.link("lan").is_err(), "not deleted");
    trio.a.plug(&trio.network, "eth0", &["10.9.0.1/24"])?;
    trio.a.plug(&Network::new()?, "eth1", &["10.10.0.1/24"])?;
    ensure!(unicast(&trio)?, "no network with the new interface");
    Ok(())
}

fn each_host_has_its_own_run_and_name() -> Result<()> {
    let trio = trio()?;
    trio.a.write_file("/run/test/file".as_ref(), "of a")?;
    ensure!(!trio.b.run_in(|| std::fs::exists("/run/test/file"))??, "b sees the file of a");
    let mut command = trio.a.command("sh");
    command.args(["-c", "cat /run/test/file >&2; echo >&2; uname -n >&2"]);
    let process = Process::start(&mut command)?;
    for expected in ["of a", "a"] {
        if process.wait_for_line(Duration::from_secs(5), |line| line == expected).is_none() {
            bail!("no {expected:?} in {:?}", process.lines_from(0));
        }
    }
    Ok(())
}

fn a_process_ends_with_its_handle() -> Result<()> {
    let trio = trio()?;
    let process = Process::start(trio.a.command("sleep").arg("1000"))?;
    ensure!(trio.a.processes()? == [process.pid()], "{:?}", trio.a.processes()?);
    drop(process);
    ensure!(trio.a.processes()?.is_empty(), "it lives on");
    Ok(())
}

/// In no run of a scenario did two hosts answer, or could have.
fn ensure_one_owner(scenario: &serde_json::Value) -> Result<()> {
    for (by, of) in [("two_owners_ms", "by the client"), ("two_leases_ms", "by their kernels")] {
        let longest = scenario[by]["max"].as_f64().with_context(|| format!("no time of two owners {of}"))?;
        TwoOwners::never(Duration::try_from_secs_f64(longest / 1000.0)?).context(of)?;
    }
    Ok(())
}

fn vipd_lab_measures_a_failover() -> Result<()> {
    let output = Command::new(env!("CARGO_BIN_EXE_vipd")).args(["lab", "stop", "host-kill", "--json"]).output()?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(output.status.success(), "{}: {}\n{text}", output.status, String::from_utf8_lossy(&output.stderr));
    let document: serde_json::Value = serde_json::from_str(&text)?;
    ensure!(document["well"] == true, "{text}");
    let scenarios = document["scenarios"].as_array().context("no scenarios")?;
    ensure!(scenarios.len() == 2, "{text}");
    for scenario in scenarios {
        let outage = scenario["outage_ms"]["median"].as_f64().context("no outage")?;
        // Between one probe and the bound, with what a busy test machine may add.
        ensure!((10.0..1000.0).contains(&outage), "{text}");
        ensure_one_owner(scenario)?;
        let events = scenario["runs"][0]["events"].as_array().context("no events")?;
        ensure!(events.iter().any(|event| event["who"] == "node-b" && event["to"] == "Active"), "{text}");
        ensure!(events.iter().any(|event| event["who"] == "fault" && event["at_ms"] == 0.0), "{text}");
    }
    Ok(())
}

fn vipd_lab_counts_what_a_handover_loses() -> Result<()> {
    let output = Command::new(env!("CARGO_BIN_EXE_vipd"))
        .args(["lab", "handover", "stop", "failback", "--second-path", "--advert", "1s", "--json"])
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(output.status.success(), "{}: {}\n{text}", output.status, String::from_utf8_lossy(&output.stderr));
    let document: serde_json::Value = serde_json::from_str(&text)?;
    for scenario in document["scenarios"].as_array().context("no scenarios")? {
        ensure_one_owner(scenario)?;
        // One at most on an idle machine. By the standard it would be 609 for a stop.
        ensure!(scenario["lost_probes"]["max"].as_u64().is_some_and(|lost| lost < 200), "{text}");
        let events = scenario["runs"][0]["events"].as_array().context("no events")?;
        let by_handover = |event: &serde_json::Value| {
            event["to"] == "Claiming"
                && event["cause"].as_str().is_some_and(|cause| cause.starts_with("handover from "))
        };
        ensure!(events.iter().any(by_handover), "no handover: {text}");
    }
    Ok(())
}

fn vipd_lab_shows_a_conflict() -> Result<()> {
    let output = Command::new(env!("CARGO_BIN_EXE_vipd")).args(["lab", "arp-conflict", "--json"]).output()?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(output.status.success(), "{}: {}\n{text}", output.status, String::from_utf8_lossy(&output.stderr));
    let run = &serde_json::from_str::<serde_json::Value>(&text)?["scenarios"][0]["runs"][0];
    let wrong = run["wrong_host_ms"].as_f64().context("no time at the wrong host")?;
    // The spacing of announcements, with what a busy test machine may add.
    ensure!(wrong < 1_500.0, "{text}");
    let dual = run["two_owners_ms"].as_f64().context("no time of two owners")?;
    ensure!(dual > 2_000.0, "the third host did not answer: {text}");
    let events = run["events"].as_array().context("no events")?;
    let named = |event: &serde_json::Value| {
        event["what"].as_str().is_some_and(|what| what.contains("02:04:0a:4d:00:42 also answers for 10.77.0.100"))
    };
    ensure!(events.iter().any(named), "node-a did not name it: {text}");
    let after = |event: &serde_json::Value| event["at_ms"].as_f64().is_some_and(|at| at > 0.0);
    ensure!(!events.iter().any(|event| after(event) && !event["to"].is_null()), "somebody moved: {text}");
    Ok(())
}

fn vipd_lab_shows_a_firewall() -> Result<()> {
    // A second path, as others of the same command line may want it, is none of this one's: with it nobody waits.
    let output =
        Command::new(env!("CARGO_BIN_EXE_vipd")).args(["lab", "firewall", "--second-path", "--json"]).output()?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(output.status.success(), "{}: {}\n{text}", output.status, String::from_utf8_lossy(&output.stderr));
    let run = &serde_json::from_str::<serde_json::Value>(&text)?["scenarios"][0]["runs"][0];
    let takeover = run["takeover_ms"].as_f64().context("no takeover")?;
    ensure!(takeover > 3_000.0, "node-b did not wait: {text}");
    ensure!(run["two_owners_ms"].as_f64().is_some_and(|dual| dual > 0.0), "two owners go unseen: {text}");
    let events = run["events"].as_array().context("no events")?;
    let named = |event: &serde_json::Value| {
        let alarm = "10.77.0.100 still answers at 02:04:0a:4d:00:01";
        event["who"] == "node-b" && event["what"].as_str().is_some_and(|what| what.contains(alarm))
    };
    ensure!(events.iter().any(named), "node-b did not name the owner: {text}");
    Ok(())
}

fn vipd_lab_shows_a_witness() -> Result<()> {
    let output =
        Command::new(env!("CARGO_BIN_EXE_vipd")).args(["lab", "partition", "witness-partition", "--json"]).output()?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(output.status.success(), "{}: {}\n{text}", output.status, String::from_utf8_lossy(&output.stderr));
    let scenarios = &serde_json::from_str::<serde_json::Value>(&text)?["scenarios"];
    // Without a witness there are two, and it shows.
    for by in ["two_owners_ms", "two_leases_ms"] {
        ensure!(scenarios[0][by]["max"].as_f64().is_some_and(|dual| dual > 0.0), "{by}: {text}");
    }
    ensure_one_owner(&scenarios[1])?;
    let run = &scenarios[1]["runs"][0];
    ensure!(run["takeover_ms"].as_f64().is_some(), "node-b has a majority: {text}");
    let events = run["events"].as_array().context("no events")?;
    let gave_up = |event: &serde_json::Value| {
        event["who"] == "node-a" && event["cause"].as_str().is_some_and(|cause| cause.starts_with("no majority"))
    };
    ensure!(events.iter().any(gave_up), "node-a did not say why it gave up: {text}");
    Ok(())
}

fn vipd_lab_shows_that_nobody_notices_a_return() -> Result<()> {
    let output =
        Command::new(env!("CARGO_BIN_EXE_vipd")).args(["lab", "resume", "--repeat", "2", "--json"]).output()?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(output.status.success(), "{}: {}\n{text}", output.status, String::from_utf8_lossy(&output.stderr));
    let scenario = &serde_json::from_str::<serde_json::Value>(&text)?["scenarios"][0];
    ensure_one_owner(scenario)?;
    let runs = scenario["runs"].as_array().context("no runs")?;
    ensure!(runs.len() == 2, "{text}");
    for run in runs {
        let nothing = serde_json::json!({ "answers": 0, "announcements": 0, "transitions_of_the_other": 0 });
        ensure!(run["returned"] == nothing, "{text}");
        let events = run["events"].as_array().context("no events")?;
        let deposed = |event: &serde_json::Value| {
            event["who"] == "node-a" && event["cause"].as_str().is_some_and(|cause| cause.ends_with("the lease lapsed"))
        };
        ensure!(events.iter().any(deposed), "node-a did not count itself deposed: {text}");
    }
    Ok(())
}

fn vipd_lab_leaves_nothing_when_it_is_killed() -> Result<()> {
    // Inherited by all that the lab starts.
    const MARK: &str = "VIPD_TEST_MARK=vipd_lab_leaves_nothing_when_it_is_killed";
    let (name, value) = MARK.split_once('=').context("mark")?;
    let marked = || -> Result<usize> {
        let processes = std::fs::read_dir("/proc")?.filter_map(|entry| {
            let environment = std::fs::read(entry.ok()?.path().join("environ")).ok()?;
            environment.split(|byte| *byte == 0).any(|variable| variable == MARK.as_bytes()).then_some(())
        });
        Ok(processes.count())
    };
    let mut lab = Command::new(env!("CARGO_BIN_EXE_vipd"))
        .args(["lab", "freeze"])
        .env(name, value)
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(lab.stdout.take().context("stdout")?).lines();
    let fault = lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("FAULT")));
    let running = marked();
    lab.kill()?;
    lab.wait()?;
    ensure!(fault.is_some(), "the lab made no fault");
    let running = running?;
    ensure!(running == 5, "{running} and not the lab, two agents and what starts the programs of each");
    let until = Instant::now() + Duration::from_secs(5);
    while marked()? > 0 {
        ensure!(Instant::now() < until, "{} processes outlive the lab", marked()?);
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
