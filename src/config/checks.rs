//! All checks of a file: those that vips share by name, and those of their own.

use std::collections::BTreeSet;
use std::ops::Range;

use super::check::{self, MAX_CHECKS, Read};
use super::problem::{Findings, Kind, Problem};
use super::read::{Value, printable};
use super::system::System;
use crate::driver::checks::Check;
use crate::engine::{CheckSettings, Preempt};
use crate::types::Priority;

/// What has been read so far.
pub(super) struct Checks {
    shared: Vec<Read>,
    /// Names of `[[check]]` tables that could not be read: that was reported, and whoever names them is not to blame.
    broken: bool,
    used: BTreeSet<String>,
    own: Vec<Check>,
}

impl Checks {
    /// The `[[check]]` tables.
    pub(super) fn read(tables: Option<Value<'_>>, system: &System, findings: &mut Findings) -> Self {
        let before = findings.problems.len();
        let shared = each(tables, "[[check]]", None, system, findings);
        Self { shared, broken: findings.problems.len() > before, used: BTreeSet::new(), own: Vec::new() }
    }

    /// A vip's `checks` and `[[vip.check]]` tables.
    pub(super) fn of_vip(
        &mut self,
        (names, tables): (Option<Value<'_>>, Option<Value<'_>>),
        (vip, priority, preempt): (&str, Priority, Preempt),
        system: &System,
        findings: &mut Findings,
    ) -> Vec<CheckSettings> {
        let mut settings = Vec::new();
        for name in names.and_then(|names| names.array("[\"service\"]", findings)).unwrap_or_default() {
            let Some(text) = name.text("\"service\"", findings) else { continue };
            match self.shared.iter().find(|read| read.settings.name == text) {
                Some(read) if settings.contains(&read.settings) => {
                    let message = format!("the check `{}` is listed twice", printable(text));
                    name.refuse(Kind::Duplicate, message, "again", "remove one of the two", findings);
                }
                Some(read) => {
                    check::suits(read, priority, preempt, findings);
                    self.used.insert(text.to_string());
                    settings.push(read.settings.clone());
                }
                None if self.broken => {}
                None => {
                    let message = format!("there is no check `{}`", printable(text));
                    let remedy = "add a table `[[check]]` with this name, or correct it";
                    name.refuse(Kind::Invalid, message, "unknown", remedy, findings);
                }
            }
        }
        for read in each(tables, "[[vip.check]]", Some(vip), system, findings) {
            check::suits(&read, priority, preempt, findings);
            settings.push(read.settings);
            self.own.push(read.check);
        }
        settings
    }

    /// All that are used, in the order of the file.
    pub(super) fn finish(self, findings: &mut Findings) -> Vec<Check> {
        let (used, unused): (Vec<Read>, Vec<Read>) =
            self.shared.into_iter().partition(|read| self.used.contains(&read.settings.name));
        for read in unused {
            let message = format!("no vip uses the check `{}`: it is not run", read.settings.name);
            findings.note(read.at, message, "name it in the `checks` of a vip");
        }
        let all: Vec<Check> = used.into_iter().map(|read| read.check).chain(self.own).collect();
        if all.len() > MAX_CHECKS {
            let message = format!("{} checks are more than {MAX_CHECKS}", all.len());
            findings.refuse(Problem::of_file(message, "share checks between vips: `[[check]]` and `checks`"));
        }
        all
    }
}

fn each(
    tables: Option<Value<'_>>,
    name: &'static str,
    vip: Option<&str>,
    system: &System,
    findings: &mut Findings,
) -> Vec<Read> {
    let mut all: Vec<Read> = Vec::new();
    let tables = tables.and_then(|tables| tables.array(&format!("{name} with double brackets"), findings));
    for table in tables.unwrap_or_default() {
        let Some(table) = table.table(name, name, findings) else { continue };
        let Some(read) = check::check(table, vip, system, findings) else { continue };
        match first_of(&all, &read) {
            Some(first) => {
                let message = format!("two checks are named `{}`", read.settings.name);
                let remedy = "give each check its own name";
                let problem = Problem::at(read.at.clone(), Kind::Duplicate, message, "again", remedy);
                findings.refuse(problem.because_of(first, "first here"));
            }
            None => all.push(read),
        }
    }
    all
}

fn first_of(all: &[Read], read: &Read) -> Option<Range<usize>> {
    all.iter().find(|other| other.settings.name == read.settings.name).map(|other| other.at.clone())
}
