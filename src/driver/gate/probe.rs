//! What this kernel's nftables can do, found by trying: versions say little where features are ported back.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::table::{self, Direction, OWNED, Set, Term};
use crate::driver::error::context;
use crate::driver::nftables::{Change, Nftables};
use crate::types::Family;

/// No interface can have this in its name, so no gate's table has this name.
const TABLE: &str = "vipd/probe";

/// Exists in every network namespace.
const INTERFACE: &str = "lo";

const SET: Set = Set { kind: OWNED, family: Family::V4 };
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// Long enough that no pause of this process between question and answer makes two of them look alike.
const TERMS: [u64; 3] = [600_000, 1_200_000, 60_000];

/// What may be there or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Abilities {
    /// Adding an element again gives it the new term, longer or shorter. Without it, it keeps the old one.
    pub(super) refreshes: bool,
    /// A table can outlive its owner. Without it, anybody's flush of the rule set opens the gate.
    pub(super) persists: bool,
}

/// Leaves nothing behind.
///
/// # Errors
///
/// Says what is missing that the gate cannot be without.
pub(super) fn abilities(nftables: &mut Nftables) -> io::Result<Abilities> {
    let tables = nftables.commit(table::clear(TABLE));
    tables.map_err(context("use nftables (the kernel's NF_TABLES with NF_TABLES_NETDEV, and CAP_NET_ADMIN)"))?;
    let mut chain = |direction| with_table(nftables, false, vec![table::add_chain(TABLE, direction, INTERFACE)]);
    chain(Direction::Ingress).map_err(context("make an nftables ingress hook (the kernel's NETFILTER_INGRESS)"))?;
    chain(Direction::Egress)
        .map_err(context("make an nftables egress hook (Linux 5.16 with the kernel's NETFILTER_EGRESS)"))?;
    // Kernels refuse flags that they do not know.
    let persists = with_table(nftables, true, Vec::new()).is_ok();
    Ok(Abilities { refreshes: refreshes(nftables)?, persists })
}

/// Makes a table with all that, and removes it in the same transaction.
fn with_table(nftables: &mut Nftables, persistent: bool, content: Vec<Change>) -> io::Result<()> {
    let make = [table::make(TABLE, persistent)];
    nftables.commit(make.into_iter().chain(content).chain([table::remove(TABLE)]).collect())
}

fn refreshes(nftables: &mut Nftables) -> io::Result<bool> {
    nftables.commit(vec![table::make(TABLE, false), table::add_set(TABLE, SET, 1)])?;
    let refreshes = TERMS.iter().try_fold(true, |so_far, term| Ok::<_, io::Error>(so_far && takes(nftables, *term)?));
    nftables.commit(table::clear(TABLE))?;
    refreshes
}

/// Whether the element has that term once it was given it.
fn takes(nftables: &mut Nftables, term: u64) -> io::Result<bool> {
    nftables.commit(table::add_elements(TABLE, SET, &[ADDRESS], Term::Milliseconds(term)))?;
    let left = nftables.list(&table::elements(TABLE, SET))?.into_iter().flat_map(table::elements_of).next();
    let term = Duration::from_millis(term);
    Ok(left.is_some_and(|(_, left)| left <= term && left > term / 2))
}
