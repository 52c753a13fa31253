//! Golden packets, made by scapy and read by tshark (`tests/golden/packets/`), and golden grant messages, made by a script that
//! knows nothing of this code (`tests/golden/grant/`): bytes to value, value to the same bytes.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::Duration;

use vipd::types::{AdvertInterval, Family, MacAddr, Password, Priority, Version, Vrid};
use vipd::wire::advert::{Advert, ChecksumForm, Endpoints, group};
use vipd::wire::arp::Arp;
use vipd::wire::frame;
use vipd::wire::grant::{self, Ask, Challenger, GrantMessage, Release, Reply, RouterId, Stamp, Verdict};
use vipd::wire::ndisc::{NeighborAdvertisement, NeighborProbe};

const HOST_MAC: MacAddr = MacAddr(0x02, 0x11, 0x22, 0x33, 0x44, 0x55);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 20, 0, 100);
const ADDRESS_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x20, 0, 0, 0, 0, 0x100);

/// What a golden packet says.
enum Golden {
    Advert(Advert, ChecksumForm),
    Arp(Arp),
    Advertisement(NeighborAdvertisement),
    /// Sent and never read.
    Probe(NeighborProbe),
}

#[test]
fn every_golden_packet_is_read_and_written_byte_for_byte() {
    let mut files = golden_files("packets", "txt", bytes_of);
    for (name, golden) in expected() {
        let bytes = files.remove(name).unwrap_or_else(|| panic!("{name}.txt is missing"));
        // What was there before must not shine through.
        let mut emitted = vec![0xa5; 200];
        match golden {
            Golden::Advert(advert, form) => {
                let family = Family::of(advert.addresses[0]);
                let (source, payload) = match family {
                    Family::V4 => (IpAddr::from([10, 20, 0, 1]), &bytes[34..]),
                    Family::V6 => (IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, 1]), &bytes[54..]),
                };
                let endpoints = Endpoints { source, destination: group(family) };
                assert_eq!(Advert::parse(payload, endpoints), Ok((advert.clone(), form)), "{name}");
                frame::emit_advert(&advert, form, advert.vrid.virtual_mac(family), source, &mut emitted);
            }
            Golden::Arp(arp) => {
                assert_eq!(Arp::parse(&bytes[14..]), Ok(arp), "{name}");
                arp.emit(&mut emitted);
            }
            Golden::Advertisement(advertisement) => {
                assert_eq!(NeighborAdvertisement::parse(&bytes[14..]), Ok(advertisement), "{name}");
                advertisement.emit(HOST_MAC, &mut emitted);
            }
            Golden::Probe(probe) => probe.emit(HOST_MAC, &mut emitted),
        }
        assert_eq!(emitted, bytes, "{name}: left is what this code writes, right what is golden");
    }
    assert!(files.is_empty(), "golden packets that nothing reads: {:?}", files.keys());
}

fn expected() -> [(&'static str, Golden); 11] {
    use ChecksumForm::{Rfc5798, Rfc9568};
    let two = || vec![IpAddr::V4(ADDRESS), IpAddr::from([10, 20, 0, 101])];
    let two_v6 = || vec![IpAddr::V6(vrid().derived_link_local()), IpAddr::V6(ADDRESS_V6)];
    let one = || vec![IpAddr::V4(ADDRESS)];
    let v2 = advert(Version::V2, 150, 100, two());
    let with_password = Advert { password: Some(Password(*b"secret\0\0")), ..advert(Version::V2, 150, 300, one()) };
    let v3 = advert(Version::V3, 150, 100, two());
    [
        ("v2-no-auth", Golden::Advert(v2, Rfc9568)),
        ("v2-password", Golden::Advert(with_password, Rfc9568)),
        ("v3-ipv4-rfc9568", Golden::Advert(v3.clone(), Rfc9568)),
        ("v3-ipv4-rfc5798", Golden::Advert(v3, Rfc5798)),
        ("v3-ipv4-resign", Golden::Advert(advert(Version::V3, 0, 1, one()), Rfc9568)),
        ("v3-ipv6", Golden::Advert(advert(Version::V3, 255, 4095, two_v6()), Rfc9568)),
        ("arp-gratuitous-request", Golden::Arp(Arp::gratuitous_request(HOST_MAC, ADDRESS))),
        ("arp-gratuitous-reply", Golden::Arp(Arp::gratuitous_reply(HOST_MAC, ADDRESS))),
        ("arp-probe", Golden::Arp(Arp::probe(HOST_MAC, ADDRESS))),
        (
            "nd-unsolicited-advertisement",
            Golden::Advertisement(NeighborAdvertisement::unsolicited(HOST_MAC, ADDRESS_V6)),
        ),
        ("nd-probe", Golden::Probe(NeighborProbe { target: ADDRESS_V6 })),
    ]
}

fn advert(version: Version, priority: u8, centiseconds: u16, addresses: Vec<IpAddr>) -> Advert {
    Advert {
        version,
        vrid: vrid(),
        priority: Priority(priority),
        interval: AdvertInterval::from_centiseconds(centiseconds).expect("an interval of version 3"),
        addresses,
        password: None,
    }
}

fn vrid() -> Vrid {
    Vrid::new(51).expect("not 0")
}

#[test]
fn every_golden_grant_message_is_read_and_written_byte_for_byte() {
    let mut files = golden_files("grant", "hex", digits_of);
    for (name, message) in grant_messages() {
        let bytes = files.remove(name).unwrap_or_else(|| panic!("{name}.hex is missing"));
        let mut emitted = Vec::new();
        message.emit(&mut emitted);
        assert_eq!(emitted, bytes, "{name}: left is what this code writes, right what is golden");
        assert_eq!(grant::parse(&bytes), Ok(vec![message]), "{name}");
    }
    assert!(files.is_empty(), "golden messages that nothing reads: {:?}", files.keys());
}

fn grant_messages() -> [(&'static str, GrantMessage); 11] {
    const STAMP: Stamp = Stamp(0x0102_0304_0506_0708);
    let ms = Duration::from_millis;
    let router = || RouterId { cluster: "db".into(), vrid: vrid() };
    let ask = |challenge| Ask { router: router(), stamp: STAMP, length: ms(300), challenge };
    let reply = |verdict| GrantMessage::Reply(Reply { router: router(), stamp: STAMP, verdict });
    let challenger = Challenger { name: "db-a".into(), priority: Priority(150) };
    [
        ("ask", GrantMessage::Ask(ask(None))),
        ("ask-challenge", GrantMessage::Ask(ask(Some(Priority(150))))),
        ("granted", reply(Verdict::Granted { length: ms(300), challenger: None })),
        ("granted-challenged", reply(Verdict::Granted { length: ms(300), challenger: Some(challenger) })),
        ("refused", reply(Verdict::Refused { holder: "db-b".into(), remaining: ms(120) })),
        ("starting", reply(Verdict::Starting { remaining: ms(2_900) })),
        ("too-long", reply(Verdict::TooLong { longest: ms(3_000) })),
        ("full", reply(Verdict::Full)),
        ("release", GrantMessage::Release(Release { router: router(), stamp: STAMP })),
        ("roll-call", GrantMessage::RollCall { stamp: STAMP }),
        ("present", GrantMessage::Present { stamp: STAMP, wait: ms(2_900) }),
    ]
}

/// The bytes of each file of a folder, under its name.
fn golden_files(folder: &str, extension: &str, bytes_of: fn(&str) -> Vec<u8>) -> BTreeMap<String, Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(folder);
    let mut files = BTreeMap::new();
    for entry in folder.read_dir().expect("golden files are in the repository") {
        let path = entry.expect("a readable folder").path();
        if path.extension().is_some_and(|it| it == extension) {
            let name = path.file_stem().expect("it has an extension").to_string_lossy().into_owned();
            let text = std::fs::read_to_string(&path).expect("a readable file");
            files.insert(name, bytes_of(&text));
        }
    }
    files
}

/// Hexadecimal digits, with white space anywhere.
fn digits_of(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pairs = digits.chunks(2).map(|pair| std::str::from_utf8(pair).expect("ASCII"));
    pairs.map(|pair| u8::from_str_radix(pair, 16).expect("two hexadecimal digits")).collect()
}

/// Lines of an offset, hexadecimal bytes, and a remark from `#` on.
fn bytes_of(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        if let Some(offset) = words.next() {
            assert_eq!(offset.parse(), Ok(bytes.len()), "offset of {line:?}");
            bytes.extend(words.map(|byte| u8::from_str_radix(byte, 16).expect("two hexadecimal digits")));
        }
    }
    bytes
}
