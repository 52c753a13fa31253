//! Sealed messages from outside: the golden ones, made by another hand, and a million of an enemy's.
#![allow(unsafe_code)] // An allocator that counts is the one way to see whether memory grows.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use vipd::engine::Instant;
use vipd::engine::session::{Opened, Sessions};
use vipd::wire::seal::{Key, Keys, Kind, Message, SealError, Topic};
use vipd::wire::sealed_advert::{self, Stamp};

#[test]
fn every_golden_message_is_read_and_written_byte_for_byte() {
    let files = golden("message");
    assert_eq!(files.len(), 6);
    for (name, fields) in files {
        let number = |key: &str| fields[key].parse::<u64>().expect("a number");
        let kind = match fields["kind"].as_str() {
            "hello" => Kind::Hello,
            "heartbeat" => Kind::Of(Topic::Heartbeat),
            "grant" => Kind::Of(Topic::Grant),
            kind => panic!("{kind}?"),
        };
        let payload = hex(&fields["payload"]);
        let message = Message {
            kind,
            sender: &fields["sender"],
            receiver: Some(fields["receiver"].as_str()).filter(|receiver| !receiver.is_empty()),
            epoch: number("epoch"),
            token: number("token"),
            counter: number("counter"),
            payload: &payload,
        };
        let keys = Keys::new(Key::new(&hex(&fields["key"])).expect("a key"), None);
        let bytes = hex(&fields["message"]);
        assert_eq!(Message::parse(&bytes, &keys), Ok(message), "{name}");
        assert_eq!(message.emit(&keys), bytes, "{name}: left is what this code writes");
    }
}

#[test]
fn every_golden_advert_is_sealed_and_opened_byte_for_byte() {
    let files = golden("sealed");
    assert_eq!(files.len(), 3);
    for (name, fields) in files {
        let number = |key: &str| fields[key].parse::<u64>().expect("a number");
        let source = fields["source"].parse().expect("an address");
        let link = u32::try_from(number("link")).expect("a place");
        let stamp = Stamp { epoch: number("epoch"), link, counter: number("counter") };
        let keys = Keys::new(Key::new(&hex(&fields["key"])).expect("a key"), None);
        let (advert, golden) = (hex(&fields["advert"]), hex(&fields["sealed"]));
        assert_eq!(sealed_advert::open(&keys, source, &golden), Ok((advert.as_slice(), Some(stamp))), "{name}");
        let mut sealed = advert;
        sealed_advert::seal(&keys, source, stamp, &mut sealed);
        assert_eq!(sealed, golden, "{name}: left is what this code writes");
    }
}

/// The golden files that have a field, by name.
fn golden(with: &str) -> BTreeMap<String, BTreeMap<String, String>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/seal");
    let entries = std::fs::read_dir(folder).expect("the folder of golden messages");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let texts = paths.filter(|path| path.extension().is_some_and(|extension| extension == "txt")).map(|path| {
        let text = std::fs::read_to_string(&path).expect("a golden message");
        let fields = text.lines().map(|line| line.split_once(':').expect("a field"));
        let fields = fields.map(|(key, value)| (key.to_owned(), value.trim().to_owned())).collect();
        (path.display().to_string(), fields)
    });
    texts.filter(|(_, fields): &(_, BTreeMap<String, String>)| fields.contains_key(with)).collect()
}

fn hex(text: &str) -> Vec<u8> {
    let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok()).expect("hex");
    text.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

/// How many hostile messages: `VIPD_FORGED`, or as many as take a second or two without optimisation.
fn forged() -> usize {
    std::env::var("VIPD_FORGED").map_or(200_000, |text| text.parse().expect("VIPD_FORGED is a number"))
}

/// All that somebody can do who records everything and has no key: replay, splice, truncate, lengthen, flip bits, forge with
/// a key of his own; to all nodes, by all interfaces, at any pace, while the nodes talk to each other.
#[test]
fn of_a_million_forged_replayed_spliced_and_truncated_messages_none_is_believed() {
    let mut rng = Rng(0x5eed);
    let mut now = Instant::ZERO;
    let mut pair = Pair::new();
    // What the nodes said in earlier lives, and in this one.
    let mut recorded = Vec::new();
    for life in 0..8 {
        now = now + Duration::from_secs(1);
        match life % 3 {
            0 => pair.a = Pair::node("a", life, &keys(1)),
            1 => pair.b = Pair::node("b", life + 100, &keys(1)),
            _ => {
                pair.a = Pair::node("a", life, &keys(1));
                pair.b = Pair::node("b", life + 100, &keys(1));
            }
        }
        pair.talk(&mut now, 20, &mut recorded);
    }
    // What a node said to another one, and what others say who have a key of their own.
    let mut c = Pair::node("c", 77, &keys(1));
    let hello = pair.a.hello(Some("c"));
    let reply = c.open(now, 0, &hello).reply.expect("an answer");
    recorded.extend([hello, reply.clone()]);
    pair.a.open(now, 0, &reply).outcome.expect("an answer to a's question");
    recorded.push(pair.a.seal("c", Topic::Grant, b"yours").expect("a session"));
    assert!(recorded.len() > 300, "{}", recorded.len());

    let mut believed = pair.believed();
    let mut answers = 0_u64;
    let (mut before, began) = (None, now);
    for n in 0..forged() {
        now = now + Duration::from_micros(rng.below(200));
        let bytes = forge(&mut rng, &recorded);
        let via = u32::try_from(rng.below(3)).expect("small");
        let node = if rng.below(2) == 0 { &mut pair.a } else { &mut pair.b };
        let opening = node.open(now, via, &bytes);
        answers += u64::from(opening.reply.is_some());
        // A hello is a question that anybody may repeat, and changes nothing.
        if let Ok(opened) = opening.outcome {
            assert!(matches!(opened, Opened::Hello { opened: false, fresh: false, .. }), "number {n}: {opened:?}");
        }
        // Meanwhile the two go on as if nothing were.
        if n % 1_000 == 0 {
            let asked = pair.talk(&mut now, 2, &mut Vec::new());
            assert_eq!(asked, 0, "number {n}: a session was lost");
            believed += 4;
        }
        if n == forged() / 10 {
            before = Some(allocated());
        }
    }
    let grown = allocated() - before.expect("a tenth");
    assert!(grown.abs() <= 256, "{grown} bytes more are held than after the first tenth");
    assert_eq!(pair.a.peers().count() + pair.b.peers().count(), 3, "nobody new is known");
    // At most one a sender, epoch and interface in 10 ms; ten senders' lives were recorded.
    let spaces = u64::try_from(now.since(began).as_millis()).expect("short") / 10 + 1;
    assert!(answers <= spaces * 3 * 2 * 12, "{answers} answers in {spaces} times 10 ms");
    assert!(pair.believed() >= believed, "what was not forged was believed");
}

/// One message of an enemy.
fn forge(rng: &mut Rng, recorded: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = recorded[rng.index(recorded.len())].clone();
    let other = &recorded[rng.index(recorded.len())];
    match rng.below(8) {
        // As it was.
        0 | 1 => {}
        // Cut off, or longer.
        2 => bytes.truncate(rng.index(bytes.len() + 1)),
        3 => bytes.extend(std::iter::repeat_n(0, rng.index(40))),
        // Some bits flipped.
        4 => {
            for _ in 0..=rng.below(3) {
                let at = rng.index(bytes.len());
                bytes[at] ^= 1 << rng.below(8);
            }
        }
        // The start of one and the end of another; at a random place or with the fields' lengths in mind.
        5 => {
            let at = rng.index(bytes.len().min(other.len()));
            bytes.truncate(at);
            bytes.extend(&other[at..]);
        }
        6 => {
            let (from, to) = [(10, 18), (18, 26), (26, 34), (5, 6), (6, 10), (34, 40)][rng.index(6)];
            let len = bytes.len().min(other.len()).min(to);
            bytes[from..len].copy_from_slice(&other[from..len]);
        }
        // With a key of his own, or noise.
        _ => {
            let keys = keys(2);
            let parsed = Message::parse(&bytes, &self::keys(1)).expect("what was recorded is authentic");
            bytes = Message { counter: parsed.counter + 1_000, ..parsed }.emit(&keys);
            if rng.below(2) == 0 {
                bytes[6..10].copy_from_slice(&self::keys(1).current().id());
            }
        }
    }
    bytes
}

fn keys(byte: u8) -> Keys {
    Keys::new(Key::new(&[byte; 32]).expect("32 bytes"), None)
}

/// Two nodes that talk.
struct Pair {
    a: Sessions,
    b: Sessions,
}

impl Pair {
    fn new() -> Self {
        Self { a: Self::node("a", 200, &keys(1)), b: Self::node("b", 201, &keys(1)) }
    }

    fn node(name: &str, life: u8, keys: &Keys) -> Sessions {
        Sessions::new(name, keys.clone(), [life; 32])
    }

    fn believed(&self) -> u64 {
        self.a.accepted() + self.b.accepted()
    }

    /// Each says something so many times, and asks for a session where there is none. How often that was.
    fn talk(&mut self, now: &mut Instant, times: usize, recorded: &mut Vec<Vec<u8>>) -> u32 {
        let mut asked = 0;
        for turn in 0..2 * times {
            let Self { a, b } = self;
            let (from, to, name) = if turn % 2 == 0 { (a, b, "b") } else { (b, a, "a") };
            let mut bytes = from.seal(name, Topic::Heartbeat, b"I am here").unwrap_or_else(|_| from.hello(Some(name)));
            // Answers go back and forth, and the message is said again where it was refused.
            let mut forth = true;
            loop {
                *now = *now + Duration::from_millis(11);
                recorded.push(bytes.clone());
                let opening = if forth { to.open(*now, 0, &bytes) } else { from.open(*now, 0, &bytes) };
                forth = !forth;
                assert!(!matches!(opening.outcome, Err(SealError::BadTag | SealError::Replayed { .. })));
                let Some(reply) = opening.reply else { break };
                asked += 1;
                bytes = reply;
            }
        }
        asked
    }
}

struct Rng(u64);

impl Rng {
    fn below(&mut self, limit: u64) -> u64 {
        // xorshift64*, good enough for an enemy.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }

    fn index(&mut self, limit: usize) -> usize {
        usize::try_from(self.below(u64::try_from(limit).expect("64 bits"))).expect("below a length")
    }
}

/// The system's, with a count for each thread: tests run beside each other.
struct Counting;

thread_local! {
    static ALLOCATED: Cell<isize> = const { Cell::new(0) };
}

/// Bytes that this thread holds.
fn allocated() -> isize {
    ALLOCATED.get()
}

fn count(size: usize, sign: isize) {
    // A thread that ends frees what it held when its counter is gone already.
    ALLOCATED.try_with(|held| held.set(held.get() + sign * size.cast_signed())).ok();
}

// SAFETY: all is handed on to the system's allocator; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;
