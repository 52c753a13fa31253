use alloc::vec;

use proptest::prelude::*;

use super::*;

fn keys(byte: u8) -> Keys {
    Keys::new(key(byte), None)
}

fn key(byte: u8) -> Key {
    Key::new(&[byte; 32]).unwrap()
}

fn message() -> Message<'static> {
    Message {
        kind: Kind::Of(Topic::Grant),
        sender: "db-a",
        receiver: Some("witness"),
        epoch: 1,
        token: 2,
        counter: 3,
        payload: b"lease",
    }
}

#[test]
fn a_key_has_32_to_128_bytes() {
    for len in 0..=200 {
        let key = Key::new(&vec![7; len]);
        assert_eq!(key.is_ok(), (32..=128).contains(&len), "{len}");
        assert!(key.is_ok() || key == Err(KeyLength { have: len }));
    }
}

#[test]
fn no_debug_output_shows_a_key() {
    let shown = alloc::format!("{:?}", Keys::new(key(0xab), Some(key(0xcd))));
    assert!(!shown.contains("abab") && !shown.contains("cdcd") && !shown.contains("171"), "{shown}");
}

#[test]
fn either_key_opens_and_the_first_one_seals() {
    let both = Keys::new(key(2), Some(key(1)));
    let sealed = message().emit(&keys(1));
    assert_eq!(Message::parse(&sealed, &both), Ok(message()));
    let sealed = message().emit(&both);
    assert_eq!(Message::parse(&sealed, &keys(2)), Ok(message()));
    assert_eq!(Message::parse(&sealed, &keys(1)), Err(SealError::UnknownKey { id: key(2).id() }));
}

#[test]
fn each_misdeed_has_its_name() {
    let good = message().emit(&keys(1));
    let refused = |change: &dyn Fn(&mut alloc::vec::Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        Message::parse(&bytes, &keys(1)).unwrap_err()
    };
    assert_eq!(refused(&|bytes| bytes.truncate(67)), SealError::TooShort { have: 67, need: 68 });
    assert_eq!(refused(&|bytes| bytes.resize(1453, 0)), SealError::TooLong { have: 1453 });
    assert_eq!(refused(&|bytes| bytes[0] = b'v'), SealError::BadMagic);
    assert_eq!(refused(&|bytes| bytes[4] = 2), SealError::UnknownVersion { version: 2 });
    assert!(matches!(refused(&|bytes| bytes[6] ^= 1), SealError::UnknownKey { .. }));
    assert_eq!(refused(&|bytes| bytes[5] = 2), SealError::BadTag);
    assert_eq!(refused(&|bytes| bytes.push(0)), SealError::BadTag);
}

/// What somebody who has the key seals, whatever it is.
fn sealed(change: impl Fn(&mut alloc::vec::Vec<u8>)) -> alloc::vec::Vec<u8> {
    let mut bytes = message().emit(&keys(1));
    bytes.truncate(bytes.len() - TAG_LEN);
    change(&mut bytes);
    let tag = key(1).tag_message(&bytes);
    bytes.extend(tag);
    bytes
}

#[test]
fn what_is_authentic_and_makes_no_sense_is_refused_too() {
    let refused = |bytes: &[u8]| Message::parse(bytes, &keys(1)).unwrap_err();
    assert_eq!(refused(&sealed(|bytes| bytes[5] = 9)), SealError::UnknownKind { kind: 9 });
    assert_eq!(refused(&sealed(|bytes| bytes[35] = b' ')), SealError::BadName);
    assert_eq!(refused(&sealed(|bytes| bytes[35] = 0xff)), SealError::BadName);
    assert!(matches!(refused(&sealed(|bytes| bytes[34] = 200)), SealError::TooShort { .. }));
    assert!(matches!(refused(&sealed(|bytes| bytes.truncate(39))), SealError::TooShort { .. }));
    // Nobody's own name is empty.
    let nameless = sealed(|bytes| drop(bytes.splice(34..39, [0])));
    assert_eq!(refused(&nameless), SealError::BadName);
}

#[test]
fn the_longest_message_fits_the_room() {
    let (sender, receiver) = ("a".repeat(255), "b".repeat(255));
    let payload = vec![0x5a; Message::room(&sender, &receiver)];
    let message = Message { sender: &sender, receiver: Some(&receiver), payload: &payload, ..message() };
    let bytes = message.emit(&keys(1));
    assert_eq!((bytes.len(), Message::parse(&bytes, &keys(1))), (MAX_LEN, Ok(message)));
}

#[test]
fn every_error_has_a_name_of_its_own() {
    let mut labels = SealError::LABELS;
    labels.sort_unstable();
    assert!(labels.windows(2).all(|pair| pair[0] != pair[1]));
}

proptest! {
    #[test]
    fn what_is_sealed_is_opened(
        sender in "[!-~]{1,255}", receiver in proptest::option::of("[!-~]{1,255}"),
        numbers: [u64; 3], payload in proptest::collection::vec(any::<u8>(), 0..800), hello: bool,
    ) {
        let [epoch, token, counter] = numbers;
        let kind = if hello { Kind::Hello } else { Kind::Of(Topic::Heartbeat) };
        let receiver = receiver.as_deref();
        let message = Message { kind, sender: &sender, receiver, epoch, token, counter, payload: &payload };
        let bytes = message.emit(&keys(1));
        prop_assert_eq!(Message::parse(&bytes, &keys(1)), Ok(message));
    }

    #[test]
    fn no_changed_bit_is_believed(at in 0..10_000_usize, payload in proptest::collection::vec(any::<u8>(), 0..64)) {
        let message = Message { payload: &payload, ..message() };
        let mut bytes = message.emit(&keys(1));
        let bit = at % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(Message::parse(&bytes, &keys(1)).is_err());
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), seal: bool) {
        let mut input = message().emit(&keys(1))[..10].to_vec();
        input.extend(&bytes);
        if seal {
            let tag = key(1).tag_message(&input);
            input.extend(tag);
        }
        if let Ok(message) = Message::parse(&input, &keys(1)) {
            prop_assert!(seal);
            prop_assert_eq!(message.emit(&keys(1)), input);
        }
    }
}
