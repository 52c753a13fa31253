//! From a probe's record to the figures of a failover, all from the client's point of view.
//!
//! * *takeover*: from the fault to the first echo answer of the successor.
//! * *outage*: the longest time without any echo answer, beginning with the last one before the fault. When the owner dies, it is from its last
//!   answer to the first of its successor; when the owner lives on unreachable in part, it may be nothing but the probe's period.
//! * *lost*: how many echo requests, one a millisecond, nobody answered. Unlike the outage it does not grow where the client itself could not
//!   run, or its host had no time for anybody.
//! * *dual*: while two hosts hold the address. A question of "who has the address?" is *doubled* when two MAC addresses answer it
//!   before the next is asked; dual is the time from each doubled question to the next question, together.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::frames::Kind;
use super::probe::{Answer, PROBE_PERIOD, Record};

/// What is asked so shortly before the end of a record may be answered after it.
const ANSWER_PATIENCE: Duration = Duration::from_millis(50);
/// What is asked so shortly before a fault may be lost by it.
const BEFORE: Duration = Duration::from_millis(5);

/// What a client saw of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measurement {
    /// See the module's page. `None`: the successor never answered.
    pub takeover: Option<Duration>,
    /// See the module's page. Until the end of the record, where no one answered again.
    pub outage: Duration,
    /// See the module's page.
    pub lost: usize,
    /// See the module's page.
    pub dual: Duration,
    /// From the fault to the first doubled question.
    pub dual_from: Option<Duration>,
    /// From the fault to the last doubled question.
    pub dual_until: Option<Duration>,
}

impl Record {
    /// The figures of a fault, from which on a host with these MAC addresses should have answered, up to an instant.
    pub fn measure(&self, fault: Instant, end: Instant, successor: &[[u8; 6]]) -> Measurement {
        let takeover = self
            .echoes()
            .find(|answer| answer.at >= fault && successor.contains(&answer.from))
            .map(|answer| answer.at.saturating_duration_since(fault));
        let doubled: Vec<_> = self.doubled().filter(|(asked, _)| (fault..=end).contains(asked)).collect();
        let since = |(asked, _): &(Instant, Duration)| asked.saturating_duration_since(fault);
        Measurement {
            takeover,
            outage: self.longest_silence(fault, end),
            lost: self.lost(fault, end),
            dual: doubled.iter().map(|(_, time)| *time).sum(),
            dual_from: doubled.first().map(since),
            dual_until: doubled.last().map(since),
        }
    }

    /// For how long, from an instant on, it was a host with this MAC address that answered the client's echo requests.
    pub fn answered_by(&self, since: Instant, mac: [u8; 6]) -> Duration {
        let echoes: Vec<&Answer> = self.echoes().filter(|answer| answer.at >= since).collect();
        let wrong = echoes.iter().enumerate().filter(|(_, answer)| answer.from == mac);
        let until_next = |(index, answer): (usize, &&Answer)| {
            echoes.get(index + 1).map_or(PROBE_PERIOD, |next| next.at.saturating_duration_since(answer.at))
        };
        wrong.map(until_next).sum()
    }

    /// The MAC addresses that answered either question from an instant on.
    pub fn owners_since(&self, since: Instant) -> Vec<[u8; 6]> {
        let mut owners: Vec<_> = self
            .answers
            .iter()
            .filter(|answer| answer.at >= since && answer.kind != Kind::Announcement)
            .map(|answer| answer.from)
            .collect();
        owners.sort_unstable();
        owners.dedup();
        owners
    }

    /// How long after an instant it took until one host answered each question, and no other did, to the end of the record.
    pub fn settled(&self, since: Instant, end: Instant, owner: &[[u8; 6]]) -> Duration {
        let its = |answer: &&Answer| answer.at >= since && owner.contains(&answer.from);
        let answered: BTreeSet<u16> = self.echoes().filter(its).filter_map(|answer| answer.kind.sequence()).collect();
        let missed = self
            .echoes_asked
            .iter()
            .filter(|(at, sequence)| *at >= since && *at + ANSWER_PATIENCE < end && !answered.contains(sequence))
            .map(|(at, _)| *at + PROBE_PERIOD);
        let others = self
            .answers
            .iter()
            .filter(|answer| answer.at >= since && answer.kind != Kind::Announcement && !owner.contains(&answer.from))
            .map(|answer| answer.at);
        missed.chain(others).max().map_or(Duration::ZERO, |last| last.saturating_duration_since(since))
    }

    fn echoes(&self) -> impl Iterator<Item = &Answer> {
        self.answers.iter().filter(|answer| matches!(answer.kind, Kind::Echo(_)))
    }

    fn lost(&self, fault: Instant, end: Instant) -> usize {
        let begin = fault.checked_sub(BEFORE).unwrap_or(fault);
        let answered: BTreeSet<u16> =
            self.echoes().filter(|answer| answer.at >= begin).filter_map(|answer| answer.kind.sequence()).collect();
        let counts = |at: &Instant| *at >= begin && *at + ANSWER_PATIENCE < end;
        self.echoes_asked.iter().filter(|(at, sequence)| counts(at) && !answered.contains(sequence)).count()
    }

    fn longest_silence(&self, fault: Instant, end: Instant) -> Duration {
        let before = self.echoes().map(|answer| answer.at).take_while(|at| *at < fault).last();
        let within = self.echoes().map(|answer| answer.at).filter(|at| (fault..end).contains(at));
        let (mut longest, mut last) = (Duration::ZERO, before.unwrap_or(fault));
        for at in within.chain([end]) {
            longest = longest.max(at.saturating_duration_since(last));
            last = at;
        }
        longest
    }

    /// The questions that two MAC addresses answered, each with the time to the next question.
    fn doubled(&self) -> impl Iterator<Item = (Instant, Duration)> {
        let mut answers = self.answers.iter().filter(|answer| answer.kind == Kind::Neighbour).peekable();
        self.asked.iter().enumerate().filter_map(move |(index, asked)| {
            let next = self.asked.get(index + 1).copied();
            let mut first = None;
            let mut doubled = false;
            while let Some(answer) = answers.next_if(|answer| next.is_none_or(|next| answer.at < next)) {
                doubled |= answer.at >= *asked && *first.get_or_insert(answer.from) != answer.from;
            }
            let time = next.map_or(PROBE_PERIOD, |next| next.saturating_duration_since(*asked));
            doubled.then_some((*asked, time))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const B: [u8; 6] = [2, 0, 0, 0, 0, 2];

    /// A record in which hosts answer both questions within 0.1 ms, each in a span of milliseconds.
    fn record(epoch: Instant, spans: &[([u8; 6], u64, u64)], end: u64) -> Record {
        let mut record = Record::default();
        for ms in 0..end {
            let asked = epoch + Duration::from_millis(ms);
            record.asked.push(asked);
            let sequence = u16::try_from(ms).unwrap();
            record.echoes_asked.push((asked, sequence));
            for (from, begin, end) in spans {
                if (*begin..*end).contains(&ms) {
                    let at = asked + Duration::from_micros(100);
                    record.answers.push(Answer { at, from: *from, kind: Kind::Echo(sequence) });
                    record.answers.push(Answer { at, from: *from, kind: Kind::Neighbour });
                }
            }
        }
        record
    }

    #[test]
    fn who_answered_last_beside_the_owner_or_instead_of_it_delays_the_settlement() {
        let epoch = Instant::now();
        let end = epoch + Duration::from_millis(300);
        let heal = |ms| epoch + Duration::from_millis(ms);
        let both = record(epoch, &[(A, 0, 300), (B, 0, 104)], 300);
        assert_eq!(both.settled(heal(100), end, &[A]), Duration::from_micros(3_100));
        let nobody = record(epoch, &[(A, 0, 103), (A, 110, 300)], 300);
        assert_eq!(nobody.settled(heal(100), end, &[A]), Duration::from_millis(10));
        assert_eq!(nobody.settled(heal(120), end, &[A]), Duration::ZERO);
    }

    #[test]
    fn a_clean_failover_is_one_gap_without_two_owners() {
        let epoch = Instant::now();
        let at = |ms| epoch + Duration::from_millis(ms);
        let record = record(epoch, &[(A, 0, 100), (B, 400, 600)], 600);
        let measured = record.measure(at(100), at(599), &[B]);
        assert_eq!(measured.takeover, Some(Duration::from_micros(300_100)));
        assert_eq!(measured.outage, Duration::from_millis(301));
        assert_eq!((measured.dual, measured.dual_from), (Duration::ZERO, None));
        assert_eq!(measured.lost, 300);
        assert_eq!(record.owners_since(at(300)), [B]);
    }

    #[test]
    fn two_owners_are_counted_and_are_no_outage() {
        let epoch = Instant::now();
        let at = |ms| epoch + Duration::from_millis(ms);
        let measured = record(epoch, &[(A, 0, 500), (B, 400, 600)], 600).measure(at(100), at(599), &[B]);
        assert_eq!(measured.outage, Duration::from_millis(1));
        assert_eq!(measured.dual, Duration::from_millis(100));
        assert_eq!(measured.dual_from, Some(Duration::from_millis(300)));
        assert_eq!(measured.dual_until, Some(Duration::from_millis(399)));
    }

    #[test]
    fn a_client_that_was_misled_is_so_until_the_right_one_answers() {
        let epoch = Instant::now();
        let at = |ms| epoch + Duration::from_millis(ms);
        let record = record(epoch, &[(A, 0, 100), (B, 100, 130), (A, 130, 200), (B, 200, 201)], 201);
        assert_eq!(record.answered_by(at(50), B), Duration::from_millis(31));
        assert_eq!(record.answered_by(at(150), B), PROBE_PERIOD);
    }

    #[test]
    fn an_address_that_stays_away_is_out_until_the_end() {
        let epoch = Instant::now();
        let at = |ms| epoch + Duration::from_millis(ms);
        let measured = record(epoch, &[(A, 0, 100)], 600).measure(at(100), at(600), &[B]);
        assert_eq!(measured.takeover, None);
        assert_eq!(measured.outage, Duration::from_micros(500_900));
    }
}
