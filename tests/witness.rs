//! The witness as a process, and 500 nodes with 10,000 virtual routers among them that ask it.

#![cfg(feature = "agent")]
#![allow(clippy::disallowed_methods, reason = "it measures a process, in real time")]

use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use std::io::Write as _;
use std::path::PathBuf;

use vipd::engine::quorum::stamp;
use vipd::engine::session::{Opened, Sessions};
use vipd::types::Vrid;
use vipd::wire::grant::{self, Ask, GrantMessage, RouterId, Verdict};
use vipd::wire::seal::{Key, Keys, Topic};

const NODES: usize = 500;
const ROUTERS_EACH: u8 = 20;
const ROUNDS: usize = 5;
const GRANT: Duration = Duration::from_secs(1);
/// What all of it may take, with the program itself. Measured, not optimised: 19 MiB.
const MOST_MEMORY_KIB: u64 = 64 * 1024;
/// What an answer may take on a machine that is busy with other tests; the measured time is printed.
const SLOWEST_ANSWER: Duration = Duration::from_millis(200);

/// Ends with the test.
struct Witness {
    process: Child,
    place: SocketAddr,
    key_file: PathBuf,
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.process.kill().expect("it is ours");
        self.process.wait().expect("it is ours");
        std::fs::remove_file(&self.key_file).expect("it is ours");
    }
}

impl Witness {
    fn start() -> Self {
        let key_file = std::env::temp_dir().join(format!("vipd-witness-{}", std::process::id()));
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&key_file).expect("a file");
        file.write_all("5a".repeat(32).as_bytes()).expect("written");
        let place = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port");
        let mut command = Command::new(env!("CARGO_BIN_EXE_vipd"));
        command.args(["witness", "--name", "witness", "--longest-grant", "1s", "--key-file"]).arg(&key_file);
        let process = command.args(["--listen", &place.to_string()]).env("RUST_LOG", "warn").spawn();
        Self { process: process.expect("it can be started"), place, key_file }
    }

    fn memory_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the kernel says");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }
}

/// A node of the witness's point of view.
struct Node {
    socket: UdpSocket,
    sessions: Sessions,
    began: Instant,
}

impl Node {
    fn new(name: &str, seed: usize, witness: &Witness) -> Self {
        // At another address than the witness, whose port is still free while it starts.
        let socket = UdpSocket::bind("127.0.0.2:0").expect("a port");
        socket.connect(witness.place).expect("loopback");
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
        let key = Key::new(&[0x5a; 32]).expect("32 bytes");
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_be_bytes());
        Self { socket, sessions: Sessions::new(name, Keys::new(key, None), bytes), began: Instant::now() }
    }

    fn now(&self) -> vipd::engine::Instant {
        let nanos = u64::try_from(self.began.elapsed().as_nanos()).expect("a test is short");
        vipd::engine::Instant::from_nanos(1_000_000_000 + nanos)
    }

    /// The next payload, where one comes in time. What the session needs is answered.
    fn receive(&mut self) -> Option<Vec<u8>> {
        let mut buffer = [0; 2048];
        let len = self.socket.recv(&mut buffer).ok()?;
        let now = self.now();
        let opening = self.sessions.open(now, 0, &buffer[..len]);
        let payload = match opening.outcome {
            Ok(Opened::Message { topic: Topic::Grant, payload, .. }) => Some(payload.to_vec()),
            Ok(Opened::Message { .. } | Opened::Hello { .. }) | Err(_) => None,
        };
        if let Some(reply) = opening.reply {
            self.socket.send(&reply).expect("loopback");
        }
        payload
    }

    fn greet(&mut self) {
        for _ in 0..100 {
            // A socket that nobody listens to refuses; the witness may not have begun.
            let hello = self.sessions.hello(None);
            self.socket.send(&hello).ok();
            self.receive();
            if self.sessions.can_send("witness") {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the witness does not answer");
    }

    /// Asks for all routers of a cluster at once. The verdicts, and how long the answer took; asks again where it is lost.
    fn ask(&mut self, cluster: &str) -> (Vec<Verdict>, Duration) {
        let asked = Instant::now();
        for _ in 0..100 {
            let mut payload = Vec::new();
            for vrid in 1..=ROUTERS_EACH {
                let router = RouterId { cluster: cluster.into(), vrid: Vrid::new(vrid).expect("not 0") };
                let ask = Ask { router, stamp: stamp(self.now()), length: GRANT, challenge: None };
                GrantMessage::Ask(ask).emit(&mut payload);
            }
            let sealed = self.sessions.seal("witness", Topic::Grant, &payload).expect("a session, and room");
            self.socket.send(&sealed).expect("loopback");
            if let Some(payload) = self.receive() {
                let answers = grant::parse(&payload).expect("the witness writes what can be read");
                let verdict = |answer| match answer {
                    GrantMessage::Reply(reply) => reply.verdict,
                    other => panic!("{other:?} is no answer"),
                };
                return (answers.into_iter().map(verdict).collect(), asked.elapsed());
            }
        }
        panic!("the witness does not answer");
    }
}

#[test]
fn a_witness_holds_ten_thousand_virtual_routers() {
    let witness = Witness::start();
    let name = |place: usize| format!("node-{place}");
    let mut nodes: Vec<Node> = (0..NODES).map(|place| Node::new(&name(place), place, &witness)).collect();
    nodes.iter_mut().for_each(Node::greet);
    // It has just started.
    let until = Instant::now() + 10 * GRANT;
    while !matches!(nodes[0].ask(&name(0)).0[0], Verdict::Granted { .. }) {
        assert!(Instant::now() < until, "it never votes");
        std::thread::sleep(Duration::from_millis(20));
    }

    let mut times = Vec::new();
    let mut granted = 0;
    for _ in 0..ROUNDS {
        granted = 0;
        for (place, node) in nodes.iter_mut().enumerate() {
            let (verdicts, took) = node.ask(&name(place));
            assert_eq!(verdicts.len(), usize::from(ROUTERS_EACH));
            granted += verdicts.iter().filter(|verdict| matches!(verdict, Verdict::Granted { .. })).count();
            times.push(took);
        }
    }
    assert_eq!(granted, NODES * usize::from(ROUTERS_EACH));

    // What is granted is kept from others, and from all others.
    let (verdicts, _) = nodes[NODES - 1].ask(&name(NODES - 1));
    assert!(verdicts.iter().all(|verdict| matches!(verdict, Verdict::Granted { .. })));
    let (verdicts, _) = nodes[0].ask(&name(NODES - 1));
    assert!(
        verdicts
            .iter()
            .all(|verdict| matches!(verdict, Verdict::Refused { holder, .. } if **holder == *name(NODES - 1)))
    );

    times.sort_unstable();
    let (median, slow) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    let memory = witness.memory_kib();
    println!(
        "{granted} virtual routers of {NODES} nodes: {memory} KiB; {ROUTERS_EACH} grants asked for and answered in {median:?}, 99 % in {slow:?}"
    );
    assert!(memory < MOST_MEMORY_KIB, "{memory} KiB");
    assert!(slow < SLOWEST_ANSWER, "an answer took {slow:?}");
}
