//! What is wrong with a file, as data. How it is shown is the business of `report`.

use std::ops::Range;

use serde::Serialize;

/// One mistake in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What sort of mistake.
    pub kind: Kind,
    /// Bytes of the file that are wrong; `None`: the file as a whole.
    pub span: Option<Range<usize>>,
    /// What is wrong, in one line without the value of a password.
    pub message: String,
    /// What stands beside the underline; may be empty.
    pub label: String,
    /// What to do about it.
    pub remedy: String,
    /// A second place that explains the first, and what it has to do with it.
    pub also: Option<(Range<usize>, String)>,
}

/// The sorts of mistakes; the names are part of the JSON output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The file cannot be read.
    Unreadable,
    /// Not TOML.
    Syntax,
    /// A key that does not exist.
    UnknownKey,
    /// A key that must be there is not.
    MissingKey,
    /// Another type than the key has.
    WrongType,
    /// A number or a duration beyond its limits.
    OutOfRange,
    /// A text that does not mean what the key needs.
    Invalid,
    /// What must be unique is there twice.
    Duplicate,
    /// Two keys that cannot stand together.
    Conflict,
    /// No interface of that name on this machine.
    MissingInterface,
    /// A check that cannot be run on this machine.
    CannotRun,
}

/// What is legal but may surprise. Its text quotes no password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Note {
    /// The line it is about, from 1.
    pub line: usize,
    /// What is to be known, in one line.
    pub message: String,
    /// What can be done, if it is not as wanted.
    pub remedy: String,
}

impl Problem {
    /// A problem of a place in the file.
    pub(super) fn at(
        span: Range<usize>,
        kind: Kind,
        message: impl Into<String>,
        label: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { kind, span: Some(span), message: message.into(), label: label.into(), remedy: remedy.into(), also: None }
    }

    /// A problem of the whole file.
    pub(super) fn of_file(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            kind: Kind::Unreadable,
            span: None,
            message: message.into(),
            label: String::new(),
            remedy: remedy.into(),
            also: None,
        }
    }

    /// Points to a second place.
    pub(super) fn because_of(mut self, span: Range<usize>, label: impl Into<String>) -> Self {
        self.also = Some((span, label.into()));
        self
    }
}

/// What has been found so far, in the order of finding.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// Each makes the file invalid.
    pub(super) problems: Vec<Problem>,
    /// Notes, with the place they are about.
    pub(super) notes: Vec<(Range<usize>, String, String)>,
}

impl Findings {
    /// Records a mistake.
    pub(super) fn refuse(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// Records a remark.
    pub(super) fn note(&mut self, span: Range<usize>, message: impl Into<String>, remedy: impl Into<String>) {
        self.notes.push((span, message.into(), remedy.into()));
    }

    /// The remarks in the order of the file, each with its line.
    pub(super) fn into_notes(self, text: &str) -> Vec<Note> {
        let lines = Lines::new(text);
        let mut notes = self.notes;
        notes.sort_by_key(|(span, ..)| span.start);
        notes
            .into_iter()
            .map(|(span, message, remedy)| Note { line: lines.line(span.start), message, remedy })
            .collect()
    }
}

/// Where the lines of a text begin, so that finding a place costs no walk through the text.
#[derive(Clone, Debug)]
pub(super) struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    /// Of a text.
    pub(super) fn new(text: &'t str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(newline, _)| newline + 1)).collect();
        Self { text, starts }
    }

    /// The line of a byte, from 1.
    pub(super) fn line(&self, at: usize) -> usize {
        self.starts.partition_point(|start| *start <= at)
    }

    /// The first byte of a line.
    pub(super) fn start(&self, line: usize) -> usize {
        line.checked_sub(1).and_then(|index| self.starts.get(index)).copied().unwrap_or(0)
    }

    /// Line and column (in characters) of a byte, both from 1.
    pub(super) fn line_and_column(&self, at: usize) -> (usize, usize) {
        let line = self.line(at);
        (line, self.text.get(self.start(line)..at).map_or(0, |before| before.chars().count()) + 1)
    }
}
