//! What strangers say, and those that are misconfigured.

use std::net::IpAddr;
use std::time::Duration;

use vipd::engine::{ClaimKind, Input};
use vipd::types::{Family, MacAddr, Vrid};
use vipd::wire::advert::{ChecksumForm, group};

use super::{Row, Shown, TAKEOVER, nothing, row};
use crate::build::{STRANGER, VIP_V4, address, advert, forge, ms, secs, vip};
use crate::network::{NEIGHBOURS, Packet};
use crate::world::{LINK, World, vip_id};

pub(super) fn rows() -> Vec<Row> {
    vec![
        row(
            "another host configures the address",
            Shown::nobody_for(Duration::ZERO, claim_for_a_while, secs(1), nothing),
            &["netns/conflict.rs: a_host_that_announces_the_address_is_named_and_the_neighbours_are_corrected"],
        ),
        row(
            "rogue advert of priority 255",
            Shown::taken_over(
                |world| forge(world, STRANGER, &advert(&vip(255), 255), ChecksumForm::Rfc9568),
                secs(2),
                nothing,
            ),
            &[],
        ),
        row(
            "rogue advert of priority 0",
            Shown::nobody_for(
                Duration::ZERO,
                |world| {
                    for _ in 0..20 {
                        forge(world, STRANGER, &advert(&vip(100), 0), ChecksumForm::Rfc9568);
                        world.run(ms(50));
                    }
                },
                secs(1),
                nothing,
            ),
            &[],
        ),
        row(
            "replayed advert", // A backup believes what sounds like its owner. It waits as long after the last replay.
            Shown::nobody_for(ms(250).saturating_add(TAKEOVER), replay, secs(2), nothing),
            &[],
        ),
        row(
            "advert of another VRID",
            Shown::nobody_for(
                Duration::ZERO,
                |world| {
                    let mut other = vip(255);
                    other.vrid = Vrid::new(99).expect("not 0");
                    for _ in 0..20 {
                        forge(world, STRANGER, &advert(&other, 255), ChecksumForm::Rfc9568);
                        world.run(ms(50));
                    }
                },
                secs(1),
                nothing,
            ),
            &[],
        ),
        row(
            "advert from this node's own address",
            Shown::nobody_for(
                Duration::ZERO,
                |world| {
                    for _ in 0..20 {
                        // To the owner alone: to the other it is the owner's.
                        world.cut(NEIGHBOURS, 1);
                        forge(world, IpAddr::from([10, 0, 0, 1]), &advert(&vip(255), 255), ChecksumForm::Rfc9568);
                        world.run(ms(50));
                    }
                },
                secs(1),
                World::heal,
            ),
            &[],
        ),
        row(
            "malformed flood",
            Shown::nobody_for(Duration::ZERO, flood, secs(1), nothing),
            &["netns/hostile.rs: a_flood_of_bad_packets_moves_nobody_and_fills_no_memory"],
        ),
        row(
            "VRID collision",
            Shown::nobody_for(
                Duration::ZERO,
                |world| {
                    let mut foreign = vip(255);
                    foreign.addresses = vec![address(IpAddr::from([10, 0, 0, 77]))];
                    for _ in 0..40 {
                        forge(world, STRANGER, &advert(&foreign, 255), ChecksumForm::Rfc9568);
                        world.run(ms(50));
                    }
                },
                secs(1),
                nothing,
            ),
            &["netns/conflict.rs: a_foreign_group_on_the_same_vrid_is_named_and_not_fought"],
        ),
        row(
            "key mismatched",
            Shown::There("seals.rs", "a_rogue_255_without_the_key_moves_nobody"),
            &["netns/sealed.rs: an_agent_believes_who_has_its_key_and_nobody_else"],
        ),
    ]
}

/// A third host announces the address again and again.
fn claim_for_a_while(world: &mut World) {
    let mac = MacAddr(2, 0, 0, 0, 0, 66);
    for _ in 0..10 {
        for host in 0..2 {
            world.input(
                host,
                Input::AddressClaimed { vip: vip_id(0), address: VIP_V4, mac, kind: ClaimKind::Announcement },
            );
        }
        world.run(ms(500));
    }
}

/// What the owner said once is said again after it has gone.
fn replay(world: &mut World) {
    let said = advert(&vip(200), 200);
    world.kill(0);
    for _ in 0..5 {
        world.run(ms(50));
        forge(world, IpAddr::from([10, 0, 0, 1]), &said, ChecksumForm::Rfc9568);
    }
    world.start(0);
}

fn flood(world: &mut World) {
    let destination = group(Family::V4);
    for n in 0..5_000_u32 {
        let bytes = n.to_be_bytes().repeat(usize::try_from(n % 9).expect("small"));
        world.send(NEIGHBOURS, Packet { link: LINK, source: STRANGER, destination, hop_limit: 255, bytes });
        world.run(Duration::from_micros(200));
    }
}
