//! The journal's two files: lines are appended to the one, which becomes the other when it is full.
//!
//! A line is complete or it is none: what a crash cut off, and what anything else left there, is skipped by the reader
//! and ended by the next writer. A killed agent loses nothing that it had written; a host that dies, what it wrote
//! since the last sync.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::record::Record;
use crate::driver::state_dir::StateDir;

/// What is written to.
pub(super) const NEWEST: &str = "events.jsonl";
/// What was written to before.
const OLDER: &str = "events.1.jsonl";

/// When the agent ran last.
const LAST_SEEN: &str = "last-seen.json";
/// Its usual length: what is written over the last one covers it.
const LAST_SEEN_LENGTH: usize = 510;

/// How long a file may become, in bytes: some thousands of events. There are two.
pub(super) const LIMIT: u64 = 1024 * 1024;

/// The longest line that a reader takes for one of ours.
pub const LONGEST_LINE: u64 = 64 * 1024;

/// The writer's end.
#[derive(Debug)]
pub(super) struct Writer {
    dir: StateDir,
    file: File,
    length: u64,
    limit: u64,
    /// The last write failed in the middle of a line.
    torn: bool,
}

impl Writer {
    /// Opens the journal of a state directory.
    pub(super) fn open(dir: StateDir, limit: u64) -> io::Result<Self> {
        let (mut file, length) = dir.append_to(NEWEST)?;
        let mut torn = false;
        if length > 0 {
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            torn = last != *b"\n";
        }
        Ok(Self { dir, file, length, limit, torn })
    }

    /// Appends a line. Whether it is the first of a file.
    pub(super) fn append(&mut self, record: &Record) -> io::Result<bool> {
        let mut line = if self.torn { String::from("\n") } else { String::new() };
        line.push_str(&serde_json::to_string(record).map_err(io::Error::other)?);
        line.push('\n');
        let length = u64::try_from(line.len()).unwrap_or(u64::MAX);
        let is_full = self.length > 0 && self.length.saturating_add(length) > self.limit;
        if is_full {
            self.rotate()?;
        }
        let written = self.file.write_all(line.as_bytes());
        // What of it got there is not known: the next line begins with an end.
        self.torn = written.is_err();
        self.length = self.length.saturating_add(length);
        written.map(|()| is_full)
    }

    /// Has the disk hold all that was written.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.dir.rename(NEWEST, OLDER)?;
        (self.file, self.length) = self.dir.append_to(NEWEST)?;
        self.torn = false;
        Ok(())
    }
}

/// The record of when the agent ran last, as far as the disk knows. One that cannot be read is none.
pub fn last_seen(dir: &StateDir) -> Option<Record> {
    let bytes = dir.read(LAST_SEEN, LONGEST_LINE).ok()??;
    serde_json::from_slice(&bytes).ok()
}

/// Replaces it in its place, without waiting for the disk: a host that dies may leave an older one.
pub(super) fn write_last_seen(dir: &StateDir, record: &Record) -> io::Result<()> {
    let mut line = serde_json::to_vec(record).map_err(io::Error::other)?;
    line.resize(line.len().max(LAST_SEEN_LENGTH), b' ');
    line.push(b'\n');
    dir.overwrite(LAST_SEEN, &line)
}

/// The reader's end: from the oldest event to the newest, and on to those that come.
#[derive(Debug)]
pub struct Reader {
    dir: StateDir,
    /// What is read now, and the inode that tells whether the writer has gone on to another.
    open: Option<(BufReader<File>, u64)>,
    older_is_read: bool,
    /// The beginning of a line whose end is not there yet.
    partial: Vec<u8>,
    damaged: u64,
}

impl Reader {
    /// Of a state directory.
    ///
    /// # Errors
    ///
    /// What the system refuses.
    pub fn open(path: &Path) -> io::Result<Self> {
        let dir = StateDir::open_to_read(path)?;
        Ok(Self { dir, open: None, older_is_read: false, partial: Vec::new(), damaged: 0 })
    }

    /// The next event; `None` where there is none yet.
    ///
    /// # Errors
    ///
    /// What the system refuses.
    pub fn next_record(&mut self) -> io::Result<Option<Record>> {
        loop {
            if let Some(line) = self.line()? {
                if let Ok(record) = serde_json::from_slice(&line) {
                    return Ok(Some(record));
                }
                self.damaged += u64::from(!line.is_empty());
            } else if !self.go_on()? {
                return Ok(None);
            }
        }
    }

    /// How many lines were no events: cut off by a crash, or damaged.
    pub const fn damaged(&self) -> u64 {
        self.damaged
    }

    /// The next whole line of the open file, without its end. One that is too long comes in parts, none of which is an event.
    fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let Some((file, _)) = &mut self.open else { return Ok(None) };
        let room = LONGEST_LINE.saturating_sub(u64::try_from(self.partial.len()).unwrap_or(LONGEST_LINE));
        file.take(room).read_until(b'\n', &mut self.partial)?;
        let is_full = u64::try_from(self.partial.len()).is_ok_and(|length| length >= LONGEST_LINE);
        if self.partial.last() != Some(&b'\n') && !is_full {
            return Ok(None);
        }
        let mut line = std::mem::take(&mut self.partial);
        line.pop_if(|last| *last == b'\n');
        Ok(Some(line))
    }

    /// Opens what comes after the end of the open file. Whether there is anything.
    fn go_on(&mut self) -> io::Result<bool> {
        let older = if self.older_is_read { None } else { self.existing(OLDER)? };
        self.older_is_read = true;
        let Some((file, inode)) = (match older {
            Some(older) => Some(older),
            None => self.existing(NEWEST)?,
        }) else {
            return Ok(false);
        };
        if self.open.as_ref().is_some_and(|(_, open)| *open == inode) {
            return Ok(false);
        }
        // No writer ends a line of a file that it has left.
        self.damaged += u64::from(!std::mem::take(&mut self.partial).is_empty());
        self.open = Some((BufReader::new(file), inode));
        Ok(true)
    }

    fn existing(&self, name: &str) -> io::Result<Option<(File, u64)>> {
        match self.dir.file(name) {
            Ok(file) => {
                let inode = file.metadata()?.ino();
                Ok(Some((file, inode)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::scratch::Scratch;

    struct Place(Scratch);

    impl Place {
        fn new(name: &str) -> Self {
            Self(Scratch::new(&format!("journal-{name}")))
        }

        fn writer(&self, limit: u64) -> Writer {
            let dir = StateDir::open(self.0.path()).expect("it can be made");
            Writer::open(dir, limit).expect("it can be written to")
        }

        fn reader(&self) -> Reader {
            Reader::open(self.0.path()).expect("it can be read")
        }

        fn file(&self) -> PathBuf {
            self.0.path().join(NEWEST)
        }
    }

    fn record(number: u64) -> Record {
        Record {
            at: "2026-01-01T00:00:00.000000Z".into(),
            boot: "b".into(),
            monotonic_ns: number,
            node: "n".into(),
            vip: Some("db".into()),
            kind: "transition".into(),
            cause: Some("because".into()),
            text: "text".into(),
            evidence: std::collections::BTreeMap::new(),
        }
    }

    fn numbers(reader: &mut Reader) -> Vec<u64> {
        std::iter::from_fn(|| reader.next_record().expect("readable")).map(|record| record.monotonic_ns).collect()
    }

    #[test]
    fn what_is_written_is_read_and_followed() {
        let place = Place::new("follow");
        let mut writer = place.writer(LIMIT);
        let mut reader = place.reader();
        assert!(numbers(&mut reader).is_empty());
        for number in 0..3 {
            writer.append(&record(number)).expect("written");
        }
        assert_eq!(numbers(&mut reader), [0, 1, 2]);
        writer.append(&record(3)).expect("written");
        assert_eq!(numbers(&mut reader), [3]);
        assert_eq!(reader.damaged(), 0);
    }

    #[test]
    fn a_follower_sees_each_event_once_over_rotations_and_the_files_stay_bounded() {
        let place = Place::new("rotate");
        let limit = 1_000;
        let mut writer = place.writer(limit);
        let mut reader = place.reader();
        let mut seen = Vec::new();
        for number in 0..200 {
            writer.append(&record(number)).expect("written");
            if number % 2 == 0 {
                seen.extend(numbers(&mut reader));
            }
        }
        seen.extend(numbers(&mut reader));
        assert_eq!(seen, (0..200).collect::<Vec<_>>());
        let sizes: Vec<u64> = std::fs::read_dir(place.0.path())
            .expect("a directory")
            .map(|entry| entry.expect("listed").metadata().expect("there").len())
            .collect();
        assert!(sizes.len() == 2 && sizes.iter().all(|size| *size <= limit), "{sizes:?}");
        let last = numbers(&mut place.reader());
        assert!(last.len() > 5 && last.ends_with(&[198, 199]), "{last:?}");
        assert!(last.windows(2).all(|pair| pair[1] == pair[0] + 1), "{last:?}");
    }

    #[test]
    fn a_last_line_that_is_cut_anywhere_costs_that_line_alone() {
        let place = Place::new("cut");
        let mut writer = place.writer(LIMIT);
        writer.append(&record(0)).expect("written");
        let one = std::fs::metadata(place.file()).expect("there").len();
        writer.append(&record(1)).expect("written");
        let whole = std::fs::read(place.file()).expect("there");
        for cut in one..u64::try_from(whole.len()).expect("short") {
            let cut = usize::try_from(cut).expect("short");
            std::fs::write(place.file(), &whole[..cut]).expect("written");
            place.writer(LIMIT).append(&record(2)).expect("written");
            let mut reader = place.reader();
            let read = numbers(&mut reader);
            // A line that lacks nothing but its end is given one.
            let expected: &[u64] = if cut == whole.len() - 1 { &[0, 1, 2] } else { &[0, 2] };
            assert_eq!(read, expected, "cut at {cut}");
        }
    }

    #[test]
    fn garbage_of_any_kind_is_skipped_and_counted() {
        let place = Place::new("garbage");
        place.writer(LIMIT).append(&record(0)).expect("written");
        let mut file = std::fs::OpenOptions::new().append(true).open(place.file()).expect("there");
        file.write_all(b"\xff\xfe\0\0garbage\n{\"at\":1}\n\n{}\n").expect("written");
        file.write_all(&vec![b'x'; 200_000]).expect("written");
        place.writer(LIMIT).append(&record(1)).expect("written");
        let mut reader = place.reader();
        assert_eq!(numbers(&mut reader), [0, 1]);
        assert!(reader.damaged() >= 4, "{}", reader.damaged());
    }
}
