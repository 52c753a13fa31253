//! Typed access to parsed TOML that goes on after a mistake.
//!
//! A [`Table`] remembers which keys it was asked for. What is left at [`Table::finish`] is unknown, and the keys
//! that were asked for are the candidates of "did you mean". So reading a key is all it takes to make it known.

use std::ops::{Range, RangeInclusive};

use serde_spanned::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::problem::{Findings, Kind, Problem};
use super::suggest;

/// A table of the file while it is read.
pub(super) struct Table<'t> {
    entries: &'t DeTable<'t>,
    /// The header, or the braces of an inline table.
    span: Range<usize>,
    /// How messages call it, such as `[[vip]]`.
    name: &'static str,
    asked: Vec<&'static str>,
    /// Keys that must be there and are not, with an example.
    missing: Vec<(&'static str, &'static str)>,
}

/// A value of the file, with its key.
#[derive(Clone, Copy)]
pub(super) struct Value<'t> {
    key: &'static str,
    value: &'t Spanned<DeValue<'t>>,
}

impl<'t> Table<'t> {
    /// A table whose header stands at `span`.
    pub(super) const fn new(name: &'static str, entries: &'t DeTable<'t>, span: Range<usize>) -> Self {
        Self { entries, span, name, asked: Vec::new(), missing: Vec::new() }
    }

    /// Where its header stands.
    pub(super) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// The value of a key that may be absent.
    pub(super) fn value(&mut self, key: &'static str) -> Option<Value<'t>> {
        self.asked.push(key);
        self.entries.get(key).map(|value| Value { key, value })
    }

    /// The value of a key that must be there; `example` is one for the remedy. That it is missing is reported by
    /// [`Table::finish`].
    pub(super) fn required(&mut self, key: &'static str, example: &'static str) -> Option<Value<'t>> {
        let value = self.value(key);
        if value.is_none() {
            self.missing.push((key, example));
        }
        value
    }

    /// What `parse` makes of a key, or `default` where it is absent, or wrong and reported.
    pub(super) fn optional<T>(
        &mut self,
        key: &'static str,
        default: T,
        findings: &mut Findings,
        parse: impl FnOnce(Value<'t>, &mut Findings) -> Option<T>,
    ) -> T {
        self.value(key).and_then(|value| parse(value, findings)).unwrap_or(default)
    }

    /// Reports the keys that nobody asked for, and those that are missing. Returns the keys that were
    /// probably meant by unknown ones.
    pub(super) fn finish(self, findings: &mut Findings) -> Vec<&'static str> {
        let mut meant = Vec::new();
        for key in self.entries.keys().filter(|key| !self.asked.contains(&key.get_ref().as_ref())) {
            let (remedy, near) = suggest::key(key.get_ref(), &self.asked);
            meant.extend(near);
            let message = format!("unknown key `{}` in {}", printable(key.get_ref()), self.name);
            findings.refuse(Problem::at(key.span(), Kind::UnknownKey, message, "unknown", remedy));
        }
        // A misspelled key is one mistake, not two.
        for (key, example) in self.missing.iter().filter(|(key, _)| !meant.contains(key)) {
            findings.refuse(Problem::at(
                self.span(),
                Kind::MissingKey,
                format!("{} has no `{key}`", self.name),
                format!("`{key}` is missing here"),
                format!("add `{key} = {example}`"),
            ));
        }
        meant
    }
}

impl<'t> Value<'t> {
    /// Where it stands.
    pub(super) fn span(&self) -> Range<usize> {
        self.value.span()
    }

    /// The key it belongs to; that of the array for an element.
    pub(super) const fn key(&self) -> &'static str {
        self.key
    }

    /// The parsed TOML, for a key that takes several types.
    pub(super) fn raw(&self) -> &'t DeValue<'t> {
        self.value.get_ref()
    }

    /// A text.
    pub(super) fn text(&self, example: &str, findings: &mut Findings) -> Option<&'t str> {
        match self.raw() {
            DeValue::String(text) => Some(text.as_ref()),
            _ => self.wrong_type("a string", example, findings),
        }
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self, findings: &mut Findings) -> Option<bool> {
        match self.raw() {
            DeValue::Boolean(value) => Some(*value),
            _ => self.wrong_type("true or false", "true or false", findings),
        }
    }

    /// A number within limits.
    pub(super) fn integer(&self, limits: RangeInclusive<i64>, example: &str, findings: &mut Findings) -> Option<i64> {
        let DeValue::Integer(integer) = self.raw() else {
            return self.wrong_type("an integer", example, findings);
        };
        // A number that is too long for 64 bits is out of every range.
        let number = i64::from_str_radix(integer.as_str(), integer.radix()).ok();
        let within = number.filter(|number| limits.contains(number));
        if within.is_none() {
            self.refuse(
                Kind::OutOfRange,
                format!("`{}` is out of range", self.key),
                format!("not in {}..={}", limits.start(), limits.end()),
                format!("write a number from {} to {}", limits.start(), limits.end()),
                findings,
            );
        }
        within
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(&self, words: &[(&str, T)], findings: &mut Findings) -> Option<T> {
        let listed = || {
            let quoted: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            quoted.join(" or ")
        };
        let DeValue::String(text) = self.raw() else {
            return self.wrong_type("a string", &listed(), findings);
        };
        let meant = words.iter().find(|(word, _)| *word == text.as_ref()).map(|(_, meaning)| *meaning);
        if meant.is_none() {
            self.refuse(
                Kind::Invalid,
                format!("`{}` knows no such word", self.key),
                "",
                format!("write {}", listed()),
                findings,
            );
        }
        meant
    }

    /// The elements of an array.
    pub(super) fn array(&self, example: &str, findings: &mut Findings) -> Option<Vec<Self>> {
        match self.raw() {
            DeValue::Array(array) => Some(array.iter().map(|value| Self { key: self.key, value }).collect()),
            _ => self.wrong_type("an array", example, findings),
        }
    }

    /// A table; `name` is how messages call it.
    pub(super) fn table(&self, name: &'static str, example: &str, findings: &mut Findings) -> Option<Table<'t>> {
        match self.raw() {
            DeValue::Table(entries) => Some(Table::new(name, entries, self.span())),
            _ => self.wrong_type("a table", example, findings),
        }
    }

    /// The entries of a table whose keys are names of the user's: each name, where it stands, and its value.
    pub(super) fn entries(&self, example: &str, findings: &mut Findings) -> Option<Vec<(&'t str, Range<usize>, Self)>> {
        let DeValue::Table(entries) = self.raw() else { return self.wrong_type("a table", example, findings) };
        let entry = |(name, value): (&'t Spanned<DeString<'t>>, _)| {
            (name.get_ref().as_ref(), name.span(), Self { key: self.key, value })
        };
        Some(entries.iter().map(entry).collect())
    }

    /// Reports that the value is of another type than `expected`; always `None`.
    pub(super) fn wrong_type<T>(&self, expected: &str, example: &str, findings: &mut Findings) -> Option<T> {
        self.refuse(
            Kind::WrongType,
            format!("`{}` must be {expected}", self.key),
            format!("this is {}", with_article(self.raw().type_str())),
            format!("write {example}"),
            findings,
        );
        None
    }

    /// Reports a mistake in the value.
    pub(super) fn refuse(
        &self,
        kind: Kind,
        message: impl Into<String>,
        label: impl Into<String>,
        remedy: impl Into<String>,
        findings: &mut Findings,
    ) {
        findings.refuse(Problem::at(self.span(), kind, message, label, remedy));
    }
}

fn with_article(kind: &str) -> String {
    let article = if kind.starts_with(['a', 'i']) { "an" } else { "a" };
    format!("{article} {kind}")
}

/// A text from the file, safe for a terminal: no control characters, and not longer than a line.
pub(super) fn printable(text: &str) -> String {
    const MAX_CHARS: usize = 60;
    let mut shown: String = text.chars().take(MAX_CHARS).flat_map(char::escape_debug).collect();
    if text.chars().nth(MAX_CHARS).is_some() {
        shown.push_str("...");
    }
    shown
}
