//! Any bytes as an ARP packet: no panic, and what is taken is written back byte for byte.
//!
//! The first byte chooses whether the rest follows "Ethernet and IPv4", which mutation alone would hardly ever hit.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vipd::wire::arp::Arp;

fuzz_target!(|input: &[u8]| {
    let Some((choice, rest)) = input.split_first() else { return };
    let head: &[u8] = if choice & 1 == 0 { &[] } else { &[0, 1, 8, 0, 6, 4, 0] };
    let bytes = [head, rest].concat();
    if let Ok(arp) = Arp::parse(&bytes) {
        let mut frame = vec![0xa5; 64];
        arp.emit(&mut frame);
        assert_eq!(frame[14..], bytes[..28]);
    }
});
