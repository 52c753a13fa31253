//! Networks, agents, and questions to kernels.

mod agent;
pub mod database;
mod files;
mod forge;
mod kernel;
mod segment;

pub use agent::{Agent, CONFIG, CONTROL, STATE_DIR, Transition, Vip, configure, ensure_calm, reload, vipd};
pub use files::{KEY, install_program, lines_of, set_mode, write_keys, write_program};
pub use forge::{Forger, Forgery};
pub use kernel::{
    Address, addresses, await_all, await_none, interfaces, lifetimes_left, neighbour, own_addresses, resident_kib,
    sysctls,
};
pub use segment::{LINK_LOCAL, MAC_A, MAC_B, Segment, V4, V6, host, ip, learn};

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// The longest wait for what should come soon; a machine under test may be busy.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// Asks until the answer is there.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if start.elapsed() > PATIENCE {
            bail!("{what}: not within {PATIENCE:?}");
        }
        // Until it is there, not for so long: the kernels, files and agents that are asked tell nobody when it changes.
        thread::sleep(Duration::from_millis(3));
    }
}
