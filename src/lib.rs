//! vipd gives a service on bare-metal hosts a virtual IP address that moves to a healthy host when its owner dies.
//!
//! # The map
//!
//! ```text
//! types ← wire ← engine ← config, driver ← daemon ← cli
//!                                   driver ← lab  ← cli
//! ```
//!
//! An arrow is an import; nothing imports to its right.
//!
//! | module | holds |
//! |---|---|
//! | [`types`] | values that cannot hold what the standard forbids: `Vrid`, `Priority`, `AdvertInterval`, ... |
//! | [`wire`] | adverts of VRRPv2 and v3, ARP, neighbour discovery, sealed messages: bytes to values and back |
//! | [`engine`] | who owns the addresses, until when, and what the neighbours are told: decides, and does nothing itself |
//! | [`config`] | the TOML file to the engine's settings, all mistakes at once, each with its place and its remedy; of `driver` it asks whether a check can be run |
//! | [`driver`] | one kernel facility a file: sockets, addresses, links, timers; obeys, and decides nothing |
//! | [`daemon`] | the loop around the engine, the clock, the control socket, all log lines |
//! | [`lab`] | hosts as network namespaces, for `vipd lab`, the tests and the benchmark |
//! | [`cli`] | one file a subcommand |
//!
//! `types`, `wire` and `engine` know no clock, socket, file or log. They build alone, as `no_std + alloc`, with
//! `--no-default-features`.
//!
//! # Where to start reading
//!
//! [`engine`] for what happens and why; `daemon/event_loop/` for how it is carried out; `tests/sim/` for what
//! must never happen.

#![cfg_attr(not(feature = "agent"), no_std)]

extern crate alloc;

pub mod engine;
#[cfg(feature = "agent")]
pub mod lab;
pub mod types;
pub mod wire;

#[cfg(feature = "agent")]
pub mod cli;
#[cfg(feature = "agent")]
pub mod config;
#[cfg(feature = "agent")]
pub mod daemon;
#[cfg(feature = "agent")]
pub mod driver;

#[cfg(all(test, feature = "agent"))]
mod scratch;
