//! What befalls a host and its agent.

use std::time::Duration;

use super::{Row, Shown, TAKEOVER, nothing, row};
use crate::build::{ms, secs};
use crate::clock::MILLISECOND;
use crate::host::QUICK;

pub(super) fn rows() -> Vec<Row> {
    vec![
        row(
            "host killed",
            Shown::taken_over(|world| world.kill(0), secs(2), |world| world.start(0)),
            &["netns/takeover.rs: a_dead_host_is_replaced_and_takes_back_when_it_returns"],
        ),
        row(
            "clean stop",
            Shown::taken_over(|world| world.stop(0), secs(2), |world| world.start(0)),
            &["netns/stop.rs: a_clean_stop_leaves_nothing_and_costs_the_successors_skew"],
        ),
        row(
            "agent SIGKILL, not started again",
            Shown::taken_over(|world| world.crash(0), secs(2), |world| world.restart(0)),
            &[
                "netns/layers.rs: netdev_never_lets_two_hosts_answer_when_the_owners_agent_is_killed",
                "netns/layers.rs: inet_and_arp_never_let_two_hosts_answer_when_the_owners_agent_is_killed",
            ],
        ),
        row(
            "agent SIGKILL, started again within its lease",
            Shown::nobody_for(Duration::ZERO, |world| world.crash(0), ms(100), |world| world.restart(0)),
            &["netns/commands.rs: an_agent_that_is_killed_and_started_anew_within_its_lease_moves_nothing"],
        ),
        row(
            "agent SIGSTOP, then SIGCONT",
            Shown::taken_over(|world| world.freeze(0), secs(5), |world| world.thaw(0)),
            &[
                "netns/layers.rs: netdev_never_lets_two_hosts_answer_when_the_owners_agent_hangs",
                "netns/layers.rs: inet_and_arp_never_let_two_hosts_answer_when_the_owners_agent_hangs",
            ],
        ),
        row(
            "crash loop",
            Shown::taken_over(
                |world| {
                    for pause in [10, 100, 290, 301, 350, 400, 700].repeat(4) {
                        world.crash(0);
                        world.run(ms(pause));
                        world.restart(0);
                        world.run(ms(20));
                    }
                },
                secs(1),
                nothing,
            ),
            &["netns/commands.rs: what_a_killed_agent_left_is_cleared_at_the_next_start"],
        ),
        row(
            "host frozen, then resumed",
            Shown::taken_over(
                |world| {
                    world.freeze(0);
                    world.isolate(0);
                },
                secs(5),
                |world| {
                    world.heal();
                    world.thaw(0);
                },
            ),
            &["lab/main.rs: vipd_lab_shows_that_nobody_notices_a_return"],
        ),
        row(
            "CPU starvation",
            Shown::nobody_for(
                Duration::ZERO,
                |world| world.hosts.iter_mut().for_each(|host| host.spec.lateness = (0, 90 * MILLISECOND)),
                secs(20),
                |world| world.hosts.iter_mut().for_each(|host| host.spec.lateness = (0, 0)),
            ),
            &["netns/freeze.rs: busy_processors_move_nobody"],
        ),
        row(
            "a kernel that is starved of its disk or its locks",
            Shown::nobody_for(
                ms(1_400),
                |world| {
                    world.hosts.iter_mut().for_each(|host| host.spec.effect_time = (0, 1_000 * MILLISECOND));
                    world.kill(0);
                },
                secs(5),
                |world| {
                    world.hosts.iter_mut().for_each(|host| host.spec.effect_time = QUICK);
                    world.start(0);
                },
            ),
            &[],
        ),
        row(
            "wall clock stepped both ways",
            Shown::NotHere(
                "the engine and its world know no wall clock; the linter refuses one outside `daemon::clock`",
            ),
            &[],
        ),
        row(
            "disk full, read-only file system",
            Shown::NotHere("the engine writes no file"),
            &["netns/journal.rs: an_owner_without_a_disk_raises_an_alarm_and_stays_owner"],
        ),
        row("log stalled", Shown::NotYet("it is not yet tried"), &[]),
        row(
            "simultaneous boot",
            Shown::nobody_for(
                ms(200) + TAKEOVER,
                |world| {
                    (0..2).for_each(|host| world.kill(host));
                    world.run(ms(100));
                    (0..2).for_each(|host| world.start(host));
                },
                secs(1),
                nothing,
            ),
            &[],
        ),
        row(
            "255 virtual routers and 1,000 addresses failing at once",
            Shown::There("takeover.rs", "a_thousand_vips_fail_at_once_and_are_claimed_within_an_interval_and_skew"),
            &["netns/many.rs: 250_vips_come_up_and_are_taken_over_together"],
        ),
    ]
}
