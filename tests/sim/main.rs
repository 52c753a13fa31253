//! The simulator: many nodes, each with the real engine, on one virtual clock and a lossy network that carries real bytes.
//!
//! | file | subject |
//! |---|---|
//! | `rng`, `clock` | chance and time that can be repeated |
//! | `network`, `neighbours`, `host` | what the world is made of |
//! | `world`, `travel`, `kernel` | how it goes on |
//! | `voters` | the witness, and the talk about grants |
//! | `second` | another network, on which the agents send each other heartbeats |
//! | `acts`, `ask` | what befalls it, and what a scenario asks of it |
//! | `watch` | what must never happen, with each excuse |
//! | `seeds` | many worlds, or one with a trace |
//! | `plan`, `random` | thousands of worlds by seed: faults, then heal and require progress |
//! | `partition` | the same with voters: every shape of partition, and no overlap at all |
//! | `mutation` | that the judge can fail |
//! | `build` and the rest | named scenarios: each test's name is its claim |
//! | `matrix` | each fault that can befall a pair, judged by the same five sentences |
//! | `table` | the state × input table as a golden file |
//!
//! `VIPD_SIM_SEEDS=100000 cargo test --test sim random` runs more worlds, `VIPD_SIM_SEED=4711` one of them with a trace.

// Everything here is for this binary only; `pub` marks what the other files use.
#![allow(unreachable_pub)]

mod acts;
mod ask;
mod bounds;
mod build;
mod clock;
mod host;
mod kernel;
mod neighbours;
mod network;
mod plan;
mod random;
mod rng;
mod second;
mod seeds;
mod travel;
mod voters;
mod watch;
mod world;

mod ahead;
mod answers;
mod checksums;
mod conflict;
mod families;
mod fence;
mod forged;
mod freeze;
mod group;
mod handover;
mod handover_group;
mod handover_hook;
mod heal;
mod health;
mod hold;
mod hook;
mod isolation;
mod links;
mod matrix;
mod mutation;
mod partition;
mod preempt;
mod quorum;
mod release;
mod reload;
mod restart;
mod seals;
mod second_path;
mod silence;
mod spread;
mod table;
mod takeover;
mod vanish;
