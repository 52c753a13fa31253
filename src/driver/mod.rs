//! The kernel's facilities, one a file: what vipd asks of sockets, netlink and the scheduler.
//!
//! Nothing here decides and nothing logs. A driver does what it is told, or says what it tried and why that failed. It
//! knows the plain types of [`crate::types`] and the bytes of [`crate::wire`], and of the engine only the state of a
//! link, the kinds of claims, the ways to references and the results of checks. Sockets that the loop polls never
//! block; what can block (netlink) says so, and belongs on another thread.

pub mod addresses;
pub mod adverts;
pub mod announce;
pub mod attempt;
pub mod checks;
pub mod datagrams;
pub mod echo;
mod error;
pub mod fencing;
mod filter;
pub mod frames;
pub mod gate;
pub mod ipv4_conf;
pub mod journald;
mod link_message;
pub mod links;
pub mod neighbour;
pub mod netlink;
pub mod nftables;
mod patience;
pub mod program;
pub mod random;
pub mod readiness;
pub mod routes;
pub mod routing;
pub mod sandbox;
pub mod schedule;
pub mod state_dir;
pub mod timer;
pub mod trust;
pub mod virtual_mac;
pub mod watch;
pub mod watchdog;

pub use error::errno;
