//! Follows interfaces by name, as the kernel reports them: state, index, MAC address, source addresses.
//!
//! An interface that is created, deleted, recreated, renamed or late is an ordinary event. What is reported is what holds at the
//! end of all that the kernel has said so far: a change that was taken back before it was read is not seen.

mod view;

use std::collections::HashSet;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};

use netlink_packet_core::NLM_F_REPLACE;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::LinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::socket::{setsockopt, sockopt};
use socket2::SockRef;

use self::view::View;
use super::addresses::Installed;
use super::error::{context, errno};
use super::filter;
use super::netlink::{Netlink, messages};
use super::routing::RoutingTables;
use crate::engine::LinkState;
use crate::types::{MacAddr, Routing};

/// Room for about 10,000 notifications: a default buffer loses most of 3,000 addresses that change at once.
const RECEIVE_BUFFER_LEN: usize = 8 * 1024 * 1024;

/// Larger than any notification.
const DATAGRAM_LEN: usize = 64 * 1024;

/// Notifications read before what changed is reported, so that a storm of them delays no report for long.
const ROUND: usize = 1_000;

/// A thousand addresses that others install, or this agent in IPv6, are as many notifications, and to be woken for each takes the
/// processor from those who wait for the addresses. A change that concerns us and comes in this time is heard of so much later.
const REST_MS: u16 = 1;

/// Where in a message its header says what it is, and who asked for what it tells.
const NLMSG_TYPE: u32 = 4;
const NLMSG_PID: u32 = 12;

/// What the kernel's `RTNLGRP_*` are called in its headers.
const GROUPS: [u32; 3] = [libc::RTNLGRP_LINK, libc::RTNLGRP_IPV4_IFADDR, libc::RTNLGRP_IPV6_IFADDR];

/// Beside these, where a vip has routes or rules: a router hears of all others' as well.
const ROUTING_GROUPS: [u32; 4] =
    [libc::RTNLGRP_IPV4_ROUTE, libc::RTNLGRP_IPV4_RULE, libc::RTNLGRP_IPV6_ROUTE, libc::RTNLGRP_IPV6_RULE];

/// A change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// What is known of a watched interface, for the first time or because it changed.
    State {
        /// The watched name.
        name: String,
        /// `None` where there is no interface of that name.
        ifindex: Option<u32>,
        /// `None` also where its addresses are no Ethernet addresses.
        mac: Option<MacAddr>,
        /// Bytes; 0 where there is no interface.
        mtu: u32,
        /// What it is good for.
        state: LinkState,
    },
    /// A virtual address is no longer on an interface, watched or not.
    AddressGone {
        /// The interface, which may be gone too.
        ifindex: u32,
        /// The address.
        ip: IpAddr,
        /// The netlink port of whoever asked for it. 0: nobody did (the interface went), or the kernel does not say, as for all of
        /// IPv6 and after an overrun.
        by_port: u32,
        /// It was its lifetime's end.
        expired: bool,
    },
    /// A route or rule that carries our protocol number is no longer there. IPv4's of an interface that goes down, or with a source
    /// address that goes, go without a word of the kernel.
    RoutingGone {
        /// The interface, which may be gone too; 0 for a rule.
        ifindex: u32,
        /// What it was.
        routing: Routing,
        /// The netlink port of whoever asked for it. 0: nobody did, or it is not known.
        by_port: u32,
    },
}

/// A blocking reader of notifications, for a thread of its own.
#[derive(Debug)]
pub struct LinkMonitor {
    notifications: Socket,
    netlink: Netlink,
    /// Where routes and rules are followed too.
    routing: Option<RoutingTables>,
    stopped: Arc<EventFd>,
    wishes: Arc<Wishes>,
    view: View,
    datagram: Vec<u8>,
    /// Whether the view may have missed something.
    stale: bool,
}

/// Tells a [`LinkMonitor`] from another thread what to watch from now on. Never blocks for long.
#[derive(Clone, Debug)]
pub struct Watchlist(Arc<Wishes>);

/// What is to be watched from now on, until the monitor takes it.
#[derive(Debug)]
struct Wishes {
    signal: EventFd,
    last: Mutex<Option<Wish>>,
}

/// What is to be watched.
#[derive(Debug)]
struct Wish {
    names: Vec<String>,
    virtual_addresses: HashSet<IpAddr>,
    routing: bool,
}

/// Ends a [`LinkMonitor`] from another thread.
#[derive(Clone, Debug)]
pub struct Stopper(Arc<EventFd>);

impl LinkMonitor {
    /// Starts listening in the network namespace of the calling thread, for interfaces of these names.
    ///
    /// `virtual_addresses`, and whatever carries our protocol number, never count as an interface's own source address.
    /// An address owner's (priority 255) are the interface's own: leave them out.
    ///
    /// # Errors
    ///
    /// What was tried in vain.
    pub fn open(
        names: impl IntoIterator<Item = String>,
        virtual_addresses: impl IntoIterator<Item = IpAddr>,
    ) -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(context("open a netlink socket"))?;
        // Above the system's limit where we may, up to it otherwise.
        if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER_LEN).is_err() {
            SockRef::from(&socket)
                .set_recv_buffer_size(RECEIVE_BUFFER_LEN)
                .map_err(context("enlarge a netlink socket's buffer"))?;
        }
        socket.bind(&SocketAddr::new(0, 0)).map_err(context("bind a netlink socket"))?;
        for group in GROUPS {
            socket.add_membership(group).map_err(context("subscribe to changes of interfaces and addresses"))?;
        }
        socket.set_non_blocking(true).map_err(context("make a netlink socket non-blocking"))?;
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let eventfd = || EventFd::from_flags(flags).map_err(io::Error::from).map_err(context("make an eventfd"));
        Ok(Self {
            notifications: socket,
            netlink: Netlink::open()?,
            routing: None,
            stopped: Arc::new(eventfd()?),
            wishes: Arc::new(Wishes { signal: eventfd()?, last: Mutex::new(None) }),
            view: View::new(names, virtual_addresses.into_iter().collect::<HashSet<_>>()),
            datagram: Vec::with_capacity(DATAGRAM_LEN),
            stale: true,
        })
    }

    /// Has the kernel keep its news of what that conversation installs: those of a thousand addresses take memory and the
    /// processor from whoever waits for the addresses. What became of these shows in the list after an overrun all the same.
    ///
    /// # Errors
    ///
    /// What the kernel says about the filter.
    pub fn ignore_installations(&mut self, installed: Installed) -> io::Result<()> {
        let filter = [
            filter::load_half(NLMSG_TYPE),
            filter::if_equal(u32::from(view::RTM_NEWADDR.to_be()), 0, 3),
            filter::load_word(NLMSG_PID),
            filter::if_equal(installed.port().to_be(), 0, 1),
            filter::REJECT,
            filter::PASS,
        ];
        SockRef::from(&self.notifications).attach_filter(&filter).map_err(context("filter a netlink socket"))?;
        self.view.without_news_of(installed);
        Ok(())
    }

    /// Follows our routes and rules as well, from the next [`Self::next`] on and for good.
    ///
    /// # Errors
    ///
    /// What was tried in vain.
    pub fn watch_routing(&mut self) -> io::Result<()> {
        if self.routing.is_some() {
            return Ok(());
        }
        for group in ROUTING_GROUPS {
            self.notifications.add_membership(group).map_err(context("subscribe to changes of routes and rules"))?;
        }
        self.routing = Some(RoutingTables::open()?);
        self.stale = true;
        Ok(())
    }

    /// What ends this monitor.
    pub fn stopper(&self) -> Stopper {
        Stopper(Arc::clone(&self.stopped))
    }

    /// What tells this monitor to watch something else.
    pub fn watchlist(&self) -> Watchlist {
        Watchlist(Arc::clone(&self.wishes))
    }

    /// Blocks until something changed, and returns it; `None` once it was stopped. The first call returns the state of
    /// each name at once.
    ///
    /// # Errors
    ///
    /// Where the kernel stops answering. The next call asks it for everything again.
    #[expect(clippy::should_implement_trait, reason = "an iterator would end where this one waits")]
    pub fn next(&mut self) -> io::Result<Option<Vec<LinkEvent>>> {
        let mut read_in_vain = false;
        loop {
            if self.stale {
                self.list()?;
            }
            let events = self.view.changes();
            if !events.is_empty() {
                return Ok(Some(events));
            }
            if std::mem::replace(&mut read_in_vain, true) {
                self.rest()?;
            }
            if self.wait()? {
                return Ok(None);
            }
            self.take_wish()?;
            self.read()?;
        }
    }

    /// Everything is asked for anew: what an address is depends on what is wished.
    fn take_wish(&mut self) -> io::Result<()> {
        // Empty, where it was not that which woke us.
        if self.wishes.signal.read().is_err() {
            return Ok(());
        }
        let wish = self.wishes.last.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Wish { names, virtual_addresses, routing }) = wish {
            self.view.watch(names, virtual_addresses);
            self.stale = true;
            if routing {
                self.watch_routing()?;
            }
        }
        Ok(())
    }

    /// What was read concerned nobody, and more of that kind may come, one by one: it is let gather.
    fn rest(&self) -> io::Result<()> {
        match poll(&mut [PollFd::new(self.stopped.as_fd(), PollFlags::POLLIN)], REST_MS) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(error) => Err(context("wait for more netlink notifications")(error.into())),
        }
    }

    /// Whether the monitor was stopped, rather than that there is something to read.
    fn wait(&self) -> io::Result<bool> {
        let mut fds = [
            PollFd::new(self.notifications.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.stopped.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.wishes.signal.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(context("wait for netlink notifications")(error.into())),
        }
        Ok(fds[1].any().unwrap_or(false))
    }

    fn read(&mut self) -> io::Result<()> {
        for _ in 0..ROUND {
            self.datagram.clear();
            match self.notifications.recv_from(&mut self.datagram, 0) {
                Ok((len, sender)) if sender.port_number() == 0 => {
                    for (header, body) in messages(self.datagram.get(..len).unwrap_or_default()) {
                        let replaces = header.flags & NLM_F_REPLACE != 0;
                        self.view.apply(header.message_type, body, header.port_number);
                        self.view.apply_routing(header.message_type, body, header.port_number, replaces);
                    }
                }
                // Not the kernel.
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if errno(&error) == Some(libc::ENOBUFS) => {
                    self.stale = true;
                    return Ok(());
                }
                Err(error) => return Err(context("receive netlink notifications")(error)),
            }
        }
        Ok(())
    }

    /// Asks for everything.
    fn list(&mut self) -> io::Result<()> {
        // What is queued is older than what is asked for now. What is queued from now on may be newer, and is applied again.
        self.discard()?;
        self.view.begin_listing();
        let view = &mut self.view;
        let entry = |kind, body: &[u8]| {
            view.apply(kind, body, 0);
            Ok(())
        };
        self.netlink.dump(&RouteNetlinkMessage::GetLink(LinkMessage::default()), entry)?;
        let view = &mut self.view;
        let entry = |kind, body: &[u8]| {
            view.apply(kind, body, 0);
            Ok(())
        };
        self.netlink.dump(&RouteNetlinkMessage::GetAddress(AddressMessage::default()), entry)?;
        if let Some(routing) = &mut self.routing {
            let view = &mut self.view;
            routing.list(|kind, body| {
                view.apply_routing(kind, body, 0, false);
                Ok(())
            })?;
        }
        self.view.end_listing();
        self.stale = false;
        Ok(())
    }

    fn discard(&mut self) -> io::Result<()> {
        loop {
            self.datagram.clear();
            match self.notifications.recv_from(&mut self.datagram, 0) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if errno(&error) == Some(libc::ENOBUFS) => {}
                Err(error) => return Err(context("receive netlink notifications")(error)),
            }
        }
    }
}

impl Watchlist {
    /// Watches these names beside those before, and takes these addresses for virtual instead of those before. The state of
    /// each new name is reported at once. Where `routing` is said once, routes and rules are followed for good.
    ///
    /// # Errors
    ///
    /// What the kernel says about the eventfd.
    pub fn set(
        &self,
        names: impl IntoIterator<Item = String>,
        virtual_addresses: impl IntoIterator<Item = IpAddr>,
        routing: bool,
    ) -> io::Result<()> {
        let (names, virtual_addresses) = (names.into_iter().collect(), virtual_addresses.into_iter().collect());
        let wish = Wish { names, virtual_addresses, routing };
        *self.0.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(wish);
        match self.0.signal.write(1) {
            // Full: it is about to look.
            Ok(_) | Err(nix::errno::Errno::EAGAIN) => Ok(()),
            Err(error) => Err(context("tell the link monitor what to watch")(error.into())),
        }
    }
}

impl Stopper {
    /// Makes [`LinkMonitor::next`] return `None`, now and ever after.
    ///
    /// # Errors
    ///
    /// What the kernel says about the eventfd.
    pub fn stop(&self) -> io::Result<()> {
        match self.0.write(1) {
            // Full: it is stopped already.
            Ok(_) | Err(nix::errno::Errno::EAGAIN) => Ok(()),
            Err(error) => Err(context("stop the link monitor")(error.into())),
        }
    }
}
