use alloc::vec;
use core::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;
use crate::types::{AdvertInterval, Password, Priority, Version, Vrid};
use crate::wire::advert::{Advert, ChecksumForm, Endpoints, group};

const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const SOURCE_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1));
const STAMP: Stamp = Stamp { epoch: 5, link: 1, counter: 77 };

fn keys(byte: u8) -> Keys {
    Keys::new(Key::new(&[byte; 32]).unwrap(), None)
}

fn packet(source: IpAddr, version: Version, addresses: usize) -> Vec<u8> {
    let advert = Advert {
        version,
        vrid: Vrid::new(51).unwrap(),
        priority: Priority(100),
        interval: AdvertInterval::from_centiseconds(100).unwrap(),
        addresses: match source {
            IpAddr::V4(_) => vec![IpAddr::from([10, 0, 0, 100]); addresses],
            IpAddr::V6(_) => vec![IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, 0x51]); addresses],
        },
        password: (version == Version::V2).then_some(Password(*b"password")),
    };
    let mut bytes = Vec::new();
    let destination = group(Family::of(source));
    advert.emit(Endpoints { source, destination }, ChecksumForm::Rfc9568, &mut bytes);
    bytes
}

fn sealed(source: IpAddr, plain: &[u8]) -> Vec<u8> {
    let mut bytes = plain.to_vec();
    seal(&keys(1), source, STAMP, &mut bytes);
    assert_eq!(bytes.len(), plain.len() + TRAILER_LEN);
    bytes
}

#[test]
fn a_seal_comes_off_again_in_either_version_and_family() {
    for (source, version, most) in
        [(SOURCE, Version::V2, 255), (SOURCE, Version::V3, 255), (SOURCE_V6, Version::V3, 88)]
    {
        for addresses in [1, 2, most] {
            let plain = packet(source, version, addresses);
            assert_eq!(open(&keys(1), source, &sealed(source, &plain)), Ok((plain.as_slice(), Some(STAMP))));
            assert_eq!(open(&keys(1), source, &plain), Ok((plain.as_slice(), None)), "without one");
        }
    }
}

#[test]
fn the_most_addresses_fit_a_frame_and_one_more_does_not() {
    let len = |addresses| 40 + sealed(SOURCE_V6, &packet(SOURCE_V6, Version::V3, addresses)).len();
    assert!(len(MAX_LISTED_V6) <= 1500 && len(MAX_LISTED_V6 + 1) > 1500);
}

#[test]
fn a_seal_holds_for_its_source_address_only() {
    let plain = packet(SOURCE, Version::V3, 1);
    let other = IpAddr::from([10, 0, 0, 2]);
    assert_eq!(open(&keys(1), other, &sealed(SOURCE, &plain)), Err(DropReason::BadSeal));
}

#[test]
fn another_key_is_named_and_either_of_two_is_believed() {
    let bytes = sealed(SOURCE, &packet(SOURCE, Version::V3, 1));
    let [one, two] = [1, 2].map(|byte| Key::new(&[byte; 32]).unwrap());
    assert_eq!(open(&keys(2), SOURCE, &bytes), Err(DropReason::UnknownSealKey { id: one.id() }));
    assert!(open(&Keys::new(two, Some(one)), SOURCE, &bytes).is_ok());
}

proptest! {
    #[test]
    fn no_changed_bit_is_believed(at in 0..10_000_usize, v6: bool, addresses in 1..5_usize) {
        let source = if v6 { SOURCE_V6 } else { SOURCE };
        let plain = packet(source, Version::V3, addresses);
        let mut bytes = sealed(source, &plain);
        let bit = at % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        // A changed count or magic leaves no advert and no seal, which whoever reads it sees.
        let opened = open(&keys(1), source, &bytes);
        let is_refused = match opened {
            Ok((rest, None)) => rest.len() == bytes.len(),
            Ok((_, Some(_))) => false,
            Err(_) => true,
        };
        prop_assert!(is_refused, "{:?}", opened);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), v6: bool) {
        let source = if v6 { SOURCE_V6 } else { SOURCE };
        let opened = open(&keys(1), source, &bytes);
        prop_assert!(!matches!(opened, Ok((_, Some(_)))));
    }
}
