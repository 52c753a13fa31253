//! What is wrong with a file, as a person and as a program read it. Shows no password.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use serde_json::{Value as Json, json};
use toml::de::{DeTable, DeValue};

use super::problem::{Lines, Problem};
use super::secret;

/// More problems than these are not shown to a person: the first ones are to be solved first.
const MAX_SHOWN: usize = 100;

/// All problems of a file, with the lines that they are about.
#[derive(Clone, Debug)]
pub struct Report {
    file: String,
    /// Without its secrets, byte for byte as long as it was.
    text: String,
    problems: Vec<Problem>,
}

/// Whether a report is coloured with terminal escapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// For a pipe, a file or a log.
    Off,
    /// For a terminal.
    On,
}

impl Report {
    /// A report about a text. `problems` are in the order of the file.
    pub(super) fn new(file: &str, text: &str, problems: Vec<Problem>) -> Self {
        Self { file: file.to_string(), text: secret::masked(text), problems }
    }

    /// The name of the file.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// What is wrong; at least one.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// For a person: each problem with its line, the wrong part underlined, and the remedy; then their number.
    pub fn render(&self, colour: Colour) -> String {
        let renderer = match colour {
            Colour::Off => Renderer::plain(),
            Colour::On => Renderer::styled(),
        };
        let lines = Lines::new(&self.text);
        let mut out = String::new();
        for problem in self.problems.iter().take(MAX_SHOWN) {
            out.push_str(&renderer.render(&[self.group(problem, &lines)]));
            out.push_str("\n\n");
        }
        let count = self.problems.len();
        let noun = if count == 1 { "problem" } else { "problems" };
        let hidden = count.saturating_sub(MAX_SHOWN);
        let more = if hidden > 0 { format!("; {hidden} more are not shown") } else { String::new() };
        out.push_str(&format!("{}: {count} {noun}{more}\n", self.file));
        out
    }

    /// For a program: an array of objects with `kind`, `line` and `column` (from 1, in characters; null for the file as
    /// a whole), `key` (such as `vip[0].addresses[1]`), `message`, `label` and `remedy`.
    pub fn problems_json(&self) -> Json {
        let (document, _) = DeTable::parse_recoverable(&self.text);
        let lines = Lines::new(&self.text);
        let problem = |problem: &Problem| {
            let place = problem.span.as_ref().map(|span| lines.line_and_column(span.start));
            json!({
                "kind": problem.kind,
                "line": place.map(|(line, _)| line),
                "column": place.map(|(_, column)| column),
                "key": problem.span.as_ref().and_then(|span| key_path(document.get_ref(), span)),
                "message": problem.message,
                "label": problem.label,
                "remedy": problem.remedy,
            })
        };
        self.problems.iter().map(problem).collect()
    }

    fn group<'a>(&'a self, problem: &'a Problem, lines: &Lines<'_>) -> Group<'a> {
        let title = Level::ERROR.primary_title(problem.message.as_str());
        let remedy = Level::HELP.message(problem.remedy.as_str());
        let Some(span) = &problem.span else {
            return title.element(Origin::path(self.file.as_str())).element(remedy);
        };
        let shown = self.on_one_line(span);
        let also = problem.also.as_ref().map(|(span, label)| (self.on_one_line(span), label));
        // The renderer works through all of its text: give it the lines concerned only.
        let first = also.as_ref().map_or(shown.start, |(also, _)| also.start.min(shown.start));
        let last = also.as_ref().map_or(shown.end, |(also, _)| also.end.max(shown.end));
        let from = self.text[..first].rfind('\n').map_or(0, |newline| newline + 1);
        let to = self.text[last..].find('\n').map_or(self.text.len(), |newline| last + newline);
        let within = |range: &Range<usize>| range.start - from..range.end - from;
        let label = (!problem.label.is_empty()).then_some(problem.label.as_str());
        let snippet = Snippet::source(&self.text[from..to])
            .line_start(lines.line(from))
            .path(self.file.as_str())
            .annotation(AnnotationKind::Primary.span(within(&shown)).label(label))
            .annotations(
                also.iter().map(|(span, label)| AnnotationKind::Context.span(within(span)).label(label.as_str())),
            );
        title.element(snippet).element(remedy)
    }

    /// The part of a place that is on its first line.
    fn on_one_line(&self, span: &Range<usize>) -> Range<usize> {
        let line_end = self.text[span.start..].find('\n').map_or(self.text.len(), |newline| span.start + newline);
        span.start..span.end.min(line_end).max(span.start)
    }
}

/// The key whose name, header or value stands at `span`, such as `vip[0].addresses[1]`.
fn key_path(table: &DeTable<'_>, span: &Range<usize>) -> Option<String> {
    table.iter().find_map(|(key, value)| {
        if key.span() == *span {
            return Some(key.get_ref().to_string());
        }
        // The first header of an array of tables is the place of the array as well: the element is meant.
        let within = within(value.get_ref(), span);
        let rest = within.or_else(|| (value.span() == *span).then(String::new))?;
        Some(format!("{}{rest}", key.get_ref()))
    })
}

fn within(value: &DeValue<'_>, span: &Range<usize>) -> Option<String> {
    match value {
        DeValue::Table(table) => key_path(table, span).map(|path| format!(".{path}")),
        DeValue::Array(array) => array.iter().enumerate().find_map(|(index, element)| {
            let rest = within(element.get_ref(), span);
            let rest = rest.or_else(|| (element.span() == *span).then(String::new))?;
            Some(format!("[{index}]{rest}"))
        }),
        _ => None,
    }
}
