use alloc::vec;
use core::net::Ipv4Addr;

use super::*;
use crate::types::{AdvertInterval, Priority, Version, Vrid};
use crate::wire::advert::{Advert, ChecksumForm, Endpoints, GROUP_V4};
use crate::wire::seal::Key;

const ETH0: LinkId = LinkId(0);
const ETH1: LinkId = LinkId(1);
const A: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

fn seals(sealing: Sealing, epoch: u64) -> Seals {
    Seals::new(Keys::new(Key::new(&[1; 32]).unwrap(), None), sealing, Some(epoch))
}

fn plain(vrid: u8) -> Vec<u8> {
    let advert = Advert {
        version: Version::V3,
        vrid: Vrid::new(vrid).unwrap(),
        priority: Priority(100),
        interval: AdvertInterval::from_centiseconds(10).unwrap(),
        addresses: vec![IpAddr::from([10, 0, 0, 100])],
        password: None,
    };
    let mut bytes = Vec::new();
    advert.emit(Endpoints { source: A, destination: GROUP_V4.into() }, ChecksumForm::Rfc9568, &mut bytes);
    bytes
}

fn say(from: &mut Seals, link: LinkId, vrid: u8) -> Vec<u8> {
    let mut bytes = plain(vrid);
    from.seal(link, A, &mut bytes);
    bytes
}

#[test]
fn each_step_of_a_roll_out_understands_the_one_before_and_the_one_after() {
    use Sealing::{Off, Receive, Require, Send};
    let understands = |receiver: Sealing, sender: Sealing| {
        let bytes = say(&mut seals(sender, 1), ETH0, 51);
        let mut receiver = seals(receiver, 1);
        receiver.open(ETH0, A, &bytes).is_ok_and(|advert| advert == plain(51))
    };
    for neighbours in [[Off, Receive], [Receive, Send], [Send, Require]] {
        for receiver in neighbours {
            for sender in neighbours {
                assert!(understands(receiver, sender), "{receiver:?} does not understand {sender:?}");
            }
        }
    }
    assert!(!understands(Require, Receive) && !understands(Require, Off) && !understands(Off, Send));
}

#[test]
fn nothing_is_believed_twice() {
    let (mut a, mut b) = (seals(Sealing::Require, 1), seals(Sealing::Require, 1));
    let sent: Vec<_> = (0..10).map(|_| say(&mut a, ETH0, 51)).collect();
    for bytes in sent.iter().rev() {
        assert!(b.open(ETH0, A, bytes).is_ok(), "overtaken by less than 64");
    }
    for bytes in &sent {
        assert!(matches!(b.open(ETH0, A, bytes), Err(DropReason::Replayed { .. })));
    }
}

#[test]
fn virtual_routers_do_not_count_against_each_other() {
    let (mut a, mut b) = (seals(Sealing::Require, 1), seals(Sealing::Require, 1));
    let of_51 = say(&mut a, ETH0, 51);
    for vrid in 52..=255 {
        let bytes = say(&mut a, ETH0, vrid);
        assert!(b.open(ETH0, A, &bytes).is_ok());
    }
    assert!(b.open(ETH0, A, &of_51).is_ok(), "overtaken by 204 of other virtual routers");
    assert!(b.open(ETH0, A, &of_51).is_err());
}

#[test]
fn an_earlier_life_is_not_believed_once_a_later_one_was_heard() {
    let (mut old, mut new) = (seals(Sealing::Require, 7), seals(Sealing::Require, 8));
    let mut b = seals(Sealing::Require, 1);
    let (heard, unheard) = (say(&mut old, ETH0, 51), say(&mut old, ETH0, 51));
    assert!(b.open(ETH0, A, &heard).is_ok());
    let bytes = say(&mut new, ETH0, 51);
    assert!(b.open(ETH0, A, &bytes).is_ok());
    for bytes in [&heard, &unheard] {
        assert_eq!(b.open(ETH0, A, bytes), Err(DropReason::StaleEpoch { epoch: 7, known: 8 }));
    }
}

#[test]
fn what_one_interface_said_is_not_believed_on_another() {
    // The same address on both, as link-local addresses of VLANs are.
    let (mut a, mut b) = (seals(Sealing::Require, 1), seals(Sealing::Require, 1));
    let (on_0, on_1) = (say(&mut a, ETH0, 51), say(&mut a, ETH1, 51));
    assert!(b.open(ETH0, A, &on_0).is_ok() && b.open(ETH1, A, &on_1).is_ok());
    let later = say(&mut a, ETH0, 51);
    assert_eq!(b.open(ETH1, A, &later), Err(DropReason::OtherLink { source: A }));
    assert!(b.open(ETH0, A, &later).is_ok(), "which takes nothing from where it belongs");
}

#[test]
fn a_vrid_or_a_source_cannot_be_exchanged() {
    let (mut a, mut b) = (seals(Sealing::Require, 1), seals(Sealing::Require, 1));
    let mut bytes = say(&mut a, ETH0, 51);
    assert_eq!(b.open(ETH0, IpAddr::from([10, 0, 0, 2]), &bytes), Err(DropReason::BadSeal));
    bytes[1] = 52;
    assert_eq!(b.open(ETH0, A, &bytes), Err(DropReason::BadSeal));
    let other: Vec<u8> = plain(52).into_iter().chain(bytes[12..].iter().copied()).collect();
    assert_eq!(b.open(ETH0, A, &other), Err(DropReason::BadSeal), "a seal behind another advert");
}

#[test]
fn senders_are_bounded_and_the_one_silent_for_longest_goes() {
    let (mut a, mut b) = (seals(Sealing::Require, 1), seals(Sealing::Require, 1));
    for n in 0..u32::try_from(MAX_SENDERS + 100).unwrap() {
        let source = IpAddr::from(Ipv4Addr::from_bits(0x0a01_0000 + n));
        let mut bytes = plain(51);
        a.seal(ETH0, source, &mut bytes);
        assert!(b.open(ETH0, source, &bytes).is_ok());
    }
    assert_eq!(b.senders.len(), MAX_SENDERS);
    assert!(!b.senders.contains_key(&(ETH0, IpAddr::from(Ipv4Addr::from_bits(0x0a01_0000 + 99)))));
}
