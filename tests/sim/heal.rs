//! Two owners by a partition, and the heal.

use vipd::engine::{Cause, EventKind, StateName};
use vipd::types::Priority;

use super::build::{VIP_V4, ms, secs, vip, world};
use super::network::NEIGHBOURS;
use super::world::World;

/// Two owners, the neighbours on the side of the one that will lose.
fn parted() -> World {
    let mut world = world([vip(200), vip(100)]);
    world.run(secs(2));
    world.part(0, 1);
    world.run(secs(60));
    assert_eq!([world.state(0), world.state(1)], [StateName::Active; 2]);
    assert_eq!(world.neighbours.believes(0, VIP_V4), Some(1), "the loser announced last");
    world
}

fn require_the_winners_last_word(world: &World, healed_at: u64) {
    assert_eq!(world.owner(), Some(0));
    assert_eq!(world.state(1), StateName::Backup);
    assert!(world.announcements(0, healed_at) >= 1);
    assert_eq!(world.neighbours.believes(0, VIP_V4), Some(0));
    assert!(world.sent_by(1, healed_at).iter().any(|sent| sent.priority == Priority::RESIGN));
}

#[test]
fn the_winner_announces_again_where_the_loser_hears_it_first() {
    let mut world = parted();
    let healed_at = world.now;
    world.network.mend(0, 1);
    world.run(ms(101));
    assert_eq!(world.state(1), StateName::Backup, "the loser yields as soon as it hears the winner");
    world.network.mend(1, 0);
    // The loser's resignation was lost: nothing tells the winner that there were two.
    assert_eq!(world.announcements(0, healed_at), 0);

    let mut world = parted();
    let healed_at = world.now;
    world.network.mend(1, 0);
    // The winner speaks first, as its advert is on the way already.
    world.network.mend(0, 1);
    while world.state(1) == StateName::Active {
        world.run(ms(1));
    }
    world.run(ms(2));
    require_the_winners_last_word(&world, healed_at);
}

#[test]
fn the_winner_announces_again_where_it_hears_the_loser_first() {
    let mut world = parted();
    let healed_at = world.now;
    world.network.mend(1, 0);
    world.run(ms(101));
    assert!(world.told(0, healed_at).iter().any(|kind| matches!(kind, EventKind::Rival { .. })));
    assert_eq!(world.announcements(0, healed_at), 1, "it does not wait for the rival to yield");
    world.network.mend(0, 1);
    world.run(ms(1_200));
    require_the_winners_last_word(&world, healed_at);
    assert!(matches!(world.cause(1), Cause::PeerWins { .. }));
}

#[test]
fn the_winner_repeats_its_announcement_after_1_5_and_30_seconds() {
    let mut world = parted();
    world.heal();
    world.run(ms(300));
    let settled_at = world.now;
    for (until, count) in [(ms(1_100), 1), (secs(4), 2), (secs(25), 3)] {
        world.run(until);
        assert_eq!(world.announcements(0, settled_at), count);
    }
}

#[test]
fn a_long_rivalry_announces_about_once_a_second() {
    let mut world = world([vip(200), vip(100)]);
    world.run(secs(2));
    // The second never hears the first, and cannot be made to yield.
    world.cut(0, 1);
    world.run(secs(2));
    let since = world.now;
    world.run(secs(20));
    let count = world.announcements(0, since);
    assert!((19..=23).contains(&count), "{count}");
    let rivals = world.told(0, 0).iter().filter(|kind| matches!(kind, EventKind::Rival { .. })).count();
    assert_eq!(rivals, 1, "one rivalry is told once");
}

#[test]
fn one_way_loss_towards_the_backup_makes_two_owners_and_one_again() {
    let mut world = world([vip(200), vip(100)]);
    world.run(secs(2));
    world.cut(0, 1);
    world.run(secs(5));
    assert_eq!([world.state(0), world.state(1)], [StateName::Active; 2], "without a quorum this cannot be told apart");
    world.heal();
    world.run(ms(110));
    assert_eq!(world.owner(), Some(0));
}

#[test]
fn one_way_loss_towards_the_owner_changes_nothing() {
    let mut world = world([vip(200), vip(100)]);
    world.run(secs(2));
    world.cut(1, 0);
    world.run(secs(5));
    assert_eq!(world.owner(), Some(0));
    assert_eq!(world.state(1), StateName::Backup);
}

#[test]
fn the_neighbours_come_back_to_an_owner_that_was_cut_off_alone() {
    let mut world = world([vip(200), vip(100)]);
    world.run(secs(2));
    world.isolate(0);
    world.run(secs(2));
    assert_eq!(world.neighbours.believes(0, VIP_V4), Some(1));
    world.heal();
    world.run(ms(1_200));
    assert_eq!(world.owner(), Some(0));
    assert_eq!(world.neighbours.believes(0, VIP_V4), Some(0));
    // And the neighbours are no host.
    assert!(NEIGHBOURS > world.hosts.len());
}
