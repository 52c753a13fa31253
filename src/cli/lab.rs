//! `vipd lab`: a pair of hosts in a box, and what their neighbours see when the owner fails.

#![allow(clippy::disallowed_methods, reason = "it shows what happens, in real time")]

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use super::Exit;
use super::output::{complain, print};
use crate::lab::{self, Pair, PairOptions, Scenario, Software};
use crate::types::AdvertInterval;
use show::Show;
use summary::{Document, Series};

mod show;
mod summary;

/// The program that runs: each node runs this very file, even where it has no name any more.
const SELF: &str = "/proc/self/exe";

/// Of node-a and node-b.
const PRIORITIES: [u8; 2] = [200, 100];

/// See an address fail over: two nodes and a client on this machine, without root
///
/// Makes a switch and three hosts of network namespaces, runs the real agent on two of them, and lets the third ask for the
/// shared address every millisecond while the owner fails. Nothing outside the namespaces is touched, and all of it is gone at the end.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 each failover and return was well, 1 one was not, 5 this system allows no namespaces.\n\n\
                        Examples:\n  \
                        vipd lab\n  \
                        vipd lab stop link-down --advert 10ms --repeat 5\n  \
                        vipd lab link-down --second-path --advert 1s\n  \
                        vipd lab partition --json | jq '.scenarios[].two_owners_ms'"
)]
pub(super) struct Args {
    /// What happens to the owner
    #[arg(value_name = "SCENARIO", value_enum, default_value = "host-kill")]
    scenarios: Vec<Scenario>,
    /// The same as an option; may be given again
    #[arg(long = "scenario", value_name = "SCENARIO", value_enum)]
    more: Vec<Scenario>,
    /// How often the owner says that it is there: 10ms to 40.95s, in steps of 10 ms
    #[arg(long, value_name = "TIME", default_value = "100ms", value_parser = advert_interval)]
    advert: Duration,
    /// How often each scenario is run
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeat: u32,
    /// Give the nodes a second link, on which they tell each other how they are; one-way and handover always have it,
    /// partition and firewall never
    #[arg(long)]
    second_path: bool,
    /// Share an IPv6 address
    #[arg(long)]
    ipv6: bool,
    /// Print one JSON document at the end, and nothing before it
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(self) -> io::Result<Exit> {
        // First of all: this process has one thread only until now.
        if let Err(error) = lab::enter() {
            complain(&format!("vipd lab: {error:#}\n"));
            return Ok(Exit::NotPermitted);
        }
        match self.scenarios_run() {
            Ok(document) => {
                print(&if self.json { document.json() } else { document.table() })?;
                Ok(if document.well() { Exit::Done } else { Exit::No })
            }
            Err(error) => {
                complain(&format!("vipd lab: {error:#}\n"));
                Ok(Exit::Refused)
            }
        }
    }

    fn scenarios_run(&self) -> Result<Document> {
        let chosen = self.chosen();
        let mut pair = self.pair(chosen.first().copied().unwrap_or(Scenario::HostKill))?;
        let live = io::stdout().is_terminal();
        let mut show = Show::new(!self.json, live);
        show.introduce(&pair)?;
        let mut series = Vec::new();
        for scenario in chosen {
            let PairOptions { witness, second_path, .. } = *pair.options();
            if (witness, second_path) != (scenario.has_witness(), scenario.has_second_path(self.second_path)) {
                pair = self.pair(scenario)?;
            }
            let mut runs = Vec::new();
            for run in 1..=self.repeat {
                show.begin(scenario, run, self.repeat)?;
                // Spread evenly between two adverts: a single run falls in the middle.
                let phase = self.advert * (2 * run - 1) / (2 * self.repeat);
                let outcome = scenario.run(&mut pair, phase, &mut show)?;
                let events = show.end(&pair, &outcome, run)?;
                runs.push((outcome, events));
            }
            series.push(Series::new(scenario, scenario.bound(&pair), runs));
        }
        Ok(Document::new(self.advert, PRIORITIES, pair.address(), series))
    }

    fn pair(&self, scenario: Scenario) -> Result<Pair> {
        Pair::new(PairOptions {
            software: [SELF, SELF].map(|program| Software::Vipd(PathBuf::from(program))),
            priority: PRIORITIES,
            interval: self.advert,
            version: 3,
            ipv6: self.ipv6,
            unicast: false,
            second_path: scenario.has_second_path(self.second_path),
            witness: scenario.has_witness(),
        })
    }

    /// The option replaces the default, and adds to what was named.
    fn chosen(&self) -> Vec<Scenario> {
        let named = if self.more.is_empty() || self.scenarios != [Scenario::HostKill] {
            self.scenarios.as_slice()
        } else {
            &[]
        };
        named.iter().chain(&self.more).copied().collect()
    }
}

fn advert_interval(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    let centiseconds = u16::try_from(duration.as_millis() / 10).ok().and_then(AdvertInterval::from_centiseconds);
    match centiseconds {
        Some(interval) if interval.duration() == duration && interval <= AdvertInterval::MAX_V3 => Ok(duration),
        _ => Err("10ms to 40.95s, in steps of 10 ms".to_owned()),
    }
}
