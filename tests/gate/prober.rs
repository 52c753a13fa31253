//! A client that asks every millisecond and writes down what is answered, at the kernel's own time of each answer.

use std::collections::BTreeMap;
use std::io::IoSliceMut;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt::ReceiveTimestampns,
};
use nix::sys::time::TimeSpec;
use socket2::{Domain, Protocol, Socket, Type};
use vipd::driver::frames::{FrameSocket, Urgency};

use crate::frames::{End, Mac, Question, Way, answered, question};
use crate::support::{Host, PATIENCE, index};

/// Between two rounds of questions.
pub const PERIOD: Duration = Duration::from_millis(1);

/// For answers that are under way.
const SETTLE: Duration = Duration::from_millis(50);

/// `ETH_P_ALL` in network order.
const ALL_PROTOCOLS: i32 = 0x0300;

/// How a client asks: from whom, to which MAC, what.
#[derive(Clone)]
pub struct Plan {
    pub from: End<Ipv4Addr>,
    pub from6: Ipv6Addr,
    pub to: Mac,
    pub questions: Vec<Question>,
}

/// A running client.
pub struct Prober {
    thread: JoinHandle<Record>,
    stop: Arc<AtomicBool>,
}

/// What a client saw.
#[derive(Default)]
pub struct Record {
    /// Before and after each round was sent.
    pub rounds: Vec<(Instant, Instant)>,
    answers: BTreeMap<Question, Vec<(Instant, Option<u16>)>>,
}

impl Prober {
    /// Starts on a host's `eth0`, and returns once the first round is sent.
    pub fn start(host: &Arc<Host>, plan: Plan) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (host, stopped) = (Arc::clone(host), Arc::clone(&stop));
        let (started, starts) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            host.run(|| {
                let mut client = Client::new(plan);
                client.ask();
                started.send(()).expect("the test waits");
                client.run(&stopped)
            })
        });
        starts.recv_timeout(PATIENCE).expect("the client starts");
        Self { thread, stop }
    }

    /// Ends it, once the last answers are in.
    pub fn stop(self) -> Record {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the client did not panic")
    }
}

impl Record {
    /// When the last answer came.
    pub fn last_answer(&self, question: Question) -> Option<Instant> {
        self.answers.get(&question).and_then(|answers| answers.iter().map(|(at, _)| *at).max())
    }

    /// How many answers came.
    pub fn answers(&self, question: Question) -> usize {
        self.answers.get(&question).map_or(0, Vec::len)
    }

    /// Which rounds of those that were answered in each of the ways; for pings only.
    pub fn answered_rounds(&self, question: Question) -> Vec<bool> {
        let mut rounds = vec![false; self.rounds.len()];
        for (_, sequence) in self.answers.get(&question).into_iter().flatten() {
            rounds[usize::from(sequence.expect("pings have numbers"))] = true;
        }
        rounds
    }

    /// How many rounds were sent.
    pub fn len(&self) -> usize {
        self.rounds.len()
    }

    /// Asserts that no question was ever answered.
    pub fn assert_silent(&self) {
        assert!(self.len() > 0);
        let answers: Vec<_> = self.answers.iter().map(|(question, answers)| (question, answers.len())).collect();
        assert!(answers.is_empty(), "answered: {answers:?}");
    }

    /// Asserts that each question of each round was answered once.
    pub fn assert_lossless(&self, questions: &[Question]) {
        let answers: Vec<_> = questions.iter().map(|question| (question, self.answers(*question))).collect();
        let all = answers.iter().all(|(_, count)| *count == self.len());
        assert!(all, "{} rounds; answers: {answers:?}", self.len());
    }

    /// Asserts that what was sent after then was never answered.
    pub fn assert_silent_after(&self, then: Instant, question: Question) {
        let rounds = self.answered_rounds(question);
        let late = self.rounds.iter().zip(rounds).filter(|((before, _), answered)| *before > then && *answered).count();
        assert_eq!(late, 0, "{question:?} answered after the end");
    }
}

struct Client {
    plan: Plan,
    sender: FrameSocket,
    receiver: Socket,
    ifindex: u32,
    clocks: (Instant, SystemTime),
    record: Record,
}

impl Client {
    fn new(plan: Plan) -> Self {
        let receiver = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(ALL_PROTOCOLS))).expect("AF_PACKET");
        receiver.set_nonblocking(true).expect("a socket can be non-blocking");
        receiver.set_recv_buffer_size(4 << 20).expect("a receive buffer can be set");
        setsockopt(&receiver, ReceiveTimestampns, &true).expect("the kernel stamps packets");
        Self {
            plan,
            sender: FrameSocket::open(Urgency::Ordinary).expect("AF_PACKET"),
            receiver,
            ifindex: index("eth0"),
            clocks: (Instant::now(), SystemTime::now()),
            record: Record::default(),
        }
    }

    fn run(mut self, stop: &AtomicBool) -> Record {
        let mut next = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            next = (next + PERIOD).max(Instant::now());
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
            self.ask();
            self.listen();
        }
        let end = Instant::now() + SETTLE;
        while Instant::now() < end {
            std::thread::sleep(PERIOD);
            self.listen();
        }
        self.record
    }

    fn ask(&mut self) {
        let sequence = u16::try_from(self.record.rounds.len()).expect("a test is shorter than a minute");
        let from = (self.plan.from, self.plan.from6);
        let frames: Vec<_> = self.plan.questions.iter().map(|it| question(*it, from, self.plan.to, sequence)).collect();
        let before = Instant::now();
        let sent = self.sender.send(self.ifindex, &frames).expect("a client can send");
        assert_eq!(sent, frames.len());
        self.record.rounds.push((before, Instant::now()));
    }

    fn listen(&mut self) {
        let mut frame = [0; 2048];
        loop {
            let mut space = nix::cmsg_space!(TimeSpec);
            let mut slices = [IoSliceMut::new(&mut frame)];
            let received = recvmsg::<SockaddrStorage>(
                self.receiver.as_raw_fd(),
                &mut slices,
                Some(&mut space),
                MsgFlags::MSG_DONTWAIT,
            );
            let Ok(received) = received else { return };
            let stamp = received.cmsgs().expect("control messages fit").find_map(|message| match message {
                ControlMessageOwned::ScmTimestampns(stamp) => Some(Duration::from(stamp)),
                _ => None,
            });
            let len = received.bytes;
            let stamp = SystemTime::UNIX_EPOCH + stamp.expect("the kernel stamps packets");
            let Some((question, sequence)) = answered(&frame[..len]) else { continue };
            let at = self.clocks.0 + stamp.duration_since(self.clocks.1).unwrap_or_default();
            self.record.answers.entry(question).or_default().push((at, sequence));
        }
    }
}

/// What all ways of the addresses are, for a plan.
pub fn ask_for(addresses: &[IpAddr]) -> Vec<Question> {
    addresses.iter().flat_map(|address| crate::frames::questions(*address)).collect()
}

/// The ping of an address.
pub fn ping(target: IpAddr) -> Question {
    Question { way: if target.is_ipv4() { Way::Ping } else { Way::Ping6 }, target }
}
