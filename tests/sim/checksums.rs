//! The two IPv4 checksum forms of version 3: both are taken, the peer's is followed, a pinned one is kept.

use vipd::engine::{ChecksumPolicy, EventKind, VipSettings};
use vipd::wire::advert::ChecksumForm;

use super::build::{STRANGER, advert, forge, ms, secs, vip, world};
use super::world::World;

fn with(priority: u8, checksum: ChecksumPolicy) -> VipSettings {
    VipSettings { checksum, ..vip(priority) }
}

fn form(world: &World, host: usize) -> ChecksumForm {
    world.hosts[host].engine.as_ref().expect("it runs").vips()[0].routers()[0].checksum()
}

#[test]
fn a_peers_form_is_followed_and_told() {
    let mut world = world([with(200, ChecksumPolicy::Pinned(ChecksumForm::Rfc5798)), with(100, ChecksumPolicy::Auto)]);
    world.run(secs(2));
    assert_eq!(world.owner(), Some(0));
    assert_eq!(form(&world, 1), ChecksumForm::Rfc5798);
    let told = world.told(1, 0).iter().filter(|kind| matches!(kind, EventKind::ChecksumFollowed { .. })).count();
    assert_eq!(told, 1);
}

#[test]
fn an_owner_follows_a_backup_that_speaks_up() {
    let mut world = world([with(200, ChecksumPolicy::Auto)]);
    world.run(secs(2));
    assert_eq!(form(&world, 0), ChecksumForm::Rfc9568);
    forge(&mut world, STRANGER, &advert(&vip(50), 50), ChecksumForm::Rfc5798);
    world.run(ms(20));
    assert_eq!(form(&world, 0), ChecksumForm::Rfc5798);
    assert_eq!(world.owner(), Some(0));
}

#[test]
fn a_pinned_form_is_kept() {
    let mut world = world([
        with(200, ChecksumPolicy::Pinned(ChecksumForm::Rfc5798)),
        with(100, ChecksumPolicy::Pinned(ChecksumForm::Rfc9568)),
    ]);
    world.run(secs(2));
    assert_eq!(world.owner(), Some(0), "either form is taken");
    assert_eq!(form(&world, 1), ChecksumForm::Rfc9568);
    world.stop(0);
    world.run(secs(2));
    assert_eq!(world.owner(), Some(1));
    assert!(!world.told(1, 0).iter().any(|kind| matches!(kind, EventKind::ChecksumFollowed { .. })));
}
