//! Two nodes and a witness: no two owners, whatever cannot reach whom, and an owner where a majority is.

use std::time::Duration;

use vipd::engine::{Cause, EventKind, FenceSettings, Preempt, StateName, VipSettings};

use super::build::{host, interval, ms, secs, vip};
use super::clock::Clock;
use super::fence::fence;
use super::network::Network;
use super::voters::{WITNESS, Witness, quorum};
use super::world::World;

const LONGEST_GRANT: Duration = Duration::from_secs(3);

/// Nodes with one vip each and, where their number is even, a witness: all started, but not settled.
fn starting(vips: impl IntoIterator<Item = VipSettings>) -> World {
    starting_with(vips, |_| FenceSettings::default())
}

fn starting_with(vips: impl IntoIterator<Item = VipSettings>, fence: impl Fn(usize) -> FenceSettings) -> World {
    let vips: Vec<VipSettings> = vips.into_iter().collect();
    let hosts = vips.len();
    let with_witness = hosts.is_multiple_of(2);
    let specs = vips.into_iter().enumerate().map(|(place, vip)| {
        let mut spec = host(u8::try_from(place).expect("few"), vec![vip]);
        spec.settings.quorum = Some(quorum(place, hosts, with_witness, LONGEST_GRANT));
        spec.settings.fence = fence(place);
        spec
    });
    let mut world = World::new(1, Network::quiet(), specs.collect());
    world.watch.exclusive = true;
    if with_witness {
        let clock = Clock { offset: 99, ppm: 0 };
        world.witness = Some(Witness { clock, longest_grant: LONGEST_GRANT, voter: None });
        world.start_witness();
    }
    world.start_all();
    world
}

/// The same, once they have an owner.
pub fn voting(vips: impl IntoIterator<Item = VipSettings>) -> World {
    let mut world = starting(vips);
    world.run(secs(5));
    assert_eq!(world.owner(), Some(0));
    world
}

fn stands_back(priority: u8) -> VipSettings {
    VipSettings { preempt: Preempt::Off, ..vip(priority) }
}

#[test]
fn nobody_owns_before_the_voters_have_waited_for_their_longest_grant() {
    let mut world = starting([vip(200), vip(100)]);
    world.run(ms(2_999));
    assert_eq!(world.owner(), None);
    assert_eq!(world.state(0), StateName::Backup);
    world.run(ms(30));
    assert_eq!(world.owner(), Some(0));
    let told = world.told(0, 0);
    let missing = told.iter().find_map(|kind| match kind {
        EventKind::NoMajority { missing } => Some(missing),
        _ => None,
    });
    let missing: Vec<String> =
        missing.expect("it says why it does not claim").iter().map(ToString::to_string).collect();
    assert!(missing.iter().all(|line| line.contains("just started")), "{missing:?}");
}

#[test]
fn a_dead_owner_is_replaced_without_losing_time_to_the_voters() {
    for centiseconds in [1_u16, 10, 100] {
        let nodes = [200, 100].map(|priority| VipSettings { interval: interval(centiseconds * 10), ..vip(priority) });
        let mut world = voting(nodes);
        world.kill(0);
        let bound = ms(u64::from(centiseconds) * 30) + ms(u64::from(centiseconds) * 10) * 156 / 256;
        world.run(bound + ms(1));
        assert_eq!(world.owner(), Some(1), "{centiseconds} centiseconds");
    }
}

/// At the highest priority the skew time is too short to hide a round trip in.
#[test]
fn the_most_impatient_node_waits_for_one_round_trip() {
    let mut world = starting([vip(200), stands_back(254)]);
    world.run(secs(5));
    world.kill(1);
    world.run(secs(1));
    world.start(1);
    world.network.delay = (2_000_000, 2_000_000);
    world.run(secs(5));
    assert_eq!(world.owner(), Some(0));
    world.kill(0);
    world.run(ms(300 + 1 + 2 * 2 + 2 + 5));
    assert_eq!(world.owner(), Some(1));
}

#[test]
fn a_clean_stop_hands_over_within_the_skew_time() {
    let mut world = voting([vip(200), vip(100)]);
    world.stop(0);
    assert_eq!(world.owner(), None, "it ended its lease before it released the grants");
    world.run(ms(100) * 156 / 256 + ms(1));
    assert_eq!(world.owner(), Some(1));
}

#[test]
fn losing_the_witness_changes_nothing_and_is_told_once_with_its_return() {
    let mut world = voting([vip(200), vip(100)]);
    let since = world.now;
    let transitions = |world: &World| {
        let of_host =
            |host| world.told(host, since).into_iter().filter(|kind| matches!(kind, EventKind::Transition { .. }));
        of_host(0).count() + of_host(1).count()
    };
    world.stop_witness();
    world.run(secs(60));
    assert_eq!((world.owner(), transitions(&world)), (Some(0), 0));
    for host in [0, 1] {
        let told = world.told(host, since);
        assert!(matches!(told[..], [EventKind::VoterSilent { voter, .. }] if &**voter == "witness"), "{told:?}");
    }
    let returned_at = world.now;
    world.start_witness();
    world.run(secs(10));
    assert_eq!((world.owner(), transitions(&world)), (Some(0), 0));
    for host in [0, 1] {
        let told = world.told(host, returned_at);
        assert!(matches!(told[..], [EventKind::VoterAnswers { voter, .. }] if &**voter == "witness"), "{told:?}");
    }
    world.kill(0);
    world.run(ms(370));
    assert_eq!(world.owner(), Some(1), "and it votes again");
}

#[test]
fn an_owner_that_is_cut_off_gives_up_and_names_the_missing_voters() {
    let mut world = voting([vip(200), vip(100)]);
    world.isolate(0);
    world.run(ms(300));
    assert_ne!(world.owner(), Some(0));
    world.run(ms(70));
    assert_eq!(world.owner(), Some(1));
    let Cause::MajorityLost { missing } = world.cause(0) else { panic!("{:?}", world.cause(0)) };
    let names: Vec<&str> = missing.iter().map(|missing| &*missing.voter).collect();
    assert_eq!(names, ["host 1", "witness"]);
    world.run(secs(30));
    assert_eq!((world.owner(), world.state(0)), (Some(1), StateName::Backup));
    let since = world.now;
    world.heal();
    world.run(secs(2));
    assert_eq!(world.owner(), Some(0), "it preempts, as without voters");
    assert_eq!(world.told(0, since).iter().filter(|kind| matches!(kind, EventKind::Rival { .. })).count(), 0);
}

#[test]
fn a_backup_in_the_minority_does_not_claim_and_says_why() {
    let mut world = voting([vip(200), vip(100)]);
    world.isolate(1);
    let since = world.now;
    world.run(secs(60));
    assert_eq!((world.owner(), world.state(1)), (Some(0), StateName::Backup));
    let told = world.told(1, since);
    let missing: Vec<String> = told
        .iter()
        .find_map(|kind| match kind {
            EventKind::NoMajority { missing } => Some(missing.iter().map(ToString::to_string).collect()),
            _ => None,
        })
        .expect("it says why");
    assert_eq!(missing, ["host 0 (no answer)", "witness (no answer)"]);
    world.heal();
    world.run(ms(200));
    assert_eq!(world.owner(), Some(0));
    let engine = world.hosts[1].engine.as_ref().expect("it runs");
    assert_eq!(engine.vips()[0].lacks_majority_since(), None);
}

#[test]
fn where_only_the_adverts_are_blocked_the_owner_stays() {
    let mut world = voting([vip(200), vip(100)]);
    world.cut(0, 1);
    world.run(secs(60));
    assert_eq!((world.owner(), world.state(1)), (Some(0), StateName::Backup));
    world.heal();
    world.run(secs(1));
    assert_eq!(world.owner(), Some(0));
}

#[test]
fn without_the_witness_a_parted_pair_has_no_owner() {
    let mut world = voting([vip(200), vip(100)]);
    world.stop_witness();
    world.part(0, 1);
    world.run(ms(300));
    assert_eq!(world.owner(), None);
    world.run(secs(60));
    assert_eq!(world.owner(), None, "that is the price, and the alarm told of it");
    world.heal();
    world.run(secs(2));
    assert_eq!(world.owner(), Some(0));
}

#[test]
fn a_better_node_takes_over_within_an_interval_and_its_skew_time() {
    let mut world = voting([vip(200), vip(100)]);
    world.kill(0);
    world.run(secs(1));
    assert_eq!(world.owner(), Some(1));
    world.start(0);
    // Its own voter waits still.
    world.run(ms(322));
    assert_eq!(world.owner(), Some(1), "it listens first");
    world.run(ms(150));
    assert_eq!(world.owner(), Some(0));
    assert!(matches!(world.cause(1), Cause::PeerWins { .. } | Cause::Challenged { .. }), "{:?}", world.cause(1));
    let yielded = world.told(1, 0).into_iter().rev().find_map(|kind| match kind {
        EventKind::Transition { cause: Cause::Challenged { by, priority }, .. } => Some((by.to_string(), priority.0)),
        _ => None,
    });
    assert_eq!(yielded, Some(("host 0".into(), 200)));
}

#[test]
fn a_better_node_that_a_majority_does_not_hear_challenges_in_vain() {
    let mut world = voting([vip(200), stands_back(100)]);
    world.kill(0);
    world.run(secs(1));
    world.start(0);
    world.cut(0, 1);
    world.cut(0, WITNESS);
    world.run(secs(30));
    assert_eq!((world.owner(), world.state(0)), (Some(1), StateName::Backup));
}

#[test]
fn the_address_owner_asks_like_everybody_else() {
    let mut world = starting([vip(255), vip(100)]);
    world.run(secs(4));
    assert_eq!(world.owner(), Some(0));
    world.kill(0);
    world.run(secs(1));
    assert_eq!(world.owner(), Some(1));
    world.start(0);
    world.run(secs(1));
    assert_eq!(world.owner(), Some(0));
}

#[test]
fn a_frozen_owner_is_replaced_and_gives_way_when_it_thaws() {
    let mut world = voting([200, 100].map(stands_back));
    world.freeze(0);
    world.run(ms(370));
    assert_eq!(world.owner(), Some(1));
    world.run(secs(10));
    let thawed_at = world.now;
    world.thaw(0);
    assert_eq!(world.state(0), StateName::Backup);
    world.run(secs(10));
    assert_eq!(world.announcements(0, thawed_at), 0);
}

/// All three vote, and all want it at once: nobody's vote is kept from the others for long.
#[test]
fn three_nodes_without_a_witness_agree_on_the_best() {
    let mut world = starting([vip(200), vip(150), vip(100)]);
    world.run(secs(5));
    assert_eq!(world.owner(), Some(0));
    world.kill(0);
    world.run(ms(360));
    assert_eq!(world.owner(), Some(1));
    let mut world = starting([100; 3].map(vip));
    world.run(secs(8));
    assert!(world.owner().is_some(), "equal priorities are no deadlock");
}

#[test]
fn a_restarted_witness_votes_only_once_its_grants_are_over() {
    let mut world = voting([vip(200), vip(100)]);
    world.stop_witness();
    world.start_witness();
    // The owner's other grant goes with its peer's way.
    world.part(0, 1);
    world.run(secs(2));
    assert_eq!(world.owner(), None);
    world.run(secs(2));
    assert!(world.owner().is_some());
}

/// Its addresses answer, but by right.
#[test]
fn an_owner_with_a_majority_whose_adverts_are_stopped_is_neither_waited_for_nor_fenced() {
    let mut world = voting([vip(200), vip(100)]);
    world.network.filter(0, 1);
    let since = world.now;
    world.run(secs(60));
    assert_eq!((world.owner(), world.state(1)), (Some(0), StateName::Backup));
    let told = world.told(1, since);
    assert!(matches!(told[..], [EventKind::ClaimWaits { .. }, EventKind::NoMajority { .. }]), "{told:?}");
    world.crash(0);
    world.run(ms(350));
    assert_eq!(world.owner(), Some(1), "nor is an answer from before its end");
}

#[test]
fn only_the_node_that_a_majority_grants_fences_the_owner() {
    let mut world = starting_with([vip(200), vip(100)], |place| fence(true, secs(1), &[1 - place]));
    world.run(secs(5));
    assert_eq!(world.owner(), Some(0));
    world.isolate(1);
    world.run(secs(30));
    assert_eq!((world.owner(), world.fenced.len()), (Some(0), 0));
    world.heal();
    world.run(secs(1));
    world.isolate(0);
    // The silence, the delay of the one that would lose, and the fence agent's time.
    world.run(ms(370) + secs(1) + Duration::from_nanos(world.fence_time));
    let fenced: Vec<_> = world.fenced.iter().map(|(_, by, whom)| (*by, *whom)).collect();
    assert_eq!((world.owner(), &fenced[..]), (Some(1), &[(1, 0)][..]));
}

#[test]
fn a_node_whose_fencing_fails_keeps_its_grants_from_nobody() {
    let mut world = starting_with([vip(200), vip(100)], |place| fence(true, secs(1), &[1 - place]));
    world.run(secs(5));
    world.fence_works = false;
    world.kill(0);
    let asks = |world: &World| {
        let engine = world.hosts[1].engine.as_ref().expect("it runs");
        engine.vips()[0].quorum().expect("it has voters").is_asking()
    };
    world.run(ms(370) + secs(2));
    assert!(asks(&world), "while it is fenced");
    world.run(secs(2));
    assert!(!asks(&world), "until it is tried again");
    world.fence_works = true;
    world.run(secs(34));
    assert_eq!(world.owner(), Some(1));
}
