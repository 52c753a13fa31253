//! `vipd report`: availability, failovers and gaps of a time, from what was recorded.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::Exit;
use super::events::{since, unreadable};
use super::output::{complain, print, span, table};
use crate::daemon::accounts::{self, Accounts, Question, Takeovers, VipFigures};
use crate::daemon::clock;
use crate::daemon::journal::BEAT;
use crate::daemon::journal_file::{LONGEST_LINE, Reader, last_seen};
use crate::daemon::record::Record;
use crate::driver::state_dir::{self, StateDir};

/// Of what is explained below the tables, in characters.
const WIDTH: usize = 100;
/// How many outages a table shows; JSON has them all.
const OUTAGES_SHOWN: usize = 5;

/// Show availability, failovers and gaps, from what was recorded
///
/// Reckoned from this node's journal, or from the journals that are named, which may be of several nodes: only together
/// they know who owned an address while one of them was not there. What no journal knows is shown as unknown, and is
/// neither up nor down. The answer says how each figure comes about.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 done, 1 nothing is recorded, 2 usage, 5 not permitted (the journal is for root and the agent's \
                        user), 6 a journal cannot be read.\n\nExamples:\n  \
                        vipd report --since 30d\n  \
                        ssh db-b vipd events --json | vipd report --since 30d /var/lib/vipd -\n  \
                        vipd report --json | jq '.vips[] | {vip, availability, mttr_ms}'"
)]
pub(super) struct Args {
    /// Journals, instead of this node's: state directories, files in them, what `vipd events --json` printed, or `-` for standard input
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// From then on: a time span before now, such as `30d`, or a time as RFC 3339; without it, from the first event
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<SystemTime>,
    /// Until then; without it, until now, or until the last event of the journals that are named
    #[arg(long, value_name = "TIME", value_parser = since)]
    until: Option<SystemTime>,
    /// Only this virtual IP
    #[arg(long, value_name = "NAME")]
    vip: Option<String>,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
    /// Where the agent of this node keeps its state
    #[arg(long, value_name = "DIR", default_value = state_dir::DEFAULT_PATH, conflicts_with = "files")]
    state_dir: PathBuf,
}

impl Args {
    pub(super) fn run(self) -> io::Result<Exit> {
        let mut journals = Journals::default();
        let read = match self.files.as_slice() {
            [] => journals.read_dir(&self.state_dir),
            files => files.iter().try_for_each(|file| journals.read(file)),
        };
        if let Err(error) = read {
            return Ok(unreadable(&error));
        }
        let until = self.until.or_else(|| self.files.is_empty().then(|| journals.now()));
        let question = Question { since: self.since, until, vip: self.vip };
        let Some(mut accounts) = accounts::reckon(journals.records, &question) else {
            complain("vipd: nothing is recorded\n");
            return Ok(Exit::No);
        };
        if journals.damaged > 0 {
            accounts.notes.push(format!("damaged lines of the journals were left out: {}", journals.damaged));
        }
        if self.json {
            let json = serde_json::to_string_pretty(&accounts).map_err(io::Error::other)?;
            print(&format!("{json}\n"))?;
        } else {
            print(&shown(&accounts))?;
        }
        Ok(Exit::Done)
    }
}

/// What was read.
#[derive(Default)]
struct Journals {
    records: Vec<Record>,
    damaged: u64,
}

impl Journals {
    fn read(&mut self, path: &Path) -> io::Result<()> {
        if path == Path::new("-") {
            return self.read_lines(io::stdin().lock());
        }
        if path.is_dir() {
            return self.read_dir(path);
        }
        let in_words =
            |error: io::Error| io::Error::new(error.kind(), format!("cannot read {}: {error}", path.display()));
        let file = File::open(path).map_err(in_words)?;
        self.read_lines(BufReader::new(file)).map_err(in_words)
    }

    fn read_dir(&mut self, path: &Path) -> io::Result<()> {
        let mut reader = Reader::open(path)?;
        while let Some(record) = reader.next_record()? {
            self.records.push(record);
        }
        self.damaged += reader.damaged();
        let last = last_seen(&StateDir::open_to_read(path)?);
        // Of another node, where somebody has changed the name, it would be taken for that one's journal.
        self.records.extend(last.filter(|last| self.records.iter().any(|record| record.node == last.node)));
        Ok(())
    }

    fn read_lines(&mut self, mut from: impl BufRead) -> io::Result<()> {
        loop {
            let mut line = Vec::new();
            if from.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            match serde_json::from_slice(&line) {
                Ok(record) => self.records.push(record),
                Err(_) => self.damaged += u64::from(!line.trim_ascii().is_empty()),
            }
        }
    }

    /// The present, or the last sign of an agent that runs: it gives the next one when it is due.
    fn now(&self) -> SystemTime {
        let now = clock::wall();
        let last = self.records.iter().filter_map(|record| humantime::parse_rfc3339(&record.at).ok()).max();
        let fresh = |at: &SystemTime| now.duration_since(*at).is_ok_and(|age| age < BEAT * 2);
        last.filter(fresh).unwrap_or(now)
    }
}

const HEADINGS: [&str; 9] = ["VIP", "AVAILABILITY", "UP", "DOWN", "UNKNOWN", "OUTAGES", "MTBF", "MTTR", "TWO OWNERS"];
const TAKEOVER_HEADINGS: [&str; 6] = ["VIP", "TAKEN OVER BECAUSE", "COUNT", "GAP MEDIAN", "GAP SLOWEST", "GAP UNKNOWN"];

fn shown(accounts: &Accounts) -> String {
    let Accounts { schema: _, since, until, nodes, definitions, notes, vips, drills } = accounts;
    let journals = if nodes.len() == 1 { "the journal" } else { "the journals" };
    let mut out = format!("{since} to {until}, by {journals} of {}\n\n", nodes.join(", "));
    out.push_str(&rows(HEADINGS, vips.iter().map(row)));
    let takeovers = vips.iter().flat_map(|vip| {
        let total = ("= failovers".to_owned(), &vip.failovers);
        let by_cause = vip.takeovers_by_cause.iter().map(|(cause, takeovers)| (cause.clone(), takeovers));
        by_cause.chain([total]).map(|(cause, takeovers)| takeover_row(&vip.vip, cause, takeovers))
    });
    line(&mut out, format_args!("\n{}", rows(TAKEOVER_HEADINGS, takeovers).trim_end()));
    let endings = vips.iter().flat_map(|vip| {
        vip.ownerships_ended.iter().map(|(cause, count)| [vip.vip.clone(), cause.clone(), count.to_string()])
    });
    let endings: Vec<_> = endings.collect();
    if !endings.is_empty() {
        let endings = rows(["VIP", "OWNERSHIP ENDED BECAUSE", "COUNT"], endings.into_iter());
        line(&mut out, format_args!("\n{}", endings.trim_end()));
    }
    for vip in vips {
        outages(&mut out, vip);
        if vip.second_owner_signs > 0 {
            let (name, signs) = (&vip.vip, vip.second_owner_signs);
            line(
                &mut out,
                format_args!("{name}: {signs} signs of a second owner; `vipd events --vip {name}` has them"),
            );
        }
    }
    line(&mut out, format_args!("\nDrills: {}", drills.len()));
    for drill in drills {
        line(
            &mut out,
            format_args!("  {} {} {}  {}", drill.at, drill.node, drill.vip.as_deref().unwrap_or("-"), drill.text),
        );
    }
    line(&mut out, format_args!("\nWhat it means"));
    for definition in definitions {
        wrapped(&mut out, &format!("{}: {}", definition.term, definition.meaning));
    }
    for note in notes {
        wrapped(&mut out, &format!("note: {note}"));
    }
    // What journals hold may be of anybody who wrote them.
    out.chars().map(|c| if c.is_control() && c != '\n' { '?' } else { c }).collect()
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("a String takes all");
}

/// In lines that a terminal shows whole.
fn wrapped(out: &mut String, text: &str) {
    let mut width = WIDTH;
    for word in text.split(' ') {
        let length = word.chars().count() + 1;
        if width + length > WIDTH {
            let indent = if width == WIDTH { "  " } else { "\n    " };
            out.push_str(indent);
            width = indent.trim_start_matches('\n').len();
        } else {
            out.push(' ');
        }
        out.push_str(word);
        width += length;
    }
    out.push('\n');
}

fn rows<const N: usize>(headings: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let rows: Vec<_> = std::iter::once(headings.map(str::to_owned)).chain(rows).collect();
    table(&rows)
}

fn row(vip: &VipFigures) -> [String; HEADINGS.len()] {
    let known = |ms: Option<f64>| ms.map_or_else(|| "-".to_owned(), time);
    let [low, high] = vip.availability_bounds.map(percent);
    let availability = match vip.availability {
        None => "unknown".to_owned(),
        Some(share) if vip.unknown_ms == 0.0 => percent(share),
        Some(share) => format!("{} ({low} to {high})", percent(share)),
    };
    [
        vip.vip.clone(),
        availability,
        time(vip.up_ms),
        time(vip.down_ms),
        time(vip.unknown_ms),
        vip.outages.len().to_string(),
        known(vip.mtbf_ms),
        known(vip.mttr_ms),
        time(vip.two_owners_ms),
    ]
}

fn takeover_row(vip: &str, cause: String, takeovers: &Takeovers) -> [String; TAKEOVER_HEADINGS.len()] {
    let known = |ms: Option<f64>| ms.map_or_else(|| "-".to_owned(), time);
    let Takeovers { count, gap_unknown, gap_median_ms, gap_slowest_ms } = takeovers;
    [vip.to_owned(), cause, count.to_string(), known(*gap_median_ms), known(*gap_slowest_ms), gap_unknown.to_string()]
}

/// The longest of them.
fn outages(out: &mut String, vip: &VipFigures) {
    let mut outages: Vec<_> = vip.outages.iter().collect();
    outages.sort_by(|one, other| other.ms.total_cmp(&one.ms));
    if !outages.is_empty() {
        line(out, format_args!("\n{}: longest outages", vip.vip));
    }
    for outage in outages.into_iter().take(OUTAGES_SHOWN) {
        let least = if outage.at_least { "at least " } else { "" };
        line(out, format_args!("  {}  {least}{}", outage.since, time(outage.ms)));
    }
}

fn time(ms: f64) -> String {
    if ms > 0.0 && ms < 10_000.0 {
        return format!("{ms:.1}ms");
    }
    span(Duration::try_from_secs_f64(ms / 1e3).unwrap_or_default())
}

/// To a thousandth of a percent, and never more than it is: 100 % is without an outage.
fn percent(share: f64) -> String {
    format!("{:.3} %", (share * 1e5).floor() / 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn explanations_are_wrapped_and_lose_nothing() {
        let text = "a word and ".repeat(40);
        let mut out = String::new();
        wrapped(&mut out, text.trim());
        assert!(out.lines().all(|line| line.len() <= WIDTH && line.starts_with("  ")), "{out}");
        assert_eq!(out.split_whitespace().collect::<Vec<_>>(), text.split_whitespace().collect::<Vec<_>>());
    }

    #[test]
    fn a_share_is_never_shown_as_more_than_it_is() {
        assert_eq!([1.0, 0.999_999_9, 0.5].map(percent), ["100.000 %", "99.999 %", "50.000 %"]);
        assert_eq!([0.0, 0.4, 361.2, 12_345.0, 3_600_000.0].map(time), ["0ms", "0.4ms", "361.2ms", "12s", "1h00m"]);
    }
}
