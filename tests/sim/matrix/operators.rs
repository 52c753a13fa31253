//! What operators do, and what they have vipd look at.

use std::net::IpAddr;
use std::time::Duration;

use vipd::engine::Settings;

use super::{Row, Shown, nothing, row};
use crate::build::{address, interval, ms, secs};
use crate::world::World;

pub(super) fn rows() -> Vec<Row> {
    vec![
        row(
            "reload: no change",
            Shown::nobody_for(Duration::ZERO, |world| reload(world, |_| {}), secs(1), nothing),
            &["netns/reload.rs: a_reload_without_a_change_moves_nothing_and_delays_no_advert"],
        ),
        row(
            "reload: address added, then removed",
            Shown::nobody_for(
                Duration::ZERO,
                |world| {
                    reload(world, |settings| settings.vips[0].addresses.push(address(IpAddr::from([10, 0, 0, 150]))))
                },
                secs(1),
                |world| reload(world, |settings| settings.vips[0].addresses.truncate(1)),
            ),
            &["netns/reload.rs: a_reload_adds_and_removes_addresses_under_an_owner"],
        ),
        row(
            "reload: VRID changed",
            Shown::There("reload.rs", "another_virtual_router_of_the_same_name_is_a_removal_and_an_addition"),
            &[],
        ),
        row(
            "reload: file invalid",
            Shown::NotHere("the engine is given legal settings only"),
            &["netns/reload.rs: a_reload_of_an_invalid_file_changes_nothing_and_says_why"],
        ),
        row(
            "rolling restart, onto another interval as well",
            Shown::nobody_for(
                Duration::ZERO,
                |world| {
                    for host in [1, 0] {
                        world.hosts[host].spec.settings.vips[0].interval = interval(200);
                        world.hand_on(host);
                        world.run(ms(50));
                        world.restart(host);
                        world.run(secs(1));
                    }
                },
                secs(2),
                nothing,
            ),
            &["netns/commands.rs: an_agent_that_is_killed_and_started_anew_within_its_lease_moves_nothing"],
        ),
        row("rolling upgrade with mixed versions", Shown::NotYet("there is one version"), &[]),
        row(
            "key rotated",
            Shown::NotHere("the election is given adverts that were believed, and knows no keys"),
            &[
                "netns/sealed.rs: a_key_is_changed_by_reloads_and_no_session_ends",
                "netns/quorum.rs: nodes_and_witness_change_their_key_one_by_one_and_nobody_moves",
            ],
        ),
        row(
            "check hangs, check flaps, check cannot run",
            Shown::There("health.rs", "a_flapping_service_keeps_its_host_out_for_longer_each_time"),
            &[
                "netns/health.rs: a_program_that_hangs_costs_no_advert",
                "netns/health.rs: a_check_that_cannot_run_is_an_error_at_start_and_at_a_reload",
            ],
        ),
    ]
}

fn reload(world: &mut World, change: fn(&mut Settings)) {
    for host in 0..2 {
        let mut settings = world.hosts[host].spec.settings.clone();
        change(&mut settings);
        world.reload(host, settings);
        world.run(ms(300));
    }
}
