use alloc::string::ToString;

use super::*;
use crate::wire::seal::Key;

fn keys(byte: u8) -> Keys {
    Keys::new(Key::new(&[byte; 32]).unwrap(), None)
}

/// A life of a node.
fn life(name: &str, number: u8) -> Sessions {
    Sessions::new(name, keys(1), [number; 32])
}

fn at(ms: u64) -> Instant {
    Instant::from_nanos(ms * 1_000_000)
}

/// Carries a datagram to a node, and the replies back and forth until there are none. What the receiver made of it, and
/// whether the sender's session was opened.
fn carry<'a>(now: Instant, from: &mut Sessions, to: &mut Sessions, bytes: &'a [u8]) -> Result<Opened<'a>, SealError> {
    let Opening { outcome, mut reply } = to.open(now, 0, bytes);
    let mut hops = 0;
    while let Some(bytes) = reply {
        reply = if hops % 2 == 0 { from.open(now, 0, &bytes).reply } else { to.open(now, 0, &bytes).reply };
        hops += 1;
        assert!(hops < 8, "hellos go back and forth for ever");
    }
    outcome
}

/// Two nodes that believe each other.
fn pair() -> (Sessions, Sessions) {
    let (mut a, mut b) = (life("a", 1), life("b", 2));
    let hello = a.hello(Some("b"));
    carry(at(0), &mut a, &mut b, &hello).unwrap();
    assert!(a.can_send("b") && b.can_send("a"));
    (a, b)
}

const HEARTBEAT: Topic = Topic::Heartbeat;

fn message<'a>(sender: &'a str, payload: &'a [u8]) -> Result<Opened<'a>, SealError> {
    Ok(Opened::Message { sender, topic: HEARTBEAT, payload })
}

#[test]
fn one_hello_opens_both_ways() {
    let (mut a, mut b) = pair();
    let bytes = a.seal("b", HEARTBEAT, b"one").unwrap();
    assert_eq!(b.open(at(1), 0, &bytes).outcome, message("a", b"one"));
    let bytes = b.seal("a", HEARTBEAT, b"two").unwrap();
    assert_eq!(a.open(at(1), 0, &bytes).outcome, message("b", b"two"));
}

#[test]
fn a_hello_to_whoever_hears_it_finds_the_others() {
    let (mut a, mut b, mut c) = (life("a", 1), life("b", 2), life("c", 3));
    let hello = a.hello(None);
    for other in [&mut b, &mut c] {
        carry(at(0), &mut a, other, &hello).unwrap();
    }
    assert!(a.can_send("b") && a.can_send("c") && b.can_send("a"));
}

#[test]
fn without_a_session_nothing_is_sealed() {
    assert_eq!(life("a", 1).seal("b", HEARTBEAT, b"one"), Err(Unsealed::NoSession));
    let (mut a, _) = pair();
    let room = a.room("b");
    assert!(a.seal("b", HEARTBEAT, &vec![0; room]).is_ok());
    assert_eq!(a.seal("b", HEARTBEAT, &vec![0; room + 1]), Err(Unsealed::TooLong { have: room + 1, room }));
}

#[test]
fn nothing_is_believed_twice_and_order_may_change() {
    let (mut a, mut b) = pair();
    let sent: Vec<_> = (0..64).map(|n| a.seal("b", HEARTBEAT, &[n]).unwrap()).collect();
    for (n, bytes) in sent.iter().enumerate().rev() {
        assert!(b.open(at(1), 0, bytes).outcome.is_ok(), "{n} of 64, backwards");
    }
    for bytes in &sent {
        let Opening { outcome, reply } = b.open(at(50), 0, bytes);
        assert!(matches!(outcome, Err(SealError::Replayed { .. })) && reply.is_none(), "{outcome:?}");
    }
}

#[test]
fn what_is_older_than_the_window_is_not_believed() {
    let (mut a, mut b) = pair();
    let old = a.seal("b", HEARTBEAT, b"old").unwrap();
    let sent: Vec<_> = (0..64).map(|_| a.seal("b", HEARTBEAT, b"new").unwrap()).collect();
    assert!(b.open(at(1), 0, &sent[63]).outcome.is_ok());
    assert!(matches!(b.open(at(1), 0, &old).outcome, Err(SealError::Replayed { .. })), "64 behind");
    assert!(b.open(at(1), 0, &sent[0]).outcome.is_ok(), "63 behind");
}

#[test]
fn a_receivers_restart_costs_one_round_trip() {
    let (mut a, _) = pair();
    let mut b = life("b", 3);
    let bytes = a.seal("b", HEARTBEAT, b"one").unwrap();
    let Opening { outcome, reply } = b.open(at(1), 0, &bytes);
    assert_eq!(outcome, Err(SealError::NoSession));
    let reply = reply.expect("a hello");
    let opening = a.open(at(2), 0, &reply);
    assert_eq!(opening.outcome, Ok(Opened::Hello { sender: "b", opened: true, fresh: true }));
    let bytes = a.seal("b", HEARTBEAT, b"two").unwrap();
    assert_eq!(b.open(at(3), 0, &bytes).outcome, message("a", b"two"));
    let reply = opening.reply.expect("b asked for a session too");
    assert!(b.open(at(3), 0, &reply).outcome.is_ok() && b.can_send("a"));
}

#[test]
fn a_senders_restart_ends_its_old_session_for_ever() {
    let (mut a, mut b) = pair();
    let (first, unseen) = (a.seal("b", HEARTBEAT, b"one").unwrap(), a.seal("b", HEARTBEAT, b"unseen").unwrap());
    b.open(at(1), 0, &first).outcome.unwrap();

    let mut reborn = life("a", 9);
    let hello = reborn.hello(Some("b"));
    carry(at(20), &mut reborn, &mut b, &hello).unwrap();
    let bytes = reborn.seal("b", HEARTBEAT, b"again").unwrap();
    assert_eq!(b.open(at(21), 0, &bytes).outcome, message("a", b"again"));
    for old in [&first, &unseen] {
        assert_eq!(b.open(at(40), 0, old).outcome, Err(SealError::StaleSession));
    }
    // Nor does what the old life was told help it back.
    let bytes = reborn.seal("b", HEARTBEAT, b"still").unwrap();
    assert_eq!(b.open(at(41), 0, &bytes).outcome, message("a", b"still"));
}

#[test]
fn until_the_new_session_is_used_the_old_one_holds() {
    let (mut a, mut b) = pair();
    let hello = life("a", 9).hello(Some("b"));
    b.open(at(20), 0, &hello).outcome.unwrap();
    let bytes = a.seal("b", HEARTBEAT, b"one").unwrap();
    assert_eq!(
        b.open(at(21), 0, &bytes).outcome,
        message("a", b"one"),
        "a recorded hello of another life ends nothing"
    );
}

#[test]
fn a_recorded_answer_moves_no_session() {
    let (mut a, mut b) = pair();
    // b's life ends, and with it its token; what it answered was recorded.
    let hello = a.hello(Some("b"));
    let recorded = b.open(at(20), 0, &hello).reply.expect("an answer");
    a.open(at(20), 0, &recorded).outcome.unwrap();
    let mut reborn = life("b", 3);
    let bytes = a.seal("b", HEARTBEAT, b"one").unwrap();
    let reply = reborn.open(at(21), 0, &bytes).reply.expect("an answer");
    a.open(at(22), 0, &reply).outcome.unwrap();

    assert_eq!(a.open(at(23), 0, &recorded).outcome, Err(SealError::StaleHello));
    let bytes = a.seal("b", HEARTBEAT, b"two").unwrap();
    assert_eq!(reborn.open(at(24), 0, &bytes).outcome, message("a", b"two"));
}

#[test]
fn an_answer_that_was_overtaken_does_not_bring_the_old_token_back() {
    let (mut a, mut b) = pair();
    let hello = a.hello(Some("b"));
    let late = b.open(at(20), 0, &hello).reply.expect("an answer");
    let mut reborn = life("b", 3);
    let bytes = a.seal("b", HEARTBEAT, b"one").unwrap();
    let reply = reborn.open(at(21), 0, &bytes).reply.expect("an answer");
    a.open(at(22), 0, &reply).outcome.unwrap();

    let opened = a.open(at(23), 0, &late).outcome;
    assert_eq!(opened, Ok(Opened::Hello { sender: "b", opened: false, fresh: true }), "new, but of an older question");
    let bytes = a.seal("b", HEARTBEAT, b"two").unwrap();
    assert_eq!(reborn.open(at(24), 0, &bytes).outcome, message("a", b"two"));
}

#[test]
fn a_message_is_for_one_receiver() {
    let (mut a, mut b) = pair();
    let mut c = life("c", 3);
    let hello = a.hello(Some("c"));
    carry(at(0), &mut a, &mut c, &hello).unwrap();
    let to_c = a.seal("c", HEARTBEAT, b"one").unwrap();
    assert_eq!(b.open(at(1), 0, &to_c).outcome, Err(SealError::NotForUs));
    let to_b = a.seal("b", HEARTBEAT, b"one").unwrap();
    assert_eq!(a.open(at(1), 0, &to_b).outcome, Err(SealError::OwnName), "its own message, sent back");
}

#[test]
fn hellos_are_answered_once_in_10_ms_for_each_sender_and_interface() {
    let mut b = life("b", 2);
    let mut a = life("a", 1);
    let hellos: Vec<_> = (0..1_000).map(|_| a.hello(Some("b"))).collect();
    let mut answers = 0;
    for (n, hello) in (0_u64..).zip(&hellos) {
        let now = Instant::from_nanos(n * 100_000);
        answers += u32::from(b.open(now, 0, hello).reply.is_some());
    }
    assert_eq!(answers, 10, "1,000 hellos in 100 ms");
    let more = a.hello(Some("b"));
    assert!(b.open(at(100), 0, &more).reply.is_some());
    let more = a.hello(Some("b"));
    assert!(b.open(at(101), 0, &more).reply.is_none() && b.open(at(101), 1, &more).reply.is_some());
}

#[test]
fn who_repeats_a_hello_takes_no_answer_from_its_sender() {
    let (mut a, mut b) = (life("a", 1), life("b", 2));
    let recorded = a.hello(Some("b"));
    assert!(b.open(at(0), 0, &recorded).reply.is_some());
    for ms in 1..1_000 {
        assert!(b.open(at(ms), 0, &recorded).reply.is_none());
    }
    let hello = a.hello(Some("b"));
    assert!(b.open(at(1_000), 0, &hello).reply.is_some());
}

#[test]
fn keys_are_changed_under_way() {
    let (mut a, mut b) = pair();
    let [old, new] = [1, 2].map(|byte| Key::new(&[byte; 32]).unwrap());
    let say = |from: &mut Sessions, to: &mut Sessions, name: &str| {
        let bytes = from.seal(name, HEARTBEAT, b"on").unwrap();
        to.open(at(1), 0, &bytes).outcome.map(|_| ())
    };
    // Each step at one node after the other, and all the while both are believed.
    let believed = Keys::new(old.clone(), Some(new.clone()));
    let moved = Keys::new(new.clone(), Some(old));
    let done = Keys::new(new, None);
    for keys in [believed, moved, done] {
        a.set_keys(keys.clone());
        assert_eq!((say(&mut a, &mut b, "b"), say(&mut b, &mut a, "a")), (Ok(()), Ok(())), "{keys:?} at one");
        b.set_keys(keys.clone());
        assert_eq!((say(&mut a, &mut b, "b"), say(&mut b, &mut a, "a")), (Ok(()), Ok(())), "{keys:?} at both");
    }
}

#[test]
fn peers_are_bounded_and_the_one_that_is_forgotten_comes_back() {
    let mut b = life("b", 2);
    let mut first = life("first", 1);
    let hello = first.hello(Some("b"));
    carry(at(0), &mut first, &mut b, &hello).unwrap();
    let old = first.seal("b", HEARTBEAT, b"old").unwrap();
    b.open(at(0), 0, &old).outcome.unwrap();

    let mut others = 0;
    for n in 0..MAX_PEERS {
        let mut other = Sessions::new(&n.to_string(), keys(1), [7; 32]);
        let hello = other.hello(Some("b"));
        let now = at(1 + u64::try_from(n).unwrap() * 10);
        carry(now, &mut other, &mut b, &hello).unwrap();
        others += u32::from(b.can_send(&n.to_string()));
    }
    assert_eq!((others, b.peers().count()), (u32::try_from(MAX_PEERS).unwrap(), MAX_PEERS));
    assert!(!b.can_send("first"), "it has been silent for longest");

    let later = at(1_000_000);
    assert_eq!(b.open(later, 0, &old).outcome, Err(SealError::NoSession), "what it said then stays dead");
    let bytes = first.seal("b", HEARTBEAT, b"new").unwrap();
    assert_eq!(carry(later + HELLO_SPACING, &mut first, &mut b, &bytes), Err(SealError::NoSession));
    let bytes = first.seal("b", HEARTBEAT, b"new").unwrap();
    assert_eq!(b.open(later + HELLO_SPACING, 0, &bytes).outcome, message("first", b"new"));
    assert_eq!(b.open(later + HELLO_SPACING, 0, &old).outcome, Err(SealError::StaleSession));
}

#[test]
fn a_hello_is_read_as_it_was_written_and_nothing_else_is_one() {
    let answer = Some(Answer { token: 1, epoch: 2, counter: 3 });
    for hello in [Hello { asks: true, answer: None }, Hello { asks: false, answer }, Hello { asks: true, answer }] {
        let bytes = hello.emit();
        assert_eq!(Hello::parse(&bytes), Some(hello));
        for len in 0..bytes.len() {
            let short = Hello::parse(&bytes[..len]);
            assert!(
                short.is_none() || short == Some(Hello { asks: true, answer: None }) && answer.is_none(),
                "{short:?}"
            );
        }
    }
    for wrong in [&[][..], &[0], &[4], &[2], &[1; 9], &[0; 25]] {
        assert_eq!(Hello::parse(wrong), None, "{wrong:?}");
    }
}
