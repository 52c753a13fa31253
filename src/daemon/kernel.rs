//! What may take time in the kernel, each on a thread of its own: addresses with their routes, announcements, and news
//! of interfaces.
//!
//! The threads run in real time as the loop does, but give way to it; they take their work from bounded queues, and
//! answer by [`Message`]s.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc::error::{TryRecvError, TrySendError};
use tokio::sync::mpsc::{self, Receiver, Sender};

use super::lifetimes::{Lifetime, Prolongation, Right};
use super::links::Interface;
use super::message::Message;
use super::prolonging::Backlog;
use crate::driver::addresses::{Addresses, InstallOptions};
use crate::driver::announce::Announcer;
use crate::driver::links::{LinkMonitor, Watchlist};
use crate::driver::routing::{RoutingError, RoutingTables};
use crate::driver::schedule::{self, Urgency};
use crate::driver::virtual_mac::VirtualMacs;
use crate::engine::{AddressSet, EffectError, Engine, Prepared};
use crate::types::{Family, MacMode, Priority, VirtualAddress};

/// How many orders may wait for a thread: a few for each of a thousand vips. Memory is taken as they come.
const QUEUE: usize = 8192;

/// The loop's end of the threads.
#[derive(Debug)]
pub(super) struct Kernel {
    addresses: Option<Sender<AddressOrder>>,
    announcements: Sender<(Interface, AddressSet, Right)>,
    addresses_thread: Option<thread::JoinHandle<BTreeSet<u32>>>,
    address_port: u32,
    routing_port: u32,
    watchlist: Watchlist,
}

#[derive(Debug)]
enum AddressOrder {
    Install(Interface, AddressSet, Lifetime, Right),
    Prepare(Interface, AddressSet, Lifetime),
    Remove(Interface, AddressSet),
    Trim(Interface, AddressSet),
    Prolong(Vec<(Interface, Prolongation)>),
}

impl Kernel {
    /// Starts the threads. `spared` are the interfaces that an earlier agent changed and did not restore.
    ///
    /// # Errors
    ///
    /// What the system refuses.
    pub(super) fn start(engine: &Engine, spared: BTreeSet<u32>, to_loop: &Sender<Message>) -> io::Result<Self> {
        let mut addresses = Addresses::open()?;
        addresses.inherit_spared(spared);
        let virtual_macs = VirtualMacs::open()?;
        let routing = RoutingTables::open()?;
        let announcer = Announcer::open()?;
        let mut monitor = LinkMonitor::open(names(engine), virtual_addresses(engine))?;
        if has_routing(engine) {
            monitor.watch_routing()?;
        }
        monitor.ignore_installations(addresses.installed())?;
        let watchlist = monitor.watchlist();
        let (address_port, routing_port) = (addresses.port(), routing.port());

        let (to_addresses, address_orders) = mpsc::channel(QUEUE);
        let (to_announcer, announcements) = mpsc::channel(QUEUE);
        let (answers, news) = (to_loop.clone(), to_loop.clone());
        let addresses_thread = spawn("addresses", move || {
            let thread = AddressThread { addresses, routing, virtual_macs, backlog: Backlog::default() };
            thread.run(address_orders, &answers)
        })?;
        spawn("announce", move || announce(&announcer, announcements))?;
        spawn("links", move || watch(monitor, &news))?;
        Ok(Self {
            addresses: Some(to_addresses),
            announcements: to_announcer,
            addresses_thread: Some(addresses_thread),
            address_port,
            routing_port,
            watchlist,
        })
    }

    /// Has the news be of what the engine keeps by now.
    pub(super) fn watch(&self, engine: &Engine) -> io::Result<()> {
        self.watchlist.set(names(engine), virtual_addresses(engine), has_routing(engine))
    }

    /// The port under which the kernel names our own changes of addresses.
    pub(super) const fn address_port(&self) -> u32 {
        self.address_port
    }

    /// The port under which the kernel names our own changes of routes and rules.
    pub(super) const fn routing_port(&self) -> u32 {
        self.routing_port
    }

    /// Installs addresses, unless their lease is over by then; the answer is a message, unless the order itself is refused.
    pub(super) fn install(
        &self,
        interface: Interface,
        set: AddressSet,
        lifetime: Lifetime,
        right: Right,
    ) -> Result<(), EffectError> {
        self.order(AddressOrder::Install(interface, set, lifetime, right))
    }

    /// Installs addresses behind their closed gate; the answer is a message, unless the order itself is refused.
    pub(super) fn prepare(&self, interface: Interface, set: AddressSet, lifetime: Lifetime) -> Result<(), EffectError> {
        self.order(AddressOrder::Prepare(interface, set, lifetime))
    }

    /// Renews lifetimes, once nothing else is to be done; nobody is told. Whether the order was taken.
    pub(super) fn prolong(&self, what: Vec<(Interface, Prolongation)>) -> bool {
        self.order(AddressOrder::Prolong(what)).is_ok()
    }

    /// Removes addresses; the answer is a message, unless the order itself is refused.
    pub(super) fn remove(&self, interface: Interface, set: AddressSet) -> Result<(), EffectError> {
        self.order(AddressOrder::Remove(interface, set))
    }

    /// Removes addresses, and leaves the vip's others; the answer is a message, unless the order itself is refused.
    pub(super) fn trim(&self, interface: Interface, set: AddressSet) -> Result<(), EffectError> {
        self.order(AddressOrder::Trim(interface, set))
    }

    /// Tells the neighbours, unless the lease is over by then.
    pub(super) fn announce(&self, interface: Interface, set: AddressSet, right: Right) -> Result<(), EffectError> {
        self.announcements.try_send((interface, set, right)).map_err(|error| refused("announce", &error))
    }

    /// Ends the thread of the addresses, once it has done what it was ordered, and restores what it changed. The interfaces
    /// on which that is left to the next agent, by index: with our addresses, or because the kernel refused.
    pub(super) fn finish(&mut self) -> Option<BTreeSet<u32>> {
        self.addresses = None;
        let ended = self.addresses_thread.take()?.join();
        if ended.is_err() {
            tracing::error!("the thread of the addresses panicked");
        }
        ended.ok()
    }

    fn order(&self, order: AddressOrder) -> Result<(), EffectError> {
        match &self.addresses {
            Some(addresses) => addresses.try_send(order).map_err(|error| refused("addresses", &error)),
            None => Err(EffectError::from("the agent is stopping")),
        }
    }
}

fn names(engine: &Engine) -> impl Iterator<Item = String> {
    engine.links().iter().map(|link| link.name.clone())
}

fn virtual_addresses(engine: &Engine) -> impl Iterator<Item = IpAddr> {
    // An address owner's addresses are the interface's own.
    let others = engine.vips().iter().filter(|vip| vip.settings().priority != Priority::OWNER);
    others.flat_map(|vip| vip.addresses().iter().map(|address| address.ip))
}

fn has_routing(engine: &Engine) -> bool {
    engine.vips().iter().any(|vip| !vip.settings().routing.is_empty())
}

fn refused<T>(thread: &str, error: &TrySendError<T>) -> EffectError {
    EffectError(match error {
        TrySendError::Full(_) => format!("{QUEUE} orders wait for the thread {thread:?} already"),
        TrySendError::Closed(_) => format!("the thread {thread:?} has ended"),
    })
}

fn spawn<T: Send + 'static>(name: &str, run: impl FnOnce() -> T + Send + 'static) -> io::Result<thread::JoinHandle<T>> {
    thread::Builder::new().name(name.into()).spawn(move || {
        // Where it is not permitted the loop has said so already.
        let _permitted = schedule::run_in_real_time(Urgency::Worker).is_ok();
        run()
    })
}

/// Addresses, the macvlans that some of them live on, and the routes that go with them.
struct AddressThread {
    addresses: Addresses,
    routing: RoutingTables,
    virtual_macs: VirtualMacs,
    backlog: Backlog,
}

impl AddressThread {
    /// Runs until nobody can order any more. The interfaces on which what was changed is not restored.
    fn run(mut self, mut orders: Receiver<AddressOrder>, answers: &Sender<Message>) -> BTreeSet<u32> {
        let mut known = self.addresses.spared().clone();
        while let Some(order) = self.next(&mut orders) {
            let answer = match order {
                AddressOrder::Install(interface, set, lifetime, right) => {
                    let result = self.install(interface, &set, lifetime, &right);
                    let result = result.map_err(|error| EffectError(format!("{error:#}")));
                    Message::Installed { request: set.request, vip: set.vip, result }
                }
                AddressOrder::Prepare(interface, set, lifetime) => {
                    let result = self.put(interface, &set, lifetime).map(|()| Prepared::There);
                    let result = result.map_err(|error| EffectError(format!("{error:#}")));
                    Message::Prepared { request: set.request, vip: set.vip, result }
                }
                AddressOrder::Prolong(what) => {
                    what.into_iter().for_each(|(interface, what)| self.backlog.put(interface, what));
                    continue;
                }
                AddressOrder::Remove(interface, set) => {
                    self.backlog.forget(set.vip, &set.addresses);
                    let result = self.remove(interface, &set).map_err(|error| EffectError(format!("{error:#}")));
                    Message::Removed { request: set.request, vip: set.vip, result }
                }
                AddressOrder::Trim(interface, set) => {
                    self.backlog.forget(set.vip, &set.addresses);
                    let result = self.trim(interface, &set).map_err(|error| EffectError(format!("{error:#}")));
                    Message::Removed { request: set.request, vip: set.vip, result }
                }
            };
            let mut news = vec![answer];
            if known != *self.addresses.spared() {
                known.clone_from(self.addresses.spared());
                news.push(Message::Spared(known.clone()));
            }
            if news.into_iter().any(|message| answers.blocking_send(message).is_err()) {
                break;
            }
        }
        if let Err(error) = self.addresses.restore() {
            tracing::warn!("{error}");
        }
        self.addresses.spared().clone()
    }

    /// The next order. Until there is one, lifetimes are renewed, a few at a time.
    fn next(&mut self, orders: &mut Receiver<AddressOrder>) -> Option<AddressOrder> {
        while !self.backlog.is_empty() {
            match orders.try_recv() {
                Ok(order) => return Some(order),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) => self.backlog.work(&mut self.addresses, &mut self.virtual_macs),
            }
        }
        orders.blocking_recv()
    }

    fn install(
        &mut self,
        interface: Interface,
        set: &AddressSet,
        lifetime: Lifetime,
        right: &Right,
    ) -> anyhow::Result<()> {
        anyhow::ensure!(right.is_held(), "the lease was over before the addresses could be installed");
        self.put(interface, set, lifetime)
    }

    fn put(
        &mut self,
        Interface { ifindex, .. }: Interface,
        set: &AddressSet,
        lifetime: Lifetime,
    ) -> anyhow::Result<()> {
        for (family, addresses) in by_family(&set.addresses) {
            let options = options(set.mac, lifetime.of(family));
            match set.mac {
                MacMode::Interface => {
                    if family == Family::V4 && options.valid_lifetime.is_some() {
                        // Without it they are installed all the same: it is about what comes after this agent.
                        self.addresses.spare_others(ifindex).unwrap_or_else(|error| tracing::warn!("{error}"));
                    }
                    self.addresses.install(ifindex, addresses, options)?;
                }
                MacMode::Virtual => {
                    let macvlan = self.virtual_macs.create(ifindex, set.vrid, family)?;
                    self.addresses.install(macvlan.ifindex, addresses, options)?;
                }
            }
        }
        if !set.routing.is_empty() {
            // Last: they may speak from these addresses, or need their prefixes.
            self.routing.install(ifindex, &set.routing)?;
        }
        Ok(())
    }

    fn remove_routing(&mut self, ifindex: u32, set: &AddressSet) -> Result<(), RoutingError> {
        if set.routing.is_empty() { Ok(()) } else { self.routing.remove(ifindex, &set.routing) }
    }

    fn remove(&mut self, Interface { ifindex, .. }: Interface, set: &AddressSet) -> anyhow::Result<()> {
        // The addresses go whatever became of the routes.
        let unrouted = self.remove_routing(ifindex, set);
        match set.mac {
            MacMode::Interface => self.addresses.remove(ifindex, &set.addresses)?,
            MacMode::Virtual => {
                for (family, _) in by_family(&set.addresses) {
                    self.virtual_macs.remove(ifindex, set.vrid, family)?;
                }
            }
        }
        Ok(unrouted?)
    }
}

impl AddressThread {
    /// As a removal, but the macvlan stays, with the vip's other addresses.
    fn trim(&mut self, Interface { ifindex, .. }: Interface, set: &AddressSet) -> anyhow::Result<()> {
        let unrouted = self.remove_routing(ifindex, set);
        match set.mac {
            MacMode::Interface => self.addresses.remove(ifindex, &set.addresses)?,
            MacMode::Virtual => {
                let macvlans = self.virtual_macs.leftovers()?;
                for (family, addresses) in by_family(&set.addresses) {
                    let key = (ifindex, set.vrid, family);
                    if let Some(macvlan) = macvlans.iter().find(|it| (it.parent, it.vrid, it.family) == key) {
                        self.addresses.remove(macvlan.ifindex, addresses)?;
                    }
                }
            }
        }
        Ok(unrouted?)
    }
}

/// How addresses are installed, and renewed.
pub(super) const fn options(mac: MacMode, valid_lifetime: Option<Duration>) -> InstallOptions {
    let prefix_route = match mac {
        MacMode::Interface => true,
        // The routes of the interface below stay the ones in use.
        MacMode::Virtual => false,
    };
    InstallOptions { prefix_route, valid_lifetime }
}

/// The families of a set, each with its addresses: they stand together in it.
fn by_family(addresses: &[VirtualAddress]) -> impl Iterator<Item = (Family, &[VirtualAddress])> {
    let families = addresses.chunk_by(|one, other| one.family() == other.family());
    families.filter_map(|chunk| Some((chunk.first()?.family(), chunk)))
}

fn announce(announcer: &Announcer, mut orders: Receiver<(Interface, AddressSet, Right)>) {
    while let Some((interface, set, right)) = orders.blocking_recv() {
        // Rules at the interface would stop it; others do not see it.
        if !right.is_held() {
            continue;
        }
        for (family, addresses) in by_family(&set.addresses) {
            let mac = match set.mac {
                MacMode::Virtual => set.vrid.virtual_mac(family),
                MacMode::Interface => interface.mac,
            };
            if let Err(error) = announcer.announce(interface.ifindex, mac, addresses) {
                tracing::warn!("{error}");
            }
        }
    }
}

fn watch(mut monitor: LinkMonitor, news: &Sender<Message>) {
    loop {
        match monitor.next() {
            Ok(Some(events)) => {
                if news.blocking_send(Message::Links(events)).is_err() {
                    return;
                }
            }
            Ok(None) => return,
            Err(error) => {
                let lost = Message::Lost { thread: "links", error: error.to_string() };
                if news.blocking_send(lost).is_err() {
                    tracing::error!("{error}");
                }
                return;
            }
        }
    }
}
