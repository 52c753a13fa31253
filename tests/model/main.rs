//! The grant protocol, checked exhaustively in small worlds: whatever is lost, doubled, late, out of order or restarted, there are
//! never two owners. The voters and the grants are the agent's own code; only time, network and kernel are the model's.
//!
//! Two nodes and a witness vote. An owner is a node whose *kernel* holds a lease, which outlives the agent. Time goes on in ticks, and
//! each host's clock by its own rate. A message that is never delivered is lost, one that is delivered after others is late.
//!
//! A model that cannot fail proves nothing: each mutation takes out one thing that the protocol rests on, and must lead to two owners.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use stateright::{Checker, Model, Property};
use vipd::engine::quorum::stamp;
use vipd::engine::{Instant, Quorum, Voter};
use vipd::types::Vrid;
use vipd::wire::grant::{GrantMessage, Reply, RouterId, Verdict};

const TICK: Duration = Duration::from_secs(1);
/// A grant, the longest that there is, and the patience of a peer: an owner's lease is not longer.
const GRANT: Duration = Duration::from_secs(2);
/// Where the clocks begin: the voters that are there at first have waited.
const DAWN: Duration = Duration::from_secs(1_000);

const NODES: [usize; 2] = [0, 1];
const WITNESS: usize = 2;
const NAMES: [&str; 3] = ["a", "b", "w"];

/// How many parts of a million each host's clock is fast: the first node's is slow, so that it holds on for too long, and the
/// witness's is fast. Together well within the margin.
const FAST_BY: [i64; 3] = [-400, 0, 400];

/// What may happen, and how often.
#[derive(Clone, Copy, Debug)]
struct World {
    ticks: u8,
    /// Of each node.
    questions: [u8; 2],
    releases: u8,
    doubled: u8,
    /// Of any host; each may start again.
    crashes: u8,
    mutation: Option<Mutation>,
}

/// What the protocol rests on, taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mutation {
    GrantShorterThanLease,
    NoWaitAtStart,
    CountedFromReceipt,
    NoMarginForClocks,
    ReleasedBeforeTheLeaseEnds,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    tick: u8,
    hosts: [Host; 3],
    under_way: BTreeSet<(usize, usize, GrantMessage)>,
    releases: u8,
    doubled: u8,
    crashes: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Host {
    /// While the agent runs. The witness's asks for nothing.
    agent: Option<(Quorum, Voter)>,
    /// The kernel's.
    lease_until: Option<Instant>,
    questions: u8,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Action {
    Tick,
    Ask(usize),
    Release(usize),
    Deliver(usize, usize, GrantMessage),
    DeliverAndKeep(usize, usize, GrantMessage),
    Crash(usize),
    Start(usize),
}

impl World {
    fn clock(host: usize, tick: u8) -> Instant {
        let tick = u32::from(tick);
        let drift = i64::from(tick) * FAST_BY[host] * 1_000;
        let nanos = i64::try_from((DAWN + TICK * tick).as_nanos()).unwrap() + drift;
        Instant::from_nanos(u64::try_from(nanos).unwrap())
    }

    fn started(&self, now: Instant) -> (Quorum, Voter) {
        let router = RouterId { cluster: "c".into(), vrid: Vrid::new(1).unwrap() };
        let voters: Vec<Arc<str>> = NAMES.into_iter().map(Arc::from).collect();
        let from = if self.mutation == Some(Mutation::NoWaitAtStart) { Instant::ZERO } else { now };
        (Quorum::new(now, router, &voters), Voter::new(from, GRANT))
    }

    /// A voter hears something.
    fn answer(&self, now: Instant, voter: &mut Voter, from: usize, message: &GrantMessage) -> Option<GrantMessage> {
        let mut heard = message.clone();
        if self.mutation == Some(Mutation::GrantShorterThanLease)
            && let GrantMessage::Ask(ask) = &mut heard
        {
            ask.length = GRANT / 2;
        }
        let mut answer = voter.answer(now, NAMES[from], &heard);
        if let Some(GrantMessage::Reply(Reply { verdict: Verdict::Granted { length, .. }, .. })) = &mut answer {
            *length = GRANT;
        }
        answer
    }

    /// A node hears an answer.
    fn believe(&self, now: Instant, quorum: &mut Quorum, from: usize, reply: &Reply) {
        let mut heard = reply.clone();
        if self.mutation == Some(Mutation::CountedFromReceipt) {
            heard.stamp = stamp(now);
        }
        if self.mutation == Some(Mutation::NoMarginForClocks)
            && let Verdict::Granted { length, .. } = &mut heard.verdict
        {
            // What is left of it without the margin is the whole grant.
            *length = GRANT * 1_000 / 999;
        }
        // When it arrived is only shown to people: without it there are fewer states.
        let arrived = Instant::from_nanos(heard.stamp.0);
        quorum.on_reply(arrived, NAMES[from], &heard);
    }

    fn ask(&self, state: &mut State, node: usize) {
        let now = Self::clock(node, state.tick);
        let Some((quorum, voter)) = &mut state.hosts[node].agent else { return };
        let ask = GrantMessage::Ask(quorum.ask(now, GRANT, None));
        if let Some(GrantMessage::Reply(reply)) = self.answer(now, voter, node, &ask) {
            self.believe(now, quorum, node, &reply);
        }
        for to in (0..NAMES.len()).filter(|to| *to != node) {
            state.under_way.insert((node, to, ask.clone()));
        }
        state.hosts[node].questions -= 1;
    }

    /// Takes or renews the lease by what is granted, as soon and for as long as it can.
    fn own(state: &mut State, node: usize) {
        let now = Self::clock(node, state.tick);
        let Some((quorum, _)) = &state.hosts[node].agent else { return };
        let lease = quorum.held_until().filter(|until| now < *until).map(|until| until.min(now + GRANT));
        state.hosts[node].lease_until = state.hosts[node].lease_until.max(lease);
    }

    fn release(&self, state: &mut State, node: usize) -> Option<()> {
        let now = Self::clock(node, state.tick);
        if self.mutation != Some(Mutation::ReleasedBeforeTheLeaseEnds) {
            state.hosts[node].lease_until = None;
        }
        let (quorum, voter) = state.hosts[node].agent.as_mut()?;
        let release = quorum.release(now)?;
        voter.on_release(now, NAMES[node], &release);
        for to in (0..NAMES.len()).filter(|to| *to != node) {
            state.under_way.insert((node, to, GrantMessage::Release(release.clone())));
        }
        state.releases -= 1;
        Some(())
    }

    fn deliver(&self, state: &mut State, from: usize, to: usize, message: &GrantMessage) -> Option<()> {
        let now = Self::clock(to, state.tick);
        let (quorum, voter) = state.hosts[to].agent.as_mut()?;
        if let GrantMessage::Reply(reply) = message {
            self.believe(now, quorum, from, reply);
            Self::own(state, to);
        } else if let Some(answer) = self.answer(now, voter, from, message) {
            // A refusal changes nothing but when to ask again, and the model asks whenever it can.
            let is_grant = matches!(&answer, GrantMessage::Reply(Reply { verdict: Verdict::Granted { .. }, .. }));
            if is_grant {
                state.under_way.insert((to, from, answer));
            }
        }
        Some(())
    }
}

impl State {
    /// What is past can have no consequence, and is forgotten, so that states that differ by nothing else are one.
    fn forget(&mut self) {
        for node in NODES {
            if !self.owns(node) {
                self.hosts[node].lease_until = None;
            }
        }
        for (place, host) in self.hosts.iter_mut().enumerate() {
            if let Some((_, voter)) = &mut host.agent {
                voter.forget_ended(World::clock(place, self.tick));
            }
        }
        let tick = self.tick;
        self.under_way.retain(|(_, to, message)| match message {
            GrantMessage::Reply(reply) => World::clock(*to, tick) < Instant::from_nanos(reply.stamp.0) + GRANT,
            _ => true,
        });
    }

    fn owns(&self, node: usize) -> bool {
        let now = World::clock(node, self.tick);
        self.hosts[node].lease_until.is_some_and(|until| now < until)
    }
}

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let host = |place: usize| Host {
            agent: Some((self.started(Self::clock(place, 0)).0, Voter::new(Instant::ZERO, GRANT))),
            lease_until: None,
            questions: self.questions.get(place).copied().unwrap_or(0),
        };
        let (releases, doubled, crashes) = (self.releases, self.doubled, self.crashes);
        let hosts = [host(0), host(1), host(WITNESS)];
        vec![State { tick: 0, hosts, under_way: BTreeSet::new(), releases, doubled, crashes }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.tick < self.ticks {
            actions.push(Action::Tick);
        }
        for node in NODES {
            let host = &state.hosts[node];
            if host.questions > 0 && host.agent.is_some() {
                actions.push(Action::Ask(node));
            }
            if state.releases > 0 {
                actions.push(Action::Release(node));
            }
        }
        for (place, host) in state.hosts.iter().enumerate() {
            match host.agent {
                Some(_) if state.crashes > 0 => actions.push(Action::Crash(place)),
                Some(_) => {}
                None => actions.push(Action::Start(place)),
            }
        }
        for (from, to, message) in &state.under_way {
            actions.push(Action::Deliver(*from, *to, message.clone()));
            if state.doubled > 0 {
                actions.push(Action::DeliverAndKeep(*from, *to, message.clone()));
            }
        }
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let mut state = before.clone();
        match action {
            Action::Tick => {
                state.tick += 1;
                state.forget();
            }
            Action::Ask(node) => self.ask(&mut state, node),
            Action::Release(node) => self.release(&mut state, node)?,
            Action::Deliver(from, to, message) => {
                self.deliver(&mut state, from, to, &message)?;
                state.under_way.remove(&(from, to, message));
            }
            Action::DeliverAndKeep(from, to, message) => {
                self.deliver(&mut state, from, to, &message)?;
                state.doubled -= 1;
            }
            Action::Crash(host) => {
                state.hosts[host].agent = None;
                state.crashes -= 1;
            }
            Action::Start(host) => state.hosts[host].agent = Some(self.started(Self::clock(host, state.tick))),
        }
        (state != *before).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("never two owners", |_, state: &State| !(state.owns(0) && state.owns(1))),
            Property::sometimes("the first node owns", |_, state: &State| state.owns(0)),
            Property::sometimes("the second node owns", |_, state: &State| state.owns(1)),
        ]
    }
}

/// Lost, late and out of order is everything in every world; what else may happen differs, so that each stays small.
const CALM: World = World { ticks: 3, questions: [2, 1], releases: 0, doubled: 0, crashes: 0, mutation: None };
const DOUBLED: World = World { ticks: 3, questions: [1, 1], doubled: 1, ..CALM };
const RELEASED: World = World { ticks: 3, questions: [1, 1], releases: 1, ..CALM };
const CRASHED: World = World { ticks: 3, questions: [1, 1], crashes: 1, ..CALM };

fn check(world: World) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let checker = world.checker().threads(threads).spawn_dfs().join();
    println!("{world:?}: {} states, {} of them different", checker.state_count(), checker.unique_state_count());
    assert!(checker.is_done());
    checker.assert_properties();
}

fn require_two_owners(world: World) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let checker = world.checker().threads(threads).spawn_dfs().join();
    let path = checker.discovery("never two owners").expect("the mutation must show");
    let steps: Vec<String> = path.into_actions().iter().map(|action| format!("{action:?}")).collect();
    println!("{world:?} has two owners by {steps:#?}");
}

#[test]
fn never_two_owners_whatever_is_lost_late_or_out_of_order() {
    check(CALM);
}

#[test]
fn never_two_owners_where_messages_are_doubled() {
    check(DOUBLED);
}

#[test]
fn never_two_owners_where_grants_are_given_back() {
    check(RELEASED);
}

#[test]
fn never_two_owners_where_hosts_crash_and_start_again() {
    check(CRASHED);
}

#[test]
fn a_grant_that_is_shorter_than_the_lease_makes_two_owners() {
    require_two_owners(World { mutation: Some(Mutation::GrantShorterThanLease), ..CALM });
}

#[test]
fn a_voter_that_does_not_wait_at_its_start_makes_two_owners() {
    require_two_owners(World { mutation: Some(Mutation::NoWaitAtStart), ..CRASHED });
}

#[test]
fn a_node_that_counts_from_the_receipt_of_the_answer_makes_two_owners() {
    require_two_owners(World { mutation: Some(Mutation::CountedFromReceipt), ..CALM });
}

#[test]
fn a_node_that_leaves_no_margin_for_the_clocks_makes_two_owners() {
    require_two_owners(World { mutation: Some(Mutation::NoMarginForClocks), ..CALM });
}

#[test]
fn a_node_that_gives_back_what_its_kernel_still_holds_makes_two_owners() {
    require_two_owners(World { mutation: Some(Mutation::ReleasedBeforeTheLeaseEnds), ..RELEASED });
}
