//! `[[check]]` and `[[vip.check]]`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Duration, default};

/// Something that is looked at again and again, and what becomes of the vip by it. Exactly one of `exec`,
/// `replication`, `tcp`, `http`, `ping`, `arp`, `file`, `process`, `systemd`, `interface`, `route` and `postgres`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// Its name in logs and in the status. 1 to 63 letters, digits, `-`, `_` and `.`.
    #[schemars(regex(pattern = r"^[A-Za-z0-9._-]{1,63}$"))]
    pub name: String,
    /// Passes while this program ends with exit code 0: its absolute path and its arguments. No shell, an empty environment, in `/`.
    #[schemars(length(min = 1))]
    pub exec: Option<Vec<String>>,
    /// A program as with `exec`, whose last line is a whole number: how far this node's data is behind.
    #[schemars(length(min = 1))]
    pub replication: Option<Vec<String>>,
    /// With `exec` and `replication`: the user that the program is run as. Default: the agent's, without its capabilities.
    pub user: Option<String>,
    /// Passes while connections are accepted there: an IP address or a name, with a port.
    pub tcp: Option<String>,
    /// Passes while this page is answered as it should be: `http://HOST:PORT/PATH`, or with `https`.
    pub http: Option<String>,
    /// With `http`: the name of the host that is asked for, and that its certificate must be for. Default: that of the address.
    pub host: Option<String>,
    /// With `http`: the status code that is well. Default: 200 to 299.
    #[schemars(range(min = 100, max = 599))]
    pub status: Option<u16>,
    /// With `http`: what the body must contain within its first 64 KiB. Default: anything.
    pub body: Option<String>,
    /// With `http` and https: a file with the certificates of those who may vouch for the server, or its own. Default: the system's list.
    pub ca: Option<String>,
    /// With `http` and https: whether the server must prove who it is. Default: true.
    pub verify: Option<bool>,
    /// Passes while the host of this IP address answers to an ICMP echo.
    pub ping: Option<String>,
    /// Passes while a neighbour answers to the question who has this address, by ARP or neighbour solicitation; needs `interface`.
    pub arp: Option<String>,
    /// Adds the whole number in this file to the priority, -253 to 253. Without a number the vip takes no part.
    pub file: Option<String>,
    /// Passes while a process of this name runs, as `ps -o comm` shows it.
    pub process: Option<String>,
    /// Passes while this unit of systemd's is active; `.service` may be left out.
    pub systemd: Option<String>,
    /// Passes while this PostgreSQL server answers, as what it should be: `host=/run/postgresql user=vipd dbname=postgres`. No TLS.
    pub postgres: Option<String>,
    /// With `postgres`: `"primary"`, `"standby"` or `"any"`. Default: any.
    pub role: Option<String>,
    /// With `postgres`: the servers of the other nodes. A primary fails while one of them is primary on a later timeline. Default: none.
    pub peers: Option<Vec<String>>,
    /// Passes while this interface has a carrier. With `ping` and `arp`: the interface that they use; `ping` by default the routes'.
    pub interface: Option<String>,
    /// With `interface`: and at least this many Mbit/s. Default: any.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub speed: Option<u32>,
    /// Passes while the main routing table has this route: `default`, or a network such as `10.0.0.0/8` or `::/0`.
    pub route: Option<String>,
    /// How often it is run, from start to start. `50ms` to `1h`. Default: `1s`.
    pub interval: Option<Duration>,
    /// How long one run may take before it counts as failed, and is killed. `10ms` to `5m`. Default: `1s`.
    pub timeout: Option<Duration>,
    /// How many successes in a row make it pass again. 1 to 100. Default: 2.
    #[serde(default = "default::row")]
    #[schemars(range(min = 1, max = 100))]
    pub rise: u8,
    /// How many failures in a row make it fail. 1 to 100. Default: 2.
    #[serde(default = "default::row")]
    #[schemars(range(min = 1, max = 100))]
    pub fall: u8,
    /// While it fails this node gives the addresses up and does not claim them; with `max_lag`: while the lag is unknown. Default: false.
    pub fault: Option<bool>,
    /// Positive: added to the priority while it passes. Negative: taken off while it fails. With `max_lag`: taken off at `max_lag`, and in
    /// proportion below; default -100 there. -253 to 253.
    #[schemars(range(min = -253, max = 253))]
    pub weight: Option<i16>,
    /// With `replication`, and needed there, in what the program counts in; with `postgres` a time such as `10s`: beyond it this
    /// node does not claim.
    pub max_lag: Option<MaxLag>,
    /// With `max_lag`: whether it claims all the same, last of all, when nobody else does. Default: false.
    pub when_alone: Option<bool>,
}

/// The lag that a node may have and claim all the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum MaxLag {
    /// In what a program counts in.
    Number(#[schemars(range(min = 1))] i64),
    /// A time.
    Time(Duration),
}
