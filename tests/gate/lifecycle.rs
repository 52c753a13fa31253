//! How a gate comes, goes, and outlives its agent.

use std::io;
use std::process::Command;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use netlink_packet_netfilter::NetfilterProtoFamily;
use netlink_packet_netfilter::nftables::{NfTablesMessage, TableAttribute, TableMessage};
use vipd::driver::errno;
use vipd::driver::gate::{Gate, Layer, LeaseId, Managed, Renewal};
use vipd::driver::nftables::{Change, Nftables};

use crate::exact::{Stage, VIP, VIP6, VIPS, by, closed_gate, lease, numbered};
use crate::prober::{ask_for, ping};
use crate::support::{add_address, delete_link, ip, set_up, veth};
use crate::{both, layer, open_gate, trial};

const LONG: Duration = Duration::from_secs(60);
const WHILE: Duration = Duration::from_millis(100);

/// Another one than that of the vips.
const MORE: LeaseId = numbered(2);

pub fn trials() -> Vec<Trial> {
    let both = [
        both("without its agent it closes and stays closed", without_its_agent_it_closes),
        both("the next agent goes on with a lease that runs", the_next_agent_goes_on),
        both("the next agent cannot go on with a lease that lapsed", a_lapsed_lease_is_not_adopted),
        both("rules made anew while open lose nothing", rules_made_anew_lose_nothing),
        both("rules made anew while closed let nothing through", rules_made_anew_let_nothing_through),
        both("more addresses are closed and opened again without a word to the others", more_and_fewer_addresses),
        both("an address that goes to another lease passes while that one runs", an_address_goes_to_another_lease),
        both("a lease that has another number with the next agent runs on", a_lease_is_inherited_by_its_addresses),
        both("nothing is left after removal", nothing_is_left_after_removal),
        both("an interface that comes back is gated again", an_interface_that_comes_back),
        both("nobody else can remove it", nobody_else_can_remove_it),
        both("one that was removed is noticed", one_that_was_removed_is_noticed),
        both("an administrator can read it", an_administrator_can_read_it),
    ];
    let one = [
        trial("gate: an unknown interface is refused or has no traffic", an_unknown_interface),
        trial("gate: what another layer left is removed", what_another_layer_left_is_removed),
    ];
    both.into_iter().flatten().chain(one).collect()
}

fn without_its_agent_it_closes() {
    let stage = Stage::new();
    let mut gate = closed_gate(&stage);
    let prober = stage.probe();
    let until = lease(&mut gate, Duration::from_millis(100));
    drop(gate);
    std::thread::sleep(until - Instant::now() + WHILE);
    let record = prober.stop();
    for vip in &stage.vips {
        assert!(record.last_answer(ping(*vip)).expect("a lease outlives its agent") <= until);
    }
    stage.probe_during(WHILE).assert_silent();
    let mut next = open_gate();
    assert_eq!(next.interfaces().expect("tables can be listed"), ["eth0"]);
    stage.probe_during(WHILE).assert_silent();
}

fn the_next_agent_goes_on() {
    let stage = Stage::new();
    let mut gate = closed_gate(&stage);
    let until = lease(&mut gate, Duration::from_secs(2));
    let prober = stage.probe();
    drop(gate);
    std::thread::sleep(WHILE);

    let mut next = open_gate();
    let owned = next.owned("eth0").expect("the gate stands");
    assert_eq!(owned.iter().map(|(address, _)| *address).collect::<Vec<_>>(), stage.vips);
    for (_, left) in owned {
        assert!(left <= until - Instant::now() + Duration::from_millis(4), "{left:?}");
        assert!(left > Duration::from_secs(1));
    }
    next.manage("eth0", &by(VIPS, &stage.vips)).expect("eth0 exists");
    let owned = next.owned("eth0").expect("the gate stands");
    assert_eq!(owned.len(), stage.vips.len());
    assert!(owned.iter().all(|(_, left)| *left <= until - Instant::now()), "adoption made a lease longer");
    lease(&mut next, Duration::from_secs(2));
    std::thread::sleep(WHILE);
    prober.stop().assert_lossless(&ask_for(&stage.vips));
}

fn a_lapsed_lease_is_not_adopted() {
    let stage = Stage::new();
    let mut gate = closed_gate(&stage);
    lease(&mut gate, Duration::from_millis(200));
    drop(gate);
    let mut next = open_gate();
    next.manage("eth0", &by(VIPS, &stage.vips)).expect("eth0 exists");
    assert_eq!(next.owned("eth0").expect("the gate stands").len(), 2);
    std::thread::sleep(Duration::from_millis(200));
    // Whoever believes that the lease still ran is told otherwise.
    let renewal = next.renew("eth0", VIPS, Instant::now() + LONG).expect("the gate stands");
    assert_eq!(renewal, Renewal::Lapsed);
    stage.probe_during(WHILE).assert_silent();
}

fn rules_made_anew_lose_nothing() {
    let stage = Stage::new();
    let mut gate = closed_gate(&stage);
    lease(&mut gate, Duration::from_secs(30));
    let prober = stage.probe();
    let start = Instant::now();
    for _ in 0..50 {
        gate.manage("eth0", &by(VIPS, &stage.vips)).expect("eth0 exists");
    }
    println!("rules made anew: {:?} each", start.elapsed() / 50);
    prober.stop().assert_lossless(&ask_for(&stage.vips));
    assert_eq!(gate.owned("eth0").expect("the gate stands").len(), 2);
}

fn rules_made_anew_let_nothing_through() {
    let stage = Stage::new();
    let mut gate = closed_gate(&stage);
    let prober = stage.probe();
    for _ in 0..50 {
        gate.manage("eth0", &by(VIPS, &stage.vips)).expect("eth0 exists");
    }
    prober.stop().assert_silent();
    // An address that is managed no more passes, and one that comes back is closed, whatever it was before.
    lease(&mut gate, LONG);
    gate.manage("eth0", &[]).expect("eth0 exists");
    stage.probe_during(WHILE).assert_lossless(&ask_for(&stage.vips));
    gate.manage("eth0", &by(VIPS, &stage.vips)).expect("eth0 exists");
    stage.probe_during(WHILE).assert_silent();
}

fn more_and_fewer_addresses() {
    let stage = Stage::new();
    let more = [ip("10.0.0.101"), ip("2001:db8::101")];
    add_address("eth0", "10.0.0.101", 24);
    add_address("eth0", "2001:db8::101", 64);
    let mut gate = closed_gate(&stage);
    lease(&mut gate, LONG);
    // The vips answer while it is done and afterwards; the others then do or do not.
    let mut step = |change: fn(&mut Gate, &[std::net::IpAddr]) -> io::Result<()>, open: bool| {
        let during = stage.probe();
        change(&mut gate, &more).expect("the gate stands");
        std::thread::sleep(WHILE);
        during.stop().assert_lossless(&ask_for(&stage.vips));
        let after = stage.probe_for(&more);
        std::thread::sleep(WHILE);
        let after = after.stop();
        if open { after.assert_lossless(&ask_for(&more)) } else { after.assert_silent() }
    };
    step(|_, _| Ok(()), true);
    step(|gate, more| gate.assign("eth0", &by(MORE, more)), false);
    // Those that are managed already are no error.
    step(|gate, more| gate.assign("eth0", &by(MORE, more)), false);
    step(
        |gate, _| gate.renew("eth0", MORE, Instant::now() + LONG).map(|renewal| assert_eq!(renewal, Renewal::Open)),
        true,
    );
    step(|gate, _| gate.end("eth0", MORE), false);
    step(|gate, more| gate.release("eth0", more), true);
    assert_eq!(gate.release("eth0", &more).map_err(|error| error.kind()), Err(io::ErrorKind::NotFound));
    assert_eq!(gate.assign("eth9", &by(MORE, &more)).map_err(|error| error.kind()), Err(io::ErrorKind::NotFound));
}

fn an_address_goes_to_another_lease() {
    let stage = Stage::new();
    let (v4, v6) = (stage.vips[0], stage.vips[1]);
    let mut gate = closed_gate(&stage);
    lease(&mut gate, LONG);
    // The one that stays answers all the time; the one that goes, only where it went to a lease that runs.
    let mut step = |change: &dyn Fn(&mut Gate), open: bool| {
        let during = stage.probe_for(&[v6]);
        change(&mut gate);
        std::thread::sleep(WHILE);
        during.stop().assert_lossless(&ask_for(&[v6]));
        let after = stage.probe_for(&[v4]);
        std::thread::sleep(WHILE);
        let after = after.stop();
        if open { after.assert_lossless(&ask_for(&[v4])) } else { after.assert_silent() }
    };
    let assign = |gate: &mut Gate, lease| {
        gate.assign("eth0", &[Managed { address: v4, lease }]).expect("the gate stands");
    };
    let renew = |gate: &mut Gate, lease| {
        assert_eq!(gate.renew("eth0", lease, Instant::now() + LONG).expect("the gate stands"), Renewal::Open);
    };
    step(&|gate| assign(gate, Some(MORE)), false);
    step(&|gate| renew(gate, MORE), true);
    step(&|gate| assign(gate, None), false);
    // A lease ended with the last of its addresses, and has to be opened for them.
    step(&|gate| assign(gate, Some(MORE)), false);
    step(&|gate| assign(gate, Some(VIPS)), true);
    step(&|gate| renew(gate, VIPS), true);
    assert_eq!(gate.owned("eth0").expect("the gate stands").len(), 2);
}

fn a_lease_is_inherited_by_its_addresses() {
    let stage = Stage::new();
    let mut gate = closed_gate(&stage);
    lease(&mut gate, LONG);
    let prober = stage.probe();
    drop(gate);
    let mut next = open_gate();
    next.manage("eth0", &by(MORE, &stage.vips)).expect("eth0 exists");
    assert_eq!(next.renew("eth0", MORE, Instant::now() + LONG).expect("the gate stands"), Renewal::Open);
    std::thread::sleep(WHILE);
    prober.stop().assert_lossless(&ask_for(&stage.vips));
    drop(next);
    // With an address beside that had no lease it is another lease.
    let mut next = open_gate();
    let more = [stage.vips.as_slice(), &[ip("10.0.0.101")]].concat();
    next.manage("eth0", &by(MORE, &more)).expect("eth0 exists");
    assert_eq!(next.owned("eth0").expect("the gate stands"), []);
    stage.probe_during(WHILE).assert_silent();
}

fn nothing_is_left_after_removal() {
    let stage = Stage::new();
    veth("eth1", "eth9", None);
    let other = TableMessage { attributes: vec![TableAttribute::Name("somebodys".to_owned())] };
    let mut others = Nftables::open().expect("this kernel has nftables");
    others.commit(vec![Change::new(families()[0], &NfTablesMessage::NewTable(other), 0x400)]).expect("a table");

    let mut gate = closed_gate(&stage);
    gate.manage("eth1", &by(VIPS, &[ip(VIP)])).expect("eth1 exists");
    assert_eq!(gate.interfaces().expect("tables can be listed"), ["eth0", "eth1"]);
    assert_eq!(tables(), ["somebodys", "vipd-eth0", "vipd-eth1"]);
    gate.remove_all().expect("the gates stand");
    assert_eq!(tables(), ["somebodys"]);
    stage.probe_during(WHILE).assert_lossless(&ask_for(&stage.vips));
    gate.remove_all().expect("nothing is to be removed");
    // What is left of an agent before this one goes, too.
    gate.manage("eth0", &by(VIPS, &stage.vips)).expect("eth0 exists");
    drop(gate);
    open_gate().remove_all().expect("the gate stands");
    assert_eq!(tables(), ["somebodys"]);
}

fn what_another_layer_left_is_removed() {
    let stage = Stage::new();
    for (one, other) in [(Layer::Netdev, Layer::InetArp), (Layer::InetArp, Layer::Netdev)] {
        let mut gate = Gate::open_in(one).expect("this kernel has both layers");
        gate.manage("eth0", &by(VIPS, &stage.vips)).expect("eth0 exists");
        let mut next = Gate::open_in(other).expect("this kernel has both layers");
        if gate.survives_flush() {
            let refused = next.remove_other_layers().expect_err("that agent still runs");
            assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied, "{refused}");
        }
        drop(gate);
        next.manage("eth0", &by(VIPS, &stage.vips)).expect("eth0 exists");
        lease(&mut next, LONG);
        stage.probe_during(WHILE).assert_silent();
        next.remove_other_layers().expect("that agent has ended");
        stage.probe_during(WHILE).assert_lossless(&ask_for(&stage.vips));
        next.remove_all().expect("the gate stands");
    }
}

/// All tables of the layer, sorted.
fn tables() -> Vec<String> {
    let all = NfTablesMessage::GetTable(TableMessage { attributes: Vec::new() });
    let mut nftables = Nftables::open().expect("this kernel has nftables");
    let list = |family| nftables.list(family, &all).expect("tables can be listed");
    let answers: Vec<_> = families().into_iter().flat_map(list).collect();
    let mut names: Vec<String> = answers
        .into_iter()
        .filter_map(|answer| match answer {
            NfTablesMessage::NewTable(message) => {
                message.attributes.into_iter().find_map(|attribute| match attribute {
                    TableAttribute::Name(name) => Some(name),
                    _ => None,
                })
            }
            _ => None,
        })
        .collect();
    names.sort();
    names.dedup();
    names
}

/// Those of the layer's tables.
fn families() -> Vec<NetfilterProtoFamily> {
    match layer() {
        Layer::Netdev => vec![NetfilterProtoFamily::NetDev],
        Layer::InetArp => vec![NetfilterProtoFamily::Inet, NetfilterProtoFamily::ARP],
    }
}

fn an_interface_that_comes_back() {
    let stage = Stage::new();
    let mut gate = closed_gate(&stage);
    lease(&mut gate, LONG);
    delete_link("eth0");
    println!("the gate stands without its interface: {}", gate.stands("eth0").expect("an answer"));
    // An end is told to whoever asks for it, whether the table went with the interface or not.
    println!("its end: {:?}", gate.end("eth0", VIPS));

    veth("eth0", "eth0", Some(&stage.client));
    add_address("eth0", "10.0.0.1", 24);
    add_address("eth0", "2001:db8::1", 64);
    set_up("eth0", true);
    add_address("eth0", VIP, 24);
    add_address("eth0", VIP6, 64);
    gate.manage("eth0", &by(VIPS, &stage.vips)).expect("eth0 is back");
    assert!(gate.stands("eth0").expect("an answer"));
    let client = stage.client;
    client.run(|| {
        add_address("eth0", "10.0.0.2", 24);
        add_address("eth0", "2001:db8::2", 64);
        set_up("eth0", true);
    });
    let stage = Stage::again(client);
    stage.probe_during(WHILE).assert_silent();
    lease(&mut gate, LONG);
    crate::support::eventually("the interface answers", || {
        let record = stage.probe_during(Duration::from_millis(20));
        ask_for(&stage.vips).iter().all(|question| record.answers(*question) > 0).then_some(())
    });
}

fn nobody_else_can_remove_it() {
    let stage = Stage::new();
    let mut gate = closed_gate(&stage);
    if !gate.survives_flush() {
        println!("this kernel has no persistent tables: anybody can");
        return;
    }
    let remove = TableMessage { attributes: vec![TableAttribute::Name("vipd-eth0".to_owned())] };
    let mut others = Nftables::open().expect("this kernel has nftables");
    let refused = others.commit(vec![Change::new(families()[0], &NfTablesMessage::DeleteTable(remove), 0)]);
    assert_eq!(refused.map_err(|error| error.kind()), Err(io::ErrorKind::PermissionDenied));
    let mut second = open_gate();
    let refused = second.manage("eth0", &by(VIPS, &stage.vips)).expect_err("the first agent still runs");
    assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied, "{refused}");
    lease(&mut gate, LONG);
    // Without a name all tables are meant: what `nft flush ruleset` asks for.
    let all = TableMessage { attributes: Vec::new() };
    others.commit(vec![Change::new(families()[0], &NfTablesMessage::DeleteTable(all), 0)]).expect("a flush");
    assert!(gate.stands("eth0").expect("an answer"));
    assert_eq!(gate.owned("eth0").expect("the gate stands").len(), 2);
}

fn one_that_was_removed_is_noticed() {
    let stage = Stage::new();
    let mut gate = closed_gate(&stage);
    lease(&mut gate, LONG);
    gate.unmanage("eth0").expect("the gate stands");
    assert!(!gate.stands("eth0").expect("an answer"));
    for refused in [gate.renew("eth0", VIPS, Instant::now() + LONG).map(drop), gate.end("eth0", VIPS)] {
        let refused = refused.expect_err("there is no gate");
        assert_eq!(refused.kind(), io::ErrorKind::NotFound, "{refused}");
    }
    stage.probe_during(WHILE).assert_lossless(&ask_for(&stage.vips));
}

/// Whoever looks for why an address does not answer lists the rules; what nft cannot word ends it before it shows any other table.
fn an_administrator_can_read_it() {
    let stage = Stage::new();
    let mut gate = closed_gate(&stage);
    lease(&mut gate, LONG);
    // Where Debian has it, for whose own path does without.
    let nft = ["/usr/sbin/nft", "nft"].map(|nft| Command::new(nft).args(["list", "ruleset"]).output());
    let Some(listed) = nft.into_iter().find_map(Result::ok) else {
        assert!(std::env::var_os("CI").is_none(), "nft is not installed");
        println!("NOT TRIED, because nft is not installed");
        return;
    };
    let text = String::from_utf8(listed.stdout).expect("nft writes UTF-8");
    assert!(listed.status.success(), "{}: {}", listed.status, String::from_utf8_lossy(&listed.stderr));
    for part in [VIP, VIP6, "vipd-eth0", "managed4", "leases6", "owned", "lease-1", "expires"] {
        assert!(text.contains(part), "{part} is missing in:\n{text}");
    }
}

fn an_unknown_interface() {
    let mut gate = open_gate();
    match gate.manage("eth7", &by(VIPS, &[ip(VIP)])) {
        Ok(()) => println!("accepted: the kernel waits for the interface"),
        Err(error) => assert_eq!((error.kind(), errno(&error)), (io::ErrorKind::NotFound, Some(2)), "{error}"),
    }
}
