//! What befalls links, networks, and what a host has on them.

use std::time::Duration;

use super::{Row, Shown, nothing, row};
use crate::build::{VIP_V4, ms, secs};
use crate::clock::MILLISECOND;
use crate::host::Wire;
use crate::world::World;

pub(super) fn rows() -> Vec<Row> {
    vec![
        row(
            "owner's NIC down",
            Shown::taken_over(|world| world.set_wire(0, Wire::Down), secs(2), |world| world.set_wire(0, Wire::Up)),
            &["netns/links.rs: a_lost_carrier_gives_up_at_once_and_its_return_takes_back"],
        ),
        row(
            "backup's NIC down",
            Shown::nobody_for(
                Duration::ZERO,
                |world| world.set_wire(1, Wire::Down),
                secs(2),
                |world| world.set_wire(1, Wire::Up),
            ),
            &[],
        ),
        row("one-way loss, owner to backup", Shown::two_owners(|world| world.cut(0, 1), secs(3), World::heal), &[]),
        row(
            "one-way loss, backup to owner",
            Shown::nobody_for(Duration::ZERO, |world| world.cut(1, 0), secs(3), World::heal),
            &[],
        ),
        row("full partition, then heal", Shown::two_owners(|world| world.isolate(0), secs(5), World::heal), &[]),
        row(
            "partition of the adverts' path alone",
            Shown::two_owners(|world| world.part(0, 1), secs(5), World::heal),
            &[],
        ),
        row("1 s of loss, reordering, duplication", Shown::two_owners(disturb, secs(1), World::heal), &[]),
        row("60 s of loss, reordering, duplication", Shown::two_owners(disturb, secs(60), World::heal), &[]),
        row(
            "witness unreachable",
            Shown::There("quorum.rs", "losing_the_witness_changes_nothing_and_is_told_once_with_its_return"),
            &["netns/quorum.rs: losing_the_witness_is_an_alarm_and_moves_nothing"],
        ),
        row(
            "interface deleted, recreated, renamed",
            Shown::taken_over(
                |world| {
                    for _ in 0..3 {
                        world.set_wire(0, Wire::Missing);
                        world.run(ms(700));
                        world.set_wire(0, Wire::Up);
                        world.run(ms(700));
                    }
                },
                secs(1),
                nothing,
            ),
            &[
                "netns/links.rs: an_interface_that_is_deleted_and_made_anew_is_followed",
                "netns/links.rs: an_interface_that_is_renamed_keeps_no_address_and_is_followed_back",
            ],
        ),
        row(
            "address removed by another program",
            Shown::nobody_for(
                ms(5),
                |world| {
                    for _ in 0..3 {
                        world.remove_address(0, 0, VIP_V4);
                        world.run(ms(500));
                    }
                },
                secs(1),
                nothing,
            ),
            &["netns/restore.rs: a_removed_address_is_put_back_and_past_the_limit_handed_over"],
        ),
        row(
            "route removed by another program",
            Shown::NotHere("what is put back, and how often, is the same as of an address"),
            &["netns/routes.rs: a_removed_route_is_put_back_and_past_the_limit_handed_over"],
        ),
        row(
            "network manager restarted on both hosts",
            Shown::nobody_for(
                ms(1_500),
                |world| {
                    (0..2).for_each(|host| world.set_wire(host, Wire::Down));
                    world.remove_address(0, 0, VIP_V4);
                    world.run(secs(1));
                    (0..2).for_each(|host| world.set_wire(host, Wire::Up));
                },
                secs(1),
                nothing,
            ),
            &[],
        ),
        row(
            "link up but forwarding late (STP, bond)",
            Shown::two_owners(
                |world| {
                    world.kill(0);
                    world.run(secs(1));
                    world.isolate(0);
                    world.start(0);
                },
                secs(2),
                World::heal,
            ),
            &[],
        ),
    ]
}

fn disturb(world: &mut World) {
    world.network.lost_permille = 300;
    world.network.doubled_permille = 100;
    world.network.late_permille = 100;
    world.network.late_by = 50 * MILLISECOND;
}
