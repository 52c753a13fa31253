//! `[[group]]`: vips that move together.

use std::ops::Range;

use super::across::Across;
use super::problem::{Findings, Kind, Problem};
use super::read::{Table, Value, printable};
use super::spread::Spreads;
use super::vip;
use crate::engine::{GroupSettings, VipSettings};
use crate::types::Priority;

/// All members are looked at with each advert of one.
const MAX_MEMBERS: usize = 64;

/// All groups so far.
#[derive(Default)]
pub(super) struct Groups {
    groups: Vec<GroupSettings>,
    names: Vec<(String, Range<usize>)>,
    taken: Vec<(String, Range<usize>)>,
}

impl Groups {
    /// The settings of all.
    pub(super) fn finish(self) -> Vec<GroupSettings> {
        self.groups
    }

    /// Reads one table. `vips` are those that could be read; `across` knows the others' names too, and `spreads` those that stay alone.
    pub(super) fn read(
        &mut self,
        mut table: Table<'_>,
        vips: &[VipSettings],
        (across, spreads): (&Across, &Spreads),
        findings: &mut Findings,
    ) {
        let name = table.required("name", "\"gateway\"").and_then(|value| vip::name(value, findings));
        let members = table.required("vips", "[\"inside\", \"outside\"]");
        let members = members.and_then(|value| self.members(value, vips, (across, spreads), findings));
        table.finish(findings);
        if let Some((name, at)) = &name {
            if let Some((_, first)) = self.names.iter().find(|(known, _)| known == name) {
                let message = format!("two groups are named `{name}`");
                let problem =
                    Problem::at(at.clone(), Kind::Duplicate, message, "again", "give each group its own name");
                findings.refuse(problem.because_of(first.clone(), "first here"));
            }
            self.names.push((name.clone(), at.clone()));
        }
        if let (Some((name, _)), Some(vips)) = (name, members) {
            self.groups.push(GroupSettings { name, vips });
        }
    }

    fn members(
        &mut self,
        value: Value<'_>,
        vips: &[VipSettings],
        (across, spreads): (&Across, &Spreads),
        findings: &mut Findings,
    ) -> Option<Vec<String>> {
        let elements = value.array("[\"inside\", \"outside\"]", findings)?;
        if !(2..=MAX_MEMBERS).contains(&elements.len()) {
            let remedy = format!("list 2 to {MAX_MEMBERS} vips: one alone moves as it likes");
            value.refuse(Kind::OutOfRange, "`vips` is no group", elements.len().to_string(), remedy, findings);
            return None;
        }
        let mut members: Vec<String> = Vec::with_capacity(elements.len());
        for element in elements {
            let name = element.text("\"inside\"", findings)?;
            if !across.has_vip(name) {
                let message = format!("there is no vip named `{}`", printable(name));
                element.refuse(Kind::Invalid, message, "", "write the `name` of a [[vip]] of this file", findings);
                continue;
            }
            if let Some((_, first)) = self.taken.iter().find(|(known, _)| known == name) {
                let message = format!("the vip `{name}` is in a group already");
                let remedy = "leave it in one: a vip moves with one group";
                let problem = Problem::at(element.span(), Kind::Duplicate, message, "again", remedy);
                findings.refuse(problem.because_of(first.clone(), "first here"));
                continue;
            }
            if let Some(share) = spreads.share(name) {
                let message = format!("`{name}` is shared by {}, and cannot move with others", share.of());
                let remedy = "leave it in one of the two: a spread has its vips at several nodes at once";
                let problem = Problem::at(element.span(), Kind::Conflict, message, "in a group", remedy);
                findings.refuse(problem.because_of(share.at.clone(), "in a spread"));
                continue;
            }
            self.taken.push((name.to_owned(), element.span()));
            members.push(name.to_owned());
            check_alike(element, &members, vips, findings);
        }
        Some(members)
    }
}

/// Whether the last of the members can move with the first.
fn check_alike(value: Value<'_>, members: &[String], vips: &[VipSettings], findings: &mut Findings) {
    let vip = |name: Option<&String>| vips.iter().find(|vip| Some(&vip.name) == name);
    let (Some(first), Some(last)) = (vip(members.first()), vip(members.last())) else { return };
    if last.priority == Priority::OWNER {
        let message = format!("`{}` has priority 255", last.name);
        let remedy = "lower it: the owner of its own addresses has them whatever the others do";
        value.refuse(Kind::Conflict, message, "", remedy, findings);
    } else if last.priority != first.priority {
        let message = format!(
            "`{}` has the priority {}, and `{}` of its group {}",
            last.name, last.priority, first.name, first.priority
        );
        value.refuse(Kind::Conflict, message, "", "give all vips of a group the same `priority` on a node", findings);
    }
    if last.preempt != first.preempt {
        let message = format!("`{}` and `{}` of one group do not have the same `preempt`", first.name, last.name);
        value.refuse(Kind::Conflict, message, "", "give all vips of a group the same `preempt`", findings);
    }
}
