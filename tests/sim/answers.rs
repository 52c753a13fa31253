//! An owner answers those who rank lower, at once but not without end.

use vipd::engine::{EventKind, StateName};

use super::build::{STRANGER, VIP_V4, advert, forge, interval, ms, secs, vip, world};
use vipd::wire::advert::ChecksumForm;

/// When a host sent adverts since a moment, in microseconds after it.
fn sent(world: &super::world::World, host: usize, since: u64) -> Vec<u64> {
    world.sent_by(host, since).iter().map(|sent| (sent.at - since) / 1_000).collect()
}

#[test]
fn a_lower_priority_is_answered_at_once() {
    let mut world = world([vip(200)]);
    world.run(ms(1_050));
    // Well between two adverts.
    let last = world.sent_by(0, 0).last().expect("it advertises").at;
    world.run(std::time::Duration::from_nanos(last + 140_000_000 - world.now));
    let since = world.now;
    forge(&mut world, STRANGER, &advert(&vip(50), 50), ChecksumForm::Rfc9568);
    world.run(ms(1));
    let answers = sent(&world, 0, since);
    assert_eq!(answers.len(), 1);
    assert!(answers[0] <= 200, "within the way of the advert itself");
    assert_eq!(world.owner(), Some(0));
}

#[test]
fn a_resignation_is_answered_at_once_and_announced_against() {
    let mut world = world([vip(200)]);
    world.run(secs(5));
    let since = world.now;
    forge(&mut world, STRANGER, &advert(&vip(50), 0), ChecksumForm::Rfc9568);
    world.run(ms(11));
    assert!(!sent(&world, 0, since).is_empty());
    assert_eq!(world.announcements(0, since), 1);
}

#[test]
fn a_flood_of_lower_priorities_is_answered_100_times_a_second() {
    let mut world = world([vip(200)]);
    world.run(secs(2));
    let since = world.now;
    for _ in 0..5_000 {
        forge(&mut world, STRANGER, &advert(&vip(50), 50), ChecksumForm::Rfc9568);
        world.run(std::time::Duration::from_micros(200));
    }
    let answers = sent(&world, 0, since).len();
    assert!((90..=101).contains(&answers), "{answers} in a second");
    assert!(world.announcements(0, since) <= 2);
    assert_eq!(world.owner(), Some(0));
    assert_eq!(world.told(0, since).len(), 1, "and told once");
}

#[test]
fn at_the_shortest_interval_a_flood_is_answered_400_times_a_second() {
    let mut short = vip(200);
    short.interval = interval(10);
    let mut world = world([short]);
    world.run(secs(2));
    let since = world.now;
    for _ in 0..5_000 {
        forge(&mut world, STRANGER, &advert(&vip(50), 50), ChecksumForm::Rfc9568);
        world.run(std::time::Duration::from_micros(200));
    }
    let answers = sent(&world, 0, since).len();
    assert!((300..=401).contains(&answers), "{answers} in a second");
}

#[test]
fn the_address_owner_answers_a_rival_and_announces_again() {
    let mut owner = vip(255);
    owner.interval = interval(1_000);
    let mut world = world([owner, vip(100)]);
    world.run(secs(2));
    world.part(0, 1);
    world.run(secs(10));
    assert_eq!([world.state(0), world.state(1)], [StateName::Active; 2]);
    assert_eq!(world.neighbours.believes(0, VIP_V4), Some(1));
    let healed_at = world.now;
    world.heal();
    world.run(ms(115));
    assert_eq!(world.owner(), Some(0), "it did not wait for its next advert in turn");
    world.run(ms(1_000));
    assert_eq!(world.neighbours.believes(0, VIP_V4), Some(0));
    assert!(world.told(0, healed_at).iter().any(|kind| matches!(kind, EventKind::Rival { .. })));
}

#[test]
fn two_address_owners_do_not_answer_each_other() {
    let mut world = world([vip(255)]);
    world.run(secs(2));
    let since = world.now;
    for _ in 0..100 {
        forge(&mut world, STRANGER, &advert(&vip(255), 255), ChecksumForm::Rfc9568);
        world.run(ms(10));
    }
    assert!(sent(&world, 0, since).len() <= 11, "or they would flood the segment for ever");
    assert_eq!(world.owner(), Some(0));
}
