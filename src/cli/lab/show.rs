//! What is shown while it happens: a line an event, ordered by time, and on a terminal a strip of who answers now.

use std::io::{self, Write as _};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::lab::{AgentEvent, Answer, Outcome, Pair, Return, Scenario, Watch, strip};

/// An agent's line may be read later than the client's answer that came after it: lines wait so long for their order.
const ORDERING: Duration = Duration::from_millis(60);

/// How often the strip is drawn anew.
const DRAWING: Duration = Duration::from_millis(50);

/// The letters of a strip.
const CELLS: usize = 64;

/// Something that happened during a run.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    /// When.
    pub(super) at: Instant,
    /// `node-a`, `node-b`, `client`, `lab` or `fault`.
    pub(super) who: String,
    /// In words.
    pub(super) what: String,
    /// Whether it is an agent's own word.
    pub(super) event: Option<AgentEvent>,
}

/// Shows a run.
pub(super) struct Show {
    /// Whether anything is printed, and not only collected.
    printing: bool,
    live: bool,
    /// Whether the run's lines are printed: those of the first only.
    detailed: bool,
    fault: Option<Instant>,
    waiting: Vec<Shown>,
    all: Vec<Shown>,
    drawn: Instant,
    recent: Vec<Answer>,
    read: usize,
}

impl Show {
    pub(super) fn new(printing: bool, live: bool) -> Self {
        Self {
            printing,
            live: printing && live,
            detailed: true,
            fault: None,
            waiting: Vec::new(),
            all: Vec::new(),
            drawn: Instant::now(),
            recent: Vec::new(),
            read: 0,
        }
    }

    /// Says what stands there.
    pub(super) fn introduce(&self, pair: &Pair) -> io::Result<()> {
        let address = pair.address();
        let [a, b] = [pair.nodes[0].router(), pair.nodes[1].router()];
        let own = |last: u8| match address {
            IpAddr::V4(_) => format!("10.77.0.{last}"),
            IpAddr::V6(_) => format!("fd77::{last}"),
        };
        let (hosts, witness) = if pair.options().witness {
            ("Four", "\n  witness 10.78.0.5   votes with the nodes, on a link that the client is not on")
        } else {
            ("Three", "")
        };
        self.print(&format!(
            "{hosts} hosts on a switch, made of namespaces; nothing outside them is touched.\n\n  \
             node-a  {:10}  runs vipd with priority {}\n  \
             node-b  {:10}  runs vipd with priority {}\n  \
             client  {:10}  asks for the shared address {address} every millisecond{witness}\n\n\
             The owner of the address says so every {:?}. The other takes it when it hears nothing for\n\
             3 intervals and (256 - {}) / 256 of one: {}.\n",
            own(1),
            a.priority,
            own(2),
            b.priority,
            own(9),
            a.interval,
            b.priority,
            ms(b.active_down()),
        ))
    }

    /// A run begins.
    pub(super) fn begin(&mut self, scenario: Scenario, run: u32, of: u32) -> io::Result<()> {
        self.detailed = run == 1;
        self.fault = None;
        self.all.clear();
        if self.detailed {
            let times = if of > 1 { format!(", {of} times; the first time in detail") } else { String::new() };
            self.print(&format!("\n== {}: {}{times}\n\n", scenario.name(), scenario.fault()))?;
        }
        Ok(())
    }

    /// A run has ended. Gives all that was shown.
    pub(super) fn end(&mut self, pair: &Pair, outcome: &Outcome, run: u32) -> io::Result<Vec<Shown>> {
        self.clear()?;
        self.flush(Instant::now())?;
        let measured = outcome.measured;
        let takeover = measured
            .takeover
            .map_or_else(|| "no takeover".to_owned(), |takeover| format!("took over after {}", ms(takeover)));
        let two = if measured.dual.is_zero() {
            "never two owners".to_owned()
        } else {
            format!("two hosts answered for {}", ms(measured.dual))
        };
        let two = match outcome.both_leased {
            None => two,
            Some(Duration::ZERO) => format!("{two}, and never two leases"),
            Some(both) => format!("{two}, and two had a lease for {}", ms(both)),
        };
        let result = match outcome.astray {
            None => format!("{takeover}; longest silence {}; {two}", ms(measured.outage)),
            Some(astray) => {
                format!(
                    "the client reached the wrong host for {}; longest silence {}; {two}",
                    ms(astray),
                    ms(measured.outage)
                )
            }
        };
        let result = match outcome.settled {
            None => result,
            Some(settled) => format!("{result}; node-a alone answered {} after the heal", ms(settled)),
        };
        let result = match outcome.returned {
            None => result,
            Some(Return { transitions, announcements, answers }) => format!(
                "{result}; after its return: {answers} answers and {announcements} announcements of node-a, {transitions} \
                 transitions of node-b"
            ),
        };
        if self.detailed {
            self.print_strip(pair, outcome)?;
            self.print(&format!("\n  {result}\n"))?;
        } else {
            self.print(&format!("  run {run:3}: {result}\n"))?;
        }
        if let Err(error) = &outcome.healed {
            self.print(&format!("  AFTER THE FAULT WAS HEALED: {error}\n"))?;
        }
        Ok(std::mem::take(&mut self.all))
    }

    /// Who answered around the fault, from two intervals before it on.
    fn print_strip(&self, pair: &Pair, outcome: &Outcome) -> io::Result<()> {
        let interval = pair.options().interval;
        let shown = outcome.measured.takeover.unwrap_or(6 * interval) + 4 * interval;
        // Whole milliseconds, so that a cell holds as many questions as the next.
        let cell = Duration::from_millis(u64::try_from(shown.as_millis()).unwrap_or(u64::MAX) / 60 + 1);
        let before = 2 * interval.as_micros() / cell.as_micros();
        let before = u32::try_from(before).unwrap_or_default();
        let record = pair.probe().record();
        let [a, b] = [pair.nodes[0].macs(), pair.nodes[1].macs()];
        let from = outcome.fault.checked_sub(cell * before).unwrap_or(outcome.fault);
        let mut letters = strip(&record.answers, from, cell, CELLS, [&a, &b]);
        letters.insert(usize::try_from(before).unwrap_or_default().min(letters.len()), '|');
        self.print(&format!("\n  who answered, {} a letter, the fault at the bar:\n  {letters}\n", ms(cell)))
    }

    fn push(&mut self, shown: Shown) {
        self.waiting.push(shown);
    }

    /// Prints the lines that are old enough for none to come before them.
    fn flush(&mut self, before: Instant) -> io::Result<()> {
        self.waiting.sort_by_key(|shown| shown.at);
        let ready = self.waiting.partition_point(|shown| shown.at < before);
        if ready == 0 {
            return Ok(());
        }
        self.clear()?;
        let ready: Vec<_> = self.waiting.drain(..ready).collect();
        for shown in ready {
            if self.detailed {
                self.print(&line(&shown, self.fault))?;
            }
            self.all.push(shown);
        }
        Ok(())
    }

    fn clear(&self) -> io::Result<()> {
        if self.live { self.print("\r\x1b[K") } else { Ok(()) }
    }

    fn draw(&mut self, pair: &Pair) -> io::Result<()> {
        // Forgotten at the begin of a run.
        if self.read > pair.probe().count() {
            self.read = 0;
        }
        let answers = pair.probe().answers_from(self.read);
        self.read += answers.len();
        self.recent.extend(answers);
        if self.drawn.elapsed() < DRAWING {
            return Ok(());
        }
        self.drawn = Instant::now();
        let cell = Duration::from_millis(10);
        // Aligned to cells, so that the strip moves instead of flickering; the cell of now is not full yet.
        let span = cell * u32::try_from(CELLS).unwrap_or_default();
        let Some(from) = self.drawn.checked_sub(span) else { return Ok(()) };
        let [a, b] = [pair.nodes[0].macs(), pair.nodes[1].macs()];
        self.recent.retain(|answer| answer.at >= from);
        let letters = strip(&self.recent, from, cell, CELLS, [&a, &b]);
        self.print(&format!("\r\x1b[K  answers now: {letters}"))
    }

    fn print(&self, text: &str) -> io::Result<()> {
        if !self.printing {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }
}

impl Watch for Show {
    fn event(&mut self, node: &str, event: &AgentEvent) {
        let AgentEvent { at, from, to, cause, .. } = event;
        let from = from.as_ref().map(|from| format!("{from} -> ")).unwrap_or_default();
        let cause = cause.as_ref().map(|cause| format!(": {cause}")).unwrap_or_default();
        let what = format!("{from}{to}{cause}");
        self.push(Shown { at: *at, who: node.to_owned(), what, event: Some(event.clone()) });
    }

    fn note(&mut self, at: Instant, who: &str, text: &str) {
        if who == "fault" {
            self.fault = Some(at);
        }
        self.push(Shown { at, who: who.to_owned(), what: text.to_owned(), event: None });
    }

    fn look(&mut self, pair: &Pair) {
        let old_enough = Instant::now().checked_sub(ORDERING);
        // A reader that has gone away ends the lab's last print, not the lab.
        old_enough.map_or(Ok(()), |before| self.flush(before)).ok();
        if self.live {
            self.draw(pair).ok();
        }
    }
}

fn line(shown: &Shown, fault: Option<Instant>) -> String {
    let time = match fault {
        Some(fault) if shown.at >= fault => format!("+{}", ms(shown.at - fault)),
        _ => String::new(),
    };
    let who = if shown.who == "fault" { "FAULT" } else { &shown.who };
    format!("  {time:>11}  {who:6}  {}\n", shown.what)
}

/// Milliseconds with one decimal.
pub(super) fn ms(duration: Duration) -> String {
    let tenths = (duration.as_micros() + 50) / 100;
    format!("{}.{} ms", tenths / 10, tenths % 10)
}
