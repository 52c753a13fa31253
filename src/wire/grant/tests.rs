use proptest::prelude::*;

use super::*;

fn router() -> RouterId {
    RouterId { cluster: "db".into(), vrid: Vrid::new(51).unwrap() }
}

const STAMP: Stamp = Stamp(0x0102_0304_0506_0708);

fn all() -> Vec<GrantMessage> {
    let ms = Duration::from_millis;
    let ask = |challenge| Ask { router: router(), stamp: STAMP, length: ms(300), challenge };
    let reply = |verdict| GrantMessage::Reply(Reply { router: router(), stamp: STAMP, verdict });
    let challenger = Challenger { name: "db-a".into(), priority: Priority(150) };
    vec![
        GrantMessage::Ask(ask(None)),
        GrantMessage::Ask(ask(Some(Priority(150)))),
        reply(Verdict::Granted { length: ms(300), challenger: None }),
        reply(Verdict::Granted { length: ms(300), challenger: Some(challenger) }),
        reply(Verdict::Refused { holder: "db-b".into(), remaining: ms(120) }),
        reply(Verdict::Starting { remaining: ms(2_900) }),
        reply(Verdict::TooLong { longest: ms(3_000) }),
        reply(Verdict::Full),
        GrantMessage::Release(Release { router: router(), stamp: STAMP }),
        GrantMessage::RollCall { stamp: STAMP },
        GrantMessage::Present { stamp: STAMP, wait: ms(2_900) },
    ]
}

fn emitted<'a>(messages: impl IntoIterator<Item = &'a GrantMessage>) -> Vec<u8> {
    let mut payload = Vec::new();
    for message in messages {
        let before = payload.len();
        message.emit(&mut payload);
        assert_eq!(payload.len() - before, message.emitted_len(), "{message:?}");
    }
    payload
}

#[test]
fn a_payload_carries_many_messages() {
    let messages = all();
    assert_eq!(parse(&emitted(&messages)), Ok(messages));
    assert_eq!(parse(&[]), Ok(vec![]));
}

#[test]
fn a_payload_that_is_cut_short_is_refused_whole() {
    let messages = all();
    let payload = emitted(&messages);
    let ends: Vec<usize> = (0..=messages.len()).map(|count| emitted(&messages[..count]).len()).collect();
    for length in 0..payload.len() {
        let cut = parse(&payload[..length]);
        match ends.iter().position(|end| *end == length) {
            Some(count) => assert_eq!(cut, Ok(messages[..count].to_vec())),
            None => assert!(matches!(cut, Err(GrantError::Truncated { .. })), "{length}: {cut:?}"),
        }
    }
}

#[test]
fn what_is_wrong_is_named() {
    assert_eq!(parse(&[9, 0, 0]), Err(GrantError::UnknownKind { kind: 9 }));
    let mut release = emitted([&all()[8]]);
    release[2] += 1;
    release.push(0);
    assert_eq!(parse(&release), Err(GrantError::Overlong { extra: 1 }));
    let mut full = emitted([&all()[7]]);
    *full.last_mut().unwrap() = 99;
    assert_eq!(parse(&full), Err(GrantError::UnknownVerdict { verdict: 99 }));
    let mut ask = emitted([&all()[0]]);
    ask[6] = 0;
    assert_eq!(parse(&ask), Err(GrantError::NoVrid));
    ask[4] = 0xff;
    assert_eq!(parse(&ask), Err(GrantError::BadName));
    assert_eq!(parse(&[3, 0, 10, 0, 51, 0, 0, 0, 0, 0, 0, 0, 0]), Err(GrantError::BadName));
}

proptest! {
    #[test]
    fn no_bytes_are_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(messages) = parse(&bytes) {
            prop_assert_eq!(parse(&emitted(&messages)), Ok(messages));
        }
    }

    #[test]
    fn a_message_with_a_flipped_bit_is_another_or_none(place in 0_usize..400, bit in 0_u8..8) {
        let messages = all();
        let mut payload = emitted(&messages);
        let place = place % payload.len();
        payload[place] ^= 1 << bit;
        prop_assert_ne!(parse(&payload), Ok(messages));
    }
}
