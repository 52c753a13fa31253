//! The lease in the kernel: addresses that answer only as long as somebody keeps saying so.
//!
//! Each interface has an nftables table of its own that drops whatever would answer to a *managed* address or speak as it
//! (ARP, IPv4, IPv6, neighbor discovery, in both directions), unless its lease is *owned* as well. An owned lease ceases
//! to be one by the kernel's own clock. So a frozen, starved or killed agent stops answering, an announcement that it
//! sends too late is dropped, and a table that outlives its agent stays closed until the next one takes it over. A lease
//! is that of a vip, and renewed by one element a table however many addresses it has. The hooks are those of the
//! physical interface: they see what comes from and goes to a macvlan over it, too. Frames of a VLAN over it belong to
//! the VLAN's own interface and pass; so does everything about any other address. A kernel without such hooks has those
//! of its IP and its ARP ([`Layer::InetArp`]): they see less, and know of addresses only, not of interfaces.
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

mod elements;
mod onlooker;
mod probe;
mod rules;
mod table;

pub use self::onlooker::{Lease, Onlooker};
pub use self::table::{LeaseId, Managed};

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use netlink_packet_netfilter::nftables::{NfTablesMessage, TableAttribute, TableMessage};

use self::elements::Term;
use self::probe::Abilities;
use self::table::{Direction, Table};
use super::error::{context, errno};
use super::nftables::{Change, Nftables, is_missing};

/// For how long a renewal may be on its way to the kernel, attempt by attempt. The kernel counts a term from when it
/// learns of it, so this is taken off; one that took longer is sent anew, with so much and the next in addition.
pub const ALLOWANCES: [Duration; 2] = [Duration::from_micros(250), Duration::from_millis(2)];

/// What of the term the last attempt may take, as a divisor: a host that is even slower cannot keep a lease.
pub const LAST_ALLOWANCE_PART: u32 = 4;

/// The same for each lease of the renewal.
pub const ALLOWANCE_PER_LEASE: Duration = Duration::from_micros(2);

/// The kernel's slowest tick (HZ=100). Older kernels take a term that is shorter than a tick for endless.
const LONGEST_TICK: Duration = Duration::from_millis(10);

/// While the rules are made anew, for the owned addresses that are taken along.
const REPLACE_ALLOWANCES: [Duration; 3] =
    [Duration::from_millis(3), Duration::from_millis(30), Duration::from_millis(300)];

/// The term of an element that is added for no other purpose than that it can be removed.
const MOMENT: Term = Term(1000);

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
    /// Its addresses pass until then.
    Open,
    /// It came too late: the kernel had closed the gate already, or it is about to, or this host is too starved to
    /// say a term in time. All its addresses are closed, and stay so through any further renewal until [`Gate::end`].
    Lapsed,
}

/// A lease that is to run until then.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Where.
    pub interface: &'a str,
    /// Which of those that are managed there.
    pub lease: LeaseId,
    /// When it ends.
    pub until: Instant,
}

#[derive(Debug, Default)]
struct Interface {
    managed: BTreeMap<IpAddr, Option<LeaseId>>,
    /// Leases that were opened and not ended, with the end of their term. The kernel may have closed them since.
    opened: BTreeMap<LeaseId, Instant>,
}

impl Interface {
    /// The leases of its addresses.
    fn leases(&self) -> BTreeSet<LeaseId> {
        self.managed.values().copied().flatten().collect()
    }
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

    /// Whether what a lease has in further tables than the first is renewed in place, and not by taking it out and in
    /// again, which costs more. Found out by trying.
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

    /// Closes the interface to all these addresses, except those whose lease runs already (this agent's, or one that an
    /// agent before it gave to all addresses of the lease), and opens it to all others. The rules are made anew in one step;
    /// no packet meets a state between the two. To be called again when the interface was made anew (older kernels forget its
    /// rules, newer ones keep them for the next of its name) or renamed, and when [`Self::stands`] says no.
    ///
    /// # Errors
    ///
    /// The kernel's refusal: `NotFound` where there is no such interface, `PermissionDenied` where another agent that still
    /// runs has a gate there. Nothing has changed then.
    pub fn manage(&mut self, interface: &str, managed: &[Managed]) -> io::Result<()> {
        let managed = managed.iter().map(|it| (it.address, it.lease)).collect();
        let mut next = Interface { managed, opened: BTreeMap::new() };
        let leases = next.leases();
        next.opened = match self.interfaces.get(interface) {
            Some(known) => known.opened.clone(),
            None => self.inherited(interface, &next.managed)?,
        };
        next.opened.retain(|lease, _| leases.contains(lease));
        let mut in_time = false;
        for allowance in REPLACE_ALLOWANCES {
            let replaced = self.replace(interface, &next, allowance);
            in_time = replaced.map_err(context(&format!("make the gate of {interface}")))?;
            if in_time {
                break;
            }
        }
        self.interfaces.insert(interface.to_owned(), next);
        if in_time { Ok(()) } else { leases.into_iter().try_for_each(|lease| self.lapse(interface, lease)) }
    }

    /// Has a managed interface manage more addresses, or others of them by another lease: from now on they pass while that one
    /// runs. No other address is touched, as it would be by [`Self::manage`].
    ///
    /// # Errors
    ///
    /// The kernel's refusal: `NotFound` where the interface has no gate (any more). Nothing has changed then.
    pub fn assign(&mut self, interface: &str, assigned: &[Managed]) -> io::Result<()> {
        let known = self.interfaces.get(interface).ok_or_else(no_gate)?;
        let assigned = assigned.iter().filter(|it| known.managed.get(&it.address) != Some(&it.lease));
        let assigned: Vec<Managed> = assigned.copied().collect();
        let moved = assigned.iter().map(|it| it.address).filter(|address| known.managed.contains_key(address));
        let moved: Vec<_> = moved.collect();
        let mut managed = known.managed.clone();
        managed.extend(assigned.iter().map(|it| (it.address, it.lease)));
        self.change_managed(interface, managed, &moved, &assigned)
    }

    /// Lets addresses pass that are managed, and shall not be any longer.
    ///
    /// # Errors
    ///
    /// The kernel's refusal: `NotFound` where the interface has no gate (any more), or it does not manage one of them.
    pub fn release(&mut self, interface: &str, addresses: &[IpAddr]) -> io::Result<()> {
        let mut managed = self.interfaces.get(interface).ok_or_else(no_gate)?.managed.clone();
        managed.retain(|address, _| !addresses.contains(address));
        self.change_managed(interface, managed, addresses, &[])
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

    /// Lets a lease's addresses pass until then, and no longer: opens it where it is closed, and renews one that this opened
    /// before and that still runs. Does not wait.
    ///
    /// # Errors
    ///
    /// The kernel's refusal: `NotFound` where the interface has no gate (any more). The addresses then pass for as long as
    /// was asked before.
    pub fn renew(&mut self, interface: &str, lease: LeaseId, until: Instant) -> io::Result<Renewal> {
        let renewal = self.renew_at_once(&[Wanted { interface, lease, until }]);
        let renewal = renewal.map_err(context(&format!("renew the lease on {interface}")))?;
        if renewal == Renewal::Lapsed {
            self.lapse(interface, lease)?;
        }
        Ok(renewal)
    }

    /// As [`Self::renew`] for each; in one transaction, if none of them is an error or comes too late.
    pub fn renew_all(&mut self, all: &[Wanted<'_>]) -> Vec<io::Result<Renewal>> {
        if all.len() > 1 && matches!(self.renew_at_once(all), Ok(Renewal::Open)) {
            return all.iter().map(|_| Ok(Renewal::Open)).collect();
        }
        all.iter().map(|wanted| self.renew(wanted.interface, wanted.lease, wanted.until)).collect()
    }

    /// Closes the interface to a lease's addresses. When it returns, the kernel has done it; a frame that it let pass before
    /// may still be in the interface's own queue.
    ///
    /// # Errors
    ///
    /// The kernel's refusal: `NotFound` where the interface has no gate (any more).
    pub fn end(&mut self, interface: &str, lease: LeaseId) -> io::Result<()> {
        if let Some(known) = self.interfaces.get_mut(interface) {
            known.opened.remove(&lease);
        }
        self.close(interface, lease)
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
        self.commit(changes)
    }

    fn change_managed(
        &mut self,
        interface: &str,
        managed: BTreeMap<IpAddr, Option<LeaseId>>,
        removed: &[IpAddr],
        added: &[Managed],
    ) -> io::Result<()> {
        let known = self.interfaces.get(interface).ok_or_else(no_gate)?;
        let mut next = Interface { managed, opened: known.opened.clone() };
        let (before, after) = (known.leases(), next.leases());
        next.opened.retain(|lease, _| after.contains(lease));
        let gone: Vec<_> = before.difference(&after).copied().collect();
        let tables = table::tables_of(interface, self.layer);
        let mut changes = Vec::new();
        for table in &tables {
            changes.extend(after.difference(&before).flat_map(|lease| table::add_lease(table, *lease)));
            for family in table.place.families() {
                changes.extend(elements::remove_managed(table, *family, removed));
                changes.extend(elements::add_managed(table, *family, added));
            }
            changes.extend(closing(table, &gone));
            changes.extend(gone.iter().map(|lease| table::remove_lease(table, *lease)));
        }
        self.commit(changes).map_err(context(&format!("change the gate of {interface}")))?;
        self.interfaces.insert(interface.to_owned(), next);
        Ok(())
    }

    /// What an agent before this one left open. The kernel tells its ticks, so one of them may be over by now.
    fn inherited(
        &mut self,
        interface: &str,
        managed: &BTreeMap<IpAddr, Option<LeaseId>>,
    ) -> io::Result<BTreeMap<LeaseId, Instant>> {
        let now = Instant::now();
        let left: BTreeMap<_, _> = self.owned(interface)?.into_iter().collect();
        // By number it is the other agent's: whether it is the lease of the same addresses shows by the addresses alone.
        let mut shortest = BTreeMap::<LeaseId, Option<Duration>>::new();
        for (address, lease) in managed {
            let Some(lease) = lease else { continue };
            let left = left.get(address).copied();
            shortest.entry(*lease).and_modify(|shortest| *shortest = (*shortest).min(left)).or_insert(left);
        }
        let opened = shortest.into_iter().filter_map(|(lease, left)| Some((lease, left?)));
        Ok(opened.map(|(lease, left)| (lease, now + left.saturating_sub(LONGEST_TICK))).collect())
    }

    /// Whether that was in time.
    fn replace(&mut self, interface: &str, next: &Interface, allowance: Duration) -> io::Result<bool> {
        let tables = table::tables_of(interface, self.layer);
        let start = Instant::now();
        let mut changes = table::replace(&tables, interface, self.abilities.persists);
        let managed = next.managed.iter().map(|(address, lease)| Managed { address: *address, lease: *lease });
        let managed: Vec<_> = managed.collect();
        for table in &tables {
            changes.extend(next.leases().into_iter().flat_map(|lease| table::add_lease(table, lease)));
            for family in table.place.families() {
                changes.extend(elements::add_managed(table, *family, &managed));
            }
            for (lease, until) in &next.opened {
                if let Some(term) = term(start + allowance, *until) {
                    changes.extend(elements::add_owned(table, &[*lease], term));
                }
            }
        }
        self.commit(changes)?;
        Ok(start.elapsed() <= allowance)
    }

    fn commit(&mut self, changes: Vec<Change>) -> io::Result<()> {
        if changes.is_empty() { Ok(()) } else { self.nftables.commit(changes) }
    }

    /// Which of several are lapsed is not said.
    fn renew_at_once(&mut self, all: &[Wanted<'_>]) -> io::Result<Renewal> {
        let mut took = ALLOWANCE_PER_LEASE * u32::try_from(all.len()).unwrap_or(u32::MAX);
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
                changes.extend(renewal(&tables, alike, known, self.abilities.refreshes, term));
            }
            match self.commit(changes) {
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
                known.opened.insert(wanted.lease, wanted.until);
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

    /// Closes, and leaves no way back but [`Self::end`]: what counts as opened and is closed cannot be renewed.
    fn lapse(&mut self, interface: &str, lease: LeaseId) -> io::Result<()> {
        self.note_opened(&[Wanted { interface, lease, until: Instant::now() }]);
        self.close(interface, lease)
    }

    fn close(&mut self, interface: &str, lease: LeaseId) -> io::Result<()> {
        if !self.interfaces.contains_key(interface) {
            return Err(no_gate());
        }
        let tables = table::tables_of(interface, self.layer);
        let changes = tables.iter().flat_map(|table| closing(table, &[lease]));
        self.commit(changes.collect()).map_err(context(&format!("end the lease on {interface}")))
    }
}

/// What of a transaction ends leases. What has ended cannot be removed, so it is added first; no packet meets the state between.
fn closing(table: &Table, leases: &[LeaseId]) -> Vec<Change> {
    [elements::add_owned(table, leases, MOMENT), elements::remove_owned(table, leases)].concat()
}

/// What of a transaction opens leases of an interface and renews those that are open, all of them until the same instant.
/// It takes one that is open out and in again, which the kernel refuses, and all of the transaction with it, where that one
/// has ended: so a renewal that comes too late opens nothing. Once is enough for what a lease has in several tables, which was opened
/// together and ends together; where the kernel can, the others are refreshed in place.
fn renewal(tables: &[Table], wanted: &[Wanted<'_>], known: &Interface, refreshes: bool, term: Term) -> Vec<Change> {
    let leases: Vec<_> = wanted.iter().map(|wanted| wanted.lease).collect();
    let open: Vec<_> = leases.iter().copied().filter(|lease| known.opened.contains_key(lease)).collect();
    let mut changes = Vec::with_capacity(2 * tables.len());
    for (place, table) in tables.iter().enumerate() {
        if place == 0 || !refreshes {
            changes.extend(elements::remove_owned(table, &open));
        }
        changes.extend(elements::add_owned(table, &leases, term));
    }
    changes
}

/// The term from one instant to the other in the kernel's unit, rounded down; `None`: shorter than a tick.
fn term(from: Instant, until: Instant) -> Option<Term> {
    let left = until.saturating_duration_since(from);
    let milliseconds = u64::try_from(left.as_millis()).ok()?;
    (left >= LONGEST_TICK).then_some(Term(milliseconds))
}

fn no_gate() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the interface has no gate")
}
