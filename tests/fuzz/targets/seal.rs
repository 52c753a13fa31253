//! Any bytes as a sealed message, and behind an advert as its seal: no panic, and what is believed is written back byte for byte.
//!
//! The first byte chooses whether the rest is sealed with the key, which no fuzzer would ever find, and then taken by a node too.
#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use vipd::engine::Instant;
use vipd::engine::session::Sessions;
use vipd::wire::seal::{Key, Keys, Kind, Message};
use vipd::wire::sealed_advert;

fuzz_target!(|input: &[u8]| {
    let keys = Keys::new(Key::new(&[1; 32]).expect("32 bytes"), None);
    let Some((choice, rest)) = input.split_first() else { return };
    if choice & 1 == 0 {
        assert!(Message::parse(rest, &keys).is_err(), "nobody guesses a tag");
        for source in [IpAddr::from([10, 0, 0, 1]), IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, 1])] {
            assert!(!matches!(sealed_advert::open(&keys, source, rest), Ok((_, Some(_)))), "nor that of an advert");
        }
        return;
    }
    // A hello of somebody who has the key, with any content.
    let message =
        Message { kind: Kind::Hello, sender: "a", receiver: None, epoch: 1, token: 0, counter: 1, payload: rest };
    if rest.len() > Message::room("a", "") {
        return;
    }
    let bytes = message.emit(&keys);
    assert_eq!(Message::parse(&bytes, &keys), Ok(message));
    let mut node = Sessions::new("b", keys, [7; 32]);
    let _ = node.open(Instant::ZERO, 0, &bytes);
    assert_eq!(node.peers().count(), 0, "nobody is known by a hello to all");
});
