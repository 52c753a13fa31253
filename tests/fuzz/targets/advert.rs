//! Any bytes as an advert: no panic, and what is taken is written back and read to the same value.
//!
//! The first byte chooses the family, and whether the checksum is made right first, which no mutation would hit.
#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use vipd::types::Family;
use vipd::wire::DropReason;
use vipd::wire::advert::{Advert, Endpoints, group};

fuzz_target!(|input: &[u8]| {
    let Some((choice, bytes)) = input.split_first() else { return };
    let source = match choice & 1 {
        0 => IpAddr::from([10, 20, 0, 1]),
        _ => IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, 1]),
    };
    let endpoints = Endpoints { source, destination: group(Family::of(source)) };
    let mut bytes = bytes.to_vec();
    let mut parsed = Advert::parse(&bytes, endpoints);
    if let (Err(DropReason::BadChecksum { expected, .. }), 2) = (&parsed, choice & 2) {
        bytes[6..8].copy_from_slice(&expected.to_be_bytes());
        parsed = Advert::parse(&bytes, endpoints);
        assert!(parsed.is_ok(), "the checksum that was expected is refused");
    }
    if let Ok((advert, form)) = parsed {
        let mut emitted = vec![0xa5; 64];
        advert.emit(endpoints, form, &mut emitted);
        let again = Advert::parse(&emitted, endpoints).expect("what is emitted is legal");
        assert!(again.0.addresses.len() <= advert.addresses.len());
        if Family::of(source) == Family::V4 {
            assert_eq!(again, (advert, form));
            assert_eq!(emitted.len(), bytes.len());
        }
    }
});
