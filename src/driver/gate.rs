//! The lease in the kernel: addresses that answer only as long as somebody keeps saying so.
//!
//! Each interface has an nftables table of its own that drops whatever would answer to a *managed* address or speak as
//! it (ARP, IPv4, IPv6, neighbor discovery, in both directions), unless the address is *owned* as well. An owned
//! address ceases to be one by the kernel's own clock. So a frozen, starved or killed agent stops answering, an
//! announcement that it sends too late is dropped, and a table that outlives its agent stays closed until the next one
//! takes it over. The hooks are those of the physical interface: they see what comes from and goes to a macvlan over
//! it, too. Frames of a VLAN over it belong to the VLAN's own interface and pass; so does everything about any other
//! address. A kernel without such hooks has those of its IP and its ARP ([`Layer::InetArp`]): they see less, and know
//! of addresses only, not of interfaces.
//!
//! Decides only how to word things to this kernel, and how to keep a term: never later than asked, by no clock but the
//! monotonic one; earlier by at most two of the kernel's ticks, and by [`ALLOWANCES`]. A suspended host's clock stands
//! still, and so does its lease: whoever wakes up has to call [`Gate::end`] before anything else.
//!
//! A host that audits writes one `NETFILTER_CFG` record a renewal; `-a never,exclude -F msgtype=NETFILTER_CFG` in its audit
//! rules keeps them out.

#![allow(
    clippy::disallowed_methods,
    reason = "the kernel counts a term from when it learns of it: how long it was on its way shows only around the system call"
)]

mod onlooker;
mod probe;
mod rules;
mod table;

pub use self::onlooker::Onlooker;
pub use self::table::Lease;

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use netlink_packet_netfilter::nftables::{NfTablesMessage, TableAttribute, TableMessage};

use self::probe::Abilities;
use self::table::{Direction, ELEMENTS, MANAGED, OWNED, Set, Table, Term};
use super::error::{context, errno};
use super::nftables::{Change, Nftables, is_missing};

/// For how long a renewal may be on its way to the kernel, attempt by attempt. The kernel counts a term from when it
/// learns of it, so this is taken off; one that took longer is sent anew, with so much and the next in addition.
pub const ALLOWANCES: [Duration; 2] = [Duration::from_micros(250), Duration::from_millis(2)];

/// What of the term the last attempt may take, as a divisor: a host that is even slower cannot keep a lease.
pub const LAST_ALLOWANCE_PART: u32 = 4;

/// The same for each address of the renewal.
pub const ALLOWANCE_PER_ADDRESS: Duration = Duration::from_micros(2);

/// The kernel's slowest tick (HZ=100). Older kernels take a term that is shorter than a tick for endless.
const LONGEST_TICK: Duration = Duration::from_millis(10);

/// While the rules are made anew, for the owned addresses that are taken along.
const REPLACE_ALLOWANCES: [Duration; 3] =
    [Duration::from_millis(3), Duration::from_millis(30), Duration::from_millis(300)];

/// The term of an element that is added for no other purpose than that it can be removed.
const MOMENT: Term = Term::Milliseconds(1000);

/// Where the rules are asked. The stronger comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// At the interface: of whatever comes in and goes out there, an announcement that is sent too late included.
    Netdev,
    /// In the host's IP and ARP: of what is for the host and from it. An address is closed at all interfaces at once,
    /// whichever one it is managed at; what a program sends as a whole frame, and what is forwarded or translated,
    /// passes.
    InetArp,
}

impl Layer {
    /// All.
    pub const ALL: [Self; 2] = [Self::Netdev, Self::InetArp];

    /// As the status names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Netdev => "netdev",
            Self::InetArp => "inet+arp",
        }
    }
}

/// The gates of a network namespace. Dropped, they stay as they are, and close by themselves.
#[derive(Debug)]
pub struct Gate {
    nftables: Nftables,
    layer: Layer,
    abilities: Abilities,
    interfaces: BTreeMap<String, Interface>,
}

/// The outcome of a renewal.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// The addresses pass until then.
    Open,
    /// It came too late: the kernel had closed the gate already, or it is about to, or this host is too starved to
    /// say a term in time. All the addresses are closed, and stay so through any further renewal until [`Gate::end`].
    Lapsed,
}

/// Addresses that are to pass until then. They were opened together, and end together.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Where.
    pub interface: &'a str,
    /// Which of those that are managed there.
    pub addresses: &'a [IpAddr],
    /// When they cease to.
    pub until: Instant,
}

#[derive(Debug, Default)]
struct Interface {
    /// Addresses that were opened and not ended, with the end of their term. The kernel may have closed them since.
    opened: BTreeMap<IpAddr, Instant>,
}

impl Gate {
    /// Opens a conversation with nftables, in the network namespace of the calling thread, and finds out what it can
    /// do: the strongest layer that this kernel has. Changes nothing: tables of an agent before this one go on until
    /// they are managed anew, or removed.
    ///
    /// # Errors
    ///
    /// Says what is missing: nftables, its hooks, or the right to use them.
    pub fn open() -> io::Result<Self> {
        let mut missing = Vec::new();
        for layer in Layer::ALL {
            match Self::open_in(layer) {
                Ok(gate) => return Ok(gate),
                Err(error) => missing.push(error),
            }
        }
        let kind = missing.first().map_or(io::ErrorKind::Unsupported, io::Error::kind);
        let mut texts: Vec<_> = missing.iter().map(ToString::to_string).collect();
        texts.dedup();
        Err(io::Error::new(kind, texts.join("; ")))
    }

    /// The same in one layer and no other.
    ///
    /// # Errors
    ///
    /// Says what is missing.
    pub fn open_in(layer: Layer) -> io::Result<Self> {
        let mut nftables = Nftables::open()?;
        let abilities = probe::abilities(&mut nftables, layer)?;
        Ok(Self { nftables, layer, abilities, interfaces: BTreeMap::new() })
    }

    /// The strongest layer that this kernel has, if any. Unlike [`Self::open`] it may be asked beside a running agent.
    ///
    /// # Errors
    ///
    /// `PermissionDenied`: the kernel tells it to nobody who may not use it.
    pub fn strongest() -> io::Result<Option<Layer>> {
        let mut nftables = Nftables::open()?;
        for layer in Layer::ALL {
            match probe::hooks(&mut nftables, layer) {
                Ok(()) => return Ok(Some(layer)),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(error),
                Err(_) => {}
            }
        }
        Ok(None)
    }

    /// Where the rules are asked.
    pub const fn layer(&self) -> Layer {
        self.layer
    }

    /// Removes what an agent before this one left in other layers, which nobody would ever open again.
    ///
    /// # Errors
    ///
    /// The kernel's refusal: `PermissionDenied` where that agent still runs.
    pub fn remove_other_layers(&mut self) -> io::Result<()> {
        let own = self.layer;
        for layer in Layer::ALL.into_iter().filter(|layer| *layer != own) {
            let removed = match self.interfaces_in(layer) {
                Ok(interfaces) => self.remove_in(layer, &interfaces),
                Err(error) => Err(error),
            };
            match removed {
                // A kernel without that family has none of its tables.
                Err(error) if errno(&error) == Some(libc::EOPNOTSUPP) || is_missing(&error) => {}
                result => result.map_err(context("remove gates of another layer"))?,
            }
        }
        Ok(())
    }

    /// Whether owned addresses are renewed in place, and not by taking them out and in again, which costs more.
    /// Found out by trying.
    pub const fn refreshes_in_place(&self) -> bool {
        self.abilities.refreshes
    }

    /// Works as on a kernel that cannot refresh in place.
    pub const fn refresh_by_replacement(&mut self) {
        self.abilities.refreshes = false;
    }

    /// Whether the tables are safe from another program's flush of all rules while this lives. Otherwise a renewal
    /// after such a flush is an error of kind `NotFound`, and [`Self::stands`] is false.
    pub const fn survives_flush(&self) -> bool {
        self.abilities.persists
    }

    /// Closes the interface to all these addresses, except those that are owned already (by this agent, or by one
    /// before it whose lease still runs), and opens it to all others. The rules are made anew in one step; no
    /// packet meets a state between the two. To be called again when the interface was made anew (older kernels forget its
    /// rules, newer ones keep them for the next of its name) or renamed, and when [`Self::stands`] says no.
    ///
    /// # Errors
    ///
    /// The kernel's refusal: `NotFound` where there is no such interface, `PermissionDenied` where another agent that still
    /// runs has a gate there. Nothing has changed then.
    pub fn manage(&mut self, interface: &str, addresses: &[IpAddr]) -> io::Result<()> {
        let opened = match self.interfaces.get(interface) {
            Some(known) => known.opened.clone(),
            None => self.inherited(interface)?,
        };
        let opened: BTreeMap<_, _> = opened.into_iter().filter(|(address, _)| addresses.contains(address)).collect();
        let mut in_time = false;
        for allowance in REPLACE_ALLOWANCES {
            let replaced = self.replace(interface, addresses, &opened, allowance);
            in_time = replaced.map_err(context(&format!("make the gate of {interface}")))?;
            if in_time {
                break;
            }
        }
        self.interfaces.insert(interface.to_owned(), Interface { opened });
        if in_time { Ok(()) } else { self.lapse(interface, addresses) }
    }

    /// Closes a managed interface to more addresses. What is owned there is not touched, as it would be by [`Self::manage`].
    ///
    /// # Errors
    ///
    /// The kernel's refusal: `NotFound` where the interface has no gate (any more). Nothing has changed then.
    pub fn extend(&mut self, interface: &str, addresses: &[IpAddr]) -> io::Result<()> {
        self.change_managed(interface, addresses, |table, set, chunk| {
            table::add_elements(table, set, chunk, Term::Endless)
        })
    }

    /// Lets addresses pass that are managed, and shall not be any longer. They must not be owned.
    ///
    /// # Errors
    ///
    /// The kernel's refusal: `NotFound` where the interface has no gate (any more), or it does not manage one of them.
    pub fn release(&mut self, interface: &str, addresses: &[IpAddr]) -> io::Result<()> {
        self.change_managed(interface, addresses, table::remove_elements)
    }

    /// Removes the gate of an interface: all addresses pass.
    ///
    /// # Errors
    ///
    /// The kernel's refusal. An interface without a gate is no error.
    pub fn unmanage(&mut self, interface: &str) -> io::Result<()> {
        self.interfaces.remove(interface);
        self.remove_in(self.layer, &[interface.to_owned()]).map_err(context(&format!("remove the gate of {interface}")))
    }

    /// Lets the addresses pass until then, and no longer: opens those that are closed, and renews those that this
    /// opened before and that still pass. One transaction for each 1,000 addresses; does not wait.
    ///
    /// # Errors
    ///
    /// The kernel's refusal: `NotFound` where the interface has no gate (any more). The addresses then pass for as long as
    /// was asked before.
    pub fn renew(&mut self, interface: &str, addresses: &[IpAddr], until: Instant) -> io::Result<Renewal> {
        for addresses in addresses.chunks(ELEMENTS) {
            let renewal = self.renew_at_once(&[Wanted { interface, addresses, until }]);
            match renewal.map_err(context(&format!("renew the lease on {interface}")))? {
                Renewal::Open => {}
                Renewal::Lapsed => {
                    self.lapse(interface, addresses)?;
                    return Ok(Renewal::Lapsed);
                }
            }
        }
        Ok(Renewal::Open)
    }

    /// As [`Self::renew`] for each; in one transaction, if none of them is an error or comes too late.
    pub fn renew_all(&mut self, all: &[Wanted<'_>]) -> Vec<io::Result<Renewal>> {
        if all.len() > 1 && count(all) <= ELEMENTS && matches!(self.renew_at_once(all), Ok(Renewal::Open)) {
            return all.iter().map(|_| Ok(Renewal::Open)).collect();
        }
        all.iter().map(|wanted| self.renew(wanted.interface, wanted.addresses, wanted.until)).collect()
    }

    /// Closes the interface to these addresses. When it returns, the kernel has done it; a frame that it let pass before
    /// may still be in the interface's own queue.
    ///
    /// # Errors
    ///
    /// The kernel's refusal: `NotFound` where the interface has no gate (any more).
    pub fn end(&mut self, interface: &str, addresses: &[IpAddr]) -> io::Result<()> {
        if let Some(known) = self.interfaces.get_mut(interface) {
            known.opened.retain(|address, _| !addresses.contains(address));
        }
        self.close(interface, addresses)
    }

    /// The addresses that pass, and for how long yet, by the kernel's own account. Answers before the interface is managed,
    /// too: what an agent before this one left.
    ///
    /// # Errors
    ///
    /// The kernel's refusal. An interface without a gate owns nothing.
    pub fn owned(&mut self, interface: &str) -> io::Result<Vec<(IpAddr, Duration)>> {
        Ok(self.leases(interface)?.into_iter().map(|lease| (lease.address, lease.left)).collect())
    }

    /// The same, with how long each was when it was given.
    ///
    /// # Errors
    ///
    /// The kernel's refusal. An interface without a gate owns nothing.
    pub fn leases(&mut self, interface: &str) -> io::Result<Vec<Lease>> {
        onlooker::leases(&mut self.nftables, self.layer, interface)
    }

    /// Whether the interface has its gate: no other program removed it, nor did the interface's own end.
    ///
    /// # Errors
    ///
    /// The kernel's refusal.
    pub fn stands(&mut self, interface: &str) -> io::Result<bool> {
        for table in table::tables_of(interface, self.layer) {
            for direction in Direction::ALL {
                if self.nftables.find(table.place.family(), &table::chain(&table, direction))?.is_none() {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// The interfaces that have a gate, whoever made it. Some may not exist any more.
    ///
    /// # Errors
    ///
    /// The kernel's refusal.
    pub fn interfaces(&mut self) -> io::Result<Vec<String>> {
        self.interfaces_in(self.layer).map_err(context("list the gates"))
    }

    /// Removes all gates, in one step: at a clean exit, once the addresses are gone.
    ///
    /// # Errors
    ///
    /// The kernel's refusal; then all are still there.
    pub fn remove_all(&mut self) -> io::Result<()> {
        let interfaces = self.interfaces()?;
        self.remove_in(self.layer, &interfaces).map_err(context("remove the gates"))?;
        self.interfaces.clear();
        Ok(())
    }

    fn interfaces_in(&mut self, layer: Layer) -> io::Result<Vec<String>> {
        let all = NfTablesMessage::GetTable(TableMessage { attributes: Vec::new() });
        let mut interfaces = Vec::new();
        for place in layer.places() {
            let tables = self.nftables.list(place.family(), &all)?;
            let names = tables.iter().filter_map(|answer| match answer {
                NfTablesMessage::NewTable(TableMessage { attributes }) => attributes.iter().find_map(|it| match it {
                    TableAttribute::Name(name) => Some(name),
                    _ => None,
                }),
                _ => None,
            });
            interfaces.extend(names.filter_map(|name| table::interface_of(name)).map(str::to_owned));
        }
        // Of several tables of one interface.
        interfaces.sort();
        interfaces.dedup();
        Ok(interfaces)
    }

    fn remove_in(&mut self, layer: Layer, interfaces: &[String]) -> io::Result<()> {
        let tables = interfaces.iter().flat_map(|interface| table::tables_of(interface, layer));
        let changes: Vec<Change> = tables.flat_map(|table| table::clear(&table)).collect();
        if changes.is_empty() { Ok(()) } else { self.nftables.commit(changes) }
    }

    fn change_managed(
        &mut self,
        interface: &str,
        addresses: &[IpAddr],
        change: impl Fn(&Table, Set, &[IpAddr]) -> Vec<Change>,
    ) -> io::Result<()> {
        if !self.interfaces.contains_key(interface) {
            return Err(no_gate());
        }
        let tables = table::tables_of(interface, self.layer);
        for chunk in addresses.chunks(ELEMENTS) {
            let changes = sets(&tables, MANAGED).flat_map(|(table, set)| change(table, set, chunk));
            self.nftables.commit(changes.collect()).map_err(context(&format!("change the gate of {interface}")))?;
        }
        Ok(())
    }

    /// What an agent before this one left open. The kernel tells its ticks, so one of them may be over by now.
    fn inherited(&mut self, interface: &str) -> io::Result<BTreeMap<IpAddr, Instant>> {
        let now = Instant::now();
        let owned = self.owned(interface)?;
        Ok(owned.into_iter().map(|(address, left)| (address, now + left.saturating_sub(LONGEST_TICK))).collect())
    }

    /// Whether that was in time.
    fn replace(
        &mut self,
        interface: &str,
        addresses: &[IpAddr],
        opened: &BTreeMap<IpAddr, Instant>,
        allowance: Duration,
    ) -> io::Result<bool> {
        let tables = table::tables_of(interface, self.layer);
        let start = Instant::now();
        let mut changes = table::replace(&tables, interface, self.abilities.persists);
        let mut by_end: BTreeMap<Instant, Vec<IpAddr>> = BTreeMap::new();
        for (address, until) in opened {
            by_end.entry(*until).or_default().push(*address);
        }
        for (table, managed) in sets(&tables, MANAGED) {
            changes.extend(table::add_elements(table, managed, addresses, Term::Endless));
        }
        for (table, owned) in sets(&tables, OWNED) {
            for (until, addresses) in &by_end {
                if let Some(term) = term(start + allowance, *until) {
                    changes.extend(table::add_elements(table, owned, addresses, term));
                }
            }
        }
        self.nftables.commit(changes)?;
        Ok(start.elapsed() <= allowance)
    }

    /// Which of several are lapsed is not said.
    fn renew_at_once(&mut self, all: &[Wanted<'_>]) -> io::Result<Renewal> {
        let mut took = ALLOWANCE_PER_ADDRESS * u32::try_from(count(all)).unwrap_or(u32::MAX);
        let earliest = all.iter().map(|wanted| wanted.until).min();
        let left = earliest.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()));
        for allowance in ALLOWANCES.into_iter().chain([left / LAST_ALLOWANCE_PART]) {
            let start = Instant::now();
            let allowance = allowance + took;
            let mut changes = Vec::new();
            for alike in all.chunk_by(|one, other| (one.interface, one.until) == (other.interface, other.until)) {
                let Some(Wanted { interface, until, .. }) = alike.first() else { continue };
                let known = self.interfaces.get(*interface).ok_or_else(no_gate)?;
                let Some(term) = term(start + allowance, *until) else { return Ok(Renewal::Lapsed) };
                let tables = table::tables_of(interface, self.layer);
                changes.extend(renewal(&tables, alike, &known.opened, self.abilities.refreshes, term));
            }
            match self.nftables.commit(changes) {
                Ok(()) => self.note_opened(all),
                Err(error) if is_missing(&error) && self.stand_at(all)? => return Ok(Renewal::Lapsed),
                Err(error) => return Err(error),
            }
            took = start.elapsed();
            if took <= allowance {
                return Ok(Renewal::Open);
            }
        }
        Ok(Renewal::Lapsed)
    }

    fn note_opened(&mut self, all: &[Wanted<'_>]) {
        for wanted in all {
            if let Some(known) = self.interfaces.get_mut(wanted.interface) {
                known.opened.extend(wanted.addresses.iter().map(|address| (*address, wanted.until)));
            }
        }
    }

    fn stand_at(&mut self, all: &[Wanted<'_>]) -> io::Result<bool> {
        for wanted in all {
            if !self.stands(wanted.interface)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Closes, and leaves no way back but [`Self::end`]: addresses that count as opened and are closed cannot be renewed.
    fn lapse(&mut self, interface: &str, addresses: &[IpAddr]) -> io::Result<()> {
        let now = Instant::now();
        if let Some(known) = self.interfaces.get_mut(interface) {
            known.opened.extend(addresses.iter().map(|address| (*address, now)));
        }
        self.close(interface, addresses)
    }

    fn close(&mut self, interface: &str, addresses: &[IpAddr]) -> io::Result<()> {
        let tables = table::tables_of(interface, self.layer);
        for chunk in addresses.chunks(ELEMENTS) {
            let changes = sets(&tables, OWNED).flat_map(|(table, owned)| {
                // What has ended cannot be removed, so it is added first; no packet meets the state between.
                let mut changes = table::add_elements(table, owned, chunk, MOMENT);
                changes.extend(table::remove_elements(table, owned, chunk));
                changes
            });
            self.nftables.commit(changes.collect()).map_err(context(&format!("end the lease on {interface}")))?;
        }
        Ok(())
    }
}

/// How many addresses they are.
fn count(all: &[Wanted<'_>]) -> usize {
    all.iter().map(|wanted| wanted.addresses.len()).sum()
}

/// The sets of a kind, each with its table.
fn sets(tables: &[Table], kind: table::Kind) -> impl Iterator<Item = (&Table, Set)> {
    tables
        .iter()
        .flat_map(move |table| table.place.families().iter().map(move |family| (table, Set { kind, family: *family })))
}

/// What of a transaction opens addresses of an interface and renews those that are open, all of them until the same instant.
/// It takes one that is open out and in again, which the kernel refuses, and all of the transaction with it, where that one
/// has ended: so a renewal that comes too late opens nothing. One is enough of those that were opened together and end together.
fn renewal(
    tables: &[Table],
    wanted: &[Wanted<'_>],
    opened: &BTreeMap<IpAddr, Instant>,
    refreshes: bool,
    term: Term,
) -> Vec<Change> {
    let out = wanted.iter().flat_map(|wanted| {
        let open = wanted.addresses.iter().filter(|address| opened.contains_key(*address));
        open.take(if refreshes { 1 } else { usize::MAX }).copied()
    });
    let out: Vec<IpAddr> = out.collect();
    let addresses: Vec<IpAddr> = wanted.iter().flat_map(|wanted| wanted.addresses).copied().collect();
    let mut changes = Vec::with_capacity(4);
    for (table, owned) in sets(tables, OWNED) {
        changes.extend(table::remove_elements(table, owned, &out));
        changes.extend(table::add_elements(table, owned, &addresses, term));
    }
    changes
}

/// The term from one instant to the other in the kernel's unit, rounded down; `None`: shorter than a tick.
fn term(from: Instant, until: Instant) -> Option<Term> {
    let left = until.saturating_duration_since(from);
    let milliseconds = u64::try_from(left.as_millis()).ok()?;
    (left >= LONGEST_TICK).then_some(Term::Milliseconds(milliseconds))
}

fn no_gate() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the interface has no gate")
}
