//! References: the ways to them, which a thread of its own asks the kernel for, and the echoes of those behind a router.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::mpsc::WeakSender;

use super::links::Links;
use super::log::{Entry, Log};
use super::message::Message;
use crate::driver::echo::EchoSocket;
use crate::driver::readiness::Readable;
use crate::driver::routes::Routes;
use crate::engine::isolation::Path;
use crate::engine::{Engine, Input, LinkId, Question, Reference};
use crate::types::Family;

/// How often the ways are looked up anew: a router is replaced by hand, and rarely.
const LOOK_UP_EVERY: Duration = Duration::from_secs(2);

/// All of them.
#[derive(Debug)]
pub(super) struct References {
    wanted: Arc<Wanted>,
    /// Weak: the loop ends when all others have.
    to_loop: WeakSender<Message>,
    is_running: bool,
    echoes: BTreeMap<(LinkId, IpAddr), Echo>,
    sequence: u16,
}

#[derive(Debug)]
struct Echo {
    socket: Readable<EchoSocket>,
    ifindex: u32,
    source: Option<IpAddr>,
}

/// What the thread is to look for.
#[derive(Debug, Default)]
struct Wanted {
    list: Mutex<Vec<(LinkId, u32, Reference)>>,
    changed: Condvar,
}

impl References {
    pub(super) fn new(to_loop: WeakSender<Message>) -> Self {
        Self { wanted: Arc::default(), to_loop, is_running: false, echoes: BTreeMap::new(), sequence: 0 }
    }

    /// Looks for those that the engine has now, on the interfaces that are there now.
    pub(super) fn follow(&mut self, engine: &Engine, links: &Links, log: &Log) {
        let mut list = Vec::new();
        for vip in engine.vips() {
            let Some(interface) = links.interface(vip.link()) else { continue };
            list.extend(vip.settings().references.iter().map(|it| (vip.link(), interface.ifindex, *it)));
        }
        list.sort_unstable();
        list.dedup();
        self.echoes.retain(|(link, _), echo| list.iter().any(|(on, at, _)| (on, *at) == (link, echo.ifindex)));
        let is_needed = !list.is_empty();
        *self.wanted.list.lock().unwrap_or_else(PoisonError::into_inner) = list;
        self.wanted.changed.notify_one();
        if is_needed && !self.is_running {
            let (wanted, to_loop) = (Arc::clone(&self.wanted), self.to_loop.clone());
            let started = Routes::open().and_then(|routes| {
                std::thread::Builder::new().name("routes".into()).spawn(move || look_up(routes, &wanted, &to_loop))
            });
            match started {
                Ok(_) => self.is_running = true,
                Err(error) => log.write(Entry::Trouble(format!("the ways to references stay unknown: {error}"))),
            }
        }
    }

    /// Asks hosts behind a router.
    pub(super) fn ask(&mut self, engine: &Engine, links: &Links, question: &Question, log: &Log) {
        let Question { link, addresses, sources: [v4, _], .. } = question;
        let name = engine.links().get(usize::from(link.0)).map(|link| link.name.as_str());
        let (Some(interface), Some(name)) = (links.interface(*link), name) else { return };
        self.sequence = self.sequence.wrapping_add(1);
        for address in addresses {
            let source = v4.filter(|_| Family::of(*address) == Family::V4);
            let place = (*link, *address);
            let is_open = |echo: &Echo| (echo.ifindex, echo.source) == (interface.ifindex, source);
            if !self.echoes.get(&place).is_some_and(is_open) {
                self.echoes.remove(&place);
                match EchoSocket::open(Some(name), source, *address).and_then(Readable::new) {
                    Ok(socket) => {
                        self.echoes.insert(place, Echo { socket, ifindex: interface.ifindex, source });
                    }
                    Err(error) => log.write(Entry::Trouble(format!("reference {address}: {error}"))),
                }
            }
            if let Some(echo) = self.echoes.get(&place) {
                echo.socket.get_ref().ask(self.sequence);
            }
        }
    }

    /// The next answer, as an input.
    pub(super) fn poll_answer(&self, context: &mut Context<'_>) -> Poll<io::Result<Input>> {
        for ((link, _), echo) in &self.echoes {
            if let Poll::Ready(answer) = echo.socket.poll_take(context, EchoSocket::recv) {
                return Poll::Ready(answer.map(|address| Input::HostAnswered { link: *link, address }));
            }
        }
        Poll::Pending
    }
}

/// Tells of each way, and of each change of one.
fn look_up(mut routes: Routes, wanted: &Wanted, to_loop: &WeakSender<Message>) {
    let mut known: BTreeMap<(LinkId, u32, Reference), Option<Path>> = BTreeMap::new();
    loop {
        let list = wanted.list.lock().unwrap_or_else(PoisonError::into_inner).clone();
        known.retain(|place, _| list.contains(place));
        for place in &list {
            let (link, ifindex, reference) = *place;
            let path = match reference {
                Reference::Gateway => routes.gateway(ifindex),
                Reference::Address(address) => routes.path(ifindex, address),
            };
            if known.insert(*place, path) == Some(path) {
                continue;
            }
            let Some(to_loop) = to_loop.upgrade() else { return };
            if to_loop.blocking_send(Message::ReferencePath { link, reference, path }).is_err() {
                return;
            }
        }
        let same = |now: &mut Vec<_>| *now == list;
        let now = wanted.list.lock().unwrap_or_else(PoisonError::into_inner);
        drop(wanted.changed.wait_timeout_while(now, LOOK_UP_EVERY, same));
    }
}
