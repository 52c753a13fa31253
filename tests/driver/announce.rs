use std::fs;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use vipd::driver::announce::Announcer;
use vipd::driver::errno;
use vipd::types::{MacAddr, VirtualAddress};

use crate::support::{add_address, echo, eventually, index, ip, mac, neighbour, pair, set_up, switched_pair};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("announce::changes_what_a_neighbour_knows_v4", || changes_what_a_neighbour_knows("10.0.0.100", 24)),
        trial("announce::changes_what_a_neighbour_knows_v6", || changes_what_a_neighbour_knows("2001:db8::100", 64)),
        trial("announce::a_thousand_addresses_take_under_10_ms", a_thousand_addresses_are_quick),
        trial("announce::a_long_announcement_arrives_whole", a_long_announcement_arrives_whole),
        trial("announce::an_interface_that_is_down_is_an_error", an_interface_that_is_down_is_an_error),
    ]
}

const ELSEWHERE: MacAddr = MacAddr(2, 0, 0, 0, 0, 0x99);

fn virtual_address(text: &str, prefix_len: u8) -> VirtualAddress {
    VirtualAddress { ip: ip(text), prefix_len, label: None }
}

fn changes_what_a_neighbour_knows(address: &str, prefix_len: u8) {
    let (_switch, client) = switched_pair();
    add_address("eth0", address, prefix_len);
    echo(&client, ip(address));
    assert_eq!(client.run(|| neighbour(ip(address))), Some(mac("eth0")));
    let announcer = Announcer::open().expect("an announcer");
    announcer.announce(index("eth0"), ELSEWHERE, &[virtual_address(address, prefix_len)]).expect("announced");
    let known = || client.run(|| neighbour(ip(address)));
    eventually("the neighbour believes it", || (known() == Some(ELSEWHERE)).then_some(()));
    // What was not announced is as it was.
    echo(&client, ip("10.0.0.1"));
    assert_eq!(client.run(|| neighbour(ip("10.0.0.1"))), Some(mac("eth0")));
}

fn many(count: usize) -> Vec<VirtualAddress> {
    (0..count).map(|n| virtual_address(&format!("10.1.{}.{}", n / 250, n % 250 + 1), 16)).collect()
}

/// Packets that arrived at `eth0` of the calling thread's host.
fn arrived() -> usize {
    let shown = fs::read_to_string("/proc/thread-self/net/dev").expect("interfaces are listed");
    let line = shown.lines().find_map(|line| line.trim().strip_prefix("eth0:")).expect("eth0 is there");
    line.split_whitespace().nth(1).and_then(|count| count.parse().ok()).expect("a count of packets")
}

fn a_thousand_addresses_are_quick() {
    let other = pair();
    let announcer = Announcer::open().expect("an announcer");
    let addresses = many(1_000);
    let before = other.run(arrived);
    let rounds = 5;
    let best = (0..rounds)
        .map(|_| {
            let start = Instant::now();
            announcer.announce(index("eth0"), mac("eth0"), &addresses).expect("announced");
            start.elapsed()
        })
        .min()
        .expect("some rounds");
    eprintln!("1,000 IPv4 addresses announced in {best:?}");
    eventually("all arrive", || (other.run(arrived) - before >= rounds * 2_000).then_some(()));
    // The best of some, because the machine under test does other things too; an unoptimised build is several times slower.
    assert!(best < Duration::from_millis(if cfg!(debug_assertions) { 50 } else { 10 }), "{best:?}");
}

fn a_long_announcement_arrives_whole() {
    let other = pair();
    let before = other.run(arrived);
    Announcer::open().and_then(|announcer| announcer.announce(index("eth0"), mac("eth0"), &many(3_001))).expect("sent");
    eventually("all arrive", || (other.run(arrived) - before >= 6_002).then_some(()));
}

fn an_interface_that_is_down_is_an_error() {
    let _other = pair();
    set_up("eth0", false);
    let announcer = Announcer::open().expect("an announcer");
    let error = announcer.announce(index("eth0"), ELSEWHERE, &many(100)).expect_err("it is down");
    assert_eq!(errno(&error), Some(libc::ENETDOWN));
    assert!(error.to_string().starts_with("cannot announce 02:00:00:00:00:99 beyond frame 0 of 200"), "{error}");
}
