//! Hosts in a box: machines as network namespaces on a virtual switch, for `vipd lab` and for the tests.
//!
//! No root and no external program is needed. [`enter`] comes first, once, in a process that has one thread; then
//! [`Network`]s and [`Host`]s are made, programs started on them by [`Host::command`] and [`Process::start`], and faults made
//! at the [`Port`]s. Whatever ends the process, the kernel clears everything away.
//!
//! | file | holds |
//! |---|---|
//! | `world` | the way in: user, network and mount namespace |
//! | `namespace`, `host`, `process` | one machine, and what runs on it |
//! | `network` | the switch, its ports, and the faults made there |
//! | `rtnl` | a synchronous rtnetlink client |
//! | `software` | the agents: vipd, keepalived, FRR; their configurations, command lines and logs |
//! | `probe`, `frames`, `tap` | who answers for an address, asked every millisecond |
//! | `leases` | which kernel lets its host have it |
//! | `measure`, `timeline` | from answers to outage, takeover and two owners; to a line of letters |
//! | `firewall` | a firewall that stops adverts |
//! | `stranger` | a host that takes the address by itself |
//! | `pair`, `scenario` | two nodes and a client; what can happen to the owner |

#![allow(clippy::disallowed_methods, reason = "it measures what others do, in real time")]

mod firewall;
pub mod frames;
mod host;
mod leases;
mod measure;
mod namespace;
mod network;
mod pair;
mod probe;
mod process;
mod rtnl;
mod scenario;
mod software;
mod stranger;
mod tap;
mod timeline;
mod world;

pub use firewall::set_firewall;
pub use frames::Kind;
pub use host::Host;
pub use leases::LeaseRecord;
pub use measure::Measurement;
pub use namespace::Namespace;
pub use network::{Network, Port};
pub use pair::{INTERFACE, Node, Pair, PairOptions, Watch};
pub use probe::{Answer, PROBE_PERIOD, Probe, Record};
pub use process::{Line, Process};
pub use rtnl::Link;
pub use scenario::{Bound, Outcome, Return, Scenario};
pub use software::{Agent, AgentEvent, Router, Software, find_program};
pub use stranger::{STRANGER_MAC, Stranger};
pub use tap::Tap;
pub use timeline::strip;
pub use world::enter;
