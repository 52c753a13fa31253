use std::future::poll_fn;
use std::net::Ipv4Addr;

use super::*;
use crate::engine::seals::Sealing;
use crate::wire::seal::Keys;

/// On any free port, which the caller asks for.
fn peers(name: &str, key: u8) -> Peers {
    let keys = Keys::new(Key::new(&[key; 32]).expect("32 bytes"), None);
    Peers::open(name, &Seal { keys, port: 0, adverts: Sealing::Off }).expect("free ports")
}

fn address(peers: &Peers, family: Family) -> Path {
    let sockets = peers.sockets.iter().map(Readable::get_ref);
    let socket = sockets.into_iter().find(|socket| socket.family() == family).expect("both families");
    let ip: IpAddr = match family {
        Family::V4 => Ipv4Addr::LOCALHOST.into(),
        Family::V6 => std::net::Ipv6Addr::LOCALHOST.into(),
    };
    Path { ifindex: 0, remote: SocketAddr::new(ip, socket.port().expect("bound")) }
}

/// What either hears next.
async fn next(a: &mut Peers, b: &mut Peers) -> Heard {
    let either = poll_fn(|context| match a.poll_receive(context) {
        Poll::Ready(heard) => Poll::Ready(heard),
        Poll::Pending => b.poll_receive(context),
    });
    let heard = tokio::time::timeout(Duration::from_secs(20), either).await;
    heard.expect("something is heard").expect("no socket fails")
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(test);
}

#[test]
fn two_find_each_other_by_address_and_speak_in_either_family() {
    run(async {
        // A host may lack IPv6, and never lacks IPv4 here.
        let has_v6 = std::net::UdpSocket::bind((std::net::Ipv6Addr::LOCALHOST, 0)).is_ok();
        for family in [Some(Family::V4), has_v6.then_some(Family::V6)].into_iter().flatten() {
            let (mut a, mut b) = (peers("a", 1), peers("b", 1));
            let to = address(&b, family);
            assert!(matches!(a.send("b", Topic::Grant, b"?"), Err(NotSent::NoPath)));
            a.greet(to).expect("sent");
            let mut sessions = [next(&mut a, &mut b).await, next(&mut a, &mut b).await];
            sessions.sort_by_key(|heard| format!("{heard:?}"));
            assert!(
                matches!(&sessions, [Heard::Session { peer: a, .. }, Heard::Session { peer: b, path }]
                    if a == "a" && b == "b" && path.remote == to.remote),
                "{sessions:?}"
            );
            a.send("b", Topic::Grant, b"question").expect("a session");
            let Heard::Message { sender, topic: Topic::Grant, payload, .. } = next(&mut a, &mut b).await else {
                panic!("a message");
            };
            assert_eq!((sender.as_str(), payload.as_slice()), ("a", &b"question"[..]));
            b.send("a", Topic::Heartbeat, b"answer").expect("a session");
            assert!(matches!(next(&mut a, &mut b).await, Heard::Message { topic: Topic::Heartbeat, .. }));
            let status = a.status(clock::now(), Sealing::Off);
            assert_eq!((status.peers.len(), status.accepted, status.refused.len()), (1, 2, 0), "{status:?}");
        }
    });
}

#[test]
fn one_that_was_restarted_is_spoken_to_again_after_one_refusal() {
    run(async {
        let (mut a, mut b) = (peers("a", 1), peers("b", 1));
        a.greet(address(&b, Family::V4)).expect("sent");
        next(&mut a, &mut b).await;
        next(&mut a, &mut b).await;

        let mut reborn = peers("b", 1);
        let path = address(&reborn, Family::V4);
        a.send_on("b", path, Topic::Heartbeat, b"lost").expect("as far as a knows");
        let session = next(&mut a, &mut reborn).await;
        assert_eq!(session, Heard::Session { peer: "b".into(), path: a.path_of("b").expect("known") });
        a.send("b", Topic::Heartbeat, b"heard").expect("a session");
        loop {
            match next(&mut a, &mut reborn).await {
                Heard::Session { .. } => {}
                heard => break assert!(matches!(heard, Heard::Message { payload, .. } if payload == b"heard")),
            }
        }
    });
}

#[test]
fn another_key_is_reported_once_and_counted_each_time() {
    run(async {
        let (mut a, mut b) = (peers("a", 1), peers("b", 2));
        let to = address(&b, Family::V4);
        for _ in 0..3 {
            a.greet(to).expect("sent");
        }
        let heard = next(&mut a, &mut b).await;
        assert!(matches!(heard, Heard::Refused { error: SealError::UnknownKey { .. }, .. }), "{heard:?}");
        let mut other = peers("c", 2);
        other.greet(to).expect("sent");
        assert!(matches!(next(&mut other, &mut b).await, Heard::Session { .. }), "the others were counted before it");
        assert_eq!(b.status(clock::now(), Sealing::Off).refused.get("unknown-key"), Some(&3));
    });
}

#[test]
fn a_port_that_is_taken_is_an_error() {
    run(async {
        let a = peers("a", 1);
        let port = address(&a, Family::V4).remote.port();
        let keys = a.sessions.keys().clone();
        let refused = Peers::open("b", &Seal { keys, port, adverts: Sealing::Off }).expect_err("taken");
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
        assert!(refused.to_string().contains(&port.to_string()), "{refused}");
    });
}
