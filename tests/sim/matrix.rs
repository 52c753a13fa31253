//! The fault matrix: what a network, a host, an operator or a stranger can do to a pair, each done to the same pair and judged by
//! the same five sentences.
//!
//! (a) never two owners, outside a declared window; (b) an owner within a bound; (c) the neighbours believe the owner; (d) nothing is left
//! after the end; (e) each transition has a recorded cause. [`super::watch`] judges besides, as in every world.
//!
//! `tests/golden/fault-matrix.md` is the table for readers, with the tests that show the same to a real kernel;
//! `VIPD_BLESS=1 cargo test --test sim matrix` writes it anew. A test that it names and that is not there is a failure.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use vipd::engine::{ClaimKind, Input, Preempt, Settings};
use vipd::types::{Family, MacAddr, Vrid};
use vipd::wire::advert::{ChecksumForm, group};

use super::build::{STRANGER, VIP_V4, address, advert, forge, host, interval, ms, secs, vip};
use super::clock::MILLISECOND;
use super::host::{Life, QUICK, Wire};
use super::network::{NEIGHBOURS, Network, Packet};
use super::world::{LINK, World, vip_id};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/fault-matrix.md");

/// Three intervals, the skew time of priority 100, and a moment for the kernel.
const TAKEOVER: Duration = Duration::from_millis(365);

/// After the repair: long enough for a claim, its repeated announcement, and what might still go wrong.
const SETTLE: Duration = Duration::from_secs(3);

/// A row of the matrix.
struct Row {
    fault: &'static str,
    shown: Shown,
    /// Real agents on a real kernel, as `file: test`, below `tests/`.
    kernel: &'static [&'static str],
}

enum Shown {
    /// Here.
    Here(Scenario),
    /// By another test of the simulator, for this reason.
    There(&'static str, &'static str),
    /// Not by the simulator, for this reason.
    NotHere(&'static str),
    /// Not at all yet: what it is about is not there.
    NotYet(&'static str),
}

/// What is done to the pair, and undone.
struct Scenario {
    strike: fn(&mut World),
    lasts: Duration,
    heal: fn(&mut World),
    /// For how long two may own while it lasts.
    two: Duration,
    /// For how long nobody may own.
    nobody: Duration,
}

impl Shown {
    /// One owner goes, and another comes.
    const fn taken_over(strike: fn(&mut World), lasts: Duration, heal: fn(&mut World)) -> Self {
        Self::Here(Scenario { strike, lasts, heal, two: Duration::ZERO, nobody: TAKEOVER })
    }

    /// The two cannot hear each other, or hear somebody else, and own both meanwhile.
    const fn two_owners(strike: fn(&mut World), lasts: Duration, heal: fn(&mut World)) -> Self {
        Self::Here(Scenario { strike, lasts, heal, two: lasts.saturating_add(TAKEOVER), nobody: TAKEOVER })
    }

    /// There may be nobody who could own for a while.
    const fn nobody_for(nobody: Duration, strike: fn(&mut World), lasts: Duration, heal: fn(&mut World)) -> Self {
        Self::Here(Scenario { strike, lasts, heal, two: Duration::ZERO, nobody })
    }
}

const fn nothing(_: &mut World) {}

/// In the order in which faults come to mind: hosts, links, networks, agents, strangers, operators.
fn matrix() -> Vec<Row> {
    let row = |fault, shown, kernel| Row { fault, shown, kernel };
    vec![
        row(
            "host killed",
            Shown::taken_over(|world| world.kill(0), secs(2), |world| world.start(0)),
            &["netns/takeover.rs: a_dead_host_is_replaced_and_takes_back_when_it_returns"],
        ),
        row(
            "clean stop",
            Shown::taken_over(|world| world.stop(0), secs(2), |world| world.start(0)),
            &["netns/stop.rs: a_clean_stop_leaves_nothing_and_costs_the_successors_skew"],
        ),
        row(
            "owner's NIC down",
            Shown::taken_over(|world| world.set_wire(0, Wire::Down), secs(2), |world| world.set_wire(0, Wire::Up)),
            &["netns/links.rs: a_lost_carrier_gives_up_at_once_and_its_return_takes_back"],
        ),
        row(
            "backup's NIC down",
            Shown::nobody_for(
                Duration::ZERO,
                |world| world.set_wire(1, Wire::Down),
                secs(2),
                |world| world.set_wire(1, Wire::Up),
            ),
            &[],
        ),
        row("one-way loss, owner to backup", Shown::two_owners(|world| world.cut(0, 1), secs(3), World::heal), &[]),
        row(
            "one-way loss, backup to owner",
            Shown::nobody_for(Duration::ZERO, |world| world.cut(1, 0), secs(3), World::heal),
            &[],
        ),
        row("full partition, then heal", Shown::two_owners(|world| world.isolate(0), secs(5), World::heal), &[]),
        row(
            "partition of the adverts' path alone",
            Shown::two_owners(|world| world.part(0, 1), secs(5), World::heal),
            &[],
        ),
        row("1 s of loss, reordering, duplication", Shown::two_owners(disturb, secs(1), World::heal), &[]),
        row("60 s of loss, reordering, duplication", Shown::two_owners(disturb, secs(60), World::heal), &[]),
        row(
            "agent SIGKILL, not started again",
            Shown::taken_over(|world| world.crash(0), secs(2), |world| world.restart(0)),
            &[
                "netns/layers.rs: netdev_never_lets_two_hosts_answer_when_the_owners_agent_is_killed",
                "netns/layers.rs: inet_and_arp_never_let_two_hosts_answer_when_the_owners_agent_is_killed",
            ],
        ),
        row(
            "agent SIGKILL, started again within its lease",
            Shown::nobody_for(Duration::ZERO, |world| world.crash(0), ms(100), |world| world.restart(0)),
            &["netns/commands.rs: an_agent_that_is_killed_and_started_anew_within_its_lease_moves_nothing"],
        ),
        row(
            "agent SIGSTOP, then SIGCONT",
            Shown::taken_over(|world| world.freeze(0), secs(5), |world| world.thaw(0)),
            &[
                "netns/layers.rs: netdev_never_lets_two_hosts_answer_when_the_owners_agent_hangs",
                "netns/layers.rs: inet_and_arp_never_let_two_hosts_answer_when_the_owners_agent_hangs",
            ],
        ),
        row(
            "crash loop",
            Shown::taken_over(
                |world| {
                    for pause in [10, 100, 290, 301, 350, 400, 700].repeat(4) {
                        world.crash(0);
                        world.run(ms(pause));
                        world.restart(0);
                        world.run(ms(20));
                    }
                },
                secs(1),
                nothing,
            ),
            &["netns/commands.rs: what_a_killed_agent_left_is_cleared_at_the_next_start"],
        ),
        row(
            "host frozen, then resumed",
            Shown::taken_over(
                |world| {
                    world.freeze(0);
                    world.isolate(0);
                },
                secs(5),
                |world| {
                    world.heal();
                    world.thaw(0);
                },
            ),
            &["lab/main.rs: vipd_lab_shows_that_nobody_notices_a_return"],
        ),
        row(
            "CPU starvation",
            Shown::nobody_for(
                Duration::ZERO,
                |world| world.hosts.iter_mut().for_each(|host| host.spec.lateness = (0, 90 * MILLISECOND)),
                secs(20),
                |world| world.hosts.iter_mut().for_each(|host| host.spec.lateness = (0, 0)),
            ),
            &["netns/freeze.rs: busy_processors_move_nobody"],
        ),
        row(
            "a kernel that is starved of its disk or its locks",
            Shown::nobody_for(
                ms(1_400),
                |world| {
                    world.hosts.iter_mut().for_each(|host| host.spec.effect_time = (0, 1_000 * MILLISECOND));
                    world.kill(0);
                },
                secs(5),
                |world| {
                    world.hosts.iter_mut().for_each(|host| host.spec.effect_time = QUICK);
                    world.start(0);
                },
            ),
            &[],
        ),
        row(
            "wall clock stepped both ways",
            Shown::NotHere(
                "the engine and its world know no wall clock; the linter refuses one outside `daemon::clock`",
            ),
            &[],
        ),
        row(
            "another host configures the address",
            Shown::nobody_for(Duration::ZERO, claim_for_a_while, secs(1), nothing),
            &["netns/conflict.rs: a_host_that_announces_the_address_is_named_and_the_neighbours_are_corrected"],
        ),
        row(
            "rogue advert of priority 255",
            Shown::taken_over(
                |world| forge(world, STRANGER, &advert(&vip(255), 255), ChecksumForm::Rfc9568),
                secs(2),
                nothing,
            ),
            &[],
        ),
        row(
            "rogue advert of priority 0",
            Shown::nobody_for(
                Duration::ZERO,
                |world| {
                    for _ in 0..20 {
                        forge(world, STRANGER, &advert(&vip(100), 0), ChecksumForm::Rfc9568);
                        world.run(ms(50));
                    }
                },
                secs(1),
                nothing,
            ),
            &[],
        ),
        row(
            "replayed advert", // A backup believes what sounds like its owner. It waits as long after the last replay.
            Shown::nobody_for(ms(250).saturating_add(TAKEOVER), replay, secs(2), nothing),
            &[],
        ),
        row(
            "advert of another VRID",
            Shown::nobody_for(
                Duration::ZERO,
                |world| {
                    let mut other = vip(255);
                    other.vrid = Vrid::new(99).expect("not 0");
                    for _ in 0..20 {
                        forge(world, STRANGER, &advert(&other, 255), ChecksumForm::Rfc9568);
                        world.run(ms(50));
                    }
                },
                secs(1),
                nothing,
            ),
            &[],
        ),
        row(
            "advert from this node's own address",
            Shown::nobody_for(
                Duration::ZERO,
                |world| {
                    for _ in 0..20 {
                        // To the owner alone: to the other it is the owner's.
                        world.cut(NEIGHBOURS, 1);
                        forge(world, IpAddr::from([10, 0, 0, 1]), &advert(&vip(255), 255), ChecksumForm::Rfc9568);
                        world.run(ms(50));
                    }
                },
                secs(1),
                World::heal,
            ),
            &[],
        ),
        row(
            "malformed flood",
            Shown::nobody_for(Duration::ZERO, flood, secs(1), nothing),
            &["netns/hostile.rs: a_flood_of_bad_packets_moves_nobody_and_fills_no_memory"],
        ),
        row(
            "VRID collision",
            Shown::nobody_for(
                Duration::ZERO,
                |world| {
                    let mut foreign = vip(255);
                    foreign.addresses = vec![address(IpAddr::from([10, 0, 0, 77]))];
                    for _ in 0..40 {
                        forge(world, STRANGER, &advert(&foreign, 255), ChecksumForm::Rfc9568);
                        world.run(ms(50));
                    }
                },
                secs(1),
                nothing,
            ),
            &["netns/conflict.rs: a_foreign_group_on_the_same_vrid_is_named_and_not_fought"],
        ),
        row(
            "interface deleted, recreated, renamed",
            Shown::taken_over(
                |world| {
                    for _ in 0..3 {
                        world.set_wire(0, Wire::Missing);
                        world.run(ms(700));
                        world.set_wire(0, Wire::Up);
                        world.run(ms(700));
                    }
                },
                secs(1),
                nothing,
            ),
            &[
                "netns/links.rs: an_interface_that_is_deleted_and_made_anew_is_followed",
                "netns/links.rs: an_interface_that_is_renamed_keeps_no_address_and_is_followed_back",
            ],
        ),
        row(
            "address removed by another program",
            Shown::nobody_for(
                ms(5),
                |world| {
                    for _ in 0..3 {
                        world.remove_address(0, 0, VIP_V4);
                        world.run(ms(500));
                    }
                },
                secs(1),
                nothing,
            ),
            &["netns/restore.rs: a_removed_address_is_put_back_and_past_the_limit_handed_over"],
        ),
        row("route removed by another program", Shown::NotYet("vips have no routes of their own"), &[]),
        row(
            "network manager restarted on both hosts",
            Shown::nobody_for(
                ms(1_500),
                |world| {
                    (0..2).for_each(|host| world.set_wire(host, Wire::Down));
                    world.remove_address(0, 0, VIP_V4);
                    world.run(secs(1));
                    (0..2).for_each(|host| world.set_wire(host, Wire::Up));
                },
                secs(1),
                nothing,
            ),
            &[],
        ),
        row(
            "simultaneous boot",
            Shown::nobody_for(
                ms(200) + TAKEOVER,
                |world| {
                    (0..2).for_each(|host| world.kill(host));
                    world.run(ms(100));
                    (0..2).for_each(|host| world.start(host));
                },
                secs(1),
                nothing,
            ),
            &[],
        ),
        row(
            "link up but forwarding late (STP, bond)",
            Shown::two_owners(
                |world| {
                    world.kill(0);
                    world.run(secs(1));
                    world.isolate(0);
                    world.start(0);
                },
                secs(2),
                World::heal,
            ),
            &[],
        ),
        row(
            "reload: no change",
            Shown::nobody_for(Duration::ZERO, |world| reload(world, |_| {}), secs(1), nothing),
            &["netns/reload.rs: a_reload_without_a_change_moves_nothing_and_delays_no_advert"],
        ),
        row(
            "reload: address added, then removed",
            Shown::nobody_for(
                Duration::ZERO,
                |world| {
                    reload(world, |settings| settings.vips[0].addresses.push(address(IpAddr::from([10, 0, 0, 150]))))
                },
                secs(1),
                |world| reload(world, |settings| settings.vips[0].addresses.truncate(1)),
            ),
            &["netns/reload.rs: a_reload_adds_and_removes_addresses_under_an_owner"],
        ),
        row(
            "reload: VRID changed",
            Shown::There("reload.rs", "another_virtual_router_of_the_same_name_is_a_removal_and_an_addition"),
            &[],
        ),
        row(
            "reload: file invalid",
            Shown::NotHere("the engine is given legal settings only"),
            &["netns/reload.rs: a_reload_of_an_invalid_file_changes_nothing_and_says_why"],
        ),
        row(
            "rolling restart, onto another interval as well",
            Shown::nobody_for(
                Duration::ZERO,
                |world| {
                    for host in [1, 0] {
                        world.hosts[host].spec.settings.vips[0].interval = interval(200);
                        world.hand_on(host);
                        world.run(ms(50));
                        world.restart(host);
                        world.run(secs(1));
                    }
                },
                secs(2),
                nothing,
            ),
            &["netns/commands.rs: an_agent_that_is_killed_and_started_anew_within_its_lease_moves_nothing"],
        ),
        row("rolling upgrade with mixed versions", Shown::NotYet("there is one version"), &[]),
        row("key rotated", Shown::NotYet("adverts are not sealed"), &[]),
        row("key mismatched", Shown::NotYet("adverts are not sealed"), &[]),
        row("check hangs, check flaps, fork fails", Shown::NotYet("there are no checks"), &[]),
        row(
            "disk full, read-only file system, log stalled",
            Shown::NotYet("the agent writes no file but its control socket; a log that stalls is not yet tried"),
            &[],
        ),
        row("witness unreachable", Shown::NotYet("there is no quorum"), &[]),
        row(
            "255 virtual routers and 1,000 addresses failing at once",
            Shown::There("takeover.rs", "a_thousand_vips_fail_at_once_and_are_claimed_within_an_interval_and_skew"),
            &["netns/many.rs: 250_vips_come_up_and_are_taken_over_together"],
        ),
    ]
}

#[test]
fn every_fault_of_the_matrix_keeps_the_five_invariants() {
    let mut failures = Vec::new();
    for row in matrix() {
        if let Shown::Here(scenario) = &row.shown
            && let Err(why) = judge(scenario)
        {
            failures.push(format!("{}: {why}", row.fault));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn the_matrix_is_the_golden_one_and_names_tests_that_are_there() {
    let mut text = String::from(
        "# The fault matrix\n\nWritten by `VIPD_BLESS=1 cargo test --test sim matrix` from `tests/sim/matrix.rs`; the test fails where they \
         differ, and where a test that is named does not exist.\n\n| fault | in the simulator | against a kernel |\n|---|---|---|\n",
    );
    for row in matrix() {
        let simulated = match &row.shown {
            Shown::Here(Scenario { two, nobody, .. }) => {
                let two = if two.is_zero() {
                    "never two owners".to_owned()
                } else {
                    format!("two owners for {two:?} at most")
                };
                let nobody =
                    if nobody.is_zero() { "always one".to_owned() } else { format!("none for {nobody:?} at most") };
                format!("{two}, {nobody}")
            }
            Shown::There(file, test) => {
                require(&format!("sim/{file}"), &format!("fn {test}("));
                format!("`{test}`")
            }
            Shown::NotHere(why) => format!("no: {why}"),
            Shown::NotYet(why) => format!("**not yet**: {why}"),
        };
        let kernel: Vec<String> = row
            .kernel
            .iter()
            .map(|place| {
                let (file, test) = place.split_once(": ").expect("written as FILE: TEST");
                require(file, &format!("\"{test}\""));
                format!("`{test}`")
            })
            .collect();
        writeln!(text, "| {} | {simulated} | {} |", row.fault, kernel.join(", ")).expect("a string takes all");
    }
    if std::env::var_os("VIPD_BLESS").is_some() {
        std::fs::write(PATH, &text).expect("writable");
        return;
    }
    let golden = std::fs::read_to_string(PATH).expect("tests/golden/fault-matrix.md is in the repository");
    for (is, was) in text.lines().zip(golden.lines()) {
        assert_eq!(is, was, "VIPD_BLESS=1 takes what is");
    }
    assert_eq!(text.lines().count(), golden.lines().count(), "VIPD_BLESS=1 takes what is");
}

/// A test that is named exists.
fn require(file: &str, name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(text.contains(name), "no test {name} in {}", path.display());
}

/// The matrix is judged by a judge that can fail.
#[test]
fn a_pair_without_the_kernels_lease_does_not_pass() {
    let scenario = Scenario {
        strike: |world| {
            world.gate = false;
            world.watch.forgiving = true;
            world.freeze(0);
        },
        // A backup that asks waits for 3 s while the address answers.
        lasts: secs(6),
        heal: |world| world.thaw(0),
        two: Duration::ZERO,
        nobody: TAKEOVER,
    };
    let why = judge(&scenario).expect_err("two hosts answer");
    assert!(why.contains("two owners"), "{why}");
}

fn judge(scenario: &Scenario) -> Result<(), String> {
    let settings = |priority| {
        let mut vip = vip(priority);
        // A return that takes the address back is another's matter: here whoever has it keeps it.
        vip.preempt = Preempt::Off;
        vec![vip]
    };
    let mut world = World::new(1, Network::quiet(), vec![host(0, settings(200)), host(1, settings(100))]);
    world.start_all();
    step(&mut world, secs(2))?;
    if world.owner() != Some(0) {
        return Err("the better host does not own to begin with".into());
    }
    let overlapped = world.watch.overlapped;
    world.watch.forget_silence();
    (scenario.strike)(&mut world);
    step(&mut world, scenario.lasts)?;
    (scenario.heal)(&mut world);
    step(&mut world, SETTLE)?;

    let two = Duration::from_nanos(world.watch.overlapped - overlapped);
    if two > scenario.two {
        return Err(format!("(a) two owners for {two:?}"));
    }
    let nobody = Duration::from_nanos(world.watch.longest_silence(world.now));
    if nobody > scenario.nobody {
        return Err(format!("(b) nobody owned for {nobody:?}"));
    }
    let Some(owner) = world.owner() else { return Err("(b) not one owner in the end".into()) };
    let believed = world.neighbours.believes(0, VIP_V4);
    if believed != Some(owner) {
        return Err(format!("(c) the neighbours believe {believed:?}, the owner is {owner}"));
    }
    for (place, host) in world.hosts.iter().enumerate() {
        let real = host.engine.as_ref().map(|engine| engine.vips()[0].state());
        if real.is_some_and(|real| real != host.agent[0].state) {
            return Err(format!("(e) host {place} is {real:?}, and told of {:?}", host.agent[0].state));
        }
    }
    for place in 0..world.hosts.len() {
        if world.hosts[place].life == Life::Running {
            world.stop(place);
        }
    }
    step(&mut world, secs(2))?;
    let left = world.hosts.iter().position(|host| !host.kernel[0].installed.is_empty());
    left.map_or(Ok(()), |host| Err(format!("(d) an address is left on host {host}")))
}

/// Runs, and gives what must never happen in any world.
fn step(world: &mut World, time: Duration) -> Result<(), String> {
    world.run_unchecked(super::clock::nanos(time));
    world.watch.violation.clone().map_or(Ok(()), Err)
}

fn disturb(world: &mut World) {
    world.network.lost_permille = 300;
    world.network.doubled_permille = 100;
    world.network.late_permille = 100;
    world.network.late_by = 50 * MILLISECOND;
}

/// A third host announces the address again and again.
fn claim_for_a_while(world: &mut World) {
    let mac = MacAddr(2, 0, 0, 0, 0, 66);
    for _ in 0..10 {
        for host in 0..2 {
            world.input(
                host,
                Input::AddressClaimed { vip: vip_id(0), address: VIP_V4, mac, kind: ClaimKind::Announcement },
            );
        }
        world.run(ms(500));
    }
}

/// What the owner said once is said again after it has gone.
fn replay(world: &mut World) {
    let said = advert(&vip(200), 200);
    world.kill(0);
    for _ in 0..5 {
        world.run(ms(50));
        forge(world, IpAddr::from([10, 0, 0, 1]), &said, ChecksumForm::Rfc9568);
    }
    world.start(0);
}

fn flood(world: &mut World) {
    let destination = group(Family::V4);
    for n in 0..5_000_u32 {
        let bytes = n.to_be_bytes().repeat(usize::try_from(n % 9).expect("small"));
        world.send(NEIGHBOURS, Packet { link: LINK, source: STRANGER, destination, hop_limit: 255, bytes });
        world.run(Duration::from_micros(200));
    }
}

fn reload(world: &mut World, change: fn(&mut Settings)) {
    for host in 0..2 {
        let mut settings = world.hosts[host].spec.settings.clone();
        change(&mut settings);
        world.reload(host, settings);
        world.run(ms(300));
    }
}
