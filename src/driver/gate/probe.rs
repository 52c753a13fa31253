//! What this kernel's nftables can do, found by trying: versions say little where features are ported back.

use std::io;
use std::num::NonZeroU32;
use std::time::Duration;

use super::Layer;
use super::elements::{self, Term};
use super::table::{self, Direction, LeaseId, Place, Set, Table};
use crate::driver::error::context;
use crate::driver::nftables::{Change, Nftables};

/// No interface can have this in its name, so no gate's table has this name.
const NAME: &str = "vipd/probe";

/// Exists in every network namespace.
const INTERFACE: &str = "lo";

const LEASE: LeaseId = LeaseId(NonZeroU32::MIN);

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
/// Says what is missing that this layer cannot be without.
pub(super) fn abilities(nftables: &mut Nftables, layer: Layer) -> io::Result<Abilities> {
    hooks(nftables, layer)?;
    let first = layer.places().first().copied().map(table).expect("each layer has a table");
    // Kernels refuse flags that they do not know.
    let persists = with_table(nftables, &first, true, Vec::new()).is_ok();
    Ok(Abilities { refreshes: refreshes(nftables, &first)?, persists })
}

/// Whether the layer's rules can be asked at all. Each try is one transaction, that makes a thing and removes it again.
///
/// # Errors
///
/// Says what is missing.
pub(super) fn hooks(nftables: &mut Nftables, layer: Layer) -> io::Result<()> {
    for place in layer.places() {
        let table = table(*place);
        let (needs, hooks) = needs(*place);
        nftables
            .commit(table::clear(&table))
            .map_err(context(&format!("use nftables ({needs}, and CAP_NET_ADMIN)")))?;
        for (direction, hook) in Direction::ALL.into_iter().zip(hooks) {
            let chain = vec![table::add_chain(&table, direction, INTERFACE)];
            with_table(nftables, &table, false, chain).map_err(context(&format!("make an nftables {hook}")))?;
        }
    }
    Ok(())
}

fn table(place: Place) -> Table {
    Table { name: NAME.to_owned(), place }
}

/// What the kernel must have been built with for a table, and for its hooks in each direction.
const fn needs(place: Place) -> (&'static str, [&'static str; 2]) {
    match place {
        Place::Device => (
            "the kernel's NF_TABLES with NF_TABLES_NETDEV",
            [
                "ingress hook (the kernel's NETFILTER_INGRESS)",
                "egress hook (Linux 5.16 with the kernel's NETFILTER_EGRESS)",
            ],
        ),
        Place::Ip => ("the kernel's NF_TABLES with NF_TABLES_INET", ["inet input hook", "inet output hook"]),
        Place::Arp => ("the kernel's NF_TABLES with NF_TABLES_ARP", ["arp input hook", "arp output hook"]),
    }
}

/// Makes a table with all that, and removes it in the same transaction.
fn with_table(nftables: &mut Nftables, table: &Table, persistent: bool, content: Vec<Change>) -> io::Result<()> {
    let make = [table::make(table, persistent)];
    nftables.commit(make.into_iter().chain(content).chain([table::remove(table)]).collect())
}

fn refreshes(nftables: &mut Nftables, table: &Table) -> io::Result<bool> {
    nftables.commit(vec![table::make(table, false), table::add_set(table, Set::Owned, 1)])?;
    let refreshes =
        TERMS.iter().try_fold(true, |so_far, term| Ok::<_, io::Error>(so_far && takes(nftables, table, *term)?));
    nftables.commit(table::clear(table))?;
    refreshes
}

/// Whether the element has that term once it was given it.
fn takes(nftables: &mut Nftables, table: &Table, term: u64) -> io::Result<bool> {
    nftables.commit(elements::add_owned(table, &[LEASE], Term(term)))?;
    let answers = nftables.list(table.place.family(), &elements::all(table, Set::Owned))?;
    let lease = answers.into_iter().flat_map(|answer| elements::read(answer, elements::running_of)).next();
    let term = Duration::from_millis(term);
    Ok(lease.is_some_and(|lease| lease.left <= term && lease.left > term / 2))
}
