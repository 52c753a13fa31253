//! `vipd drill`: hand over, see that it works, and take it back. What is never tried does not work when it has to.
#![allow(clippy::disallowed_methods, reason = "it stays there for a while before it comes back")]

use std::io;
use std::thread;
use std::time::Duration;

use super::Exit;
use super::client;
use super::handover::{Failed, Report, Unverified, order, seen, together};
use super::output::{complain, print};
use crate::daemon::handovers::{HandoverRequest, RequestReason};
use crate::daemon::status::{Status, VipStatus};

/// Hand over there and back, and report
///
/// Each virtual IP that this node owns is handed over to the node that would succeed it, is seen to answer there, stays there for a while, and is
/// taken back. One that nobody is ready to take stays where it is, which is a failed drill. A node that owns nothing has nothing to do.
/// The vips of a group go and come together.
/// `vipd-drill.timer` does it once a week where it is enabled: `systemctl enable --now vipd-drill.timer`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 all came back, or there was nothing to do, 1 something did not work: it is told, 4 no agent answers, 5 not \
                        permitted (needs CAP_NET_RAW).\n\nExamples:\n  \
                        vipd drill\n  \
                        vipd drill postgres --stay 1m --connect 5432"
)]
pub(super) struct Args {
    /// Which virtual IPs. Default: all that this node owns
    #[arg(value_name = "VIP")]
    vips: Vec<String>,
    /// How long it stays there
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration)]
    stay: Duration,
    /// A TCP connection to this port must succeed there, too
    #[arg(long, value_name = "PORT")]
    connect: Option<u16>,
    #[command(flatten)]
    agent: client::Agent,
    /// Print one JSON document a handover
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(self) -> io::Result<Exit> {
        match self.drill() {
            Ok(exit) => exit,
            Err(Failed { text, exit }) => {
                complain(&format!("vipd: {text}\n"));
                Ok(exit)
            }
        }
    }

    fn drill(&self) -> Result<io::Result<Exit>, Failed> {
        let Status { node, vips, .. } = client::get::<Status>(&self.agent.control, "/v1/status")?;
        if let Some(unknown) = self.vips.iter().find(|name| !vips.iter().any(|vip| vip.name == **name)) {
            let text = format!("there is no vip {unknown:?}; `vipd status` lists them");
            return Err(Failed { text, exit: Exit::No });
        }
        let mut exit = Exit::Done;
        let mut done: Vec<&str> = Vec::new();
        for vip in vips.iter().filter(|vip| self.vips.is_empty() || self.vips.contains(&vip.name)) {
            if done.contains(&vip.name.as_str()) {
                continue;
            }
            let whole = together(&vips, &vip.name);
            done.extend(whole.iter().map(|vip| vip.name.as_str()));
            if vip.state != "Active" {
                complain(&format!("{}: this node does not own it: nothing to drill\n", vip.name));
                continue;
            }
            for report in self.there_and_back(&node, vip, &whole.into_iter().cloned().collect::<Vec<_>>())? {
                if !report.is_good() {
                    exit = Exit::No;
                }
                let text = if self.json { format!("{}\n", serde_json::json!(report)) } else { report.shown() };
                if let Err(error) = print(&text) {
                    return Ok(Err(error));
                }
            }
        }
        Ok(Ok(exit))
    }

    fn there_and_back(&self, node: &str, vip: &VipStatus, whole: &[VipStatus]) -> Result<Vec<Report>, Failed> {
        let there = self.order(vip, None)?;
        let mut there = Report::of(there, whole, false);
        if !there.outcome.done {
            return Ok(vec![there]);
        }
        match seen(whole, self.connect) {
            Ok(verified) => {
                there.verified = verified;
                thread::sleep(self.stay);
            }
            Err(Unverified::Nobody(why)) => there.not_verified = Some(why),
            Err(Unverified::Unable(error)) => there.not_verified = Some(error.to_string()),
        }
        let back = Report::of(self.order(vip, Some(node.to_owned()))?, whole, false);
        Ok(vec![there, back])
    }

    fn order(&self, vip: &VipStatus, to: Option<String>) -> Result<crate::daemon::handovers::HandoverOutcome, Failed> {
        let request = HandoverRequest { vip: vip.name.clone(), to, dry_run: false, reason: RequestReason::Drill };
        order(&self.agent.control, &request)
    }
}
