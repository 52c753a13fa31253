//! How long the client waits when the owner's machine dies, and when its agent is stopped in good order.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use vipd::lab::{AgentEvent, Pair, PairOptions, Scenario, Software, Watch};

use super::report::{head, ms, row};

pub(crate) fn measure(both: &[Software; 2], repeats: impl Fn(usize) -> usize) -> Result<()> {
    head("Failover: the longest time for which nobody answered the client");
    for interval_ms in [10, 100, 1000] {
        for scenario in [Scenario::HostKill, Scenario::Stop] {
            let mut outages = [Vec::new(), Vec::new()];
            let mut bound = Duration::ZERO;
            let repeats = repeats(if interval_ms == 1000 { 5 } else { 10 });
            for repeat in 0..repeats {
                // Spread evenly between two adverts, and the same for both.
                let phase = (repeat as f64 + 0.5) / repeats as f64;
                for (software, outages) in both.iter().zip(&mut outages) {
                    let interval = Duration::from_millis(interval_ms);
                    let (outage, its_bound) = once(software, scenario, interval, interval.mul_f64(phase))
                        .with_context(|| format!("{}, {}", software.name(), scenario.name()))?;
                    outages.push(ms(outage));
                    bound = its_bound;
                }
            }
            let what = format!("{} at {interval_ms} ms (bound {:.1})", scenario.name(), ms(bound));
            row(&what, "ms", &outages);
        }
    }
    Ok(())
}

fn once(software: &Software, scenario: Scenario, interval: Duration, phase: Duration) -> Result<(Duration, Duration)> {
    let mut pair = Pair::new(PairOptions {
        software: [software.clone(), software.clone()],
        priority: [200, 100],
        interval,
        version: 3,
        ipv6: false,
        second_path: false,
        witness: false,
        unicast: false,
    })?;
    let (_, measured) = scenario.strike(&mut pair, phase, &mut Silent)?;
    measured.takeover.context("no takeover")?;
    Ok((measured.outage, scenario.bound(&pair).takeover))
}

/// Shows nothing.
struct Silent;

impl Watch for Silent {
    fn event(&mut self, _: &str, _: &AgentEvent) {}
    fn note(&mut self, _: Instant, _: &str, _: &str) {}
    fn look(&mut self, _: &Pair) {}
}
