use alloc::vec;

use proptest::prelude::*;

use super::*;

const V4: Endpoints = Endpoints { source: IpAddr::V4(Ipv4Addr::new(10, 20, 0, 1)), destination: IpAddr::V4(GROUP_V4) };
const V6: Endpoints =
    Endpoints { source: IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1)), destination: IpAddr::V6(GROUP_V6) };

fn advert(version: Version, family: Family, addresses: u8) -> Advert {
    let address = |last| match family {
        Family::V4 => IpAddr::from([10, 20, 0, last]),
        Family::V6 => IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(last)]),
    };
    Advert {
        version,
        vrid: Vrid::new(51).unwrap(),
        priority: Priority(150),
        interval: AdvertInterval::from_centiseconds(100).unwrap(),
        addresses: (0..addresses).map(address).collect(),
        password: None,
    }
}

fn emitted(advert: &Advert, endpoints: Endpoints, form: ChecksumForm) -> Vec<u8> {
    let mut out = vec![0xa5; 300];
    advert.emit(endpoints, form, &mut out);
    out
}

/// Version 3 over IPv4, two addresses: 16 bytes.
fn plain() -> Vec<u8> {
    emitted(&advert(Version::V3, Family::V4, 2), V4, ChecksumForm::Rfc9568)
}

/// Makes the checksum right again after a byte was changed, so that only the change can be what is refused.
fn with_byte(mut bytes: Vec<u8>, index: usize, value: u8, endpoints: Endpoints) -> Vec<u8> {
    bytes[index] = value;
    bytes[6..8].fill(0);
    let form = if endpoints.family() == Family::V4 { ChecksumForm::Rfc9568 } else { ChecksumForm::Rfc5798 };
    let sum = checksum_of(Version::V3, form, &bytes, endpoints);
    bytes[6..8].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// Each kind of packet that there is.
fn kinds() -> [(Advert, Endpoints, ChecksumForm); 5] {
    let v2 = advert(Version::V2, Family::V4, 2);
    let v2_password = Advert { password: Some(Password(*b"secret\0\0")), ..v2.clone() };
    let v3 = advert(Version::V3, Family::V4, 2);
    [
        (v2, V4, ChecksumForm::Rfc9568),
        (v2_password, V4, ChecksumForm::Rfc9568),
        (v3.clone(), V4, ChecksumForm::Rfc9568),
        (v3, V4, ChecksumForm::Rfc5798),
        (advert(Version::V3, Family::V6, 2), V6, ChecksumForm::Rfc9568),
    ]
}

#[test]
fn every_kind_survives_the_round_trip() {
    for (advert, endpoints, form) in kinds() {
        let bytes = emitted(&advert, endpoints, form);
        assert_eq!(Advert::parse(&bytes, endpoints), Ok((advert, form)));
    }
}

#[test]
fn every_prefix_of_every_kind_is_truncated() {
    for (advert, endpoints, form) in kinds() {
        let bytes = emitted(&advert, endpoints, form);
        for have in 0..bytes.len() {
            let need = if have < HEADER_LEN { HEADER_LEN } else { bytes.len() };
            assert_eq!(Advert::parse(&bytes[..have], endpoints), Err(DropReason::Truncated { have, need }));
        }
    }
}

#[test]
fn bytes_after_the_end_are_refused_in_every_kind() {
    for (advert, endpoints, form) in kinds() {
        let mut bytes = emitted(&advert, endpoints, form);
        let need = bytes.len();
        bytes.push(0);
        assert_eq!(Advert::parse(&bytes, endpoints), Err(DropReason::TrailingBytes { have: need + 1, need }));
    }
}

#[test]
fn every_flipped_bit_is_noticed_or_ignored_on_purpose() {
    for (advert, endpoints, form) in kinds() {
        let bytes = emitted(&advert, endpoints, form);
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Advert::parse(&bytes, endpoints).is_err(), "{advert:?} {form:?}: bit {bit}");
        }
    }
}

#[test]
fn refuses_other_versions_and_types() {
    for version in [0, 1, 4, 15] {
        let bytes = with_byte(plain(), 0, version << 4 | 1, V4);
        assert_eq!(Advert::parse(&bytes, V4), Err(DropReason::UnknownVersion { version }));
    }
    for kind in [0, 2, 15] {
        let bytes = with_byte(plain(), 0, 3 << 4 | kind, V4);
        assert_eq!(Advert::parse(&bytes, V4), Err(DropReason::UnknownType { kind }));
    }
}

#[test]
fn refuses_version_2_over_ipv6() {
    let bytes = emitted(&advert(Version::V3, Family::V6, 1), V6, ChecksumForm::Rfc9568);
    let bytes = with_byte(bytes, 0, 0x21, V6);
    assert_eq!(Advert::parse(&bytes, V6), Err(DropReason::UnknownVersion { version: 2 }));
}

#[test]
fn refuses_vrid_zero() {
    assert_eq!(Advert::parse(&with_byte(plain(), 1, 0, V4), V4), Err(DropReason::ZeroVrid));
}

#[test]
fn refuses_an_empty_list() {
    let bytes = with_byte(plain()[..8].to_vec(), 3, 0, V4);
    assert_eq!(Advert::parse(&bytes, V4), Err(DropReason::NoAddress));
}

#[test]
fn refuses_an_interval_of_zero() {
    assert_eq!(Advert::parse(&with_byte(plain(), 5, 0, V4), V4), Err(DropReason::ZeroInterval));
    let v2 = emitted(&advert(Version::V2, Family::V4, 1), V4, ChecksumForm::Rfc9568);
    assert_eq!(Advert::parse(&with_byte(v2, 5, 0, V4), V4), Err(DropReason::ZeroInterval));
}

#[test]
fn refuses_unknown_authentication() {
    let v2 = emitted(&advert(Version::V2, Family::V4, 1), V4, ChecksumForm::Rfc9568);
    for auth_type in [2, 255] {
        let bytes = with_byte(v2.clone(), 4, auth_type, V4);
        assert_eq!(Advert::parse(&bytes, V4), Err(DropReason::UnknownAuthType { auth_type }));
    }
}

#[test]
fn a_bad_checksum_tells_the_right_one() {
    let mut bytes = plain();
    let expected = u16::from_be_bytes([bytes[6], bytes[7]]);
    bytes[7] ^= 0x40;
    let found = u16::from_be_bytes([bytes[6], bytes[7]]);
    assert_eq!(Advert::parse(&bytes, V4), Err(DropReason::BadChecksum { found, expected }));
}

#[test]
fn the_pseudo_header_binds_the_endpoints() {
    let elsewhere = Endpoints { source: IpAddr::from([10, 20, 0, 2]), ..V4 };
    let with = emitted(&advert(Version::V3, Family::V4, 1), V4, ChecksumForm::Rfc5798);
    assert!(matches!(Advert::parse(&with, elsewhere), Err(DropReason::BadChecksum { .. })));
    assert!(Advert::parse(&plain(), elsewhere).is_ok());
}

#[test]
fn version_2_knows_no_pseudo_header() {
    let v2 = advert(Version::V2, Family::V4, 1);
    assert_eq!(emitted(&v2, V4, ChecksumForm::Rfc5798), emitted(&v2, V4, ChecksumForm::Rfc9568));
}

#[test]
fn either_zero_is_a_right_checksum() {
    // Addresses that make the sum over all else ffff, so that the field may be 0 or ffff.
    let mut bytes = plain();
    bytes[14..16].fill(0);
    bytes[6..8].fill(0);
    let rest = checksum::alone(&bytes).to_be_bytes();
    bytes[14..16].copy_from_slice(&rest);
    for zero in [0x00, 0xff] {
        bytes[6..8].fill(zero);
        assert!(Advert::parse(&bytes, V4).is_ok(), "{zero:#x}");
    }
}

#[test]
fn reserved_bits_and_unused_authentication_data_are_ignored() {
    let expected = advert(Version::V3, Family::V4, 2);
    let bytes = with_byte(plain(), 4, 0xf0, V4);
    assert_eq!(Advert::parse(&bytes, V4), Ok((expected, ChecksumForm::Rfc9568)));

    let v2 = advert(Version::V2, Family::V4, 1);
    let bytes = with_byte(emitted(&v2, V4, ChecksumForm::Rfc9568), 12, 0x77, V4);
    assert_eq!(Advert::parse(&bytes, V4), Ok((v2, ChecksumForm::Rfc9568)));
}

#[test]
fn no_more_addresses_are_listed_than_there_is_room_for() {
    let v4: Vec<IpAddr> =
        (0..1000_u16).map(|n| IpAddr::from([10, 1, n.to_be_bytes()[0], n.to_be_bytes()[1]])).collect();
    let full = Advert { addresses: v4.clone(), ..advert(Version::V3, Family::V4, 0) };
    let bytes = emitted(&full, V4, ChecksumForm::Rfc9568);
    let (parsed, _) = Advert::parse(&bytes, V4).unwrap();
    assert_eq!(parsed.addresses, v4[..255]);

    let v6: Vec<IpAddr> = (0..1000_u16).map(|n| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, n])).collect();
    let full = Advert { addresses: v6.clone(), ..advert(Version::V3, Family::V6, 0) };
    let bytes = emitted(&full, V6, ChecksumForm::Rfc9568);
    assert!(40 + bytes.len() <= 1500 && 40 + bytes.len() + 16 > 1500);
    let (parsed, _) = Advert::parse(&bytes, V6).unwrap();
    assert_eq!(parsed.addresses, v6[..90]);
}

#[test]
fn an_interval_that_the_version_cannot_say_is_sent_longer() {
    let interval = |centiseconds| AdvertInterval::from_centiseconds(centiseconds).unwrap();
    for (version, asked, sent) in [
        (Version::V2, 10, 100),
        (Version::V2, 101, 200),
        (Version::V2, 25_500, 25_500),
        (Version::V3, 1, 1),
        (Version::V3, 4095, 4095),
        (Version::V3, 4096, 4095),
    ] {
        let advert = Advert { interval: interval(asked), ..advert(version, Family::V4, 1) };
        let bytes = emitted(&advert, V4, ChecksumForm::Rfc9568);
        assert_eq!(Advert::parse(&bytes, V4).unwrap().0.interval, interval(sent), "{version:?} {asked}");
    }
}

fn any_advert() -> impl Strategy<Value = (Advert, Endpoints, ChecksumForm)> {
    let form = prop_oneof![Just(ChecksumForm::Rfc9568), Just(ChecksumForm::Rfc5798)];
    let head = (1..=255_u8, any::<u8>(), 1..=4095_u16, 1..=255_u16, any::<Option<[u8; 8]>>(), form);
    let v4 = (any::<[u8; 4]>(), any::<[u8; 4]>(), prop::collection::vec(any::<[u8; 4]>(), 1..=MAX_LISTED_V4));
    let v6 = (any::<[u8; 16]>(), any::<[u8; 16]>(), prop::collection::vec(any::<[u8; 16]>(), 1..=MAX_LISTED_V6));
    (head, 0..3_u8, v4, v6).prop_map(|((vrid, priority, short, long, password, form), kind, v4, v6)| {
        let (version, centiseconds) = if kind == 0 { (Version::V2, long * 100) } else { (Version::V3, short) };
        let (source, destination, addresses): (IpAddr, IpAddr, Vec<IpAddr>) = match kind {
            2 => (v6.0.into(), v6.1.into(), v6.2.into_iter().map(IpAddr::from).collect()),
            _ => (v4.0.into(), v4.1.into(), v4.2.into_iter().map(IpAddr::from).collect()),
        };
        let advert = Advert {
            version,
            vrid: Vrid::new(vrid).unwrap(),
            priority: Priority(priority),
            interval: AdvertInterval::from_centiseconds(centiseconds).unwrap(),
            addresses,
            password: password.filter(|_| kind == 0).map(Password),
        };
        (advert, Endpoints { source, destination }, form)
    })
}

proptest! {
    #[test]
    fn whatever_is_emitted_is_parsed_to_the_same((advert, endpoints, form) in any_advert()) {
        let bytes = emitted(&advert, endpoints, form);
        let (parsed, held) = Advert::parse(&bytes, endpoints).unwrap();
        // Both forms hold where the pseudo-header adds up to nothing.
        let choice = advert.version == Version::V3 && endpoints.family() == Family::V4;
        prop_assert!(!choice || held == form || checksum_of(advert.version, held, &bytes, endpoints) == 0);
        prop_assert_eq!(parsed, advert);
    }

    #[test]
    fn random_bytes_never_panic_and_what_is_taken_is_legal(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        mut head in any::<[u8; 8]>(),
        sane in any::<bool>(),
        v6 in any::<bool>(),
    ) {
        let endpoints = if v6 { V6 } else { V4 };
        // And the same, led past the first checks.
        if sane {
            head[0] = if head[0] % 2 == 0 { 0x21 } else { 0x31 };
            head[3] = u8::try_from(bytes.len() / address_len(endpoints.family())).unwrap_or(u8::MAX);
        }
        for bytes in [&bytes, &[&head[..], &bytes].concat()] {
            if let Ok((advert, form)) = Advert::parse(bytes, endpoints) {
                let again = emitted(&advert, endpoints, form);
                prop_assert_eq!(Advert::parse(&again, endpoints), Ok((advert, form)));
            }
        }
    }
}
