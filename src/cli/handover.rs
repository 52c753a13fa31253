//! `vipd handover`: give a virtual IP to another node, which is ready before this one lets go.

use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use hyper::StatusCode;
use serde::Serialize;

use super::Exit;
use super::client::{self, Answer, NoAnswer};
use super::output::{complain, print};
use crate::daemon::control::HANDOVER_PATIENCE;
use crate::daemon::handovers::{HandoverOutcome, HandoverRequest, RequestReason};
use crate::daemon::status::{Status, VipStatus};
use crate::driver::neighbour;

/// How often a neighbour is asked for, 50 ms each time.
const QUESTIONS: u32 = 20;
const CONNECT_PATIENCE: Duration = Duration::from_secs(2);

/// Give a virtual IP to another node
///
/// The other node is asked first, and installs the addresses behind its closed gate; then this node lets go, and the other one owns
/// within a millisecond or so. Nothing moves to a node that is drained, held, unhealthy or not heard. The address stays there: this node does not take
/// it back for a higher priority, until the other one fails or is degraded, `vipd undrain` is called here, or this agent is restarted.
///
/// The vips of a group go together, whichever of them is named, or by the group's name: all in one step, once the other node is ready for all of
/// them, or none.
///
/// A `before_claim` hook of the other node is asked before this one lets go, which goes on as the owner meanwhile, however long that takes. Where the
/// hook forbids it, nothing moves. `--dry-run` runs no hook.
///
/// Both nodes need a common key and a second path: `[seal]` and `heartbeat` in vipd.toml.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 done (and verified, with --verify), 1 not done, or taken back: the reason is told, 2 usage, 4 no agent \
                        answers, 5 not permitted (--verify needs CAP_NET_RAW), 6 done, but nothing could be asked on the link.\n\nExamples:\n  \
                        vipd handover postgres --dry-run               # who would take it, and is that node ready?\n  \
                        vipd handover postgres --verify --connect 5432 # and see that it answers there, or take it back\n  \
                        vipd handover postgres --to db-b               # to this node and no other; its own name fetches it"
)]
pub(super) struct Args {
    /// Which virtual IP, or which group of them
    #[arg(value_name = "VIP")]
    vip: String,
    /// To which node. Default: the one that would succeed this one
    #[arg(long, value_name = "NODE")]
    to: Option<String>,
    /// Only ask whether the other node is ready: nothing moves
    #[arg(long)]
    dry_run: bool,
    /// Ask from here who answers for each address then (ARP, neighbour solicitation); take it back where nobody does
    #[arg(long, conflicts_with = "dry_run")]
    verify: bool,
    /// With --verify: a TCP connection to this port of each address must succeed, too
    #[arg(long, value_name = "PORT", requires = "verify")]
    connect: Option<u16>,
    #[command(flatten)]
    agent: client::Agent,
    /// Print the answer as one JSON document
    #[arg(long)]
    json: bool,
}

/// What was done, and what came of it.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    schema: u32,
    #[serde(flatten)]
    pub(super) outcome: HandoverOutcome,
    /// The vips that move together, or stay.
    vips: Vec<String>,
    dry_run: bool,
    /// Who answers now, as asked from here; none where that was not asked.
    pub(super) verified: Vec<Seen>,
    /// Why it is not where it should be.
    pub(super) not_verified: Option<String>,
    /// Whether it came back after that.
    pub(super) taken_back: Option<bool>,
}

/// An address and who answers for it.
#[derive(Debug, Serialize)]
pub(super) struct Seen {
    address: IpAddr,
    mac: String,
    /// Whether a TCP connection was made.
    connected: Option<u16>,
}

impl Report {
    pub(super) fn of(outcome: HandoverOutcome, known: &[VipStatus], dry_run: bool) -> Self {
        let vips = known.iter().map(|vip| vip.name.clone()).collect();
        Self { schema: 1, outcome, vips, dry_run, verified: Vec::new(), not_verified: None, taken_back: None }
    }

    pub(super) const fn is_good(&self) -> bool {
        self.outcome.done && self.not_verified.is_none()
    }

    pub(super) fn shown(&self) -> String {
        let HandoverOutcome { vip, peer, done, gap_ms, failure, .. } = &self.outcome;
        let peer = peer.as_deref().unwrap_or("another node");
        let others: Vec<&str> = self.vips.iter().filter(|name| *name != vip).map(String::as_str).collect();
        let with = if others.is_empty() { String::new() } else { format!(", with {}", others.join(" and ")) };
        let mut out = String::new();
        let mut line = |text: String| writeln!(out, "{vip}: {text}").expect("a String takes all");
        match (done, gap_ms) {
            (true, _) if self.dry_run => line(format!("{peer} is ready to take it{with}")),
            (true, Some(gap)) => line(format!("{peer} has it{with}; nobody answered for {gap:.1} ms at most")),
            (true, None) => line(format!("taken over from {peer}{with}")),
            (false, _) => {
                line(format!("not handed over: {}", failure.as_deref().unwrap_or("for no reason that is known")));
            }
        }
        for Seen { address, mac, connected } in &self.verified {
            let port = connected.map(|port| format!(", and port {port} takes connections")).unwrap_or_default();
            line(format!("{address} answers at {mac}{port}"));
        }
        if let Some(why) = &self.not_verified {
            line(format!("not verified: {why}"));
        }
        match self.taken_back {
            Some(true) => line("this node has it again".to_owned()),
            Some(false) => line("this node could NOT take it back: see `vipd status`".to_owned()),
            None => {}
        }
        out
    }
}

impl Args {
    pub(super) fn run(self) -> io::Result<Exit> {
        match self.hand_over() {
            Ok((report, exit)) => {
                print(&if self.json { format!("{:#}\n", serde_json::json!(report)) } else { report.shown() })?;
                Ok(exit)
            }
            Err(Failed { text, exit }) => {
                complain(&format!("vipd: {text}\n"));
                Ok(exit)
            }
        }
    }

    fn hand_over(&self) -> Result<(Report, Exit), Failed> {
        let Self { vip, to, dry_run, verify, connect, agent, .. } = self;
        let control = &agent.control;
        let (node, known) = find(control, vip)?;
        if *verify && to.as_ref() == Some(&node) {
            let text =
                "--verify asks from outside the new owner: run it on the node that has the address now".to_owned();
            return Err(Failed { text, exit: Exit::Usage });
        }
        let request =
            HandoverRequest { vip: vip.clone(), to: to.clone(), dry_run: *dry_run, reason: RequestReason::Operator };
        let mut report = Report::of(order(control, &request)?, &known, *dry_run);
        let mut exit = if report.outcome.done { Exit::Done } else { Exit::No };
        if *verify && report.outcome.done {
            match seen(&known, *connect) {
                Ok(verified) => report.verified = verified,
                Err(Unverified::Nobody(why)) => {
                    report.not_verified = Some(why);
                    report.taken_back = Some(take_back(control, vip, node)?);
                    exit = Exit::No;
                }
                Err(Unverified::Unable(error)) => {
                    exit = match error.kind() {
                        io::ErrorKind::PermissionDenied => Exit::NotPermitted,
                        _ => Exit::Refused,
                    };
                    report.not_verified = Some(error.to_string());
                }
            }
        }
        Ok((report, exit))
    }
}

/// Why a command ends without a report.
pub(super) struct Failed {
    pub(super) text: String,
    pub(super) exit: Exit,
}

impl From<NoAnswer> for Failed {
    fn from(error: NoAnswer) -> Self {
        Self { text: error.to_string(), exit: error.exit() }
    }
}

/// This node's name, and what it knows of a vip and those that move with it.
fn find(control: &Path, vip: &str) -> Result<(String, Vec<VipStatus>), Failed> {
    let Status { node, vips, .. } = client::get::<Status>(control, "/v1/status")?;
    let known = together(&vips, vip);
    if known.is_empty() {
        let text = format!("there is no vip and no group {vip:?}; `vipd status` lists them");
        return Err(Failed { text, exit: Exit::No });
    }
    Ok((node, known.into_iter().cloned().collect()))
}

/// The vip of a name and those of its group, or those of the group of that name.
pub(super) fn together<'a>(vips: &'a [VipStatus], name: &str) -> Vec<&'a VipStatus> {
    let group = match vips.iter().find(|vip| vip.name == name) {
        Some(vip) if vip.group.is_none() => return vec![vip],
        Some(vip) => vip.group.as_deref(),
        None => Some(name),
    };
    vips.iter().filter(|vip| vip.group.as_deref() == group).collect()
}

/// Has the agent hand over, and waits for the outcome.
pub(super) fn order(control: &Path, request: &HandoverRequest) -> Result<HandoverOutcome, Failed> {
    let body = serde_json::to_vec(request).map_err(|error| Failed { text: error.to_string(), exit: Exit::Refused })?;
    match client::post_and_wait(control, "/v1/handover", body, HANDOVER_PATIENCE)? {
        Answer::Document(outcome) => Ok(outcome),
        Answer::Refusal(StatusCode::NOT_FOUND, text) => Err(Failed { text, exit: Exit::No }),
        Answer::Refusal(status, text) => Err(client::refused(control, status, &text).into()),
    }
}

/// Why it is not known to be where it should be.
pub(super) enum Unverified {
    /// It is not there.
    Nobody(String),
    /// It could not be asked.
    Unable(io::Error),
}

/// Who answers for each address of vips that this node does not have.
pub(super) fn seen(vips: &[VipStatus], connect: Option<u16>) -> Result<Vec<Seen>, Unverified> {
    let ip = |address: &String| address.split('/').next()?.parse::<IpAddr>().ok();
    let addresses = vips.iter().flat_map(|vip| vip.addresses.iter().filter_map(ip).map(|ip| (&vip.interface, ip)));
    let mut seen = Vec::new();
    for (interface, address) in addresses {
        let mac = neighbour::who_answers(interface, address, QUESTIONS).map_err(Unverified::Unable)?;
        let mac = mac.ok_or_else(|| Unverified::Nobody(format!("nobody answers for {address}")))?;
        let is_local = matches!(address, IpAddr::V6(address) if address.is_unicast_link_local());
        let connected = connect.filter(|_| !is_local);
        if let Some(port) = connected {
            TcpStream::connect_timeout(&SocketAddr::new(address, port), CONNECT_PATIENCE)
                .map_err(|error| Unverified::Nobody(format!("port {port} of {address}: {error}")))?;
        }
        seen.push(Seen { address, mac: mac.to_string(), connected });
    }
    Ok(seen)
}

fn take_back(control: &Path, vip: &str, node: String) -> Result<bool, Failed> {
    let request = HandoverRequest { vip: vip.to_owned(), to: Some(node), dry_run: false, reason: RequestReason::Back };
    Ok(order(control, &request)?.done)
}
